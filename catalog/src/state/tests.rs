//! The records of pipelines, on both databases.

mod audit;
mod leases;
mod positions;
mod runs;

use chrono::DateTime;
use expect_test::Expect;
use uuid::Uuid;

use super::*;
use crate::catalog::Catalog;
use crate::definitions::ObjectId;
use crate::error::CatalogError;
use crate::testing::{TestDatabase, on_both, with_pipeline};

fn file(path: &str, rows: i64) -> LedgerFile {
    LedgerFile {
        path: path.to_owned(),
        etag: Some(format!("etag of {path}")),
        modified: DateTime::from_timestamp_micros(1_750_000_000_000_001),
        size: rows * 10,
        sheet_count: None,
        rows,
        rows_quarantined: 1,
        run: Some(RunId(7)),
        state: FileState::Loaded,
        error: None,
    }
}

fn position(pipeline: ObjectId, committed_sequence: i64) -> NewPosition<'static> {
    NewPosition {
        pipeline,
        attempt: Uuid::nil(),
        position: serde_json::json!({ "after": committed_sequence }),
        committed_sequence,
        files: &[],
        quarantine: &[],
        replays: &[],
        superseded: &[],
        captures: &[],
        lease: None,
    }
}

/// What counts as true of a pipeline right now.
async fn check(catalog: &Catalog, pipeline: ObjectId, expected: Expect) {
    let last = catalog.positions().last_committed(pipeline).await.unwrap();
    let mut lines = vec![match last {
        None => "nothing committed".to_owned(),
        Some(last) => format!("committed {}: {}", last.sequence, last.position),
    }];
    let mut files: Vec<_> = catalog
        .files()
        .committed(pipeline)
        .await
        .unwrap()
        .into_values()
        .collect();
    files.sort_by(|left, right| left.path.cmp(&right.path));
    lines.extend(files.iter().map(|one| {
        format!(
            "{} {} rows={} {}",
            one.path,
            one.state.name(),
            one.rows,
            one.error.as_deref().unwrap_or("")
        )
    }));
    lines.extend(
        catalog
            .quarantine()
            .files(Some(pipeline))
            .await
            .unwrap()
            .iter()
            .map(|one| {
                format!(
                    "quarantine of {}: {} rows={}",
                    one.sequence, one.file.path, one.file.rows
                )
            }),
    );
    lines.extend(
        catalog
            .quarantine()
            .replays(Some(pipeline))
            .await
            .unwrap()
            .iter()
            .map(|one| {
                let what = if one.superseded {
                    "superseded"
                } else {
                    "replayed"
                };
                format!("{what} row {} of {}", one.mark.row_id, one.mark.sequence)
            }),
    );
    let text: String = lines
        .iter()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    expected.assert_eq(&text);
}

fn new_run(pipeline: ObjectId) -> NewRun {
    NewRun {
        pipeline,
        name: "stock".to_owned(),
        trigger: "manual".to_owned(),
        server: "here".to_owned(),
    }
}
