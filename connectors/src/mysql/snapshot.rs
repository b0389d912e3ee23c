//! Rows of a table as they are, read in chunks while it changes.
//!
//! A chunk is the next rows in the order of the key. It is read without a lock; what it says of a row is true
//! somewhere between two places of the binlog: all that was read of the binlog before the chunk was begun is in
//! it, nothing after [`Chunk::high`] is. Who reads the binlog up to there leaves out the rows whose keys were
//! met on the way, and has the state at that place (the watermarks of "DBLog: A Watermark Based Change-Data-
//! Capture Framework", 2020, without writes to the source).
//!
//! A table without a key is read whole at one exact place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::util::display::array_value_to_string;
use boathouse_catalog::types::ColumnType;
use futures::{Stream, StreamExt};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};
use tokio::sync::mpsc;

use super::changes::fields_of;
use super::check::{binlog_position, binlog_status};
use super::position::{Gtids, Position, file_number};
use super::schema::{SourceTable, quoted};
use super::server::{Flavor, MySqlServer, SEARCHES, Session};
use super::types::{ColumnBuilder, SourceType, ValueError, ValuePolicies};
use crate::error::{ConnectorError, sqlstate};

/// Rows of one batch.
const BATCH_ROWS: usize = 16_384;

/// How long a server may take to show what its binlog has.
const VISIBLE_WITHIN: Duration = Duration::from_secs(60);

/// How long a session may have nothing to do before it is used again.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// How long one question waits for that.
const VISIBLE_STEP: Duration = Duration::from_millis(500);

/// What a chunk is to have.
#[derive(Debug, Clone)]
pub struct ChunkRequest {
    pub table: Arc<SourceTable>,
    /// The key of the last row read so far, as literals of the source's language.
    pub after: Option<Vec<String>>,
    /// The key of the last row that is wanted, likewise.
    pub until: Option<Vec<String>>,
    /// The rows with these keys alone, each given as literals.
    pub keys: Option<Vec<Vec<String>>>,
    /// The rows alone whose key begins with a value from the first to the second, given as literals.
    pub between: Option<(String, String)>,
    /// Rows at most; 0 for all.
    pub rows: usize,
    /// What has been read of the binlog: the chunk has all of it.
    pub seen: Position,
    pub policies: ValuePolicies,
}

/// Rows of a table.
#[derive(Debug)]
pub struct Chunk {
    pub batches: Vec<RecordBatch>,
    pub rows: u64,
    pub bytes: u64,
    /// What comes next is after this key: that of its last row, or the one it was to be read up to. `None` when nothing
    /// comes next.
    pub next: Option<Vec<String>>,
    /// No change behind this place of the binlog is in it: number of the file, and offset.
    pub high: (u64, u64),
}

/// A session that reads one chunk after another.
pub struct ChunkReader {
    server: MySqlServer,
    session: Session,
    used: Instant,
}

impl ChunkReader {
    /// Whether the server may have given the session up.
    pub fn is_stale(&self) -> bool {
        self.used.elapsed() >= IDLE_MAX
    }

    /// The key of the last row that a chunk will have, so that the one behind it can be read as well. `None` when it
    /// goes on to the end of the table.
    pub async fn last_key(
        &mut self,
        request: &ChunkRequest,
    ) -> Result<Option<Vec<String>>, ConnectorError> {
        let server = &self.server;
        let failed = |error| server.failed("read a table of", error);
        let sql = select_last_key(request);
        let asking = self.session.connection.exec_first::<Row, _, _>(sql, ());
        let asking = async { asking.await.map_err(failed) };
        let Some(row) = server.answered(SEARCHES, asking).await? else {
            return Ok(None);
        };
        let table = &request.table;
        let values = table.key.iter().zip(row.unwrap());
        let literals: Option<Vec<String>> = values
            .map(|(name, value)| literal(&value, &table.column(name)?.source_type))
            .collect();
        literals.ok_or_else(|| no_literal(table)).map(Some)
    }

