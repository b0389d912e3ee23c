//! What the statement of a pipeline FROM MYSQL asks for, checked and resolved.
//!
//! Options of `WITH (...)`:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `snapshot` | `'initial'` | `'initial'` reads tables as they are before their changes, `'never'` their changes only |
//! | `start` | `'now'` | where the first run begins: now, with the oldest binlog, at a place, behind transactions, at a time |
//! | `target_lag` | `'1 s'` | how long changes may wait to be committed together |
//! | `chunk_rows` | 200000 | rows of a table read at once at most |
//! | `snapshot_readers` | 2 | chunks read at once, of one table or several |
//! | `batch_rows` | 200000 | changes committed together at most, but for a larger transaction |
//! | `batch_bytes` | 134217728 | bytes of changes committed together at most, but for a larger transaction |
//! | `deletes` | `'hard'` | what becomes of rows that are deleted: `'hard'` they go, `'soft'` they stay with `_deleted`, `'history'` every change is a row |
//! | `add_column`, `drop_column`, `truncate` | `'evolve'` | what becomes of such a change at the source: `'evolve'`, `'exception'`, `'ignore'` |
//! | `rename_column`, `change_type`, `drop_table` | `'evolve'` | the same, but `'ignore'` |
//! | `zero_date` | `'null'` | what `0000-00-00` becomes: `'null'`, `'epoch'`, or `'fail'` |
//! | `invalid_text` | `'replace'` | what bytes become that are no text: `'replace'` (U+FFFD), `'null'`, or `'fail'` |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use boathouse_catalog::definitions::{ObjectKind, ObjectRef, PipelineDefinition, Privilege};
use boathouse_connectors::mysql::types::{InvalidText, ValuePolicies, ZeroDates};
use boathouse_connectors::mysql::{MySqlServer, SourceTable, Start, TableName};
use boathouse_connectors::{OptionValue as ConnectorOption, Options};
use boathouse_sql::statement::{CreatePipeline, Into as Target, PipelineSource};
use regex::Regex;

use super::super::context::{OpenedConnection, open_connection, query_context};
use super::super::plan::{connector_option, statement_of};
use super::shape::{Deletes, Shape, Shapes};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::query::QueryContext;

/// Where a table lands whose schema is not named.
const DEFAULT_SCHEMA: &str = "public";

/// A pipeline from a database, ready to run.
#[derive(Clone)]
pub(in crate::ingest) struct CapturePlan {
    pub name: String,
    pub context: QueryContext,
    pub server: Arc<MySqlServer>,
    /// What the connection was when the server was resolved.
    connection: Option<OpenedConnection>,
    pub wanted: Arc<dyn Fn(&TableName) -> bool + Send + Sync>,
    pub target_schema: String,
    /// The one table that all tables land in.
    pub one_table: Option<String>,
    pub shapes: Arc<Shapes>,
    pub options: CaptureOptions,
}

/// The knobs of `WITH (...)`.
#[derive(Debug, Clone)]
pub(in crate::ingest) struct CaptureOptions {
    pub snapshot: bool,
    /// Where the first run begins.
    pub start: Start,
    pub target_lag: Duration,
    pub chunk_rows: usize,
    pub snapshot_readers: usize,
    pub batch_rows: usize,
    pub batch_bytes: usize,
    pub deletes: Deletes,
    pub follows: Follows,
    pub policies: ValuePolicies,
}

/// What becomes of a change of the source's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    Evolve,
    /// The pipeline stops before it.
    Exception,
    Ignore,
}

/// The same, by kind of change.
#[derive(Debug, Clone, Copy)]
pub(in crate::ingest) struct Follows {
    pub(super) add_column: Follow,
    pub(super) drop_column: Follow,
    pub(super) rename_column: Follow,
    pub(super) change_type: Follow,
    pub(super) truncate: Follow,
    pub(super) drop_table: Follow,
}

impl Follows {
    pub(super) const EVOLVE: Self = Self {
        add_column: Follow::Evolve,
        drop_column: Follow::Evolve,
        rename_column: Follow::Evolve,
        change_type: Follow::Evolve,
        truncate: Follow::Evolve,
        drop_table: Follow::Evolve,
    };

    fn take(options: &mut Options) -> Result<Self, SqlError> {
        const STOPS: &[(&str, Follow)] =
            &[("evolve", Follow::Evolve), ("exception", Follow::Exception)];
        const ALL: &[(&str, Follow)] = &[STOPS[0], STOPS[1], ("ignore", Follow::Ignore)];
        Ok(Self {
            add_column: one_of(options, "add_column", ALL)?,
            drop_column: one_of(options, "drop_column", ALL)?,
            rename_column: one_of(options, "rename_column", STOPS)?,
            change_type: one_of(options, "change_type", STOPS)?,
            truncate: one_of(options, "truncate", ALL)?,
            drop_table: one_of(options, "drop_table", STOPS)?,
        })
    }
}

