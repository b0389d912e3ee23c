//! `RUN PIPELINE name [FULL REFRESH [TABLES ('pattern', ...) [BETWEEN value AND value]]]`.

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
    /// Of these tables only the rows whose key begins with a value from the first to the second, as texts.
    pub between: Option<(String, String)>,
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
        let between = match !tables.is_empty() && input.keyword("BETWEEN") {
            true => {
                let low = Self::bound(input)?;
                input.expect_keyword("AND")?;
                Some((low, Self::bound(input)?))
            }
            false => None,
        };
        Ok(Self {
            name,
            full_refresh,
            tables,
            between,
        })
    }

    /// A number or a text.
    fn bound(input: &mut Input) -> Result<String, ParseError> {
        match input.peek_number() {
            true => input.number(),
            false => input.string(),
        }
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
        write!(formatter, " TABLES ({tables})")?;
        let Some((low, high)) = &self.between else {
            return Ok(());
        };
        let (low, high) = (quote_literal(low), quote_literal(high));
        write!(formatter, " BETWEEN {low} AND {high}")
    }
}
