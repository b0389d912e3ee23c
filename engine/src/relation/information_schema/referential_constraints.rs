//! `information_schema.referential_constraints`: foreign keys.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::constraint;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "referential_constraints",
    oid: 13008,
    columns: "constraint_catalog name, constraint_schema name, constraint_name name, \
              unique_constraint_catalog name, unique_constraint_schema name, \
              unique_constraint_name name, match_option text, update_rule text, delete_rule text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for (schema, _, one) in super::constraints(context) {
        let constraint::Kind::Foreign {
            schema: target_schema,
            table,
            columns,
        } = &one.kind
        else {
            continue;
        };
        let key = context
            .snapshot
            .table(target_schema, table)
            .and_then(|target| {
                constraint::of_table(target)
                    .into_iter()
                    .find(|key| key.is_key() && key.columns == *columns)
            });
        let database = context.session.database.clone();
        rows.push(row![
            database.clone(),
            schema,
            one.name.clone(),
            database,
            target_schema.clone(),
            key.map(|key| key.name),
            "NONE",
            "NO ACTION",
            "NO ACTION",
        ]);
    }
    Ok(rows)
}
