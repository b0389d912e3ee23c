//! `CREATE PIPELINE`: where rows come from, what becomes of them, where they go, and when.
//!
//! ```sql
//! CREATE [OR REPLACE] PIPELINE [IF NOT EXISTS] name
//!   [FROM source] [INTO target] [AS query] [INTO target] [FOR ('pattern', ...) AS query] ...
//!   [EXPECT name CHECK (expression) ON VIOLATION {WARN | DROP | QUARANTINE | FAIL}] ...
//!   [ON SCHEMA CHANGE ...] [ON CHANGED FILE ...] [ON ERROR ...] [SCHEDULE ...] [WITH (...)]
//! ```

use std::fmt;

use boathouse_catalog::types::ColumnType;
use sqlparser::tokenizer::Token;

use super::create_connection::bare_word;
use crate::ast;
use crate::display::{displayed, identifiers, separated, text, when, with_options};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_identifier, quote_literal};
use crate::option::{SqlOption, is_with_options, parse_options, parse_with_options};
use crate::schedule::Schedule;
use crate::source::is_word;
use crate::topic::TopicTarget;

/// Makes a pipeline. Its `Display` is the canonical text the catalog keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatePipeline {
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub name: String,
    pub source: PipelineSource,
    pub into: Into,
    /// `AS query`; its relation `source` is what `FROM` gives. `None` takes every column as it is.
    pub query: Option<Box<ast::Query>>,
    /// `FOR ('pattern', ...) AS query`: the query of the tables of the source that match, instead.
    pub queries: Vec<TableQuery>,
    pub expectations: Vec<Expectation>,
    pub on_schema_change: Option<OnSchemaChange>,
    pub on_changed_file: Option<OnChangedFile>,
    pub on_error: Option<OnError>,
    pub schedule: Option<Schedule>,
    pub options: Vec<SqlOption>,
}

/// `FOR ('pattern', ...) AS query`.
#[derive(Debug, Clone, PartialEq)]
pub struct TableQuery {
    pub tables: Vec<String>,
    pub query: Box<ast::Query>,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum PipelineSource {
    /// `FROM FILES connection 'glob' [, 'glob' ...] [FORMAT name (...)] [COLUMNS (name type, ...)]`
    Files {
        connection: String,
        patterns: Vec<String>,
        format: Option<FormatClause>,
        /// The declared schema; empty when it is inferred.
        columns: Vec<SourceColumn>,
    },
    /// `FROM TABLE name [CHANGES]`
    Table { name: QualifiedName, changes: bool },
    /// No `FROM`: the query reads tables itself.
    Query,
    /// `FROM MYSQL connection TABLES ('pattern', ...) [EXCEPT ('pattern', ...)]
    /// [EXCEPT COLUMNS ('pattern', ...)] [INCLUDE (field, ...)]`
    MySql {
        connection: String,
        tables: Vec<String>,
        except: Vec<String>,
        except_columns: Vec<String>,
        include: Vec<String>,
    },
    /// `FROM KAFKA connection TOPICS ('pattern', ...) [EXCEPT (...)] [FORMAT ...] [COLUMNS (...)]
    /// [INCLUDE ({field | header 'name' AS column}, ...)]`
    Kafka {
        connection: String,
        topics: Vec<String>,
        except: Vec<String>,
        format: Option<FormatClause>,
        columns: Vec<SourceColumn>,
        include: Vec<IncludedField>,
    },
    /// `FROM MART name`
    Mart { name: QualifiedName },
}

/// What rows have besides the columns of their message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncludedField {
    Named(String),
    /// `header 'name' AS column`
    Header {
        header: String,
        column: String,
    },
}

/// `FORMAT name [(option = value, ...)]`. The name is upper case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatClause {
    pub name: String,
    pub options: Vec<SqlOption>,
}

/// One column of a declared source schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceColumn {
    pub name: String,
    pub column_type: ColumnType,
    pub not_null: bool,
}

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Into {
    Table {
        name: QualifiedName,
        /// `KEY (a, b)`; empty for append.
        key: Vec<String>,
        sequence_by: Option<String>,
        stored_as: Option<StoredAs>,
    },
    Schema {
        name: String,
        /// `BY column`: the table of a row is named by its value there, instead of by the source.
        by: Option<String>,
    },
    Redshift {
        connection: String,
        schema: Option<String>,
    },
    /// `KAFKA connection TOPIC 'name' [KEY (...)] [FORMAT ...]`
    Topic(TopicTarget),
}

