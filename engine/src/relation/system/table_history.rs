//! `system.table_history`: versions of the tables the role may read.

use boathouse_catalog::definitions::{ObjectKind, ObjectRef, Privilege};

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "system",
    name: "table_history",
    oid: 14006,
    columns: "schema_name text, table_name text, version bigint, at timestamptz, operation text, \
              engine text, rows_added bigint, files_added bigint, files_removed bigint, \
              bytes_added bigint",
    rows: Rows::Later(|context| Box::pin(rows(context))),
};

async fn rows(context: QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for definition in context.snapshot.tables() {
        let object = ObjectRef::new(ObjectKind::Table, definition.id);
        if !context
            .snapshot
            .has_privilege(context.session.role, object, Privilege::Select)
        {
            continue;
        }
        let schema = context.snapshot.schema_by_id(definition.schema);
        let schema = schema.map(|schema| schema.name.clone());
        let table = context.engine.lake.table(definition).await?;
        for entry in table.history(None).await? {
            rows.push(row![
                schema.clone(),
                definition.name.clone(),
                entry.version,
                entry
                    .timestamp
                    .map(|millis| Value::Timestamp(millis * 1000)),
                entry.operation,
                entry.engine,
                entry.rows_added,
                entry.files_added,
                entry.files_removed,
                entry.bytes_added,
            ]);
        }
    }
    Ok(rows)
}
