//! `LOCK [TABLE] table, ... [IN mode MODE] [NOWAIT]`.

use std::fmt;

use crate::display::{displayed, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::QualifiedName;

/// Locks tables until the transaction ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    pub tables: Vec<QualifiedName>,
    /// Upper case, `ACCESS EXCLUSIVE` when not said.
    pub mode: String,
    pub no_wait: bool,
}

impl Lock {
    /// Stands after `LOCK`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        const MODES: &[&str] = &[
            "ACCESS SHARE",
            "ROW SHARE",
            "ROW EXCLUSIVE",
            "SHARE UPDATE EXCLUSIVE",
            "SHARE ROW EXCLUSIVE",
            "SHARE",
            "EXCLUSIVE",
            "ACCESS EXCLUSIVE",
        ];
        input.keyword("TABLE");
        let tables = input.list(|input| {
            input.keyword("ONLY");
            input.qualified_name()
        })?;
        let mut mode = "ACCESS EXCLUSIVE";
        if input.keyword("IN") {
            let found = MODES.iter().find(|mode| {
                let words: Vec<&str> = mode.split(' ').collect();
                input.peek_keywords(&words)
            });
            let Some(found) = found else {
                return Err(input.unexpected());
            };
            mode = found;
            mode.split(' ').for_each(|_| input.advance());
            input.expect_keyword("MODE")?;
        }
        Ok(Self {
            tables,
            mode: mode.to_owned(),
            no_wait: input.keyword("NOWAIT"),
        })
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "LOCK TABLE {} IN {} MODE{}",
            displayed(&self.tables),
            self.mode,
            when(self.no_wait, " NOWAIT")
        )
    }
}
