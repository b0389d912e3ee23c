//! `information_schema.views`: views the role has some right on.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "views",
    oid: 13003,
    columns: "table_catalog name, table_schema name, table_name name, view_definition text, \
              check_option text, is_updatable text, is_insertable_into text, \
              is_trigger_updatable text, is_trigger_deletable text, \
              is_trigger_insertable_into text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(super::visible(context)
        .into_iter()
        .filter(|one| one.is_view && one.id.is_some())
        .map(|one| {
            let query = one
                .id
                .and_then(|id| context.snapshot.view_by_id(id))
                .map(|view| format!(" {};", view.query));
            row![
                context.session.database.clone(),
                one.schema,
                one.name,
                query,
                "NONE",
                "NO",
                "NO",
                "NO",
                "NO",
                "NO",
            ]
        })
        .collect())
}
