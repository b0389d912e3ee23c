//! `SET [SESSION | LOCAL] ROLE {role | NONE}` and `SET SESSION AUTHORIZATION {role | DEFAULT}`.

use std::fmt;

use sqlparser::tokenizer::Token;

use crate::display::when;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{quote_identifier, quote_literal};

/// Acts as another role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRole {
    pub local: bool,
    /// `None` is `NONE`: the role that connected.
    pub role: Option<String>,
}

/// Becomes another role for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSessionAuthorization {
    pub local: bool,
    /// `None` is `DEFAULT`.
    pub role: Option<String>,
}

impl SetRole {
    /// Stands after `SET [SESSION | LOCAL] ROLE`.
    pub(crate) fn parse(input: &mut Input, local: bool) -> Result<Self, ParseError> {
        // An equals sign or TO is allowed, as for any other setting.
        if !input.symbol(&Token::Eq) {
            input.keyword("TO");
        }
        let role = if input.peek_string() {
            Some(input.string()?).filter(|role| role != "none")
        } else if input.keyword("NONE") || input.keyword("DEFAULT") {
            None
        } else {
            Some(input.identifier()?)
        };
        Ok(Self { local, role })
    }
}

impl SetSessionAuthorization {
    /// Stands after `SET [SESSION | LOCAL] SESSION AUTHORIZATION`.
    pub(crate) fn parse(input: &mut Input, local: bool) -> Result<Self, ParseError> {
        let role = if input.peek_string() {
            Some(input.string()?)
        } else if input.keyword("DEFAULT") {
            None
        } else {
            Some(input.identifier()?)
        };
        Ok(Self { local, role })
    }
}

impl fmt::Display for SetRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SET {}ROLE ", when(self.local, "LOCAL "))?;
        match &self.role {
            Some(role) => formatter.write_str(&quote_identifier(role)),
            None => formatter.write_str("NONE"),
        }
    }
}

impl fmt::Display for SetSessionAuthorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "SET {}SESSION AUTHORIZATION ",
            when(self.local, "LOCAL ")
        )?;
        match &self.role {
            Some(role) => formatter.write_str(&quote_literal(role)),
            None => formatter.write_str("DEFAULT"),
        }
    }
}
