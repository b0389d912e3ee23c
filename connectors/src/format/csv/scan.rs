//! Splits bytes into records and cells.
//!
//! Looks at eight bytes at a time for the three characters that mean something and jumps from one
//! to the next; inside quotes it looks for the closing quote only. Agrees with RFC 4180 and, where
//! that is silent, with the crate `csv`: a quote opens only at the start of a cell, text behind a
//! closing quote belongs to the cell as it stands, and empty lines are no records.
//!
//! Both the cutting of a file into chunks and the decoding of a chunk use this one scanner, so
//! they cannot disagree about where a record ends.

use memchr::{memchr, memchr_iter, memchr2};

/// Which characters mean what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    pub delimiter: u8,
    pub quote: Option<u8>,
    /// Makes the next character plain inside quotes; `None` when a doubled quote does.
    pub escape: Option<u8>,
    /// `\n` (a `\r` before it is dropped) or a lone `\r`.
    pub terminator: u8,
    /// Lines that start with it are no records.
    pub comment: Option<u8>,
    /// Blanks before an opening quote are no part of the cell.
    pub trim: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            terminator: b'\n',
            comment: None,
            trim: false,
        }
    }
}

/// One cell: where its text is, and how it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub start: u32,
    end_and_flags: u32,
}

const QUOTED: u32 = 1 << 31;
const ESCAPED: u32 = 1 << 30;
const IN_ARENA: u32 = 1 << 29;
const END_MASK: u32 = IN_ARENA - 1;

impl Cell {
    /// A cell that a short record lacks.
    pub const MISSING: Self = Self {
        start: 0,
        end_and_flags: 0,
    };

    fn new(start: usize, end: usize, flags: u32) -> Self {
        // A chunk is far smaller than 512 MiB.
        Self {
            start: start as u32,
            end_and_flags: end as u32 | flags,
        }
    }

    pub fn in_arena(start: usize, end: usize) -> Self {
        Self::new(start, end, IN_ARENA | QUOTED)
    }

    pub fn end(self) -> u32 {
        self.end_and_flags & END_MASK
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end()
    }

    pub fn is_quoted(self) -> bool {
        self.end_and_flags & QUOTED != 0
    }

    /// Its text still has to go through [`unescape`].
    pub fn is_escaped(self) -> bool {
        self.end_and_flags & ESCAPED != 0
    }

    pub fn is_in_arena(self) -> bool {
        self.end_and_flags & IN_ARENA != 0
    }
}

/// Where one record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSpan {
    pub start: usize,
    /// Past the last byte of the record, before its terminator.
    pub end: usize,
    /// Past the terminator: where the next record starts.
    pub next: usize,
    /// Lines before it in the bytes scanned.
    pub line: usize,
}

/// What is left behind the last whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// Start of the unfinished record; the number of bytes when there is none.
    pub start: usize,
    /// Lines before it.
    pub line: usize,
    /// It ends within quotes.
    pub open_quote: bool,
}

/// Calls `on_record` for every whole record of `bytes`, with its cells at the end of `cells` from
/// the given index on. The callee decides what stays in `cells`. With `at_end` the last record
/// needs no terminator. Offsets must fit beside the flags: at most 512 MiB.
pub fn scan(
    bytes: &[u8],
    dialect: &Dialect,
    at_end: bool,
    cells: &mut Vec<Cell>,
    mut on_record: impl FnMut(&mut Vec<Cell>, usize, RecordSpan),
) -> Rest {
    let quote = dialect.quote.unwrap_or(dialect.delimiter);
    let mut specials = Specials::new(bytes, dialect.delimiter, dialect.terminator, quote);
    let mut record_start = 0;
    let mut first_cell = cells.len();
    let mut field_start = 0;
    let mut line = 0;
    let mut lines_in_record = 0;
    let mut quoted: Option<Cell> = None;
    specials.seek(skip_comments(bytes, dialect, &mut record_start, &mut line));
    field_start += record_start;
    loop {
        let (at, byte) = match specials.next() {
            Some(at) => (at, bytes[at]),
            None if at_end && record_start < bytes.len() => (bytes.len(), dialect.terminator),
            None => break,
        };
        if byte == dialect.delimiter {
            cells.push(quoted.take().unwrap_or(Cell::new(field_start, at, 0)));
            field_start = at + 1;
        } else if byte == dialect.terminator {
            let mut end = at;
            if byte == b'\n' && end > record_start && bytes[end - 1] == b'\r' {
                end -= 1;
            }
            let last = quoted
                .take()
                .unwrap_or(Cell::new(field_start, end.max(field_start), 0));
            let next = (at + 1).min(bytes.len());
            let blank = cells.len() == first_cell && last.is_empty() && !last.is_quoted();
            if !blank {
                cells.push(last);
                let span = RecordSpan {
                    start: record_start,
                    end,
                    next,
                    line,
                };
                on_record(cells, first_cell, span);
            }
            line += 1 + lines_in_record;
            lines_in_record = 0;
            first_cell = cells.len();
            record_start = next;
            if dialect.comment.is_some() {
                specials.seek(skip_comments(bytes, dialect, &mut record_start, &mut line));
            }
            field_start = record_start;
            if at == bytes.len() {
                break;
            }
        } else if quoted.is_none() && opens(bytes, field_start, at, dialect.trim) {
            let Some(closed) = close_quote(bytes, at + 1, quote, dialect.escape) else {
                return Rest {
                    start: record_start,
                    line,
                    open_quote: true,
                };
            };
            lines_in_record += memchr_iter(dialect.terminator, &bytes[at + 1..closed.end]).count();
            let after = closed.end + 1;
            let clean = match bytes.get(after) {
                None => true,
                Some(b'\r') => bytes.get(after + 1).is_none_or(|&next| next == b'\n'),
                Some(&next) => next == dialect.delimiter || next == dialect.terminator,
            };
            let tail = if clean {
                0
            } else {
                tail_end(bytes, after, dialect)
            };
            let only_blanks = dialect.trim
                && !clean
                && bytes[after..tail]
                    .iter()
                    .all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
            quoted = Some(if clean || only_blanks {
                let flags = if closed.escaped {
                    QUOTED | ESCAPED
                } else {
                    QUOTED
                };
                Cell::new(at + 1, closed.end, flags)
            } else {
                // From the opening quote on, so that `unescape` sees where the quotes end.
                Cell::new(at, tail, ESCAPED)
            });
            specials.seek(if clean { after } else { tail });
        }
    }
    cells.truncate(first_cell);
    Rest {
        start: record_start.min(bytes.len()),
        line,
        open_quote: false,
    }
}

