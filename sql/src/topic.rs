//! `KAFKA connection TOPIC 'name' [KEY (column, ...)] [FORMAT name (...)]`: a topic that rows go to, of `COPY ... TO` and
//! of a pipeline's `INTO`.

use std::fmt;

use sqlparser::tokenizer::Token;

use crate::display::identifiers;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{quote_identifier, quote_literal};
use crate::source::is_word;
use crate::statement::FormatClause;

/// Where messages are written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTarget {
    pub connection: String,
    pub topic: String,
    /// The columns that are the key of a message; empty when nothing is said.
    pub key: Vec<String>,
    pub format: Option<FormatClause>,
}

impl TopicTarget {
    /// Whether it stands next. A table may be called `kafka`.
    pub(crate) fn is_next(input: &Input) -> bool {
        is_word(input.peek_nth(0), "KAFKA")
            && matches!(input.peek_nth(1).token, Token::Word(_))
            && is_word(input.peek_nth(2), "TOPIC")
    }

    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        input.expect_keyword("KAFKA")?;
        let connection = input.identifier()?;
        input.expect_keyword("TOPIC")?;
        let topic = input.string()?;
        let key = if input.keyword("KEY") {
            input.parenthesized_identifiers()?
        } else {
            Vec::new()
        };
        Ok(Self {
            connection,
            topic,
            key,
            format: FormatClause::parse(input)?,
        })
    }
}

impl fmt::Display for TopicTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "KAFKA {} TOPIC {}",
            quote_identifier(&self.connection),
            quote_literal(&self.topic)
        )?;
        if !self.key.is_empty() {
            write!(formatter, " KEY ({})", identifiers(&self.key))?;
        }
        match &self.format {
            Some(format) => write!(formatter, " {format}"),
            None => Ok(()),
        }
    }
}
