//! `pg_index`: keys as indexes.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::constraint;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_index",
    oid: 2610,
    columns: "indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, \
              indnullsnotdistinct bool, indisprimary bool, indisexclusion bool, \
              indimmediate bool, indisclustered bool, indisvalid bool, indcheckxmin bool, \
              indisready bool, indislive bool, indisreplident bool, indkey int2vector, \
              indcollation oidvector, indclass oidvector, indoption int2vector, \
              indexprs pg_node_tree, indpred pg_node_tree",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(constraint::all(&context.snapshot)
        .into_iter()
        .filter(constraint::Constraint::is_key)
        .map(|key| {
            let numbers = key.numbers(&context.snapshot);
            let count = numbers.len() as i64;
            let zeros = vec![0i64; numbers.len()];
            row![
                key.index_oid,
                key.table.0,
                count,
                count,
                true,
                false,
                key.kind == constraint::Kind::Primary,
                false,
                true,
                false,
                true,
                false,
                true,
                true,
                false,
                numbers,
                zeros.clone(),
                zeros.clone(),
                zeros,
                Value::Null,
                Value::Null,
            ]
        })
        .collect())
}
