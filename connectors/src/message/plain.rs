//! `BYTES` and `TEXT`: the payload as it is, in the column `payload`.

use std::sync::Arc;

use arrow::array::{BinaryBuilder, StringBuilder, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{
    DecodedMessages, MessageBlock, MessageContext, MessageFormat, MessageKind, RejectedMessage,
};
use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::format::DecodeSchema;
use crate::options::Options;

/// The name of the column.
pub(super) const PAYLOAD: &str = "payload";

/// Any bytes.
pub struct Bytes;

/// UTF-8. What is none is rejected.
pub struct Text;

impl MessageKind for Bytes {
    fn name(&self) -> &'static str {
        "BYTES"
    }

    fn configure(
        &self,
        _: &mut Options,
        _: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        Ok(Arc::new(PlainFormat {
            data_type: DataType::Binary,
        }))
    }
}

impl MessageKind for Text {
    fn name(&self) -> &'static str {
        "TEXT"
    }

    fn configure(
        &self,
        _: &mut Options,
        _: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        Ok(Arc::new(PlainFormat {
            data_type: DataType::Utf8,
        }))
    }
}

struct PlainFormat {
    data_type: DataType,
}

impl MessageFormat for PlainFormat {
    fn fixed_columns(&self) -> Option<SchemaRef> {
        let field = Field::new(PAYLOAD, self.data_type.clone(), true);
        Some(Arc::new(Schema::new(vec![field])))
    }

    fn infer(&self, _: &MessageBlock) -> Result<Option<SchemaRef>, FormatError> {
        Ok(self.fixed_columns())
    }

    fn decode(
        &self,
        block: &MessageBlock,
        _: &DecodeSchema,
    ) -> Result<DecodedMessages, FormatError> {
        let mut messages = Vec::with_capacity(block.len());
        let mut rejected = Vec::new();
        let payloads = (0..).zip(block.iter());
        let column: arrow::array::ArrayRef = if self.data_type == DataType::Binary {
            let mut builder = BinaryBuilder::with_capacity(block.len(), block.bytes());
            for (number, message) in payloads {
                builder.append_option(message.payload);
                messages.push(number);
            }
            Arc::new(builder.finish())
        } else {
            let mut builder = StringBuilder::with_capacity(block.len(), block.bytes());
            for (number, message) in payloads {
                match message.payload.map(std::str::from_utf8) {
                    None => builder.append_null(),
                    Some(Ok(text)) => builder.append_value(text),
                    Some(Err(error)) => {
                        rejected.push(RejectedMessage {
                            message: number,
                            sqlstate: sqlstate::CHARACTER_NOT_IN_REPERTOIRE.into(),
                            reason: format!(
                                "the payload is not UTF-8: byte {} begins no character",
                                error.valid_up_to()
                            ),
                        });
                        continue;
                    }
                }
                messages.push(number);
            }
            Arc::new(builder.finish())
        };
        let rescued = new_null_array(&DataType::Utf8, messages.len());
        Ok(DecodedMessages {
            columns: vec![column, rescued],
            messages,
            goes: None,
            rejected,
            has_unknown: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::super::block::tests::block_of;
    use super::*;

    #[test]
    fn text_that_is_none_is_rejected_alone() {
        let block = block_of(&[Some(b"a"), Some(b"b\xff"), None, Some("é".as_bytes())]);
        let format = Text
            .configure(&mut Options::none("test"), &MessageContext::default())
            .unwrap();
        let schema = DecodeSchema::new(format.fixed_columns().unwrap());
        let decoded = format.decode(&block, &schema).unwrap();
        assert_eq!(decoded.messages, [0, 2, 3]);
        let texts: Vec<_> = decoded.columns[0].as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("a"), None, Some("é")]);
        assert_eq!(
            decoded.rejected[0].reason,
            "the payload is not UTF-8: byte 1 begins no character"
        );
    }
}
