//! Opens the object store a lake or a table lives in: a local folder or an S3 bucket.
//!
//! A commit is a conditional put ("create this object unless it exists"): by hard link on a local
//! disk, by `If-None-Match` on S3. A store without it would lose commits silently, so no other kind
//! is opened here. The store is rooted at `/` or at the bucket; a table's own view of it is
//! narrowed by [`StoreLocation::prefixed`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

use super::LakeError;

/// The options an S3 store takes, as in `CREATE CONNECTION ... TO S3`.
pub(super) const OPTIONS: [&str; 9] = [
    "endpoint",
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "allow_http",
    "virtual_hosted_style",
    "anonymous",
    "bucket",
];

/// A store and the folder in it that is meant.
#[derive(Clone)]
pub(crate) struct StoreLocation {
    /// The folder, always with a trailing slash.
    pub url: Url,
    /// Rooted at `/` of the file system or at the bucket.
    pub root: Arc<dyn ObjectStore>,
    /// The folder as a path of `root`.
    pub path: Path,
}

impl std::fmt::Debug for StoreLocation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("StoreLocation")
            .field(&self.url.as_str())
            .finish()
    }
}

impl StoreLocation {
    /// Opens a local path, a `file://` URL or an `s3://bucket/prefix` URL. A local folder is
    /// created when it does not exist.
    pub fn open(location: &str, options: &BTreeMap<String, String>) -> Result<Self, LakeError> {
        if location.starts_with("s3://") || location.starts_with("s3a://") {
            return open_s3(location, options);
        }
        open_local(location)
    }

    /// A folder below this one. `relative` uses `/`.
    pub fn child(&self, relative: &str) -> Result<Self, LakeError> {
        let mut url = self.url.clone();
        let unusable = |reason: &str| LakeError::Location {
            location: relative.to_owned(),
            reason: reason.to_owned(),
        };
        {
            let mut segments = url
                .path_segments_mut()
                .map_err(|()| unusable("it has no folders"))?;
            segments.pop_if_empty();
            for part in relative.split('/').filter(|part| !part.is_empty()) {
                if part == "." || part == ".." {
                    return Err(unusable("it leaves the lake"));
                }
                segments.push(part);
            }
            segments.push("");
        }
        let mut path = self.path.clone();
        for part in relative.split('/').filter(|part| !part.is_empty()) {
            path = path.join(part);
        }
        Ok(Self {
            url,
            root: Arc::clone(&self.root),
            path,
        })
    }

    /// The same store as seen from inside the folder.
    pub fn prefixed(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.root), self.path.clone()))
    }

    /// A Delta log in this folder.
    pub fn log_store(&self) -> LogStoreRef {
        default_logstore(
            self.prefixed(),
            Arc::clone(&self.root),
            &self.url,
            &StorageConfig::default(),
        )
    }
}

fn open_local(location: &str) -> Result<StoreLocation, LakeError> {
    let unusable = |reason: String| LakeError::Location {
        location: location.to_owned(),
        reason,
    };
    let folder = match Url::parse(location) {
        Ok(url) if url.scheme() == "file" => url
            .to_file_path()
            .map_err(|()| unusable("it is not a local path".into()))?,
        Ok(url) if url.scheme().len() > 1 && location.contains("://") => {
            return Err(unusable(format!(
                "scheme \"{}\" is not supported, use a local folder or s3://",
                url.scheme()
            )));
        }
        _ => std::path::PathBuf::from(location),
    };
    std::fs::create_dir_all(&folder)
        .map_err(|error| LakeError::storage("create the folder", location, error))?;
    let folder = folder
        .canonicalize()
        .map_err(|error| LakeError::storage("find the folder", location, error))?;
    let url = Url::from_directory_path(&folder)
        .map_err(|()| unusable("it is not an absolute path".into()))?;
    let path = Path::from_absolute_path(&folder).map_err(|error| unusable(error.to_string()))?;
    let root = LocalFileSystem::new().with_automatic_cleanup(false);
    Ok(StoreLocation {
        url,
        root: Arc::new(root),
        path,
    })
}

fn open_s3(location: &str, options: &BTreeMap<String, String>) -> Result<StoreLocation, LakeError> {
    let unusable = |reason: String| LakeError::Location {
        location: location.to_owned(),
        reason,
    };
    let mut url = Url::parse(&location.replacen("s3a://", "s3://", 1))
        .map_err(|error| unusable(error.to_string()))?;
    let bucket = url
        .host_str()
        .ok_or_else(|| unusable("it names no bucket".into()))?
        .to_owned();
    let path = Path::from_url_path(url.path()).map_err(|error| unusable(error.to_string()))?;
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }

    // The environment (AWS_ACCESS_KEY_ID and its kin) fills what no option says.
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(object_store::RetryConfig {
            max_retries: 4,
            retry_timeout: Duration::from_secs(30),
            ..Default::default()
        });
    for (name, value) in options {
        let flag = || match value.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            _ => Err(unusable(format!("option \"{name}\" must be true or false"))),
        };
        builder = match name.as_str() {
            "endpoint" => {
                if value.starts_with("http://") {
                    builder = builder.with_allow_http(true);
                }
                builder.with_endpoint(value)
            }
            "region" => builder.with_region(value),
            "access_key_id" => builder.with_access_key_id(value),
            "secret_access_key" => builder.with_secret_access_key(value),
            "session_token" => builder.with_token(value),
            "allow_http" => builder.with_allow_http(flag()?),
            "virtual_hosted_style" => builder.with_virtual_hosted_style_request(flag()?),
            "anonymous" => builder.with_skip_signature(flag()?),
            "bucket" => builder,
            _ => {
                return Err(LakeError::UnknownOption {
                    option: name.clone(),
                });
            }
        };
    }
    let store = builder
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    Ok(StoreLocation {
        url,
        root: Arc::new(store),
        path,
    })
}
