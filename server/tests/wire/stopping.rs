//! What stops a running query: a cancel request, a timeout, a client that vanishes, a shutdown.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::{Raw, Server};

/// Runs for minutes, and is planned at once.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 3000) a(x), \
                    generate_series(1, 3000) b(x), generate_series(1, 3000) c(x) \
                    WHERE a.x * b.x % 7 = c.x";
/// What the answer may take; the contract's 200 ms, and room for a debug build on a busy machine.
const SOON: Duration = Duration::from_millis(1_000);

/// Waits until the server has begun to work.
fn until_busy(server: &Server) {
    let before = server.cpu_seconds();
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.cpu_seconds() < before + 0.3 {
        assert!(Instant::now() < deadline, "the query does not run");
        std::thread::yield_now();
    }
}

/// Waits until the server has stopped working: no tick of CPU time within a while of real time.
fn until_idle(server: &Server) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (before, looked) = (server.cpu_seconds(), Instant::now());
        while looked.elapsed() < Duration::from_millis(500) {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        if server.cpu_seconds() - before < 0.1 {
            return;
        }
        assert!(Instant::now() < deadline, "the query goes on");
    }
}

#[test]
fn a_cancel_request_stops_the_query() {
    let server = Server::start();
    let (mut raw, key) = Raw::log_in(&server);
    raw.send('Q', format!("{LONG}\0").as_bytes());
    until_busy(&server);
    let asked = Instant::now();
    let mut cancel = TcpStream::connect(server.address).unwrap();
    cancel
        .write_all(&[&b"\0\0\0\x10\x04\xd2\x16\x2e"[..], &key].concat())
        .unwrap();
    let answer = raw.conversation();
    let took = asked.elapsed();
    assert!(
        answer.ends_with("E 57014 canceling statement due to user request\nZ I\n"),
        "{answer}"
    );
    assert!(took < SOON, "{took:?}");
    until_idle(&server);
    assert!(raw.query("SELECT 1").contains("D 1"));
}

#[test]
fn a_wrong_secret_stops_nothing() {
    let server = Server::start();
    let (mut raw, mut key) = Raw::log_in(&server);
    key[7] ^= 1;
    raw.send('Q', b"SET statement_timeout = '1s'\0");
    raw.conversation();
    raw.send('Q', format!("{LONG}\0").as_bytes());
    until_busy(&server);
    let mut cancel = TcpStream::connect(server.address).unwrap();
    cancel
        .write_all(&[&b"\0\0\0\x10\x04\xd2\x16\x2e"[..], &key].concat())
        .unwrap();
    assert!(raw.conversation().contains("due to statement timeout"));
}

#[test]
fn statement_timeout_stops_the_query() {
    let server = Server::start();
    let (mut raw, _) = Raw::log_in(&server);
    raw.query("SET statement_timeout = '500ms'");
    let began = Instant::now();
    let answer = raw.query(LONG);
    let took = began.elapsed();
    assert!(
        answer.ends_with("E 57014 canceling statement due to statement timeout\nZ I\n"),
        "{answer}"
    );
    assert!(took < Duration::from_millis(500) + SOON, "{took:?}");
    until_idle(&server);
}

#[test]
fn a_sleeping_query_is_stopped_and_holds_no_thread() {
    let server = Server::start();
    let mut sleepers = Vec::new();
    // More of them than the server has threads.
    for _ in 0..32 {
        let (mut raw, key) = Raw::log_in(&server);
        raw.send('Q', b"SELECT pg_sleep(100) FROM generate_series(1, 3)\0");
        sleepers.push((raw, key));
    }
    let (mut other, _) = Raw::log_in(&server);
    assert!(other.query("SELECT pg_sleep(0.01), 1").contains("D |1"));
    for (mut raw, key) in sleepers {
        let asked = Instant::now();
        let mut cancel = TcpStream::connect(server.address).unwrap();
        cancel
            .write_all(&[&b"\0\0\0\x10\x04\xd2\x16\x2e"[..], &key].concat())
            .unwrap();
        let answer = raw.conversation();
        let took = asked.elapsed();
        assert!(answer.contains("E 57014"), "{answer}");
        assert!(took < SOON, "{took:?}");
    }
}

#[test]
fn a_vanished_client_s_query_stops() {
    let server = Server::start();
    let (mut raw, _) = Raw::log_in(&server);
    raw.send('Q', format!("{LONG}\0").as_bytes());
    until_busy(&server);
    raw.stream.shutdown(Shutdown::Both).unwrap();
    drop(raw);
    until_idle(&server);
}

#[test]
fn a_stalled_client_holds_back_only_itself() {
    let server = Server::start();
    let (mut stalled, _) = Raw::log_in(&server);
    // Nobody reads the answer: it fills the sockets' buffers and then waits.
    stalled.send(
        'Q',
        b"SELECT repeat('x', 1000) FROM generate_series(1, 1000000)\0",
    );
    let (mut other, _) = Raw::log_in(&server);
    for _ in 0..20 {
        assert!(other.query("SELECT 1").contains("D 1"));
    }
    drop(stalled);
    until_idle(&server);
}

#[test]
fn a_shutdown_says_goodbye() {
    let server = Server::start();
    let (mut raw, _) = Raw::log_in(&server);
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &server.process_id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(
        raw.conversation(),
        "E 57P01 terminating connection due to administrator command\nclosed\n"
    );
    assert!(server.wait().success());
}
