//! `FETCH` and `MOVE`: `[direction] [FROM | IN] cursor`.

use std::fmt;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Gives rows of a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub direction: FetchDirection,
    pub cursor: String,
}

/// Passes over rows of a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub direction: FetchDirection,
    pub cursor: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchDirection {
    /// `NEXT`, `FORWARD`, `FORWARD n` and `n`. A negative count goes backwards, 0 gives the current
    /// row again.
    Forward(i64),
    /// `ALL` and `FORWARD ALL`.
    ForwardAll,
    /// `PRIOR`, `BACKWARD` and `BACKWARD n`.
    Backward(i64),
    BackwardAll,
    /// `FIRST` is `ABSOLUTE 1`, `LAST` is `ABSOLUTE -1`.
    Absolute(i64),
    Relative(i64),
}

impl Fetch {
    /// Stands after `FETCH`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let (direction, cursor) = parse_direction(input)?;
        Ok(Self { direction, cursor })
    }
}

impl Move {
    /// Stands after `MOVE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let (direction, cursor) = parse_direction(input)?;
        Ok(Self { direction, cursor })
    }
}

fn parse_direction(input: &mut Input) -> Result<(FetchDirection, String), ParseError> {
    // A cursor may be called `next`: a direction is followed by something.
    let alone = input.peek_nth(1).token == sqlparser::tokenizer::Token::EOF;
    let direction = if alone {
        FetchDirection::Forward(1)
    } else if input.peek_number() {
        FetchDirection::Forward(input.integer()?)
    } else {
        match input.one_of(&[
            "NEXT", "PRIOR", "FIRST", "LAST", "ABSOLUTE", "RELATIVE", "ALL", "FORWARD", "BACKWARD",
        ]) {
            Some("NEXT") | None => FetchDirection::Forward(1),
            Some("PRIOR") => FetchDirection::Backward(1),
            Some("FIRST") => FetchDirection::Absolute(1),
            Some("LAST") => FetchDirection::Absolute(-1),
            Some("ABSOLUTE") => FetchDirection::Absolute(input.integer()?),
            Some("RELATIVE") => FetchDirection::Relative(input.integer()?),
            Some("ALL") => FetchDirection::ForwardAll,
            Some("FORWARD") if input.keyword("ALL") => FetchDirection::ForwardAll,
            Some("FORWARD") => FetchDirection::Forward(optional_count(input)?),
            Some(_) if input.keyword("ALL") => FetchDirection::BackwardAll,
            Some(_) => FetchDirection::Backward(optional_count(input)?),
        }
    };
    if !input.keyword("FROM") {
        input.keyword("IN");
    }
    Ok((direction, input.identifier()?))
}

fn optional_count(input: &mut Input) -> Result<i64, ParseError> {
    if input.peek_number() {
        input.integer()
    } else {
        Ok(1)
    }
}

impl fmt::Display for FetchDirection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward(count) => write!(formatter, "FORWARD {count}"),
            Self::ForwardAll => formatter.write_str("ALL"),
            Self::Backward(count) => write!(formatter, "BACKWARD {count}"),
            Self::BackwardAll => formatter.write_str("BACKWARD ALL"),
            Self::Absolute(row) => write!(formatter, "ABSOLUTE {row}"),
            Self::Relative(rows) => write!(formatter, "RELATIVE {rows}"),
        }
    }
}

impl fmt::Display for Fetch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "FETCH {} FROM {}",
            self.direction,
            quote_identifier(&self.cursor)
        )
    }
}

impl fmt::Display for Move {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "MOVE {} FROM {}",
            self.direction,
            quote_identifier(&self.cursor)
        )
    }
}
