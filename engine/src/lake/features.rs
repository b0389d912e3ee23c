//! Which of Delta's table features are understood. A table that needs another one is refused by the
//! feature's name: read without it, its rows could be wrong, and written without it, other readers' could.
//!
//! Source: Delta Transaction Log Protocol, Table Features. A feature may be allowed without being used, so
//! some are refused only where a column or a property uses them.

use delta_kernel::schema::{ColumnMetadataKey as Key, DataType, StructField};
use delta_kernel::table_features::TableFeature as Feature;
use deltalake_core::kernel::{EagerSnapshot, Protocol};

use super::LakeError;

const CHANGE_DATA_FEED: &str = "delta.enableChangeDataFeed";
const APPEND_ONLY: &str = "delta.appendOnly";
const CONSTRAINTS: &str = "delta.constraints.";

/// Features that readers must know, and know here.
fn is_read(feature: &Feature) -> bool {
    matches!(
        feature,
        Feature::ColumnMapping
            | Feature::DeletionVectors
            | Feature::TimestampWithoutTimezone
            | Feature::TypeWidening
            | Feature::TypeWideningPreview
            | Feature::V2Checkpoint
            | Feature::VacuumProtocolCheck
    )
}

/// Features that writers must know, and know here, or that matter only where they are used.
fn is_written(feature: &Feature) -> bool {
    matches!(
        feature,
        Feature::AppendOnly
            | Feature::ChangeDataFeed
            | Feature::CheckConstraints
            | Feature::ColumnMapping
            | Feature::DeletionVectors
            | Feature::GeneratedColumns
            | Feature::IdentityColumns
            | Feature::Invariants
            | Feature::TimestampWithoutTimezone
            | Feature::TypeWidening
            | Feature::V2Checkpoint
            | Feature::AllowColumnDefaults
    )
}

/// Fails, with its name, on a feature that reading needs and that is not understood.
pub(super) fn check_readable(protocol: &Protocol, location: &str) -> Result<(), LakeError> {
    let unknown = |what: &[Feature]| unknown(what, is_read);
    let named = match protocol.min_reader_version() {
        version if version < 3 => None,
        3 => protocol.reader_features().and_then(unknown),
        version => Some(format!("reader version {version}")),
    };
    refuse(location, named)
}

/// Fails, with its name, on a feature that writing needs and that is not understood or whose use is not.
/// `deletes` tells whether rows or files go.
pub(super) fn check_writable(
    delta: &EagerSnapshot,
    location: &str,
    deletes: bool,
) -> Result<(), LakeError> {
    let protocol = delta.protocol();
    check_readable(protocol, location)?;
    let unknown = |what: &[Feature]| unknown(what, is_written);
    let named = match protocol.min_writer_version() {
        version if version < 7 => None,
        7 => protocol.writer_features().and_then(unknown),
        version => Some(format!("writer version {version}")),
    };
    refuse(location, named.or_else(|| used(delta, deletes)))?;
    let append_only = delta.metadata().configuration().get(APPEND_ONLY);
    if deletes && append_only.is_some_and(|value| value == "true") {
        let location = location.to_owned();
        return Err(LakeError::AppendOnly { location });
    }
    Ok(())
}

fn unknown(features: &[Feature], is_known: fn(&Feature) -> bool) -> Option<String> {
    let mut unknown = features.iter().filter(|feature| !is_known(feature));
    let first = unknown.next()?.to_string();
    Some(unknown.fold(first, |names, feature| format!("{names}, {feature}")))
}

fn refuse(location: &str, named: Option<String>) -> Result<(), LakeError> {
    named.map_or(Ok(()), |feature| {
        Err(LakeError::Unsupported {
            location: location.to_owned(),
            feature,
        })
    })
}

/// A feature that a column or a property uses and that new rows would have to follow.
fn used(delta: &EagerSnapshot, deletes: bool) -> Option<String> {
    let properties = delta.metadata().configuration();
    let is_on = |name: &str| properties.get(name).is_some_and(|value| value == "true");
    if let Some(name) = properties.keys().find(|name| name.starts_with(CONSTRAINTS)) {
        return Some(format!("checkConstraints ({name})"));
    }
    if deletes && is_on(CHANGE_DATA_FEED) {
        return Some(format!("changeDataFeed ({CHANGE_DATA_FEED})"));
    }
    let schema = delta.schema();
    schema.fields().find_map(column_uses)
}

/// Whether values of a type hold structs or maps, which are read as JSON and cannot be written.
fn is_structured(data_type: &DataType) -> bool {
    match data_type {
        DataType::Array(items) => is_structured(items.element_type()),
        DataType::Primitive(_) => false,
        _ => true,
    }
}

fn column_uses(field: &StructField) -> Option<String> {
    if is_structured(field.data_type()) {
        return Some(format!("structs and maps (column \"{}\")", field.name()));
    }
    let uses = [
        (Key::Invariants, "invariants"),
        (Key::GenerationExpression, "generatedColumns"),
        (Key::IdentityStart, "identityColumns"),
        (Key::CurrentDefault, "allowColumnDefaults"),
    ];
    let mut uses = uses.into_iter();
    uses.find(|(key, _)| field.get_config_value(key).is_some())
        .map(|(_, feature)| format!("{feature} (column \"{}\")", field.name()))
}

/// The feature that keeps the kernel from reading a log at all, if that is what is wrong.
pub(super) fn of_kernel_error(error: &delta_kernel::Error) -> Option<String> {
    match error {
        delta_kernel::Error::MaxCatalogVersion(_) => Some(format!(
            "{} or {}",
            Feature::CatalogManaged,
            Feature::CatalogOwnedPreview
        )),
        delta_kernel::Error::Unsupported(what) => Some(what.clone()),
        _ => None,
    }
}

/// Whether a table's protocol lets its columns be called otherwise in files.
pub(super) fn maps_columns(protocol: &Protocol) -> bool {
    match protocol.min_reader_version() {
        version if version < 3 => version == 2,
        _ => protocol
            .reader_features()
            .is_some_and(|features| features.contains(&Feature::ColumnMapping)),
    }
}
