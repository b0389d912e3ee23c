//! Decodes the changes of a database from a place of the binlog to its end, and drops them: what the benchmark
//! times beside reading the same bytes and looking at nothing.
//!
//! `decode_binlog PORT USER PASSWORD DATABASE FILE OFFSET` prints the rows and the seconds.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use boathouse_connectors::mysql::types::{InvalidText, ValuePolicies, ZeroDates};
use boathouse_connectors::mysql::{Opened, RowDetail, TableName};
use boathouse_connectors::registry::connector;
use boathouse_connectors::{OptionValue, Options};

/// The server's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Rows that are decoded before they are dropped.
const BATCH_ROWS: usize = 65_536;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments).await {
        Ok((rows, seconds)) => {
            println!("{rows} {seconds}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result<(usize, f64), Box<dyn Error>> {
    let [port, user, password, database, file, offset] = arguments else {
        return Err("usage: decode_binlog PORT USER PASSWORD DATABASE FILE OFFSET".into());
    };
    let text = |value: &str| OptionValue::Text(value.to_owned());
    let given = [
        ("host", text("127.0.0.1")),
        ("port", OptionValue::Number(port.clone())),
        ("user", text(user)),
        ("password", text(password)),
    ];
    let mut options = Options::new("the benchmark", given);
    let server = connector("MYSQL")?.configure(&mut options)?.mysql()?;
    let end = server.source_state().await?.position;
    let mut from = end.clone();
    from.file.clone_from(file);
    from.offset = offset.parse()?;
    let database = database.clone();
    let wanted = Arc::new(move |table: &TableName| table.database == database);
    let of_database = Arc::clone(&wanted);
    let tables = server
        .source_tables(move |table| of_database(table))
        .await?;
    let policies = ValuePolicies {
        zero_dates: ZeroDates::Null,
        invalid_text: InvalidText::Replace,
    };
    let how = (policies, RowDetail::default());
    let begin = Instant::now();
    let opened = server.read_changes(from, None, 3_999_999_999, wanted, how);
    let Opened::Stream(mut stream) = opened.await? else {
        return Err("the source no longer has that place".into());
    };
    for table in tables {
        stream.capture(Arc::new(table));
    }
    let mut rows = 0;
    while stream.position().place() < end.place() {
        stream.next().await?;
        if stream.rows_held() >= BATCH_ROWS {
            rows += taken(stream.take()?);
        }
    }
    rows += taken(stream.take()?);
    Ok((rows, begin.elapsed().as_secs_f64()))
}

fn taken<T>(changes: Vec<(T, Vec<boathouse_connectors::mysql::ChangedRows>)>) -> usize {
    let parts = changes.iter().flat_map(|(_, parts)| parts);
    parts.map(|part| part.changes.len()).sum()
}
