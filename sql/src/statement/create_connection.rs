//! `CREATE CONNECTION name TO kind [WITH (option = value, ...)]`.

use std::fmt;

use crate::display::{when, with_options};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;
use crate::option::{SqlOption, parse_with_options};

/// Names an outside system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateConnection {
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub name: String,
    /// Upper case: `LOCAL`, `S3`, `SFTP`, `MYSQL`, `KAFKA`, `REDSHIFT`. Which exist is the engine's
    /// to say.
    pub kind: String,
    pub options: Vec<SqlOption>,
}

impl CreateConnection {
    /// Stands after `CREATE [OR REPLACE] CONNECTION`.
    pub(crate) fn parse(input: &mut Input, or_replace: bool) -> Result<Self, ParseError> {
        let if_not_exists = input.if_not_exists();
        let name = input.identifier()?;
        input.expect_keyword("TO")?;
        let kind = input.label()?.to_ascii_uppercase();
        let options = parse_with_options(input)?;
        Ok(Self {
            or_replace,
            if_not_exists,
            name,
            kind,
            options,
        })
    }
}

impl fmt::Display for CreateConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "CREATE {}CONNECTION {}{} TO {}{}",
            when(self.or_replace, "OR REPLACE "),
            when(self.if_not_exists, "IF NOT EXISTS "),
            quote_identifier(&self.name),
            bare_word(&self.kind),
            with_options(&self.options)
        )
    }
}

/// The name of a kind or format: bare where it can be.
pub(crate) fn bare_word(word: &str) -> String {
    let bare = word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if bare {
        word.to_owned()
    } else {
        quote_identifier(word)
    }
}
