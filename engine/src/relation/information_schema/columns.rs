//! `information_schema.columns`: columns of the tables and views the role has some right on.

use boathouse_catalog::definitions::ColumnDefinition;
use boathouse_catalog::types::ColumnType;

use super::Visible;
use crate::error::SqlError;
use crate::function::registry::type_name;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "columns",
    oid: 13004,
    columns: "table_catalog name, table_schema name, table_name name, column_name name, \
              ordinal_position int4, column_default text, is_nullable text, data_type text, \
              character_maximum_length int4, character_octet_length int4, numeric_precision int4, \
              numeric_precision_radix int4, numeric_scale int4, datetime_precision int4, \
              interval_type text, interval_precision int4, character_set_catalog name, \
              character_set_schema name, character_set_name name, collation_catalog name, \
              collation_schema name, collation_name name, domain_catalog name, \
              domain_schema name, domain_name name, udt_catalog name, udt_schema name, \
              udt_name name, scope_catalog name, scope_schema name, scope_name name, \
              maximum_cardinality int4, dtd_identifier name, is_self_referencing text, \
              is_identity text, identity_generation text, identity_start text, \
              identity_increment text, identity_maximum text, identity_minimum text, \
              identity_cycle text, is_generated text, generation_expression text, \
              is_updatable text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for one in super::visible(context) {
        for (index, column) in one.columns.iter().enumerate() {
            rows.push(cells(context, &one, column, index as i64 + 1));
        }
    }
    Ok(rows)
}

fn cells(
    context: &QueryContext,
    relation: &Visible,
    column: &ColumnDefinition,
    position: i64,
) -> Row {
    let column_type = &column.column_type;
    let length = match column_type {
        ColumnType::Varchar(Some(length)) | ColumnType::Char(length) => Some(i64::from(*length)),
        _ => None,
    };
    let octets = match column_type {
        ColumnType::Varchar(Some(length)) | ColumnType::Char(length) => {
            Some(i64::from(*length) * 4)
        }
        ColumnType::Text | ColumnType::Varchar(None) => Some(1_073_741_824),
        _ => None,
    };
    let (precision, radix, scale) = match column_type {
        ColumnType::SmallInt => (Some(16i64), Some(2i64), Some(0i64)),
        ColumnType::Integer => (Some(32), Some(2), Some(0)),
        ColumnType::BigInt => (Some(64), Some(2), Some(0)),
        ColumnType::Real => (Some(24), Some(2), None),
        ColumnType::Double => (Some(53), Some(2), None),
        ColumnType::Numeric {
            precision: Some(precision),
            scale,
        } => (
            Some(i64::from(*precision)),
            Some(10),
            Some(i64::from(*scale)),
        ),
        ColumnType::Numeric { .. } => (None, Some(10), None),
        _ => (None, None, None),
    };
    let moment = match column_type {
        ColumnType::Date => Some(0i64),
        ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::Interval => Some(6),
        _ => None,
    };
    let data_type = match column_type {
        ColumnType::Array(_) => "ARRAY".to_owned(),
        other => type_name(other),
    };
    let udt = match column_type {
        ColumnType::Array(_) => format!("_{}", column_type.base().internal_name()),
        other => other.internal_name().to_owned(),
    };
    let database = context.session.database.clone();
    let none = || Value::Null;
    row![
        database.clone(),
        relation.schema.clone(),
        relation.name.clone(),
        column.name.clone(),
        position,
        column.default.clone(),
        if column.nullable { "YES" } else { "NO" },
        data_type,
        length,
        octets,
        precision,
        radix,
        scale,
        moment,
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        database,
        "pg_catalog",
        udt,
        none(),
        none(),
        none(),
        none(),
        position.to_string(),
        "NO",
        "NO",
        none(),
        none(),
        none(),
        none(),
        none(),
        "NO",
        "NEVER",
        none(),
        if relation.is_view { "NO" } else { "YES" },
    ]
}
