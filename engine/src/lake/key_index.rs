//! Where the row of each key is: a cache in memory, built from the table and never the truth.
//!
//! ```text
//! keys -> index at the snapshot's version -> places -> not deleted -> Located
//!            ^ behind: keys of the files that are new are read
//!            ^ absent: built; until then the table is scanned
//! ```
//!
//! What must stay true: at its version, every live row's key leads to the row. A key may lead to a
//! row that is gone, so what is found is checked against the snapshot. Whoever committed, the next
//! version differs by its files: keys of new files are read, rows that were deleted need nothing, and where a
//! compaction of this process put rows elsewhere, their places lead on to where they are.
//! Where rows came back to a file, it is taken for a new one. A table with two rows of one key has no
//! index.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{FieldRef, Int32Type, Int64Type, Schema};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::physical_plan::execute_stream;
use deltalake_core::kernel::DeletionVectorDescriptor;
use futures::StreamExt;
use roaring::RoaringTreemap;

use super::key::{KeyCodec, KeyNumbers};
use super::moves::{Move, MovedFile};
use super::places::{Places, WholePlaces};
use super::snapshot::DataFile;
use super::{FILE_COLUMN, LakeError, LakeTable, ROW_COLUMN, TableSnapshot};
use crate::query::failure::from_datafusion;

/// Bytes of all indexes together, where nothing else was asked for.
pub(super) const BYTES_MAX: usize = 1 << 30;

/// Rows that are read while a statement waits. More are read behind it, and it scans the table.
const ROWS_AT_ONCE: u64 = 200_000;

/// How long a table with doubled keys, or one too large, is left alone.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// The room all indexes share.
#[derive(Debug)]
pub(super) struct IndexBudget {
    bytes_max: AtomicUsize,
    indexes: Mutex<Vec<Weak<KeyIndex>>>,
    uses: AtomicU64,
}

impl Default for IndexBudget {
    fn default() -> Self {
        Self {
            bytes_max: AtomicUsize::new(BYTES_MAX),
            indexes: Mutex::default(),
            uses: AtomicU64::default(),
        }
    }
}

impl IndexBudget {
    pub fn set_bytes_max(&self, bytes: usize) {
        self.bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Bytes held by all indexes.
    pub fn bytes(&self) -> usize {
        self.alive().iter().map(|index| index.bytes()).sum()
    }

    fn alive(&self) -> Vec<Arc<KeyIndex>> {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.retain(|index| index.strong_count() > 0);
        indexes.iter().filter_map(Weak::upgrade).collect()
    }

    fn register(&self, index: &Arc<KeyIndex>) {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.push(Arc::downgrade(index));
    }

    fn used(&self, index: &KeyIndex) {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        index.used.store(now, Ordering::Relaxed);
    }

    /// Whether `index` may hold so many bytes, after forgetting others that were not used for longest.
    fn has_room(&self, index: &Arc<KeyIndex>, bytes: usize) -> bool {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        if bytes > bytes_max {
            return false;
        }
        let mut others = self.alive();
        others.retain(|other| !Arc::ptr_eq(other, index));
        others.sort_by_key(|other| other.used.load(Ordering::Relaxed));
        let mut total: usize = others.iter().map(|other| other.bytes()).sum();
        for other in others {
            if total + bytes <= bytes_max {
                break;
            }
            // One in use just now is forgotten another time.
            if let Ok(mut state) = other.turn.try_lock() {
                total -= other.bytes();
                *state = None;
                other.bytes.store(0, Ordering::Relaxed);
            }
        }
        total + bytes <= bytes_max
    }
}

/// The index over one key of one table.
pub(super) struct KeyIndex {
    fields: Vec<FieldRef>,
    /// What the files call them.
    in_files: Vec<String>,
    codec: KeyCodec,
    /// Whoever asks or brings up to date holds it.
    turn: tokio::sync::Mutex<Option<State>>,
    building: AtomicBool,
    refused: Mutex<Option<Instant>>,
    bytes: AtomicUsize,
    used: AtomicU64,
}

impl std::fmt::Debug for KeyIndex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.fields.iter().map(|field| field.name()).collect();
        formatter.debug_tuple("KeyIndex").field(&names).finish()
    }
}

