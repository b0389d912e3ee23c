//! What every session shares: the catalog, the lake, the memory pool, the clock of the schedules.
//!
//! One engine per process. It owns no socket and no session; it is dropped last.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use boathouse_catalog::{Catalog, MasterKey};
use datafusion::execution::runtime_env::RuntimeEnv;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::error::SqlError;
use crate::ingest::CaptureBoard;
use crate::lake::Lake;

/// How long what runs leave behind may take to be put on record.
const ENDINGS_MAX: Duration = Duration::from_secs(5);

/// What an engine is opened with. The server fills it from flags, file and environment.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// A local folder or `s3://bucket/prefix`.
    pub lake: String,
    /// `sqlite:///path` or `postgres://...`; by default `catalog.db` in the local lake folder's
    /// `_boathouse` folder.
    pub catalog: Option<String>,
    /// Encrypts secrets at rest.
    pub master_key: MasterKey,
    /// Options of the lake's object store (`endpoint`, `region`, `access_key_id`, ...), as in
    /// `CREATE CONNECTION ... TO S3`.
    pub store_options: BTreeMap<String, String>,
    /// Bytes all queries together may hold before they spill; a query that cannot is refused.
    pub memory_bytes_max: usize,
    /// Bytes that the indexes of keyed tables may hold beside them.
    pub index_bytes_max: usize,
    /// Bytes that the files and statistics of tables nobody is using may hold beside them.
    pub tables_bytes_max: usize,
    /// Where queries spill and files are spooled.
    pub scratch: PathBuf,
    /// Names this process in leases and runs.
    pub server_name: String,
    /// Whether this process runs scheduled pipelines.
    pub runs_schedules: bool,
}

/// The shared part of a running Boathouse.
pub struct Engine {
    pub config: EngineConfig,
    pub catalog: Catalog,
    pub lake: Arc<Lake>,
    pub audit: Audit,
    /// The captures that run in this process.
    pub captures: CaptureBoard,
    /// The memory pool, the spill folder and the caches of DataFusion.
    pub runtime: Arc<RuntimeEnv>,
    /// What runs that were stopped still have to put on record.
    pub endings: TaskTracker,
    /// Microseconds since 1970, UTC.
    pub started_at: i64,
}

impl Engine {
    /// Opens the catalog and the lake, creating both where they do not exist.
    pub async fn open(config: EngineConfig) -> Result<Arc<Self>, SqlError> {
        crate::execute::open_engine(config).await
    }

    /// Finishes what is written behind the statements, and closes the catalog.
    pub async fn close(&self) {
        self.endings.close();
        if tokio::time::timeout(ENDINGS_MAX, self.endings.wait())
            .await
            .is_err()
        {
            tracing::warn!("runs that were stopped could not be put on record in time");
        }
        self.audit.flush().await;
        self.catalog.close().await;
    }
}
