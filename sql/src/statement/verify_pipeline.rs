//! `VERIFY PIPELINE name [HEAL]`.

use std::fmt;

use crate::display::when;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Compares what a pipeline's source has with what its tables have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyPipeline {
    pub name: String,
    /// What differs is read from the source anew.
    pub heal: bool,
}

impl VerifyPipeline {
    /// Stands after `VERIFY PIPELINE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        let heal = input.keyword("HEAL");
        Ok(Self { name, heal })
    }
}

impl fmt::Display for VerifyPipeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heal = when(self.heal, " HEAL");
        write!(
            formatter,
            "VERIFY PIPELINE {}{heal}",
            quote_identifier(&self.name)
        )
    }
}
