//! `INTO SCHEMA name BY column`: each row goes to the table that its value in the column names.
//!
//! ```text
//! block ─ decode what BY needs ─▶ route ─▶ messages held by table ─ decode, transform, check ─▶ data files ─▶ prepare ─▶ commits ─▶ resolve
//! ```
//!
//! Which table a message belongs to is found first ([`route`]); from then on a table is filled as if it were the only one
//! ([`table`]): with the columns its own messages have, by the same query, rules and evolution. Messages wait as bytes until a
//! commit is due or they are too many together, and a data file is open only while those of one table are written. So memory
//! does not grow with the number of tables.
//!
//! **One position, many commits.** A batch is one sequence: a position on record, a commit of each table that has rows in it,
//! and the record settled after the last of them ([`commit`]). So a settled position is proof that every table has its rows up
//! to there, and one that gets none for long holds nothing back. Every commit carries marks, the sequence and the partitions'
//! offsets. A start that finds a batch unsettled which some table has reads it once more for the tables that lack it, up to
//! the same offsets ([`redo`]); one that no table has never was. What a batch set aside was complete before its first commit,
//! and belongs to it.
//!
//! A value names a table by the rule that makes plain names of columns; one that names none, that another value has taken the
//! name of, or that would make one table too many, is set aside.

mod commit;
mod redo;
mod replay;
mod route;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::ObjectId;
use boathouse_sql::name::quote_identifier;
use boathouse_sql::statement::Into as Target;
use serde_json::Value;

use super::super::PlannedPipeline;
use super::super::capture::{CaptureStatus, TableStatus};
use super::super::check::Checks;
use super::super::plan::statement_of;
use super::super::quarantine::{Messages, QuarantineWriter, Rejected};
use super::super::rows::Rows;
use super::super::schema::SourceSchema;
use super::super::transform::Transform;
use super::decode::{Decoded, Decoding};
use super::plan::{FanPlan, TopicPlan, require_row_wise};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};

pub(super) use commit::FanCommit;
pub(super) use redo::Opened;
pub(super) use replay::replay_by_table;

use route::{Router, table_name};
use table::FanTable;

/// Bytes of messages that wait for their tables' data files. Beyond them the files are written before the commit is due.
const HELD_BYTES_MAX: usize = 32 << 20;

/// The tables of a pipeline, while it runs.
pub(super) struct FanOut<'a> {
    plan: &'a TopicPlan,
    fan: &'a FanPlan,
    router: Option<Router>,
    tables: BTreeMap<String, FanTable>,
    held_bytes: usize,
}

impl<'a> FanOut<'a> {
    /// The columns that routing needs before anything is known of messages; empty when they tell.
    pub fn routing_source(&self) -> SourceSchema {
        route::source_of(&self.plan.rows, &self.fan.by)
    }

    /// Of the columns found in messages those that routing may need.
    pub fn routing_columns(&self, found: SourceSchema) -> SourceSchema {
        match &self.plan.rows.query {
            Some(query) => route::mentioned(query, &self.fan.by, found),
            None => SourceSchema::default(),
        }
    }

    /// Whether routing can be planned before any message tells columns.
    pub fn needs_no_message(&self) -> bool {
        self.plan.rows.declared.is_some() || self.plan.rows.query.is_none()
    }

    /// Whether messages can be routed.
    pub fn is_planned(&self) -> bool {
        self.router.is_some()
    }

    /// Plans the routing by these columns.
    pub async fn plan(&mut self, source: &SourceSchema) -> Result<(), SqlError> {
        self.router = Some(Router::plan(&self.plan.rows, source, &self.fan.by).await?);
        Ok(())
    }

