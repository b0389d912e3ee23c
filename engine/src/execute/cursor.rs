//! `DECLARE`, `FETCH`, `MOVE` and `CLOSE`: forward-only cursors over a query's stream.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use boathouse_sql::statement::{CloseCursor, DeclareCursor, Fetch, FetchDirection, Move};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use super::state::Block;
use super::{done, rows};
use crate::error::{SqlError, SqlState};
use crate::outcome::{Outcome, RowsTag};
use crate::query;
use crate::session::Session;

/// An open cursor: the stream, and what was read of it and not yet fetched.
pub(crate) struct Cursor {
    fields: SchemaRef,
    /// In a mutex only so that a session can be shared by reference; it is never locked.
    stream: Mutex<SendableRecordBatchStream>,
    rest: Option<RecordBatch>,
    /// `WITH HOLD`: outlives its transaction.
    pub hold: bool,
}

impl Cursor {
    /// The next `count` rows, or all that remain.
    async fn take(&mut self, count: Option<usize>) -> Result<Vec<RecordBatch>, SqlError> {
        let mut taken = Vec::new();
        let mut missing = count;
        while missing != Some(0) {
            let batch = match self.rest.take() {
                Some(batch) => batch,
                None => match stream_of(&mut self.stream).next().await {
                    Some(batch) => batch.map_err(query::failure::from_datafusion)?,
                    None => break,
                },
            };
            match missing {
                Some(wanted) if batch.num_rows() > wanted => {
                    taken.push(batch.slice(0, wanted));
                    self.rest = Some(batch.slice(wanted, batch.num_rows() - wanted));
                    missing = Some(0);
                }
                Some(wanted) => {
                    missing = Some(wanted - batch.num_rows());
                    taken.push(batch);
                }
                None => taken.push(batch),
            }
        }
        Ok(taken)
    }
}

fn stream_of(stream: &mut Mutex<SendableRecordBatchStream>) -> &mut SendableRecordBatchStream {
    stream.get_mut().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn declare(
    session: &mut Session,
    declare: &DeclareCursor,
    text: &str,
) -> Result<Outcome, SqlError> {
    if !declare.hold && !matches!(session.state.block, Block::Explicit(_) | Block::Implicit(_)) {
        return Err(SqlError::new(
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            "DECLARE CURSOR can only be used in transaction blocks",
        ));
    }
    if declare.scroll == Some(true) {
        return Err(SqlError::unsupported("a SCROLL cursor").hint("fetch forward only"));
    }
    if session.state.cursors.contains_key(&declare.name) {
        return Err(SqlError::new(
            SqlState::DUPLICATE_CURSOR,
            format!("cursor \"{}\" already exists", declare.name),
        ));
    }
    let context = session.state.query_context(&session.engine);
    let planned = query::plan_query(&context, &declare.query, &[]).await?;
    let stream = query::execute_query(&context, &planned, &[]).await?;
    let cursor = Cursor {
        fields: Arc::clone(&planned.fields),
        stream: Mutex::new(stream),
        rest: None,
        hold: declare.hold,
    };
    session.state.cursors.insert(declare.name.clone(), cursor);
    done("DECLARE CURSOR")
}

fn unknown(name: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_CURSOR_NAME,
        format!("cursor \"{name}\" does not exist"),
    )
}

pub(super) fn fields(session: &Session, name: &str) -> Result<SchemaRef, SqlError> {
    session
        .state
        .cursors
        .get(name)
        .map(|cursor| Arc::clone(&cursor.fields))
        .ok_or_else(|| unknown(name))
}

/// How many rows forward; `None` is all.
fn forward(direction: FetchDirection) -> Result<Option<usize>, SqlError> {
    match direction {
        FetchDirection::Forward(count) | FetchDirection::Relative(count) if count > 0 => {
            Ok(Some(usize::try_from(count).unwrap_or(usize::MAX)))
        }
        FetchDirection::ForwardAll => Ok(None),
        _ => Err(SqlError::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "cursor can only scan forward",
        )),
    }
}

pub(super) async fn fetch(session: &mut Session, fetch: &Fetch) -> Result<Outcome, SqlError> {
    let count = forward(fetch.direction)?;
    let cursor = session
        .state
        .cursors
        .get_mut(&fetch.cursor)
        .ok_or_else(|| unknown(&fetch.cursor))?;
    let fields = Arc::clone(&cursor.fields);
    let Some(count) = count else {
        // FETCH ALL empties the cursor: its stream becomes the answer, so that nothing is gathered
        // in memory.
        let Some(mut cursor) = session.state.cursors.remove(&fetch.cursor) else {
            return Err(unknown(&fetch.cursor));
        };
        let empty = Box::pin(datafusion::physical_plan::EmptyRecordBatchStream::new(
            Arc::clone(&fields),
        ));
        let first = cursor.rest.take();
        let stream = std::mem::replace(stream_of(&mut cursor.stream), empty);
        session.state.cursors.insert(fetch.cursor.clone(), cursor);
        let joined = futures::stream::iter(first.map(Ok)).chain(stream);
        return Ok(Outcome::Rows {
            fields: Arc::clone(&fields),
            stream: Box::pin(
                datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(fields, joined),
            ),
            tag: RowsTag::Fetch,
        });
    };
    let batches = cursor.take(Some(count)).await?;
    Ok(rows::of_batches(fields, batches, RowsTag::Fetch))
}

pub(super) async fn move_position(
    session: &mut Session,
    moved: &Move,
) -> Result<Outcome, SqlError> {
    let count = forward(moved.direction)?;
    let cursor = session
        .state
        .cursors
        .get_mut(&moved.cursor)
        .ok_or_else(|| unknown(&moved.cursor))?;
    let passed: usize = cursor
        .take(count)
        .await?
        .iter()
        .map(RecordBatch::num_rows)
        .sum();
    done(format!("MOVE {passed}"))
}

pub(super) fn close(session: &mut Session, close: &CloseCursor) -> Result<Outcome, SqlError> {
    match &close.name {
        None => {
            session.state.cursors.clear();
            done("CLOSE CURSOR ALL")
        }
        Some(name) => {
            session
                .state
                .cursors
                .remove(name)
                .ok_or_else(|| unknown(name))?;
            done("CLOSE CURSOR")
        }
    }
}
