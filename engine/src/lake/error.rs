//! Why the lake could not do what was asked, and whether asking again can help.

use std::error::Error;

use crate::error::{SqlError, SqlState};

/// An error of the lake. Messages name the table's location, never a key or a token.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    #[error("lake location \"{location}\" is not usable: {reason}")]
    Location { location: String, reason: String },
    #[error("store option \"{option}\" is not known")]
    UnknownOption { option: String },
    #[error("there is no Delta table at \"{location}\"")]
    NotATable { location: String },
    #[error("table at \"{location}\" was dropped")]
    Dropped { location: String },
    #[error("table at \"{location}\" has no version {version}")]
    NoSuchVersion { location: String, version: i64 },
    #[error("table at \"{location}\" has no version as old as {timestamp}")]
    NoSuchTimestamp { location: String, timestamp: String },
    #[error("could not {action} at \"{location}\"")]
    Storage {
        action: &'static str,
        location: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("table at \"{location}\" was changed by another writer: {reason}")]
    Conflict { location: String, reason: String },
    #[error(
        "whether the commit to \"{location}\" took place is not known, because the storage failed \
         while it was written"
    )]
    Unknown {
        location: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("table at \"{location}\" needs a Delta feature that is not supported: {feature}")]
    Unsupported { location: String, feature: String },
    #[error(
        "rows of the table at \"{location}\" can be added only: its property delta.appendOnly is true"
    )]
    AppendOnly { location: String },
    #[error("table at \"{location}\" is damaged: {reason}")]
    Damaged { location: String, reason: String },
    #[error("column \"{column}\" has type {type_name}, which cannot be stored in a table")]
    NotStorable { column: String, type_name: String },
    #[error("could not encode rows as Parquet: {reason}")]
    Encode { reason: String },
    #[error(
        "null value in column \"{column}\" of relation \"{relation}\" violates not-null constraint"
    )]
    NotNull {
        relation: String,
        column: String,
        row: Option<String>,
    },
    #[error("new row for relation \"{relation}\" violates check constraint \"{constraint}\"")]
    Check {
        relation: String,
        constraint: String,
        row: Option<String>,
    },
    #[error("{0}")]
    Plan(#[source] Box<SqlError>),
}

impl LakeError {
    /// Wraps a failure of the storage below.
    pub fn storage(
        action: &'static str,
        location: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Storage {
            action,
            location: location.into(),
            source: source.into(),
        }
    }

    /// Whether the same request may succeed when simply tried again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Storage { source, .. } | Self::Unknown { source, .. } => {
                !is_disk_full(source.as_ref()) && !is_denied(source.as_ref())
            }
            Self::Conflict { .. } => true,
            Self::Location { .. }
            | Self::UnknownOption { .. }
            | Self::NotATable { .. }
            | Self::Dropped { .. }
            | Self::NoSuchVersion { .. }
            | Self::NoSuchTimestamp { .. }
            | Self::Unsupported { .. }
            | Self::AppendOnly { .. }
            | Self::Damaged { .. }
            | Self::NotStorable { .. }
            | Self::Encode { .. }
            | Self::NotNull { .. }
            | Self::Check { .. }
            | Self::Plan(_) => false,
        }
    }

    fn state(&self) -> SqlState {
        match self {
            Self::Location { .. } => SqlState::INVALID_PARAMETER_VALUE,
            Self::UnknownOption { .. } => SqlState::INVALID_PARAMETER_VALUE,
            Self::NotATable { .. } => SqlState::UNDEFINED_FILE,
            Self::Dropped { .. } => SqlState::UNDEFINED_TABLE,
            Self::NoSuchVersion { .. } => SqlState::INVALID_PARAMETER_VALUE,
            Self::NoSuchTimestamp { .. } => SqlState::INVALID_PARAMETER_VALUE,
            Self::Storage { source, .. } => {
                if is_disk_full(source.as_ref()) {
                    SqlState::DISK_FULL
                } else {
                    SqlState::IO_ERROR
                }
            }
            Self::Conflict { .. } => SqlState::SERIALIZATION_FAILURE,
            Self::Unknown { .. } => SqlState::IO_ERROR,
            Self::Unsupported { .. } => SqlState::FEATURE_NOT_SUPPORTED,
            Self::AppendOnly { .. } => SqlState("55000"),
            Self::Damaged { .. } => SqlState::DATA_CORRUPTED,
            Self::NotStorable { .. } => SqlState::FEATURE_NOT_SUPPORTED,
            Self::Encode { .. } => SqlState::INTERNAL_ERROR,
            Self::NotNull { .. } => SqlState::NOT_NULL_VIOLATION,
            Self::Check { .. } => SqlState::CHECK_VIOLATION,
            Self::Plan(error) => error.state,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownOption { .. } => Some(format!(
                "known options are {}",
                super::store::OPTIONS
                    .map(|option| format!("\"{option}\""))
                    .join(", ")
            )),
            Self::Storage { source, .. } if is_disk_full(source.as_ref()) => {
                Some("free space on the disk of the lake and try again".into())
            }
            Self::Storage { source, .. } if is_denied(source.as_ref()) => {
                Some("check the rights of the lake's credentials".into())
            }
            Self::Storage { .. } => Some("check that the lake's storage is reachable".into()),
            Self::Conflict { .. } => Some("run the statement again".into()),
            Self::Dropped { .. } => {
                Some("run the statement again: the name may mean another table by now".into())
            }
            Self::Unknown { .. } => {
                Some("look at system.table_history before running the statement again".into())
            }
            Self::NotStorable { .. } => {
                Some("cast the column to a type that can be stored, such as text".into())
            }
            _ => None,
        }
    }
}

impl From<LakeError> for SqlError {
    fn from(error: LakeError) -> Self {
        if let LakeError::Plan(inner) = error {
            return *inner;
        }
        let mut sql = SqlError::new(error.state(), error.to_string());
        if let Some(hint) = error.hint() {
            sql = sql.hint(hint);
        }
        if let LakeError::NotNull { row: Some(row), .. } | LakeError::Check { row: Some(row), .. } =
            &error
        {
            sql = sql.detail(format!("Failing row contains ({row})."));
        }
        if error.is_retryable() {
            sql = sql.retryable();
        }
        sql.caused_by(error)
    }
}

impl LakeError {
    /// Whether it comes of a file that is not there.
    pub fn is_missing_file(&self) -> bool {
        any_cause(self, |cause| {
            matches!(
                cause.downcast_ref::<object_store::Error>(),
                Some(object_store::Error::NotFound { .. })
            )
        })
    }
}

/// Looks for "no space left" down the chain of causes: the object store wraps it several times.
fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    any_cause(error, |cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| {
            matches!(
                io.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            )
        })
    })
}

fn is_denied(error: &(dyn Error + 'static)) -> bool {
    any_cause(error, |cause| {
        matches!(
            cause.downcast_ref::<object_store::Error>(),
            Some(
                object_store::Error::PermissionDenied { .. }
                    | object_store::Error::Unauthenticated { .. }
            )
        )
    })
}

fn any_cause(error: &(dyn Error + 'static), test: impl Fn(&(dyn Error + 'static)) -> bool) -> bool {
    let mut current = Some(error);
    while let Some(cause) = current {
        if test(cause) {
            return true;
        }
        current = cause.source();
    }
    false
}
