//! How the data files of a table are made: what its properties say, and what was measured where they say
//! nothing (`benches/parquet`).

use std::collections::{BTreeMap, HashSet};

use arrow::datatypes::Schema;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::encoder::encode_error;
use super::{FileNames, LakeError, TableSnapshot, WriterOptions, statistics};

/// The property for the codec, one of [`CODECS`].
pub const COMPRESSION: &str = "parquet.compression";

/// The property for the rows of a row group.
pub const ROW_GROUP_ROWS: &str = "parquet.row_group_rows";

/// The property for the columns that get bloom filters: names and commas.
pub const BLOOM_FILTERS: &str = "parquet.bloom_filter_columns";

/// What [`COMPRESSION`] may be.
pub const CODECS: [&str; 5] = ["zstd", "zstd(3)", "snappy", "lz4_raw", "uncompressed"];

/// A column's dictionary in a row group. Whoever reads one row decodes all of it; larger ones make files no
/// smaller, for what has so many values compresses as well without.
const DICTIONARY_BYTES_MAX: usize = 128 << 10;

/// A value that is not in a row group passes its filter this often.
const FALSE_POSITIVES: f64 = 0.01;

/// How the files of one table are made.
#[derive(Debug, Clone, Default)]
pub(super) struct FileSettings {
    codec: Option<String>,
    row_group_rows: Option<usize>,
    bloom_filters: Vec<String>,
    /// The columns that get statistics in the log, by their places.
    pub statistics: HashSet<usize>,
}

impl FileSettings {
    pub fn of(snapshot: &TableSnapshot, schema: &Schema) -> Self {
        let definition = snapshot.definition().map(|(_, definition)| definition);
        let properties = definition.as_ref().map(|definition| &definition.properties);
        let none = BTreeMap::new();
        let properties = properties.unwrap_or(&none);
        let filtered = properties.get(BLOOM_FILTERS);
        let filtered = filtered.iter().flat_map(|names| names.split(','));
        Self {
            codec: properties.get(COMPRESSION).cloned(),
            row_group_rows: properties
                .get(ROW_GROUP_ROWS)
                .and_then(|rows| rows.parse().ok()),
            bloom_filters: filtered.map(|name| name.trim().to_owned()).collect(),
            statistics: statistics::columns_of(&snapshot.properties(), definition.as_ref(), schema),
        }
    }

    /// The name of the codec, as files are called by.
    pub fn codec(&self) -> &str {
        let codec = self.codec.as_deref().unwrap_or(CODECS[0]);
        codec.split_once('(').map_or(codec, |(name, _)| name)
    }

    fn compression(&self) -> Result<Compression, LakeError> {
        let zstd = |level| ZstdLevel::try_new(level).map(Compression::ZSTD);
        match self.codec.as_deref() {
            Some("snappy") => Ok(Compression::SNAPPY),
            Some("lz4_raw") => Ok(Compression::LZ4_RAW),
            Some("uncompressed") => Ok(Compression::UNCOMPRESSED),
            Some("zstd(3)") => zstd(3).map_err(encode_error),
            _ => zstd(1).map_err(encode_error),
        }
    }

    /// The options with what the table says of them.
    pub fn options(&self, options: WriterOptions) -> WriterOptions {
        WriterOptions {
            row_group_rows: self.row_group_rows.unwrap_or(options.row_group_rows),
            ..options
        }
    }

    pub fn properties(
        &self,
        options: &WriterOptions,
        names: &FileNames,
    ) -> Result<WriterProperties, LakeError> {
        let made_by = concat!("boathouse ", env!("CARGO_PKG_VERSION"));
        let mut properties: WriterPropertiesBuilder = WriterProperties::builder()
            .set_compression(self.compression()?)
            .set_max_row_group_row_count(Some(options.row_group_rows.saturating_mul(2)))
            .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
            .set_created_by(made_by.to_owned())
            // Names a list's items as the Parquet and Delta specifications do.
            .set_coerce_types(true);
        for column in &self.bloom_filters {
            let column = ColumnPath::from(names.of_column(column));
            let rows = options.row_group_rows as u64;
            properties = properties
                .set_column_bloom_filter_enabled(column.clone(), true)
                .set_column_bloom_filter_fpp(column.clone(), FALSE_POSITIVES)
                .set_column_bloom_filter_max_ndv(column, rows);
        }
        Ok(properties.build())
    }
}
