//! What a pipeline's statement asks for, checked and resolved: source, format, policies, target.
//!
//! Options of `WITH (...)`:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `settle` | `'2 s'` | a file younger than this must keep its size for that long before it is read |
//! | `batch_files` | 500 | files of one commit at most |
//! | `batch_bytes` | 8589934592 | bytes of source files of one commit at most (one larger file is a commit of its own) |
//! | `move_to` | | folder a file is moved to once its rows are committed; what is below it is never loaded |
//! | `sample_files` | 8 | files looked at before the first load to infer the columns |
//!
//! A file that was loaded and has changed follows `ON CHANGED FILE`: `RELOAD` (the default) replaces
//! the rows of that file in one commit, `IGNORE` leaves them, `FAIL` reports the file. For `RELOAD`
//! no data file holds rows of two source files. With `move_to` a path is free again after the move,
//! so a file found there is a new one; nothing is replaced. A query that is not row by row (it
//! aggregates, sorts or joins) has no rows of one file to replace; such a pipeline defaults to `FAIL`
//! and refuses `RELOAD`.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_connectors::{
    FileFormat, FileStore, InferenceLimits, OptionValue as ConnectorOption, Options, format,
};
use boathouse_sql::statement::{
    CreatePipeline, FormatClause, Into as Target, OnError, PipelineSource, Statement,
};
use boathouse_sql::{OptionValue, SqlOption};

use super::context::{open_connection, query_context};
use super::row_plan::{Metadata, RowPlan};
use super::schema::SourceSchema;
use super::transform::Transform;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::query::QueryContext;

/// What [`plan_pipeline`] found.
#[derive(Debug, Clone)]
pub struct PlannedPipeline {
    /// The columns the target gets; `None` while no file tells the source's columns.
    pub columns: Option<arrow::datatypes::SchemaRef>,
}

/// The knobs of `WITH (...)`.
#[derive(Debug, Clone)]
pub(super) struct PipelineOptions {
    pub settle: Duration,
    pub batch_files: usize,
    pub batch_bytes: u64,
    pub move_to: Option<String>,
    pub sample_files: usize,
}

/// A pipeline from files, ready to run.
pub(super) struct PipelinePlan {
    pub rows: RowPlan,
    pub store: Arc<dyn FileStore>,
    pub patterns: Vec<String>,
    pub format: Arc<dyn FileFormat>,
    pub on_error: OnError,
    pub options: PipelineOptions,
}

/// What is asked of files is asked in addition to what is asked of their rows.
impl Deref for PipelinePlan {
    type Target = RowPlan;

    fn deref(&self) -> &RowPlan {
        &self.rows
    }
}

impl PipelinePlan {
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
        let PipelineSource::Files {
            connection,
            patterns,
            format,
            columns,
        } = &statement.source
        else {
            return Err(unsupported_source(&statement.source));
        };
        if let Target::Table {
            key,
            sequence_by,
            stored_as,
            ..
        } = &statement.into
            && (!key.is_empty() || sequence_by.is_some() || stored_as.is_some())
        {
            return Err(SqlError::unsupported(
                "a keyed target of a pipeline FROM FILES",
            ));
        }
        let on_error = statement.on_error.unwrap_or(OnError::Continue);
        if on_error == OnError::DeadLetter {
            return Err(
                SqlError::unsupported("ON ERROR DEAD LETTER of a pipeline FROM FILES")
                    .hint("a bad file fails alone and is named in system.pipeline_errors"),
            );
        }
        let options = parse_options(&statement.options)?;
        if let Some(folder) = &options.move_to {
            refuse_circle(folder, patterns)?;
        }
        let store = open_connection(&context, connection).await?.files()?;
        let format_stamp = format.as_ref().map(ToString::to_string).unwrap_or_default();
        let (format, format_name) = open_format(format.as_ref(), patterns)?;
        // Sheets, or members of archives.
        let has_parts = format_name == "EXCEL"
            || patterns
                .iter()
                .any(|pattern| pattern.to_ascii_lowercase().contains("zip"));
        Ok(Self {
            rows: RowPlan::resolve(
                context,
                statement,
                columns,
                format_stamp,
                Metadata::OfFile { has_parts },
            )?,
            store,
            patterns: patterns.clone(),
            format,
            on_error,
            options,
        })
    }
}

