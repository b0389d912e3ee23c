//! MySQL and MariaDB as sources: the servers that tests share, servers of a test's own, and clients to both.
//!
//! A server of a test's own is a child process: the script that starts it ends by becoming the server, so
//! that the child's id is the server's, and `kill -9` hits it and nothing else. It keeps its port and its
//! data when it is started again, and loses both when it is dropped. It is as durable as the test's options
//! say: one that is killed needs [`DURABLE`], or it forgets commits its own binlog has.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};

use crate::{Failure, free_port, repository, service};

/// A server initializes its data before it answers, on a machine that does other things.
const START_TIMEOUT: Duration = Duration::from_secs(180);

/// The options of a server that remembers, after `kill -9`, whatever it had answered.
pub const DURABLE: &[&str] = &["--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1"];

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    MySql,
    MariaDb,
}

impl Flavor {
    pub fn name(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
        }
    }

    /// What the server's process is called.
    fn process(self) -> &'static str {
        match self {
            Self::MySql => "mysqld",
            Self::MariaDb => "mariadbd",
        }
    }

    /// Where the script keeps the data of the server called `name`.
    fn data_folder(self, name: &str) -> Result<PathBuf, Failure> {
        let home = match std::env::var_os("BOATHOUSE_TEST_HOME") {
            Some(home) => PathBuf::from(home),
            None => PathBuf::from(std::env::var_os("HOME").ok_or("HOME is not set")?)
                .join(".cache/boathouse/services"),
        };
        Ok(match self {
            Self::MySql => home.join("mysql/root/data"),
            Self::MariaDb => home.join("mariadb/data"),
        }
        .join(name))
    }
}

/// A server to read from.
pub struct Source {
    pub flavor: Flavor,
    address: SourceAddress,
    own: Option<OwnServer>,
}

struct OwnServer {
    name: String,
    options: Vec<String>,
    /// `None` while it is not running.
    child: Option<Child>,
}

impl Source {
    /// The server that all tests share.
    pub fn shared(flavor: Flavor) -> Result<Self, Failure> {
        let at = match flavor {
            Flavor::MySql => service::mysql()?,
            Flavor::MariaDb => service::mariadb()?,
        };
        let setting = |name: &str| {
            at.get(name)
                .cloned()
                .ok_or_else(|| Failure::from(format!("the script tells no {name}")))
        };
        Ok(Self {
            flavor,
            address: SourceAddress {
                host: setting("HOST")?,
                port: setting("PORT")?.parse()?,
                user: setting("USER")?,
                password: setting("PASSWORD")?,
            },
            own: None,
        })
    }

    /// A server of this test's own, new and empty.
    pub async fn own(flavor: Flavor, options: &[&str]) -> Result<Self, Failure> {
        // Starting the shared one installs what both need.
        let mut source = Self::shared(flavor)?;
        source.address.port = free_port()?;
        source.own = Some(OwnServer {
            name: format!("own-{}", uuid::Uuid::new_v4().simple()),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            child: None,
        });
        source.start().await?;
        Ok(source)
    }

    /// A server of this test's own with a certificate for 127.0.0.1, signed by an authority of its own.
    pub async fn own_with_tls(flavor: Flavor) -> Result<(Self, Certificates), Failure> {
        let mut source = Self::own(flavor, &[]).await?;
        source.kill()?;
        let own = source.own.as_mut().ok_or("the shared server is not ours")?;
        let folder = flavor.data_folder(&own.name)?.join("tls");
        let certificates = Certificates::make(&folder)?;
        let seen = match flavor {
            Flavor::MySql => Path::new("/data").join(&own.name).join("tls"),
            Flavor::MariaDb => folder,
        };
        for (option, file) in [
            ("ssl-ca", "ca.pem"),
            ("ssl-cert", "server.pem"),
            ("ssl-key", "server.key"),
        ] {
            let file = seen.join(file);
            own.options.push(format!("--{option}={}", file.display()));
        }
        source.start().await?;
        Ok((source, certificates))
    }

    /// The authority that a MySQL server makes for itself, PEM; the certificate it signs names no host.
    pub fn authority_of_its_own(&self) -> Result<String, Failure> {
        let name = self.own.as_ref().map_or("main", |own| own.name.as_str());
        let folder = self.flavor.data_folder(name)?;
        // It ends in a zero byte.
        let text = std::fs::read_to_string(folder.join("files/ca.pem"))?;
        Ok(text.trim_end_matches('\0').to_owned())
    }

