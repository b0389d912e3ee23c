//! How far the tables of a pipeline are by what is on record, for a capture that does not run in this process.

use boathouse_catalog::definitions::ObjectId;
use boathouse_connectors::mysql::Position;

use super::super::kafka::{filled_schema, is_filled, recorded_table};
use super::board::{CaptureStatus, TableStatus};
use super::state::{CaptureState, SnapshotState};
use crate::engine::Engine;
use crate::error::SqlError;

/// What is on record of a pipeline's tables. How far the source has gone on is not known, nor what was read that
/// is not committed.
pub async fn recorded_status(
    engine: &Engine,
    pipeline: ObjectId,
) -> Result<CaptureStatus, SqlError> {
    let last = engine.catalog.positions().last_committed(pipeline).await?;
    let settled = last.as_ref().map_or(0, |last| last.sequence);
    let mut status = CaptureStatus::default();
    if let Some(last) = last
        && let Ok(position) = serde_json::from_value::<Position>(last.position)
    {
        status.position = position.to_string();
        status.committed_at = position.committed_at;
    }
    let schema = filled_schema(engine, pipeline);
    for record in engine.catalog.captures().list(pipeline).await? {
        let state = match record.next {
            Some((sequence, next)) if sequence <= settled => next,
            _ => record.state,
        };
        if is_filled(&state) {
            // A pipeline that fills something else now has left some behind.
            let schema = schema.as_deref();
            let table = schema.and_then(|schema| recorded_table(&state, schema));
            status.tables.extend(table);
            continue;
        }
        let state: CaptureState = serde_json::from_value(state).map_err(|error| {
            SqlError::internal(format!("what is known of {} cannot be read", record.source))
                .caused_by(error)
        })?;
        status.tables.push(table_status(state));
    }
    Ok(status)
}

fn table_status(state: CaptureState) -> TableStatus {
    let (name, rows) = match state.snapshot {
        _ if state.dropped => ("dropped", 0),
        // What was read of a table that is read anew is of no commit yet, and is read again.
        SnapshotState::Reading { replaces: true, .. } => ("stale", 0),
        SnapshotState::Reading { rows, .. } => ("snapshot", rows),
        SnapshotState::Done { rows } => ("streaming", rows),
    };
    TableStatus {
        source: state.table.name.to_string(),
        target: state.target,
        state: name,
        snapshot_rows: rows,
        snapshot_rows_estimate: state.table.rows_estimate,
        changes: 0,
    }
}
