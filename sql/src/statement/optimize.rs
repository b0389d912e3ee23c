//! `OPTIMIZE table [ZORDER BY (column, ...)]`.

use std::fmt;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_identifier};

/// Rewrites small files, and files with many deleted rows; sorted by columns when some are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Optimize {
    pub table: QualifiedName,
    pub zorder_by: Vec<String>,
}

impl Optimize {
    /// Stands after `OPTIMIZE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        input.keyword("TABLE");
        let table = input.qualified_name()?;
        let zorder_by = match input.keywords(&["ZORDER", "BY"]) {
            true => input.parenthesized_identifiers()?,
            false => Vec::new(),
        };
        Ok(Self { table, zorder_by })
    }
}

impl fmt::Display for Optimize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OPTIMIZE {}", self.table)?;
        if !self.zorder_by.is_empty() {
            let columns: Vec<_> = self
                .zorder_by
                .iter()
                .map(|name| quote_identifier(name))
                .collect();
            write!(formatter, " ZORDER BY ({})", columns.join(", "))?;
        }
        Ok(())
    }
}
