//! Who did what: appended, never changed.

use chrono::{DateTime, Utc};
use sqlx::Row;
use uuid::Uuid;

use super::{readable, row_limit};
use crate::error::CatalogError;
use crate::store::database::Database;
use crate::store::load::time;

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
pub struct AuditLog {
    database: Database,
}

impl AuditLog {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    pub async fn append(&self, entry: AuditEntry) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        let query = sqlx::query(
            "INSERT INTO audit_log (id, recorded_at, role, statement_kind, statement, outcome) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        );
        let query = query
            .bind(Uuid::now_v7().to_string())
            .bind(entry.at.timestamp_micros())
            .bind(readable(entry.role))
            .bind(entry.statement_kind)
            .bind(readable(entry.statement))
            .bind(entry.outcome);
        query.execute(&mut *writing).await?;
        writing.commit().await
    }

    /// The newest entries, newest first.
    pub async fn list(&self, limit: Option<u32>) -> Result<Vec<AuditEntry>, CatalogError> {
        let query = sqlx::query(
            "SELECT recorded_at, role, statement_kind, statement, outcome FROM audit_log \
             ORDER BY id DESC LIMIT $1",
        );
        let rows = query
            .bind(row_limit(limit))
            .fetch_all(self.database.pool())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(AuditEntry {
                    at: time(row.try_get(0)?).unwrap_or_default(),
                    role: row.try_get(1)?,
                    statement_kind: row.try_get(2)?,
                    statement: row.try_get(3)?,
                    outcome: row.try_get(4)?,
                })
            })
            .collect()
    }
}
