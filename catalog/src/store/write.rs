//! One change to rows. The change has been checked; the database's own constraints are the second
//! line of defence, against a program that forgot to.

use serde::Serialize;
use sqlx::AnyConnection;

use crate::definitions::{ObjectKind, RoleDefinition};
use crate::error::CatalogError;
use crate::transaction::{Change, Object};

/// Counts the version up and keeps its row locked, so that commits of all processes come one after
/// another. Gives the new version.
pub(crate) async fn next_version(connection: &mut AnyConnection) -> Result<i64, CatalogError> {
    let query =
        sqlx::query_scalar("UPDATE catalog_state SET version = version + 1 RETURNING version");
    Ok(query.fetch_one(connection).await?)
}

/// Reserves `count` numbers of a counter and gives the first.
pub(crate) async fn reserve(
    connection: &mut AnyConnection,
    counter: &'static str,
    count: i64,
) -> Result<i64, CatalogError> {
    let query = sqlx::query_scalar(
        "UPDATE counters SET next_value = next_value + $1 WHERE name = $2 \
         RETURNING next_value - $1",
    );
    Ok(query
        .bind(count)
        .bind(counter)
        .fetch_one(connection)
        .await?)
}

/// Makes a change.
pub(crate) async fn change(
    connection: &mut AnyConnection,
    change: &Change,
) -> Result<(), CatalogError> {
    match change {
        Change::Create(object) => create(connection, object).await,
        Change::Replace { after, .. } => replace(connection, after).await,
        Change::Drop(object) => drop_object(connection, object).await,
        Change::Grant(grant) => {
            let query = sqlx::query(
                "INSERT INTO grants (object_id, grantee_id, privilege, grantable) \
                 VALUES ($1, $2, $3, $4) ON CONFLICT (object_id, grantee_id, privilege) \
                 DO UPDATE SET grantable = \
                 CASE WHEN excluded.grantable = 1 THEN 1 ELSE grants.grantable END",
            );
            let query = query
                .bind(grant.object.id.0)
                .bind(grant.grantee.0)
                .bind(grant.privilege.keyword())
                .bind(i64::from(grant.grantable));
            query.execute(connection).await?;
            Ok(())
        }
        Change::Revoke {
            object,
            grantee,
            privilege,
            option_only,
        } => {
            let query = if *option_only {
                sqlx::query(
                    "UPDATE grants SET grantable = 0 \
                     WHERE object_id = $1 AND grantee_id = $2 AND privilege = $3",
                )
            } else {
                sqlx::query(
                    "DELETE FROM grants \
                     WHERE object_id = $1 AND grantee_id = $2 AND privilege = $3",
                )
            };
            let query = query
                .bind(object.id.0)
                .bind(grantee.0)
                .bind(privilege.keyword());
            query.execute(connection).await?;
            Ok(())
        }
        Change::CommentOnDatabase(text) => {
            let query = sqlx::query("UPDATE catalog_state SET database_comment = $1");
            query.bind(text.as_deref()).execute(connection).await?;
            Ok(())
        }
    }
}

