//! A table's definition as the metadata of its Delta log.
//!
//! The log holds everything the catalog knows of a table, so that `catalog rebuild` can make the
//! catalog anew from the lake: column types and comments in the schema's field metadata, the rest
//! as one JSON document under the property [`DEFINITION`]. CHECK constraints stay in that document
//! rather than under `delta.constraints.*`: they are PostgreSQL expressions, which other writers
//! could not evaluate and would then refuse to append.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::{DataType, Schema, TimeUnit};
use boathouse_catalog::definitions::TableDefinition;
use delta_kernel::schema::{ColumnMetadataKey, MetadataValue, StructField};
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{EagerSnapshot, Metadata, Protocol, StructType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::names::name_in_files;
use super::{LakeError, names};

const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";
const COLUMN_ID: &str = "delta.columnMapping.id";
const LAST_COLUMN_ID: &str = "delta.columnMapping.maxColumnId";
const TYPE_CHANGES: &str = "delta.typeChanges";

/// Delta's property for columns whose type was widened.
const TYPE_WIDENING: &str = "delta.enableTypeWidening";

/// The table property that holds the definition.
pub(super) const DEFINITION: &str = "boathouse.table";
const COMMENT: &str = "comment";

/// What the property [`DEFINITION`] holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredDefinition {
    /// Raised when a reader of the old form would misread the new one.
    format: u32,
    pub schema: String,
    pub table: TableDefinition,
}

/// The arrow schema of the log: stored types, with our types and comments as field metadata.
fn log_schema(definition: &TableDefinition) -> Result<Schema, LakeError> {
    let fields = definition
        .columns
        .iter()
        .map(|column| {
            let stored = super::stored::log_field(&column.name, &column.column_type)?;
            let mut metadata = stored.metadata().clone();
            if let Some(comment) = &column.comment {
                metadata.insert(COMMENT.into(), comment.clone());
            }
            Ok(stored.with_metadata(metadata))
        })
        .collect::<Result<Vec<_>, LakeError>>()?;
    Ok(Schema::new(fields))
}

/// The columns as the log has them, and the highest of their ids where they have ids. What `current` says
/// of a column stays: its id, and the types it had.
fn kernel_schema(
    definition: &TableDefinition,
    current: Option<&EagerSnapshot>,
) -> Result<(StructType, Option<i64>), LakeError> {
    let failed = |reason: String| LakeError::Encode { reason };
    let schema = log_schema(definition)?;
    let plain: StructType = (&schema)
        .try_into_kernel()
        .map_err(|error: arrow::error::ArrowError| failed(error.to_string()))?;
    // Another engine may have begun to map the columns of a table, whose files are named so since.
    let maps_columns = definition.maps_columns() || current.is_some_and(names::are_mapped);
    let before = current.map(EagerSnapshot::schema);
    let before: Vec<&StructField> = before.iter().flat_map(|schema| schema.fields()).collect();
    let known = before.iter().map(|field| (name_in_files(field), *field));
    let known: HashMap<&str, &StructField> = known.collect();
    let mut last = current.and_then(last_id).unwrap_or(0);
    let mut fields = Vec::with_capacity(definition.columns.len());
    for (field, column) in plain.fields().zip(&definition.columns) {
        let mut field = field.clone();
        let before = known.get(column.name_in_files());
        let kept = |key: &ColumnMetadataKey| before.and_then(|field| field.get_config_value(key));
        if let Some(changes) = type_changes(before.copied(), &field)? {
            field.metadata.insert(TYPE_CHANGES.into(), changes);
        }
        if maps_columns {
            let id = match kept(&ColumnMetadataKey::ColumnMappingId) {
                Some(MetadataValue::Number(id)) => *id,
                _ => {
                    last += 1;
                    last
                }
            };
            let name = MetadataValue::String(column.name_in_files().to_owned());
            let id = MetadataValue::Number(id);
            for (key, value) in [(PHYSICAL_NAME, name), (COLUMN_ID, id)] {
                field.metadata.insert(key.into(), value);
            }
        }
        fields.push(field);
    }
    // It may have added columns, too, whose values would be gone with them.
    for field in before {
        let in_files = name_in_files(field);
        let mut columns = definition.columns.iter();
        let ours = columns
            .any(|column| column.name_in_files() == in_files || column.name == *field.name());
        let mut dropped = definition.dropped_columns.iter();
        if !ours && !dropped.any(|name| name == in_files) {
            fields.push(field.clone());
        }
    }
    let schema = StructType::try_new(fields).map_err(|error| failed(error.to_string()))?;
    Ok((schema, maps_columns.then_some(last)))
}

