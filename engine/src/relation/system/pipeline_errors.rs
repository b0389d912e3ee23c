//! `system.pipeline_errors`: what went wrong in runs, and where.

use boathouse_catalog::state::RunFilter;

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "system",
    name: "pipeline_errors",
    oid: 14003,
    columns: "run_id bigint, pipeline text, at timestamptz, severity text, sqlstate text, \
              message text, file text, sheet text, row_number bigint, column_name text, hint text",
    rows: Rows::Later(|context| Box::pin(rows(context))),
};

async fn rows(context: QueryContext) -> Result<Vec<Row>, SqlError> {
    let errors = context
        .engine
        .catalog
        .runs()
        .errors(RunFilter::default())
        .await?;
    Ok(errors
        .into_iter()
        .filter(|error| super::may_see(&context, error.pipeline))
        .map(|error| {
            let message = error.message;
            row![
                error.run.0,
                error.name,
                error.at,
                message.severity.name(),
                message.sqlstate,
                message.message,
                message.file,
                message.sheet,
                message.row,
                message.column,
                message.hint,
            ]
        })
        .collect())
}
