//! `SET [SESSION | LOCAL] name {= | TO} value`, `SET TIME ZONE`, `SET NAMES`, `SET SCHEMA`.

use std::fmt;

use sqlparser::tokenizer::Token;

use super::Statement;
use super::set_role::{SetRole, SetSessionAuthorization};
use super::transaction::{SetTransaction, TransactionModes};
use crate::display::{separated, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{quote_label, quote_literal};

/// Changes a run-time setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// For this transaction only.
    pub local: bool,
    /// Lower case; `time zone` is `timezone`, `names` is `client_encoding`.
    pub name: String,
    pub value: SettingValue,
}

/// What a setting is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    Default,
    /// Several for list settings such as `search_path`; names are folded, literals are as written.
    Values(Vec<String>),
}

/// `SET` in any of its meanings; stands after `SET`.
pub(crate) fn parse_set(input: &mut Input) -> Result<Statement, ParseError> {
    if input.keywords(&["SESSION", "CHARACTERISTICS"]) {
        input.expect_keywords(&["AS", "TRANSACTION"])?;
        let modes = TransactionModes::parse(input)?;
        return Ok(Statement::SetTransaction(SetTransaction {
            session: true,
            modes,
        }));
    }
    if input.keyword("TRANSACTION") {
        if input.peek_keyword("SNAPSHOT") {
            return Err(ParseError::unsupported("SET TRANSACTION SNAPSHOT").at(input.position()));
        }
        let modes = TransactionModes::parse(input)?;
        return Ok(Statement::SetTransaction(SetTransaction {
            session: false,
            modes,
        }));
    }
    if input.peek_keyword("CONSTRAINTS") {
        return Err(ParseError::unsupported("SET CONSTRAINTS").at(input.position()));
    }
    let local = input.keyword("LOCAL");
    if !local && !input.peek_keywords(&["SESSION", "AUTHORIZATION"]) {
        input.keyword("SESSION");
    }
    if input.keywords(&["SESSION", "AUTHORIZATION"]) {
        let set = SetSessionAuthorization::parse(input, local)?;
        return Ok(Statement::SetSessionAuthorization(set));
    }
    if input.keyword("ROLE") {
        return Ok(Statement::SetRole(SetRole::parse(input, local)?));
    }
    let (name, value) = parse_setting(input)?;
    Ok(Statement::Set(Set { local, name, value }))
}

/// `name {= | TO} value`, `TIME ZONE value`, `NAMES value` and `SCHEMA value`.
pub(crate) fn parse_setting(input: &mut Input) -> Result<(String, SettingValue), ParseError> {
    if input.keywords(&["TIME", "ZONE"]) {
        return Ok(("timezone".to_owned(), parse_time_zone(input)?));
    }
    if input.keyword("NAMES") {
        let value = if input.peek_string() {
            SettingValue::Values(vec![input.string()?])
        } else {
            input.keyword("DEFAULT");
            SettingValue::Default
        };
        return Ok(("client_encoding".to_owned(), value));
    }
    if input.peek_keyword("SCHEMA")
        && matches!(input.peek_nth(1).token, Token::SingleQuotedString(_))
    {
        input.advance();
        let schema = input.string()?;
        return Ok(("search_path".to_owned(), SettingValue::Values(vec![schema])));
    }
    if input.keyword("XML") {
        return Err(ParseError::unsupported("SET XML OPTION").at(input.position()));
    }
    let name = setting_name(input)?;
    if !input.symbol(&Token::Eq) {
        input.expect_keyword("TO")?;
    }
    if input.keyword("DEFAULT") {
        return Ok((name, SettingValue::Default));
    }
    Ok((name, SettingValue::Values(input.list(parse_value)?)))
}

/// `name` or `extension.name`, lower case.
pub(crate) fn setting_name(input: &mut Input) -> Result<String, ParseError> {
    let mut name = input.identifier()?;
    while input.symbol(&Token::Period) {
        name.push('.');
        name.push_str(&input.label()?);
    }
    Ok(name.to_ascii_lowercase())
}

/// A setting's name as SQL text.
pub(crate) fn setting_text(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(quote_label).collect();
    parts.join(".")
}

fn parse_value(input: &mut Input) -> Result<String, ParseError> {
    if input.peek_string() {
        return input.string();
    }
    if input.peek_number() {
        return input.number();
    }
    match input.one_of(&["TRUE", "FALSE", "ON"]) {
        Some(word) => Ok(word.to_ascii_lowercase()),
        None => input.identifier(),
    }
}

/// A zone's name, a number of hours east of UTC, an interval, `LOCAL` or `DEFAULT`.
fn parse_time_zone(input: &mut Input) -> Result<SettingValue, ParseError> {
    if input.keyword("LOCAL") || input.keyword("DEFAULT") {
        return Ok(SettingValue::Default);
    }
    if input.peek_string() {
        return Ok(SettingValue::Values(vec![input.string()?]));
    }
    let position = input.position();
    let seconds = if input.peek_number() {
        let hours: f64 = input.number()?.parse().unwrap_or(f64::NAN);
        Some(hours * 3_600.0)
    } else if input.keyword("INTERVAL") {
        let text = input.string()?;
        let fields = ["HOUR", "MINUTE", "SECOND"];
        if input.one_of(&fields).is_some() && input.keyword("TO") {
            input.expect_one_of(&fields)?;
        }
        offset_seconds(&text)
    } else {
        return Ok(SettingValue::Values(vec![input.identifier()?]));
    };
    match seconds {
        Some(seconds) if seconds.abs() <= 168.0 * 3_600.0 => {
            Ok(SettingValue::Values(vec![fixed_zone(seconds)]))
        }
        _ => Err(ParseError::new(
            ParseError::INVALID_PARAMETER_VALUE,
            "invalid interval value for time zone",
        )
        .at(position)),
    }
}

/// The seconds of `+07:00`, `-3 hours` and the like.
fn offset_seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let interval = match digits.parse::<u32>() {
        Ok(hours) => std::time::Duration::from_secs(u64::from(hours) * 3_600),
        Err(_) => crate::schedule::parse_interval(digits)?,
    };
    Some(sign * interval.as_secs_f64())
}

/// A zone of fixed offset in POSIX spelling, whose sign is the other way round: `<+07>-07`.
fn fixed_zone(seconds_east: f64) -> String {
    let east = seconds_east >= 0.0;
    let seconds = seconds_east.abs().round();
    let hours = (seconds / 3_600.0).floor();
    let minutes = ((seconds - hours * 3_600.0) / 60.0).floor();
    let clock = if minutes > 0.0 {
        format!("{hours:02}:{minutes:02}")
    } else {
        format!("{hours:02}")
    };
    let (sign, opposite) = if east { ('+', '-') } else { ('-', '+') };
    format!("<{sign}{clock}>{opposite}{clock}")
}

impl fmt::Display for Set {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = when(self.local, "LOCAL ");
        write!(
            formatter,
            "SET {local}{} TO {}",
            setting_text(&self.name),
            self.value
        )
    }
}

impl fmt::Display for SettingValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("DEFAULT"),
            Self::Values(values) => {
                formatter.write_str(&separated(values, |value| quote_literal(value)))
            }
        }
    }
}
