//! `COPY {table | (query)} {FROM | TO} {STDIN | STDOUT | 'file'} [(option, ...)]`, in PostgreSQL's
//! present and past spellings, and `COPY ... TO KAFKA connection TOPIC 'name' ... [WITH (option, ...)]`.

use std::fmt;

use sqlparser::tokenizer::Token;

use super::explain::flag;
use crate::ast;
use crate::display::{clause, displayed, identifiers, optional_identifiers, text, with_options};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_literal};
use crate::option::{OptionValue, SqlOption, is_with_options, parse_options, parse_with_options};
use crate::topic::TopicTarget;

/// Moves rows between a table or query and the client or a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    pub subject: CopySubject,
    pub direction: CopyDirection,
    pub endpoint: CopyEndpoint,
    pub options: CopyOptions,
    /// `WHERE` of `COPY ... FROM`.
    pub filter: Option<ast::Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum CopySubject {
    Table {
        name: QualifiedName,
        /// Empty: all of them, in order.
        columns: Vec<String>,
    },
    /// Only `TO`.
    Query(Box<ast::Query>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyDirection {
    From,
    To,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyEndpoint {
    Stdin,
    Stdout,
    /// A path or a URL as it was written.
    File(String),
    /// Only `TO`. Its options are its own; those of the statement are the defaults of json.
    Topic {
        target: TopicTarget,
        options: Vec<SqlOption>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
    /// Files only.
    Parquet,
    /// One JSON object a line; files only.
    Json,
}

/// How rows are written, with PostgreSQL's defaults for the format filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub freeze: bool,
    pub delimiter: u8,
    pub null: String,
    /// `DEFAULT 'text'`: the field that stands for the column's default; `FROM` only.
    pub default: Option<String>,
    pub header: CopyHeader,
    pub quote: u8,
    pub escape: u8,
    pub force_quote: CopyColumns,
    pub force_not_null: CopyColumns,
    pub force_null: CopyColumns,
    pub encoding: Option<String>,
    /// `ON_ERROR ignore`.
    pub ignore_errors: bool,
    /// `PARTITION_BY (a, b)`; files only.
    pub partition_by: Vec<String>,
    /// Lower case; files only.
    pub compression: Option<String>,
    /// Everything else, for files.
    pub file_options: Vec<SqlOption>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyHeader {
    No,
    Yes,
    /// The names in the file must be the columns'.
    Match,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyColumns {
    None,
    All,
    Some(Vec<String>),
}

impl CopyOptions {
    /// PostgreSQL's defaults for a format.
    pub fn new(format: CopyFormat) -> Self {
        let csv = format == CopyFormat::Csv;
        Self {
            format,
            freeze: false,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { String::new() } else { "\\N".to_owned() },
            default: None,
            header: CopyHeader::No,
            quote: b'"',
            escape: b'"',
            force_quote: CopyColumns::None,
            force_not_null: CopyColumns::None,
            force_null: CopyColumns::None,
            encoding: None,
            ignore_errors: false,
            partition_by: Vec::new(),
            compression: None,
            file_options: Vec::new(),
        }
    }
}

impl Copy {
    /// Stands after `COPY`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        if input.peek_keyword("BINARY") {
            return Err(ParseError::unsupported("COPY BINARY")
                .at(input.position())
                .hint("write (FORMAT binary) at the end"));
        }
        let subject = if input.peek_symbol(&Token::LParen) {
            CopySubject::Query(input.parenthesized(Input::query)?)
        } else {
            let name = input.qualified_name()?;
            CopySubject::Table {
                name,
                columns: input.optional_identifiers()?,
            }
        };
        let direction = match input.expect_one_of(&["FROM", "TO"])? {
            "FROM" if matches!(subject, CopySubject::Query(_)) => {
                return Err(ParseError::new(
                    ParseError::SYNTAX_ERROR,
                    "COPY FROM needs a table, not a query",
                )
                .at(input.position()));
            }
            "FROM" => CopyDirection::From,
            _ => CopyDirection::To,
        };
        if direction == CopyDirection::To && TopicTarget::is_next(input) {
            return Ok(Self {
                subject,
                direction,
                endpoint: CopyEndpoint::Topic {
                    target: TopicTarget::parse(input)?,
                    options: parse_with_options(input)?,
                },
                options: CopyOptions::new(CopyFormat::Json),
                filter: None,
            });
        }
        let position = input.position();
        let endpoint = if input.peek_string() {
            CopyEndpoint::File(input.string()?)
        } else {
            match input.expect_one_of(&["STDIN", "STDOUT", "PROGRAM"])? {
                // PostgreSQL takes either word for either direction.
                "PROGRAM" => return Err(ParseError::unsupported("COPY PROGRAM").at(position)),
                _ if direction == CopyDirection::From => CopyEndpoint::Stdin,
                _ => CopyEndpoint::Stdout,
            }
        };
        let position = input.position();
        let mut written = Vec::new();
        if is_with_options(input, 0) {
            input.advance();
        } else {
            input.keyword("WITH");
        }
        if input.peek_symbol(&Token::LParen) {
            written = parse_options(input)?;
        } else {
            while let Some(option) = parse_past_option(input)? {
                written.push(option);
            }
        }
        let options = CopyOptions::from_written(written, direction, &endpoint)
            .map_err(|error| error.at(position))?;
        let mut filter = None;
        if direction == CopyDirection::From && input.keyword("WHERE") {
            filter = Some(input.expression()?);
        }
        Ok(Self {
            subject,
            direction,
            endpoint,
            options,
            filter,
        })
    }
}

/// One option in the spelling before PostgreSQL 9.0: `CSV HEADER DELIMITER AS ','`.
fn parse_past_option(input: &mut Input) -> Result<Option<SqlOption>, ParseError> {
    let option = |name: &str, value| {
        Some(SqlOption {
            name: name.to_owned(),
            value,
        })
    };
    let yes = OptionValue::Boolean(true);
    if let Some(format) = input.one_of(&["BINARY", "CSV"]) {
        return Ok(option(
            "format",
            OptionValue::Text(format.to_ascii_lowercase()),
        ));
    }
    if input.keyword("FREEZE") {
        return Ok(option("freeze", yes));
    }
    if input.keyword("HEADER") {
        return Ok(option("header", yes));
    }
    if let Some(word) = input.one_of(&["DELIMITER", "NULL", "QUOTE", "ESCAPE", "ENCODING"]) {
        input.keyword("AS");
        let text = OptionValue::Text(input.string()?);
        return Ok(option(&word.to_ascii_lowercase(), text));
    }
    if input.keyword("FORCE") {
        let name = if input.keyword("QUOTE") {
            "force_quote"
        } else if input.keywords(&["NOT", "NULL"]) {
            "force_not_null"
        } else {
            input.expect_keyword("NULL")?;
            "force_null"
        };
        if name == "force_quote" && input.symbol(&Token::Mul) {
            return Ok(option(name, OptionValue::Text("*".to_owned())));
        }
        let columns = input
            .identifiers()?
            .into_iter()
            .map(OptionValue::Text)
            .collect();
        return Ok(option(name, OptionValue::List(columns)));
    }
    Ok(None)
}

fn invalid(message: impl Into<String>) -> ParseError {
    ParseError::new(ParseError::INVALID_PARAMETER_VALUE, message)
}

fn misplaced(message: impl Into<String>) -> ParseError {
    ParseError::new(ParseError::FEATURE_NOT_SUPPORTED, message)
}

impl CopyFormat {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Csv => "csv",
            Self::Binary => "binary",
            Self::Parquet => "parquet",
            Self::Json => "json",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [
            Self::Text,
            Self::Csv,
            Self::Binary,
            Self::Parquet,
            Self::Json,
        ]
        .into_iter()
        .find(|format| format.as_str() == name)
        .or_else(|| matches!(name, "ndjson" | "jsonl").then_some(Self::Json))
    }

    /// The format a file's name says.
    fn of_file(path: &str) -> Option<Self> {
        let name = path.to_ascii_lowercase();
        let name = [".gz", ".zst"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(&name);
        match name.rsplit('.').next() {
            Some("parquet") => Some(Self::Parquet),
            Some("csv") => Some(Self::Csv),
            Some("json" | "ndjson" | "jsonl") => Some(Self::Json),
            _ => None,
        }
    }
}

impl CopyOptions {
    /// Gives what was written its meaning, and refuses what PostgreSQL refuses.
    fn from_written(
        written: Vec<SqlOption>,
        direction: CopyDirection,
        endpoint: &CopyEndpoint,
    ) -> Result<Self, ParseError> {
        let mut names = std::collections::BTreeSet::new();
        if let Some(twice) = written
            .iter()
            .find(|option| !names.insert(option.name.clone()))
        {
            let message = format!("conflicting or redundant option \"{}\"", twice.name);
            return Err(ParseError::new(ParseError::SYNTAX_ERROR, message));
        }
        let file = match endpoint {
            CopyEndpoint::File(path) => Some(path.as_str()),
            CopyEndpoint::Stdin | CopyEndpoint::Stdout | CopyEndpoint::Topic { .. } => None,
        };
        let format = match written.iter().find(|option| option.name == "format") {
            Some(option) => {
                let name = option.value.text().unwrap_or_default().to_ascii_lowercase();
                CopyFormat::from_name(&name)
                    .ok_or_else(|| invalid(format!("COPY format \"{name}\" not recognized")))?
            }
            None => file
                .and_then(CopyFormat::of_file)
                .unwrap_or(CopyFormat::Text),
        };
        if file.is_none() && matches!(format, CopyFormat::Parquet | CopyFormat::Json) {
            return Err(misplaced(format!(
                "COPY format \"{}\" is for files only",
                format.as_str()
            ))
            .hint("name a file or URL, or use text, csv or binary"));
        }
        let mut options = Self::new(format);
        let mut quote = None;
        let mut escape = None;
        for option in written {
            match option.name.as_str() {
                "format" => {}
                "freeze" => options.freeze = boolean(&option)?,
                "delimiter" => options.delimiter = byte("delimiter", &option)?,
                "null" => options.null = written_text(&option)?,
                "default" => options.default = Some(written_text(&option)?),
                "header" => {
                    let text = option.value.text().unwrap_or_default();
                    options.header = if text.eq_ignore_ascii_case("match") {
                        CopyHeader::Match
                    } else if boolean(&option)? {
                        CopyHeader::Yes
                    } else {
                        CopyHeader::No
                    };
                }
                "quote" => quote = Some(byte("quote", &option)?),
                "escape" => escape = Some(byte("escape", &option)?),
                "force_quote" => options.force_quote = columns(&option)?,
                "force_not_null" => options.force_not_null = columns(&option)?,
                "force_null" => options.force_null = columns(&option)?,
                "encoding" => options.encoding = Some(written_text(&option)?),
                "on_error" => {
                    options.ignore_errors = match written_text(&option)?.as_str() {
                        "ignore" => true,
                        "stop" => false,
                        other => {
                            return Err(invalid(format!(
                                "COPY ON_ERROR \"{other}\" not recognized"
                            )));
                        }
                    };
                }
                "log_verbosity" => {
                    written_text(&option)?;
                }
                "partition_by" if file.is_some() => options.partition_by = names_of(&option)?,
                "compression" if file.is_some() => {
                    options.compression = Some(written_text(&option)?.to_ascii_lowercase());
                }
                _ if file.is_some() => options.file_options.push(option),
                name => {
                    return Err(ParseError::new(
                        ParseError::SYNTAX_ERROR,
                        format!("option \"{name}\" not recognized"),
                    ));
                }
            }
        }
        options.escape = escape.or(quote).unwrap_or(options.escape);
        options.quote = quote.unwrap_or(options.quote);
        options.check(direction, quote.is_some(), escape.is_some())?;
        Ok(options)
    }

    /// The checks of PostgreSQL's `ProcessCopyOptions`.
    fn check(&self, direction: CopyDirection, quote: bool, escape: bool) -> Result<(), ParseError> {
        let csv = self.format == CopyFormat::Csv;
        let defaults = Self::new(self.format);
        if self.format == CopyFormat::Binary {
            if self.delimiter != defaults.delimiter {
                return Err(binary("DELIMITER"));
            }
            if self.null != defaults.null {
                return Err(binary("NULL"));
            }
            if self.default.is_some() {
                return Err(binary("DEFAULT"));
            }
            if self.header != CopyHeader::No {
                return Err(binary("HEADER"));
            }
        }
        for (given, name) in [
            (quote, "QUOTE"),
            (escape, "ESCAPE"),
            (self.force_quote != CopyColumns::None, "FORCE_QUOTE"),
            (self.force_not_null != CopyColumns::None, "FORCE_NOT_NULL"),
            (self.force_null != CopyColumns::None, "FORCE_NULL"),
        ] {
            if given && !csv {
                return Err(misplaced(format!("COPY {name} requires CSV mode")));
            }
        }
        if matches!(self.delimiter, b'\r' | b'\n') {
            return Err(invalid(
                "COPY delimiter cannot be newline or carriage return",
            ));
        }
        if self.null.contains(['\r', '\n']) {
            return Err(invalid(
                "COPY null representation cannot use newline or carriage return",
            ));
        }
        if self.format == CopyFormat::Text
            && (self.delimiter.is_ascii_lowercase()
                || self.delimiter.is_ascii_digit()
                || matches!(self.delimiter, b'\\' | b'.'))
        {
            return Err(invalid(format!(
                "COPY delimiter cannot be \"{}\"",
                char::from(self.delimiter)
            )));
        }
        if csv && self.delimiter == self.quote {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        if self.null.as_bytes().contains(&self.delimiter) {
            return Err(invalid(
                "COPY delimiter character must not appear in the NULL specification",
            ));
        }
        if csv && self.null.as_bytes().contains(&self.quote) {
            return Err(invalid(
                "CSV quote character must not appear in the NULL specification",
            ));
        }
        match direction {
            CopyDirection::From if self.force_quote != CopyColumns::None => {
                Err(misplaced("COPY FORCE_QUOTE cannot be used with COPY FROM"))
            }
            CopyDirection::To if self.force_not_null != CopyColumns::None => {
                Err(misplaced("COPY FORCE_NOT_NULL cannot be used with COPY TO"))
            }
            CopyDirection::To if self.force_null != CopyColumns::None => {
                Err(misplaced("COPY FORCE_NULL cannot be used with COPY TO"))
            }
            CopyDirection::To if self.default.is_some() => {
                Err(misplaced("COPY DEFAULT cannot be used with COPY TO"))
            }
            CopyDirection::To if self.freeze => {
                Err(misplaced("COPY FREEZE cannot be used with COPY TO"))
            }
            CopyDirection::To if self.ignore_errors => {
                Err(misplaced("COPY ON_ERROR cannot be used with COPY TO"))
            }
            CopyDirection::To if self.header == CopyHeader::Match => {
                Err(invalid("cannot use \"match\" with HEADER in COPY TO"))
            }
            CopyDirection::From if !self.partition_by.is_empty() => {
                Err(misplaced("COPY PARTITION_BY cannot be used with COPY FROM"))
            }
            _ => Ok(()),
        }
    }
}

fn binary(option: &str) -> ParseError {
    ParseError::new(
        ParseError::SYNTAX_ERROR,
        format!("cannot specify {option} in BINARY mode"),
    )
}

fn boolean(option: &SqlOption) -> Result<bool, ParseError> {
    flag(&option.value).ok_or_else(|| {
        ParseError::new(
            ParseError::SYNTAX_ERROR,
            format!("{} requires a Boolean value", option.name),
        )
    })
}

fn written_text(option: &SqlOption) -> Result<String, ParseError> {
    match &option.value {
        OptionValue::List(_) | OptionValue::Secret(_) => Err(needs_parameter(option)),
        value => value.text().ok_or_else(|| needs_parameter(option)),
    }
}

fn needs_parameter(option: &SqlOption) -> ParseError {
    ParseError::new(
        ParseError::SYNTAX_ERROR,
        format!("{} requires a parameter", option.name),
    )
}

fn byte(what: &str, option: &SqlOption) -> Result<u8, ParseError> {
    match written_text(option)?.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(invalid(format!(
            "COPY {what} must be a single one-byte character"
        ))),
    }
}

fn names_of(option: &SqlOption) -> Result<Vec<String>, ParseError> {
    match &option.value {
        OptionValue::List(values) => values
            .iter()
            .map(|value| value.text().ok_or_else(|| needs_parameter(option)))
            .collect(),
        _ => Ok(vec![written_text(option)?]),
    }
}

fn columns(option: &SqlOption) -> Result<CopyColumns, ParseError> {
    match &option.value {
        OptionValue::Text(all) if all == "*" => Ok(CopyColumns::All),
        OptionValue::List(_) => names_of(option).map(CopyColumns::Some),
        _ => Err(invalid(format!(
            "argument to option \"{}\" must be a list of column names",
            option.name
        ))),
    }
}

impl fmt::Display for Copy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            CopySubject::Table { name, columns } => {
                write!(formatter, "COPY {name}{}", optional_identifiers(columns))?;
            }
            CopySubject::Query(query) => write!(formatter, "COPY ({})", text(query.as_ref()))?,
        }
        formatter.write_str(match self.direction {
            CopyDirection::From => " FROM ",
            CopyDirection::To => " TO ",
        })?;
        match &self.endpoint {
            CopyEndpoint::Stdin => formatter.write_str("STDIN")?,
            CopyEndpoint::Stdout => formatter.write_str("STDOUT")?,
            CopyEndpoint::File(path) => formatter.write_str(&quote_literal(path))?,
            CopyEndpoint::Topic { target, options } => {
                return write!(formatter, "{target}{}", with_options(options));
            }
        }
        write!(
            formatter,
            " WITH ({}){}",
            self.options,
            clause("WHERE", self.filter.as_ref())
        )
    }
}

