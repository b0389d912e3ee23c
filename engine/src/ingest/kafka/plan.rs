//! What the statement of a pipeline FROM KAFKA asks for, checked and resolved.
//!
//! Options of `WITH (...)`:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `start` | `'earliest'` | where the first run begins: `'earliest'`, `'latest'`, or the messages from a time on |
//! | `start_offsets` | | offsets where the first run begins, `'topic:partition=offset, ...'` |
//! | `target_lag` | `'1 s'` | how long messages may wait to be committed together |
//! | `batch_rows` | 1000000 | messages committed together at most |
//! | `batch_bytes` | 268435456 | bytes of messages committed together at most |
//! | `rate_rows` | | messages read in a second at most, on average |
//! | `rate_bytes` | | bytes of messages read in a second at most, on average |
//! | `lost_offsets` | `'stop'` | what to do when messages are gone that were not read: `'stop'`, or `'skip'` and say so |
//! | `rejected_max` | | messages of one commit that may be set aside; the pipeline stops when there are more |
//! | `dead_letter_topic` | | a topic that messages which are set aside are sent to as well |
//! | `discover` | `'10 s'` | how often topics and partitions are looked for that are new |
//! | `group` | `'boathouse-<name>'` | the consumer group that offsets are reported to, for other tools |
//! | `servers_max` | | servers that share the partitions at most; 1 leaves them to one |
//! | `tables_max` | 500 | tables that `INTO SCHEMA ... BY` fills at most |
//! | `key` | `'text'` | what keys are read as: `'text'` or `'bytes'` |

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Field;
use boathouse_catalog::definitions::{ObjectKind, ObjectRef, PipelineDefinition, Privilege};
use boathouse_connectors::format::RESCUED;
use boathouse_connectors::kafka::{KafkaCluster, TopicPartition, TopicPatterns, check_topic_name};
use boathouse_connectors::message::{
    IncludedColumn, KeyFormat, MessageContext, MessageFormat, Metadata as Included, message_format,
};
use boathouse_connectors::{OptionValue as ConnectorOption, Options};
use boathouse_sql::statement::{
    CreatePipeline, FormatClause, IncludedField, Into as Target, OnError, PipelineSource,
};

use super::super::PlannedPipeline;
use super::super::check::Checks;
use super::super::context::{OpenedConnection, open_connection, query_context};
use super::super::plan::{connector_option, statement_of};
use super::super::row_plan::{Metadata, RowPlan};
use super::super::schema::SourceSchema;
use super::super::transform::Transform;
use super::fan::check_fan;
use super::rate::Rate;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::query::QueryContext;

/// Tables that a pipeline fills at most, unless it says otherwise: a column that is no type of messages makes no more.
const TABLES_MAX: usize = 500;

/// A pipeline from Kafka, ready to run.
pub(super) struct TopicPlan {
    pub rows: RowPlan,
    /// What the connection was when the cluster was resolved.
    connection: Option<OpenedConnection>,
    pub cluster: Arc<KafkaCluster>,
    pub topics: TopicPatterns,
    pub format: Arc<dyn MessageFormat>,
    /// What is included, in the order of its columns.
    pub included: Vec<IncludedColumn>,
    pub stops_at_errors: bool,
    /// Rows go to tables by a column.
    pub fan: Option<FanPlan>,
    pub options: TopicOptions,
}

/// The knobs of `WITH (...)`.
#[derive(Debug, Clone)]
pub(in crate::ingest) struct TopicOptions {
    pub start: Start,
    pub start_offsets: BTreeMap<TopicPartition, i64>,
    pub target_lag: Duration,
    pub batch_rows: usize,
    pub batch_bytes: usize,
    pub(super) rate: Rate,
    pub skips_lost: bool,
    pub rejected_max: Option<i64>,
    pub dead_letter_topic: Option<String>,
    pub discover: Duration,
    pub group: String,
    pub servers_max: usize,
    pub keys: KeyFormat,
    pub tables_max: Option<usize>,
}

