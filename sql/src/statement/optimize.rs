//! `OPTIMIZE table`.

use std::fmt;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::QualifiedName;

/// Rewrites small files, and files with many deleted rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Optimize {
    pub table: QualifiedName,
}

impl Optimize {
    /// Stands after `OPTIMIZE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        input.keyword("TABLE");
        Ok(Self {
            table: input.qualified_name()?,
        })
    }
}

impl fmt::Display for Optimize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OPTIMIZE {}", self.table)
    }
}
