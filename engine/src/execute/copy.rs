//! `COPY`: between a table or query and the client, or a file the server can reach.
//!
//! ```text
//! FROM STDIN | FROM 'file'   bytes -> CopyDecoder -> TableWrite -> the session's transaction
//! TO STDOUT                  query -> rows, encoded by the caller
//! TO 'file'                  query -> DataFusion's file sinks
//! TO KAFKA                   query -> messages, see [`copy_to_topic`]
//! ```
//!
//! Files of the server are for members of pg_read_server_files and pg_write_server_files.

use std::sync::Arc;

use async_trait::async_trait;
use boathouse_catalog::definitions::{ObjectKind, ObjectRef, Privilege};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast;
use boathouse_sql::name::quote_identifier;
use boathouse_sql::parse_query;
use boathouse_sql::statement::{Copy, CopyDirection, CopyEndpoint, CopyFormat, CopySubject};
use bytes::Bytes;
use tokio::io::AsyncReadExt;

use super::copy_decode::CopyDecoder;
use super::insert::target_columns;
use super::resolve::Found;
use super::write::TableWrite;
use super::{copy_to_topic, done, planning};
use crate::error::{SqlError, SqlState};
use crate::outcome::{CopyIn, CopyOut, CopyReceiver, Outcome};
use crate::query;
use crate::session::Session;

/// Bytes read from a file, or decoded of what a client sent, at a time.
const CHUNK_BYTES: usize = 1 << 20;

pub(super) async fn execute(session: &mut Session, copy: &Copy) -> Result<Outcome, SqlError> {
    match (copy.direction, &copy.endpoint) {
        (CopyDirection::From, CopyEndpoint::Stdin) => from_client(session, copy).await,
        (CopyDirection::From, CopyEndpoint::File(path)) => from_file(session, copy, path).await,
        (CopyDirection::To, CopyEndpoint::Stdout) => to_client(session, copy).await,
        (CopyDirection::To, CopyEndpoint::File(path)) => to_file(session, copy, path).await,
        (CopyDirection::To, CopyEndpoint::Topic { target, options }) => {
            let source = source(session, copy)?;
            let rows = copy_to_topic::write(session, &source, target, options).await?;
            done(format!("COPY {rows}"))
        }
        (CopyDirection::From, CopyEndpoint::Stdout | CopyEndpoint::Topic { .. })
        | (CopyDirection::To, CopyEndpoint::Stdin) => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "COPY goes FROM STDIN and TO STDOUT",
        )),
    }
}

/// Decodes what arrives and writes it.
struct Receiver {
    decoder: CopyDecoder,
    table_write: TableWrite,
}

impl Receiver {
    async fn begin(session: &mut Session, copy: &Copy) -> Result<(Self, usize), SqlError> {
        let CopySubject::Table { name, columns } = &copy.subject else {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "COPY FROM needs a table",
            ));
        };
        if copy.filter.is_some() {
            return Err(SqlError::unsupported("COPY FROM ... WHERE"));
        }
        if matches!(copy.options.format, CopyFormat::Parquet | CopyFormat::Json) {
            return Err(SqlError::unsupported("COPY FROM in this format")
                .hint("use INSERT INTO ... SELECT * FROM read_parquet(...) or read_json(...)"));
        }
        let snapshot = session.snapshot();
        let definition = session.state.table(&snapshot, name)?;
        session.state.require(
            &snapshot,
            ObjectRef::new(ObjectKind::Table, definition.id),
            Privilege::Insert,
            "table",
            &definition.name,
        )?;
        session.check_writable("COPY FROM")?;
        let schema_name = snapshot
            .schema_by_id(definition.schema)
            .map(|schema| schema.name.clone())
            .unwrap_or_default();
        let given = target_columns(&definition, columns)?;
        let types: Vec<(String, ColumnType)> = given
            .iter()
            .map(|column| (column.name.clone(), column.column_type.clone()))
            .collect();
        let time_zone = session
            .state
            .setting("timezone")
            .unwrap_or_else(|| "UTC".to_owned());
        let decoder = CopyDecoder::new(&definition.name, &copy.options, &types, &time_zone)?;
        let table_write = TableWrite::begin(session, &schema_name, definition, &given).await?;
        Ok((
            Self {
                decoder,
                table_write,
            },
            given.len(),
        ))
    }

    async fn take(&mut self, chunk: &[u8]) -> Result<(), SqlError> {
        for part in chunk.chunks(CHUNK_BYTES) {
            self.decoder.push(part)?;
            if self.decoder.is_full() {
                let batch = self.decoder.take_batch()?;
                self.table_write.write(&batch).await?;
            }
        }
        Ok(())
    }

    async fn end(mut self, session: &mut Session) -> Result<u64, SqlError> {
        self.decoder.finish()?;
        let batch = self.decoder.take_batch()?;
        self.table_write.write(&batch).await?;
        let skipped = self.decoder.skipped();
        if skipped > 0 {
            session.state.notice(
                "NOTICE",
                SqlState::SUCCESSFUL_COMPLETION,
                format!("{skipped} rows were skipped due to data type incompatibility"),
            );
        }
        self.table_write.finish(session, "WRITE").await
    }
}

