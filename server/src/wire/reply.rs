//! The answers that carry rows: results, COPY in both directions.

use boathouse_engine::outcome::{CopyIn, CopyOut, Outcome, RowsTag};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use boathouse_catalog::types::ColumnType;
use boathouse_sql::statement::CopyFormat;

use super::channel::FLUSH_BYTES;
use super::connection::{Connection, Failure, stopped, watched};
use super::copy_out::CopyEncoder;
use super::message::Report;
use super::message::backend::{self, CopyDirection};
use super::message::frontend::Frontend;
use super::rows::{self, RowEncoder, Rows};
use super::value::{Style, Zone};

/// Where batches come from.
///
/// A query computes in a task of its own: a step of it that takes long does not keep the connection
/// from answering a cancel request, and the next batch is made while this one is encoded. A result
/// that is known already, whose stream can tell its length, is not worth a task.
enum Source {
    Here(SendableRecordBatchStream),
    Apart {
        batches: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
        task: Option<JoinHandle<()>>,
    },
}

impl Source {
    fn new(mut stream: SendableRecordBatchStream) -> Self {
        if stream.size_hint().1.is_some() {
            return Self::Here(stream);
        }
        let (sender, batches) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            while let Some(batch) = stream.next().await {
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        });
        Self::Apart {
            batches,
            task: Some(task),
        }
    }

    async fn next(&mut self) -> Option<Result<RecordBatch, DataFusionError>> {
        match self {
            Self::Here(stream) => stream.next().await,
            Self::Apart { batches, task } => {
                if let Some(batch) = batches.recv().await {
                    return Some(batch);
                }
                // Ended, unless the task was ended by a panic.
                match task.take()?.await {
                    Err(error) if error.is_panic() => Some(Err(DataFusionError::Internal(
                        "the query was stopped by a defect".to_owned(),
                    ))),
                    _ => None,
                }
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Self::Apart {
            task: Some(task), ..
        } = self
        {
            task.abort();
        }
    }
}

/// A result that is being sent, perhaps in several parts.
pub struct Cursor {
    source: Source,
    encoder: RowEncoder,
    rows: Option<Rows>,
    tag: RowsTag,
}

/// How far a cursor was sent.
pub enum Sent {
    /// To its end; the rows of this part.
    All(u64),
    /// Up to the limit; there may be more.
    Part,
}

impl Cursor {
    pub fn new(stream: SendableRecordBatchStream, encoder: RowEncoder, tag: RowsTag) -> Self {
        Self {
            source: Source::new(stream),
            encoder,
            rows: None,
            tag,
        }
    }

    pub fn tag(&self, rows: u64) -> String {
        match self.tag {
            RowsTag::Select => format!("SELECT {rows}"),
            RowsTag::Fetch => format!("FETCH {rows}"),
            RowsTag::Insert => format!("INSERT 0 {rows}"),
            RowsTag::Update => format!("UPDATE {rows}"),
            RowsTag::Delete => format!("DELETE {rows}"),
            RowsTag::Merge => format!("MERGE {rows}"),
            RowsTag::Show => "SHOW".to_owned(),
            RowsTag::Explain => "EXPLAIN".to_owned(),
            RowsTag::Verb(verb) => verb.to_owned(),
        }
    }
}

impl Connection {
    /// Answers a statement of the simple protocol. Gives the command tag, `None` of an empty one.
    pub(super) async fn answer(&mut self, outcome: Outcome) -> Result<Option<String>, Failure> {
        Ok(Some(match outcome {
            Outcome::Empty => return Ok(None),
            Outcome::Command(tag) => tag,
            Outcome::Rows {
                fields,
                stream,
                tag,
            } => {
                rows::describe(&fields, &[], &mut self.channel.out)?;
                let encoder = RowEncoder::new(&fields, &[], self.style(&fields))?;
                let mut cursor = Cursor::new(stream, encoder, tag);
                match self.send_rows(&mut cursor, usize::MAX).await? {
                    Sent::All(count) => cursor.tag(count),
                    Sent::Part => cursor.tag(0),
                }
            }
            Outcome::CopyIn(copy) => self.copy_in(copy).await?,
            Outcome::CopyOut(copy) => self.copy_out(copy).await?,
        }))
    }

    /// The settings that show in these columns' text.
    pub(super) fn style(&self, fields: &Schema) -> Style {
        let mut style = Style::default();
        for field in fields.fields() {
            let mut column_type = ColumnType::from_field(field);
            while let ColumnType::Array(element) = column_type {
                column_type = *element;
            }
            match column_type {
                ColumnType::TimestampTz => {
                    let zone = self.session.setting("TimeZone");
                    style.zone = zone.map_or(Zone::Utc, |zone| Zone::from_setting(&zone));
                }
                ColumnType::Real | ColumnType::Double => {
                    let digits = self.session.setting("extra_float_digits");
                    style.extra_float_digits =
                        digits.and_then(|digits| digits.parse().ok()).unwrap_or(1);
                }
                ColumnType::Bytea => {
                    style.bytea_escape =
                        self.session.setting("bytea_output").as_deref() == Some("escape");
                }
                ColumnType::Interval => {
                    style.interval_iso =
                        self.session.setting("intervalstyle").as_deref() == Some("iso_8601");
                }
                _ => {}
            }
        }
        style
    }

    /// Sends at most `rows_max` rows.
    pub(super) async fn send_rows(
        &mut self,
        cursor: &mut Cursor,
        rows_max: usize,
    ) -> Result<Sent, Failure> {
        let mut count = 0;
        loop {
            if let Some(rows) = &mut cursor.rows {
                while rows.remaining() > 0 {
                    if count == rows_max {
                        return Ok(Sent::Part);
                    }
                    let out = &mut self.channel.out;
                    count += cursor
                        .encoder
                        .append(rows, rows_max - count, FLUSH_BYTES, out);
                    self.channel.flush_when_full(&self.interrupt).await?;
                    if let Some(reason) = self.interrupt.running() {
                        return Err(stopped(reason));
                    }
                }
                cursor.rows = None;
            }
            if count == rows_max {
                return Ok(Sent::Part);
            }
            let next = watched(&mut self.channel, &self.interrupt, cursor.source.next()).await?;
            match next {
                Some(batch) => {
                    let batch = batch.map_err(stream_failure)?;
                    cursor.rows = Some(cursor.encoder.start(&batch).map_err(encoding_failure)?);
                }
                None => {
                    self.shared.metrics.rows_sent.add(count as u64);
                    return Ok(Sent::All(count as u64));
                }
            }
        }
    }

    pub(super) async fn copy_out(&mut self, copy: CopyOut) -> Result<String, Failure> {
        let CopyOut {
            options,
            fields,
            stream,
        } = copy;
        let mut source = Source::new(stream);
        let mut encoder = CopyEncoder::new(&options, &fields, self.style(&fields))?;
        backend::copy_response(
            &mut self.channel.out,
            CopyDirection::Out,
            encoder.is_binary(),
            fields.fields().len(),
        );
        encoder.append_header(&mut self.channel.out);
        let mut count = 0;
        loop {
            let next = watched(&mut self.channel, &self.interrupt, source.next()).await?;
            let Some(batch) = next else { break };
            let batch = batch.map_err(stream_failure)?;
            let mut rows = encoder.start(&batch).map_err(encoding_failure)?;
            while rows.remaining() > 0 {
                count += encoder.append(&mut rows, FLUSH_BYTES, &mut self.channel.out);
                self.channel.flush_when_full(&self.interrupt).await?;
                if let Some(reason) = self.interrupt.running() {
                    return Err(stopped(reason));
                }
            }
        }
        encoder.append_trailer(&mut self.channel.out);
        backend::copy_done(&mut self.channel.out);
        self.shared.metrics.rows_sent.add(count as u64);
        Ok(format!("COPY {count}"))
    }

    pub(super) async fn copy_in(&mut self, mut copy: CopyIn) -> Result<String, Failure> {
        if let Err(failure) = self.receive_copy(&mut copy).await {
            self.session.abort_copy(copy).await;
            return Err(failure);
        }
        let finished = self.session.finish_copy(copy);
        let count = watched(&mut self.channel, &self.interrupt, finished).await??;
        Ok(format!("COPY {count}"))
    }

    /// Feeds the client's bytes to the receiver until the client says that it is done.
    async fn receive_copy(&mut self, copy: &mut CopyIn) -> Result<(), Failure> {
        let binary = copy.format == CopyFormat::Binary;
        backend::copy_response(
            &mut self.channel.out,
            CopyDirection::In,
            binary,
            copy.column_count,
        );
        loop {
            let message = tokio::select! {
                biased;
                message = self.channel.next() => message?,
                reason = self.interrupt.until_running() => return Err(stopped(reason)),
            };
            match message {
                Frontend::CopyData(chunk) => {
                    let received = copy.receiver.receive(chunk);
                    watched(&mut self.channel, &self.interrupt, received).await??;
                }
                Frontend::CopyDone => return Ok(()),
                Frontend::CopyFail(reason) => {
                    return Err(Failure::Statement(Report::error(
                        "57014",
                        format!("COPY from stdin failed: {reason}"),
                    )));
                }
                // Sent by clients that do not know yet that a COPY has begun.
                Frontend::Flush | Frontend::Sync => {}
                Frontend::Terminate => return Err(Failure::Ended(None)),
                _ => {
                    return Err(Failure::Statement(Report::error(
                        "08P01",
                        "unexpected message type during COPY from stdin",
                    )));
                }
            }
        }
    }
}

fn stream_failure(error: datafusion::error::DataFusionError) -> Failure {
    boathouse_engine::query::failure::from_datafusion(error).into()
}

fn encoding_failure(error: datafusion::arrow::error::ArrowError) -> Failure {
    tracing::error!("a result could not be encoded: {error}");
    Failure::Statement(Report::error(
        "XX000",
        format!("could not encode a result: {error}"),
    ))
}