enum AnyPlaces {
    Exact(WholePlaces),
    Hashed(Places<u128>),
}

struct State {
    version: i64,
    places: AnyPlaces,
    /// Each file's rows are numbered on from those of the file before.
    files: Vec<IndexedFile>,
    /// Of the files of `version`.
    by_path: HashMap<String, usize>,
    next: u32,
    /// What files that were moved take.
    moved_bytes: usize,
}

struct IndexedFile {
    first: u32,
    /// Empty when the file is no longer part of the table.
    path: String,
    vector: Option<DeletionVectorDescriptor>,
    /// Where its rows are now, when a compaction has moved them.
    moved: Option<Moved>,
}

/// Where the rows of a compacted file are.
struct Moved {
    /// Living rows of the files before it that were put together with it.
    offset: u64,
    /// Its rows that were gone.
    gone: Arc<RoaringTreemap>,
    /// The files that have them, by their numbers, with their rows.
    to: Arc<[(usize, u64)]>,
}

/// Keys read from files.
struct KeyBatch {
    numbers: KeyNumbers,
    nulls: Option<NullBuffer>,
    /// Of the files that are read.
    file: usize,
    rows: Int64Array,
}

/// How an index gets from its version to a snapshot's.
struct Step {
    new: Vec<Arc<DataFile>>,
    gone: Vec<String>,
    changed: Vec<Arc<DataFile>>,
}

/// Keys to be found.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The columns of the key.
    pub key: &'a [String],
    /// Their values, in the types of the table.
    pub keys: &'a [ArrayRef],
    /// Whether the table is worth an index, should it have none.
    pub builds: bool,
}

/// The rows that have one of the keys asked for.
#[derive(Debug, Clone)]
pub struct Located {
    /// The key, [`FILE_COLUMN`] and [`ROW_COLUMN`] of each.
    pub(super) rows: RecordBatch,
    /// By the path of the file.
    pub(super) by_file: BTreeMap<String, Arc<RoaringTreemap>>,
}

impl KeyIndex {
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn is_refused(&self) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_some_and(|at| at.elapsed() < REFUSED_FOR)
    }

    fn refuse(&self) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = Some(Instant::now());
        self.bytes.store(0, Ordering::Relaxed);
    }

    fn bytes_for(&self, rows: u64) -> usize {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        if self.codec.is_exact() {
            return WholePlaces::bytes_for(rows);
        }
        let entry = size_of::<u128>() + size_of::<u32>();
        rows.saturating_mul(entry) / 32 * 33
    }
}

impl State {
    fn empty(codec: &KeyCodec, rows: u64, version: i64) -> Self {
        let rows = usize::try_from(rows).unwrap_or(0);
        Self {
            version,
            places: if codec.is_exact() {
                AnyPlaces::Exact(WholePlaces::for_keys(rows))
            } else {
                AnyPlaces::Hashed(Places::for_keys(rows))
            },
            files: Vec::new(),
            by_path: HashMap::new(),
            next: 0,
            moved_bytes: 0,
        }
    }

    /// Makes room for a file's rows among the numbers; `None` when they are used up.
    fn add_file(&mut self, file: &DataFile) -> Option<usize> {
        let rows = u32::try_from(file.rows_stored?).ok()?;
        let next = self.next.checked_add(rows)?;
        self.remove_file(&file.path);
        self.files.push(IndexedFile {
            first: self.next,
            path: file.path.clone(),
            vector: file.deletion_vector.clone(),
            moved: None,
        });
        self.next = next;
        self.by_path.insert(file.path.clone(), self.files.len() - 1);
        Some(self.files.len() - 1)
    }

    /// The files that compactions, oldest first, begin with and that are not known.
    fn unknown_of(&self, moves: &[Arc<Move>]) -> Vec<Arc<DataFile>> {
        let mut made: HashSet<&str> = HashSet::new();
        let mut unknown = Vec::new();
        for one in moves {
            for (path, from) in &one.from {
                if !self.by_path.contains_key(path) && !made.contains(path.as_str()) {
                    unknown.extend(from.file.clone());
                }
            }
            made.extend(one.to.iter().map(|(path, _)| path.as_str()));
        }
        unknown
    }