async fn create(connection: &mut AnyConnection, object: &Object) -> Result<(), CatalogError> {
    let reference = object.reference();
    let query = sqlx::query("INSERT INTO objects (id, kind) VALUES ($1, $2)");
    let query = query.bind(reference.id.0).bind(reference.kind.name());
    query.execute(&mut *connection).await?;
    let query = match object {
        Object::Schema(_) => sqlx::query(
            "INSERT INTO schemas (id, name, owner_id, description) VALUES ($1, $2, $3, $4)",
        ),
        Object::Table(_) | Object::View(_) => sqlx::query(
            "INSERT INTO relations (id, name, owner_id, definition, schema_id, kind) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        ),
        Object::Connection(_) => sqlx::query(
            "INSERT INTO connections (id, name, owner_id, definition) VALUES ($1, $2, $3, $4)",
        ),
        Object::Secret(_) => sqlx::query(
            "INSERT INTO secrets (id, name, owner_id, ciphertext, description) \
             VALUES ($1, $2, $3, $4, $5)",
        ),
        Object::Pipeline(_) => sqlx::query(
            "INSERT INTO pipelines (id, name, owner_id, definition, paused) \
             VALUES ($1, $2, $3, $4, $5)",
        ),
        Object::Role(_) => sqlx::query(
            "INSERT INTO roles (id, name, superuser, login, inherit, create_role, \
             create_database, connection_limit, valid_until, verifier, settings, description) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        ),
    };
    bind(query, object)?.execute(&mut *connection).await?;
    match object {
        Object::Role(role) => write_memberships(connection, role).await,
        _ => Ok(()),
    }
}

async fn replace(connection: &mut AnyConnection, object: &Object) -> Result<(), CatalogError> {
    let query = match object {
        Object::Schema(_) => sqlx::query(
            "UPDATE schemas SET name = $2, owner_id = $3, description = $4 WHERE id = $1",
        ),
        Object::Table(_) | Object::View(_) => sqlx::query(
            "UPDATE relations SET name = $2, owner_id = $3, definition = $4, schema_id = $5, \
             kind = $6 WHERE id = $1",
        ),
        Object::Connection(_) => sqlx::query(
            "UPDATE connections SET name = $2, owner_id = $3, definition = $4 WHERE id = $1",
        ),
        Object::Secret(_) => sqlx::query(
            "UPDATE secrets SET name = $2, owner_id = $3, ciphertext = $4, description = $5 \
             WHERE id = $1",
        ),
        Object::Pipeline(_) => sqlx::query(
            "UPDATE pipelines SET name = $2, owner_id = $3, definition = $4, paused = $5 \
             WHERE id = $1",
        ),
        Object::Role(_) => sqlx::query(
            "UPDATE roles SET name = $2, superuser = $3, login = $4, inherit = $5, \
             create_role = $6, create_database = $7, connection_limit = $8, valid_until = $9, \
             verifier = $10, settings = $11, description = $12 WHERE id = $1",
        ),
    };
    bind(query, object)?.execute(&mut *connection).await?;
    match object {
        Object::Role(role) => write_memberships(connection, role).await,
        _ => Ok(()),
    }
}

async fn drop_object(connection: &mut AnyConnection, object: &Object) -> Result<(), CatalogError> {
    let query = match object {
        Object::Schema(_) => sqlx::query("DELETE FROM schemas WHERE id = $1"),
        Object::Table(_) | Object::View(_) => sqlx::query("DELETE FROM relations WHERE id = $1"),
        Object::Connection(_) => sqlx::query("DELETE FROM connections WHERE id = $1"),
        Object::Secret(_) => sqlx::query("DELETE FROM secrets WHERE id = $1"),
        Object::Pipeline(_) => sqlx::query("DELETE FROM pipelines WHERE id = $1"),
        Object::Role(_) => sqlx::query("DELETE FROM roles WHERE id = $1"),
    };
    let id = object.reference().id;
    if matches!(object, Object::Pipeline(_)) {
        crate::state::forget_leases(&mut *connection, id).await?;
    }
    let id = id.0;
    query.bind(id).execute(&mut *connection).await?;
    // Its grants go with it.
    let query = sqlx::query("DELETE FROM objects WHERE id = $1");
    query.bind(id).execute(connection).await?;
    Ok(())
}

async fn write_memberships(
    connection: &mut AnyConnection,
    role: &RoleDefinition,
) -> Result<(), CatalogError> {
    let query = sqlx::query("DELETE FROM role_members WHERE member_id = $1");
    query.bind(role.id.0).execute(&mut *connection).await?;
    for of in &role.member_of {
        let query = sqlx::query(
            "INSERT INTO role_members (member_id, role_id) VALUES ($1, $2) \
             ON CONFLICT (member_id, role_id) DO NOTHING",
        );
        query
            .bind(role.id.0)
            .bind(of.0)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

type Query = sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments>;

/// Binds the columns of an object, in the one order that INSERT and UPDATE share.
fn bind(query: Query, object: &Object) -> Result<Query, CatalogError> {
    let id = object.reference().id.0;
    let name = object.name().to_owned();
    let query = query.bind(id).bind(name);
    Ok(match object {
        Object::Schema(one) => query.bind(one.owner.0).bind(one.comment.clone()),
        Object::Table(one) => query
            .bind(one.owner.0)
            .bind(json(one.as_ref())?)
            .bind(one.schema.0)
            .bind(ObjectKind::Table.name()),
        Object::View(one) => query
            .bind(one.owner.0)
            .bind(json(one.as_ref())?)
            .bind(one.schema.0)
            .bind(ObjectKind::View.name()),
        Object::Connection(one) => query.bind(one.owner.0).bind(json(one.as_ref())?),
        Object::Secret(one) => query
            .bind(one.owner.0)
            .bind(one.ciphertext.clone())
            .bind(one.comment.clone()),
        Object::Pipeline(one) => query
            .bind(one.owner.0)
            .bind(json(one.as_ref())?)
            .bind(i64::from(one.paused)),
        Object::Role(one) => query
            .bind(i64::from(one.superuser))
            .bind(i64::from(one.login))
            .bind(i64::from(one.inherit))
            .bind(i64::from(one.create_role))
            .bind(i64::from(one.create_database))
            .bind(i64::from(one.connection_limit))
            .bind(one.valid_until.map(|time| time.timestamp_micros()))
            .bind(one.verifier.clone())
            .bind(json(&one.settings)?)
            .bind(one.comment.clone()),
    })
}

fn json<T: Serialize>(value: &T) -> Result<String, CatalogError> {
    serde_json::to_string(value).map_err(|error| CatalogError::Corrupt {
        what: "a definition".to_owned(),
        source: Some(Box::new(error)),
    })
}
