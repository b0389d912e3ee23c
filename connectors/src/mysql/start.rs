//! Where the changes begin that a capture reads first.
//!
//! A place of the binlog is only good between two transactions, a set of transactions only where it is all that was
//! done by then, and a time is no place at all. So the file that has the beginning is read from its own beginning,
//! without giving anything out, which also tells the transactions that were done before. What the server no
//! longer has is refused by name, and so is what it never had: a beginning is never moved to where it can be.

use std::sync::Arc;

use mysql_async::Row;
use mysql_async::prelude::Queryable;
use uuid::Uuid;

use super::binlog::Event;
use super::capture::no_binlog;
use super::position::{Gtids, Position, file_number};
use super::schema::TableName;
use super::server::{Flavor, MySqlServer, Session};
use super::{Opened, SourceState};
use crate::error::{ConnectorError, sqlstate};
use crate::value::{ValueFormat, datetime};

/// Where the first event of a binlog file is.
const FILE_BEGINS: u64 = 4;

const MICROSECONDS: i64 = 1_000_000;

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Where the binlog is written at.
    Now,
    /// With the oldest file that the server still has.
    Earliest,
    /// At a place between two transactions.
    Place { file: String, offset: u64 },
    /// Behind these transactions, which are all that had been done by then.
    Transactions(Gtids),
    /// With the first transaction that was committed then or later, in microseconds since 1970.
    Time(i64),
}

/// What a scan has come upon.
struct Scan {
    /// Behind the newest transaction but one, or behind the events that belong to none.
    before: Position,
    here: Position,
    /// It ended where the binlog is written at, without having found anything.
    is_at_end: bool,
}

impl Start {
    /// Reads `now`, `earliest`, `binlog.000012:4`, `uuid:1-77`, `0-1-270` or a time, which is of UTC unless it says
    /// otherwise. `None` when it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.to_ascii_lowercase().as_str() {
            "now" => return Some(Self::Now),
            "earliest" => return Some(Self::Earliest),
            _ => {}
        }
        if let Some((file, offset)) = text.rsplit_once(':')
            && let Some((_, number)) = file.rsplit_once('.')
            && let (true, Ok(offset)) = (is_number(number), offset.parse())
        {
            let file = file.to_owned();
            return Some(Self::Place { file, offset });
        }
        if is_transactions(text) {
            return Gtids::try_from(text.to_owned())
                .ok()
                .map(Self::Transactions);
        }
        datetime::parse_instant(text, &ValueFormat::default()).map(Self::Time)
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text is a set of transactions as one of the servers writes it.
fn is_transactions(text: &str) -> bool {
    let of_mysql = |part: &str| {
        let mut fields = part.trim().split(':').map(str::trim);
        let source = fields.next().unwrap_or_default();
        let fields: Vec<&str> = fields.collect();
        let is_tag = |field: &&str| {
            let mut bytes = field.bytes();
            bytes
                .next()
                .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        source.len() == 36
            && Uuid::parse_str(source).is_ok()
            && fields.last().is_some_and(|last| is_interval(last))
            && fields
                .iter()
                .all(|field| is_interval(field) || is_tag(field))
    };
    let of_mariadb = |part: &str| {
        let numbers: Vec<&str> = part.trim().split('-').collect();
        // A date has the same form, and is written with zeros.
        let widths: Vec<usize> = numbers.iter().map(|number| number.len()).collect();
        matches!(
            numbers.as_slice(),
            [domain, server, number]
                if domain.parse::<u32>().is_ok()
                    && server.parse::<u32>().is_ok()
                    && number.parse::<u64>().is_ok()
        ) && widths != [4, 2, 2]
    };
    let mut parts = text.split(',');
    match text.contains(':') {
        true => parts.all(of_mysql),
        false => parts.all(of_mariadb),
    }
}

/// `7` or `1-77`, from 1 on.
fn is_interval(text: &str) -> bool {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<i64>(), last.parse::<i64>()) {
        (Ok(first), Ok(last)) => 0 < first && first <= last && last < i64::MAX,
        _ => false,
    }
}

