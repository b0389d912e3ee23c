//! The tables that captured tables land in.

use std::sync::Arc;

use boathouse_catalog::CatalogError;
use boathouse_catalog::definitions::{
    ColumnDefinition, KeyConstraint, ObjectId, ObjectKind, ObjectRef, Privilege, TableDefinition,
};
use boathouse_connectors::mysql::SourceTable;

use super::plan::CapturePlan;
use super::schema::columns_in_one;
use super::shape::{Kind, Shape};
use super::sql;
use crate::error::{SqlError, SqlState};
use crate::lake::{LakeTable, MetadataChange};

/// Finds the table that a source's table lands in, or makes it. One that is there already has to be empty.
pub(super) async fn find_or_create(
    plan: &CapturePlan,
    source: &SourceTable,
    shape: &Shape,
    mine: &[ObjectId],
) -> Result<(TableDefinition, Arc<LakeTable>), SqlError> {
    let catalog = &plan.engine().catalog;
    let snapshot = catalog.snapshot();
    let name = plan.one_table.as_ref().unwrap_or(&source.name.table);
    let schema = snapshot.schema(&plan.target_schema).ok_or_else(|| {
        SqlError::new(
            SqlState::INVALID_SCHEMA_NAME,
            format!("schema \"{}\" does not exist", plan.target_schema),
        )
    })?;
    if snapshot.view(&plan.target_schema, name).is_some() {
        return Err(SqlError::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{name}\" is not a table"),
        ));
    }
    if let Some(definition) = snapshot.table(&plan.target_schema, name) {
        let lake = plan.engine().lake.table(definition).await?;
        if mine.contains(&definition.id) {
            return land_too(plan, definition, shape).await;
        }
        let rows = lake.snapshot(None).await?.row_count();
        let fits = shape
            .columns
            .iter()
            .all(|column| definition.column(&column.name).is_some());
        if rows == Some(0) && !fits && is_of_before(definition, shape) {
            require(plan, definition.id)?;
            return land_too(plan, definition, shape).await;
        }
        if rows != Some(0) || !fits {
            return Err(SqlError::new(
                SqlState::DUPLICATE_TABLE,
                format!(
                    "table \"{}.{name}\" exists already, and {} is to land in it",
                    plan.target_schema, source.name
                ),
            )
            .hint("drop or rename it, choose another INTO SCHEMA, or leave the source's table out with EXCEPT"));
        }
        require(plan, definition.id)?;
        return Ok((definition.as_ref().clone(), lake));
    }
    let object = ObjectRef::new(ObjectKind::Schema, schema.id);
    let role = plan.context.session.role;
    if !snapshot.has_privilege(role, object, Privilege::Create) {
        return Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for schema {}", schema.name),
        ));
    }
    let mut definition = TableDefinition::new(schema.id, name, role, "");
    definition.comment.clone_from(&source.comment);
    let key = &shape.lands.key;
    for column in &shape.columns {
        let is_key = key.contains(&column.name);
        let mut defined = ColumnDefinition::new(&column.name, column.column_type.clone(), !is_key);
        if let (Kind::Source, Some(known)) = (column.kind, source.column(&column.name)) {
            defined.comment.clone_from(&known.comment);
        }
        definition.columns.push(defined);
    }
    if !key.is_empty() {
        definition.primary_key = Some(KeyConstraint {
            name: format!("{name}_pkey"),
            columns: key.clone(),
        });
    }
    definition.check_columns()?;
    let lake = &plan.engine().lake;
    definition.location = lake.create_table(&definition, &plan.target_schema).await?;
    let mut transaction = catalog.begin();
    let created = match transaction.create_table(definition.clone()) {
        Ok(_) => catalog.commit(transaction).await,
        Err(error) => Err(error),
    };
    match created {
        Ok(snapshot) => {
            let made = snapshot
                .table(&plan.target_schema, name)
                .ok_or_else(|| SqlError::internal("a table just made is missing"))?;
            let table = lake.table(made).await?;
            Ok((made.as_ref().clone(), table))
        }
        Err(error) => {
            // After a lost reply the catalog may name it: an empty folder harms less than a table without one.
            if !matches!(error, CatalogError::Unreachable(_)) {
                lake.discard_table(&definition.location).await?;
            }
            Err(error.into())
        }
    }
}

/// Whether an empty table lacks columns and nothing else: one that a run made before it was killed, and the source's has
/// columns since.
fn is_of_before(definition: &TableDefinition, shape: &Shape) -> bool {
    let mut columns = definition.columns.iter();
    let key = definition.primary_key.as_ref();
    let key = key.map_or(&[][..], |key| key.columns.as_slice());
    key == shape.lands.key
        && columns.all(|known| shape.columns.iter().any(|column| column.name == known.name))
}

