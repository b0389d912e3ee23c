//! Who did what: appended, never changed.

use chrono::{DateTime, Utc};

use crate::error::CatalogError;

/// One statement on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: DateTime<Utc>,
    pub role: String,
    /// The kind of statement, such as `CREATE TABLE`.
    pub statement_kind: String,
    /// The statement with secrets and passwords left out.
    pub statement: String,
    /// `00000`, or the SQLSTATE it failed with.
    pub outcome: String,
}

/// The audit log.
#[derive(Clone)]
pub struct AuditLog {}

impl AuditLog {
    pub async fn append(&self, entry: AuditEntry) -> Result<(), CatalogError> {
        let _ = entry;
        Ok(())
    }

    /// The newest entries, newest first.
    pub async fn list(&self, limit: Option<u32>) -> Result<Vec<AuditEntry>, CatalogError> {
        let _ = limit;
        Ok(Vec::new())
    }
}