/// `INTO SCHEMA name BY column`.
#[derive(Debug, Clone)]
pub(super) struct FanPlan {
    /// The column of the query's result that names the table of a row.
    pub by: String,
    pub tables_max: usize,
}

/// Where reading begins that has not begun before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ingest) enum Start {
    Earliest,
    Latest,
    /// Milliseconds since 1970.
    Time(i64),
}

impl TopicPlan {
    /// Resolves a stored pipeline with its owner's rights.
    pub async fn open(
        engine: &Arc<Engine>,
        pipeline: &PipelineDefinition,
    ) -> Result<Self, SqlError> {
        let snapshot = engine.catalog.refresh().await?;
        let context = query_context(engine, snapshot, pipeline.owner)?;
        Self::resolve(context, &statement_of(pipeline)?).await
    }

    async fn resolve(context: QueryContext, statement: &CreatePipeline) -> Result<Self, SqlError> {
        let PipelineSource::Kafka {
            connection,
            topics,
            except,
            format,
            columns,
            include,
        } = &statement.source
        else {
            return Err(SqlError::internal("the pipeline is not from Kafka"));
        };
        if statement.on_changed_file.is_some() {
            return Err(SqlError::unsupported(
                "ON CHANGED FILE of a pipeline FROM KAFKA",
            ));
        }
        let mut key = match &statement.into {
            Target::Table {
                sequence_by: None,
                stored_as: None,
                key,
                ..
            } => key.clone(),
            Target::Table { .. } => {
                return Err(SqlError::unsupported(
                    "SEQUENCE BY or STORED AS of a pipeline FROM KAFKA",
                )
                .hint("the last message of each key by its offset is what counts"));
            }
            _ => Vec::new(),
        };
        let options = parse_options(statement)?;
        let fan = match &statement.into {
            Target::Schema { by: Some(by), .. } => Some(FanPlan {
                by: by.clone(),
                tables_max: options.tables_max.unwrap_or(TABLES_MAX),
            }),
            _ => None,
        };
        let topics = TopicPatterns::parse(topics, except)?;
        let format_stamp = format.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut included = included(include)?;
        let is_upsert = format
            .as_ref()
            .is_some_and(|format| format.name == "UPSERT");
        if is_upsert && fan.is_some() {
            return Err(keyed_fan_out());
        }
        if is_upsert && key.is_empty() {
            key.push(Included::Key.column().to_owned());
            let own = IncludedColumn::Of(Included::Key);
            if !included.contains(&own) {
                included.push(own);
            }
        }
        let told = OpenedConnection::of(&context.snapshot, connection);
        let cluster = open_connection(&context, connection).await?.kafka()?;
        let needs = MessageContext {
            key: &key,
            registry: cluster.registry(),
        };
        let format = open_format(format.as_ref(), &needs)?;
        if format.is_keyed() && fan.is_some() {
            return Err(keyed_fan_out());
        }
        if format.is_keyed() && key.is_empty() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "messages that say which rows come and go need a target with a KEY",
            )
            .hint("INTO name KEY (column, ...)"));
        }
        if format.fixed_columns().is_some() && !columns.is_empty() {
            return Err(SqlError::unsupported(
                "COLUMNS with a format whose column is always \"payload\"",
            ));
        }
        let own = columns.iter().map(|column| column.name.as_str());
        let fixed = format.fixed_columns();
        let fixed = fixed.iter().flat_map(|fixed| fixed.fields().iter());
        let own = own.chain(fixed.map(|field| field.name().as_str()));
        require_one_each(own.chain([RESCUED]), &included)?;
        let fields: Vec<Field> = included
            .iter()
            .map(|one| one.column_type(options.keys).to_field(one.name(), true))
            .collect();
        let mut rows = RowPlan::resolve(
            context,
            statement,
            columns,
            format_stamp,
            Metadata::OfMessage(fields),
        )?;
        rows.key = key;
        if fan.is_some() {
            require_create(&rows)?;
        }
        if let Some(fixed) = format.fixed_columns() {
            rows.declared = Some(SourceSchema::of(&fixed));
        }
        Ok(Self {
            rows,
            connection: told,
            cluster,
            topics,
            format,
            included,
            stops_at_errors: statement.on_error == Some(OnError::Stop),
            fan,
            options,
        })
    }

    /// Whether the connection, and the secrets it names, still are what they were.
    pub fn is_connected_as_told(&self) -> bool {
        let snapshot = self.rows.engine().catalog.snapshot();
        let connection = self.connection.as_ref();
        connection.is_some_and(|was| was.is_as_told(&snapshot))
    }
}

