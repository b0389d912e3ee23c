//! Every statement Boathouse knows, one file each: its structure, its parser, its text.
//!
//! A statement's `Display` is canonical SQL that parses back to an equal statement; it does show
//! passwords, so a log takes [`crate::ParsedStatement::redacted`] instead.

pub mod alter_connection;
pub mod alter_pipeline;
pub mod alter_role;
pub mod alter_schema;
pub mod alter_secret;
pub mod alter_table;
pub mod alter_view;
pub mod analyze;
pub mod check_connection;
pub mod close_cursor;
pub mod comment;
pub mod copy;
pub mod create_connection;
pub mod create_pipeline;
pub mod create_role;
pub mod create_schema;
pub mod create_secret;
pub mod create_table;
pub mod create_view;
pub mod deallocate;
pub mod declare_cursor;
pub mod delete;
pub mod discard;
pub mod drop_connection;
pub mod drop_pipeline;
pub mod drop_role;
pub mod drop_schema;
pub mod drop_secret;
pub mod drop_table;
pub mod drop_view;
pub mod execute;
pub mod explain;
pub mod fetch;
pub mod grant;
pub mod insert;
pub mod listen;
pub mod lock;
pub mod merge;
pub mod optimize;
pub mod prepare;
pub mod query;
pub mod replay_quarantine;
pub mod reset;
pub mod run_pipeline;
pub mod set;
pub mod set_role;
pub mod show;
pub mod show_create;
pub mod test_pipeline;
pub mod transaction;
pub mod truncate;
pub mod update;
pub mod vacuum;
mod verify_pipeline;

pub use crate::schedule::Schedule;
pub use crate::topic::TopicTarget;
pub use alter_connection::{AlterConnection, AlterConnectionAction};
pub use alter_pipeline::{AlterPipeline, AlterPipelineAction};
pub use alter_role::{AlterRole, AlterRoleAction};
pub use alter_schema::{AlterSchema, AlterSchemaAction};
pub use alter_secret::{AlterSecret, AlterSecretAction};
pub use alter_table::{AlterTable, AlterTableAction};
pub use alter_view::{AlterView, AlterViewAction};
pub use analyze::{Analyze, MaintainedTable};
pub use check_connection::CheckConnection;
pub use close_cursor::CloseCursor;
pub use comment::{Comment, CommentObject};
pub use copy::{
    Copy, CopyColumns, CopyDirection, CopyEndpoint, CopyFormat, CopyHeader, CopyOptions,
    CopySubject,
};
pub use create_connection::CreateConnection;
pub use create_pipeline::{
    CreatePipeline, Expectation, FormatClause, IncludedField, Into, OnChangedFile, OnError,
    OnSchemaChange, OnViolation, PipelineSource, SourceColumn, StoredAs,
};
pub use create_role::{CreateRole, RoleOptions, RolePassword};
pub use create_schema::CreateSchema;
pub use create_secret::CreateSecret;
pub use create_table::{
    ColumnDeclaration, CreateTable, LikeClause, ReferentialAction, TableConstraint,
    TableConstraintKind, TableSource,
};
pub use create_view::CreateView;
pub use deallocate::Deallocate;
pub use declare_cursor::DeclareCursor;
pub use delete::Delete;
pub use discard::Discard;
pub use drop_connection::DropConnection;
pub use drop_pipeline::DropPipeline;
pub use drop_role::DropRole;
pub use drop_schema::DropSchema;
pub use drop_secret::DropSecret;
pub use drop_table::DropTable;
pub use drop_view::DropView;
pub use execute::Execute;
pub use explain::{Explain, ExplainFormat};
pub use fetch::{Fetch, FetchDirection, Move};
pub use grant::{ColumnPrivilege, Grant, GrantObjects, Granted, PrivilegeKind, Privileges, Revoke};
pub use insert::{ConflictAction, ConflictTarget, Insert, InsertSource, OnConflict};
pub use listen::{Listen, Notify, Unlisten};
pub use lock::Lock;
pub use merge::{Merge, MergeAction, MergeClause, MergeKind};
pub use optimize::Optimize;
pub use prepare::Prepare;
pub use replay_quarantine::ReplayQuarantine;
pub use reset::Reset;
pub use run_pipeline::RunPipeline;
pub use set::{Set, SettingValue};
pub use set_role::{SetRole, SetSessionAuthorization};
pub use show::Show;
pub use show_create::{ShowCreate, ShowCreateKind};
pub use test_pipeline::TestPipeline;
pub use transaction::{
    Begin, Commit, IsolationLevel, ReleaseSavepoint, Rollback, RollbackToSavepoint, Savepoint,
    SetTransaction, TransactionModes,
};
pub use truncate::Truncate;
pub use update::Update;
pub use vacuum::Vacuum;
pub use verify_pipeline::VerifyPipeline;

