//! `ALTER CONNECTION name {SET (...) | RESET (...) | RENAME TO | OWNER TO}`.

use std::fmt;

use super::RoleName;
use crate::display::{displayed, identifiers};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;
use crate::option::{SqlOption, parse_options};

/// Changes a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterConnection {
    pub name: String,
    pub action: AlterConnectionAction,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterConnectionAction {
    SetOptions(Vec<SqlOption>),
    ResetOptions(Vec<String>),
    RenameTo(String),
    OwnerTo(RoleName),
}

impl AlterConnection {
    /// Stands after `ALTER CONNECTION`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        let action = match input.expect_one_of(&["SET", "RESET", "RENAME", "OWNER"])? {
            "SET" => AlterConnectionAction::SetOptions(parse_options(input)?),
            "RESET" => AlterConnectionAction::ResetOptions(input.parenthesized_identifiers()?),
            "RENAME" => {
                input.expect_keyword("TO")?;
                AlterConnectionAction::RenameTo(input.identifier()?)
            }
            _ => {
                input.expect_keyword("TO")?;
                AlterConnectionAction::OwnerTo(RoleName::parse(input)?)
            }
        };
        Ok(Self { name, action })
    }
}

impl fmt::Display for AlterConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "ALTER CONNECTION {} ",
            quote_identifier(&self.name)
        )?;
        match &self.action {
            AlterConnectionAction::SetOptions(options) => {
                write!(formatter, "SET ({})", displayed(options))
            }
            AlterConnectionAction::ResetOptions(names) => {
                write!(formatter, "RESET ({})", identifiers(names))
            }
            AlterConnectionAction::RenameTo(name) => {
                write!(formatter, "RENAME TO {}", quote_identifier(name))
            }
            AlterConnectionAction::OwnerTo(role) => write!(formatter, "OWNER TO {role}"),
        }
    }
}
