//! Runs of a pipeline from a table into a topic: the rows there are, then the changes, version after version.
//!
//! ```text
//! newest version ─▶ changes since the position ─▶ messages ─▶ acknowledged by the brokers ─▶ position
//! ```
//!
//! The position moves only when the brokers have everything up to it, so a crash repeats messages and loses none. What is
//! repeated is repeated from the position on and in its order, so the last message of a key is always what the row is now.
//! The position is on record before the first row is sent: rows of the beginning that are sent again are those of the same
//! version, and changes since follow them.
//!
//! Versions whose log entries or data files are gone stop the run. Nothing is skipped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_catalog::state::NewPosition;
use boathouse_connectors::kafka::{MessageWriter, OutgoingMessage};
use futures::StreamExt;
use object_store::path::Path;

use super::super::capture::{CaptureStatus, Running, TableStatus, begin_run, is_current};
use super::super::failpoint;
use super::super::run::OpenRun;
use super::super::{RunSummary, Trigger};
use super::hold::Hold;
use super::plan::PublishPlan;
use super::position::Published;
use super::rows::RowFormat;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{AsOf, LakeError};
use crate::query;

/// Versions whose changes are read together.
const VERSIONS_MAX: i64 = 100;

/// How often a pipeline that waits is looked at for changes of its own.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Records of positions kept of a pipeline.
const POSITIONS_KEPT: i64 = 1000;

/// Pauses between attempts while brokers or storage cannot be reached.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Attempts of a run that somebody waits for.
const ATTEMPTS_MAX: u32 = 6;

/// Why versions cannot be read.
const FILES_GONE: &str = "data files of them were deleted";

/// Why an attempt ended without an error.
enum Ended {
    /// Everything is published that a run which ends has to, or somebody asked it to stop.
    Done,
    /// The table's columns have changed, or the connection is another now.
    Anew,
}

/// Runs a pipeline: up to the version its table has now, or on and on until it is paused, changed or dropped.
pub(in crate::ingest) async fn run_publication(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    trigger: Trigger,
) -> Result<RunSummary, SqlError> {
    let continuous = trigger == Trigger::Continuous;
    let mut refresh = trigger == Trigger::FullRefresh;
    let (mut open, status) = begin_run(engine, pipeline, trigger).await?;
    let mut pause = PAUSE_MIN;
    let mut attempts = 0;
    loop {
        let begun = Instant::now();
        let outcome = match Publication::begin(&mut open, pipeline, &status, &mut refresh).await {
            Ok(mut publication) => publication.work(&mut open, continuous).await,
            Err(error) => Err(error),
        };
        let error = match outcome {
            Ok(Ended::Done) => return open.succeed().await,
            Ok(Ended::Anew) => continue,
            Err(error) => error,
        };
        // What went well for a while begins anew.
        if begun.elapsed() > Duration::from_secs(60) {
            (pause, attempts) = (PAUSE_MIN, 0);
        }
        attempts += 1;
        if !error.retryable || (!continuous && attempts >= ATTEMPTS_MAX) {
            return Err(open.fail(error).await);
        }
        tracing::warn!(
            pipeline = pipeline.name, %error,
            cause = ?std::error::Error::source(&error), "publishing was interrupted, going on"
        );
        open.interrupted(&error).await?;
        status.lose();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        if continuous && (status.is_to_stop() || !is_current(engine, pipeline)) {
            return open.succeed().await;
        }
    }
}

/// One attempt at a run.
struct Publication<'r> {
    plan: PublishPlan,
    pipeline: &'r PipelineDefinition,
    status: &'r Running,
    format: RowFormat,
    writer: MessageWriter,
    hold: Hold,
    at: Published,
    /// Of the record of the position; 0 before there is one.
    sequence: i64,
    /// When the version of the position was committed, in microseconds since 1970.
    committed_at: i64,
    /// Rows at the beginning, sent so far and about how many there are.
    rows: u64,
    rows_estimate: u64,
    changes: u64,
}

