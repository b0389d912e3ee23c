//! Listing, fetching and moving over SFTP.
//!
//! A download that breaks off goes on in a new session from where it stopped, after looking that
//! the file still has the size and time it was listed with.

use std::io::Write;
use std::path::Path;

use async_trait::async_trait;
use backon::BackoffBuilder;
use chrono::DateTime;
use russh_sftp::client::error::Error;
use russh_sftp::protocol::{FileAttributes, StatusCode};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::connector::Check;
use crate::error::{ConnectorError, sqlstate};
use crate::file::{FileEntry, FileStore, LocalFile};
use crate::local::{joined, numbered};
use crate::pattern::Patterns;
use crate::s3::{changed, retries, spool_error};

use super::session::{Server, Session};

/// Folders deeper than this are taken for a loop.
const DEPTH_MAX: usize = 64;

pub struct SftpStore {
    server: Server,
    root: String,
}

impl SftpStore {
    pub fn new(server: Server, root: String) -> Self {
        Self {
            server,
            root: root.trim_end_matches('/').to_owned(),
        }
    }

    fn absolute(&self, path: &str) -> Result<String, ConnectorError> {
        if path.split('/').any(|part| part == "..") {
            return Err(ConnectorError::new(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!("\"{path}\" is outside the root of the connection"),
            ));
        }
        Ok(match path.trim_matches('/') {
            "" => format!("{}/", self.root),
            path => format!("{}/{path}", self.root),
        })
    }

    async fn download(
        &self,
        entry: &FileEntry,
        file: &mut NamedTempFile,
        offset: &mut u64,
    ) -> Result<(), ConnectorError> {
        let Session { sftp, .. } = &self.server.connect().await?;
        let path = self.absolute(&entry.path)?;
        let failed = |error| error_of(&entry.path, error);
        let attributes = sftp.metadata(&path).await.map_err(failed)?;
        if !entry.is_same(&self.entry(entry.path.clone(), &attributes)) {
            return Err(changed(&entry.path));
        }
        let mut remote = sftp.open(&path).await.map_err(failed)?;
        let broken = |error: std::io::Error| {
            ConnectorError::new(
                sqlstate::CONNECTION_FAILURE,
                format!("the download of \"{}\" broke off", entry.path),
            )
            .retryable()
            .caused_by(error)
        };
        remote
            .seek(std::io::SeekFrom::Start(*offset))
            .await
            .map_err(broken)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = remote.read(&mut buffer).await.map_err(broken)?;
            if count == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..count]).map_err(spool_error)?;
            *offset += count as u64;
        }
    }

    fn entry(&self, path: String, attributes: &FileAttributes) -> FileEntry {
        FileEntry {
            path,
            size: attributes.size.unwrap_or(0),
            etag: None,
            modified: attributes
                .mtime
                .and_then(|seconds| DateTime::from_timestamp(i64::from(seconds), 0)),
        }
    }
}

#[async_trait]
impl FileStore for SftpStore {
    async fn list(&self, patterns: &[String]) -> Result<Vec<FileEntry>, ConnectorError> {
        let patterns = Patterns::new(patterns)?;
        let Session { sftp, .. } = &self.server.connect().await?;
        let mut found = Vec::new();
        let mut folders = vec![(patterns.common_folder(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let entries = match sftp.read_dir(self.absolute(&folder)?).await {
                Ok(entries) => entries,
                Err(Error::Status(status)) if status.status_code == StatusCode::NoSuchFile => {
                    if folder.is_empty() {
                        return Err(error_of(&self.root, Error::Status(status)));
                    }
                    continue;
                }
                Err(error) => return Err(error_of(&folder, error)),
            };
            for entry in entries {
                let path = joined(&folder, &entry.file_name());
                let mut attributes = entry.metadata();
                let linked = entry.file_type().is_symlink();
                if linked {
                    // The server confines a user; where links lead is its affair. Folders are
                    // not followed, since they may lead in circles.
                    let Ok(target) = sftp.metadata(self.absolute(&path)?).await else {
                        continue;
                    };
                    attributes = target;
                }
                if attributes.is_dir() {
                    if !linked && depth < DEPTH_MAX && patterns.may_match_below(&path) {
                        folders.push((path, depth + 1));
                    }
                } else if attributes.is_regular() && patterns.matches(&path) {
                    found.push(self.entry(path, &attributes));
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    async fn fetch(&self, entry: &FileEntry, into: &Path) -> Result<LocalFile, ConnectorError> {
        let mut file = NamedTempFile::new_in(into).map_err(spool_error)?;
        let mut offset = 0;
        let mut waits = retries().build();
        while let Err(error) = self.download(entry, &mut file, &mut offset).await {
            match waits.next() {
                Some(wait) if error.retryable && error.sqlstate == sqlstate::CONNECTION_FAILURE => {
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
        let Session { sftp, .. } = &self.server.connect().await?;
        let from = self.absolute(&entry.path)?;
        let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
        let mut folder = String::new();
        for part in target_dir.split('/').filter(|part| !part.is_empty()) {
            folder = joined(&folder, part);
            let absolute = self.absolute(&folder)?;
            if !sftp
                .try_exists(&absolute)
                .await
                .map_err(|error| error_of(&folder, error))?
            {
                sftp.create_dir(&absolute)
                    .await
                    .map_err(|error| error_of(&folder, error))?;
            }
        }
        for number in 0..10_000 {
            let target = joined(target_dir, &numbered(name, number));
            let to = self.absolute(&target)?;
            if sftp
                .try_exists(&to)
                .await
                .map_err(|error| error_of(&target, error))?
            {
                continue;
            }
            let attributes = sftp
                .metadata(&from)
                .await
                .map_err(|error| error_of(&entry.path, error))?;
            if !entry.is_same(&self.entry(entry.path.clone(), &attributes)) {
                return Ok(None);
            }
            // The protocol's rename fails when the name is taken meanwhile.
            sftp.rename(&from, &to)
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
        let session = match self.server.connect().await {
            Ok(session) => session,
            Err(error) => return vec![Check::failed("server can be reached", &error)],
        };
        let place = format!("{}:{}", self.server.host, self.server.port);
        let mut checks = vec![Check::passed("server can be reached", place)];
        checks.push(
            match session.sftp.read_dir(format!("{}/", self.root)).await {
                Ok(entries) => {
                    Check::passed("folder can be read", format!("{} entries", entries.count()))
                }
                Err(error) => Check::failed("folder can be read", &error_of(&self.root, error)),
            },
        );
        checks
    }
}

fn error_of(path: &str, error: Error) -> ConnectorError {
    let status = match &error {
        Error::Status(status) => Some(status.status_code),
        _ => None,
    };
    match status {
        Some(StatusCode::NoSuchFile) => ConnectorError::new(
            sqlstate::UNDEFINED_FILE,
            format!("file or folder \"{path}\" does not exist"),
        ),
        Some(StatusCode::PermissionDenied) => ConnectorError::new(
            sqlstate::INSUFFICIENT_PRIVILEGE,
            format!("no permission to use \"{path}\""),
        ),
        Some(_) => {
            ConnectorError::new(sqlstate::IO_ERROR, format!("the server refused \"{path}\""))
        }
        None => ConnectorError::new(
            sqlstate::CONNECTION_FAILURE,
            format!("the connection broke while using \"{path}\""),
        )
        .retryable(),
    }
    .caused_by(error)
}