use std::fmt;

use crate::ast;
use crate::display::text;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;
use sqlparser::tokenizer::Token;

/// A parsed statement.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a statement is parsed once and seldom moved"
)]
pub enum Statement {
    Query(Box<ast::Query>),
    Explain(Explain),
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete(Box<Delete>),
    Merge(Box<Merge>),
    Truncate(Truncate),
    CreateSchema(CreateSchema),
    AlterSchema(AlterSchema),
    DropSchema(DropSchema),
    CreateTable(Box<CreateTable>),
    AlterTable(AlterTable),
    DropTable(DropTable),
    CreateView(CreateView),
    AlterView(AlterView),
    DropView(DropView),
    Comment(Comment),
    CreateRole(CreateRole),
    AlterRole(AlterRole),
    DropRole(DropRole),
    Grant(Grant),
    Revoke(Revoke),
    SetRole(SetRole),
    SetSessionAuthorization(SetSessionAuthorization),
    CreateSecret(CreateSecret),
    AlterSecret(AlterSecret),
    DropSecret(DropSecret),
    CreateConnection(CreateConnection),
    AlterConnection(AlterConnection),
    DropConnection(DropConnection),
    CheckConnection(CheckConnection),
    CreatePipeline(Box<CreatePipeline>),
    AlterPipeline(AlterPipeline),
    DropPipeline(DropPipeline),
    RunPipeline(RunPipeline),
    VerifyPipeline(VerifyPipeline),
    TestPipeline(TestPipeline),
    ShowCreate(ShowCreate),
    ReplayQuarantine(ReplayQuarantine),
    Copy(Box<Copy>),
    Prepare(Prepare),
    Execute(Execute),
    Deallocate(Deallocate),
    DeclareCursor(DeclareCursor),
    Fetch(Fetch),
    Move(Move),
    CloseCursor(CloseCursor),
    Begin(Begin),
    Commit(Commit),
    Rollback(Rollback),
    Savepoint(Savepoint),
    ReleaseSavepoint(ReleaseSavepoint),
    RollbackToSavepoint(RollbackToSavepoint),
    SetTransaction(SetTransaction),
    Set(Set),
    Reset(Reset),
    Show(Show),
    Discard(Discard),
    Listen(Listen),
    Unlisten(Unlisten),
    Notify(Notify),
    Lock(Lock),
    Analyze(Analyze),
    Vacuum(Vacuum),
    Optimize(Optimize),
}

/// A role where PostgreSQL lets one be named or meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleName {
    Name(String),
    CurrentRole,
    CurrentUser,
    SessionUser,
    /// Only where rights are given or taken.
    Public,
}

impl RoleName {
    /// A role that is changed, or owns something.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let position = input.position();
        match Self::parse_grantee(input)? {
            Self::Public => Err(ParseError::new(
                ParseError::UNDEFINED_OBJECT,
                "role \"public\" does not exist",
            )
            .at(position)),
            role => Ok(role),
        }
    }

    /// A role, or `PUBLIC`.
    pub(crate) fn parse_grantee(input: &mut Input) -> Result<Self, ParseError> {
        input.keyword("GROUP");
        for (word, role) in [
            ("CURRENT_ROLE", Self::CurrentRole),
            ("CURRENT_USER", Self::CurrentUser),
            ("SESSION_USER", Self::SessionUser),
        ] {
            if input.keyword(word) {
                return Ok(role);
            }
        }
        match input.identifier()? {
            name if name == "public" => Ok(Self::Public),
            name => Ok(Self::Name(name)),
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(&quote_identifier(name)),
            Self::CurrentRole => formatter.write_str("CURRENT_ROLE"),
            Self::CurrentUser => formatter.write_str("CURRENT_USER"),
            Self::SessionUser => formatter.write_str("SESSION_USER"),
            Self::Public => formatter.write_str("PUBLIC"),
        }
    }
}

