//! `pg_type`: types.

use boathouse_catalog::types::ColumnType;

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_type",
    oid: 1247,
    columns: "oid oid, typname name, typnamespace oid, typowner oid, typlen int2, typbyval bool, \
              typtype char(1), typcategory char(1), typispreferred bool, typisdefined bool, \
              typdelim char(1), typrelid oid, typsubscript regproc, typelem oid, typarray oid, \
              typinput regproc_name, typoutput regproc_name, typreceive regproc_name, \
              typsend regproc_name, typmodin regproc, \
              typmodout regproc, typanalyze regproc, typalign char(1), typstorage char(1), \
              typnotnull bool, typbasetype oid, typtypmod int4, typndims int4, typcollation oid, \
              typdefaultbin pg_node_tree, typdefault text, typacl text[]",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let _ = context;
    let mut rows = Vec::new();
    for scalar in ColumnType::scalars() {
        let (oid, array) = (i64::from(scalar.oid()), i64::from(scalar.array_oid()));
        let name = scalar.internal_name();
        rows.push(cells(
            oid,
            name,
            i64::from(scalar.type_length()),
            "b",
            &scalar.category().to_string(),
            0,
            array,
        ));
        rows.push(cells(array, &format!("_{name}"), -1, "b", "A", oid, 0));
    }
    for extra in crate::relation::EXTRA_TYPES {
        rows.push(cells(
            extra.oid,
            extra.name,
            extra.length,
            extra.kind,
            extra.category,
            0,
            extra.array,
        ));
        if extra.array > 0 {
            rows.push(cells(
                extra.array,
                &format!("_{}", extra.name),
                -1,
                "b",
                "A",
                extra.oid,
                0,
            ));
        }
    }
    Ok(rows)
}

fn cells(
    oid: i64,
    name: &str,
    length: i64,
    kind: &'static str,
    category: &str,
    element: i64,
    array: i64,
) -> Row {
    // Drivers pick a codec by the name of the input or receive function.
    let stem = match name {
        "timestamptz" | "timestamp" | "time" | "date" | "interval" | "numeric" | "json"
        | "jsonb" | "uuid" | "record" | "void" | "any" | "anyarray" => format!("{name}_"),
        other if other.starts_with('_') => "array_".to_owned(),
        other => other.to_owned(),
    };
    let preferred = matches!(
        name,
        "bool" | "text" | "float8" | "timestamptz" | "interval" | "oid"
    );
    let collatable = matches!(oid, 19 | 25 | 1042 | 1043);
    row![
        oid,
        name.to_owned(),
        11i64,
        10i64,
        length,
        (1..=8).contains(&length),
        kind,
        category.to_owned(),
        preferred,
        true,
        ",",
        0i64,
        0i64,
        element,
        array,
        format!("{stem}in"),
        format!("{stem}out"),
        format!("{stem}recv"),
        format!("{stem}send"),
        0i64,
        0i64,
        0i64,
        "i",
        if length < 0 { "x" } else { "p" },
        false,
        0i64,
        -1i64,
        0i64,
        if collatable { 100i64 } else { 0 },
        Value::Null,
        Value::Null,
        Value::Null,
    ]
}
