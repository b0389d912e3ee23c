//! Delimited text.
//!
//! ```text
//! source: bytes -> UTF-8     cut: chunks of whole records     decode: chunk -> batch
//!        (one thread reads and cuts)            (two threads decode)      (caller: sink, in order)
//! ```
//!
//! Memory is bounded by the chunks in flight, whatever the size of the file. How the text is
//! written is found by [`detect`] from its beginning, except for what the options say.

mod cut;
mod decode;
mod detect;
mod pipeline;
pub(crate) mod record;
pub(crate) mod scan;
pub(super) mod source;

use std::borrow::Cow;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use encoding_rs::Encoding;
use regex::Regex;

use crate::error::{ConnectorError, FormatError};
use crate::file::LocalFile;
use crate::options::{OptionValue, Options};
use crate::value::infer::TypeSample;
use crate::value::{ValueFormat, take_character};

use super::{
    COLUMNS_MAX, DecodeSchema, DecodedBatch, FileFormat, FileStatistics, Format, InferenceLimits,
    NameStyle, rows_max,
};
use detect::{Layout, Shape};
use source::{Compression, Member, Text};

/// The format.
pub struct Csv;

impl Format for Csv {
    fn name(&self) -> &'static str {
        "CSV"
    }

    fn configure(&self, options: &mut Options) -> Result<Arc<dyn FileFormat>, ConnectorError> {
        Ok(Arc::new(CsvFormat::take(options)?))
    }
}

/// Bytes of text in one chunk: some ten thousand rows of usual length.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes from the beginning by which the layout is judged.
const SAMPLE_BYTES: usize = 1 << 20;

/// How the texts of a pipeline are written.
#[derive(Debug, Clone)]
pub struct CsvFormat {
    shape: Shape,
    values: ValueFormat,
    encoding: Option<&'static Encoding>,
    compression: Option<Compression>,
    reject_ragged: bool,
    skip_footer: usize,
    footer: Option<Regex>,
    chunk_bytes: usize,
}

impl CsvFormat {
    /// Options `delimiter`, `quote`, `escape`, `header`, `header_row`, `skip_rows`, `comment`,
    /// `encoding`, `compression`, `ragged`, `skip_footer`, `footer`, `column_names`,
    /// `max_columns`, and those of [`ValueFormat::take`].
    pub fn take(options: &mut Options) -> Result<Self, ConnectorError> {
        let quote = take_quote(options)?;
        let header = match options.take_choice("header", &["true", "false", "auto", "on", "off"])? {
            Some("true" | "on") => Some(true),
            Some("false" | "off") => Some(false),
            _ => None,
        };
        let encoding = match options.take_text("encoding")?.as_deref() {
            None | Some("auto") => None,
            Some(label) => Some(Encoding::for_label(label.as_bytes()).ok_or_else(|| {
                let value = OptionValue::Text(label.to_owned());
                options.invalid(
                    "encoding",
                    &value,
                    "a name such as utf-8, utf-16le, windows-1252",
                )
            })?),
        };
        let compression =
            match options.take_choice("compression", &["auto", "none", "gzip", "zstd", "zip"])? {
                Some("none") => Some(Compression::None),
                Some("gzip") => Some(Compression::Gzip),
                Some("zstd") => Some(Compression::Zstd),
                Some("zip") => Some(Compression::Zip),
                _ => None,
            };
        Ok(Self {
            shape: Shape {
                delimiter: take_character(options, "delimiter")?,
                quote,
                escape: take_character(options, "escape")?.filter(|e| Some(Some(*e)) != quote),
                comment: take_character(options, "comment")?,
                header,
                header_row: options.take_number("header_row")?,
                skip_rows: options.take_number("skip_rows")?.unwrap_or(0),
                column_names: take_name_style(options)?,
                columns_max: take_columns_max(options)?,
            },
            values: ValueFormat::take(options)?,
            encoding,
            compression,
            reject_ragged: options.take_choice("ragged", &["fill", "reject"])? == Some("reject"),
            skip_footer: options.take_number("skip_footer")?.unwrap_or(0),
            footer: take_footer(options)?,
            chunk_bytes: CHUNK_BYTES,
        })
    }

