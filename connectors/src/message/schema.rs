//! Messages that a schema describes: which schema it is, and what a language of schemas has to be able to do.
//!
//! ```text
//! message ─ header ─▶ id ─ registry ─▶ text ─ SchemaLanguage ─▶ RecordPlan, made once
//!                                                                  │ read: values of a row
//!                                                                  └ json: the record as text
//! ```
//!
//! A schema is in the connection's registry, where the message says by its id which it is, or it is in the statement and is
//! that of all messages. It never changes once it is known, so what is made of it is kept. What is wrong with a message or with
//! its schema is the message's fault; only a registry that cannot be asked stops the reader.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::Field;

use super::MessageContext;
use super::envelope::Fault;
use super::header::{self, Header};
use super::schema_registry::{ReferencedSchema, SchemaRegistry};
use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::options::Options;
use crate::value::column::Typed;

/// Schemas that are kept at most.
const KNOWN_MAX: usize = 4096;

/// Bytes of JSON that one value may become.
const JSON_MAX: usize = 64 << 20;

/// How long an id is taken for unknown that the registry did not know.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

/// A language that schemas are written in. No I/O.
pub(super) trait SchemaLanguage: Send + Sync {
    /// What registries call it.
    fn kind(&self) -> &'static str;

    /// Whether a schema has several records, of which the option `message` names one.
    fn has_names(&self) -> bool;

    /// Parts from a message what stands between the id of its schema and its body: which of the schema's records it is.
    fn split_place<'m>(&self, message: &'m [u8]) -> Result<(Vec<usize>, &'m [u8]), Fault>;

    /// Understands a schema, or tells why it cannot be understood.
    fn compile(
        &self,
        text: &str,
        references: &[ReferencedSchema],
        record: RecordName<'_>,
    ) -> Result<Arc<dyn RecordPlan>, String>;
}

/// Which record of a schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum RecordName<'n> {
    /// By its place in the file and in the records around it; without any it is the first.
    Place(&'n [usize]),
    Name(&'n str),
    /// There is but one.
    Only,
}

/// The names of a record's fields.
pub(super) type FieldNames = Arc<[Arc<str>]>;

/// A record of a schema, ready to read messages.
pub(super) trait RecordPlan: Send + Sync {
    /// The columns of its fields, or of those of the record in its field `within`. None when it is no record.
    fn columns(&self, within: Option<&str>) -> Vec<Field>;

    /// The values of a body, or what is wrong with it. `fields` is empty before. The names of the fields come back, one for
    /// each value, and the same list for all bodies of the same record.
    fn read<'m>(
        &'m self,
        body: &'m [u8],
        fields: &mut RecordFields<'m>,
    ) -> Result<&'m FieldNames, String>;

    /// The body as JSON, or what is wrong with it.
    fn json(&self, body: &[u8]) -> Result<String, String>;
}

/// The values of one record.
#[derive(Debug, Default)]
pub(super) struct RecordFields<'m> {
    pub values: Vec<FieldValue<'m>>,
    /// What had to be written out.
    pub written: String,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FieldValue<'m> {
    /// The message says so.
    Said(Typed<'m>),
    /// What the schema says of fields that a message leaves out.
    Default(Typed<'m>),
    /// Nested, as JSON in [`RecordFields::written`].
    Json(Range<usize>),
    /// A text in [`RecordFields::written`].
    Text(Range<usize>),
}

/// Refuses JSON that is much larger than a message can be: few bytes may stand for many fields.
pub(super) fn limit(json: &str) -> Result<(), String> {
    match json.len() <= JSON_MAX {
        true => Ok(()),
        false => Err(format!("as JSON it is larger than {} MiB", JSON_MAX >> 20)),
    }
}

/// A message whose schema was found.
pub(super) struct Resolved<'m> {
    pub plan: Arc<dyn RecordPlan>,
    pub body: Cow<'m, [u8]>,
    id: Option<u32>,
}

impl Resolved<'_> {
    /// Why the message is none.
    pub fn fault(&self, reason: &str) -> Fault {
        let reason = match self.id {
            Some(id) => format!("the message is not of schema {id}: {reason}"),
            None if self.body.first() == Some(&0) => format!(
                "the message is not of the schema: {reason}; it may begin with the id of a schema in a registry"
            ),
            None => format!("the message is not of the schema: {reason}"),
        };
        (sqlstate::BAD_FILE_FORMAT, reason)
    }
}

/// Where the schemas of messages are.
pub(super) struct Schemas {
    language: &'static dyn SchemaLanguage,
    origin: Origin,
}

