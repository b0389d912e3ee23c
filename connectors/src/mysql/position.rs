//! How far the changes of a server have been read.

use std::collections::BTreeMap;
use std::fmt;

use mysql_async::{GnoInterval, Sid};
use serde::{Deserialize, Serialize};

use super::binlog::TransactionId;
use super::schema::TableName;

/// A place in the changes of a server, between two transactions: all before it are done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Which server it is a place of: MySQL's `server_uuid`; MariaDB has none, so that it is its `server_id`.
    pub server: String,
    /// The binlog file, and the offset in it.
    pub file: String,
    pub offset: u64,
    /// When the file was begun, in seconds since 1970: tells a file from another of its name. 0 when it is
    /// not known.
    #[serde(default)]
    pub file_began: u32,
    /// The transactions that are done, where the server names them.
    #[serde(default)]
    pub gtids: Gtids,
    /// When the newest of them was committed there, in microseconds since 1970; 0 when it is not known.
    #[serde(default)]
    pub committed_at: i64,
    /// Transactions in two phases that had ended the first one only, by their names, and the tables they change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prepared: BTreeMap<String, Vec<TableName>>,
}

impl Position {
    /// The number of the file, and the offset: ordered on one server as its transactions are.
    pub fn place(&self) -> (u64, u64) {
        (file_number(&self.file), self.offset)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.offset)?;
        match &self.gtids {
            Gtids::None => Ok(()),
            gtids => write!(formatter, " ({gtids})"),
        }
    }
}

/// The number at the end of `binlog.000012`.
pub fn file_number(file: &str) -> u64 {
    let number = file.rsplit_once('.').map_or("", |(_, number)| number);
    number.parse().unwrap_or_default()
}

/// A set of transactions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Gtids {
    #[default]
    None,
    MySql(GtidSet),
    MariaDb(DomainPositions),
}

impl Gtids {
    /// Adds a transaction.
    pub(crate) fn add(&mut self, id: &TransactionId) {
        match (&mut *self, id) {
            (Self::MySql(set), TransactionId::MySql { source, number }) => set.add(source, *number),
            (
                Self::MariaDb(domains),
                TransactionId::MariaDb {
                    domain,
                    server,
                    number,
                },
            ) => {
                domains.0.insert(*domain, (*server, *number));
            }
            (Self::None, TransactionId::MySql { .. }) => {
                *self = Self::MySql(GtidSet::default());
                self.add(id);
            }
            (Self::None, TransactionId::MariaDb { .. }) => {
                *self = Self::MariaDb(DomainPositions::default());
                self.add(id);
            }
            _ => {}
        }
    }

