//! `LISTEN channel`, `UNLISTEN {channel | *}`, `NOTIFY channel [, 'payload']`.

use std::fmt;

use sqlparser::tokenizer::Token;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::{quote_identifier, quote_literal};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub channel: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisten {
    /// `None` is `*`.
    pub channel: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    pub channel: String,
    pub payload: Option<String>,
}

impl Listen {
    /// Stands after `LISTEN`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        Ok(Self {
            channel: input.identifier()?,
        })
    }
}

impl Unlisten {
    /// Stands after `UNLISTEN`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let all = input.symbol(&Token::Mul);
        Ok(Self {
            channel: if all { None } else { Some(input.identifier()?) },
        })
    }
}

impl Notify {
    /// Stands after `NOTIFY`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let channel = input.identifier()?;
        let payload = if input.comma() {
            Some(input.string()?)
        } else {
            None
        };
        Ok(Self { channel, payload })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LISTEN {}", quote_identifier(&self.channel))
    }
}

impl fmt::Display for Unlisten {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.channel {
            Some(channel) => write!(formatter, "UNLISTEN {}", quote_identifier(channel)),
            None => formatter.write_str("UNLISTEN *"),
        }
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NOTIFY {}", quote_identifier(&self.channel))?;
        match &self.payload {
            Some(payload) => write!(formatter, ", {}", quote_literal(payload)),
            None => Ok(()),
        }
    }
}
