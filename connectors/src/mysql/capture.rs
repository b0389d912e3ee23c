//! The changes of the tables that are wanted, transaction by transaction.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use mysql_async::binlog::events::Event as RawEvent;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::binlog::{Binlog, Event, TableMap, TransactionId, table_map};
use super::changes::{ChangeDecoder, ChangedRows, RowCommit, RowDetail};
use super::check::{binlog_position, binlog_status};
use super::column_groups::Images;
use super::ddl::{self, SchemaChange};
use super::position::{Gtids, Position, file_number};
use super::schema::{SourceColumn, SourceTable, TableName};
use super::server::{Flavor, MySqlServer, SEARCHES, Session};
use super::types::ValuePolicies;
use crate::error::{ConnectorError, sqlstate};

/// Table maps kept; a server gives a table a new number whenever it opens it anew.
const MAPS_MAX: usize = 4096;

/// How often a server is asked what its binlog has while it writes.
const QUIET_TRIES: usize = 5;

/// A server as it is now.
#[derive(Debug, Clone)]
pub struct SourceState {
    /// Where its binlog is written at.
    pub position: Position,
    /// The binlog files it still has, by name and size.
    pub files: Vec<(String, u64)>,
    /// Transactions whose binlog it no longer has.
    pub purged: Gtids,
    pub is_mariadb: bool,
}

/// Whether reading can go on from a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuity {
    /// The server is the one it was read from and still has the place.
    ByPlace,
    /// Another server has the same transactions and all that followed.
    ByGtid,
    /// Changes are missing that cannot be had any more, for this reason.
    Lost(String),
}

impl SourceState {
    /// Whether the changes behind a position can all be had.
    pub fn continues(&self, from: &Position) -> Continuity {
        let named = !from.gtids.is_none() && !self.position.gtids.is_none();
        let far = from.offset > u64::from(u32::MAX);
        if named && !self.position.gtids.covers(&from.gtids) {
            return Continuity::Lost(format!(
                "the server lacks transactions that were read: it has {}, and {} were read; it was reset, or restored from an older backup, or is a replica that had not received them",
                self.position.gtids, from.gtids
            ));
        }
        if !from.gtids.is_none() && self.position.gtids.is_none() {
            return Continuity::Lost(
                "the server names no transactions any more: it was reset, or GTIDs were switched off"
                    .into(),
            );
        }
        let file = self.files.iter().find(|(name, _)| *name == from.file);
        if self.position.server == from.server {
            match file {
                // A place that a replica cannot ask for.
                Some(_) if far && named => {}
                Some((_, size)) if *size >= from.offset => return Continuity::ByPlace,
                Some((_, size)) if named => {
                    return Continuity::Lost(format!(
                        "the server's {} has {size} bytes, and was read up to {}: it lost what it had written",
                        from.file, from.offset
                    ));
                }
                Some((_, size)) if !named => {
                    return Continuity::Lost(format!(
                        "the server's {} has {size} bytes, and was read up to {}: it was reset",
                        from.file, from.offset
                    ));
                }
                None if !named => {
                    return Continuity::Lost(format!(
                        "the server no longer has {}: its binlog was purged before it was read",
                        from.file
                    ));
                }
                _ => {}
            }
        } else if !named {
            return Continuity::Lost(format!(
                "it is another server ({} was {}), and without GTIDs no place of one is a place of the other",
                self.position.server, from.server
            ));
        }
        // Without its files of before, a server can only say which transactions it has purged.
        let purged = match &self.purged {
            Gtids::None if self.is_mariadb && self.first_file_number() > 1 && file.is_none() => {
                // MariaDB tells when it is asked for what it lacks.
                return Continuity::ByGtid;
            }
            purged => purged,
        };
        if from.gtids.covers(purged) {
            Continuity::ByGtid
        } else {
            Continuity::Lost(format!(
                "the binlog of transactions that were not read has been purged: {purged} are gone, {} were read",
                from.gtids
            ))
        }
    }

    fn first_file_number(&self) -> u64 {
        self.files.first().map_or(0, |(name, _)| file_number(name))
    }
}

/// What became of the wish to read on from a position.
pub enum Opened {
    Stream(Box<ChangeStream>),
    /// Changes are missing that cannot be had any more, for this reason.
    Lost(String),
}

