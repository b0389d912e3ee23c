//! The connection that events come by.

use std::time::{Duration, Instant};

use mysql_async::BinlogStreamRequest;
use mysql_async::binlog::events::Event as RawEvent;
use mysql_async::prelude::Queryable;

use super::ahead::EventsAhead;
use super::{Event, Malformed};
use crate::error::{ConnectorError, sqlstate};
use crate::mysql::position::{Gtids, Position};
use crate::mysql::server::{Flavor, MySqlServer, READ_BINLOG, Session};

/// How often a server with nothing to say says so, at least.
const HEARTBEAT_MAX: Duration = Duration::from_secs(5);

/// Signs of life that may fail to come before a server is taken for gone.
const HEARTBEATS_MISSED: u32 = 6;

const CHECKSUM_BYTES: usize = 4;

/// Events of a server, from a position on.
pub(crate) struct Binlog {
    stream: EventsAhead,
    server: MySqlServer,
    pub flavor: Flavor,
    /// The first event, which names the file, ends with a checksum that nothing before it announces.
    has_surplus: bool,
    pub file: String,
    /// Where the event read last ends.
    pub offset: u64,
    pub file_began: u32,
    /// Where the transaction ends whose compressed events are being read.
    payload_end: Option<u64>,
    heard_at: Instant,
    /// The server that is read.
    pub identity: String,
    /// It keeps names of tables in small letters, however statements write them.
    pub lowers_names: bool,
}

/// What came.
pub(crate) struct Received {
    pub event: Event,
    pub raw: RawEvent,
}

impl MySqlServer {
    /// Asks for what comes after a position: by its place, or by the transactions that are done.
    pub(crate) async fn binlog(
        &self,
        from: &Position,
        by_gtid: bool,
        server_id: u32,
    ) -> Result<Binlog, ConnectorError> {
        let session = self.connect().await?;
        self.answered(1, self.binlog_on(session, from, by_gtid, server_id))
            .await
    }

    async fn binlog_on(
        &self,
        mut session: Session,
        from: &Position,
        by_gtid: bool,
        server_id: u32,
    ) -> Result<Binlog, ConnectorError> {
        let failed = |error| self.failed(READ_BINLOG, error);
        let server = self
            .identity_of(&mut session.connection, session.flavor)
            .await?;
        if !by_gtid && !from.server.is_empty() && server != from.server {
            return Err(self.another_server(&from.server, &server));
        }
        let lowers: Option<i64> = session
            .connection
            .query_first("SELECT @@GLOBAL.lower_case_table_names")
            .await
            .map_err(failed)?;
        let heartbeat = HEARTBEAT_MAX.min(self.timeout / HEARTBEATS_MISSED);
        let period = heartbeat.as_nanos();
        let mut settings = vec![format!(
            "SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}"
        )];
        if session.flavor == Flavor::MariaDb {
            // Otherwise it rewrites its GTIDs into events that name none.
            settings.push("SET @mariadb_slave_capability = 4".into());
            if by_gtid {
                settings.push(format!("SET @slave_connect_state = '{}'", from.gtids));
                settings.push("SET @slave_gtid_strict_mode = 0".into());
                settings.push("SET @slave_gtid_ignore_duplicates = 0".into());
            }
        }
        for setting in settings {
            session
                .connection
                .query_drop(setting)
                .await
                .map_err(failed)?;
        }
        let request = BinlogStreamRequest::new(self.server_id.unwrap_or(server_id));
        let request = match (&from.gtids, by_gtid, session.flavor) {
            (Gtids::MySql(set), true, Flavor::MySql) => {
                request.with_gtid().with_gtid_set(set.sids())
            }
            (_, true, _) => request,
            (_, false, _) => request
                .with_filename(from.file.as_bytes())
                .with_pos(from.offset),
        };
        let flavor = session.flavor;
        let checksum: Option<String> = session
            .connection
            .query_first("SELECT @@GLOBAL.binlog_checksum")
            .await
            .map_err(failed)?;
        let has_surplus = flavor == Flavor::MariaDb
            && checksum.is_some_and(|method| !method.eq_ignore_ascii_case("none"));
        let stream = session.connection.get_binlog_stream(request);
        // By GTID, the place is of another server, or is not known: this one says where it begins.
        let (file, offset, file_began) = match by_gtid {
            true => (String::new(), 0, 0),
            false => (from.file.clone(), from.offset, from.file_began),
        };
        Ok(Binlog {
            stream: EventsAhead::of(stream.await.map_err(failed)?),
            server: self.clone(),
            flavor,
            has_surplus,
            file,
            offset,
            file_began,
            payload_end: None,
            heard_at: Instant::now(),
            identity: server,
            lowers_names: lowers.is_some_and(|how| how == 1),
        })
    }

