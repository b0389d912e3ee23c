//! Files of a folder on this machine.
//!
//! Option `path` is the root. Nothing outside of it is ever listed, read or written: a symbolic
//! link is followed only when its target is below the root, and that is checked again when the
//! file is fetched.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::connector::{Check, Connector, Remote};
use crate::error::{ConnectorError, sqlstate};
use crate::file::{FileEntry, FileStore, LocalFile};
use crate::options::Options;
use crate::pattern::Patterns;

/// The connector.
pub struct Local;

impl Connector for Local {
    fn name(&self) -> &'static str {
        "LOCAL"
    }

    fn configure(&self, options: &mut Options) -> Result<Remote, ConnectorError> {
        Ok(Remote::Files(Arc::new(LocalStore::new(
            options.require_text("path")?,
        ))))
    }
}

/// The files below one folder.
#[derive(Clone)]
pub struct LocalStore {
    root: PathBuf,
}

/// Folders deeper than this are taken for a loop.
const DEPTH_MAX: usize = 64;

impl LocalStore {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root without symbolic links, which is what paths are compared with.
    fn real_root(&self) -> Result<PathBuf, ConnectorError> {
        let root = fs::canonicalize(&self.root).map_err(|error| self.error(&self.root, error))?;
        if !root.is_dir() {
            return Err(ConnectorError::new(
                sqlstate::UNDEFINED_FILE,
                format!("\"{}\" is not a folder", self.root.display()),
            ));
        }
        Ok(root)
    }

    /// The real place of `path`, which must be below `root`.
    fn resolve(&self, root: &Path, path: &str) -> Result<PathBuf, ConnectorError> {
        let relative = relative(path)?;
        let real =
            fs::canonicalize(root.join(relative)).map_err(|error| self.error(path, error))?;
        if !real.starts_with(root) {
            return Err(outside(path));
        }
        Ok(real)
    }

    fn error(&self, path: impl AsRef<Path>, error: std::io::Error) -> ConnectorError {
        let path = path.as_ref().display().to_string();
        match error.kind() {
            ErrorKind::NotFound => ConnectorError::new(
                sqlstate::UNDEFINED_FILE,
                format!("file or folder \"{path}\" does not exist"),
            ),
            ErrorKind::PermissionDenied => ConnectorError::new(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!("no permission to use \"{path}\""),
            )
            .hint("the operating system's user that runs boathouse needs the right"),
            _ => ConnectorError::new(sqlstate::IO_ERROR, format!("could not use \"{path}\""))
                .retryable(),
        }
        .caused_by(error)
    }

