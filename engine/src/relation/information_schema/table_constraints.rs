//! `information_schema.table_constraints`: keys and checks.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::constraint;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "table_constraints",
    oid: 13005,
    columns: "constraint_catalog name, constraint_schema name, constraint_name name, \
              table_catalog name, table_schema name, table_name name, constraint_type text, \
              is_deferrable text, initially_deferred text, enforced text, nulls_distinct text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(super::constraints(context)
        .into_iter()
        .map(|(schema, table, one)| {
            let database = context.session.database.clone();
            row![
                database.clone(),
                schema.clone(),
                one.name.clone(),
                database,
                schema,
                table,
                one.type_words(),
                "NO",
                "NO",
                "YES",
                if one.kind == constraint::Kind::Unique {
                    Some("YES")
                } else {
                    None
                },
            ]
        })
        .collect())
}