/// A table that others of the source land in already, with the columns of one more.
async fn land_too(
    plan: &CapturePlan,
    definition: &TableDefinition,
    shape: &Shape,
) -> Result<(TableDefinition, Arc<LakeTable>), SqlError> {
    check_key(definition, shape)?;
    let schema = schema_name(plan, definition);
    let table = sql::qualified(&schema, &definition.name);
    let statements = columns_in_one(&table, shape, definition);
    if !statements.is_empty() {
        let altered = sql::run(plan, &statements).await;
        altered.map_err(|mut error| {
            let (source, message) = (&shape.lands.name, &error.message);
            error.message = format!("{source} does not fit {table}: {message}");
            error
        })?;
    }
    let opened = reopen(plan, definition.id).await?;
    opened.ok_or_else(|| SqlError::internal("a table just altered is missing"))
}

/// Tables that land in one have one key.
pub(super) fn check_key(definition: &TableDefinition, shape: &Shape) -> Result<(), SqlError> {
    let has = definition.primary_key.as_ref();
    let has = has.map_or(&[][..], |key| key.columns.as_slice());
    if shape.shard.is_none() || has == shape.lands.key {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::DATATYPE_MISMATCH,
        format!(
            "{} has another key than the other tables that land in \"{}\"",
            shape.lands.name, definition.name
        ),
    )
    .hint("leave it out with EXCEPT, or give it the same key at the source"))
}

/// The table of an earlier run, as it is defined now. `None` when it was dropped.
pub(super) async fn reopen(
    plan: &CapturePlan,
    target: ObjectId,
) -> Result<Option<(TableDefinition, Arc<LakeTable>)>, SqlError> {
    let snapshot = plan.engine().catalog.snapshot();
    let Some(definition) = snapshot.table_by_id(target) else {
        return Ok(None);
    };
    require(plan, target)?;
    let lake = plan.engine().lake.table(definition).await?;
    let schema_name = schema_name(plan, definition);
    let definition = definition.as_ref().clone();
    // A crash may have left the log without what the catalog has.
    let seen = lake.snapshot(None).await?;
    if !seen.describes(&schema_name, &definition) {
        let change = MetadataChange {
            schema_name,
            definition: definition.clone(),
        };
        let turn = lake.turn().await;
        lake.change_metadata("CHANGE COLUMN", change, &turn).await?;
    }
    Ok(Some((definition, lake)))
}

/// Gives a table the primary key of its source. Tells whether it had another.
pub(super) async fn follow_key(
    plan: &CapturePlan,
    definition: &TableDefinition,
    source: &SourceTable,
) -> Result<bool, SqlError> {
    let has = definition.primary_key.as_ref();
    let has = has.map_or(&[][..], |key| key.columns.as_slice());
    let is_key = |name: &str| source.key.iter().any(|key| key == name);
    let strict = definition
        .columns
        .iter()
        .all(|column| !is_key(&column.name) || !column.nullable);
    if has == source.key && strict {
        return Ok(false);
    }
    let mut changed = definition.clone();
    changed.primary_key = (!source.key.is_empty()).then(|| KeyConstraint {
        name: format!("{}_pkey", definition.name),
        columns: source.key.clone(),
    });
    for column in &mut changed.columns {
        if is_key(&column.name) {
            column.nullable = false;
        } else if has.contains(&column.name) {
            column.nullable = true;
        }
    }
    let catalog = &plan.engine().catalog;
    let mut transaction = catalog.begin();
    transaction.replace_table(changed)?;
    catalog.commit(transaction).await?;
    Ok(true)
}

/// Who may follow changes into a table may insert, update and delete.
fn require(plan: &CapturePlan, target: ObjectId) -> Result<(), SqlError> {
    let snapshot = plan.engine().catalog.snapshot();
    let object = ObjectRef::new(ObjectKind::Table, target);
    let role = plan.context.session.role;
    let needed = [Privilege::Insert, Privilege::Update, Privilege::Delete];
    if needed
        .into_iter()
        .all(|privilege| snapshot.has_privilege(role, object, privilege))
    {
        return Ok(());
    }
    let name = snapshot.table_by_id(target);
    let name = name.map_or_else(String::new, |table| table.name.clone());
    Err(SqlError::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for table {name}"),
    ))
}

/// The name of a table's schema.
pub(super) fn schema_name(plan: &CapturePlan, definition: &TableDefinition) -> String {
    let snapshot = plan.engine().catalog.snapshot();
    let schema = snapshot.schema_by_id(definition.schema);
    schema.map_or_else(String::new, |schema| schema.name.clone())
}
