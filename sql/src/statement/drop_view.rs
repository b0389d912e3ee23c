//! `DROP VIEW [IF EXISTS] name, ... [CASCADE | RESTRICT]`.

use std::fmt;

use crate::display::{displayed, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::QualifiedName;

/// Removes views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropView {
    pub if_exists: bool,
    pub names: Vec<QualifiedName>,
    /// Whether what depends on them goes too.
    pub cascade: bool,
}

impl DropView {
    /// Stands after `DROP VIEW`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let if_exists = input.if_exists();
        let names = input.qualified_names()?;
        Ok(Self {
            if_exists,
            names,
            cascade: input.cascade(),
        })
    }
}

impl fmt::Display for DropView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "DROP VIEW {}{}{}",
            when(self.if_exists, "IF EXISTS "),
            displayed(&self.names),
            when(self.cascade, " CASCADE")
        )
    }
}
