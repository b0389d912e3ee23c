//! `VACUUM [FULL] [FREEZE] [VERBOSE] [ANALYZE] [table, ...]`.

use std::fmt;

use sqlparser::tokenizer::Token;

use super::analyze::MaintainedTable;
use super::analyze::unrecognized;
use super::explain::flag;
use crate::display::{displayed, when};
use crate::error::ParseError;
use crate::input::Input;
use crate::option::parse_options;

/// Removes what no reader needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacuum {
    pub full: bool,
    pub freeze: bool,
    pub verbose: bool,
    pub analyze: bool,
    /// Empty: all of them.
    pub tables: Vec<MaintainedTable>,
}

impl Vacuum {
    /// Stands after `VACUUM`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let mut vacuum = Self {
            full: false,
            freeze: false,
            verbose: false,
            analyze: false,
            tables: Vec::new(),
        };
        if input.peek_symbol(&Token::LParen) {
            let position = input.position();
            for option in parse_options(input)? {
                match (option.name.as_str(), flag(&option.value)) {
                    ("full", Some(value)) => vacuum.full = value,
                    ("freeze", Some(value)) => vacuum.freeze = value,
                    ("verbose", Some(value)) => vacuum.verbose = value,
                    ("analyze", Some(value)) => vacuum.analyze = value,
                    // How PostgreSQL goes about it, which is not how we do.
                    (
                        "skip_locked"
                        | "index_cleanup"
                        | "process_main"
                        | "process_toast"
                        | "truncate"
                        | "parallel"
                        | "disable_page_skipping"
                        | "skip_database_stats"
                        | "buffer_usage_limit",
                        _,
                    ) => {}
                    _ => return Err(unrecognized("VACUUM", &option.name).at(position)),
                }
            }
        } else {
            vacuum.full = input.keyword("FULL");
            vacuum.freeze = input.keyword("FREEZE");
            vacuum.verbose = input.keyword("VERBOSE");
            vacuum.analyze = input.one_of(&["ANALYZE", "ANALYSE"]).is_some();
        }
        vacuum.tables = MaintainedTable::parse_list(input)?;
        Ok(vacuum)
    }
}

impl fmt::Display for Vacuum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "VACUUM{}{}{}{}",
            when(self.full, " FULL"),
            when(self.freeze, " FREEZE"),
            when(self.verbose, " VERBOSE"),
            when(self.analyze, " ANALYZE")
        )?;
        if self.tables.is_empty() {
            return Ok(());
        }
        write!(formatter, " {}", displayed(&self.tables))
    }
}
