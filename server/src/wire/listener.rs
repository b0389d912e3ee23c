//! Accepts connections on a thread of its own, and answers cancel requests there.
//!
//! The thread also runs the timers of `statement_timeout`. Nothing on it computes, so it is never
//! late. A socket that is not a cancel request is handed over to the sessions' runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::connection::Connection;
use super::message::Report;
use super::message::startup::Startup;
use super::startup;

/// How long a stranger may take to send the first packet.
const FIRST_PACKET_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections beyond the limit that are told so; more are closed without a word.
const REFUSALS_MAX: usize = 64;

/// Accepts until `stop`; sessions run on `sessions`.
pub async fn listen(
    shared: Arc<Shared>,
    listener: TcpListener,
    sessions: tokio::runtime::Handle,
    stop: CancellationToken,
) {
    let refusals = Arc::new(tokio::sync::Semaphore::new(REFUSALS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those who leave make room.
                tracing::warn!("could not accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        shared.metrics.connections.add(1);
        let shared = shared.clone();
        let sessions = sessions.clone();
        let refusals = refusals.clone();
        tokio::spawn(async move {
            receive(&shared, socket, peer, sessions, refusals).await;
        });
    }
}

async fn receive(
    shared: &Arc<Shared>,
    mut socket: TcpStream,
    peer: SocketAddr,
    sessions: tokio::runtime::Handle,
    refusals: Arc<tokio::sync::Semaphore>,
) {
    let _ = socket.set_nodelay(true);
    // Cancel requests need no place: a full server is when they are wanted most.
    let place = shared.registry.enter(shared.options.connections_max);
    let _refusal = match &place {
        Ok(_) => None,
        Err(_) => match refusals.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => return,
        },
    };
    let mut inbound = BytesMut::with_capacity(1024);
    let first = async {
        while inbound.len() < 8 {
            if socket.read_buf(&mut inbound).await.unwrap_or(0) == 0 {
                return false;
            }
        }
        true
    };
    if !matches!(
        tokio::time::timeout(FIRST_PACKET_TIMEOUT, first).await,
        Ok(true)
    ) {
        return;
    }
    if let Ok(Some(Startup::Cancel { process_id, secret })) = Startup::take(&mut inbound.clone()) {
        shared.registry.cancel(process_id, secret);
        return;
    }
    let Ok(place) = place else {
        let report = Report::fatal("53300", "sorry, too many clients already");
        startup::refuse(socket, inbound, &report).await;
        return;
    };
    // The socket's readiness moves to the other runtime with it.
    let Ok(socket) = socket.into_std() else {
        return;
    };
    let shared = shared.clone();
    sessions.spawn(async move {
        let Ok(socket) = TcpStream::from_std(socket) else {
            return;
        };
        let started = startup::start(&shared, socket, peer, inbound, &place).await;
        if let Some((channel, session)) = started {
            let interrupt = place.interrupt.clone();
            Connection::new(shared, channel, session, interrupt)
                .run()
                .await;
        }
    });
}
