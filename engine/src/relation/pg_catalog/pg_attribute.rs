//! `pg_attribute`: columns.

use boathouse_catalog::types::ColumnType;

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::constraint;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_attribute",
    oid: 1249,
    columns: "attrelid oid, attname name, atttypid oid, attstattarget int4, attlen int2, \
              attnum int2, attndims int4, attcacheoff int4, atttypmod int4, attbyval bool, \
              attalign char(1), attstorage char(1), attcompression char(1), attnotnull bool, \
              atthasdef bool, atthasmissing bool, attidentity char(1), attgenerated char(1), \
              attisdropped bool, attislocal bool, attinhcount int4, attcollation oid, \
              attacl text[], attoptions text[], attfdwoptions text[], attmissingval text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for table in context.snapshot.tables() {
        for (index, column) in table.columns.iter().enumerate() {
            rows.push(attribute(
                table.id.0,
                &column.name,
                &column.column_type,
                index as i64 + 1,
                !column.nullable,
                column.default.is_some(),
            ));
        }
        for key in constraint::of_table(table)
            .into_iter()
            .filter(constraint::Constraint::is_key)
        {
            for (index, name) in key.columns.iter().enumerate() {
                if let Some(column) = table.column(name) {
                    let number = index as i64 + 1;
                    rows.push(attribute(
                        key.index_oid,
                        name,
                        &column.column_type,
                        number,
                        false,
                        false,
                    ));
                }
            }
        }
    }
    for view in context.snapshot.views() {
        for (index, (name, column_type)) in view.columns.iter().enumerate() {
            rows.push(attribute(
                view.id.0,
                name,
                column_type,
                index as i64 + 1,
                false,
                false,
            ));
        }
    }
    for relation in crate::relation::all() {
        for (index, (name, written)) in crate::relation::columns_of(relation).enumerate() {
            let oid = crate::relation::written_type_oid(written);
            rows.push(cells(
                relation.oid,
                name,
                oid,
                -1,
                -1,
                index as i64 + 1,
                false,
                false,
                0,
            ));
        }
    }
    Ok(rows)
}

fn attribute(
    relation: i64,
    name: &str,
    column_type: &ColumnType,
    number: i64,
    not_null: bool,
    has_default: bool,
) -> Row {
    let dimensions = i64::from(matches!(column_type, ColumnType::Array(_)));
    cells(
        relation,
        name,
        i64::from(column_type.oid()),
        i64::from(column_type.type_length()),
        i64::from(column_type.type_modifier()),
        number,
        not_null,
        has_default,
        dimensions,
    )
}

#[expect(clippy::too_many_arguments, reason = "each is a column")]
fn cells(
    relation: i64,
    name: &str,
    type_oid: i64,
    length: i64,
    modifier: i64,
    number: i64,
    not_null: bool,
    has_default: bool,
    dimensions: i64,
) -> Row {
    let collatable = matches!(type_oid, 19 | 25 | 1042 | 1043);
    row![
        relation,
        name.to_owned(),
        type_oid,
        -1i64,
        length,
        number,
        dimensions,
        -1i64,
        modifier,
        (1..=8).contains(&length),
        "i",
        if length < 0 { "x" } else { "p" },
        "",
        not_null,
        has_default,
        false,
        "",
        "",
        false,
        true,
        0i64,
        if collatable { 100i64 } else { 0 },
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
    ]
}
