//! Why a text is not a statement, in PostgreSQL's words and with its codes.

use std::fmt;

/// A text that could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// `42601` for a syntax error, `0A000` for what is understood and not supported, and so on.
    pub sqlstate: &'static str,
    /// Such as `syntax error at or near "frm"`.
    pub message: String,
    /// Where in the whole text given to [`crate::parse`], in characters from 1.
    pub position: Option<usize>,
    pub hint: Option<String>,
}

impl ParseError {
    pub const SYNTAX_ERROR: &'static str = "42601";
    pub const FEATURE_NOT_SUPPORTED: &'static str = "0A000";
    pub const STATEMENT_TOO_COMPLEX: &'static str = "54001";
    pub const INVALID_PARAMETER_VALUE: &'static str = "22023";
    pub const UNDEFINED_OBJECT: &'static str = "42704";
    pub const INVALID_NAME: &'static str = "42602";
    pub const INVALID_TABLE_DEFINITION: &'static str = "42P16";
    pub const DUPLICATE_COLUMN: &'static str = "42701";

    pub(crate) fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
            position: None,
            hint: None,
        }
    }

    /// Something understood that this version cannot carry out.
    pub(crate) fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(
            Self::FEATURE_NOT_SUPPORTED,
            format!("{what} is not supported"),
        )
    }

    pub(crate) fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ParseError {}
