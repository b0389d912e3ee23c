//! From an accepted socket to a session: TLS, who it is, what both sides are called.
//!
//! There is no way in without a password: every role proves it by SCRAM-SHA-256. What a stranger
//! can make the server do is bounded: one packet of 10,000 bytes, a minute, one place of the
//! connection limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use boathouse_catalog::password::Verifier;
use boathouse_engine::Session;
use boathouse_engine::session::SessionOptions;
use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Shared;
use super::channel::{Channel, ChannelError, Stream};
use super::message::frontend::{self, Frontend};
use super::message::startup::Startup;
use super::message::{ProtocolError, Report, backend};
use super::options;
use super::registry::Place;
use super::scram::{self, Challenge, ScramError};

/// How long a client may take to prove who it is.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings told to every client at the beginning, with what PostgreSQL would say if the session has
/// no such setting.
const REPORTED: [(&str, &str); 13] = [
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "off"),
    ("server_encoding", "UTF8"),
    ("server_version", "15.0"),
    ("session_authorization", ""),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

/// Why a connection did not become a session.
enum Refusal {
    /// The client is told, and the connection closed.
    Told(Report),
    /// There is nobody to tell, or nothing to say.
    Silent,
}

impl From<ChannelError> for Refusal {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Gone => Self::Silent,
            ChannelError::Protocol(error) => error.into(),
        }
    }
}

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        let state = match &error {
            ProtocolError::Lost(_) => "08P01",
            ProtocolError::Malformed { state, .. } => state,
        };
        Self::Told(Report::fatal(state, error.to_string()))
    }
}

/// Makes a session of a socket, or tells the client why not.
pub async fn start(
    shared: &Arc<Shared>,
    socket: TcpStream,
    peer: SocketAddr,
    inbound: BytesMut,
    place: &Place,
) -> Option<(Channel, Session)> {
    let mut channel = Channel::new(Stream::Plain(socket), inbound);
    let started = tokio::select! {
        started = tokio::time::timeout(
            AUTHENTICATION_TIMEOUT,
            negotiate(shared, &mut channel, peer, place),
        ) => started,
        _ = place.interrupt.until_idle() => Ok(Err(Refusal::Told(going_down()))),
    };
    match started {
        Ok(Ok(session)) => return Some((channel, session)),
        Ok(Err(Refusal::Told(report))) => {
            tracing::info!(%peer, state = report.state, "connection refused: {}", report.message);
            say_goodbye(&mut channel, &report).await;
        }
        Ok(Err(Refusal::Silent)) | Err(_) => {}
    }
    None
}

/// What a client is told when the server goes down.
pub fn going_down() -> Report {
    Report::fatal(
        "57P01",
        "terminating connection due to administrator command",
    )
}

/// Answers the startup packet of a client there is no place for.
pub async fn refuse(socket: TcpStream, inbound: BytesMut, report: &Report) {
    let mut channel = Channel::new(Stream::Plain(socket), inbound);
    let answered = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            match Startup::take(&mut channel.inbound) {
                Ok(Some(Startup::Tls | Startup::Gss)) => {
                    channel.out.push(b'N');
                    channel.flush().await?;
                }
                Ok(Some(_)) | Err(_) => break,
                Ok(None) => channel.read_more().await?,
            }
        }
        Ok::<(), ChannelError>(())
    });
    if let Ok(Ok(())) = answered.await {
        say_goodbye(&mut channel, report).await;
    }
}

/// The last message to a client, which may no longer be reading.
pub async fn say_goodbye(channel: &mut Channel, report: &Report) {
    backend::error_response(&mut channel.out, report);
    let _ = tokio::time::timeout(Duration::from_secs(2), async {
        channel.flush().await?;
        channel.stream.shutdown().await?;
        Ok::<(), ChannelError>(())
    })
    .await;
}

async fn negotiate(
    shared: &Arc<Shared>,
    channel: &mut Channel,
    peer: SocketAddr,
    place: &Place,
) -> Result<Session, Refusal> {
    let (minor_version, parameters) = loop {
        let Some(packet) = Startup::take(&mut channel.inbound)? else {
            channel.read_more().await?;
            continue;
        };
        match packet {
            Startup::Tls => accept_tls(shared, channel).await?,
            Startup::Gss => {
                channel.out.push(b'N');
                channel.flush().await?;
            }
            Startup::Cancel { process_id, secret } => {
                shared.registry.cancel(process_id, secret);
                return Err(Refusal::Silent);
            }
            Startup::Session {
                minor_version,
                parameters,
            } => break (minor_version, parameters),
        }
    };
    let unknown: Vec<&str> = parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    if minor_version > 0 || !unknown.is_empty() {
        backend::negotiate_protocol_version(&mut channel.out, 0, &unknown);
    }
    let mut role = String::new();
    let mut database = String::new();
    let mut settings = Vec::new();
    let mut named = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "user" => role = value,
            "database" => database = value,
            "replication" if !matches!(value.as_str(), "false" | "off" | "no" | "0") => {
                return Err(Refusal::Told(Report::fatal(
                    "0A000",
                    "replication connections are not supported",
                )));
            }
            "options" => {
                settings = options::parse(&value).map_err(|argument| {
                    Refusal::Told(
                        Report::fatal(
                            "42601",
                            format!("invalid command-line argument for server process: {argument}"),
                        )
                        .hint("the startup parameter \"options\" takes -c name=value"),
                    )
                })?
            }
            _ if name.starts_with("_pq_.") => {}
            _ => named.push((name, value)),
        }
    }
    // A parameter of its own wins, as in PostgreSQL.
    settings.append(&mut named);
    if role.is_empty() {
        return Err(Refusal::Told(Report::fatal(
            "28000",
            "no PostgreSQL user name specified in startup packet",
        )));
    }
    if database.is_empty() {
        database.clone_from(&role);
    }
    let encrypted = matches!(channel.stream, Stream::Tls(_));
    if shared.options.require_tls && !encrypted {
        return Err(Refusal::Told(
            Report::fatal(
                "28000",
                format!(
                    "no pg_hba.conf entry for host \"{}\", user \"{role}\", database \"{database}\", no encryption",
                    peer.ip()
                ),
            )
            .hint("connect with sslmode=require"),
        ));
    }
    let connection_limit = authenticate(shared, channel, &role).await?;
    let opened = Session::open(
        &shared.engine,
        SessionOptions {
            role: role.clone(),
            database,
            settings,
            client_address: Some(peer),
        },
    );
    let session = opened.map_err(|error| {
        let mut report = super::report(error);
        report.severity = "FATAL";
        Refusal::Told(report)
    })?;
    let secret: i32 = rand::random();
    place
        .sign_in(&role, session.process_id(), secret, connection_limit)
        .map_err(|_| {
            Refusal::Told(Report::fatal(
                "53300",
                format!("too many connections for role \"{role}\""),
            ))
        })?;
    channel.message_bytes_max = frontend::MESSAGE_BYTES_MAX;
    backend::authentication_ok(&mut channel.out);
    for (name, otherwise) in REPORTED {
        let value = session.setting(name);
        backend::parameter_status(
            &mut channel.out,
            name,
            value.as_deref().unwrap_or(otherwise),
        );
    }
    backend::backend_key_data(&mut channel.out, session.process_id(), secret);
    Ok(session)
}