/// `STORED AS SCD TYPE 1 | 2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredAs {
    ScdType1,
    ScdType2,
}

/// A rule every row is held to.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    pub name: String,
    pub check: ast::Expr,
    pub on_violation: OnViolation,
}

/// What becomes of a row that breaks a rule (or for which the rule is unknown: NULL passes, as in
/// `CHECK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnViolation {
    Warn,
    Drop,
    Quarantine,
    Fail,
}

/// What becomes of columns the target does not have, and of values of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSchemaChange {
    /// New columns are added to the target. The default.
    AddColumns,
    /// New columns go to `_rescued`.
    Rescue,
    /// The file fails.
    Fail,
}

/// What becomes of a file that was loaded and has changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChangedFile {
    /// Its rows are loaded again.
    Reload,
    Ignore,
    Fail,
}

/// What becomes of a file or message that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It fails alone; the others go on. The default.
    Continue,
    /// The run stops.
    Stop,
    /// It is kept aside with its reason.
    DeadLetter,
}

impl CreatePipeline {
    /// Stands after `CREATE [OR REPLACE] PIPELINE`.
    pub(crate) fn parse(input: &mut Input, or_replace: bool) -> Result<Self, ParseError> {
        let if_not_exists = input.if_not_exists();
        let name = input.identifier()?;
        let mut source = None;
        let mut into = None;
        let mut query = None;
        let mut queries = Vec::new();
        let mut expectations: Vec<Expectation> = Vec::new();
        let mut on_schema_change = None;
        let mut on_changed_file = None;
        let mut on_error = None;
        let mut schedule = None;
        let mut options = Vec::new();
        while !input.is_at_end() {
            let position = input.position();
            let first_word = input.peek();
            let again = if input.keyword("FROM") {
                source.replace(PipelineSource::parse(input)?).is_some()
            } else if input.keyword("INTO") {
                into.replace(Into::parse(input)?).is_some()
            } else if input.keyword("AS") {
                query.replace(input.query_until(starts_clause)?).is_some()
            } else if is_for_tables(input, 0) {
                input.expect_keyword("FOR")?;
                let tables = parse_patterns(input)?;
                input.expect_keyword("AS")?;
                let query = input.query_until(starts_clause)?;
                queries.push(TableQuery { tables, query });
                false
            } else if input.keyword("EXPECT") {
                let expectation = Expectation::parse(input)?;
                if expectations
                    .iter()
                    .any(|known| known.name == expectation.name)
                {
                    return Err(ParseError::new(
                        "42710",
                        format!(
                            "expectation \"{}\" is given more than once",
                            expectation.name
                        ),
                    )
                    .at(position));
                }
                expectations.push(expectation);
                false
            } else if input.keywords(&["ON", "SCHEMA", "CHANGE"]) {
                on_schema_change
                    .replace(OnSchemaChange::parse(input)?)
                    .is_some()
            } else if input.keywords(&["ON", "CHANGED", "FILE"]) {
                on_changed_file
                    .replace(OnChangedFile::parse(input)?)
                    .is_some()
            } else if input.keywords(&["ON", "ERROR"]) {
                on_error.replace(OnError::parse(input)?).is_some()
            } else if input.keyword("SCHEDULE") {
                schedule.replace(Schedule::parse(input)?).is_some()
            } else if is_with_options(input, 0) {
                let again = !options.is_empty();
                options = parse_with_options(input)?;
                again
            } else {
                return Err(input.unexpected());
            };
            if again {
                return Err(input
                    .error_near(first_word)
                    .hint("this clause is given twice"));
            }
        }
        let Some(into) = into else {
            return Err(input
                .unexpected()
                .hint("say where the rows go: INTO schema.table"));
        };
        let source = match (source, &query) {
            (Some(source), _) => source,
            (None, Some(_)) => PipelineSource::Query,
            (None, None) => {
                return Err(input
                    .unexpected()
                    .hint("say where the rows come from: FROM FILES ..., or AS SELECT ..."));
            }
        };
        Ok(Self {
            or_replace,
            if_not_exists,
            name,
            source,
            into,
            query,
            queries,
            expectations,
            on_schema_change,
            on_changed_file,
            on_error,
            schedule,
            options,
        })
    }
}

