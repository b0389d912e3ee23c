//! Values of rows that have been found, read by several threads at once: each has some of the columns.
//!
//! What a thread has yet to read waits in a queue, and whoever needs it done does it, so that nothing waits for a thread
//! that has not begun.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use mysql_async::binlog::events::Event as RawEvent;

use super::row_images::Span;
use super::types::{ColumnBuilder, ValueError};

/// Groups of columns at most.
const GROUPS_MAX: usize = 4;

/// Blocks that wait to be read by a thread before it is helped.
const WAITING_MAX: usize = 4;

/// Values that are read before the next column's: few enough to stay in the nearest memory.
const NEAR_SPANS: usize = 4_096;

/// Row images, one after the other, in the memory that they came in.
pub(super) enum Images {
    /// A part of an event as it was received.
    Received(Box<RawEvent>, Range<usize>),
    /// Those of an event that was compressed, or of several events.
    Copied(Vec<u8>),
}

impl Images {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Received(event, place) => event.data().get(place.clone()).unwrap_or_default(),
            Self::Copied(bytes) => bytes,
        }
    }
}

/// Rows whose values have been found.
#[derive(Default)]
pub(super) struct LocatedRows {
    segments: Vec<Segment>,
    /// The bytes of all images.
    bytes: usize,
    /// Those of each row, by column of the map.
    pub spans: Vec<Span>,
    /// After which place of the binlog the first one stands.
    place: (String, u64),
}

struct Segment {
    images: Images,
    /// How many spans there are up to its end.
    end: usize,
}

impl LocatedRows {
    /// Events of more bytes are read where they are.
    pub const EVENT_BYTES_MAX: usize = 1 << 20;

    /// Values that are found before they are read, about: some milliseconds' work.
    pub const SPANS_MAX: usize = 1 << 16;

    /// The bytes that this may be at most before it is full.
    const BYTES_MAX: usize = 4 << 20;

    /// Events of fewer bytes are put together, so that many rows are read at a time.
    const SMALL_BYTES: usize = 2 << 10;

    /// Bytes that are put together.
    const TOGETHER_BYTES: usize = 32 << 10;

    /// Adds images. Gives where they begin in the last segment. The rows are to be [found](Self::find) next.
    pub fn add(&mut self, images: Images, (file, offset): (&str, u64)) -> usize {
        if self.segments.is_empty() {
            self.place = (file.to_owned(), offset);
        }
        let length = images.bytes().len();
        self.bytes += length;
        if length < Self::SMALL_BYTES {
            if let Some(Segment {
                images: Images::Copied(bytes),
                ..
            }) = self.segments.last_mut()
                && bytes.len() < Self::TOGETHER_BYTES
            {
                let begin = bytes.len();
                bytes.extend_from_slice(images.bytes());
                return begin;
            }
            let copied = Images::Copied(images.bytes().to_vec());
            self.push(copied);
        } else {
            self.push(images);
        }
        0
    }

    fn push(&mut self, images: Images) {
        self.segments.push(Segment {
            images,
            end: self.spans.len(),
        });
    }

    /// Has the values of what was added last found.
    pub fn find<T>(&mut self, find: impl FnOnce(&[u8], &mut Vec<Span>) -> T) -> Option<T> {
        let last = self.segments.last_mut()?;
        let found = find(last.images.bytes(), &mut self.spans);
        last.end = self.spans.len();
        Some(found)
    }

    pub fn is_full(&self) -> bool {
        self.spans.len() >= Self::SPANS_MAX || self.bytes >= Self::BYTES_MAX
    }

    /// Bytes of what was found, without the images.
    pub fn bytes(&self) -> usize {
        size_of_val(self.spans.as_slice()) + size_of_val(self.segments.as_slice())
    }

    /// What there is. As much more is expected if this is full.
    pub fn take(&mut self) -> Self {
        let next = match self.is_full() {
            true => Self {
                segments: Vec::with_capacity(self.segments.len()),
                spans: Vec::with_capacity(self.spans.len()),
                ..Self::default()
            },
            false => Self::default(),
        };
        std::mem::replace(self, next)
    }

    /// Reads the values into the builders of some columns. The first that cannot be read is told with its column.
    fn read<'a>(
        &self,
        width: usize,
        columns: impl Iterator<Item = (usize, &'a mut ColumnBuilder)>,
    ) -> Result<(), (usize, ValueError)> {
        let mut columns: Vec<_> = columns.collect();
        let mut begin = 0;
        for segment in &self.segments {
            let spans = self.spans.get(begin..segment.end).unwrap_or_default();
            take_values(&mut columns, width, segment.images.bytes(), spans)?;
            begin = segment.end;
        }
        Ok(())
    }
}

/// Why values could not be read.
pub(super) enum Unread {
    Value {
        column: usize,
        error: ValueError,
        /// After which place of the binlog the row stands.
        place: (String, u64),
    },
    /// A thread ended in the midst of it.
    Ended,
}