/// Checks a `CREATE PIPELINE ... FROM KAFKA` as far as can be told without the brokers.
pub(in crate::ingest) async fn check(
    context: &QueryContext,
    statement: &CreatePipeline,
) -> Result<PlannedPipeline, SqlError> {
    let plan = TopicPlan::resolve(context.clone(), statement).await?;
    if let Some(fan) = &plan.fan {
        return check_fan(&plan, fan).await;
    }
    let Some(source) = &plan.rows.declared else {
        return Ok(PlannedPipeline { columns: None });
    };
    let transform = Transform::plan(&plan.rows, source, &[]).await?;
    require_row_wise(&plan.rows, &transform)?;
    Checks::plan(&plan.rows, transform.fields(), None)?;
    Ok(PlannedPipeline {
        columns: Some(Arc::clone(transform.fields())),
    })
}

/// Whether a pipeline's source is Kafka.
pub(in crate::ingest) fn is_from_topics(pipeline: &PipelineDefinition) -> Result<bool, SqlError> {
    let source = statement_of(pipeline)?.source;
    Ok(matches!(source, PipelineSource::Kafka { .. }))
}

/// Messages never end, so a query over all of them has no answer.
pub(super) fn require_row_wise(plan: &RowPlan, transform: &Transform) -> Result<(), SqlError> {
    if !transform.is_row_wise() {
        return Err(SqlError::unsupported(
            "a query that aggregates, sorts or joins messages, of a pipeline FROM KAFKA",
        )
        .hint(
            "select, filter and join to tables here, and do the rest in a view or in a query of the table",
        ));
    }
    if transform.is_lookup() && !plan.key.is_empty() {
        return Err(SqlError::unsupported(
            "a query that joins, of a pipeline FROM KAFKA into a table with a key",
        )
        .hint("join in a view of the table"));
    }
    Ok(())
}

fn keyed_fan_out() -> SqlError {
    SqlError::unsupported("INTO SCHEMA ... BY of messages that say which rows come and go").hint(
        "a pipeline for each table INTO name KEY (...), with a query that selects its messages",
    )
}

/// The tables are made in the schema by the pipeline's owner.
fn require_create(plan: &RowPlan) -> Result<(), SqlError> {
    let snapshot = &plan.context.snapshot;
    let allowed = snapshot.schema(&plan.target_schema).is_some_and(|schema| {
        let object = ObjectRef::new(ObjectKind::Schema, schema.id);
        snapshot.has_privilege(plan.context.session.role, object, Privilege::Create)
    });
    if allowed {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for schema {}", plan.target_schema),
    ))
}

fn open_format(
    clause: Option<&FormatClause>,
    context: &MessageContext<'_>,
) -> Result<Arc<dyn MessageFormat>, SqlError> {
    let Some(clause) = clause else {
        return Err(
            SqlError::new(SqlState::SYNTAX_ERROR, "a pipeline FROM KAFKA needs FORMAT").hint(
                "FORMAT JSON, AVRO, PROTOBUF, CSV, TEXT, BYTES, UPSERT, DEBEZIUM, MAXWELL or CANAL",
            ),
        );
    };
    let kind = message_format(&clause.name)?;
    let values = clause
        .options
        .iter()
        .map(|option| Ok((option.name.clone(), connector_option(option)?)))
        .collect::<Result<Vec<_>, SqlError>>()?;
    let mut options = Options::new(format!("format \"{}\"", kind.name()), values);
    let format = kind.configure(&mut options, context)?;
    options.finish()?;
    Ok(format)
}

