//! What the statement of a pipeline FROM TABLE INTO KAFKA asks for, checked and resolved.
//!
//! Options of `WITH (...)`, besides those of [`super::topic`]:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `start` | `'snapshot'` | where the first run begins: `'snapshot'` with the rows there are, `'latest'` with the changes from then on |
//! | `deletes` | `'tombstone'` with a key, else `'message'` | what tells that a row went: a message without a payload, or one with the row and `_op` |
//! | `delivery_timeout` | `'4 s'` | at most that |
//! | `target_lag` | `'1 s'` | how often the table is looked at for new versions |

use std::sync::Arc;
use std::time::Duration;

use boathouse_catalog::definitions::{PipelineDefinition, TableDefinition};
use boathouse_connectors::kafka::{KafkaCluster, WriterOptions};
use boathouse_sql::ast;
use boathouse_sql::statement::{CreatePipeline, Into as Target, PipelineSource, TopicTarget};

use super::super::PlannedPipeline;
use super::super::context::{OpenedConnection, query_context};
use super::super::plan::statement_of;
use super::changes::Selection;
use super::hold::DELIVERY_MAX;
use super::topic::{open_cluster, options_of, writer_options};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::LakeTable;
use crate::query::{self, QueryContext};

/// A pipeline from a table into a topic, ready to run.
pub(super) struct PublishPlan {
    pub name: String,
    pub context: QueryContext,
    pub definition: Arc<TableDefinition>,
    pub table: Arc<LakeTable>,
    /// `schema.table`.
    pub table_name: String,
    /// What the connection was when the cluster was resolved.
    connection: Option<OpenedConnection>,
    pub cluster: Arc<KafkaCluster>,
    pub target: TopicTarget,
    pub selection: Selection,
    pub options: PublishOptions,
}

/// The knobs of `WITH (...)`.
#[derive(Debug, Clone)]
pub(in crate::ingest) struct PublishOptions {
    /// Whether the first run begins with the rows there are.
    pub snapshot: bool,
    /// `None` where the key decides.
    tombstones: Option<bool>,
    pub target_lag: Duration,
    pub writer: WriterOptions,
}

impl PublishPlan {
    /// Resolves a stored pipeline with its owner's rights.
    pub async fn open(
        engine: &Arc<Engine>,
        pipeline: &PipelineDefinition,
    ) -> Result<Self, SqlError> {
        let snapshot = engine.catalog.refresh().await?;
        let context = query_context(engine, snapshot, pipeline.owner)?;
        Self::resolve(context, &statement_of(pipeline)?).await
    }

    async fn resolve(context: QueryContext, statement: &CreatePipeline) -> Result<Self, SqlError> {
        let (PipelineSource::Table { name, .. }, Target::Topic(target)) =
            (&statement.source, &statement.into)
        else {
            return Err(SqlError::internal(
                "the pipeline is not from a table into a topic",
            ));
        };
        refuse_clauses(statement)?;
        let options = parse_options(statement)?;
        let definition = query::readable_table(&context, name)?;
        let schema = context.snapshot.schema_by_id(definition.schema);
        let schema = schema.map(|schema| schema.name.clone()).unwrap_or_default();
        let table = context.engine.lake.table(&definition).await?;
        let connection = OpenedConnection::of(&context.snapshot, &target.connection);
        let cluster = open_cluster(&context, target).await?;
        let query = match &statement.query {
            Some(query) => query.clone(),
            None => boathouse_sql::parse_query("SELECT * FROM source")?,
        };
        let newest = table.snapshot(None).await?;
        let primary_key = definition.primary_key.as_ref();
        let primary_key = primary_key.map(|key| key.columns.as_slice());
        let selection = Selection::plan(
            &context,
            &query,
            newest.schema(),
            (&target.key, primary_key.unwrap_or_default()),
        )
        .await?;
        if options.tombstones == Some(true) && selection.key.is_empty() {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "deletes = 'tombstone' needs messages with a key",
            )
            .hint("INTO KAFKA connection TOPIC 'name' KEY (column, ...)"));
        }
        Ok(Self {
            name: statement.name.clone(),
            table_name: format!("{schema}.{}", definition.name),
            context,
            definition,
            table,
            connection,
            cluster,
            target: target.clone(),
            selection,
            options,
        })
    }

    /// Whether the connection, and the secrets it names, still are what they were.
    pub fn is_connected_as_told(&self) -> bool {
        let snapshot = self.context.engine.catalog.snapshot();
        let connection = self.connection.as_ref();
        connection.is_some_and(|was| was.is_as_told(&snapshot))
    }

    /// Whether a row that goes is a message without a payload.
    pub fn has_tombstones(&self) -> bool {
        let by_key = !self.selection.key.is_empty();
        self.options.tombstones.unwrap_or(by_key)
    }
}

