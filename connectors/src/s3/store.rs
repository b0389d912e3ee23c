//! Files of any object store.
//!
//! The store's own client tries again what failed on the way to an answer; a download that breaks
//! off in the middle goes on from where it stopped, and only as long as the object is the same.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt,
};
use tempfile::NamedTempFile;

use crate::connector::Check;
use crate::error::{ConnectorError, sqlstate};
use crate::file::{FileEntry, FileStore, LocalFile};
use crate::local::{joined, numbered};
use crate::pattern::Patterns;

/// The objects below a prefix.
pub struct ObjectFileStore {
    store: Arc<dyn ObjectStore>,
    root: ObjectPath,
}

impl ObjectFileStore {
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            store,
            root: ObjectPath::from(prefix.trim_matches('/')),
        }
    }

    fn object(&self, path: &str) -> Result<ObjectPath, ConnectorError> {
        let joined = joined(self.root.as_ref(), path.trim_matches('/'));
        ObjectPath::parse(&joined).map_err(|error| {
            ConnectorError::option(format!("\"{path}\" is no path of an object")).caused_by(error)
        })
    }

    /// The path below the root.
    fn relative<'a>(&self, location: &'a ObjectPath) -> Option<&'a str> {
        let rest = location.as_ref().strip_prefix(self.root.as_ref())?;
        Some(rest.trim_start_matches('/'))
    }

    fn entry(&self, meta: &ObjectMeta) -> Option<FileEntry> {
        Some(FileEntry {
            path: self.relative(&meta.location)?.to_owned(),
            size: meta.size,
            etag: meta.e_tag.clone(),
            modified: Some(meta.last_modified),
        })
    }

    /// Whether the object is still the one that was listed.
    async fn is_same(&self, entry: &FileEntry) -> Result<bool, ConnectorError> {
        let meta = self
            .store
            .head(&self.object(&entry.path)?)
            .await
            .map_err(|error| error_of(&entry.path, error))?;
        Ok(self.entry(&meta).is_some_and(|now| entry.is_same(&now)))
    }

    /// Bytes of the entry from `offset` on, into `file`; answers how many there are now.
    async fn download(
        &self,
        entry: &FileEntry,
        file: &mut NamedTempFile,
        offset: &mut u64,
    ) -> Result<(), ConnectorError> {
        let options = GetOptions {
            if_match: entry.etag.clone(),
            range: (*offset > 0).then_some(GetRange::Offset(*offset)),
            ..GetOptions::default()
        };
        let location = self.object(&entry.path)?;
        let failed = |error| error_of(&entry.path, error);
        let mut bytes = self
            .store
            .get_opts(&location, options)
            .await
            .map_err(failed)?
            .into_stream();
        while let Some(part) = bytes.next().await {
            let part: Bytes = part.map_err(failed)?;
            file.write_all(&part).map_err(spool_error)?;
            *offset += part.len() as u64;
        }
        Ok(())
    }
}

