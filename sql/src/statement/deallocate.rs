//! `DEALLOCATE [PREPARE] {name | ALL}`.

use std::fmt;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Forgets prepared statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deallocate {
    /// `None` is `ALL`.
    pub name: Option<String>,
}

impl Deallocate {
    /// Stands after `DEALLOCATE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        input.keyword("PREPARE");
        Ok(Self {
            name: if input.keyword("ALL") {
                None
            } else {
                Some(input.identifier()?)
            },
        })
    }
}

impl fmt::Display for Deallocate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "DEALLOCATE {}", quote_identifier(name)),
            None => formatter.write_str("DEALLOCATE ALL"),
        }
    }
}
