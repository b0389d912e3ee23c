//! `COPY ... TO KAFKA connection TOPIC 'name'`: one message a row, in the order of the rows.
//!
//! What was sent is not taken back: not by an error, and not by ROLLBACK. Dropping the future stops it, and forgets what
//! waits to be sent.

use boathouse_connectors::kafka::{MessageWriter, OutgoingMessage};
use boathouse_sql::SqlOption;
use boathouse_sql::ast;
use boathouse_sql::statement::TopicTarget;
use futures::StreamExt;

use crate::error::SqlError;
use crate::ingest::publish::{self, RowFormat};
use crate::query;
use crate::session::Session;

/// Writes the rows of a query, and waits until the brokers have them. Gives how many.
pub(super) async fn write(
    session: &Session,
    source: &ast::Query,
    target: &TopicTarget,
    options: &[SqlOption],
) -> Result<u64, SqlError> {
    let mut options = publish::options_of("COPY TO KAFKA", options)?;
    let writer_options = publish::writer_options(&mut options)?;
    options.finish()?;
    let context = session.state.query_context(&session.engine);
    let cluster = publish::open_cluster(&context, target).await?;
    let planned = query::plan_query(&context, source, &[]).await?;
    let format = RowFormat::new(&planned.fields, &target.key)?;
    let writer = cluster.write(&target.topic, &writer_options).await?;
    let mut batches = query::execute_query(&context, &planned, &[]).await?;
    let (mut payload, mut key) = (Vec::new(), Vec::new());
    while let Some(batch) = batches.next().await {
        let sent = match batch {
            Ok(batch) => send(&writer, &format, &batch, (&mut payload, &mut key)).await,
            Err(error) => Err(query::failure(error)),
        };
        if let Err(error) = sent {
            return Err(half_way(&writer, error).await);
        }
    }
    if let Err(error) = writer.flush().await {
        return Err(half_way(&writer, error.into()).await);
    }
    Ok(writer.acknowledged())
}

async fn send(
    writer: &MessageWriter,
    format: &RowFormat,
    batch: &arrow::array::RecordBatch,
    (payload, key): (&mut Vec<u8>, &mut Vec<u8>),
) -> Result<(), SqlError> {
    let messages = format.messages(batch)?;
    for row in 0..messages.len() {
        payload.clear();
        messages.payload(row, "", payload);
        key.clear();
        // A single column that is NULL is no key.
        let null = format.has_key() && messages.key(row, key).is_some();
        let is_keyed = format.has_key() && !(null && key.is_empty());
        writer
            .send(OutgoingMessage {
                key: is_keyed.then_some(key.as_slice()),
                payload: Some(payload.as_slice()),
                headers: &[],
            })
            .await?;
        // So that a cancelled statement ends.
        tokio::task::consume_budget().await;
    }
    Ok(())
}

/// Tells what became of the messages before an error.
async fn half_way(writer: &MessageWriter, error: SqlError) -> SqlError {
    // What is on its way arrives, or is what the error is about.
    let _ = writer.flush().await;
    let count = writer.acknowledged();
    let detail =
        format!("{count} messages were acknowledged by the brokers, and stay in the topic");
    match error.detail.clone() {
        Some(before) => error.detail(format!("{before}; {detail}")),
        None => error.detail(detail),
    }
}
