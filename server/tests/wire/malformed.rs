//! Bytes that no client sends: none of them may end the process or another client's session.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Raw, Server, message};

/// Reads whatever comes until the server closes or has nothing more to say.
fn drain(raw: &mut Raw) {
    raw.stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let mut buffer = [0; 16 << 10];
    while let Ok(1..) = raw.stream.read(&mut buffer) {}
}

fn still_serves(server: &Server, seed: u64) {
    let (mut raw, _) = Raw::log_in(server);
    assert!(raw.query("SELECT 1").contains("D 1"), "seed {seed}");
}

#[test]
fn random_bytes_before_logging_in() {
    let server = Server::start();
    for seed in 0..100 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes: Vec<u8> = (0..random.random_range(0..600))
            .map(|_| random.random())
            .collect();
        // Half of them look like a packet, so that what is inside is looked at.
        if seed % 2 == 0 {
            let mut packet = (bytes.len() as u32 + 8).to_be_bytes().to_vec();
            let code = [196_608i32, 196_610, 80_877_102, 80_877_103, 80_877_104];
            packet.extend_from_slice(&code[random.random_range(0..code.len())].to_be_bytes());
            packet.append(&mut bytes);
            bytes = packet;
        }
        let mut raw = Raw::connect(&server);
        let _ = raw.stream.write_all(&bytes);
        let _ = raw.stream.shutdown(Shutdown::Write);
        drain(&mut raw);
    }
    still_serves(&server, 0);
}

/// A session that uses every message there is.
fn session() -> Vec<Vec<u8>> {
    vec![
        message('Q', b"SELECT 1; SELECT 'x'\0"),
        message(
            'P',
            b"s\0SELECT $1::int, $2::text\0\0\x02\0\0\0\x17\0\0\0\x19",
        ),
        message('D', b"Ss\0"),
        message(
            'B',
            b"p\0s\0\0\x02\0\x01\0\0\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x01a\0\x01\0\x01",
        ),
        message('D', b"Pp\0"),
        message('E', b"p\0\0\0\0\x01"),
        message('C', b"Pp\0"),
        message('H', b""),
        message('S', b""),
        message('Q', b"COPY (SELECT 1) TO STDOUT\0"),
        message('d', b"1\t2\n"),
        message('c', b""),
        message('f', b"no\0"),
        message('F', b"\0\0\0\x01\0\0\0\0\0\0"),
        message('S', b""),
    ]
}

#[test]
fn mutated_sessions() {
    let server = Server::start();
    for seed in 0..100 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut messages = session();
        for _ in 0..random.random_range(1..4) {
            let place = random.random_range(0..messages.len());
            let message = &mut messages[place];
            match random.random_range(0..5) {
                // A byte changes, be it the type, the length or the body.
                0 => {
                    let place = random.random_range(0..message.len());
                    message[place] = random.random();
                }
                // The body is cut, and the length with it.
                1 => {
                    let length = random.random_range(5..=message.len());
                    message.truncate(length);
                    message[1..5].copy_from_slice(&(length as u32 - 1).to_be_bytes());
                }
                // The body is cut, and the length is not.
                2 => message.truncate(random.random_range(1..=message.len())),
                // The length says anything.
                3 => message[1..5].copy_from_slice(&random.random::<[u8; 4]>()),
                _ => messages.swap_remove(place).clear(),
            }
        }
        let (mut raw, _) = Raw::log_in(&server);
        let _ = raw.stream.write_all(&messages.concat());
        let _ = raw.stream.shutdown(Shutdown::Write);
        drain(&mut raw);
    }
    still_serves(&server, 0);
}