/// The columns of a part, while threads fill them.
#[derive(Default)]
pub(super) struct ColumnGroups {
    lent: Vec<Arc<Group>>,
}

struct Group {
    /// Of all columns.
    width: usize,
    waiting: Mutex<Waiting>,
    filled: Mutex<Filled>,
}

#[derive(Default)]
struct Waiting {
    rows: VecDeque<Arc<LocatedRows>>,
    /// A thread reads them, or is about to.
    is_seen_to: bool,
}

/// Columns by their place in the map, and why they cannot be filled further.
struct Filled {
    builders: Vec<(usize, ColumnBuilder)>,
    failed: Option<Unread>,
}

impl ColumnGroups {
    /// Has rows read, on other threads if there are any. The builders are lent to them.
    pub fn read(
        &mut self,
        builders: &mut [Option<ColumnBuilder>],
        rows: LocatedRows,
    ) -> Result<(), Unread> {
        let threads = threads();
        let runtime = tokio::runtime::Handle::try_current();
        let (Ok(runtime), 2..) = (runtime, threads) else {
            return self.finish(builders, rows);
        };
        if self.lent.is_empty() {
            self.lend(builders, threads.min(GROUPS_MAX));
        }
        let rows = Arc::new(rows);
        for group in &self.lent {
            let is_seen_to = {
                let mut waiting = group.waiting.lock().map_err(|_| Unread::Ended)?;
                waiting.rows.push_back(Arc::clone(&rows));
                if waiting.rows.len() > WAITING_MAX {
                    drop(waiting);
                    group.work()?;
                    continue;
                }
                std::mem::replace(&mut waiting.is_seen_to, true)
            };
            if !is_seen_to {
                let group = Arc::clone(group);
                // An end in the midst of it is seen by who takes the columns back.
                runtime.spawn_blocking(move || group.work().is_ok());
            }
        }
        Ok(())
    }

    /// Reads rows and all that wait. The builders are back then.
    pub fn finish(
        &mut self,
        builders: &mut [Option<ColumnBuilder>],
        rows: LocatedRows,
    ) -> Result<(), Unread> {
        if self.lent.is_empty() {
            let read = rows.read(builders.len(), present(builders));
            return read.map_err(|(column, error)| Unread::Value {
                column,
                error,
                place: rows.place,
            });
        }
        let rows = Arc::new(rows);
        for group in &self.lent {
            let mut waiting = group.waiting.lock().map_err(|_| Unread::Ended)?;
            waiting.rows.push_back(Arc::clone(&rows));
        }
        for group in self.lent.drain(..) {
            group.work()?;
            let mut filled = group.filled.lock().map_err(|_| Unread::Ended)?;
            if let Some(failed) = filled.failed.take() {
                return Err(failed);
            }
            for (index, builder) in filled.builders.drain(..) {
                if let Some(place) = builders.get_mut(index) {
                    *place = Some(builder);
                }
            }
        }
        Ok(())
    }

    fn lend(&mut self, builders: &mut [Option<ColumnBuilder>], count: usize) {
        let width = builders.len();
        let mut groups: Vec<_> = (0..count).map(|_| Vec::new()).collect();
        let columns = builders.iter_mut().enumerate();
        let columns = columns.filter_map(|(index, builder)| Some((index, builder.take()?)));
        // Columns beside each other are often alike.
        for (place, column) in columns.enumerate() {
            groups[place % count].push(column);
        }
        let groups = groups.into_iter().filter(|builders| !builders.is_empty());
        self.lent = groups
            .map(|builders| {
                Arc::new(Group {
                    width,
                    waiting: Mutex::default(),
                    filled: Mutex::new(Filled {
                        builders,
                        failed: None,
                    }),
                })
            })
            .collect();
    }
}

impl Group {
    /// Reads all that waits. One thread at a time does, so that rows stay in their order.
    fn work(&self) -> Result<(), Unread> {
        let mut filled = self.filled.lock().map_err(|_| Unread::Ended)?;
        let Filled { builders, failed } = &mut *filled;
        loop {
            let rows = {
                let mut waiting = self.waiting.lock().map_err(|_| Unread::Ended)?;
                match waiting.rows.pop_front() {
                    Some(rows) => rows,
                    None => {
                        waiting.is_seen_to = false;
                        return Ok(());
                    }
                }
            };
            if failed.is_some() {
                continue;
            }
            let columns = builders.iter_mut();
            let columns = columns.map(|(index, builder)| (*index, builder));
            let read = rows.read(self.width, columns);
            *failed = read.err().map(|(column, error)| Unread::Value {
                column,
                error,
                place: rows.place.clone(),
            });
        }
    }
}

/// Threads that may read at once.
fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The builders that are there, by column of the map.
fn present(
    builders: &mut [Option<ColumnBuilder>],
) -> impl Iterator<Item = (usize, &mut ColumnBuilder)> {
    let builders = builders.iter_mut().enumerate();
    builders.filter_map(|(index, builder)| Some((index, builder.as_mut()?)))
}

