//! Health, readiness and metrics over HTTP.
//!
//! `/health` and `/ready` are open: whoever can reach the port may know whether the server lives.
//! The rest is open when the port is on loopback; elsewhere it asks for the password of a role that is
//! a superuser or a member of `pg_monitor`, from whatever address the request comes.

mod metrics;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boathouse_catalog::password::Verifier;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::wire::{Shared, scram};

/// How long the catalog may take to answer before the server does not count as ready.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until `stop`.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    let inside = listener
        .local_addr()
        .is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let mut guarded = Router::new().route("/metrics", get(metrics::show));
    if !inside {
        guarded = guarded.route_layer(middleware::from_fn_with_state(shared.clone(), authorize));
    }
    let router = Router::new()
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .merge(guarded)
        .with_state(shared);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!("http: {error}");
    }
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    match tokio::time::timeout(READY_TIMEOUT, shared.engine.catalog.ping()).await {
        Ok(Ok(())) => "ready\n".into_response(),
        Ok(Err(error)) => {
            tracing::warn!("not ready: {error}");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the catalog does not answer\n",
            )
                .into_response()
        }
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the catalog does not answer in time\n",
        )
            .into_response(),
    }
}

async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if may_monitor(&shared, request.headers()).await {
        return next.run(request).await;
    }
    let challenge = [(
        header::WWW_AUTHENTICATE,
        "Basic realm=\"boathouse\", charset=\"UTF-8\"",
    )];
    (
        StatusCode::UNAUTHORIZED,
        challenge,
        "log in as a superuser or a member of pg_monitor\n",
    )
        .into_response()
}

async fn may_monitor(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some((name, password)) = credentials(headers) else {
        return false;
    };
    let snapshot = shared.engine.catalog.snapshot();
    let role = snapshot.role(&name).cloned();
    let verifier = role
        .as_ref()
        .filter(|role| role.login)
        .filter(|role| {
            role.valid_until
                .is_none_or(|until| until > chrono::Utc::now())
        })
        .and_then(|role| role.verifier.as_deref())
        .and_then(Verifier::parse)
        .unwrap_or_else(|| scram::made_up_verifier(&shared.process_secret, &name));
    // Deriving the key takes milliseconds of a core.
    let matches = tokio::task::spawn_blocking(move || verifier.matches(&password)).await;
    let monitor = snapshot.role("pg_monitor");
    matches.unwrap_or(false)
        && role.is_some_and(|role| {
            role.superuser || monitor.is_some_and(|monitor| snapshot.is_member(role.id, monitor.id))
        })
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let encoded = value.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
