//! `system.pipeline_runs`: runs of pipelines, also of those that are running.

use boathouse_catalog::state::RunFilter;

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;
use datafusion::arrow::datatypes::IntervalMonthDayNano;

pub const RELATION: Relation = Relation {
    schema: "system",
    name: "pipeline_runs",
    oid: 14002,
    columns: "run_id bigint, pipeline text, trigger text, server text, state text, \
              started_at timestamptz, finished_at timestamptz, duration interval, \
              files_total bigint, files_done bigint, rows_in bigint, rows_out bigint, \
              rows_dropped bigint, rows_quarantined bigint, rows_warned bigint, bytes_in bigint, \
              error_count bigint, sqlstate text, error text, detail text, hint text",
    rows: Rows::Later(|context| Box::pin(rows(context))),
};

async fn rows(context: QueryContext) -> Result<Vec<Row>, SqlError> {
    let runs = context
        .engine
        .catalog
        .runs()
        .list(RunFilter::default())
        .await?;
    Ok(runs
        .into_iter()
        .filter(|run| super::may_see(&context, run.pipeline))
        .map(|run| {
            let duration = run.finished_at.and_then(|end| {
                let nanos = (end - run.started_at).num_nanoseconds()?;
                Some(Value::Interval(IntervalMonthDayNano::new(
                    0,
                    0,
                    nanos / 1000 * 1000,
                )))
            });
            let error = run.error.unwrap_or_default();
            let filled = |text: String| if text.is_empty() { None } else { Some(text) };
            row![
                run.id.0,
                run.name,
                run.trigger,
                run.server,
                run.state.name(),
                run.started_at,
                run.finished_at,
                duration,
                run.counters.files_total,
                run.counters.files_done,
                run.counters.rows_in,
                run.counters.rows_out,
                run.counters.rows_dropped,
                run.counters.rows_quarantined,
                run.counters.rows_warned,
                run.counters.bytes_in,
                run.error_count,
                filled(error.sqlstate),
                filled(error.message),
                error.detail,
                error.hint,
            ]
        })
        .collect())
}