    /// The layout of one text and the text itself, positioned at its start.
    fn open(&self, file: &LocalFile, member: &Member) -> Result<Opened, FormatError> {
        let mut bytes = source::open(file, member)?;
        let mut head = Vec::new();
        bytes
            .by_ref()
            .take(1 << 18)
            .read_to_end(&mut head)
            .map_err(source::read_error)?;
        let whole = head.len() < 1 << 18;
        let (encoding, mark) = match self.encoding {
            Some(encoding) => {
                let mark = Encoding::for_bom(&head).filter(|(found, _)| *found == encoding);
                (encoding, mark.map_or(0, |(_, mark)| mark))
            }
            None => source::detect_encoding(&head, whole),
        };
        let says_nothing = self.encoding.is_none() && encoding == encoding_rs::UTF_8;
        let mut text = if says_nothing && !whole && head.is_ascii() {
            Text::undecided(head, bytes)
        } else {
            Text::new(head, mark, bytes, encoding)
        };
        let mut sample = Vec::new();
        let mut at_end = false;
        sample.resize(SAMPLE_BYTES, 0);
        let mut length = 0;
        while length < SAMPLE_BYTES {
            match text
                .read(&mut sample[length..])
                .map_err(source::read_error)?
            {
                0 => {
                    at_end = true;
                    break;
                }
                count => length += count,
            }
        }
        sample.truncate(length);
        // Replaced byte by byte, or offsets would not be those of the text.
        let mut shown = Cow::Borrowed(sample.as_slice());
        if std::str::from_utf8(&shown).is_err() {
            source::blank_invalid(shown.to_mut());
        }
        let layout = {
            let text = std::str::from_utf8(&shown).unwrap_or("");
            detect::detect(text, at_end, &self.shape, &self.values)?
        };
        sample.drain(..layout.data_start.min(sample.len()));
        Ok(Opened {
            layout,
            text,
            sample,
            at_end,
        })
    }

    fn sample_types(&self, opened: &Opened, limits: &InferenceLimits) -> Vec<TypeSample> {
        let mut types = vec![TypeSample::default(); opened.layout.names.len()];
        let dialect = &opened.layout.dialect;
        let mut rows = 0;
        let mut rows_max = limits.rows;
        let length = opened.sample.len().min(limits.bytes);
        let at_end = opened.at_end && length == opened.sample.len();
        let text = String::from_utf8_lossy(&opened.sample[..length]);
        if at_end && self.skip_footer > 0 {
            let mut total = 0usize;
            scan::scan(
                text.as_bytes(),
                dialect,
                true,
                &mut Vec::new(),
                |cells, first, _| {
                    total += 1;
                    cells.truncate(first);
                },
            );
            rows_max = rows_max.min(total.saturating_sub(self.skip_footer));
        }
        let mut unescaped = String::new();
        scan::scan(
            text.as_bytes(),
            dialect,
            at_end,
            &mut Vec::new(),
            |cells, first, _| {
                if rows < rows_max && !self.is_footer(&text, &cells[first..]) {
                    for (cell, sample) in cells[first..].iter().zip(&mut types) {
                        let mut value = text
                            .get(cell.start as usize..cell.end() as usize)
                            .unwrap_or("");
                        if cell.is_escaped() {
                            unescaped.clear();
                            scan::unescape(value, dialect, cell.is_quoted(), &mut unescaped);
                            value = &unescaped;
                        }
                        let value = value.trim();
                        if !self.values.is_null_text(value) {
                            sample.add_text(value, &self.values);
                        }
                    }
                }
                rows += 1;
                cells.truncate(first);
            },
        );
        types
    }

    fn is_footer(&self, text: &str, cells: &[scan::Cell]) -> bool {
        self.footer.as_ref().is_some_and(|footer| {
            cells
                .iter()
                .filter_map(|cell| text.get(cell.start as usize..cell.end() as usize))
                .map(str::trim)
                .find(|text| !text.is_empty())
                .is_some_and(|text| footer.is_match(text))
        })
    }
}

struct Opened {
    layout: Layout,
    text: Text,
    /// What of the text is already read, from the first record on.
    sample: Vec<u8>,
    at_end: bool,
}