    /// Reads a chunk.
    pub async fn read(&mut self, request: ChunkRequest) -> Result<Chunk, ConnectorError> {
        let chunk = self.server.read_chunk_on(&mut self.session, request).await;
        self.used = Instant::now();
        chunk
    }
}

/// Where a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactPlace {
    pub place: (u64, u64),
    /// The transactions that it shows, where the place alone does not tell: whoever has read up to the place
    /// and has others has to read the table again.
    pub gtids: Gtids,
}

/// All tables as they were at one place.
pub struct WholeSnapshot {
    server: MySqlServer,
    session: Session,
    pub at: ExactPlace,
}

impl WholeSnapshot {
    /// Reads a table, batch by batch, for as long as `each` wants more.
    pub async fn read(
        &mut self,
        table: &Arc<SourceTable>,
        policies: ValuePolicies,
        mut each: impl FnMut(RecordBatch) -> bool,
    ) -> Result<(), ConnectorError> {
        let request = ChunkRequest {
            table: Arc::clone(table),
            after: None,
            until: None,
            keys: None,
            between: None,
            rows: 0,
            seen: Position::default(),
            policies,
        };
        let sql = select(&request, false);
        let server = self.server.clone();
        let failed = |error| server.failed("read a table of", error);
        let mut filling = Batches::new(&request)?;
        let asking = self.session.connection.exec_stream::<Row, _, _>(sql, ());
        let asking = async { asking.await.map_err(failed) };
        let mut stream = server.answered(SEARCHES, asking).await?;
        while let Some(row) = next_row(&server, &mut stream).await? {
            filling.take(row, false)?;
            if filling.rows == BATCH_ROWS && !each(filling.cut()?) {
                return Ok(());
            }
        }
        if filling.rows > 0 {
            each(filling.cut()?);
        }
        Ok(())
    }

    pub async fn close(self) {
        self.server.leave(self.session).await;
    }
}

/// The key of a row as literals of the source's language. `None` when a value has none.
pub fn key_literals(table: &SourceTable, key: &[ArrayRef], row: usize) -> Option<Vec<String>> {
    let columns = table.key.iter().map(|name| table.column(name));
    let literals = columns.zip(key).map(|(column, values)| {
        let text = array_value_to_string(values, row).ok()?;
        Some(match column?.source_type.column_type() {
            ColumnType::SmallInt
            | ColumnType::Integer
            | ColumnType::BigInt
            | ColumnType::Numeric { .. } => text,
            ColumnType::Boolean => u8::from(text == "true").to_string(),
            ColumnType::Bytea => format!("x'{}'", hex(values.as_binary_opt::<i32>()?.value(row))),
            ColumnType::Date => format!("'{text}'"),
            ColumnType::Timestamp | ColumnType::TimestampTz => {
                format!("'{}'", text.trim_end_matches('Z').replace('T', " "))
            }
            ColumnType::Text | ColumnType::Uuid => {
                let text = format!("_utf8mb4 x'{}'", hex(text.as_bytes()));
                match &column?.source_type {
                    SourceType::Text { charset } if charset.name() != "utf8mb4" => {
                        format!("CONVERT({text} USING {})", charset.name())
                    }
                    _ => text,
                }
            }
            _ => return None,
        })
    });
    literals.collect()
}

/// Whether chunks can be told apart by this type's order.
fn is_ordered(source_type: &SourceType) -> bool {
    !matches!(
        source_type,
        SourceType::Float
            | SourceType::Double
            | SourceType::Bit { .. }
            | SourceType::Enum { .. }
            | SourceType::Set { .. }
            | SourceType::Json
            | SourceType::Geometry
            | SourceType::Vector
    )
}

impl SourceTable {
    /// Whether it can be read in chunks.
    pub fn has_chunks(&self) -> bool {
        let ordered = |name: &String| {
            self.column(name)
                .is_some_and(|column| is_ordered(&column.source_type))
        };
        !self.key.is_empty() && self.key.iter().all(ordered)
    }
}