#[async_trait]
impl FileStore for ObjectFileStore {
    async fn list(&self, patterns: &[String]) -> Result<Vec<FileEntry>, ConnectorError> {
        let patterns = Patterns::new(patterns)?;
        let folder = patterns.common_folder();
        let prefix = self.object(&folder)?;
        let mut found: Vec<FileEntry> = self
            .store
            .list((!prefix.as_ref().is_empty()).then_some(&prefix))
            .try_filter_map(|meta| {
                let entry = self
                    .entry(&meta)
                    .filter(|entry| patterns.matches(&entry.path));
                futures::future::ready(Ok(entry))
            })
            .try_collect()
            .await
            .map_err(|error| error_of(&folder, error))?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    async fn fetch(&self, entry: &FileEntry, into: &Path) -> Result<LocalFile, ConnectorError> {
        let mut file = NamedTempFile::new_in(into).map_err(spool_error)?;
        let mut offset = 0;
        let mut waits = retries().build();
        while let Err(error) = self.download(entry, &mut file, &mut offset).await {
            match waits.next() {
                Some(wait) if error.retryable && error.sqlstate != CHANGED => {
                    tracing::warn!(%error, file = entry.path, offset, "download goes on");
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(error),
            }
        }
        file.flush().map_err(spool_error)?;
        if offset != entry.size {
            return Err(changed(&entry.path));
        }
        Ok(LocalFile::spooled(
            file.into_temp_path(),
            &entry.path,
            entry.size,
        ))
    }

    async fn rename(
        &self,
        entry: &FileEntry,
        target_dir: &str,
    ) -> Result<Option<String>, ConnectorError> {
        let from = self.object(&entry.path)?;
        if !self.is_same(entry).await? {
            return Ok(None);
        }
        let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
        for number in 0..10_000 {
            let target = joined(target_dir, &numbered(name, number));
            let to = self.object(&target)?;
            match self.store.head(&to).await {
                Ok(_) => continue,
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error_of(&target, error)),
            }
            let options = CopyOptions::new().with_mode(CopyMode::Overwrite);
            self.store
                .copy_opts(&from, &to, options)
                .await
                .map_err(|error| error_of(&entry.path, error))?;
            // Neither copying nor deleting can be tied to an etag. The same object before and
            // after means that it is the one copied.
            if !self.is_same(entry).await? {
                self.store
                    .delete(&to)
                    .await
                    .map_err(|error| error_of(&target, error))?;
                return Ok(None);
            }
            self.store
                .delete(&from)
                .await
                .map_err(|error| error_of(&entry.path, error))?;
            return Ok(Some(target));
        }
        Err(ConnectorError::new(
            sqlstate::IO_ERROR,
            format!("folder \"{target_dir}\" has too many files called \"{name}\""),
        ))
    }

    async fn check(&self) -> Vec<Check> {
        let prefix = (!self.root.as_ref().is_empty()).then_some(&self.root);
        match self.store.list(prefix).try_next().await {
            Ok(Some(meta)) => {
                let path = self.relative(&meta.location).unwrap_or("").to_owned();
                let listed = Check::passed("bucket can be listed", format!("first: {path}"));
                let read = match self
                    .store
                    .get_range(&meta.location, 0..meta.size.min(1))
                    .await
                {
                    Ok(_) => Check::passed("object can be read", path),
                    Err(error) => Check::failed("object can be read", &error_of(&path, error)),
                };
                vec![listed, read]
            }
            Ok(None) => vec![Check::passed("bucket can be listed", "it is empty")],
            Err(error) => {
                vec![Check::failed(
                    "bucket can be listed",
                    &error_of(self.root.as_ref(), error),
                )]
            }
        }
    }
}

/// Waits between attempts of one download.
pub(crate) fn retries() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(6)
        .with_jitter()
}

const CHANGED: &str = sqlstate::IO_ERROR;

pub(crate) fn changed(path: &str) -> ConnectorError {
    ConnectorError::new(
        CHANGED,
        format!("file \"{path}\" has changed since it was listed"),
    )
    .retryable()
}

pub(crate) fn spool_error(error: std::io::Error) -> ConnectorError {
    let sqlstate = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => "53100",
        _ => sqlstate::IO_ERROR,
    };
    ConnectorError::new(sqlstate, "could not write the temporary file").caused_by(error)
}

/// For lists the library has no variant for a refusal, only the words of the answer.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => true,
        Error::Generic { source, .. } => {
            let words = source.to_string();
            words.contains("403 Forbidden") || words.contains("401 Unauthorized")
        }
        _ => false,
    }
}

fn error_of(path: &str, error: Error) -> ConnectorError {
    match &error {
        Error::NotFound { .. } => ConnectorError::new(
            sqlstate::UNDEFINED_FILE,
            format!("object \"{path}\" or its bucket does not exist"),
        ),
        Error::Precondition { .. } => return changed(path).caused_by(error),
        refusal if is_refusal(refusal) => ConnectorError::new(
            sqlstate::INVALID_AUTHORIZATION,
            format!("the service refused access to \"{path}\""),
        )
        .hint("check access_key_id, secret_access_key and the rights of that key"),
        _ => ConnectorError::new(
            sqlstate::CONNECTION_FAILURE,
            format!("the service did not give \"{path}\""),
        )
        .hint("check endpoint, region, bucket and path_style")
        .retryable(),
    }
    .caused_by(error)
}
