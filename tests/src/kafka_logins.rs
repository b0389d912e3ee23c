//! A broker of a test's own that asks over TLS who one is.
//!
//! Its certificate is for 127.0.0.1 alone: `localhost` is another host. Tokens without a signature are taken at
//! [`LoginBroker::login`], by Kafka's own validator for tests; those of AWS at [`LoginBroker::iam`], by
//! `tests/services/IamValidator.java`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;

use crate::kafka::Broker;
use crate::mysql::Certificates;
use crate::{Failure, free_ports};

/// Who may log in, and the password.
pub const USER: &str = "boathouse";
pub const PASSWORD: &str = "boathouse";

/// What AWS would call the user.
pub const ACCESS_KEY_ID: &str = "AKIDBOATHOUSE";

/// The listeners, one port above the other.
const LISTENERS: [(&str, &str); 7] = [
    ("PLAINTEXT", "PLAINTEXT"),
    ("CONTROLLER", "PLAINTEXT"),
    ("SASL", "SASL_PLAINTEXT"),
    ("TLS", "SSL"),
    ("MUTUAL", "SSL"),
    ("LOGIN", "SASL_SSL"),
    ("IAM", "SASL_SSL"),
];

/// The broker, and what its clients need.
pub struct LoginBroker {
    pub broker: Broker,
    /// The authority that signed its certificate, and a client's.
    pub certificates: Certificates,
    /// An authority that signed neither.
    pub other: Certificates,
    _folder: TempDir,
}

impl LoginBroker {
    pub async fn start() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let certificates = Certificates::make(folder.path())?;
        let other = Certificates::make(&folder.path().join("other"))?;
        let read = |file: &str| std::fs::read_to_string(folder.path().join(file));
        let store = folder.path().join("store.pem");
        std::fs::write(&store, read("server.key")? + &read("server.pem")?)?;
        let authority = folder.path().join("ca.pem");

        let port = free_ports(7)?;
        let listeners: Vec<String> = (port..)
            .zip(LISTENERS)
            .map(|(port, (name, _))| format!("{name}://127.0.0.1:{port}"))
            .collect();
        let advertised: Vec<&str> = listeners
            .iter()
            .map(String::as_str)
            .filter(|listener| !listener.starts_with("CONTROLLER"))
            .collect();
        let protocols = LISTENERS.map(|(name, protocol)| format!("{name}:{protocol}"));
        let mut settings = vec![
            format!("listeners={}", listeners.join(",")),
            format!("advertised.listeners={}", advertised.join(",")),
            format!("listener.security.protocol.map={}", protocols.join(",")),
            "ssl.keystore.type=PEM".to_owned(),
            format!("ssl.keystore.location={}", store.display()),
            "ssl.truststore.type=PEM".to_owned(),
            format!("ssl.truststore.location={}", authority.display()),
            "listener.name.mutual.ssl.client.auth=required".to_owned(),
            "listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER"
                .to_owned(),
            "listener.name.iam.sasl.enabled.mechanisms=OAUTHBEARER".to_owned(),
            "listener.name.iam.oauthbearer.sasl.server.callback.handler.class=IamValidator"
                .to_owned(),
        ];
        let accounts = format!(" user_{USER}=\"{PASSWORD}\"");
        for (listener, mechanism, module, options) in [
            (
                "login",
                "plain",
                "plain.PlainLoginModule",
                accounts.as_str(),
            ),
            ("login", "scram-sha-512", "scram.ScramLoginModule", ""),
            (
                "login",
                "oauthbearer",
                "oauthbearer.OAuthBearerLoginModule",
                "",
            ),
            (
                "iam",
                "oauthbearer",
                "oauthbearer.OAuthBearerLoginModule",
                "",
            ),
        ] {
            settings.push(format!(
                "listener.name.{listener}.{mechanism}.sasl.jaas.config=\
                 org.apache.kafka.common.security.{module} required{options};"
            ));
        }
        let mut broker = Broker::of(port, settings)?;
        broker.start().await?;
        Ok(Self {
            broker,
            certificates,
            other,
            _folder: folder,
        })
    }

    /// Where TLS alone is needed.
    pub fn tls(&self) -> u16 {
        self.port_of("TLS")
    }

    /// Where a client's certificate is needed.
    pub fn mutual(&self) -> u16 {
        self.port_of("MUTUAL")
    }

    /// Where a password or a token is needed.
    pub fn login(&self) -> u16 {
        self.port_of("LOGIN")
    }

    /// Where a token of AWS is needed.
    pub fn iam(&self) -> u16 {
        self.port_of("IAM")
    }

    fn port_of(&self, name: &str) -> u16 {
        let ports = (self.broker.port()..).zip(LISTENERS);
        let mut found = ports.filter(|(_, (listener, _))| *listener == name);
        found.next().map_or(0, |(port, _)| port)
    }
}

/// A token that nobody signed, for a user, until so many seconds from now.
pub fn unsigned_token(user: &str, seconds: i64) -> Result<String, Failure> {
    let now = std::time::UNIX_EPOCH.elapsed()?.as_secs();
    let until = now.saturating_add_signed(seconds);
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"sub":"{user}","iat":{},"exp":{until}}}"#, now - 60);
    Ok(format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims)))
}
