//! `CREATE TABLE`: columns, constraints, partitioning, properties, `LIKE` and `AS query`.
//!
//! Constraints written at a column become table constraints: there is one list to read.

use std::fmt;

use boathouse_catalog::types::ColumnType;
use sqlparser::tokenizer::Token;

use crate::ast;
use crate::display::{identifiers, optional_identifiers, text, when, with_options};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_identifier};
use crate::option::{SqlOption, is_with_options, parse_with_options};
use crate::source::is_word;

/// Makes a table.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    pub if_not_exists: bool,
    /// `TEMPORARY`; understood so that the engine can say what it does not do.
    pub temporary: bool,
    pub name: QualifiedName,
    pub columns: Vec<ColumnDeclaration>,
    pub constraints: Vec<TableConstraint>,
    /// `LIKE other [INCLUDING ...]`, in order.
    pub like: Vec<LikeClause>,
    /// `PARTITION BY (a, b)` or `PARTITIONED BY (a, b)`.
    pub partition_by: Vec<String>,
    /// `WITH (name = value, ...)`: table properties.
    pub options: Vec<SqlOption>,
    pub source: Option<TableSource>,
}

/// `AS query`.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSource {
    /// `CREATE TABLE t (a, b) AS ...`: names for the query's columns; empty when not given.
    pub column_names: Vec<String>,
    pub query: Box<ast::Query>,
    /// `WITH NO DATA` makes it false.
    pub with_data: bool,
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDeclaration {
    pub name: String,
    pub column_type: ColumnType,
    pub not_null: bool,
    pub default: Option<ast::Expr>,
}

/// One constraint, wherever it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct TableConstraint {
    /// `CONSTRAINT name`; otherwise the engine makes PostgreSQL's name for it.
    pub name: Option<String>,
    pub kind: TableConstraintKind,
}

#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a statement is parsed once and seldom moved"
)]
pub enum TableConstraintKind {
    PrimaryKey(Vec<String>),
    Unique(Vec<String>),
    ForeignKey {
        columns: Vec<String>,
        references: QualifiedName,
        /// Empty: the primary key of the referenced table.
        referenced_columns: Vec<String>,
        on_delete: ReferentialAction,
        on_update: ReferentialAction,
    },
    Check(ast::Expr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferentialAction {
    NoAction,
    Restrict,
    Cascade,
    SetNull,
    SetDefault,
}

/// `LIKE table [INCLUDING DEFAULTS ...]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeClause {
    pub table: QualifiedName,
    /// How many of the statement's own columns stand before its columns.
    pub columns_before: usize,
    pub including_defaults: bool,
    pub including_constraints: bool,
    /// Keys: PostgreSQL copies them with its indexes.
    pub including_indexes: bool,
    pub including_comments: bool,
}

impl CreateTable {
    /// Stands after `TABLE` in `CREATE [TEMPORARY] TABLE`.
    pub(crate) fn parse(input: &mut Input, temporary: bool) -> Result<Self, ParseError> {
        let if_not_exists = input.if_not_exists();
        let name = input.qualified_name()?;
        if let Some(word) = ["OF", "INHERITS"]
            .iter()
            .find(|word| input.peek_keyword(word))
        {
            return Err(
                ParseError::unsupported(format_args!("CREATE TABLE ... {word}"))
                    .at(input.position()),
            );
        }
        let mut table = Self {
            if_not_exists,
            temporary,
            name,
            columns: Vec::new(),
            constraints: Vec::new(),
            like: Vec::new(),
            partition_by: Vec::new(),
            options: Vec::new(),
            source: None,
        };
        let mut column_names = Vec::new();
        if input.peek_symbol(&Token::LParen) {
            if names_only(input) {
                column_names = input.parenthesized_identifiers()?;
            } else {
                input.advance();
                if !input.peek_symbol(&Token::RParen) {
                    table.parse_element(input)?;
                    while input.comma() {
                        table.parse_element(input)?;
                    }
                }
                input.expect_symbol(&Token::RParen)?;
            }
        } else if !["AS", "PARTITION", "PARTITIONED", "WITH"]
            .iter()
            .any(|word| input.peek_keyword(word))
        {
            return Err(input.unexpected());
        }
        table.parse_clauses(input)?;
        let position = input.position();
        if input.keyword("AS") {
            if !table.columns.is_empty() || !table.constraints.is_empty() || !table.like.is_empty()
            {
                return Err(ParseError::unsupported("CREATE TABLE AS with column types")
                    .at(position)
                    .hint("name the columns only, and cast in the query"));
            }
            let query = input.query_until(|input, index| {
                is_word(input.peek_nth(index), "WITH")
                    && (is_word(input.peek_nth(index + 1), "DATA")
                        || is_word(input.peek_nth(index + 1), "NO"))
            })?;
            let with_data = if input.keywords(&["WITH", "NO", "DATA"]) {
                false
            } else {
                input.keywords(&["WITH", "DATA"]);
                true
            };
            table.source = Some(TableSource {
                column_names,
                query,
                with_data,
            });
        } else if !column_names.is_empty() {
            return Err(input.unexpected());
        }
        table.check()?;
        Ok(table)
    }

