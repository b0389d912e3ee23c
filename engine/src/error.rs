//! The one error a statement can end with: a SQLSTATE, what was wrong, and what to do.
//!
//! Every layer below turns its own error into a [`SqlError`] where the statement meets it, so that
//! whoever asked (a client on the wire, the pipeline runner, the command line) gets the same words.
//! The cause is kept as `source` for the log; it is never pasted into the message, because a cause
//! may hold a path or an address that the person asking must not see.

use std::fmt;

/// Five characters a client branches on.
/// See <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlState(pub &'static str);

impl SqlState {
    pub const SUCCESSFUL_COMPLETION: Self = Self("00000");
    pub const WARNING: Self = Self("01000");
    pub const CONNECTION_FAILURE: Self = Self("08006");
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    pub const FEATURE_NOT_SUPPORTED: Self = Self("0A000");
    pub const DATA_EXCEPTION: Self = Self("22000");
    pub const NUMERIC_VALUE_OUT_OF_RANGE: Self = Self("22003");
    pub const INVALID_DATETIME_FORMAT: Self = Self("22007");
    pub const DIVISION_BY_ZERO: Self = Self("22012");
    pub const INVALID_PARAMETER_VALUE: Self = Self("22023");
    pub const INVALID_TEXT_REPRESENTATION: Self = Self("22P02");
    pub const BAD_COPY_FILE_FORMAT: Self = Self("22P04");
    pub const NOT_NULL_VIOLATION: Self = Self("23502");
    pub const UNIQUE_VIOLATION: Self = Self("23505");
    pub const CHECK_VIOLATION: Self = Self("23514");
    pub const INVALID_CURSOR_STATE: Self = Self("24000");
    pub const ACTIVE_SQL_TRANSACTION: Self = Self("25001");
    pub const READ_ONLY_SQL_TRANSACTION: Self = Self("25006");
    pub const NO_ACTIVE_SQL_TRANSACTION: Self = Self("25P01");
    pub const IN_FAILED_SQL_TRANSACTION: Self = Self("25P02");
    pub const INVALID_SQL_STATEMENT_NAME: Self = Self("26000");
    pub const INVALID_PASSWORD: Self = Self("28P01");
    pub const INVALID_CURSOR_NAME: Self = Self("34000");
    pub const SERIALIZATION_FAILURE: Self = Self("40001");
    pub const SYNTAX_ERROR: Self = Self("42601");
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    pub const UNDEFINED_COLUMN: Self = Self("42703");
    pub const UNDEFINED_FUNCTION: Self = Self("42883");
    pub const UNDEFINED_TABLE: Self = Self("42P01");
    pub const UNDEFINED_PARAMETER: Self = Self("42P02");
    pub const UNDEFINED_OBJECT: Self = Self("42704");
    pub const INVALID_SCHEMA_NAME: Self = Self("3F000");
    pub const DUPLICATE_TABLE: Self = Self("42P07");
    pub const DUPLICATE_SCHEMA: Self = Self("42P06");
    pub const DUPLICATE_COLUMN: Self = Self("42701");
    pub const DUPLICATE_OBJECT: Self = Self("42710");
    pub const DUPLICATE_CURSOR: Self = Self("42P03");
    pub const DUPLICATE_PREPARED_STATEMENT: Self = Self("42P05");
    pub const DATATYPE_MISMATCH: Self = Self("42804");
    pub const WRONG_OBJECT_TYPE: Self = Self("42809");
    pub const AMBIGUOUS_COLUMN: Self = Self("42702");
    pub const GROUPING_ERROR: Self = Self("42803");
    pub const INDETERMINATE_DATATYPE: Self = Self("42P18");
    pub const DEPENDENT_OBJECTS_STILL_EXIST: Self = Self("2BP01");
    pub const OUT_OF_MEMORY: Self = Self("53200");
    pub const DISK_FULL: Self = Self("53100");
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self("54000");
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: Self = Self("55000");
    pub const LOCK_NOT_AVAILABLE: Self = Self("55P03");
    pub const QUERY_CANCELED: Self = Self("57014");
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    pub const IO_ERROR: Self = Self("58030");
    pub const UNDEFINED_FILE: Self = Self("58P01");
    pub const INTERNAL_ERROR: Self = Self("XX000");
    pub const DATA_CORRUPTED: Self = Self("XX001");
}

/// Why a statement failed, in the parts PostgreSQL's `ErrorResponse` has.
#[derive(Debug)]
pub struct SqlError {
    pub state: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where in the statement's text, in characters from 1.
    pub position: Option<usize>,
    /// Whether the same statement may succeed when simply tried again.
    pub retryable: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SqlError {
    pub fn new(state: SqlState, message: impl Into<String>) -> Self {
        Self {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            retryable: false,
            source: None,
        }
    }

    /// A statement that is understood and that this version cannot carry out.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("{what} is not supported"),
        )
    }

    /// A defect of this program, not of the statement.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(SqlState::INTERNAL_ERROR, message)
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for SqlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

impl From<boathouse_sql::ParseError> for SqlError {
    fn from(error: boathouse_sql::ParseError) -> Self {
        let mut made = Self::new(SqlState(error.sqlstate), error.message);
        made.position = error.position;
        made.hint = error.hint;
        made
    }
}

impl From<boathouse_catalog::CatalogError> for SqlError {
    fn from(error: boathouse_catalog::CatalogError) -> Self {
        let mut made = Self::new(SqlState(error.sqlstate()), error.to_string());
        made.hint = error.hint();
        made.retryable = error.retryable();
        made.caused_by(error)
    }
}

impl From<boathouse_connectors::ConnectorError> for SqlError {
    fn from(error: boathouse_connectors::ConnectorError) -> Self {
        let mut made = Self::new(SqlState(error.sqlstate), error.message.clone());
        made.hint.clone_from(&error.hint);
        made.retryable = error.retryable;
        made.caused_by(error)
    }
}