/// Checks a `CREATE PIPELINE` as far as can be told now: names, rights, options, and the query
/// against the declared columns or those of files that are there.
pub async fn plan_pipeline(
    context: &QueryContext,
    statement: &CreatePipeline,
) -> Result<PlannedPipeline, SqlError> {
    match statement.source {
        PipelineSource::MySql { .. } => {
            super::capture::check(context, statement).await?;
            return Ok(PlannedPipeline { columns: None });
        }
        PipelineSource::Kafka { .. } => return super::kafka::check(context, statement).await,
        PipelineSource::Table { .. } if super::publish::is_into_topic(statement) => {
            return super::publish::check(context, statement).await;
        }
        _ => {}
    }
    let plan = PipelinePlan::resolve(context.clone(), statement).await?;
    let source = match &plan.declared {
        Some(declared) => declared.clone(),
        None => infer_source(&plan, &[]).await?,
    };
    if source.is_empty() {
        return Ok(PlannedPipeline { columns: None });
    }
    let transform = Transform::plan(&plan, &source, &[]).await?;
    plan.changed_file_policy(transform.is_row_wise())?;
    super::check::Checks::plan(&plan, transform.fields(), None)?;
    Ok(PlannedPipeline {
        columns: Some(Arc::clone(transform.fields())),
    })
}

/// Checks the options of `WITH (...)` alone, for ALTER PIPELINE ... SET.
pub fn check_options(statement: &CreatePipeline) -> Result<(), SqlError> {
    match statement.source {
        PipelineSource::MySql { .. } => {
            return super::capture::parse_options(statement).map(drop);
        }
        PipelineSource::Kafka { .. } => return super::kafka::parse_options(statement).map(drop),
        PipelineSource::Table { .. } if super::publish::is_into_topic(statement) => {
            return super::publish::parse_options(statement).map(drop);
        }
        _ => {}
    }
    let options = parse_options(&statement.options)?;
    match (&options.move_to, &statement.source) {
        (Some(folder), PipelineSource::Files { patterns, .. }) => refuse_circle(folder, patterns),
        _ => Ok(()),
    }
}

/// Looks at a few files. `entries` are those to look at; empty means: list them.
pub(super) async fn infer_source(
    plan: &PipelinePlan,
    entries: &[boathouse_connectors::FileEntry],
) -> Result<SourceSchema, SqlError> {
    let listed;
    let entries = if entries.is_empty() {
        listed = plan.store.list(&plan.patterns).await?;
        &listed
    } else {
        entries
    };
    let spool = super::discover::spool(plan.engine())?;
    let mut source = SourceSchema::default();
    let mut looked_at = 0;
    for entry in entries {
        // A file that cannot be fetched or read says so when it is loaded.
        let Ok(file) = plan.store.fetch(entry, &spool).await else {
            continue;
        };
        if let Ok(found) = infer_file(plan, file).await
            && !found.is_empty()
        {
            source.join(&found);
            looked_at += 1;
        }
        if looked_at == plan.options.sample_files {
            break;
        }
    }
    Ok(source)
}

/// The columns of one file.
pub(super) async fn infer_file(
    plan: &PipelinePlan,
    file: boathouse_connectors::LocalFile,
) -> Result<SourceSchema, boathouse_connectors::FormatError> {
    let format = Arc::clone(&plan.format);
    let name = file.name.clone();
    tokio::task::spawn_blocking(move || format.infer(&file, &InferenceLimits::default()))
        .await
        .unwrap_or_else(|error| {
            Err(
                boathouse_connectors::FormatError::malformed("reading the file ended abnormally")
                    .file(name)
                    .caused_by(error),
            )
        })
        .map(|schema| SourceSchema::of(&schema))
}

/// The statement a pipeline was made with.
pub(super) fn statement_of(pipeline: &PipelineDefinition) -> Result<CreatePipeline, SqlError> {
    match boathouse_sql::parse(&pipeline.statement)?
        .into_iter()
        .next()
        .map(|one| one.statement)
    {
        Some(Statement::CreatePipeline(statement)) => Ok(*statement),
        _ => Err(SqlError::internal(format!(
            "the stored statement of pipeline \"{}\" is not one",
            pipeline.name
        ))),
    }
}

fn unsupported_source(source: &PipelineSource) -> SqlError {
    SqlError::unsupported(match source {
        PipelineSource::MySql { .. } => {
            "TEST PIPELINE or REPLAY QUARANTINE of a pipeline FROM MYSQL"
        }
        PipelineSource::Kafka { .. } => "files of a pipeline FROM KAFKA",
        PipelineSource::Mart { .. } => "a pipeline FROM MART",
        PipelineSource::Table { .. } => "a pipeline FROM TABLE",
        PipelineSource::Query | PipelineSource::Files { .. } => "a pipeline without FROM",
    })
    .hint(
        "this version runs pipelines FROM FILES, FROM MYSQL, FROM KAFKA, and FROM TABLE INTO KAFKA",
    )
}

