//! The binary format: a signature, then rows of counted fields.

use super::{Target, bad_format};
use crate::error::SqlError;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// A field longer than this is not believed.
const FIELD_BYTES_MAX: usize = 1 << 30;

#[derive(Default)]
pub struct BinaryFormat {
    header_read: bool,
}

impl BinaryFormat {
    pub fn decode(
        &mut self,
        bytes: &[u8],
        last: bool,
        target: &mut Target,
        ended: &mut bool,
    ) -> Result<usize, SqlError> {
        let mut used = 0;
        if !self.header_read {
            let Some(length) = header(bytes)? else {
                return if last {
                    Err(bad_format("COPY file signature not recognized"))
                } else {
                    Ok(0)
                };
            };
            used = length;
            self.header_read = true;
        }
        while !*ended {
            let Some(length) = self.row_length(&bytes[used..], target)? else {
                break;
            };
            if length == 2 && target_ends(&bytes[used..]) {
                *ended = true;
                return Ok(bytes.len());
            }
            target.line += 1;
            let row = append_row(&bytes[used + 2..used + length], target);
            used += length;
            target.end_row(row)?;
        }
        if last && used < bytes.len() {
            target.line += 1;
            return Err(bad_format("unexpected EOF in COPY data").detail(target.place()));
        }
        Ok(used)
    }

    /// The bytes of the first row, or `None` while it is incomplete.
    fn row_length(&self, bytes: &[u8], target: &Target) -> Result<Option<usize>, SqlError> {
        let Some(&[high, low]) = bytes.first_chunk() else {
            return Ok(None);
        };
        let count = i16::from_be_bytes([high, low]);
        if count == -1 {
            return Ok(Some(2));
        }
        let wanted = target.columns.len();
        if usize::try_from(count) != Ok(wanted) {
            return Err(
                bad_format(format!("row field count is {count}, expected {wanted}"))
                    .detail(format!("COPY {}, line {}", target.table, target.line + 1)),
            );
        }
        let mut length = 2;
        for _ in 0..wanted {
            let Some(&field) = bytes.get(length..).and_then(<[u8]>::first_chunk) else {
                return Ok(None);
            };
            length += 4;
            match usize::try_from(i32::from_be_bytes(field)) {
                Ok(field) if field <= FIELD_BYTES_MAX => length += field,
                Err(_) if i32::from_be_bytes(field) == -1 => {}
                _ => {
                    return Err(bad_format("invalid field size").detail(format!(
                        "COPY {}, line {}",
                        target.table,
                        target.line + 1
                    )));
                }
            }
        }
        Ok((bytes.len() >= length).then_some(length))
    }
}

fn target_ends(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xff])
}

/// The length of the header, or `None` while it is incomplete.
fn header(bytes: &[u8]) -> Result<Option<usize>, SqlError> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(bad_format("COPY file signature not recognized"));
    }
    let Some((&flags, rest)) = bytes
        .get(SIGNATURE.len()..)
        .and_then(<[u8]>::split_first_chunk::<4>)
    else {
        return Ok(None);
    };
    // The upper half of the flags are those a reader has to know.
    if u32::from_be_bytes(flags) >> 16 != 0 {
        return Err(bad_format(
            "unrecognized critical flags in COPY file header",
        ));
    }
    let Some(&extension) = rest.first_chunk() else {
        return Ok(None);
    };
    let extension = usize::try_from(i32::from_be_bytes(extension))
        .map_err(|_| bad_format("invalid COPY file header (missing length)"))?;
    let length = SIGNATURE.len() + 8 + extension;
    Ok((bytes.len() >= length).then_some(length))
}

/// `bytes` hold exactly the fields of one row, each behind its length.
fn append_row(bytes: &[u8], target: &mut Target) -> Result<(), SqlError> {
    let mut rest = bytes;
    for index in 0..target.columns.len() {
        let Some((&length, after)) = rest.split_first_chunk::<4>() else {
            return Err(bad_format("unexpected EOF in COPY data"));
        };
        let Ok(length) = usize::try_from(i32::from_be_bytes(length)) else {
            target.columns[index].append_null();
            rest = after;
            continue;
        };
        let Some((field, after)) = after.split_at_checked(length) else {
            return Err(bad_format("unexpected EOF in COPY data"));
        };
        target.columns[index]
            .append_binary(field)
            .map_err(|error| {
                let name = target.column_name(index);
                error.detail(format!("{}, column {name}", target.place()))
            })?;
        rest = after;
    }
    Ok(())
}
