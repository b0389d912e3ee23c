//! The master key, and the secrets it keeps unreadable in the store.
//!
//! A secret is sealed with ChaCha20-Poly1305 under a fresh random nonce and with the id of its object
//! as associated data, so a ciphertext copied to another object does not open. The key never enters
//! the store; a check value sealed with it does, so that a wrong key is noticed when the catalog is
//! opened and not when a pipeline runs.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};

use crate::definitions::ObjectId;
use crate::error::CatalogError;

/// The environment variable that holds the key in base64.
pub const MASTER_KEY_VARIABLE: &str = "BOATHOUSE_MASTER_KEY";

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// A value that must not be seen. It prints as `***` and has no equality, so that it is compared
/// nowhere by accident.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// The key all secrets of a catalog are sealed with.
#[derive(Clone)]
pub struct MasterKey([u8; KEY_BYTES]);

impl MasterKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Reads a key written as base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, CatalogError> {
        let bytes = STANDARD
            .decode(text.trim())
            .map_err(|_| CatalogError::BadKey("the master key is not base64".to_owned()))?;
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| {
            CatalogError::BadKey(format!(
                "the master key has {} bytes, not {KEY_BYTES}",
                bytes.len()
            ))
        })?;
        Ok(Self(bytes))
    }

    /// The key as base64, to be written to a key file.
    pub fn to_base64(&self) -> Secret {
        Secret(STANDARD.encode(self.0))
    }

    /// The key of the environment if it has one, else that of the key file, which is created with a
    /// new key (mode 0600) when it does not exist.
    pub fn load(key_file: &Path) -> Result<Self, CatalogError> {
        match std::env::var(MASTER_KEY_VARIABLE) {
            Ok(text) => Self::from_base64(&text),
            Err(std::env::VarError::NotPresent) => Self::from_file(key_file),
            Err(std::env::VarError::NotUnicode(_)) => Err(CatalogError::BadKey(
                "the master key is not base64".to_owned(),
            )),
        }
    }

    /// The key of a key file, which is created when it does not exist. Two processes that create it
    /// at once end up with the same key.
    pub fn from_file(path: &Path) -> Result<Self, CatalogError> {
        let failed = |source| CatalogError::KeyFile {
            path: path.display().to_string(),
            source,
        };
        match File::open(path) {
            Ok(file) => return Self::read(file, path),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if let Some(directory) = path.parent().filter(|one| !one.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        // Written whole under a name of its own and then linked, so that nobody reads half a key.
        let draft = path.with_extension(format!("{}.new", uuid::Uuid::new_v4().simple()));
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(Self::generate().to_base64().expose().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            match std::fs::hard_link(&draft, path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        })();
        let removed = std::fs::remove_file(&draft);
        written.and(removed).map_err(failed)?;
        if let Some(directory) = path.parent().filter(|one| !one.as_os_str().is_empty()) {
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(failed)?;
        }
        Self::read(File::open(path).map_err(failed)?, path)
    }

    fn read(file: File, path: &Path) -> Result<Self, CatalogError> {
        /// More than any key takes; a wrong path must not read a large file.
        const FILE_BYTES_MAX: u64 = 4096;
        let failed = |source| CatalogError::KeyFile {
            path: path.display().to_string(),
            source,
        };
        // Asked of the open file, so that it cannot be another one than is read.
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CatalogError::ExposedKey {
                path: path.display().to_string(),
                mode,
            });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Self::from_base64(&text)
    }

    /// Seals a value for one object.
    pub(crate) fn seal(&self, object: ObjectId, value: &Secret) -> String {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: value.expose().as_bytes(),
            aad: &object.0.to_be_bytes(),
        };
        let mut sealed = nonce.to_vec();
        match self.cipher().encrypt(Nonce::from_slice(&nonce), payload) {
            Ok(ciphertext) => sealed.extend(ciphertext),
            // The cipher fails on messages beyond 256 GiB only, which no string here can be.
            Err(_) => sealed.clear(),
        }
        STANDARD.encode(sealed)
    }

    /// Opens what [`Self::seal`] made for the same object under the same key, or gives `None`.
    pub(crate) fn open(&self, object: ObjectId, sealed: &str) -> Option<Secret> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, ciphertext) = bytes.split_at_checked(NONCE_BYTES)?;
        let payload = Payload {
            msg: ciphertext,
            aad: &object.0.to_be_bytes(),
        };
        let value = self
            .cipher()
            .decrypt(Nonce::from_slice(nonce), payload)
            .ok()?;
        String::from_utf8(value).ok().map(Secret)
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(Key::from_slice(&self.0))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MasterKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_for_its_object_and_key_only() {
        let key = MasterKey::generate();
        let sealed = key.seal(ObjectId(16390), &Secret::new("tiger"));
        assert!(!sealed.contains("tiger"));
        assert_eq!(
            key.open(ObjectId(16390), &sealed).unwrap().expose(),
            "tiger"
        );
        assert!(key.open(ObjectId(16391), &sealed).is_none());
        assert!(
            MasterKey::generate()
                .open(ObjectId(16390), &sealed)
                .is_none()
        );
        assert!(key.open(ObjectId(16390), "c2hvcnQ=").is_none());
        assert_ne!(sealed, key.seal(ObjectId(16390), &Secret::new("tiger")));
    }

    #[test]
    fn neither_secret_nor_key_prints_itself() {
        let key = MasterKey::generate();
        assert_eq!(
            format!("{:?} {} {key:?}", Secret::new("a"), Secret::new("a")),
            "*** *** MasterKey(***)"
        );
    }

    #[test]
    fn a_key_file_is_created_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/master.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| MasterKey::from_file(&path).unwrap()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap().0)
                .collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let key = MasterKey::from_file(&path).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).unwrap();
            let error = MasterKey::from_file(&path).unwrap_err();
            let expected = format!("has mode {mode:04o}: others than its owner may use it");
            assert!(error.to_string().ends_with(&expected), "{error}");
            assert!(error.hint().unwrap().starts_with("chmod 600 "));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(MasterKey::from_file(&path).unwrap().0, key.0);
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        for (text, message) in [
            ("not base64!", "the master key is not base64"),
            ("c2hvcnQ=", "the master key has 5 bytes, not 32"),
        ] {
            assert_eq!(
                MasterKey::from_base64(text).unwrap_err().to_string(),
                message
            );
        }
    }
}
