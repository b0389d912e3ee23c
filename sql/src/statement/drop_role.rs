//! `DROP ROLE [IF EXISTS] name, ...`. `DROP USER` and `DROP GROUP` are the same.

use std::fmt;

use crate::display::{identifiers, when};
use crate::error::ParseError;
use crate::input::Input;

/// Removes roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropRole {
    pub if_exists: bool,
    pub names: Vec<String>,
}

impl DropRole {
    /// Stands after `DROP ROLE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let if_exists = input.if_exists();
        let names = input.identifiers()?;
        Ok(Self { if_exists, names })
    }
}

impl fmt::Display for DropRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "DROP ROLE {}{}",
            when(self.if_exists, "IF EXISTS "),
            identifiers(&self.names)
        )
    }
}
