//! `system.quarantine`: rejected rows with their raw content, the reason and the place.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::ingest::RejectedMessage;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "system",
    name: "quarantine",
    oid: 14005,
    columns: "pipeline text, sequence bigint, row_id bigint, run_id bigint, \
              quarantined_at timestamptz, file text, sheet text, row_number bigint, column_name text, \
              rule text, sqlstate text, reason text, raw jsonb, replayed_at timestamptz, superseded_at timestamptz, \
              topic text, partition_number integer, message_offset bigint, message_timestamp timestamptz, \
              message_key bytea, message_headers jsonb, payload bytea",
    rows: Rows::Later(|context| Box::pin(rows(context))),
};

async fn rows(context: QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for pipeline in super::pipelines(&context) {
        for one in crate::ingest::quarantined_rows(&context.engine, Some(pipeline.id)).await? {
            // A line that could not be split is no JSON; it is shown as a JSON string.
            let raw = match serde_json::from_str::<serde_json::Value>(&one.raw) {
                Ok(_) => one.raw,
                Err(_) => serde_json::Value::String(one.raw).to_string(),
            };
            let message = one.message;
            let of = |part: fn(&RejectedMessage) -> Value<'static>| {
                message.as_ref().map_or(Value::Null, part)
            };
            rows.push(row![
                pipeline.name.clone(),
                one.sequence,
                one.row_id,
                one.run,
                one.quarantined_at,
                one.file,
                one.sheet,
                one.row,
                one.column,
                one.rule,
                one.sqlstate,
                one.reason,
                raw,
                one.replayed_at,
                one.superseded_at,
                of(|message| message.topic.clone().into()),
                of(|message| i64::from(message.partition).into()),
                of(|message| message.offset.into()),
                of(|message| message.timestamp.map_or(Value::Null, Value::Timestamp)),
                of(|message| message
                    .key
                    .clone()
                    .map_or(Value::Null, |bytes| Value::Bytes(bytes.into()))),
                of(|message| message.headers.clone().map_or(Value::Null, Value::text)),
                of(|message| message
                    .payload
                    .clone()
                    .map_or(Value::Null, |bytes| Value::Bytes(bytes.into()))),
            ]);
        }
    }
    Ok(rows)
}