async fn accept_tls(shared: &Shared, channel: &mut Channel) -> Result<(), Refusal> {
    let Some(tls) = &shared.tls else {
        channel.out.push(b'N');
        return Ok(channel.flush().await?);
    };
    // Bytes that came before the encryption could be an attacker's, to be taken for the client's.
    if !channel.inbound.is_empty() {
        return Err(Refusal::Told(
            Report::fatal("08P01", "received unencrypted data after SSL request").detail(
                "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
            ),
        ));
    }
    if let Stream::Plain(socket) = &mut channel.stream {
        socket.write_all(b"S").await.map_err(ChannelError::from)?;
    }
    let (socket, inbound) = channel.take_plain().ok_or(Refusal::Silent)?;
    let stream = tls.acceptor.accept(socket).await.map_err(|error| {
        tracing::info!("TLS handshake failed: {error}");
        Refusal::Silent
    })?;
    *channel = Channel::new(Stream::Tls(Box::new(stream)), inbound);
    Ok(())
}

/// Gives the role's own connection limit once the client has proved to be it.
async fn authenticate(shared: &Shared, channel: &mut Channel, role: &str) -> Result<i32, Refusal> {
    let wrong = || {
        Refusal::Told(Report::fatal(
            "28P01",
            format!("password authentication failed for user \"{role}\""),
        ))
    };
    let snapshot = shared.engine.catalog.snapshot();
    let definition = snapshot.role(role).cloned();
    let verifier = definition
        .as_ref()
        .filter(|role| {
            role.valid_until
                .is_none_or(|until| until > chrono::Utc::now())
        })
        .and_then(|role| role.verifier.as_deref())
        .and_then(Verifier::parse);
    let can_succeed = verifier.is_some();
    let verifier =
        verifier.unwrap_or_else(|| scram::made_up_verifier(&shared.process_secret, role));
    let certificate_hash = match (&channel.stream, &shared.tls) {
        (Stream::Tls(_), Some(tls)) => tls.certificate_hash.as_deref(),
        _ => None,
    };
    let mechanisms: &[&str] = match certificate_hash {
        Some(_) => &[scram::MECHANISM_PLUS, scram::MECHANISM],
        None => &[scram::MECHANISM],
    };
    backend::authentication_sasl(&mut channel.out, mechanisms);
    let (mechanism, client_first) =
        frontend::decode_sasl_initial(password_message(channel).await?)?;
    if !mechanisms.contains(&mechanism.as_str()) {
        return Err(Refusal::Told(Report::fatal(
            "08P01",
            "client selected an invalid SASL authentication mechanism",
        )));
    }
    let client_first = frontend::decode_sasl_response(&client_first)?;
    let server_nonce = STANDARD_NO_PAD.encode(rand::random::<[u8; 18]>());
    let refused = |error| match error {
        ScramError::Protocol(message) => Refusal::Told(Report::fatal("08P01", message)),
        ScramError::WrongPassword => wrong(),
    };
    let challenge = Challenge::new(
        &mechanism,
        &client_first,
        verifier,
        certificate_hash,
        &server_nonce,
    )
    .map_err(refused)?;
    backend::authentication_sasl_continue(&mut channel.out, challenge.message());
    let client_final = frontend::decode_sasl_response(&password_message(channel).await?)?;
    let server_final = challenge.finish(&client_final).map_err(refused)?;
    let Some(definition) = definition.filter(|_| can_succeed) else {
        return Err(wrong());
    };
    if !definition.login {
        return Err(Refusal::Told(Report::fatal(
            "28000",
            format!("role \"{role}\" is not permitted to log in"),
        )));
    }
    backend::authentication_sasl_final(&mut channel.out, &server_final);
    // PostgreSQL, too, holds no superuser back.
    Ok(if definition.superuser {
        -1
    } else {
        definition.connection_limit
    })
}

async fn password_message(channel: &mut Channel) -> Result<bytes::Bytes, Refusal> {
    match channel.next().await? {
        Frontend::Password(bytes) => Ok(bytes),
        Frontend::Terminate => Err(Refusal::Silent),
        _ => Err(Refusal::Told(Report::fatal(
            "08P01",
            "expected SASL response, got another message",
        ))),
    }
}
