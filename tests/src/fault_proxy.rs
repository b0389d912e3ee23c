//! Stands between the server and an S3 endpoint and breaks chosen requests the ways a network does.
//!
//! One request is carried per connection. What a fault does to a request is decided before anything is
//! forwarded, so "stored, but the client saw an error" is exactly that.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not forwarded; answered with 503 SlowDown.
    SlowDown,
    /// Not forwarded; the connection is cut.
    Cut,
    /// Carried out; answered with 500.
    StoredThenError,
    /// Carried out; the connection is cut before the answer.
    StoredThenCut,
    /// Carried out; never answered.
    StoredThenSilence,
}

struct Rule {
    method: &'static str,
    path: &'static str,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    met: usize,
}

/// A running proxy. Ends with the test's runtime.
pub struct FaultProxy {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl FaultProxy {
    /// Starts a proxy before `upstream`, a `host:port`.
    pub async fn start(upstream: String) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let state: Arc<Mutex<State>> = Arc::default();
        tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(carry(client, upstream.clone(), Arc::clone(&state)));
                }
            }
        });
        Ok(Self { port, state })
    }

    /// Breaks the next `times` requests of `method` whose path contains `path`.
    pub fn inject(&self, method: &'static str, path: &'static str, fault: Fault, times: usize) {
        if let Ok(mut state) = self.state.lock() {
            state.met = 0;
            state.rules = vec![Rule {
                method,
                path,
                fault,
                times,
            }];
        }
    }

    /// Requests broken since the last [`FaultProxy::inject`].
    pub fn met(&self) -> usize {
        self.state.lock().map_or(0, |state| state.met)
    }
}

fn fault_of(state: &Mutex<State>, head: &str) -> Option<Fault> {
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let mut state = state.lock().ok()?;
    let rule = state
        .rules
        .iter_mut()
        .find(|rule| rule.times > 0 && rule.method == method && path.contains(rule.path))?;
    rule.times -= 1;
    let fault = rule.fault;
    state.met += 1;
    Some(fault)
}

async fn carry(mut client: TcpStream, upstream: String, state: Arc<Mutex<State>>) {
    // A client that goes away in the middle has nothing to be told.
    let _ = try_carry(&mut client, &upstream, &state).await;
}

async fn try_carry(
    client: &mut TcpStream,
    upstream: &str,
    state: &Mutex<State>,
) -> Result<(), Failure> {
    let (head, body) = read_request(client).await?;
    let fault = fault_of(state, &head);
    match fault {
        Some(Fault::SlowDown) => {
            return answer(client, "503 Slow Down", "SlowDown").await;
        }
        Some(Fault::Cut) => return Ok(()),
        _ => {}
    }
    let mut server = TcpStream::connect(upstream).await?;
    let (first, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    let forwarded = format!("{first}\r\nConnection: close\r\n{rest}");
    server.write_all(forwarded.as_bytes()).await?;
    server.write_all(&body).await?;
    let mut response = Vec::new();
    server.read_to_end(&mut response).await?;
    match fault {
        Some(Fault::StoredThenError) => {
            answer(client, "500 Internal Server Error", "InternalError").await
        }
        Some(Fault::StoredThenCut) => Ok(()),
        Some(Fault::StoredThenSilence) => {
            // Longer than any client waits.
            tokio::time::sleep(Duration::from_secs(300)).await;
            Ok(())
        }
        _ => {
            client.write_all(&response).await?;
            client.shutdown().await?;
            Ok(())
        }
    }
}

async fn answer(client: &mut TcpStream, status: &str, code: &str) -> Result<(), Failure> {
    let body = format!("<Error><Code>{code}</Code><Message>injected</Message></Error>");
    let text = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await?;
    Ok(())
}

/// The head, with its empty line, and the body of one request.
async fn read_request(client: &mut TcpStream) -> Result<(String, Vec<u8>), Failure> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Err("the client went away".into());
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec())?;
    let length: usize = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Ok(0), |(_, value)| value.trim().parse())?;
    let mut body = bytes.split_off(end);
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Err("the client went away".into());
        }
    }
    Ok((head, body))
}
