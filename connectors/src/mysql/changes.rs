//! Row images of the binlog, as columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow_schema::{Schema, SchemaRef};
use mysql_async::Value;

use super::binlog::bytes::bit;
use super::binlog::event::Rows;
use super::binlog::{RowsKind, TableMap};
use super::column_groups::{ColumnGroups, Images, LocatedRows, Unread, take_rows};
use super::row_images::{RowLayout, Span, Truncated};
use super::schema::{DefaultValue, SourceTable};
use super::server::Flavor;
use super::types::{
    ColumnBuilder, Room, SourceType, ValueError, ValuePolicies, WireColumn, skip_binlog,
};
use crate::error::{ConnectorError, sqlstate};

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowChange {
    Upsert,
    Delete,
}

/// What the statement of a row was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOperation {
    Insert,
    Update,
    Delete,
}

/// The transaction of a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowCommit {
    /// When it was committed, in microseconds since 1970; 0 when that is not known.
    pub at: i64,
    /// Its GTID, as its server writes it.
    pub gtid: Option<String>,
    /// Where it begins: the number of its binlog file times 2^32, and the place in it. It grows with the
    /// order of the binlog.
    pub position: i64,
}

/// Where rows come from, row by row.
#[derive(Debug, Clone, Default)]
pub struct RowOrigins {
    pub operations: Vec<RowOperation>,
    /// Each with the number of the first row that is of it.
    pub commits: Vec<(usize, Arc<RowCommit>)>,
    /// The row's number within its transaction, from 0.
    pub ordinals: Vec<i64>,
}

/// How much rows tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowDetail {
    /// Whether rows tell where they come from.
    pub origins: bool,
    /// Whether rows that go have the values they had, and a row whose key changes is one that goes and one that
    /// comes, of a table with a key too.
    pub whole_deletes: bool,
    /// Whether every row has to tell all its values: what the binlog leaves out is taken from nowhere else.
    pub whole_rows: bool,
}

/// Changes that name the same columns, in their order.
///
/// Of a table with a key, a row to be deleted has the columns of its key, and NULL in the others, unless
/// [`RowDetail::whole_deletes`], when it has the values that are told of it; of one without, it has the values of the row that goes, and a row that changed
/// is one that goes and one that comes.
#[derive(Debug, Clone)]
pub struct ChangedRows {
    pub rows: RecordBatch,
    pub changes: Vec<RowChange>,
    /// The keys that the rows had before, where one changed its key.
    pub keys_before: Option<Vec<ArrayRef>>,
    /// With [`RowDetail::origins`].
    pub origins: Option<RowOrigins>,
    /// The numbers of rows whose other columns may have changed as well, without the binlog saying so: the
    /// source has to be asked for these rows.
    pub uncertain: Vec<usize>,
}

/// Collects the changes of one table.
pub(crate) struct ChangeDecoder {
    flavor: Flavor,
    pub table: Arc<SourceTable>,
    pub map: Arc<TableMap>,
    policies: ValuePolicies,
    detail: RowDetail,
    /// Whether rows may be given the defaults that the table is described with.
    pub trusts_defaults: bool,
    /// Rows of a table without a key have columns that nobody can tell: it has to be read anew.
    pub lacks_values: bool,
    /// Of the rows that are decoded now.
    commit: Arc<RowCommit>,
    ordinal: i64,
    operation: RowOperation,
    /// The columns of the map, with what only the server's own description tells.
    wires: Vec<WireColumn>,
    /// How they stand in row images; `None` when that is not known.
    layout: Option<RowLayout>,
    /// Of each column of the map its place in the key.
    key_places: Vec<Option<usize>>,
    /// The same as bits, eight columns to a byte.
    key_bits: Vec<u8>,
    /// The columns of the map that are of the key, in the map's order, each with its place in the key.
    keys_in_order: Vec<(usize, usize)>,
    /// Of each column of the key its place in the map.
    key_columns: Vec<usize>,
    /// Rows of the open part whose values have been found and not been read.
    located: LocatedRows,
    /// What the columns of the largest part took, by column of the map: of those before that have not been given out, or
    /// else of those that were given out last. The next one will be like it.
    room: Vec<Room>,
    is_room_of_before: bool,
    open: Option<Part>,
    done: Vec<ChangedRows>,
    rows: usize,
    /// Bytes of the images that are in memory.
    bytes: usize,
}

/// Changes of one set of columns.
struct Part {
    /// Which columns of the map the rows have.
    present: Vec<bool>,
    /// By column of the map; `None` for those that are not there, and for all while others read their values.
    builders: Vec<Option<ColumnBuilder>>,
    groups: ColumnGroups,
    /// The numbers of rows that had another key before, and the columns of these keys.
    moved: Vec<usize>,
    keys_before: Vec<ColumnBuilder>,
    changes: Vec<RowChange>,
    origins: RowOrigins,
    uncertain: Vec<usize>,
}

/// Rows of one part at most, so that the columns stay of a handy size.
const PART_ROWS_MAX: usize = 65_536;

