//! What one event says.

use std::ops::Range;

use mysql_async::binlog::events::Event as RawEvent;
use mysql_async::binlog::events::GtidEvent;
use uuid::Uuid;

use super::Malformed;
use super::bytes::Bytes;

/// Names a transaction among all servers of a replication group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TransactionId {
    /// The server gives none.
    Anonymous,
    /// `uuid:number`, or `uuid:tag:number`; `source` is what stands before the number.
    MySql { source: String, number: u64 },
    /// `domain-server-number`.
    MariaDb {
        domain: u32,
        server: u32,
        number: u64,
    },
}

impl std::fmt::Display for TransactionId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => formatter.write_str("anonymous"),
            Self::MySql { source, number } => write!(formatter, "{source}:{number}"),
            Self::MariaDb {
                domain,
                server,
                number,
            } => write!(formatter, "{domain}-{server}-{number}"),
        }
    }
}

/// What rows of an event are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowsKind {
    Insert,
    Update,
    Delete,
}

/// Rows, still as the event has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    pub kind: RowsKind,
    pub table: u64,
    pub width: usize,
    /// Which columns the images before and after a change have.
    pub before: Vec<u8>,
    pub after: Vec<u8>,
    /// Where the images are in the event, unless `inflated` has them.
    pub images: Range<usize>,
    pub inflated: Option<Vec<u8>>,
}

/// A statement, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub database: String,
    pub text: String,
}

/// One event of the binlog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// What follows is in this file, from this offset on.
    Rotate {
        file: Vec<u8>,
        offset: u64,
    },
    /// The first event of each file.
    Format {
        created: u32,
    },
    /// A transaction begins.
    Begin {
        id: TransactionId,
        /// When it was committed at the server that is read from, in microseconds; 0 when it is not said.
        committed_at: i64,
        /// No COMMIT follows the one statement it consists of.
        standalone: bool,
        /// The name of a transaction in two phases, of which this is the first.
        two_phases: Option<String>,
    },
    Statement(Statement),
    TableMap,
    Rows(Rows),
    /// The transaction is committed.
    Commit,
    /// The first of two phases has ended: whether the transaction counts is told later.
    Prepared,
    /// The server is there and has nothing to say.
    Heartbeat,
    /// It says nothing about rows.
    Other,
    /// Its number or kind tells that it may be about rows, and what it says cannot be read.
    Unreadable {
        what: String,
        fix: &'static str,
    },
}

impl Event {
    pub fn read(raw: &RawEvent) -> Result<Self, Malformed> {
        let data = raw.data();
        let kind = raw.header().event_type_raw();
        Ok(match kind {
            2 => Self::Statement(statement(data, 0, false)?),
            165 => Self::Statement(statement(data, 0, true)?),
            // A file that was loaded, which has come before, block by block.
            18 => Self::Statement(statement(data, LOADED_FILE_BYTES, false)?),
            9 | 11 | 17 => Self::Other,
            4 => {
                let mut bytes = Bytes(data);
                let offset = bytes.integer(8)?;
                Self::Rotate {
                    file: bytes.0.to_vec(),
                    offset,
                }
            }
            15 => Self::Format {
                created: raw.header().timestamp(),
            },
            16 => Self::Commit,
            19 => Self::TableMap,
            23 | 30 => Self::Rows(rows(data, RowsKind::Insert, kind == 30, false)?),
            24 | 31 => Self::Rows(rows(data, RowsKind::Update, kind == 31, false)?),
            25 | 32 => Self::Rows(rows(data, RowsKind::Delete, kind == 32, false)?),
            166 | 169 => Self::Rows(rows(data, RowsKind::Insert, kind == 169, true)?),
            167 | 170 => Self::Rows(rows(data, RowsKind::Update, kind == 170, true)?),
            168 | 171 => Self::Rows(rows(data, RowsKind::Delete, kind == 171, true)?),
            33 | 34 | 42 => begin(raw)?,
            162 => begin_mariadb(data, raw.header().server_id())?,
            27 | 41 => Self::Heartbeat,
            // The server stops; comments; GTIDs of earlier files; group replication; MariaDB's checkpoints. A
            // transaction's compressed events come one by one after the event that holds them.
            0 | 3 | 28 | 29 | 35 | 36 | 37 | 40 | 160 | 161 | 163 => Self::Other,
            // Variables and random seeds of a statement, which follows and is met itself.
            5 | 13 | 14 => Self::Other,
            26 => Self::Unreadable {
                what: "INCIDENT: the server says that it lost changes".into(),
                fix: "RUN PIPELINE ... FULL REFRESH reads the tables anew",
            },
            // One phase is as good as none.
            38 if data.first() == Some(&1) => Self::Commit,
            38 => Self::Prepared,
            39 => Self::Unreadable {
                what: "PARTIAL_UPDATE_ROWS: changes to parts of JSON documents".into(),
                fix: "SET GLOBAL binlog_row_value_options = ''; then RUN PIPELINE ... FULL REFRESH",
            },
            164 => Self::Unreadable {
                what: "START_ENCRYPTION: an encrypted binlog".into(),
                fix: "the server has to decrypt what it sends to replicas",
            },
            6..=8 | 10 | 12 => Self::Unreadable {
                what: format!("LOAD DATA in statement format (event {kind})"),
                fix: "SET GLOBAL binlog_format = ROW; then RUN PIPELINE ... FULL REFRESH",
            },
            // What the server marks as something that replicas may pass over.
            _ if raw.header().flags_raw() & 0x80 != 0 => Self::Other,
            other => Self::Unreadable {
                what: format!("event {other}, which is not known"),
                fix: "report it; RUN PIPELINE ... FULL REFRESH goes on after it",
            },
        })
    }
}

