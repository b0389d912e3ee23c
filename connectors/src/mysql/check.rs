//! `CHECK CONNECTION`: whether a server gives what capturing its changes needs, with the statement that mends it.

use std::collections::BTreeMap;

use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStreamRequest, Conn, Row};

use super::server::{Flavor, MySqlServer, READ_BINLOG, SEARCHES, Session};
use crate::connector::Check;
use crate::error::ConnectorError;

/// Seconds of binlog below which a pause of a pipeline may outlast it.
const RETENTION_SECONDS_MIN: u64 = 24 * 3600;

/// What this client is called among the server's replicas while it tries.
const SERVER_ID: u32 = 4_000_000_007;

impl MySqlServer {
    pub(crate) async fn check(&self) -> Vec<Check> {
        let mut session = match self.connect().await {
            Ok(session) => session,
            Err(error) => return vec![Check::failed("connect", &error)],
        };
        let mut checks = vec![Check::passed(
            "connect",
            format!(
                "{} as {}, version {}",
                self.place(),
                self.user,
                session.version
            ),
        )];
        let checking = self.try_check(&mut session, &mut checks);
        match self.answered(SEARCHES, checking).await {
            Ok(()) => {}
            Err(error) => checks.push(Check::failed("ask", &error)),
        }
        self.leave(session).await;
        checks
    }

    async fn try_check(
        &self,
        session: &mut Session,
        checks: &mut Vec<Check>,
    ) -> Result<(), ConnectorError> {
        let flavor = session.flavor;
        let connection = &mut session.connection;
        let ask = |error| self.failed("ask", error);
        let cipher: Option<Row> = connection
            .query_first("SHOW STATUS LIKE 'Ssl_cipher'")
            .await
            .map_err(ask)?;
        let cipher: Option<String> = cipher.and_then(|mut row| row.take(1));
        checks.push(match cipher.filter(|cipher| !cipher.is_empty()) {
            Some(cipher) => Check::passed("tls", cipher),
            None => Check::passed("tls", "not encrypted"),
        });
        let variables: Vec<(String, String)> = connection
            .query("SHOW GLOBAL VARIABLES")
            .await
            .map_err(ask)?;
        let variables = Variables {
            flavor,
            values: variables.into_iter().collect(),
        };
        variables.check(checks);
        let grants: Vec<String> = connection.query("SHOW GRANTS").await.map_err(ask)?;
        checks.push(grants_check(&grants, flavor, &self.user));
        checks.push(match self.read_binlog(flavor).await {
            Ok(position) => Check::passed("read binlog", position),
            Err(error) => Check::failed("read binlog", &error),
        });
        Ok(())
    }

    /// Reads what the binlog begins with, as a replica would.
    async fn read_binlog(&self, flavor: Flavor) -> Result<String, ConnectorError> {
        let mut session = self.connect().await?;
        let position = binlog_position(&mut session.connection, flavor)
            .await
            .map_err(|error| self.failed("ask the binlog position of", error))?;
        let Some((file, position)) = position else {
            return Err(ConnectorError::new(
                crate::error::sqlstate::FEATURE_NOT_SUPPORTED,
                "the server writes no binlog",
            ));
        };
        let request = BinlogStreamRequest::new(self.server_id.unwrap_or(SERVER_ID))
            .with_filename(file.as_bytes())
            .with_pos(position);
        let request = request.with_non_blocking();
        let reading = async {
            let mut stream = session.connection.get_binlog_stream(request).await?;
            let event = futures::StreamExt::next(&mut stream).await;
            stream.close().await?;
            event.transpose()
        };
        let event = tokio::time::timeout(self.timeout, reading)
            .await
            .map_err(|_| {
                ConnectorError::new(
                    crate::error::sqlstate::CONNECTION_REFUSED,
                    "no event came from the binlog in time",
                )
            })?
            .map_err(|error| self.failed(READ_BINLOG, error))?;
        match event {
            Some(_) => Ok(format!("at {file}:{position}")),
            None => Ok(format!("at {file}:{position}, nothing to read yet")),
        }
    }
}

