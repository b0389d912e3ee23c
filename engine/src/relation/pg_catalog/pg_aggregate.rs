//! `pg_aggregate`: what makes a function an aggregate.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_aggregate",
    oid: 2600,
    columns: "aggfnoid regproc, aggkind char(1), aggnumdirectargs int2, aggtransfn regproc, \
              aggfinalfn regproc, aggcombinefn regproc, aggserialfn regproc, \
              aggdeserialfn regproc, aggmtransfn regproc, aggminvtransfn regproc, \
              aggmfinalfn regproc, aggfinalextra bool, aggmfinalextra bool, \
              aggfinalmodify char(1), aggmfinalmodify char(1), aggsortop oid, aggtranstype oid, \
              aggtransspace int4, aggmtranstype oid, aggmtransspace int4, agginitval text, \
              aggminitval text",
    rows: Rows::None,
};
