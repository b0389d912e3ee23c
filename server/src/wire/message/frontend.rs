//! What a client sends after it has been let in.

use bytes::{Buf, Bytes, BytesMut};

use super::{Body, ProtocolError, text_from};

/// The longest message accepted. PostgreSQL allows 1 GiB; a statement or a chunk of COPY that long
/// would have to be held whole.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// The longest message of a client that has not proved who it is.
pub const STRANGER_MESSAGE_BYTES_MAX: usize = SHORT_MESSAGE_BYTES_MAX;
/// The longest message of those that have no reason to be long.
const SHORT_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What `Describe` and `Close` name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frontend {
    Query(String),
    Parse {
        statement: String,
        query: String,
        /// OIDs; 0 leaves the type to the server.
        parameter_types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target, String),
    /// `rows_max` 0 is all rows.
    Execute {
        portal: String,
        rows_max: usize,
    },
    Close(Target, String),
    Flush,
    Sync,
    Terminate,
    CopyData(Bytes),
    CopyDone,
    CopyFail(String),
    /// Any of the answers to a request for authentication.
    Password(Bytes),
    FunctionCall,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub portal: String,
    pub statement: String,
    /// None, one for all, or one each; 0 is text, 1 is binary.
    pub parameter_formats: Vec<i16>,
    pub parameters: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

impl Frontend {
    /// Takes one whole message off the front of `inbound`, or nothing while it is incomplete.
    ///
    /// A [`ProtocolError::Malformed`] message has been taken off all the same.
    pub fn take(inbound: &mut BytesMut, bytes_max: usize) -> Result<Option<Self>, ProtocolError> {
        let Some(&kind) = inbound.first() else {
            return Ok(None);
        };
        let long = match kind {
            b'Q' | b'P' | b'B' | b'd' | b'F' => true,
            b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' | b'p' => false,
            _ => {
                return Err(ProtocolError::Lost(format!(
                    "invalid frontend message type {kind}"
                )));
            }
        };
        if inbound.len() < 5 {
            return Ok(None);
        }
        let length = i32::from_be_bytes([inbound[1], inbound[2], inbound[3], inbound[4]]);
        let bytes_max = if long {
            bytes_max
        } else {
            SHORT_MESSAGE_BYTES_MAX
        };
        let length = match usize::try_from(length) {
            Ok(length) if (4..=bytes_max).contains(&length) => length,
            _ => return Err(ProtocolError::Lost("invalid message length".to_owned())),
        };
        if inbound.len() < 1 + length {
            return Ok(None);
        }
        inbound.advance(5);
        let mut body = Body {
            bytes: inbound.split_to(length - 4).freeze(),
        };
        let decoded = Self::decode(kind, &mut body).and_then(|message| {
            body.end()?;
            Ok(Some(message))
        });
        decoded.map_err(|error| match error {
            ProtocolError::Malformed { state, message, .. } => ProtocolError::Malformed {
                state,
                message,
                extended: matches!(kind, b'P' | b'B' | b'D' | b'E' | b'C' | b'H'),
            },
            lost => lost,
        })
    }

    fn decode(kind: u8, body: &mut Body) -> Result<Self, ProtocolError> {
        Ok(match kind {
            b'Q' => Self::Query(body.text()?),
            b'P' => {
                let statement = body.text()?;
                let query = body.text()?;
                let count = body.count()?;
                let mut parameter_types = Vec::new();
                for _ in 0..count {
                    parameter_types.push(body.int32()? as u32);
                }
                Self::Parse {
                    statement,
                    query,
                    parameter_types,
                }
            }
            b'B' => Self::Bind(Bind::decode(body)?),
            b'D' => {
                let (target, name) = decode_target(body, "DESCRIBE")?;
                Self::Describe(target, name)
            }
            b'C' => {
                let (target, name) = decode_target(body, "CLOSE")?;
                Self::Close(target, name)
            }
            b'E' => Self::Execute {
                portal: body.text()?,
                rows_max: usize::try_from(body.int32()?).unwrap_or(0),
            },
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'X' => {
                body.rest();
                Self::Terminate
            }
            b'd' => Self::CopyData(body.rest()),
            b'c' => Self::CopyDone,
            b'f' => Self::CopyFail(body.text()?),
            b'p' => Self::Password(body.rest()),
            _ => {
                body.rest();
                Self::FunctionCall
            }
        })
    }
}

impl Bind {
    fn decode(body: &mut Body) -> Result<Self, ProtocolError> {
        let portal = body.text()?;
        let statement = body.text()?;
        let parameter_formats = decode_formats(body)?;
        let count = body.count()?;
        if parameter_formats.len() > 1 && parameter_formats.len() != count {
            return Err(ProtocolError::invalid(format!(
                "bind message has {} parameter formats but {count} parameters",
                parameter_formats.len()
            )));
        }
        let mut parameters = Vec::new();
        for _ in 0..count {
            let length = body.int32()?;
            parameters.push(match usize::try_from(length) {
                Ok(length) => Some(body.take(length)?),
                Err(_) if length == -1 => None,
                Err(_) => return Err(ProtocolError::invalid("invalid message format")),
            });
        }
        let result_formats = decode_formats(body)?;
        Ok(Self {
            portal,
            statement,
            parameter_formats,
            parameters,
            result_formats,
        })
    }
}

/// What a list of format codes says of column or parameter `index`.
pub fn is_binary(formats: &[i16], index: usize) -> bool {
    match formats {
        [] => false,
        [all] => *all == 1,
        each => each.get(index) == Some(&1),
    }
}

fn decode_formats(body: &mut Body) -> Result<Vec<i16>, ProtocolError> {
    let count = body.count()?;
    let mut formats = Vec::new();
    for _ in 0..count {
        let format = body.int16()?;
        if !(0..=1).contains(&format) {
            return Err(ProtocolError::Malformed {
                state: "22023",
                message: format!("unsupported format code: {format}"),
                extended: true,
            });
        }
        formats.push(format);
    }
    Ok(formats)
}

fn decode_target(body: &mut Body, verb: &str) -> Result<(Target, String), ProtocolError> {
    let target = match body.byte()? {
        b'S' => Target::Statement,
        b'P' => Target::Portal,
        other => {
            return Err(ProtocolError::invalid(format!(
                "invalid {verb} message subtype {other}"
            )));
        }
    };
    Ok((target, body.text()?))
}

/// `SASLInitialResponse`: the mechanism and its first message.
pub fn decode_sasl_initial(bytes: Bytes) -> Result<(String, Bytes), ProtocolError> {
    let mut body = Body { bytes };
    let mechanism = body.text()?;
    let response = match usize::try_from(body.int32()?) {
        Ok(length) => body.take(length)?,
        Err(_) => Bytes::new(),
    };
    body.end()?;
    Ok((mechanism, response))
}

/// `SASLResponse`: text without a frame of its own.
pub fn decode_sasl_response(bytes: &[u8]) -> Result<String, ProtocolError> {
    text_from(bytes)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(bytes: &[u8], expected: Expect) {
        let mut inbound = BytesMut::from(bytes);
        let taken = Frontend::take(&mut inbound, MESSAGE_BYTES_MAX);
        expected.assert_eq(&format!("{taken:?}, {} left", inbound.len()));
    }

    #[test]
    fn an_incomplete_message_is_waited_for() {
        check(b"Q\0\0\0\x0dSELECT", expect!["Ok(None), 11 left"]);
    }

    #[test]
    fn a_query_ends_at_its_own_length() {
        check(
            b"Q\0\0\0\x0dSELECT 1\0S",
            expect![[r#"Ok(Some(Query("SELECT 1"))), 1 left"#]],
        );
    }

    #[test]
    fn a_bind_never_reads_into_the_message_behind_it() {
        check(
            b"B\0\0\0\x0c\0\0\0\0\0\x01\0\0\0\0\0S\0\0\0\x04",
            expect![[
                r#"Err(Malformed { state: "08P01", message: "insufficient data left in message", extended: true }), 8 left"#
            ]],
        );
    }

    #[test]
    fn a_length_out_of_range_loses_the_stream() {
        check(
            b"Q\xff\xff\xff\xff....",
            expect![[r#"Err(Lost("invalid message length")), 9 left"#]],
        );
        check(
            b"Q\0\0\0\x02....",
            expect![[r#"Err(Lost("invalid message length")), 9 left"#]],
        );
        check(
            b"\x16\x03\x01",
            expect![[r#"Err(Lost("invalid frontend message type 22")), 3 left"#]],
        );
    }

    #[test]
    fn text_has_to_be_utf8() {
        check(
            b"Q\0\0\0\x08a\xff\xfe\0",
            expect![[
                r#"Err(Malformed { state: "22021", message: "invalid byte sequence for encoding \"UTF8\": 0xff", extended: false }), 0 left"#
            ]],
        );
    }

    #[test]
    fn a_bind_with_parameters() {
        check(
            b"B\0\0\0\x1ap\0s\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x02ab\0\0",
            expect![[
                r#"Ok(Some(Bind(Bind { portal: "p", statement: "s", parameter_formats: [1], parameters: [None, Some(b"ab")], result_formats: [] }))), 0 left"#
            ]],
        );
    }
}
