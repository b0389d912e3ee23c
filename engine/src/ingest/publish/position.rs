//! How far a pipeline has published its table, as the catalog keeps it.

use boathouse_catalog::definitions::ObjectId;
use serde_json::{Value, json};

use super::super::capture::{CaptureStatus, TableStatus};
use crate::engine::Engine;
use crate::error::SqlError;

/// A place in the versions of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub table: ObjectId,
    /// `connection/topic`.
    pub topic: String,
    pub version: i64,
    /// The rows of that version are still to be published; else everything up to it has been.
    pub snapshot: bool,
}

impl Published {
    pub fn to_json(&self) -> Value {
        json!({
            "format": 1,
            "published": {
                "table": self.table.0,
                "topic": self.topic,
                "version": self.version,
                "snapshot": self.snapshot,
            },
        })
    }

    /// `None` where it is the position of another kind of pipeline.
    pub fn from_json(position: &Value) -> Option<Self> {
        let published = &position["published"];
        Some(Self {
            table: ObjectId(published["table"].as_i64()?),
            topic: published["topic"].as_str()?.to_owned(),
            version: published["version"].as_i64()?,
            snapshot: published["snapshot"].as_bool()?,
        })
    }
}

/// How far a pipeline is by what is on record, for one that does not run in this process.
pub async fn recorded_publication(
    engine: &Engine,
    pipeline: ObjectId,
) -> Result<Option<CaptureStatus>, SqlError> {
    let last = engine.catalog.positions().last_committed(pipeline).await?;
    let Some(at) = last.and_then(|last| Published::from_json(&last.position)) else {
        return Ok(None);
    };
    let snapshot = engine.catalog.snapshot();
    let name = snapshot.table_by_id(at.table).map(|table| {
        let schema = snapshot.schema_by_id(table.schema);
        let schema = schema.map(|schema| schema.name.clone()).unwrap_or_default();
        format!("{schema}.{}", table.name)
    });
    Ok(Some(CaptureStatus {
        position: at.version.to_string(),
        tables: vec![TableStatus {
            source: name.unwrap_or_default(),
            target: at.table,
            state: if at.snapshot { "snapshot" } else { "streaming" },
            snapshot_rows: 0,
            snapshot_rows_estimate: 0,
            changes: 0,
        }],
        ..CaptureStatus::default()
    }))
}