impl Statement {
    /// The first part of the command tag, which the count of rows may complete. The tag of a query
    /// and of `EXECUTE` is decided by what runs.
    pub fn command_tag(&self) -> &'static str {
        match self {
            Self::Begin(begin) if begin.start => "START TRANSACTION",
            Self::Begin(_) => "BEGIN",
            Self::Discard(discard) => discard.as_str(),
            Self::Deallocate(Deallocate { name: None }) => "DEALLOCATE ALL",
            Self::Deallocate(_) => "DEALLOCATE",
            Self::CloseCursor(CloseCursor { name: None }) => "CLOSE CURSOR ALL",
            Self::CloseCursor(_) => "CLOSE CURSOR",
            Self::CreateTable(table) if table.source.is_some() => "SELECT",
            Self::CreateTable(_) => "CREATE TABLE",
            Self::Query(_) => "SELECT",
            Self::Explain(_) => "EXPLAIN",
            Self::Insert(_) => "INSERT",
            Self::Update(_) => "UPDATE",
            Self::Delete(_) => "DELETE",
            Self::Merge(_) => "MERGE",
            Self::Truncate(_) => "TRUNCATE TABLE",
            Self::CreateSchema(_) => "CREATE SCHEMA",
            Self::AlterSchema(_) => "ALTER SCHEMA",
            Self::DropSchema(_) => "DROP SCHEMA",
            Self::AlterTable(_) => "ALTER TABLE",
            Self::DropTable(_) => "DROP TABLE",
            Self::CreateView(_) => "CREATE VIEW",
            Self::AlterView(_) => "ALTER VIEW",
            Self::DropView(_) => "DROP VIEW",
            Self::Comment(_) => "COMMENT",
            Self::CreateRole(_) => "CREATE ROLE",
            Self::AlterRole(_) => "ALTER ROLE",
            Self::DropRole(_) => "DROP ROLE",
            Self::Grant(_) => "GRANT",
            Self::Revoke(_) => "REVOKE",
            Self::SetRole(_) => "SET",
            Self::SetSessionAuthorization(_) => "SET",
            Self::CreateSecret(_) => "CREATE SECRET",
            Self::AlterSecret(_) => "ALTER SECRET",
            Self::DropSecret(_) => "DROP SECRET",
            Self::CreateConnection(_) => "CREATE CONNECTION",
            Self::AlterConnection(_) => "ALTER CONNECTION",
            Self::DropConnection(_) => "DROP CONNECTION",
            Self::CheckConnection(_) => "CHECK CONNECTION",
            Self::CreatePipeline(_) => "CREATE PIPELINE",
            Self::AlterPipeline(_) => "ALTER PIPELINE",
            Self::DropPipeline(_) => "DROP PIPELINE",
            Self::RunPipeline(_) => "RUN PIPELINE",
            Self::VerifyPipeline(_) => "VERIFY PIPELINE",
            Self::TestPipeline(_) => "TEST PIPELINE",
            Self::ShowCreate(_) => "SHOW",
            Self::ReplayQuarantine(_) => "REPLAY QUARANTINE",
            Self::Copy(_) => "COPY",
            Self::Prepare(_) => "PREPARE",
            Self::Execute(_) => "EXECUTE",
            Self::DeclareCursor(_) => "DECLARE CURSOR",
            Self::Fetch(_) => "FETCH",
            Self::Move(_) => "MOVE",
            Self::Commit(_) => "COMMIT",
            Self::Rollback(_) => "ROLLBACK",
            Self::Savepoint(_) => "SAVEPOINT",
            Self::ReleaseSavepoint(_) => "RELEASE",
            Self::RollbackToSavepoint(_) => "ROLLBACK",
            Self::SetTransaction(_) => "SET",
            Self::Set(_) => "SET",
            Self::Reset(_) => "RESET",
            Self::Show(_) => "SHOW",
            Self::Listen(_) => "LISTEN",
            Self::Unlisten(_) => "UNLISTEN",
            Self::Notify(_) => "NOTIFY",
            Self::Lock(_) => "LOCK TABLE",
            Self::Analyze(_) => "ANALYZE",
            Self::Vacuum(_) => "VACUUM",
            Self::Optimize(_) => "OPTIMIZE",
        }
    }

    /// One statement; stands at its first word and leaves the input after its last.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let position = input.position();
        if input.peek_symbol(&Token::LParen)
            || ["SELECT", "VALUES", "TABLE"]
                .iter()
                .any(|word| input.peek_keyword(word))
        {
            return Ok(Self::Query(input.query()?));
        }
        if input.peek_keyword("WITH") {
            return parse_with(input);
        }
        let Token::Word(word) = &input.peek().token else {
            return Err(input.unexpected());
        };
        if word.quote_style.is_some() {
            return Err(input.unexpected());
        }
        let first = input.peek();
        input.advance();
        Ok(match word.value.as_str() {
            "explain" => Self::Explain(Explain::parse(input)?),
            "insert" => Self::Insert(Box::new(Insert::parse(input, None)?)),
            "update" => Self::Update(Box::new(Update::parse(input, None)?)),
            "delete" => Self::Delete(Box::new(Delete::parse(input, None)?)),
            "merge" => Self::Merge(Box::new(Merge::parse(input, None)?)),
            "truncate" => Self::Truncate(Truncate::parse(input)?),
            "create" => return parse_create(input, position),
            "alter" => return parse_alter(input, position),
            "drop" => return parse_drop(input, position),
            "comment" => Self::Comment(Comment::parse(input)?),
            "grant" => Self::Grant(Grant::parse(input)?),
            "revoke" => Self::Revoke(Revoke::parse(input)?),
            "check" => {
                input.expect_keyword("CONNECTION")?;
                Self::CheckConnection(CheckConnection::parse(input)?)
            }
            "run" => {
                input.expect_keyword("PIPELINE")?;
                Self::RunPipeline(RunPipeline::parse(input)?)
            }
            "verify" => {
                input.expect_keyword("PIPELINE")?;
                Self::VerifyPipeline(VerifyPipeline::parse(input)?)
            }
            "test" => {
                input.expect_keyword("PIPELINE")?;
                Self::TestPipeline(TestPipeline::parse(input)?)
            }
            "replay" => {
                input.expect_keyword("QUARANTINE")?;
                Self::ReplayQuarantine(ReplayQuarantine::parse(input)?)
            }
            "copy" => Self::Copy(Box::new(Copy::parse(input)?)),
            "prepare" => Self::Prepare(Prepare::parse(input)?),
            "execute" => Self::Execute(Execute::parse(input)?),
            "deallocate" => Self::Deallocate(Deallocate::parse(input)?),
            "declare" => Self::DeclareCursor(DeclareCursor::parse(input)?),
            "fetch" => Self::Fetch(Fetch::parse(input)?),
            "move" => Self::Move(Move::parse(input)?),
            "close" => Self::CloseCursor(CloseCursor::parse(input)?),
            "begin" => Self::Begin(Begin::parse(input, false)?),
            "start" => {
                input.expect_keyword("TRANSACTION")?;
                Self::Begin(Begin::parse(input, true)?)
            }
            "commit" | "end" => Self::Commit(Commit::parse(input)?),
            "rollback" | "abort" => transaction::parse_rollback(input)?,
            "savepoint" => Self::Savepoint(Savepoint::parse(input)?),
            "release" => Self::ReleaseSavepoint(ReleaseSavepoint::parse(input)?),
            "set" => set::parse_set(input)?,
            "reset" => Self::Reset(Reset::parse(input)?),
            "show" if input.keyword("CREATE") => Self::ShowCreate(ShowCreate::parse(input)?),
            "show" => Self::Show(Show::parse(input)?),
            "discard" => Self::Discard(Discard::parse(input)?),
            "listen" => Self::Listen(Listen::parse(input)?),
            "unlisten" => Self::Unlisten(Unlisten::parse(input)?),
            "notify" => Self::Notify(Notify::parse(input)?),
            "lock" => Self::Lock(Lock::parse(input)?),
            "analyze" | "analyse" => Self::Analyze(Analyze::parse(input)?),
            "vacuum" => Self::Vacuum(Vacuum::parse(input)?),
            "optimize" => Self::Optimize(Optimize::parse(input)?),
            "call" | "checkpoint" | "cluster" | "do" | "import" | "load" | "reassign"
            | "refresh" | "reindex" | "security" => {
                return Err(ParseError::unsupported(word.value.to_ascii_uppercase()).at(position));
            }
            _ => return Err(input.error_near(first)),
        })
    }
}

