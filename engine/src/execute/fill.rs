//! `ALTER TABLE ... ADD COLUMN ... DEFAULT` on a table that has rows.
//!
//! ```text
//! statement: files anew, with a column that no definition names yet -> Delta, changing no data
//! COMMIT:    files that came since, the same -> the catalog names the column -> Delta's metadata
//!            files that another process committed meanwhile, the same
//! ```
//!
//! COMMIT lets nobody else of this process commit to the table meanwhile. A writer who had not heard of the
//! column is refused afterwards, because its files lack it.
//!
//! The column's name in files is its own, so nobody sees what a crash, an error or ROLLBACK leaves of it,
//! and everybody sees every row's value from the moment the column is there.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use boathouse_catalog::definitions::{ColumnDefinition, ObjectId, TableDefinition};
use boathouse_catalog::types::ColumnType;
use futures::TryStreamExt;

use super::write::Completion;
use crate::engine::Engine;
use crate::error::SqlError;
use crate::lake::{
    CommitTurn, DataFile, LakeError, LakeTable, ROUND_ATTEMPTS_MAX, ROUND_BYTES, Rewritten,
    TableSnapshot, Uncommitted, WriterOptions, WrittenFile,
};
use crate::query;
use crate::query::failure::from_datafusion;
use crate::session::Session;

/// Columns of a table that rows which are there get the defaults of.
pub(crate) struct Fill {
    completion: Completion,
    /// The other columns.
    given: Vec<ColumnDefinition>,
    /// What data files call the new ones.
    names: Vec<String>,
    /// Files that have them, by path.
    done: HashSet<String>,
    /// Whether a file may have them that is not of `done`.
    begun: bool,
}

impl Fill {
    /// Of `columns` with their defaults; `definition` has them, and has been changed since perhaps.
    pub fn plan(
        session: &Session,
        definition: &TableDefinition,
        columns: &[ColumnDefinition],
    ) -> Result<Self, SqlError> {
        let mut definition = definition.clone();
        for column in &mut definition.columns {
            let mut added = columns.iter();
            let added = added.find(|one| one.name_in_files() == column.name_in_files());
            if let Some(added) = added {
                column.default.clone_from(&added.default);
            }
        }
        let names: Vec<String> = columns
            .iter()
            .map(|column| column.name_in_files().to_owned())
            .collect();
        let is_new = |column: &&ColumnDefinition| {
            let mut names = names.iter();
            names.any(|name| name == column.name_in_files())
        };
        let given: Vec<_> = definition
            .columns
            .iter()
            .filter(|column| !is_new(column))
            .cloned()
            .collect();
        Ok(Self {
            completion: Completion::plan(session, Arc::new(definition), &given)?,
            given,
            names,
            done: HashSet::new(),
            begun: false,
        })
    }

    /// Whether the columns are still among those of the definition that is to be committed.
    pub fn is_of(&self, id: ObjectId, definition: &TableDefinition) -> bool {
        let has = |name: &String| {
            let mut columns = definition.columns.iter();
            columns.any(|column| column.name_in_files() == name)
        };
        self.completion.definition.id == id && self.names.iter().any(has)
    }

    pub fn definition(&self) -> &Arc<TableDefinition> {
        &self.completion.definition
    }