    /// Follows compactions, oldest first, of files that are all known.
    fn follow(&mut self, moves: &[Arc<Move>]) {
        for one in moves {
            let known = |path: &String| self.by_path.contains_key(path);
            if !one.from.keys().all(known) || one.to.iter().any(|(path, _)| known(path)) {
                continue;
            }
            let mut to = Vec::with_capacity(one.to.len());
            for (path, rows) in &one.to {
                to.push((self.files.len(), *rows));
                self.by_path.insert(path.clone(), self.files.len());
                self.files.push(IndexedFile {
                    // Places lead to it through others alone.
                    first: self.next,
                    path: path.clone(),
                    vector: None,
                    moved: None,
                });
            }
            let to: Arc<[(usize, u64)]> = to.into();
            for (path, MovedFile { before, gone, .. }) in &one.from {
                let index = self.by_path.remove(path);
                if let Some(file) = index.and_then(|index| self.files.get_mut(index)) {
                    file.path = String::new();
                    file.moved = Some(Moved {
                        offset: *before,
                        gone: Arc::clone(gone),
                        to: Arc::clone(&to),
                    });
                    self.moved_bytes += 64 + gone.serialized_size();
                }
            }
        }
    }

    fn remove_file(&mut self, path: &str) {
        if let Some(index) = self.by_path.remove(path)
            && let Some(file) = self.files.get_mut(index)
        {
            file.path = String::new();
        }
    }

    /// The file and row of a place, when the file is part of the table.
    fn address(&self, place: u32) -> Option<(&str, u64)> {
        let after = self.files.partition_point(|file| file.first <= place);
        let mut file = self.files.get(after.checked_sub(1)?)?;
        let mut row = u64::from(place - file.first);
        while let Some(moved) = &file.moved {
            if moved.gone.contains(row) {
                return None;
            }
            let mut living = moved.offset + row - moved.gone.rank(row);
            let mut to = moved.to.iter();
            let (index, _) = to.find(|(_, rows)| match living.checked_sub(*rows) {
                Some(rest) => {
                    living = rest;
                    false
                }
                None => true,
            })?;
            file = self.files.get(*index)?;
            row = living;
        }
        (!file.path.is_empty()).then_some((file.path.as_str(), row))
    }

