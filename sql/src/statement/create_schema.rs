//! `CREATE SCHEMA [IF NOT EXISTS] name [AUTHORIZATION role]`.

use std::fmt;

use super::RoleName;
use crate::display::when;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Makes a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSchema {
    pub if_not_exists: bool,
    /// The role's name when the statement gives `AUTHORIZATION` alone.
    pub name: String,
    pub owner: Option<RoleName>,
}

impl CreateSchema {
    /// Stands after `CREATE SCHEMA`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let if_not_exists = input.if_not_exists();
        let mut name = None;
        if !input.peek_keyword("AUTHORIZATION") {
            name = Some(input.identifier()?);
        }
        let owner = if input.keyword("AUTHORIZATION") {
            Some(RoleName::parse(input)?)
        } else {
            None
        };
        let name = match (name, &owner) {
            (Some(name), _) => name,
            (None, Some(RoleName::Name(role))) => role.clone(),
            (None, _) => {
                return Err(ParseError::unsupported(
                    "CREATE SCHEMA without a name for a role that is not named",
                ));
            }
        };
        if input.peek_keyword("CREATE") || input.peek_keyword("GRANT") {
            return Err(
                ParseError::unsupported("a schema element in CREATE SCHEMA").at(input.position())
            );
        }
        Ok(Self {
            if_not_exists,
            name,
            owner,
        })
    }
}

impl fmt::Display for CreateSchema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "CREATE SCHEMA {}{}",
            when(self.if_not_exists, "IF NOT EXISTS "),
            quote_identifier(&self.name)
        )?;
        match &self.owner {
            Some(owner) => write!(formatter, " AUTHORIZATION {owner}"),
            None => Ok(()),
        }
    }
}
