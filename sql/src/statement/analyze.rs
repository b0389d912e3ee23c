//! `ANALYZE [VERBOSE] [table [(columns)], ...]`.

use std::fmt;

use sqlparser::tokenizer::Token;

use super::explain::flag;
use crate::display::{displayed, optional_identifiers, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::QualifiedName;
use crate::option::parse_options;

/// Gathers statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analyze {
    pub verbose: bool,
    /// Empty: all of them.
    pub tables: Vec<MaintainedTable>,
}

/// A table and perhaps some of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintainedTable {
    pub name: QualifiedName,
    pub columns: Vec<String>,
}

impl Analyze {
    /// Stands after `ANALYZE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let mut verbose = false;
        if input.peek_symbol(&Token::LParen) {
            let position = input.position();
            for option in parse_options(input)? {
                match (option.name.as_str(), flag(&option.value)) {
                    ("verbose", Some(value)) => verbose = value,
                    ("skip_locked", Some(_)) => {}
                    _ => return Err(unrecognized("ANALYZE", &option.name).at(position)),
                }
            }
        } else {
            verbose = input.keyword("VERBOSE");
        }
        Ok(Self {
            verbose,
            tables: MaintainedTable::parse_list(input)?,
        })
    }
}

pub(crate) fn unrecognized(statement: &str, option: &str) -> ParseError {
    ParseError::new(
        ParseError::SYNTAX_ERROR,
        format!("unrecognized {statement} option \"{option}\""),
    )
}

impl MaintainedTable {
    pub(crate) fn parse_list(input: &mut Input) -> Result<Vec<Self>, ParseError> {
        if input.is_at_end() {
            return Ok(Vec::new());
        }
        input.list(|input| {
            let name = input.qualified_name()?;
            Ok(Self {
                name,
                columns: input.optional_identifiers()?,
            })
        })
    }
}

impl fmt::Display for MaintainedTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}{}",
            self.name,
            optional_identifiers(&self.columns)
        )
    }
}

impl fmt::Display for Analyze {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ANALYZE{}", when(self.verbose, " VERBOSE"))?;
        if self.tables.is_empty() {
            return Ok(());
        }
        write!(formatter, " {}", displayed(&self.tables))
    }
}