/// The highest id a column of the table ever had.
fn last_id(current: &EagerSnapshot) -> Option<i64> {
    let said = current.metadata().configuration().get(LAST_COLUMN_ID);
    let schema = current.schema();
    let used = schema.fields().filter_map(StructField::column_mapping_id);
    said.and_then(|said| said.parse().ok())
        .into_iter()
        .chain(used)
        .max()
}

/// The types a column had before the one it has, as the log tells them.
fn type_changes(
    before: Option<&StructField>,
    field: &StructField,
) -> Result<Option<MetadataValue>, LakeError> {
    let Some(before) = before else {
        return Ok(None);
    };
    let known = before.get_config_value(&ColumnMetadataKey::TypeChanges);
    if before.data_type() == field.data_type() {
        return Ok(known.cloned());
    }
    let mut changes = match known.map(to_json).transpose()? {
        Some(Value::Array(changes)) => changes,
        _ => Vec::new(),
    };
    changes.push(json!({
        "fromType": to_json(before.data_type())?,
        "toType": to_json(field.data_type())?,
    }));
    Ok(Some(MetadataValue::Other(Value::Array(changes))))
}

/// Whether Delta lets a column of one stored type become one of another while files keep the old.
pub fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let room = |digits: u8, precision: u8, scale: i8| {
        i16::from(precision) - i16::from(scale) >= i16::from(digits)
    };
    match (from, to) {
        (T::Int8, T::Int16 | T::Int32 | T::Int64 | T::Float64)
        | (T::Int16, T::Int32 | T::Int64 | T::Float64)
        | (T::Int32, T::Int64 | T::Float64)
        | (T::Float32, T::Float64)
        | (T::Date32, T::Timestamp(TimeUnit::Microsecond, None)) => true,
        (T::Int8 | T::Int16 | T::Int32, T::Decimal128(precision, scale)) => {
            room(10, *precision, *scale)
        }
        (T::Int64, T::Decimal128(precision, scale)) => room(20, *precision, *scale),
        (T::Decimal128(precision, scale), T::Decimal128(wider, finer)) => {
            let (more, finer) = (i16::from(*wider) - i16::from(*precision), finer - scale);
            finer >= 0 && more >= i16::from(finer)
        }
        _ => false,
    }
}

/// A column of the log that the definition the table carries does not know: another engine's.
pub(super) fn foreign_column(current: &EagerSnapshot) -> Option<String> {
    let definition = definition_of(current.metadata())?.table;
    let schema = current.schema();
    let mut fields = schema.fields();
    let foreign = fields.find(|field| {
        let mut columns = definition.columns.iter();
        !columns.any(|column| column.name_in_files() == name_in_files(field))
    });
    foreign.map(|field| field.name().clone())
}

/// The `metaData` action of a table. A changed table keeps the id and the birthday of `current`.
pub(super) fn action(
    definition: &TableDefinition,
    schema_name: &str,
    snapshot: Option<&EagerSnapshot>,
) -> Result<Value, LakeError> {
    let current = snapshot.map(EagerSnapshot::metadata);
    let failed = |error: serde_json::Error| LakeError::Encode {
        reason: error.to_string(),
    };
    let stored = StoredDefinition {
        format: 1,
        schema: schema_name.to_owned(),
        table: definition.clone(),
    };
    // Another engine may have set properties of its own, which stay.
    let mut configuration: BTreeMap<String, String> = current
        .map(|current| {
            current
                .configuration()
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        })
        .unwrap_or_default();
    // One of ours that was taken back goes.
    let before = current.and_then(definition_of);
    for name in before
        .iter()
        .flat_map(|before| before.table.properties.keys())
    {
        configuration.remove(name);
    }
    for (name, value) in &definition.properties {
        if name.starts_with("delta.") {
            configuration.insert(name.clone(), value.clone());
        }
    }
    configuration.insert(
        DEFINITION.into(),
        serde_json::to_string(&stored).map_err(failed)?,
    );
    let (schema, last_id) = kernel_schema(definition, snapshot)?;
    if let Some(last_id) = last_id {
        configuration.insert(names::MODE.into(), "name".into());
        configuration.insert(LAST_COLUMN_ID.into(), last_id.to_string());
    }
    if schema.fields().any(has_type_changes) {
        configuration.insert(TYPE_WIDENING.into(), "true".into());
    }
    Ok(json!({
        "metaData": {
            "id": current
                .map_or_else(|| uuid::Uuid::new_v4().to_string(), |current| current.id().to_owned()),
            "name": format!("{schema_name}.{}", definition.name),
            "description": definition.comment,
            "format": { "provider": "parquet", "options": {} },
            "schemaString": serde_json::to_string(&schema).map_err(failed)?,
            "partitionColumns": definition.partition_by,
            "configuration": configuration,
            "createdTime": current
                .and_then(Metadata::created_time)
                .unwrap_or_else(|| chrono::Utc::now().timestamp_millis()),
        }
    }))
}