impl MySqlServer {
    /// Reads the next rows of a table.
    pub async fn read_chunk(&self, request: ChunkRequest) -> Result<Chunk, ConnectorError> {
        let mut session = self.snapshot_session(&request.seen).await?;
        let chunk = self.read_chunk_on(&mut session, request).await;
        self.leave(session).await;
        chunk
    }

    /// A session that reads chunks, for a reader who has read up to `seen`.
    pub async fn chunk_reader(&self, seen: &Position) -> Result<ChunkReader, ConnectorError> {
        Ok(ChunkReader {
            server: self.clone(),
            session: self.snapshot_session(seen).await?,
            used: Instant::now(),
        })
    }

    async fn read_chunk_on(
        &self,
        session: &mut Session,
        request: ChunkRequest,
    ) -> Result<Chunk, ConnectorError> {
        let failed = |error| self.failed("read a table of", error);
        let exact = match session.flavor {
            Flavor::MariaDb => Some(self.exact_snapshot(session, &request.seen, false).await?),
            Flavor::MySql => {
                self.wait_until_visible(session, &request.seen).await?;
                None
            }
        };
        let limited = request.rows > 0 && request.keys.is_none() && request.table.has_chunks();
        // Rows that came since it was found out where it ends make it longer, but not without bounds.
        let rows_max = match &request.until {
            Some(_) => request.rows.saturating_mul(2),
            None => request.rows,
        };
        let request = ChunkRequest {
            rows: rows_max,
            ..request
        };
        let sql = select(&request, limited);
        let (batches, rows, bytes, next) =
            read_rows(self, &mut session.connection, &request, &sql).await?;
        let high = match exact {
            Some(exact) => {
                let asking = session.connection.query_drop("COMMIT");
                let asking = async { asking.await.map_err(failed) };
                self.answered(1, asking).await?;
                exact.place
            }
            None => self.written_at(session).await?,
        };
        let full = limited && rows >= request.rows as u64;
        if full && next.is_none() {
            return Err(no_literal(&request.table));
        }
        Ok(Chunk {
            batches,
            rows,
            bytes,
            next: match full {
                true => next,
                false => request.until,
            },
            high,
        })
    }

    /// Reads a whole table as it is at one place, not before `seen`. Where that is comes first, then the rows.
    pub async fn read_whole(
        &self,
        request: ChunkRequest,
        rows: mpsc::Sender<Result<RecordBatch, ConnectorError>>,
    ) -> Result<ExactPlace, ConnectorError> {
        let mut session = self.snapshot_session(&request.seen).await?;
        let place = self
            .exact_snapshot(&mut session, &request.seen, true)
            .await?;
        let server = self.clone();
        tokio::spawn(async move {
            let sql = select(&request, false);
            let read = stream_rows(&server, &mut session.connection, &request, &sql, &rows).await;
            if let Err(error) = read {
                let _ = rows.send(Err(error)).await;
            }
            server.leave(session).await;
        });
        Ok(place)
    }

    /// Opens a snapshot of all tables at one place, not before `seen`.
    pub async fn open_snapshot(&self, seen: &Position) -> Result<WholeSnapshot, ConnectorError> {
        let mut session = self.snapshot_session(seen).await?;
        let at = self.exact_snapshot(&mut session, seen, true).await?;
        Ok(WholeSnapshot {
            server: self.clone(),
            session,
            at,
        })
    }

    /// A session whose texts come as they are stored, and whose times are of UTC.
    async fn snapshot_session(&self, seen: &Position) -> Result<Session, ConnectorError> {
        let mut session = self.connect().await?;
        self.answered(1, self.prepare_to_read(&mut session, seen))
            .await?;
        Ok(session)
    }

