//! Tokens of an identity provider, for the client itself: OAuth 2.0's grant of client credentials (RFC 6749, section 4.4).
//!
//! A token serves the clients that are made together until half of its life is over; the library asks again before it ends.
//! While the provider is away, a token is used up to its end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use backon::{ExponentialBuilder, Retryable};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use url::{Host, Url};

use super::token::Token;
use crate::error::{ConnectorError, sqlstate};
use crate::options::Options;

/// Of one answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a token is used whose provider does not say how long it lives.
const UNTOLD_LIFE: Duration = Duration::from_secs(300);

/// The longest answer that is read, in bytes. Tokens with many claims have a few thousand.
const ANSWER_MAX: usize = 256 * 1024;

/// How much is repeated of what a provider says, in characters.
const REASON_MAX: usize = 200;

/// In the words of an error: the provider will not give a token to this client.
pub(super) const REFUSES: &str = "gives no token";

/// Where tokens are asked for, and by whom.
pub(super) struct Provider {
    url: Url,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
    /// The newest token, and when half of its life is over.
    newest: Mutex<Option<(Token, SystemTime)>>,
}

/// RFC 6749, section 5.1.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: Option<Seconds>,
}

/// Some providers write numbers as texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

/// RFC 6749, section 5.2.
#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