    /// An address that leads to another server than a moment before.
    pub(crate) fn another_server(&self, expected: &str, found: &str) -> ConnectorError {
        ConnectorError::new(
            sqlstate::CONNECTION_FAILURE,
            format!(
                "{} is {found}, and was {expected} a moment before",
                self.place()
            ),
        )
        .retryable()
    }
}

impl Binlog {
    /// Waits for the next event. A server that says nothing for too long is gone.
    pub async fn next(&mut self) -> Result<Received, ConnectorError> {
        // Others are to have their turn while there is a backlog.
        tokio::task::consume_budget().await;
        // Whoever gives up waiting and waits again does not begin to count anew.
        let received = match self.stream.next_read() {
            Some(read) => Ok(Some(read)),
            None => {
                let until = self.heard_at + self.server.timeout;
                tokio::time::timeout_at(until.into(), self.stream.next()).await
            }
        };
        let gone = |what: &str| {
            let place = self.server.place();
            let what = format!("the binlog of {place} ended: {what}");
            ConnectorError::new(sqlstate::CONNECTION_REFUSED, what).retryable()
        };
        let raw = match received {
            Err(_) => {
                return Err(gone("the server has said nothing for too long").hint(
                    "where one event takes that long to come, ALTER CONNECTION ... SET (timeout = '5 min')",
                ));
            }
            Ok(None) => return Err(gone("the server closed it")),
            Ok(Some(Err(error))) => return Err(self.server.failed(READ_BINLOG, error)),
            Ok(Some(Ok(raw))) => raw,
        };
        self.heard_at = Instant::now();
        let event = Event::read(&raw).map_err(|error| self.unreadable(&raw, error))?;
        let header = raw.header();
        let end = self.whole_place(header.log_pos());
        match &event {
            Event::Rotate { file, offset } => {
                let name = match std::mem::take(&mut self.has_surplus) {
                    true => file.get(..file.len().saturating_sub(CHECKSUM_BYTES)),
                    false => file.get(..),
                };
                let name = name.ok_or(Malformed);
                let name = name.map_err(|error| self.unreadable(&raw, error))?;
                self.file = String::from_utf8_lossy(name).into_owned();
                self.offset = *offset;
            }
            // What a server makes up for a reader who begins in the middle bears no time.
            Event::Format { created } if *created != 0 => self.file_began = *created,
            // It tells where the server is by now, having passed over what was not asked for.
            Event::Heartbeat
                if self.payload_end.is_none() && raw.data() == self.file.as_bytes() =>
            {
                self.offset = self.offset.max(end);
            }
            Event::Format { .. } | Event::Heartbeat => {}
            _ if header.event_type_raw() == 40 => self.payload_end = Some(end),
            // The driver passes over compressed events that it cannot read.
            Event::Begin { .. } if self.payload_end.is_some() => {
                return Err(self.unreadable(&raw, Malformed));
            }
            // Events within a compressed transaction have no place of their own.
            Event::Commit | Event::Prepared => match self.payload_end.take() {
                Some(end) => self.offset = end,
                None if end != 0 => self.offset = end,
                None => {}
            },
            _ if self.payload_end.is_none() && end != 0 => self.offset = end,
            _ => {}
        }
        Ok(Received { event, raw })
    }

    /// The place of an event, of which the header has 32 bits.
    fn whole_place(&self, low: u32) -> u64 {
        if low == 0 {
            return 0;
        }
        let place = (self.offset & !u64::from(u32::MAX)) | u64::from(low);
        // Places grow within a file; a transaction may take it beyond what the header can say.
        if place + (1 << 31) < self.offset {
            place + (1 << 32)
        } else {
            place
        }
    }

    fn unreadable(&self, raw: &RawEvent, error: Malformed) -> ConnectorError {
        let kind = raw.header().event_type_raw();
        ConnectorError::new(
            sqlstate::BAD_FILE_FORMAT,
            format!(
                "event {kind} of the binlog after {}:{} cannot be read",
                self.file, self.offset
            ),
        )
        .caused_by(error)
    }
}