    /// Writes every file anew that lacks the columns. Rows that others change meanwhile are looked at again.
    pub async fn run(
        &mut self,
        engine: &Engine,
        turn: Option<&CommitTurn>,
    ) -> Result<(), SqlError> {
        let table = engine.lake.table(&self.completion.definition).await?;
        let mut attempt = 1;
        loop {
            table.check_rewritable().await?;
            let snapshot = self.seen(table.snapshot(None).await?);
            let mut round = Vec::new();
            let mut bytes = 0;
            for file in snapshot.files() {
                if bytes >= ROUND_BYTES {
                    break;
                }
                if self.has(&table, file).await? {
                    continue;
                }
                bytes += file.size;
                round.push(Rewritten {
                    written: self.filled(engine, &table, &snapshot, file).await?,
                    files: vec![Arc::clone(file)],
                    in_order: true,
                });
            }
            self.begun = true;
            if round.is_empty() {
                return Ok(());
            }
            let own_turn;
            let turn = match turn {
                Some(turn) => turn,
                None => {
                    own_turn = table.turn().await;
                    &own_turn
                }
            };
            match table.commit_rewritten("ADD COLUMN", round, turn).await {
                Ok(written) => {
                    self.done.extend(written);
                    attempt = 1;
                }
                Err(LakeError::Conflict { .. }) if attempt < ROUND_ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The rows of a table that its transaction has made, with the columns.
    pub async fn of_uncommitted(
        &self,
        engine: &Engine,
        rows: &Uncommitted,
    ) -> Result<Vec<WrittenFile>, SqlError> {
        let table = engine.lake.table(&self.completion.definition).await?;
        let snapshot = self.seen(table.snapshot(None).await?);
        let snapshot = snapshot.with_uncommitted(rows)?;
        let mut written = Vec::new();
        for file in snapshot.files() {
            written.extend(self.filled(engine, &table, &snapshot, file).await?);
        }
        Ok(written)
    }

    /// A version with the new columns, and with those that the transaction drops: it may be rolled back.
    fn seen(&self, snapshot: Arc<TableSnapshot>) -> Arc<TableSnapshot> {
        let mut definition = self.completion.definition.as_ref().clone();
        definition.dropped_columns.clear();
        for field in snapshot.schema().fields() {
            let in_files = snapshot.names().of_column(field.name());
            let mut columns = definition.columns.iter();
            if !columns.any(|column| column.name_in_files() == in_files) {
                // Another column may have its name by now.
                let name = uuid::Uuid::new_v4().to_string();
                let mut dropped = ColumnDefinition::new(name, ColumnType::from_field(field), true);
                dropped.name_in_files = Some(in_files.to_owned());
                definition.columns.push(dropped);
            }
        }
        snapshot.as_defined(&definition).map_or(snapshot, Arc::new)
    }

    async fn has(&mut self, table: &LakeTable, file: &DataFile) -> Result<bool, SqlError> {
        if self.done.contains(&file.path) || file.rows() == Some(0) {
            return Ok(true);
        }
        if !self.begun {
            return Ok(false);
        }
        for name in &self.names {
            if table.file_lacks(file, name).await? {
                return Ok(false);
            }
        }
        self.done.insert(file.path.clone());
        Ok(true)
    }

    async fn filled(
        &self,
        engine: &Engine,
        table: &Arc<LakeTable>,
        snapshot: &TableSnapshot,
        file: &Arc<DataFile>,
    ) -> Result<Vec<WrittenFile>, SqlError> {
        let state = query::state_of(&engine.runtime);
        let mut rows = table
            .rows_of(snapshot, vec![Arc::clone(file)], &state)
            .await?;
        let failed = |error: arrow::error::ArrowError| {
            SqlError::internal("could not read a table's columns").caused_by(error)
        };
        let schema = snapshot.schema();
        let given = self.given.iter();
        let given = given.map(|column| schema.index_of(&column.name).map_err(failed));
        let given = given.collect::<Result<Vec<usize>, _>>()?;
        let layout = (snapshot.partition_by(), snapshot.names());
        let mut writer = table.writer(Arc::clone(schema), layout, WriterOptions::default())?;
        while let Some(batch) = rows.try_next().await.map_err(from_datafusion)? {
            let given = batch.project(&given).map_err(failed)?;
            let complete = self.completion.checked(&given)?;
            let columns = schema.fields().iter().zip(batch.columns());
            let columns = columns.map(|(field, dropped)| {
                Arc::clone(complete.column_by_name(field.name()).unwrap_or(dropped))
            });
            let all = RecordBatch::try_new(Arc::clone(schema), columns.collect());
            writer.write(&all.map_err(failed)?).await?;
        }
        let mut written = writer.finish().await?;
        for file_written in &mut written {
            for (name, value) in file.tags() {
                file_written.set_tag(&name, &value);
            }
        }
        Ok(written)
    }
}
