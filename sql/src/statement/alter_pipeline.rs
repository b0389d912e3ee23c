//! `ALTER PIPELINE name {PAUSE | RESUME | SET (...) | RESET (...) | SCHEDULE ... | RENAME TO | OWNER TO}`.

use std::fmt;

use super::RoleName;
use crate::display::{displayed, identifiers};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;
use crate::option::{SqlOption, parse_options};
use crate::schedule::Schedule;

/// Changes a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterPipeline {
    pub name: String,
    pub action: AlterPipelineAction,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterPipelineAction {
    Pause,
    Resume,
    SetOptions(Vec<SqlOption>),
    ResetOptions(Vec<String>),
    Schedule(Schedule),
    RenameTo(String),
    OwnerTo(RoleName),
}

impl AlterPipeline {
    /// Stands after `ALTER PIPELINE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        let verb = input.expect_one_of(&[
            "PAUSE", "RESUME", "SET", "RESET", "SCHEDULE", "RENAME", "OWNER",
        ])?;
        let action = match verb {
            "PAUSE" => AlterPipelineAction::Pause,
            "RESUME" => AlterPipelineAction::Resume,
            "SET" => AlterPipelineAction::SetOptions(parse_options(input)?),
            "RESET" => AlterPipelineAction::ResetOptions(input.parenthesized_identifiers()?),
            "SCHEDULE" => AlterPipelineAction::Schedule(Schedule::parse(input)?),
            "RENAME" => {
                input.expect_keyword("TO")?;
                AlterPipelineAction::RenameTo(input.identifier()?)
            }
            _ => {
                input.expect_keyword("TO")?;
                AlterPipelineAction::OwnerTo(RoleName::parse(input)?)
            }
        };
        Ok(Self { name, action })
    }
}

impl fmt::Display for AlterPipeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "ALTER PIPELINE {} ",
            quote_identifier(&self.name)
        )?;
        match &self.action {
            AlterPipelineAction::Pause => formatter.write_str("PAUSE"),
            AlterPipelineAction::Resume => formatter.write_str("RESUME"),
            AlterPipelineAction::SetOptions(options) => {
                write!(formatter, "SET ({})", displayed(options))
            }
            AlterPipelineAction::ResetOptions(names) => {
                write!(formatter, "RESET ({})", identifiers(names))
            }
            AlterPipelineAction::Schedule(schedule) => write!(formatter, "SCHEDULE {schedule}"),
            AlterPipelineAction::RenameTo(name) => {
                write!(formatter, "RENAME TO {}", quote_identifier(name))
            }
            AlterPipelineAction::OwnerTo(role) => write!(formatter, "OWNER TO {role}"),
        }
    }
}
