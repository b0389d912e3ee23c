//! `RUN PIPELINE ... FULL REFRESH TABLES (...) BETWEEN ... AND ...`: the rows of a range of keys, read from the source
//! anew while the pipeline goes on.
//!
//! ```text
//! chunks of the range, each with its watermarks -> rows come, unless they changed on the way
//! keys of the range that the table has and no chunk had -> asked one by one, and taken out where they are gone
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, Scalar, StringArray};
use arrow::compute::kernels::cmp::{gt_eq, lt_eq};
use arrow::compute::{and, cast_with_options, filter_record_batch};
use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_catalog::types::ColumnType;
use boathouse_connectors::mysql::{ChunkRequest, SourceTable, TableName, key_literals};

use super::super::run::OpenRun;
use super::super::{RunSummary, Trigger};
use super::board::Running;
use super::chunks::{Keys, of_shard};
use super::plan::patterns;
use super::pump::{Pump, chunk_rows};
use super::run::{Refresh, begin};
use super::shape::{DELETED, Deletes, SHARD};
use super::verify::{AskedKeys, commit_mended, living, mend_all, open_pump};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{Change, ChangeBatch, LakeError};
use crate::query;

/// Rows of a range at most: their keys are held in memory.
const ROWS_MAX: usize = 4_000_000;

/// Attempts at a range while the schema changes.
const ATTEMPTS_MAX: usize = 10;

/// Two values of the first column of a key, both within the range.
struct Bounds {
    low: ArrayRef,
    high: ArrayRef,
    /// The same as literals of the source's language.
    literals: (String, String),
}

/// Reads the rows of some tables anew whose key begins with a value between two, as one writes them in SQL.
pub async fn refresh_range(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    tables: &[String],
    between: &(String, String),
) -> Result<RunSummary, SqlError> {
    let patterns = patterns(tables)?;
    let refresh = Refresh::Some(patterns);
    let (mut open, status) = begin(engine, pipeline, Trigger::FullRefresh).await?;
    let refreshed = async {
        let mut pump = open_pump(engine, pipeline, &mut open, &status).await?;
        let run = (&mut open, pipeline, status.as_ref());
        let mut done = refresh_tables(&mut pump, run, &refresh, between).await;
        if done.is_ok() {
            let until = pump.plan.server.source_state().await?;
            done = pump.work(&mut open, pipeline, Some(until), &status).await;
        }
        pump.stop().await;
        done
    };
    match refreshed.await {
        Ok(()) => open.succeed().await,
        Err(error) => Err(open.fail(error).await),
    }
}

async fn refresh_tables(
    pump: &mut Pump,
    (open, pipeline, status): (&mut OpenRun, &PipelineDefinition, &Running),
    refresh: &Refresh,
    between: &(String, String),
) -> Result<(), SqlError> {
    let names: Vec<TableName> = pump
        .tables
        .iter()
        .filter(|(name, captured)| refresh.has(name) && !captured.state.dropped)
        .map(|(name, _)| name.clone())
        .collect();
    if names.is_empty() {
        return Err(SqlError::new(
            SqlState::UNDEFINED_TABLE,
            "no table of the pipeline matches the patterns of FULL REFRESH TABLES",
        )
        .hint("system.pipeline_lag names the tables, as database.table"));
    }
    // Nothing is read where one of them has no such range.
    for name in &names {
        if let Some(captured) = pump.tables.get(name) {
            bounds(&captured.source, between)?;
            if captured.shape.deletes == Deletes::History {
                return Err(unfit(name, "keeps the history of its rows"));
            }
        }
    }
    for name in &names {
        let mut attempts = 0;
        while !refresh_one(pump, name, between).await? {
            attempts += 1;
            if attempts == ATTEMPTS_MAX {
                return Err(SqlError::new(
                    SqlState::LOCK_NOT_AVAILABLE,
                    format!("{name} changes its columns while a range of it is read"),
                )
                .hint("try again"));
            }
            // The table is brought into line first.
            let until = pump.plan.server.source_state().await?;
            pump.work(open, pipeline, Some(until), status).await?;
        }
    }
    Ok(())
}

