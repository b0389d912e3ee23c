//! A table's definition as the metadata of its Delta log.
//!
//! The log holds everything the catalog knows of a table, so that `catalog rebuild` can make the
//! catalog anew from the lake: column types and comments in the schema's field metadata, the rest
//! as one JSON document under the property [`DEFINITION`]. CHECK constraints stay in that document
//! rather than under `delta.constraints.*`: they are PostgreSQL expressions, which other writers
//! could not evaluate and would then refuse to append.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use boathouse_catalog::definitions::TableDefinition;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{EagerSnapshot, Metadata, Protocol, StructType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::LakeError;

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

fn kernel_schema(definition: &TableDefinition) -> Result<StructType, LakeError> {
    let schema = log_schema(definition)?;
    (&schema)
        .try_into_kernel()
        .map_err(|error| LakeError::Encode {
            reason: error.to_string(),
        })
}

/// The `metaData` action of a table. A changed table keeps the id and the birthday of `current`.
pub(super) fn action(
    definition: &TableDefinition,
    schema_name: &str,
    current: Option<&Metadata>,
) -> Result<Value, LakeError> {
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
    for (name, value) in &definition.properties {
        if name.starts_with("delta.") {
            configuration.insert(name.clone(), value.clone());
        }
    }
    configuration.insert(
        DEFINITION.into(),
        serde_json::to_string(&stored).map_err(failed)?,
    );
    let schema = kernel_schema(definition)?;
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
    current: Option<&Protocol>,
) -> Result<Option<Value>, LakeError> {
    const TIMESTAMP_NTZ: &str = "timestampNtz";
    let schema = log_schema(definition)?;
    let needs_feature = schema
        .fields()
        .iter()
        .any(|field| has_timestamp_ntz(field.data_type()));
    let Some(current) = current else {
        return Ok(Some(if needs_feature {
            json!({ "protocol": {
                "minReaderVersion": 3, "minWriterVersion": 7,
                "readerFeatures": [TIMESTAMP_NTZ], "writerFeatures": [TIMESTAMP_NTZ],
            }})
        } else {
            json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 2 } })
        }));
    };
    if !needs_feature {
        return Ok(None);
    }
    with_feature(current, TIMESTAMP_NTZ)
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
    protocol["minReaderVersion"] = json!(3);
    protocol["minWriterVersion"] = json!(7);
    for list in ["readerFeatures", "writerFeatures"] {
        let mut features: Vec<Value> = protocol[list].as_array().cloned().unwrap_or_default();
        if !features.iter().any(|known| known == feature) {
            features.push(json!(feature));
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
