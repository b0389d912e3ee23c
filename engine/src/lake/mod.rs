//! Keeps tables as plain Delta tables in a folder or a bucket. The only module that names deltalake.
//!
//! ```text
//! TableDefinition --create--> <schema>/<table>/_delta_log/0.json
//! rows  -> AppendWriter -> data files -> commit -> next version
//! query -> snapshot -> provider -> pruned files -> DataFusion's Parquet scan
//! ```
//!
//! What must stay true: a data file is visible only through a commit; a commit happens once or not
//! at all, and its writer knows which; a snapshot never changes; the log alone suffices to rebuild
//! the catalog's tables. Which rows are right is decided by whoever writes them. Names, rights and
//! pipelines are not known here.

mod apply;
#[cfg(test)]
mod apply_tests;
mod cluster;
mod commit;
mod copy_on_write;
mod deletion;
mod encoder;
mod error;
mod features;
#[cfg(test)]
mod features_tests;
mod feed;
mod files;
#[cfg(test)]
mod interop_tests;
mod key;
mod key_index;
#[cfg(test)]
mod key_index_tests;
mod maintenance;
mod metadata;
mod moves;
mod names;
mod partition;
mod places;
mod provider;
mod reader;
mod replace;
mod snapshot;
mod spill;
mod statistics;
mod store;
mod stored;
mod structured;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use boathouse_catalog::definitions::TableDefinition;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Map, json};
use url::Url;
use uuid::Uuid;

pub use apply::{Applied, ApplyRequest, Change, ChangeBatch};
pub use commit::{CommitRequest, CommitTurn, Committed, MetadataChange, TransactionMark};
pub use copy_on_write::Replacement;
pub use error::LakeError;
pub use feed::{CHANGE_TYPE_COLUMN, COMMIT_TIMESTAMP_COLUMN, COMMIT_VERSION_COLUMN, ChangeFeed};
pub use files::{BLOOM_FILTERS, CODECS, COMPRESSION, ROW_GROUP_ROWS};
pub use key::{KeyCodec, KeyNumbers};
pub use key_index::{Asked, Located};
pub use maintenance::{Compaction, ROUND_ATTEMPTS_MAX, ROUND_BYTES, Rewritten, Upkeep};
pub use metadata::widens;
pub use names::FileNames;
pub use provider::{DeltaProvider, FILE_COLUMN, LocatedProvider, ROW_COLUMN};
pub use replace::RowsByFile;
pub use snapshot::{DataFile, TableSnapshot, Uncommitted};
pub use spill::{ChangeSpill, SpilledChanges};
pub(crate) use store::StoreLocation;
pub use table::{AsOf, HistoryEntry, LakeTable};
pub use writer::{AppendWriter, WriterOptions, WrittenFile};

/// The folder of the lake that holds what is ours and no table: quarantined rows, the catalog.
pub const PRIVATE_FOLDER: &str = "_boathouse";

/// What a dropped table leaves in its folder. The folder then never becomes another table's: another
/// process may still hold the old table open, and would write its next version over the new log.
pub(super) const DROPPED: &str = "_boathouse_dropped";

/// Tables kept open. An evicted table is opened again by reading its log.
const TABLES_OPEN_MAX: u64 = 2_000;

/// Bytes that tables kept open may hold, where nothing else was asked for.
const TABLES_BYTES_MAX: usize = 512 << 20;

/// The folder or bucket all tables live in.
pub struct Lake {
    place: StoreLocation,
    options: BTreeMap<String, String>,
    tables: moka::future::Cache<String, Arc<LakeTable>>,
    tables_bytes_max: AtomicUsize,
    /// Counts the uses of tables, to tell which was used longest ago.
    uses: AtomicU64,
    shared: table::Shared,
}

/// A table found in the lake by [`Lake::list_tables`].
#[derive(Debug, Clone)]
pub struct FoundTable {
    pub location: String,
    /// The schema and definition the table carries, ids as they were; `None` when another program
    /// made the table.
    pub definition: Option<(String, TableDefinition)>,
    /// The columns as Delta has them.
    pub snapshot: Arc<TableSnapshot>,
}

