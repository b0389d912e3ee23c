//! What the engine is opened with, out of the settings and of what the machine has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use boathouse_catalog::MasterKey;
use boathouse_catalog::secret::MASTER_KEY_VARIABLE;
use boathouse_engine::EngineConfig;

use super::{Config, ConfigError};

/// Where a local lake keeps what is not tables.
const LAKE_FOLDER: &str = "_boathouse";
const KEY_FILE: &str = "master.key";
/// Of all indexes of keys, where nothing is asked for.
const INDEX_BYTES_MAX: usize = 1 << 30;
/// Of what is known of tables nobody uses, where nothing is asked for.
const TABLES_BYTES_MAX: usize = 512 << 20;

/// When the machine does not say how much memory it has.
const MEMORY_BYTES_UNKNOWN: usize = 1 << 30;

/// Makes the folders and the key where they are missing.
pub fn engine_config(config: &Config, runs_schedules: bool) -> Result<EngineConfig, ConfigError> {
    let lake = config.lake.clone().ok_or(ConfigError::NoLake)?;
    let catalog = config.catalog.as_ref().map(|url| url.0.expose().to_owned());
    let scratch = config
        .scratch
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join("boathouse"));
    std::fs::create_dir_all(&scratch).map_err(|source| ConfigError::Folder {
        path: scratch.display().to_string(),
        source,
    })?;
    let master_key = match key_file(config, &lake, catalog.as_deref())? {
        Some(path) => MasterKey::load(&path)?,
        None => match std::env::var(MASTER_KEY_VARIABLE) {
            Ok(key) => MasterKey::from_base64(&key)?,
            Err(_) => return Err(ConfigError::NoKey),
        },
    };
    let memory_bytes_max = config
        .memory
        .map_or_else(|| machine_memory_bytes() / 10 * 6, |size| size.bytes());
    Ok(EngineConfig {
        lake,
        catalog,
        master_key,
        store_options: store_options(config),
        memory_bytes_max,
        index_bytes_max: config.index_memory.map_or_else(
            || INDEX_BYTES_MAX.min(memory_bytes_max / 4),
            |size| size.bytes(),
        ),
        tables_bytes_max: config.table_memory.map_or_else(
            || TABLES_BYTES_MAX.min(memory_bytes_max / 4),
            |size| size.bytes(),
        ),
        scratch,
        server_name: config.server_name.clone().unwrap_or_else(server_name),
        runs_schedules,
    })
}

/// Beside the catalog, unless said otherwise; `None` when the catalog is no file.
fn key_file(
    config: &Config,
    lake: &str,
    catalog: Option<&str>,
) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = &config.master_key_file {
        return Ok(Some(path.clone()));
    }
    match catalog {
        Some(url) => Ok(url.strip_prefix("sqlite://").map(|path| {
            let path = Path::new(path.split('?').next().unwrap_or(path));
            path.parent().unwrap_or(Path::new(".")).join(KEY_FILE)
        })),
        None => match local_folder(lake) {
            Some(folder) => Ok(Some(folder.join(LAKE_FOLDER).join(KEY_FILE))),
            None => Err(ConfigError::NoCatalog),
        },
    }
}

fn local_folder(lake: &str) -> Option<PathBuf> {
    match lake.split_once("://") {
        None => Some(PathBuf::from(lake)),
        Some(("file", path)) => Some(PathBuf::from(path)),
        Some(_) => None,
    }
}

fn store_options(config: &Config) -> BTreeMap<String, String> {
    let hidden =
        |value: &Option<super::Hidden>| value.as_ref().map(|value| value.0.expose().to_owned());
    [
        ("endpoint", config.s3_endpoint.clone()),
        ("region", config.s3_region.clone()),
        ("access_key_id", config.s3_access_key_id.clone()),
        ("secret_access_key", hidden(&config.s3_secret_access_key)),
        ("session_token", hidden(&config.s3_session_token)),
        (
            "allow_http",
            config.s3_allow_http.then(|| "true".to_owned()),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// The least of what the machine has and what the control group allows.
fn machine_memory_bytes() -> usize {
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            let kibibytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kibibytes << 10)
        });
    let group = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<usize>()
            .ok()
    });
    match (machine, group) {
        (Some(machine), Some(group)) => machine.min(group),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => MEMORY_BYTES_UNKNOWN,
    }
}

fn server_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() {
        "boathouse"
    } else {
        host.trim()
    };
    format!("{host}-{}", std::process::id())
}
