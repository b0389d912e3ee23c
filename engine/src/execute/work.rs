//! What a transaction has done and not yet made visible: catalog changes and written files.
//!
//! Nothing of it is visible to others before COMMIT. Files are already in the lake, named by no
//! commit; catalog changes are an overlay; a table made here has its folder at once, which nobody
//! sees as long as the catalog does not name it.
//!
//! ```text
//! COMMIT: rows -> Delta        of one existing table, or of tables made here
//!         definitions -> catalog
//!         the catalog's definitions -> Delta's metadata
//! ```
//!
//! There is no atomic commit over two Delta tables, nor over an existing table and the catalog, so a
//! transaction that would need one is refused where it asks, and never half-committed. Of a changed
//! table the catalog decides: Delta's metadata follows it, and is repaired by a later write when that
//! fails. When the reply of the catalog's commit is lost, the catalog is asked what became of it before
//! any file is deleted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use boathouse_catalog::definitions::{ObjectId, TableDefinition};
use boathouse_catalog::{CatalogError, Snapshot, Transaction};
use roaring::RoaringTreemap;

use super::fill::Fill;
use super::keys;
use super::settings::Settings;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{
    CommitRequest, CommitTurn, LakeError, MetadataChange, TableSnapshot, Uncommitted, WrittenFile,
};
use crate::query::{self, Pins};

/// How often the catalog is asked what became of a commit, and the first pause; each next one is twice
/// as long.
const SETTLE_ATTEMPTS_MAX: u32 = 6;
const SETTLE_PAUSE: Duration = Duration::from_millis(200);

/// How often Delta's metadata is written after the catalog's, while others keep changing it.
const ALIGN_ATTEMPTS_MAX: u32 = 10;

/// The rows and metadata one table is to get.
#[derive(Clone)]
pub(crate) struct TableWork {
    pub definition: Arc<TableDefinition>,
    pub schema_name: String,
    /// Made by this transaction.
    pub created: bool,
    pub rows: Uncommitted,
    pub metadata_changed: bool,
    /// Files whose keys are still to be checked.
    unchecked: HashSet<String>,
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
    pub pins: Pins,
    catalog: Option<Transaction>,
    tables: BTreeMap<ObjectId, TableWork>,
    /// Tables whose folders go once the catalog no longer names them.
    dropped: Vec<Arc<TableDefinition>>,
    /// Where tables were made here, those that a savepoint or DROP took back included.
    made: Vec<String>,
    /// Files that ROLLBACK TO took back.
    litter: Vec<(Arc<TableDefinition>, Vec<WrittenFile>)>,
    /// New columns of existing tables that all rows have values in.
    fills: Vec<Fill>,
}

