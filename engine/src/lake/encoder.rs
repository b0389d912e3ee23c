//! Encodes the columns of Parquet files on a few blocking threads.
//!
//! ```text
//! writer --(arrays)--> lane 0: columns a, d   \
//!        --(arrays)--> lane 1: columns b, c   /  column chunks --> row group --> bytes
//! ```
//!
//! A row group's columns are dealt out to the lanes by what their types cost, so two cores encode
//! one row group while a third stage decodes the next rows. Queues are bounded: a slow encoder
//! holds back its source. A lane that fails keeps the error for the row group's close and takes no
//! more rows for that file.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::errors::ParquetError;
use tokio::sync::{mpsc, oneshot};

use super::LakeError;

/// Batches waiting in front of one lane.
const QUEUE_BATCHES_MAX: usize = 3;

/// One top-level column of a row group being encoded.
struct LaneColumn {
    field: FieldRef,
    /// Where the column's first leaf stands among the leaves of the file.
    first_leaf: usize,
    writers: Vec<ArrowColumnWriter>,
}

struct LaneRowGroup {
    columns: Vec<LaneColumn>,
    encoded: Arc<AtomicUsize>,
    counted: usize,
    failure: Option<ParquetError>,
}

type Chunks = Result<Vec<(usize, ArrowColumnChunk)>, ParquetError>;

enum Job {
    Open {
        row_group: u64,
        columns: Vec<LaneColumn>,
        encoded: Arc<AtomicUsize>,
    },
    Rows {
        row_group: u64,
        arrays: Vec<ArrayRef>,
    },
    Close {
        row_group: u64,
        reply: oneshot::Sender<Chunks>,
    },
}

/// The threads that encode for one writer. They end when this is dropped.
pub(super) struct Lanes {
    senders: Vec<mpsc::Sender<Job>>,
    next_row_group: u64,
}

/// A row group being encoded: which column goes to which lane.
pub(super) struct RowGroup {
    id: u64,
    columns_of_lane: Vec<Vec<usize>>,
    encoded: Arc<AtomicUsize>,
    pub rows: usize,
}

impl RowGroup {
    /// Bytes held by the encoders, roughly.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded.load(Ordering::Relaxed)
    }
}

impl Lanes {
    pub fn start(count: usize) -> Self {
        let senders = (0..count.max(1))
            .map(|_| {
                let (sender, receiver) = mpsc::channel(QUEUE_BATCHES_MAX);
                tokio::task::spawn_blocking(move || run_lane(receiver));
                sender
            })
            .collect();
        Self {
            senders,
            next_row_group: 0,
        }
    }

    /// Begins a row group. `writers` are its leaf writers in file order.
    pub async fn open(
        &mut self,
        fields: &[FieldRef],
        writers: Vec<ArrowColumnWriter>,
    ) -> Result<RowGroup, LakeError> {
        let id = self.next_row_group;
        self.next_row_group += 1;
        let columns_of_lane = deal(fields, self.senders.len());
        let mut leaves = writers.into_iter();
        let mut columns = Vec::with_capacity(fields.len());
        let mut first_leaf = 0;
        for field in fields {
            let count = leaf_count(field.data_type());
            let writers: Vec<_> = leaves.by_ref().take(count).collect();
            columns.push(Some(LaneColumn {
                field: Arc::clone(field),
                first_leaf,
                writers,
            }));
            first_leaf += count;
        }
        let encoded = Arc::new(AtomicUsize::new(0));
        for (sender, indexes) in self.senders.iter().zip(&columns_of_lane) {
            let columns = indexes
                .iter()
                .filter_map(|index| columns.get_mut(*index)?.take())
                .collect();
            let job = Job::Open {
                row_group: id,
                columns,
                encoded: Arc::clone(&encoded),
            };
            sender.send(job).await.map_err(|_| lane_is_gone())?;
        }
        Ok(RowGroup {
            id,
            columns_of_lane,
            encoded,
            rows: 0,
        })
    }

