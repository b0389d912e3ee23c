//! One session with an SSH server, authenticated both ways.
//!
//! The host key is compared before anything of ours is sent. A session is made for one piece of
//! work and dropped after it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{self, AuthResult, Handle};
use russh::keys::{
    HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key,
};
use russh_sftp::client::SftpSession;

use crate::error::{ConnectorError, sqlstate};

/// Where to, as whom, trusting which key.
pub struct Server {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub login: Login,
    /// `None` accepts any.
    pub host_key: Option<String>,
    pub timeout: Duration,
}

pub enum Login {
    Password(String),
    Key(Arc<PrivateKey>),
}

impl Login {
    pub fn key(text: &str, passphrase: Option<&str>) -> Result<Self, ConnectorError> {
        decode_secret_key(text, passphrase)
            .map(|key| Self::Key(Arc::new(key)))
            .map_err(|error| {
                ConnectorError::option("the private key cannot be read")
                    .hint("give the whole text of the key file, and its passphrase if it has one")
                    .caused_by(error)
            })
    }
}

/// An open session. The connection ends when it is dropped.
pub struct Session {
    pub sftp: SftpSession,
    _connection: Handle<HostKeyCheck>,
}

/// Compares the key the server shows.
pub struct HostKeyCheck {
    expected: Option<String>,
    shown: Arc<Mutex<Option<String>>>,
}

impl client::Handler for HostKeyCheck {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let shown = key.public_key().fingerprint(HashAlg::Sha256).to_string();
        let accepted = self
            .expected
            .as_ref()
            .is_none_or(|expected| *expected == shown);
        if let Ok(mut slot) = self.shown.lock() {
            *slot = Some(shown);
        }
        Ok(accepted)
    }
}

impl Server {
    pub async fn connect(&self) -> Result<Session, ConnectorError> {
        tokio::time::timeout(self.timeout, self.connect_untimed())
            .await
            .unwrap_or_else(|_| {
                Err(self
                    .unreachable()
                    .hint("check host, port and firewall, or raise timeout"))
            })
    }

    async fn connect_untimed(&self) -> Result<Session, ConnectorError> {
        let shown = Arc::new(Mutex::new(None));
        let check = HostKeyCheck {
            expected: self.host_key.clone(),
            shown: shown.clone(),
        };
        let config = client::Config {
            inactivity_timeout: Some(self.timeout * 4),
            keepalive_interval: Some(Duration::from_secs(15)),
            nodelay: true,
            ..client::Config::default()
        };
        let address = (self.host.as_str(), self.port);
        let connected = client::connect(Arc::new(config), address, check).await;
        let mut connection = connected.map_err(|error| {
            let shown = shown.lock().ok().and_then(|shown| shown.clone());
            match (&self.host_key, shown) {
                (Some(expected), Some(shown)) if *expected != shown => ConnectorError::new(
                    sqlstate::CONNECTION_REFUSED,
                    format!("server \"{}\" shows another host key than the one expected", self.host),
                )
                .hint(format!(
                    "the server shows {shown}; set host_key to it only if its owner confirms the change"
                )),
                _ => self.unreachable(),
            }
            .caused_by(error)
        })?;
        self.authenticate(&mut connection).await?;
        let failed = |error: russh::Error| {
            ConnectorError::new(
                sqlstate::CONNECTION_FAILURE,
                format!("server \"{}\" does not offer SFTP", self.host),
            )
            .caused_by(error)
        };
        let channel = connection.channel_open_session().await.map_err(failed)?;
        channel
            .request_subsystem(true, "sftp")
            .await
            .map_err(failed)?;
        let sftp = SftpSession::new(channel.into_stream())
            .await
            .map_err(|error| {
                ConnectorError::new(
                    sqlstate::CONNECTION_FAILURE,
                    format!("server \"{}\" does not offer SFTP", self.host),
                )
                .caused_by(error)
            })?;
        sftp.set_timeout(self.timeout.as_secs().max(1));
        Ok(Session {
            sftp,
            _connection: connection,
        })
    }

    async fn authenticate(
        &self,
        connection: &mut Handle<HostKeyCheck>,
    ) -> Result<(), ConnectorError> {
        let failed = |error: russh::Error| self.unreachable().caused_by(error);
        let answer = match &self.login {
            Login::Password(password) => connection
                .authenticate_password(&self.user, password)
                .await
                .map_err(failed)?,
            Login::Key(key) => {
                let hash = connection
                    .best_supported_rsa_hash()
                    .await
                    .map_err(failed)?
                    .flatten();
                let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
                connection
                    .authenticate_publickey(&self.user, key)
                    .await
                    .map_err(failed)?
            }
        };
        if matches!(answer, AuthResult::Success) {
            return Ok(());
        }
        Err(ConnectorError::new(
            sqlstate::INVALID_AUTHORIZATION,
            format!(
                "server \"{}\" refused the login of user \"{}\"",
                self.host, self.user
            ),
        )
        .hint(match self.login {
            Login::Password(_) => "check the password, and that the server allows passwords",
            Login::Key(_) => "check that the server knows the public key of this private key",
        }))
    }

    fn unreachable(&self) -> ConnectorError {
        ConnectorError::new(
            sqlstate::CONNECTION_FAILURE,
            format!("could not connect to \"{}\" port {}", self.host, self.port),
        )
        .retryable()
    }
}