    /// One column, constraint or `LIKE` between the parentheses.
    fn parse_element(&mut self, input: &mut Input) -> Result<(), ParseError> {
        if input.keyword("LIKE") {
            let like = LikeClause::parse(input, self.columns.len())?;
            self.like.push(like);
        } else if TableConstraint::comes_next(input) {
            self.constraints.push(TableConstraint::parse(input)?);
        } else {
            let (column, constraints) = ColumnDeclaration::parse(input)?;
            self.columns.push(column);
            self.constraints.extend(constraints);
        }
        Ok(())
    }

    /// `PARTITION BY` and `WITH`, in any order.
    fn parse_clauses(&mut self, input: &mut Input) -> Result<(), ParseError> {
        loop {
            if is_with_options(input, 0) {
                self.options.extend(parse_with_options(input)?);
            } else if input.keywords(&["PARTITION", "BY"]) || input.keywords(&["PARTITIONED", "BY"])
            {
                let position = input.position();
                if let Some(word) = input.one_of(&["RANGE", "LIST", "HASH"])
                    && input.peek_symbol(&Token::LParen)
                {
                    return Err(ParseError::unsupported(format_args!("PARTITION BY {word}"))
                        .at(position)
                        .hint("write PARTITION BY (column, ...): each value gets its own folder"));
                }
                self.partition_by = input.parenthesized_identifiers()?;
            } else if ["INHERITS", "USING", "TABLESPACE", "WITHOUT"]
                .iter()
                .any(|word| input.peek_keyword(word))
                || input.peek_keywords(&["ON", "COMMIT"])
            {
                let word = input.label()?.to_ascii_uppercase();
                return Err(
                    ParseError::unsupported(format_args!("CREATE TABLE ... {word}"))
                        .at(input.position()),
                );
            } else {
                return Ok(());
            }
        }
    }

