//! Chunks that are being read at once, of several tables and of several ranges of one, and those that wait.
//!
//! Chunks of one table follow each other by its key, and are taken in that order: how far a table has been read is
//! one key. The next one of a table can begin once it is known where the one before ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use boathouse_connectors::ConnectorError;
use boathouse_connectors::mysql::{Chunk, ChunkReader, ChunkRequest, MySqlServer, TableName};
use tokio::task::{AbortHandle, JoinSet};

use crate::error::SqlError;

/// What a task has come to: which it was, of which table.
type Outcome = (u64, TableName, Result<Done, ConnectorError>);

enum Done {
    /// It is known where a chunk ends, before it is read.
    Bounded(ChunkReader, ChunkRequest),
    Read(ChunkReader, Chunk),
}

/// A chunk of a table.
struct Slot {
    number: u64,
    /// The key of its last row, if that is known and another chunk follows.
    until: Option<Vec<String>>,
    stage: Stage,
}

enum Stage {
    Reading(AbortHandle),
    /// Until the changes have been read up to the chunk.
    Waiting(Chunk),
}

/// Dropping it stops all reading.
#[derive(Default)]
pub(super) struct Readings {
    tasks: JoinSet<Outcome>,
    /// By table, in the order of its key.
    slots: BTreeMap<TableName, VecDeque<Slot>>,
    /// Those that have nothing to read at the moment.
    idle: Vec<ChunkReader>,
    begun: u64,
}

impl Readings {
    /// Chunks that are being read or wait.
    pub fn len(&self) -> usize {
        self.slots.values().map(VecDeque::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn has(&self, table: &TableName) -> bool {
        self.slots.contains_key(table)
    }

    /// The tables of which chunks are being read, and of which they wait.
    pub fn tables(&self) -> impl Iterator<Item = &TableName> {
        self.slots.keys()
    }

    /// How many chunks of a table are being read or wait, and the key that the next one begins behind.
    pub fn goes_on(&self, table: &TableName) -> Option<(usize, &Vec<String>)> {
        let slots = self.slots.get(table)?;
        let until = slots.back()?.until.as_ref()?;
        Some((slots.len(), until))
    }

    /// Begins to read a chunk of a table, behind those that are being read of it. With `bounds` it is first found out where it ends.
    pub fn begin(&mut self, server: Arc<MySqlServer>, request: ChunkRequest, bounds: bool) {
        let table = request.table.name.clone();
        self.begun += 1;
        let (number, of) = (self.begun, table.clone());
        self.idle.retain(|reader| !reader.is_stale());
        let reader = self.idle.pop();
        let handle = self.tasks.spawn(async move {
            let begin = async {
                let mut reader = match reader {
                    Some(reader) => reader,
                    None => server.chunk_reader(&request.seen).await?,
                };
                if bounds {
                    let until = reader.last_key(&request).await?;
                    let request = ChunkRequest { until, ..request };
                    return Ok(Done::Bounded(reader, request));
                }
                let chunk = reader.read(request).await?;
                Ok(Done::Read(reader, chunk))
            };
            (number, of, begin.await)
        });
        self.slots.entry(table).or_default().push_back(Slot {
            number,
            until: None,
            stage: Stage::Reading(handle),
        });
    }

    /// Throws away what is being read of a table, or waits.
    pub fn discard(&mut self, table: &TableName) {
        for slot in self.slots.remove(table).into_iter().flatten() {
            if let Stage::Reading(handle) = slot.stage {
                handle.abort();
            }
        }
    }

    /// Waits until a chunk has been read, which then waits itself, until it could not be, which is told, or until another
    /// one could be begun; for ever while none is read.
    pub async fn next(&mut self) -> Result<Option<(TableName, ConnectorError)>, SqlError> {
        loop {
            let Some(joined) = self.tasks.join_next().await else {
                return std::future::pending().await;
            };
            let (number, table, done) = match joined {
                Ok(outcome) => outcome,
                Err(error) if error.is_cancelled() => continue,
                Err(error) => {
                    return Err(
                        SqlError::internal("a task of the capture stopped").caused_by(error)
                    );
                }
            };
            let mut slots = self.slots.get_mut(&table).into_iter().flatten();
            let Some(slot) = slots.find(|slot| slot.number == number) else {
                continue;
            };
            match done {
                Ok(Done::Bounded(mut reader, request)) => {
                    slot.until.clone_from(&request.until);
                    slot.stage = Stage::Reading(self.tasks.spawn(async move {
                        let read = reader.read(request).await;
                        (number, table, read.map(|chunk| Done::Read(reader, chunk)))
                    }));
                }
                Ok(Done::Read(reader, chunk)) => {
                    slot.stage = Stage::Waiting(chunk);
                    self.idle.push(reader);
                }
                Err(error) => {
                    self.discard(&table);
                    return Ok(Some((table, error)));
                }
            }
            return Ok(None);
        }
    }

    /// A chunk that is the next one of its table and up to which the changes have been read.
    pub fn take_reached(&mut self, place: (u64, u64)) -> Option<(TableName, Chunk)> {
        let is_reached = |slot: &Slot| match &slot.stage {
            Stage::Waiting(chunk) => chunk.high <= place,
            Stage::Reading(_) => false,
        };
        let mut tables = self.slots.iter();
        let (table, _) = tables.find(|(_, slots)| slots.front().is_some_and(is_reached))?;
        let table = table.clone();
        let slots = self.slots.get_mut(&table)?;
        let slot = slots.pop_front()?;
        let Stage::Waiting(chunk) = slot.stage else {
            return None;
        };
        // Where it had more rows than it could have, those behind it begin too late.
        if slots.is_empty() || chunk.next != slot.until {
            self.discard(&table);
        }
        Some((table, chunk))
    }

    /// Lets go of the sessions that have nothing to read.
    pub fn rest(&mut self) {
        self.idle.clear();
    }

    /// Stops all reading.
    pub fn stop(&mut self) {
        self.tasks.abort_all();
        self.slots.clear();
        self.idle.clear();
    }
}
