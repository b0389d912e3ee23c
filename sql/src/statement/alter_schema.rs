//! `ALTER SCHEMA name {RENAME TO name | OWNER TO role}`.

use std::fmt;

use super::RoleName;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Changes a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterSchema {
    pub name: String,
    pub action: AlterSchemaAction,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterSchemaAction {
    RenameTo(String),
    OwnerTo(RoleName),
}

impl AlterSchema {
    /// Stands after `ALTER SCHEMA`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        let action = if input.keywords(&["RENAME", "TO"]) {
            AlterSchemaAction::RenameTo(input.identifier()?)
        } else {
            input.expect_keywords(&["OWNER", "TO"])?;
            AlterSchemaAction::OwnerTo(RoleName::parse(input)?)
        };
        Ok(Self { name, action })
    }
}

impl fmt::Display for AlterSchema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ALTER SCHEMA {} ", quote_identifier(&self.name))?;
        match &self.action {
            AlterSchemaAction::RenameTo(name) => {
                write!(formatter, "RENAME TO {}", quote_identifier(name))
            }
            AlterSchemaAction::OwnerTo(role) => write!(formatter, "OWNER TO {role}"),
        }
    }
}