/// The bounds as values of the table's key.
fn bounds(source: &SourceTable, (low, high): &(String, String)) -> Result<Bounds, SqlError> {
    let name = &source.name;
    let key = source
        .key
        .first()
        .ok_or_else(|| unfit(name, "has no key"))?;
    let column = source
        .column(key)
        .ok_or_else(|| SqlError::internal("a key has no column"))?;
    let column_type = column.source_type.column_type();
    let is_ordered = matches!(
        column_type,
        ColumnType::SmallInt
            | ColumnType::Integer
            | ColumnType::BigInt
            | ColumnType::Numeric { .. }
            | ColumnType::Date
            | ColumnType::Timestamp
            | ColumnType::TimestampTz
    );
    if !is_ordered || !source.has_chunks() {
        return Err(unfit(
            name,
            &format!(
                "has a key that begins with \"{key}\", of type {}, which the source orders in a way of its own",
                column_type.sql_name()
            ),
        ));
    }
    let value = |text: &String| -> Result<(ArrayRef, String), SqlError> {
        let wrong = || {
            SqlError::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                format!(
                    "'{text}' is no {}, which \"{key}\" of {name} is",
                    column_type.sql_name()
                ),
            )
            .hint("BETWEEN takes two values of the first column of the key")
        };
        let options = arrow::compute::CastOptions {
            safe: false,
            ..Default::default()
        };
        let texts = StringArray::from(vec![text.as_str()]);
        let value =
            cast_with_options(&texts, &column_type.arrow(), &options).map_err(|_| wrong())?;
        let literals = key_literals(source, std::slice::from_ref(&value), 0);
        let literal = literals.and_then(|literals| literals.into_iter().next());
        Ok((value, literal.ok_or_else(wrong)?))
    };
    let ((low, from), (high, to)) = (value(low)?, value(high)?);
    Ok(Bounds {
        low,
        high,
        literals: (from, to),
    })
}

fn unfit(name: &TableName, reason: &str) -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("a range of {name} cannot be read anew: it {reason}"),
    )
    .hint("FULL REFRESH TABLES without BETWEEN reads all of it; VERIFY PIPELINE ... HEAL reads what differs")
}

