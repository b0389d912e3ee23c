//! The packets before a connection is a session. They have no type byte, only a length and a code.

use bytes::{Buf, BytesMut};

use super::{Body, ProtocolError};

/// PostgreSQL's own limit; nothing unauthenticated may make us hold more.
const STARTUP_BYTES_MAX: usize = 10_000;
const CANCEL_CODE: i32 = 80_877_102;
const TLS_CODE: i32 = 80_877_103;
const GSS_CODE: i32 = 80_877_104;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup {
    Tls,
    Gss,
    Cancel {
        process_id: i32,
        secret: i32,
    },
    Session {
        /// The minor version asked for, of major version 3.
        minor_version: u16,
        /// `user`, `database`, run-time settings and `_pq_.` options, in the order sent.
        parameters: Vec<(String, String)>,
    },
}

impl Startup {
    /// Takes one packet off the front of `inbound`, or nothing while it is incomplete.
    pub fn take(inbound: &mut BytesMut) -> Result<Option<Self>, ProtocolError> {
        if inbound.len() < 4 {
            return Ok(None);
        }
        let length = i32::from_be_bytes([inbound[0], inbound[1], inbound[2], inbound[3]]);
        let length = match usize::try_from(length) {
            Ok(length) if (8..=STARTUP_BYTES_MAX).contains(&length) => length,
            _ => {
                return Err(ProtocolError::Lost(
                    "invalid length of startup packet".to_owned(),
                ));
            }
        };
        if inbound.len() < length {
            return Ok(None);
        }
        inbound.advance(4);
        let mut body = Body {
            bytes: inbound.split_to(length - 4).freeze(),
        };
        Self::decode(&mut body)
            .map(Some)
            .map_err(|error| ProtocolError::Lost(error.to_string()))
    }

    fn decode(body: &mut Body) -> Result<Self, ProtocolError> {
        let code = body.int32()?;
        match code {
            TLS_CODE => return Ok(Self::Tls),
            GSS_CODE => return Ok(Self::Gss),
            CANCEL_CODE => {
                let (process_id, secret) = (body.int32()?, body.int32()?);
                return Ok(Self::Cancel { process_id, secret });
            }
            _ => {}
        }
        let (major, minor_version) = ((code >> 16) as u16, code as u16);
        if major != 3 {
            return Err(ProtocolError::Lost(format!(
                "unsupported frontend protocol {major}.{minor_version}: server supports 3.0 to 3.0"
            )));
        }
        let mut parameters = Vec::new();
        loop {
            let name = body.text()?;
            if name.is_empty() {
                break;
            }
            parameters.push((name, body.text()?));
        }
        if body.end().is_err() {
            return Err(ProtocolError::Lost(
                "invalid startup packet layout: expected terminator as last byte".to_owned(),
            ));
        }
        Ok(Self::Session {
            minor_version,
            parameters,
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(bytes: &[u8], expected: Expect) {
        expected.assert_eq(&format!("{:?}", Startup::take(&mut BytesMut::from(bytes))));
    }

    #[test]
    fn a_session_names_its_user() {
        check(
            b"\0\0\0\x13\0\x03\0\x02user\0\x61nn\0\0\0",
            expect![[
                r#"Err(Lost("invalid startup packet layout: expected terminator as last byte"))"#
            ]],
        );
        check(
            b"\0\0\0\x11\0\x03\0\x02user\0\x61nn\0",
            expect![[r#"Err(Lost("invalid string in message"))"#]],
        );
        check(
            b"\0\0\0\x12\0\x03\0\x02user\0\x61nn\0\0",
            expect![[r#"Ok(Some(Session { minor_version: 2, parameters: [("user", "ann")] }))"#]],
        );
    }

    #[test]
    fn other_packets() {
        check(b"\0\0\0\x08\x04\xd2\x16\x2f", expect!["Ok(Some(Tls))"]);
        check(b"\0\0\0\x08\x04\xd2\x16\x30", expect!["Ok(Some(Gss))"]);
        check(
            b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02",
            expect!["Ok(Some(Cancel { process_id: 1, secret: 2 }))"],
        );
        check(
            b"GET / HTTP/1.1\r\n",
            expect![[r#"Err(Lost("invalid length of startup packet"))"#]],
        );
    }
}