/// What came next.
#[derive(Debug)]
pub enum Step {
    /// Rows of a table changed; they are held for [`ChangeStream::take`].
    Rows { table: TableName, rows: usize },
    /// Rows come of a table that is wanted and not captured, or is another than it is known as. The table has
    /// to be captured anew, or given up, before the next step.
    Differs {
        table: TableName,
        columns: Vec<SourceColumn>,
        key: Vec<String>,
    },
    /// A statement changes tables. It is a transaction of its own, which has not been counted in yet: the
    /// position is the one before it until the next step.
    Schema(Vec<SchemaChange>),
    /// A transaction is at its end: what has been held is whole.
    Committed,
    /// A transaction takes effect whose changes were read in an earlier run and are not known any more: what
    /// these tables have from now on has to be read anew.
    Unproved(Vec<TableName>),
    /// Nothing has come for a while.
    Idle,
}

/// Reads changes in their order.
pub struct ChangeStream {
    binlog: Binlog,
    server: MySqlServer,
    position: Position,
    wanted: Arc<dyn Fn(&TableName) -> bool + Send + Sync>,
    policies: ValuePolicies,
    detail: RowDetail,
    tables: HashMap<TableName, Arc<SourceTable>>,
    decoders: HashMap<TableName, ChangeDecoder>,
    /// Maps by the numbers of tables, with the bytes they were read from.
    maps: HashMap<u64, (Vec<u8>, Arc<TableMap>)>,
    transaction: Option<Open>,
    /// A transaction to be counted in before the next step.
    ending: Option<Open>,
    /// The transaction in two phases whose events are being read, and these.
    two_phases: Option<(String, Vec<(Event, RawEvent)>)>,
    /// Events of transactions that have ended their first phase.
    prepared: HashMap<String, Vec<(Event, RawEvent)>>,
    /// Events of a transaction that takes effect now, which ends behind them.
    queue: VecDeque<(Event, RawEvent)>,
    is_replaying: bool,
    /// Tables that the transaction names, and whether rows of them have come. MariaDB names the tables that a
    /// foreign key changes, and does not say how.
    mapped: HashMap<TableName, bool>,
    /// Tables of whose rows the transaction does not tell all values.
    lacking: BTreeSet<TableName>,
    /// An event that waits until its table is captured.
    held: Option<(Event, RawEvent)>,
    /// A table whose rows are passed over.
    ignored: Option<TableName>,
    /// Tables whose rows are passed over up to a place.
    passed_over: HashMap<TableName, (u64, u64)>,
    /// Tables whose rows may not be given the defaults that are known of them.
    doubted: HashSet<TableName>,
    /// Tables that are described as they are at a place further on.
    foreseen: HashMap<TableName, (u64, u64)>,
    /// It is places that are looked for: what transactions change is passed over.
    looks_for_places: bool,
    /// From where on a place stands for all that was read. Before it, a server that was asked by GTID passes over
    /// what was read before, and whoever asks it for a place there is given that again.
    placed_from: (u64, u64),
    bytes_read: u64,
}

#[derive(Debug, Clone)]
struct Open {
    id: TransactionId,
    committed_at: i64,
    /// No COMMIT follows: the statement is all there is.
    standalone: bool,
    /// BEGIN was met, so that a COMMIT follows.
    begun: bool,
    has_rows: bool,
    /// What its rows say of it, once there are any, and how many came.
    commit: Option<Arc<RowCommit>>,
    rows: i64,
}

impl Open {
    fn anonymous(begun: bool) -> Self {
        Self {
            id: TransactionId::Anonymous,
            committed_at: 0,
            standalone: false,
            begun,
            has_rows: false,
            commit: None,
            rows: 0,
        }
    }
}

/// Where the binlog of a MariaDB server is written at, and the transactions that are in it.
async fn written_gtids(
    connection: &mut Conn,
) -> Result<Option<(String, u64, String)>, mysql_async::Error> {
    for _ in 0..QUIET_TRIES {
        let mut answers = connection
            .query_iter("SHOW BINLOG STATUS; SELECT @@GLOBAL.gtid_binlog_pos; SHOW BINLOG STATUS")
            .await?;
        let before: Vec<Row> = answers.collect().await?;
        let gtids: Vec<Option<String>> = answers.collect().await?;
        let after: Vec<Row> = answers.collect().await?;
        let place = |rows: Vec<Row>| {
            let mut row = rows.into_iter().next()?;
            Some((row.take(0)?, row.take(1)?))
        };
        let (before, after): (Option<(String, u64)>, _) = (place(before), place(after));
        let Some((file, offset)) = after else {
            return Ok(None);
        };
        // A transaction is counted in while the binlog is locked, and where that is written at is told behind the lock.
        if before.is_some_and(|before| before == (file.clone(), offset)) {
            let gtids = gtids.into_iter().next().flatten();
            return Ok(Some((file, offset, gtids.unwrap_or_default())));
        }
    }
    // The server reads the file from its beginning for this, which may be a gigabyte.
    let Some((file, offset)) = binlog_position(connection, Flavor::MariaDb).await? else {
        return Ok(None);
    };
    let gtids: Option<Option<String>> = connection
        .exec_first("SELECT BINLOG_GTID_POS(?, ?)", (&file, offset))
        .await?;
    Ok(Some((file, offset, gtids.flatten().unwrap_or_default())))
}

