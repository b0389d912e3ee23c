//! PostgreSQL's messages, version 3, as bytes: what clients send and what they are answered.
//!
//! Nothing here knows a socket, a session or a row. Clients are not trusted: a decoder never reads
//! past the end of its message, never allocates by a length it was only told, and answers a broken
//! message with a [`ProtocolError`]. (The decoders of the crate `pgwire` panic on a truncated Bind
//! and read on into the message behind it, which is why this is our own.)
//!
//! <https://www.postgresql.org/docs/15/protocol-message-formats.html>

pub mod backend;
pub mod frontend;
pub mod startup;

/// An error or a notice in the parts the protocol has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// `ERROR`, `FATAL`, `NOTICE`, `WARNING`, ...
    pub severity: &'static str,
    pub state: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// In characters of the statement's text, from 1.
    pub position: Option<usize>,
}

impl Report {
    pub fn error(state: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: "ERROR",
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
        }
    }

    pub fn fatal(state: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: "FATAL",
            ..Self::error(state, message)
        }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A message that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The stream of messages can no longer be followed: the connection has to end.
    #[error("{0}")]
    Lost(String),
    /// This message is broken; where the next one begins is known.
    #[error("{message}")]
    Malformed {
        state: &'static str,
        message: String,
        /// Whether the message was one of the extended protocol, after which everything up to the
        /// next Sync is left out.
        extended: bool,
    },
}

impl ProtocolError {
    fn invalid(message: impl Into<String>) -> Self {
        Self::Malformed {
            state: "08P01",
            message: message.into(),
            extended: false,
        }
    }
}

/// Takes the parts of one message's body from its front.
struct Body {
    bytes: bytes::Bytes,
}

impl Body {
    fn take(&mut self, count: usize) -> Result<bytes::Bytes, ProtocolError> {
        if self.bytes.len() < count {
            return Err(ProtocolError::invalid("insufficient data left in message"));
        }
        Ok(self.bytes.split_to(count))
    }

    fn int16(&mut self) -> Result<i16, ProtocolError> {
        let bytes = self.take(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A count of things: PostgreSQL reads it as unsigned.
    fn count(&mut self) -> Result<usize, ProtocolError> {
        Ok(usize::from(self.int16()? as u16))
    }

    fn int32(&mut self) -> Result<i32, ProtocolError> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn byte(&mut self) -> Result<u8, ProtocolError> {
        Ok(self.take(1)?[0])
    }

    /// Text up to a zero byte.
    fn text(&mut self) -> Result<String, ProtocolError> {
        let Some(end) = self.bytes.iter().position(|&byte| byte == 0) else {
            return Err(ProtocolError::invalid("invalid string in message"));
        };
        let text = self.take(end + 1)?;
        text_from(&text[..end])
    }

    fn rest(&mut self) -> bytes::Bytes {
        std::mem::take(&mut self.bytes)
    }

    fn end(&self) -> Result<(), ProtocolError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(ProtocolError::invalid("invalid message format"))
    }
}

/// The bytes as text, or PostgreSQL's complaint about the first that is not.
pub fn text_from(bytes: &[u8]) -> Result<String, ProtocolError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let from = error.valid_up_to();
            let length = error.error_len().unwrap_or(bytes.len() - from).max(1);
            let shown: Vec<String> = bytes[from..]
                .iter()
                .take(length)
                .map(|byte| format!("0x{byte:02x}"))
                .collect();
            Err(ProtocolError::Malformed {
                state: "22021",
                message: format!(
                    "invalid byte sequence for encoding \"UTF8\": {}",
                    shown.join(" ")
                ),
                extended: false,
            })
        }
    }
}
