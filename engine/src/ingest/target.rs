//! The table a pipeline fills: made at the first load, widened when the source grows.
//!
//! New columns become visible in the same Delta commit as the first rows that have them; the catalog
//! follows. A crash between the two is repaired at the next run, which takes from the log what the
//! catalog lacks.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{Schema, SchemaRef};
use boathouse_catalog::definitions::{
    ColumnDefinition, ObjectKind, ObjectRef, Privilege, TableDefinition,
};
use boathouse_catalog::types::ColumnType;

use super::plan::PipelinePlan;
use crate::error::{SqlError, SqlState};
use crate::lake::{LakeTable, MetadataChange};
use crate::query::QueryContext;

/// The target as this run knows it.
pub(super) struct Target {
    pub definition: TableDefinition,
    pub table: Arc<LakeTable>,
    schema_name: String,
    /// Columns were added that no commit carries yet.
    changed: bool,
}

impl Target {
    /// The table if it exists, with the catalog brought up to the log.
    pub async fn find(plan: &PipelinePlan) -> Result<Option<Self>, SqlError> {
        let snapshot = plan.engine().catalog.snapshot();
        let Some(definition) = snapshot.table(&plan.target_schema, &plan.target_name) else {
            if snapshot
                .view(&plan.target_schema, &plan.target_name)
                .is_some()
            {
                return Err(SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not a table", plan.target_name),
                ));
            }
            return Ok(None);
        };
        require(
            &plan.context,
            ObjectRef::new(ObjectKind::Table, definition.id),
            Privilege::Insert,
            &format!("table {}", definition.name),
        )?;
        let definition = definition.as_ref().clone();
        let table = plan.engine().lake.table(&definition).await?;
        let mut target = Self {
            definition,
            table,
            schema_name: plan.target_schema.clone(),
            changed: false,
        };
        target.adopt_log(plan).await?;
        Ok(Some(target))
    }

    /// Adds to the catalog the columns that only the log has.
    async fn adopt_log(&mut self, plan: &PipelinePlan) -> Result<(), SqlError> {
        let snapshot = self.table.snapshot(None).await?;
        let missing: Vec<ColumnDefinition> = snapshot
            .schema()
            .fields()
            .iter()
            .filter(|field| self.definition.column(field.name()).is_none())
            .map(|field| ColumnDefinition::new(field.name(), ColumnType::from_field(field), true))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.definition.columns.extend(missing);
        self.store_definition(plan).await
    }

    /// The table, made with these columns when it does not exist.
    pub async fn find_or_create(plan: &PipelinePlan, fields: &SchemaRef) -> Result<Self, SqlError> {
        if let Some(found) = Self::find(plan).await? {
            return Ok(found);
        }
        let catalog = &plan.engine().catalog;
        let snapshot = catalog.snapshot();
        let schema = snapshot.schema(&plan.target_schema).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_SCHEMA_NAME,
                format!("schema \"{}\" does not exist", plan.target_schema),
            )
        })?;
        require(
            &plan.context,
            ObjectRef::new(ObjectKind::Schema, schema.id),
            Privilege::Create,
            &format!("schema {}", schema.name),
        )?;
        let mut definition =
            TableDefinition::new(schema.id, &plan.target_name, plan.context.session.role, "");
        definition.columns = columns_of(fields)?;
        let lake = &plan.engine().lake;
        definition.location = lake.create_table(&definition, &plan.target_schema).await?;
        let mut transaction = catalog.begin();
        let created = match transaction.create_table(definition.clone()) {
            Ok(_) => catalog.commit(transaction).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = created {
            lake.drop_table(&definition.location).await?;
            return Err(error.into());
        }
        Self::find(plan)
            .await?
            .ok_or_else(|| SqlError::internal("a table just made is missing"))
    }

    /// Adds the output columns the table lacks. Gives their names.
    pub fn widen(&mut self, fields: &SchemaRef) -> Result<Vec<String>, SqlError> {
        let mut added = Vec::new();
        for field in fields.fields() {
            match self.definition.column(field.name()) {
                None => {
                    let column_type = ColumnType::from_field(field);
                    storable(field.name(), &column_type)?;
                    self.definition.columns.push(ColumnDefinition::new(
                        field.name(),
                        column_type,
                        true,
                    ));
                    added.push(field.name().clone());
                    self.changed = true;
                }
                Some(column) => {
                    let wanted = column.column_type.arrow();
                    if !can_cast_types(field.data_type(), &wanted) {
                        return Err(SqlError::new(
                            SqlState::DATATYPE_MISMATCH,
                            format!(
                                "column \"{}\" is of type {} but the query gives {}",
                                column.name,
                                column.column_type.sql_name(),
                                ColumnType::from_field(field).sql_name()
                            ),
                        )
                        .hint("cast it in the pipeline's query"));
                    }
                }
            }
        }
        Ok(added)
    }

    /// The rows' schema.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<_> = self
            .definition
            .columns
            .iter()
            .map(|column| column.column_type.to_field(&column.name, true))
            .collect();
        Arc::new(Schema::new(fields))
    }

    /// Output rows as rows of the table. Columns the output lacks are NULL.
    pub fn conform(
        &self,
        output: &RecordBatch,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, arrow::error::ArrowError> {
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let columns = schema
            .fields()
            .iter()
            .map(|field| match output.column_by_name(field.name()) {
                None => Ok(new_null_array(field.data_type(), output.num_rows())),
                Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
                Some(column) => cast_with_options(column, field.data_type(), &strict),
            })
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        RecordBatch::try_new(Arc::clone(schema), columns)
    }

    /// What the next commit has to say of the columns.
    pub fn metadata_change(&self) -> Option<MetadataChange> {
        self.changed.then(|| MetadataChange {
            schema_name: self.schema_name.clone(),
            definition: self.definition.clone(),
        })
    }

    /// Follows a commit that carried the change.
    pub async fn committed(&mut self, plan: &PipelinePlan) -> Result<(), SqlError> {
        if std::mem::take(&mut self.changed) {
            self.store_definition(plan).await?;
        }
        Ok(())
    }

    async fn store_definition(&self, plan: &PipelinePlan) -> Result<(), SqlError> {
        let catalog = &plan.engine().catalog;
        let mut transaction = catalog.begin();
        transaction.replace_table(self.definition.clone())?;
        catalog.commit(transaction).await?;
        Ok(())
    }
}

fn columns_of(fields: &SchemaRef) -> Result<Vec<ColumnDefinition>, SqlError> {
    fields
        .fields()
        .iter()
        .map(|field| {
            let column_type = ColumnType::from_field(field);
            storable(field.name(), &column_type)?;
            Ok(ColumnDefinition::new(field.name(), column_type, true))
        })
        .collect()
}

fn storable(name: &str, column_type: &ColumnType) -> Result<(), SqlError> {
    if column_type.stored_arrow().is_some() {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!(
            "column \"{name}\" has type {}, which cannot be stored",
            column_type.sql_name()
        ),
    )
    .hint("cast it in the pipeline's query"))
}

fn require(
    context: &QueryContext,
    object: ObjectRef,
    privilege: Privilege,
    what: &str,
) -> Result<(), SqlError> {
    // The newest catalog counts, not the one the pipeline was planned with.
    let snapshot = context.engine.catalog.snapshot();
    if snapshot.has_privilege(context.session.role, object, privilege) {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for {what}"),
    ))
}
