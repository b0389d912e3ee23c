//! `system.pipelines`: pipelines the role owns or has some right on.

use boathouse_catalog::state::RunFilter;

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "system",
    name: "pipelines",
    oid: 14001,
    columns: "name text, owner text, paused boolean, statement text, comment text, \
              created_at timestamptz, last_run_id bigint, last_run_state text, \
              last_run_started_at timestamptz, last_run_finished_at timestamptz",
    rows: Rows::Later(|context| Box::pin(rows(context))),
};

async fn rows(context: QueryContext) -> Result<Vec<Row>, SqlError> {
    let runs = context
        .engine
        .catalog
        .runs()
        .list(RunFilter::default())
        .await?;
    Ok(super::pipelines(&context)
        .into_iter()
        .map(|pipeline| {
            let last = runs
                .iter()
                .filter(|run| run.pipeline == pipeline.id)
                .max_by_key(|run| run.started_at);
            row![
                pipeline.name.clone(),
                context
                    .snapshot
                    .role_by_id(pipeline.owner)
                    .map(|role| role.name.clone()),
                pipeline.paused,
                pipeline.statement.clone(),
                pipeline.comment.clone(),
                pipeline.created_at,
                last.map(|run| run.id.0),
                last.map(|run| run.state.name()),
                last.map(|run| run.started_at),
                last.and_then(|run| run.finished_at),
            ]
        })
        .collect())
}