impl MySqlServer {
    /// What the server is, and where its binlog stands.
    pub async fn source_state(&self) -> Result<SourceState, ConnectorError> {
        let mut session = self.connect().await?;
        let state = self.answered(1, self.source_state_on(&mut session)).await;
        self.leave(session).await;
        state
    }

    async fn source_state_on(&self, session: &mut Session) -> Result<SourceState, ConnectorError> {
        let flavor = session.flavor;
        let connection = &mut session.connection;
        let ask = |error| self.failed("ask the binlog position of", error);
        let server = self.identity_of(connection, flavor).await?;
        let (file, offset, executed, purged) = match flavor {
            Flavor::MySql => {
                let status = binlog_status(connection).await.map_err(ask)?;
                let mut status = status.ok_or_else(no_binlog)?;
                let file: String = status.take(0).ok_or_else(no_binlog)?;
                let offset: u64 = status.take(1).ok_or_else(no_binlog)?;
                let executed: String = status.take(4).unwrap_or_default();
                let purged: Option<String> = connection
                    .query_first("SELECT @@GLOBAL.gtid_purged")
                    .await
                    .map_err(ask)?;
                (file, offset, executed, purged.unwrap_or_default())
            }
            Flavor::MariaDb => {
                let (file, offset, written) = written_gtids(connection)
                    .await
                    .map_err(ask)?
                    .ok_or_else(no_binlog)?;
                (file, offset, written, String::new())
            }
        };
        let files: Vec<Row> = connection.query("SHOW BINARY LOGS").await.map_err(ask)?;
        let files = files
            .into_iter()
            .filter_map(|mut row| Some((row.take(0)?, row.take(1)?)))
            .collect();
        let gtids = |text: String| {
            Gtids::try_from(text.replace(['\n', ' '], ""))
                .map_err(|reason| ConnectorError::new(sqlstate::CONNECTION_FAILURE, reason))
        };
        Ok(SourceState {
            position: Position {
                server,
                file,
                offset,
                file_began: 0,
                gtids: gtids(executed)?,
                committed_at: 0,
                prepared: Default::default(),
            },
            files,
            purged: gtids(purged)?,
            is_mariadb: flavor == Flavor::MariaDb,
        })
    }

    /// MySQL's servers have a name of their own; of MariaDB's only the number among its replicas is known.
    pub(crate) async fn identity_of(
        &self,
        connection: &mut Conn,
        flavor: Flavor,
    ) -> Result<String, ConnectorError> {
        let question = match flavor {
            Flavor::MySql => "SELECT @@GLOBAL.server_uuid",
            Flavor::MariaDb => "SELECT CONCAT('server ', @@GLOBAL.server_id)",
        };
        let answer: Option<String> = connection
            .query_first(question)
            .await
            .map_err(|error| self.failed("ask who it is of", error))?;
        Ok(answer.unwrap_or_default())
    }

    /// Tables whose rows foreign keys change without the binlog's knowing.
    pub async fn unlogged_cascades(&self) -> Result<Vec<TableName>, ConnectorError> {
        let mut session = self.connect().await?;
        let asking = self.unlogged_cascades_on(&mut session);
        let children = self.answered(SEARCHES, asking).await;
        self.leave(session).await;
        children
    }

    async fn unlogged_cascades_on(
        &self,
        session: &mut Session,
    ) -> Result<Vec<TableName>, ConnectorError> {
        let failed = |error| self.failed("ask the foreign keys of", error);
        // MariaDB names the tables where it happens; newer MySQL servers log the rows.
        let logs = match session.flavor {
            Flavor::MariaDb => true,
            Flavor::MySql => {
                let found: Option<(String, String)> = session
                    .connection
                    .query_first("SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'")
                    .await
                    .map_err(failed)?;
                found.is_some_and(|(_, value)| value.eq_ignore_ascii_case("off"))
            }
        };
        let mut children = Vec::new();
        if !logs {
            let rows: Vec<(String, String)> = session
                .connection
                .query(
                    "SELECT DISTINCT CONSTRAINT_SCHEMA, TABLE_NAME FROM \
                     information_schema.REFERENTIAL_CONSTRAINTS WHERE DELETE_RULE IN \
                     ('CASCADE', 'SET NULL') OR UPDATE_RULE IN ('CASCADE', 'SET NULL')",
                )
                .await
                .map_err(failed)?;
            children.extend(
                rows.into_iter()
                    .map(|(database, table)| TableName::new(database, table)),
            );
        }
        Ok(children)
    }

