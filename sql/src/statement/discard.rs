//! `DISCARD {ALL | PLANS | SEQUENCES | TEMP}`.

use std::fmt;

use crate::error::ParseError;
use crate::input::Input;

/// Throws session state away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Sequences,
    Temporary,
}

impl Discard {
    /// Stands after `DISCARD`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        match input.expect_one_of(&["ALL", "PLANS", "SEQUENCES", "TEMP", "TEMPORARY"])? {
            "ALL" => Ok(Self::All),
            "PLANS" => Ok(Self::Plans),
            "SEQUENCES" => Ok(Self::Sequences),
            _ => Ok(Self::Temporary),
        }
    }

    /// Also its command tag.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "DISCARD ALL",
            Self::Plans => "DISCARD PLANS",
            Self::Sequences => "DISCARD SEQUENCES",
            Self::Temporary => "DISCARD TEMP",
        }
    }
}

impl fmt::Display for Discard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
