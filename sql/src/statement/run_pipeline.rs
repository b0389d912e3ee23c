//! `RUN PIPELINE name [FULL REFRESH [TABLES ('pattern', ...)]]`.

use std::fmt;

use crate::display::{separated, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{quote_identifier, quote_literal};

/// Runs a pipeline now and waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPipeline {
    pub name: String,
    /// Forgets what was loaded and loads everything again.
    pub full_refresh: bool,
    /// The tables of the source that are loaded again, by patterns; all when there are none.
    pub tables: Vec<String>,
}

impl RunPipeline {
    /// Stands after `RUN PIPELINE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        let full_refresh = input.keywords(&["FULL", "REFRESH"]);
        let tables = match full_refresh && input.keyword("TABLES") {
            true => input.parenthesized(|input| input.list(Input::string))?,
            false => Vec::new(),
        };
        Ok(Self {
            name,
            full_refresh,
            tables,
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
        )?;
        if self.tables.is_empty() {
            return Ok(());
        }
        let tables = separated(&self.tables, |text| quote_literal(text));
        write!(formatter, " TABLES ({tables})")
    }
}
