//! `BEGIN`, `COMMIT`, `ROLLBACK`, savepoints and `SET TRANSACTION`.

use std::fmt;

use crate::display::when;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// `BEGIN` or `START TRANSACTION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    pub modes: TransactionModes,
    /// Decides the command tag only.
    pub start: bool,
}

/// `COMMIT` or `END`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// `AND CHAIN`.
    pub chain: bool,
}

/// `ROLLBACK` or `ABORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// `AND CHAIN`.
    pub chain: bool,
}

/// `SAVEPOINT name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Savepoint {
    pub name: String,
}

/// `RELEASE [SAVEPOINT] name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseSavepoint {
    pub name: String,
}

/// `ROLLBACK TO [SAVEPOINT] name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackToSavepoint {
    pub name: String,
}

/// `SET TRANSACTION ...` and `SET SESSION CHARACTERISTICS AS TRANSACTION ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetTransaction {
    /// Whether it is for the transactions to come instead of this one.
    pub session: bool,
    pub modes: TransactionModes,
}

/// What was said of a transaction; `None` where nothing was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionModes {
    pub isolation: Option<IsolationLevel>,
    pub read_only: Option<bool>,
    pub deferrable: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationLevel {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Begin {
    /// Stands after `BEGIN` or `START TRANSACTION`.
    pub(crate) fn parse(input: &mut Input, start: bool) -> Result<Self, ParseError> {
        if !start {
            input.one_of(&["WORK", "TRANSACTION"]);
        }
        let modes = if input.is_at_end() {
            TransactionModes::default()
        } else {
            TransactionModes::parse(input)?
        };
        Ok(Self { modes, start })
    }
}

impl Commit {
    /// Stands after `COMMIT` or `END`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        if input.peek_keyword("PREPARED") {
            return Err(ParseError::unsupported("COMMIT PREPARED").at(input.position()));
        }
        input.one_of(&["WORK", "TRANSACTION"]);
        Ok(Self {
            chain: parse_chain(input)?,
        })
    }
}

/// `AND [NO] CHAIN`.
fn parse_chain(input: &mut Input) -> Result<bool, ParseError> {
    if !input.keyword("AND") {
        return Ok(false);
    }
    let chain = !input.keyword("NO");
    input.expect_keyword("CHAIN")?;
    Ok(chain)
}

/// `ROLLBACK` in one of its two meanings; stands after `ROLLBACK` or `ABORT`.
pub(crate) fn parse_rollback(input: &mut Input) -> Result<super::Statement, ParseError> {
    if input.peek_keyword("PREPARED") {
        return Err(ParseError::unsupported("ROLLBACK PREPARED").at(input.position()));
    }
    input.one_of(&["WORK", "TRANSACTION"]);
    if input.keyword("TO") {
        input.keyword("SAVEPOINT");
        let name = input.identifier()?;
        return Ok(super::Statement::RollbackToSavepoint(RollbackToSavepoint {
            name,
        }));
    }
    Ok(super::Statement::Rollback(Rollback {
        chain: parse_chain(input)?,
    }))
}

impl Savepoint {
    /// Stands after `SAVEPOINT`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        Ok(Self {
            name: input.identifier()?,
        })
    }
}

impl ReleaseSavepoint {
    /// Stands after `RELEASE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        input.keyword("SAVEPOINT");
        Ok(Self {
            name: input.identifier()?,
        })
    }
}

impl TransactionModes {
    /// One mode or several, commas or none between them.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let mut modes = Self::default();
        loop {
            if input.keywords(&["ISOLATION", "LEVEL"]) {
                modes.isolation = Some(IsolationLevel::parse(input)?);
            } else if input.keywords(&["READ", "ONLY"]) {
                modes.read_only = Some(true);
            } else if input.keywords(&["READ", "WRITE"]) {
                modes.read_only = Some(false);
            } else if input.keywords(&["NOT", "DEFERRABLE"]) {
                modes.deferrable = Some(false);
            } else if input.keyword("DEFERRABLE") {
                modes.deferrable = Some(true);
            } else {
                return Err(input.unexpected());
            }
            if !input.comma() && input.is_at_end() {
                return Ok(modes);
            }
        }
    }
}

impl IsolationLevel {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        if input.keywords(&["READ", "UNCOMMITTED"]) {
            Ok(Self::ReadUncommitted)
        } else if input.keywords(&["READ", "COMMITTED"]) {
            Ok(Self::ReadCommitted)
        } else if input.keywords(&["REPEATABLE", "READ"]) {
            Ok(Self::RepeatableRead)
        } else {
            input.expect_keyword("SERIALIZABLE")?;
            Ok(Self::Serializable)
        }
    }

    /// As `SHOW transaction_isolation` gives it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read uncommitted",
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }
}

impl fmt::Display for TransactionModes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut modes = Vec::new();
        if let Some(isolation) = self.isolation {
            modes.push(format!(
                "ISOLATION LEVEL {}",
                isolation.as_str().to_ascii_uppercase()
            ));
        }
        if let Some(read_only) = self.read_only {
            modes.push(if read_only { "READ ONLY" } else { "READ WRITE" }.to_owned());
        }
        if let Some(deferrable) = self.deferrable {
            modes.push(format!("{}DEFERRABLE", when(!deferrable, "NOT ")));
        }
        formatter.write_str(&modes.join(", "))
    }
}

impl fmt::Display for Begin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.start {
            "START TRANSACTION"
        } else {
            "BEGIN"
        })?;
        if self.modes == TransactionModes::default() {
            return Ok(());
        }
        write!(formatter, " {}", self.modes)
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "COMMIT{}", when(self.chain, " AND CHAIN"))
    }
}

impl fmt::Display for Rollback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ROLLBACK{}", when(self.chain, " AND CHAIN"))
    }
}

impl fmt::Display for Savepoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SAVEPOINT {}", quote_identifier(&self.name))
    }
}

impl fmt::Display for ReleaseSavepoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "RELEASE SAVEPOINT {}",
            quote_identifier(&self.name)
        )
    }
}

impl fmt::Display for RollbackToSavepoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "ROLLBACK TO SAVEPOINT {}",
            quote_identifier(&self.name)
        )
    }
}

impl fmt::Display for SetTransaction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = when(self.session, "SESSION CHARACTERISTICS AS ");
        write!(formatter, "SET {session}TRANSACTION {}", self.modes)
    }
}
