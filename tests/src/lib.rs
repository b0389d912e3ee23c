//! Starts the built binary on a lake of its own and talks to it as a client would.
//!
//! The binary is the one beside the running test (`target/<profile>/boathouse`), or the one
//! `BOATHOUSE_TEST_BINARY` names; `cargo build` makes it first. A server is ended by its process id when its
//! [`Server`] is dropped. A test that cannot start it fails.

pub mod compare;
pub mod fault_proxy;
pub mod kafka;
pub mod kafka_cluster;
pub mod kafka_logins;
pub mod mysql;
pub mod network;
pub mod schema_registry;
pub mod service;
pub mod spark;
pub mod topic;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// The superuser's password in tests.
pub const PASSWORD: &str = "correct horse";

/// A debug build on a busy machine is slow to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Any failure of the harness itself.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The binary under test.
pub fn binary() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("BOATHOUSE_TEST_BINARY") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let folder = test
        .parent()
        .and_then(Path::parent)
        .ok_or("the test has no folder")?;
    let binary = folder.join("boathouse");
    if binary.exists() {
        Ok(binary)
    } else {
        Err(format!("{} is missing: run `cargo build` first", binary.display()).into())
    }
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    // What cargo says when the test runs: a test built from another checkout may be run from this one.
    let built_in = || env!("CARGO_MANIFEST_DIR").into();
    let crate_folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(built_in);
    Path::new(&crate_folder).join("..")
}

/// Where tests take their ports from: above the services' own, and below those that any kernel gives to outgoing
/// connections (Linux begins at 32768 unless told otherwise, gVisor at 16000), which may be taken at any moment.
const PORTS: std::ops::Range<u16> = 13_000..15_990;

/// A port nobody listens on.
pub fn free_port() -> Result<u16, Failure> {
    free_ports(1)
}

/// The first of `count` consecutive ports that nobody listens on and no other test of this process was given.
///
/// # Errors
///
/// None is left.
pub fn free_ports(count: u16) -> Result<u16, Failure> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().map_err(|_| "a test died choosing a port")?;
    for _ in 0..100_000 {
        let first = rand::random_range(PORTS.start..PORTS.end - count);
        let mut wanted = first..first + count;
        let is_free =
            |port: u16| !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok();
        if wanted.all(is_free) {
            given.extend(first..first + count);
            return Ok(first);
        }
    }
    Err(format!("no {count} ports in a row are free in {PORTS:?}").into())
}

/// A running server.
pub struct Server {
    child: Child,
    pub port: u16,
    pub http_port: u16,
    log: PathBuf,
}

/// What a server is started with beyond its lake.
#[derive(Default)]
pub struct ServerOptions {
    /// Where its output goes; beside the lake's folder unless given.
    pub log: Option<PathBuf>,
    /// The address the HTTP port listens at; 127.0.0.1 unless given.
    pub http_host: Option<&'static str>,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Server {
    /// Starts a server on the lake in `folder` and waits until it answers.
    pub async fn start(folder: &Path) -> Result<Self, Failure> {
        Self::start_with(folder, ServerOptions::default()).await
    }

    pub async fn start_with(folder: &Path, options: ServerOptions) -> Result<Self, Failure> {
        let mut server = Self::spawn(folder, options)?;
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Starts a server without waiting.
    pub fn spawn(folder: &Path, options: ServerOptions) -> Result<Self, Failure> {
        let port = free_port()?;
        let http_port = free_port()?;
        let log = options
            .log
            .clone()
            .unwrap_or_else(|| folder.with_extension("log"));
        let output = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)?;
        let child = Command::new(binary()?)
            .arg("serve")
            .arg("--lake")
            .arg(folder)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args([
                "--http",
                &format!("{}:{http_port}", options.http_host.unwrap_or("127.0.0.1")),
            ])
            .args(&options.arguments)
            .env("BOATHOUSE_PASSWORD", PASSWORD)
            .envs(options.environment)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self {
            child,
            port,
            http_port,
            log,
        })
    }

    async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let error = match self.connect().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if !self.is_running() || start.elapsed() > START_TIMEOUT {
                return Err(format!("the server did not start: {error}\n{}", self.log()).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the server has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A connection as the superuser.
    pub async fn connect(&self) -> Result<Client, Failure> {
        self.connect_as("boathouse", PASSWORD).await
    }

    pub async fn connect_as(&self, user: &str, password: &str) -> Result<Client, Failure> {
        let (client, connection) = Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user(user)
            .password(password)
            .dbname("boathouse")
            .connect(NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> Result<(), Failure> {
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to do when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder for a lake; `lake` inside it does not exist yet.
pub fn lake_folder() -> Result<(TempDir, PathBuf), Failure> {
    let folder = tempfile::tempdir()?;
    let lake = folder.path().join("lake");
    Ok((folder, lake))
}

/// Runs a query string and gives its rows as text, columns divided by `|`, NULL as `∅`.
pub async fn rows(client: &Client, sql: &str) -> Result<Vec<String>, Failure> {
    let messages = client.simple_query(sql).await.map_err(explain)?;
    Ok(messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|index| row.get(index).unwrap_or("∅"))
                    .collect::<Vec<_>>()
                    .join("|"),
            ),
            _ => None,
        })
        .collect())
}

/// Asks until the answer is there: its rows, parted by `;`.
pub async fn wait_for(client: &Client, sql: &str, expected: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let found = match rows(client, sql).await {
            Ok(found) => found.join(";"),
            Err(error) => error.to_string(),
        };
        if found == expected {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(60) {
            let runs = rows(client, "SELECT state, error FROM system.pipeline_runs").await?;
            return Err(format!("{sql} gives {found}, not {expected}; {runs:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The one value a query gives.
pub async fn value(client: &Client, sql: &str) -> Result<String, Failure> {
    let found = rows(client, sql).await?;
    match found.as_slice() {
        [one] => Ok(one.clone()),
        other => Err(format!("expected one row of {sql}, found {other:?}").into()),
    }
}

/// A client's error in the words the server sent.
pub fn explain(error: tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(error) => {
            let mut text = format!("{}: {}", error.code().code(), error.message());
            for part in [error.detail(), error.hint()].into_iter().flatten() {
                text.push_str(" / ");
                text.push_str(part);
            }
            text.into()
        }
        None => error.into(),
    }
}