    /// What PostgreSQL refuses before it looks at any other table.
    fn check(&self) -> Result<(), ParseError> {
        let mut names = std::collections::BTreeSet::new();
        for column in &self.columns {
            if !names.insert(column.name.as_str()) {
                return Err(ParseError::new(
                    ParseError::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", column.name),
                ));
            }
        }
        let keys = self
            .constraints
            .iter()
            .filter(|constraint| matches!(constraint.kind, TableConstraintKind::PrimaryKey(_)));
        if keys.count() > 1 {
            return Err(ParseError::new(
                ParseError::INVALID_TABLE_DEFINITION,
                format!(
                    "multiple primary keys for table \"{}\" are not allowed",
                    self.name.name
                ),
            ));
        }
        Ok(())
    }
}

/// Whether the parentheses that come next hold names alone, as before `AS query`.
fn names_only(input: &Input) -> bool {
    let mut index = 1;
    loop {
        if !matches!(input.peek_nth(index).token, Token::Word(_)) {
            return false;
        }
        match input.peek_nth(index + 1).token {
            Token::Comma => index += 2,
            Token::RParen => return true,
            _ => return false,
        }
    }
}

impl ColumnDeclaration {
    /// `name type [constraint ...]`, and the constraints that concern the table.
    pub(crate) fn parse(input: &mut Input) -> Result<(Self, Vec<TableConstraint>), ParseError> {
        let name = input.identifier()?;
        let position = input.position();
        let type_word = match &input.peek().token {
            Token::Word(word) => word.value.clone(),
            _ => String::new(),
        };
        if matches!(
            type_word.as_str(),
            "serial" | "bigserial" | "smallserial" | "serial4" | "serial8"
        ) {
            return Err(
                ParseError::unsupported(format_args!("type \"{type_word}\""))
                    .at(position)
                    .hint(
                        "use integer or bigint, and give the values: a lake table has no sequence",
                    ),
            );
        }
        let column_type = input.column_type()?;
        let mut column = Self {
            name,
            column_type,
            not_null: false,
            default: None,
        };
        let mut constraints = Vec::new();
        loop {
            let name = if input.keyword("CONSTRAINT") {
                Some(input.identifier()?)
            } else {
                None
            };
            let position = input.position();
            if input.keywords(&["NOT", "NULL"]) {
                column.not_null = true;
            } else if input.keyword("NULL") {
                if column.not_null {
                    return Err(ParseError::new(
                        ParseError::SYNTAX_ERROR,
                        format!(
                            "conflicting NULL/NOT NULL declarations for column \"{}\"",
                            column.name
                        ),
                    )
                    .at(position));
                }
            } else if input.keyword("DEFAULT") {
                column.default = Some(default_expression(input)?);
            } else if input.keyword("GENERATED") {
                return Err(ParseError::unsupported("a generated or identity column")
                    .at(position)
                    .hint("compute the value in the query or pipeline that fills the table"));
            } else if input.keyword("COLLATE") {
                return Err(ParseError::unsupported("COLLATE for a column").at(position));
            } else if input.keyword("STORAGE") || input.keyword("COMPRESSION") {
                return Err(ParseError::unsupported("a storage clause for a column").at(position));
            } else if let Some(kind) = parse_column_constraint(input, &column.name)? {
                parse_characteristics(input)?;
                constraints.push(TableConstraint { name, kind });
            } else if name.is_some() {
                return Err(input.unexpected());
            } else {
                return Ok((column, constraints));
            }
        }
    }
}

/// An expression that a following constraint ends: PostgreSQL's `b_expr`, in which `NOT NULL` and
/// the like are not operators.
fn default_expression(input: &mut Input) -> Result<ast::Expr, ParseError> {
    // NOT NULL after a default is a constraint, which sqlparser would take for an operator.
    input.expression_until(|input, index| {
        [
            "NOT",
            "NULL",
            "CONSTRAINT",
            "CHECK",
            "PRIMARY",
            "UNIQUE",
            "REFERENCES",
            "GENERATED",
        ]
        .iter()
        .any(|word| index > 0 && is_word(input.peek_nth(index), word))
            || matches!(input.peek_nth(index).token, Token::Comma | Token::RParen)
    })
}

fn parse_column_constraint(
    input: &mut Input,
    column: &str,
) -> Result<Option<TableConstraintKind>, ParseError> {
    let columns = || vec![column.to_owned()];
    if input.keywords(&["PRIMARY", "KEY"]) {
        Ok(Some(TableConstraintKind::PrimaryKey(columns())))
    } else if input.keyword("UNIQUE") {
        Ok(Some(TableConstraintKind::Unique(columns())))
    } else if input.keyword("CHECK") {
        Ok(Some(TableConstraintKind::Check(
            input.parenthesized_expression()?,
        )))
    } else if input.keyword("REFERENCES") {
        parse_references(input, columns()).map(Some)
    } else {
        Ok(None)
    }
}

/// Stands after `REFERENCES`.
fn parse_references(
    input: &mut Input,
    columns: Vec<String>,
) -> Result<TableConstraintKind, ParseError> {
    let references = input.qualified_name()?;
    let referenced_columns = input.optional_identifiers()?;
    let mut on_delete = ReferentialAction::NoAction;
    let mut on_update = ReferentialAction::NoAction;
    loop {
        if input.keyword("MATCH") {
            let position = input.position();
            let word = input.expect_one_of(&["SIMPLE", "FULL", "PARTIAL"])?;
            if word != "SIMPLE" {
                return Err(ParseError::unsupported(format_args!("MATCH {word}")).at(position));
            }
        } else if input.keywords(&["ON", "DELETE"]) {
            on_delete = ReferentialAction::parse(input)?;
        } else if input.keywords(&["ON", "UPDATE"]) {
            on_update = ReferentialAction::parse(input)?;
        } else {
            return Ok(TableConstraintKind::ForeignKey {
                columns,
                references,
                referenced_columns,
                on_delete,
                on_update,
            });
        }
    }
}

/// `[NOT] DEFERRABLE`, `INITIALLY ...`: only the default is true of us.
fn parse_characteristics(input: &mut Input) -> Result<(), ParseError> {
    loop {
        let position = input.position();
        if input.keywords(&["NOT", "DEFERRABLE"]) || input.keywords(&["INITIALLY", "IMMEDIATE"]) {
            continue;
        }
        let words = ["DEFERRABLE", "INITIALLY"];
        if let Some(word) = input.one_of(&words) {
            return Err(
                ParseError::unsupported(format_args!("{word} for a constraint")).at(position),
            );
        }
        if input.keywords(&["NOT", "VALID"]) || input.keywords(&["NO", "INHERIT"]) {
            return Err(
                ParseError::unsupported("NOT VALID and NO INHERIT for a constraint").at(position),
            );
        }
        return Ok(());
    }
}

impl ReferentialAction {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        if input.keywords(&["NO", "ACTION"]) {
            Ok(Self::NoAction)
        } else if input.keywords(&["SET", "NULL"]) {
            Ok(Self::SetNull)
        } else if input.keywords(&["SET", "DEFAULT"]) {
            Ok(Self::SetDefault)
        } else {
            match input.expect_one_of(&["RESTRICT", "CASCADE"])? {
                "RESTRICT" => Ok(Self::Restrict),
                _ => Ok(Self::Cascade),
            }
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAction => "NO ACTION",
            Self::Restrict => "RESTRICT",
            Self::Cascade => "CASCADE",
            Self::SetNull => "SET NULL",
            Self::SetDefault => "SET DEFAULT",
        }
    }
}

