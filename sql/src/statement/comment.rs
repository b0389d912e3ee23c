//! `COMMENT ON kind name IS {'text' | NULL}`.

use std::fmt;

use sqlparser::tokenizer::Token;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_identifier, quote_literal};

/// Describes an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    pub object: CommentObject,
    /// `None` removes the comment.
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommentObject {
    Database(String),
    Schema(String),
    Table(QualifiedName),
    View(QualifiedName),
    Column {
        relation: QualifiedName,
        column: String,
    },
    Constraint {
        name: String,
        table: QualifiedName,
    },
    Role(String),
    Secret(String),
    Connection(String),
    Pipeline(String),
}

impl Comment {
    /// Stands after `COMMENT`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        input.expect_keyword("ON")?;
        let object = CommentObject::parse(input)?;
        input.expect_keyword("IS")?;
        let comment = if input.keyword("NULL") {
            None
        } else {
            Some(input.string()?)
        };
        Ok(Self { object, comment })
    }
}

impl CommentObject {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        const KINDS: &[&str] = &[
            "TABLE",
            "VIEW",
            "COLUMN",
            "SCHEMA",
            "DATABASE",
            "CONSTRAINT",
            "ROLE",
            "SECRET",
            "CONNECTION",
            "PIPELINE",
        ];
        let position = input.position();
        let Some(kind) = input.one_of(KINDS) else {
            const KNOWN: &[&str] = &[
                "ACCESS",
                "AGGREGATE",
                "CAST",
                "COLLATION",
                "CONVERSION",
                "DOMAIN",
                "EXTENSION",
                "EVENT",
                "FOREIGN",
                "FUNCTION",
                "INDEX",
                "LANGUAGE",
                "LARGE",
                "MATERIALIZED",
                "OPERATOR",
                "POLICY",
                "PROCEDURAL",
                "PROCEDURE",
                "PUBLICATION",
                "ROUTINE",
                "RULE",
                "SEQUENCE",
                "SERVER",
                "STATISTICS",
                "SUBSCRIPTION",
                "TABLESPACE",
                "TEXT",
                "TRANSFORM",
                "TRIGGER",
                "TYPE",
            ];
            return match KNOWN.iter().find(|word| input.peek_keyword(word)) {
                Some(word) => {
                    Err(ParseError::unsupported(format_args!("COMMENT ON {word}")).at(position))
                }
                None => Err(input.unexpected()),
            };
        };
        Ok(match kind {
            "TABLE" => Self::Table(input.qualified_name()?),
            "VIEW" => Self::View(input.qualified_name()?),
            "COLUMN" => {
                let mut parts = vec![input.identifier()?];
                while input.symbol(&Token::Period) {
                    parts.push(input.label()?);
                }
                let column = parts.pop().unwrap_or_default();
                let relation = match <[String; 3]>::try_from(parts) {
                    Ok([catalog, schema, name]) => QualifiedName {
                        catalog: Some(catalog),
                        schema: Some(schema),
                        name,
                    },
                    Err(parts) => match <[String; 2]>::try_from(parts) {
                        Ok([schema, name]) => QualifiedName::in_schema(schema, name),
                        Err(parts) => match <[String; 1]>::try_from(parts) {
                            Ok([name]) => QualifiedName::bare(name),
                            Err(_) => {
                                return Err(ParseError::new(
                                    ParseError::SYNTAX_ERROR,
                                    "column name must be qualified",
                                )
                                .at(position));
                            }
                        },
                    },
                };
                Self::Column { relation, column }
            }
            "CONSTRAINT" => {
                let name = input.identifier()?;
                input.expect_keyword("ON")?;
                Self::Constraint {
                    name,
                    table: input.qualified_name()?,
                }
            }
            "SCHEMA" => Self::Schema(input.identifier()?),
            "DATABASE" => Self::Database(input.identifier()?),
            "ROLE" => Self::Role(input.identifier()?),
            "SECRET" => Self::Secret(input.identifier()?),
            "CONNECTION" => Self::Connection(input.identifier()?),
            _ => Self::Pipeline(input.identifier()?),
        })
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "COMMENT ON {} IS ", self.object)?;
        match &self.comment {
            Some(comment) => formatter.write_str(&quote_literal(comment)),
            None => formatter.write_str("NULL"),
        }
    }
}

impl fmt::Display for CommentObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Database(name) => ("DATABASE", quote_identifier(name)),
            Self::Schema(name) => ("SCHEMA", quote_identifier(name)),
            Self::Table(name) => ("TABLE", name.to_string()),
            Self::View(name) => ("VIEW", name.to_string()),
            Self::Column { relation, column } => {
                ("COLUMN", format!("{relation}.{}", quote_identifier(column)))
            }
            Self::Constraint { name, table } => (
                "CONSTRAINT",
                format!("{} ON {table}", quote_identifier(name)),
            ),
            Self::Role(name) => ("ROLE", quote_identifier(name)),
            Self::Secret(name) => ("SECRET", quote_identifier(name)),
            Self::Connection(name) => ("CONNECTION", quote_identifier(name)),
            Self::Pipeline(name) => ("PIPELINE", quote_identifier(name)),
        };
        write!(formatter, "{kind} {name}")
    }
}
