//! Chunks that are being read of several tables at once, and those that wait.

use std::collections::BTreeMap;

use boathouse_connectors::ConnectorError;
use boathouse_connectors::mysql::{Chunk, TableName};
use tokio::task::{AbortHandle, JoinSet};

use crate::error::SqlError;

/// The outcome of a reading: which it was, of which table.
type Read = (u64, TableName, Result<Chunk, ConnectorError>);

/// At most one chunk of each table. Dropping it stops all reading.
#[derive(Default)]
pub(super) struct Readings {
    tasks: JoinSet<Read>,
    /// Those whose outcome is wanted.
    reading: BTreeMap<TableName, (u64, AbortHandle)>,
    /// Until the changes have been read up to the chunk.
    waiting: BTreeMap<TableName, Chunk>,
    begun: u64,
}

impl Readings {
    /// Chunks that are being read or wait.
    pub fn len(&self) -> usize {
        self.reading.len() + self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn has(&self, table: &TableName) -> bool {
        self.reading.contains_key(table) || self.waiting.contains_key(table)
    }

    /// The tables of which chunks are being read, and of which they wait.
    pub fn tables(&self) -> impl Iterator<Item = &TableName> {
        self.reading.keys().chain(self.waiting.keys())
    }

    /// Begins to read a chunk of a table.
    pub fn begin(
        &mut self,
        table: TableName,
        chunk: impl Future<Output = Result<Chunk, ConnectorError>> + Send + 'static,
    ) {
        self.discard(&table);
        self.begun += 1;
        let (number, of) = (self.begun, table.clone());
        let handle = self.tasks.spawn(async move { (number, of, chunk.await) });
        self.reading.insert(table, (number, handle));
    }

    /// Throws away what is being read of a table, or waits.
    pub fn discard(&mut self, table: &TableName) {
        if let Some((_, handle)) = self.reading.remove(table) {
            handle.abort();
        }
        self.waiting.remove(table);
    }

    /// The next chunk that has been read; never while none is. A chunk that was read has to wait.
    pub async fn next(&mut self) -> Result<(TableName, Result<Chunk, ConnectorError>), SqlError> {
        loop {
            let Some(joined) = self.tasks.join_next().await else {
                return std::future::pending().await;
            };
            let (number, table, read) = match joined {
                Ok(read) => read,
                Err(error) if error.is_cancelled() => continue,
                Err(error) => {
                    return Err(
                        SqlError::internal("a task of the capture stopped").caused_by(error)
                    );
                }
            };
            let is_wanted = |(wanted, _): &(u64, AbortHandle)| *wanted == number;
            if self.reading.get(&table).is_some_and(is_wanted) {
                self.reading.remove(&table);
                return Ok((table, read));
            }
        }
    }

    /// Has a chunk wait.
    pub fn wait(&mut self, table: TableName, chunk: Chunk) {
        self.waiting.insert(table, chunk);
    }

    /// A chunk up to which the changes have been read.
    pub fn take_reached(&mut self, place: (u64, u64)) -> Option<(TableName, Chunk)> {
        let mut waiting = self.waiting.iter();
        let (table, _) = waiting.find(|(_, chunk)| chunk.high <= place)?;
        let table = table.clone();
        self.waiting.remove_entry(&table)
    }

    /// Stops all reading.
    pub fn stop(&mut self) {
        self.tasks.abort_all();
        self.reading.clear();
        self.waiting.clear();
    }
}
