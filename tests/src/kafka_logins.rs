//! A broker of a test's own that asks over TLS who one is.
//!
//! Its certificate is for 127.0.0.1 alone: `localhost` is another host. Tokens without a signature are taken at
//! [`LoginBroker::login`], by Kafka's own validator for tests; those of AWS at [`LoginBroker::iam`], by
//! `tests/services/IamValidator.java`. Where a token came in by, its end is the end of the connection.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

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
            "listener.name.login.oauthbearer.connections.max.reauth.ms=3600000".to_owned(),
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

/// A broker whose logins are ended before they are done, two of three: the connection breaks, or the broker says
/// that it is no time for one, as it does to a client that renews its login twice within a second.
pub struct InterruptedBroker {
    pub broker: Broker,
    pub login: u16,
    begun: Arc<AtomicUsize>,
    /// What is open ends whenever this changes.
    ends: watch::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for InterruptedBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl InterruptedBroker {
    pub async fn start() -> Result<Self, Failure> {
        // The broker's, its controller's, the one with logins, and the way there.
        let port = free_ports(4)?;
        let login = port + 3;
        let advertised =
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{login}");
        let mut broker = Broker::of(port, vec![advertised])?;
        broker.start().await?;
        let listener = TcpListener::bind(("127.0.0.1", login)).await?;
        let begun = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&begun);
        let (ends, ended) = watch::channel(());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let turn = count.fetch_add(1, Ordering::Relaxed);
                let mut ended = ended.clone();
                ended.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = interrupt(client, [port, port + 2], turn) => {}
                        _ = ended.changed() => {}
                    }
                });
            }
        });
        Ok(Self {
            broker,
            login,
            begun,
            ends,
            task,
        })
    }

    /// Ends all connections that are open.
    pub fn end_connections(&self) {
        self.ends.send_replace(());
    }

    /// How many connections were made for logins.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

/// Carries one connection on to the listener with logins at the second port; of three connections, one ends where
/// its login begins, and one is led to the listener without logins, which says that it is no time for one.
async fn interrupt(mut client: TcpStream, ports: [u16; 2], turn: usize) -> Result<(), Failure> {
    const SASL_HANDSHAKE: i16 = 17;
    let port = ports[usize::from(turn % 3 != 1)];
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    if !turn.is_multiple_of(3) {
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let requests = async {
        loop {
            let length = from_client.read_u32().await?;
            let mut request = vec![0; usize::try_from(length)?];
            from_client.read_exact(&mut request).await?;
            if request.starts_with(&SASL_HANDSHAKE.to_be_bytes()) {
                return Ok(());
            }
            to_server.write_u32(length).await?;
            to_server.write_all(&request).await?;
        }
    };
    tokio::select! {
        copied = tokio::io::copy(&mut from_server, &mut to_client) => copied.map(drop).map_err(Failure::from),
        ended = requests => ended,
    }
}

/// A way to a listener with TLS on which alerts get lost, as they do where a broker ends a connection with a request unread:
/// it is over as soon as a client has sent more than its part of the handshake, so many records, and answers to that part
/// take a moment.
pub struct LossyWay {
    pub port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for LossyWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LossyWay {
    pub async fn to(port: u16, handshake_records: usize) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry_handshake(client, port, handshake_records));
            }
        });
        Ok(Self { port: own, task })
    }
}

async fn carry_handshake(mut client: TcpStream, port: u16, most: usize) -> Result<(), Failure> {
    /// A record whose content is encrypted (RFC 8446, section 5.1).
    const APPLICATION_DATA: u8 = 23;
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let sent = AtomicUsize::new(0);
    let requests = async {
        loop {
            let kind = from_client.read_u8().await?;
            let version = from_client.read_u16().await?;
            let length = from_client.read_u16().await?;
            let mut record = vec![0; usize::from(length)];
            from_client.read_exact(&mut record).await?;
            if kind == APPLICATION_DATA && sent.fetch_add(1, Ordering::Relaxed) == most {
                return Ok(());
            }
            to_server.write_u8(kind).await?;
            to_server.write_u16(version).await?;
            to_server.write_u16(length).await?;
            to_server.write_all(&record).await?;
        }
    };
    let answers = async {
        let mut buffer = vec![0; 1 << 14];
        loop {
            let read = from_server.read(&mut buffer).await?;
            if sent.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            if read == 0 {
                return Ok(());
            }
            to_client.write_all(&buffer[..read]).await?;
        }
    };
    tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
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

/// The client that [`TokenProvider`] gives tokens to, and its secret.
pub const CLIENT_ID: &str = "lake:house";
pub const CLIENT_SECRET: &str = "s3cret/+ %";

/// A provider of tokens, as identity providers are for clients themselves (RFC 6749, section 4.4).
pub struct TokenProvider {
    port: u16,
    state: Arc<ProviderState>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct ProviderState {
    /// Seconds that tokens live.
    life: AtomicI64,
    asked: AtomicUsize,
    /// Status and body of the next answers, instead of tokens.
    faults: Mutex<Vec<(&'static str, &'static str)>>,
}

impl Drop for TokenProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TokenProvider {
    pub async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(ProviderState::default());
        state.life.store(600, Ordering::Relaxed);
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _ = give_token(stream, &state).await;
                });
            }
        });
        Ok(Self { port, state, task })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/oauth2/token", self.port)
    }

    /// How many tokens were asked for.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }

    /// Tokens live so many seconds from now on.
    pub fn set_life(&self, seconds: i64) {
        self.state.life.store(seconds, Ordering::Relaxed);
    }

    /// The next answers are these, first the last.
    pub fn set_faults(&self, faults: &[(&'static str, &'static str)]) {
        let mut next = self
            .state
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *next = faults.to_vec();
    }
}

async fn give_token(stream: TcpStream, state: &ProviderState) -> Result<(), Failure> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    };
    let length = header("content-length").ok_or("no length")?.parse()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let body = String::from_utf8(body)?;
    state.asked.fetch_add(1, Ordering::Relaxed);

    // Both are encoded as in a form first.
    let login = STANDARD.encode("lake%3Ahouse:s3cret%2F%2B+%25");
    let is_form = header("content-type") == Some("application/x-www-form-urlencoded");
    let has_grant = body
        .split('&')
        .any(|pair| pair == "grant_type=client_credentials");
    let fault = state
        .faults
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop();
    let (status, answer) = match fault {
        Some((status, answer)) => (status, answer.to_owned()),
        None if !head.starts_with("POST /oauth2/token ") || !is_form || !has_grant => (
            "400 Bad Request",
            r#"{"error":"invalid_request"}"#.to_owned(),
        ),
        None if header("authorization") != Some(&format!("Basic {login}")) => (
            "401 Unauthorized",
            r#"{"error":"invalid_client","error_description":"the client is not known"}"#
                .to_owned(),
        ),
        None if !body.split('&').any(|pair| pair == "scope=kafka+read") => {
            ("400 Bad Request", r#"{"error":"invalid_scope"}"#.to_owned())
        }
        None => {
            let life = state.life.load(Ordering::Relaxed);
            let token = unsigned_token(USER, life)?;
            let answer = format!(
                r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{life}}}"#
            );
            ("200 OK", answer)
        }
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
        answer.len()
    );
    stream.get_mut().write_all(answer.as_bytes()).await?;
    Ok(())
}
