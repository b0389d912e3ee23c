//! Connections to one server, and what goes wrong with them in words.

use std::future::Future;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, DriverError, Error, IoError, Opts, OptsBuilder, SslOpts};
use tokio_rustls::rustls;

use super::TlsMode;
use crate::error::{ConnectorError, sqlstate};

const PACKET_BYTES_MAX: usize = 1 << 30;

/// What is done as a replica.
pub(crate) const READ_BINLOG: &str = "read the binlog of";

const CERTIFICATES_HINT: &str = "tls_ca, tls_cert and tls_key are texts that begin with -----BEGIN";

/// A host that no certificate names. The client library's `danger_skip_domain_validation` passes over an error
/// whose text has this word, which the errors of rustls have only if the host has it.
const ANY_HOST: &str = "NotValidForName";

/// How many times `timeout` a server may take for what it has to search: its list of tables, rows.
pub(crate) const SEARCHES: u32 = 10;

/// Which server it is. The two agree on little about positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    MySql,
    MariaDb,
}

/// How to reach a server.
#[derive(Clone)]
pub struct MySqlServer {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) tls: TlsMode,
    pub(crate) ca: Option<String>,
    /// Certificate and key of this client, PEM.
    pub(crate) identity: Option<(String, String)>,
    /// How long the server may be silent when an answer is due.
    pub(crate) timeout: Duration,
    /// What this client is called among the server's replicas, where it was said.
    pub(crate) server_id: Option<u32>,
}

impl std::fmt::Debug for MySqlServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "MySqlServer({})", self.place())
    }
}

/// A connection that is logged in.
pub(crate) struct Session {
    pub connection: Conn,
    pub flavor: Flavor,
    /// As the server says it: `10.11.6-MariaDB`, `9.7.0`.
    pub version: String,
}