impl MySqlServer {
    /// The position where reading begins, at a server that is as `now` says. What transactions in two phases do to
    /// tables that are `wanted` is noted in it, where the first phase had ended before.
    pub async fn position_of(
        &self,
        start: &Start,
        now: &SourceState,
        server_id: u32,
        wanted: Arc<dyn Fn(&TableName) -> bool + Send + Sync>,
    ) -> Result<Position, ConnectorError> {
        let scanner = Scanner {
            server: self,
            now,
            server_id,
            wanted,
        };
        match start {
            Start::Now => Ok(now.position.clone()),
            Start::Earliest => {
                let (file, _) = now.files.first().ok_or_else(no_binlog)?;
                scanner.beginning_of(file).await
            }
            Start::Place { file, offset } => scanner.at_place(file, *offset).await,
            Start::Transactions(given) => scanner.behind(given).await,
            Start::Time(time) => scanner.at_time(*time).await,
        }
    }
}

/// Looks for a beginning at a server.
struct Scanner<'a> {
    server: &'a MySqlServer,
    now: &'a SourceState,
    server_id: u32,
    wanted: Arc<dyn Fn(&TableName) -> bool + Send + Sync>,
}

impl Scanner<'_> {
    /// The position before all that a file has.
    async fn beginning_of(&self, file: &str) -> Result<Position, ConnectorError> {
        let mut session = self.server.connect().await?;
        let asking = self.done_before(&mut session, file);
        let done = self.server.answered(1, asking).await;
        self.server.leave(session).await;
        let mut gtids = done?;
        // Whatever no file has was done before all of them.
        gtids.merge(&self.now.purged);
        Ok(Position {
            server: self.now.position.server.clone(),
            file: file.to_owned(),
            offset: FILE_BEGINS,
            gtids,
            ..Position::default()
        })
    }

    /// The transactions that were done before a file, as it says itself.
    async fn done_before(
        &self,
        session: &mut Session,
        file: &str,
    ) -> Result<Gtids, ConnectorError> {
        let failed = |error| self.server.failed("ask the binlog files of", error);
        let flavor = session.flavor;
        let connection = &mut session.connection;
        let done: Option<String> = match flavor {
            Flavor::MariaDb => {
                let question = "SELECT BINLOG_GTID_POS(?, ?)";
                let answer: Option<Option<String>> = connection
                    .exec_first(question, (file, FILE_BEGINS))
                    .await
                    .map_err(failed)?;
                answer.flatten()
            }
            Flavor::MySql => {
                let file = file.replace('\\', "\\\\").replace('\'', "''");
                let events: Vec<Row> = connection
                    .query(format!("SHOW BINLOG EVENTS IN '{file}' LIMIT 3"))
                    .await
                    .map_err(failed)?;
                events.into_iter().find_map(|mut event| {
                    let kind: String = event.take("Event_type")?;
                    (kind == "Previous_gtids").then(|| event.take("Info"))?
                })
            }
        };
        Gtids::try_from(done.unwrap_or_default().replace(['\n', ' '], ""))
            .map_err(|reason| ConnectorError::new(sqlstate::CONNECTION_FAILURE, reason))
    }

    /// A place, once it has proved to lie between two transactions.
    async fn at_place(&self, file: &str, offset: u64) -> Result<Position, ConnectorError> {
        let wanted = (file_number(file), offset);
        let Some((_, size)) = self.now.files.iter().find(|(name, _)| name == file) else {
            let what = format!("the server has no binlog file \"{file}\"");
            return Err(refused(&self.with_files(what)).hint(self.hint_of_files()));
        };
        if offset > *size || offset < FILE_BEGINS {
            return Err(refused(&format!(
                "{file} has no place {offset}: it begins at {FILE_BEGINS} and ends at {size}"
            )));
        }
        let from = self.beginning_of(file).await?;
        if offset == FILE_BEGINS {
            return Ok(from);
        }
        let scan = self.scan(from, |_, here| here.place() >= wanted).await?;
        let is_reached = scan.here.place() == wanted;
        // Behind the event that names the next file.
        let is_end_of_file = offset == *size && scan.here.place().0 > wanted.0;
        if is_reached || is_end_of_file {
            return Ok(scan.here);
        }
        Err(refused(&format!(
            "{file}:{offset} is within a transaction, which begins at {}:{}",
            scan.before.file, scan.before.offset
        ))
        .hint(format!(
            "start = '{}:{}' begins with it",
            scan.before.file, scan.before.offset
        )))
    }

    /// The place where a set of transactions is all that has been done.
    async fn behind(&self, given: &Gtids) -> Result<Position, ConnectorError> {
        let known = &self.now.position.gtids;
        if self.now.is_mariadb != matches!(given, Gtids::MariaDb(_)) {
            return Err(refused(&match self.now.is_mariadb {
                true => format!("\"{given}\" is no position of MariaDB, which is written 0-1-270"),
                false => {
                    format!(
                        "\"{given}\" is no set of transactions of MySQL, which is written uuid:1-77"
                    )
                }
            }));
        }
        if !known.covers(given) {
            return Err(refused(&format!(
                "the server has not done all of {given}: it has {known}"
            )));
        }
        let mut oldest = None;
        for (file, _) in self.now.files.iter().rev() {
            let from = self.beginning_of(file).await?;
            if !given.covers(&from.gtids) {
                oldest = Some(from);
                continue;
            }
            let scan = self
                .scan(from, |_, here| !given.covers(&here.gtids))
                .await?;
            let begin = match scan.is_at_end {
                true => scan.here,
                false => scan.before,
            };
            if begin.gtids == *given {
                return Ok(begin);
            }
            return Err(refused(&format!(
                "{given} is not what had been done at any place of the server's binlog: at {}:{} it was {}, and what \
                 came next is not in it",
                begin.file, begin.offset, begin.gtids
            ))
            .hint("begin with a set that this server has had as a whole, or with a place or a time"));
        }
        let oldest = oldest.ok_or_else(no_binlog)?;
        Err(refused(&format!(
            "the binlog of transactions that are not in {given} has been purged: {} are gone",
            oldest.gtids.without(given)
        ))
        .hint(format!(
            "the oldest set there is has {}; start = 'earliest' begins there",
            oldest.gtids
        )))
    }

    /// The place before the first transaction that was committed at a time or later.
    async fn at_time(&self, time: i64) -> Result<Position, ConnectorError> {
        // MariaDB's times, and those of files, are whole seconds.
        let seconds = time.div_euclid(MICROSECONDS);
        let clock = self.clock().await?;
        if time > clock {
            let what = format!("{} is still to come at the server", moment(time));
            return Err(refused(&what).hint("start = 'now' begins with what comes next"));
        }
        let time = match self.now.is_mariadb {
            true => seconds * MICROSECONDS,
            false => time,
        };
        let mut oldest = None;
        for (file, _) in self.now.files.iter().rev() {
            let began = self.began(file).await?;
            if began >= seconds {
                oldest = Some((file, began));
                continue;
            }
            let from = self.beginning_of(file).await?;
            let scan = self.scan(from, |_, here| here.committed_at >= time).await?;
            return Ok(match scan.is_at_end {
                true => scan.here,
                false => scan.before,
            });
        }
        let (file, began) = oldest.ok_or_else(no_binlog)?;
        Err(refused(&format!(
            "the binlog of {} has been purged: the oldest file there is, {file}, begins at {}",
            moment(time),
            moment(began * MICROSECONDS)
        ))
        .hint("name a later time; start = 'earliest' begins with that file"))
    }

    /// The server's clock, in microseconds since 1970.
    async fn clock(&self) -> Result<i64, ConnectorError> {
        let server = self.server;
        let mut session = server.connect().await?;
        let asking = session
            .connection
            .query_first("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)");
        let asking = async { asking.await.map_err(|error| server.failed("ask", error)) };
        let clock: Result<Option<i64>, _> = server.answered(1, asking).await;
        self.server.leave(session).await;
        Ok(clock?.unwrap_or(i64::MAX))
    }

    /// When a file was begun, in seconds since 1970.
    async fn began(&self, file: &str) -> Result<i64, ConnectorError> {
        let from = Position {
            server: self.now.position.server.clone(),
            file: file.to_owned(),
            offset: FILE_BEGINS,
            ..Position::default()
        };
        let mut binlog = self.server.binlog(&from, false, self.server_id).await?;
        loop {
            if let Event::Format { created } = binlog.next().await?.event {
                return Ok(i64::from(created));
            }
        }
    }

    /// Reads on from a position, without giving anything out, until it is `found` behind a transaction, or until
    /// the end. It is asked with the position before it, and that behind it.
    async fn scan(
        &self,
        from: Position,
        mut found: impl FnMut(&Position, &Position) -> bool,
    ) -> Result<Scan, ConnectorError> {
        let end = self.now.position.place();
        let wanted = Arc::clone(&self.wanted);
        let reading =
            self.server
                .read_changes(from, None, self.server_id, wanted, Default::default());
        let mut stream = match reading.await? {
            Opened::Stream(stream) => stream,
            Opened::Lost(reason) => return Err(refused(&reason)),
        };
        stream.look_for_places();
        let mut before = stream.position().clone();
        loop {
            let here = stream.position();
            if !stream.is_within_transaction() {
                let is_found = found(&before, here);
                let is_at_end = here.place() >= end;
                if is_found || is_at_end {
                    return Ok(Scan {
                        before,
                        here: here.clone(),
                        is_at_end: !is_found,
                    });
                }
                if *here != before {
                    before.clone_from(here);
                }
            }
            stream.next().await?;
        }
    }

    fn with_files(&self, what: String) -> String {
        match (self.now.files.first(), self.now.files.last()) {
            (Some((first, _)), Some((last, _))) => format!("{what}: it has {first} to {last}"),
            _ => what,
        }
    }

    fn hint_of_files(&self) -> String {
        let oldest = self.now.files.first().map_or("", |(name, _)| name.as_str());
        format!("start = 'earliest' begins with {oldest}, the oldest there is")
    }
}