/// A row that went, until it is known whether one of its key came in the same version.
#[derive(Default)]
struct Group {
    version: i64,
    key: Vec<u8>,
    /// The row, while no other of its key came.
    gone: Option<Vec<u8>>,
    has_gone: bool,
}

/// Somebody asked the run to stop, before everything was sent.
struct Stopped;

impl<'r> Publication<'r> {
    /// Begins an attempt.
    async fn begin(
        open: &mut OpenRun,
        pipeline: &'r PipelineDefinition,
        status: &'r Running,
        refresh: &mut bool,
    ) -> Result<Self, SqlError> {
        open.go_on().await?;
        Self::start(open, pipeline, status, refresh).await
    }

    /// Finds out where to go on, and puts it on record.
    async fn start(
        open: &mut OpenRun,
        pipeline: &'r PipelineDefinition,
        status: &'r Running,
        refresh: &mut bool,
    ) -> Result<Self, SqlError> {
        let engine = open.engine();
        let plan = PublishPlan::open(&engine, pipeline).await?;
        let last = engine.catalog.positions();
        let last = last.last_committed(pipeline.id).await?;
        let sequence = last.as_ref().map_or(0, |last| last.sequence);
        let recorded = last.and_then(|last| Published::from_json(&last.position));
        let newest = plan.table.snapshot(None).await?.version();
        let begins = |snapshot| Published {
            table: plan.definition.id,
            topic: format!("{}/{}", plan.target.connection, plan.target.topic),
            version: newest,
            snapshot,
        };
        let beginning = begins(plan.options.snapshot);
        let (at, is_new) = match recorded {
            _ if *refresh => (begins(true), true),
            None => (beginning, true),
            Some(at) if at.table != plan.definition.id => {
                return Err(SqlError::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!(
                        "table \"{}\" is another one than the one that was published",
                        plan.table_name
                    ),
                )
                .hint(format!("RUN PIPELINE {} FULL REFRESH publishes its rows and goes on from there; rows of the table there was are not told to be gone", plan.name)));
            }
            // Another topic has nothing of what was published.
            Some(at) if at.topic != beginning.topic => (beginning, true),
            Some(at) if at.version > newest => return Err(ahead(&plan, &at, newest)),
            Some(at) => (at, false),
        };
        let writer = plan
            .cluster
            .write(&plan.target.topic, &plan.options.writer)
            .await?;
        let mut publication = Self {
            format: plan.selection.format()?,
            plan,
            pipeline,
            status,
            writer,
            hold: Hold::new(engine, open.lease.clone()),
            at,
            sequence,
            committed_at: 0,
            rows: 0,
            rows_estimate: 0,
            changes: 0,
        };
        if is_new {
            publication.record(open).await?;
            *refresh = false;
        }
        Ok(publication)
    }

    async fn work(&mut self, open: &mut OpenRun, continuous: bool) -> Result<Ended, SqlError> {
        let newest = self.plan.table.snapshot(None).await?;
        let until = (!continuous).then(|| newest.version());
        let schema = Arc::clone(newest.schema());
        if self.at.snapshot && self.publish_rows(open, continuous).await?.is_err() {
            return Ok(Ended::Done);
        }
        loop {
            if self.stops(continuous) {
                return Ok(Ended::Done);
            }
            self.require_table()?;
            let newest = self.plan.table.snapshot(None).await?;
            if newest.schema() != &schema || !self.plan.is_connected_as_told() {
                return Ok(Ended::Anew);
            }
            if newest.version() > self.at.version {
                let first = self.at.version + 1;
                let last = newest.version().min(self.at.version + VERSIONS_MAX);
                let versions = (first, last);
                if self
                    .publish_changes(open, &newest, versions, continuous)
                    .await?
                    .is_err()
                {
                    return Ok(Ended::Done);
                }
                continue;
            }
            if newest.version() < self.at.version {
                return Err(ahead(&self.plan, &self.at, newest.version()));
            }
            self.tell("streaming", Some(0.0));
            if until.is_some_and(|until| self.at.version >= until) {
                return Ok(Ended::Done);
            }
            let waited = Instant::now();
            while waited.elapsed() < self.plan.options.target_lag && !self.stops(continuous) {
                let left = self
                    .plan
                    .options
                    .target_lag
                    .saturating_sub(waited.elapsed());
                tokio::time::sleep(left.min(LOOK_EVERY)).await;
            }
        }
    }

    /// Whether a run that goes on by itself is to stop.
    fn stops(&self, continuous: bool) -> bool {
        let engine = &self.plan.context.engine;
        continuous && (self.status.is_to_stop() || !is_current(engine, self.pipeline))
    }

    fn require_table(&self) -> Result<(), SqlError> {
        let snapshot = self.plan.context.engine.catalog.snapshot();
        if snapshot.table_by_id(self.plan.definition.id).is_some() {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::UNDEFINED_TABLE,
            format!("table \"{}\" does not exist any more", self.plan.table_name),
        ))
    }

    /// Publishes the rows of the version at which the pipeline begins.
    async fn publish_rows(
        &mut self,
        open: &mut OpenRun,
        continuous: bool,
    ) -> Result<Result<(), Stopped>, SqlError> {
        let version = self.at.version;
        let versions = (version, version);
        let snapshot = self.plan.table.snapshot(Some(AsOf::Version(version))).await;
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => return Err(self.lost(error, versions).await),
        };
        let provider = self.plan.table.provider(&snapshot);
        let files = self.plan.table.locations(&snapshot);
        let rows = snapshot.files().iter();
        self.rows_estimate = rows.filter_map(|file| file.rows_stored).sum();
        let context = self.plan.context.clone();
        let mut batches = self
            .plan
            .selection
            .rows(&context, provider, version)
            .await?;
        let mut group = Group::default();
        while let Some(batch) = batches.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    return Err(self.missing(query::failure(error), versions, &files).await);
                }
            };
            let sent = self.send(&batch, &mut group).await?;
            self.rows += sent;
            self.count(open, &batch, sent).await;
            self.tell("snapshot", None);
            if self.stops(continuous) {
                return Ok(Err(Stopped));
            }
        }
        self.writer.flush().await?;
        failpoint::hit("publish_acknowledged");
        self.at.snapshot = false;
        self.record(open).await?;
        Ok(Ok(()))
    }

    /// Publishes the changes of some versions.
    async fn publish_changes(
        &mut self,
        open: &mut OpenRun,
        newest: &Arc<crate::lake::TableSnapshot>,
        (first, last): (i64, i64),
        continuous: bool,
    ) -> Result<Result<(), Stopped>, SqlError> {
        let versions = (first, last);
        let feed = self.plan.table.changes_until(first, last, newest).await;
        let mut feed = match feed {
            Ok(feed) => feed,
            Err(error) => return Err(self.lost(error, versions).await),
        };
        let files = std::mem::take(&mut feed.locations);
        let since = self.plan.table.committed_at(first).await?;
        let behind = since
            .map(|since| (chrono::Utc::now().timestamp_millis() - since).max(0) as f64 / 1000.0);
        self.tell("streaming", behind);
        let context = self.plan.context.clone();
        let mut batches = self.plan.selection.changes(&context, feed).await?;
        let mut group = Group::default();
        while let Some(batch) = batches.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    return Err(self.missing(query::failure(error), versions, &files).await);
                }
            };
            let sent = self.send(&batch, &mut group).await?;
            self.changes += sent;
            self.count(open, &batch, sent).await;
            if self.stops(continuous) {
                return Ok(Err(Stopped));
            }
        }
        let sent = self.settle(&mut group).await?;
        self.changes += sent;
        open.counters.rows_out += count(sent);
        self.writer.flush().await?;
        failpoint::hit("publish_acknowledged");
        self.at.version = last;
        let committed_at = self.plan.table.committed_at(last).await?;
        self.committed_at = committed_at.map_or(0, |at| at.saturating_mul(1000));
        self.record(open).await?;
        Ok(Ok(()))
    }

    /// Sends the rows of a batch, as far as it is known what they are. Gives how many messages.
    async fn send(&self, batch: &RecordBatch, group: &mut Group) -> Result<u64, SqlError> {
        let messages = self.format.messages(batch)?;
        let columns = batch.num_columns();
        let unexpected = || SqlError::internal("the changes of a table lack what they are");
        let kinds = columns.checked_sub(2).map(|index| batch.column(index));
        let kinds = kinds.and_then(|column| column.as_string_opt::<i32>());
        let kinds = kinds.ok_or_else(unexpected)?;
        let versions = columns.checked_sub(1).map(|index| batch.column(index));
        let versions = versions.and_then(|column| column.as_primitive_opt::<Int64Type>());
        let versions = versions.ok_or_else(unexpected)?;
        let with_op = !self.plan.has_tombstones();
        let (mut payload, mut key) = (Vec::new(), Vec::new());
        let mut sent = 0;
        for row in 0..messages.len() {
            let (kind, version) = (kinds.value(row), versions.value(row));
            key.clear();
            if let Some(column) = messages
                .key(row, &mut key)
                .filter(|_| self.format.has_key())
            {
                return Err(SqlError::new(
                    SqlState::NOT_NULL_VIOLATION,
                    format!(
                        "column \"{column}\" of KEY is NULL in a row of version {version} of table \"{}\"",
                        self.plan.table_name
                    ),
                )
                .hint("leave such rows out with WHERE, or name columns in KEY that have a value in every row"));
            }
            let joins = self.format.has_key() && group.version == version && group.key == key;
            if !joins {
                sent += self.settle(group).await?;
                group.has_gone = false;
                group.version = version;
                group.key.clone_from(&key);
            }
            let operation = match kind {
                "delete" => "delete",
                "insert" if group.has_gone => "update",
                other => other,
            };
            payload.clear();
            let first = match with_op {
                true => format!("\"_op\":\"{operation}\","),
                false => String::new(),
            };
            messages.payload(row, &first, &mut payload);
            if operation == "delete" && self.format.has_key() {
                group.gone = Some(std::mem::take(&mut payload));
                group.has_gone = true;
                continue;
            }
            group.gone = None;
            self.send_one(operation, version, &key, Some(&payload))
                .await?;
            sent += 1;
            // So that a cancelled run ends.
            tokio::task::consume_budget().await;
        }
        Ok(sent)
    }

    /// Tells that a row went, when none of its key came.
    async fn settle(&self, group: &mut Group) -> Result<u64, SqlError> {
        let Some(row) = group.gone.take() else {
            return Ok(0);
        };
        let payload = (!self.plan.has_tombstones()).then_some(row.as_slice());
        self.send_one("delete", group.version, &group.key, payload)
            .await?;
        Ok(1)
    }

    async fn send_one(
        &self,
        operation: &str,
        version: i64,
        key: &[u8],
        payload: Option<&[u8]>,
    ) -> Result<(), SqlError> {
        let version = version.to_string();
        let headers = [
            ("boathouse-pipeline", Some(self.plan.name.as_bytes())),
            ("boathouse-version", Some(version.as_bytes())),
            ("boathouse-op", Some(operation.as_bytes())),
        ];
        let message = OutgoingMessage {
            key: self.format.has_key().then_some(key),
            payload,
            headers: &headers,
        };
        loop {
            // Each time anew: whoever waits for room may stand still for as long as it takes another server to take over.
            self.hold.check().await?;
            let is_sent = self.writer.try_send(&message)?;
            if is_sent && self.hold.was_in_time() {
                return Ok(());
            }
            if is_sent {
                // It stood still just now, and the library counts a message's time from when it got it.
                self.writer.give_up();
            }
            self.writer.room().await;
        }
    }

    async fn count(&self, open: &mut OpenRun, batch: &RecordBatch, sent: u64) {
        open.counters.rows_in += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
        open.counters.rows_out += count(sent);
        let runs = self.plan.context.engine.catalog.runs();
        if let Err(error) = runs.progress(open.run, open.counters).await {
            tracing::warn!(run = open.run.0, %error, "could not record the progress of a run");
        }
    }

    /// Puts on record how far it is. The lease must still be held.
    async fn record(&mut self, open: &OpenRun) -> Result<(), SqlError> {
        let positions = self.plan.context.engine.catalog.positions();
        let sequence = positions
            .prepare(NewPosition {
                pipeline: self.pipeline.id,
                attempt: uuid::Uuid::new_v4(),
                position: self.at.to_json(),
                committed_sequence: self.sequence,
                files: &[],
                quarantine: &[],
                replays: &[],
                superseded: &[],
                captures: &[],
                lease: Some(&open.lease),
            })
            .await?;
        failpoint::hit("publish_prepared");
        positions.resolve(self.pipeline.id, sequence).await?;
        self.sequence = sequence;
        if sequence % 100 == 0 {
            positions
                .forget_below(self.pipeline.id, sequence - POSITIONS_KEPT)
                .await?;
        }
        Ok(())
    }

    fn tell(&self, state: &'static str, behind: Option<f64>) {
        self.status.tell(CaptureStatus {
            position: self.at.version.to_string(),
            committed_at: self.committed_at,
            seconds_behind: behind,
            bytes_behind: None,
            tables: vec![TableStatus {
                source: self.plan.table_name.clone(),
                target: self.plan.definition.id,
                state,
                snapshot_rows: self.rows,
                snapshot_rows_estimate: self.rows_estimate,
                changes: self.changes,
            }],
            partitions: Vec::new(),
        });
    }

    /// Versions whose log entries are gone, or what these name. Reading tells it in many ways, so it is looked.
    async fn lost(&self, error: LakeError, versions: (i64, i64)) -> SqlError {
        let missing = self.plan.table.first_missing(versions.0, versions.1).await;
        let missing = match (&error, missing) {
            (_, Ok(Some(version))) => Some(version),
            (LakeError::NoSuchVersion { version, .. }, _) => Some(*version),
            _ => None,
        };
        if let Some(version) = missing {
            let why = format!("the log no longer has version {version}");
            return self.gap(versions, &why).caused_by(error);
        }
        match error.is_missing_file() {
            true => self.gap(versions, FILES_GONE).caused_by(error),
            false => error.into(),
        }
    }

    /// Versions whose data files are gone. What reading says of that has many words, so it is looked.
    async fn missing(&self, error: SqlError, versions: (i64, i64), files: &[Path]) -> SqlError {
        match self.plan.table.lacks_any(files).await {
            Ok(true) => self.gap(versions, FILES_GONE).caused_by(error),
            _ => error,
        }
    }

    fn gap(&self, (first, last): (i64, i64), why: &str) -> SqlError {
        let which = match first == last {
            true => format!("version {first}"),
            false => format!("versions {first} to {last}"),
        };
        SqlError::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "{which} of table \"{}\" were not published and can no longer be read: {why}",
                self.plan.table_name
            ),
        )
        .hint(format!(
            "RUN PIPELINE {} FULL REFRESH publishes the present rows and goes on from there; rows that went meanwhile are not told",
            self.plan.name
        ))
    }
}

/// The table has fewer versions than were published.
fn ahead(plan: &PublishPlan, at: &Published, newest: i64) -> SqlError {
    SqlError::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "table \"{}\" ends at version {newest}, though version {} was published",
            plan.table_name, at.version
        ),
    )
    .hint(format!(
        "it was made again or restored; RUN PIPELINE {} FULL REFRESH publishes its rows and goes on from there",
        plan.name
    ))
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