    async fn prepare_to_read(
        &self,
        session: &mut Session,
        seen: &Position,
    ) -> Result<(), ConnectorError> {
        let server = self
            .identity_of(&mut session.connection, session.flavor)
            .await?;
        if !seen.server.is_empty() && server != seen.server {
            return Err(self.another_server(&seen.server, &server));
        }
        let failed = |error| self.failed("prepare to read", error);
        for setting in [
            "SET NAMES utf8mb4",
            "SET character_set_results = NULL",
            "SET time_zone = '+00:00'",
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET SESSION net_write_timeout = 3600",
            // Keys of fixed width are not padded, as they are not in the binlog.
            "SET sql_mode = ''",
            "SET sql_select_limit = DEFAULT",
            match session.flavor {
                Flavor::MySql => "SET max_execution_time = 0",
                Flavor::MariaDb => "SET max_statement_time = 0",
            },
        ] {
            session
                .connection
                .query_drop(setting)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until what was read of the binlog can be seen in tables: a server sends it to replicas a moment
    /// before.
    async fn wait_until_visible(
        &self,
        session: &mut Session,
        seen: &Position,
    ) -> Result<(), ConnectorError> {
        let failed = |error| self.failed("read a table of", error);
        let Gtids::MySql(_) = &seen.gtids else {
            // Without names for transactions there is nothing to wait for but the time it takes.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Ok(());
        };
        let wait = format!(
            "SELECT WAIT_FOR_EXECUTED_GTID_SET('{}', {})",
            seen.gtids,
            VISIBLE_STEP.as_secs_f64()
        );
        let begun = Instant::now();
        while begun.elapsed() < VISIBLE_WITHIN {
            let asking = session.connection.query_first(&wait);
            let asking = async { asking.await.map_err(failed) };
            let timed_out: Option<i64> = self.answered(1, asking).await?;
            if timed_out == Some(0) {
                return Ok(());
            }
        }
        Err(ConnectorError::new(
            sqlstate::CONNECTION_FAILURE,
            format!("{} has sent changes that it does not show", self.place()),
        )
        .retryable())
    }

    /// Where the binlog is written at.
    async fn written_at(&self, session: &mut Session) -> Result<(u64, u64), ConnectorError> {
        let asking = async {
            binlog_position(&mut session.connection, session.flavor)
                .await
                .map_err(|error| self.failed("ask the binlog position of", error))
        };
        let place = self.answered(1, asking).await?;
        place
            .map(|(file, offset)| (file_number(&file), offset))
            .ok_or_else(no_binlog)
    }

    /// Opens a snapshot of all tables and tells its exact place, which is not before `seen`. The transactions that it shows are told
    /// if they are wanted `with_gtids`.
    async fn exact_snapshot(
        &self,
        session: &mut Session,
        seen: &Position,
        with_gtids: bool,
    ) -> Result<ExactPlace, ConnectorError> {
        let begun = Instant::now();
        while begun.elapsed() < VISIBLE_WITHIN {
            if session.flavor == Flavor::MySql {
                self.wait_until_visible(session, seen).await?;
            }
            let opening = self.try_exact_snapshot(session, seen, with_gtids);
            if let Some(exact) = self.answered(1, opening).await? {
                return Ok(exact);
            }
        }
        Err(ConnectorError::new(
            sqlstate::CONNECTION_FAILURE,
            format!(
                "{} is too busy to say where a snapshot of it is",
                self.place()
            ),
        )
        .retryable())
    }

    /// The same, unless its place cannot be told this time.
    async fn try_exact_snapshot(
        &self,
        session: &mut Session,
        seen: &Position,
        with_gtids: bool,
    ) -> Result<Option<ExactPlace>, ConnectorError> {
        let failed = |error| self.failed("open a snapshot of", error);
        let place = match session.flavor {
            Flavor::MariaDb => {
                session
                    .connection
                    .query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                    .await
                    .map_err(failed)?;
                let status: Vec<(String, String)> = session
                    .connection
                    .query("SHOW STATUS LIKE 'binlog\\_snapshot\\_%'")
                    .await
                    .map_err(failed)?;
                let value = |name: &str| {
                    let mut status = status.iter();
                    let found = status.find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.clone())
                };
                let file = value("Binlog_snapshot_file").ok_or_else(no_binlog)?;
                let offset = value("Binlog_snapshot_position").unwrap_or_default();
                let offset: u64 = offset.parse().map_err(|_| no_binlog())?;
                let place = (file_number(&file), offset);
                let mut gtids: Option<Option<String>> = None;
                // The server reads its file from the beginning for this.
                if with_gtids || place < seen.place() {
                    gtids = session
                        .connection
                        .exec_first("SELECT BINLOG_GTID_POS(?, ?)", (&file, offset))
                        .await
                        .map_err(failed)?;
                }
                let gtids = gtids.flatten().unwrap_or_default();
                Some(ExactPlace {
                    place,
                    gtids: Gtids::try_from(gtids).unwrap_or_default(),
                })
            }
            Flavor::MySql => {
                let before = self.executed(&mut session.connection).await?;
                session
                    .connection
                    .query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                    .await
                    .map_err(failed)?;
                let after = self.executed(&mut session.connection).await?;
                // Nothing was committed meanwhile. What is written and not yet committed is found out by
                // who reads up to the place and has other transactions then.
                let gtids = Gtids::try_from(after.0.clone()).unwrap_or_default();
                (before == after).then_some(ExactPlace {
                    place: after.1,
                    gtids,
                })
            }
        };
        // The place is the end of a transaction; what has been read may go on to events behind it.
        let is_behind = |exact: &ExactPlace| {
            exact.place >= seen.place()
                || (!seen.gtids.is_none() && exact.gtids.covers(&seen.gtids))
        };
        let place = place.filter(is_behind);
        if place.is_none() {
            session
                .connection
                .query_drop("ROLLBACK")
                .await
                .map_err(failed)?;
        }
        Ok(place)
    }

    /// What has been committed, and where the binlog is written at.
    async fn executed(
        &self,
        connection: &mut Conn,
    ) -> Result<(String, (u64, u64)), ConnectorError> {
        let failed = |error| self.failed("ask the binlog position of", error);
        let status = binlog_status(connection).await.map_err(failed)?;
        let mut status = status.ok_or_else(no_binlog)?;
        let file: String = status.take(0).ok_or_else(no_binlog)?;
        let offset: u64 = status.take(1).ok_or_else(no_binlog)?;
        let gtids: Option<String> = status.take(4);
        Ok((gtids.unwrap_or_default(), (file_number(&file), offset)))
    }
}

fn no_binlog() -> ConnectorError {
    ConnectorError::new(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "the server writes no binlog",
    )
}

fn no_literal(table: &SourceTable) -> ConnectorError {
    ConnectorError::new(
        sqlstate::BAD_FILE_FORMAT,
        format!(
            "the key of a row of {} cannot be written as a literal",
            table.name
        ),
    )
}

/// The statement that tells the last key of a chunk.
fn select_last_key(request: &ChunkRequest) -> String {
    let keys: Vec<String> = request.table.key.iter().map(|name| quoted(name)).collect();
    let keys = keys.join(", ");
    let table = request.table.name.quoted();
    let mut sql = format!("SELECT {keys} FROM {table}");
    push_conditions(&mut sql, request);
    let before = request.rows.saturating_sub(1);
    sql.push_str(&format!(" ORDER BY {keys} LIMIT {before}, 1"));
    sql
}

/// The statement that reads a chunk.
fn select(request: &ChunkRequest, limited: bool) -> String {
    let table = &request.table;
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| quoted(&column.name))
        .collect();
    let mut sql = format!("SELECT {} FROM {}", columns.join(", "), table.name.quoted());
    push_conditions(&mut sql, request);
    if limited {
        let keys: Vec<String> = table.key.iter().map(|name| quoted(name)).collect();
        sql.push_str(&format!(
            " ORDER BY {} LIMIT {}",
            keys.join(", "),
            request.rows
        ));
    }
    sql
}

