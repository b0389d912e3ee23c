//! Cuts a text into chunks that end where a record ends.
//!
//! A chunk without quotes is cut at its last line end, which takes a search from its end only;
//! otherwise the scanner finds the last record that is whole. A record that grows past
//! [`RECORD_BYTES_MAX`] is most likely a quote that is never closed: its first line is given up
//! as rejected, and the next line is tried as the start of a record. A chunk with more records
//! than a batch may have, because they are short, is handed out in pieces.

use std::io::Read;

use memchr::{memchr, memchr_iter, memrchr};

use crate::error::FormatError;

use super::scan::{Dialect, scan};
use super::source::read_error;

/// A longer record is rejected.
pub const RECORD_BYTES_MAX: usize = 16 << 20;
/// How much of a rejected line is kept.
const RAW_BYTES_MAX: usize = 64 << 10;

/// Whole records.
#[derive(Debug)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    /// Line number, from 1, of its first line.
    pub line: i64,
    /// The text ends here; the last record may have no terminator.
    pub last: bool,
    /// Why its only line is no record.
    pub broken: Option<&'static str>,
}

pub struct Cutter<R> {
    text: R,
    dialect: Dialect,
    chunk_bytes: usize,
    record_bytes_max: usize,
    pending: Vec<u8>,
    line: i64,
    ended: bool,
    finished: bool,
    rows_max: usize,
    /// A chunk with too many rows, and how much of it was handed out.
    long: Option<(Chunk, usize)>,
}

impl<R: Read> Cutter<R> {
    /// The first line of `text` has number `line`. A chunk gets at most `rows_max` records.
    pub fn new(text: R, dialect: Dialect, chunk_bytes: usize, rows_max: usize, line: i64) -> Self {
        Self {
            text,
            dialect,
            chunk_bytes: chunk_bytes.max(1),
            rows_max: rows_max.max(1),
            long: None,
            record_bytes_max: RECORD_BYTES_MAX,
            pending: Vec::new(),
            line,
            ended: false,
            finished: false,
        }
    }

    #[cfg(test)]
    fn with_record_bytes_max(mut self, bytes: usize) -> Self {
        self.record_bytes_max = bytes;
        self
    }

    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, FormatError> {
        if let Some((chunk, from)) = self.long.take() {
            return Ok(Some(self.piece(chunk, from)));
        }
        if self.finished {
            return Ok(None);
        }
        let mut wanted = self.chunk_bytes;
        loop {
            self.fill(wanted)?;
            if self.ended && self.pending.is_empty() {
                self.finished = true;
                return Ok(None);
            }
            let (end, open_quote) = last_record_end(&self.pending, &self.dialect, self.ended);
            if self.ended && (end == self.pending.len() || !open_quote) {
                self.finished = true;
                let bytes = std::mem::take(&mut self.pending);
                return Ok(Some(self.chunk(bytes, true)));
            }
            if end > 0 {
                let rest = self.pending.split_off(end);
                let bytes = std::mem::replace(&mut self.pending, rest);
                return Ok(Some(self.chunk(bytes, false)));
            }
            if self.ended || self.pending.len() >= self.record_bytes_max {
                return self.give_up_line(open_quote).map(Some);
            }
            wanted = (self.pending.len() * 2).clamp(self.chunk_bytes, self.record_bytes_max);
        }
    }

