//! Values of MariaDB's columns that are declared `COMPRESSED`.
//!
//! The first byte says how: 0 is followed by the value itself; otherwise its upper half is the method,
//! of which there is only zlib, its lowest three bits are how many bytes of the value's length follow,
//! and bit 3 says that the stream has no zlib header. An empty value is empty.

use flate2::{Decompress, FlushDecompress, Status};

use super::ValueError;

const MALFORMED: ValueError = ValueError::Malformed("compressed value");

/// No stream of deflate holds more than this many times its own length.
const RATIO_MAX: usize = 1_040;

/// The value, which may be left in `buffer`.
pub(super) fn inflate<'a>(
    stored: &'a [u8],
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], ValueError> {
    let (header, rest) = match stored {
        [] => return Ok(stored),
        [0, plain @ ..] => return Ok(plain),
        [header, rest @ ..] => (*header, rest),
    };
    let length_bytes = usize::from(header & 7);
    if header >> 4 != 8 || length_bytes > 4 {
        return Err(MALFORMED);
    }
    let (length, stream) = rest.split_at_checked(length_bytes).ok_or(MALFORMED)?;
    let length = length
        .iter()
        .fold(0, |length, byte| (length << 8) | usize::from(*byte));
    if length > stream.len().saturating_mul(RATIO_MAX) {
        return Err(MALFORMED);
    }
    buffer.clear();
    // A stream is only at its end once its checksum was read too, for which there must be room.
    buffer.reserve(length + 8);
    let has_header = header & 8 == 0;
    match Decompress::new(has_header).decompress_vec(stream, buffer, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) if buffer.len() == length => Ok(buffer),
        _ => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_as_it_was_before_it_was_compressed() {
        // As MariaDB 10.11 writes them into its binlog.
        let raw = [0x89, 0xC8, 0x4B, 0x4C, 0x1C, 0x1E, 0x00, 0x00];
        let zlib = [
            0x82, 0x01, 0x2C, 0x78, 0x9C, 0x4B, 0x4A, 0x1A, 0x05, 0xC4, 0x02, 0x00, 0x89, 0x15,
            0x72, 0xD9,
        ];
        let mut buffer = Vec::new();
        assert_eq!(inflate(&raw, &mut buffer), Ok(&[b'a'; 200][..]));
        assert_eq!(inflate(&zlib, &mut buffer), Ok(&[b'b'; 300][..]));
        assert_eq!(inflate(b"\0short", &mut buffer), Ok(&b"short"[..]));
        assert_eq!(inflate(b"", &mut buffer), Ok(&b""[..]));
    }

    #[test]
    fn a_stream_that_ends_early_is_an_error() {
        let mut buffer = Vec::new();
        for stored in [
            &[0x89, 0xC8, 0x4B][..],
            &[0x89],
            &[0x10, 1],
            &[0x8C, 255, 255, 255, 255, 1],
        ] {
            assert_eq!(inflate(stored, &mut buffer), Err(MALFORMED));
        }
    }
}
