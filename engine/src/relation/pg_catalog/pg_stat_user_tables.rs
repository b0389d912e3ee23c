//! `pg_stat_user_tables`: use of tables; not counted here.

use super::schema_name;
use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_stat_user_tables",
    oid: 12108,
    columns: "relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, \
              idx_scan int8, idx_tup_fetch int8, n_tup_ins int8, n_tup_upd int8, n_tup_del int8, \
              n_tup_hot_upd int8, n_live_tup int8, n_dead_tup int8, n_mod_since_analyze int8, \
              n_ins_since_vacuum int8, last_vacuum timestamptz, last_autovacuum timestamptz, \
              last_analyze timestamptz, last_autoanalyze timestamptz, vacuum_count int8, \
              autovacuum_count int8, analyze_count int8, autoanalyze_count int8",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .tables()
        .map(|table| {
            let mut row = row![
                table.id.0,
                schema_name(context, table.schema),
                table.name.clone(),
            ];
            row.resize(23, Value::Null);
            row
        })
        .collect())
}