/// Whether the quote at `at` opens a cell that starts at `field_start`.
fn opens(bytes: &[u8], field_start: usize, at: usize, trim: bool) -> bool {
    at == field_start
        || (trim
            && bytes[field_start..at]
                .iter()
                .all(|byte| matches!(byte, b' ' | b'\t')))
}

struct Closed {
    end: usize,
    escaped: bool,
}

fn close_quote(bytes: &[u8], from: usize, quote: u8, escape: Option<u8>) -> Option<Closed> {
    let mut at = from;
    let mut escaped = false;
    loop {
        let found = match escape {
            Some(escape) => memchr2(quote, escape, &bytes[at..])?,
            None => memchr(quote, &bytes[at..])?,
        } + at;
        if bytes[found] != quote || bytes.get(found + 1) == Some(&quote) {
            // An escaped character or a doubled quote; both take two bytes.
            escaped = true;
            at = found + 2;
            if at > bytes.len() {
                return None;
            }
        } else {
            return Some(Closed {
                end: found,
                escaped,
            });
        }
    }
}

/// The end of text that follows a closing quote.
fn tail_end(bytes: &[u8], from: usize, dialect: &Dialect) -> usize {
    let end = memchr2(dialect.delimiter, dialect.terminator, &bytes[from..])
        .map_or(bytes.len(), |found| from + found);
    let is_line_end = bytes.get(end).is_none_or(|&byte| byte == b'\n');
    if is_line_end && dialect.terminator == b'\n' && end > from && bytes[end - 1] == b'\r' {
        end - 1
    } else {
        end
    }
}

/// Where the first record at or after `start` begins, `start` being the start of a line.
fn skip_comments(bytes: &[u8], dialect: &Dialect, start: &mut usize, line: &mut usize) -> usize {
    if let Some(comment) = dialect.comment {
        while bytes.get(*start) == Some(&comment) {
            *line += 1;
            *start = memchr(dialect.terminator, &bytes[*start..])
                .map_or(bytes.len(), |found| *start + found + 1);
        }
    }
    *start
}

/// Appends the text of an escaped cell to `text`.
pub fn unescape(raw: &str, dialect: &Dialect, was_quoted: bool, text: &mut String) {
    let Some(quote) = dialect.quote.map(char::from) else {
        return text.push_str(raw);
    };
    let escape = dialect.escape.map(char::from);
    let mut characters = raw.chars().peekable();
    let mut inside = was_quoted;
    if !was_quoted {
        characters.next();
        inside = true;
    }
    while let Some(character) = characters.next() {
        if !inside {
            text.push(character);
        } else if Some(character) == escape && escape != Some(quote) {
            text.extend(characters.next());
        } else if character == quote {
            if characters.next_if_eq(&quote).is_some() {
                text.push(quote);
            } else {
                inside = false;
            }
        } else {
            text.push(character);
        }
    }
}

const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const ONES: u64 = 0x0101_0101_0101_0101;

