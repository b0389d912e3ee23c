//! SFTP against a real OpenSSH server, S3 against a real SeaweedFS. The scripts start them.

#![allow(clippy::unwrap_used, reason = "what fails in a test fails the test")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use boathouse_connectors::registry::connector;
use boathouse_connectors::{Check, ConnectorError, FileEntry, FileStore, OptionValue, Options};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, ObjectStoreExt};

/// Starts a service and answers with what it printed.
fn service(script: &str) -> HashMap<String, String> {
    let script = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../tests/services")
        .join(script);
    let output = Command::new(&script).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn configure(
    kind: &str,
    options: &[(&str, OptionValue)],
) -> Result<Arc<dyn FileStore>, ConnectorError> {
    let owner = format!("connector \"{kind}\"");
    let mut options = Options::new(owner, options.iter().cloned());
    let store = connector(kind)?.configure(&mut options)?.files()?;
    options.finish()?;
    Ok(store)
}

fn paths(entries: &[FileEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.path.as_str()).collect()
}

fn failures(checks: &[Check]) -> Vec<&Check> {
    checks.iter().filter(|check| !check.ok).collect()
}

/// What holds for every store: the files are those of `check_store`'s list.
async fn check_store(store: &dyn FileStore, big: &[u8]) {
    assert_eq!(failures(&store.check().await), Vec::<&Check>::new());
    let spool = tempfile::tempdir().unwrap();
    let found = store.list(&["in/**/*.csv".to_owned()]).await.unwrap();
    assert_eq!(paths(&found), ["in/a.csv", "in/deep/b.csv"]);
    let big_entry = &store.list(&["big.bin".to_owned()]).await.unwrap()[0];
    assert_eq!(big_entry.size, big.len() as u64);
    let file = store.fetch(big_entry, spool.path()).await.unwrap();
    assert!(fs::read(&file.path).unwrap() == big);
    let path = file.path.clone();
    drop(file);
    assert!(!path.exists(), "the copy goes away with its last user");

    let stale = FileEntry {
        size: 1,
        ..found[0].clone()
    };
    let error = store.fetch(&stale, spool.path()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "file \"in/a.csv\" has changed since it was listed"
    );
    assert!(
        fs::read_dir(spool.path()).unwrap().next().is_none(),
        "nothing is left behind"
    );

    // A file that came under the same name meanwhile stays.
    assert_eq!(store.rename(&stale, "done/2024").await.unwrap(), None);
    for (entry, moved) in found.iter().zip(["done/2024/a.csv", "done/2024/b.csv"]) {
        assert_eq!(
            store.rename(entry, "done/2024").await.unwrap().as_deref(),
            Some(moved)
        );
    }
    assert!(store.list(&["in/**".to_owned()]).await.unwrap().is_empty());
    let moved = store.list(&["done/**".to_owned()]).await.unwrap();
    assert_eq!(paths(&moved), ["done/2024/a.csv", "done/2024/b.csv"]);
    let missing = FileEntry {
        path: "in/gone.csv".to_owned(),
        ..stale
    };
    let error = store.fetch(&missing, spool.path()).await.unwrap_err();
    assert_eq!(error.sqlstate, "58P01", "{error}");
}

/// Some megabytes that no compression on the way makes small.
fn big() -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..500_000).flat_map(|_| word()).collect()
}

struct SftpFolder {
    facts: HashMap<String, String>,
    folder: PathBuf,
    name: String,
}