impl CreatePipeline {
    /// The connections that it names.
    pub fn connections(&self) -> Vec<&str> {
        let from = match &self.source {
            PipelineSource::Files { connection, .. }
            | PipelineSource::MySql { connection, .. }
            | PipelineSource::Kafka { connection, .. } => Some(connection),
            PipelineSource::Table { .. } | PipelineSource::Query | PipelineSource::Mart { .. } => {
                None
            }
        };
        let into = match &self.into {
            Into::Redshift { connection, .. } => Some(connection),
            Into::Topic(target) => Some(&target.connection),
            Into::Table { .. } | Into::Schema { .. } => None,
        };
        from.into_iter().chain(into).map(String::as_str).collect()
    }

    /// Gives a connection that it names another name.
    pub fn rename_connection(&mut self, from: &str, to: &str) {
        let source = match &mut self.source {
            PipelineSource::Files { connection, .. }
            | PipelineSource::MySql { connection, .. }
            | PipelineSource::Kafka { connection, .. } => Some(connection),
            PipelineSource::Table { .. } | PipelineSource::Query | PipelineSource::Mart { .. } => {
                None
            }
        };
        let into = match &mut self.into {
            Into::Redshift { connection, .. } => Some(connection),
            Into::Topic(target) => Some(&mut target.connection),
            Into::Table { .. } | Into::Schema { .. } => None,
        };
        for connection in source.into_iter().chain(into) {
            if connection == from {
                to.clone_into(connection);
            }
        }
    }
}

/// Whether a clause of the pipeline, and so the end of its query, stands at the token. None of these
/// can stand in a query outside parentheses.
fn starts_clause(input: &Input, index: usize) -> bool {
    let words = |words: &[&str]| {
        words
            .iter()
            .enumerate()
            .all(|(offset, word)| is_word(input.peek_nth(index + offset), word))
    };
    words(&["INTO"])
        || is_for_tables(input, index)
        || (words(&["EXPECT"]) && is_word(input.peek_nth(index + 2), "CHECK"))
        || words(&["ON", "SCHEMA", "CHANGE"])
        || words(&["ON", "CHANGED", "FILE"])
        || ["CONTINUE", "STOP", "DEAD"]
            .iter()
            .any(|policy| words(&["ON", "ERROR", policy]))
        || ["EVERY", "CRON", "AFTER", "ON"]
            .iter()
            .any(|kind| words(&["SCHEDULE", kind]))
        || is_with_options(input, index)
}

/// Whether `FOR ('pattern'` stands at the token.
fn is_for_tables(input: &Input, index: usize) -> bool {
    is_word(input.peek_nth(index), "FOR")
        && input.peek_nth(index + 1).token == Token::LParen
        && matches!(
            input.peek_nth(index + 2).token,
            Token::SingleQuotedString(_)
        )
}

impl PipelineSource {
    /// Stands after `FROM`.
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        match input.expect_one_of(&["FILES", "TABLE", "MYSQL", "KAFKA", "MART"])? {
            "FILES" => Ok(Self::Files {
                connection: input.identifier()?,
                patterns: input.list(Input::string)?,
                format: FormatClause::parse(input)?,
                columns: SourceColumn::parse_clause(input)?,
            }),
            "TABLE" => {
                let name = input.qualified_name()?;
                Ok(Self::Table {
                    name,
                    changes: input.keyword("CHANGES"),
                })
            }
            "MYSQL" => {
                let connection = input.identifier()?;
                input.expect_keyword("TABLES")?;
                let tables = parse_patterns(input)?;
                let mut except = Vec::new();
                let mut except_columns = Vec::new();
                while input.keyword("EXCEPT") {
                    let of_columns = input.keyword("COLUMNS");
                    let patterns = parse_patterns(input)?;
                    match of_columns {
                        true => except_columns.extend(patterns),
                        false => except.extend(patterns),
                    }
                }
                Ok(Self::MySql {
                    connection,
                    tables,
                    except,
                    except_columns,
                    include: parse_include(input, Input::label)?,
                })
            }
            "KAFKA" => {
                let connection = input.identifier()?;
                input.expect_keyword("TOPICS")?;
                Ok(Self::Kafka {
                    connection,
                    topics: parse_patterns(input)?,
                    except: parse_except(input)?,
                    format: FormatClause::parse(input)?,
                    columns: SourceColumn::parse_clause(input)?,
                    include: parse_include(input, IncludedField::parse)?,
                })
            }
            _ => Ok(Self::Mart {
                name: input.qualified_name()?,
            }),
        }
    }
}