enum Origin {
    Registry {
        registry: Arc<SchemaRegistry>,
        known: Mutex<HashMap<(u32, Vec<usize>), Known>>,
    },
    Statement {
        plan: Arc<dyn RecordPlan>,
        header: Header,
    },
}

#[derive(Clone)]
struct Known {
    plan: Result<Arc<dyn RecordPlan>, Fault>,
    until: Option<Instant>,
}

impl Schemas {
    /// Options `schema`, and with it `header` (`none` or `glue`) and `message`, where the language has names.
    pub fn take(
        options: &mut Options,
        context: &MessageContext<'_>,
        language: &'static dyn SchemaLanguage,
    ) -> Result<Self, ConnectorError> {
        let text = options.take_text("schema")?;
        let name = match language.has_names() {
            true => options.take_text("message")?,
            false => None,
        };
        let header = Header::take(options, &["none", "glue"])?;
        let kind = language.kind();
        let Some(text) = text else {
            if name.is_some() || header != Header::None {
                return Err(ConnectorError::option(
                    "options \"message\" and \"header\" go with \"schema\"",
                )
                .hint(
                    "without it messages have the id of their schema in the connection's registry",
                ));
            }
            let registry = context.registry.clone().ok_or_else(|| {
                ConnectorError::option(format!(
                    "messages of {kind} need a schema registry, or the option \"schema\""
                ))
                .hint("ALTER CONNECTION name SET (schema_registry = 'https://...'), or schema = '...' for messages without the id of one")
            })?;
            return Ok(Self {
                language,
                origin: Origin::Registry {
                    registry,
                    known: Mutex::default(),
                },
            });
        };
        let record = match &name {
            Some(name) => RecordName::Name(name),
            None => RecordName::Only,
        };
        let plan = language.compile(&text, &[], record).map_err(|reason| {
            ConnectorError::option(format!("option \"schema\" cannot be understood: {reason}"))
        })?;
        Ok(Self {
            language,
            origin: Origin::Statement { plan, header },
        })
    }

    /// Whether messages tell their schemas.
    pub fn are_told(&self) -> bool {
        matches!(self.origin, Origin::Registry { .. })
    }

    /// The schema of a message. The outer error is not the message's fault. Waits for the registry: for threads that may.
    pub fn resolve<'m>(
        &self,
        message: &'m [u8],
    ) -> Result<Result<Resolved<'m>, Fault>, FormatError> {
        let (registry, known) = match &self.origin {
            Origin::Registry { registry, known } => (registry, known),
            Origin::Statement { plan, header } => {
                return Ok(header.strip(message).map(|body| Resolved {
                    plan: Arc::clone(plan),
                    body,
                    id: None,
                }));
            }
        };
        let split = header::confluent(message).and_then(|(id, rest)| {
            let (place, body) = self.language.split_place(rest)?;
            Ok((id, place, body))
        });
        let (id, place, body) = match split {
            Ok(split) => split,
            Err(fault) => return Ok(Err(fault)),
        };
        let key = (id, place);
        let found = {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&key).cloned()
        };
        let found = found.filter(|found| found.until.is_none_or(|until| Instant::now() < until));
        let found = match found {
            Some(found) => found,
            None => {
                let found = self.look_up(registry, id, &key.1)?;
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() >= KNOWN_MAX {
                    known.clear();
                }
                known.insert(key, found.clone());
                found
            }
        };
        Ok(found.plan.map(|plan| Resolved {
            plan,
            body: Cow::Borrowed(body),
            id: Some(id),
        }))
    }

    fn look_up(
        &self,
        registry: &SchemaRegistry,
        id: u32,
        place: &[usize],
    ) -> Result<Known, FormatError> {
        let Some(registered) = registry.schema(id)? else {
            let reason = format!("schema {id} is not in the registry");
            return Ok(Known {
                plan: Err((sqlstate::UNDEFINED_OBJECT, reason)),
                until: Some(Instant::now() + UNKNOWN_FOR),
            });
        };
        let kind = self.language.kind();
        let plan = if registered.kind == kind {
            let references = &registered.references;
            let place = RecordName::Place(place);
            self.language
                .compile(&registered.text, references, place)
                .map_err(|reason| format!("schema {id} cannot be understood: {reason}"))
        } else {
            Err(format!(
                "schema {id} is of {}, not of {kind}",
                registered.kind
            ))
        };
        Ok(Known {
            plan: plan.map_err(|reason| (sqlstate::BAD_FILE_FORMAT, reason)),
            until: None,
        })
    }
}
