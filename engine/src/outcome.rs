//! What carrying out a statement gives back to whoever asked for it.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::statement::CopyFormat;
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;

use crate::error::{SqlError, SqlState};
use crate::session::Session;

/// The result of one statement.
pub enum Outcome {
    /// Rows, produced as they are read. `tag` is the verb of the command tag: `SELECT` is completed
    /// by the count of rows sent (`SELECT 3`), `SHOW` and `EXPLAIN` are not.
    Rows {
        fields: SchemaRef,
        stream: SendableRecordBatchStream,
        tag: RowsTag,
    },
    /// A finished command with its complete tag, such as `CREATE TABLE` or `INSERT 0 3`.
    Command(String),
    /// An empty query string.
    Empty,
    /// `COPY ... FROM STDIN`: the caller feeds the client's bytes to the receiver.
    CopyIn(CopyIn),
    /// `COPY ... TO STDOUT`: the caller encodes the rows.
    CopyOut(CopyOut),
}

/// How the command tag of a row-returning statement is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsTag {
    /// `SELECT n`.
    Select,
    /// `FETCH n`.
    Fetch,
    /// `INSERT 0 n`, of `INSERT ... RETURNING`.
    Insert,
    /// `UPDATE n`, of `UPDATE ... RETURNING`.
    Update,
    /// `DELETE n`, of `DELETE ... RETURNING`.
    Delete,
    /// `MERGE n`, of `MERGE ... RETURNING`.
    Merge,
    /// `SHOW`.
    Show,
    /// `EXPLAIN`.
    Explain,
    /// A verb of ours that answers with rows (`CHECK CONNECTION`, `TEST PIPELINE`): the verb alone.
    Verb(&'static str),
}

/// The receiving side of `COPY ... FROM STDIN`. Ended by [`crate::Session::finish_copy`] or
/// [`crate::Session::abort_copy`], never merely dropped: the session's transaction waits for it.
pub struct CopyIn {
    pub format: CopyFormat,
    pub column_count: usize,
    pub receiver: Box<dyn CopyReceiver>,
    /// Whether the statement stands alone, so that its end commits it.
    pub(crate) alone: bool,
}

/// Takes the bytes of a COPY as they arrive. Nothing is visible before [`CopyReceiver::finish`];
/// dropping the receiver discards everything.
#[async_trait]
pub trait CopyReceiver: Send {
    /// Takes one chunk, cut anywhere. Waits when the writer behind it is full.
    async fn receive(&mut self, chunk: Bytes) -> Result<(), SqlError>;
    /// Hands what was received to the session's transaction and gives the number of rows. Called by
    /// [`crate::Session::finish_copy`].
    async fn finish(self: Box<Self>, session: &mut Session) -> Result<u64, SqlError>;
}

/// The rows of `COPY ... TO STDOUT`, to be encoded by the caller.
pub struct CopyOut {
    pub options: boathouse_sql::statement::CopyOptions,
    pub fields: SchemaRef,
    pub stream: SendableRecordBatchStream,
}

/// What is known of a statement before it runs: what `Describe` answers.
#[derive(Debug, Clone)]
pub struct Description {
    /// The type of each parameter `$1`, `$2`, ...
    pub parameters: Vec<ColumnType>,
    /// The columns of the result, or `None` when it returns no rows.
    pub fields: Option<SchemaRef>,
}

/// A message to the client that is not an error.
#[derive(Debug, Clone)]
pub struct Notice {
    /// `NOTICE`, `WARNING`, `INFO` or `DEBUG`.
    pub severity: &'static str,
    pub state: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}