/// `('a', 'b')`.
fn parse_patterns(input: &mut Input) -> Result<Vec<String>, ParseError> {
    input.parenthesized(|input| input.list(Input::string))
}

/// `INCLUDE (field, ...)` if it comes next.
fn parse_include<'a, T>(
    input: &mut Input<'a>,
    parse: impl Fn(&mut Input<'a>) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    if input.keyword("INCLUDE") {
        input.parenthesized(|input| input.list(&parse))
    } else {
        Ok(Vec::new())
    }
}

impl IncludedField {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        if !input.keyword("HEADER") {
            return input.label().map(Self::Named);
        }
        let header = input.string()?;
        input.expect_keyword("AS")?;
        let column = input.identifier()?;
        Ok(Self::Header { header, column })
    }
}

impl fmt::Display for IncludedField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => formatter.write_str(&quote_identifier(name)),
            Self::Header { header, column } => write!(
                formatter,
                "header {} AS {}",
                quote_literal(header),
                quote_identifier(column)
            ),
        }
    }
}

/// `EXCEPT ('a', 'b')` if it comes next.
fn parse_except(input: &mut Input) -> Result<Vec<String>, ParseError> {
    if input.keyword("EXCEPT") {
        parse_patterns(input)
    } else {
        Ok(Vec::new())
    }
}

impl fmt::Display for FormatClause {
    /// Its canonical text, as in `SHOW CREATE PIPELINE`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(format_text(Some(self)).trim())
    }
}

impl FormatClause {
    /// `FORMAT name [(...)]` if it comes next.
    pub(crate) fn parse(input: &mut Input) -> Result<Option<Self>, ParseError> {
        if !input.keyword("FORMAT") {
            return Ok(None);
        }
        let name = input.label()?.to_ascii_uppercase();
        let options = if input.peek_symbol(&Token::LParen) {
            parse_options(input)?
        } else {
            Vec::new()
        };
        Ok(Some(Self { name, options }))
    }
}

impl SourceColumn {
    /// `COLUMNS (name type [NOT NULL], ...)` if it comes next.
    fn parse_clause(input: &mut Input) -> Result<Vec<Self>, ParseError> {
        if !input.keyword("COLUMNS") {
            return Ok(Vec::new());
        }
        input.parenthesized(|input| input.list(Self::parse))
    }

    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        let column_type = input.column_type()?;
        let not_null = input.keywords(&["NOT", "NULL"]);
        if !not_null {
            input.keyword("NULL");
        }
        Ok(Self {
            name,
            column_type,
            not_null,
        })
    }
}

impl Into {
    /// Stands after `INTO`.
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name_follows = matches!(input.peek_nth(1).token, Token::Word(_));
        if name_follows && input.keyword("SCHEMA") {
            let name = input.identifier()?;
            let by = match input.keyword("BY") {
                true => Some(input.identifier()?),
                false => None,
            };
            return Ok(Self::Schema { name, by });
        }
        if TopicTarget::is_next(input) {
            return TopicTarget::parse(input).map(Self::Topic);
        }
        if name_follows && input.keyword("REDSHIFT") {
            let connection = input.identifier()?;
            let schema = if input.keyword("SCHEMA") {
                Some(input.identifier()?)
            } else {
                None
            };
            return Ok(Self::Redshift { connection, schema });
        }
        let name = input.qualified_name()?;
        let key = if input.keyword("KEY") {
            input.parenthesized_identifiers()?
        } else {
            Vec::new()
        };
        let sequence_by = if input.keywords(&["SEQUENCE", "BY"]) {
            Some(input.identifier()?)
        } else {
            None
        };
        let mut stored_as = None;
        if input.keywords(&["STORED", "AS"]) {
            input.expect_keywords(&["SCD", "TYPE"])?;
            stored_as = match input.peek().token {
                Token::Number(ref number, _) if number == "1" => Some(StoredAs::ScdType1),
                Token::Number(ref number, _) if number == "2" => Some(StoredAs::ScdType2),
                _ => return Err(input.unexpected()),
            };
            input.advance();
        }
        Ok(Self::Table {
            name,
            key,
            sequence_by,
            stored_as,
        })
    }
}

