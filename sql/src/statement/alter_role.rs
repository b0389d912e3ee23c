//! `ALTER ROLE role {option ... | RENAME TO | SET name | RESET name}`.

use std::fmt;

use super::RoleName;
use super::create_role::RoleOptions;
use super::set::{SettingValue, parse_setting, setting_name, setting_text};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Changes a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterRole {
    /// `None` is `ALTER ROLE ALL`, for settings only.
    pub role: Option<RoleName>,
    pub action: AlterRoleAction,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterRoleAction {
    Options(RoleOptions),
    RenameTo(String),
    Set {
        database: Option<String>,
        name: String,
        value: SettingValue,
    },
    Reset {
        database: Option<String>,
        name: String,
    },
    ResetAll {
        database: Option<String>,
    },
}

impl AlterRole {
    /// Stands after `ALTER ROLE` or `ALTER USER`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        if input.keyword("ALL") {
            return Ok(Self {
                role: None,
                action: AlterRoleAction::parse_setting(input)?,
            });
        }
        let role = Some(RoleName::parse(input)?);
        if input.keywords(&["RENAME", "TO"]) {
            return Ok(Self {
                role,
                action: AlterRoleAction::RenameTo(input.identifier()?),
            });
        }
        if ["SET", "RESET", "IN"]
            .iter()
            .any(|word| input.peek_keyword(word))
        {
            return Ok(Self {
                role,
                action: AlterRoleAction::parse_setting(input)?,
            });
        }
        input.keyword("WITH");
        let mut options = RoleOptions::default();
        while !input.is_at_end() {
            options.parse_one(input)?;
        }
        Ok(Self {
            role,
            action: AlterRoleAction::Options(options),
        })
    }
}

impl AlterRoleAction {
    fn parse_setting(input: &mut Input) -> Result<Self, ParseError> {
        let database = if input.keywords(&["IN", "DATABASE"]) {
            Some(input.identifier()?)
        } else {
            None
        };
        if input.keyword("SET") {
            let (name, value) = parse_setting(input)?;
            return Ok(Self::Set {
                database,
                name,
                value,
            });
        }
        input.expect_keyword("RESET")?;
        if input.keyword("ALL") {
            return Ok(Self::ResetAll { database });
        }
        Ok(Self::Reset {
            database,
            name: setting_name(input)?,
        })
    }
}

impl fmt::Display for AlterRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Some(role) => write!(formatter, "ALTER ROLE {role}{}", self.action),
            None => write!(formatter, "ALTER ROLE ALL{}", self.action),
        }
    }
}

impl fmt::Display for AlterRoleAction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |database: &Option<String>| {
            database.as_ref().map_or_else(String::new, |name| {
                format!(" IN DATABASE {}", quote_identifier(name))
            })
        };
        match self {
            Self::Options(options) => formatter.write_str(&options.text()),
            Self::RenameTo(name) => write!(formatter, " RENAME TO {}", quote_identifier(name)),
            Self::Set {
                database,
                name,
                value,
            } => {
                write!(
                    formatter,
                    "{} SET {} TO {value}",
                    within(database),
                    setting_text(name)
                )
            }
            Self::Reset { database, name } => {
                write!(
                    formatter,
                    "{} RESET {}",
                    within(database),
                    setting_text(name)
                )
            }
            Self::ResetAll { database } => write!(formatter, "{} RESET ALL", within(database)),
        }
    }
}
