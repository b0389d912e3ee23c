//! Tokens for brokers that ask for one (OAUTHBEARER): one that was given, those of an identity provider, or those of AWS IAM.
//!
//! A token of AWS is the address of a signed request for `kafka-cluster:Connect`, in base64. It is made here, without asking
//! anybody, and lives fifteen minutes; the library asks for the next one before that. Only the keys it is signed with may have to
//! be fetched, from where the machine has them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use object_store::aws::{AmazonS3Builder, AwsCredentialProvider};
use tokio::runtime::Handle;
use url::Url;

use super::oauth::Provider;
use crate::error::{ConnectorError, sqlstate};
use crate::options::Options;

/// How long a token is used that says nothing of its own life.
const GIVEN_LIFE: Duration = Duration::from_secs(3600);

/// What Amazon MSK allows at most.
const MSK_LIFE: Duration = Duration::from_secs(900);

/// How long it may take to fetch keys, or a token.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// Where tokens come from.
#[derive(Clone)]
pub(super) enum TokenSource {
    Given(String),
    Provided(Arc<Provider>),
    Msk(MskIam),
}

/// A token, and when it ends.
#[derive(Clone)]
pub(super) struct Token {
    pub value: String,
    pub until: SystemTime,
}

impl TokenSource {
    /// A token for now. Waits; `runtime` does the work.
    pub fn token(&self, runtime: Option<&Handle>) -> Result<Token, ConnectorError> {
        let now = SystemTime::now();
        match self {
            Self::Given(token) => Ok(Token {
                value: token.clone(),
                until: now + GIVEN_LIFE,
            }),
            Self::Provided(provider) => {
                let provider = Arc::clone(provider);
                fetch(runtime, async move { provider.token(now).await })?
            }
            Self::Msk(source) => source.sign(&source.keys(runtime)?, now),
        }
    }
}

/// Logins at Amazon MSK by IAM.
#[derive(Clone)]
pub(super) struct MskIam {
    region: String,
    keys: Keys,
}

#[derive(Clone)]
enum Keys {
    Given(Credentials),
    /// Those of the environment or the machine's role.
    Found(AwsCredentialProvider),
}

impl MskIam {
    /// Takes `region`, `access_key_id`, `secret_access_key` and `session_token` out of the options. Amazon's own names of brokers
    /// tell the region.
    pub fn take(options: &mut Options, brokers: &str) -> Result<Self, ConnectorError> {
        let region = options.take_text("region")?;
        let region = region.or_else(|| region_of(brokers).map(str::to_owned));
        let region = region.ok_or_else(|| {
            ConnectorError::option(
                "connector \"KAFKA\" with sasl = 'aws-msk-iam' needs the option \"region\"",
            )
            .hint("the names of the brokers do not tell it: region = 'eu-central-1'")
        })?;
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.is_empty() || !region.bytes().all(is_name) {
            return Err(ConnectorError::option(format!(
                "no region is called \"{region}\""
            )));
        }
        let keys = match (
            options.take_text("access_key_id")?,
            options.take_text("secret_access_key")?,
            options.take_text("session_token")?,
        ) {
            (Some(id), Some(secret), session) => {
                Keys::Given(Credentials::new(id, secret, session, None, "connection"))
            }
            (None, None, None) => Keys::Found(found_keys(&region)?),
            _ => {
                return Err(ConnectorError::option(
                    "connector \"KAFKA\" takes \"access_key_id\" and \"secret_access_key\" together",
                )
                .hint("without both, the credentials of the server are used"));
            }
        };
        Ok(Self { region, keys })
    }

    /// Who it is, for people.
    pub fn name(&self) -> &str {
        match &self.keys {
            Keys::Given(keys) => keys.access_key_id(),
            Keys::Found(_) => "the server's own identity at AWS",
        }
    }

    fn keys(&self, runtime: Option<&Handle>) -> Result<Credentials, ConnectorError> {
        let source = match &self.keys {
            Keys::Given(keys) => return Ok(keys.clone()),
            Keys::Found(source) => source.clone(),
        };
        let none = || {
            ConnectorError::new(
                sqlstate::INVALID_AUTHORIZATION,
                "the server has no credentials for AWS",
            )
            .hint("give access_key_id and secret_access_key, or give the machine a role")
        };
        let found = fetch(runtime, async move { source.get_credential().await })
            .map_err(|error| none().caused_by(error))?
            .map_err(|error| none().caused_by(error))?;
        Ok(Credentials::new(
            found.key_id.clone(),
            found.secret_key.clone(),
            found.token.clone(),
            None,
            "server",
        ))
    }