impl Provider {
    /// Takes `oauth_url`, `oauth_client_id`, `oauth_client_secret` and `oauth_scope` out of the options; `None` when they
    /// have none of them.
    pub fn take(options: &mut Options) -> Result<Option<Self>, ConnectorError> {
        let url = options.take_text("oauth_url")?;
        let id = options.take_text("oauth_client_id")?;
        let secret = options.take_text("oauth_client_secret")?;
        let scope = options.take_text("oauth_scope")?;
        let (url, client_id, client_secret) = match (url, id, secret) {
            (Some(url), Some(id), Some(secret)) => (url, id, secret),
            (None, None, None) if scope.is_none() => return Ok(None),
            _ => {
                return Err(ConnectorError::option(
                    "connector \"KAFKA\" takes \"oauth_url\", \"oauth_client_id\" and \"oauth_client_secret\" together",
                ));
            }
        };
        let url = Url::parse(&url).ok().filter(|url| {
            let may_be_plain = match url.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(address)) => address.is_loopback(),
                Some(Host::Ipv6(address)) => address.is_loopback(),
                None => false,
            };
            let scheme = url.scheme();
            let is_safe = scheme == "https" || scheme == "http" && may_be_plain;
            is_safe && url.password().is_none() && url.username().is_empty() && url.has_host()
        });
        let url = url.ok_or_else(|| {
            ConnectorError::option(
                "option \"oauth_url\" is not the URL of a provider of tokens that a secret may be sent to",
            )
            .hint("oauth_url = 'https://login.example.com/oauth2/token'; without TLS only on this machine")
        })?;
        Ok(Some(Self {
            url,
            client_id,
            client_secret,
            scope,
            newest: Mutex::default(),
        }))
    }

    /// Who asks, for people.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// A token that has half of its life before it.
    pub async fn token(&self, now: SystemTime) -> Result<Token, ConnectorError> {
        {
            let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((token, until)) = newest.as_ref()
                && now < *until
            {
                return Ok(token.clone());
            }
        }
        let retries = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_times(2);
        let asked = (|| self.ask())
            .retry(retries)
            .when(|error: &ConnectorError| error.retryable)
            .await;
        let granted = match asked {
            Ok(granted) => granted,
            Err(error) => {
                let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
                let still = newest.as_ref().filter(|(token, _)| now < token.until);
                return still.map(|(token, _)| token.clone()).ok_or(error);
            }
        };
        let told = match granted.expires_in {
            Some(Seconds::Number(seconds)) => Some(seconds),
            Some(Seconds::Text(text)) => text.trim().parse().ok(),
            None => None,
        };
        let life = told.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let life = life.unwrap_or(UNTOLD_LIFE);
        // A provider that speaks of centuries means that it does not end.
        let life = life.min(Duration::from_secs(24 * 3600));
        let token = Token {
            value: granted.access_token,
            until: now + life,
        };
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Some((token.clone(), now + life / 2));
        Ok(token)
    }

    async fn ask(&self) -> Result<Granted, ConnectorError> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            // The secret goes to whom it was meant for.
            .redirect(Policy::none())
            .build()
            .map_err(|error| self.unreachable(error))?;
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        // Section 2.3.1 has both encoded as in a form first.
        let encoded = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let mut answer = client
            .post(self.url.clone())
            .basic_auth(encoded(&self.client_id), Some(encoded(&self.client_secret)))
            .header("Accept", "application/json")
            .form(&form)
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        let mut text = Vec::new();
        while let Some(part) = answer
            .chunk()
            .await
            .map_err(|error| self.unreachable(error))?
        {
            text.extend_from_slice(&part);
            if text.len() > ANSWER_MAX {
                return Err(self.fault("answers without end"));
            }
        }
        if status == StatusCode::OK {
            // Why not may have the token in it.
            return serde_json::from_slice(&text)
                .map_err(|_| self.fault("answers what is no token"));
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(self.fault(&format!("answers {status}")).retryable());
        }
        let reason = match serde_json::from_slice::<Refused>(&text) {
            Ok(told) => match told.error_description {
                Some(more) => format!("{}: {more}", told.error),
                None => told.error,
            },
            Err(_) => format!("it answers {status}"),
        };
        let reason: String = reason
            .replace(&self.client_secret, "...")
            .chars()
            .take(REASON_MAX)
            .collect();
        Err(ConnectorError::new(
            sqlstate::INVALID_AUTHORIZATION,
            format!("{} {REFUSES}: {reason}", self.name()),
        )
        .hint("look at oauth_url, oauth_client_id, oauth_client_secret and oauth_scope of the connection"))
    }

    /// The URL without what may be secret in it.
    fn name(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        format!("the provider of tokens at {url}")
    }

    fn fault(&self, what: &str) -> ConnectorError {
        ConnectorError::new(
            sqlstate::CONNECTION_FAILURE,
            format!("{} {what}", self.name()),
        )
    }

    fn unreachable(&self, error: reqwest::Error) -> ConnectorError {
        ConnectorError::new(
            sqlstate::CONNECTION_REFUSED,
            format!("{} cannot be reached", self.name()),
        )
        .caused_by(error.without_url())
        .retryable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(options: &[(&str, &str)]) -> String {
        let mut options = Options::new("connector \"KAFKA\"", options.iter().copied());
        match Provider::take(&mut options) {
            Ok(found) => format!("{}", found.is_some()),
            Err(error) => error.message,
        }
    }

    #[test]
    fn secrets_go_to_who_cannot_be_mistaken() {
        let of = |url| {
            take(&[
                ("oauth_url", url),
                ("oauth_client_id", "a"),
                ("oauth_client_secret", "b"),
            ])
        };
        for url in [
            "https://login.example.com/token",
            "http://localhost:1/token",
            "http://127.0.0.1:1/",
            "http://[::1]:1/",
        ] {
            assert_eq!(of(url), "true", "{url}");
        }
        let wrong = "option \"oauth_url\" is not the URL of a provider of tokens that a secret may be sent to";
        for url in [
            "http://login.example.com/token",
            "http://localhost.example.com/",
            "https://a:b@login.example.com/",
            "https://a@login.example.com/",
            "login.example.com",
            "file:///token",
        ] {
            assert_eq!(of(url), wrong, "{url}");
        }
        assert_eq!(take(&[]), "false");
        assert_eq!(
            take(&[("oauth_scope", "a")]),
            "connector \"KAFKA\" takes \"oauth_url\", \"oauth_client_id\" and \"oauth_client_secret\" together"
        );
    }
}