#[async_trait]
impl CopyReceiver for Receiver {
    async fn receive(&mut self, chunk: Bytes) -> Result<(), SqlError> {
        self.take(&chunk).await
    }

    async fn finish(self: Box<Self>, session: &mut Session) -> Result<u64, SqlError> {
        self.end(session).await
    }
}

async fn from_client(session: &mut Session, copy: &Copy) -> Result<Outcome, SqlError> {
    let (receiver, column_count) = Receiver::begin(session, copy).await?;
    Ok(Outcome::CopyIn(CopyIn {
        format: copy.options.format,
        column_count,
        receiver: Box::new(receiver),
        alone: false,
    }))
}

async fn from_file(session: &mut Session, copy: &Copy, path: &str) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    session
        .state
        .require_member(&snapshot, "pg_read_server_files", "COPY from a file")?;
    if path.contains("://") {
        return Err(SqlError::unsupported("COPY FROM a URL")
            .hint("use INSERT INTO ... SELECT * FROM read_csv('s3://...')"));
    }
    let (mut receiver, _) = Receiver::begin(session, copy).await?;
    let failed = |error: std::io::Error| {
        let state = match error.kind() {
            std::io::ErrorKind::NotFound => SqlState::UNDEFINED_FILE,
            std::io::ErrorKind::PermissionDenied => SqlState::INSUFFICIENT_PRIVILEGE,
            _ => SqlState::IO_ERROR,
        };
        SqlError::new(
            state,
            format!("could not read file \"{path}\": {}", error.kind()),
        )
        .caused_by(error)
    };
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk).await.map_err(failed)?;
        if read == 0 {
            break;
        }
        receiver.take(&chunk[..read]).await?;
    }
    let rows = receiver.end(session).await?;
    done(format!("COPY {rows}"))
}

/// The query whose rows are copied.
fn source(session: &Session, copy: &Copy) -> Result<Box<ast::Query>, SqlError> {
    let (name, columns) = match &copy.subject {
        CopySubject::Query(query) => return Ok(query.clone()),
        CopySubject::Table { name, columns } => (name, columns),
    };
    if let Some(Found::View(view)) = session.state.find(&session.snapshot(), name) {
        return Err(SqlError::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("cannot copy from view \"{}\"", view.name),
        )
        .hint("Try the COPY (SELECT ...) TO variant."));
    }
    let list = if columns.is_empty() {
        "*".to_owned()
    } else {
        columns
            .iter()
            .map(|column| quote_identifier(column))
            .collect::<Vec<_>>()
            .join(", ")
    };
    Ok(parse_query(&format!("SELECT {list} FROM {name}"))?)
}

async fn to_client(session: &mut Session, copy: &Copy) -> Result<Outcome, SqlError> {
    if matches!(copy.options.format, CopyFormat::Parquet | CopyFormat::Json) {
        return Err(SqlError::unsupported("COPY TO STDOUT in this format")
            .hint("text, csv and binary go to the client; parquet and json to a file"));
    }
    let query = source(session, copy)?;
    let context = session.state.query_context(&session.engine);
    let planned = query::plan_query(&context, &query, &[]).await?;
    let stream = query::execute_query(&context, &planned, &[]).await?;
    Ok(Outcome::CopyOut(CopyOut {
        options: copy.options.clone(),
        fields: Arc::clone(&planned.fields),
        stream,
    }))
}

async fn to_file(session: &mut Session, copy: &Copy, path: &str) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    session
        .state
        .require_member(&snapshot, "pg_write_server_files", "COPY to a file")?;
    let query = source(session, copy)?;
    let context = session.state.query_context(&session.engine);
    let planned = query::plan_query(&context, &query, &[]).await?;
    let rows = planning::write_files(&context, &planned, path, &copy.options).await?;
    done(format!("COPY {rows}"))
}