    /// Adds rows; waits while the lanes are busy.
    pub async fn write(
        &self,
        row_group: &mut RowGroup,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<(), LakeError> {
        for (sender, indexes) in self.senders.iter().zip(&row_group.columns_of_lane) {
            let arrays = indexes
                .iter()
                .map(|index| Arc::clone(&columns[*index]))
                .collect();
            let job = Job::Rows {
                row_group: row_group.id,
                arrays,
            };
            sender.send(job).await.map_err(|_| lane_is_gone())?;
        }
        row_group.rows += rows;
        Ok(())
    }

    /// Ends a row group and gives its column chunks in file order.
    pub async fn close(&self, row_group: RowGroup) -> Result<Vec<ArrowColumnChunk>, LakeError> {
        let mut replies = Vec::with_capacity(self.senders.len());
        for sender in &self.senders {
            let (reply, answer) = oneshot::channel();
            let job = Job::Close {
                row_group: row_group.id,
                reply,
            };
            sender.send(job).await.map_err(|_| lane_is_gone())?;
            replies.push(answer);
        }
        let mut chunks = Vec::new();
        for answer in replies {
            let part = answer.await.map_err(|_| lane_is_gone())?;
            chunks.extend(part.map_err(encode_error)?);
        }
        chunks.sort_by_key(|(leaf, _)| *leaf);
        Ok(chunks.into_iter().map(|(_, chunk)| chunk).collect())
    }
}

fn run_lane(mut jobs: mpsc::Receiver<Job>) {
    let mut open: HashMap<u64, LaneRowGroup> = HashMap::new();
    while let Some(job) = jobs.blocking_recv() {
        match job {
            Job::Open {
                row_group,
                columns,
                encoded,
            } => {
                open.insert(
                    row_group,
                    LaneRowGroup {
                        columns,
                        encoded,
                        counted: 0,
                        failure: None,
                    },
                );
            }
            Job::Rows { row_group, arrays } => {
                if let Some(group) = open.get_mut(&row_group) {
                    group.write(&arrays);
                }
            }
            Job::Close { row_group, reply } => {
                let chunks = match open.remove(&row_group) {
                    Some(group) => group.close(),
                    None => Ok(Vec::new()),
                };
                // The writer may have been dropped meanwhile; then nobody wants the chunks.
                let _ = reply.send(chunks);
            }
        }
    }
}

impl LaneRowGroup {
    fn write(&mut self, arrays: &[ArrayRef]) {
        if self.failure.is_some() {
            return;
        }
        for (column, array) in self.columns.iter_mut().zip(arrays) {
            if let Err(error) = column.write(array) {
                self.failure = Some(error);
                return;
            }
        }
        let held: usize = self
            .columns
            .iter()
            .flat_map(|column| &column.writers)
            .map(ArrowColumnWriter::get_estimated_total_bytes)
            .sum();
        self.encoded
            .fetch_add(held.saturating_sub(self.counted), Ordering::Relaxed);
        self.counted = self.counted.max(held);
    }

    fn close(self) -> Chunks {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut chunks = Vec::new();
        for column in self.columns {
            for (offset, writer) in column.writers.into_iter().enumerate() {
                chunks.push((column.first_leaf + offset, writer.close()?));
            }
        }
        Ok(chunks)
    }
}

impl LaneColumn {
    fn write(&mut self, array: &ArrayRef) -> Result<(), ParquetError> {
        let leaves = compute_leaves(&self.field, array)?;
        for (writer, leaf) in self.writers.iter_mut().zip(&leaves) {
            writer.write(leaf)?;
        }
        Ok(())
    }
}

/// Deals columns to lanes, dearest first, each to the lane with the least to do.
fn deal(fields: &[FieldRef], lanes: usize) -> Vec<Vec<usize>> {
    let mut by_cost: Vec<(usize, usize)> = fields
        .iter()
        .enumerate()
        .map(|(index, field)| (cost(field.data_type()), index))
        .collect();
    by_cost.sort_by(|left, right| right.cmp(left));
    let mut load = vec![0; lanes];
    let mut dealt = vec![Vec::new(); lanes];
    for (cost, column) in by_cost {
        let lane = (0..lanes)
            .min_by_key(|lane| load[*lane])
            .unwrap_or_default();
        load[lane] += cost;
        dealt[lane].push(column);
    }
    dealt
}

/// What encoding a value of the type costs relative to a small number: strings are hashed for the
/// dictionary and then compressed.
fn cost(data_type: &DataType) -> usize {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => 5,
        DataType::Decimal128(_, _) => 3,
        DataType::List(item) => 2 + cost(item.data_type()),
        DataType::Boolean => 1,
        _ => 2,
    }
}

fn leaf_count(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields
            .iter()
            .map(|field| leaf_count(field.data_type()))
            .sum(),
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
            leaf_count(item.data_type())
        }
        _ => 1,
    }
}

pub(super) fn encode_error(error: ParquetError) -> LakeError {
    LakeError::Encode {
        reason: error.to_string(),
    }
}

fn lane_is_gone() -> LakeError {
    LakeError::Encode {
        reason: "an encoding thread ended early".into(),
    }
}