    fn list_blocking(&self, patterns: &Patterns) -> Result<Vec<FileEntry>, ConnectorError> {
        let root = self.real_root()?;
        let mut found = Vec::new();
        let mut walked = HashSet::from([root.clone()]);
        let mut folders = vec![(patterns.common_folder(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let entries = match fs::read_dir(root.join(&folder)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) if error.kind() == ErrorKind::NotADirectory => continue,
                Err(error) => return Err(self.error(&folder, error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| self.error(&folder, error))?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let path = if folder.is_empty() {
                    name
                } else {
                    format!("{folder}/{name}")
                };
                // A file that goes away while the folder is read, or a link to nowhere.
                let Ok(metadata) = fs::metadata(entry.path()) else {
                    continue;
                };
                if metadata.is_dir() {
                    // A link back up would be walked for ever.
                    let real = fs::canonicalize(entry.path()).ok();
                    if depth < DEPTH_MAX
                        && patterns.may_match_below(&path)
                        && real.is_some_and(|real| walked.insert(real))
                    {
                        folders.push((path, depth + 1));
                    }
                } else if metadata.is_file()
                    && patterns.matches(&path)
                    && self.resolve(&root, &path).is_ok()
                {
                    found.push(entry_of(path, &metadata));
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn fetch_blocking(&self, entry: &FileEntry) -> Result<LocalFile, ConnectorError> {
        let root = self.real_root()?;
        let real = self.resolve(&root, &entry.path)?;
        let metadata = fs::metadata(&real).map_err(|error| self.error(&entry.path, error))?;
        if !entry.is_same(&entry_of(entry.path.clone(), &metadata)) {
            return Err(ConnectorError::new(
                sqlstate::IO_ERROR,
                format!("file \"{}\" has changed since it was listed", entry.path),
            )
            .retryable());
        }
        let file = LocalFile::in_place(real, &entry.path, entry.size);
        Ok(file.last_modified(entry.modified))
    }

    fn rename_blocking(
        &self,
        entry: &FileEntry,
        target_dir: &str,
    ) -> Result<Option<String>, ConnectorError> {
        let root = self.real_root()?;
        // The entry itself is moved, not what a link points to; its folder must be inside.
        let from = root.join(relative(&entry.path)?);
        let folder = match entry.path.rsplit_once('/') {
            Some((folder, _)) => self.resolve(&root, folder)?,
            None => root.clone(),
        };
        let name = from
            .file_name()
            .ok_or_else(|| outside(&entry.path))?
            .to_owned();
        let from = folder.join(&name);
        let is_same = || {
            let metadata = fs::metadata(&from).map_err(|error| self.error(&entry.path, error))?;
            Ok::<_, ConnectorError>(entry.is_same(&entry_of(entry.path.clone(), &metadata)))
        };
        if !is_same()? {
            return Ok(None);
        }
        let target = root.join(relative(target_dir)?);
        fs::create_dir_all(&target).map_err(|error| self.error(target_dir, error))?;
        let target = self.resolve(&root, target_dir)?;
        let name = name.to_string_lossy().into_owned();
        for number in 0.. {
            let candidate = numbered(&name, number);
            let to = target.join(&candidate);
            // A hard link fails when the name is taken, a rename would overwrite.
            match fs::hard_link(&from, &to) {
                Ok(()) => {
                    // Whoever writes a new file meanwhile writes it under the old name.
                    if !is_same()? {
                        fs::remove_file(&to).map_err(|error| self.error(&candidate, error))?;
                        return Ok(None);
                    }
                    fs::remove_file(&from).map_err(|error| self.error(&entry.path, error))?;
                    return Ok(Some(joined(target_dir, &candidate)));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                // File systems without hard links.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Unsupported | ErrorKind::PermissionDenied
                    ) && !to.exists() =>
                {
                    fs::rename(&from, &to).map_err(|error| self.error(&entry.path, error))?;
                    return Ok(Some(joined(target_dir, &candidate)));
                }
                Err(error) => return Err(self.error(&entry.path, error)),
            }
        }
        Err(outside(target_dir))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ConnectorError> + Send + 'static,
    ) -> Result<T, ConnectorError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .unwrap_or_else(|error| {
                Err(
                    ConnectorError::new(sqlstate::INTERNAL_ERROR, "file access was interrupted")
                        .caused_by(error),
                )
            })
    }
}

#[async_trait]
impl FileStore for LocalStore {
    async fn list(&self, patterns: &[String]) -> Result<Vec<FileEntry>, ConnectorError> {
        let patterns = Patterns::new(patterns)?;
        self.blocking(move |store| store.list_blocking(&patterns))
            .await
    }

    async fn fetch(&self, entry: &FileEntry, _: &Path) -> Result<LocalFile, ConnectorError> {
        let entry = entry.clone();
        self.blocking(move |store| store.fetch_blocking(&entry))
            .await
    }

    async fn rename(
        &self,
        entry: &FileEntry,
        target_dir: &str,
    ) -> Result<Option<String>, ConnectorError> {
        let (entry, target_dir) = (entry.clone(), target_dir.to_owned());
        self.blocking(move |store| store.rename_blocking(&entry, &target_dir))
            .await
    }

    async fn check(&self) -> Vec<Check> {
        let root = self.root.display().to_string();
        let checked = self
            .blocking(|store| {
                let root = store.real_root()?;
                Ok(fs::read_dir(&root)
                    .map_err(|error| store.error(&root, error))?
                    .count())
            })
            .await;
        match checked {
            Ok(entries) => vec![
                Check::passed("folder exists", root),
                Check::passed("folder can be read", format!("{entries} entries")),
            ],
            Err(error) => {
                let error = match error.hint {
                    Some(_) => error,
                    None => error.hint(format!("mkdir -p '{root}'")),
                };
                vec![Check::failed("folder can be read", &error)]
            }
        }
    }
}

fn entry_of(path: String, metadata: &fs::Metadata) -> FileEntry {
    FileEntry {
        path,
        size: metadata.len(),
        etag: None,
        modified: metadata.modified().ok().map(DateTime::<Utc>::from),
    }
}

/// `path` as a relative path of plain names.
fn relative(path: &str) -> Result<PathBuf, ConnectorError> {
    let path_buf = PathBuf::from(path.trim_start_matches('/'));
    match path_buf
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        true => Ok(path_buf),
        false => Err(outside(path)),
    }
}

fn outside(path: &str) -> ConnectorError {
    ConnectorError::new(
        sqlstate::INSUFFICIENT_PRIVILEGE,
        format!("\"{path}\" is outside the root of the connection"),
    )
}

pub(crate) fn joined(folder: &str, name: &str) -> String {
    match folder.trim_matches('/') {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// `stock.xlsx`, `stock_1.xlsx`, `stock_2.xlsx`, ...
pub(crate) fn numbered(name: &str, number: u32) -> String {
    if number == 0 {
        return name.to_owned();
    }
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => format!("{stem}_{number}.{extension}"),
        _ => format!("{name}_{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    fn paths(entries: &[FileEntry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.path.as_str()).collect()
    }

    #[tokio::test]
    async fn files_are_listed_in_order_and_links_out_of_the_root_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        for path in [
            "b/2.csv",
            "b/1.csv",
            "a/deep/3.csv",
            "b/.part.csv",
            "b/4.txt",
        ] {
            write(&root, path);
        }
        write(folder.path(), "secret/5.csv");
        std::os::unix::fs::symlink(&root, root.join("b/loop")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), root.join("b/linked")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret/5.csv"), root.join("b/5.csv"))
            .unwrap();
        let store = LocalStore::new(&root);
        let found = store.list(&["**/*.csv".to_owned()]).await.unwrap();
        assert_eq!(paths(&found), ["a/deep/3.csv", "b/1.csv", "b/2.csv"]);

        let stolen = FileEntry {
            path: "b/linked/5.csv".to_owned(),
            ..found[0].clone()
        };
        let error = store.fetch(&stolen, folder.path()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"b/linked/5.csv\" is outside the root of the connection"
        );
        let climbing = FileEntry {
            path: "../secret/5.csv".to_owned(),
            ..found[0].clone()
        };
        assert_eq!(
            store
                .fetch(&climbing, folder.path())
                .await
                .unwrap_err()
                .sqlstate,
            "42501"
        );
    }

    #[tokio::test]
    async fn a_moved_file_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "in/a.csv");
        write(folder.path(), "done/a.csv");
        let store = LocalStore::new(folder.path());
        let found = store.list(&["in/*".to_owned()]).await.unwrap();
        assert_eq!(
            store.rename(&found[0], "done").await.unwrap().as_deref(),
            Some("done/a_1.csv")
        );
        assert!(store.list(&["in/*".to_owned()]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_file_that_was_replaced_is_not_moved() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "in/a.csv");
        let store = LocalStore::new(folder.path());
        let found = store.list(&["in/*".to_owned()]).await.unwrap();
        fs::write(folder.path().join("in/a.csv"), "new").unwrap();
        assert_eq!(store.rename(&found[0], "done").await.unwrap(), None);
        let found = store.list(&["**".to_owned()]).await.unwrap();
        assert_eq!(paths(&found), ["in/a.csv"]);
    }

    #[tokio::test]
    async fn a_file_that_changed_is_not_fetched() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.csv");
        let store = LocalStore::new(folder.path());
        let found = store.list(&["a.csv".to_owned()]).await.unwrap();
        fs::write(folder.path().join("a.csv"), "longer").unwrap();
        let error = store.fetch(&found[0], folder.path()).await.unwrap_err();
        assert!(error.retryable);
        assert_eq!(
            error.to_string(),
            "file \"a.csv\" has changed since it was listed"
        );
    }

    #[tokio::test]
    async fn a_file_written_to_while_it_is_read_is_to_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "a\n1\n").unwrap();
        let store = LocalStore::new(folder.path());
        let found = store.list(&["a.csv".to_owned()]).await.unwrap();
        let file = store.fetch(&found[0], folder.path()).await.unwrap();
        let format = crate::format::format("CSV").unwrap();
        let format = format.configure(&mut Options::none("CSV")).unwrap();
        let columns = format.infer(&file, &Default::default()).unwrap();
        let schema = crate::DecodeSchema::new(columns);
        let read = |append: &str| {
            format.read(&file, &schema, &mut |_| {
                let whole = fs::read_to_string(&path).unwrap() + append;
                if !append.is_empty() {
                    fs::write(&path, whole).unwrap();
                }
                std::ops::ControlFlow::Continue(())
            })
        };
        assert_eq!(read("").unwrap().rows, 1);
        let error = read("2\n").unwrap_err();
        assert!(error.retryable);
        assert_eq!(
            error.to_string(),
            "file \"a.csv\": the file changed while it was read"
        );
    }

    #[tokio::test]
    async fn a_missing_root_is_a_failed_check_with_its_fix() {
        let checks = LocalStore::new("/nonexistent/inbox").check().await;
        assert!(!checks[0].ok);
        assert_eq!(
            checks[0].fix.as_deref(),
            Some("mkdir -p '/nonexistent/inbox'")
        );
    }
}