impl SftpFolder {
    /// A folder of its own for each test, which belongs to the server's user.
    fn new(name: &str) -> Self {
        let facts = service("sshd.sh");
        let folder = Path::new(&facts["FOLDER"]).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("in/deep")).unwrap();
        fs::write(folder.join("in/a.csv"), "a\n1\n").unwrap();
        fs::write(folder.join("in/deep/b.csv"), "a\n2\n").unwrap();
        fs::write(folder.join("in/deep/.part.csv"), "half").unwrap();
        let owner = Command::new("chown")
            .arg("-R")
            .arg(&facts["USER"])
            .arg(&folder)
            .status();
        assert!(owner.unwrap().success());
        fs::remove_file(folder.join("in/deep/.part.csv")).unwrap();
        Self {
            facts,
            folder,
            name: name.to_owned(),
        }
    }

    fn options(&self) -> Vec<(&str, OptionValue)> {
        vec![
            ("host", self.facts["HOST"].as_str().into()),
            ("port", self.facts["PORT"].as_str().into()),
            ("user", self.facts["USER"].as_str().into()),
            ("host_key", self.facts["HOST_KEY"].as_str().into()),
            ("path", format!("/files/{}", self.name).into()),
        ]
    }

    fn with(&self, more: (&'static str, OptionValue)) -> Arc<dyn FileStore> {
        let mut options = self.options();
        options.retain(|(name, _)| *name != more.0);
        options.push(more);
        if !options
            .iter()
            .any(|(name, _)| *name == "password" || *name == "private_key")
        {
            options.push(("password", self.facts["PASSWORD"].as_str().into()));
        }
        configure("SFTP", &options).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_with_a_password() {
    let server = SftpFolder::new("password");
    let big = big();
    fs::write(server.folder.join("big.bin"), &big).unwrap();
    let password = OptionValue::Secret(server.facts["PASSWORD"].clone());
    check_store(&*server.with(("password", password)), &big).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_with_a_private_key() {
    let server = SftpFolder::new("key");
    let key = fs::read_to_string(&server.facts["PRIVATE_KEY"]).unwrap();
    let store = server.with(("private_key", OptionValue::Secret(key)));
    assert_eq!(store.list(&["in/*.csv".to_owned()]).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_trusts_no_other_host_key_and_says_what_is_wrong() {
    let server = SftpFolder::new("refused");
    let store = server.with(("host_key", "SHA256:AAAA".into()));
    let error = store.list(&["*".to_owned()]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "server \"127.0.0.1\" shows another host key than the one expected"
    );
    assert!(error.hint.unwrap().contains(&server.facts["HOST_KEY"]));

    let store = server.with(("password", "wrong".into()));
    let checks = store.check().await;
    assert_eq!(
        checks[0].detail,
        "server \"127.0.0.1\" refused the login of user \"boathouse-sftp\""
    );

    let store = server.with(("port", "1".into()));
    let error = store.list(&["*".to_owned()]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "could not connect to \"127.0.0.1\" port 1"
    );
    assert!(error.retryable);

    let mut options = server.options();
    options.retain(|(name, _)| *name != "host_key");
    options.push(("password", "x".into()));
    let error = configure("SFTP", &options).err().unwrap();
    assert_eq!(
        error.to_string(),
        "connector \"SFTP\" needs the option \"host_key\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let facts = service("seaweedfs.sh");
    let prefix = "connectors-transports";
    let direct = AmazonS3Builder::new()
        .with_endpoint(&facts["ENDPOINT"])
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(&facts["BUCKET"])
        .with_access_key_id(&facts["ACCESS_KEY_ID"])
        .with_secret_access_key(&facts["SECRET_ACCESS_KEY"])
        .build()
        .unwrap();
    let old: Vec<_> = futures::TryStreamExt::try_collect(
        direct.list(Some(&object_store::path::Path::from(prefix))),
    )
    .await
    .unwrap();
    for meta in old {
        direct.delete(&meta.location).await.unwrap();
    }
    let big = big();
    let put = async |path: &str, bytes: Vec<u8>| {
        let path = object_store::path::Path::from(format!("{prefix}/{path}"));
        direct.put(&path, bytes.into()).await.unwrap();
    };
    put("in/a.csv", b"a\n1\n".to_vec()).await;
    put("in/deep/b.csv", b"a\n2\n".to_vec()).await;
    put("big.bin", big.clone()).await;
    let options: Vec<(&str, OptionValue)> = vec![
        ("bucket", facts["BUCKET"].as_str().into()),
        ("prefix", prefix.into()),
        ("endpoint", facts["ENDPOINT"].as_str().into()),
        ("allow_http", true.into()),
        ("access_key_id", facts["ACCESS_KEY_ID"].as_str().into()),
        (
            "secret_access_key",
            OptionValue::Secret(facts["SECRET_ACCESS_KEY"].clone()),
        ),
    ];
    check_store(&*configure("S3", &options).unwrap(), &big).await;

    let mut wrong = options;
    wrong.retain(|(name, _)| *name != "secret_access_key");
    wrong.push(("secret_access_key", "wrong".into()));
    let checks = configure("S3", &wrong).unwrap().check().await;
    assert!(!checks[0].ok);
    assert!(
        checks[0].detail.contains("refused access"),
        "{}",
        checks[0].detail
    );
}
