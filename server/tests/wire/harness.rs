//! A server of its own for each test, and a client that says exactly the bytes it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use tempfile::TempDir;

pub const PASSWORD: &str = "correct horse";

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub http_address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server on free ports and waits until it says that it is ready.
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_boathouse"))
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .arg("--lake")
            .arg(folder.path().join("lake"))
            .arg("--scratch")
            .arg(folder.path().join("scratch"))
            .args(arguments)
            .env("BOATHOUSE_PASSWORD", PASSWORD)
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let mut seen = String::new();
        while !line.contains("is ready") {
            seen.push_str(&line);
            line.clear();
            assert_ne!(
                log.read_line(&mut line).unwrap(),
                0,
                "the server did not start: {seen}"
            );
        }
        let address = |name: &str| {
            let rest = line.split_once(name).unwrap().1;
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (address, http_address) = (address(" listen="), address(" http="));
        // Read on, or the server would wait for somebody to.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::stderr()));
        Self {
            child,
            address,
            http_address,
            _folder: folder,
        }
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub fn wait(mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// Seconds of processor time the server has used.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11..13]
            .iter()
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum();
        ticks / 100.0
    }
}

/// A message of the server: its type and its body.
pub type Message = (char, Vec<u8>);

pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Self { stream }
    }

    /// Connects and logs in; gives the process id and the secret of cancel requests.
    pub fn log_in(server: &Server) -> (Self, [u8; 8]) {
        let mut raw = Self::connect(server);
        raw.start("boathouse");
        let refused = raw.prove(PASSWORD);
        assert_eq!(refused, None);
        let mut key = [0; 8];
        loop {
            match raw.receive().unwrap() {
                ('K', body) => key.copy_from_slice(&body),
                ('Z', _) => return (raw, key),
                _ => {}
            }
        }
    }

    pub fn start(&mut self, role: &str) {
        self.start_with(role, &[]);
    }

    pub fn start_with(&mut self, role: &str, parameters: &[(&str, &str)]) {
        let mut body = 196_608i32.to_be_bytes().to_vec();
        body.extend_from_slice(format!("user\0{role}\0database\0boathouse\0").as_bytes());
        for (name, value) in parameters {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        self.stream
            .write_all(&(body.len() as u32 + 4).to_be_bytes())
            .unwrap();
        self.stream.write_all(&body).unwrap();
    }

    /// Goes through SCRAM; gives the error where it ends with one.
    pub fn prove(&mut self, password: &str) -> Option<Vec<(char, String)>> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (kind, body) = self.receive().unwrap();
            if kind == 'E' {
                return Some(report(&body));
            }
            assert_eq!(kind, 'R');
            match i32::from_be_bytes(body[..4].try_into().unwrap()) {
                0 => return None,
                10 => {
                    let mut answer = b"SCRAM-SHA-256\0".to_vec();
                    answer.extend_from_slice(&(scram.message().len() as u32).to_be_bytes());
                    answer.extend_from_slice(scram.message());
                    self.send('p', &answer);
                }
                11 => {
                    scram.update(&body[4..]).unwrap();
                    let answer = scram.message().to_vec();
                    self.send('p', &answer);
                }
                12 => scram.finish(&body[4..]).unwrap(),
                other => panic!("authentication request {other}"),
            }
        }
    }

    pub fn send(&mut self, kind: char, body: &[u8]) {
        self.stream.write_all(&message(kind, body)).unwrap();
    }

    /// The next message, or `None` when the server has closed.
    pub fn receive(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some((char::from(head[0]), body))
    }

    /// Everything up to ReadyForQuery, each message as a line.
    pub fn conversation(&mut self) -> String {
        let mut lines = String::new();
        loop {
            let Some((kind, body)) = self.receive() else {
                return lines + "closed\n";
            };
            lines += &match kind {
                'E' | 'N' => {
                    let report = report(&body);
                    let part = |code| {
                        report
                            .iter()
                            .find(|(one, _)| *one == code)
                            .map_or("", |(_, text)| text)
                    };
                    format!("{kind} {} {}\n", part('C'), part('M'))
                }
                'D' => format!("D {}\n", row(&body).join("|")),
                'C' => format!("C {}\n", String::from_utf8_lossy(&body[..body.len() - 1])),
                'Z' => return lines + &format!("Z {}\n", char::from(body[0])),
                'T' => format!("T {} columns\n", u16::from_be_bytes([body[0], body[1]])),
                't' => {
                    let oids: Vec<String> = body[2..]
                        .chunks(4)
                        .map(|oid| u32::from_be_bytes(oid.try_into().unwrap()).to_string())
                        .collect();
                    format!("t {}\n", oids.join(","))
                }
                other => format!("{other}\n"),
            };
        }
    }

    pub fn query(&mut self, sql: &str) -> String {
        self.send('Q', format!("{sql}\0").as_bytes());
        self.conversation()
    }
}

pub fn message(kind: char, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind as u8];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The fields of an ErrorResponse.
fn report(body: &[u8]) -> Vec<(char, String)> {
    body.split(|byte| *byte == 0)
        .filter(|field| !field.is_empty())
        .map(|field| {
            (
                char::from(field[0]),
                String::from_utf8_lossy(&field[1..]).into_owned(),
            )
        })
        .collect()
}

fn row(body: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = &body[2..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                values.push(String::from_utf8_lossy(&after[..length]).into_owned());
                rest = &after[length..];
            }
            Err(_) => {
                values.push("NULL".to_owned());
                rest = after;
            }
        }
    }
    values
}
