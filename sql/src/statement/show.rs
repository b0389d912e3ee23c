//! `SHOW {name | ALL}`, `SHOW TIME ZONE`, `SHOW TRANSACTION ISOLATION LEVEL`.

use std::fmt;

use super::set::{setting_name, setting_text};
use crate::error::ParseError;
use crate::input::Input;

/// Shows a run-time setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Show {
    /// Lower case; `None` is `ALL`.
    pub name: Option<String>,
}

impl Show {
    /// Stands after `SHOW`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = if input.keyword("ALL") {
            None
        } else if input.keywords(&["TIME", "ZONE"]) {
            Some("timezone".to_owned())
        } else if input.keywords(&["SESSION", "AUTHORIZATION"]) {
            Some("session_authorization".to_owned())
        } else if input.keywords(&["TRANSACTION", "ISOLATION", "LEVEL"]) {
            Some("transaction_isolation".to_owned())
        } else {
            Some(setting_name(input)?)
        };
        Ok(Self { name })
    }
}

impl fmt::Display for Show {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "SHOW {}", setting_text(name)),
            None => formatter.write_str("SHOW ALL"),
        }
    }
}