/// `WITH` before a query or before a statement that changes a table: the first word outside
/// parentheses that begins either decides.
fn parse_with(input: &mut Input) -> Result<Statement, ParseError> {
    let mut depth = 0_usize;
    let mut index = 1;
    loop {
        let next = input.peek_nth(index);
        match &next.token {
            Token::EOF => return Ok(Statement::Query(input.query()?)),
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 && word.quote_style.is_none() => {
                match word.value.as_str() {
                    "select" | "values" | "table" => return Ok(Statement::Query(input.query()?)),
                    "insert" | "update" | "delete" | "merge" => break,
                    _ => {}
                }
            }
            _ => {}
        }
        index += 1;
    }
    let with = Some(query::parse_with(input)?);
    Ok(
        match input.expect_one_of(&["INSERT", "UPDATE", "DELETE", "MERGE"])? {
            "INSERT" => Statement::Insert(Box::new(Insert::parse(input, with)?)),
            "UPDATE" => Statement::Update(Box::new(Update::parse(input, with)?)),
            "DELETE" => Statement::Delete(Box::new(Delete::parse(input, with)?)),
            _ => Statement::Merge(Box::new(Merge::parse(input, with)?)),
        },
    )
}

/// What PostgreSQL can create, and we cannot.
const OTHER_OBJECTS: &[&str] = &[
    "ACCESS",
    "AGGREGATE",
    "CAST",
    "COLLATION",
    "CONVERSION",
    "DATABASE",
    "DEFAULT",
    "DOMAIN",
    "EVENT",
    "EXTENSION",
    "FOREIGN",
    "FUNCTION",
    "INDEX",
    "LANGUAGE",
    "LARGE",
    "MART",
    "MATERIALIZED",
    "OPERATOR",
    "OWNED",
    "POLICY",
    "PROCEDURAL",
    "PROCEDURE",
    "PUBLICATION",
    "RECURSIVE",
    "ROUTINE",
    "RULE",
    "SEQUENCE",
    "SERVER",
    "STATISTICS",
    "SUBSCRIPTION",
    "SYSTEM",
    "TABLESPACE",
    "TEXT",
    "TRANSFORM",
    "TRIGGER",
    "TRUSTED",
    "TYPE",
    "UNIQUE",
    "UNLOGGED",
];