/// The format named, or the one all patterns' extensions agree on.
fn open_format(
    clause: Option<&FormatClause>,
    patterns: &[String],
) -> Result<(Arc<dyn FileFormat>, String), SqlError> {
    let (name, options) = match clause {
        Some(clause) => (clause.name.clone(), clause.options.as_slice()),
        None => (format_of(patterns)?.to_owned(), &[][..]),
    };
    let format = format::format(&name)?;
    let values = options
        .iter()
        .map(|option| Ok((option.name.clone(), connector_option(option)?)))
        .collect::<Result<Vec<_>, SqlError>>()?;
    let mut options = Options::new(format!("format \"{}\"", format.name()), values);
    let configured = format.configure(&mut options)?;
    options.finish()?;
    Ok((configured, format.name().to_owned()))
}

fn format_of(patterns: &[String]) -> Result<&'static str, SqlError> {
    let of = |pattern: &String| {
        let plain = pattern.to_ascii_lowercase();
        let plain = plain
            .trim_end_matches(".gz")
            .trim_end_matches(".zst")
            .trim_end_matches(".zip")
            .to_owned();
        [
            (
                "EXCEL",
                &[".xls", ".xlsx", ".xlsb", ".xlsm", ".ods", "{xls,xlsx}"][..],
            ),
            ("CSV", &[".csv", ".tsv", ".txt"][..]),
            ("NDJSON", &[".ndjson", ".jsonl"][..]),
            ("JSON", &[".json"][..]),
            ("PARQUET", &[".parquet"][..]),
        ]
        .into_iter()
        .find(|(_, endings)| endings.iter().any(|ending| plain.ends_with(ending)))
        .map(|(name, _)| name)
    };
    let mut names = patterns.iter().map(of);
    let first = names.next().flatten();
    match first {
        Some(name) if names.all(|other| other == Some(name)) => Ok(name),
        _ => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "the format of the files cannot be told from the patterns",
        )
        .hint("name it: FORMAT CSV, EXCEL, JSON, NDJSON or PARQUET")),
    }
}

pub(super) fn connector_option(option: &SqlOption) -> Result<ConnectorOption, SqlError> {
    Ok(match &option.value {
        OptionValue::Boolean(value) => ConnectorOption::Boolean(*value),
        OptionValue::Number(number) => ConnectorOption::Number(number.clone()),
        OptionValue::Text(text) | OptionValue::Interval(text) => {
            ConnectorOption::Text(text.clone())
        }
        OptionValue::List(values) => {
            let parts: Option<Vec<String>> = values
                .iter()
                .map(|value| value.text().map(|text| text.replace(',', "\\,")))
                .collect();
            match parts {
                Some(parts) => ConnectorOption::Text(parts.join(",")),
                None => return Err(secret_refused(&option.name)),
            }
        }
        OptionValue::Secret(_) => return Err(secret_refused(&option.name)),
    })
}

/// A path of the connection as listings have it.
fn plain_path(path: &str) -> &str {
    path.trim_start_matches("./").trim_matches('/')
}

/// What was moved is not looked at again, so patterns below that folder would find nothing.
fn refuse_circle(folder: &str, patterns: &[String]) -> Result<(), SqlError> {
    let below = format!("{folder}/");
    let looks_below = |pattern: &&String| plain_path(pattern).starts_with(&below);
    match patterns.iter().find(looks_below) {
        None => Ok(()),
        Some(pattern) => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("option \"move_to\" names a folder that the pattern '{pattern}' looks in"),
        )
        .hint("move files to a folder beside the one they come from")),
    }
}

fn secret_refused(option: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("option \"{option}\" does not take a secret"),
    )
}

fn parse_options(options: &[SqlOption]) -> Result<PipelineOptions, SqlError> {
    let values: BTreeMap<String, ConnectorOption> = options
        .iter()
        .map(|option| Ok((option.name.clone(), connector_option(option)?)))
        .collect::<Result<_, SqlError>>()?;
    let mut options = Options::new("a pipeline FROM FILES", values);
    let parsed = PipelineOptions {
        settle: options
            .take_duration("settle")?
            .unwrap_or(Duration::from_secs(2)),
        batch_files: options.take_number("batch_files")?.unwrap_or(500).max(1),
        batch_bytes: options.take_number("batch_bytes")?.unwrap_or(8 << 30),
        move_to: options
            .take_text("move_to")?
            .map(|folder| plain_path(&folder).to_owned())
            .filter(|folder| !folder.is_empty()),
        sample_files: options.take_number("sample_files")?.unwrap_or(8).max(1),
    };
    options.finish()?;
    Ok(parsed)
}
