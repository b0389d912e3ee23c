//! `SHOW CREATE kind name`: one row, the statement that makes the object.

use std::fmt;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::QualifiedName;

/// Shows the statement that makes an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShowCreate {
    pub kind: ShowCreateKind,
    pub name: QualifiedName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowCreateKind {
    Table,
    View,
    Schema,
    Connection,
    Pipeline,
}

impl ShowCreate {
    /// Stands after `SHOW CREATE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let kind =
            match input.expect_one_of(&["TABLE", "VIEW", "SCHEMA", "CONNECTION", "PIPELINE"])? {
                "TABLE" => ShowCreateKind::Table,
                "VIEW" => ShowCreateKind::View,
                "SCHEMA" => ShowCreateKind::Schema,
                "CONNECTION" => ShowCreateKind::Connection,
                _ => ShowCreateKind::Pipeline,
            };
        let name = match kind {
            ShowCreateKind::Table | ShowCreateKind::View => input.qualified_name()?,
            _ => QualifiedName::bare(input.identifier()?),
        };
        Ok(Self { kind, name })
    }
}

impl ShowCreateKind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "TABLE",
            Self::View => "VIEW",
            Self::Schema => "SCHEMA",
            Self::Connection => "CONNECTION",
            Self::Pipeline => "PIPELINE",
        }
    }
}

impl fmt::Display for ShowCreate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "SHOW CREATE {} {}",
            self.kind.as_str(),
            self.name
        )
    }
}