impl Work {
    pub fn begin(settings: &Settings) -> Self {
        Self {
            started_at: chrono::Utc::now().timestamp_micros(),
            read_only: settings.boolean("default_transaction_read_only"),
            savepoints: Vec::new(),
            settings_before: settings.all().clone(),
            local_settings: Vec::new(),
            pins: Pins::default(),
            catalog: None,
            tables: BTreeMap::new(),
            dropped: Vec::new(),
            made: Vec::new(),
            litter: Vec::new(),
            fills: Vec::new(),
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
        let mut existing = self.tables.values().filter(|table| !table.created);
        if let Some(existing) = existing.find(|table| !table.rows.is_empty()) {
            return Err(mixed(&existing.definition.name));
        }
        Ok(self.catalog.get_or_insert_with(|| engine.catalog.begin()))
    }

    /// Notes a table this transaction makes.
    pub fn table_created(&mut self, schema_name: &str, definition: TableDefinition) {
        self.made.push(definition.location.clone());
        self.tables.insert(
            definition.id,
            TableWork {
                definition: Arc::new(definition),
                schema_name: schema_name.to_owned(),
                created: true,
                rows: Uncommitted::default(),
                metadata_changed: false,
                unchecked: HashSet::new(),
                operation: "WRITE",
            },
        );
    }

    pub fn table_dropped(&mut self, definition: Arc<TableDefinition>) {
        let made_here = self.tables.remove(&definition.id);
        if made_here.is_none_or(|table| !table.created) {
            self.dropped.push(definition);
        }
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
                rows: Uncommitted::default(),
                metadata_changed: false,
                unchecked: HashSet::new(),
                operation: "ALTER TABLE",
            });
        schema_name.clone_into(&mut work.schema_name);
        work.definition = definition;
        work.metadata_changed = true;
    }

    fn is_created(&self, id: ObjectId) -> bool {
        self.tables.get(&id).is_some_and(|table| table.created)
    }

    /// Whether rows of the table wait for COMMIT.
    pub fn has_rows(&self, id: ObjectId) -> bool {
        let table = self.tables.get(&id);
        table.is_some_and(|table| !table.rows.is_empty())
    }

    /// What waits for COMMIT of the rows of a table made here.
    pub fn rows_of_created(&self, id: ObjectId) -> Option<Uncommitted> {
        let table = self.tables.get(&id).filter(|table| table.created)?;
        Some(table.rows.clone())
    }

    /// Puts files in the place of all rows of a table made here.
    pub fn rows_rewritten(&mut self, id: ObjectId, files: Vec<WrittenFile>) {
        if let Some(table) = self.tables.get_mut(&id) {
            let unchecked = !table.unchecked.is_empty();
            let paths = files.iter().map(|file| file.path().to_owned());
            table.unchecked = paths.filter(|_| unchecked).collect();
            let rows = Uncommitted {
                files: Arc::new(files),
                ..Uncommitted::default()
            };
            let before = std::mem::replace(&mut table.rows, rows);
            let before = Arc::unwrap_or_clone(before.files);
            self.litter.push((Arc::clone(&table.definition), before));
        }
    }

    /// Notes columns that the rows of a table have got values in. COMMIT looks at rows that came since.
    pub fn filled(&mut self, fill: Fill) {
        self.pins.forget(fill.definition().id);
        self.fills.push(fill);
    }

    /// Notes rows for a table, to be committed at COMMIT.
    pub fn rows_written(
        &mut self,
        schema_name: &str,
        definition: &Arc<TableDefinition>,
        files: Vec<WrittenFile>,
        operation: &'static str,
    ) -> Result<(), SqlError> {
        let table = self.table_rows(schema_name, definition, operation)?;
        if keys::enforces(definition) {
            let paths = files.iter().map(|file| file.path().to_owned());
            table.unchecked.extend(paths);
        }
        Arc::make_mut(&mut table.rows.files).extend(files);
        Ok(())
    }

    /// The files whose keys are still to be checked, which the caller does.
    pub fn take_unchecked(&mut self) -> Vec<(Arc<TableDefinition>, HashSet<String>)> {
        let tables = self.tables.values_mut();
        tables
            .filter(|table| !table.unchecked.is_empty())
            .map(|table| {
                let files = std::mem::take(&mut table.unchecked);
                (Arc::clone(&table.definition), files)
            })
            .collect()
    }

    /// Notes rows to delete at COMMIT, by the path of their file and their position in it.
    pub fn rows_deleted(
        &mut self,
        schema_name: &str,
        definition: &Arc<TableDefinition>,
        deleted: BTreeMap<String, RoaringTreemap>,
        operation: &'static str,
    ) -> Result<(), SqlError> {
        let table = self.table_rows(schema_name, definition, operation)?;
        for (path, rows) in deleted {
            let known = table.rows.deleted.entry(path).or_default();
            *Arc::make_mut(known) |= rows;
        }
        Ok(())
    }

    /// Notes that a version of a table was searched for the keys of new rows: COMMIT fails when rows were
    /// added to it since.
    pub fn keys_read(
        &mut self,
        schema_name: &str,
        definition: &Arc<TableDefinition>,
        read: &Arc<TableSnapshot>,
    ) -> Result<(), SqlError> {
        let table = self.table_rows(schema_name, definition, "WRITE")?;
        if !table.created {
            table.rows.keys_read.get_or_insert_with(|| Arc::clone(read));
        }
        Ok(())
    }

    /// Notes that all rows of a table go at COMMIT, those written in this transaction included.
    pub fn rows_truncated(
        &mut self,
        schema_name: &str,
        definition: &Arc<TableDefinition>,
    ) -> Result<(), SqlError> {
        let table = self.table_rows(schema_name, definition, "TRUNCATE")?;
        let before = std::mem::take(&mut table.rows);
        table.rows.removes_all = true;
        let orphans = Arc::unwrap_or_clone(before.files);
        if !orphans.is_empty() {
            self.litter.push((Arc::clone(definition), orphans));
        }
        Ok(())
    }

    fn table_rows(
        &mut self,
        schema_name: &str,
        definition: &Arc<TableDefinition>,
        operation: &'static str,
    ) -> Result<&mut TableWork, SqlError> {
        let id = definition.id;
        let created = self.is_created(id);
        if !created && self.catalog.is_some() {
            return Err(mixed(&definition.name));
        }
        let mut others = self.tables.values().filter(|_| !created);
        if let Some(other) = others.find(|other| other.definition.id != id) {
            return Err(SqlError::unsupported(format!(
                "writing tables \"{}\" and \"{}\" in one transaction",
                other.definition.name, definition.name
            ))
            .hint("commit after each table: two Delta tables cannot be committed as one"));
        }
        let table = self.tables.entry(id).or_insert_with(|| TableWork {
            definition: Arc::clone(definition),
            schema_name: schema_name.to_owned(),
            created: false,
            rows: Uncommitted::default(),
            metadata_changed: false,
            unchecked: HashSet::new(),
            operation,
        });
        table.operation = operation;
        Ok(table)
    }

    /// What this transaction has done to the rows of tables, which it sees.
    pub fn uncommitted(&self) -> Arc<HashMap<ObjectId, Uncommitted>> {
        Arc::new(
            self.tables
                .iter()
                .filter(|(_, table)| !table.rows.is_empty())
                .map(|(id, table)| (*id, table.rows.clone()))
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

    /// Back to a savepoint, which stays. Files written since are deleted when the transaction ends.
    pub fn restore(&mut self, name: &str, settings: &mut Settings) -> Result<(), SqlError> {
        let index = self
            .savepoints
            .iter()
            .rposition(|point| point.name == name)
            .ok_or_else(|| no_savepoint(name))?;
        self.savepoints.truncate(index + 1);
        let point = self.savepoints[index].clone();
        for (id, table) in std::mem::take(&mut self.tables) {
            let kept: HashSet<&str> = point
                .tables
                .get(&id)
                .map(|earlier| earlier.rows.files.iter().map(WrittenFile::path).collect())
                .unwrap_or_default();
            let written = table.rows.files.iter();
            let orphans: Vec<_> = written
                .filter(|file| !kept.contains(file.path()))
                .cloned()
                .collect();
            if !orphans.is_empty() {
                self.litter.push((table.definition, orphans));
            }
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
        let untouched = self.catalog.is_none() && self.tables.is_empty();
        if untouched && self.litter.is_empty() && self.made.is_empty() {
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
            made,
            litter,
            mut fills,
            ..
        } = self;
        fills.retain(|fill| {
            let mut tables = tables.iter();
            tables.any(|(id, table)| fill.is_of(*id, &table.definition))
        });
        // What a TRUNCATE gave up and ROLLBACK TO brought back is no litter.
        let kept: HashSet<&str> = tables
            .values()
            .flat_map(|table| table.rows.files.iter().map(WrittenFile::path))
            .collect();
        for (definition, mut files) in litter {
            files.retain(|file| !kept.contains(file.path()));
            discard(engine, &definition, files).await;
        }
        let turns = fill_in_turn(engine, &mut fills).await;
        let (turns, result) = match turns {
            Ok(turns) => (turns, commit_all(engine, catalog, &tables, &dropped).await),
            Err(error) => (BTreeMap::new(), Err(error.into())),
        };
        let made_here = |location: &String| {
            let mut created = tables.values().filter(|table| table.created);
            created.any(|table| table.definition.location == *location)
        };
        let keeps_made = !matches!(result, Err(Failed { known: true, .. }));
        for location in made {
            if !(keeps_made && made_here(&location)) {
                discard_folder(engine, &location).await;
            }
        }
        result.map_err(|failed| failed.error)?;
        for definition in dropped {
            if let Err(cause) = engine.lake.drop_table(&definition.location).await {
                tracing::warn!(table = %definition.name, error = %cause, "could not remove the files of a dropped table");
            }
        }
        for table in tables.values().filter(|table| table.follows_catalog()) {
            let id = table.definition.id;
            if let Err(error) = align(engine, id, turns.get(&id)).await {
                tracing::warn!(table = %table.definition.name, %error, "the lake's metadata does not follow the catalog yet");
            }
        }
        for mut fill in fills {
            let turn = turns.get(&fill.definition().id);
            fill.run(engine, turn).await.map_err(|error| {
                let what = "the column is there; rows that were written while it was added may lack its default";
                error.detail(what).hint("UPDATE the rows in which it is null")
            })?;
        }
        Ok(())
    }

    /// Forgets everything; files already written are deleted. Runs to its end even if the caller goes
    /// away.
    pub async fn roll_back(self, engine: &Arc<Engine>) {
        if self.tables.is_empty() && self.litter.is_empty() && self.made.is_empty() {
            return;
        }
        let engine = Arc::clone(engine);
        let rolled_back = tokio::spawn(async move {
            for (definition, files) in self.litter {
                discard(&engine, &definition, files).await;
            }
            for table in self.tables.into_values().filter(|table| !table.created) {
                discard(&engine, &table.definition, table.rows.files.to_vec()).await;
            }
            for location in self.made {
                discard_folder(&engine, &location).await;
            }
        });
        if let Err(error) = rolled_back.await {
            tracing::warn!(%error, "files of a rolled back transaction may be left in the lake");
        }
    }
}

impl TableWork {
    /// Whether it is an existing table's definition that changed.
    fn follows_catalog(&self) -> bool {
        self.metadata_changed && !self.created
    }
}

/// Why a commit failed, and whether it is known to have changed nothing.
struct Failed {
    error: SqlError,
    known: bool,
}

impl<E: Into<SqlError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            known: true,
        }
    }
}

