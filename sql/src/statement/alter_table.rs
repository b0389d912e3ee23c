//! `ALTER TABLE name action, ...`.

use std::fmt;

use boathouse_catalog::types::ColumnType;
use sqlparser::tokenizer::Token;

use super::RoleName;
use super::create_table::{ColumnDeclaration, TableConstraint};
use crate::ast;
use crate::display::{clause, displayed, identifiers, text, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_identifier};
use crate::option::{SqlOption, parse_options};

/// Changes a table. `ALTER TABLE` on a view is for the engine to accept where PostgreSQL does.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterTable {
    pub if_exists: bool,
    pub name: QualifiedName,
    pub actions: Vec<AlterTableAction>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum AlterTableAction {
    AddColumn {
        if_not_exists: bool,
        column: ColumnDeclaration,
        /// Constraints written at the column.
        constraints: Vec<TableConstraint>,
    },
    DropColumn {
        if_exists: bool,
        name: String,
        cascade: bool,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    RenameConstraint {
        from: String,
        to: String,
    },
    RenameTo(String),
    SetSchema(String),
    OwnerTo(RoleName),
    SetDefault {
        column: String,
        default: ast::Expr,
    },
    DropDefault {
        column: String,
    },
    SetNotNull {
        column: String,
    },
    DropNotNull {
        column: String,
    },
    SetType {
        column: String,
        column_type: ColumnType,
        using: Option<ast::Expr>,
    },
    AddConstraint(TableConstraint),
    DropConstraint {
        if_exists: bool,
        name: String,
        cascade: bool,
    },
    /// `SET (name = value, ...)`: table properties.
    SetOptions(Vec<SqlOption>),
    /// `RESET (name, ...)`.
    ResetOptions(Vec<String>),
}

impl AlterTable {
    /// Stands after `ALTER TABLE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let if_exists = input.if_exists();
        input.keyword("ONLY");
        let name = input.qualified_name()?;
        let actions = input.list(AlterTableAction::parse)?;
        // PostgreSQL's grammar allows these one at a time only.
        let alone = actions.iter().any(|action| {
            matches!(
                action,
                AlterTableAction::RenameColumn { .. }
                    | AlterTableAction::RenameConstraint { .. }
                    | AlterTableAction::RenameTo(_)
                    | AlterTableAction::SetSchema(_)
            )
        });
        if alone && actions.len() > 1 {
            return Err(ParseError::new(
                ParseError::SYNTAX_ERROR,
                "RENAME and SET SCHEMA cannot be combined with other actions",
            ));
        }
        Ok(Self {
            if_exists,
            name,
            actions,
        })
    }
}

impl AlterTableAction {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let position = input.position();
        let verb =
            input.expect_one_of(&["ADD", "DROP", "RENAME", "ALTER", "SET", "RESET", "OWNER"]);
        match verb {
            Ok("ADD") => Self::parse_add(input),
            Ok("DROP") => Self::parse_drop(input),
            Ok("RENAME") => Self::parse_rename(input),
            Ok("ALTER") => Self::parse_alter(input),
            Ok("SET") if input.keyword("SCHEMA") => Ok(Self::SetSchema(input.identifier()?)),
            Ok("SET") if input.peek_symbol(&Token::LParen) => {
                Ok(Self::SetOptions(parse_options(input)?))
            }
            Ok("RESET") => Ok(Self::ResetOptions(input.parenthesized_identifiers()?)),
            Ok("OWNER") => {
                input.expect_keyword("TO")?;
                Ok(Self::OwnerTo(RoleName::parse(input)?))
            }
            Ok(_) => Err(input.unexpected()),
            Err(error) => {
                const KNOWN: &[&str] = &[
                    "ENABLE", "DISABLE", "FORCE", "NO", "INHERIT", "ATTACH", "DETACH", "CLUSTER",
                    "REPLICA", "VALIDATE", "OF", "NOT",
                ];
                match KNOWN.iter().find(|word| input.peek_keyword(word)) {
                    Some(word) => Err(ParseError::unsupported(format_args!(
                        "ALTER TABLE ... {word}"
                    ))
                    .at(position)),
                    None => Err(error),
                }
            }
        }
    }

    fn parse_add(input: &mut Input) -> Result<Self, ParseError> {
        if TableConstraint::comes_next(input) {
            return Ok(Self::AddConstraint(TableConstraint::parse(input)?));
        }
        input.keyword("COLUMN");
        let if_not_exists = input.if_not_exists();
        let (column, constraints) = ColumnDeclaration::parse(input)?;
        Ok(Self::AddColumn {
            if_not_exists,
            column,
            constraints,
        })
    }

    fn parse_drop(input: &mut Input) -> Result<Self, ParseError> {
        let constraint = input.keyword("CONSTRAINT");
        if !constraint {
            input.keyword("COLUMN");
        }
        let if_exists = input.if_exists();
        let name = input.identifier()?;
        let cascade = input.cascade();
        Ok(if constraint {
            Self::DropConstraint {
                if_exists,
                name,
                cascade,
            }
        } else {
            Self::DropColumn {
                if_exists,
                name,
                cascade,
            }
        })
    }

    fn parse_rename(input: &mut Input) -> Result<Self, ParseError> {
        if input.keyword("TO") {
            return Ok(Self::RenameTo(input.identifier()?));
        }
        let constraint = input.keyword("CONSTRAINT");
        if !constraint {
            input.keyword("COLUMN");
        }
        let from = input.identifier()?;
        input.expect_keyword("TO")?;
        let to = input.identifier()?;
        Ok(if constraint {
            Self::RenameConstraint { from, to }
        } else {
            Self::RenameColumn { from, to }
        })
    }

    fn parse_alter(input: &mut Input) -> Result<Self, ParseError> {
        if input.peek_keyword("CONSTRAINT") {
            return Err(ParseError::unsupported("ALTER CONSTRAINT").at(input.position()));
        }
        input.keyword("COLUMN");
        let column = input.identifier()?;
        if input.keywords(&["SET", "DEFAULT"]) {
            return Ok(Self::SetDefault {
                column,
                default: input.expression()?,
            });
        }
        if input.keywords(&["DROP", "DEFAULT"]) {
            return Ok(Self::DropDefault { column });
        }
        if input.keywords(&["SET", "NOT", "NULL"]) {
            return Ok(Self::SetNotNull { column });
        }
        if input.keywords(&["DROP", "NOT", "NULL"]) {
            return Ok(Self::DropNotNull { column });
        }
        if input.keywords(&["SET", "DATA", "TYPE"]) || input.keyword("TYPE") {
            let column_type = input.column_type()?;
            let using = if input.keyword("USING") {
                Some(input.expression()?)
            } else {
                None
            };
            return Ok(Self::SetType {
                column,
                column_type,
                using,
            });
        }
        let position = input.position();
        if input.one_of(&["SET", "RESET", "ADD", "DROP"]).is_some()
            && let Some(word) = input.one_of(&[
                "STATISTICS",
                "STORAGE",
                "COMPRESSION",
                "GENERATED",
                "IDENTITY",
                "EXPRESSION",
            ])
        {
            return Err(
                ParseError::unsupported(format_args!("ALTER COLUMN ... {word}")).at(position),
            );
        }
        Err(input.unexpected())
    }
}

