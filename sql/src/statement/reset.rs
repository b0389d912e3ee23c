//! `RESET {name | ALL}`.

use std::fmt;

use super::set::{setting_name, setting_text};
use crate::error::ParseError;
use crate::input::Input;

/// Gives a run-time setting its default back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// `None` is `ALL`. `role` and `session_authorization` come through here too.
    pub name: Option<String>,
}

impl Reset {
    /// Stands after `RESET`.
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

impl fmt::Display for Reset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "RESET {}", setting_text(name)),
            None => formatter.write_str("RESET ALL"),
        }
    }
}
