//! Avro: records after the id of their schema, as Confluent's serializers write them, or by a schema in the statement.
//!
//! - `plan`: a schema, laid out for reading
//! - `read`: a datum, by its plan

mod plan;
mod read;

use std::sync::Arc;

use super::envelope::Fault;
use super::schema::{RecordName, RecordPlan, SchemaLanguage, Schemas};
use super::schema_registry::ReferencedSchema;
use super::typed::TypedFormat;
use super::{MessageContext, MessageFormat, MessageKind};
use crate::error::ConnectorError;
use crate::options::Options;

/// Records of Avro.
pub struct Avro;

impl MessageKind for Avro {
    fn name(&self) -> &'static str {
        "AVRO"
    }

    fn configure(
        &self,
        options: &mut Options,
        context: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        let schemas = Schemas::take(options, context, &AvroLanguage)?;
        TypedFormat::take(options, schemas)
    }
}

/// Schemas of Avro, in JSON.
pub(super) struct AvroLanguage;

impl SchemaLanguage for AvroLanguage {
    fn kind(&self) -> &'static str {
        "AVRO"
    }

    fn has_names(&self) -> bool {
        false
    }

    fn split_place<'m>(&self, message: &'m [u8]) -> Result<(Vec<usize>, &'m [u8]), Fault> {
        Ok((Vec::new(), message))
    }

    fn compile(
        &self,
        text: &str,
        references: &[ReferencedSchema],
        _: RecordName<'_>,
    ) -> Result<Arc<dyn RecordPlan>, String> {
        Ok(Arc::new(plan::AvroPlan::compile(text, references)?))
    }
}
