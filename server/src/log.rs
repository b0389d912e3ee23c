//! The log, on standard error.

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Starts logging. A level that cannot be read is `info`, and said so.
pub fn start(config: &Config) {
    // The libraries below say little that an operator can act on.
    let quiet = "sqlx=warn,hyper=warn,h2=warn,rustls=warn,object_store=warn,delta_kernel=warn,\
                 buoyant_kernel=warn,deltalake_core=warn,datafusion=warn";
    let (filter, unreadable) = match EnvFilter::try_new(format!("{quiet},{}", config.log_level)) {
        Ok(filter) => (filter, false),
        Err(_) => (EnvFilter::new(format!("{quiet},info")), true),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start, as in tests, keeps the first.
    let _ = match config.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if unreadable {
        tracing::warn!(
            "log_level \"{}\" cannot be read; logging at info",
            config.log_level
        );
    }
}
