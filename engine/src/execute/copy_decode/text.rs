//! The text and csv formats: lines to fields.
//!
//! A line is decoded only once it is whole; an unfinished one is read again from its start when more of
//! it has come.

use boathouse_catalog::types::ColumnType;
use boathouse_sql::statement::{CopyFormat, CopyHeader, CopyOptions};

use super::{Target, bad_format, names_column};
use crate::error::{SqlError, SqlState};

pub struct TextFormat {
    csv: bool,
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: Vec<u8>,
    header: CopyHeader,
    /// Per column: quoted text equal to the null text is null too.
    force_null: Vec<bool>,
    /// Per column: unquoted text equal to the null text is not null.
    force_not_null: Vec<bool>,
    /// The fields of the line being read.
    fields: Fields,
}

/// Fields side by side in one buffer.
#[derive(Default)]
struct Fields {
    bytes: Vec<u8>,
    ends: Vec<FieldEnd>,
}

struct FieldEnd {
    end: usize,
    null: bool,
    quoted: bool,
}

/// How a line ended.
enum Line {
    /// The bytes it took, with its end.
    Whole(usize),
    /// `\.`
    EndOfData,
    Incomplete,
}

impl TextFormat {
    pub fn new(options: &CopyOptions, columns: &[(String, ColumnType)]) -> Self {
        let named = |option| {
            columns
                .iter()
                .map(|(name, _)| names_column(option, name))
                .collect()
        };
        Self {
            csv: options.format == CopyFormat::Csv,
            delimiter: options.delimiter,
            quote: options.quote,
            escape: options.escape,
            null: options.null.clone().into_bytes(),
            header: options.header,
            force_null: named(&options.force_null),
            force_not_null: named(&options.force_not_null),
            fields: Fields::default(),
        }
    }

    pub fn decode(
        &mut self,
        bytes: &[u8],
        last: bool,
        target: &mut Target,
        ended: &mut bool,
    ) -> Result<usize, SqlError> {
        let mut used = 0;
        while used < bytes.len() {
            self.fields.bytes.clear();
            self.fields.ends.clear();
            let rest = &bytes[used..];
            let line = if self.csv {
                self.split_csv(rest, last)
            } else {
                self.split_text(rest, last)
            };
            let length = match line {
                Ok(Line::Whole(length)) => length,
                Ok(Line::EndOfData) => {
                    *ended = true;
                    return Ok(bytes.len());
                }
                Ok(Line::Incomplete) => break,
                Err(error) => {
                    target.line += 1;
                    return Err(error.detail(target.place()));
                }
            };
            target.line += 1;
            let shown = &rest[..length];
            used += length;
            if target.line == 1 && self.header != CopyHeader::No {
                self.check_header(target)?;
                continue;
            }
            let row = self.append_row(target, shown);
            target.end_row(row)?;
        }
        Ok(used)
    }