fn begin(raw: &RawEvent) -> Result<Event, Malformed> {
    let event: GtidEvent = raw.read_event().map_err(|_| Malformed)?;
    let id = if raw.header().event_type_raw() == 34 {
        TransactionId::Anonymous
    } else {
        let uuid = Uuid::from_bytes(event.sid());
        let source = match event.tag() {
            Some(tag) => format!("{uuid}:{}", tag.as_str()),
            None => uuid.to_string(),
        };
        TransactionId::MySql {
            source,
            number: event.gno(),
        }
    };
    let committed_at = i64::try_from(event.immediate_commit_timestamp()).unwrap_or_default();
    Ok(Event::Begin {
        id,
        committed_at,
        standalone: false,
        two_phases: None,
    })
}

fn begin_mariadb(data: &[u8], server: u32) -> Result<Event, Malformed> {
    let mut bytes = Bytes(data);
    let number = bytes.integer(8)?;
    let domain = u32::try_from(bytes.integer(4)?).map_err(|_| Malformed)?;
    let flags = bytes.byte()?;
    // A group of transactions committed together has a number.
    if flags & 0x02 != 0 {
        bytes.take(8)?;
    }
    let two_phases = match flags & 0x40 != 0 {
        true => {
            let format = bytes.integer(4)?;
            let global = usize::from(bytes.byte()?);
            let branch = usize::from(bytes.byte()?);
            let global = hex(bytes.take(global)?);
            let branch = hex(bytes.take(branch)?);
            Some(format!("X'{global}',X'{branch}',{format}"))
        }
        false => None,
    };
    Ok(Event::Begin {
        id: TransactionId::MariaDb {
            domain,
            server,
            number,
        },
        committed_at: 0,
        standalone: flags & 1 != 0,
        two_phases,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// What the head of a statement that loads a file has more than others: the file, where its name is in the
/// statement, and what becomes of duplicates.
const LOADED_FILE_BYTES: usize = 13;

fn statement(data: &[u8], more_bytes: usize, compressed: bool) -> Result<Statement, Malformed> {
    let mut bytes = Bytes(data);
    bytes.take(8)?;
    let database_length = usize::from(bytes.byte()?);
    bytes.take(2)?;
    let variables = usize::try_from(bytes.integer(2)?).map_err(|_| Malformed)?;
    bytes.take(more_bytes)?;
    bytes.take(variables)?;
    let database = String::from_utf8_lossy(bytes.take(database_length)?).into_owned();
    bytes.take(1)?;
    let inflated;
    let text = if compressed {
        inflated = inflate(bytes.0)?;
        inflated.as_slice()
    } else {
        bytes.0
    };
    Ok(Statement {
        database,
        text: String::from_utf8_lossy(text).into_owned(),
    })
}

fn rows(data: &[u8], kind: RowsKind, has_extra: bool, compressed: bool) -> Result<Rows, Malformed> {
    let mut bytes = Bytes(data);
    let table = bytes.integer(6)?;
    bytes.take(2)?;
    if has_extra {
        let length = usize::try_from(bytes.integer(2)?).map_err(|_| Malformed)?;
        bytes.take(length.checked_sub(2).ok_or(Malformed)?)?;
    }
    let width = bytes.packed_size()?;
    let first = bytes.take(width.div_ceil(8))?.to_vec();
    let (before, after) = match kind {
        RowsKind::Insert => (Vec::new(), first),
        RowsKind::Delete => (first, Vec::new()),
        RowsKind::Update => (first, bytes.take(width.div_ceil(8))?.to_vec()),
    };
    let images = data.len() - bytes.0.len()..data.len();
    let inflated = match compressed {
        true => Some(inflate(bytes.0)?),
        false => None,
    };
    Ok(Rows {
        kind,
        table,
        width,
        before,
        after,
        images,
        inflated,
    })
}

/// What MariaDB compressed: a byte that tells the method (zlib) and the width of the length, the length of
/// what comes out, in big-endian, and the compressed bytes.
fn inflate(data: &[u8]) -> Result<Vec<u8>, Malformed> {
    use std::io::Read;
    /// No event is larger.
    const BYTES_MAX: u64 = 1 << 30;
    let mut bytes = Bytes(data);
    let head = bytes.byte()?;
    if head & 0x70 != 0 {
        return Err(Malformed);
    }
    let mut length = 0u64;
    for byte in bytes.take(usize::from(head & 0x07))? {
        length = length << 8 | u64::from(*byte);
    }
    if length > BYTES_MAX {
        return Err(Malformed);
    }
    let mut inflated = Vec::new();
    flate2::read::ZlibDecoder::new(bytes.0)
        .take(length)
        .read_to_end(&mut inflated)
        .map_err(|_| Malformed)?;
    if inflated.len() as u64 == length {
        Ok(inflated)
    } else {
        Err(Malformed)
    }
}