    /// The tables that are wanted, as they are now.
    pub async fn source_tables(
        &self,
        wanted: impl Fn(&TableName) -> bool,
    ) -> Result<Vec<SourceTable>, ConnectorError> {
        let mut session = self.connect().await?;
        let asking = self.tables(&mut session, wanted);
        let tables = self.answered(SEARCHES, asking).await;
        self.leave(session).await;
        tables
    }

    /// Reads the changes behind a position, of tables that are `wanted` and captured: from its place, or by GTID
    /// at a server that has the transactions of the position by this place of its own.
    pub async fn read_changes(
        &self,
        from: Position,
        by_gtid: Option<(u64, u64)>,
        server_id: u32,
        wanted: Arc<dyn Fn(&TableName) -> bool + Send + Sync>,
        (policies, detail): (ValuePolicies, RowDetail),
    ) -> Result<Opened, ConnectorError> {
        let binlog = self.binlog(&from, by_gtid.is_some(), server_id).await?;
        let mut position = from;
        if by_gtid.is_some() {
            // The place is of the server that is read from now.
            position.server.clone_from(&binlog.identity);
            position.file.clear();
            position.offset = 0;
            position.file_began = 0;
        }
        let mut stream = ChangeStream {
            binlog,
            server: self.clone(),
            position,
            wanted,
            policies,
            detail,
            tables: HashMap::new(),
            decoders: HashMap::new(),
            maps: HashMap::new(),
            transaction: None,
            ending: None,
            two_phases: None,
            prepared: HashMap::new(),
            queue: VecDeque::new(),
            is_replaying: false,
            mapped: HashMap::new(),
            lacking: BTreeSet::new(),
            held: None,
            ignored: None,
            passed_over: HashMap::new(),
            doubted: HashSet::new(),
            foreseen: HashMap::new(),
            looks_for_places: false,
            placed_from: by_gtid.unwrap_or_default(),
            bytes_read: 0,
        };
        Ok(match stream.begin().await? {
            None => Opened::Stream(Box::new(stream)),
            Some(reason) => Opened::Lost(reason),
        })
    }
}

impl ChangeStream {
    /// Reads up to where the file is described that reading begins in. Gives the reason when the server cannot
    /// go on from the position after all: it says so itself, or the file is another one of the same name.
    async fn begin(&mut self) -> Result<Option<String>, ConnectorError> {
        let began = self.position.file_began;
        loop {
            let received = match self.binlog.next().await {
                Ok(received) => received,
                Err(error) => return refusal(&error).map(Some).ok_or(error),
            };
            self.step(received.event.clone(), received.raw)?;
            if let Event::Format { created } = received.event {
                let is_another = began != 0 && created != 0 && began != created;
                return Ok(is_another.then(|| {
                    format!(
                        "the server's {} is another file than the one of that name that was read: it was reset, or restored from a backup",
                        self.binlog.file
                    )
                }));
            }
        }
    }

    /// Where the newest transaction ends that has been given out whole.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Where the event read last ends: of a statement, where the next transaction begins.
    pub fn next_place(&self) -> (u64, u64) {
        (file_number(&self.binlog.file), self.binlog.offset)
    }

    /// Bytes of events read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Counts transactions in that were found to be done by the time the position was reached.
    pub fn add_gtids(&mut self, done: &Gtids) {
        self.position.gtids.merge(done);
    }

    /// Captures a table from the next step on.
    pub fn capture(&mut self, table: Arc<SourceTable>) {
        self.tables.insert(table.name.clone(), table);
    }

    /// Gives a table up.
    pub fn forget(&mut self, table: &TableName) {
        self.tables.remove(table);
        self.decoders.remove(table);
    }

    /// Passes over the rows of a table.
    pub fn ignore(&mut self, table: Option<TableName>) {
        self.ignored = table;
    }

    /// Passes over the rows of a table up to a place: they are read otherwise.
    pub fn pass_over(&mut self, table: TableName, place: (u64, u64)) {
        self.passed_over.insert(table, place);
    }

    /// Tells that a table is described as it is at a place further on: up to there its rows may have another key.
    pub fn foresee(&mut self, table: TableName, place: (u64, u64)) {
        self.foreseen.insert(table, place);
    }