    /// Splits a line of the text format; a backslash takes the next byte's meaning away.
    fn split_text(&mut self, bytes: &[u8], last: bool) -> Result<Line, SqlError> {
        let fields = &mut self.fields;
        let mut place = 0;
        let mut field_start = 0;
        let mut out_start = 0;
        loop {
            let Some(&byte) = bytes.get(place) else {
                if !last {
                    return Ok(Line::Incomplete);
                }
                let null = bytes[field_start..place] == *self.null;
                fields.push(null, false);
                return Ok(Line::Whole(place));
            };
            if byte == self.delimiter || byte == b'\n' || byte == b'\r' {
                let null = bytes[field_start..place] == *self.null;
                if null {
                    fields.bytes.truncate(out_start);
                }
                fields.push(null, false);
                out_start = fields.bytes.len();
                place += 1;
                field_start = place;
                if byte == b'\n' {
                    return Ok(Line::Whole(place));
                }
                if byte == b'\r' {
                    return match bytes.get(place) {
                        Some(b'\n') => Ok(Line::Whole(place + 1)),
                        None if !last => Ok(Line::Incomplete),
                        _ => Ok(Line::Whole(place)),
                    };
                }
                continue;
            }
            if byte != b'\\' {
                fields.bytes.push(byte);
                place += 1;
                continue;
            }
            let Some(&escaped) = bytes.get(place + 1) else {
                if !last {
                    return Ok(Line::Incomplete);
                }
                fields.bytes.push(byte);
                place += 1;
                continue;
            };
            place += 2;
            match escaped {
                b'.' if place == 2 => {
                    return match bytes.get(place) {
                        Some(b'\n' | b'\r') => Ok(Line::EndOfData),
                        None if last => Ok(Line::EndOfData),
                        None => Ok(Line::Incomplete),
                        Some(_) => Err(bad_format("end-of-copy marker corrupt")),
                    };
                }
                b'b' => fields.bytes.push(0x08),
                b'f' => fields.bytes.push(0x0c),
                b'n' => fields.bytes.push(b'\n'),
                b'r' => fields.bytes.push(b'\r'),
                b't' => fields.bytes.push(b'\t'),
                b'v' => fields.bytes.push(0x0b),
                b'0'..=b'7' => {
                    let mut value = u32::from(escaped - b'0');
                    for _ in 0..2 {
                        match bytes.get(place) {
                            Some(digit @ b'0'..=b'7') => {
                                value = value * 8 + u32::from(digit - b'0');
                                place += 1;
                            }
                            _ => break,
                        }
                    }
                    fields.bytes.push(value as u8);
                }
                b'x' => {
                    let digits: Vec<u32> = bytes[place..]
                        .iter()
                        .take(2)
                        .map_while(|digit| char::from(*digit).to_digit(16))
                        .collect();
                    if digits.is_empty() {
                        fields.bytes.push(b'x');
                    } else {
                        place += digits.len();
                        fields
                            .bytes
                            .push(digits.iter().fold(0, |sum, digit| sum * 16 + digit) as u8);
                    }
                }
                other => fields.bytes.push(other),
            }
        }
    }

    /// Splits a csv record, which may go over several lines.
    fn split_csv(&mut self, bytes: &[u8], last: bool) -> Result<Line, SqlError> {
        let fields = &mut self.fields;
        let mut place = 0;
        let mut out_start = 0;
        let mut quoted = false;
        let mut in_quotes = false;
        loop {
            let Some(&byte) = bytes.get(place) else {
                if !last {
                    return Ok(Line::Incomplete);
                }
                if in_quotes {
                    return Err(bad_format("unterminated CSV quoted field"));
                }
                let null = !quoted && fields.bytes[out_start..] == *self.null;
                fields.push(null, quoted);
                return Ok(if fields.is_end_of_data() {
                    Line::EndOfData
                } else {
                    Line::Whole(place)
                });
            };
            if in_quotes {
                if byte == self.escape {
                    match bytes.get(place + 1) {
                        Some(&next) if next == self.quote || next == self.escape => {
                            fields.bytes.push(next);
                            place += 2;
                            continue;
                        }
                        None if !last => return Ok(Line::Incomplete),
                        _ => {}
                    }
                }
                if byte == self.quote {
                    in_quotes = false;
                } else {
                    fields.bytes.push(byte);
                }
                place += 1;
                continue;
            }
            if byte == self.quote {
                quoted = true;
                in_quotes = true;
                place += 1;
            } else if byte == self.delimiter || byte == b'\n' || byte == b'\r' {
                let null = !quoted && fields.bytes[out_start..] == *self.null;
                fields.push(null, quoted);
                out_start = fields.bytes.len();
                quoted = false;
                place += 1;
                let end = match (byte, bytes.get(place)) {
                    (b'\n', _) => Some(place),
                    (b'\r', Some(b'\n')) => Some(place + 1),
                    (b'\r', None) if !last => return Ok(Line::Incomplete),
                    (b'\r', _) => Some(place),
                    _ => None,
                };
                if let Some(end) = end {
                    return Ok(if fields.is_end_of_data() {
                        Line::EndOfData
                    } else {
                        Line::Whole(end)
                    });
                }
            } else {
                fields.bytes.push(byte);
                place += 1;
            }
        }
    }

