//! What the program is told: flags over environment over file over defaults.
//!
//! Every key has one name: `listen` in the file, `BOATHOUSE_LISTEN` in the environment, `--listen` on
//! the command line. A key nobody knows is an error that lists the known ones. Secrets are never
//! printed; `docs/configuration.md` describes every key.

mod engine;
mod environment;
mod size;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use boathouse_catalog::Secret;
use clap::Args;
use figment::Figment;
use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

pub use engine::engine_config;
use environment::Environment;
pub use size::Size;

/// Names of the environment that begin with `BOATHOUSE_` and are not keys.
const OTHER_VARIABLES: [&str; 7] = [
    "config",
    "master_key",
    "password",
    "excel_reader",
    "failpoint",
    "host",
    "port",
];

/// Where the file is looked for when `--config` names none.
const FILES: [&str; 2] = ["boathouse.toml", "/etc/boathouse/boathouse.toml"];

/// The flags, one for each key.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct Flags {
    /// Configuration file [default: ./boathouse.toml, then /etc/boathouse/boathouse.toml]
    #[arg(long, global = true, value_name = "FILE", env = "BOATHOUSE_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where tables are kept: a local folder or s3://bucket/prefix
    #[arg(long, global = true, value_name = "PLACE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lake: Option<String>,
    /// sqlite:///path/catalog.db or postgres://... [default: inside the local lake folder]
    #[arg(long, global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// File of the key that encrypts secrets, made if missing [default: beside the catalog]
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_key_file: Option<PathBuf>,
    /// Address of the PostgreSQL port [default: 127.0.0.1:5433]
    #[arg(long, global = true, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Address of health and metrics [default: 127.0.0.1:8433]
    #[arg(long, global = true, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Certificate chain, PEM
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Refuse connections without TLS
    #[arg(long, global = true, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_tls: Option<bool>,
    /// Clients at once [default: 200]
    #[arg(long, global = true, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<usize>,
    /// Seconds that running statements get when the server stops [default: 10]
    #[arg(long, global = true, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_grace: Option<u64>,
    /// Memory of all queries together, such as 4GiB [default: 60 % of what there is]
    #[arg(long, global = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Memory of the indexes of keyed tables [default: 1GiB, at most a quarter of --memory]
    #[arg(long, global = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_memory: Option<String>,
    /// Memory of what is known of tables: their files and statistics [default: 512MiB, at most a quarter of --memory]
    #[arg(long, global = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_memory: Option<String>,
    /// Folder for spilled queries and fetched files [default: boathouse in the temporary folder]
    #[arg(long, global = true, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,
    /// Name of this server in runs and leases [default: the host's name and the process id]
    #[arg(long, global = true, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Run scheduled pipelines [default: true]
    #[arg(long, global = true, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedules: Option<bool>,
    /// Put small files of tables together in the background [default: true]
    #[arg(long, global = true, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<bool>,
    /// text or json [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
    /// error, warn, info, debug, trace, or a filter such as boathouse=debug [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// Endpoint of the lake's S3 service, if it is not Amazon's
    #[arg(long, global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_endpoint: Option<String>,
    /// Region of the lake's bucket
    #[arg(long, global = true, value_name = "REGION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_region: Option<String>,
    /// Access key of the lake's bucket
    #[arg(long, global = true, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_access_key_id: Option<String>,
    /// Secret of the access key; better set as BOATHOUSE_S3_SECRET_ACCESS_KEY
    #[arg(long, global = true, value_name = "SECRET", hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_secret_access_key: Option<String>,
    /// Session token of temporary credentials; better set as BOATHOUSE_S3_SESSION_TOKEN
    #[arg(long, global = true, value_name = "SECRET", hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_session_token: Option<String>,
    /// Allow an S3 endpoint without TLS
    #[arg(long, global = true, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_allow_http: Option<bool>,
}

/// The settings in force.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub lake: Option<String>,
    pub catalog: Option<Hidden>,
    pub master_key_file: Option<PathBuf>,
    pub listen: SocketAddr,
    pub http: SocketAddr,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub require_tls: bool,
    pub connections_max: usize,
    pub shutdown_grace: u64,
    pub memory: Option<Size>,
    pub index_memory: Option<Size>,
    pub table_memory: Option<Size>,
    pub scratch: Option<PathBuf>,
    pub server_name: Option<String>,
    pub schedules: bool,
    pub maintenance: bool,
    pub log_format: LogFormat,
    pub log_level: String,
    pub s3_endpoint: Option<String>,
    pub s3_region: Option<String>,
    pub s3_access_key_id: Option<String>,
    pub s3_secret_access_key: Option<Hidden>,
    pub s3_session_token: Option<Hidden>,
    pub s3_allow_http: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// A value that prints as `***`.
#[derive(Debug, Clone)]
pub struct Hidden(pub Secret);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

#[derive(Serialize)]
struct Defaults {
    listen: &'static str,
    http: &'static str,
    require_tls: bool,
    connections_max: usize,
    shutdown_grace: u64,
    schedules: bool,
    maintenance: bool,
    log_format: &'static str,
    log_level: &'static str,
    s3_allow_http: bool,
}

