//! Real servers that tests need, started by `tests/services`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use crate::{Failure, repository};

fn run(script: &str) -> Result<String, Failure> {
    let output = Command::new(repository().join("tests/services").join(script)).output()?;
    if !output.status.success() {
        return Err(format!("{script}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A Python with the client libraries tests use.
pub fn python() -> Result<PathBuf, Failure> {
    run("python.sh").map(PathBuf::from)
}

/// A Python with AWS's own library.
pub fn python_aws() -> Result<PathBuf, Failure> {
    run("python_aws.sh").map(PathBuf::from)
}

/// The file of arguments that `java` runs Spark with.
pub fn spark() -> Result<PathBuf, Failure> {
    run("spark.sh").map(PathBuf::from)
}

/// The URL of a PostgreSQL.
pub fn postgres() -> Result<String, Failure> {
    run("postgres.sh")
}

/// How to reach an S3 server, by the names its script prints: `ENDPOINT`, `ACCESS_KEY_ID`,
/// `SECRET_ACCESS_KEY`, `BUCKET`.
pub fn s3() -> Result<BTreeMap<String, String>, Failure> {
    settings("seaweedfs.sh")
}

/// How to reach a MySQL server: `HOST`, `PORT`, `USER`, `PASSWORD`.
pub fn mysql() -> Result<BTreeMap<String, String>, Failure> {
    settings("mysql.sh")
}

/// How to reach a MariaDB server, by the same names.
pub fn mariadb() -> Result<BTreeMap<String, String>, Failure> {
    settings("mariadb.sh")
}

/// How to reach a Kafka broker: `BROKERS`; with SASL at `SASL_BROKERS` as `USER` with `PASSWORD`.
pub fn kafka() -> Result<BTreeMap<String, String>, Failure> {
    settings("kafka.sh")
}

fn settings(script: &str) -> Result<BTreeMap<String, String>, Failure> {
    Ok(run(script)?
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}
