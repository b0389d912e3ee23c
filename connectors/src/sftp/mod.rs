//! Files of a folder on an SSH server.
//!
//! Options `host`, `port`, `user`, `password`, `private_key` (its text) with `passphrase`,
//! `host_key` (`SHA256:...`, as `ssh-keyscan` piped to `ssh-keygen -lf -` prints it), `path` (the
//! root), `timeout`, `insecure_accept_host_key`. A server is trusted for its key alone: without
//! one given, nothing is sent to it.

mod session;
mod store;

use std::sync::Arc;
use std::time::Duration;

use crate::connector::{Connector, Remote};
use crate::error::ConnectorError;

use crate::options::Options;

use session::{Login, Server};
use store::SftpStore;

/// The connector.
pub struct Sftp;

impl Connector for Sftp {
    fn name(&self) -> &'static str {
        "SFTP"
    }

    fn configure(&self, options: &mut Options) -> Result<Remote, ConnectorError> {
        let host = options.require_text("host")?;
        let port = options.take_number("port")?.unwrap_or(22);
        let user = options.require_text("user")?;
        let password = options.take_text("password")?;
        let private_key = options.take_text("private_key")?;
        let passphrase = options.take_text("passphrase")?;
        let login = match (private_key, password) {
            (Some(key), None) => Login::key(&key, passphrase.as_deref())?,
            (None, Some(password)) => Login::Password(password),
            (Some(_), Some(_)) => {
                return Err(ConnectorError::option(
                    "connector \"SFTP\" takes either \"password\" or \"private_key\"",
                ));
            }
            (None, None) => {
                return Err(ConnectorError::option(
                    "connector \"SFTP\" needs the option \"password\" or \"private_key\"",
                ));
            }
        };
        let host_key = options.take_text("host_key")?;
        let accept_any = options
            .take_bool("insecure_accept_host_key")?
            .unwrap_or(false);
        if host_key.is_none() && !accept_any {
            return Err(
                ConnectorError::option("connector \"SFTP\" needs the option \"host_key\"").hint(
                    format!(
                        "ask the server's owner for it and compare: \
                     ssh-keyscan -p {port} {host} | ssh-keygen -lf -"
                    ),
                ),
            );
        }
        let timeout = options
            .take_duration("timeout")?
            .unwrap_or(Duration::from_secs(30));
        let root = options.take_text("path")?.unwrap_or_else(|| ".".to_owned());
        let server = Server {
            host,
            port,
            user,
            login,
            host_key,
            timeout,
        };
        Ok(Remote::Files(Arc::new(SftpStore::new(server, root))))
    }
}