impl MySqlServer {
    /// `host:port`, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn options(&self) -> Opts {
        let tls = (self.tls != TlsMode::Disable).then(|| {
            let roots = self.ca.iter();
            let roots = roots.map(|ca| ca.clone().into_bytes().into());
            let identity = self.identity.as_ref().map(|(certificate, key)| {
                let certificate = certificate.clone().into_bytes();
                ClientIdentity::new(certificate.into(), key.clone().into_bytes().into())
            });
            SslOpts::default()
                .with_root_certs(roots.collect())
                // A certificate authority that was named is the only one to be trusted.
                .with_disable_built_in_roots(self.ca.is_some())
                .with_client_identity(identity)
                .with_danger_accept_invalid_certs(self.tls == TlsMode::Require)
                .with_danger_skip_domain_validation(self.tls == TlsMode::VerifyCa)
                .with_danger_tls_hostname_override(
                    (self.tls == TlsMode::VerifyCa).then_some(ANY_HOST),
                )
        });
        OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .pass(self.password.clone())
            .ssl_opts(tls)
            .prefer_socket(false)
            // Events and rows may be as large as the protocol lets them.
            .max_allowed_packet(Some(PACKET_BYTES_MAX))
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .into()
    }

    /// Logs in.
    pub(crate) async fn connect(&self) -> Result<Session, ConnectorError> {
        // Two providers are linked in, so that one has to be chosen; a second choice changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connecting = async {
            let mut connection = Conn::new(self.options())
                .await
                .map_err(|error| self.failed("connect to", error))?;
            let version: Option<String> = connection
                .query_first("SELECT VERSION()")
                .await
                .map_err(|error| self.failed("ask", error))?;
            Ok((connection, version.unwrap_or_default()))
        };
        let (connection, version) = self.answered(1, connecting).await?;
        let flavor = match version.to_ascii_lowercase().contains("mariadb") {
            true => Flavor::MariaDb,
            false => Flavor::MySql,
        };
        Ok(Session {
            connection,
            flavor,
            version,
        })
    }

    /// Logs out. The library first reads what is left of an answer that was given up, by a connection that may be
    /// silent, and does so for ever.
    pub(crate) async fn leave(&self, session: Session) {
        let _ = tokio::time::timeout(self.timeout, session.connection.disconnect()).await;
    }

    /// Waits for an answer, for so many times `timeout`: a connection may stay open though nothing comes by it
    /// any more.
    pub(crate) async fn answered<T>(
        &self,
        times: u32,
        asking: impl Future<Output = Result<T, ConnectorError>>,
    ) -> Result<T, ConnectorError> {
        let patience = self.timeout * times;
        match tokio::time::timeout(patience, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(ConnectorError::new(
                sqlstate::CONNECTION_REFUSED,
                format!("{} did not answer within {patience:?}", self.place()),
            )
            .retryable()),
        }
    }

    /// What went wrong when something was done to the server.
    pub(crate) fn failed(&self, action: &str, error: Error) -> ConnectorError {
        let place = self.place();
        let told = |state, what: String| ConnectorError::new(state, what);
        let failure = match &error {
            // What whoever has logged in already is told that may not be a replica.
            Error::Server(server) if server.code == 1045 && action == READ_BINLOG => told(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!(
                    "could not {action} {place}: {} lacks REPLICATION SLAVE",
                    self.user
                ),
            )
            .hint(format!(
                "GRANT REPLICATION SLAVE ON *.* TO '{}'@'%'",
                self.user.replace('\'', "''")
            )),
            Error::Server(server) => {
                let state = match server.code {
                    // Access denied, of several kinds.
                    1044 | 1045 | 1698 => sqlstate::INVALID_AUTHORIZATION,
                    1142 | 1143 | 1227 | 1370 => sqlstate::INSUFFICIENT_PRIVILEGE,
                    1040 | 1203 => sqlstate::LIMIT_EXCEEDED,
                    _ => sqlstate::CONNECTION_FAILURE,
                };
                let message = &server.message;
                let failure = told(state, format!("could not {action} {place}: {message}"));
                match server.code {
                    // Too many connections, a deadlock, a server that goes down or has closed the session.
                    1040 | 1053 | 1158..=1161 | 1203 | 1205 | 1213 | 1927 | 3169 | 4031 => {
                        failure.retryable()
                    }
                    1044 | 1045 | 1698 => failure.hint(self.login_hint()),
                    1142 | 1143 | 1227 | 1370 => {
                        failure.hint("CHECK CONNECTION tells which GRANT is missing")
                    }
                    _ => failure,
                }
            }
            Error::Io(io) => {
                let state = sqlstate::CONNECTION_REFUSED;
                let failure = told(state, format!("could not {action} {place}: {io}"));
                match (tls_failure(&error), io) {
                    (Some(rustls::Error::InvalidCertificate(reason)), _) => {
                        failure.hint(self.certificate_hint(reason))
                    }
                    (Some(_), _) => failure,
                    // The certificates of the connection itself.
                    (None, IoError::Tls(_)) => told(
                        sqlstate::INVALID_PARAMETER,
                        format!("the connection's certificates cannot be used: {io}"),
                    )
                    .hint(CERTIFICATES_HINT),
                    (None, IoError::Io(_)) => failure.retryable(),
                }
            }
            Error::Driver(DriverError::ConnectionClosed) => {
                let state = sqlstate::CONNECTION_REFUSED;
                told(state, format!("could not {action} {place}: {error}")).retryable()
            }
            Error::Driver(DriverError::NoClientSslFlagFromServer) => told(
                sqlstate::CONNECTION_REFUSED,
                format!("could not {action} {place}: the server has no TLS"),
            )
            .hint("have the server offer TLS, or set the connection's option tls = 'disable'"),
            Error::Driver(DriverError::NoKeyFound) => told(
                sqlstate::INVALID_PARAMETER,
                "the connection's certificates cannot be used: tls_key holds no key".to_owned(),
            )
            .hint(CERTIFICATES_HINT),
            // Of a user who does not exist a server asks so too, lest it be found out.
            Error::Driver(DriverError::UnknownAuthPlugin { name }) => told(
                sqlstate::INVALID_AUTHORIZATION,
                format!(
                    "could not {action} {place}: \"{}\" does not exist there, or has to log in by {name}, which is not known here",
                    self.user
                ),
            )
            .hint(
                "CREATE USER or ALTER USER there, MySQL: IDENTIFIED WITH caching_sha2_password BY '...', MariaDB: IDENTIFIED VIA ed25519 USING PASSWORD('...')",
            ),
            other => told(
                sqlstate::CONNECTION_FAILURE,
                format!("could not {action} {place}: {other}"),
            ),
        };
        failure.caused_by(error)
    }

    /// What may be wrong with a login that was refused.
    fn login_hint(&self) -> &'static str {
        match (self.tls, &self.identity) {
            (TlsMode::Disable, _) => {
                "ALTER CONNECTION ... SET (user = ..., password = ...), or CREATE USER and ALTER USER there; a user who has REQUIRE SSL needs tls"
            }
            (_, None) => {
                "ALTER CONNECTION ... SET (user = ..., password = ...), or CREATE USER and ALTER USER there; a user who has REQUIRE X509 needs tls_cert and tls_key"
            }
            (_, Some(_)) => {
                "ALTER CONNECTION ... SET (user = ..., password = ...), or CREATE USER and ALTER USER there; the server may also expect another certificate than tls_cert"
            }
        }
    }

    /// What can be done about a certificate of the server's that is refused.
    fn certificate_hint(&self, reason: &rustls::CertificateError) -> &'static str {
        use rustls::CertificateError as Reason;
        match reason {
            Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
                "use a host that the certificate names, or set tls = 'verify-ca'"
            }
            Reason::UnknownIssuer if self.ca.is_none() => {
                "set tls_ca to the certificate of the authority that signed the server's"
            }
            Reason::UnknownIssuer => {
                "tls_ca is not the authority that signed the server's certificate"
            }
            _ => "give the server a certificate that can be verified, or set tls = 'require'",
        }
    }
}

/// What TLS says of a connection that failed by it.
fn tls_failure(error: &Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(failure) = inner.downcast_ref() {
            return Some(failure);
        }
        // What an input/output error carries is not its source.
        let carried = inner
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        cause = match carried {
            Some(carried) => Some(carried),
            None => inner.source(),
        };
    }
    None
}