/// Where the binlog is written at: file and offset. `None` when there is none.
pub(crate) async fn binlog_position(
    connection: &mut Conn,
    flavor: Flavor,
) -> Result<Option<(String, u64)>, mysql_async::Error> {
    let row = match flavor {
        Flavor::MySql => binlog_status(connection).await?,
        Flavor::MariaDb => connection.query_first("SHOW BINLOG STATUS").await?,
    };
    Ok(row.and_then(|mut row| Some((row.take(0)?, row.take(1)?))))
}

/// What a MySQL server says of where its binlog is written at.
pub(crate) async fn binlog_status(
    connection: &mut Conn,
) -> Result<Option<Row>, mysql_async::Error> {
    match connection.query_first("SHOW BINARY LOG STATUS").await {
        // What older servers call it.
        Err(mysql_async::Error::Server(error)) if error.code == 1064 => {
            connection.query_first("SHOW MASTER STATUS").await
        }
        status => status,
    }
}

/// The server's global variables, and what they are to be.
struct Variables {
    flavor: Flavor,
    values: BTreeMap<String, String>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The statement that sets a variable, and keeps it where the server can.
    fn set(&self, name: &str, value: &str) -> String {
        match self.flavor {
            Flavor::MySql => format!("SET PERSIST {name} = {value}"),
            Flavor::MariaDb => {
                format!(
                    "SET GLOBAL {name} = {value}; -- and {name} = {value} under [mariadb] in my.cnf"
                )
            }
        }
    }

    fn must_be(&self, check: &'static str, name: &'static str, wanted: &str, why: &str) -> Check {
        match self.get(name) {
            Some(value) if value.eq_ignore_ascii_case(wanted) => {
                Check::passed(check, format!("{name} = {value}"))
            }
            // A server that has no such variable cannot do otherwise.
            None => Check::passed(check, format!("the server has no {name}")),
            Some(value) => {
                let shown = if value.is_empty() { "''" } else { value };
                let wanted = if wanted.is_empty() { "''" } else { wanted };
                Check {
                    name: check,
                    ok: false,
                    detail: format!("{name} = {shown}, and must be {wanted}: {why}"),
                    fix: Some(self.set(name, wanted)),
                }
            }
        }
    }

    fn check(&self, checks: &mut Vec<Check>) {
        checks.push(match self.get("log_bin") {
            Some(value) if value.eq_ignore_ascii_case("on") || value == "1" => {
                Check::passed("binlog", "log_bin = ON")
            }
            _ => Check {
                name: "binlog",
                ok: false,
                detail: "log_bin = OFF: the server keeps no log of its changes".into(),
                fix: Some(
                    "log_bin = binlog under [mysqld] in my.cnf, then restart the server".into(),
                ),
            },
        });
        checks.push(match self.get("server_id") {
            Some("0") => Check {
                name: "server id",
                ok: false,
                detail: "server_id = 0: the server lets no replica read its binlog".into(),
                fix: Some(self.set("server_id", "1")),
            },
            id => Check::passed("server id", format!("server_id = {}", id.unwrap_or("?"))),
        });
        checks.push(self.must_be(
            "format",
            "binlog_format",
            "ROW",
            "statements do not say which rows they changed",
        ));
        checks.push(match self.get("binlog_row_image").map(str::to_uppercase) {
            Some(image) if matches!(image.as_str(), "MINIMAL" | "NOBLOB") => Check::passed(
                "row image",
                match self.flavor {
                    Flavor::MySql => format!("binlog_row_image = {image}: changes name the changed columns, and the rest is read from the lake"),
                    Flavor::MariaDb => format!(
                        "binlog_row_image = {image}: changes name the changed columns, and the rest is read from the lake; \
                         rows of REPLACE and of INSERT ... ON DUPLICATE KEY are read from the source once more"
                    ),
                },
            ),
            _ => self.must_be(
                "row image",
                "binlog_row_image",
                "FULL",
                "changes are to tell what the rows are by now",
            ),
        });
        checks.push(match self.get("binlog_row_metadata") {
            None => Check {
                name: "row metadata",
                ok: false,
                detail: "the server has no binlog_row_metadata: it is too old to say what its columns are called".into(),
                fix: Some("MySQL 8.0, MariaDB 10.5 or newer".into()),
            },
            Some(_) => self.must_be(
                "row metadata",
                "binlog_row_metadata",
                "FULL",
                "changes then say what their columns are called, of which type and character set",
            ),
        });
        if self.get("binlog_row_value_options").is_some() {
            checks.push(self.must_be(
                "partial JSON",
                "binlog_row_value_options",
                "",
                "a change to a part of a document says only the part",
            ));
        }
        checks.push(self.gtid());
        checks.push(self.retention());
        let zone = |name| self.get(name).unwrap_or("?");
        checks.push(Check::passed(
            "time zone",
            format!(
                "time_zone = {}, system_time_zone = {}; timestamps are read in UTC",
                zone("time_zone"),
                zone("system_time_zone")
            ),
        ));
    }