impl ChangeDecoder {
    /// For rows written under a map that agrees with the table.
    pub fn new(
        table: Arc<SourceTable>,
        map: Arc<TableMap>,
        flavor: Flavor,
        (policies, detail): (ValuePolicies, RowDetail),
    ) -> Self {
        let key_columns = table.key_places();
        let key_places: Vec<_> = (0..map.columns.len())
            .map(|place| key_columns.iter().position(|key| *key == place))
            .collect();
        let groups = key_places.chunks(8).map(|group| {
            let columns = group.iter().rev();
            columns.fold(0, |bits, key| bits << 1 | u8::from(key.is_some()))
        });
        let key_bits = groups.collect();
        let keys_in_order = key_places.iter().enumerate();
        let keys_in_order = keys_in_order.filter_map(|(index, key)| Some((index, (*key)?)));
        let keys_in_order = keys_in_order.collect();
        let wires = map.columns.iter().zip(&table.columns);
        let wires: Vec<_> = wires
            .map(|(mapped, column)| mapped.wire.clone().with_known(&column.source_type))
            .collect();
        let frames: Option<Vec<_>> = wires.iter().map(WireColumn::frame).collect();
        let layout = frames.and_then(|frames| RowLayout::new(&frames));
        Self {
            flavor,
            table,
            map,
            policies,
            detail,
            trusts_defaults: true,
            lacks_values: false,
            commit: Arc::default(),
            ordinal: 0,
            operation: RowOperation::Insert,
            wires,
            layout,
            key_places,
            key_bits,
            keys_in_order,
            key_columns,
            located: LocatedRows::default(),
            room: Vec::new(),
            is_room_of_before: false,
            open: None,
            done: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn bytes(&self) -> usize {
        self.bytes + self.located.bytes()
    }

    /// Says of which transaction the rows are that come next, and how many came of it before.
    pub fn of_commit(&mut self, commit: &Arc<RowCommit>, ordinal: i64) {
        if self.detail.origins {
            self.commit = Arc::clone(commit);
            self.ordinal = ordinal;
        }
    }

    /// How many rows of the transaction have come.
    pub fn ordinal(&self) -> i64 {
        self.ordinal
    }

    /// Takes the rows of an event, which stands after a place of the binlog.
    pub fn decode(
        &mut self,
        event: &Rows,
        images: Images,
        (file, offset): (&str, u64),
    ) -> Result<usize, ConnectorError> {
        let length = images.bytes().len();
        if event.width == 0 || event.width != self.map.columns.len() {
            return Err(placed(self.malformed(), file, offset));
        }
        let by_column = self.reads_by_column(event, length);
        // What was found before is read by itself, so that an error is told with its place.
        if by_column && length <= LocatedRows::EVENT_BYTES_MAX {
            if self.located.is_full() {
                self.hand_over()?;
            }
        } else {
            self.settle()?;
        }
        if by_column {
            self.part_of(event.kind)?;
        }
        self.bytes += length;
        let rows = match by_column {
            true => self.by_column(event.kind, images, (file, offset)),
            false => self.by_row(event, images.bytes()),
        };
        let rows = rows.map_err(|error| placed(error, file, offset))?;
        self.rows += rows;
        Ok(rows)
    }

    /// Takes rows one by one.
    fn by_row(&mut self, event: &Rows, images: &[u8]) -> Result<usize, ConnectorError> {
        let columns = |mask: &[u8]| -> Vec<usize> {
            (0..event.width).filter(|index| bit(mask, *index)).collect()
        };
        let before = columns(&event.before);
        let after = columns(&event.after);
        let keyed = !self.table.key.is_empty();
        let all: Vec<usize> = (0..event.width).collect();
        let missing: Vec<usize> = match event.kind {
            RowsKind::Insert => all
                .iter()
                .copied()
                .filter(|at| !bit(&event.after, *at))
                .collect(),
            _ => Vec::new(),
        };
        if event.kind == RowsKind::Update && after.len() < event.width && !keyed {
            self.check_tells_both(before.len() == event.width)?;
        }
        if event.kind != RowsKind::Insert && before.len() < event.width {
            self.check_whole()?;
        }
        let mut images = images;
        let mut count = 0;
        self.operation = match event.kind {
            RowsKind::Insert => RowOperation::Insert,
            RowsKind::Update => RowOperation::Update,
            RowsKind::Delete => RowOperation::Delete,
        };
        while !images.is_empty() {
            match event.kind {
                RowsKind::Insert => {
                    self.part(&all, false)?;
                    self.whole(&after, &mut images, RowChange::Upsert)?;
                    self.fill(&missing)?;
                }
                RowsKind::Delete if keyed && self.detail.whole_deletes => {
                    self.part(&before, true)?;
                    self.whole(&before, &mut images, RowChange::Delete)?;
                }
                RowsKind::Delete if keyed => self.deleted(&before, &mut images)?,
                RowsKind::Delete => {
                    self.part(&before, false)?;
                    self.whole(&before, &mut images, RowChange::Delete)?;
                }
                RowsKind::Update
                    if keyed
                        && self.detail.whole_deletes
                        && self.changes_key(&before, &after, images)? =>
                {
                    let old = images;
                    self.operation = RowOperation::Delete;
                    self.part(&before, true)?;
                    self.whole(&before, &mut images, RowChange::Delete)?;
                    self.operation = RowOperation::Insert;
                    if after.len() == event.width {
                        self.part(&after, true)?;
                        self.whole(&after, &mut images, RowChange::Upsert)?;
                    } else {
                        let old = old.get(..old.len() - images.len()).unwrap_or_default();
                        self.moved((&before, old), &after, &mut images)?;
                    }
                    self.operation = RowOperation::Update;
                }
                RowsKind::Update if keyed => self.updated(&before, &after, &mut images)?,
                RowsKind::Update => {
                    let old = images;
                    self.operation = RowOperation::Delete;
                    self.part(&before, false)?;
                    self.whole(&before, &mut images, RowChange::Delete)?;
                    self.operation = RowOperation::Update;
                    match after.len() < event.width {
                        false => {
                            self.part(&after, false)?;
                            self.whole(&after, &mut images, RowChange::Upsert)?;
                        }
                        true => {
                            let old = old.get(..old.len() - images.len()).unwrap_or_default();
                            self.part(&all, false)?;
                            self.merged((&before, old), &after, &mut images)?;
                        }
                    }
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// What has been collected.
    pub fn finish(&mut self) -> Result<Vec<ChangedRows>, ConnectorError> {
        self.close()?;
        self.rows = 0;
        self.bytes = 0;
        // There may be thousands of tables, most of which rest.
        self.located = LocatedRows::default();
        self.is_room_of_before = true;
        Ok(std::mem::take(&mut self.done))
    }

    /// Makes sure that the open part has these columns, and those of the key if wanted.
    fn part(&mut self, columns: &[usize], with_key: bool) -> Result<(), ConnectorError> {
        if let Some(part) = &self.open {
            let full = part.changes.len() >= PART_ROWS_MAX;
            let mut wanted = columns.iter().copied().peekable();
            let same = part.present.iter().enumerate().all(|(index, present)| {
                let named = wanted.next_if_eq(&index).is_some();
                let is_key = with_key && self.key_places.get(index).is_some_and(Option::is_some);
                *present == (named || is_key)
            });
            if same && !full {
                return Ok(());
            }
        }
        self.close()?;
        let mut present = vec![false; self.map.columns.len()];
        for index in columns {
            if let Some(present) = present.get_mut(*index) {
                *present = true;
            }
        }
        for index in self.key_columns.iter().filter(|_| with_key) {
            if let Some(present) = present.get_mut(*index) {
                *present = true;
            }
        }
        let keys = self.key_columns.iter();
        let keys_before = keys
            .map(|index| self.builder(*index, Room::default()))
            .collect::<Result<_, _>>()?;
        let builders = present
            .iter()
            .enumerate()
            .map(|(index, present)| {
                let room = self.room.get(index).copied().unwrap_or_default();
                present.then(|| self.builder(index, room)).transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.open = Some(Part {
            present,
            builders,
            groups: ColumnGroups::default(),
            moved: Vec::new(),
            keys_before,
            changes: Vec::new(),
            origins: RowOrigins::default(),
            uncertain: Vec::new(),
        });
        Ok(())
    }

    fn builder(&self, index: usize, room: Room) -> Result<ColumnBuilder, ConnectorError> {
        match (self.table.columns.get(index), self.wires.get(index)) {
            (Some(column), Some(wire)) => {
                ColumnBuilder::with_room(&column.source_type, Some(wire), self.policies, room)
            }
            _ => Err(self.malformed()),
        }
    }

    /// Whether a row that is updated has another key afterwards.
    fn changes_key(
        &self,
        before: &[usize],
        after: &[usize],
        mut images: &[u8],
    ) -> Result<bool, ConnectorError> {
        let mut keys: [Vec<Option<&[u8]>>; 2] = Default::default();
        for (columns, key_values) in [before, after].into_iter().zip(&mut keys) {
            *key_values = vec![None; self.table.key.len()];
            let nulls = take_nulls(columns.len(), &mut images).map_err(|()| self.malformed())?;
            for (position, index) in columns.iter().enumerate() {
                if bit(nulls, position) {
                    continue;
                }
                let wire = self.wires.get(*index).ok_or_else(|| self.malformed())?;
                let start = images;
                skip_binlog(wire, &mut images)
                    .map_err(|error| wrong(&self.table, &self.map, *index, &error))?;
                let key = self.key_places.get(*index).copied().flatten();
                if let Some(value) = key.and_then(|key| key_values.get_mut(key)) {
                    *value = start.get(..start.len() - images.len());
                }
            }
        }
        // A part of the key that the image after the change lacks is as it was.
        let [old, new] = keys;
        let mut values = old.iter().zip(&new);
        Ok(values.any(|(old, new)| new.is_some() && old != new))
    }

    /// A row with all its values in one image.
    fn whole(
        &mut self,
        columns: &[usize],
        images: &mut &[u8],
        change: RowChange,
    ) -> Result<(), ConnectorError> {
        let Some(part) = &mut self.open else {
            return Ok(());
        };
        let nulls = take_nulls(columns.len(), images).map_err(|_| malformed(&self.table))?;
        for (position, index) in columns.iter().enumerate() {
            let Some(Some(builder)) = part.builders.get_mut(*index) else {
                return Err(malformed(&self.table));
            };
            if bit(nulls, position) {
                builder.append_null();
                continue;
            }
            builder
                .append_binlog(images)
                .map_err(|error| wrong(&self.table, &self.map, *index, &error))?;
        }
        part.changes.push(change);
        self.note_origin();
        Ok(())
    }

    /// Notes where the row taken last comes from.
    fn note_origin(&mut self) {
        let (true, Some(part)) = (self.detail.origins, &mut self.open) else {
            return;
        };
        let row = part.origins.operations.len();
        let known = part.origins.commits.last();
        if known.is_none_or(|(_, commit)| !Arc::ptr_eq(commit, &self.commit)) {
            part.origins.commits.push((row, Arc::clone(&self.commit)));
        }
        part.origins.operations.push(self.operation);
        part.origins.ordinals.push(self.ordinal);
        self.ordinal += 1;
    }

    /// Whether an update of a table without a key may name changed columns only: MySQL tells all that the row was.
    /// What MariaDB leaves out may have changed all the same, and without a key the source cannot be asked.
    fn check_tells_both(&self, old_is_whole: bool) -> Result<(), ConnectorError> {
        if self.flavor == Flavor::MySql && old_is_whole {
            return Ok(());
        }
        Err(ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            format!(
                "the binlog has rows of {}, which has no key, with some of their columns only, which do not tell what became of the others",
                self.table.name
            ),
        )
        .hint("SET GLOBAL binlog_row_image = FULL, in sessions too; then RUN PIPELINE ... FULL REFRESH"))
    }

    /// Whether the columns that an update of a row does not name are as they were. MariaDB logs REPLACE as an update
    /// of the columns that were named, and gives the others their defaults. A REPLACE names the key; or it leaves a
    /// part of it out, and then meets a row only where that part is its default.
    fn leaves_others(&self, after: &[usize], old_key: &[Option<&[u8]>]) -> bool {
        if self.flavor == Flavor::MySql || after.len() == self.map.columns.len() {
            return true;
        }
        let mut places = self.key_places.iter().zip(&self.table.columns).enumerate();
        places.any(|(index, (place, column))| {
            let old = place.and_then(|place| old_key.get(place).copied().flatten());
            old.is_some_and(|old| {
                after.binary_search(&index).is_err()
                    && column.default == DefaultValue::Missing
                    && has_no_implicit_default(&column.source_type, old)
            })
        })
    }

    /// Whether rows need not tell what they were.
    fn check_whole(&self) -> Result<(), ConnectorError> {
        if !self.detail.whole_rows {
            return Ok(());
        }
        Err(ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            format!(
                "the binlog does not tell the values of rows of {} that were deleted, which are to be kept",
                self.table.name
            ),
        )
        .hint("SET GLOBAL binlog_row_image = FULL, in sessions too; then RUN PIPELINE ... FULL REFRESH"))
    }

    /// Gives the row taken last the defaults of columns that its image does not name. Where a default cannot be
    /// told, the source is to be asked for the row, or for the whole table when rows have no key.
    fn fill(&mut self, missing: &[usize]) -> Result<(), ConnectorError> {
        let can_be_asked = !self.table.key.is_empty() && !self.detail.whole_rows;
        let Some(part) = &mut self.open else {
            return Ok(());
        };
        let row = part.changes.len().saturating_sub(1);
        for index in missing {
            let (Some(Some(builder)), Some(column)) = (
                part.builders.get_mut(*index),
                self.table.columns.get(*index),
            ) else {
                return Err(malformed(&self.table));
            };
            let value = match &column.default {
                _ if !self.trusts_defaults => None,
                DefaultValue::Null => Some(Value::NULL),
                DefaultValue::Literal(text) => default_value(&column.source_type, text),
                DefaultValue::Computed | DefaultValue::Missing => None,
            };
            let value = match value {
                Some(value) => value,
                None if can_be_asked => {
                    if part.uncertain.last() != Some(&row) {
                        part.uncertain.push(row);
                    }
                    Value::NULL
                }
                None if !self.detail.whole_rows => {
                    self.lacks_values = true;
                    Value::NULL
                }
                None => {
                    return Err(ConnectorError::new(
                        sqlstate::FEATURE_NOT_SUPPORTED,
                        format!(
                            "the binlog has new rows of {} without column \"{}\", whose default cannot be told",
                            self.table.name, column.name
                        ),
                    )
                    .hint("SET GLOBAL binlog_row_image = FULL, in sessions too; then RUN PIPELINE ... FULL REFRESH"));
                }
            };
            builder
                .append_value(value)
                .map_err(|error| wrong(&self.table, &self.map, *index, &error))?;
        }
        Ok(())
    }

    /// A row that is there no longer, by its key.
    fn deleted(&mut self, columns: &[usize], images: &mut &[u8]) -> Result<(), ConnectorError> {
        self.part_of_keys(columns)?;
        let Some(part) = &mut self.open else {
            return Ok(());
        };
        let nulls = take_nulls(columns.len(), images).map_err(|_| malformed(&self.table))?;
        for (position, index) in columns.iter().enumerate() {
            if bit(nulls, position) {
                continue;
            }
            let Some(wire) = self.wires.get(*index) else {
                return Err(malformed(&self.table));
            };
            let failed = |error| wrong(&self.table, &self.map, *index, &error);
            if self.key_places.get(*index).copied().flatten().is_none() {
                skip_binlog(wire, images).map_err(failed)?;
                continue;
            }
            let Some(Some(builder)) = part.builders.get_mut(*index) else {
                return Err(malformed(&self.table));
            };
            builder.append_binlog(images).map_err(failed)?;
        }
        for (builder, key) in part.builders.iter_mut().zip(&self.key_places) {
            if let Some(builder) = builder
                && key.is_none()
            {
                builder.append_null();
            }
        }
        part.changes.push(RowChange::Delete);
        self.note_origin();
        Ok(())
    }

    /// A row with other values than before.
    fn updated(
        &mut self,
        before: &[usize],
        after: &[usize],
        images: &mut &[u8],
    ) -> Result<(), ConnectorError> {
        self.part(after, true)?;
        let Some(part) = &mut self.open else {
            return Ok(());
        };
        // The key it had, as bytes: most updates leave it as it was.
        let mut old: Vec<Option<&[u8]>> = vec![None; self.key_columns.len()];
        let nulls = take_nulls(before.len(), images).map_err(|_| malformed(&self.table))?;
        for (position, index) in before.iter().enumerate() {
            if bit(nulls, position) {
                continue;
            }
            let Some(wire) = self.wires.get(*index) else {
                return Err(malformed(&self.table));
            };
            let failed = |error| wrong(&self.table, &self.map, *index, &error);
            let start: &[u8] = images;
            skip_binlog(wire, images).map_err(failed)?;
            let key = self.key_places.get(*index).copied().flatten();
            if let Some(old) = key.and_then(|key| old.get_mut(key)) {
                *old = start.get(..start.len() - images.len());
            }
        }
        let nulls = take_nulls(after.len(), images).map_err(|_| malformed(&self.table))?;
        let mut seen = 0;
        let mut has_moved = false;
        for (position, index) in after.iter().enumerate() {
            let Some(Some(builder)) = part.builders.get_mut(*index) else {
                return Err(malformed(&self.table));
            };
            let key = self.key_places.get(*index).copied().flatten();
            if bit(nulls, position) {
                builder.append_null();
                continue;
            }
            let start: &[u8] = images;
            builder
                .append_binlog(images)
                .map_err(|error| wrong(&self.table, &self.map, *index, &error))?;
            if let Some(key) = key {
                seen += 1;
                let value = start.get(..start.len() - images.len());
                has_moved |= old.get(key).copied().flatten() != value;
            }
        }
        // A key that did not change may be missing from the image after the change.
        if seen < old.len() {
            for (index, key) in self.key_places.iter().enumerate() {
                let Some(key) = key else { continue };
                if after.binary_search(&index).is_ok() {
                    continue;
                }
                let Some(Some(builder)) = part.builders.get_mut(index) else {
                    return Err(malformed(&self.table));
                };
                let mut value = old
                    .get(*key)
                    .copied()
                    .flatten()
                    .ok_or_else(|| malformed(&self.table))?;
                builder
                    .append_binlog(&mut value)
                    .map_err(|error| wrong(&self.table, &self.map, index, &error))?;
            }
        }
        if has_moved {
            part.moved.push(part.changes.len());
            for ((builder, old), index) in
                part.keys_before.iter_mut().zip(&old).zip(&self.key_columns)
            {
                match *old {
                    Some(mut old) => builder
                        .append_binlog(&mut old)
                        .map_err(|error| wrong(&self.table, &self.map, *index, &error))?,
                    None => builder.append_null(),
                }
            }
        }
        let is_uncertain = !self.leaves_others(after, &old);
        if let Some(part) = &mut self.open {
            if is_uncertain {
                part.uncertain.push(part.changes.len());
            }
            part.changes.push(RowChange::Upsert);
        }
        self.note_origin();
        Ok(())
    }

    /// A row under another key, which names what changed of it, while the row with the old key stays: the source is
    /// to be asked for what neither image tells.
    fn moved<'a>(
        &mut self,
        (before, old): (&[usize], &'a [u8]),
        after: &[usize],
        images: &mut &'a [u8],
    ) -> Result<(), ConnectorError> {
        let width = self.map.columns.len();
        let is_named = |index: &usize| {
            before.binary_search(index).is_ok() || after.binary_search(index).is_ok()
        };
        let named: Vec<usize> = (0..width).filter(is_named).collect();
        self.part(&named, true)?;
        self.merged((before, old), after, images)?;
        // What MariaDB leaves out may have changed all the same.
        if (named.len() < width || self.flavor == Flavor::MariaDb)
            && let Some(part) = &mut self.open
        {
            part.uncertain.push(part.changes.len().saturating_sub(1));
        }
        Ok(())
    }

    /// A row that names what changed of it, with the other values that it had.
    fn merged<'a>(
        &mut self,
        (before, mut old): (&[usize], &'a [u8]),
        after: &[usize],
        images: &mut &'a [u8],
    ) -> Result<(), ConnectorError> {
        let mut values: Vec<Option<&[u8]>> = vec![None; self.map.columns.len()];
        for (columns, image) in [(before, &mut old), (after, images)] {
            let nulls = take_nulls(columns.len(), image).map_err(|()| self.malformed())?;
            for (position, index) in columns.iter().enumerate() {
                let mut value = None;
                if !bit(nulls, position) {
                    let wire = self.wires.get(*index).ok_or_else(|| self.malformed())?;
                    let start = *image;
                    skip_binlog(wire, image)
                        .map_err(|error| wrong(&self.table, &self.map, *index, &error))?;
                    value = start.get(..start.len() - image.len());
                }
                if let Some(place) = values.get_mut(*index) {
                    *place = value;
                }
            }
        }
        let Some(part) = &mut self.open else {
            return Ok(());
        };
        for (index, (builder, value)) in part.builders.iter_mut().zip(values).enumerate() {
            match (builder, value) {
                (Some(builder), Some(mut value)) => builder
                    .append_binlog(&mut value)
                    .map_err(|error| wrong(&self.table, &self.map, index, &error))?,
                (Some(builder), None) => builder.append_null(),
                (None, None) => {}
                (None, Some(_)) => return Err(malformed(&self.table)),
            }
        }
        part.changes.push(RowChange::Upsert);
        self.note_origin();
        Ok(())
    }

    /// Makes columns of the open part.
    fn close(&mut self) -> Result<(), ConnectorError> {
        self.settle()?;
        let Some(mut part) = self.open.take() else {
            return Ok(());
        };
        if part.changes.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.is_room_of_before) {
            self.room.clear();
        }
        self.room.resize(part.builders.len(), Room::default());
        for (room, builder) in self.room.iter_mut().zip(&part.builders) {
            *room = room.max(
                builder
                    .as_ref()
                    .map_or_else(Room::default, ColumnBuilder::room),
            );
        }
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        let described = part.builders.iter_mut().zip(&self.table.columns);
        for (index, (builder, column)) in described.enumerate() {
            if let Some(builder) = builder {
                let column_type = column.source_type.column_type();
                fields.push(column_type.to_field(&column.name, true));
                let values = builder.finish();
                columns.push(values.map_err(|error| wrong(&self.table, &self.map, index, &error))?);
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new(schema, columns)
            .map_err(|error| malformed(&self.table).caused_by(error))?;
        let keys_before = match part.moved.is_empty() {
            true => None,
            false => Some(self.keys_before(&mut part, &rows)?),
        };
        self.done.push(ChangedRows {
            rows,
            changes: part.changes,
            keys_before,
            origins: self.detail.origins.then_some(part.origins),
            uncertain: part.uncertain,
        });
        Ok(())
    }

    /// The keys that all rows had before: the ones they have now, but of those that moved.
    fn keys_before(
        &self,
        part: &mut Part,
        rows: &RecordBatch,
    ) -> Result<Vec<ArrayRef>, ConnectorError> {
        let mut places: Vec<_> = (0..rows.num_rows()).map(|row| (0, row)).collect();
        for (old, row) in part.moved.iter().enumerate() {
            if let Some(place) = places.get_mut(*row) {
                *place = (1, old);
            }
        }
        let keys = self.key_columns.iter().zip(&mut part.keys_before);
        keys.map(|(index, old)| {
            let name = self.table.columns.get(*index).map(|column| &*column.name);
            let now = name.and_then(|name| rows.column_by_name(name));
            let now = now.ok_or_else(|| self.malformed())?;
            let old = old.finish();
            let old = old.map_err(|error| wrong(&self.table, &self.map, *index, &error))?;
            interleave(&[now.as_ref(), old.as_ref()], &places)
                .map_err(|error| self.malformed().caused_by(error))
        })
        .collect()
    }

    /// Whether an event's rows are told whole, and each becomes one row: most are.
    fn reads_by_column(&self, event: &Rows, bytes: usize) -> bool {
        let is_whole = |mask: &[u8]| (0..event.width).all(|index| bit(mask, index));
        let by_key = !self.table.key.is_empty() && !self.detail.whole_deletes;
        self.layout.is_some()
            && bytes < u32::MAX as usize
            && match event.kind {
                RowsKind::Insert => is_whole(&event.after),
                RowsKind::Delete => by_key && is_whole(&event.before),
                RowsKind::Update => by_key && is_whole(&event.before) && is_whole(&event.after),
            }
    }

    /// Takes rows that are told whole into the open part.
    fn by_column(
        &mut self,
        kind: RowsKind,
        images: Images,
        place: (&str, u64),
    ) -> Result<usize, ConnectorError> {
        let length = images.bytes().len();
        if length <= LocatedRows::EVENT_BYTES_MAX {
            let mut located = std::mem::take(&mut self.located);
            let begin = located.add(images, place);
            let found = located
                .find(|images, spans| self.locate_rows(kind, images, begin, (spans, usize::MAX)));
            self.located = located;
            return found.unwrap_or(Ok((0, 0))).map(|(_, rows)| rows);
        }
        // Long rows are read where they are.
        let images = images.bytes();
        let mut spans = Vec::new();
        let (mut at, mut rows) = (0, 0);
        while at < length {
            self.part_of(kind)?;
            spans.clear();
            let most = LocatedRows::SPANS_MAX;
            let (end, count) = self.locate_rows(kind, images, at, (&mut spans, most))?;
            (at, rows) = (end, rows + count);
            let Some(part) = &mut self.open else {
                return Err(self.malformed());
            };
            let taken = take_rows(&mut part.builders, images, &spans);
            taken.map_err(|(index, error)| wrong(&self.table, &self.map, index, &error))?;
        }
        Ok(rows)
    }

    /// Finds the values of rows from a place on, and counts the rows. Gives where they end and how many they are.
    fn locate_rows(
        &mut self,
        kind: RowsKind,
        images: &[u8],
        mut at: usize,
        (spans, most): (&mut Vec<Span>, usize),
    ) -> Result<(usize, usize), ConnectorError> {
        let (operation, change) = match kind {
            RowsKind::Insert => (RowOperation::Insert, RowChange::Upsert),
            RowsKind::Update => (RowOperation::Update, RowChange::Upsert),
            RowsKind::Delete => (RowOperation::Delete, RowChange::Delete),
        };
        self.operation = operation;
        let width = self.map.columns.len();
        let mut keys = Vec::with_capacity(self.key_columns.len());
        let mut count = 0;
        while at < images.len() && spans.len() < most {
            let base = spans.len();
            keys.clear();
            if kind != RowsKind::Insert {
                at = self.locate_keys(images, at, &mut keys)?;
            }
            match kind {
                // Of what the row was, its key is of further use.
                RowsKind::Delete => {
                    spans.resize(base + width, Span::NULL);
                    for ((index, _), key) in self.keys_in_order.iter().zip(&keys) {
                        if let Some(place) = spans.get_mut(base + index) {
                            *place = *key;
                        }
                    }
                }
                RowsKind::Insert => at = self.locate(images, at, spans)?,
                RowsKind::Update => {
                    at = self.locate(images, at, spans)?;
                    self.note_move(images, &keys, spans.get(base..).unwrap_or_default())?;
                }
            }
            if let Some(part) = &mut self.open {
                part.changes.push(change);
            }
            self.note_origin();
            count += 1;
        }
        Ok((at, count))
    }

    /// Has the rows that were found read by others, while the next ones are found.
    fn hand_over(&mut self) -> Result<(), ConnectorError> {
        let located = self.located.take();
        let Some(part) = &mut self.open else {
            return Ok(());
        };
        let read = part.groups.read(&mut part.builders, located);
        read.map_err(|failed| self.unread(failed))
    }

    /// Waits until all rows that were found have been read.
    fn settle(&mut self) -> Result<(), ConnectorError> {
        let located = self.located.take();
        let Some(part) = &mut self.open else {
            return Ok(());
        };
        let read = part.groups.finish(&mut part.builders, located);
        read.map_err(|failed| self.unread(failed))
    }

    fn unread(&self, failed: Unread) -> ConnectorError {
        match failed {
            Unread::Value {
                column,
                error,
                place: (file, offset),
            } => placed(wrong(&self.table, &self.map, column, &error), &file, offset),
            Unread::Ended => ConnectorError::new(
                sqlstate::INTERNAL_ERROR,
                format!("reading rows of {} ended abnormally", self.table.name),
            ),
        }
    }

    /// Finds the values of one row image.
    fn locate(
        &self,
        images: &[u8],
        at: usize,
        spans: &mut Vec<Span>,
    ) -> Result<usize, ConnectorError> {
        let layout = self.layout.as_ref().ok_or_else(|| self.malformed())?;
        let located = layout.locate(images, at, spans);
        located.map_err(|truncated| self.truncated(&truncated))
    }

    /// Finds the values of the key in one row image, in the order of the map's columns.
    fn locate_keys(
        &self,
        images: &[u8],
        at: usize,
        spans: &mut Vec<Span>,
    ) -> Result<usize, ConnectorError> {
        let layout = self.layout.as_ref().ok_or_else(|| self.malformed())?;
        let located = layout.locate_some(images, at, &self.key_bits, spans);
        located.map_err(|truncated| self.truncated(&truncated))
    }

    fn truncated(&self, Truncated(index): &Truncated) -> ConnectorError {
        wrong(&self.table, &self.map, *index, &ValueError::Truncated)
    }

    /// Notes the key that a row had, before it is counted, if it has another one now. The old one is in the order of the map's
    /// columns.
    fn note_move(
        &mut self,
        images: &[u8],
        old: &[Span],
        row: &[Span],
    ) -> Result<(), ConnectorError> {
        let Some(part) = &mut self.open else {
            return Ok(());
        };
        let mut keys = self.keys_in_order.iter().zip(old);
        let value = |span: Option<&Span>| span.and_then(|span| span.of(images));
        if keys.all(|((index, _), old)| value(row.get(*index)) == old.of(images)) {
            return Ok(());
        }
        part.moved.push(part.changes.len());
        for ((index, key), value) in self.keys_in_order.iter().zip(old) {
            let Some(builder) = part.keys_before.get_mut(*key) else {
                continue;
            };
            builder
                .append_stored(std::iter::once(value.of(images)))
                .map_err(|error| wrong(&self.table, &self.map, *index, &error))?;
        }
        Ok(())
    }

    /// Makes sure that there is a part for rows that are told whole.
    fn part_of(&mut self, kind: RowsKind) -> Result<(), ConnectorError> {
        let all: Vec<usize> = (0..self.map.columns.len()).collect();
        match kind {
            RowsKind::Delete => self.part_of_keys(&all),
            RowsKind::Insert | RowsKind::Update => self.part(&all, true),
        }
    }

    /// Makes sure that there is a part that rows which go fit in: one of any columns that has the key's.
    fn part_of_keys(&mut self, columns: &[usize]) -> Result<(), ConnectorError> {
        let fits = self.open.as_ref().is_some_and(|part| {
            part.changes.len() < PART_ROWS_MAX
                && part
                    .present
                    .iter()
                    .zip(&self.key_places)
                    .all(|(present, key)| *present || key.is_none())
        });
        match fits {
            true => Ok(()),
            false => self.part(columns, true),
        }
    }

    fn malformed(&self) -> ConnectorError {
        malformed(&self.table)
    }
}

/// The columns of a table as it lands in the lake.
pub fn fields_of(table: &SourceTable) -> SchemaRef {
    let fields = table.columns.iter().map(|column| {
        let column_type = column.source_type.column_type();
        column_type.to_field(&column.name, true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A default as a value of the binary protocol. `None` for what cannot be told from its text.
fn default_value(source_type: &SourceType, text: &str) -> Option<Value> {
    Some(match source_type {
        SourceType::TinyInt { .. }
        | SourceType::SmallInt { .. }
        | SourceType::MediumInt { .. }
        | SourceType::Int { .. }
        | SourceType::Year => Value::Int(text.parse().ok()?),
        SourceType::BigInt { unsigned: false } => Value::Int(text.parse().ok()?),
        SourceType::BigInt { unsigned: true } => Value::UInt(text.parse().ok()?),
        SourceType::Decimal { .. } => Value::Bytes(text.as_bytes().to_vec()),
        SourceType::Float => Value::Float(text.parse().ok()?),
        SourceType::Double => Value::Double(text.parse().ok()?),
        SourceType::Text { .. } | SourceType::Enum { .. } if text.is_ascii() => {
            Value::Bytes(text.as_bytes().to_vec())
        }
        _ => return None,
    })
}

/// Whether a stored value is none that a server would make up for a column without a default.
fn has_no_implicit_default(source_type: &SourceType, stored: &[u8]) -> bool {
    let is_known = matches!(
        source_type,
        SourceType::TinyInt { .. }
            | SourceType::SmallInt { .. }
            | SourceType::MediumInt { .. }
            | SourceType::Int { .. }
            | SourceType::BigInt { .. }
            | SourceType::Text { .. }
            | SourceType::Uuid
    );
    is_known && stored.iter().any(|byte| *byte != 0)
}

fn take_nulls<'a>(columns: usize, images: &mut &'a [u8]) -> Result<&'a [u8], ()> {
    let (nulls, rest) = images.split_at_checked(columns.div_ceil(8)).ok_or(())?;
    *images = rest;
    Ok(nulls)
}

/// The same error, of an event that stands after a place of the binlog.
fn placed(mut error: ConnectorError, file: &str, offset: u64) -> ConnectorError {
    let message = error.message;
    error.message = format!("{message} (transaction that ends after {file}:{offset})");
    error
}

fn malformed(table: &SourceTable) -> ConnectorError {
    ConnectorError::new(
        sqlstate::BAD_FILE_FORMAT,
        format!("a row of {} in the binlog is malformed", table.name),
    )
}

fn wrong(table: &SourceTable, map: &TableMap, index: usize, error: &ValueError) -> ConnectorError {
    let column = map
        .columns
        .get(index)
        .and_then(|column| column.name.as_deref());
    ConnectorError::new(
        sqlstate::BAD_FILE_FORMAT,
        format!(
            "column \"{}\" of {}: {error}",
            column.unwrap_or_default(),
            table.name
        ),
    )
}
