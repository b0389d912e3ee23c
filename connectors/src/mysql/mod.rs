//! A MySQL or MariaDB server whose changes are captured.
//!
//! Options `host`, `port`, `user`, `password`, `tls` (`disable`, `require`, `verify-ca`, `verify-full`), `tls_ca`,
//! `tls_cert` and `tls_key` (PEM texts), `timeout`, `server_id`. A server on another machine is verified to the
//! full unless something else is said.

mod binlog;
mod capture;
mod changes;
mod check;
mod column_groups;
mod ddl;
mod position;
mod row_images;
mod schema;
mod server;
mod snapshot;
mod start;
pub mod types;

use std::sync::Arc;
use std::time::Duration;

pub use capture::{ChangeStream, Continuity, Opened, SourceState, Step};
pub use changes::{
    ChangedRows, RowChange, RowCommit, RowDetail, RowOperation, RowOrigins, fields_of,
};
pub use ddl::{AddedValue, ColumnChange, SchemaChange};
pub use position::{Gtids, Position, file_number};
pub use schema::{DefaultValue, SourceColumn, SourceTable, TableName};
pub use server::{Flavor, MySqlServer};
pub use snapshot::{Chunk, ChunkReader, ChunkRequest, ExactPlace, WholeSnapshot, key_literals};
pub use start::Start;

use crate::connector::{Connector, Remote};
use crate::error::ConnectorError;
use crate::options::Options;

/// The connector.
pub struct MySql;

/// How far the server's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Disable,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Connector for MySql {
    fn name(&self) -> &'static str {
        "MYSQL"
    }

    fn configure(&self, options: &mut Options) -> Result<Remote, ConnectorError> {
        let host = options.require_text("host")?;
        let port = options.take_number("port")?.unwrap_or(3306);
        let user = options.require_text("user")?;
        let password = options.take_text("password")?;
        let is_here = matches!(host.as_str(), "localhost" | "::1") || host.starts_with("127.");
        let tls = match options.take_text("tls")?.as_deref() {
            None if is_here => TlsMode::Disable,
            None | Some("verify-full") => TlsMode::VerifyFull,
            Some("verify-ca") => TlsMode::VerifyCa,
            Some("require") => TlsMode::Require,
            Some("disable") => TlsMode::Disable,
            Some(other) => {
                return Err(ConnectorError::option(format!(
                    "option \"tls\" cannot be \"{other}\""
                ))
                .hint("it is one of disable, require, verify-ca, verify-full"));
            }
        };
        let identity = match (
            options.take_text("tls_cert")?,
            options.take_text("tls_key")?,
        ) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(ConnectorError::option(
                    "connector \"MYSQL\" takes \"tls_cert\" and \"tls_key\" together",
                ));
            }
        };
        let timeout = options
            .take_duration("timeout")?
            .unwrap_or(Duration::from_secs(30));
        Ok(Remote::MySql(Arc::new(MySqlServer {
            host,
            port,
            user,
            password,
            tls,
            ca: options.take_text("tls_ca")?,
            identity,
            timeout,
            server_id: options.take_number("server_id")?,
        })))
    }
}
