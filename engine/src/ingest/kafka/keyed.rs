//! Messages that say which rows come and go, as changes of a table with a key.
//!
//! A row that comes goes the way of every row: query, rules, constraints. Of a row that goes only the key is known, so the query
//! gives its columns, and nothing is asked of it but that the key has no NULL. A row that the query's WHERE leaves out goes
//! too: what it was before may have passed. Changes keep the order of their messages, so that the last of each key counts.

use arrow::array::{Array, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::error::ArrowError;

use super::super::load::Failure;
use super::super::quarantine::{QuarantineWriter, Rejected};
use super::super::rows::{Rows, as_source, conform, fit};
use super::decode::goes_of;
use crate::error::{SqlError, SqlState};
use crate::lake::{Change, ChangeBatch};

/// Rows of the table, with the place of each among the decoded rows.
struct Part {
    rows: RecordBatch,
    places: Vec<u32>,
    change: Change,
}

/// Changes, and the place among the decoded rows of each.
pub(super) struct PlacedChanges {
    pub batch: ChangeBatch,
    pub places: Vec<u32>,
}

/// The changes that decoded rows are.
pub(super) async fn changes_of(
    rows: &mut Rows<'_>,
    decoded: &RecordBatch,
    quarantine: &mut QuarantineWriter,
) -> Result<Option<PlacedChanges>, Failure> {
    let source = as_source(&rows.ready()?.transform, decoded)?;
    let goes = goes_of(decoded)
        .cloned()
        .ok_or_else(|| SqlError::internal("it is not known which rows go"))?;
    let mut goes: Vec<bool> = goes.values().iter().collect();
    let mut parts = Vec::new();

    let comes: BooleanArray = goes.iter().map(|goes| Some(!goes)).collect();
    let (coming, places) = picked(&source, &comes)?;
    let (keep, unfit) = fit(&rows.ready()?.transform, &coming);
    rows.set_aside(unfit, quarantine).await?;
    let (coming, places) = match keep {
        None => (coming, places),
        Some(keep) => {
            let (coming, kept) = picked(&coming, &keep)?;
            (
                coming,
                kept.iter().map(|row| places[*row as usize]).collect(),
            )
        }
    };
    let transform = std::sync::Arc::clone(&rows.ready()?.transform);
    if transform.has_filter() {
        let (applied, failed) = transform.apply(&coming).await?;
        let mut left_out = vec![true; coming.num_rows()];
        let passed = applied.iter().flat_map(|part| part.rows.values().iter());
        let failed = failed.iter().map(|row| &row.row);
        for row in passed.chain(failed) {
            left_out[*row as usize] = false;
        }
        for (row, left_out) in left_out.into_iter().enumerate() {
            if left_out {
                goes[places[row] as usize] = true;
            }
        }
    }
    for (part, origin) in rows.transform_fit(&coming, quarantine).await? {
        parts.push(Part {
            rows: part,
            places: origin
                .values()
                .iter()
                .map(|row| places[*row as usize])
                .collect(),
            change: Change::Upsert,
        });
    }
    let (going, places) = picked(&source, &BooleanArray::from(goes))?;
    parts.extend(going_parts(rows, &going, &places, quarantine).await?);
    Ok(in_order(rows, parts)?)
}

/// The rows picked, and where they were.
fn picked(rows: &RecordBatch, keep: &BooleanArray) -> Result<(RecordBatch, Vec<u32>), SqlError> {
    let kept = filter_record_batch(rows, keep).map_err(unexpected)?;
    let places = (0_u32..).zip(keep.values().iter());
    Ok((
        kept,
        places
            .filter_map(|(row, kept)| kept.then_some(row))
            .collect(),
    ))
}

/// Rows that go.
async fn going_parts(
    rows: &mut Rows<'_>,
    going: &RecordBatch,
    places: &[u32],
    quarantine: &mut QuarantineWriter,
) -> Result<Vec<Part>, SqlError> {
    let key = rows.plan.key.clone();
    let ready = rows.ready()?;
    let (applied, failed) = ready.transform.apply_unfiltered(going);
    let mut rejected: Vec<Rejected> = failed
        .into_iter()
        .map(|row| Rejected::of_row(going, row.row as usize, row.error.state, row.error.message))
        .collect();
    let mut parts = Vec::new();
    for part in applied {
        let mut fitting = Vec::new();
        let mut misfits = Vec::new();
        conform(ready, &part.output, &part.rows, &mut fitting, &mut misfits);
        for (row, misfit) in misfits {
            let state = SqlState::INVALID_TEXT_REPRESENTATION;
            rejected.push(Rejected::of_row(going, row as usize, state, misfit.reason));
        }
        for (fitting, origin) in fitting {
            let known: BooleanArray = (0..fitting.num_rows())
                .map(|row| {
                    let missing = key.iter().find(|name| {
                        let column = fitting.column_by_name(name);
                        column.is_none_or(|column| column.is_null(row))
                    });
                    if let Some(name) = missing {
                        let place = origin.value(row) as usize;
                        let reason =
                            format!("the key column \"{name}\" of a row that goes has no value");
                        let state = SqlState::NOT_NULL_VIOLATION;
                        rejected.push(Rejected::of_row(going, place, state, reason));
                    }
                    Some(missing.is_none())
                })
                .collect();
            let (fitting, kept) = picked(&fitting, &known)?;
            let origin = UInt32Array::from(
                kept.iter()
                    .map(|row| origin.value(*row as usize))
                    .collect::<Vec<_>>(),
            );
            parts.push(Part {
                rows: fitting,
                places: origin
                    .values()
                    .iter()
                    .map(|row| places[*row as usize])
                    .collect(),
                change: Change::Delete,
            });
        }
    }
    rows.set_aside(rejected, quarantine).await?;
    Ok(parts)
}

/// All rows in the order of their messages, with the columns that messages have something to say of.
fn in_order(rows: &mut Rows<'_>, parts: Vec<Part>) -> Result<Option<PlacedChanges>, SqlError> {
    let mut order: Vec<(u32, usize, usize, Change)> = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        for (row, place) in part.places.iter().enumerate() {
            order.push((*place, number, row, part.change));
        }
    }
    if order.is_empty() {
        return Ok(None);
    }
    order.sort_by_key(|(place, ..)| *place);
    let ready = rows.ready()?;
    let told: Vec<usize> = ready
        .schema
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| {
            ready
                .transform
                .fields()
                .field_with_name(field.name())
                .is_ok()
        })
        .map(|(index, _)| index)
        .collect();
    let batches: Vec<RecordBatch> = parts
        .iter()
        .map(|part| part.rows.project(&told))
        .collect::<Result<_, _>>()
        .map_err(unexpected)?;
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let picks: Vec<(usize, usize)> = order
        .iter()
        .map(|(_, part, row, _)| (*part, *row))
        .collect();
    Ok(Some(PlacedChanges {
        places: order.iter().map(|(place, ..)| *place).collect(),
        batch: ChangeBatch {
            rows: interleave_record_batch(&batches, &picks).map_err(unexpected)?,
            changes: order.into_iter().map(|(.., change)| change).collect(),
            keys_before: None,
        },
    }))
}

fn unexpected(error: ArrowError) -> SqlError {
    SqlError::internal("could not form the changes of messages").caused_by(error)
}