const DEFAULTS: Defaults = Defaults {
    listen: "127.0.0.1:5433",
    http: "127.0.0.1:8433",
    require_tls: false,
    connections_max: 200,
    shutdown_grace: 10,
    schedules: true,
    maintenance: true,
    log_format: "text",
    log_level: "info",
    s3_allow_http: false,
};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("configuration file \"{0}\" does not exist")]
    NoFile(String),
    #[error("configuration: {0}")]
    Invalid(String),
    #[error(
        "no lake is given: pass --lake FOLDER, or set BOATHOUSE_LAKE, or write `lake = \"...\"` in the configuration file"
    )]
    NoLake,
    #[error(
        "a lake in S3 needs a catalog: pass --catalog sqlite:///path/catalog.db or postgres://..."
    )]
    NoCatalog,
    #[error(
        "a catalog in PostgreSQL needs a key: set BOATHOUSE_MASTER_KEY (base64 of 32 bytes) or master_key_file"
    )]
    NoKey,
    #[error("tls_cert and tls_key go together: {0} is missing")]
    HalfTls(&'static str),
    #[error("require_tls is set, but tls_cert and tls_key are not")]
    NoTls,
    #[error("folder \"{path}\" could not be made")]
    Folder {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the master key could not be loaded: {0}")]
    Key(#[from] boathouse_catalog::CatalogError),
}

impl Config {
    /// Reads everything there is to read.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(&DEFAULTS));
        let file = match &flags.config {
            Some(path) if !path.is_file() => {
                return Err(ConfigError::NoFile(path.display().to_string()));
            }
            Some(path) => Some(path.as_path()),
            None => FILES.iter().map(Path::new).find(|path| path.is_file()),
        };
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let environment = Env::prefixed("BOATHOUSE_")
            .ignore(&OTHER_VARIABLES)
            .filter(|name| !name.as_str().to_ascii_lowercase().starts_with("test_"));
        figment = figment
            .merge(Environment(environment))
            .merge(Serialized::defaults(flags));
        let config: Self = figment.extract().map_err(|error| {
            let messages: Vec<String> = error.into_iter().map(describe).collect();
            ConfigError::Invalid(messages.join("; "))
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => Err(ConfigError::HalfTls("tls_key")),
            (None, Some(_)) => Err(ConfigError::HalfTls("tls_cert")),
            (None, None) if self.require_tls => Err(ConfigError::NoTls),
            _ => Ok(()),
        }
    }
}

/// What is wrong and where, without the value: it may be a secret.
fn describe(mut error: figment::Error) -> String {
    error.kind = match error.kind {
        Kind::InvalidType(actual, expected) => Kind::Message(format!(
            "invalid type: found {}, expected {expected}",
            type_of(&actual)
        )),
        Kind::InvalidValue(actual, expected) => Kind::Message(format!(
            "invalid value: found {}, expected {expected}",
            type_of(&actual)
        )),
        Kind::Unsupported(actual) => {
            Kind::Message(format!("unsupported type: found {}", type_of(&actual)))
        }
        // A file that is not TOML is shown with the line that is wrong.
        Kind::Message(text) => Kind::Message(
            text.lines()
                .filter(|line| {
                    !line
                        .trim_start_matches(|letter: char| {
                            letter.is_ascii_digit() || letter.is_whitespace()
                        })
                        .starts_with('|')
                })
                .collect::<Vec<_>>()
                .join(": "),
        ),
        other => other,
    };
    error.to_string()
}

fn type_of(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "an integer",
        Actual::Float(_) => "a float",
        Actual::Char(_) | Actual::Str(_) => "a string",
        Actual::Seq => "an array",
        Actual::Map => "a table",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn load(file: &str, flags: &[&str]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boathouse.toml");
        std::fs::write(&path, file).unwrap();
        let path = path.display().to_string();
        let words = ["boathouse", "--config", &path]
            .into_iter()
            .chain(flags.iter().copied());
        let line = <Line as clap::Parser>::try_parse_from(words).unwrap();
        Config::load(&line.flags).map_err(|error| error.to_string().replace(&path, "FILE"))
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let config = load(
            "listen = \"127.0.0.1:1\"\nmemory = \"2GiB\"",
            &["--listen", "127.0.0.1:2"],
        )
        .unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.memory.map(|size| size.bytes()), Some(2 << 30));
        assert_eq!(config.connections_max, 200);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_lists_the_known_ones() {
        let error = load("lisen = \"127.0.0.1:1\"", &[]).unwrap_err();
        assert!(
            error.contains("unknown field: found `lisen`, expected `one of `lake`"),
            "{error}"
        );
    }

    #[test]
    fn tls_needs_both_files() {
        assert_eq!(
            load("tls_cert = \"a.pem\"", &[]).unwrap_err(),
            "tls_cert and tls_key go together: tls_key is missing"
        );
        assert!(
            load("require_tls = true", &[])
                .unwrap_err()
                .contains("require_tls is set")
        );
    }

    #[test]
    fn secrets_do_not_print() {
        let config = load("s3_secret_access_key = \"hush\"", &[]).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_printed() {
        for file in [
            "s3_secret_access_key = 12345678",
            "catalog = [12345678]",
            "s3_secret_access_key = x12345678y",
        ] {
            let error = load(file, &[]).unwrap_err();
            assert!(!error.contains("12345678"), "{error}");
            assert!(
                error.contains("string") || error.contains("line 1"),
                "{error}"
            );
        }
    }

    #[test]
    fn every_key_is_documented() {
        let page = include_str!("../../../docs/configuration.md");
        for argument in Line::command().get_arguments() {
            let key = argument.get_id().as_str();
            assert!(
                key == "config" || page.contains(&format!("| `{key}` |")),
                "docs/configuration.md does not describe {key}"
            );
        }
    }
}