    fn fill(&mut self, wanted: usize) -> Result<(), FormatError> {
        let mut length = self.pending.len();
        if length < wanted {
            self.pending.resize(wanted, 0);
        }
        while length < wanted && !self.ended {
            match self.text.read(&mut self.pending[length..]) {
                Ok(0) => self.ended = true,
                Ok(count) => length += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.pending.truncate(length);
                    return Err(read_error(error).row(self.line));
                }
            }
        }
        self.pending.truncate(length);
        Ok(())
    }

    fn chunk(&mut self, bytes: Vec<u8>, last: bool) -> Chunk {
        let line = self.line;
        let lines = memchr_iter(self.dialect.terminator, &bytes).count();
        self.line += i64::try_from(lines).unwrap_or(0);
        let chunk = Chunk {
            bytes,
            line,
            last,
            broken: None,
        };
        // No record is less than a line.
        if lines <= self.rows_max {
            return chunk;
        }
        self.piece(chunk, 0)
    }

    /// The next records of `chunk`, as many as one chunk may have. The rest is kept.
    fn piece(&mut self, mut chunk: Chunk, from: usize) -> Chunk {
        let rest = &chunk.bytes[from..];
        let terminator = self.dialect.terminator;
        let mut lines = self.rows_max;
        let cut = loop {
            let line_end = memchr_iter(terminator, rest).nth(lines - 1);
            let Some(end) = line_end.map(|at| at + 1).filter(|&end| end < rest.len()) else {
                break None;
            };
            // It may be within quotes: then the piece ends with the last record before.
            match last_record_end(&rest[..end], &self.dialect, false) {
                // One record of more lines than there may be records.
                (0, _) => lines *= 2,
                (end, _) => break Some(end),
            }
        };
        let Some(cut) = cut else {
            chunk.bytes.drain(..from);
            return chunk;
        };
        let bytes = rest[..cut].to_vec();
        let line = chunk.line;
        let lines = memchr_iter(terminator, &bytes).count();
        chunk.line += i64::try_from(lines).unwrap_or(0);
        self.long = Some((chunk, from + cut));
        Chunk {
            bytes,
            line,
            last: false,
            broken: None,
        }
    }

    fn give_up_line(&mut self, open_quote: bool) -> Result<Chunk, FormatError> {
        let Some(end) = memchr(self.dialect.terminator, &self.pending) else {
            // Not even a line: no text file, or one of another kind.
            return if open_quote && self.ended {
                self.finished = true;
                let mut bytes = std::mem::take(&mut self.pending);
                bytes.truncate(RAW_BYTES_MAX);
                Ok(Chunk {
                    bytes,
                    line: self.line,
                    last: true,
                    broken: Some(OPEN_QUOTE),
                })
            } else {
                Err(FormatError::malformed(format!(
                    "a line is longer than {} MiB",
                    self.record_bytes_max >> 20
                ))
                .row(self.line)
                .hint("check that this is a text file and that its encoding is right"))
            };
        };
        let rest = self.pending.split_off(end + 1);
        let mut bytes = std::mem::replace(&mut self.pending, rest);
        bytes.truncate(end.min(RAW_BYTES_MAX));
        let line = self.line;
        self.line += 1;
        let reason = if open_quote { OPEN_QUOTE } else { TOO_LONG };
        Ok(Chunk {
            bytes,
            line,
            last: false,
            broken: Some(reason),
        })
    }
}

/// Where the last whole record ends, and whether the rest is within quotes.
fn last_record_end(bytes: &[u8], dialect: &Dialect, at_end: bool) -> (usize, bool) {
    let quote = dialect
        .quote
        .filter(|&quote| memchr(quote, bytes).is_some());
    if quote.is_none() {
        let end = memrchr(dialect.terminator, bytes).map_or(0, |at| at + 1);
        return (end, false);
    }
    let rest = scan(
        bytes,
        dialect,
        at_end,
        &mut Vec::new(),
        |cells, first, _| {
            cells.truncate(first);
        },
    );
    (rest.start, rest.open_quote)
}

const OPEN_QUOTE: &str = "a quoted cell is never closed";
const TOO_LONG: &str = "the record is too long";

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, chunk_bytes: usize, record_bytes_max: usize) -> Vec<String> {
        cut_rows(text, chunk_bytes, usize::MAX, record_bytes_max)
    }

    fn cut_rows(
        text: &str,
        chunk_bytes: usize,
        rows_max: usize,
        record_bytes_max: usize,
    ) -> Vec<String> {
        let dialect = Dialect::default();
        let mut cutter = Cutter::new(text.as_bytes(), dialect, chunk_bytes, rows_max, 1)
            .with_record_bytes_max(record_bytes_max);
        let mut chunks = Vec::new();
        while let Some(chunk) = cutter.next_chunk().unwrap() {
            let broken = chunk
                .broken
                .map_or(String::new(), |reason| format!(" ({reason})"));
            chunks.push(format!(
                "{}: {:?}{broken}",
                chunk.line,
                String::from_utf8(chunk.bytes).unwrap()
            ));
        }
        chunks
    }

    #[test]
    fn a_chunk_ends_where_a_record_ends() {
        assert_eq!(
            cut("a,1\nb,\"x\ny\"\nc,3", 13, 1 << 20),
            ["1: \"a,1\\nb,\\\"x\\ny\\\"\\n\"", "4: \"c,3\""]
        );
    }

    #[test]
    fn a_chunk_has_no_more_records_than_it_may() {
        assert_eq!(
            cut_rows("1\n2\n3\n\"4\n4\n4\"\n5\n6", 1 << 10, 2, 1 << 20),
            [
                "1: \"1\\n2\\n\"",
                "3: \"3\\n\"",
                "4: \"\\\"4\\n4\\n4\\\"\\n5\\n\"",
                "8: \"6\""
            ]
        );
    }

    #[test]
    fn a_quote_never_closed_costs_its_line_only() {
        assert_eq!(
            cut("a,1\nb,\"x\nc,3\nd,4\n", 16, 64),
            [
                "1: \"a,1\\n\"",
                "2: \"b,\\\"x\" (a quoted cell is never closed)",
                "3: \"c,3\\nd,4\\n\""
            ]
        );
    }
}