impl fmt::Display for CopyOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let defaults = Self::new(self.format);
        let character = |byte: u8| quote_literal(&char::from(byte).to_string());
        write!(formatter, "FORMAT {}", self.format.as_str())?;
        if self.freeze {
            formatter.write_str(", FREEZE")?;
        }
        if self.delimiter != defaults.delimiter {
            write!(formatter, ", DELIMITER {}", character(self.delimiter))?;
        }
        if self.null != defaults.null {
            write!(formatter, ", NULL {}", quote_literal(&self.null))?;
        }
        if let Some(default) = &self.default {
            write!(formatter, ", DEFAULT {}", quote_literal(default))?;
        }
        match self.header {
            CopyHeader::No => {}
            CopyHeader::Yes => formatter.write_str(", HEADER")?,
            CopyHeader::Match => formatter.write_str(", HEADER match")?,
        }
        if self.quote != defaults.quote {
            write!(formatter, ", QUOTE {}", character(self.quote))?;
        }
        if self.escape != self.quote {
            write!(formatter, ", ESCAPE {}", character(self.escape))?;
        }
        for (name, columns) in [
            ("FORCE_QUOTE", &self.force_quote),
            ("FORCE_NOT_NULL", &self.force_not_null),
            ("FORCE_NULL", &self.force_null),
        ] {
            match columns {
                CopyColumns::None => {}
                CopyColumns::All => write!(formatter, ", {name} *")?,
                CopyColumns::Some(columns) => {
                    write!(formatter, ", {name} ({})", identifiers(columns))?;
                }
            }
        }
        if let Some(encoding) = &self.encoding {
            write!(formatter, ", ENCODING {}", quote_literal(encoding))?;
        }
        if self.ignore_errors {
            formatter.write_str(", ON_ERROR ignore")?;
        }
        if !self.partition_by.is_empty() {
            write!(
                formatter,
                ", PARTITION_BY ({})",
                identifiers(&self.partition_by)
            )?;
        }
        if let Some(compression) = &self.compression {
            write!(formatter, ", COMPRESSION {}", quote_literal(compression))?;
        }
        if !self.file_options.is_empty() {
            write!(formatter, ", {}", displayed(&self.file_options))?;
        }
        Ok(())
    }
}
