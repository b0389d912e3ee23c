//! What data files call the columns of a table: Delta's column mapping by name.
//!
//! A table begins without it, and every column is called in the files what it is called in the table. Once a
//! column is renamed or dropped, each column keeps in the files the name it was born with, so neither
//! touches a file. Source: Delta Transaction Log Protocol, Column Mapping.

use std::collections::BTreeMap;
use std::sync::Arc;

use boathouse_catalog::definitions::TableDefinition;
use delta_kernel::schema::{ColumnMetadataKey, DataType, MetadataValue, StructField, StructType};
use delta_kernel::table_features::ColumnMappingMode;
use deltalake_core::kernel::EagerSnapshot;

use super::{LakeError, features};

/// Delta's property for it.
pub(super) const MODE: &str = "delta.columnMapping.mode";

/// The names of columns in data files, by their names in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileNames(Option<Arc<BTreeMap<String, String>>>);

impl FileNames {
    /// Those that a definition says.
    pub fn of(definition: &TableDefinition) -> Self {
        if !definition.maps_columns() {
            return Self::default();
        }
        let columns = definition.columns.iter();
        let names = columns.map(|column| (column.name.clone(), column.name_in_files().to_owned()));
        Self(Some(Arc::new(names.collect())))
    }

    /// Those that the log says.
    pub(super) fn of_log(delta: &EagerSnapshot, location: &str) -> Result<Self, LakeError> {
        let refused = |feature: &str| LakeError::Unsupported {
            location: location.to_owned(),
            feature: feature.to_owned(),
        };
        let mode = delta.table_properties().column_mapping_mode;
        match mode.filter(|_| features::maps_columns(delta.protocol())) {
            None | Some(ColumnMappingMode::None) => return Ok(Self::default()),
            Some(ColumnMappingMode::Id) => {
                return Err(refused(
                    "columnMapping by id (delta.columnMapping.mode = id)",
                ));
            }
            Some(ColumnMappingMode::Name) => {}
        }
        let schema = delta.schema();
        let mut names = BTreeMap::new();
        for field in schema.fields() {
            if !keeps_names_inside(field.data_type()) {
                return Err(refused("columnMapping of the fields of a struct"));
            }
            names.insert(field.name().clone(), name_in_files(field).to_owned());
        }
        Ok(Self(Some(Arc::new(names))))
    }

    /// These.
    pub(super) fn from(names: BTreeMap<String, String>) -> Self {
        Self(Some(Arc::new(names)))
    }

    /// What the files call a column.
    pub fn of_column<'a>(&'a self, column: &'a str) -> &'a str {
        let named = self.0.as_ref().and_then(|names| names.get(column));
        named.map_or(column, String::as_str)
    }

    /// Whether any column is called otherwise.
    pub fn differ(&self) -> bool {
        let mut names = self.0.iter().flat_map(|names| names.iter());
        names.any(|(name, in_files)| name != in_files)
    }
}

/// Whether the log says by which names files have its columns.
pub(super) fn are_mapped(delta: &EagerSnapshot) -> bool {
    let mode = delta.table_properties().column_mapping_mode;
    mode == Some(ColumnMappingMode::Name) && features::maps_columns(delta.protocol())
}

/// What the files call a field of the log.
pub(super) fn name_in_files(field: &StructField) -> &str {
    match field.get_config_value(&ColumnMetadataKey::ColumnMappingPhysicalName) {
        Some(MetadataValue::String(name)) => name,
        _ => field.name(),
    }
}

/// Whether the fields of structs inside a type are called the same in the files.
fn keeps_names_inside(data_type: &DataType) -> bool {
    let kept = |fields: &StructType| {
        let mut fields = fields.fields();
        fields.all(|field| {
            name_in_files(field) == field.name() && keeps_names_inside(field.data_type())
        })
    };
    match data_type {
        DataType::Struct(fields) => kept(fields),
        DataType::Array(items) => keeps_names_inside(items.element_type()),
        DataType::Map(map) => {
            keeps_names_inside(map.key_type()) && keeps_names_inside(map.value_type())
        }
        _ => true,
    }
}
