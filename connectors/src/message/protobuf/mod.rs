//! Protobuf: messages after the id of their schema, as Confluent's serializers write them, or by a `.proto` file in the
//! statement.
//!
//! - `compile`: the text of a file, and of those it imports, to descriptors
//! - `plan`: descriptors, laid out for reading
//! - `wire`: the fields of a message's bytes
//! - `read`: a message, by its plan
//!
//! Fields that the schema does not have are passed over: the bytes tell neither their names nor their types, and the schema that
//! a message names has all that its writer knew.

mod compile;
mod plan;
mod read;
mod wire;

use std::sync::Arc;

use super::envelope::Fault;
use super::schema::{RecordName, RecordPlan, SchemaLanguage, Schemas};
use super::schema_registry::ReferencedSchema;
use super::typed::TypedFormat;
use super::{MessageContext, MessageFormat, MessageKind};
use crate::error::{ConnectorError, sqlstate};
use crate::options::Options;

/// Messages of Protobuf.
pub struct Protobuf;

impl MessageKind for Protobuf {
    fn name(&self) -> &'static str {
        "PROTOBUF"
    }

    fn configure(
        &self,
        options: &mut Options,
        context: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        let schemas = Schemas::take(options, context, &ProtobufLanguage)?;
        TypedFormat::take(options, schemas)
    }
}

/// Files of Protobuf.
pub(super) struct ProtobufLanguage;

/// Messages within messages, at most, that the place of one leads through.
const PLACE_DEPTH_MAX: usize = 32;

impl SchemaLanguage for ProtobufLanguage {
    fn kind(&self) -> &'static str {
        "PROTOBUF"
    }

    fn has_names(&self) -> bool {
        true
    }

    /// The number of places, and the places. No places stand for the first message of the file.
    fn split_place<'m>(&self, message: &'m [u8]) -> Result<(Vec<usize>, &'m [u8]), Fault> {
        let mut rest = message;
        let places = places(&mut rest).ok_or_else(|| {
            let reason = "the message does not tell its place behind the id of its schema";
            (sqlstate::BAD_FILE_FORMAT, reason.to_owned())
        })?;
        Ok((places, rest))
    }

    fn compile(
        &self,
        text: &str,
        references: &[ReferencedSchema],
        record: RecordName<'_>,
    ) -> Result<Arc<dyn RecordPlan>, String> {
        let message = compile::message(text, references, record)?;
        Ok(Arc::new(plan::ProtobufPlan::of(&message)))
    }
}

fn places(rest: &mut &[u8]) -> Option<Vec<usize>> {
    let mut number = || {
        let value = wire::varint(rest).ok()?;
        // As signed numbers are written.
        usize::try_from((value >> 1) as i64 ^ -((value & 1) as i64)).ok()
    };
    let count = number().filter(|count| *count <= PLACE_DEPTH_MAX)?;
    let places: Vec<usize> = (0..count).map(|_| number()).collect::<Option<_>>()?;
    // Both ways to write it are the same place.
    Some(if places == [0] { Vec::new() } else { places })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_its_place_in_the_file() {
        let of = |message: &[u8]| {
            let (places, rest) = ProtobufLanguage.split_place(message).ok()?;
            Some((places, rest.to_vec()))
        };
        assert_eq!(of(&[0, 9]), Some((vec![], vec![9])));
        assert_eq!(of(&[2, 0, 9]), Some((vec![], vec![9])));
        assert_eq!(of(&[4, 2, 6]), Some((vec![1, 3], vec![])));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[4, 2]), None);
        assert_eq!(of(&[1, 2]), None);
        assert_eq!(of(&[0xfe, 0xff, 0xff, 0xff, 0x0f]), None);
    }
}
