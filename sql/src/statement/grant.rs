//! `GRANT` and `REVOKE`: rights on objects, and membership in roles.

use std::fmt;

use sqlparser::tokenizer::Token;

use super::RoleName;
use crate::display::{displayed, identifiers, optional_identifiers, separated, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::QualifiedName;
use crate::source::is_word;

/// Gives rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub granted: Granted,
    pub grantees: Vec<RoleName>,
    /// `WITH GRANT OPTION`, or `WITH ADMIN OPTION` for a membership.
    pub grant_option: bool,
    pub granted_by: Option<RoleName>,
}

/// Takes rights away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoke {
    pub granted: Granted,
    pub grantees: Vec<RoleName>,
    /// `GRANT OPTION FOR`: only the right to grant it on.
    pub grant_option_only: bool,
    pub granted_by: Option<RoleName>,
    pub cascade: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    Roles(Vec<String>),
    Privileges {
        privileges: Privileges,
        objects: GrantObjects,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Privileges {
    All,
    Some(Vec<ColumnPrivilege>),
}

/// A right, on the whole object or on some columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnPrivilege {
    pub privilege: PrivilegeKind,
    /// Empty: the whole object.
    pub columns: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivilegeKind {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    References,
    Trigger,
    Usage,
    Create,
    Connect,
    Temporary,
    Execute,
    Set,
    Maintain,
}

/// What the rights are on. A view is granted on as a table, as in PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantObjects {
    Tables(Vec<QualifiedName>),
    AllTablesInSchemas(Vec<String>),
    Schemas(Vec<String>),
    Databases(Vec<String>),
    Connections(Vec<String>),
    Pipelines(Vec<String>),
    Secrets(Vec<String>),
}

impl Grant {
    /// Stands after `GRANT`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let granted = Granted::parse(input)?;
        input.expect_keyword("TO")?;
        let grantees = input.list(RoleName::parse_grantee)?;
        let mut grant_option = false;
        if input.keyword("WITH") {
            let position = input.position();
            if let Some(word) = input.one_of(&["INHERIT", "SET"]) {
                return Err(
                    ParseError::unsupported(format_args!("GRANT ... WITH {word}")).at(position),
                );
            }
            input.expect_keyword(granted.option())?;
            if input.keyword("OPTION") || input.keyword("TRUE") {
                grant_option = true;
            } else {
                input.expect_keyword("FALSE")?;
            }
        }
        Ok(Self {
            granted,
            grantees,
            grant_option,
            granted_by: parse_granted_by(input)?,
        })
    }
}

impl Revoke {
    /// Stands after `REVOKE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let grant_option_only = input.keywords(&["GRANT", "OPTION", "FOR"])
            || input.keywords(&["ADMIN", "OPTION", "FOR"]);
        let granted = Granted::parse(input)?;
        input.expect_keyword("FROM")?;
        let grantees = input.list(RoleName::parse_grantee)?;
        let granted_by = parse_granted_by(input)?;
        Ok(Self {
            granted,
            grantees,
            grant_option_only,
            granted_by,
            cascade: input.cascade(),
        })
    }
}

fn parse_granted_by(input: &mut Input) -> Result<Option<RoleName>, ParseError> {
    if input.keywords(&["GRANTED", "BY"]) {
        RoleName::parse(input).map(Some)
    } else {
        Ok(None)
    }
}

impl Granted {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        // Privileges are followed by ON; roles by TO or FROM.
        let mut index = 0;
        let is_privileges = loop {
            let next = input.peek_nth(index);
            if next.token == Token::EOF || is_word(next, "TO") || is_word(next, "FROM") {
                break false;
            }
            if is_word(next, "ON") {
                break true;
            }
            index += 1;
        };
        if !is_privileges {
            if input.peek_keyword("ALL") || input.peek_keyword("SELECT") {
                input.advance();
                input.keyword("PRIVILEGES");
                return Err(input.unexpected());
            }
            return Ok(Self::Roles(input.identifiers()?));
        }
        let position = input.position();
        let privileges = Privileges::parse(input)?;
        input.expect_keyword("ON")?;
        let objects = GrantObjects::parse(input)?;
        objects
            .check(&privileges)
            .map_err(|error| error.at(position))?;
        Ok(Self::Privileges {
            privileges,
            objects,
        })
    }
}

