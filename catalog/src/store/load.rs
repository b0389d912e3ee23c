//! Rows to a snapshot.
//!
//! Names, ids, owners and grants are columns and count as they stand there; the rest of a definition
//! is its JSON text.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::definitions::{
    ConnectionDefinition, ObjectId, ObjectKind, ObjectRef, PipelineDefinition, Privilege,
    RoleDefinition, SchemaDefinition, SecretDefinition, TableDefinition, ViewDefinition,
};
use crate::error::CatalogError;
use crate::snapshot::Snapshot;
use crate::transaction::Object;

/// The version of the newest committed snapshot.
pub(crate) async fn version(connection: &mut AnyConnection) -> Result<i64, CatalogError> {
    let query = sqlx::query_scalar("SELECT version FROM catalog_state");
    Ok(query.fetch_one(connection).await?)
}

/// Everything. The connection must see one state throughout: a read transaction, or a write
/// transaction that holds the version's row.
pub(crate) async fn snapshot(connection: &mut AnyConnection) -> Result<Snapshot, CatalogError> {
    let mut snapshot = Snapshot::default();
    let state = sqlx::query("SELECT version, database_comment FROM catalog_state");
    let state = state.fetch_one(&mut *connection).await?;
    snapshot.version = state.try_get(0)?;
    snapshot.database_comment = state.try_get(1)?;
    roles(connection, &mut snapshot).await?;
    schemas(connection, &mut snapshot).await?;
    relations(connection, &mut snapshot).await?;
    secrets(connection, &mut snapshot).await?;
    connections(connection, &mut snapshot).await?;
    pipelines(connection, &mut snapshot).await?;
    grants(connection, &mut snapshot).await?;
    Ok(snapshot)
}

async fn roles(
    connection: &mut AnyConnection,
    snapshot: &mut Snapshot,
) -> Result<(), CatalogError> {
    let mut memberships: BTreeMap<i64, Vec<ObjectId>> = BTreeMap::new();
    let members =
        sqlx::query("SELECT member_id, role_id FROM role_members ORDER BY member_id, role_id");
    for row in members.fetch_all(&mut *connection).await? {
        memberships
            .entry(row.try_get(0)?)
            .or_default()
            .push(ObjectId(row.try_get(1)?));
    }
    let rows = sqlx::query(
        "SELECT id, name, superuser, login, inherit, create_role, create_database, \
         connection_limit, valid_until, verifier, settings, description FROM roles",
    );
    for row in rows.fetch_all(connection).await? {
        let id: i64 = row.try_get(0)?;
        let name: String = row.try_get(1)?;
        let settings = json(row.try_get(10)?, ObjectKind::Role, &name)?;
        let role = RoleDefinition {
            id: ObjectId(id),
            name,
            superuser: flag(&row, 2)?,
            login: flag(&row, 3)?,
            inherit: flag(&row, 4)?,
            create_role: flag(&row, 5)?,
            create_database: flag(&row, 6)?,
            connection_limit: i32::try_from(row.try_get::<i64, _>(7)?).unwrap_or(-1),
            valid_until: time(row.try_get(8)?),
            verifier: row.try_get(9)?,
            member_of: memberships.remove(&id).unwrap_or_default(),
            settings,
            comment: row.try_get(11)?,
        };
        Object::Role(Arc::new(role)).put(snapshot);
    }
    Ok(())
}

async fn schemas(
    connection: &mut AnyConnection,
    snapshot: &mut Snapshot,
) -> Result<(), CatalogError> {
    let rows = sqlx::query("SELECT id, name, owner_id, description FROM schemas");
    for row in rows.fetch_all(connection).await? {
        let schema = SchemaDefinition {
            id: ObjectId(row.try_get(0)?),
            name: row.try_get(1)?,
            owner: ObjectId(row.try_get(2)?),
            comment: row.try_get(3)?,
        };
        Object::Schema(Arc::new(schema)).put(snapshot);
    }
    Ok(())
}

async fn relations(
    connection: &mut AnyConnection,
    snapshot: &mut Snapshot,
) -> Result<(), CatalogError> {
    let rows = sqlx::query("SELECT id, schema_id, name, owner_id, kind, definition FROM relations");
    for row in rows.fetch_all(connection).await? {
        let (id, schema) = (ObjectId(row.try_get(0)?), ObjectId(row.try_get(1)?));
        let name: String = row.try_get(2)?;
        let owner = ObjectId(row.try_get(3)?);
        let definition: &str = row.try_get(5)?;
        if row.try_get::<&str, _>(4)? == ObjectKind::Table.name() {
            let stored: TableDefinition = json(definition, ObjectKind::Table, &name)?;
            snapshot.put_table(Arc::new(TableDefinition {
                id,
                schema,
                name,
                owner,
                ..stored
            }));
        } else {
            let stored: ViewDefinition = json(definition, ObjectKind::View, &name)?;
            snapshot.put_view(Arc::new(ViewDefinition {
                id,
                schema,
                name,
                owner,
                ..stored
            }));
        }
    }
    Ok(())
}