    fn check_header(&self, target: &Target) -> Result<(), SqlError> {
        if self.header != CopyHeader::Match {
            return Ok(());
        }
        let wanted = target.columns.len();
        if self.fields.ends.len() != wanted {
            return Err(bad_format(format!(
                "wrong number of fields in header line: got {}, expected {wanted}",
                self.fields.ends.len()
            ))
            .detail(target.place()));
        }
        for index in 0..wanted {
            let (bytes, _, _) = self.fields.get(index);
            let expected = target.column_name(index);
            if bytes != expected.as_bytes() {
                return Err(bad_format(format!(
                    "column name mismatch in header line field {}: got \"{}\", expected \"{expected}\"",
                    index + 1,
                    String::from_utf8_lossy(bytes)
                ))
                .detail(target.place()));
            }
        }
        Ok(())
    }

    fn append_row(&self, target: &mut Target, shown: &[u8]) -> Result<(), SqlError> {
        let count = self.fields.ends.len();
        let wanted = target.columns.len();
        let in_line = |error: SqlError, target: &Target| {
            let shown = String::from_utf8_lossy(shown);
            error.detail(format!("{}: \"{}\"", target.place(), cut(shown.trim_end())))
        };
        // A table without columns has rows of one empty field.
        if count > wanted && !(wanted == 0 && self.fields.bytes.is_empty()) {
            return Err(in_line(
                bad_format("extra data after last expected column"),
                target,
            ));
        }
        for index in 0..wanted {
            if index >= count {
                let name = target.column_name(index);
                let error = bad_format(format!("missing data for column \"{name}\""));
                return Err(in_line(error, target));
            }
            let (bytes, null, quoted) = self.fields.get(index);
            let null = if null {
                !self.force_not_null[index]
            } else {
                quoted && self.force_null[index] && bytes == self.null
            };
            if null {
                target.columns[index].append_null();
                continue;
            }
            let text = match std::str::from_utf8(bytes) {
                Ok(text) if !text.contains('\0') => text,
                Ok(_) => return Err(in_line(invalid_byte(0), target)),
                Err(error) => {
                    return Err(in_line(invalid_byte(bytes[error.valid_up_to()]), target));
                }
            };
            if let Err(error) = target.columns[index].append_text(text) {
                let name = target.column_name(index);
                let place = format!("{}, column {name}: \"{}\"", target.place(), cut(text));
                let place = match &error.detail {
                    Some(detail) => format!("{detail}\n{place}"),
                    None => place,
                };
                return Err(error.detail(place));
            }
        }
        Ok(())
    }
}

impl Fields {
    fn push(&mut self, null: bool, quoted: bool) {
        self.ends.push(FieldEnd {
            end: self.bytes.len(),
            null,
            quoted,
        });
    }

    /// The bytes of a field, whether it is null, and whether it was quoted.
    fn get(&self, index: usize) -> (&[u8], bool, bool) {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1].end
        };
        let field = &self.ends[index];
        (&self.bytes[start..field.end], field.null, field.quoted)
    }

    /// `\.` alone on its line ends csv too.
    fn is_end_of_data(&self) -> bool {
        matches!(self.ends.as_slice(), [only] if !only.quoted) && self.bytes == b"\\."
    }
}

fn invalid_byte(byte: u8) -> SqlError {
    SqlError::new(
        SqlState("22021"),
        format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"),
    )
}

/// As much of a value as belongs into a message.
fn cut(text: &str) -> &str {
    const CHARACTERS_MAX: usize = 100;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}
