//! Messages of a broker, turned into Arrow.
//!
//! ```text
//! block of messages -> MessageFormat: infer, decode -> columns of the rows + what was rejected
//! ```
//!
//! How messages come is a transport's affair ([`crate::kafka`]); a format sees their bytes. Each message is one row or is
//! rejected with a reason, by itself: nothing one message holds keeps another from being read. What does not fit the
//! columns is in `_rescued`, as with files.
//!
//! - `json`, `csv`, `plain`: messages that tell their columns by what is in them
//! - `typed`, with `avro` and `protobuf`: those that a `schema` describes, from a `schema_registry` or the statement
//! - `header`: what stands before a message, to tell its schema
//! - `envelope`: messages that say which rows come and go

mod avro;
mod block;
mod csv;
mod envelope;
mod header;
mod json;
mod metadata;
mod plain;
mod protobuf;
mod registry;
mod schema;
mod schema_registry;
mod typed;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

pub use block::{Message, MessageBlock, MessageBlockBuilder, PartitionEnd, fingerprint};
pub use metadata::{IncludedColumn, KeyFormat, Metadata};
pub use registry::message_format;
pub use schema_registry::SchemaRegistry;

use crate::error::{ConnectorError, FormatError};
use crate::format::DecodeSchema;
use crate::options::Options;

/// What a format may need besides its options.
#[derive(Clone, Default)]
pub struct MessageContext<'a> {
    /// The columns by which rows of the target are known, when they are.
    pub key: &'a [String],
    /// Where the connection says that schemas are.
    pub registry: Option<Arc<SchemaRegistry>>,
}

/// A kind of message. Listed once, in [`message_format`].
pub trait MessageKind: Send + Sync {
    /// The name written after `FORMAT`.
    fn name(&self) -> &'static str;
    /// Takes its options out of `options`; the caller rejects whatever is left over. No I/O.
    fn configure(
        &self,
        options: &mut Options,
        context: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError>;
}

/// A format with its options.
pub trait MessageFormat: Send + Sync {
    /// The columns that messages have whatever is in them, if that is so.
    fn fixed_columns(&self) -> Option<SchemaRef> {
        None
    }

    /// Whether messages say which rows come and go, by their keys.
    fn is_keyed(&self) -> bool {
        false
    }

    /// The columns of these messages that have a value in any of them; `None` when there are none.
    fn infer(&self, block: &MessageBlock) -> Result<Option<SchemaRef>, FormatError>;

    /// The rows of these messages. A message without a payload is a row of nulls.
    fn decode(
        &self,
        block: &MessageBlock,
        schema: &DecodeSchema,
    ) -> Result<DecodedMessages, FormatError>;
}

/// Some messages as rows.
pub struct DecodedMessages {
    /// The columns asked for, then `_rescued`.
    pub columns: Vec<ArrayRef>,
    /// For each row the message it is of.
    pub messages: Vec<u32>,
    /// For each row whether it goes, if any does.
    pub goes: Option<Vec<bool>>,
    pub rejected: Vec<RejectedMessage>,
    /// Some message has a value that no column was asked for.
    pub has_unknown: bool,
}

/// A message that is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedMessage {
    pub message: u32,
    pub sqlstate: Cow<'static, str>,
    pub reason: String,
}
