//! A network between Boathouse and a source, that a test cuts, stalls, slows and leads elsewhere.
//!
//! A [`Network`] listens at a port of its own and carries bytes, whatever they are, to the port it leads to.
//! What is done to it befalls the connections that are open and those that are made meanwhile. A connection
//! that met a stall never carries anything again, as one whose packets a firewall has begun to drop: it is
//! neither closed nor refused, and whoever waits for an answer waits for ever.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::{Failure, free_port};

/// Bytes that a slow network carries at a time.
const SLOW_BYTES: usize = 4096;

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    Flows,
    /// [`SLOW_BYTES`] at a time, so far apart.
    Slow(Duration),
    /// They are swallowed, and the connections stay open.
    Stalled,
    /// Connections are closed, and new ones as soon as they are made.
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    traffic: Traffic,
    leads_to: u16,
    /// Connections made before the last cut are closed.
    generation: usize,
}

/// A network that runs until it is dropped.
pub struct Network {
    pub port: u16,
    state: watch::Sender<State>,
    met: Arc<Mutex<usize>>,
}

impl Network {
    /// A network that leads to a port of this machine.
    pub async fn start(leads_to: u16) -> Result<Self, Failure> {
        let port = free_port()?;
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let (state, watched) = watch::channel(State {
            traffic: Traffic::Flows,
            leads_to,
            generation: 0,
        });
        let met = Arc::default();
        tokio::spawn(accept(listener, watched, Arc::clone(&met)));
        Ok(Self { port, state, met })
    }

    /// From now on bytes fare like this.
    pub fn set(&self, traffic: Traffic) {
        self.state.send_modify(|state| {
            state.traffic = traffic;
            state.generation += usize::from(traffic == Traffic::Cut);
        });
    }

    /// Closes all connections; new ones lead to another port.
    pub fn lead_to(&self, port: u16) {
        self.state.send_modify(|state| {
            state.leads_to = port;
            state.generation += 1;
        });
    }

    /// Connections that have been made so far.
    pub fn connections(&self) -> usize {
        self.met.lock().map_or(0, |met| *met)
    }
}

async fn accept(listener: TcpListener, state: watch::Receiver<State>, met: Arc<Mutex<usize>>) {
    let mut ends = state.clone();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            // The test is over.
            () = async { while ends.changed().await.is_ok() {} } => return,
        };
        let Ok((client, _)) = client else { return };
        if let Ok(mut met) = met.lock() {
            *met += 1;
        }
        tokio::spawn(carry(client, state.clone()));
    }
}

/// Carries one connection until either end closes it or the network does.
async fn carry(client: TcpStream, mut state: watch::Receiver<State>) {
    let begun = *state.borrow();
    if begun.traffic == Traffic::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", begun.leads_to)).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, state.clone()) => {}
        () = pump(from_server, to_client, state.clone()) => {}
        _ = state.wait_for(|now| now.generation != begun.generation) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: watch::Receiver<State>) {
    let mut buffer = vec![0; 1 << 16];
    let mut swallows = false;
    loop {
        let most = match state.borrow().traffic {
            Traffic::Slow(_) => SLOW_BYTES,
            _ => buffer.len(),
        };
        let Ok(read @ 1..) = from.read(&mut buffer[..most]).await else {
            return;
        };
        let traffic = state.borrow().traffic;
        if let Traffic::Slow(pause) = traffic {
            tokio::time::sleep(pause).await;
        }
        swallows |= traffic == Traffic::Stalled;
        if !swallows && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
