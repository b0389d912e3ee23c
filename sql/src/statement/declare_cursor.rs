//! `DECLARE name [BINARY] [[NO] SCROLL] CURSOR [WITH HOLD] FOR query`.

use std::fmt;

use crate::ast;
use crate::display::{text, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Opens a cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclareCursor {
    pub name: String,
    pub binary: bool,
    /// `SCROLL` or `NO SCROLL`, when said.
    pub scroll: Option<bool>,
    pub hold: bool,
    pub query: Box<ast::Query>,
}

impl DeclareCursor {
    /// Stands after `DECLARE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        let mut binary = false;
        let mut scroll = None;
        loop {
            if input.keyword("BINARY") {
                binary = true;
            } else if input.keyword("INSENSITIVE") || input.keyword("ASENSITIVE") {
                // Every cursor is: it reads one snapshot.
            } else if input.keywords(&["NO", "SCROLL"]) {
                scroll = Some(false);
            } else if input.keyword("SCROLL") {
                scroll = Some(true);
            } else {
                break;
            }
        }
        input.expect_keyword("CURSOR")?;
        let hold = input.keywords(&["WITH", "HOLD"]);
        if !hold {
            input.keywords(&["WITHOUT", "HOLD"]);
        }
        input.expect_keyword("FOR")?;
        Ok(Self {
            name,
            binary,
            scroll,
            hold,
            query: input.query()?,
        })
    }
}

impl fmt::Display for DeclareCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "DECLARE {}{}{} CURSOR{} FOR {}",
            quote_identifier(&self.name),
            when(self.binary, " BINARY"),
            match self.scroll {
                Some(true) => " SCROLL",
                Some(false) => " NO SCROLL",
                None => "",
            },
            when(self.hold, " WITH HOLD"),
            text(self.query.as_ref())
        )
    }
}