fn included(fields: &[IncludedField]) -> Result<Vec<IncludedColumn>, SqlError> {
    let mut included = Vec::with_capacity(fields.len());
    for field in fields {
        let word = match field {
            IncludedField::Named(word) => word,
            IncludedField::Header { header, column } => {
                included.push(IncludedColumn::Header {
                    header: header.clone(),
                    column: column.clone(),
                });
                continue;
            }
        };
        let found = Included::ALL
            .into_iter()
            .find(|one| one.word().eq_ignore_ascii_case(word));
        let found = found.ok_or_else(|| {
            let known: Vec<&str> = Included::ALL.iter().map(|one| one.word()).collect();
            SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("messages have no \"{word}\" to be included"),
            )
            .hint(format!(
                "INCLUDE takes {} and header 'name' AS column",
                known.join(", ")
            ))
        })?;
        let found = IncludedColumn::Of(found);
        if !included.contains(&found) {
            included.push(found);
        }
    }
    Ok(included)
}

/// What is included needs names that no other column has.
fn require_one_each<'a>(
    own: impl Iterator<Item = &'a str>,
    included: &'a [IncludedColumn],
) -> Result<(), SqlError> {
    let mut known: BTreeSet<&str> = own.collect();
    for one in included {
        if !known.insert(one.name()) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" of INCLUDE is there already", one.name()),
            )
            .hint("give it another name: header 'name' AS column"));
        }
    }
    Ok(())
}

/// Checks the options alone.
pub(in crate::ingest) fn parse_options(
    statement: &CreatePipeline,
) -> Result<TopicOptions, SqlError> {
    let values: BTreeMap<String, ConnectorOption> = statement
        .options
        .iter()
        .map(|option| Ok((option.name.clone(), connector_option(option)?)))
        .collect::<Result<_, SqlError>>()?;
    let mut options = Options::new("a pipeline FROM KAFKA", values);
    let start = match options.take_text("start")? {
        None => Start::Earliest,
        Some(text) => parse_start(&text)?,
    };
    let start_offsets = match options.take_text("start_offsets")? {
        None => BTreeMap::new(),
        Some(text) => parse_offsets(&text)?,
    };
    let keys = match options.take_choice("key", &["text", "bytes"])? {
        Some("bytes") => KeyFormat::Bytes,
        _ => KeyFormat::Text,
    };
    let group = options.take_text("group")?;
    let parsed = TopicOptions {
        start,
        start_offsets,
        target_lag: options
            .take_duration("target_lag")?
            .unwrap_or(Duration::from_secs(1)),
        batch_rows: options
            .take_number("batch_rows")?
            .unwrap_or(1_000_000)
            .max(1),
        batch_bytes: options
            .take_number("batch_bytes")?
            .unwrap_or(256 << 20)
            .max(1),
        rate: Rate {
            rows: options.take_number("rate_rows")?,
            bytes: options.take_number("rate_bytes")?,
        },
        skips_lost: options.take_choice("lost_offsets", &["stop", "skip"])? == Some("skip"),
        rejected_max: options.take_number("rejected_max")?,
        dead_letter_topic: options.take_text("dead_letter_topic")?,
        discover: options
            .take_duration("discover")?
            .unwrap_or(Duration::from_secs(10))
            .max(Duration::from_millis(100)),
        group: group.unwrap_or_else(|| format!("boathouse-{}", statement.name)),
        servers_max: options
            .take_number("servers_max")?
            .map_or(usize::MAX, NonZeroUsize::get),
        keys,
        tables_max: options.take_number("tables_max")?,
    };
    options.finish()?;
    if parsed.tables_max.is_some() && !matches!(statement.into, Target::Schema { .. }) {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "option \"tables_max\" is for INTO SCHEMA ... BY",
        ));
    }
    refuse_letters(statement, &parsed)?;
    Ok(parsed)
}