fn other_object(input: &Input, verb: &str, position: usize) -> ParseError {
    match OTHER_OBJECTS.iter().find(|word| input.peek_keyword(word)) {
        Some(&"UNIQUE") => ParseError::unsupported(format_args!("{verb} INDEX")).at(position),
        Some(&"MATERIALIZED") => {
            ParseError::unsupported(format_args!("{verb} MATERIALIZED VIEW")).at(position)
        }
        Some(word) => ParseError::unsupported(format_args!("{verb} {word}")).at(position),
        None => input.unexpected(),
    }
}

/// Stands after `CREATE`.
fn parse_create(input: &mut Input, position: usize) -> Result<Statement, ParseError> {
    let or_replace = input.keywords(&["OR", "REPLACE"]);
    if !or_replace {
        if !input.keyword("GLOBAL") {
            input.keyword("LOCAL");
        }
        let temporary = input.one_of(&["TEMPORARY", "TEMP"]).is_some();
        if temporary && input.peek_keyword("VIEW") {
            return Err(ParseError::unsupported("a temporary view").at(position));
        }
        if input.keyword("TABLE") {
            let table = CreateTable::parse(input, temporary)?;
            return Ok(Statement::CreateTable(Box::new(table)));
        }
        if temporary {
            return Err(other_object(input, "CREATE", position));
        }
        match input.one_of(&["SCHEMA", "ROLE", "USER", "GROUP"]) {
            Some("SCHEMA") => return Ok(Statement::CreateSchema(CreateSchema::parse(input)?)),
            Some(word) => {
                return Ok(Statement::CreateRole(CreateRole::parse(
                    input,
                    word == "USER",
                )?));
            }
            None => {}
        }
    }
    match input.one_of(&["VIEW", "SECRET", "CONNECTION", "PIPELINE"]) {
        Some("VIEW") => Ok(Statement::CreateView(CreateView::parse(input, or_replace)?)),
        Some("SECRET") => Ok(Statement::CreateSecret(CreateSecret::parse(
            input, or_replace,
        )?)),
        Some("CONNECTION") => Ok(Statement::CreateConnection(CreateConnection::parse(
            input, or_replace,
        )?)),
        Some(_) => {
            let pipeline = CreatePipeline::parse(input, or_replace)?;
            Ok(Statement::CreatePipeline(Box::new(pipeline)))
        }
        None => Err(other_object(input, "CREATE", position)),
    }
}

