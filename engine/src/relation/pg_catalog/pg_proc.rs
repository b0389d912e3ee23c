//! `pg_proc`: functions.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_proc",
    oid: 1255,
    columns: "oid oid, proname name, pronamespace oid, proowner oid, prolang oid, procost float4, \
              prorows float4, provariadic oid, prosupport regproc, prokind char(1), \
              prosecdef bool, proleakproof bool, proisstrict bool, proretset bool, \
              provolatile char(1), proparallel char(1), pronargs int2, pronargdefaults int2, \
              prorettype oid, proargtypes oidvector, proallargtypes oid[], proargmodes text[], \
              proargnames text[], proargdefaults pg_node_tree, protrftypes oid[], prosrc text, \
              probin text, prosqlbody pg_node_tree, proconfig text[], proacl text[]",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let _ = context;
    Ok(crate::relation::procedures()
        .iter()
        .map(|procedure| {
            let types = procedure
                .arguments
                .iter()
                .map(|name| crate::relation::written_type_oid(name.trim_matches('"')))
                .collect::<Vec<_>>();
            row![
                procedure.oid,
                procedure.name.clone(),
                11i64,
                10i64,
                12i64,
                1.0f64,
                if crate::function::set_returning::is_set_returning(&procedure.name) {
                    1000.0
                } else {
                    0.0
                },
                if procedure.variadic { 2276i64 } else { 0 },
                0i64,
                procedure.kind,
                false,
                false,
                procedure.strict,
                crate::function::set_returning::is_set_returning(&procedure.name),
                procedure.volatility,
                "s",
                types.len() as i64,
                0i64,
                crate::relation::written_type_oid(&procedure.result),
                types,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                procedure.name.clone(),
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
            ]
        })
        .collect())
}