    /// Adds all transactions of another set.
    pub(crate) fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::None) => {}
            (Self::None, other) => *self = other.clone(),
            (Self::MySql(set), Self::MySql(other)) => {
                for (source, intervals) in &other.0 {
                    for (first, last) in intervals {
                        set.add_interval(source, *first, *last);
                    }
                }
            }
            (Self::MariaDb(domains), Self::MariaDb(other)) => {
                for (domain, (server, number)) in &other.0 {
                    let known = domains.0.get(domain).map_or(0, |(_, number)| *number);
                    if *number > known {
                        domains.0.insert(*domain, (*server, *number));
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether every transaction of `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::None) => true,
            (Self::MySql(set), Self::MySql(other)) => set.covers(other),
            (Self::MariaDb(domains), Self::MariaDb(other)) => {
                other.0.iter().all(|(domain, (_, number))| {
                    domains
                        .0
                        .get(domain)
                        .is_some_and(|(_, done)| number <= done)
                })
            }
            (_, Self::MySql(other)) => other.0.is_empty(),
            (_, Self::MariaDb(other)) => other.0.is_empty(),
        }
    }

    /// The transactions of this set that are not in another; of MariaDB the newest of each domain that has some.
    pub(crate) fn without(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::MySql(set), Self::MySql(other)) => Self::MySql(set.without(other)),
            (Self::MariaDb(domains), Self::MariaDb(other)) => {
                let newer = domains.0.iter().filter(|(domain, (_, number))| {
                    other.0.get(domain).is_none_or(|(_, known)| known < number)
                });
                Self::MariaDb(DomainPositions(
                    newer.map(|(domain, newest)| (*domain, *newest)).collect(),
                ))
            }
            (set, _) => set.clone(),
        }
    }

    pub fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::MySql(set) => set.0.is_empty(),
            Self::MariaDb(domains) => domains.0.is_empty(),
        }
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::MySql(set) => write!(formatter, "{set}"),
            Self::MariaDb(domains) => write!(formatter, "{domains}"),
        }
    }
}

impl From<Gtids> for String {
    fn from(gtids: Gtids) -> Self {
        gtids.to_string()
    }
}

impl TryFrom<String> for Gtids {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::None);
        }
        let wrong = || format!("\"{text}\" is not a set of transactions");
        if text.contains(':') {
            return GtidSet::parse(&text).map(Self::MySql).ok_or_else(wrong);
        }
        DomainPositions::parse(&text)
            .map(Self::MariaDb)
            .ok_or_else(wrong)
    }
}

/// A set of MySQL's: of each source, `uuid` or `uuid:tag`, the intervals of its numbers, both ends within.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GtidSet(BTreeMap<String, Vec<(u64, u64)>>);

impl GtidSet {
    /// Reads `uuid:1-5:7,uuid:tag:1-3`, as `gtid_executed` has it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim) {
            if part.is_empty() {
                continue;
            }
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields.next()?.to_ascii_lowercase();
            let mut source = uuid.clone();
            for field in fields {
                let (first, last) = field.split_once('-').unwrap_or((field, field));
                match (first.parse(), last.parse()) {
                    (Ok(first), Ok(last)) => set.add_interval(&source, first, last),
                    // A tag: what follows is numbered under it.
                    _ => source = format!("{uuid}:{field}"),
                }
            }
        }
        Some(set)
    }

    fn add(&mut self, source: &str, number: u64) {
        // The usual case costs no look at the others.
        if let Some(last) = self.0.get_mut(source).and_then(|all| all.last_mut())
            && number == last.1 + 1
        {
            last.1 = number;
            return;
        }
        self.add_interval(source, number, number);
    }

    fn add_interval(&mut self, source: &str, first: u64, last: u64) {
        let intervals = self.0.entry(source.to_owned()).or_default();
        intervals.push((first, last));
        intervals.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
        for (first, last) in intervals.drain(..) {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        *intervals = merged;
    }

    fn without(&self, other: &Self) -> Self {
        let mut left = Self::default();
        for (source, intervals) in &self.0 {
            let others = other.0.get(source).map_or(&[][..], Vec::as_slice);
            for (first, last) in intervals {
                let mut from = *first;
                for (taken_from, taken_to) in others {
                    if *taken_from > from {
                        let to = (*last).min(taken_from - 1);
                        if from <= to {
                            left.add_interval(source, from, to);
                        }
                    }
                    from = from.max(taken_to.saturating_add(1));
                }
                if from <= *last {
                    left.add_interval(source, from, *last);
                }
            }
        }
        left
    }

    fn has_interval(&self, source: &str, first: u64, last: u64) -> bool {
        let intervals = self.0.get(source);
        intervals.is_some_and(|intervals| {
            intervals
                .iter()
                .any(|(from, to)| *from <= first && last <= *to)
        })
    }

    fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(source, intervals)| {
            intervals
                .iter()
                .all(|(first, last)| self.has_interval(source, *first, *last))
        })
    }

    /// As a replica asks for what is not in it.
    pub(crate) fn sids(&self) -> Vec<Sid<'static>> {
        let sids = self.0.iter().filter_map(|(source, intervals)| {
            // A tag has no constructor that can be named, so that it is read together with its numbers.
            let first = intervals.first()?;
            let sid: Sid<'_> = format!("{source}:{}-{}", first.0, first.1).parse().ok()?;
            let intervals = intervals
                .iter()
                .map(|(first, last)| GnoInterval::new(*first, last + 1));
            Some(sid.with_intervals(intervals.collect()))
        });
        sids.collect()
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (source, intervals)) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            formatter.write_str(source)?;
            for (first, last) in intervals {
                if first == last {
                    write!(formatter, ":{first}")?;
                } else {
                    write!(formatter, ":{first}-{last}")?;
                }
            }
        }
        Ok(())
    }
}

/// A position of MariaDB's: of each domain the newest transaction, as server and number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainPositions(BTreeMap<u32, (u32, u64)>);

impl DomainPositions {
    /// Reads `0-1-100,1-1-5`, as `gtid_binlog_pos` has it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut domains = BTreeMap::new();
        for part in text.split(',').map(str::trim) {
            if part.is_empty() {
                continue;
            }
            let mut numbers = part.splitn(3, '-');
            let domain = numbers.next()?.parse().ok()?;
            let server = numbers.next()?.parse().ok()?;
            domains.insert(domain, (server, numbers.next()?.parse().ok()?));
        }
        Some(Self(domains))
    }
}

impl fmt::Display for DomainPositions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (domain, (server, number))) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            write!(formatter, "{domain}-{server}-{number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Gtids {
        Gtids::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_set_grows_and_is_written_as_the_server_does() {
        let source = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mut gtids = set(&format!("{source}:1-5:7"));
        for number in [6, 9] {
            let source = source.to_owned();
            gtids.add(&TransactionId::MySql { source, number });
        }
        assert_eq!(gtids.to_string(), format!("{source}:1-7:9"));
        assert!(gtids.covers(&set(&format!("{source}:2-6"))));
        assert!(!gtids.covers(&set(&format!("{source}:2-8"))));
        let tagged = set(&format!("{source}:1-3:audit:1-2:4"));
        assert_eq!(
            tagged.to_string(),
            format!("{source}:1-3,{source}:audit:1-2:4")
        );
        assert!(!gtids.covers(&tagged));
    }

    #[test]
    fn what_a_set_has_more_than_another() {
        let source = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        for (all, some, left) in [
            ("1-9", "1-4", "5-9"),
            ("1-9", "3:5-6:20", "1-2:4:7-9"),
            ("3-5", "1-9", ""),
            ("1-2:8-9", "2-8", "1:9"),
        ] {
            let of = |numbers: &str| match numbers {
                "" => Gtids::MySql(GtidSet::default()),
                numbers => set(&format!("{source}:{numbers}")),
            };
            assert_eq!(of(all).without(&of(some)), of(left), "{all} {some}");
        }
        let left = set("0-1-9,1-1-5,2-1-1").without(&set("0-1-9,1-1-4"));
        assert_eq!(left, set("1-1-5,2-1-1"));
    }

    #[test]
    fn domains_are_compared_by_number() {
        let mut gtids = set("0-1-100,1-1-5");
        gtids.add(&TransactionId::MariaDb {
            domain: 0,
            server: 2,
            number: 101,
        });
        assert_eq!(gtids.to_string(), "0-2-101,1-1-5");
        assert!(gtids.covers(&set("0-1-100")));
        assert!(!gtids.covers(&set("2-1-1")));
    }
}