/// Dead letters need somewhere to go, and must not come back.
fn refuse_letters(statement: &CreatePipeline, options: &TopicOptions) -> Result<(), SqlError> {
    let (Some(topic), PipelineSource::Kafka { topics, except, .. }) =
        (&options.dead_letter_topic, &statement.source)
    else {
        return Ok(());
    };
    check_topic_name(topic)?;
    if statement.on_error == Some(OnError::Stop) {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "option \"dead_letter_topic\" needs messages that are set aside, and ON ERROR STOP sets none aside",
        )
        .hint("ON ERROR DEAD LETTER sets them aside and goes on"));
    }
    if TopicPatterns::parse(topics, except)?.matches(topic) {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("the pipeline would read its own dead letters from topic \"{topic}\""),
        )
        .hint("leave the topic out with EXCEPT, or name another one"));
    }
    Ok(())
}

fn parse_start(text: &str) -> Result<Start, SqlError> {
    match text.to_ascii_lowercase().as_str() {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    let format = boathouse_connectors::value::ValueFormat::default();
    match boathouse_connectors::value::datetime::parse_instant(text, &format) {
        Some(microseconds) => Ok(Start::Time(microseconds.div_euclid(1000))),
        None => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("option \"start\" cannot be \"{text}\""),
        )
        .hint("it is 'earliest', 'latest', or a time such as '2024-05-17 08:00:00+07'")),
    }
}

/// `topic:partition=offset, ...`. A topic may have several partitions, each written out.
fn parse_offsets(text: &str) -> Result<BTreeMap<TopicPartition, i64>, SqlError> {
    let one = |part: &str| -> Option<(TopicPartition, i64)> {
        let (place, offset) = part.split_once('=')?;
        let (topic, partition) = place.trim().rsplit_once(':')?;
        let offset: i64 = offset.trim().parse().ok().filter(|offset| *offset >= 0)?;
        let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
        let topic = topic.into();
        Some((TopicPartition { topic, partition }, offset))
    };
    text.split(',')
        .map(|part| {
            one(part).ok_or_else(|| {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("\"{}\" is not an offset of a partition", part.trim()),
                )
                .hint("start_offsets = 'orders:0=1200, orders:1=900'")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_or_a_time() {
        assert_eq!(parse_start("Latest").unwrap(), Start::Latest);
        assert_eq!(
            parse_start("1970-01-01 01:00:00+01").unwrap(),
            Start::Time(0)
        );
        let error = parse_start("newest").unwrap_err();
        assert_eq!(error.to_string(), "option \"start\" cannot be \"newest\"");
    }

    #[test]
    fn offsets_are_written_by_partition() {
        let offsets = parse_offsets("shop.orders:0=12, shop.orders:11=0").unwrap();
        let shown: Vec<_> = offsets
            .iter()
            .map(|(partition, offset)| format!("{partition} {offset}"))
            .collect();
        assert_eq!(shown, ["shop.orders/0 12", "shop.orders/11 0"]);
        let error = parse_offsets("orders=3").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"orders=3\" is not an offset of a partition"
        );
    }

    #[test]
    fn what_messages_do_not_have_cannot_be_included() {
        let words = |words: &[&str]| {
            included(
                &words
                    .iter()
                    .map(|word| IncludedField::Named((*word).to_owned()))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            words(&["offset", "KEY", "offset"]).unwrap(),
            [Included::Offset, Included::Key].map(IncludedColumn::Of)
        );
        assert_eq!(
            words(&["sender"]).unwrap_err().to_string(),
            "messages have no \"sender\" to be included"
        );
    }
}
