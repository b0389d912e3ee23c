//! Events read ahead, by a task of its own: packets are taken apart, checked and inflated while the events before
//! them are decoded.

use std::sync::Arc;

use futures::StreamExt;
use mysql_async::BinlogStream;
use mysql_async::binlog::events::Event;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// Events that wait.
const AHEAD_EVENTS_MAX: usize = 1024;

/// What they have in all, but for one that is larger.
const AHEAD_KIB_MAX: u32 = 4096;

type Read = Result<Event, mysql_async::Error>;

/// Dropping it ends the connection.
pub(super) struct EventsAhead {
    events: mpsc::Receiver<(Read, Option<OwnedSemaphorePermit>)>,
    _task: AbortOnDropHandle<()>,
}

impl EventsAhead {
    pub fn of(mut stream: BinlogStream) -> Self {
        let (sender, events) = mpsc::channel(AHEAD_EVENTS_MAX);
        let room = Arc::new(Semaphore::new(AHEAD_KIB_MAX as usize));
        let task = tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                let bytes = event.as_ref().map_or(0, |event| event.data().len());
                let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
                let room = Arc::clone(&room);
                let taken = room.acquire_many_owned(kib.min(AHEAD_KIB_MAX)).await;
                let is_last = event.is_err();
                if sender.send((event, taken.ok())).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self {
            events,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The next event; `None` when the server has closed the connection. Dropping the future loses none.
    pub async fn next(&mut self) -> Option<Read> {
        self.events.recv().await.map(|(event, _)| event)
    }
}
