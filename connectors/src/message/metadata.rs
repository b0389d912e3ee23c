//! What a message has besides the columns of its payload, as columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, StringBuilder, TimestampMicrosecondArray,
};

use boathouse_catalog::types::ColumnType;
use serde_json::Value;

use super::block::hexadecimal;
use super::{Message, MessageBlock};

/// What keys are read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyFormat {
    /// Text; a key that is none is written `\x...`, as `bytea` is.
    #[default]
    Text,
    Bytes,
}

/// A column that rows have of their message, besides those of its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncludedColumn {
    Of(Metadata),
    /// The value of one header, as text; the last where the header is there several times, NULL where it is not.
    Header {
        header: String,
        column: String,
    },
}

impl IncludedColumn {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Of(metadata) => metadata.column(),
            Self::Header { column, .. } => column,
        }
    }

    pub fn column_type(&self, keys: KeyFormat) -> ColumnType {
        match self {
            Self::Of(metadata) => metadata.column_type(keys),
            Self::Header { .. } => ColumnType::Text,
        }
    }

    /// Its values for some messages of a block. `topics` has the topic and the number of each partition.
    pub fn values(
        &self,
        block: &MessageBlock,
        messages: &[u32],
        topics: &[(Arc<str>, i32)],
        keys: KeyFormat,
    ) -> ArrayRef {
        let header = match self {
            Self::Of(metadata) => return metadata.values(block, messages, topics, keys),
            Self::Header { header, .. } => header,
        };
        let mut builder = StringBuilder::new();
        for message in messages {
            let message = block.get(usize::try_from(*message).unwrap_or(usize::MAX));
            let headers = message.and_then(|message| message.headers);
            builder.append_option(headers.and_then(|headers| last_value(headers, header)));
        }
        Arc::new(builder.finish())
    }
}

/// The last value of a header, of a message's headers as [`super::MessageBlockBuilder::header`] writes them.
fn last_value(headers: &str, header: &str) -> Option<String> {
    let headers: serde_json::Map<String, Value> = serde_json::from_str(headers).ok()?;
    let value = match headers.get(header)? {
        Value::Array(values) => values.last()?,
        value => value,
    };
    value.as_str().map(str::to_owned)
}

/// A thing messages have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    Key,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
    Payload,
}

impl Metadata {
    pub const ALL: [Self; 7] = [
        Self::Key,
        Self::Topic,
        Self::Partition,
        Self::Offset,
        Self::Timestamp,
        Self::Headers,
        Self::Payload,
    ];

    /// The word in `INCLUDE (...)`.
    pub fn word(self) -> &'static str {
        &self.column()[1..]
    }

    /// The name of its column.
    pub fn column(self) -> &'static str {
        match self {
            Self::Key => "_key",
            Self::Topic => "_topic",
            Self::Partition => "_partition",
            Self::Offset => "_offset",
            Self::Timestamp => "_timestamp",
            Self::Headers => "_headers",
            Self::Payload => "_payload",
        }
    }

    pub fn column_type(self, keys: KeyFormat) -> ColumnType {
        match self {
            Self::Key if keys == KeyFormat::Text => ColumnType::Text,
            Self::Key | Self::Payload => ColumnType::Bytea,
            Self::Topic => ColumnType::Text,
            Self::Partition => ColumnType::Integer,
            Self::Offset => ColumnType::BigInt,
            Self::Timestamp => ColumnType::TimestampTz,
            Self::Headers => ColumnType::Jsonb,
        }
    }

    /// Its values for some messages of a block. `topics` has the topic and the number of each partition.
    pub fn values(
        self,
        block: &MessageBlock,
        messages: &[u32],
        topics: &[(Arc<str>, i32)],
        keys: KeyFormat,
    ) -> ArrayRef {
        let all = || {
            messages
                .iter()
                .map(|message| block.get(usize::try_from(*message).unwrap_or(usize::MAX)))
        };
        let place = |message: Message<'_>| topics.get(message.partition as usize);
        match self {
            Self::Key if keys == KeyFormat::Text => {
                let mut builder = StringBuilder::with_capacity(messages.len(), 16 * messages.len());
                for message in all() {
                    match message.and_then(|message| message.key) {
                        None => builder.append_null(),
                        Some(key) => match std::str::from_utf8(key) {
                            Ok(text) => builder.append_value(text),
                            Err(_) => builder.append_value(hexadecimal(key)),
                        },
                    }
                }
                Arc::new(builder.finish())
            }
            Self::Key | Self::Payload => {
                let mut builder = BinaryBuilder::with_capacity(messages.len(), 16 * messages.len());
                for message in all() {
                    builder.append_option(message.and_then(|message| match self {
                        Self::Key => message.key,
                        _ => message.payload,
                    }));
                }
                Arc::new(builder.finish())
            }
            Self::Topic => {
                let mut builder = StringBuilder::with_capacity(messages.len(), 16 * messages.len());
                for message in all() {
                    builder.append_option(message.and_then(place).map(|(topic, _)| topic.as_ref()));
                }
                Arc::new(builder.finish())
            }
            Self::Partition => Arc::new(
                all()
                    .map(|message| message.and_then(place).map(|(_, partition)| *partition))
                    .collect::<Int32Array>(),
            ),
            Self::Offset => Arc::new(
                all()
                    .map(|message| message.map(|message| message.offset))
                    .collect::<Int64Array>(),
            ),
            Self::Timestamp => {
                let values: TimestampMicrosecondArray = all()
                    .map(|message| {
                        let milliseconds = message.map(|message| message.timestamp)?;
                        (milliseconds >= 0).then(|| milliseconds.saturating_mul(1000))
                    })
                    .collect();
                Arc::new(values.with_timezone("UTC"))
            }
            Self::Headers => {
                let mut builder = StringBuilder::new();
                for message in all() {
                    builder.append_option(message.and_then(|message| message.headers));
                }
                Arc::new(builder.finish())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::super::MessageBlockBuilder;
    use super::*;

    #[test]
    fn a_header_is_its_last_value() {
        let mut builder = MessageBlockBuilder::default();
        let all: [&[(&str, Option<&[u8]>)]; 6] = [
            &[("trace", Some(b"a")), ("other", Some(b"b"))],
            &[("trace", Some(b"a")), ("trace", Some(b"c"))],
            &[("trace", Some(&[0xff, 0x00]))],
            &[("trace", Some(b"a")), ("trace", None)],
            &[("other", Some(b"[\"trace\"]"))],
            &[],
        ];
        for (offset, headers) in (0..).zip(all) {
            builder.begin(0, offset, 0);
            for (name, value) in headers {
                builder.header(name, *value);
            }
            builder.finish_message();
        }
        let trace = IncludedColumn::Header {
            header: "trace".to_owned(),
            column: "t".to_owned(),
        };
        let block = builder.finish();
        let values = trace.values(&block, &[0, 1, 2, 3, 4, 5], &[], KeyFormat::Text);
        let values: Vec<Option<&str>> = values.as_string::<i32>().iter().collect();
        let expected = [Some("a"), Some("c"), Some("\\xff00"), None, None, None];
        assert_eq!(values, expected);
    }
}
