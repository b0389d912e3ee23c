//! The threads of reading one text.
//!
//! One thread reads and cuts, two decode, the caller hands batches on in the order of the text.
//! Every queue is bounded, so a slow sink holds the reader back. When the caller stops early the
//! queues close and the threads end by themselves.

use std::collections::VecDeque;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use arrow::array::{AsArray, Int64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;

use crate::error::{FormatError, sqlstate};
use crate::format::{DecodedBatch, FileStatistics, ROW};

use super::cut::{Chunk, Cutter};
use super::decode::{Decoded, Decoder};

const WORKERS: usize = 2;
/// Chunks cut but not yet handed on.
const CHUNKS_IN_FLIGHT: usize = 6;

type Answer = Result<Decoded, FormatError>;
type Job = (Chunk, SyncSender<Answer>);

pub fn run<R: Read + Send>(
    mut cutter: Cutter<R>,
    decoder: &Decoder,
    skip_footer: usize,
    statistics: &mut FileStatistics,
    sink: &mut dyn FnMut(DecodedBatch) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, FormatError> {
    thread::scope(|scope| {
        let (jobs, waiting) = sync_channel::<Job>(CHUNKS_IN_FLIGHT);
        let (order, in_order) = sync_channel::<Receiver<Answer>>(CHUNKS_IN_FLIGHT);
        let waiting = std::sync::Arc::new(Mutex::new(waiting));
        scope.spawn(move || read(&mut cutter, &jobs, &order));
        for _ in 0..WORKERS {
            let waiting = waiting.clone();
            scope.spawn(move || work(&waiting, decoder));
        }
        drop(waiting);
        deliver(in_order, skip_footer, statistics, sink)
    })
}

fn read<R: Read>(
    cutter: &mut Cutter<R>,
    jobs: &SyncSender<Job>,
    order: &SyncSender<Receiver<Answer>>,
) {
    loop {
        let (answer, receiver) = sync_channel(1);
        let done = match cutter.next_chunk() {
            Ok(None) => return,
            Ok(Some(chunk)) => jobs.send((chunk, answer)).is_err(),
            Err(error) => {
                // The receiver is in hand, so there is somebody to hear it.
                let _ = answer.send(Err(error));
                let _ = order.send(receiver);
                return;
            }
        };
        if done || order.send(receiver).is_err() {
            return;
        }
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, decoder: &Decoder) {
    loop {
        let job = match waiting.lock() {
            Ok(jobs) => jobs.recv(),
            Err(_) => return,
        };
        let Ok((chunk, answer)) = job else { return };
        // Nobody listens any more when the caller stopped early.
        if answer.send(decoder.decode(chunk)).is_err() {
            return;
        }
    }
}

fn deliver(
    in_order: Receiver<Receiver<Answer>>,
    skip_footer: usize,
    statistics: &mut FileStatistics,
    sink: &mut dyn FnMut(DecodedBatch) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, FormatError> {
    let mut held: VecDeque<Decoded> = VecDeque::new();
    let mut hand_on = |decoded: Decoded| {
        statistics.rows += decoded.batch.batch.num_rows() as u64;
        statistics.rows_rejected += decoded.batch.rejected.len() as u64;
        statistics.rows_rescued += decoded.rescued;
        statistics.rows_skipped += decoded.skipped;
        sink(decoded.batch)
    };
    for answer in in_order {
        let decoded = answer.recv().map_err(|_| {
            FormatError::new(sqlstate::INTERNAL_ERROR, "decoding was interrupted")
        })??;
        held.push_back(decoded);
        // What may still turn out to be the footer is held back.
        while held.iter().skip(1).map(records).sum::<usize>() >= skip_footer {
            let Some(decoded) = held.pop_front() else {
                break;
            };
            if hand_on(decoded).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    if skip_footer > 0 {
        cut_footer(&mut held, skip_footer)?;
    }
    for decoded in held {
        if hand_on(decoded).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn records(decoded: &Decoded) -> usize {
    decoded.batch.batch.num_rows() + decoded.batch.rejected.len()
}

/// Drops the last records, good and rejected ones alike.
fn cut_footer(held: &mut VecDeque<Decoded>, skip_footer: usize) -> Result<(), FormatError> {
    let mut rows: Vec<i64> = Vec::new();
    for decoded in held.iter() {
        rows.extend(row_numbers(decoded).values());
        rows.extend(decoded.batch.rejected.iter().map(|row| row.row));
    }
    rows.sort_unstable();
    let Some(&first_of_footer) = rows.get(rows.len().saturating_sub(skip_footer)) else {
        return Ok(());
    };
    for decoded in held {
        let before = records(decoded);
        let numbers = row_numbers(decoded);
        let keep: arrow::array::BooleanArray = numbers
            .iter()
            .map(|row| Some(row < Some(first_of_footer)))
            .collect();
        decoded.batch.batch =
            filter_record_batch(&decoded.batch.batch, &keep).map_err(|error| {
                FormatError::new(sqlstate::INTERNAL_ERROR, "could not cut the footer")
                    .caused_by(error)
            })?;
        decoded
            .batch
            .rejected
            .retain(|row| row.row < first_of_footer);
        decoded.rescued = decoded.rescued.min(decoded.batch.batch.num_rows() as u64);
        decoded.skipped += (before - records(decoded)) as u64;
    }
    Ok(())
}

fn row_numbers(decoded: &Decoded) -> Int64Array {
    let column = decoded.batch.batch.column_by_name(ROW);
    column
        .and_then(|column| column.as_primitive_opt::<Int64Type>().cloned())
        .unwrap_or_else(|| Int64Array::from(Vec::<i64>::new()))
}
