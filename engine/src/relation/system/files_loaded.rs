//! `system.files_loaded`: files that pipelines have met: loaded, failed or skipped.

use boathouse_catalog::state::FileFilter;

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "system",
    name: "files_loaded",
    oid: 14004,
    columns: "pipeline text, path text, state text, size bigint, rows bigint, \
              rows_quarantined bigint, sheet_count integer, etag text, modified_at timestamptz, \
              recorded_at timestamptz, run_id bigint, sequence bigint, error text",
    rows: Rows::Later(|context| Box::pin(rows(context))),
};

async fn rows(context: QueryContext) -> Result<Vec<Row>, SqlError> {
    let files = context
        .engine
        .catalog
        .files()
        .list(FileFilter::default())
        .await?;
    Ok(files
        .into_iter()
        .filter(|record| super::may_see(&context, record.pipeline))
        .map(|record| {
            let file = record.file;
            row![
                super::pipeline_name(&context, record.pipeline),
                file.path,
                file.state.name(),
                file.size,
                file.rows,
                file.rows_quarantined,
                file.sheet_count.map(i64::from),
                file.etag,
                file.modified,
                record.recorded_at,
                file.run.map(|run| run.0),
                record.sequence,
                file.error,
            ]
        })
        .collect())
}
