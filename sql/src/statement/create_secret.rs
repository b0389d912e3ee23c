//! `CREATE [OR REPLACE] SECRET [IF NOT EXISTS] name AS 'value'`.

use std::fmt;

use crate::display::when;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{quote_identifier, quote_literal};
use crate::secret::SecretText;

/// Stores a value, encrypted, that connections refer to by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSecret {
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub name: String,
    pub value: SecretText,
}

impl CreateSecret {
    /// Stands after `CREATE [OR REPLACE] SECRET`.
    pub(crate) fn parse(input: &mut Input, or_replace: bool) -> Result<Self, ParseError> {
        let if_not_exists = input.if_not_exists();
        let name = input.identifier()?;
        input.expect_keyword("AS")?;
        Ok(Self {
            or_replace,
            if_not_exists,
            name,
            value: SecretText::new(input.string()?),
        })
    }
}

impl fmt::Display for CreateSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "CREATE {}SECRET {}{} AS {}",
            when(self.or_replace, "OR REPLACE "),
            when(self.if_not_exists, "IF NOT EXISTS "),
            quote_identifier(&self.name),
            quote_literal(self.value.expose())
        )
    }
}
