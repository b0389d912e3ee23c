//! Keeps tables fast while nobody asks: what `OPTIMIZE` does, where it is worth it.
//!
//! Every few seconds the tables that this process has written to or read are looked at, as far as they have
//! changed. One is rewritten at a time. Another writer in the way wins; the table is looked at again
//! after its next change. Once a day, and soon after it was opened, a table loses the files that no version
//! within its retention needs.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use boathouse_catalog::definitions::{ObjectId, TableDefinition};
use boathouse_catalog::types::ColumnType;

use super::properties;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{LakeError, Upkeep};
use crate::query;

const TICK: Duration = Duration::from_secs(5);

/// From when a table was first seen open to its first VACUUM, and from one to the next.
const VACUUM_FIRST: Duration = Duration::from_secs(600);
const VACUUM_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Delta's property that keeps a table from being rewritten unasked when it is `false`.
pub(super) const AUTO_COMPACT: &str = "delta.autoOptimize.autoCompact";

/// The columns a table's files are sorted by: names and commas.
pub(super) const CLUSTER_BY: &str = "cluster_by";

/// The running upkeep. Dropping it stops it; a rewrite that is under way is then of no commit.
pub struct Keeper {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts the upkeep of an engine's tables. It ends with the engine.
pub fn start(engine: &Arc<Engine>) -> Keeper {
    let engine = Arc::downgrade(engine);
    Keeper {
        task: tokio::spawn(run(engine)),
    }
}

async fn run(engine: Weak<Engine>) {
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen: HashMap<ObjectId, i64> = HashMap::new();
    let mut vacuums: HashMap<ObjectId, Instant> = HashMap::new();
    loop {
        clock.tick().await;
        let Some(engine) = engine.upgrade() else {
            return;
        };
        engine.lake.trim().await;
        let snapshot = engine.catalog.snapshot();
        seen.retain(|id, _| snapshot.table_by_id(*id).is_some());
        vacuums.retain(|id, _| snapshot.table_by_id(*id).is_some());
        for definition in snapshot.tables() {
            if is_due(&mut vacuums, definition.id, Instant::now()) {
                vacuum(&engine, definition).await;
            }
            match keep(&engine, definition, seen.get(&definition.id).copied()).await {
                Ok(version) => {
                    seen.extend(version.map(|version| (definition.id, version)));
                }
                Err(error) => {
                    tracing::warn!(table = definition.name, %error, "could not keep a table's files");
                    // Not again before the table has changed.
                    if let Some(table) = engine.lake.opened(&definition.location).await {
                        seen.insert(definition.id, table.cached().version());
                    }
                }
            }
        }
    }
}

/// Whether a table's turn has come, and then notes when the next one is.
fn is_due(vacuums: &mut HashMap<ObjectId, Instant>, id: ObjectId, now: Instant) -> bool {
    let next = vacuums.entry(id).or_insert(now + VACUUM_FIRST);
    let due = *next <= now;
    if due {
        *next = now + VACUUM_EVERY;
    }
    due
}

/// Deletes the files of a table that no version within its retention needs.
async fn vacuum(engine: &Engine, definition: &TableDefinition) {
    let off = definition.properties.get(properties::AUTO_VACUUM);
    if off.is_some_and(|value| value == "false") {
        return;
    }
    let Some(table) = engine.lake.opened(&definition.location).await else {
        return;
    };
    match table.vacuum(properties::retention(definition), false).await {
        Ok(files) if files.is_empty() => {}
        Ok(files) => {
            tracing::info!(
                table = definition.name,
                files = files.len(),
                "old files were deleted"
            );
        }
        Err(error) => {
            tracing::warn!(table = definition.name, %error, "could not delete old files");
        }
    }
}

/// Looks at a table that has changed since version `seen`, and gives the version it has then.
async fn keep(
    engine: &Arc<Engine>,
    definition: &TableDefinition,
    seen: Option<i64>,
) -> Result<Option<i64>, SqlError> {
    let off = definition.properties.get(AUTO_COMPACT);
    if off.is_some_and(|value| value.eq_ignore_ascii_case("false")) {
        return Ok(None);
    }
    // What is being filled is put together once it is there.
    if engine.captures.is_reading(definition.id) {
        return Ok(None);
    }
    let Some(table) = engine.lake.opened(&definition.location).await else {
        return Ok(None);
    };
    if seen == Some(table.cached().version()) {
        return Ok(None);
    }
    let upkeep = Upkeep {
        cluster_by: cluster_by(definition)?,
        unasked: true,
    };
    match table
        .optimize(&query::state_of(&engine.runtime), &upkeep)
        .await
    {
        Ok(made) if made.files_removed > 0 => {
            tracing::info!(
                table = definition.name,
                files_removed = made.files_removed,
                files_added = made.files_added,
                bytes_added = made.bytes_added,
                "files were put together"
            );
        }
        Ok(_) | Err(LakeError::Conflict { .. } | LakeError::Dropped { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Some(table.cached().version()))
}

/// The columns that a table's property names.
pub(super) fn cluster_by(definition: &TableDefinition) -> Result<Vec<String>, SqlError> {
    let Some(text) = definition.properties.get(CLUSTER_BY) else {
        return Ok(Vec::new());
    };
    let columns = text.split(',').map(|name| name.trim().to_owned());
    checked(
        definition,
        columns.filter(|name| !name.is_empty()).collect(),
    )
}

/// The columns, when files can be sorted by them.
pub(super) fn checked(
    definition: &TableDefinition,
    columns: Vec<String>,
) -> Result<Vec<String>, SqlError> {
    for name in &columns {
        let column = definition.column(name).ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "column \"{name}\" of relation \"{}\" does not exist",
                    definition.name
                ),
            )
        })?;
        let unordered = matches!(
            column.column_type,
            ColumnType::Interval | ColumnType::Json | ColumnType::Jsonb | ColumnType::Array(_)
        );
        if unordered || definition.partition_by.contains(name) {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("files cannot be sorted by column \"{name}\""),
            )
            .hint("name columns that are no partition columns and whose values have an order"));
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_loses_old_files_once_a_day() {
        let (mut vacuums, start) = (HashMap::new(), Instant::now());
        let id = ObjectId(16384);
        let mut due = |seconds| is_due(&mut vacuums, id, start + Duration::from_secs(seconds));
        let times = [0, 599, 600, 605, 86_399, 87_000, 87_005];
        assert_eq!(
            times.map(&mut due),
            [false, false, true, false, false, true, false]
        );
    }
}