impl FileFormat for CsvFormat {
    /// The columns of all members of an archive.
    fn infer(&self, file: &LocalFile, limits: &InferenceLimits) -> Result<SchemaRef, FormatError> {
        let named = |error: FormatError| error.file(&file.name);
        let mut names: Vec<String> = Vec::new();
        let mut types: Vec<TypeSample> = Vec::new();
        for member in source::members(file, self.compression).map_err(named)? {
            let opened = self.open(file, &member).map_err(named)?;
            let sampled = self.sample_types(&opened, limits);
            for (name, sample) in opened.layout.names.into_iter().zip(sampled) {
                match names.iter().position(|known| *known == name) {
                    Some(index) => types[index].merge(&sample),
                    None => {
                        names.push(name);
                        types.push(sample);
                    }
                }
            }
            let columns_max = self.shape.columns_max;
            if names.len() > columns_max {
                return Err(named(detect::too_many_columns(names.len(), columns_max)));
            }
        }
        if names.is_empty() {
            return Err(named(FormatError::malformed("the file is empty")));
        }
        let fields: Vec<Field> = names
            .iter()
            .zip(&types)
            .map(|(name, sample)| Field::new(name, sample.data_type(), true))
            .collect();
        Ok(Arc::new(Schema::new(fields)))
    }

    fn decode(
        &self,
        file: &LocalFile,
        schema: &DecodeSchema,
        sink: &mut dyn FnMut(DecodedBatch) -> ControlFlow<()>,
    ) -> Result<FileStatistics, FormatError> {
        let named = |error: FormatError| error.file(&file.name);
        let mut statistics = FileStatistics {
            bytes: file.size,
            ..FileStatistics::default()
        };
        for member in source::members(file, self.compression).map_err(named)? {
            let opened = self.open(file, &member).map_err(named)?;
            let decoder = decode::Decoder::new(
                &opened.layout,
                self.values.clone(),
                schema,
                self.reject_ragged,
                self.footer.clone(),
                decode::Origin {
                    file: file.name.clone(),
                    member: member.name.clone(),
                    written_in: opened.text.written_in(),
                },
            );
            let columns = opened.layout.names.len().max(schema.columns.fields().len());
            let cutter = cut::Cutter::new(
                std::io::Cursor::new(opened.sample).chain(opened.text),
                opened.layout.dialect,
                self.chunk_bytes,
                rows_max(columns),
                opened.layout.data_line,
            );
            let flow = pipeline::run(cutter, &decoder, self.skip_footer, &mut statistics, sink)
                .map_err(named)?;
            if flow.is_break() {
                break;
            }
        }
        Ok(statistics)
    }
}

/// Option `quote`: `Some(None)` when cells are never quoted.
fn take_quote(options: &mut Options) -> Result<Option<Option<u8>>, ConnectorError> {
    Ok(match options.take_text("quote")?.as_deref() {
        None => None,
        Some("") | Some("none") => Some(None),
        Some(text) => match text.as_bytes() {
            [quote] if quote.is_ascii() => Some(Some(*quote)),
            _ => {
                let value = OptionValue::Text(text.to_owned());
                return Err(options.invalid("quote", &value, "one ASCII character, or ''"));
            }
        },
    })
}

/// Option `column_names`.
pub(crate) fn take_name_style(options: &mut Options) -> Result<NameStyle, ConnectorError> {
    Ok(
        match options.take_choice("column_names", &["snake", "original"])? {
            Some("original") => NameStyle::Original,
            _ => NameStyle::Snake,
        },
    )
}

/// Option `max_columns`.
pub(crate) fn take_columns_max(options: &mut Options) -> Result<usize, ConnectorError> {
    Ok(options.take_number("max_columns")?.unwrap_or(COLUMNS_MAX))
}

/// Option `footer`: a rule for rows that are no data, tried on the first cell that is not empty.
/// Either the start of the cell, in any case, or a regular expression between slashes.
pub(super) fn take_footer(options: &mut Options) -> Result<Option<Regex>, ConnectorError> {
    let Some(text) = options.take_text("footer")? else {
        return Ok(None);
    };
    compile_pattern(&text, |literal| format!("(?i)^{}", regex::escape(literal)))
        .map(Some)
        .map_err(|error| {
            let value = OptionValue::Text(text.clone());
            options
                .invalid(
                    "footer",
                    &value,
                    "a text, or a regular expression such as '/^total/i'",
                )
                .caused_by(error)
        })
}

/// `/expression/` or `/expression/i`; anything else goes through `literal`.
pub(super) fn compile_pattern(
    text: &str,
    literal: impl Fn(&str) -> String,
) -> Result<Regex, regex::Error> {
    let expression = text
        .strip_prefix('/')
        .and_then(|rest| rest.rsplit_once('/'));
    match expression {
        Some((expression, "i")) => Regex::new(&format!("(?i){expression}")),
        Some((expression, "")) => Regex::new(expression),
        _ => Regex::new(&literal(text)),
    }
}

#[cfg(test)]
mod tests;