impl TableConstraint {
    /// Whether a table constraint stands next, rather than a column.
    pub(crate) fn comes_next(input: &Input) -> bool {
        input.peek_keyword("CONSTRAINT")
            || input.peek_keywords(&["PRIMARY", "KEY"])
            || input.peek_keywords(&["FOREIGN", "KEY"])
            || ["UNIQUE", "CHECK", "EXCLUDE"].iter().any(|word| {
                input.peek_keyword(word)
                    && (input.peek_nth(1).token == Token::LParen
                        || is_word(input.peek_nth(1), "USING")
                        || is_word(input.peek_nth(1), "NULLS"))
            })
    }

    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = if input.keyword("CONSTRAINT") {
            Some(input.identifier()?)
        } else {
            None
        };
        let position = input.position();
        let kind = if input.keywords(&["PRIMARY", "KEY"]) {
            TableConstraintKind::PrimaryKey(input.parenthesized_identifiers()?)
        } else if input.keyword("UNIQUE") {
            if input.peek_keyword("NULLS") {
                return Err(ParseError::unsupported("UNIQUE NULLS").at(position));
            }
            TableConstraintKind::Unique(input.parenthesized_identifiers()?)
        } else if input.keyword("CHECK") {
            TableConstraintKind::Check(input.parenthesized_expression()?)
        } else if input.keywords(&["FOREIGN", "KEY"]) {
            let columns = input.parenthesized_identifiers()?;
            input.expect_keyword("REFERENCES")?;
            parse_references(input, columns)?
        } else if input.keyword("EXCLUDE") {
            return Err(ParseError::unsupported("an exclusion constraint").at(position));
        } else {
            return Err(input.unexpected());
        };
        parse_characteristics(input)?;
        Ok(Self { name, kind })
    }
}