/// Adds which rows of the table are of the chunk.
fn push_conditions(sql: &mut String, request: &ChunkRequest) {
    let keys: Vec<String> = request.table.key.iter().map(|name| quoted(name)).collect();
    let mut conditions = Vec::new();
    if let (Some((low, high)), Some(first_key)) = (&request.between, keys.first()) {
        conditions.push(format!("{first_key} BETWEEN {low} AND {high}"));
    }
    if let Some(after) = &request.after {
        conditions.extend(on_one_side(&keys, after, [">", ">", ">="]));
    }
    if let Some(until) = &request.until {
        conditions.extend(on_one_side(&keys, until, ["<", "<=", "<="]));
    }
    if let Some(asked) = &request.keys {
        let asked: Vec<String> = asked
            .iter()
            .map(|key| format!("({})", key.join(", ")))
            .collect();
        conditions.push(format!("({}) IN ({})", keys.join(", "), asked.join(", ")));
    }
    if !conditions.is_empty() {
        sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
    }
}

/// Conditions that keys lie on one side of a key, by how a value compares that decides, the last one, and the first one
/// whatever follows: of a key of several columns the first alone bounds the range that is read.
fn on_one_side(keys: &[String], of: &[String], [decides, last, bounds]: [&str; 3]) -> Vec<String> {
    let (Some(first_key), Some(first)) = (keys.first(), of.first()) else {
        return Vec::new();
    };
    let count = keys.len().min(of.len());
    let alternatives = (0..count).map(|place| {
        let equal = (0..place).map(|index| format!("{} = {}", keys[index], of[index]));
        let compares = if place + 1 == count { last } else { decides };
        let here = format!("{} {compares} {}", keys[place], of[place]);
        let terms: Vec<String> = equal.chain([here]).collect();
        format!("({})", terms.join(" AND "))
    });
    let alternatives: Vec<String> = alternatives.collect();
    vec![
        format!("{first_key} {bounds} {first}"),
        format!("({})", alternatives.join(" OR ")),
    ]
}