async fn commit_all(
    engine: &Arc<Engine>,
    catalog: Option<Transaction>,
    tables: &BTreeMap<ObjectId, TableWork>,
    dropped: &[Arc<TableDefinition>],
) -> Result<(), Failed> {
    for table in tables.values() {
        if table.follows_catalog() {
            engine
                .lake
                .table(&table.definition)
                .await?
                .check_writable()
                .await?;
        } else {
            commit_table(engine, table).await?;
        }
    }
    let Some(transaction) = catalog else {
        return Ok(());
    };
    let error = match engine.catalog.commit(transaction).await {
        Ok(_) => return Ok(()),
        Err(error @ CatalogError::Unreachable(_)) => error,
        Err(error) => return Err(error.into()),
    };
    let created = tables.values().filter(|table| table.created);
    let created: Vec<_> = created.map(|table| table.definition.id).collect();
    let dropped: Vec<_> = dropped.iter().map(|table| table.id).collect();
    if created.is_empty() && dropped.is_empty() {
        return Err(error.into());
    }
    tracing::warn!(%error, "the reply to a commit was lost; the catalog is asked what became of it");
    match settled(engine)
        .await
        .and_then(|snapshot| took_place(&snapshot, &created, &dropped))
    {
        Some(true) => Ok(()),
        known => Err(Failed {
            error: error.into(),
            known: known.is_some(),
        }),
    }
}

