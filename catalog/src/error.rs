//! Why the catalog could not do what it was asked.

use crate::definitions::{ObjectId, ObjectKind};

/// What a [`CatalogError::BadKey`] can be cured with.
const KEY_HINT: &str = "give the key this catalog was created with, in BOATHOUSE_MASTER_KEY (base64 of 32 bytes) or in the key file";

/// A failed change of, or access to, the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("{} \"{name}\" already exists", relation_or(*kind))]
    AlreadyExists { kind: ObjectKind, name: String },
    #[error("{} \"{name}\" does not exist", relation_or(*kind))]
    NotFound { kind: ObjectKind, name: String },
    #[error("{kind} with OID {id} does not exist")]
    UnknownId { kind: ObjectKind, id: ObjectId },
    #[error("column \"{column}\" of relation \"{relation}\" does not exist")]
    UnknownColumn { relation: String, column: String },
    /// Readers of Delta do not tell them apart, nor do data files.
    #[error("columns \"{one}\" and \"{other}\" of relation \"{relation}\" differ in case only")]
    AlikeColumns {
        relation: String,
        one: String,
        other: String,
    },
    /// Somebody else changed or dropped the object after this transaction began.
    #[error("could not serialize access due to concurrent update of {kind} \"{name}\"")]
    ConcurrentUpdate { kind: ObjectKind, name: String },
    #[error("cannot drop {kind} \"{name}\" because other objects depend on it")]
    InUse {
        kind: ObjectKind,
        name: String,
        detail: String,
    },
    #[error("cannot change {kind} \"{name}\" because it is required by the database system")]
    BuiltIn { kind: ObjectKind, name: String },
    #[error("{kind} name \"{name}\" is reserved")]
    ReservedName { kind: ObjectKind, name: String },
    #[error("role \"{member}\" is a member of role \"{role}\"")]
    MembershipLoop { role: String, member: String },
    #[error("too many objects created in one transaction")]
    OutOfIds,
    #[error("lease \"{0}\" was taken over by another server")]
    LeaseLost(String),
    #[error("pipeline with OID {0} was dropped")]
    PipelineDropped(ObjectId),
    #[error("the master key is not the one the catalog was created with")]
    WrongKey,
    #[error("{0}")]
    BadKey(String),
    #[error("could not use key file \"{path}\"")]
    KeyFile {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("key file \"{path}\" has mode {mode:04o}: others than its owner may use it")]
    ExposedKey { path: String, mode: u32 },
    #[error("secret \"{0}\" cannot be decrypted")]
    UnreadableSecret(String),
    #[error("catalog URL \"{0}\" is not supported")]
    UnsupportedUrl(String),
    #[error("could not open catalog file \"{path}\"")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// The schema in the database is newer than this program, or was changed by hand.
    #[error("could not bring the catalog to this version of the program")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the catalog holds {what} that cannot be read")]
    Corrupt {
        what: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    #[error("the disk of the catalog is full")]
    DiskFull(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another process held the catalog too long, or the database chose this transaction to give way.
    #[error("the catalog is busy")]
    Busy(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("could not reach the catalog database")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the catalog database refused a statement")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CatalogError {
    /// The code a client branches on. No `_` arm: a new variant has to choose one.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::AlreadyExists { kind, .. } => match kind {
                ObjectKind::Table | ObjectKind::View => "42P07",
                ObjectKind::Schema => "42P06",
                _ => "42710",
            },
            Self::NotFound { kind, .. } | Self::UnknownId { kind, .. } => match kind {
                ObjectKind::Table | ObjectKind::View => "42P01",
                ObjectKind::Schema => "3F000",
                _ => "42704",
            },
            Self::UnknownColumn { .. } => "42703",
            Self::AlikeColumns { .. } => "42701",
            Self::ConcurrentUpdate { .. } | Self::Busy(_) => "40001",
            Self::InUse { .. } | Self::BuiltIn { .. } => "2BP01",
            Self::ReservedName { .. } => "42939",
            Self::MembershipLoop { .. } => "0LP01",
            Self::OutOfIds => "54000",
            Self::LeaseLost(_) | Self::PipelineDropped(_) => "55000",
            Self::WrongKey | Self::BadKey(_) | Self::UnsupportedUrl(_) => "F0000",
            Self::KeyFile { .. }
            | Self::ExposedKey { .. }
            | Self::File { .. }
            | Self::Database(_) => "58000",
            Self::UnreadableSecret(_) | Self::Corrupt { .. } => "XX001",
            Self::Migration(_) => "55000",
            Self::DiskFull(_) => "53100",
            Self::Unreachable(_) => "08006",
        }
    }

    /// More about it, for PostgreSQL's `detail`.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::InUse { detail, .. } => Some(detail.clone()),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::ConcurrentUpdate { .. } | Self::Busy(_) => {
                Some("run the transaction again".to_owned())
            }
            Self::AlikeColumns { .. } => Some("give one of them another name".to_owned()),
            Self::WrongKey | Self::BadKey(_) => Some(KEY_HINT.to_owned()),
            Self::ExposedKey { path, .. } => Some(format!("chmod 600 {path}")),
            Self::ReservedName { .. } => {
                Some("names that begin with \"pg_\" belong to the system".to_owned())
            }
            Self::OutOfIds => Some("create them in several transactions".to_owned()),
            Self::UnsupportedUrl(_) => {
                Some("use sqlite:///path/to/catalog.db or postgres://user@host/database".to_owned())
            }
            Self::Migration(_) => {
                Some("a newer version of boathouse may have opened this catalog".to_owned())
            }
            Self::InUse {
                kind: ObjectKind::Schema,
                ..
            } => Some("use DROP ... CASCADE to drop the dependent objects too".to_owned()),
            Self::UnreadableSecret(name) => {
                Some(format!("store it again with ALTER SECRET {name} AS '...'"))
            }
            _ => None,
        }
    }

    /// Whether the same transaction, begun anew, may succeed.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::ConcurrentUpdate { .. } | Self::Busy(_) | Self::Unreachable(_)
        )
    }
}

/// Tables and views share their names, and PostgreSQL speaks of both as relations.
fn relation_or(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table | ObjectKind::View => "relation",
        other => other.name(),
    }
}
