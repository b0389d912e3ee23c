//! What a transaction has done and not yet made visible: catalog changes and written files.
//!
//! Nothing of it is visible to others before COMMIT. Files are already in the lake, named by no
//! commit; catalog changes are an overlay; a table made here is a Delta table of its own at once, with
//! its rows, which nobody sees as long as the catalog does not name it. COMMIT makes an existing
//! table's one Delta commit first, then the catalog's.
//!
//! There is no atomic commit over two Delta tables, nor over an existing table and the catalog, so a
//! transaction that would need one is refused where it asks, and never half-committed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use boathouse_catalog::definitions::{ObjectId, TableDefinition};
use boathouse_catalog::{Snapshot, Transaction};

use super::settings::Settings;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{CommitRequest, MetadataChange, WrittenFile};

/// The rows and metadata one table is to get.
#[derive(Clone)]
pub(crate) struct TableWork {
    pub definition: Arc<TableDefinition>,
    pub schema_name: String,
    /// Made by this transaction.
    pub created: bool,
    pub files: Vec<WrittenFile>,
    pub removes_all: bool,
    pub metadata_changed: bool,
    pub operation: &'static str,
}

/// A point ROLLBACK TO comes back to.
#[derive(Clone)]
pub(crate) struct SavedPoint {
    pub name: String,
    catalog: Option<Transaction>,
    tables: BTreeMap<ObjectId, TableWork>,
    dropped: Vec<Arc<TableDefinition>>,
    settings: Arc<BTreeMap<String, String>>,
}

pub(crate) struct Work {
    /// Microseconds since 1970: `now()`.
    pub started_at: i64,
    pub read_only: bool,
    pub savepoints: Vec<SavedPoint>,
    pub settings_before: Arc<BTreeMap<String, String>>,
    /// Values that `SET LOCAL` replaced, to be put back at the end.
    pub local_settings: Vec<(String, String)>,
    catalog: Option<Transaction>,
    tables: BTreeMap<ObjectId, TableWork>,
    /// Tables whose folders go once the catalog no longer names them.
    dropped: Vec<Arc<TableDefinition>>,
}

impl Work {
    pub fn begin(settings: &Settings) -> Self {
        Self {
            started_at: chrono::Utc::now().timestamp_micros(),
            read_only: settings.boolean("default_transaction_read_only"),
            savepoints: Vec::new(),
            settings_before: settings.all().clone(),
            local_settings: Vec::new(),
            catalog: None,
            tables: BTreeMap::new(),
            dropped: Vec::new(),
        }
    }

    pub fn snapshot(&self, engine: &Engine) -> Arc<Snapshot> {
        match &self.catalog {
            Some(transaction) => Arc::new(transaction.snapshot().clone()),
            None => engine.catalog.snapshot(),
        }
    }

    /// The overlay for catalog changes, begun when first needed.
    pub fn catalog(&mut self, engine: &Engine) -> Result<&mut Transaction, SqlError> {
        if let Some(existing) = self.tables.values().find(|table| !table.files.is_empty()) {
            return Err(mixed(&existing.definition.name));
        }
        Ok(self.catalog.get_or_insert_with(|| engine.catalog.begin()))
    }

    /// Notes a table this transaction makes.
    pub fn table_created(&mut self, schema_name: &str, definition: TableDefinition) {
        self.tables.insert(
            definition.id,
            TableWork {
                definition: Arc::new(definition),
                schema_name: schema_name.to_owned(),
                created: true,
                files: Vec::new(),
                removes_all: false,
                metadata_changed: false,
                operation: "WRITE",
            },
        );
    }

    pub fn table_dropped(&mut self, definition: Arc<TableDefinition>) {
        self.tables.remove(&definition.id);
        self.dropped.push(definition);
    }

    /// Notes a changed definition, so that the lake's own metadata follows.
    pub fn table_changed(&mut self, schema_name: &str, definition: TableDefinition) {
        let definition = Arc::new(definition);
        let work = self
            .tables
            .entry(definition.id)
            .or_insert_with(|| TableWork {
                definition: Arc::clone(&definition),
                schema_name: schema_name.to_owned(),
                created: false,
                files: Vec::new(),
                removes_all: false,
                metadata_changed: false,
                operation: "ALTER TABLE",
            });
        schema_name.clone_into(&mut work.schema_name);
        work.definition = definition;
        work.metadata_changed = true;
    }

    /// Whether this transaction made the table: its rows need not wait for COMMIT.
    pub fn is_created(&self, id: ObjectId) -> bool {
        self.tables.get(&id).is_some_and(|table| table.created)
    }

    /// Notes rows for an existing table, to be committed at COMMIT.
    pub fn rows_written(
        &mut self,
        schema_name: &str,
        definition: &Arc<TableDefinition>,
        files: Vec<WrittenFile>,
        operation: &'static str,
    ) -> Result<(), SqlError> {
        let id = definition.id;
        if self.catalog.is_some() {
            return Err(mixed(&definition.name));
        }
        if let Some(other) = self.tables.values().find(|other| other.definition.id != id) {
            return Err(SqlError::unsupported(format!(
                "writing tables \"{}\" and \"{}\" in one transaction",
                other.definition.name, definition.name
            ))
            .hint("commit after each table: two Delta tables cannot be committed as one"));
        }
        self.tables
            .entry(id)
            .or_insert_with(|| TableWork {
                definition: Arc::clone(definition),
                schema_name: schema_name.to_owned(),
                created: false,
                files: Vec::new(),
                removes_all: false,
                metadata_changed: false,
                operation,
            })
            .files
            .extend(files);
        Ok(())
    }

