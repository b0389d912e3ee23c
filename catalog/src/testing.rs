//! Catalogs for tests: each test runs once on SQLite and once on PostgreSQL, in a database of its own.
//!
//! The PostgreSQL server is started by `tests/services/postgres.sh`; a test that cannot have it fails.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::catalog::{Catalog, CatalogOptions};
use crate::definitions::{
    ColumnDefinition, ObjectId, PipelineDefinition, RoleDefinition, TableDefinition,
};
use crate::error::CatalogError;
use crate::secret::MasterKey;
use crate::snapshot::Snapshot;
use crate::types::ColumnType;

/// An empty database, and the key of the catalog that will be in it.
pub(crate) struct TestDatabase {
    pub url: String,
    pub key: MasterKey,
    /// Where SQLite's file is.
    pub folder: tempfile::TempDir,
}

impl TestDatabase {
    /// Another process's view of the catalog, as far as the catalog can tell. It notices commits of
    /// others only when it is refreshed.
    pub async fn open(&self) -> Catalog {
        self.try_open(self.key.clone()).await.unwrap()
    }

    pub async fn try_open(&self, key: MasterKey) -> Result<Catalog, CatalogError> {
        let never = std::time::Duration::from_secs(3600);
        let options = CatalogOptions {
            poll_interval: never,
            ..CatalogOptions::default()
        };
        Catalog::open(&self.url, key, options).await
    }
}

/// Runs a test on both databases.
pub(crate) fn on_both(test: impl AsyncFn(TestDatabase)) {
    on_sqlite(&test);
    // While expectations are being written each place in the source may be reached only once.
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return;
    }
    on_postgres(&test);
}

pub(crate) fn on_postgres(test: impl AsyncFn(TestDatabase)) {
    let runtime = runtime();
    let name = format!("boathouse_test_{}", Uuid::new_v4().simple());
    let server = postgres_url();
    runtime.block_on(async {
        administer(server, format!("CREATE DATABASE {name}")).await;
        let url = server.replace("/postgres", &format!("/{name}"));
        test(TestDatabase {
            url,
            key: MasterKey::generate(),
            folder: folder(),
        })
        .await;
    });
    // Ends what the test left running, which would hold the database.
    drop(runtime);
    self::runtime().block_on(administer(
        server,
        format!("DROP DATABASE {name} WITH (FORCE)"),
    ));
}

pub(crate) fn on_sqlite(test: impl AsyncFn(TestDatabase)) {
    let folder = folder();
    let url = Catalog::url_of_file(&folder.path().join("new/100%?/catalog.db"));
    runtime().block_on(test(TestDatabase {
        url,
        key: MasterKey::generate(),
        folder,
    }));
}

/// A table of two columns in schema `public`.
pub(crate) fn table(snapshot: &Snapshot, name: &str) -> TableDefinition {
    let schema = snapshot.schema("public").unwrap().id;
    let mut table =
        TableDefinition::new(schema, name, ObjectId::SUPERUSER, format!("public/{name}"));
    table.columns = vec![
        ColumnDefinition::new("id", ColumnType::BigInt, false),
        ColumnDefinition::new(
            "price",
            ColumnType::Numeric {
                precision: Some(12),
                scale: 2,
            },
            true,
        ),
    ];
    table
}

pub(crate) fn pipeline(name: &str) -> PipelineDefinition {
    PipelineDefinition {
        id: ObjectId::default(),
        name: name.to_owned(),
        owner: ObjectId::SUPERUSER,
        statement: format!("CREATE PIPELINE {name} ..."),
        paused: false,
        options: Default::default(),
        comment: None,
        created_at: chrono::Utc::now(),
    }
}

/// A catalog with one pipeline in it.
pub(crate) async fn with_pipeline(database: &TestDatabase) -> (Catalog, ObjectId) {
    let catalog = database.open().await;
    let mut transaction = catalog.begin();
    let id = transaction.create_pipeline(pipeline("stock")).unwrap();
    catalog.commit(transaction).await.unwrap();
    (catalog, id)
}

pub(crate) async fn create_role(catalog: &Catalog, role: RoleDefinition) -> ObjectId {
    let mut transaction = catalog.begin();
    let id = transaction.create_role(role).unwrap();
    catalog.commit(transaction).await.unwrap();
    id
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// The server's URL, once it runs.
fn postgres_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        let script = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
            .join("../tests/services/postgres.sh");
        let output = Command::new(script).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

async fn administer(server: &str, statement: String) {
    let mut connection = PgConnection::connect(server).await.unwrap();
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
    connection.close().await.unwrap();
}