impl fmt::Display for AlterTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "ALTER TABLE {}{} {}",
            when(self.if_exists, "IF EXISTS "),
            self.name,
            displayed(&self.actions)
        )
    }
}

impl fmt::Display for AlterTableAction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = |name: &String| quote_identifier(name);
        match self {
            Self::AddColumn {
                if_not_exists,
                column,
                constraints,
            } => {
                let if_not_exists = when(*if_not_exists, "IF NOT EXISTS ");
                write!(formatter, "ADD COLUMN {if_not_exists}{column}")?;
                for constraint in constraints {
                    let TableConstraint { name, kind } = constraint;
                    if let Some(name) = name {
                        write!(formatter, " CONSTRAINT {}", quote_identifier(name))?;
                    }
                    write!(formatter, " {}", kind.at_column())?;
                }
                Ok(())
            }
            Self::DropColumn {
                if_exists,
                name,
                cascade,
            } => write!(
                formatter,
                "DROP COLUMN {}{}{}",
                when(*if_exists, "IF EXISTS "),
                quote(name),
                when(*cascade, " CASCADE")
            ),
            Self::RenameColumn { from, to } => {
                write!(formatter, "RENAME COLUMN {} TO {}", quote(from), quote(to))
            }
            Self::RenameConstraint { from, to } => {
                write!(
                    formatter,
                    "RENAME CONSTRAINT {} TO {}",
                    quote(from),
                    quote(to)
                )
            }
            Self::RenameTo(name) => write!(formatter, "RENAME TO {}", quote(name)),
            Self::SetSchema(name) => write!(formatter, "SET SCHEMA {}", quote(name)),
            Self::OwnerTo(role) => write!(formatter, "OWNER TO {role}"),
            Self::SetDefault { column, default } => {
                write!(
                    formatter,
                    "ALTER COLUMN {} SET DEFAULT {}",
                    quote(column),
                    text(default)
                )
            }
            Self::DropDefault { column } => {
                write!(formatter, "ALTER COLUMN {} DROP DEFAULT", quote(column))
            }
            Self::SetNotNull { column } => {
                write!(formatter, "ALTER COLUMN {} SET NOT NULL", quote(column))
            }
            Self::DropNotNull { column } => {
                write!(formatter, "ALTER COLUMN {} DROP NOT NULL", quote(column))
            }
            Self::SetType {
                column,
                column_type,
                using,
            } => write!(
                formatter,
                "ALTER COLUMN {} SET DATA TYPE {}{}",
                quote(column),
                column_type.sql_name(),
                clause("USING", using.as_ref())
            ),
            Self::AddConstraint(constraint) => write!(formatter, "ADD {constraint}"),
            Self::DropConstraint {
                if_exists,
                name,
                cascade,
            } => write!(
                formatter,
                "DROP CONSTRAINT {}{}{}",
                when(*if_exists, "IF EXISTS "),
                quote(name),
                when(*cascade, " CASCADE")
            ),
            Self::SetOptions(options) => write!(formatter, "SET ({})", displayed(options)),
            Self::ResetOptions(names) => write!(formatter, "RESET ({})", identifiers(names)),
        }
    }
}
