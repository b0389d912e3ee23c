//! `boathouse serve`: opens the lake and serves it until told to stop.
//!
//! Stopping (SIGTERM, SIGINT) takes three steps: nobody new is let in and idle sessions end; running
//! statements get `shutdown_grace` seconds; then they are stopped too. A second signal skips the wait.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use boathouse_catalog::Secret;
use boathouse_engine::Engine;
use boathouse_engine::execute::upkeep::{self, Keeper};
use boathouse_engine::ingest::scheduler::{self, Scheduler};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{CommandError, open_engine, session_runtime};
use crate::config::Config;
use crate::http;
use crate::metrics::Metrics;
use crate::wire::registry::Registry;
use crate::wire::tls::Tls;
use crate::wire::{Options, Shared, listener};

/// The superuser every catalog begins with.
const SUPERUSER: &str = "boathouse";

pub fn run(config: Config) -> Result<ExitCode, CommandError> {
    let sessions = session_runtime()?;
    let served = sessions.block_on(serve(config));
    // What still runs on blocking threads must not keep the process.
    sessions.shutdown_timeout(Duration::from_secs(2));
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: Config) -> Result<(), CommandError> {
    let engine = open_engine(&config, config.schedules).await?;
    ensure_password(&engine).await?;
    let server = Server::start(&config, engine).await?;
    tracing::info!(
        listen = %server.address,
        http = %server.http_address,
        "boathouse {} is ready",
        env!("CARGO_PKG_VERSION")
    );
    until_signal().await?;
    tracing::info!(
        "stopping; running statements get {} s",
        config.shutdown_grace
    );
    tokio::select! {
        () = server.stop(Duration::from_secs(config.shutdown_grace)) => {}
        stopped = until_signal() => stopped?,
    }
    Ok(())
}

/// A server that is listening.
pub struct Server {
    pub address: std::net::SocketAddr,
    pub http_address: std::net::SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    control: Option<std::thread::JoinHandle<()>>,
    scheduler: Option<Scheduler>,
    keeper: Option<Keeper>,
}

impl Server {
    /// Binds both ports and begins to serve.
    pub async fn start(config: &Config, engine: Arc<Engine>) -> Result<Self, CommandError> {
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::load(certificate, key)?),
            _ => None,
        };
        let cannot_listen = |address, error| format!("cannot listen on {address}: {error}");
        // Bound here, so that a port in use is this command's error, and served elsewhere.
        let listener = std::net::TcpListener::bind(config.listen)
            .map_err(|error| cannot_listen(config.listen, error))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let http_listener = TcpListener::bind(config.http)
            .await
            .map_err(|error| cannot_listen(config.http, error))?;
        let http_address = http_listener.local_addr()?;

        let control = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let metrics = Arc::new(Metrics::default());
        let shared = Arc::new(Shared {
            engine,
            registry: Arc::new(Registry::default()),
            tls,
            options: Options {
                require_tls: config.require_tls,
                connections_max: config.connections_max,
            },
            metrics,
            process_secret: rand::random(),
            timers: control.handle().clone(),
        });
        let stop = CancellationToken::new();
        let sessions = tokio::runtime::Handle::current();
        let (accepting, stopped) = (shared.clone(), stop.clone());
        let control = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                control.block_on(async move {
                    match TcpListener::from_std(listener) {
                        Ok(listener) => {
                            listener::listen(accepting.clone(), listener, sessions, stopped).await;
                            // Cancel requests and timers are wanted until the last session has left.
                            accepting.registry.until_empty().await;
                        }
                        Err(error) => tracing::error!("cannot listen on {address}: {error}"),
                    }
                });
            })?;
        tokio::spawn(http::serve(shared.clone(), http_listener, stop.clone()));
        let keeper = config.maintenance.then(|| upkeep::start(&shared.engine));
        let scheduler = config.schedules.then(|| scheduler::start(&shared.engine));
        Ok(Self {
            address,
            http_address,
            shared,
            stop,
            control: Some(control),
            scheduler,
            keeper,
        })
    }

    /// Ends when every session has left.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        drop(self.keeper.take());
        self.shared.registry.drain();
        if let Some(scheduler) = self.scheduler.take() {
            scheduler.stop().await;
        }
        let left = tokio::time::timeout(grace, self.shared.registry.until_empty()).await;
        if left.is_err() {
            self.shared.registry.terminate();
            let _ =
                tokio::time::timeout(Duration::from_secs(5), self.shared.registry.until_empty())
                    .await;
        }
        if let Some(control) = self
            .control
            .take()
            .filter(|_| self.shared.registry.count() == 0)
        {
            let _ = tokio::task::spawn_blocking(move || control.join()).await;
        }
        self.shared.engine.close().await;
    }
}

pub async fn until_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Gives the superuser a password at the first start.
pub async fn ensure_password(engine: &Engine) -> Result<(), CommandError> {
    let snapshot = engine.catalog.snapshot();
    if snapshot
        .role(SUPERUSER)
        .is_none_or(|role| role.verifier.is_some())
    {
        return Ok(());
    }
    let given = std::env::var("BOATHOUSE_PASSWORD")
        .ok()
        .filter(|password| !password.is_empty());
    let password = given.clone().unwrap_or_else(generated_password);
    let set = engine
        .catalog
        .initialize_password(SUPERUSER, &Secret::new(password.as_str()))
        .await?;
    if set && given.is_none() {
        eprintln!(
            "The password of the superuser \"{SUPERUSER}\" is {password}\n\
             It is shown this once. Change it with ALTER ROLE {SUPERUSER} PASSWORD '...'."
        );
    }
    Ok(())
}

/// 20 letters and digits that are not mistaken for one another.
fn generated_password() -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    (0..20)
        .map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]))
        .collect()
}
