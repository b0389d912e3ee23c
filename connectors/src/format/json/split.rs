//! Finds where each record of a JSON text begins and ends, without parsing it.
//!
//! By line, every line is a record. Otherwise records are the objects at the top of the text or
//! of its outermost array; braces are counted outside of strings. A text cut off in the middle of
//! a record, or before the array is closed, is an error of the file.

use std::io::{BufRead, BufReader, Read};

use encoding_rs::Encoding;

use crate::error::FormatError;
use crate::format::csv::source::{invalid_text, read_error, shown};

/// A longer record is refused.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// The text of one record.
#[derive(Debug)]
pub struct Record {
    pub text: String,
    /// Line, or place in the document; from 1.
    pub number: i64,
    /// Why `text` is not quite what was written.
    pub fault: Option<String>,
}

pub struct Splitter<R> {
    input: BufReader<R>,
    encoding: &'static Encoding,
    by_line: bool,
    number: i64,
    /// Arrays around the records that are not closed yet.
    open_arrays: usize,
}

impl<R: Read> Splitter<R> {
    /// `encoding` is what `input` was written in; it comes as UTF-8.
    pub fn new(input: R, encoding: &'static Encoding, by_line: bool) -> Self {
        Self {
            input: BufReader::with_capacity(1 << 18, input),
            encoding,
            by_line,
            number: 0,
            open_arrays: 0,
        }
    }

    pub fn next_record(&mut self) -> Result<Option<Record>, FormatError> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let found = match self.by_line {
                true => self.next_line(&mut bytes)?,
                false => self.next_value(&mut bytes)?,
            };
            if !found {
                return Ok(None);
            }
            self.number += 1;
            let bytes = bytes.trim_ascii();
            if !bytes.is_empty() {
                let valid = std::str::from_utf8(bytes).is_ok();
                return Ok(Some(Record {
                    text: shown(bytes, self.encoding),
                    number: self.number,
                    fault: (!valid).then(|| invalid_text(self.encoding)),
                }));
            }
        }
    }

    fn next_line(&mut self, bytes: &mut Vec<u8>) -> Result<bool, FormatError> {
        let limit = RECORD_BYTES_MAX as u64;
        let count = self
            .input
            .by_ref()
            .take(limit)
            .read_until(b'\n', bytes)
            .map_err(read_error)?;
        if count == RECORD_BYTES_MAX && !bytes.ends_with(b"\n") {
            return Err(self.too_long());
        }
        Ok(count > 0)
    }

    fn next_value(&mut self, bytes: &mut Vec<u8>) -> Result<bool, FormatError> {
        let mut depth = 0usize;
        let mut in_string = false;
        let mut escaped = false;
        loop {
            let available = self.input.fill_buf().map_err(read_error)?;
            if available.is_empty() {
                return if depth > 0 || in_string || (bytes.is_empty() && self.open_arrays > 0) {
                    Err(FormatError::malformed("the document is truncated")
                        .row(self.number + 1)
                        .hint("deliver the file again; a transfer may have been cut off"))
                } else {
                    Ok(!bytes.is_empty())
                };
            }
            let mut used = 0;
            let mut ended = false;
            for &byte in available {
                used += 1;
                if in_string {
                    bytes.push(byte);
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => in_string = false,
                        _ => {}
                    }
                    continue;
                }
                if depth == 0 {
                    match byte {
                        b'[' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' => {
                            match byte {
                                b'[' => self.open_arrays += 1,
                                b']' => self.open_arrays = self.open_arrays.saturating_sub(1),
                                _ => {}
                            }
                            // Between records, or behind a bare word, which is a record too.
                            if bytes.is_empty() {
                                continue;
                            }
                            ended = true;
                            break;
                        }
                        b'{' => depth = 1,
                        b'"' => in_string = true,
                        _ => {}
                    }
                    bytes.push(byte);
                    continue;
                }
                bytes.push(byte);
                match byte {
                    b'"' => in_string = true,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            ended = true;
                            break;
                        }
                    }
                    _ => {}
                }
            }
            self.input.consume(used);
            if ended {
                return Ok(true);
            }
            if bytes.len() > RECORD_BYTES_MAX {
                return Err(self.too_long());
            }
        }
    }

    fn too_long(&self) -> FormatError {
        FormatError::malformed(format!(
            "a record is longer than {} MiB",
            RECORD_BYTES_MAX >> 20
        ))
        .row(self.number + 1)
    }
}