impl LikeClause {
    /// Stands after `LIKE`.
    fn parse(input: &mut Input, columns_before: usize) -> Result<Self, ParseError> {
        let mut like = Self {
            table: input.qualified_name()?,
            columns_before,
            including_defaults: false,
            including_constraints: false,
            including_indexes: false,
            including_comments: false,
        };
        while let Some(word) = input.one_of(&["INCLUDING", "EXCLUDING"]) {
            let including = word == "INCLUDING";
            match input.expect_one_of(&[
                "ALL",
                "DEFAULTS",
                "CONSTRAINTS",
                "INDEXES",
                "COMMENTS",
                "GENERATED",
                "IDENTITY",
                "STATISTICS",
                "STORAGE",
                "COMPRESSION",
            ])? {
                "ALL" => {
                    like.including_defaults = including;
                    like.including_constraints = including;
                    like.including_indexes = including;
                    like.including_comments = including;
                }
                "DEFAULTS" => like.including_defaults = including,
                "CONSTRAINTS" => like.including_constraints = including,
                "INDEXES" => like.including_indexes = including,
                "COMMENTS" => like.including_comments = including,
                // No table has any of the rest.
                _ => {}
            }
        }
        Ok(like)
    }
}

impl fmt::Display for CreateTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "CREATE {}TABLE {}{}",
            when(self.temporary, "TEMPORARY "),
            when(self.if_not_exists, "IF NOT EXISTS "),
            self.name
        )?;
        match &self.source {
            Some(source) => formatter.write_str(&optional_identifiers(&source.column_names))?,
            None => {
                let mut elements = Vec::new();
                for index in 0..=self.columns.len() {
                    let like = self.like.iter().filter(|like| like.columns_before == index);
                    elements.extend(like.map(LikeClause::to_string));
                    elements.extend(self.columns.get(index).map(ColumnDeclaration::to_string));
                }
                elements.extend(self.constraints.iter().map(TableConstraint::to_string));
                write!(formatter, " ({})", elements.join(", "))?;
            }
        }
        if !self.partition_by.is_empty() {
            write!(
                formatter,
                " PARTITION BY ({})",
                identifiers(&self.partition_by)
            )?;
        }
        formatter.write_str(&with_options(&self.options))?;
        if let Some(source) = &self.source {
            let no_data = when(!source.with_data, " WITH NO DATA");
            write!(formatter, " AS {}{no_data}", text(source.query.as_ref()))?;
        }
        Ok(())
    }
}

impl fmt::Display for ColumnDeclaration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = quote_identifier(&self.name);
        write!(formatter, "{name} {}", self.column_type.sql_name())?;
        if let Some(default) = &self.default {
            write!(formatter, " DEFAULT {}", text(default))?;
        }
        formatter.write_str(when(self.not_null, " NOT NULL"))
    }
}

impl fmt::Display for TableConstraint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(formatter, "CONSTRAINT {} ", quote_identifier(name))?;
        }
        write!(formatter, "{}", self.kind)
    }
}

impl TableConstraintKind {
    /// As it is written at the one column it concerns.
    pub(crate) fn at_column(&self) -> String {
        match self {
            Self::PrimaryKey(_) => "PRIMARY KEY".to_owned(),
            Self::Unique(_) => "UNIQUE".to_owned(),
            Self::Check(_) => self.to_string(),
            Self::ForeignKey { .. } => {
                let written = self.to_string();
                let start = written.find("REFERENCES").unwrap_or_default();
                written[start..].to_owned()
            }
        }
    }
}

impl fmt::Display for TableConstraintKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrimaryKey(columns) => {
                write!(formatter, "PRIMARY KEY ({})", identifiers(columns))
            }
            Self::Unique(columns) => write!(formatter, "UNIQUE ({})", identifiers(columns)),
            Self::Check(check) => write!(formatter, "CHECK ({})", text(check)),
            Self::ForeignKey {
                columns,
                references,
                referenced_columns,
                on_delete,
                on_update,
            } => {
                write!(
                    formatter,
                    "FOREIGN KEY ({}) REFERENCES {references}{}",
                    identifiers(columns),
                    optional_identifiers(referenced_columns)
                )?;
                for (event, action) in [("DELETE", on_delete), ("UPDATE", on_update)] {
                    if *action != ReferentialAction::NoAction {
                        write!(formatter, " ON {event} {}", action.as_str())?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for LikeClause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "LIKE {}{}{}{}{}",
            self.table,
            when(self.including_defaults, " INCLUDING DEFAULTS"),
            when(self.including_constraints, " INCLUDING CONSTRAINTS"),
            when(self.including_indexes, " INCLUDING INDEXES"),
            when(self.including_comments, " INCLUDING COMMENTS")
        )
    }
}