    /// Passes over all that transactions change, from now on.
    pub(crate) fn look_for_places(&mut self) {
        self.looks_for_places = true;
    }

    /// Trusts the defaults that a table is described with, or not: a statement may have changed them that is not
    /// carried out yet.
    pub fn trust_defaults(&mut self, table: &TableName, trusted: bool) {
        match trusted {
            true => self.doubted.remove(table),
            false => self.doubted.insert(table.clone()),
        };
    }

    pub fn captured(&self, table: &TableName) -> Option<&Arc<SourceTable>> {
        self.tables.get(table)
    }

    /// Rows that are held.
    pub fn rows_held(&self) -> usize {
        self.decoders.values().map(ChangeDecoder::rows).sum()
    }

    /// Bytes that the held rows take, about.
    pub fn bytes_held(&self) -> usize {
        self.decoders.values().map(ChangeDecoder::bytes).sum()
    }

    /// Whether a transaction is half read.
    pub fn is_within_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Gives out what is held, by table.
    pub fn take(&mut self) -> Result<Vec<(TableName, Vec<ChangedRows>)>, ConnectorError> {
        let mut taken = Vec::new();
        for (name, decoder) in &mut self.decoders {
            let rows = decoder.finish()?;
            if !rows.is_empty() {
                taken.push((name.clone(), rows));
            }
        }
        taken.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(taken)
    }

    /// Reads on. May be dropped while it waits, and called again.
    pub async fn next(&mut self) -> Result<Step, ConnectorError> {
        if let Some(ended) = self.ending.take() {
            self.count_in(&ended);
            return Ok(Step::Committed);
        }
        loop {
            let next = match self.held.take() {
                Some(held) => Some(held),
                None => self.queue.pop_front(),
            };
            if next.is_none() && std::mem::take(&mut self.is_replaying) {
                if let Some(step) = self.commit()? {
                    return Ok(step);
                }
                continue;
            }
            let (event, raw) = match next {
                Some(next) => next,
                None => {
                    let received = self.binlog.next().await?;
                    self.bytes_read += u64::from(received.raw.header().event_size());
                    (received.event, received.raw)
                }
            };
            if let Some(step) = self.step(event, raw)? {
                return Ok(step);
            }
        }
    }

    fn step(&mut self, event: Event, raw: RawEvent) -> Result<Option<Step>, ConnectorError> {
        if let Some((_, events)) = &mut self.two_phases
            && matches!(event, Event::TableMap | Event::Rows(_))
        {
            events.push((event, raw));
            return Ok(None);
        }
        match event {
            Event::TableMap | Event::Rows(_) | Event::Unreadable { .. }
                if self.looks_for_places =>
            {
                Ok(None)
            }
            Event::Begin {
                id,
                committed_at,
                standalone,
                two_phases,
            } => {
                self.two_phases = two_phases.map(|name| (name, Vec::new()));
                self.mapped.clear();
                self.lacking.clear();
                if self.maps.len() >= MAPS_MAX {
                    self.maps.clear();
                }
                let seconds = i64::from(raw.header().timestamp());
                self.transaction = Some(Open {
                    id,
                    committed_at: if committed_at > 0 {
                        committed_at
                    } else {
                        seconds * 1_000_000
                    },
                    standalone,
                    begun: false,
                    has_rows: false,
                    commit: None,
                    rows: 0,
                });
                Ok(None)
            }
            Event::Statement(statement) => self.statement(&statement.database, &statement.text),
            Event::TableMap => {
                self.table_map(&raw)?;
                Ok(None)
            }
            Event::Rows(_) => self.rows(event, raw),
            // One phase was enough.
            Event::Commit => match self.two_phases.take() {
                Some((_, events)) => {
                    self.replay(events);
                    Ok(None)
                }
                None => self.commit(),
            },
            Event::Prepared => {
                if let Some((name, events)) = self.two_phases.take() {
                    let tables = self.tables_of(&events);
                    self.position.prepared.insert(name.clone(), tables);
                    self.prepared.insert(name, events);
                }
                self.commit()
            }
            Event::Unreadable { what, fix } => {
                if self.concerns(&raw) {
                    return Err(self.stopped(&what, fix));
                }
                Ok(None)
            }
            Event::Heartbeat => {
                if self.transaction.is_none() {
                    self.follow_place();
                }
                Ok(Some(Step::Idle))
            }
            Event::Format { .. } | Event::Rotate { .. } | Event::Other => Ok(self.moved()),
        }
    }

