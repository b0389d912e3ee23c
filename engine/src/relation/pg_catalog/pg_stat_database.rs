//! `pg_stat_database`: use of the database.

use crate::error::SqlError;
use crate::function::system::DATABASE_OID;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_stat_database",
    oid: 12111,
    columns: "datid oid, datname name, numbackends int4, xact_commit int8, xact_rollback int8, \
              blks_read int8, blks_hit int8, tup_returned int8, tup_fetched int8, \
              tup_inserted int8, tup_updated int8, tup_deleted int8, conflicts int8, \
              temp_files int8, temp_bytes int8, deadlocks int8, stats_reset timestamptz",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut row = row![DATABASE_OID, context.session.database.clone()];
    row.resize(17, Value::Null);
    Ok(vec![row])
}
