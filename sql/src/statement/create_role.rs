//! `CREATE ROLE name [WITH] option ...`. `CREATE USER` is the same with `LOGIN`.

use std::fmt;

use sqlparser::tokenizer::Token;

use crate::display::identifiers;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{quote_identifier, quote_literal};
use crate::secret::SecretText;

/// Makes a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRole {
    pub name: String,
    pub options: RoleOptions,
    /// `IN ROLE`: roles the new one becomes a member of.
    pub in_roles: Vec<String>,
    /// `ROLE`: roles that become members of the new one.
    pub members: Vec<String>,
    /// `ADMIN`: the same, with the right to grant it on.
    pub admins: Vec<String>,
}

/// What a role may do; `None` leaves it as it is, or at PostgreSQL's default for a new role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleOptions {
    pub superuser: Option<bool>,
    pub create_database: Option<bool>,
    pub create_role: Option<bool>,
    pub inherit: Option<bool>,
    pub login: Option<bool>,
    pub replication: Option<bool>,
    pub bypass_row_security: Option<bool>,
    /// -1 is no limit.
    pub connection_limit: Option<i32>,
    pub password: Option<RolePassword>,
    /// A timestamp as it was written.
    pub valid_until: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolePassword {
    /// In clear, or already a SCRAM verifier.
    Text(SecretText),
    /// `PASSWORD NULL` removes it.
    Null,
}

impl CreateRole {
    /// Stands after `CREATE ROLE`, `CREATE USER` or `CREATE GROUP`; `login` is the default of the
    /// second.
    pub(crate) fn parse(input: &mut Input, login: bool) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        if name == "public" || name == "none" {
            return Err(ParseError::new(
                "42939",
                format!("role name \"{name}\" is reserved"),
            ));
        }
        input.keyword("WITH");
        let mut role = Self {
            name,
            options: RoleOptions::default(),
            in_roles: Vec::new(),
            members: Vec::new(),
            admins: Vec::new(),
        };
        while !input.is_at_end() {
            if input.keywords(&["IN", "ROLE"]) || input.keywords(&["IN", "GROUP"]) {
                role.in_roles.extend(input.identifiers()?);
            } else if input.keyword("ROLE") || input.keyword("USER") {
                role.members.extend(input.identifiers()?);
            } else if input.keyword("ADMIN") {
                role.admins.extend(input.identifiers()?);
            } else if input.keyword("SYSID") {
                input.integer()?;
            } else {
                role.options.parse_one(input)?;
            }
        }
        if login && role.options.login.is_none() {
            role.options.login = Some(true);
        }
        Ok(role)
    }
}

impl RoleOptions {
    /// One option of `CREATE ROLE` or `ALTER ROLE`.
    pub(crate) fn parse_one(&mut self, input: &mut Input) -> Result<(), ParseError> {
        let position = input.position();
        let redundant = || {
            ParseError::new(ParseError::SYNTAX_ERROR, "conflicting or redundant options")
                .at(position)
        };
        if input.keyword("UNENCRYPTED") {
            return Err(ParseError::new(
                ParseError::FEATURE_NOT_SUPPORTED,
                "UNENCRYPTED PASSWORD is no longer supported",
            )
            .at(position)
            .hint("remove UNENCRYPTED to store the password in encrypted form instead"));
        }
        input.keyword("ENCRYPTED");
        if input.keyword("PASSWORD") {
            let password = if input.keyword("NULL") {
                RolePassword::Null
            } else {
                RolePassword::Text(SecretText::new(input.string()?))
            };
            return match self.password.replace(password) {
                Some(_) => Err(redundant()),
                None => Ok(()),
            };
        }
        if input.keywords(&["CONNECTION", "LIMIT"]) {
            let limit = input.integer()?;
            let limit = i32::try_from(limit)
                .ok()
                .filter(|limit| *limit >= -1)
                .ok_or_else(|| {
                    ParseError::new(
                        ParseError::INVALID_PARAMETER_VALUE,
                        format!("invalid connection limit: {limit}"),
                    )
                    .at(position)
                })?;
            return match self.connection_limit.replace(limit) {
                Some(_) => Err(redundant()),
                None => Ok(()),
            };
        }
        if input.keywords(&["VALID", "UNTIL"]) {
            return match self.valid_until.replace(input.string()?) {
                Some(_) => Err(redundant()),
                None => Ok(()),
            };
        }
        let Token::Word(word) = &input.peek().token else {
            return Err(input.unexpected());
        };
        let word = word.value.as_str();
        let (word, value) = match word.strip_prefix("no") {
            Some(word) => (word, false),
            None => (word, true),
        };
        let option = match word {
            "superuser" => &mut self.superuser,
            "createdb" => &mut self.create_database,
            "createrole" => &mut self.create_role,
            "inherit" => &mut self.inherit,
            "login" => &mut self.login,
            "replication" => &mut self.replication,
            "bypassrls" => &mut self.bypass_row_security,
            _ => {
                let unrecognized = format!("unrecognized role option \"{}\"", input.label()?);
                return Err(ParseError::new(ParseError::SYNTAX_ERROR, unrecognized).at(position));
            }
        };
        if option.replace(value).is_some() {
            return Err(redundant());
        }
        input.advance();
        Ok(())
    }

    /// ` LOGIN PASSWORD '...'` and so on, in one order.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (value, yes, no) in [
            (self.superuser, " SUPERUSER", " NOSUPERUSER"),
            (self.create_database, " CREATEDB", " NOCREATEDB"),
            (self.create_role, " CREATEROLE", " NOCREATEROLE"),
            (self.inherit, " INHERIT", " NOINHERIT"),
            (self.login, " LOGIN", " NOLOGIN"),
            (self.replication, " REPLICATION", " NOREPLICATION"),
            (self.bypass_row_security, " BYPASSRLS", " NOBYPASSRLS"),
        ] {
            if let Some(value) = value {
                text.push_str(if value { yes } else { no });
            }
        }
        if let Some(limit) = self.connection_limit {
            text.push_str(&format!(" CONNECTION LIMIT {limit}"));
        }
        match &self.password {
            Some(RolePassword::Text(password)) => {
                text.push_str(&format!(" PASSWORD {}", quote_literal(password.expose())));
            }
            Some(RolePassword::Null) => text.push_str(" PASSWORD NULL"),
            None => {}
        }
        if let Some(valid_until) = &self.valid_until {
            text.push_str(&format!(" VALID UNTIL {}", quote_literal(valid_until)));
        }
        text
    }
}

impl fmt::Display for CreateRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "CREATE ROLE {}{}",
            quote_identifier(&self.name),
            self.options.text()
        )?;
        for (words, names) in [
            ("IN ROLE", &self.in_roles),
            ("ROLE", &self.members),
            ("ADMIN", &self.admins),
        ] {
            if !names.is_empty() {
                write!(formatter, " {words} {}", identifiers(names))?;
            }
        }
        Ok(())
    }
}