/// The positions of three characters, in order.
struct Specials<'a> {
    bytes: &'a [u8],
    base: usize,
    /// The top bit of every byte of the word at `base` that is one of the three.
    mask: u64,
    patterns: [u64; 3],
}

impl<'a> Specials<'a> {
    fn new(bytes: &'a [u8], a: u8, b: u8, c: u8) -> Self {
        let patterns = [a, b, c].map(|byte| ONES * u64::from(byte));
        let mut specials = Self {
            bytes,
            base: 0,
            mask: 0,
            patterns,
        };
        specials.seek(0);
        specials
    }

    /// Goes on at `at`.
    #[inline]
    fn seek(&mut self, at: usize) {
        self.base = at;
        self.mask = self.load();
    }

    #[inline]
    fn load(&self) -> u64 {
        let rest = self.bytes.get(self.base..).unwrap_or(&[]);
        if let Some(word) = rest.first_chunk::<8>() {
            self.find(u64::from_le_bytes(*word))
        } else {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.find(u64::from_le_bytes(word)) & ((1u64 << (8 * rest.len())) - 1)
        }
    }

    #[inline]
    fn find(&self, word: u64) -> u64 {
        let [a, b, c] = self.patterns.map(|pattern| {
            let difference = word ^ pattern;
            !(((difference & LOW) + LOW) | difference | LOW)
        });
        a | b | c
    }

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.mask == 0 {
            self.base += 8;
            if self.base >= self.bytes.len() {
                return None;
            }
            self.mask = self.load();
        }
        let at = self.base + self.mask.trailing_zeros() as usize / 8;
        self.mask &= self.mask - 1;
        Some(at)
    }
}

#[cfg(test)]
pub(super) fn split(text: &str, dialect: &Dialect, at_end: bool) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    scan(
        text.as_bytes(),
        dialect,
        at_end,
        &mut Vec::new(),
        |cells, first, _| {
            let record = cells.drain(first..).map(|cell| {
                let raw = &text[cell.start as usize..cell.end() as usize];
                if !cell.is_escaped() {
                    return raw.to_owned();
                }
                let mut unescaped = String::new();
                unescape(raw, dialect, cell.is_quoted(), &mut unescaped);
                unescaped
            });
            records.push(record.collect());
        },
    );
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not a generator for secrets: the same rows every time.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }
    }

    #[test]
    fn splits_as_the_csv_crate_does() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let pieces = [
            "a", "bc", ",", ",", "\n", "\r\n", "\"", "\"\"", "ä", " ", "1234567", "\"x\"",
        ];
        for _ in 0..20_000 {
            let length = random.below(24);
            let text: String = (0..length)
                .map(|_| pieces[random.below(pieces.len())])
                .collect();
            let mut cells = Vec::new();
            let rest = scan(
                text.as_bytes(),
                &Dialect::default(),
                true,
                &mut cells,
                |cells, at, _| {
                    cells.truncate(at);
                },
            );
            if rest.open_quote {
                continue;
            }
            let expected: Vec<Vec<String>> = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .from_reader(text.as_bytes())
                .records()
                .map(|record| record.unwrap().iter().map(str::to_owned).collect())
                .collect();
            assert_eq!(
                split(&text, &Dialect::default(), true),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn lines_are_counted_through_quotes_comments_and_blanks() {
        let dialect = Dialect {
            comment: Some(b'#'),
            ..Dialect::default()
        };
        let text = "#c\na,\"x\ny\"\n\n#c\nb,2\nc,3";
        let mut lines = Vec::new();
        let rest = scan(
            text.as_bytes(),
            &dialect,
            true,
            &mut Vec::new(),
            |cells, at, span| {
                cells.truncate(at);
                lines.push((span.line + 1, text[span.start..span.end].to_owned()));
            },
        );
        assert_eq!(
            lines,
            [
                (2, "a,\"x\ny\"".to_owned()),
                (6, "b,2".to_owned()),
                (7, "c,3".to_owned())
            ]
        );
        assert_eq!(rest.start, text.len());
    }

    #[test]
    fn backslash_escapes_and_blanks_before_quotes() {
        let dialect = Dialect {
            escape: Some(b'\\'),
            trim: true,
            ..Dialect::default()
        };
        assert_eq!(
            split("\"a\\\"b\", \"c,d\" ,e\n", &dialect, true),
            [["a\"b", "c,d", "e"]]
        );
    }

    #[test]
    fn an_unfinished_record_is_left_behind() {
        let mut cells = Vec::new();
        let mut records = 0;
        let rest = scan(
            b"a,b\nc,\"d\n",
            &Dialect::default(),
            true,
            &mut cells,
            |cells, at, _| {
                cells.truncate(at);
                records += 1;
            },
        );
        assert_eq!(
            (records, rest),
            (
                1,
                Rest {
                    start: 4,
                    line: 1,
                    open_quote: true
                }
            )
        );
    }
}
