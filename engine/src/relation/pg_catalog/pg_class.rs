//! `pg_class`: relations.

use boathouse_catalog::definitions::{ObjectKind, ObjectRef};

use super::access_list;
use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::constraint;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_class",
    oid: 1259,
    columns: "oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, \
              relam oid, relfilenode oid, reltablespace oid, relpages int4, reltuples float4, \
              relallvisible int4, reltoastrelid oid, relhasindex bool, relisshared bool, \
              relpersistence char(1), relkind char(1), relnatts int2, relchecks int2, \
              relhasrules bool, relhastriggers bool, relrowsecurity bool, \
              relforcerowsecurity bool, relispopulated bool, relreplident char(1), \
              relispartition bool, relrewrite oid, relfrozenxid xid, relminmxid xid, \
              relacl text[], reloptions text[], relpartbound pg_node_tree",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let snapshot = &context.snapshot;
    let class = |oid: i64, name: String, schema: i64, owner: i64, kind: &'static str| Class {
        oid,
        name,
        schema,
        owner,
        kind,
        columns: 0,
        has_index: false,
        checks: 0,
        access: Value::Null,
        options: Value::Null,
    };
    let mut classes = Vec::new();
    for table in snapshot.tables() {
        let mut one = class(
            table.id.0,
            table.name.clone(),
            table.schema.0,
            table.owner.0,
            "r",
        );
        one.columns = table.columns.len() as i64;
        one.has_index = table.primary_key.is_some() || !table.unique_keys.is_empty();
        one.checks = table.checks.len() as i64;
        one.access = access_list(context, ObjectRef::new(ObjectKind::Table, table.id));
        classes.push(one);
    }
    for view in snapshot.views() {
        let mut one = class(
            view.id.0,
            view.name.clone(),
            view.schema.0,
            view.owner.0,
            "v",
        );
        one.columns = view.columns.len() as i64;
        one.access = access_list(context, ObjectRef::new(ObjectKind::View, view.id));
        classes.push(one);
    }
    for key in constraint::all(snapshot)
        .into_iter()
        .filter(constraint::Constraint::is_key)
    {
        let owner = snapshot
            .table_by_id(key.table)
            .map_or(10, |table| table.owner.0);
        let mut one = class(key.index_oid, key.name.clone(), key.schema.0, owner, "i");
        one.columns = key.columns.len() as i64;
        classes.push(one);
    }
    for relation in crate::relation::all() {
        let schema = snapshot
            .schema(relation.schema)
            .map_or(11, |schema| schema.id.0);
        let kind = if relation.schema == "pg_catalog" && relation.oid < 12_000 {
            "r"
        } else {
            "v"
        };
        let mut one = class(relation.oid, relation.name.to_owned(), schema, 10, kind);
        one.columns = crate::relation::columns_of(relation).count() as i64;
        classes.push(one);
    }
    Ok(classes.into_iter().map(Class::row).collect())
}

/// The cells that differ from one relation to another.
struct Class {
    oid: i64,
    name: String,
    schema: i64,
    owner: i64,
    kind: &'static str,
    columns: i64,
    has_index: bool,
    checks: i64,
    access: Value<'static>,
    options: Value<'static>,
}

impl Class {
    fn row(self) -> Row {
        let access_method = match self.kind {
            "r" => 2i64,
            "i" => 403,
            _ => 0,
        };
        row![
            self.oid,
            self.name,
            self.schema,
            0i64,
            0i64,
            self.owner,
            access_method,
            self.oid,
            0i64,
            0i64,
            -1.0f64,
            0i64,
            0i64,
            self.has_index,
            false,
            "p",
            self.kind,
            self.columns,
            self.checks,
            self.kind == "v",
            false,
            false,
            false,
            true,
            "d",
            false,
            0i64,
            0i64,
            0i64,
            self.access,
            self.options,
            Value::Null,
        ]
    }
}