impl Privileges {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        if input.keyword("ALL") {
            input.keyword("PRIVILEGES");
            if input.peek_symbol(&Token::LParen) {
                return Err(ParseError::unsupported("ALL on columns")
                    .at(input.position())
                    .hint("name the privileges"));
            }
            return Ok(Self::All);
        }
        input
            .list(|input| {
                let privilege = PrivilegeKind::parse(input)?;
                Ok(ColumnPrivilege {
                    privilege,
                    columns: input.optional_identifiers()?,
                })
            })
            .map(Self::Some)
    }
}

impl PrivilegeKind {
    const ALL: [(&str, Self); 15] = [
        ("SELECT", Self::Select),
        ("INSERT", Self::Insert),
        ("UPDATE", Self::Update),
        ("DELETE", Self::Delete),
        ("TRUNCATE", Self::Truncate),
        ("REFERENCES", Self::References),
        ("TRIGGER", Self::Trigger),
        ("USAGE", Self::Usage),
        ("CREATE", Self::Create),
        ("CONNECT", Self::Connect),
        ("TEMPORARY", Self::Temporary),
        ("TEMP", Self::Temporary),
        ("EXECUTE", Self::Execute),
        ("SET", Self::Set),
        ("MAINTAIN", Self::Maintain),
    ];

    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        for (word, privilege) in Self::ALL {
            if input.keyword(word) {
                return Ok(privilege);
            }
        }
        let position = input.position();
        let unrecognized = format!("unrecognized privilege type \"{}\"", input.identifier()?);
        Err(ParseError::new(ParseError::SYNTAX_ERROR, unrecognized).at(position))
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, privilege)| *privilege == self)
            .map_or("", |(word, _)| word)
    }
}

