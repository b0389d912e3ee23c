//! Why an outside system or a file could not be read, in words for the person who can act on it.
//!
//! Both errors carry the SQLSTATE and the hint a client sees, and keep the cause as `source` for
//! the log. A connector error says whether trying again can help; a format error says where in
//! the file it happened.

use std::fmt;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// SQLSTATE codes this crate answers with.
pub mod sqlstate {
    pub const CONNECTION_FAILURE: &str = "08006";
    pub const CONNECTION_REFUSED: &str = "08001";
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub const NUMERIC_OUT_OF_RANGE: &str = "22003";
    pub const INVALID_DATETIME: &str = "22007";
    pub const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
    pub const INVALID_PARAMETER: &str = "22023";
    pub const INVALID_TEXT: &str = "22P02";
    pub const BAD_FILE_FORMAT: &str = "22P04";
    pub const INVALID_AUTHORIZATION: &str = "28000";
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub const UNDEFINED_OBJECT: &str = "42704";
    pub const WRONG_OBJECT_TYPE: &str = "42809";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const LIMIT_EXCEEDED: &str = "54000";
    pub const QUERY_CANCELED: &str = "57014";
    pub const IO_ERROR: &str = "58030";
    pub const UNDEFINED_FILE: &str = "58P01";
    pub const INTERNAL_ERROR: &str = "XX000";

    const ALL: [&str; 19] = [
        CONNECTION_FAILURE,
        CONNECTION_REFUSED,
        FEATURE_NOT_SUPPORTED,
        NUMERIC_OUT_OF_RANGE,
        INVALID_DATETIME,
        CHARACTER_NOT_IN_REPERTOIRE,
        INVALID_PARAMETER,
        INVALID_TEXT,
        BAD_FILE_FORMAT,
        INVALID_AUTHORIZATION,
        INSUFFICIENT_PRIVILEGE,
        UNDEFINED_OBJECT,
        WRONG_OBJECT_TYPE,
        OUT_OF_MEMORY,
        LIMIT_EXCEEDED,
        QUERY_CANCELED,
        IO_ERROR,
        UNDEFINED_FILE,
        INTERNAL_ERROR,
    ];

    /// The constant for a code that came as text.
    pub(crate) fn known(code: &str) -> &'static str {
        ALL.into_iter()
            .find(|known| *known == code)
            .unwrap_or(INTERNAL_ERROR)
    }
}

/// Why a connection could not be configured or used.
#[derive(Debug)]
pub struct ConnectorError {
    pub sqlstate: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// Whether the same call may succeed when simply tried again later.
    pub retryable: bool,
    source: Option<Cause>,
}

impl ConnectorError {
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
            hint: None,
            retryable: false,
            source: None,
        }
    }

    /// An option that is missing, unknown or has a value it cannot have.
    pub fn option(message: impl Into<String>) -> Self {
        Self::new(sqlstate::INVALID_PARAMETER, message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.source = Some(cause.into());
        self
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ConnectorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// Why a file could not be decoded, and where in it.
#[derive(Debug)]
pub struct FormatError {
    pub sqlstate: &'static str,
    /// Names neither the file nor the place in it: those have fields of their own.
    pub message: String,
    pub file: Option<String>,
    pub sheet: Option<String>,
    /// Line of a text file, row number of a sheet; from 1.
    pub row: Option<i64>,
    pub column: Option<String>,
    pub hint: Option<String>,
    /// Whether reading the file again later may succeed.
    pub retryable: bool,
    source: Option<Cause>,
}

impl FormatError {
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
            file: None,
            sheet: None,
            row: None,
            column: None,
            hint: None,
            retryable: false,
            source: None,
        }
    }

    /// The content is not what the format says it should be.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(sqlstate::BAD_FILE_FORMAT, message)
    }

    pub fn io(cause: std::io::Error) -> Self {
        Self::new(sqlstate::IO_ERROR, "could not read the file").caused_by(cause)
    }

    pub fn file(mut self, file: impl Into<String>) -> Self {
        self.file.get_or_insert(file.into());
        self
    }

    pub fn sheet(mut self, sheet: impl Into<String>) -> Self {
        self.sheet.get_or_insert(sheet.into());
        self
    }

    pub fn row(mut self, row: i64) -> Self {
        self.row.get_or_insert(row);
        self
    }

    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    pub fn column(mut self, column: impl Into<String>) -> Self {
        self.column.get_or_insert(column.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.source = Some(cause.into());
        self
    }
}

/// `file "a.xlsx", sheet "Stock", row 7, column "qty": the message`.
impl fmt::Display for FormatError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut place = |formatter: &mut fmt::Formatter<'_>, part: String| {
            let result = write!(formatter, "{separator}{part}");
            separator = ", ";
            result
        };
        if let Some(file) = &self.file {
            place(formatter, format!("file \"{file}\""))?;
        }
        if let Some(sheet) = &self.sheet {
            place(formatter, format!("sheet \"{sheet}\""))?;
        }
        if let Some(row) = self.row {
            place(formatter, format!("row {row}"))?;
        }
        if let Some(column) = &self.column {
            place(formatter, format!("column \"{column}\""))?;
        }
        if !separator.is_empty() {
            formatter.write_str(": ")?;
        }
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for FormatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