    fn sign(&self, keys: &Credentials, now: SystemTime) -> Result<Token, ConnectorError> {
        let unsigned = |error: Box<dyn std::error::Error + Send + Sync>| {
            ConnectorError::new(sqlstate::INTERNAL_ERROR, "a token could not be signed")
                .caused_by(error)
        };
        let region = &self.region;
        let mut url = Url::parse(&format!(
            "https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect"
        ))
        .map_err(|error| unsigned(error.into()))?;
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(MSK_LIFE);
        let identity = keys.clone().into();
        let parameters: SigningParams<'_> = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("kafka-cluster")
            .time(now)
            .settings(settings)
            .build()
            .map_err(|error| unsigned(error.into()))?
            .into();
        let request = SignableRequest::new(
            "GET",
            url.as_str(),
            std::iter::empty(),
            SignableBody::Bytes(&[]),
        )
        .map_err(|error| unsigned(error.into()))?;
        let signed = sign(request, &parameters).map_err(|error| unsigned(error.into()))?;
        url.query_pairs_mut()
            .extend_pairs(signed.output().params())
            // For the logs of AWS; it is not signed.
            .append_pair(
                "User-Agent",
                concat!("boathouse/", env!("CARGO_PKG_VERSION")),
            );
        Ok(Token {
            value: URL_SAFE_NO_PAD.encode(url.as_str()),
            until: now + MSK_LIFE,
        })
    }
}

/// Has `work` done by `runtime`, and waits for it.
fn fetch<T: Send + 'static>(
    runtime: Option<&Handle>,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, ConnectorError> {
    let late = || {
        ConnectorError::new(sqlstate::CONNECTION_FAILURE, "a token did not come in time")
            .retryable()
    };
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    runtime.ok_or_else(late)?.spawn(async move {
        // Nobody may wait for it any more.
        let _ = sender.send(work.await);
    });
    receiver
        .recv_timeout(FETCH_TIMEOUT)
        .map_err(|error| late().caused_by(error))
}

/// As a connection to S3 finds them.
fn found_keys(region: &str) -> Result<AwsCredentialProvider, ConnectorError> {
    let store = AmazonS3Builder::from_env()
        .with_region(region)
        // It wants one, and is never asked for it.
        .with_bucket_name("none")
        .build()
        .map_err(|error| {
            ConnectorError::option("the server's own credentials for AWS cannot be used")
                .caused_by(error)
        })?;
    Ok(store.credentials().clone())
}

/// The region in a name such as `b-1.shop.a1b2c3.c4.kafka.eu-central-1.amazonaws.com:9098`.
fn region_of(brokers: &str) -> Option<&str> {
    let host = brokers.split(',').next()?.trim();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let host = host
        .strip_suffix(".amazonaws.com")
        .or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let (service, region) = host.rsplit_once('.')?;
    let is_kafka = service.ends_with(".kafka") || service.ends_with(".kafka-serverless");
    is_kafka.then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(brokers: &str, options: &[(&str, &str)]) -> Result<MskIam, String> {
        let mut options = Options::new("connector \"KAFKA\"", options.iter().copied());
        MskIam::take(&mut options, brokers).map_err(|error| error.message)
    }

    const KEYS: [(&str, &str); 2] = [
        ("access_key_id", "AKIDEXAMPLE"),
        (
            "secret_access_key",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        ),
    ];

    #[test]
    fn names_of_brokers_tell_the_region() {
        let region = |brokers| take(brokers, &KEYS).map(|taken| taken.region);
        for (brokers, expected) in [
            (
                "b-1.shop.a1.c4.kafka.eu-central-1.amazonaws.com:9098, b-2.shop.a1.c4.kafka.eu-central-1.amazonaws.com:9098",
                "eu-central-1",
            ),
            (
                "boot-x.c1.kafka-serverless.us-east-2.amazonaws.com:9098",
                "us-east-2",
            ),
            (
                "b-1.shop.a1.c4.kafka.cn-north-1.amazonaws.com.cn:9098",
                "cn-north-1",
            ),
        ] {
            assert_eq!(region(brokers).as_deref(), Ok(expected));
        }
        assert_eq!(
            region("kafka:9098").unwrap_err(),
            "connector \"KAFKA\" with sasl = 'aws-msk-iam' needs the option \"region\""
        );
        let sneaky = [KEYS[0], KEYS[1], ("region", "a.example.com/")];
        assert!(take("kafka:9098", &sneaky).is_err());
    }

    #[test]
    fn half_of_the_keys_is_refused() {
        assert_eq!(
            take("kafka:9098", &[KEYS[0], ("region", "eu-central-1")])
                .err()
                .as_deref(),
            Some("connector \"KAFKA\" takes \"access_key_id\" and \"secret_access_key\" together")
        );
    }

    #[test]
    fn a_token_is_the_address_of_a_signed_request() {
        let source = take(
            "kafka:9098",
            &[
                KEYS[0],
                KEYS[1],
                ("region", "eu-central-1"),
                ("session_token", "a/b+c="),
            ],
        )
        .unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let token = source.sign(&source.keys(None).unwrap(), now).unwrap();
        assert_eq!(token.until, now + Duration::from_secs(900));
        let decoded = URL_SAFE_NO_PAD.decode(&token.value).unwrap();
        // AWS's own library signs the same.
        expect_test::expect!["https://kafka.eu-central-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20231114%2Feu-central-1%2Fkafka-cluster%2Faws4_request&X-Amz-Date=20231114T221320Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=611d0d1b6444778aafb4dd0ebbd274c682cd754cbcc745674d616166719fbefa&X-Amz-Security-Token=a%2Fb%2Bc%3D&User-Agent=boathouse%2F0.1.0"]
            .assert_eq(std::str::from_utf8(&decoded).unwrap());
    }
}
