//! `DECLARE`, `FETCH`, `MOVE` and `CLOSE`: forward-only cursors over a query's stream.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use boathouse_sql::statement::{CloseCursor, DeclareCursor, Fetch, FetchDirection, Move};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{Stream, StreamExt};

use super::done;
use super::state::Block;
use crate::error::{SqlError, SqlState};
use crate::outcome::{Outcome, RowsTag};
use crate::query;
use crate::session::Session;

/// An open cursor.
pub(crate) struct Cursor {
    fields: SchemaRef,
    /// Shared with the answers of FETCH, which read it on as the client takes their rows.
    source: Arc<Mutex<Source>>,
    /// `WITH HOLD`: outlives its transaction.
    pub hold: bool,
}

/// The query's stream, and what was read of it and not yet fetched.
struct Source {
    stream: SendableRecordBatchStream,
    rest: Option<RecordBatch>,
}

impl Source {
    /// The next rows, as many as come at once and at most `most`.
    fn poll_rows(
        &mut self,
        context: &mut Context<'_>,
        most: Option<usize>,
    ) -> Poll<Option<datafusion::common::Result<RecordBatch>>> {
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => match ready!(self.stream.poll_next_unpin(context)) {
                Some(Ok(batch)) => batch,
                other => return Poll::Ready(other),
            },
        };
        Poll::Ready(Some(Ok(match most {
            Some(most) if batch.num_rows() > most => {
                self.rest = Some(batch.slice(most, batch.num_rows() - most));
                batch.slice(0, most)
            }
            _ => batch,
        })))
    }
}

/// The rows of one FETCH or MOVE: nothing is gathered, however many they are.
struct Fetching {
    fields: SchemaRef,
    source: Arc<Mutex<Source>>,
    /// How many are still wanted; `None` is all.
    missing: Option<usize>,
}

impl Stream for Fetching {
    type Item = datafusion::common::Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.missing == Some(0) {
            return Poll::Ready(None);
        }
        let most = self.missing;
        let next = ready!(
            self.source
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .poll_rows(context, most)
        );
        if let (Some(Ok(batch)), Some(missing)) = (&next, &mut self.missing) {
            *missing -= batch.num_rows();
        }
        Poll::Ready(next)
    }
}

impl RecordBatchStream for Fetching {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.fields)
    }
}

impl Cursor {
    fn fetch(&self, missing: Option<usize>) -> Fetching {
        Fetching {
            fields: Arc::clone(&self.fields),
            source: Arc::clone(&self.source),
            missing,
        }
    }
}

pub(super) async fn declare(
    session: &mut Session,
    declare: &DeclareCursor,
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
        source: Arc::new(Mutex::new(Source { stream, rest: None })),
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

fn find<'s>(session: &'s Session, name: &str) -> Result<&'s Cursor, SqlError> {
    session.state.cursors.get(name).ok_or_else(|| unknown(name))
}

pub(super) fn fields(session: &Session, name: &str) -> Result<SchemaRef, SqlError> {
    find(session, name).map(|cursor| Arc::clone(&cursor.fields))
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

pub(super) fn fetch(session: &Session, fetch: &Fetch) -> Result<Outcome, SqlError> {
    let count = forward(fetch.direction)?;
    let cursor = find(session, &fetch.cursor)?;
    Ok(Outcome::Rows {
        fields: Arc::clone(&cursor.fields),
        stream: Box::pin(cursor.fetch(count)),
        tag: RowsTag::Fetch,
    })
}

pub(super) async fn move_position(session: &Session, moved: &Move) -> Result<Outcome, SqlError> {
    let count = forward(moved.direction)?;
    let mut passing = find(session, &moved.cursor)?.fetch(count);
    let mut passed = 0;
    while let Some(batch) = passing.next().await {
        passed += batch.map_err(query::failure::from_datafusion)?.num_rows();
    }
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
