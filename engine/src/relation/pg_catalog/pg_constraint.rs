//! `pg_constraint`: keys and checks.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::constraint;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_constraint",
    oid: 2606,
    columns: "oid oid, conname name, connamespace oid, contype char(1), condeferrable bool, \
              condeferred bool, convalidated bool, conrelid oid, contypid oid, conindid oid, \
              conparentid oid, confrelid oid, confupdtype char(1), confdeltype char(1), \
              confmatchtype char(1), conislocal bool, coninhcount int4, connoinherit bool, \
              conkey int2[], confkey int2[], conpfeqop oid[], conppeqop oid[], conffeqop oid[], \
              confdelsetcols int2[], conexclop oid[], conbin pg_node_tree",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let snapshot = &context.snapshot;
    Ok(constraint::all(snapshot)
        .into_iter()
        .map(|one| {
            let (target, target_columns) = match &one.kind {
                constraint::Kind::Foreign {
                    schema,
                    table,
                    columns,
                } => match snapshot.table(schema, table) {
                    Some(target) => (
                        target.id.0,
                        Some(constraint::column_numbers(target, columns)),
                    ),
                    None => (0, None),
                },
                _ => (0, None),
            };
            let foreign = matches!(one.kind, constraint::Kind::Foreign { .. });
            let action = if foreign { "a" } else { " " };
            let check = match &one.kind {
                constraint::Kind::Check(expression) => Some(expression.clone()),
                _ => None,
            };
            row![
                one.oid,
                one.name.clone(),
                one.schema.0,
                one.letter(),
                false,
                false,
                true,
                one.table.0,
                0i64,
                if one.is_key() { one.index_oid } else { 0 },
                0i64,
                target,
                action,
                action,
                if foreign { "s" } else { " " },
                true,
                0i64,
                true,
                one.numbers(snapshot),
                target_columns,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                check,
            ]
        })
        .collect())
}
