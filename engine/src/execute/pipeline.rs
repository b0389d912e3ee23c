//! `CREATE`, `ALTER`, `DROP`, `RUN` and `TEST PIPELINE`, `REPLAY QUARANTINE`.
//!
//! The catalog keeps the statement's canonical text; how a pipeline runs is [`crate::ingest`]'s
//! affair. A pipeline runs with its owner's rights.

use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::{
    ObjectId, ObjectKind, ObjectRef, PipelineDefinition, Privilege,
};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::Statement;
use boathouse_sql::statement::{
    AlterPipeline, AlterPipelineAction, CreatePipeline, DropPipeline, PipelineSource,
    ReplayQuarantine, RunPipeline, TestPipeline, VerifyPipeline,
};

use super::done;
use super::resolve::undefined;
use super::rows::{self, Column};
use crate::error::{SqlError, SqlState};
use crate::ingest::{self, RunSummary, Trigger, Verdict};
use crate::outcome::{Outcome, RowsTag};
use crate::session::Session;

/// Rows `TEST PIPELINE` shows when it names no limit.
const TEST_ROWS: u64 = 20;

pub(super) async fn create(
    session: &mut Session,
    create: &CreatePipeline,
) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    let existing = snapshot.pipeline(&create.name).cloned();
    if let Some(existing) = &existing {
        let message = format!("pipeline \"{}\" already exists", create.name);
        if create.if_not_exists {
            session.state.notice(
                "NOTICE",
                SqlState::DUPLICATE_OBJECT,
                format!("{message}, skipping"),
            );
            return done("CREATE PIPELINE");
        }
        if !create.or_replace {
            return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, message)
                .hint("CREATE OR REPLACE PIPELINE changes it and keeps what it has loaded"));
        }
        session
            .state
            .require_owner(&snapshot, existing.owner, "pipeline", &create.name)?;
    }
    if let PipelineSource::Files { connection, .. } | PipelineSource::MySql { connection, .. } =
        &create.source
    {
        let connection = session.state.connection(&snapshot, connection)?;
        session.state.require(
            &snapshot,
            ObjectRef::new(ObjectKind::Connection, connection.id),
            Privilege::Usage,
            "connection",
            &connection.name,
        )?;
    }
    let context = session.state.query_context(&session.engine);
    ingest::plan_pipeline(&context, create).await?;

    let canonical = CreatePipeline {
        or_replace: false,
        if_not_exists: false,
        ..create.clone()
    };
    let statement = canonical.to_string();
    match existing {
        Some(existing) => {
            let mut changed = (*existing).clone();
            changed.statement = statement;
            session
                .catalog("CREATE PIPELINE")?
                .replace_pipeline(changed)?;
        }
        None => {
            let definition = PipelineDefinition {
                id: ObjectId::default(),
                name: create.name.clone(),
                owner: session.state.role.id,
                statement,
                paused: false,
                options: Default::default(),
                comment: None,
                created_at: chrono::Utc::now(),
            };
            session
                .catalog("CREATE PIPELINE")?
                .create_pipeline(definition)?;
        }
    }
    done("CREATE PIPELINE")
}

/// The statement a pipeline was made with.
pub(crate) fn statement_of(definition: &PipelineDefinition) -> Result<CreatePipeline, SqlError> {
    let parsed = boathouse_sql::parse(&definition.statement)?
        .into_iter()
        .next();
    match parsed.map(|parsed| parsed.statement) {
        Some(Statement::CreatePipeline(create)) => Ok(*create),
        _ => Err(SqlError::internal(format!(
            "the stored statement of pipeline \"{}\" is not one",
            definition.name
        ))),
    }
}

pub(super) fn alter(session: &mut Session, alter: &AlterPipeline) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    let pipeline = session.state.pipeline(&snapshot, &alter.name)?;
    session
        .state
        .require_owner(&snapshot, pipeline.owner, "pipeline", &alter.name)?;
    let mut changed = (*pipeline).clone();
    match &alter.action {
        AlterPipelineAction::Pause => changed.paused = true,
        AlterPipelineAction::Resume => changed.paused = false,
        AlterPipelineAction::RenameTo(name) => {
            let mut statement = statement_of(&pipeline)?;
            statement.name.clone_from(name);
            changed.statement = statement.to_string();
            changed.name.clone_from(name);
        }
        AlterPipelineAction::OwnerTo(owner) => {
            changed.owner = session.state.new_owner(&snapshot, owner)?;
        }
        AlterPipelineAction::Schedule(schedule) => {
            let mut statement = statement_of(&pipeline)?;
            statement.schedule = Some(schedule.clone());
            changed.statement = statement.to_string();
        }
        AlterPipelineAction::SetOptions(options) => {
            let mut statement = statement_of(&pipeline)?;
            for option in options {
                statement
                    .options
                    .retain(|earlier| earlier.name != option.name);
                statement.options.push(option.clone());
            }
            ingest::check_options(&statement)?;
            changed.statement = statement.to_string();
        }
        AlterPipelineAction::ResetOptions(names) => {
            let mut statement = statement_of(&pipeline)?;
            statement
                .options
                .retain(|option| !names.contains(&option.name));
            changed.statement = statement.to_string();
        }
    }
    session
        .catalog("ALTER PIPELINE")?
        .replace_pipeline(changed)?;
    done("ALTER PIPELINE")
}