impl Expectation {
    /// Stands after `EXPECT`.
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        input.expect_keyword("CHECK")?;
        let check = input.parenthesized_expression()?;
        input.expect_keywords(&["ON", "VIOLATION"])?;
        let on_violation = match input.expect_one_of(&["WARN", "DROP", "QUARANTINE", "FAIL"])? {
            "WARN" => OnViolation::Warn,
            "DROP" => OnViolation::Drop,
            "QUARANTINE" => OnViolation::Quarantine,
            _ => OnViolation::Fail,
        };
        Ok(Self {
            name,
            check,
            on_violation,
        })
    }
}

impl OnViolation {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "WARN",
            Self::Drop => "DROP",
            Self::Quarantine => "QUARANTINE",
            Self::Fail => "FAIL",
        }
    }
}

impl OnSchemaChange {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        if input.keywords(&["ADD", "COLUMNS"]) {
            return Ok(Self::AddColumns);
        }
        match input.expect_one_of(&["RESCUE", "FAIL"])? {
            "RESCUE" => Ok(Self::Rescue),
            _ => Ok(Self::Fail),
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddColumns => "ADD COLUMNS",
            Self::Rescue => "RESCUE",
            Self::Fail => "FAIL",
        }
    }
}

impl OnChangedFile {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        match input.expect_one_of(&["RELOAD", "IGNORE", "FAIL"])? {
            "RELOAD" => Ok(Self::Reload),
            "IGNORE" => Ok(Self::Ignore),
            _ => Ok(Self::Fail),
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "RELOAD",
            Self::Ignore => "IGNORE",
            Self::Fail => "FAIL",
        }
    }
}

impl OnError {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        if input.keywords(&["DEAD", "LETTER"]) {
            return Ok(Self::DeadLetter);
        }
        match input.expect_one_of(&["CONTINUE", "STOP"])? {
            "CONTINUE" => Ok(Self::Continue),
            _ => Ok(Self::Stop),
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "CONTINUE",
            Self::Stop => "STOP",
            Self::DeadLetter => "DEAD LETTER",
        }
    }
}

impl fmt::Display for CreatePipeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "CREATE {}PIPELINE {}{}",
            when(self.or_replace, "OR REPLACE "),
            when(self.if_not_exists, "IF NOT EXISTS "),
            quote_identifier(&self.name)
        )?;
        if self.source != PipelineSource::Query {
            write!(formatter, "\n  FROM {}", self.source)?;
        }
        write!(formatter, "\n  INTO {}", self.into)?;
        if let Some(query) = &self.query {
            write!(formatter, "\n  AS {}", text(query.as_ref()))?;
        }
        for TableQuery { tables, query } in &self.queries {
            let (tables, query) = (literals(tables), text(query.as_ref()));
            write!(formatter, "\n  FOR ({tables}) AS {query}")?;
        }
        for expectation in &self.expectations {
            write!(formatter, "\n  {expectation}")?;
        }
        if let Some(on_schema_change) = self.on_schema_change {
            write!(
                formatter,
                "\n  ON SCHEMA CHANGE {}",
                on_schema_change.as_str()
            )?;
        }
        if let Some(on_changed_file) = self.on_changed_file {
            write!(
                formatter,
                "\n  ON CHANGED FILE {}",
                on_changed_file.as_str()
            )?;
        }
        if let Some(on_error) = self.on_error {
            write!(formatter, "\n  ON ERROR {}", on_error.as_str())?;
        }
        if let Some(schedule) = &self.schedule {
            write!(formatter, "\n  SCHEDULE {schedule}")?;
        }
        if !self.options.is_empty() {
            write!(formatter, "\n {}", with_options(&self.options))?;
        }
        Ok(())
    }
}

