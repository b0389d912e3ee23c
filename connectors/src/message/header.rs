//! What serializers put before a message to tell its schema.
//!
//! | header | bytes |
//! |---|---|
//! | Confluent's | 0, four bytes of the schema's id; with Protobuf the place of the message in its file behind them |
//! | AWS Glue's | 3, 0 or 5 (the rest is compressed by zlib), sixteen bytes of the schema version's UUID |

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::envelope::Fault;
use crate::error::{ConnectorError, sqlstate};
use crate::options::Options;

/// A message is not larger than that once it is decompressed.
const DECOMPRESSED_MAX: u64 = 64 << 20;

const CONFLUENT: u8 = 0;
const GLUE: u8 = 3;
const GLUE_PLAIN: u8 = 0;
const GLUE_ZLIB: u8 = 5;
const GLUE_LENGTH: usize = 18;

/// The header that messages have whose schema need not be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    None,
    Confluent,
    Glue,
}

impl Header {
    /// Option `header`: one of `choices`, the first when it is not given.
    pub fn take(options: &mut Options, choices: &[&'static str]) -> Result<Self, ConnectorError> {
        Ok(match options.take_choice("header", choices)? {
            Some("confluent") => Self::Confluent,
            Some("glue") => Self::Glue,
            _ => Self::None,
        })
    }

    /// What is behind the header.
    pub fn strip<'m>(&self, message: &'m [u8]) -> Result<Cow<'m, [u8]>, Fault> {
        match self {
            Self::None => Ok(Cow::Borrowed(message)),
            Self::Confluent => confluent(message).map(|(_, body)| Cow::Borrowed(body)),
            Self::Glue => glue(message),
        }
    }
}

fn malformed(reason: &str) -> Fault {
    (sqlstate::BAD_FILE_FORMAT, reason.to_owned())
}

/// The id of a message's schema, and what is behind it.
pub(super) fn confluent(message: &[u8]) -> Result<(u32, &[u8]), Fault> {
    match message {
        [CONFLUENT, a, b, c, d, rest @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        _ if is_glue(message) => Err((
            sqlstate::FEATURE_NOT_SUPPORTED,
            "the message has its schema in AWS Glue's registry, which is not asked; \
             give the options schema and header = 'glue'"
                .to_owned(),
        )),
        _ => Err(malformed(
            "the message does not begin with the id of its schema",
        )),
    }
}

/// Whether a message begins as Glue's serializers write it.
pub(super) fn is_glue(message: &[u8]) -> bool {
    message.len() >= GLUE_LENGTH && matches!(message, [GLUE, GLUE_PLAIN | GLUE_ZLIB, ..])
}

fn glue(message: &[u8]) -> Result<Cow<'_, [u8]>, Fault> {
    let body = message
        .get(GLUE_LENGTH..)
        .filter(|_| message.first() == Some(&GLUE))
        .ok_or_else(|| malformed("the message does not begin with the header of AWS Glue"))?;
    match message.get(1) {
        Some(&GLUE_PLAIN) => Ok(Cow::Borrowed(body)),
        Some(&GLUE_ZLIB) => {
            let mut whole = Vec::new();
            let mut limited = ZlibDecoder::new(body).take(DECOMPRESSED_MAX + 1);
            match limited.read_to_end(&mut whole) {
                Ok(_) if whole.len() as u64 <= DECOMPRESSED_MAX => Ok(Cow::Owned(whole)),
                Ok(_) => Err((
                    sqlstate::LIMIT_EXCEEDED,
                    format!(
                        "the message is larger than {} MiB once it is decompressed",
                        DECOMPRESSED_MAX >> 20
                    ),
                )),
                Err(error) => Err(malformed(&format!(
                    "the message cannot be decompressed: {error}"
                ))),
            }
        }
        _ => Err(malformed(
            "the message is compressed in a way that AWS Glue does not have",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_message_begins_with_the_id_of_its_schema() {
        assert_eq!(confluent(&[0, 0, 0, 1, 2, 9]).unwrap(), (258, &[9][..]));
        assert_eq!(
            confluent(b"{}").unwrap_err().1,
            "the message does not begin with the id of its schema"
        );
        assert!(confluent(&[3; 18]).unwrap_err().1.ends_with("its schema"));
        let mut message = [7; 20];
        (message[0], message[1]) = (3, 5);
        assert!(confluent(&message).unwrap_err().1.contains("Glue"));
    }

    #[test]
    fn glue_compresses_or_does_not() {
        let mut plain = vec![3, 0];
        plain.extend([9; 16]);
        plain.extend(b"abc");
        assert_eq!(Header::Glue.strip(&plain).unwrap().as_ref(), b"abc");
        let mut compressed = plain[..18].to_vec();
        compressed[1] = 5;
        let mut encoder =
            flate2::write::ZlibEncoder::new(compressed, flate2::Compression::default());
        encoder.write_all(b"abcabc").unwrap();
        let compressed = encoder.finish().unwrap();
        assert_eq!(Header::Glue.strip(&compressed).unwrap().as_ref(), b"abcabc");
        let reason = |message: &[u8]| Header::Glue.strip(message).unwrap_err().1;
        let broken = &compressed[..compressed.len() - 6];
        assert!(reason(broken).starts_with("the message cannot be decompressed"));
        assert!(reason(&plain[..17]).ends_with("the header of AWS Glue"));
        plain[1] = 4;
        assert!(reason(&plain).ends_with("AWS Glue does not have"));
    }
}