    /// Follows the place where no transaction is half read: whoever waits for a place is told.
    fn moved(&mut self) -> Option<Step> {
        if self.transaction.is_some() {
            return None;
        }
        self.follow_place();
        Some(Step::Idle)
    }

    /// Between transactions the place moves on with the events that belong to none.
    fn follow_place(&mut self) {
        if self.next_place() < self.placed_from {
            return;
        }
        self.position.file.clone_from(&self.binlog.file);
        self.position.offset = self.binlog.offset;
        self.position.file_began = self.binlog.file_began;
    }

    fn count_in(&mut self, ended: &Open) {
        self.position.gtids.add(&ended.id);
        if ended.committed_at > 0 {
            self.position.committed_at = ended.committed_at;
        }
        self.follow_place();
    }

    /// Has the events of a transaction read as if they came now.
    fn replay(&mut self, events: Vec<(Event, RawEvent)>) {
        self.queue.extend(events);
        self.is_replaying = true;
    }

    /// The tables that are wanted and whose rows events change.
    fn tables_of(&self, events: &[(Event, RawEvent)]) -> Vec<TableName> {
        let mut tables = BTreeSet::new();
        for (event, raw) in events {
            if matches!(event, Event::TableMap)
                && let Ok((_, data)) = table_map::split(raw.data())
                && let Ok(map) = TableMap::parse(data, self.binlog.flavor)
            {
                let name = TableName::new(map.database, map.table);
                if (self.wanted)(&name) {
                    tables.insert(name);
                }
            }
        }
        tables.into_iter().collect()
    }

    fn commit(&mut self) -> Result<Option<Step>, ConnectorError> {
        let ended = self
            .transaction
            .take()
            .unwrap_or_else(|| Open::anonymous(true));
        let changed = self.mapped.drain().filter(|(_, has_rows)| !has_rows);
        let mut unproved = std::mem::take(&mut self.lacking);
        unproved.extend(changed.map(|(name, _)| name));
        unproved.retain(|name| self.tables.contains_key(name));
        if !unproved.is_empty() {
            self.ending = Some(ended);
            return Ok(Some(Step::Unproved(unproved.into_iter().collect())));
        }
        self.count_in(&ended);
        Ok(Some(Step::Committed))
    }

    fn statement(&mut self, database: &str, text: &str) -> Result<Option<Step>, ConnectorError> {
        let lowers = self.binlog.lowers_names;
        let open = self
            .transaction
            .get_or_insert_with(|| Open::anonymous(false));
        let word = ddl::first_words(text);
        match word.as_str() {
            "BEGIN" | "START TRANSACTION" => {
                open.begun = true;
                return Ok(None);
            }
            "XA START" | "XA BEGIN" => {
                open.begun = true;
                self.two_phases = Some((ddl::after_words(text), Vec::new()));
                return Ok(None);
            }
            "XA END" | "SAVEPOINT" | "RELEASE SAVEPOINT" => return Ok(None),
            "COMMIT" => return self.commit(),
            "XA ROLLBACK" => {
                let name = ddl::after_words(text);
                self.prepared.remove(&name);
                self.position.prepared.remove(&name);
                self.two_phases = None;
                return self.commit();
            }
            "XA COMMIT" => {
                let name = ddl::after_words(text);
                let known = self.position.prepared.remove(&name);
                if let Some(events) = self.prepared.remove(&name) {
                    self.replay(events);
                    return Ok(None);
                }
                // One that was prepared before anything was read may have changed any table.
                let tables = known.unwrap_or_else(|| {
                    let mut tables: Vec<TableName> = self.tables.keys().cloned().collect();
                    tables.sort();
                    tables
                });
                if tables.is_empty() {
                    return self.commit();
                }
                self.ending = self.transaction.take();
                return Ok(Some(Step::Unproved(tables)));
            }
            "ROLLBACK TO" if open.has_rows => {
                return Err(self.stopped(
                    "ROLLBACK TO SAVEPOINT within a transaction that also changes tables without transactions",
                    "RUN PIPELINE ... FULL REFRESH reads the tables anew",
                ));
            }
            "ROLLBACK" if open.has_rows => {
                return Err(self.stopped(
                    "ROLLBACK of a transaction that also changes tables without transactions",
                    "RUN PIPELINE ... FULL REFRESH reads the tables anew",
                ));
            }
            "ROLLBACK TO" => return Ok(None),
            "ROLLBACK" => return self.commit(),
            _ => {}
        }
        if !self.looks_for_places
            && let Some(mut tables) = ddl::changed_rows_of(database, text)
        {
            if lowers {
                tables.iter_mut().for_each(TableName::lower);
            }
            let concerned = tables.is_empty() || tables.iter().any(|table| (self.wanted)(table));
            if concerned {
                return Err(self.stopped(
                    &format!("a change in statement format ({word})"),
                    "SET GLOBAL binlog_format = ROW; then RUN PIPELINE ... FULL REFRESH",
                ));
            }
        }
        let mut changes = match self.looks_for_places {
            true => Vec::new(),
            false => ddl::read(database, text),
        };
        if lowers {
            changes.iter_mut().for_each(SchemaChange::lower);
        }
        changes.retain(|change| {
            let concerns =
                |table: &TableName| (self.wanted)(table) || self.tables.contains_key(table);
            match change {
                SchemaChange::DropDatabase(database) => {
                    self.tables.keys().any(|name| name.database == *database)
                }
                SchemaChange::Rename { from, to } => concerns(from) || concerns(to),
                change => change.table().is_some_and(concerns),
            }
        });
        let ends = match &self.transaction {
            Some(open) => open.standalone || !open.begun,
            None => true,
        };
        if ends {
            let ended = self.transaction.take();
            let ended = ended.unwrap_or_else(|| Open::anonymous(false));
            if changes.is_empty() {
                self.count_in(&ended);
                return Ok(Some(Step::Committed));
            }
            self.ending = Some(ended);
        }
        Ok((!changes.is_empty()).then_some(Step::Schema(changes)))
    }

