//! `ALTER SECRET name {AS 'value' | RENAME TO name | OWNER TO role}`.

use std::fmt;

use super::RoleName;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{quote_identifier, quote_literal};
use crate::secret::SecretText;

/// Changes a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterSecret {
    pub name: String,
    pub action: AlterSecretAction,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterSecretAction {
    Value(SecretText),
    RenameTo(String),
    OwnerTo(RoleName),
}

impl AlterSecret {
    /// Stands after `ALTER SECRET`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        let action = if input.keyword("AS") {
            AlterSecretAction::Value(SecretText::new(input.string()?))
        } else if input.keywords(&["RENAME", "TO"]) {
            AlterSecretAction::RenameTo(input.identifier()?)
        } else {
            input.expect_keywords(&["OWNER", "TO"])?;
            AlterSecretAction::OwnerTo(RoleName::parse(input)?)
        };
        Ok(Self { name, action })
    }
}

impl fmt::Display for AlterSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ALTER SECRET {} ", quote_identifier(&self.name))?;
        match &self.action {
            AlterSecretAction::Value(value) => {
                write!(formatter, "AS {}", quote_literal(value.expose()))
            }
            AlterSecretAction::RenameTo(name) => {
                write!(formatter, "RENAME TO {}", quote_identifier(name))
            }
            AlterSecretAction::OwnerTo(role) => write!(formatter, "OWNER TO {role}"),
        }
    }
}