fn moment(microseconds: i64) -> String {
    match chrono::DateTime::from_timestamp_micros(microseconds) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S%.f UTC").to_string(),
        None => microseconds.to_string(),
    }
}

/// Reading cannot begin as it was said.
fn refused(reason: &str) -> ConnectorError {
    let what = format!("the pipeline cannot start there: {reason}");
    ConnectorError::new(sqlstate::INVALID_PARAMETER, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_by_its_form() {
        let place = |file: &str, offset| Start::Place {
            file: file.into(),
            offset,
        };
        let gtids = |text: &str| Start::Transactions(Gtids::try_from(text.to_owned()).unwrap());
        let source = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        for (text, expected) in [
            ("Now", Start::Now),
            ("earliest", Start::Earliest),
            ("binlog.000012:4", place("binlog.000012", 4)),
            ("db-1.example.000001:157", place("db-1.example.000001", 157)),
            ("0-1-270", gtids("0-1-270")),
            ("0-1-270, 1-1-5", gtids("0-1-270,1-1-5")),
            ("1970-01-01 01:00:01.5+01:00", Start::Time(1_500_000)),
            ("1970-01-01", Start::Time(0)),
        ] {
            assert_eq!(Start::parse(text).unwrap(), expected, "{text}");
        }
        for tail in [":1-77", ":1-77:80", ":1-3:audit:1-2"] {
            let text = format!("{source}{tail}");
            assert_eq!(Start::parse(&text).unwrap(), gtids(&text), "{text}");
        }
        for text in [
            "",
            "latest",
            "binlog:4",
            "binlog.000012",
            "binlog.000012:x",
            "0-1",
            "x:1-77",
            &format!("{source}:77-1"),
            &format!("{source}:audit"),
            source,
        ] {
            assert_eq!(Start::parse(text), None, "{text}");
        }
    }
}