/// Stands after `ALTER`.
fn parse_alter(input: &mut Input, position: usize) -> Result<Statement, ParseError> {
    const KINDS: &[&str] = &[
        "SCHEMA",
        "TABLE",
        "VIEW",
        "ROLE",
        "USER",
        "GROUP",
        "SECRET",
        "CONNECTION",
        "PIPELINE",
    ];
    Ok(match input.one_of(KINDS) {
        Some("SCHEMA") => Statement::AlterSchema(AlterSchema::parse(input)?),
        Some("TABLE") => Statement::AlterTable(AlterTable::parse(input)?),
        Some("VIEW") => Statement::AlterView(AlterView::parse(input)?),
        Some("SECRET") => Statement::AlterSecret(AlterSecret::parse(input)?),
        Some("CONNECTION") => Statement::AlterConnection(AlterConnection::parse(input)?),
        Some("PIPELINE") => Statement::AlterPipeline(AlterPipeline::parse(input)?),
        Some(_) => Statement::AlterRole(AlterRole::parse(input)?),
        None => return Err(other_object(input, "ALTER", position)),
    })
}

/// Stands after `DROP`.
fn parse_drop(input: &mut Input, position: usize) -> Result<Statement, ParseError> {
    const KINDS: &[&str] = &[
        "SCHEMA",
        "TABLE",
        "VIEW",
        "ROLE",
        "USER",
        "GROUP",
        "SECRET",
        "CONNECTION",
        "PIPELINE",
    ];
    Ok(match input.one_of(KINDS) {
        Some("SCHEMA") => Statement::DropSchema(DropSchema::parse(input)?),
        Some("TABLE") => Statement::DropTable(DropTable::parse(input)?),
        Some("VIEW") => Statement::DropView(DropView::parse(input)?),
        Some("SECRET") => Statement::DropSecret(DropSecret::parse(input)?),
        Some("CONNECTION") => Statement::DropConnection(DropConnection::parse(input)?),
        Some("PIPELINE") => Statement::DropPipeline(DropPipeline::parse(input)?),
        Some(_) => Statement::DropRole(DropRole::parse(input)?),
        None => return Err(other_object(input, "DROP", position)),
    })
}

