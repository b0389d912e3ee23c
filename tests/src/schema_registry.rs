//! A schema registry that answers what Confluent's would to those who read, and refuses whatever else is asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

/// A registry of a test's own. Its schemas are asked for with the user `reader` and the password `secret`.
pub struct SchemaRegistry {
    port: u16,
    answers: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for SchemaRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SchemaRegistry {
    pub async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", crate::free_port()?)).await?;
        let port = listener.local_addr()?.port();
        let answers: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (known, noted) = (Arc::clone(&answers), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (known, noted) = (Arc::clone(&known), Arc::clone(&noted));
                tokio::spawn(async move {
                    let _ = answer(stream, &known, &noted).await;
                });
            }
        });
        Ok(Self {
            port,
            answers,
            asked,
            task,
        })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What is answered at a path: a JSON object.
    pub fn put(&self, path: &str, answer: String) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(path.to_owned(), answer);
    }

    /// Registers a schema under an id. Each reference is the name it has in the schema, and its subject, of which it is version 1.
    pub fn register(&self, id: u32, kind: &str, schema: &str, references: &[(&str, &str)]) {
        let answer = described(kind, schema, references);
        self.put(&format!("/schemas/ids/{id}"), answer);
    }

    /// Registers version 1 of a subject, for others to refer to.
    pub fn register_subject(
        &self,
        subject: &str,
        kind: &str,
        schema: &str,
        references: &[(&str, &str)],
    ) {
        let answer = described(kind, schema, references);
        let subject = subject.replace('/', "%2F");
        self.put(&format!("/subjects/{subject}/versions/1"), answer);
    }

    /// The paths that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A schema as it is answered. Of Avro the kind is left out.
fn described(kind: &str, schema: &str, references: &[(&str, &str)]) -> String {
    let mut escaped = String::new();
    for character in schema.chars() {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            '\n' => escaped.push_str("\\n"),
            other => escaped.push(other),
        }
    }
    let references: Vec<String> = references
        .iter()
        .map(|(name, subject)| {
            format!("{{\"name\":\"{name}\",\"subject\":\"{subject}\",\"version\":1}}")
        })
        .collect();
    let kind = match kind {
        "AVRO" => String::new(),
        other => format!("\"schemaType\":\"{other}\","),
    };
    format!(
        "{{{kind}\"schema\":\"{escaped}\",\"references\":[{}]}}",
        references.join(",")
    )
}

async fn answer(
    mut stream: TcpStream,
    known: &Mutex<BTreeMap<String, String>>,
    noted: &Mutex<Vec<String>>,
) -> Result<(), Failure> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0; 1];
        if stream.read(&mut byte).await? == 0 {
            return Ok(());
        }
        request.push(byte[0]);
    }
    let request = String::from_utf8(request)?;
    let mut words = request.split_whitespace();
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    noted
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(path.to_owned());
    let lower = request.to_ascii_lowercase();
    // "reader:secret" in base 64.
    let is_let_in = request.contains("Basic cmVhZGVyOnNlY3JldA==");
    let accepts = lower.contains("accept: application/vnd.schemaregistry.v1+json");
    let found = known
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(path)
        .cloned();
    let (status, body) = match found {
        _ if method != "GET" || !accepts => ("406 Not Acceptable", String::new()),
        _ if !is_let_in => ("401 Unauthorized", String::new()),
        Some(body) => ("200 OK", body),
        None => (
            "404 Not Found",
            r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned(),
        ),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}
