//! A pool of connections to SQLite or PostgreSQL.
//!
//! SQLite: the file is created for its owner only, in WAL mode, and every commit is synced to disk
//! before it is acknowledged. Writers of one process queue here instead of polling SQLite's lock;
//! `BEGIN IMMEDIATE` takes the write lock at once, so no transaction fails half way for want of it.
//! Opening holds a lock file, so that two processes do not create the same catalog at once.
//!
//! PostgreSQL: migrations take an advisory lock. A process that stops inside a transaction loses it
//! after a minute, so it cannot hold the others up.

use std::fs::{File, OpenOptions};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Any, AnyConnection, AnyPool, Executor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::CatalogError;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long to wait for a connection before the database counts as unreachable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 30000; PRAGMA journal_mode = WAL; \
    PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";
const POSTGRES_SETTINGS: &str = "SET lock_timeout = '30s'; \
    SET idle_in_transaction_session_timeout = '60s'; SET synchronous_commit = on;";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

/// The database of a catalog. Clones share it.
#[derive(Clone)]
pub(crate) struct Database {
    pool: AnyPool,
    dialect: Dialect,
    /// One permit, which the writer of a SQLite file holds.
    writer: Arc<Semaphore>,
}

impl Database {
    /// Connects, creating the SQLite file when there is none, and migrates.
    pub(crate) async fn open(url: &str, connections_max: u32) -> Result<Self, CatalogError> {
        sqlx::any::install_default_drivers();
        let dialect = match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Dialect::Sqlite,
            Some("postgres" | "postgresql") => Dialect::Postgres,
            _ => return Err(CatalogError::UnsupportedUrl(without_password(url))),
        };
        let opening = match dialect {
            Dialect::Sqlite => Some(prepare_file(url).await?),
            Dialect::Postgres => None,
        };
        let options = AnyConnectOptions::from_str(url)
            .map_err(|_| CatalogError::UnsupportedUrl(without_password(url)))?;
        let settings = match dialect {
            Dialect::Sqlite => SQLITE_SETTINGS,
            Dialect::Postgres => POSTGRES_SETTINGS,
        };
        let pool = AnyPoolOptions::new()
            .max_connections(connections_max.max(1))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move { connection.execute(settings).await.map(|_| ()) })
            })
            .connect_with(options)
            .await?;
        MIGRATIONS.run(&pool).await?;
        drop(opening);
        Ok(Self {
            pool,
            dialect,
            writer: Arc::new(Semaphore::new(1)),
        })
    }

    /// Whether processes on several machines may have it open.
    pub(crate) fn is_shared(&self) -> bool {
        self.dialect == Dialect::Postgres
    }

    /// For single statements that read.
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// A transaction that sees one state of the database throughout and changes nothing.
    pub(crate) async fn read(&self) -> Result<sqlx::Transaction<'static, Any>, CatalogError> {
        Ok(match self.dialect {
            Dialect::Sqlite => self.pool.begin_with("BEGIN").await?,
            Dialect::Postgres => {
                self.pool
                    .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    .await?
            }
        })
    }

    /// A transaction that changes something. Dropped without [`Write::commit`], it changes nothing.
    pub(crate) async fn write(&self) -> Result<Write, CatalogError> {
        let permit = match self.dialect {
            // The semaphore is never closed, so there is a permit.
            Dialect::Sqlite => Arc::clone(&self.writer).acquire_owned().await.ok(),
            Dialect::Postgres => None,
        };
        let transaction = match self.dialect {
            Dialect::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await?,
            Dialect::Postgres => self.pool.begin().await?,
        };
        Ok(Write {
            transaction,
            _permit: permit,
        })
    }

    /// Milliseconds since 1970 by the database's clock, as an expression.
    pub(crate) fn now(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "CAST(unixepoch('subsec') * 1000 AS BIGINT)",
            Dialect::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A transaction that changes something.
pub(crate) struct Write {
    transaction: sqlx::Transaction<'static, Any>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Write {
    pub(crate) async fn commit(self) -> Result<(), CatalogError> {
        Ok(self.transaction.commit().await?)
    }
}

impl Deref for Write {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.transaction
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

/// The URL of a catalog in a file.
pub(crate) fn file_url(path: &Path) -> String {
    let escaped = path
        .to_string_lossy()
        .replace('%', "%25")
        .replace('?', "%3f");
    format!("sqlite://{escaped}")
}

/// Creates the file if need be, and gives the lock that keeps others from opening it meanwhile.
async fn prepare_file(url: &str) -> Result<File, CatalogError> {
    let unsupported = || CatalogError::UnsupportedUrl(url.to_owned());
    let path: PathBuf = SqliteConnectOptions::from_str(url)
        .map_err(|_| unsupported())?
        .get_filename()
        .to_path_buf();
    // An unnamed or in-memory database would be another one for every connection.
    if path.as_os_str().is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
        return Err(unsupported());
    }
    let failed = {
        let path = path.display().to_string();
        move |source| CatalogError::File { path, source }
    };
    let prepared = tokio::task::spawn_blocking(move || {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(directory)?;
        let mut lock_path = path.clone().into_os_string();
        lock_path.push(".lock");
        let mut owner_only = OpenOptions::new();
        owner_only
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let lock = owner_only.open(lock_path)?;
        lock.lock()?;
        owner_only.open(&path)?.sync_all()?;
        File::open(directory)?.sync_all()?;
        Ok(lock)
    });
    match prepared.await {
        Ok(result) => result.map_err(failed),
        Err(stopped) => Err(failed(std::io::Error::other(stopped))),
    }
}

/// A URL fit for a message.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://...@{host}"),
        None => url.to_owned(),
    }
}
