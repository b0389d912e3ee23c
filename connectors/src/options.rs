//! The options somebody wrote in `WITH (...)` or after `FORMAT x`, taken out one by one.
//!
//! Whoever configures something takes the options it knows; [`Options::finish`] then refuses what
//! is left over and lists what could have been written. So no list of known options is kept
//! anywhere: taking one makes it known.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::ConnectorError;

/// A value as it was written. A secret arrives here already revealed.
#[derive(Clone, PartialEq)]
pub enum OptionValue {
    Text(String),
    /// Digits as written, so that nothing is lost before it is known what they are for.
    Number(String),
    Boolean(bool),
    /// Never printed.
    Secret(String),
}

impl OptionValue {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) | Self::Secret(text) => text,
            Self::Boolean(true) => "true",
            Self::Boolean(false) => "false",
        }
    }

    /// How an error may quote the value.
    fn shown(&self) -> &str {
        match self {
            Self::Secret(_) => "***",
            other => other.text(),
        }
    }
}

impl fmt::Debug for OptionValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.shown())
    }
}

impl From<&str> for OptionValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for OptionValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for OptionValue {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for OptionValue {
    fn from(value: i64) -> Self {
        Self::Number(value.to_string())
    }
}

/// The options of one object, named by `owner` in errors: `connector "SFTP"`, `format "CSV"`.
#[derive(Debug, Clone)]
pub struct Options {
    owner: String,
    values: BTreeMap<String, OptionValue>,
    known: Vec<&'static str>,
}

impl Options {
    /// Names are matched without regard to case.
    pub fn new<N, V>(owner: impl Into<String>, values: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<str>,
        V: Into<OptionValue>,
    {
        let values = values
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_ascii_lowercase(), value.into()))
            .collect();
        Self {
            owner: owner.into(),
            values,
            known: Vec::new(),
        }
    }

    /// No options at all: everything at its default.
    pub fn none(owner: impl Into<String>) -> Self {
        Self::new(owner, std::iter::empty::<(&str, &str)>())
    }

    /// Everything not taken yet, as text: for a process that configures the same thing again.
    pub(crate) fn remaining(&self) -> Vec<(String, String)> {
        self.values
            .iter()
            .map(|(name, value)| (name.clone(), value.text().to_owned()))
            .collect()
    }

    pub fn take(&mut self, name: &'static str) -> Option<OptionValue> {
        self.known.push(name);
        self.values.remove(name)
    }

    pub fn take_text(&mut self, name: &'static str) -> Result<Option<String>, ConnectorError> {
        Ok(self.take(name).map(|value| value.text().to_owned()))
    }

    pub fn require_text(&mut self, name: &'static str) -> Result<String, ConnectorError> {
        let owner = self.owner.clone();
        self.take_text(name)?
            .ok_or_else(|| ConnectorError::option(format!("{owner} needs the option \"{name}\"")))
    }

    pub fn take_bool(&mut self, name: &'static str) -> Result<Option<bool>, ConnectorError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.text().to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(Some(true)),
            "false" | "off" | "no" | "0" => Ok(Some(false)),
            _ => Err(self.invalid(name, &value, "true or false")),
        }
    }

    pub fn take_number<N: FromStr>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<N>, ConnectorError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.text().trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.invalid(name, &value, "a number in range")),
        }
    }

    /// `'250 ms'`, `'5 s'`, `'10 minutes'`, `'1 hour'`, or a bare number of seconds.
    pub fn take_duration(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Duration>, ConnectorError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match parse_duration(value.text()) {
            Some(duration) => Ok(Some(duration)),
            None => Err(self.invalid(name, &value, "a duration such as '30 s'")),
        }
    }

    /// Comma-separated; a comma inside a part is written `\,`. An empty text is a list of one
    /// empty part, because `null_values = ''` means something.
    pub fn take_list(&mut self, name: &'static str) -> Result<Option<Vec<String>>, ConnectorError> {
        Ok(self.take(name).map(|value| split_list(value.text())))
    }

    /// One of `choices`, compared without regard to case and returned as listed.
    pub fn take_choice(
        &mut self,
        name: &'static str,
        choices: &[&'static str],
    ) -> Result<Option<&'static str>, ConnectorError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match choices
            .iter()
            .find(|choice| choice.eq_ignore_ascii_case(value.text()))
        {
            Some(choice) => Ok(Some(choice)),
            None => Err(self.invalid(name, &value, &format!("one of {}", choices.join(", ")))),
        }
    }

    /// A value that was taken and turned out to be unusable.
    pub fn invalid(&self, name: &str, value: &OptionValue, expected: &str) -> ConnectorError {
        ConnectorError::option(format!(
            "invalid value \"{}\" for option \"{name}\" of {}",
            value.shown(),
            self.owner
        ))
        .hint(format!("expected {expected}"))
    }

    /// Refuses what nobody took.
    pub fn finish(self) -> Result<(), ConnectorError> {
        let Some((name, _)) = self.values.first_key_value() else {
            return Ok(());
        };
        let mut known = self.known;
        known.sort_unstable();
        known.dedup();
        let hint = if known.is_empty() {
            format!("{} has no options", self.owner)
        } else {
            format!("known options are {}", known.join(", "))
        };
        Err(ConnectorError::option(format!("{} has no option \"{name}\"", self.owner)).hint(hint))
    }
}

fn split_list(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, parts.last_mut()) {
            (',', _) => parts.push(String::new()),
            ('\\', Some(part)) => match characters.next() {
                Some(',') => part.push(','),
                Some(other) => part.extend(['\\', other]),
                None => part.push('\\'),
            },
            (other, Some(part)) => part.push(other),
            (_, None) => {}
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let amount: f64 = text[..unit_at].parse().ok()?;
    let seconds = match text[unit_at..].trim().to_ascii_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "" | "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(amount * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_lists_the_known_ones() {
        let mut options = Options::new("connector \"SFTP\"", [("host", "a"), ("prot", "22")]);
        options.require_text("host").unwrap();
        options.take_number::<u16>("port").unwrap();
        let error = options.finish().unwrap_err();
        assert_eq!(
            error.to_string(),
            "connector \"SFTP\" has no option \"prot\""
        );
        assert_eq!(error.hint.as_deref(), Some("known options are host, port"));
    }

    #[test]
    fn a_secret_is_never_quoted() {
        let mut options = Options::new(
            "connector \"SFTP\"",
            [("port", OptionValue::Secret("hunter2".to_owned()))],
        );
        assert!(!format!("{options:?}").contains("hunter2"));
        let error = options.take_number::<u16>("port").unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid value \"***\" for option \"port\" of connector \"SFTP\""
        );
    }

    #[test]
    fn durations_and_lists() {
        let mut options = Options::new(
            "test",
            [
                ("a", "10 minutes"),
                ("b", "250ms"),
                ("c", r"NA, n/a,,a\,b"),
                ("d", ""),
            ],
        );
        assert_eq!(
            options.take_duration("a").unwrap(),
            Some(Duration::from_secs(600))
        );
        assert_eq!(
            options.take_duration("b").unwrap(),
            Some(Duration::from_millis(250))
        );
        assert_eq!(
            options.take_list("c").unwrap().unwrap(),
            ["NA", "n/a", "", "a,b"]
        );
        assert_eq!(options.take_list("d").unwrap().unwrap(), [""]);
    }
}
