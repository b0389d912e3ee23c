//! What the captures of this process are at, for whoever asks, and who asks them to stop.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use boathouse_catalog::definitions::{ObjectId, PipelineDefinition};

/// How far a capture is.
#[derive(Debug, Clone, Default)]
pub struct CaptureStatus {
    /// The place of the source that has been read up to.
    pub position: String,
    /// When the newest transaction was committed at the source that is in the tables, in microseconds since 1970;
    /// 0 when it is not known.
    pub committed_at: i64,
    /// Seconds from the commit at the source of what was read last until now; 0 when nothing is left to read.
    pub seconds_behind: Option<f64>,
    /// Bytes of the source's binlog that have not been read.
    pub bytes_behind: Option<u64>,
    pub tables: Vec<TableStatus>,
    /// Of a pipeline from Kafka.
    pub partitions: Vec<PartitionStatus>,
}

/// How far a partition of a topic is.
#[derive(Debug, Clone)]
pub struct PartitionStatus {
    pub topic: String,
    pub partition: i32,
    /// The table, once there is one.
    pub target: Option<ObjectId>,
    /// Read next; everything below it is in the table.
    pub offset: i64,
    /// Offsets up to the partition's end.
    pub messages_behind: Option<u64>,
    /// Seconds since the newest message was written that is in the table; 0 when nothing is left to read.
    pub seconds_behind: Option<f64>,
    /// When that message was written, in microseconds since 1970; 0 when it is not known.
    pub committed_at: i64,
}

/// How far a table is.
#[derive(Debug, Clone)]
pub struct TableStatus {
    /// Its name at the source.
    pub source: String,
    pub target: ObjectId,
    /// `snapshot`, `streaming`, `stale` while it is read anew, `dropped`.
    pub state: &'static str,
    pub snapshot_rows: u64,
    pub snapshot_rows_estimate: u64,
    /// Changes read since the run began.
    pub changes: u64,
}

/// A capture that runs.
pub(in crate::ingest) struct Running {
    stop: AtomicBool,
    status: Mutex<CaptureStatus>,
}

impl Running {
    pub fn is_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The source cannot be reached: how far behind it is cannot be told.
    pub fn lose(&self) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.seconds_behind = None;
        status.bytes_behind = None;
        for partition in &mut status.partitions {
            partition.messages_behind = None;
            partition.seconds_behind = None;
        }
    }

    pub fn tell(&self, status: CaptureStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// The captures of this process, by pipeline.
#[derive(Default)]
pub struct CaptureBoard {
    running: Mutex<HashMap<ObjectId, Weak<Running>>>,
    wanted: Counts,
    /// Runs that go on by themselves and have yet to be put up.
    beginning: Counts,
}

/// How many of something there are, by pipeline.
type Counts = Arc<Mutex<HashMap<ObjectId, usize>>>;

/// One of what is counted, until it is dropped.
pub(super) struct Counted {
    counts: Counts,
    pipeline: ObjectId,
}

impl Counted {
    fn of(counts: &Counts, pipeline: ObjectId) -> Self {
        let mut all = counts.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(pipeline).or_default() += 1;
        Self {
            counts: Arc::clone(counts),
            pipeline,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.pipeline) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.pipeline);
            }
        }
    }
}

impl CaptureBoard {
    /// Puts up a capture that begins to run. It is taken down when the last holder lets go.
    pub(in crate::ingest) fn run(&self, pipeline: &PipelineDefinition) -> Arc<Running> {
        let running = Arc::new(Running {
            stop: AtomicBool::new(false),
            status: Mutex::default(),
        });
        let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, one| one.strong_count() > 0);
        all.insert(pipeline.id, Arc::downgrade(&running));
        running
    }

    /// Asks a capture to stop after what it is at. Tells whether it runs here, or is about to.
    pub(super) fn stop(&self, pipeline: ObjectId) -> bool {
        let all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = all.get(&pipeline).and_then(Weak::upgrade) {
            running.stop.store(true, Ordering::Relaxed);
            return true;
        }
        let beginning = &self.beginning;
        let beginning = beginning.lock().unwrap_or_else(PoisonError::into_inner);
        beginning.contains_key(&pipeline)
    }

    /// Has a run that goes on by itself be waited for until it is put up, which it is before the answer is dropped.
    pub(super) fn begin(&self, pipeline: ObjectId) -> Counted {
        Counted::of(&self.beginning, pipeline)
    }

    /// Keeps a pipeline from being run by itself until the answer is dropped.
    pub(super) fn want(&self, pipeline: ObjectId) -> Counted {
        Counted::of(&self.wanted, pipeline)
    }

    /// Whether somebody waits to run a pipeline.
    pub fn is_wanted(&self, pipeline: ObjectId) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.contains_key(&pipeline)
    }

    /// Whether a capture that runs here is reading the rows that a table began with.
    pub fn is_reading(&self, target: ObjectId) -> bool {
        let running: Vec<Arc<Running>> = {
            let all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            all.values().filter_map(Weak::upgrade).collect()
        };
        running.iter().any(|running| {
            let status = running
                .status
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut tables = status.tables.iter();
            tables
                .any(|table| table.target == target && matches!(table.state, "snapshot" | "stale"))
        })
    }

    /// What a pipeline's capture is at, if it runs here.
    pub fn status(&self, pipeline: ObjectId) -> Option<CaptureStatus> {
        let running = {
            let all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(&pipeline).and_then(Weak::upgrade)?
        };
        let status = running
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Some(status.clone())
    }
}
