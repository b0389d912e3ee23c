//! Deleting rows for readers that know no deletion vectors: their files are written anew without them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::physical_plan::execute_stream;
use deltalake_core::kernel::DeletionVectorDescriptor;
use futures::StreamExt;

use super::snapshot::DataFile;
use super::{
    LakeError, LakeTable, TableSnapshot, Uncommitted, WriterOptions, WrittenFile, metadata,
};
use crate::query::failure::from_datafusion;

/// Files that took the place of others.
#[derive(Debug, Default)]
pub struct Replacement {
    pub adds: Vec<WrittenFile>,
    /// Live files that go, each as it was read.
    pub replaces: BTreeMap<String, Option<DeletionVectorDescriptor>>,
    /// Uncommitted files that go.
    pub unneeded: Vec<WrittenFile>,
}

impl LakeTable {
    /// Whether rows of the table may be deleted by deletion vectors: unless its property
    /// `delta.enableDeletionVectors` is `false`.
    pub fn uses_deletion_vectors(&self, properties: &BTreeMap<String, String>) -> bool {
        let ours = properties.get(metadata::DELETION_VECTORS);
        let value = ours.map_or_else(
            || {
                self.cached()
                    .properties()
                    .remove(metadata::DELETION_VECTORS)
            },
            |value| Some(value.clone()),
        );
        value.is_none_or(|value| !value.eq_ignore_ascii_case("false"))
    }

    /// Writes every file that `rows` deletes from anew, without the deleted rows.
    pub async fn rewrite_without_deleted(
        self: &Arc<Self>,
        rows: &Uncommitted,
        state: &SessionState,
    ) -> Result<Replacement, LakeError> {
        let snapshot = self.snapshot(None).await?;
        let is_there = |path: &str| {
            let live = snapshot.files().iter().any(|file| file.path == path);
            live || rows.files.iter().any(|file| file.path() == path)
        };
        let rows = &Uncommitted {
            deleted: self.moved(&rows.deleted, is_there)?,
            ..rows.clone()
        };
        for file in snapshot.files() {
            let deletes = rows.deleted.get(&file.path);
            if let Some(deletes) = deletes
                && !self.deleted_rows(file).await?.is_disjoint(deletes)
            {
                return Err(self.conflict(format!("rows of file \"{}\" were changed", file.path)));
            }
        }
        let seen = snapshot.with_uncommitted(rows)?;
        let mut made = Replacement::default();
        for (path, deletes) in &rows.deleted {
            let Some(file) = seen.files().iter().find(|file| file.path == *path) else {
                return Err(self.conflict(format!("file \"{path}\" was removed")));
            };
            match rows.files.iter().find(|file| file.path() == path) {
                Some(new) => made.unneeded.push(new.clone()),
                None => {
                    made.replaces
                        .insert(path.clone(), file.deletion_vector.clone());
                }
            }
            if file.rows() != Some(0) && !deletes.is_empty() {
                let files = vec![Arc::clone(file)];
                made.adds.extend(self.copy_rows(&seen, files, state).await?);
            }
        }
        Ok(made)
    }

    /// Writes the live rows of files into new files, in their order, with the marks of the first.
    pub(super) async fn copy_rows(
        self: &Arc<Self>,
        snapshot: &TableSnapshot,
        files: Vec<Arc<DataFile>>,
        state: &SessionState,
    ) -> Result<Vec<WrittenFile>, LakeError> {
        let tags = files.first().map(|file| file.tags()).unwrap_or_default();
        let rows = self.rows_of(snapshot, files, state).await?;
        self.write_rows(snapshot, rows, &tags).await
    }

    /// The living rows of files, in their order and in the columns of `snapshot`.
    pub async fn rows_of(
        self: &Arc<Self>,
        snapshot: &TableSnapshot,
        files: Vec<Arc<DataFile>>,
        state: &SessionState,
    ) -> Result<SendableRecordBatchStream, LakeError> {
        let failed = |error| LakeError::Plan(Box::new(from_datafusion(error)));
        // One stream keeps the rows in their order.
        let config = state.config().clone().with_target_partitions(1);
        let batch_rows = rows_of_a_batch(&files).min(config.batch_size());
        let config = config.with_batch_size(batch_rows);
        let state = SessionStateBuilder::new_from_existing(state.clone())
            .with_config(config)
            .build();
        let provider = self.provider(&Arc::new(snapshot.with_files(files)));
        let plan = provider
            .scan(&state, None, &[], None)
            .await
            .map_err(failed)?;
        execute_stream(plan, state.task_ctx()).map_err(failed)
    }

    /// Writes a stream of a table's rows into new files with marks.
    pub(super) async fn write_rows(
        &self,
        snapshot: &TableSnapshot,
        mut stream: SendableRecordBatchStream,
        tags: &BTreeMap<String, String>,
    ) -> Result<Vec<WrittenFile>, LakeError> {
        let failed = |error| LakeError::Plan(Box::new(from_datafusion(error)));
        let mut writer = self.writer(
            Arc::clone(snapshot.schema()),
            (snapshot.partition_by(), snapshot.names()),
            WriterOptions::default(),
        )?;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(failed)?;
            let batch = batch
                .with_schema(Arc::clone(snapshot.schema()))
                .map_err(|error| LakeError::Encode {
                    reason: error.to_string(),
                })?;
            writer.write(&batch).await?;
        }
        let mut written = writer.finish().await?;
        for file in &mut written {
            for (name, value) in tags {
                file.set_tag(name, value);
            }
        }
        Ok(written)
    }
}

/// Rows of a batch that is copied: fewer where they are long, since several batches are under way at a time.
fn rows_of_a_batch(files: &[Arc<DataFile>]) -> usize {
    // As they are in files; in memory they have several times that.
    const BATCH_BYTES: u64 = 1 << 20;
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let rows: u64 = files.iter().filter_map(|file| file.rows_stored).sum();
    let row_bytes = bytes.checked_div(rows).unwrap_or_default().max(1);
    usize::try_from(BATCH_BYTES / row_bytes).map_or(1024, |rows| rows.max(1024))
}
