//! `pg_trigger`: triggers.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_trigger",
    oid: 2620,
    columns: "oid oid, tgrelid oid, tgparentid oid, tgname name, tgfoid oid, tgtype int2, \
              tgenabled char(1), tgisinternal bool, tgconstrrelid oid, tgconstrindid oid, \
              tgconstraint oid, tgdeferrable bool, tginitdeferred bool, tgnargs int2, \
              tgattr int2[], tgargs bytea, tgqual text, tgoldtable name, tgnewtable name",
    rows: Rows::None,
};