impl CapturePlan {
    /// Resolves a stored pipeline with its owner's rights.
    pub async fn open(
        engine: &Arc<Engine>,
        pipeline: &PipelineDefinition,
    ) -> Result<Self, SqlError> {
        let snapshot = engine.catalog.refresh().await?;
        let context = query_context(engine, snapshot, pipeline.owner)?;
        let statement = statement_of(pipeline)?;
        Self::resolve(context, &statement).await
    }

    async fn resolve(context: QueryContext, statement: &CreatePipeline) -> Result<Self, SqlError> {
        let PipelineSource::MySql {
            connection,
            tables,
            except,
            ..
        } = &statement.source
        else {
            return Err(SqlError::internal("the pipeline is not from a database"));
        };
        let (target_schema, one_table) = check_clauses(&context, statement)?;
        let options = parse_options(statement)?;
        let shapes = Shapes::of(statement, options.deletes)?;
        let wanted = patterns(tables)?;
        let unwanted = patterns(except)?;
        let server = open_connection(&context, connection).await?.mysql()?;
        Ok(Self {
            name: statement.name.clone(),
            connection: OpenedConnection::of(&context.snapshot, connection),
            context,
            server,
            wanted: Arc::new(move |name: &TableName| {
                let full = name.to_string();
                let among = |patterns: &[Regex]| patterns.iter().any(|one| one.is_match(&full));
                among(&wanted) && !among(&unwanted)
            }),
            target_schema,
            one_table,
            shapes: Arc::new(shapes),
            options,
        })
    }

    /// As what a table lands.
    pub async fn shape(
        &self,
        source: &SourceTable,
        ignored: &BTreeSet<String>,
    ) -> Result<Arc<Shape>, SqlError> {
        let shape = self.shapes.shape(&self.context, source, ignored).await?;
        Ok(Arc::new(shape))
    }

    /// Whether the connection, and the secrets it names, still are what they were.
    pub fn is_connected_as_told(&self) -> bool {
        let snapshot = self.engine().catalog.snapshot();
        let connection = self.connection.as_ref();
        connection.is_some_and(|was| was.is_as_told(&snapshot))
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.context.engine
    }
}

/// Checks a `CREATE PIPELINE ... FROM MYSQL` as far as can be told without the source.
pub(in crate::ingest) async fn check(
    context: &QueryContext,
    statement: &CreatePipeline,
) -> Result<(), SqlError> {
    CapturePlan::resolve(context.clone(), statement)
        .await
        .map(drop)
}

/// The clauses such a pipeline takes. Gives the name of the target schema, and that of the one target table.
fn check_clauses(
    context: &QueryContext,
    statement: &CreatePipeline,
) -> Result<(String, Option<String>), SqlError> {
    let refused = |clause: &str| {
        Err(SqlError::unsupported(format!(
            "{clause} of a pipeline FROM MYSQL"
        )))
    };
    if !statement.expectations.is_empty() {
        return refused("EXPECT");
    }
    if statement.on_changed_file.is_some() {
        return refused("ON CHANGED FILE");
    }
    if statement.on_error.is_some() {
        return refused("ON ERROR");
    }
    if statement.on_schema_change.is_some() {
        return refused("ON SCHEMA CHANGE");
    }
    let (name, one_table) = match &statement.into {
        Target::Schema { by: Some(_), .. } => return refused("INTO SCHEMA ... BY"),
        Target::Schema { name, by: None } => (name.clone(), None),
        Target::Table {
            name,
            key,
            sequence_by: None,
            stored_as: None,
        } if key.is_empty() => {
            let schema = name.schema.clone();
            let schema = schema.unwrap_or_else(|| DEFAULT_SCHEMA.to_owned());
            (schema, Some(name.name.clone()))
        }
        Target::Table { .. } => return refused("KEY, SEQUENCE BY and STORED AS"),
        Target::Topic(_) => return refused("INTO KAFKA"),
        Target::Redshift { .. } => return refused("INTO REDSHIFT"),
    };
    let name = &name;
    let Some(schema) = context.snapshot.schema(name) else {
        return Err(SqlError::new(
            SqlState::INVALID_SCHEMA_NAME,
            format!("schema \"{name}\" does not exist"),
        )
        .hint(format!("CREATE SCHEMA {name}")));
    };
    let object = ObjectRef::new(ObjectKind::Schema, schema.id);
    let role = context.session.role;
    if !context
        .snapshot
        .has_privilege(role, object, Privilege::Create)
    {
        return Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for schema {name}"),
        ));
    }
    Ok((name.clone(), one_table))
}