/// Takes the values of rows into the builders that are there, by column. The first that cannot be taken is told with its
/// column.
pub(super) fn take_rows(
    builders: &mut [Option<ColumnBuilder>],
    images: &[u8],
    spans: &[Span],
) -> Result<(), (usize, ValueError)> {
    let width = builders.len();
    let mut columns: Vec<_> = present(builders).collect();
    take_values(&mut columns, width, images, spans)
}

/// The same, into builders of some of so many columns.
fn take_values(
    columns: &mut [(usize, &mut ColumnBuilder)],
    width: usize,
    images: &[u8],
    spans: &[Span],
) -> Result<(), (usize, ValueError)> {
    let near = (NEAR_SPANS / width.max(1)).max(1) * width.max(1);
    for rows in spans.chunks(near) {
        for (index, builder) in &mut *columns {
            let values = rows.iter().skip(*index).step_by(width);
            builder
                .append_stored(values.map(|span| span.of(images)))
                .map_err(|error| (*index, error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    use super::super::row_images::RowLayout;
    use super::super::types::{Frame, SourceType, ValuePolicies, WireColumn, ZeroDates};
    use super::*;

    const COLUMNS: usize = 5;

    /// Columns of INT; the fourth is a DATE, which may not be zero, the last is not wanted.
    fn builders() -> Vec<Option<ColumnBuilder>> {
        let policies = ValuePolicies {
            zero_dates: ZeroDates::Fail,
            ..ValuePolicies::default()
        };
        let builder = |type_code, source_type: &SourceType| {
            let wire = WireColumn {
                type_code,
                metadata: [0, 0],
                unsigned: false,
                collation: None,
                values: Vec::new(),
            };
            Some(ColumnBuilder::new(source_type, Some(&wire), policies).unwrap())
        };
        let number = || builder(3, &SourceType::Int { unsigned: false });
        let date = builder(10, &SourceType::Date);
        vec![number(), number(), number(), date, None]
    }

    fn image(number: i32, date: u32) -> Vec<u8> {
        let number = number.to_le_bytes();
        let mut image = vec![0];
        (0..3).for_each(|_| image.extend(number));
        image.extend(&date.to_le_bytes()[..3]);
        image.extend(number);
        image
    }

    fn add(located: &mut LocatedRows, rows: Vec<Vec<u8>>, place: (&str, u64)) {
        let mut frames = vec![Frame::Fixed(4); COLUMNS];
        frames[3] = Frame::Fixed(3);
        let layout = RowLayout::new(&frames).unwrap();
        let mut at = located.add(Images::Copied(rows.concat()), place);
        located.find(|images, spans| {
            while at < images.len() {
                at = layout.locate(images, at, spans).unwrap();
            }
        });
    }

    const SOME_DAY: u32 = 2026 << 9 | 11 << 5 | 28;

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_stay_in_their_order() {
        let mut builders = builders();
        let mut groups = ColumnGroups::default();
        for round in 1..=3 {
            let mut located = LocatedRows::default();
            let mut next = 0;
            // Events of one row and of many, of which some stay for the end.
            for event in 0..4_000 {
                let rows = (next..).take(if event % 7 == 0 { 300 } else { 1 });
                next += i32::try_from(rows.clone().count()).unwrap();
                let rows = rows.map(|number| image(number, SOME_DAY)).collect();
                add(&mut located, rows, ("", 0));
                if located.is_full() {
                    assert!(groups.read(&mut builders, located.take()).is_ok());
                }
            }
            assert!(groups.finish(&mut builders, located).is_ok());
            assert!(builders[4].is_none());
            for builder in builders.iter_mut().take(3).flatten() {
                let values = builder.finish().unwrap();
                let values = values.as_primitive::<Int32Type>().values();
                assert!(values.iter().copied().eq(0..next), "{round}");
            }
            let dates = builders[3].as_mut().unwrap().finish().unwrap();
            assert_eq!(dates.len(), usize::try_from(next).unwrap());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_value_that_cannot_be_read_is_told_with_its_place() {
        for (bad, file) in [(3, "third"), (5, "last")] {
            let mut builders = builders();
            let mut groups = ColumnGroups::default();
            let mut told = None;
            for block in 1..=5 {
                let file = match block {
                    3 => "third",
                    5 => "last",
                    _ => "other",
                };
                let date = |row| {
                    if block == bad && row == 9_000 {
                        0
                    } else {
                        SOME_DAY
                    }
                };
                let mut located = LocatedRows::default();
                let rows = (0..20_000).map(|row| image(row, date(row))).collect();
                add(&mut located, rows, (file, 7));
                let read = match block {
                    5 => groups.finish(&mut builders, located),
                    _ => groups.read(&mut builders, located),
                };
                told = told.or(read.err());
            }
            let Some(Unread::Value { column, place, .. }) = told else {
                panic!("a date of zeros was read");
            };
            assert_eq!((column, place), (3, (file.to_owned(), 7)));
        }
    }
}