    /// The schema of the tables, by which a position tells which tables it is of.
    pub fn target_schema(&self) -> &'a str {
        &self.plan.rows.target_schema
    }

    /// What a position says besides how far the partitions are.
    pub fn describe(&self, position: &mut Value) {
        position["into"] = Value::from(self.target_schema());
        position["routing"] = Value::from(route::routing_stamp(&self.plan.rows, &self.fan.by));
    }

    /// Whether somebody has dropped a table.
    pub fn is_dropped(&self) -> bool {
        let snapshot = self.plan.rows.engine().catalog.snapshot();
        let mut targets = self.tables.values().filter_map(FanTable::written_to);
        targets.any(|target| snapshot.table_by_id(target).is_none())
    }

    /// Tells how far the tables are: as far as the partition that is furthest behind.
    pub fn tell(&self, status: &mut CaptureStatus) {
        status.tables = self.tables.values().filter_map(FanTable::status).collect();
        let behind = status.partitions.iter().map(|one| one.seconds_behind);
        let behind: Option<Vec<f64>> = behind.collect();
        status.seconds_behind = behind.and_then(|all| all.into_iter().reduce(f64::max));
    }

    /// Holds the messages of a block for their tables. `tally` counts, and knows the columns routing needs.
    pub async fn take(
        &mut self,
        tally: &mut Rows<'_>,
        decoded: &Decoded,
        decoding: &Decoding,
        quarantine: &mut QuarantineWriter,
    ) -> Result<(), SqlError> {
        let messages = Messages {
            block: Arc::clone(&decoded.block),
            partitions: Arc::clone(&decoding.partitions),
        };
        let router = self.router.as_ref();
        let router = router.ok_or_else(|| SqlError::internal("the routing was not planned"))?;
        let (routed, rejected) = router.route(&decoded.rows)?;
        tally.set_aside(rejected, quarantine).await?;
        for (number, value) in routed {
            let Some(message) = decoded.block.get(number as usize) else {
                continue;
            };
            let is_full = self.tables.len() >= self.fan.tables_max;
            if is_full
                && self.tables.values().any(|table| !table.is_landed())
                && self.table_of(value.as_deref()).is_err()
            {
                // Of some no row may pass the rules: they are no tables.
                self.flush(tally, decoding, quarantine).await?;
                self.forget_unlanded();
                quarantine.take_from(messages.clone());
            }
            match self.table_of(value.as_deref()) {
                Ok(table) => {
                    let bytes = table.hold(&message);
                    self.held_bytes += bytes;
                }
                Err((state, reason)) => {
                    let mut rejected = Rejected::of_message(number, state.0, reason);
                    rejected.column = Some(self.fan.by.clone());
                    tally.set_aside(vec![rejected], quarantine).await?;
                }
            }
        }
        if self.held_bytes >= HELD_BYTES_MAX {
            self.flush(tally, decoding, quarantine).await?;
        }
        Ok(())
    }

    /// The table that a value names, or why it names none.
    fn table_of(&mut self, value: Option<&str>) -> Result<&mut FanTable, (SqlState, String)> {
        let by = &self.fan.by;
        let (value, name) = table_name(value, by)?;
        if !self.tables.contains_key(&name) {
            let most = self.fan.tables_max;
            if self.tables.len() >= most {
                let reason = format!(
                    "the pipeline fills {most} tables, and \"{}\" in column \"{by}\" would make one more: raise tables_max",
                    route::shown(value)
                );
                return Err((SqlState::PROGRAM_LIMIT_EXCEEDED, reason));
            }
            let table = FanTable::new(&self.plan.rows, self.fan, &name, value);
            self.tables.insert(name.clone(), table);
        }
        let found = self.tables.get_mut(&name);
        let table = found.ok_or((SqlState::INTERNAL_ERROR, "the table is missing".into()))?;
        if !table.is_of(value) {
            let reason = format!(
                "\"{}\" in column \"{by}\" names the table {}, as \"{}\" does that came first",
                route::shown(value),
                quote_identifier(&name),
                route::shown(&table.value),
            );
            return Err((SqlState::DUPLICATE_TABLE, reason));
        }
        Ok(table)
    }

    /// Writes what is held into data files.
    pub async fn flush(
        &mut self,
        tally: &mut Rows<'_>,
        decoding: &Decoding,
        quarantine: &mut QuarantineWriter,
    ) -> Result<(), SqlError> {
        self.held_bytes = 0;
        for table in self.tables.values_mut() {
            table.flush(self.plan, tally, decoding, quarantine).await?;
        }
        Ok(())
    }

    /// Forgets values that no row of which became one of a table.
    fn forget_unlanded(&mut self) {
        self.tables.retain(|_, table| table.is_landed());
    }

    /// Throws away what is held and written.
    pub async fn abandon(&mut self) {
        self.held_bytes = 0;
        for table in self.tables.values_mut() {
            table.abandon().await;
        }
    }
}

/// Checks as far as can be told without the brokers.
pub(super) async fn check_fan(
    plan: &TopicPlan,
    fan: &FanPlan,
) -> Result<PlannedPipeline, SqlError> {
    if let Some(source) = &plan.rows.declared {
        let transform = Transform::plan(&plan.rows, source, &[]).await?;
        require_row_wise(&plan.rows, &transform)?;
        require_column(transform.fields(), &fan.by)?;
        Checks::plan(&plan.rows, transform.fields(), None)?;
        Router::plan(&plan.rows, source, &fan.by).await?;
    }
    // There is no one table whose columns they would be.
    Ok(PlannedPipeline { columns: None })
}

/// The column that names tables must be one of the result.
pub(super) fn require_column(fields: &SchemaRef, by: &str) -> Result<(), SqlError> {
    match fields.field_with_name(by) {
        Ok(_) => Ok(()),
        Err(_) => Err(SqlError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{by}\" named in BY does not exist"),
        )
        .hint("name a column of the messages, or of what AS SELECT makes of them")),
    }
}

/// The schema that a pipeline fills tables of by a column, if it does.
pub(in crate::ingest) fn filled_schema(engine: &Engine, pipeline: ObjectId) -> Option<String> {
    let snapshot = engine.catalog.snapshot();
    let definition = snapshot.pipelines().find(|one| one.id == pipeline)?;
    match statement_of(definition).ok()?.into {
        Target::Schema { name, by: Some(_) } => Some(name),
        _ => None,
    }
}

/// Whether a record is of a table that a pipeline from Kafka fills by a column.
pub(in crate::ingest) fn is_filled(state: &Value) -> bool {
    state["fan_target"].is_i64()
}

/// What is on record of a table of a schema.
pub(in crate::ingest) fn recorded_table(state: &Value, schema: &str) -> Option<TableStatus> {
    if state["schema"].as_str() != Some(schema) {
        return None;
    }
    let target = state["fan_target"].as_i64()?;
    Some(TableStatus {
        source: state["value"].as_str()?.to_owned(),
        target: ObjectId(target),
        state: "streaming",
        snapshot_rows: 0,
        snapshot_rows_estimate: 0,
        changes: 0,
    })
}
