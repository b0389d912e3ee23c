//! A handshake with a broker and nothing after it, to hear what it thinks of the client's certificate.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;

use super::KafkaCluster;
use super::cluster::CERTIFICATE_ALERTS;

/// How long a broker may take to say something.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Brokers that are asked at most.
const ASKED_MAX: usize = 3;

impl KafkaCluster {
    /// What a broker says against the certificate of this client, or that it has none; nothing if it says nothing.
    ///
    /// Since TLS 1.3 a client is through with the handshake before the broker has looked at its certificate (RFC 8446, section
    /// 4.4.2.4), and sends its first request at once. A broker that closes the connection with that request unread has it reset,
    /// and the alert that says why is often lost. So here nothing is sent. The brokers' certificate is not verified, as nobody
    /// logs in.
    pub(super) async fn certificate_refusal(&self) -> Option<String> {
        for broker in self.brokers.split(',').map(str::trim).take(ASKED_MAX) {
            let connecting = tokio::net::TcpStream::connect(broker);
            let Ok(Ok(stream)) = tokio::time::timeout(ANSWERS_WITHIN, connecting).await else {
                continue;
            };
            let (host, identity) = (host_of(broker).to_owned(), self.identity.clone());
            let shaking = tokio::task::spawn_blocking(move || {
                let stream = stream.into_std().ok()?;
                stream.set_nonblocking(false).ok()?;
                refusal(stream, &host, identity.as_ref())
            });
            if let Ok(Some(refusal)) = shaking.await {
                return Some(refusal);
            }
        }
        None
    }
}

fn host_of(broker: &str) -> &str {
    let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Shakes hands and listens for what comes after it.
fn refusal(stream: TcpStream, host: &str, identity: Option<&(String, String)>) -> Option<String> {
    stream.set_read_timeout(Some(ANSWERS_WITHIN)).ok()?;
    stream.set_write_timeout(Some(ANSWERS_WITHIN)).ok()?;
    let mut connector = SslConnector::builder(SslMethod::tls_client()).ok()?;
    connector.set_verify(SslVerifyMode::NONE);
    if let Some((certificates, key)) = identity {
        let mut chain = X509::stack_from_pem(certificates.as_bytes())
            .ok()?
            .into_iter();
        let own = chain.next()?;
        connector.set_certificate(&own).ok()?;
        for issuer in chain {
            connector.add_extra_chain_cert(issuer).ok()?;
        }
        let key = PKey::private_key_from_pem(key.as_bytes()).ok()?;
        connector.set_private_key(&key).ok()?;
    }
    let told = match connector.build().connect(host, stream) {
        Ok(mut stream) => stream.read(&mut [0]).err()?.to_string(),
        Err(error) => error.to_string(),
    };
    let is_about_ours =
        told.contains("alert") && CERTIFICATE_ALERTS.iter().any(|alert| told.contains(alert));
    is_about_ours.then_some(told)
}
