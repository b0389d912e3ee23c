//! `EXPLAIN [ANALYZE] [VERBOSE] statement` and `EXPLAIN (option, ...) statement`.

use std::fmt;

use sqlparser::tokenizer::Token;

use super::Statement;
use crate::display::when;
use crate::error::ParseError;
use crate::input::Input;
use crate::option::{OptionValue, SqlOption, parse_options};
use crate::source::is_word;

/// Shows how a statement would run, or did.
#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    pub analyze: bool,
    pub verbose: bool,
    pub costs: bool,
    pub buffers: bool,
    pub timing: Option<bool>,
    pub summary: Option<bool>,
    pub settings: bool,
    pub format: ExplainFormat,
    pub statement: Box<Statement>,
}

/// How the plan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainFormat {
    Text,
    Json,
    Xml,
    Yaml,
}

impl Explain {
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let mut explain = Self {
            analyze: false,
            verbose: false,
            costs: true,
            buffers: false,
            timing: None,
            summary: None,
            settings: false,
            format: ExplainFormat::Text,
            statement: Box::new(Statement::Discard(super::Discard::All)),
        };
        let query_in_parentheses = input.peek_nth(1).token == Token::LParen
            || ["SELECT", "VALUES", "WITH", "TABLE"]
                .iter()
                .any(|word| is_word(input.peek_nth(1), word));
        if input.peek_symbol(&Token::LParen) && !query_in_parentheses {
            let position = input.position();
            for option in parse_options(input)? {
                explain.set(&option).map_err(|error| error.at(position))?;
            }
        } else {
            explain.analyze = input.one_of(&["ANALYZE", "ANALYSE"]).is_some();
            explain.verbose = input.keyword("VERBOSE");
        }
        if input.peek_keyword("EXPLAIN") || input.peek_keyword("PREPARE") {
            return Err(input.unexpected());
        }
        let position = input.position();
        let statement = Statement::parse(input)?;
        match statement {
            Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_)
            | Statement::Execute(_)
            | Statement::DeclareCursor(_)
            | Statement::CreateTable(_) => {}
            _ => {
                return Err(ParseError::unsupported(format_args!(
                    "EXPLAIN {}",
                    statement.command_tag()
                ))
                .at(position));
            }
        }
        explain.statement = Box::new(statement);
        Ok(explain)
    }

    fn set(&mut self, option: &SqlOption) -> Result<(), ParseError> {
        let flag = || {
            flag(&option.value).ok_or_else(|| {
                ParseError::new(
                    ParseError::SYNTAX_ERROR,
                    format!(
                        "EXPLAIN option \"{}\" requires a Boolean value",
                        option.name
                    ),
                )
            })
        };
        match option.name.as_str() {
            "analyze" => self.analyze = flag()?,
            "verbose" => self.verbose = flag()?,
            "costs" => self.costs = flag()?,
            "buffers" => self.buffers = flag()?,
            "timing" => self.timing = Some(flag()?),
            "summary" => self.summary = Some(flag()?),
            "settings" => self.settings = flag()?,
            "wal" | "generic_plan" | "memory" => {
                if flag()? {
                    return Err(ParseError::unsupported(format_args!(
                        "EXPLAIN option \"{}\"",
                        option.name
                    )));
                }
            }
            "format" => {
                let format = option.value.text().unwrap_or_default().to_ascii_lowercase();
                self.format = match format.as_str() {
                    "text" => ExplainFormat::Text,
                    "json" => ExplainFormat::Json,
                    "xml" => ExplainFormat::Xml,
                    "yaml" => ExplainFormat::Yaml,
                    _ => {
                        return Err(ParseError::new(
                            ParseError::INVALID_PARAMETER_VALUE,
                            format!(
                                "unrecognized value for EXPLAIN option \"format\": \"{format}\""
                            ),
                        ));
                    }
                };
            }
            _ => {
                return Err(ParseError::new(
                    ParseError::SYNTAX_ERROR,
                    format!("unrecognized EXPLAIN option \"{}\"", option.name),
                ));
            }
        }
        Ok(())
    }
}

/// A Boolean as PostgreSQL's `defGetBoolean` takes it.
pub(crate) fn flag(value: &OptionValue) -> Option<bool> {
    match value.text()?.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Some(true),
        "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

impl fmt::Display for Explain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = Vec::new();
        for (name, value) in [
            ("ANALYZE", self.analyze.then_some(true)),
            ("VERBOSE", self.verbose.then_some(true)),
            ("COSTS", (!self.costs).then_some(false)),
            ("BUFFERS", self.buffers.then_some(true)),
            ("TIMING", self.timing),
            ("SUMMARY", self.summary),
            ("SETTINGS", self.settings.then_some(true)),
        ] {
            if let Some(value) = value {
                options.push(format!("{name}{}", when(!value, " FALSE")));
            }
        }
        match self.format {
            ExplainFormat::Text => {}
            ExplainFormat::Json => options.push("FORMAT JSON".to_owned()),
            ExplainFormat::Xml => options.push("FORMAT XML".to_owned()),
            ExplainFormat::Yaml => options.push("FORMAT YAML".to_owned()),
        }
        formatter.write_str("EXPLAIN ")?;
        if !options.is_empty() {
            write!(formatter, "({}) ", options.join(", "))?;
        }
        write!(formatter, "{}", self.statement)
    }
}