    fn gtid(&self) -> Check {
        match (self.flavor, self.get("gtid_mode")) {
            (Flavor::MariaDb, _) => Check::passed("gtid", "MariaDB numbers every transaction"),
            (Flavor::MySql, Some(mode)) if mode.eq_ignore_ascii_case("on") => {
                Check::passed("gtid", "gtid_mode = ON")
            }
            (Flavor::MySql, mode) => Check {
                name: "gtid",
                ok: false,
                detail: format!(
                    "gtid_mode = {}: after a failover the place in the new server's binlog is not known",
                    mode.unwrap_or("?")
                ),
                fix: Some(
                    "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; \
                     SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON"
                        .into(),
                ),
            },
        }
    }

    fn retention(&self) -> Check {
        let seconds = |name: &str, factor: u64| {
            let value: f64 = self.get(name)?.parse().ok()?;
            Some((value * factor as f64) as u64)
        };
        let kept = seconds("binlog_expire_logs_seconds", 1)
            .filter(|seconds| *seconds > 0)
            .or_else(|| seconds("expire_logs_days", 24 * 3600))
            .unwrap_or(0);
        if kept == 0 {
            return Check::passed(
                "retention",
                "binlogs are kept until they are purged by hand",
            );
        }
        let told = format!("binlogs are kept for {} hours", kept / 3600);
        if kept >= RETENTION_SECONDS_MIN {
            return Check::passed("retention", told);
        }
        Check {
            name: "retention",
            ok: false,
            detail: format!(
                "{told}: a pipeline that stands for longer has to read its tables again"
            ),
            fix: Some(self.set("binlog_expire_logs_seconds", "604800")),
        }
    }
}

fn grants_check(grants: &[String], flavor: Flavor, user: &str) -> Check {
    let global: Vec<String> = grants
        .iter()
        .filter(|grant| grant.contains(" ON *.* "))
        .map(|grant| grant.to_ascii_uppercase())
        .collect();
    let has = |names: &[&str]| {
        let mut grants = global.iter();
        grants.any(|grant| {
            grant.contains("ALL PRIVILEGES") || names.iter().any(|name| grant.contains(name))
        })
    };
    let needed: &[(&str, &[&str])] = match flavor {
        Flavor::MySql => &[
            ("REPLICATION SLAVE", &["REPLICATION SLAVE"]),
            ("REPLICATION CLIENT", &["REPLICATION CLIENT"]),
        ],
        Flavor::MariaDb => &[
            (
                "REPLICATION SLAVE",
                &["REPLICATION SLAVE", "REPLICATION REPLICA"],
            ),
            ("BINLOG MONITOR", &["BINLOG MONITOR", "REPLICATION CLIENT"]),
        ],
    };
    let mut missing: Vec<&str> = needed
        .iter()
        .filter(|(_, names)| !has(names))
        .map(|(name, _)| *name)
        .collect();
    let mut all = grants.iter().map(|grant| grant.to_ascii_uppercase());
    let selects = all.any(|grant| {
        let what = grant.split(" ON ").next().unwrap_or_default();
        what.contains("SELECT") || what.contains("ALL PRIVILEGES")
    });
    if !selects {
        missing.push("SELECT");
    }
    if missing.is_empty() {
        return Check::passed("grants", "SELECT and replication");
    }
    Check {
        name: "grants",
        ok: false,
        detail: format!("the user lacks {}", missing.join(", ")),
        fix: Some(format!(
            "GRANT {} ON *.* TO '{}'@'%'",
            missing.join(", "),
            user.replace('\'', "''")
        )),
    }
}