    /// The places that each key's row has, if any.
    fn get(&self, numbers: &KeyNumbers, nulls: Option<&NullBuffer>) -> Vec<Option<u32>> {
        let valid = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
        match (&self.places, numbers) {
            (AnyPlaces::Exact(places), KeyNumbers::Exact(keys)) => {
                let rows = keys.iter().enumerate();
                rows.map(|(row, key)| places.get(*key).filter(|_| valid(row)))
                    .collect()
            }
            (AnyPlaces::Hashed(places), KeyNumbers::Hashed(keys)) => {
                let rows = keys.iter().enumerate();
                rows.map(|(row, key)| places.get(*key).filter(|_| valid(row)))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Takes the keys of a file's rows; `replaced` gets the places their keys led to until now.
    fn put(&mut self, batch: &KeyBatch, file: usize, replaced: &mut Vec<u32>) {
        let Some(first) = self.files.get(file).map(|file| file.first) else {
            return;
        };
        for (row, place) in places_of(batch, first) {
            replaced.extend(match (&mut self.places, &batch.numbers) {
                (AnyPlaces::Exact(places), KeyNumbers::Exact(keys)) => places.put(keys[row], place),
                (AnyPlaces::Hashed(places), KeyNumbers::Hashed(keys)) => {
                    places.put(keys[row], place)
                }
                _ => None,
            });
        }
    }

    /// The same for many rows, to be followed by [`State::settle`].
    fn push(&mut self, batch: &KeyBatch, file: usize) {
        let Some(first) = self.files.get(file).map(|file| file.first) else {
            return;
        };
        for (row, place) in places_of(batch, first) {
            match (&mut self.places, &batch.numbers) {
                (AnyPlaces::Exact(places), KeyNumbers::Exact(keys)) => {
                    places.push(keys[row], place)
                }
                (AnyPlaces::Hashed(places), KeyNumbers::Hashed(keys)) => {
                    places.push(keys[row], place);
                }
                _ => {}
            }
        }
    }

    /// Whether a key was pushed twice.
    fn settle(&mut self) -> bool {
        match &mut self.places {
            AnyPlaces::Exact(places) => places.settle(),
            AnyPlaces::Hashed(places) => places.settle(),
        }
    }

    fn len(&self) -> usize {
        match &self.places {
            AnyPlaces::Exact(places) => places.len(),
            AnyPlaces::Hashed(places) => places.len(),
        }
    }

    fn bytes(&self) -> usize {
        let places = match &self.places {
            AnyPlaces::Exact(places) => places.bytes(),
            AnyPlaces::Hashed(places) => places.bytes(),
        };
        // A path is held twice, and is some hundred bytes long.
        let file = size_of::<IndexedFile>() + 2 * 128;
        places + self.files.len() * file + self.moved_bytes
    }

    /// What a snapshot has that the index has not.
    fn step_to(&self, snapshot: &TableSnapshot) -> Step {
        let mut step = Step {
            new: Vec::new(),
            gone: Vec::new(),
            changed: Vec::new(),
        };
        let mut known = 0;
        for file in snapshot.files() {
            match self
                .by_path
                .get(&file.path)
                .and_then(|index| self.files.get(*index))
            {
                None => step.new.push(Arc::clone(file)),
                Some(before) => {
                    known += 1;
                    if before.vector != file.deletion_vector {
                        step.changed.push(Arc::clone(file));
                    }
                }
            }
        }
        if known < self.by_path.len() {
            let live: HashSet<&str> = snapshot
                .files()
                .iter()
                .map(|file| file.path.as_str())
                .collect();
            let paths = self.by_path.keys();
            step.gone = paths
                .filter(|path| !live.contains(path.as_str()))
                .cloned()
                .collect();
        }
        step
    }

    /// Whether more of it is dead than alive.
    fn is_worn(&self, live_rows: Option<u64>) -> bool {
        let live = live_rows
            .and_then(|rows| usize::try_from(rows).ok())
            .unwrap_or(0);
        self.len() > 2 * live + 100_000 || self.files.len() > 4 * self.by_path.len() + 10_000
    }
}

/// The rows of a batch whose keys have no NULL, with their places.
fn places_of(batch: &KeyBatch, first: u32) -> impl Iterator<Item = (usize, u32)> {
    let rows = batch.rows.values().iter().enumerate();
    rows.filter_map(move |(index, row)| {
        let valid = batch
            .nulls
            .as_ref()
            .is_none_or(|nulls| nulls.is_valid(index));
        let place = first.checked_add(u32::try_from(*row).ok()?)?;
        valid.then_some((index, place))
    })
}

impl LakeTable {
    /// Finds the rows of `seen` that have one of the keys; `committed` is the version `seen` builds
    /// on. `None` when there is no index to ask: the table has to be searched.
    pub async fn locate(
        self: &Arc<Self>,
        Asked { key, keys, builds }: Asked<'_>,
        committed: &Arc<TableSnapshot>,
        seen: &Arc<TableSnapshot>,
        session: &Arc<SessionState>,
    ) -> Result<Option<Located>, LakeError> {
        let in_files = |snapshot: &TableSnapshot| {
            let names = key.iter().map(|name| snapshot.names().of_column(name));
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        // A transaction may have renamed columns that the committed version has by their old names.
        if in_files(committed) != in_files(seen) {
            return Ok(None);
        }
        let Some(index) = self.key_index(key, committed) else {
            return Ok(None);
        };
        self.budget.used(&index);
        let mut state = index.turn.lock().await;
        if !builds && state.is_none() {
            return Ok(None);
        }
        if !self
            .bring_to(&index, &mut state, committed, session)
            .await?
        {
            return Ok(None);
        }
        let (numbers, nulls) = index
            .codec
            .numbers(keys)
            .map_err(|error| LakeError::Encode {
                reason: error.to_string(),
            })?;
        let mut found: BTreeMap<String, Vec<(u64, usize)>> = BTreeMap::new();
        if let Some(state) = state.as_ref() {
            for (row, place) in state.get(&numbers, nulls.as_ref()).into_iter().enumerate() {
                if let Some((path, position)) = place.and_then(|place| state.address(place)) {
                    match found.get_mut(path) {
                        Some(rows) => rows.push((position, row)),
                        None => {
                            found.insert(path.to_owned(), vec![(position, row)]);
                        }
                    }
                }
            }
        }
        drop(state);
        self.living(&index, found, keys, seen).await.map(Some)
    }

    /// Keeps what a snapshot still has of the rows found.
    async fn living(
        &self,
        index: &KeyIndex,
        found: BTreeMap<String, Vec<(u64, usize)>>,
        keys: &[ArrayRef],
        seen: &TableSnapshot,
    ) -> Result<Located, LakeError> {
        let (mut files, mut positions, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        let mut by_file = BTreeMap::new();
        for (number, file) in (0_i32..).zip(seen.files()) {
            let Some(rows) = found.get(&file.path) else {
                continue;
            };
            let deleted = self.deleted_rows(file).await?;
            let mut chosen = RoaringTreemap::new();
            for (position, row) in rows {
                if !deleted.contains(*position) && chosen.insert(*position) {
                    files.push(number);
                    positions.push(i64::try_from(*position).unwrap_or(i64::MAX));
                    asked.push(u64::try_from(*row).unwrap_or(u64::MAX));
                }
            }
            if !chosen.is_empty() {
                by_file.insert(file.path.clone(), Arc::new(chosen));
            }
        }
        let failed = |error: arrow::error::ArrowError| LakeError::Encode {
            reason: error.to_string(),
        };
        let asked = arrow::array::UInt64Array::from(asked);
        let mut fields = index.fields.clone();
        let mut columns = keys
            .iter()
            .map(|column| take(column, &asked, None))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        fields.extend(super::provider::address_fields());
        columns.push(Arc::new(Int32Array::from(files)));
        columns.push(Arc::new(Int64Array::from(positions)));
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(failed)?;
        Ok(Located { rows, by_file })
    }

    /// The index over a key, made when first asked for; `None` when the key cannot have one.
    fn key_index(&self, key: &[String], snapshot: &TableSnapshot) -> Option<Arc<KeyIndex>> {
        let fields = key
            .iter()
            .map(|name| snapshot.schema().field_with_name(name).ok().cloned())
            .map(|field| field.map(Arc::new))
            .collect::<Option<Vec<FieldRef>>>()?;
        let names = key.iter().map(|name| snapshot.names().of_column(name));
        let in_files: Vec<String> = names.map(str::to_owned).collect();
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = indexes.get(key)
            && (&index.fields, &index.in_files) == (&fields, &in_files)
        {
            return (!index.is_refused()).then(|| Arc::clone(index));
        }
        let index = Arc::new(KeyIndex {
            codec: KeyCodec::of(&fields)?,
            fields,
            in_files,
            turn: tokio::sync::Mutex::default(),
            building: AtomicBool::default(),
            refused: Mutex::default(),
            bytes: AtomicUsize::default(),
            used: AtomicU64::default(),
        });
        self.budget.register(&index);
        indexes.insert(key.to_vec(), Arc::clone(&index));
        Some(index)
    }

    /// Brings an index to a snapshot's version, when that is not too much to wait for.
    async fn bring_to(
        self: &Arc<Self>,
        index: &Arc<KeyIndex>,
        slot: &mut Option<State>,
        snapshot: &Arc<TableSnapshot>,
        session: &Arc<SessionState>,
    ) -> Result<bool, LakeError> {
        // Taken out, so that whatever goes wrong leaves no index rather than a wrong one.
        let Some(mut state) = slot
            .take()
            .filter(|state| !state.is_worn(snapshot.row_count()))
        else {
            return self.begin_build(index, slot, snapshot, session).await;
        };
        if state.version == snapshot.version() {
            *slot = Some(state);
            return Ok(true);
        }
        if state.version > snapshot.version() {
            *slot = Some(state);
            return Ok(false);
        }
        let moves = {
            let moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
            match moves.any_from(|path| state.by_path.contains_key(path)) {
                false => Vec::new(),
                true => {
                    let live = snapshot.files().iter().map(|file| file.path.as_str());
                    let live: HashSet<&str> = live.collect();
                    let is_known = |path: &str| state.by_path.contains_key(path);
                    moves.leading_to(|path| live.contains(path), is_known)
                }
            }
        };
        let mut replaced = Vec::new();
        // Files that came and went since.
        let passing = state.unknown_of(&moves);
        if !self
            .take_in(
                index,
                &mut state,
                &passing,
                &mut replaced,
                (snapshot, session),
            )
            .await?
        {
            return self.begin_build(index, slot, snapshot, session).await;
        }
        state.follow(&moves);
        let mut step = state.step_to(snapshot);
        for file in std::mem::take(&mut step.changed) {
            let before = state
                .by_path
                .get(&file.path)
                .and_then(|at| state.files.get(*at))
                .and_then(|before| before.vector.clone());
            if self.only_lost_rows(before.as_ref(), &file).await? {
                if let Some(at) = state.by_path.get(&file.path)
                    && let Some(known) = state.files.get_mut(*at)
                {
                    known.vector.clone_from(&file.deletion_vector);
                }
            } else {
                step.new.push(file);
            }
        }
        for path in &step.gone {
            state.remove_file(path);
        }
        if !self
            .take_in(
                index,
                &mut state,
                &step.new,
                &mut replaced,
                (snapshot, session),
            )
            .await?
        {
            return self.begin_build(index, slot, snapshot, session).await;
        }
        state.version = snapshot.version();
        if self.any_lives(&state, &replaced, snapshot).await? {
            index.refuse();
            return Ok(false);
        }
        let bytes = state.bytes();
        if !self.budget.has_room(index, bytes) {
            index.bytes.store(0, Ordering::Relaxed);
            return Ok(false);
        }
        index.bytes.store(bytes, Ordering::Relaxed);
        *slot = Some(state);
        Ok(true)
    }

    /// Takes the keys of files; `replaced` gets the places they led to until now. `false` when these are too many
    /// to wait for, or some are gone.
    async fn take_in(
        self: &Arc<Self>,
        index: &KeyIndex,
        state: &mut State,
        files: &[Arc<DataFile>],
        replaced: &mut Vec<u32>,
        (snapshot, session): (&TableSnapshot, &SessionState),
    ) -> Result<bool, LakeError> {
        let rows: Option<u64> = files.iter().map(|file| file.rows_stored).sum();
        if rows.is_none_or(|rows| rows > ROWS_AT_ONCE) {
            return Ok(false);
        }
        if files.is_empty() {
            return Ok(true);
        }
        let mut numbers = Vec::with_capacity(files.len());
        for file in files {
            let Some(number) = state.add_file(file) else {
                return Ok(false);
            };
            numbers.push(number);
        }
        let mut batches = Vec::new();
        let read = self.read_keys(index, snapshot, files, session, |batch| {
            batches.push(batch);
        });
        if let Err(error) = read.await {
            tracing::debug!(table = %self.location(), %error, "keys of new files cannot be read");
            return Ok(false);
        }
        for batch in batches {
            if let Some(number) = numbers.get(batch.file) {
                state.put(&batch, *number, replaced);
            }
        }
        Ok(true)
    }

    /// Whether a file has no row that it had not before.
    async fn only_lost_rows(
        &self,
        before: Option<&DeletionVectorDescriptor>,
        file: &DataFile,
    ) -> Result<bool, LakeError> {
        let Some(before) = before else {
            return Ok(true);
        };
        let before = self.rows_of_vector(before).await?;
        let after = self.deleted_rows(file).await?;
        Ok(before.is_subset(&after))
    }

    /// Whether one of the places is of a live row.
    async fn any_lives(
        &self,
        state: &State,
        places: &[u32],
        snapshot: &TableSnapshot,
    ) -> Result<bool, LakeError> {
        let mut by_file: HashMap<&str, Vec<u64>> = HashMap::new();
        for place in places {
            if let Some((path, row)) = state.address(*place) {
                by_file.entry(path).or_default().push(row);
            }
        }
        for file in snapshot.files() {
            if let Some(rows) = by_file.get(file.path.as_str()) {
                let deleted = self.deleted_rows(file).await?;
                if rows.iter().any(|row| !deleted.contains(*row)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Builds a small table's index; a larger one's is built behind the statement.
    async fn begin_build(
        self: &Arc<Self>,
        index: &Arc<KeyIndex>,
        slot: &mut Option<State>,
        snapshot: &Arc<TableSnapshot>,
        session: &Arc<SessionState>,
    ) -> Result<bool, LakeError> {
        *slot = None;
        index.bytes.store(0, Ordering::Relaxed);
        let Some(rows) = snapshot.row_count() else {
            return Ok(false);
        };
        if !self.budget.has_room(index, index.bytes_for(rows)) {
            tracing::debug!(table = %self.location(), rows, "no room for an index of the keys");
            return Ok(false);
        }
        if rows <= ROWS_AT_ONCE {
            *slot = self.build(index, snapshot, session).await?;
            return Ok(slot.is_some());
        }
        if index.building.swap(true, Ordering::Relaxed) {
            return Ok(false);
        }
        let (table, index) = (Arc::clone(self), Arc::clone(index));
        let (snapshot, session) = (Arc::clone(snapshot), Arc::clone(session));
        tokio::spawn(async move {
            match table.build(&index, &snapshot, &session).await {
                Ok(Some(state)) => *index.turn.lock().await = Some(state),
                Ok(None) => {}
                Err(error) => {
                    index.refuse();
                    tracing::warn!(table = %table.location(), %error, "could not build an index of the keys");
                }
            }
            index.building.store(false, Ordering::Relaxed);
        });
        Ok(false)
    }

    /// Reads all keys of a snapshot. `None` when it cannot have an index.
    async fn build(
        self: &Arc<Self>,
        index: &Arc<KeyIndex>,
        snapshot: &Arc<TableSnapshot>,
        session: &Arc<SessionState>,
    ) -> Result<Option<State>, LakeError> {
        let rows = snapshot.row_count().unwrap_or(0);
        let mut state = State::empty(&index.codec, rows, snapshot.version());
        for file in snapshot.files() {
            if state.add_file(file).is_none() {
                index.refuse();
                return Ok(None);
            }
        }
        self.read_keys(index, snapshot, snapshot.files(), session, |batch| {
            state.push(&batch, batch.file);
        })
        .await?;
        let settled = tokio::task::spawn_blocking(move || {
            let doubled = state.settle();
            (state, doubled)
        });
        let (state, doubled) = settled
            .await
            .map_err(|error| LakeError::storage("index the keys", self.location(), error))?;
        let bytes = state.bytes();
        if doubled || !self.budget.has_room(index, bytes) {
            index.refuse();
            return Ok(None);
        }
        index.bytes.store(bytes, Ordering::Relaxed);
        Ok(Some(state))
    }

    async fn read_keys(
        self: &Arc<Self>,
        index: &KeyIndex,
        snapshot: &TableSnapshot,
        files: &[Arc<DataFile>],
        session: &SessionState,
        mut found: impl FnMut(KeyBatch),
    ) -> Result<(), LakeError> {
        let failed = |error| LakeError::Plan(Box::new(from_datafusion(error)));
        let encoding = |error: arrow::error::ArrowError| LakeError::Encode {
            reason: error.to_string(),
        };
        let part = Arc::new(snapshot.with_files(files.to_vec()));
        let provider = self.addressed_provider(&part, &[]);
        let schema = provider.schema();
        let names = index.fields.iter().map(|field| field.name().as_str());
        let projection = names
            .chain([FILE_COLUMN, ROW_COLUMN])
            .map(|name| schema.index_of(name))
            .collect::<Result<Vec<_>, _>>()
            .map_err(encoding)?;
        let plan = provider
            .scan(session, Some(&projection), &[], None)
            .await
            .map_err(failed)?;
        let mut stream = execute_stream(plan, session.task_ctx()).map_err(failed)?;
        let width = index.fields.len();
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(failed)?;
            let (numbers, nulls) = index
                .codec
                .numbers(&batch.columns()[..width])
                .map_err(encoding)?;
            let of_file = batch.column(width).as_primitive::<Int32Type>();
            // A batch comes from one file.
            let file = of_file.values().first().copied().unwrap_or(0);
            found(KeyBatch {
                numbers,
                nulls,
                file: usize::try_from(file).unwrap_or(usize::MAX),
                rows: batch.column(width + 1).as_primitive::<Int64Type>().clone(),
            });
        }
        Ok(())
    }
}