impl fmt::Display for PipelineSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files {
                connection,
                patterns,
                format,
                columns,
            } => write!(
                formatter,
                "FILES {} {}{}{}",
                quote_identifier(connection),
                literals(patterns),
                format_text(format.as_ref()),
                columns_text(columns)
            ),
            Self::Table { name, changes } => {
                write!(formatter, "TABLE {name}{}", when(*changes, " CHANGES"))
            }
            Self::Query => Ok(()),
            Self::MySql {
                connection,
                tables,
                except,
                except_columns,
                include,
            } => {
                write!(
                    formatter,
                    "MYSQL {} TABLES ({}){}",
                    quote_identifier(connection),
                    literals(tables),
                    except_text(except)
                )?;
                if !except_columns.is_empty() {
                    write!(formatter, " EXCEPT COLUMNS ({})", literals(except_columns))?;
                }
                formatter.write_str(&include_text(include))
            }
            Self::Kafka {
                connection,
                topics,
                except,
                format,
                columns,
                include,
            } => {
                write!(
                    formatter,
                    "KAFKA {} TOPICS ({}){}{}{}",
                    quote_identifier(connection),
                    literals(topics),
                    except_text(except),
                    format_text(format.as_ref()),
                    columns_text(columns)
                )?;
                match include.as_slice() {
                    [] => Ok(()),
                    fields => write!(formatter, " INCLUDE ({})", displayed(fields)),
                }
            }
            Self::Mart { name } => write!(formatter, "MART {name}"),
        }
    }
}

fn literals(texts: &[String]) -> String {
    separated(texts, |text| quote_literal(text))
}

fn except_text(patterns: &[String]) -> String {
    if patterns.is_empty() {
        String::new()
    } else {
        format!(" EXCEPT ({})", literals(patterns))
    }
}

fn include_text(fields: &[String]) -> String {
    match fields {
        [] => String::new(),
        fields => format!(" INCLUDE ({})", identifiers(fields)),
    }
}

fn format_text(format: Option<&FormatClause>) -> String {
    let Some(FormatClause { name, options }) = format else {
        return String::new();
    };
    let name = bare_word(name);
    if options.is_empty() {
        format!(" FORMAT {name}")
    } else {
        format!(" FORMAT {name} ({})", displayed(options))
    }
}

fn columns_text(columns: &[SourceColumn]) -> String {
    if columns.is_empty() {
        String::new()
    } else {
        format!(" COLUMNS ({})", displayed(columns))
    }
}

impl fmt::Display for SourceColumn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {}{}",
            quote_identifier(&self.name),
            self.column_type.sql_name(),
            when(self.not_null, " NOT NULL")
        )
    }
}

impl fmt::Display for Into {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema { name, by } => {
                write!(formatter, "SCHEMA {}", quote_identifier(name))?;
                match by {
                    Some(by) => write!(formatter, " BY {}", quote_identifier(by)),
                    None => Ok(()),
                }
            }
            Self::Topic(topic) => write!(formatter, "{topic}"),
            Self::Redshift { connection, schema } => {
                write!(formatter, "REDSHIFT {}", quote_identifier(connection))?;
                match schema {
                    Some(schema) => write!(formatter, " SCHEMA {}", quote_identifier(schema)),
                    None => Ok(()),
                }
            }
            Self::Table {
                name,
                key,
                sequence_by,
                stored_as,
            } => {
                write!(formatter, "{name}")?;
                if !key.is_empty() {
                    write!(formatter, " KEY ({})", identifiers(key))?;
                }
                if let Some(column) = sequence_by {
                    write!(formatter, " SEQUENCE BY {}", quote_identifier(column))?;
                }
                match stored_as {
                    Some(StoredAs::ScdType1) => formatter.write_str(" STORED AS SCD TYPE 1"),
                    Some(StoredAs::ScdType2) => formatter.write_str(" STORED AS SCD TYPE 2"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "EXPECT {} CHECK ({}) ON VIOLATION {}",
            quote_identifier(&self.name),
            text(&self.check),
            self.on_violation.as_str()
        )
    }
}
