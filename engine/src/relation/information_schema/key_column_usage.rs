//! `information_schema.key_column_usage`: columns of keys.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::constraint;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "key_column_usage",
    oid: 13006,
    columns: "constraint_catalog name, constraint_schema name, constraint_name name, \
              table_catalog name, table_schema name, table_name name, column_name name, \
              ordinal_position int4, position_in_unique_constraint int4",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for (schema, table, one) in super::constraints(context) {
        let foreign = matches!(one.kind, constraint::Kind::Foreign { .. });
        for (index, column) in one.columns.iter().enumerate() {
            let place = index as i64 + 1;
            let database = context.session.database.clone();
            rows.push(row![
                database.clone(),
                schema.clone(),
                one.name.clone(),
                database,
                schema.clone(),
                table.clone(),
                column.clone(),
                place,
                if foreign { Some(place) } else { None },
            ]);
        }
    }
    Ok(rows)
}
