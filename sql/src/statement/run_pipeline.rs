//! `RUN PIPELINE name [FULL REFRESH]`.

use std::fmt;

use crate::display::when;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Runs a pipeline now and waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPipeline {
    pub name: String,
    /// Forgets what was loaded and loads everything again.
    pub full_refresh: bool,
}

impl RunPipeline {
    /// Stands after `RUN PIPELINE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        Ok(Self {
            name,
            full_refresh: input.keywords(&["FULL", "REFRESH"]),
        })
    }
}

impl fmt::Display for RunPipeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full_refresh = when(self.full_refresh, " FULL REFRESH");
        write!(
            formatter,
            "RUN PIPELINE {}{full_refresh}",
            quote_identifier(&self.name)
        )
    }
}