impl GrantObjects {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let position = input.position();
        if input.keyword("ALL") {
            let kind = input.expect_one_of(&[
                "TABLES",
                "SEQUENCES",
                "FUNCTIONS",
                "PROCEDURES",
                "ROUTINES",
            ])?;
            if kind != "TABLES" {
                return Err(ParseError::unsupported(format_args!("GRANT on {kind}")).at(position));
            }
            input.expect_keywords(&["IN", "SCHEMA"])?;
            return Ok(Self::AllTablesInSchemas(input.identifiers()?));
        }
        // `ON function` may be a table of that name; a name must follow for it to be a kind.
        let kind_comes = matches!(input.peek_nth(1).token, Token::Word(_))
            && !is_word(input.peek_nth(1), "TO")
            && !is_word(input.peek_nth(1), "FROM");
        if kind_comes {
            for (word, make) in [
                ("SCHEMA", Self::Schemas as fn(Vec<String>) -> Self),
                ("DATABASE", Self::Databases),
                ("CONNECTION", Self::Connections),
                ("PIPELINE", Self::Pipelines),
                ("SECRET", Self::Secrets),
            ] {
                if input.keyword(word) {
                    return Ok(make(input.identifiers()?));
                }
            }
            if let Some(word) = input.one_of(&[
                "SEQUENCE",
                "FUNCTION",
                "PROCEDURE",
                "ROUTINE",
                "LANGUAGE",
                "LARGE",
                "DOMAIN",
                "TYPE",
                "FOREIGN",
                "TABLESPACE",
                "PARAMETER",
            ]) {
                return Err(ParseError::unsupported(format_args!("GRANT on {word}")).at(position));
            }
        }
        input.keyword("TABLE");
        Ok(Self::Tables(input.qualified_names()?))
    }

    /// Whether the kind of object can carry the privileges at all.
    fn check(&self, privileges: &Privileges) -> Result<(), ParseError> {
        use PrivilegeKind::{
            Connect, Create, Delete, Execute, Insert, Maintain, References, Select, Temporary,
            Trigger, Truncate, Update, Usage,
        };
        let (kind, allowed): (&str, &[PrivilegeKind]) = match self {
            Self::Tables(_) | Self::AllTablesInSchemas(_) => (
                "table",
                &[
                    Select, Insert, Update, Delete, Truncate, References, Trigger, Maintain,
                ],
            ),
            Self::Schemas(_) => ("schema", &[Usage, Create]),
            Self::Databases(_) => ("database", &[Create, Connect, Temporary]),
            Self::Connections(_) => ("connection", &[Usage]),
            Self::Pipelines(_) => ("pipeline", &[Select, Execute]),
            Self::Secrets(_) => ("secret", &[Usage]),
        };
        let Privileges::Some(privileges) = privileges else {
            return Ok(());
        };
        for ColumnPrivilege { privilege, columns } in privileges {
            if !allowed.contains(privilege) {
                return Err(ParseError::new(
                    "0LP01",
                    format!("invalid privilege type {} for {kind}", privilege.as_str()),
                ));
            }
            if !columns.is_empty() {
                if kind != "table" {
                    return Err(ParseError::new(
                        "0LP01",
                        "column privileges are only valid for relations",
                    ));
                }
                if !matches!(privilege, Select | Insert | Update | References) {
                    return Err(ParseError::new(
                        "0LP01",
                        format!("invalid privilege type {} for column", privilege.as_str()),
                    ));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "GRANT {} TO {}",
            self.granted,
            displayed(&self.grantees)
        )?;
        if self.grant_option {
            let option = self.granted.option();
            write!(formatter, " WITH {option} OPTION")?;
        }
        formatter.write_str(&granted_by(self.granted_by.as_ref()))
    }
}

impl fmt::Display for Revoke {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("REVOKE ")?;
        if self.grant_option_only {
            let option = self.granted.option();
            write!(formatter, "{option} OPTION FOR ")?;
        }
        write!(
            formatter,
            "{} FROM {}{}{}",
            self.granted,
            displayed(&self.grantees),
            granted_by(self.granted_by.as_ref()),
            when(self.cascade, " CASCADE")
        )
    }
}

fn granted_by(role: Option<&RoleName>) -> String {
    role.map_or_else(String::new, |role| format!(" GRANTED BY {role}"))
}

impl Granted {
    /// What the right to grant on is called.
    fn option(&self) -> &'static str {
        match self {
            Self::Roles(_) => "ADMIN",
            Self::Privileges { .. } => "GRANT",
        }
    }
}

impl fmt::Display for Granted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roles(roles) => formatter.write_str(&identifiers(roles)),
            Self::Privileges {
                privileges,
                objects,
            } => {
                match privileges {
                    Privileges::All => formatter.write_str("ALL PRIVILEGES")?,
                    Privileges::Some(some) => {
                        formatter.write_str(&separated(some, ColumnPrivilege::text))?;
                    }
                }
                write!(formatter, " ON {objects}")
            }
        }
    }
}

impl ColumnPrivilege {
    fn text(&self) -> String {
        format!(
            "{}{}",
            self.privilege.as_str(),
            optional_identifiers(&self.columns)
        )
    }
}

impl fmt::Display for GrantObjects {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, names) = match self {
            Self::Tables(names) => ("TABLE", displayed(names)),
            Self::AllTablesInSchemas(names) => ("ALL TABLES IN SCHEMA", identifiers(names)),
            Self::Schemas(names) => ("SCHEMA", identifiers(names)),
            Self::Databases(names) => ("DATABASE", identifiers(names)),
            Self::Connections(names) => ("CONNECTION", identifiers(names)),
            Self::Pipelines(names) => ("PIPELINE", identifiers(names)),
            Self::Secrets(names) => ("SECRET", identifiers(names)),
        };
        write!(formatter, "{kind} {names}")
    }
}
