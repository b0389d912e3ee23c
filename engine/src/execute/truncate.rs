//! `TRUNCATE table`.

use boathouse_catalog::definitions::{ObjectKind, ObjectRef, Privilege};
use boathouse_sql::statement::Truncate;

use super::done;
use crate::error::SqlError;
use crate::outcome::Outcome;
use crate::session::Session;

pub(super) fn execute(session: &mut Session, truncate: &Truncate) -> Result<Outcome, SqlError> {
    session.check_writable("TRUNCATE TABLE")?;
    if truncate.cascade {
        return Err(
            SqlError::unsupported("TRUNCATE ... CASCADE").hint("truncate the tables one by one")
        );
    }
    let snapshot = session.snapshot();
    for name in &truncate.tables {
        let definition = session.state.table(&snapshot, name)?;
        let object = ObjectRef::new(ObjectKind::Table, definition.id);
        let privilege = Privilege::Truncate;
        session
            .state
            .require(&snapshot, object, privilege, "table", &definition.name)?;
        let schema_name = snapshot
            .schema_by_id(definition.schema)
            .map(|schema| schema.name.clone())
            .unwrap_or_default();
        session.work()?.rows_truncated(&schema_name, &definition)?;
    }
    done("TRUNCATE TABLE")
}