/// Reads the range of one table. Whether that could be done: a schema change on the way stops it.
async fn refresh_one(
    pump: &mut Pump,
    name: &TableName,
    between: &(String, String),
) -> Result<bool, SqlError> {
    let Some(captured) = pump.tables.get(name) else {
        return Ok(true);
    };
    let source = Arc::clone(&captured.source);
    let shape = Arc::clone(&captured.shape);
    let range = bounds(&source, between)?;
    let keys = pump.keys.get(name).cloned();
    let keys = keys.ok_or_else(|| unfit(name, "has a key that cannot be compared"))?;
    let mut seen = HashSet::new();
    let mut partials = AskedKeys::new();
    let mut after = None;
    loop {
        pump.flush().await?;
        pump.wait_committed().await?;
        if let Some(captured) = pump.tables.get_mut(name) {
            captured.touched.clear();
            captured.is_healing = true;
        }
        let request = ChunkRequest {
            table: Arc::clone(&source),
            after,
            until: None,
            keys: None,
            between: Some(range.literals.clone()),
            rows: chunk_rows(&source, pump.plan.options.chunk_rows),
            seen: pump.stream.position().clone(),
            policies: pump.plan.options.policies,
        };
        let chunk = pump.plan.server.read_chunk(request).await?;
        let whole = pump.read_up_to(chunk.high).await?;
        let Some(captured) = pump.tables.get_mut(name) else {
            return Ok(true);
        };
        captured.is_healing = false;
        let touched = std::mem::take(&mut captured.touched);
        partials.append(&mut captured.partials);
        if !whole || captured.source.columns != source.columns || captured.hints.is_some() {
            return Ok(false);
        }
        let mut changes = Vec::new();
        for rows in chunk.batches {
            let rows = shape.fit(shape.read(rows)?, &captured.definition)?;
            seen.extend(keys.of_rows(&rows)?);
            let rows = keys.untouched(&touched, rows)?;
            changes.push(ChangeBatch {
                changes: vec![Change::Upsert; rows.num_rows()],
                rows,
                keys_before: None,
            });
        }
        if seen.len() > ROWS_MAX {
            return Err(SqlError::new(
                SqlState::OUT_OF_MEMORY,
                format!("the range of {name} has more than {ROWS_MAX} rows"),
            )
            .hint("refresh smaller ranges one after another, or the whole table"));
        }
        commit_mended(pump, name, &shape, changes).await?;
        match chunk.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    partials.append(&mut not_seen(pump, name, &range, &keys, &seen).await?);
    mend_all(pump, name, partials).await?;
    Ok(true)
}

/// The keys of the range that the table has, and no chunk had: gone at the source, or new since.
async fn not_seen(
    pump: &Pump,
    name: &TableName,
    range: &Bounds,
    keys: &Keys,
    seen: &HashSet<u128>,
) -> Result<AskedKeys, SqlError> {
    let mut found = AskedKeys::new();
    let Some(captured) = pump.tables.get(name) else {
        return Ok(found);
    };
    let (source, shape) = (&captured.source, &captured.shape);
    let mut columns = source.key.clone();
    columns.extend((shape.deletes == Deletes::Soft).then(|| DELETED.to_owned()));
    if shape.shard.is_some() {
        columns.extend(SHARD.map(str::to_owned));
    }
    let mut look = |batch: RecordBatch| -> Result<(), SqlError> {
        let batch = within(of_shard(shape, living(batch)?)?, source, range)?;
        let of_key: Option<Vec<ArrayRef>> = source
            .key
            .iter()
            .map(|name| batch.column_by_name(name).cloned())
            .collect();
        let of_key = of_key.ok_or_else(|| SqlError::internal("a table lacks its key"))?;
        for (row, number) in keys.numbers(&of_key)?.into_iter().enumerate() {
            if !seen.contains(&number)
                && let Some(literals) = key_literals(source, &of_key, row)
            {
                let values = of_key.iter().map(|column| column.slice(row, 1)).collect();
                found.insert(literals, values);
            }
        }
        Ok(())
    };
    let state = query::state_of(&pump.plan.engine().runtime);
    let version = captured.lake.snapshot(None).await?;
    let mut failed = None;
    let read = captured
        .lake
        .each_batch(&version, &columns, &state, |batch| {
            look(batch).map_err(|error| {
                let reason = error.message.clone();
                failed = Some(error);
                LakeError::Encode { reason }
            })
        })
        .await;
    match (read, failed) {
        (_, Some(error)) => Err(error),
        (read, None) => {
            read?;
            Ok(found)
        }
    }
}

/// The rows whose key is in the range.
fn within(
    batch: RecordBatch,
    source: &SourceTable,
    range: &Bounds,
) -> Result<RecordBatch, SqlError> {
    let wrong = |error| SqlError::internal("a key cannot be compared").caused_by(error);
    let first = source
        .key
        .first()
        .and_then(|name| batch.column_by_name(name))
        .ok_or_else(|| SqlError::internal("a table lacks its key"))?;
    let bound = |value: &ArrayRef| {
        arrow::compute::cast(value, first.data_type())
            .map(Scalar::new)
            .map_err(wrong)
    };
    let is_low_enough = lt_eq(first, &bound(&range.high)?).map_err(wrong)?;
    let is_high_enough = gt_eq(first, &bound(&range.low)?).map_err(wrong)?;
    let is_within: BooleanArray = and(&is_low_enough, &is_high_enough).map_err(wrong)?;
    filter_record_batch(&batch, &is_within).map_err(wrong)
}