impl fmt::Display for Statement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(query) => formatter.write_str(&text(query.as_ref())),
            Self::Explain(statement) => statement.fmt(formatter),
            Self::Insert(statement) => statement.fmt(formatter),
            Self::Update(statement) => statement.fmt(formatter),
            Self::Delete(statement) => statement.fmt(formatter),
            Self::Merge(statement) => statement.fmt(formatter),
            Self::Truncate(statement) => statement.fmt(formatter),
            Self::CreateSchema(statement) => statement.fmt(formatter),
            Self::AlterSchema(statement) => statement.fmt(formatter),
            Self::DropSchema(statement) => statement.fmt(formatter),
            Self::CreateTable(statement) => statement.fmt(formatter),
            Self::AlterTable(statement) => statement.fmt(formatter),
            Self::DropTable(statement) => statement.fmt(formatter),
            Self::CreateView(statement) => statement.fmt(formatter),
            Self::AlterView(statement) => statement.fmt(formatter),
            Self::DropView(statement) => statement.fmt(formatter),
            Self::Comment(statement) => statement.fmt(formatter),
            Self::CreateRole(statement) => statement.fmt(formatter),
            Self::AlterRole(statement) => statement.fmt(formatter),
            Self::DropRole(statement) => statement.fmt(formatter),
            Self::Grant(statement) => statement.fmt(formatter),
            Self::Revoke(statement) => statement.fmt(formatter),
            Self::SetRole(statement) => statement.fmt(formatter),
            Self::SetSessionAuthorization(statement) => statement.fmt(formatter),
            Self::CreateSecret(statement) => statement.fmt(formatter),
            Self::AlterSecret(statement) => statement.fmt(formatter),
            Self::DropSecret(statement) => statement.fmt(formatter),
            Self::CreateConnection(statement) => statement.fmt(formatter),
            Self::AlterConnection(statement) => statement.fmt(formatter),
            Self::DropConnection(statement) => statement.fmt(formatter),
            Self::CheckConnection(statement) => statement.fmt(formatter),
            Self::CreatePipeline(statement) => statement.fmt(formatter),
            Self::AlterPipeline(statement) => statement.fmt(formatter),
            Self::DropPipeline(statement) => statement.fmt(formatter),
            Self::RunPipeline(statement) => statement.fmt(formatter),
            Self::VerifyPipeline(statement) => statement.fmt(formatter),
            Self::TestPipeline(statement) => statement.fmt(formatter),
            Self::ShowCreate(statement) => statement.fmt(formatter),
            Self::ReplayQuarantine(statement) => statement.fmt(formatter),
            Self::Copy(statement) => statement.fmt(formatter),
            Self::Prepare(statement) => statement.fmt(formatter),
            Self::Execute(statement) => statement.fmt(formatter),
            Self::Deallocate(statement) => statement.fmt(formatter),
            Self::DeclareCursor(statement) => statement.fmt(formatter),
            Self::Fetch(statement) => statement.fmt(formatter),
            Self::Move(statement) => statement.fmt(formatter),
            Self::CloseCursor(statement) => statement.fmt(formatter),
            Self::Begin(statement) => statement.fmt(formatter),
            Self::Commit(statement) => statement.fmt(formatter),
            Self::Rollback(statement) => statement.fmt(formatter),
            Self::Savepoint(statement) => statement.fmt(formatter),
            Self::ReleaseSavepoint(statement) => statement.fmt(formatter),
            Self::RollbackToSavepoint(statement) => statement.fmt(formatter),
            Self::SetTransaction(statement) => statement.fmt(formatter),
            Self::Set(statement) => statement.fmt(formatter),
            Self::Reset(statement) => statement.fmt(formatter),
            Self::Show(statement) => statement.fmt(formatter),
            Self::Discard(statement) => statement.fmt(formatter),
            Self::Listen(statement) => statement.fmt(formatter),
            Self::Unlisten(statement) => statement.fmt(formatter),
            Self::Notify(statement) => statement.fmt(formatter),
            Self::Lock(statement) => statement.fmt(formatter),
            Self::Analyze(statement) => statement.fmt(formatter),
            Self::Vacuum(statement) => statement.fmt(formatter),
            Self::Optimize(statement) => statement.fmt(formatter),
        }
    }
}
