//! Files of a bucket of any S3-protocol service.
//!
//! Options `bucket`, `prefix` (the root), `region`, `endpoint`, `access_key_id`,
//! `secret_access_key`, `session_token`, `path_style`, `allow_http`, `anonymous`, `max_retries`,
//! `timeout`. Without keys those of the environment or the machine's role are used.

mod store;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::connector::{Connector, Remote};
use crate::error::ConnectorError;

use crate::options::Options;

pub use store::ObjectFileStore;
pub(crate) use store::{changed, retries, spool_error};

/// The connector.
pub struct S3;

impl Connector for S3 {
    fn name(&self) -> &'static str {
        "S3"
    }

    fn configure(&self, options: &mut Options) -> Result<Remote, ConnectorError> {
        let bucket = options.require_text("bucket")?;
        let prefix = options.take_text("prefix")?.unwrap_or_default();
        let endpoint = options.take_text("endpoint")?;
        let plain = endpoint
            .as_deref()
            .is_some_and(|url| url.starts_with("http://"));
        let allow_http = options.take_bool("allow_http")?.unwrap_or(false);
        if plain && !allow_http {
            return Err(ConnectorError::option("the endpoint is not encrypted")
                .hint("use https, or set allow_http = true where that is acceptable"));
        }
        let timeout = options
            .take_duration("timeout")?
            .unwrap_or(Duration::from_secs(30));
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: options.take_number("max_retries")?.unwrap_or(6),
            retry_timeout: Duration::from_secs(120),
        };
        let given = [
            ("access_key_id", AmazonS3ConfigKey::AccessKeyId),
            ("secret_access_key", AmazonS3ConfigKey::SecretAccessKey),
            ("session_token", AmazonS3ConfigKey::Token),
        ];
        let mut keys = Vec::new();
        for (name, key) in given {
            if let Some(value) = options.take_text(name)? {
                keys.push((key, value));
            }
        }
        let mut builder = builder_of(std::env::vars_os(), keys.is_empty())
            .with_bucket_name(&bucket)
            .with_region(
                options
                    .take_text("region")?
                    .unwrap_or_else(|| "us-east-1".to_owned()),
            )
            .with_allow_http(allow_http)
            .with_retry(retry)
            .with_client_options(
                ClientOptions::new()
                    .with_connect_timeout(Duration::from_secs(10))
                    .with_timeout(timeout)
                    .with_allow_http(allow_http),
            );
        let path_style = options
            .take_bool("path_style")?
            .unwrap_or(endpoint.is_some());
        builder = builder.with_virtual_hosted_style_request(!path_style);
        if let Some(endpoint) = &endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        for (key, value) in keys {
            builder = builder.with_config(key, value);
        }
        if options.take_bool("anonymous")?.unwrap_or(false) {
            builder = builder.with_skip_signature(true);
        }
        let store = builder.build().map_err(|error| {
            ConnectorError::option("S3 connection cannot be configured").caused_by(error)
        })?;
        Ok(Remote::Files(Arc::new(ObjectFileStore::new(
            Arc::new(store),
            &prefix,
        ))))
    }
}

/// A builder with what the environment says; of keys only all of them or none: the token of one does not go with another.
fn builder_of(
    environment: impl Iterator<Item = (OsString, OsString)>,
    with_keys: bool,
) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in environment {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
            continue;
        };
        let key = name.starts_with("AWS_").then(|| name.to_ascii_lowercase());
        let Some(Ok(key)) = key.map(|key| key.parse()) else {
            continue;
        };
        let is_of_keys = matches!(
            key,
            AmazonS3ConfigKey::AccessKeyId
                | AmazonS3ConfigKey::SecretAccessKey
                | AmazonS3ConfigKey::Token
        );
        if with_keys || !is_of_keys {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_given_do_not_get_the_token_of_others() {
        let environment = [
            ("AWS_ACCESS_KEY_ID", "A"),
            ("AWS_SECRET_ACCESS_KEY", "S"),
            ("AWS_SESSION_TOKEN", "T"),
            ("AWS_ENDPOINT", "http://127.0.0.1:1"),
            ("AWS_WHATEVER", "x"),
            ("HOME", "/"),
        ];
        let environment = environment.map(|(name, value)| (name.into(), value.into()));
        for (with_keys, token) in [(true, Some("T")), (false, None)] {
            let builder = builder_of(environment.clone().into_iter(), with_keys);
            let found = |key| builder.get_config_value(&key);
            assert_eq!(found(AmazonS3ConfigKey::Token).as_deref(), token);
            assert_eq!(
                found(AmazonS3ConfigKey::Endpoint).as_deref(),
                Some("http://127.0.0.1:1")
            );
        }
    }
}