/// Fills new columns in files that came since the statement, the last of them with nobody else of this process
/// committing. Gives the turns in which they are still complete, by the tables' ids.
async fn fill_in_turn(
    engine: &Arc<Engine>,
    fills: &mut [Fill],
) -> Result<BTreeMap<ObjectId, CommitTurn>, SqlError> {
    // Everybody takes the tables in the order of their ids.
    let mut tables = BTreeMap::new();
    for fill in &*fills {
        let definition = fill.definition();
        tables.insert(definition.id, engine.lake.table(definition).await?);
    }
    let mut alone = Vec::new();
    for table in tables.values() {
        alone.push(table.rewriting().await);
    }
    for fill in &mut *fills {
        fill.run(engine, None).await?;
    }
    let mut turns = BTreeMap::new();
    for (id, table) in tables {
        turns.insert(id, table.turn().await);
    }
    for fill in fills {
        let turn = turns.get(&fill.definition().id);
        fill.run(engine, turn).await?;
    }
    Ok(turns)
}

/// The catalog once no commit is on its way any more; `None` while it cannot be reached.
async fn settled(engine: &Engine) -> Option<Arc<Snapshot>> {
    let mut pause = SETTLE_PAUSE;
    for attempt in 1..=SETTLE_ATTEMPTS_MAX {
        match engine.catalog.settle().await {
            Ok(snapshot) => return Some(snapshot),
            Err(error) => {
                tracing::warn!(attempt, %error, "whether a commit took place is not known yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    None
}

/// Whether a snapshot shows a transaction that made and dropped these tables. Ids are never used
/// twice, so one table says it of all; without any, nothing is known.
fn took_place(snapshot: &Snapshot, created: &[ObjectId], dropped: &[ObjectId]) -> Option<bool> {
    let exists = |id: &ObjectId| snapshot.table_by_id(*id).is_some();
    match (created.first(), dropped.first()) {
        (Some(id), _) => Some(exists(id)),
        (None, Some(id)) => Some(!exists(id)),
        (None, None) => None,
    }
}

/// Removes the folder of a table that no catalog will ever name.
async fn discard_folder(engine: &Engine, location: &str) {
    if let Err(cause) = engine.lake.discard_table(location).await {
        tracing::warn!(table = %location, error = %cause, "could not remove an unborn table");
    }
}

/// Commits the rows of a table, and the definition of one that nobody sees yet.
async fn commit_table(engine: &Arc<Engine>, table: &TableWork) -> Result<(), SqlError> {
    if table.rows.is_empty() && !table.metadata_changed {
        return Ok(());
    }
    let lake_table = engine.lake.table(&table.definition).await?;
    if !table.created && lacks_columns(&lake_table.cached(), &table.definition) {
        align(engine, table.definition.id, None).await?;
    }
    let metadata = table.metadata_changed.then(|| MetadataChange {
        schema_name: table.schema_name.clone(),
        definition: TableDefinition::clone(&table.definition),
    });
    // A file of this transaction that has no row left is not worth a commit.
    let mut deletes = table.rows.deleted.clone();
    let (mut adds, mut emptied): (Vec<_>, Vec<_>) =
        table.rows.files.iter().cloned().partition(|file| {
            let gone = deletes.get(file.path()).map_or(0, |rows| rows.len());
            gone < file.rows
        });
    for file in &emptied {
        deletes.remove(file.path());
    }
    let mut replaces = BTreeMap::new();
    if !deletes.is_empty() && !lake_table.uses_deletion_vectors(&table.definition.properties) {
        let rows = Uncommitted {
            files: Arc::new(adds.clone()),
            deleted: std::mem::take(&mut deletes),
            removes_all: table.rows.removes_all,
            keys_read: None,
        };
        let state = query::state_of(&engine.runtime);
        let made = lake_table.rewrite_without_deleted(&rows, &state).await?;
        adds.retain(|file| {
            let mut unneeded = made.unneeded.iter();
            !unneeded.any(|other| other.path() == file.path())
        });
        adds.extend(made.adds);
        emptied.extend(made.unneeded);
        replaces = made.replaces;
    }
    let nothing =
        adds.is_empty() && deletes.is_empty() && replaces.is_empty() && !table.rows.removes_all;
    if !nothing || metadata.is_some() {
        let written = adds.clone();
        let committed = lake_table
            .commit(CommitRequest {
                operation: table.operation.to_owned(),
                adds,
                replaces,
                removes_all: table.rows.removes_all,
                keys_read: table.rows.keys_read.clone(),
                deletes,
                metadata,
                ..CommitRequest::default()
            })
            .await;
        if let Err(error) = committed {
            if matches!(error, LakeError::Conflict { .. }) {
                lake_table.discard(written).await;
            }
            return Err(error.into());
        }
    }
    lake_table.discard(emptied).await;
    Ok(())
}

/// Whether the log has not followed the catalog yet.
fn lacks_columns(snapshot: &TableSnapshot, definition: &TableDefinition) -> bool {
    let columns = definition.columns.iter().map(|column| {
        let field = snapshot.schema().field_with_name(&column.name).ok()?;
        let in_files = snapshot.names().of_column(&column.name);
        let same = field.data_type() == &column.column_type.arrow();
        (same && in_files == column.name_in_files()).then_some(())
    });
    columns.into_iter().any(|found| found.is_none())
}

/// Brings the metadata of a table's log to what the newest catalog says. Whoever changed the catalog
/// does so afterwards and looks again, so the last of several writes the last word.
async fn align(engine: &Engine, id: ObjectId, turn: Option<&CommitTurn>) -> Result<(), SqlError> {
    for _ in 0..ALIGN_ATTEMPTS_MAX {
        let catalog = engine.catalog.refresh().await?;
        let Some(definition) = catalog.table_by_id(id) else {
            return Ok(());
        };
        let schema = catalog.schema_by_id(definition.schema);
        let schema_name = schema.map(|schema| schema.name.clone()).unwrap_or_default();
        let table = engine.lake.table(definition).await?;
        let snapshot = table.snapshot(None).await?;
        if snapshot.describes(&schema_name, definition) {
            return Ok(());
        }
        let change = MetadataChange {
            schema_name,
            definition: TableDefinition::clone(definition),
        };
        let own_turn;
        let turn = match turn {
            Some(turn) => turn,
            None => {
                own_turn = table.turn().await;
                &own_turn
            }
        };
        match table.change_metadata("ALTER TABLE", change, turn).await {
            Ok(_) | Err(LakeError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn discard(engine: &Engine, definition: &TableDefinition, files: Vec<WrittenFile>) {
    if files.is_empty() {
        return;
    }
    match engine.lake.table(definition).await {
        Ok(table) => table.discard(files).await,
        Err(error) => {
            tracing::warn!(table = %definition.name, %error, "could not delete the files of a rolled back transaction");
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

#[cfg(test)]
mod tests {
    use boathouse_catalog::definitions::ObjectId;
    use boathouse_catalog::{Catalog, CatalogOptions, MasterKey};

    use super::*;

    #[tokio::test]
    async fn one_table_tells_whether_a_transaction_took_place() {
        let folder = tempfile::tempdir().unwrap();
        let url = Catalog::url_of_file(&folder.path().join("catalog.db"));
        let catalog = Catalog::open(&url, MasterKey::generate(), CatalogOptions::default())
            .await
            .unwrap();
        let mut transaction = catalog.begin();
        let schema = transaction.snapshot().schema("public").unwrap().id;
        let definition = TableDefinition::new(schema, "t", ObjectId::SUPERUSER, "public/t");
        let there = transaction.create_table(definition).unwrap();
        catalog.commit(transaction).await.unwrap();
        let snapshot = catalog.settle().await.unwrap();
        let never = ObjectId(999_999);
        assert_eq!(took_place(&snapshot, &[there], &[]), Some(true));
        assert_eq!(took_place(&snapshot, &[never], &[there]), Some(false));
        assert_eq!(took_place(&snapshot, &[], &[there]), Some(false));
        assert_eq!(took_place(&snapshot, &[], &[never]), Some(true));
        assert_eq!(took_place(&snapshot, &[], &[]), None);
    }
}
