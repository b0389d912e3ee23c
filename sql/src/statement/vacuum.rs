//! `VACUUM [(DRY_RUN, RETAIN_HOURS n, ...)] [FULL] [FREEZE] [VERBOSE] [ANALYZE] [table, ...]`.

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
    /// Tell what would be deleted, and delete nothing.
    pub dry_run: bool,
    /// How long files that are needed no more are kept; the table's property says when this is not given.
    pub retain_hours: Option<u64>,
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
            dry_run: false,
            retain_hours: None,
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
                    ("dry_run", Some(value)) => vacuum.dry_run = value,
                    ("retain_hours", _) => {
                        let hours = option.value.text().and_then(|text| text.parse().ok());
                        let invalid = || {
                            ParseError::new(
                                "22023",
                                "VACUUM option \"retain_hours\" must be a whole number of hours",
                            )
                            .at(position)
                        };
                        vacuum.retain_hours = Some(hours.ok_or_else(invalid)?);
                    }
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
        let options = [
            when(self.dry_run, "DRY_RUN").to_owned(),
            self.retain_hours
                .map_or_else(String::new, |hours| format!("RETAIN_HOURS {hours}")),
        ];
        let ours: Vec<String> = options.into_iter().filter(|one| !one.is_empty()).collect();
        if ours.is_empty() {
            write!(
                formatter,
                "VACUUM{}{}{}{}",
                when(self.full, " FULL"),
                when(self.freeze, " FREEZE"),
                when(self.verbose, " VERBOSE"),
                when(self.analyze, " ANALYZE")
            )?;
        } else {
            let flags = [
                (self.full, "FULL"),
                (self.freeze, "FREEZE"),
                (self.verbose, "VERBOSE"),
                (self.analyze, "ANALYZE"),
            ];
            let flags = flags.iter().filter(|(set, _)| *set);
            let all: Vec<String> = flags
                .map(|(_, name)| (*name).to_owned())
                .chain(ours)
                .collect();
            write!(formatter, "VACUUM ({})", all.join(", "))?;
        }
        if self.tables.is_empty() {
            return Ok(());
        }
        write!(formatter, " {}", displayed(&self.tables))
    }
}
