//! `TRUNCATE [TABLE] table, ...`.

use std::fmt;

use crate::display::{displayed, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::QualifiedName;

/// Removes all rows of tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    pub tables: Vec<QualifiedName>,
    pub restart_identity: bool,
    pub cascade: bool,
}

impl Truncate {
    /// Stands after `TRUNCATE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        input.keyword("TABLE");
        let tables = input.list(|input| {
            input.keyword("ONLY");
            input.qualified_name()
        })?;
        let restart_identity = input.keywords(&["RESTART", "IDENTITY"]);
        if !restart_identity {
            input.keywords(&["CONTINUE", "IDENTITY"]);
        }
        Ok(Self {
            tables,
            restart_identity,
            cascade: input.cascade(),
        })
    }
}

impl fmt::Display for Truncate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "TRUNCATE {}{}{}",
            displayed(&self.tables),
            when(self.restart_identity, " RESTART IDENTITY"),
            when(self.cascade, " CASCADE")
        )
    }
}
