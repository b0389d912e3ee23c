//! What an event says of the table whose rows follow (TABLE_MAP_EVENT).

use super::Malformed;
use super::bytes::{Bytes, bit};
use crate::mysql::server::Flavor;
use crate::mysql::types::WireColumn;

const TYPE_TINY: u8 = 1;
const TYPE_STRING: u8 = 254;
const TYPE_ENUM: u8 = 247;
const TYPE_SET: u8 = 248;
const TYPE_GEOMETRY: u8 = 255;

/// A table as its rows are written in the binlog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableMap {
    pub database: String,
    pub table: String,
    pub columns: Vec<MappedColumn>,
    /// The columns of the primary key, by their places.
    pub key: Vec<usize>,
}

/// One column of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedColumn {
    /// `None` unless the server says what columns are called (`binlog_row_metadata = FULL`).
    pub name: Option<String>,
    pub wire: WireColumn,
    pub nullable: bool,
}

/// The number that rows of the table are written under, and what follows it.
pub(crate) fn split(data: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let mut bytes = Bytes(data);
    let number = bytes.integer(6)?;
    Ok((number, bytes.0))
}

impl TableMap {
    /// Reads what follows the table's number. The two servers do not count the same columns as texts.
    pub fn parse(data: &[u8], flavor: Flavor) -> Result<Self, Malformed> {
        let mut bytes = Bytes(data);
        bytes.take(2)?;
        let database = name(&mut bytes)?;
        let table = name(&mut bytes)?;
        let count = bytes.packed_size()?;
        let types = bytes.take(count)?;
        let mut metadata = Bytes(bytes.packed_bytes()?);
        let nullable = bytes.take(count.div_ceil(8))?;
        let mut columns = Vec::with_capacity(count);
        for (index, code) in types.iter().enumerate() {
            let mut wire = WireColumn {
                type_code: *code,
                metadata: [0, 0],
                unsigned: false,
                collation: None,
                values: Vec::new(),
            };
            let width = metadata_width(*code).ok_or(Malformed)?;
            for (place, byte) in wire.metadata.iter_mut().zip(metadata.take(width)?) {
                *place = *byte;
            }
            let [first, _] = wire.metadata;
            if *code == TYPE_STRING && matches!(first, TYPE_ENUM | TYPE_SET) {
                wire.type_code = first;
            }
            columns.push(MappedColumn {
                name: None,
                wire,
                nullable: bit(nullable, index),
            });
        }
        let mut map = Self {
            database,
            table,
            columns,
            key: Vec::new(),
        };
        while !bytes.0.is_empty() {
            let field = bytes.byte()?;
            let value = Bytes(bytes.packed_bytes()?);
            map.describe(field, value, flavor)?;
        }
        Ok(map)
    }

    /// Takes one field of the optional metadata.
    fn describe(
        &mut self,
        field: u8,
        mut value: Bytes<'_>,
        flavor: Flavor,
    ) -> Result<(), Malformed> {
        let is_text = match flavor {
            Flavor::MySql => is_text,
            Flavor::MariaDb => is_text_or_geometry,
        };
        match field {
            // The first bit is the highest of the first byte here.
            1 => {
                let numbers = self.of(is_number);
                for (index, column) in numbers.enumerate() {
                    let byte = value.0.get(index / 8).ok_or(Malformed)?;
                    column.wire.unsigned = byte & (0x80 >> (index % 8)) != 0;
                }
            }
            2 => default_collations(self.of(is_text).collect(), value)?,
            10 => default_collations(self.of(is_choice).collect(), value)?,
            3 => collations(self.of(is_text), &mut value)?,
            11 => collations(self.of(is_choice), &mut value)?,
            4 => {
                for column in &mut self.columns {
                    column.name = Some(utf8(value.packed_bytes()?)?);
                }
            }
            5 | 6 => {
                let code = if field == 5 { TYPE_SET } else { TYPE_ENUM };
                for column in self.of(|column| column == code) {
                    let count = value.packed_size()?;
                    let mut names = Vec::new();
                    for _ in 0..count {
                        names.push(value.packed_bytes()?.to_vec());
                    }
                    column.wire.values = names;
                }
            }
            8 | 9 => {
                while !value.0.is_empty() {
                    self.key.push(value.packed_size()?);
                    if field == 9 {
                        value.packed()?;
                    }
                }
            }
            // The kinds of geometries, which columns are hidden, the sizes of vectors, what is yet to come.
            _ => {}
        }
        Ok(())
    }

