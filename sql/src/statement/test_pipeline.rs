//! `TEST PIPELINE name [LIMIT n]`.

use std::fmt;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Shows the rows a pipeline would write, writing nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestPipeline {
    pub name: String,
    pub limit: Option<u64>,
}

impl TestPipeline {
    /// Stands after `TEST PIPELINE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        let mut limit = None;
        if input.keyword("LIMIT") {
            let unexpected = input.unexpected();
            limit = Some(u64::try_from(input.integer()?).map_err(|_| unexpected)?);
        }
        Ok(Self { name, limit })
    }
}

impl fmt::Display for TestPipeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TEST PIPELINE {}", quote_identifier(&self.name))?;
        match self.limit {
            Some(limit) => write!(formatter, " LIMIT {limit}"),
            None => Ok(()),
        }
    }
}