/// Whether a pipeline's changes go into a topic.
pub(in crate::ingest) fn is_into_topic(statement: &CreatePipeline) -> bool {
    matches!(
        (&statement.source, &statement.into),
        (PipelineSource::Table { .. }, Target::Topic(_))
    )
}

/// Refuses what pipelines into a topic have not: rows to be looked at beforehand, or set aside.
pub(in crate::ingest) fn refuse_into_topic(
    pipeline: &PipelineDefinition,
    statement: &str,
) -> Result<(), SqlError> {
    match is_into_topic(&statement_of(pipeline)?) {
        true => Err(SqlError::unsupported(format!(
            "{statement} of a pipeline INTO KAFKA"
        ))),
        false => Ok(()),
    }
}

/// Checks a `CREATE PIPELINE ... FROM TABLE ... INTO KAFKA` as far as can be told without the brokers.
pub(in crate::ingest) async fn check(
    context: &QueryContext,
    statement: &CreatePipeline,
) -> Result<PlannedPipeline, SqlError> {
    PublishPlan::resolve(context.clone(), statement).await?;
    Ok(PlannedPipeline { columns: None })
}

fn refuse_clauses(statement: &CreatePipeline) -> Result<(), SqlError> {
    let clause = if !statement.queries.is_empty() {
        "FOR (...) AS SELECT"
    } else if !statement.expectations.is_empty() {
        "EXPECT"
    } else if statement.on_schema_change.is_some() {
        "ON SCHEMA CHANGE"
    } else if statement.on_changed_file.is_some() {
        "ON CHANGED FILE"
    } else if statement.on_error.is_some() {
        "ON ERROR"
    } else {
        return Ok(());
    };
    Err(SqlError::unsupported(format!(
        "{clause} of a pipeline INTO KAFKA"
    )))
}

/// Checks the options alone.
pub(in crate::ingest) fn parse_options(
    statement: &CreatePipeline,
) -> Result<PublishOptions, SqlError> {
    let mut options = options_of("a pipeline INTO KAFKA", &statement.options)?;
    let start = options.take_choice("start", &["snapshot", "latest"])?;
    let deletes = options.take_choice("deletes", &["tombstone", "message"])?;
    let target_lag = options.take_duration("target_lag")?;
    let mut writer = writer_options(&mut options)?;
    writer.timeout = writer.timeout.min(DELIVERY_MAX);
    let parsed = PublishOptions {
        snapshot: start != Some("latest"),
        tombstones: deletes.map(|choice| choice == "tombstone"),
        target_lag: target_lag
            .unwrap_or(Duration::from_secs(1))
            .clamp(Duration::from_millis(50), Duration::from_secs(3600)),
        writer,
    };
    options.finish()?;
    Ok(parsed)
}

/// What is asked of every query whose rows are published.
pub(super) fn plain_select(query: &ast::Query) -> Option<&ast::Select> {
    let plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none();
    match query.body.as_ref() {
        ast::SetExpr::Select(select) if plain => Some(select),
        _ => None,
    }
}