    fn of(&mut self, kind: impl Fn(u8) -> bool) -> impl Iterator<Item = &mut MappedColumn> {
        self.columns
            .iter_mut()
            .filter(move |column| kind(column.wire.type_code))
    }
}

fn name(bytes: &mut Bytes<'_>) -> Result<String, Malformed> {
    let length = usize::from(bytes.byte()?);
    let name = utf8(bytes.take(length)?)?;
    bytes.take(1)?;
    Ok(name)
}

fn utf8(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| Malformed)
}

/// A collation for all, and others by place.
fn default_collations(
    mut columns: Vec<&mut MappedColumn>,
    mut value: Bytes<'_>,
) -> Result<(), Malformed> {
    let default = collation(&mut value)?;
    for column in &mut columns {
        column.wire.collation = Some(default);
    }
    while !value.0.is_empty() {
        let index = value.packed_size()?;
        let other = collation(&mut value)?;
        let column = columns.get_mut(index).ok_or(Malformed)?;
        column.wire.collation = Some(other);
    }
    Ok(())
}

/// A collation for each.
fn collations<'a>(
    columns: impl Iterator<Item = &'a mut MappedColumn>,
    value: &mut Bytes<'_>,
) -> Result<(), Malformed> {
    for column in columns {
        column.wire.collation = Some(collation(value)?);
    }
    Ok(())
}

fn collation(value: &mut Bytes<'_>) -> Result<u16, Malformed> {
    u16::try_from(value.packed()?).map_err(|_| Malformed)
}

fn is_number(code: u8) -> bool {
    // DECIMAL, TINY to DOUBLE, LONGLONG, INT24, YEAR, NEWDECIMAL.
    matches!(code, 0..=5 | 8 | 9 | 13 | 246) && (code == 0 || code >= TYPE_TINY)
}

/// What the lists of collations count as texts: VARCHAR, BLOB, VAR_STRING, STRING; MySQL's VECTOR; MariaDB's
/// GEOMETRY and compressed texts.
fn is_text(code: u8) -> bool {
    matches!(code, 15 | 140 | 141 | 242 | 252 | 253 | TYPE_STRING)
}

fn is_text_or_geometry(code: u8) -> bool {
    is_text(code) || code == TYPE_GEOMETRY
}

fn is_choice(code: u8) -> bool {
    matches!(code, TYPE_ENUM | TYPE_SET)
}

/// Bytes that a type takes in the block of metadata. `None` for a type that is not known.
fn metadata_width(code: u8) -> Option<usize> {
    Some(match code {
        // Integers, DECIMAL before 5.0, NULL, TIMESTAMP, DATE, TIME, DATETIME, YEAR, NEWDATE.
        0..=3 | 6..=14 => 0,
        // FLOAT, DOUBLE, the times with fractions, VECTOR, JSON, BLOB, GEOMETRY.
        4 | 5 | 17..=19 | 242 | 245 | 249..=252 | 255 => 1,
        // VARCHAR, BIT, NEWDECIMAL, ENUM, SET, VAR_STRING, STRING.
        15 | 16 | 246..=248 | 253 | 254 => 2,
        // MariaDB's compressed BLOB and VARCHAR.
        140 => 1,
        141 => 2,
        _ => return None,
    })
}
