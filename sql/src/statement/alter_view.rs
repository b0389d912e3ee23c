//! `ALTER VIEW name {RENAME TO | RENAME COLUMN | SET SCHEMA | OWNER TO | SET (...)}`.

use std::fmt;

use sqlparser::tokenizer::Token;

use super::RoleName;
use crate::display::{displayed, identifiers, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_identifier};
use crate::option::{SqlOption, parse_options};

/// Changes a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterView {
    pub if_exists: bool,
    pub name: QualifiedName,
    pub action: AlterViewAction,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterViewAction {
    RenameTo(String),
    RenameColumn { from: String, to: String },
    SetSchema(String),
    OwnerTo(RoleName),
    SetOptions(Vec<SqlOption>),
    ResetOptions(Vec<String>),
}

impl AlterView {
    /// Stands after `ALTER VIEW`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let if_exists = input.if_exists();
        let name = input.qualified_name()?;
        let action = match input.expect_one_of(&["RENAME", "SET", "RESET", "OWNER"])? {
            "RENAME" if input.keyword("TO") => AlterViewAction::RenameTo(input.identifier()?),
            "RENAME" => {
                input.keyword("COLUMN");
                let from = input.identifier()?;
                input.expect_keyword("TO")?;
                AlterViewAction::RenameColumn {
                    from,
                    to: input.identifier()?,
                }
            }
            "SET" if input.keyword("SCHEMA") => AlterViewAction::SetSchema(input.identifier()?),
            "SET" if input.peek_symbol(&Token::LParen) => {
                AlterViewAction::SetOptions(parse_options(input)?)
            }
            "RESET" => AlterViewAction::ResetOptions(input.parenthesized_identifiers()?),
            "OWNER" => {
                input.expect_keyword("TO")?;
                AlterViewAction::OwnerTo(RoleName::parse(input)?)
            }
            _ => return Err(input.unexpected()),
        };
        Ok(Self {
            if_exists,
            name,
            action,
        })
    }
}

impl fmt::Display for AlterView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let if_exists = when(self.if_exists, "IF EXISTS ");
        write!(formatter, "ALTER VIEW {if_exists}{} ", self.name)?;
        match &self.action {
            AlterViewAction::RenameTo(name) => {
                write!(formatter, "RENAME TO {}", quote_identifier(name))
            }
            AlterViewAction::RenameColumn { from, to } => write!(
                formatter,
                "RENAME COLUMN {} TO {}",
                quote_identifier(from),
                quote_identifier(to)
            ),
            AlterViewAction::SetSchema(name) => {
                write!(formatter, "SET SCHEMA {}", quote_identifier(name))
            }
            AlterViewAction::OwnerTo(role) => write!(formatter, "OWNER TO {role}"),
            AlterViewAction::SetOptions(options) => {
                write!(formatter, "SET ({})", displayed(options))
            }
            AlterViewAction::ResetOptions(names) => {
                write!(formatter, "RESET ({})", identifiers(names))
            }
        }
    }
}