    /// The files written to existing tables, whose rows this transaction sees.
    pub fn written(&self) -> Arc<HashMap<ObjectId, Vec<WrittenFile>>> {
        Arc::new(
            self.tables
                .iter()
                .filter(|(_, table)| !table.files.is_empty())
                .map(|(id, table)| (*id, table.files.clone()))
                .collect(),
        )
    }

    pub fn save(&mut self, name: &str, settings: &Settings) {
        self.savepoints.push(SavedPoint {
            name: name.to_owned(),
            catalog: self.catalog.clone(),
            tables: self.tables.clone(),
            dropped: self.dropped.clone(),
            settings: settings.all().clone(),
        });
    }

    /// Back to a savepoint, which stays. Files written since are litter for the caller to discard.
    pub async fn restore(
        &mut self,
        engine: &Engine,
        name: &str,
        settings: &mut Settings,
    ) -> Result<(), SqlError> {
        let index = self
            .savepoints
            .iter()
            .rposition(|point| point.name == name)
            .ok_or_else(|| no_savepoint(name))?;
        self.savepoints.truncate(index + 1);
        let point = self.savepoints[index].clone();
        for (id, table) in std::mem::take(&mut self.tables) {
            let kept = point
                .tables
                .get(&id)
                .map_or(0, |earlier| earlier.files.len());
            let orphans = table.files.iter().skip(kept).cloned().collect::<Vec<_>>();
            discard(engine, &table, orphans).await;
        }
        self.catalog = point.catalog;
        self.tables = point.tables;
        self.dropped = point.dropped;
        settings.restore(&point.settings);
        Ok(())
    }

    pub fn release(&mut self, name: &str) -> Result<(), SqlError> {
        let index = self
            .savepoints
            .iter()
            .rposition(|point| point.name == name)
            .ok_or_else(|| no_savepoint(name))?;
        self.savepoints.truncate(index);
        Ok(())
    }

    /// Makes everything visible. Runs to its end even if the caller goes away.
    pub async fn commit(self, engine: &Arc<Engine>) -> Result<(), SqlError> {
        if self.catalog.is_none() && self.tables.is_empty() {
            return Ok(());
        }
        let engine = Arc::clone(engine);
        tokio::spawn(async move { self.commit_now(&engine).await })
            .await
            .map_err(|error| SqlError::internal("the commit was interrupted").caused_by(error))?
    }

    async fn commit_now(self, engine: &Arc<Engine>) -> Result<(), SqlError> {
        let Self {
            catalog,
            tables,
            dropped,
            ..
        } = self;
        let result = async {
            for table in tables.values() {
                commit_table(engine, table).await?;
            }
            if let Some(transaction) = catalog {
                engine.catalog.commit(transaction).await?;
            }
            Ok::<(), SqlError>(())
        }
        .await;
        if let Err(error) = result {
            remove_created(engine, tables.values()).await;
            return Err(error);
        }
        for definition in dropped {
            if let Err(cause) = engine.lake.drop_table(&definition.location).await {
                tracing::warn!(table = %definition.name, error = %cause, "could not remove the files of a dropped table");
            }
        }
        Ok(())
    }

    /// Forgets everything; files already written are deleted.
    pub async fn roll_back(self, engine: &Engine) {
        for table in self.tables.values() {
            discard(engine, table, table.files.clone()).await;
        }
        remove_created(engine, self.tables.values()).await;
    }
}

/// Removes the folders of tables that no catalog will ever name.
async fn remove_created(engine: &Engine, tables: impl Iterator<Item = &TableWork>) {
    for table in tables.filter(|table| table.created) {
        if let Err(cause) = engine.lake.drop_table(&table.definition.location).await {
            tracing::warn!(table = %table.definition.name, error = %cause, "could not remove an unborn table");
        }
    }
}

async fn commit_table(engine: &Arc<Engine>, table: &TableWork) -> Result<(), SqlError> {
    let metadata_changed = table.metadata_changed;
    if table.files.is_empty() && !metadata_changed && !table.removes_all {
        return Ok(());
    }
    let lake_table = engine.lake.table(&table.definition).await?;
    let metadata = metadata_changed.then(|| MetadataChange {
        schema_name: table.schema_name.clone(),
        definition: TableDefinition::clone(&table.definition),
    });
    lake_table
        .commit(CommitRequest {
            operation: table.operation.to_owned(),
            adds: table.files.clone(),
            removes_all: table.removes_all,
            metadata,
            ..CommitRequest::default()
        })
        .await?;
    Ok(())
}

async fn discard(engine: &Engine, table: &TableWork, files: Vec<WrittenFile>) {
    if files.is_empty() {
        return;
    }
    match engine.lake.table(&table.definition).await {
        Ok(files_of_table) => files_of_table.discard(files).await,
        Err(error) => {
            tracing::warn!(table = %table.definition.name, %error, "could not delete the files of a rolled back transaction");
        }
    }
}

fn mixed(table: &str) -> SqlError {
    SqlError::unsupported(format!(
        "changing the catalog and writing the existing table \"{table}\" in one transaction"
    ))
    .hint("commit between the two: they cannot be committed as one")
}

fn no_savepoint(name: &str) -> SqlError {
    SqlError::new(
        SqlState("3B001"),
        format!("savepoint \"{name}\" does not exist"),
    )
}
