//! Queries shaped like those of BI tools, held to what PostgreSQL 15 answers.
//!
//! `bi.jsonl` holds one query a line with PostgreSQL's column names, type OIDs and text values, or its
//! SQLSTATE, recorded from a PostgreSQL 15 with `TimeZone` UTC. What differs is listed in `DIFFERS`
//! with the reason, so that a difference that goes away or comes up fails the test.

use std::collections::BTreeMap;

use boathouse_catalog::MasterKey;
use boathouse_catalog::types::ColumnType;
use boathouse_engine::function::text_io;
use boathouse_engine::function::value::Reader;
use boathouse_engine::outcome::Outcome;
use boathouse_engine::session::SessionOptions;
use boathouse_engine::{Engine, EngineConfig, Session, SqlError};
use futures::TryStreamExt;
use serde_json::Value;

/// Queries whose answer is not PostgreSQL's, by how they begin.
const DIFFERS: &[(&str, &str)] = &[
    (
        "select current_user = session_user",
        "name and regtype are text here",
    ),
    (
        "select stddev(x), variance(x)",
        "of numerics they are double precision here",
    ),
];

async fn answer(session: &mut Session, query: &str) -> Result<Value, SqlError> {
    let mut last = Value::Null;
    for statement in session.parse(query)? {
        let prepared = session.prepare(statement, &[]).await?;
        let Outcome::Rows { fields, stream, .. } = session.execute(&prepared, &[]).await? else {
            continue;
        };
        let types = fields
            .fields()
            .iter()
            .map(|field| ColumnType::from_field(field))
            .collect::<Vec<_>>();
        let names = fields
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect::<Vec<_>>();
        let batches: Vec<_> = stream
            .try_collect()
            .await
            .map_err(boathouse_engine::query::failure::from_datafusion)?;
        let mut rows = Vec::new();
        for batch in batches {
            let readers = batch
                .columns()
                .iter()
                .map(Reader::new)
                .collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                let cells = readers.iter().zip(&types).map(|(reader, column_type)| {
                    let value = reader.value(row);
                    if value.is_null() {
                        return Value::Null;
                    }
                    let text = text_io::display(&value, column_type, chrono_tz::UTC);
                    Value::String(match column_type {
                        ColumnType::Boolean => text[..1].to_owned(),
                        _ => text,
                    })
                });
                rows.push(Value::Array(cells.collect()));
            }
        }
        let oids = types.iter().map(ColumnType::oid).collect::<Vec<_>>();
        last = serde_json::json!({ "names": names, "types": oids, "rows": rows });
    }
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn bi_queries_answer_as_postgresql_does() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scratch")).unwrap();
    let engine = Engine::open(EngineConfig {
        lake: folder.path().join("lake").to_string_lossy().into_owned(),
        catalog: None,
        master_key: MasterKey::generate(),
        store_options: BTreeMap::new(),
        memory_bytes_max: 256 << 20,
        index_bytes_max: 64 << 20,
        tables_bytes_max: 64 << 20,
        scratch: folder.path().join("scratch"),
        server_name: "test".into(),
        runs_schedules: false,
    })
    .await
    .unwrap();
    let options = SessionOptions {
        role: "boathouse".into(),
        database: "boathouse".into(),
        settings: vec![("timezone".into(), "UTC".into())],
        client_address: None,
    };
    let mut session = Session::open(&engine, options).unwrap();
    let mut differences = String::new();
    let mut asked = 0;
    let mut same = 0;
    for line in include_str!("bi.jsonl").lines() {
        let expected: Value = serde_json::from_str(line).unwrap();
        let query = expected["query"].as_str().unwrap();
        asked += 1;
        let (agrees, given) = match answer(&mut session, query).await {
            Ok(given) => (
                ["names", "types", "rows"]
                    .iter()
                    .all(|part| given[*part] == expected[*part])
                    && expected.get("error").is_none(),
                given.to_string(),
            ),
            Err(error) => (
                expected["error"] == error.state.0 && expected["message"] == error.message.as_str(),
                format!("{}: {}", error.state.0, error.message),
            ),
        };
        same += usize::from(agrees);
        let known = DIFFERS
            .iter()
            .any(|(beginning, _)| query.starts_with(beginning));
        if agrees == known {
            differences.push_str(&format!(
                "{query}\n  expected {expected}\n  given {given}\n"
            ));
        }
    }
    println!("{same} of {asked} answer as PostgreSQL 15 does");
    assert!(differences.is_empty(), "{differences}");
}
