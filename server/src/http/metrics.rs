//! `/metrics`, in Prometheus's text format.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use boathouse_catalog::state::{RunFilter, RunState};
use boathouse_engine::Engine;
use boathouse_engine::ingest::{CaptureStatus, PartitionStatus};

use crate::wire::Shared;

/// Runs looked at for the counts by state; the newest.
const RUNS_MAX: u32 = 1_000;

pub async fn show(State(shared): State<Arc<Shared>>) -> Response {
    let mut page = Page(String::new());
    let metrics = &shared.metrics;
    page.add(
        "connections",
        "gauge",
        "clients connected now",
        shared.registry.count(),
    );
    for (name, help, counter) in [
        (
            "connections_total",
            "connections accepted",
            &metrics.connections,
        ),
        ("queries_total", "statements begun", &metrics.queries),
        ("errors_total", "errors told to clients", &metrics.errors),
        (
            "rows_sent_total",
            "rows sent to clients",
            &metrics.rows_sent,
        ),
        (
            "sent_bytes_total",
            "bytes sent to clients",
            &metrics.bytes_sent,
        ),
    ] {
        page.add(name, "counter", help, counter.value());
    }
    let pool = &shared.engine.runtime.memory_pool;
    page.add(
        "query_memory_bytes",
        "gauge",
        "memory that queries hold",
        pool.reserved(),
    );
    page.add(
        "query_memory_limit_bytes",
        "gauge",
        "memory that queries may hold",
        shared.engine.config.memory_bytes_max,
    );
    page.add(
        "key_index_bytes",
        "gauge",
        "memory that the indexes of keyed tables hold",
        shared.engine.lake.index_bytes(),
    );
    page.add(
        "open_tables_bytes",
        "gauge",
        "memory, as reckoned, that what is known of tables holds: their files and statistics",
        shared.engine.lake.tables_bytes(),
    );
    if let Some(bytes) = resident_bytes() {
        page.add(
            "resident_memory_bytes",
            "gauge",
            "memory of the process",
            bytes,
        );
    }
    let filter = RunFilter {
        limit: Some(RUNS_MAX),
        ..RunFilter::default()
    };
    match shared.engine.catalog.runs().list(filter).await {
        Ok(runs) => {
            page.head(
                "pipeline_runs",
                "gauge",
                "the newest runs of pipelines, by state",
            );
            for state in [
                RunState::Running,
                RunState::Succeeded,
                RunState::Failed,
                RunState::Cancelled,
            ] {
                let count = runs.iter().filter(|run| run.state == state).count();
                page.line(&format!(
                    "pipeline_runs{{state=\"{}\"}} {count}",
                    state.name()
                ));
            }
        }
        Err(error) => tracing::warn!("pipeline runs are not in the metrics: {error}"),
    }
    captures(&mut page, &shared.engine);
    topics(&mut page, &shared.engine);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        page.0,
    )
        .into_response()
}

/// What pipelines from databases are at that run in this process.
fn captures(page: &mut Page, engine: &Engine) {
    let snapshot = engine.catalog.snapshot();
    let running: Vec<(String, CaptureStatus)> = snapshot
        .pipelines()
        .filter_map(|pipeline| {
            let status = engine.captures.status(pipeline.id)?;
            Some((label(&pipeline.name), status))
        })
        .collect();
    page.head(
        "capture_seconds_behind",
        "gauge",
        "seconds since what was read last was committed at the source; 0 when nothing is left to read",
    );
    for (pipeline, status) in &running {
        if let Some(seconds) = status.seconds_behind {
            page.line(&format!(
                "capture_seconds_behind{{pipeline=\"{pipeline}\"}} {seconds}"
            ));
        }
    }
    page.head(
        "capture_bytes_behind",
        "gauge",
        "bytes of the source's binlog that have not been read",
    );
    for (pipeline, status) in &running {
        if let Some(bytes) = status.bytes_behind {
            page.line(&format!(
                "capture_bytes_behind{{pipeline=\"{pipeline}\"}} {bytes}"
            ));
        }
    }
    page.head(
        "capture_changes_total",
        "counter",
        "changed rows read since the pipeline's run began, by table of the source",
    );
    for (pipeline, status) in &running {
        for table in &status.tables {
            page.line(&format!(
                "capture_changes_total{{pipeline=\"{pipeline}\",table=\"{}\"}} {}",
                label(&table.source),
                table.changes
            ));
        }
    }
}

/// How far pipelines from Kafka are that run in this process.
fn topics(page: &mut Page, engine: &Engine) {
    let snapshot = engine.catalog.snapshot();
    let running: Vec<(String, PartitionStatus)> = snapshot
        .pipelines()
        .filter_map(|pipeline| {
            let status = engine.captures.status(pipeline.id)?;
            Some((label(&pipeline.name), status.partitions))
        })
        .flat_map(|(pipeline, partitions)| {
            let named = move |partition: PartitionStatus| {
                let topic = label(&partition.topic);
                let number = partition.partition;
                let labels =
                    format!("pipeline=\"{pipeline}\",topic=\"{topic}\",partition=\"{number}\"");
                (labels, partition)
            };
            partitions.into_iter().map(named)
        })
        .collect();
    page.head(
        "kafka_messages_behind",
        "gauge",
        "offsets of a partition that are not in the table",
    );
    for (labels, partition) in &running {
        if let Some(messages) = partition.messages_behind {
            page.line(&format!("kafka_messages_behind{{{labels}}} {messages}"));
        }
    }
    page.head(
        "kafka_seconds_behind",
        "gauge",
        "seconds since the newest message was written that is in the table; 0 when nothing is left to read",
    );
    for (labels, partition) in &running {
        if let Some(seconds) = partition.seconds_behind {
            page.line(&format!("kafka_seconds_behind{{{labels}}} {seconds}"));
        }
    }
    page.head(
        "kafka_committed_offset",
        "gauge",
        "the offset of a partition that is read next: everything below it is in the table",
    );
    for (labels, partition) in &running {
        page.line(&format!(
            "kafka_committed_offset{{{labels}}} {}",
            partition.offset
        ));
    }
}

/// A name as the value of a label.
fn label(name: &str) -> String {
    name.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(&format!("# HELP boathouse_{name} {help}"));
        self.line(&format!("# TYPE boathouse_{name} {kind}"));
    }

    fn add(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(&format!("{name} {value}"));
    }

    fn line(&mut self, line: &str) {
        let prefix = if line.starts_with('#') {
            ""
        } else {
            "boathouse_"
        };
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{prefix}{line}");
    }
}

/// `VmRSS` of the process, which the kernel gives in KiB.
fn resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kibibytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes << 10)
}