async fn secrets(
    connection: &mut AnyConnection,
    snapshot: &mut Snapshot,
) -> Result<(), CatalogError> {
    let rows = sqlx::query("SELECT id, name, owner_id, ciphertext, description FROM secrets");
    for row in rows.fetch_all(connection).await? {
        let secret = SecretDefinition {
            id: ObjectId(row.try_get(0)?),
            name: row.try_get(1)?,
            owner: ObjectId(row.try_get(2)?),
            ciphertext: row.try_get(3)?,
            comment: row.try_get(4)?,
        };
        Object::Secret(Arc::new(secret)).put(snapshot);
    }
    Ok(())
}

async fn connections(
    connection: &mut AnyConnection,
    snapshot: &mut Snapshot,
) -> Result<(), CatalogError> {
    let rows = sqlx::query("SELECT id, name, owner_id, definition FROM connections");
    for row in rows.fetch_all(connection).await? {
        let name: String = row.try_get(1)?;
        let stored: ConnectionDefinition = json(row.try_get(3)?, ObjectKind::Connection, &name)?;
        let (id, owner) = (ObjectId(row.try_get(0)?), ObjectId(row.try_get(2)?));
        let definition = ConnectionDefinition {
            id,
            name,
            owner,
            ..stored
        };
        Object::Connection(Arc::new(definition)).put(snapshot);
    }
    Ok(())
}

async fn pipelines(
    connection: &mut AnyConnection,
    snapshot: &mut Snapshot,
) -> Result<(), CatalogError> {
    let rows = sqlx::query("SELECT id, name, owner_id, paused, definition FROM pipelines");
    for row in rows.fetch_all(connection).await? {
        let name: String = row.try_get(1)?;
        let stored: PipelineDefinition = json(row.try_get(4)?, ObjectKind::Pipeline, &name)?;
        let (id, owner) = (ObjectId(row.try_get(0)?), ObjectId(row.try_get(2)?));
        let paused = flag(&row, 3)?;
        let definition = PipelineDefinition {
            id,
            name,
            owner,
            paused,
            ..stored
        };
        Object::Pipeline(Arc::new(definition)).put(snapshot);
    }
    Ok(())
}

async fn grants(
    connection: &mut AnyConnection,
    snapshot: &mut Snapshot,
) -> Result<(), CatalogError> {
    let rows = sqlx::query(
        "SELECT objects.kind, grants.object_id, grants.grantee_id, grants.privilege, \
         grants.grantable FROM grants JOIN objects ON objects.id = grants.object_id",
    );
    let grants = Arc::make_mut(&mut snapshot.grants);
    for row in rows.fetch_all(connection).await? {
        let (kind, privilege): (&str, &str) = (row.try_get(0)?, row.try_get(3)?);
        let (Some(kind), Some(privilege)) = (
            ObjectKind::from_name(kind),
            Privilege::from_keyword(privilege),
        ) else {
            let what = format!("privilege {privilege} on a {kind}");
            return Err(CatalogError::Corrupt { what, source: None });
        };
        let object = ObjectRef::new(kind, ObjectId(row.try_get(1)?));
        let key = (ObjectId(row.try_get(2)?), privilege);
        grants
            .entry(object)
            .or_default()
            .insert(key, flag(&row, 4)?);
    }
    Ok(())
}

/// Microseconds since 1970 as a time.
pub(crate) fn time(microseconds: Option<i64>) -> Option<DateTime<Utc>> {
    microseconds.and_then(DateTime::from_timestamp_micros)
}

fn flag(row: &AnyRow, column: usize) -> Result<bool, CatalogError> {
    Ok(row.try_get::<i64, _>(column)? != 0)
}

fn json<T: DeserializeOwned>(text: &str, kind: ObjectKind, name: &str) -> Result<T, CatalogError> {
    serde_json::from_str(text).map_err(|error| CatalogError::Corrupt {
        what: format!("{kind} \"{name}\""),
        source: Some(Box::new(error)),
    })
}