    fn table_map(&mut self, raw: &RawEvent) -> Result<(), ConnectorError> {
        let read = table_map::split(raw.data());
        let (number, data) = read.map_err(|error| self.malformed(error))?;
        if let Some((bytes, map)) = self.maps.get(&number)
            && bytes == data
        {
            if self.binlog.flavor == Flavor::MariaDb {
                let name = TableName::new(&map.database, &map.table);
                self.mapped.entry(name).or_default();
            }
            return Ok(());
        }
        let map =
            TableMap::parse(data, self.binlog.flavor).map_err(|error| self.malformed(error))?;
        // The same table under another number is still the same.
        let name = TableName::new(&map.database, &map.table);
        if self.binlog.flavor == Flavor::MariaDb {
            self.mapped.entry(name.clone()).or_default();
        }
        let known = self.decoders.get(&name).map(|decoder| &decoder.map);
        let map = match known {
            Some(known) if **known == map => Arc::clone(known),
            _ => Arc::new(map),
        };
        self.maps.insert(number, (data.to_vec(), map));
        Ok(())
    }

    fn rows(&mut self, event: Event, raw: RawEvent) -> Result<Option<Step>, ConnectorError> {
        let Event::Rows(rows) = &event else {
            return Ok(None);
        };
        let images = match &rows.inflated {
            Some(inflated) => inflated.as_slice(),
            None => raw.data().get(rows.images.clone()).unwrap_or_default(),
        };
        let Some((_, map)) = self.maps.get(&rows.table) else {
            if images.is_empty() {
                return Ok(None);
            }
            return Err(self.stopped(
                "rows of a table that was not introduced",
                "report it; RUN PIPELINE ... FULL REFRESH goes on after it",
            ));
        };
        let map = Arc::clone(map);
        let name = TableName::new(&map.database, &map.table);
        if let Some(has_rows) = self.mapped.get_mut(&name) {
            *has_rows = true;
        }
        if self.ignored.as_ref() == Some(&name) {
            return Ok(None);
        }
        let until = self.passed_over.get(&name);
        if until.is_some_and(|place| self.next_place() <= *place) {
            return Ok(None);
        }
        let Some(table) = self.tables.get(&name) else {
            if !(self.wanted)(&name) {
                return Ok(None);
            }
            let columns = nameless_table(&name).columns_by(&map)?;
            return Ok(Some(self.differs(name, columns, &map, event, raw)));
        };
        let ready = self.decoders.get(&name).is_some_and(|decoder| {
            Arc::ptr_eq(&decoder.table, table)
                && (Arc::ptr_eq(&decoder.map, &map) || decoder.map == map)
        });
        if !ready {
            let table = Arc::clone(table);
            let is_foreseen = self.foreseen.get(&name);
            let has_other_key = is_foreseen.is_some_and(|place| self.next_place() <= *place)
                && table.has_other_key(&map);
            if has_other_key || !table.agrees(&map)? {
                let columns = table.columns_by(&map)?;
                return Ok(Some(self.differs(name, columns, &map, event, raw)));
            }
            let held = self.decoders.get(&name).map_or(0, ChangeDecoder::rows);
            if held > 0 {
                return Err(ConnectorError::new(
                    sqlstate::CONNECTION_FAILURE,
                    format!("{name} is described otherwise than a moment before"),
                )
                .retryable());
            }
            let how = (self.policies, self.detail);
            let decoder = ChangeDecoder::new(table, map, self.binlog.flavor, how);
            self.decoders.insert(name.clone(), decoder);
        }
        let Some(decoder) = self.decoders.get_mut(&name) else {
            return Ok(None);
        };
        decoder.trusts_defaults = !self.doubted.contains(&name);
        if let Some(open) = &mut self.transaction {
            let commit = open.commit.get_or_insert_with(|| {
                let id = &open.id;
                let file = i64::try_from(file_number(&self.binlog.file)).unwrap_or(i64::MAX >> 32);
                Arc::new(RowCommit {
                    at: open.committed_at,
                    gtid: (*id != TransactionId::Anonymous).then(|| id.to_string()),
                    position: (file << 32) + i64::try_from(self.binlog.offset).unwrap_or_default(),
                })
            });
            decoder.of_commit(commit, open.rows);
        }
        let Event::Rows(mut rows) = event else {
            return Ok(None);
        };
        let images = match rows.inflated.take() {
            Some(inflated) => Images::Copied(inflated),
            None => Images::Received(Box::new(raw), rows.images.clone()),
        };
        let place = (&*self.binlog.file, self.binlog.offset);
        let count = decoder.decode(&rows, images, place)?;
        if std::mem::take(&mut decoder.lacks_values) {
            self.lacking.insert(name.clone());
        }
        if let Some(open) = &mut self.transaction {
            open.has_rows = true;
            open.rows = decoder.ordinal();
        }
        Ok(Some(Step::Rows {
            table: name,
            rows: count,
        }))
    }

