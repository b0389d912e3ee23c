//! Every kind of message, by the name written in SQL.

use super::MessageKind;
use crate::error::{ConnectorError, sqlstate};

static KINDS: [&dyn MessageKind; 10] = [
    &super::avro::Avro,
    &super::plain::Bytes,
    &super::json::Canal,
    &super::csv::Csv,
    &super::json::Debezium,
    &super::json::Json,
    &super::json::Maxwell,
    &super::protobuf::Protobuf,
    &super::plain::Text,
    &super::json::Upsert,
];

/// The kind of message called `name`, without regard to case.
pub fn message_format(name: &str) -> Result<&'static dyn MessageKind, ConnectorError> {
    KINDS
        .iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(name))
        .copied()
        .ok_or_else(|| {
            let known: Vec<_> = KINDS.iter().map(|kind| kind.name()).collect();
            ConnectorError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("format \"{name}\" of messages does not exist"),
            )
            .hint(format!("known formats are {}", known.join(", ")))
        })
}
