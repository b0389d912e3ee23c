//! `CHECK CONNECTION name`: one row per check.

use std::fmt;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Tries an outside system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckConnection {
    pub name: String,
}

impl CheckConnection {
    /// Stands after `CHECK CONNECTION`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        Ok(Self {
            name: input.identifier()?,
        })
    }
}

impl fmt::Display for CheckConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "CHECK CONNECTION {}",
            quote_identifier(&self.name)
        )
    }
}