    fn differs(
        &mut self,
        table: TableName,
        columns: Vec<SourceColumn>,
        map: &TableMap,
        event: Event,
        raw: RawEvent,
    ) -> Step {
        self.held = Some((event, raw));
        let key = map.key.iter().filter_map(|place| {
            let column = map.columns.get(*place)?;
            column.name.clone()
        });
        Step::Differs {
            table,
            columns,
            key: key.collect(),
        }
    }

    /// Whether an event that cannot be read may be about a table that is wanted.
    fn concerns(&self, raw: &RawEvent) -> bool {
        if raw.header().event_type_raw() != 39 {
            return true;
        }
        let number = table_map::split(raw.data()).map(|(number, _)| number);
        let map = number.ok().and_then(|number| self.maps.get(&number));
        map.is_none_or(|(_, map)| (self.wanted)(&TableName::new(&map.database, &map.table)))
    }

    fn stopped(&self, what: &str, fix: &str) -> ConnectorError {
        let place = self.server.place();
        ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            format!(
                "the binlog of {place} has, before {}:{}, what cannot be followed: {what}",
                self.binlog.file, self.binlog.offset
            ),
        )
        .hint(fix)
    }

    fn malformed(&self, error: super::binlog::Malformed) -> ConnectorError {
        ConnectorError::new(
            sqlstate::BAD_FILE_FORMAT,
            format!(
                "an event of the binlog after {}:{} cannot be read",
                self.binlog.file, self.binlog.offset
            ),
        )
        .caused_by(error)
    }
}

/// What a server says that cannot go on from a position, if that is what the error is.
fn refusal(error: &ConnectorError) -> Option<String> {
    /// `ER_MASTER_FATAL_ERROR_READING_BINLOG`.
    const FATAL: u16 = 1236;
    let cause = std::error::Error::source(error)?;
    match cause.downcast_ref::<mysql_async::Error>()? {
        mysql_async::Error::Server(said) if said.code == FATAL => {
            // It also refuses whoever is called what another replica is.
            let words = said.message.to_ascii_lowercase();
            let is_about_names = ["server_id", "server id", "server_uuid"]
                .iter()
                .any(|name| words.contains(name));
            (!is_about_names).then(|| {
                format!(
                    "the server cannot go on from what was read: {}",
                    said.message
                )
            })
        }
        _ => None,
    }
}

fn nameless_table(name: &TableName) -> SourceTable {
    SourceTable {
        name: name.clone(),
        columns: Vec::new(),
        key: Vec::new(),
        comment: None,
        rows_estimate: 0,
        bytes_estimate: 0,
    }
}

pub(super) fn no_binlog() -> ConnectorError {
    ConnectorError::new(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "the server writes no binlog",
    )
}