/// Patterns of LIKE over `database.table`.
pub(super) fn patterns(texts: &[String]) -> Result<Vec<Regex>, SqlError> {
    texts.iter().map(|text| pattern(text)).collect()
}

fn pattern(text: &str) -> Result<Regex, SqlError> {
    let wrong = |what: &str| {
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("the pattern of tables '{text}' {what}"),
        )
        .hint("patterns are those of LIKE, over database.table: 'shop.%', 'shop.order_items'")
    };
    if !text.contains('.') && !text.contains('%') {
        return Err(wrong("names no database"));
    }
    let mut expression = String::from("(?s)^");
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '%' => expression.push_str(".*"),
            '_' => expression.push('.'),
            '\\' => match characters.next() {
                Some(escaped) => {
                    expression.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4])))
                }
                None => return Err(wrong("ends with an escape")),
            },
            other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push('$');
    Regex::new(&expression).map_err(|error| wrong("cannot be used").caused_by(error))
}

/// Checks the options alone.
pub(in crate::ingest) fn parse_options(
    statement: &CreatePipeline,
) -> Result<CaptureOptions, SqlError> {
    let values: BTreeMap<String, ConnectorOption> = statement
        .options
        .iter()
        .map(|option| Ok((option.name.clone(), connector_option(option)?)))
        .collect::<Result<_, SqlError>>()?;
    let mut options = Options::new("a pipeline FROM MYSQL", values);
    let snapshot = one_of(
        &mut options,
        "snapshot",
        &[("initial", true), ("never", false)],
    )?;
    let start = start_of(&mut options, snapshot)?;
    let zero_dates = one_of(
        &mut options,
        "zero_date",
        &[
            ("null", ZeroDates::Null),
            ("epoch", ZeroDates::Epoch),
            ("fail", ZeroDates::Fail),
        ],
    )?;
    let invalid_text = one_of(
        &mut options,
        "invalid_text",
        &[
            ("replace", InvalidText::Replace),
            ("null", InvalidText::Null),
            ("fail", InvalidText::Fail),
        ],
    )?;
    let deletes = one_of(
        &mut options,
        "deletes",
        &[
            ("hard", Deletes::Hard),
            ("soft", Deletes::Soft),
            ("history", Deletes::History),
        ],
    )?;
    let follows = Follows::take(&mut options)?;
    let parsed = CaptureOptions {
        snapshot,
        start,
        deletes,
        follows,
        target_lag: options
            .take_duration("target_lag")?
            .unwrap_or(Duration::from_secs(1)),
        chunk_rows: options.take_number("chunk_rows")?.unwrap_or(200_000).max(1),
        snapshot_readers: options
            .take_number("snapshot_readers")?
            .unwrap_or(2)
            .clamp(1, 16),
        batch_rows: options.take_number("batch_rows")?.unwrap_or(200_000).max(1),
        batch_bytes: options
            .take_number("batch_bytes")?
            .unwrap_or(128 << 20)
            .max(1),
        policies: ValuePolicies {
            zero_dates,
            invalid_text,
        },
    };
    options.finish()?;
    Ok(parsed)
}

/// Rows that are read as they are now have the changes of before already, so that these are for a pipeline that reads
/// none.
fn start_of(options: &mut Options, reads_rows: bool) -> Result<Start, SqlError> {
    let Some(text) = options.take_text("start")? else {
        return Ok(Start::Now);
    };
    let start = Start::parse(&text).ok_or_else(|| {
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("option \"start\" cannot be \"{text}\""),
        )
        .hint(
            "it is 'now', 'earliest', a place such as 'binlog.000012:4', the transactions that had been done such as \
             'uuid:1-77' or, of MariaDB, '0-1-270', or a time such as '2024-05-17 08:00:00+07'",
        )
    })?;
    if reads_rows && start != Start::Now {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("option \"start\" can be \"{text}\" only with snapshot = 'never'"),
        )
        .hint("a table whose rows are read as they are now has no use for changes of before"));
    }
    Ok(start)
}

/// An option that is one of some words; the first is what it is when it is not given.
fn one_of<T: Copy>(
    options: &mut Options,
    name: &'static str,
    words: &[(&str, T)],
) -> Result<T, SqlError> {
    let given = options.take_text(name)?;
    let found = match &given {
        None => words.first(),
        Some(given) => words.iter().find(|(word, _)| word == given),
    };
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!(
                "option \"{name}\" cannot be \"{}\"",
                given.unwrap_or_default()
            ),
        )
        .hint(format!("it is one of {}", known.join(", ")))
    })
}
