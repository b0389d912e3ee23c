//! `DROP SECRET [IF EXISTS] name, ... [CASCADE | RESTRICT]`.

use std::fmt;

use crate::display::{identifiers, when};
use crate::error::ParseError;
use crate::input::Input;

/// Removes secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropSecret {
    pub if_exists: bool,
    pub names: Vec<String>,
    /// Whether what depends on them goes too.
    pub cascade: bool,
}

impl DropSecret {
    /// Stands after `DROP SECRET`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let if_exists = input.if_exists();
        let names = input.identifiers()?;
        Ok(Self {
            if_exists,
            names,
            cascade: input.cascade(),
        })
    }
}

impl fmt::Display for DropSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "DROP SECRET {}{}{}",
            when(self.if_exists, "IF EXISTS "),
            identifiers(&self.names),
            when(self.cascade, " CASCADE")
        )
    }
}
