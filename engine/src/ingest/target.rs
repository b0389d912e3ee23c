//! The table a pipeline fills: made at the first load, widened when the source grows.
//!
//! New columns become visible in the same Delta commit as the first rows that have them; the catalog
//! follows. A crash between the two is repaired at the next run, which takes from the log what the
//! catalog lacks.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::kernels::cmp::neq;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use boathouse_catalog::CatalogError;
use boathouse_catalog::definitions::{
    ColumnDefinition, KeyConstraint, ObjectKind, ObjectRef, Privilege, TableDefinition,
};
use boathouse_catalog::types::ColumnType;

use super::row_plan::RowPlan;
use crate::error::{SqlError, SqlState};
use crate::lake::{LakeTable, MetadataChange};
use crate::query::QueryContext;

/// How often, and at what intervals, the catalog is asked for a table that another server is making.
const NAMED_WITHIN_LOOKS: usize = 20;
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
    pub async fn find(plan: &RowPlan) -> Result<Option<Self>, SqlError> {
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
        let needed: &[Privilege] = match plan.key.is_empty() {
            true => &[Privilege::Insert],
            false => &[Privilege::Insert, Privilege::Update, Privilege::Delete],
        };
        for privilege in needed {
            require(
                &plan.context,
                ObjectRef::new(ObjectKind::Table, definition.id),
                *privilege,
                &format!("table {}", definition.name),
            )?;
        }
        let key = definition.primary_key.as_ref();
        let key = key.map_or(&[][..], |key| key.columns.as_slice());
        if !plan.key.is_empty() && key != plan.key {
            return Err(SqlError::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "table \"{}\" has not the primary key ({})",
                    definition.name,
                    plan.key.join(", ")
                ),
            )
            .hint(
                "name the columns of its primary key with KEY (...), or load into another table",
            ));
        }
        if crate::execute::keys::enforces(definition) {
            return Err(SqlError::unsupported(format!(
                "loading into table \"{}\", whose keys are enforced,",
                definition.name
            ))
            .hint("load into another table, and MERGE from there"));
        }
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
    async fn adopt_log(&mut self, plan: &RowPlan) -> Result<(), SqlError> {
        let snapshot = self.table.snapshot(None).await?;
        let missing: Vec<ColumnDefinition> = snapshot
            .schema()
            .fields()
            .iter()
            .filter(|field| {
                let in_files = snapshot.names().of_column(field.name());
                let mut columns = self.definition.columns.iter();
                let mut dropped = self.definition.dropped_columns.iter();
                !columns.any(|column| column.name_in_files() == in_files)
                    && !dropped.any(|name| name == in_files)
            })
            .map(|field| {
                let column_type = ColumnType::from_field(field);
                let mut column = ColumnDefinition::new(field.name(), column_type, true);
                let in_files = snapshot.names().of_column(field.name());
                column.name_in_files = (in_files != field.name()).then(|| in_files.to_owned());
                column
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.definition.columns.extend(missing);
        self.store_definition(plan).await
    }

    /// The table, made with these columns, unless another server was faster.
    pub async fn create(plan: &RowPlan, fields: &SchemaRef) -> Result<Self, SqlError> {
        let error = match Self::make(plan, fields).await {
            Ok(target) => return Ok(target),
            Err(error) => error,
        };
        let is_taken =
            [SqlState::DUPLICATE_TABLE, SqlState::SERIALIZATION_FAILURE].contains(&error.state);
        if !is_taken {
            return Err(error);
        }
        // Its folder may be there before the catalog names it.
        for _ in 0..NAMED_WITHIN_LOOKS {
            plan.engine().catalog.refresh().await?;
            if let Some(target) = Self::find(plan).await? {
                return Ok(target);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(error)
    }

    async fn make(plan: &RowPlan, fields: &SchemaRef) -> Result<Self, SqlError> {
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
        if !plan.key.is_empty() {
            for name in &plan.key {
                let column = definition
                    .columns
                    .iter_mut()
                    .find(|column| column.name == *name);
                let column = column.ok_or_else(|| {
                    SqlError::new(
                        SqlState::UNDEFINED_COLUMN,
                        format!("column \"{name}\" named in KEY does not exist"),
                    )
                    .hint("the messages so far do not have it: name it with COLUMNS (...), or select it")
                })?;
                column.nullable = false;
            }
            definition.primary_key = Some(KeyConstraint {
                name: format!("{}_pkey", plan.target_name),
                columns: plan.key.clone(),
            });
        }
        definition.check_columns()?;
        let lake = &plan.engine().lake;
        definition.location = lake.create_table(&definition, &plan.target_schema).await?;
        let mut transaction = catalog.begin();
        let created = match transaction.create_table(definition.clone()) {
            Ok(_) => catalog.commit(transaction).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = created {
            // After a lost reply the catalog may name it: an empty folder harms less than a table without one.
            if !matches!(error, CatalogError::Unreachable(_)) {
                lake.discard_table(&definition.location).await?;
            }
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
                    self.definition.add_column(ColumnDefinition::new(
                        field.name(),
                        column_type,
                        true,
                    ));
                    added.push(field.name().clone());
                    self.changed = true;
                }
                Some(column) => {
                    if !assignable(&ColumnType::from_field(field), &column.column_type) {
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
    pub fn conform(&self, output: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Misfit> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| match output.column_by_name(field.name()) {
                None => Ok(new_null_array(field.data_type(), output.num_rows())),
                Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
                Some(column) => assign(column, field.data_type()).map_err(|reason| Misfit {
                    column: Some(field.name().clone()),
                    reason,
                }),
            })
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| Misfit {
            column: None,
            reason: error.to_string(),
        })
    }

    /// What the next commit has to say of the columns.
    pub fn metadata_change(&self) -> Option<MetadataChange> {
        self.changed.then(|| MetadataChange {
            schema_name: self.schema_name.clone(),
            definition: self.definition.clone(),
        })
    }

    /// Follows a commit that carried the change.
    pub async fn committed(&mut self, plan: &RowPlan) -> Result<(), SqlError> {
        if std::mem::take(&mut self.changed) {
            self.store_definition(plan).await?;
        }
        Ok(())
    }

    async fn store_definition(&self, plan: &RowPlan) -> Result<(), SqlError> {
        let catalog = &plan.engine().catalog;
        let mut transaction = catalog.begin();
        transaction.replace_table(self.definition.clone())?;
        catalog.commit(transaction).await?;
        Ok(())
    }
}

/// Why rows do not fit the table.
#[derive(Debug)]
pub(super) struct Misfit {
    pub column: Option<String>,
    pub reason: String,
}

/// Whether values of one type can be put into a column of another without being said so: what
/// PostgreSQL assigns, and texts, which are read.
fn assignable(from: &ColumnType, to: &ColumnType) -> bool {
    use ColumnType as T;
    let number = |one: &T| {
        matches!(
            one,
            T::SmallInt | T::Integer | T::BigInt | T::Numeric { .. } | T::Real | T::Double
        )
    };
    let text = |one: &T| matches!(one, T::Text | T::Varchar(_) | T::Char(_));
    let time = |one: &T| matches!(one, T::Date | T::Timestamp | T::TimestampTz);
    // What a cast to text writes otherwise than PostgreSQL is left to the query.
    let plain = |one: &T| {
        matches!(
            one,
            T::Boolean
                | T::SmallInt
                | T::Integer
                | T::BigInt
                | T::Numeric { .. }
                | T::Date
                | T::Json
                | T::Jsonb
        )
    };
    let kin = from.arrow() == to.arrow()
        || text(from)
        || (text(to) && plain(from))
        || (number(from) && number(to))
        || (time(from) && time(to))
        || matches!((from, to), (T::Array(_), T::Array(_)));
    kin && can_cast_types(&from.arrow(), &to.arrow())
}

/// Casts values to the type of their column. A number with a fraction is no whole number.
fn assign(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, String> {
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let cast = cast_with_options(column, wanted, &strict).map_err(|error| match error {
        ArrowError::CastError(reason) => reason,
        error => error.to_string(),
    })?;
    let loses_fractions = wanted.is_integer()
        && matches!(
            column.data_type(),
            DataType::Float32 | DataType::Float64 | DataType::Decimal128(..)
        );
    if loses_fractions {
        let back = cast_with_options(&cast, column.data_type(), &strict)
            .map_err(|error| error.to_string())?;
        let changed = neq(&back, column).map_err(|error| error.to_string())?;
        if let Some(row) =
            (0..changed.len()).find(|row| changed.is_valid(*row) && changed.value(*row))
        {
            let value = array_value_to_string(column, row).unwrap_or_default();
            return Err(format!("{value} is not a whole number"));
        }
    }
    Ok(cast)
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
