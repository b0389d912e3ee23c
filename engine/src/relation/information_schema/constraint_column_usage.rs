//! `information_schema.constraint_column_usage`: columns that keys are made of or point at.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::constraint;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "constraint_column_usage",
    oid: 13007,
    columns: "table_catalog name, table_schema name, table_name name, column_name name, \
              constraint_catalog name, constraint_schema name, constraint_name name",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for (schema, table, one) in super::constraints(context) {
        let (target_schema, target, columns) = match &one.kind {
            constraint::Kind::Foreign {
                schema,
                table,
                columns,
            } => (schema.clone(), table.clone(), columns.clone()),
            _ => (schema.clone(), table.clone(), one.columns.clone()),
        };
        for column in columns {
            let database = context.session.database.clone();
            rows.push(row![
                database.clone(),
                target_schema.clone(),
                target.clone(),
                column,
                database,
                schema.clone(),
                one.name.clone(),
            ]);
        }
    }
    Ok(rows)
}