/// The definition a table carries, when it is one of ours.
pub(super) fn definition_of(metadata: &Metadata) -> Option<StoredDefinition> {
    serde_json::from_str(metadata.configuration().get(DEFINITION)?).ok()
}

/// The `protocol` action the definition needs: version 1 and 2 unless a column needs a feature.
/// `None` when `current` allows it already.
pub(super) fn protocol_action(
    definition: &TableDefinition,
    current: Option<&EagerSnapshot>,
) -> Result<Option<Value>, LakeError> {
    let schema = log_schema(definition)?;
    let (columns, _) = kernel_schema(definition, current)?;
    let mut stored = schema.fields().iter().map(|field| field.data_type());
    let vectors = definition.properties.get(DELETION_VECTORS);
    let needed = [
        ("timestampNtz", stored.any(has_timestamp_ntz)),
        // Spark refuses a table that says it uses a feature and does not list it.
        (
            "deletionVectors",
            vectors.is_some_and(|value| value == "true"),
        ),
        ("columnMapping", definition.maps_columns()),
        ("typeWidening", columns.fields().any(has_type_changes)),
    ];
    let before = match current {
        Some(current) => to_json(current.protocol())?,
        None => json!({ "minReaderVersion": 1, "minWriterVersion": 2 }),
    };
    let mut protocol = before.clone();
    for (feature, _) in needed.iter().filter(|(_, needed)| *needed) {
        add_feature(&mut protocol, feature);
    }
    let same = current.is_some() && protocol == before;
    Ok((!same).then(|| json!({ "protocol": protocol })))
}

fn has_type_changes(field: &StructField) -> bool {
    field
        .get_config_value(&ColumnMetadataKey::TypeChanges)
        .is_some()
}

/// The `protocol` action that adds a feature readers must know; `None` when it is there.
fn with_feature(current: &Protocol, feature: &str) -> Result<Option<Value>, LakeError> {
    let before = to_json(current)?;
    let mut protocol = before.clone();
    add_feature(&mut protocol, feature);
    Ok((protocol != before).then(|| json!({ "protocol": protocol })))
}

fn add_feature(protocol: &mut Value, feature: &str) {
    // Raising the writer version to 7 must name what version 2 implied and the table may use. Tables
    // of ours have no invariants, and others are not altered by us.
    if protocol["minWriterVersion"].as_i64() < Some(7) {
        protocol["writerFeatures"] = json!(["appendOnly"]);
    }
    let maps_columns = protocol["minReaderVersion"] == 2;
    protocol["minReaderVersion"] = json!(3);
    protocol["minWriterVersion"] = json!(7);
    let implied = maps_columns.then_some("columnMapping");
    for list in ["readerFeatures", "writerFeatures"] {
        let mut features: Vec<Value> = protocol[list].as_array().cloned().unwrap_or_default();
        for feature in implied.into_iter().chain([feature]) {
            if !features.iter().any(|known| known == feature) {
                features.push(json!(feature));
            }
        }
        protocol[list] = Value::Array(features);
    }
}

fn to_json(action: &impl Serialize) -> Result<Value, LakeError> {
    serde_json::to_value(action).map_err(|error| LakeError::Encode {
        reason: error.to_string(),
    })
}

/// Delta's property for deletion vectors.
pub(super) const DELETION_VECTORS: &str = "delta.enableDeletionVectors";

/// Has the `protocol` and `metaData` among the actions of a commit allow deletion vectors, and adds
/// them when there are none and the table does not allow them yet.
pub(super) fn allow_deletion_vectors(
    snapshot: &EagerSnapshot,
    actions: &mut Vec<Value>,
) -> Result<(), LakeError> {
    const FEATURE: &str = "deletionVectors";
    match actions
        .iter_mut()
        .find_map(|action| action.get_mut("protocol"))
    {
        Some(protocol) => add_feature(protocol, FEATURE),
        None => actions.extend(with_feature(snapshot.protocol(), FEATURE)?),
    }
    let written = actions
        .iter_mut()
        .find_map(|action| action.get_mut("metaData"));
    if let Some(metadata) = written {
        metadata["configuration"][DELETION_VECTORS] = json!("true");
        return Ok(());
    }
    let metadata = snapshot.metadata();
    if metadata
        .configuration()
        .get(DELETION_VECTORS)
        .map(String::as_str)
        != Some("true")
    {
        let mut metadata = to_json(metadata)?;
        metadata["configuration"][DELETION_VECTORS] = json!("true");
        actions.push(json!({ "metaData": metadata }));
    }
    Ok(())
}

fn has_timestamp_ntz(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, None) => true,
        DataType::List(item) => has_timestamp_ntz(item.data_type()),
        _ => false,
    }
}
