//! What the parent and the reading process say to each other.
//!
//! The parent writes [`Request`]s about one workbook to the standard input, each a line of JSON, and
//! waits for the answer before the next. The child answers with frames on the standard output: a
//! kind, a length, the bytes. A child that ends without [`SCHEMA`], [`DONE`] or [`FAILED`] was stopped
//! by its memory limit or by a defect.

use std::io::{self, Read, Write};

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::error::{FormatError, sqlstate};

/// A record batch as an Arrow IPC stream of its own.
pub const BATCH: u8 = b'B';
/// The inferred columns, as JSON: the end.
pub const SCHEMA: u8 = b'S';
/// The statistics, as JSON: the end.
pub const DONE: u8 = b'D';
/// A [`Failure`], as JSON: the end.
pub const FAILED: u8 = b'E';

/// More is no frame of ours.
const FRAME_BYTES_MAX: u32 = 1 << 30;

#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub path: std::path::PathBuf,
    pub name: String,
    pub options: Vec<(String, String)>,
    pub task: Task,
    pub memory_mib: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    Infer {
        rows: usize,
    },
    Read {
        columns: SchemaRef,
        keep_unknown: bool,
        inferred: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    sqlstate: String,
    message: String,
    sheet: Option<String>,
    row: Option<i64>,
    column: Option<String>,
    hint: Option<String>,
    cause: Option<String>,
}

impl From<&FormatError> for Failure {
    fn from(error: &FormatError) -> Self {
        Self {
            sqlstate: error.sqlstate.to_owned(),
            message: error.message.clone(),
            sheet: error.sheet.clone(),
            row: error.row,
            column: error.column.clone(),
            hint: error.hint.clone(),
            cause: std::error::Error::source(error).map(ToString::to_string),
        }
    }
}

impl From<Failure> for FormatError {
    fn from(failure: Failure) -> Self {
        let mut error = Self::new(sqlstate::known(&failure.sqlstate), failure.message);
        error.sheet = failure.sheet;
        error.row = failure.row;
        error.column = failure.column;
        error.hint = failure.hint;
        match failure.cause {
            Some(cause) => error.caused_by(cause),
            None => error,
        }
    }
}

pub fn write_frame(output: &mut impl Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "frame is too long"))?;
    output.write_all(&[kind])?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(bytes)
}

/// `None` when the child said nothing more.
pub fn read_frame(input: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 5];
    match input.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "frame is too long",
        ));
    }
    let mut bytes = Vec::new();
    let wanted = u64::from(length);
    if input.take(wanted).read_to_end(&mut bytes)? as u64 != wanted {
        return Ok(None);
    }
    Ok(Some((head[0], bytes)))
}