pub(super) fn drop(session: &mut Session, drop: &DropPipeline) -> Result<Outcome, SqlError> {
    for name in &drop.names {
        let snapshot = session.snapshot();
        let Some(pipeline) = snapshot.pipeline(name).cloned() else {
            if drop.if_exists {
                session.state.notice(
                    "NOTICE",
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("pipeline \"{name}\" does not exist, skipping"),
                );
                continue;
            }
            return Err(undefined("pipeline", name));
        };
        session
            .state
            .require_owner(&snapshot, pipeline.owner, "pipeline", name)?;
        session
            .catalog("DROP PIPELINE")?
            .drop_pipeline(pipeline.id)?;
    }
    done("DROP PIPELINE")
}

/// The pipeline, when the role may run it.
fn runnable(session: &Session, name: &str) -> Result<std::sync::Arc<PipelineDefinition>, SqlError> {
    let snapshot = session.snapshot();
    let pipeline = session.state.pipeline(&snapshot, name)?;
    session.state.require(
        &snapshot,
        ObjectRef::new(ObjectKind::Pipeline, pipeline.id),
        Privilege::Execute,
        "pipeline",
        name,
    )?;
    Ok(pipeline)
}

/// A run commits by itself, so it cannot be part of a transaction. What the same query string did
/// before it is committed first: the run has to see it.
pub(super) async fn leave_block(session: &mut Session, statement: &str) -> Result<(), SqlError> {
    if session.transaction_status() == crate::session::TransactionStatus::Idle {
        let implicit = session.state.work().is_some();
        super::end_implicit(session, true).await?;
        if implicit {
            session.state.begin_implicit();
        }
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::ACTIVE_SQL_TRANSACTION,
        format!("{statement} cannot run inside a transaction block"),
    ))
}

pub(super) fn run_fields() -> SchemaRef {
    rows::fields(&[
        ("run", ColumnType::BigInt),
        ("state", ColumnType::Text),
        ("files", ColumnType::BigInt),
        ("rows_in", ColumnType::BigInt),
        ("rows_out", ColumnType::BigInt),
        ("rows_dropped", ColumnType::BigInt),
        ("rows_quarantined", ColumnType::BigInt),
        ("errors", ColumnType::BigInt),
    ])
}

fn summary(summary: &RunSummary, verb: &'static str) -> Result<Outcome, SqlError> {
    let count = |number: i64| Column::Integer(vec![Some(number)]);
    let columns = vec![
        count(summary.run.0),
        Column::Text(vec![Some(summary.state.name().to_owned())]),
        count(summary.counters.files_done),
        count(summary.counters.rows_in),
        count(summary.counters.rows_out),
        count(summary.counters.rows_dropped),
        count(summary.counters.rows_quarantined),
        count(summary.error_count),
    ];
    rows::outcome(run_fields(), columns, RowsTag::Verb(verb))
}

pub(super) async fn run(session: &mut Session, run: &RunPipeline) -> Result<Outcome, SqlError> {
    leave_block(session, "RUN PIPELINE").await?;
    let pipeline = runnable(session, &run.name)?;
    let trigger = if run.full_refresh {
        Trigger::FullRefresh
    } else {
        Trigger::Manual
    };
    let result = match run.tables.is_empty() {
        true => ingest::run_pipeline(&session.engine, &pipeline, trigger).await?,
        false => {
            let between = run.between.as_ref();
            ingest::refresh_tables(&session.engine, &pipeline, &run.tables, between).await?
        }
    };
    summary(&result, "RUN PIPELINE")
}

pub(super) fn verify_fields() -> SchemaRef {
    rows::fields(&[
        ("source", ColumnType::Text),
        ("target", ColumnType::Text),
        ("status", ColumnType::Text),
        ("key", ColumnType::Text),
        ("detail", ColumnType::Text),
    ])
}

pub(super) async fn verify(
    session: &mut Session,
    verify: &VerifyPipeline,
) -> Result<Outcome, SqlError> {
    leave_block(session, "VERIFY PIPELINE").await?;
    let pipeline = runnable(session, &verify.name)?;
    let found = ingest::verify_pipeline(&session.engine, &pipeline, verify.heal).await?;
    let column =
        |value: fn(&Verdict) -> Option<String>| Column::Text(found.iter().map(value).collect());
    let columns = vec![
        column(|one| Some(one.source.clone())),
        column(|one| Some(one.target.clone())),
        column(|one| Some(one.status.to_owned())),
        column(|one| one.key.clone()),
        column(|one| one.detail.clone()),
    ];
    rows::outcome(verify_fields(), columns, RowsTag::Verb("VERIFY PIPELINE"))
}

pub(super) async fn test_fields(
    session: &Session,
    test: &TestPipeline,
) -> Result<SchemaRef, SqlError> {
    let pipeline = runnable(session, &test.name)?;
    ingest::test_fields(&session.engine, &pipeline).await
}

pub(super) async fn test(session: &mut Session, test: &TestPipeline) -> Result<Outcome, SqlError> {
    let pipeline = runnable(session, &test.name)?;
    let limit = test.limit.unwrap_or(TEST_ROWS);
    let (fields, batches) = ingest::test_pipeline(&session.engine, &pipeline, limit).await?;
    Ok(rows::of_batches(
        fields,
        batches,
        RowsTag::Verb("TEST PIPELINE"),
    ))
}

pub(super) async fn replay(
    session: &mut Session,
    replay: &ReplayQuarantine,
) -> Result<Outcome, SqlError> {
    leave_block(session, "REPLAY QUARANTINE").await?;
    let pipeline = runnable(session, &replay.pipeline)?;
    let result = ingest::replay_quarantine(&session.engine, &pipeline, replay).await?;
    summary(&result, "REPLAY QUARANTINE")
}
