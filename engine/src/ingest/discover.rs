//! Which files a run has to load.
//!
//! A file is taken when it is stable: an object store shows only whole objects, and elsewhere a file
//! counts as whole when it is older than `settle` or has kept its size and time for that long. Then
//! the ledger decides: never met, loaded and unchanged, loaded and changed, failed.

use std::collections::HashMap;
use std::path::PathBuf;

use boathouse_catalog::state::{FileState, LedgerFile};
use boathouse_connectors::FileEntry;

use super::Trigger;
use super::plan::PipelinePlan;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};

/// Why a file is to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    New,
    /// Loaded before with other content.
    Changed,
}

/// What a run finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub to_load: Vec<(FileEntry, Reason)>,
    /// Loaded in an earlier run that died before it moved them.
    pub to_move: Vec<FileEntry>,
    /// Still being written to, as far as can be told.
    pub unsettled: Vec<String>,
}

/// The folder files are brought to before they are decoded.
pub(super) fn spool(engine: &Engine) -> Result<PathBuf, SqlError> {
    let folder = engine.config.scratch.join("spool");
    std::fs::create_dir_all(&folder).map_err(|error| {
        SqlError::new(
            SqlState::IO_ERROR,
            format!("could not create the folder \"{}\"", folder.display()),
        )
        .caused_by(error)
    })?;
    Ok(folder)
}

/// Lists the source and compares it with the ledger.
pub(super) async fn discover(
    plan: &PipelinePlan,
    ledger: &HashMap<String, LedgerFile>,
    in_table: &HashMap<String, LedgerFile>,
    trigger: Trigger,
) -> Result<Found, SqlError> {
    let mut found = Found::default();
    let (stable, unsettled) = stable_files(plan).await?;
    found.unsettled = unsettled;
    for entry in stable {
        let known = ledger
            .get(&entry.path)
            .filter(|known| trigger != Trigger::FullRefresh && known.state != FileState::Removed);
        match known {
            None => found.to_load.push((entry, Reason::New)),
            Some(known) if same_content(&entry, known) => match known.state {
                FileState::Loaded if plan.options.move_to.is_some() => found.to_move.push(entry),
                FileState::Loaded | FileState::Skipped | FileState::Removed => {}
                // A person who says RUN wants it tried again.
                FileState::Failed if trigger == Trigger::Manual => {
                    let reason = reason_of(&entry, plan, in_table);
                    found.to_load.push((entry, reason));
                }
                FileState::Failed => {}
            },
            Some(known) => {
                let reason = match known.state {
                    FileState::Failed | FileState::Loaded => reason_of(&entry, plan, in_table),
                    FileState::Removed => Reason::New,
                    FileState::Skipped => Reason::Changed,
                };
                found.to_load.push((entry, reason));
            }
        }
    }
    Ok(found)
}

/// A file that failed since may have rows from before; one whose namesake was moved away is another.
fn reason_of(
    entry: &FileEntry,
    plan: &PipelinePlan,
    in_table: &HashMap<String, LedgerFile>,
) -> Reason {
    if plan.options.move_to.is_none() && in_table.contains_key(&entry.path) {
        Reason::Changed
    } else {
        Reason::New
    }
}

/// Files that can be read, and the paths of those that are still being written to.
async fn stable_files(plan: &PipelinePlan) -> Result<(Vec<FileEntry>, Vec<String>), SqlError> {
    let settle = chrono::Duration::from_std(plan.options.settle).unwrap_or_default();
    let mut first = plan.store.list(&plan.patterns).await?;
    if let Some(folder) = &plan.options.move_to {
        // What was loaded and moved is not new.
        let below = format!("{folder}/");
        first.retain(|entry| !entry.path.starts_with(&below));
    }
    let now = chrono::Utc::now();
    let settled = |entry: &FileEntry| {
        entry.etag.is_some()
            || entry.modified.is_some_and(|modified| {
                // A clock ahead of ours must not keep a file out for ever.
                modified <= now - settle || modified > now + settle
            })
    };
    if first.iter().all(settled) {
        return Ok((first, Vec::new()));
    }
    tokio::time::sleep(plan.options.settle).await;
    let second: HashMap<String, FileEntry> = plan
        .store
        .list(&plan.patterns)
        .await?
        .into_iter()
        .map(|entry| (entry.path.clone(), entry))
        .collect();
    let (stable, unsettled): (Vec<FileEntry>, Vec<FileEntry>) = first
        .into_iter()
        .partition(|entry| settled(entry) || second.get(&entry.path) == Some(entry));
    let unsettled = unsettled.into_iter().map(|entry| entry.path).collect();
    Ok((stable, unsettled))
}

/// Whether a file is the one on record, by etag where there are two, else by size and time.
fn same_content(entry: &FileEntry, known: &LedgerFile) -> bool {
    match (&entry.etag, &known.etag) {
        (Some(now), Some(then)) => now == then,
        _ => {
            let seconds = |time: chrono::DateTime<chrono::Utc>| time.timestamp_micros();
            i64::try_from(entry.size).is_ok_and(|size| size == known.size)
                && entry.modified.map(seconds) == known.modified.map(seconds)
        }
    }
}

/// Cuts files into batches of one commit each.
pub(super) fn batches(
    plan: &PipelinePlan,
    files: Vec<(FileEntry, Reason)>,
    all_at_once: bool,
) -> Vec<Vec<(FileEntry, Reason)>> {
    if all_at_once {
        return if files.is_empty() {
            Vec::new()
        } else {
            vec![files]
        };
    }
    let mut batches: Vec<Vec<(FileEntry, Reason)>> = Vec::new();
    let mut bytes = 0;
    for file in files {
        let fits = batches.last().is_some_and(|batch| {
            batch.len() < plan.options.batch_files
                && bytes + file.0.size <= plan.options.batch_bytes
        });
        if !fits {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += file.0.size;
        if let Some(batch) = batches.last_mut() {
            batch.push(file);
        }
    }
    batches
}

/// The ledger's entry of a file.
pub(super) fn ledger_file(
    entry: &FileEntry,
    run: boathouse_catalog::state::RunId,
    state: FileState,
) -> LedgerFile {
    LedgerFile {
        path: entry.path.clone(),
        etag: entry.etag.clone(),
        modified: entry.modified,
        size: i64::try_from(entry.size).unwrap_or(i64::MAX),
        sheet_count: None,
        rows: 0,
        rows_quarantined: 0,
        run: Some(run),
        state,
        error: None,
    }
}