    /// Starts the test's own server, with the data it had, and waits until it answers.
    pub async fn start(&mut self) -> Result<(), Failure> {
        let script = repository()
            .join("tests/services")
            .join(format!("{}.sh", self.flavor.name()));
        let own = self.own.as_mut().ok_or("the shared server is not ours")?;
        let folder = self.flavor.data_folder(&own.name)?;
        std::fs::create_dir_all(&folder)?;
        // A server that starts deletes the temporary tables it finds, whosever they are: MariaDB ends at the
        // next use of one that was its own. MySQL sees only what is below its root.
        let temporary = match self.flavor {
            Flavor::MySql => PathBuf::from("/data").join(&own.name),
            Flavor::MariaDb => folder,
        };
        let child = Command::new("bash")
            .env("TMPDIR", temporary)
            .arg(script)
            .args(["run", &own.name, &self.address.port.to_string()])
            .args(&own.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        own.child = Some(child);
        let start = Instant::now();
        loop {
            let error = match self.client().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if let Some(child) = self.own.as_mut().and_then(|own| own.child.as_mut())
                && let Some(status) = child.try_wait()?
            {
                return Err(format!("the source ended, {status}: {}", self.log()?).into());
            }
            if start.elapsed() > START_TIMEOUT {
                return Err(format!("the source did not start: {error}: {}", self.log()?).into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// `kill -9` of the test's own server.
    pub fn kill(&mut self) -> Result<(), Failure> {
        let own = self.own.as_mut().ok_or("the shared server is not ours")?;
        let mut child = own.child.take().ok_or("the source does not run")?;
        let name = std::fs::read_to_string(format!("/proc/{}/comm", child.id()))?;
        child.kill()?;
        child.wait()?;
        if name.trim() == self.flavor.process() {
            Ok(())
        } else {
            Err(format!("{} was killed instead of the source", name.trim()).into())
        }
    }

    /// Makes this server, which is new, a replica of another one, by GTID.
    pub async fn replicate(&self, from: &Self) -> Result<(), Failure> {
        if self.flavor == Flavor::MariaDb {
            // What it has logged of its own beginning is in the way of what the other has.
            let forget = "RESET MASTER; SET GLOBAL gtid_slave_pos = ''";
            self.client().await?.execute(forget).await?;
        }
        self.replicate_on(from).await
    }

    /// Has this replica go on with another server that has all it has.
    pub async fn replicate_on(&self, from: &Self) -> Result<(), Failure> {
        let at = &from.address;
        let (host, port, user, password) = (&at.host, at.port, &at.user, &at.password);
        let statements = match self.flavor {
            Flavor::MySql => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}', SOURCE_PORT = {port},
                   SOURCE_USER = '{user}', SOURCE_PASSWORD = '{password}', GET_SOURCE_PUBLIC_KEY = 1,
                   SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1;
                 START REPLICA"
            ),
            Flavor::MariaDb => format!(
                "CHANGE MASTER TO MASTER_HOST = '{host}', MASTER_PORT = {port}, MASTER_USER = '{user}',
                   MASTER_PASSWORD = '{password}', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1;
                 START SLAVE"
            ),
        };
        self.client().await?.execute(&statements).await
    }

    /// Waits until this replica has all that another server has.
    pub async fn catch_up(&self, with: &Self) -> Result<(), Failure> {
        let (asked, waits) = match self.flavor {
            Flavor::MySql => (
                "SELECT @@GLOBAL.gtid_executed",
                "WAIT_FOR_EXECUTED_GTID_SET",
            ),
            Flavor::MariaDb => ("SELECT @@GLOBAL.gtid_binlog_pos", "MASTER_GTID_WAIT"),
        };
        let done = with.client().await?.value(asked).await?;
        let wait = format!("SELECT {waits}('{done}', 60)");
        match self.client().await?.value(&wait).await?.as_str() {
            "0" => Ok(()),
            other => Err(format!("{other} of {wait}").into()),
        }
    }

    /// Makes this replica a server of its own.
    pub async fn promote(&self) -> Result<(), Failure> {
        let statements = match self.flavor {
            Flavor::MySql => "STOP REPLICA; RESET REPLICA ALL",
            Flavor::MariaDb => "STOP SLAVE; RESET SLAVE ALL",
        };
        self.client().await?.execute(statements).await
    }

    /// Gives the test's own server, which does not run, another identity with the data it has.
    pub fn become_another(&mut self) -> Result<(), Failure> {
        let flavor = self.flavor;
        let own = self.own.as_mut().ok_or("the shared server is not ours")?;
        match flavor {
            Flavor::MySql => {
                let folder = flavor.data_folder(&own.name)?;
                std::fs::remove_file(folder.join("files/auto.cnf"))?;
            }
            Flavor::MariaDb => own.options.push("--server-id=77".to_owned()),
        }
        Ok(())
    }

    /// Copies the data of the test's own server, which does not run.
    pub fn back_up(&self) -> Result<(), Failure> {
        let own = self.own.as_ref().ok_or("the shared server is not ours")?;
        let folder = self.flavor.data_folder(&own.name)?;
        copy_folder(&folder.join("files"), &folder.join("backup"))
    }

    /// Gives it the data back that was copied.
    pub fn restore(&self) -> Result<(), Failure> {
        let own = self.own.as_ref().ok_or("the shared server is not ours")?;
        let folder = self.flavor.data_folder(&own.name)?;
        std::fs::remove_dir_all(folder.join("files"))?;
        copy_folder(&folder.join("backup"), &folder.join("files"))
    }

    /// What the test's own server has written about itself.
    fn log(&self) -> Result<String, Failure> {
        let own = self.own.as_ref().ok_or("the shared server is not ours")?;
        let folder = self.flavor.data_folder(&own.name)?;
        let mut text = String::new();
        for file in ["initialize.log", "server.log"] {
            text += &std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        }
        Ok(text)
    }

    /// A connection to it.
    pub async fn client(&self) -> Result<SourceClient, Failure> {
        self.address.client().await
    }

    /// How a task of its own, which outlives a borrow of this, connects.
    pub fn address(&self) -> SourceAddress {
        self.address.clone()
    }

    /// The statement that makes it known to the lake.
    pub fn create_connection(&self, name: &str) -> String {
        let at = &self.address;
        format!(
            "CREATE CONNECTION {name} TO MYSQL WITH \
             (host = '{}', port = {}, user = '{}', password = '{}')",
            at.host, at.port, at.user, at.password
        )
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let Some(own) = &mut self.own else { return };
        if let Some(child) = &mut own.child {
            // Nothing is left to do when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Ok(folder) = self.flavor.data_folder(&own.name) {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// What a client of a server with TLS needs, PEM.
pub struct Certificates {
    pub authority: String,
    pub client: String,
    pub client_key: String,
}

impl Certificates {
    /// Makes an authority and, signed by it, a server's and a client's certificate.
    pub(crate) fn make(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            let made = command.args(arguments.split(' ')).current_dir(folder);
            let made = made.output()?;
            match made.status.success() {
                true => Ok(()),
                false => Err(Failure::from(String::from_utf8_lossy(&made.stderr))),
            }
        };
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        )?;
        for (name, extensions) in [
            (
                "server",
                "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n",
            ),
            ("client", "basicConstraints=CA:FALSE\n"),
        ] {
            std::fs::write(folder.join("extensions"), extensions)?;
            openssl(&format!(
                "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ))?;
            openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
            ))?;
        }
        let read = |file: &str| std::fs::read_to_string(folder.join(file));
        Ok(Self {
            authority: read("ca.pem")?,
            client: read("client.pem")?,
            client_key: read("client.key")?,
        })
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Failure> {
    let copied = Command::new("cp").arg("-a").args([from, to]).status()?;
    match copied.success() {
        true => Ok(()),
        false => Err(format!("{} was not copied", from.display()).into()),
    }
}

/// How to connect to a source.
#[derive(Debug, Clone)]
pub struct SourceAddress {
    host: String,
    port: u16,
    user: String,
    password: String,
}

impl SourceAddress {
    pub fn port(&self) -> u16 {
        self.port
    }

    pub async fn client(&self) -> Result<SourceClient, Failure> {
        let options = OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .pass(Some(self.password.clone()))
            .prefer_socket(false);
        SourceClient::connect(options).await
    }
}

/// A session at a source: UTC, `utf8mb4`, strict but for zero dates.
pub struct SourceClient {
    connection: Conn,
}

impl SourceClient {
    async fn connect(options: OptsBuilder) -> Result<Self, Failure> {
        let mut connection = Conn::new(options).await?;
        connection
            .query_drop(
                "SET NAMES utf8mb4; SET SESSION time_zone = '+00:00'; \
                 SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
            )
            .await?;
        Ok(Self { connection })
    }

    /// Runs one statement or several; the error names them.
    pub async fn execute(&mut self, sql: &str) -> Result<(), Failure> {
        let done = self.attempt(sql).await;
        done.map_err(|error| format!("{error} in {}", shortened(sql)).into())
    }

    /// Runs one statement or several, for a caller whom the kind of failure matters to.
    pub async fn attempt(&mut self, sql: &str) -> Result<(), mysql_async::Error> {
        self.connection.query_drop(sql).await
    }

    /// The rows of one query as text, NULL as `None`.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
        let found: Result<Vec<Row>, _> = self.connection.query(sql).await;
        let found =
            found.map_err(|error| Failure::from(format!("{error} in {}", shortened(sql))))?;
        found
            .into_iter()
            .map(|row| row.unwrap().into_iter().map(text).collect())
            .collect()
    }

    /// The one value a query gives.
    pub async fn value(&mut self, sql: &str) -> Result<String, Failure> {
        let found = self.rows(sql).await?;
        match found.as_slice() {
            [row] => match row.as_slice() {
                [Some(value)] => Ok(value.clone()),
                other => Err(format!("expected one value of {sql}, found {other:?}").into()),
            },
            other => Err(format!("expected one row of {sql}, found {}", other.len()).into()),
        }
    }
}

/// A value of a text protocol's row.
fn text(value: Value) -> Result<Option<String>, Failure> {
    match value {
        Value::NULL => Ok(None),
        Value::Bytes(bytes) => Ok(Some(String::from_utf8(bytes)?)),
        other => Err(format!("{other:?} is not text").into()),
    }
}

fn shortened(sql: &str) -> String {
    let mut short: String = sql.chars().take(600).collect();
    if short.len() < sql.len() {
        short.push_str(" ...");
    }
    short
}
