//! `CLOSE {cursor | ALL}`.

use std::fmt;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Closes cursors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseCursor {
    /// `None` is `ALL`.
    pub name: Option<String>,
}

impl CloseCursor {
    /// Stands after `CLOSE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        Ok(Self {
            name: if input.keyword("ALL") {
                None
            } else {
                Some(input.identifier()?)
            },
        })
    }
}

impl fmt::Display for CloseCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "CLOSE {}", quote_identifier(name)),
            None => formatter.write_str("CLOSE ALL"),
        }
    }
}
