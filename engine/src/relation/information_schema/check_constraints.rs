//! `information_schema.check_constraints`: checks.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::constraint;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "check_constraints",
    oid: 13009,
    columns: "constraint_catalog name, constraint_schema name, constraint_name name, \
              check_clause text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for (schema, _, one) in super::constraints(context) {
        if let constraint::Kind::Check(expression) = &one.kind {
            let database = context.session.database.clone();
            rows.push(row![database, schema, one.name.clone(), expression.clone()]);
        }
    }
    Ok(rows)
}
