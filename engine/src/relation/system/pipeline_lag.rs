//! `system.pipeline_lag`: the tables that pipelines capture from databases, the partitions they read from Kafka and the
//! tables they publish there, and how far each is.
//!
//! A pipeline that runs in this process tells what it is at, and of partitions those servers tell that read them. Of another pipeline
//! that runs elsewhere, or stands, what is on record is shown, and how far it is behind is not known.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::ingest::publish::recorded_publication;
use crate::ingest::{recorded_partitions, recorded_status};
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "system",
    name: "pipeline_lag",
    oid: 14009,
    columns: "pipeline text, source text, schema_name text, table_name text, state text, \
              seconds_behind double precision, bytes_behind bigint, position text, \
              committed_at timestamptz, snapshot_rows bigint, snapshot_rows_estimate bigint, \
              changes bigint, messages_behind bigint",
    rows: Rows::Later(|context| Box::pin(rows(context))),
};

async fn rows(context: QueryContext) -> Result<Vec<Row>, SqlError> {
    let engine = &context.engine;
    let mut rows = Vec::new();
    for pipeline in super::pipelines(&context) {
        // One that has just begun has not looked at its tables yet.
        let running = engine.captures.status(pipeline.id);
        let running =
            running.filter(|status| !(status.tables.is_empty() && status.partitions.is_empty()));
        let runs_here = running.is_some();
        let status = match running {
            Some(mut status) => {
                // Other servers may read some of its partitions.
                if !status.partitions.is_empty() {
                    let mut others = recorded_partitions(engine, pipeline.id).await?;
                    others.retain(|other| {
                        let mut own = status.partitions.iter();
                        !own.any(|one| one.partition == other.partition && one.topic == other.topic)
                    });
                    status.partitions.extend(others);
                    status.partitions.sort_by(|one, other| {
                        (&one.topic, one.partition).cmp(&(&other.topic, other.partition))
                    });
                }
                status
            }
            None => {
                let mut status = recorded_status(engine, pipeline.id).await?;
                status.partitions = recorded_partitions(engine, pipeline.id).await?;
                match recorded_publication(engine, pipeline.id).await? {
                    Some(publication) => publication,
                    None => status,
                }
            }
        };
        let position = (!status.position.is_empty()).then_some(status.position);
        let committed_at = (status.committed_at > 0).then_some(status.committed_at);
        for table in status.tables {
            let target = context.snapshot.table_by_id(table.target);
            let schema = target.and_then(|target| context.snapshot.schema_by_id(target.schema));
            rows.push(row![
                pipeline.name.clone(),
                table.source,
                schema.map(|schema| schema.name.clone()),
                target.map(|target| target.name.clone()),
                table.state,
                status.seconds_behind,
                status.bytes_behind.map(count),
                position.clone(),
                committed_at.map_or(Value::Null, Value::Timestamp),
                count(table.snapshot_rows),
                count(table.snapshot_rows_estimate),
                runs_here.then_some(count(table.changes)),
                Value::Null,
            ]);
        }
        for partition in status.partitions {
            let target = partition
                .target
                .and_then(|target| context.snapshot.table_by_id(target));
            let schema = target.and_then(|target| context.snapshot.schema_by_id(target.schema));
            let committed_at = (partition.committed_at > 0).then_some(partition.committed_at);
            rows.push(row![
                pipeline.name.clone(),
                format!("{}/{}", partition.topic, partition.partition),
                schema.map(|schema| schema.name.clone()),
                target.map(|target| target.name.clone()),
                "streaming",
                partition.seconds_behind,
                Value::Null,
                partition.offset.to_string(),
                committed_at.map_or(Value::Null, Value::Timestamp),
                Value::Null,
                Value::Null,
                Value::Null,
                partition.messages_behind.map(count),
            ]);
        }
    }
    Ok(rows)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