/// A value as a literal of the source's language, to be compared with its column.
fn literal(value: &Value, source_type: &SourceType) -> Option<String> {
    Some(match value {
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Bytes(bytes) => match source_type {
            SourceType::Decimal { .. } => String::from_utf8(bytes.clone()).ok()?,
            SourceType::Text { charset } => format!("_{} x'{}'", charset.name(), hex(bytes)),
            SourceType::Bytes { .. } => format!("x'{}'", hex(bytes)),
            // Types of MariaDB that are compared as what they look like.
            _ => format!(
                "'{}'",
                String::from_utf8(bytes.clone()).ok()?.replace('\'', "")
            ),
        },
        Value::Date(year, month, day, hour, minute, second, micros) => {
            format!("'{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}'")
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => format!(
            "'{}{}:{minutes:02}:{seconds:02}.{micros:06}'",
            if *negative { "-" } else { "" },
            days * 24 + u32::from(*hours)
        ),
        Value::NULL | Value::Float(_) | Value::Double(_) => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Columns being filled with rows.
struct Batches {
    request: ChunkRequest,
    builders: Vec<ColumnBuilder>,
    key: Vec<usize>,
    rows: usize,
}

impl Batches {
    fn new(request: &ChunkRequest) -> Result<Self, ConnectorError> {
        let columns = request.table.columns.iter();
        let builders = columns
            .map(|column| ColumnBuilder::new(&column.source_type, None, request.policies))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            request: request.clone(),
            builders,
            key: request.table.key_places(),
            rows: 0,
        })
    }

    /// Takes a row. Gives the values of its key.
    fn take(&mut self, row: Row, with_key: bool) -> Result<Option<Vec<String>>, ConnectorError> {
        let table = &self.request.table;
        let values = row.unwrap();
        let mut key = None;
        if with_key {
            let literals = self.key.iter().map(|place| {
                let source_type = &table.columns.get(*place)?.source_type;
                literal(values.get(*place)?, source_type)
            });
            key = literals.collect::<Option<Vec<_>>>();
        }
        for ((value, builder), column) in values
            .into_iter()
            .zip(&mut self.builders)
            .zip(&table.columns)
        {
            let appended = builder.append_value(value);
            appended.map_err(|error| wrong(table, &column.name, &error))?;
        }
        self.rows += 1;
        Ok(key)
    }

    fn cut(&mut self) -> Result<RecordBatch, ConnectorError> {
        self.rows = 0;
        let table = &self.request.table;
        let builders = self.builders.iter_mut().zip(&table.columns);
        let columns = builders.map(|(builder, column)| {
            let values = builder.finish();
            values.map_err(|error| wrong(table, &column.name, &error))
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        RecordBatch::try_new(fields_of(table), columns).map_err(|error| {
            ConnectorError::new(sqlstate::INTERNAL_ERROR, "columns of unequal length")
                .caused_by(error)
        })
    }
}

fn wrong(table: &SourceTable, column: &str, error: &ValueError) -> ConnectorError {
    ConnectorError::new(
        sqlstate::BAD_FILE_FORMAT,
        format!("column \"{column}\" of {}: {error}", table.name),
    )
}

/// The next row of an answer. How long whoever reads takes between two rows does not count.
async fn next_row(
    server: &MySqlServer,
    rows: &mut (impl Stream<Item = Result<Row, mysql_async::Error>> + Unpin),
) -> Result<Option<Row>, ConnectorError> {
    let reading = async {
        let row = rows.next().await.transpose();
        row.map_err(|error| server.failed("read a table of", error))
    };
    server.answered(SEARCHES, reading).await
}

type Rows = (Vec<RecordBatch>, u64, u64, Option<Vec<String>>);

async fn read_rows(
    server: &MySqlServer,
    connection: &mut Conn,
    request: &ChunkRequest,
    sql: &str,
) -> Result<Rows, ConnectorError> {
    let failed = |error| server.failed("read a table of", error);
    let mut filling = Batches::new(request)?;
    let mut batches = Vec::new();
    let mut last = None;
    let mut rows = 0u64;
    let limit = request.rows as u64;
    let asking = connection.exec_stream::<Row, _, _>(sql, ());
    let asking = async { asking.await.map_err(failed) };
    let mut stream = server.answered(SEARCHES, asking).await?;
    while let Some(row) = next_row(server, &mut stream).await? {
        rows += 1;
        // Only the last row's key is asked for, and it is known which that is.
        let key = filling.take(row, rows == limit)?;
        if key.is_some() {
            last = key;
        }
        if filling.rows == BATCH_ROWS {
            batches.push(filling.cut()?);
        }
    }
    if filling.rows > 0 {
        batches.push(filling.cut()?);
    }
    let bytes = batches
        .iter()
        .map(|batch| batch.get_array_memory_size() as u64)
        .sum();
    Ok((batches, rows, bytes, last))
}

async fn stream_rows(
    server: &MySqlServer,
    connection: &mut Conn,
    request: &ChunkRequest,
    sql: &str,
    rows: &mpsc::Sender<Result<RecordBatch, ConnectorError>>,
) -> Result<(), ConnectorError> {
    let failed = |error| server.failed("read a table of", error);
    let mut filling = Batches::new(request)?;
    let asking = connection.exec_stream::<Row, _, _>(sql, ());
    let asking = async { asking.await.map_err(failed) };
    let mut stream = server.answered(SEARCHES, asking).await?;
    while let Some(row) = next_row(server, &mut stream).await? {
        filling.take(row, false)?;
        if filling.rows == BATCH_ROWS && rows.send(Ok(filling.cut()?)).await.is_err() {
            return Ok(());
        }
    }
    if filling.rows > 0 {
        let _ = rows.send(Ok(filling.cut()?)).await;
    }
    Ok(())
}
