//! Opens the shared part of the program: catalog, lake, memory.

use std::path::Path;
use std::sync::Arc;

use boathouse_catalog::{Catalog, CatalogOptions};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;

use crate::audit::Audit;
use crate::engine::{Engine, EngineConfig};
use crate::error::{SqlError, SqlState};
use crate::lake::Lake;

/// Consumers of memory an "out of memory" error names.
const CONSUMERS_NAMED: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN.saturating_add(4);

pub(crate) async fn open_engine(config: EngineConfig) -> Result<Arc<Engine>, SqlError> {
    let lake = Lake::open(&config.lake, &config.store_options).await?;
    lake.set_index_bytes_max(config.index_bytes_max);
    lake.set_tables_bytes_max(config.tables_bytes_max);
    let catalog_url = match &config.catalog {
        Some(url) => url.clone(),
        None => default_catalog(&config.lake)?,
    };
    let catalog = Catalog::open(
        &catalog_url,
        config.master_key.clone(),
        CatalogOptions::default(),
    )
    .await?;
    let scratch = config
        .scratch
        .join(format!("boathouse-{}", std::process::id()));
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(
            FairSpillPool::new(config.memory_bytes_max),
            CONSUMERS_NAMED,
        )))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![scratch])),
        )
        .build_arc()
        .map_err(|error| SqlError::internal("could not set up query memory").caused_by(error))?;
    Ok(Arc::new(Engine {
        config,
        audit: Audit::start(catalog.audit_log()),
        catalog,
        lake,
        captures: Default::default(),
        endings: Default::default(),
        runtime,
        started_at: chrono::Utc::now().timestamp_micros(),
    }))
}

/// A local lake keeps its catalog beside its tables; a lake in S3 has no place for a database.
fn default_catalog(lake: &str) -> Result<String, SqlError> {
    if lake.contains("://") && !lake.starts_with("file://") {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("the lake \"{lake}\" is not a local folder, so the catalog needs a place"),
        )
        .hint("give --catalog sqlite:///path/to/catalog.db or postgres://..."));
    }
    let folder = Path::new(lake.trim_start_matches("file://"));
    let private = std::path::absolute(folder)
        .map_err(|error| {
            SqlError::new(
                SqlState::IO_ERROR,
                format!("could not find the folder \"{lake}\""),
            )
            .caused_by(error)
        })?
        .join("_boathouse");
    std::fs::create_dir_all(&private).map_err(|error| {
        SqlError::new(
            SqlState::IO_ERROR,
            format!(
                "could not create the folder \"{}\": {}",
                private.display(),
                error.kind()
            ),
        )
        .caused_by(error)
    })?;
    Ok(format!("sqlite://{}/catalog.db", private.display()))
}