impl Lake {
    /// Opens a lake: a local folder, which is made when missing, or `s3://bucket/prefix`.
    pub async fn open(
        url: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<Arc<Self>, LakeError> {
        let place = StoreLocation::open(url, options)?;
        Ok(Arc::new(Self {
            place,
            options: options.clone(),
            tables: moka::future::Cache::new(TABLES_OPEN_MAX),
            tables_bytes_max: AtomicUsize::new(TABLES_BYTES_MAX),
            uses: AtomicU64::default(),
            shared: table::Shared::default(),
        }))
    }

    /// Bounds the bytes that the indexes of all keyed tables may hold together.
    pub fn set_index_bytes_max(&self, bytes: usize) {
        self.shared.budget.set_bytes_max(bytes);
    }

    /// Bytes that the indexes of keyed tables hold.
    pub fn index_bytes(&self) -> usize {
        self.shared.budget.bytes()
    }

    /// Bounds the bytes that tables kept open may hold together while nobody uses them.
    pub fn set_tables_bytes_max(&self, bytes: usize) {
        self.tables_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Bytes, as reckoned, that tables kept open hold.
    pub fn tables_bytes(&self) -> usize {
        self.tables.iter().map(|(_, table)| table.bytes()).sum()
    }

    /// Puts away tables that nobody uses, the one used longest ago first, until the rest is within the
    /// bound.
    pub async fn trim(&self) {
        let mut open: Vec<_> = self.tables.iter().collect();
        let mut bytes: usize = open.iter().map(|(_, table)| table.bytes()).sum();
        let bytes_max = self.tables_bytes_max.load(Ordering::Relaxed);
        open.sort_by_key(|(_, table)| table.used.load(Ordering::Relaxed));
        for (location, table) in open {
            if bytes <= bytes_max {
                return;
            }
            // One for the cache and one for us.
            if Arc::strong_count(&table) <= 2 {
                bytes = bytes.saturating_sub(table.bytes());
                self.tables.invalidate(location.as_str()).await;
            }
        }
    }

    fn note_use(&self, table: &LakeTable) {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        table.used.store(now, Ordering::Relaxed);
    }

    /// The lake's folder, with a trailing slash.
    pub fn url(&self) -> &Url {
        &self.place.url
    }

    /// The lake's store as seen from inside its folder.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.place.prefixed()
    }

    /// Proves that the lake can be written, read and that a put is conditional: the ground on which
    /// every commit stands.
    pub async fn check(&self) -> Result<(), LakeError> {
        let location = self.place.url.to_string();
        let failed = |action| {
            let location = location.clone();
            move |error: object_store::Error| LakeError::storage(action, location, error)
        };
        let store = self.store();
        let path = Path::from(format!("{PRIVATE_FOLDER}/check/{}", Uuid::new_v4()));
        let create = || object_store::PutOptions::from(object_store::PutMode::Create);
        store
            .put_opts(&path, "boathouse".into(), create())
            .await
            .map_err(failed("write a test object"))?;
        let second = store.put_opts(&path, "again".into(), create()).await;
        store
            .delete(&path)
            .await
            .map_err(failed("delete a test object"))?;
        match second {
            Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(failed("write a test object twice")(error)),
            Ok(_) => Err(LakeError::Location {
                location,
                reason: "it overwrites an object that was to be created only when absent, so \
                         commits could be lost"
                    .into(),
            }),
        }
    }

    /// The folder of a location recorded in the catalog: relative to the lake, or a URL.
    pub fn table_url(&self, location: &str) -> Result<Url, LakeError> {
        self.place_of(location).map(|place| place.url)
    }

    fn place_of(&self, location: &str) -> Result<StoreLocation, LakeError> {
        if location.contains("://") || location.starts_with('/') {
            StoreLocation::open(location, &self.options)
        } else {
            self.place.child(location)
        }
    }

    /// Makes an empty table and gives the location to record in the catalog. The definition's own
    /// location is used when it names one; otherwise the table gets `<schema>/<table>`, with a short
    /// suffix when that folder has been used before. When the catalog then refuses the table, call
    /// [`Lake::discard_table`] with the location.
    pub async fn create_table(
        &self,
        definition: &TableDefinition,
        schema_name: &str,
    ) -> Result<String, LakeError> {
        let location = if definition.location.is_empty() {
            self.free_location(schema_name, &definition.name).await?
        } else {
            definition.location.clone()
        };
        let place = self.place_of(&location)?;
        let mut stored = definition.clone();
        stored.location.clone_from(&location);
        let mut lines = vec![commit::commit_info(
            "CREATE TABLE",
            None,
            Uuid::new_v4(),
            json!({}),
            &Map::new(),
        )];
        lines.extend(metadata::protocol_action(&stored, None)?);
        lines.push(metadata::action(&stored, schema_name, None)?);
        let mut text = String::new();
        for line in lines {
            text.push_str(&line.to_string());
            text.push('\n');
        }
        let path = Path::from("_delta_log/00000000000000000000.json");
        let create = object_store::PutOptions::from(object_store::PutMode::Create);
        match place.prefixed().put_opts(&path, text.into(), create).await {
            Ok(_) => Ok(location),
            Err(object_store::Error::AlreadyExists { .. }) => Err(LakeError::Conflict {
                location: place.url.to_string(),
                reason: "there is a table already".into(),
            }),
            Err(error) => Err(LakeError::storage(
                "create a table",
                place.url.as_str(),
                error,
            )),
        }
    }

    async fn free_location(&self, schema: &str, table: &str) -> Result<String, LakeError> {
        let plain = format!("{}/{}", folder_name(schema), folder_name(table));
        let place = self.place.child(&plain)?;
        let listing = place
            .root
            .list_with_delimiter(Some(&place.path))
            .await
            .map_err(|error| LakeError::storage("list the folder", place.url.as_str(), error))?;
        if listing.objects.is_empty() && listing.common_prefixes.is_empty() {
            return Ok(plain);
        }
        let id = Uuid::new_v4().simple().to_string();
        Ok(format!("{plain}-{}", &id[..8]))
    }

    /// The table of a definition, opened once and shared.
    pub async fn table(&self, definition: &TableDefinition) -> Result<Arc<LakeTable>, LakeError> {
        self.table_at(&definition.location).await
    }

    /// The table at a location recorded in the catalog.
    pub async fn table_at(&self, location: &str) -> Result<Arc<LakeTable>, LakeError> {
        if let Some(table) = self.tables.get(location).await {
            self.note_use(&table);
            return Ok(table);
        }
        self.trim().await;
        let place = self.place_of(location)?;
        let opened = self
            .tables
            .try_get_with(
                location.to_owned(),
                LakeTable::open(place, self.shared.clone()),
            )
            .await;
        if let Ok(table) = &opened {
            self.note_use(table);
        }
        // The error is shared by everyone who waited; the first cause is what matters.
        opened.map_err(|error: Arc<LakeError>| match Arc::try_unwrap(error) {
            Ok(error) => error,
            Err(shared) => match shared.as_ref() {
                LakeError::NotATable { location } => LakeError::NotATable {
                    location: location.clone(),
                },
                LakeError::Unsupported { location, feature } => LakeError::Unsupported {
                    location: location.clone(),
                    feature: feature.clone(),
                },
                LakeError::Damaged { location, reason } => LakeError::Damaged {
                    location: location.clone(),
                    reason: reason.clone(),
                },
                other => LakeError::storage("open the table", location, other.to_string()),
            },
        })
    }

    /// The table at a location, when this process has it open.
    pub async fn opened(&self, location: &str) -> Option<Arc<LakeTable>> {
        self.tables.get(location).await
    }

    /// A Delta table anywhere, with options of its own: `read_delta`.
    pub async fn open_table(
        url: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<Arc<LakeTable>, LakeError> {
        LakeTable::open(StoreLocation::open(url, options)?, table::Shared::default()).await
    }

    /// Deletes a table's files. To be called once the catalog has forgotten the table. A mark stays,
    /// which keeps the folder from being used again and tells whoever still has the table open.
    pub async fn drop_table(&self, location: &str) -> Result<(), LakeError> {
        let place = self.place_of(location)?;
        place
            .prefixed()
            .put(&Path::from(DROPPED), Vec::new().into())
            .await
            .map_err(|error| LakeError::storage("delete the table", place.url.as_str(), error))?;
        self.delete_files(location, place).await
    }

    /// Deletes the files of a table that no catalog has ever named.
    pub async fn discard_table(&self, location: &str) -> Result<(), LakeError> {
        let place = self.place_of(location)?;
        self.delete_files(location, place).await
    }

    async fn delete_files(&self, location: &str, place: StoreLocation) -> Result<(), LakeError> {
        self.tables.invalidate(location).await;
        let store = place.prefixed();
        let failed = |error| LakeError::storage("delete the table", place.url.as_str(), error);
        let dropped = Path::from(DROPPED);
        // The log goes first: without it the rest is no table, whatever happens next.
        for prefix in [Some(Path::from("_delta_log")), None] {
            let mut paths = store.list(prefix.as_ref()).map_ok(|object| object.location);
            let mut found = Vec::new();
            while let Some(path) = paths.try_next().await.map_err(failed)? {
                if path != dropped {
                    found.push(path);
                }
            }
            // Newest log entries first, so that a half-deleted log cannot read as an older table.
            found.sort_unstable_by(|left, right| right.cmp(left));
            for path in found {
                match store.delete(&path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        if place.url.scheme() == "file"
            && let Ok(folder) = place.url.to_file_path()
        {
            remove_empty_folders(&folder).await;
        }
        Ok(())
    }

    /// Every table in the lake: any folder with a Delta log that was not dropped, for
    /// `catalog rebuild`.
    pub async fn list_tables(&self) -> Result<Vec<FoundTable>, LakeError> {
        let mut found = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let place = self.place.child(&folder)?;
            let listing = place
                .root
                .list_with_delimiter(Some(&place.path))
                .await
                .map_err(|error| {
                    LakeError::storage("list the folder", place.url.as_str(), error)
                })?;
            let names: Vec<String> = listing
                .common_prefixes
                .iter()
                .filter_map(|path| path.filename().map(str::to_owned))
                .collect();
            let dropped = |path: &Path| path.filename() == Some(DROPPED);
            if listing.objects.iter().any(|one| dropped(&one.location)) {
                continue;
            }
            if names.iter().any(|name| name == "_delta_log") {
                let table = self.table_at(&folder).await?;
                let snapshot = table.snapshot(None).await?;
                let definition = snapshot.definition();
                found.push(FoundTable {
                    location: folder,
                    definition,
                    snapshot,
                });
                continue;
            }
            for name in names {
                if !name.starts_with('_') && !name.starts_with('.') {
                    folders.push(if folder.is_empty() {
                        name
                    } else {
                        format!("{folder}/{name}")
                    });
                }
            }
        }
        found.sort_by(|left, right| left.location.cmp(&right.location));
        Ok(found)
    }
}

/// Removes the folders below a table's, and the table's own when nothing is left in it. They hold no
/// rows; failing to remove them is nobody's loss.
async fn remove_empty_folders(folder: &std::path::Path) {
    if let Ok(mut entries) = tokio::fs::read_dir(folder).await {
        while let Ok(Some(entry)) = entries.next_entry().await {
            if entry.file_type().await.is_ok_and(|kind| kind.is_dir()) {
                let _ = tokio::fs::remove_dir_all(entry.path()).await;
            }
        }
    }
    let _ = tokio::fs::remove_dir(folder).await;
}

/// A name as a folder: what could mean something in a path or a URL becomes `_`.
fn folder_name(name: &str) -> String {
    let folder: String = name
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || letter == '-' {
                letter
            } else {
                '_'
            }
        })
        .take(100)
        .collect();
    // A leading underscore marks what is no table.
    if folder.starts_with('_') {
        format!("t{folder}")
    } else {
        folder
    }
}
