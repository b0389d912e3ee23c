//! Events read ahead, by a task of its own: packets are taken apart, checked and inflated while the events before
//! them are decoded.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use mysql_async::BinlogStream;
use mysql_async::binlog::events::Event;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// What the events that wait have in all, but for one that is larger.
const AHEAD_KIB_MAX: u32 = 4096;

/// Batches that wait.
const AHEAD_BATCHES_MAX: usize = 64;

/// A batch is handed over when it has this much, or when no more has come: waking whoever waits costs more than
/// decoding an event.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_EVENTS: usize = 256;

type Read = Result<Event, mysql_async::Error>;

struct Batch {
    events: VecDeque<Read>,
    _room: Option<OwnedSemaphorePermit>,
}

/// Dropping it ends the connection.
pub(super) struct EventsAhead {
    batches: mpsc::Receiver<Batch>,
    /// The one that is taken from.
    open: Option<Batch>,
    _task: AbortOnDropHandle<()>,
}

impl EventsAhead {
    pub fn of(stream: BinlogStream) -> Self {
        let (sender, batches) = mpsc::channel(AHEAD_BATCHES_MAX);
        Self {
            batches,
            open: None,
            _task: AbortOnDropHandle::new(tokio::spawn(read_ahead(stream, sender))),
        }
    }

    /// The next event, if it has come already.
    pub fn next_read(&mut self) -> Option<Read> {
        let events = &mut self.open.as_mut()?.events;
        let event = events.pop_front();
        if events.is_empty() {
            // Its room is free again, however long the last of its events takes.
            self.open = None;
        }
        event
    }

    /// The next event; `None` when the server has closed the connection. Dropping the future loses none.
    pub async fn next(&mut self) -> Option<Read> {
        loop {
            if let Some(event) = self.next_read() {
                return Some(event);
            }
            self.open = Some(self.batches.recv().await?);
        }
    }
}

async fn read_ahead(mut stream: BinlogStream, sender: mpsc::Sender<Batch>) {
    let room = Arc::new(Semaphore::new(AHEAD_KIB_MAX as usize));
    let mut is_last = false;
    while !is_last {
        let mut events = VecDeque::new();
        let mut bytes = 0;
        let mut next = stream.next().await;
        loop {
            let Some(event) = next else {
                is_last = true;
                break;
            };
            bytes += event.as_ref().map_or(0, |event| event.data().len());
            is_last = event.is_err();
            events.push_back(event);
            if is_last || bytes >= BATCH_BYTES || events.len() >= BATCH_EVENTS {
                break;
            }
            match stream.next().now_or_never() {
                Some(read) => next = read,
                None => break,
            }
        }
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        let room = Arc::clone(&room).acquire_many_owned(kib.min(AHEAD_KIB_MAX));
        let batch = Batch {
            events,
            _room: room.await.ok(),
        };
        if sender.send(batch).await.is_err() {
            return;
        }
    }
}
