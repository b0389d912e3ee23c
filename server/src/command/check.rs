//! `boathouse check`: one line for each thing a server needs, and what to do where it fails.

use std::process::ExitCode;

use super::{CommandError, described, session_runtime};
use crate::config::{Config, engine_config};
use crate::wire::tls::Tls;

pub fn run(config: Config) -> Result<ExitCode, CommandError> {
    session_runtime()?.block_on(check(config))
}

struct Report {
    failed: bool,
}

impl Report {
    fn line(&mut self, what: &str, found: Result<String, String>) {
        match found {
            Ok(detail) => println!("ok      {what:<14} {detail}"),
            Err(reason) => {
                self.failed = true;
                println!("failed  {what:<14} {}", reason.replace('\n', "; "));
            }
        }
    }

    fn end(self) -> ExitCode {
        if self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

async fn check(config: Config) -> Result<ExitCode, CommandError> {
    let mut report = Report { failed: false };
    report.line("configuration", Ok(String::new()));
    if let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) {
        let loaded = Tls::load(certificate, key);
        report.line(
            "tls",
            loaded
                .map(|_| certificate.display().to_string())
                .map_err(|error| format!("{error}; give a PEM certificate and its PEM key")),
        );
    }
    let engine_config = match engine_config(&config, false) {
        Ok(engine_config) => engine_config,
        Err(error) => {
            report.line("lake", Err(error.to_string()));
            return Ok(report.end());
        }
    };
    report.line("scratch", writable(&engine_config.scratch));
    let lake = engine_config.lake.clone();
    let engine = match boathouse_engine::Engine::open(engine_config).await {
        Ok(engine) => engine,
        Err(error) => {
            report.line("open", Err(described(&error)));
            return Ok(report.end());
        }
    };
    let catalog = engine.catalog.ping().await;
    report.line(
        "catalog",
        catalog
            .map(|()| format!("version {}", engine.catalog.snapshot().version()))
            .map_err(|error| format!("{error}; is the database running and the URL right?")),
    );
    let checked = engine.lake.check().await;
    report.line(
        "lake",
        checked
            .map(|()| format!("{lake} can be read and written"))
            .map_err(|error| format!("{error}; are the place and its credentials right?")),
    );
    engine.close().await;
    Ok(report.end())
}

fn writable(folder: &std::path::Path) -> Result<String, String> {
    let probe = folder.join(format!(".check-{}", std::process::id()));
    std::fs::write(&probe, b"")
        .and_then(|()| std::fs::remove_file(&probe))
        .map(|()| format!("{} can be written", folder.display()))
        .map_err(|error| {
            format!(
                "{} cannot be written: {error}; set scratch to another folder",
                folder.display()
            )
        })
}
