//! `REPLAY QUARANTINE` into a table with a key, where the last message of each key counts.
//!
//! A message that was set aside may have been overtaken: later ones of its key are in the table already. Which those are is
//! told by the partition itself. It is read once more from the first message that is replayed up to where the pipeline is,
//! by the query and the rules of now, and only the keys are looked at: nothing of it is applied again.
//!
//! A replayed message changes no key that a later message of its partition has changed. It is done with then as well. Later
//! messages that were replayed before count too: their keys are those that they name themselves, whatever was corrected.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, SortField};
use boathouse_connectors::kafka::{ReaderOptions, TopicPartition};
use boathouse_connectors::message::MessageBlock;

use super::super::quarantine::{
    GOES, MESSAGE_NUMBER, QuarantineWriter, QuarantinedRow, RowIds, quarantined_rows,
};
use super::super::replay::{Corrected, Replaying};
use super::super::rows::{Rows, count};
use super::super::run::OpenRun;
use super::decode::Decoding;
use super::keyed::{PlacedChanges, changes_of};
use super::offsets::warning;
use super::plan::TopicPlan;
use super::pump::failure;
use super::replay::{BLOCK_MESSAGES, decode, partitions_of};
use crate::error::{SqlError, SqlState};
use crate::lake::ChangeBatch;

/// How long messages may take to come that are known to be there.
const COMES_WITHIN: Duration = Duration::from_secs(60);

/// A message: its partition by number, and its offset.
type Place = (usize, i64);

/// Changes of replayed messages.
struct Replayed {
    batch: ChangeBatch,
    keys: Vec<OwnedRow>,
    places: Vec<Place>,
}

/// Replays the rows that the statement selects. `read` is how far the pipeline has read each partition.
pub(super) async fn replay_by_key(
    (open, rows, replaying): (&mut OpenRun, &mut Rows<'_>, &mut Replaying),
    plan: &TopicPlan,
    mut waiting: Vec<QuarantinedRow>,
    read: &BTreeMap<TopicPartition, i64>,
) -> Result<(), SqlError> {
    let engine = plan.rows.engine();
    let mut before = quarantined_rows(engine, Some(rows.pipeline)).await?;
    before.retain(|row| row.message.is_some() && row.replayed_at.is_some());
    let partitions = partitions_of(waiting.iter().chain(&before));
    let place = |row: &QuarantinedRow| place_of(row, &partitions);
    waiting.sort_by_cached_key(place);
    let decoding = Decoding::new(plan, &rows.source, &partitions);
    let mut keys = Keys::of(rows)?;
    let mut replayed = Vec::new();
    let mut first = 0;
    while first < waiting.len() {
        let some = waiting.len().min(first + BLOCK_MESSAGES);
        let placed = decode(&decoding, &waiting[first..some], &partitions, first).await?;
        first = some;
        let Some(corrected) = replaying.correct(rows, placed, &waiting)? else {
            continue;
        };
        let decoded = numbered(corrected)?;
        let Some((changes, messages)) = passing(rows, decoded).await? else {
            continue;
        };
        let passed: BTreeSet<usize> = messages.iter().copied().collect();
        for message in passed {
            replaying.mark(&waiting[message]);
        }
        replayed.push(Replayed {
            keys: keys.rows(&changes.batch.rows)?,
            places: messages
                .into_iter()
                .map(|message| place(&waiting[message]))
                .collect(),
            batch: changes.batch,
        });
    }

    let mut newest = HashMap::new();
    for part in &replayed {
        for (key, (partition, _)) in part.keys.iter().zip(&part.places) {
            newest.insert((*partition, key.clone()), -1);
        }
    }
    let mut aside: BTreeSet<Place> = waiting.iter().map(place).collect();
    before.retain(|row| row.superseded_at.is_none() && aside.insert(place(row)));
    let mut tail = Tail {
        plan,
        decoding: &decoding,
        partitions: &partitions,
        aside,
        newest,
    };
    for some in before.chunks(BLOCK_MESSAGES) {
        tail.look_at_replayed(rows, &mut keys, some).await?;
    }
    let from = first_of(&replayed, &partitions);
    tail.read(open, rows, &mut keys, (&from, read)).await?;

    let mut overtaken = 0;
    for Replayed {
        mut batch,
        keys,
        places,
    } in replayed
    {
        let stays: Vec<bool> = keys
            .into_iter()
            .zip(places)
            .map(|(key, (partition, offset))| {
                let newest = tail.newest.get(&(partition, key));
                newest.is_none_or(|newest| *newest < offset)
            })
            .collect();
        let mut kept = stays.iter();
        batch
            .changes
            .retain(|_| kept.next().is_some_and(|stays| *stays));
        overtaken += stays.len() - batch.changes.len();
        batch.rows = filter_record_batch(&batch.rows, &stays.into()).map_err(unexpected)?;
        open.counters.rows_out += count(batch.changes.len());
        if !batch.changes.is_empty() {
            replaying.add(batch);
        }
    }
    if overtaken > 0 {
        let told = format!(
            "{overtaken} of the replayed rows were left as they are, because later messages of their keys have been taken"
        );
        open.add_messages(vec![warning(told)]).await?;
    }
    Ok(())
}

/// The corrected rows as decoded ones are, numbered by the quarantined row each is of.
fn numbered(corrected: Corrected) -> Result<RecordBatch, SqlError> {
    let goes = corrected
        .goes
        .ok_or_else(|| SqlError::internal("it is not known which rows go"))?;
    let numbers = corrected.numbers.into_iter();
    let numbers = numbers.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    with_behind(
        &corrected.rows,
        [
            (GOES, Arc::new(BooleanArray::from(goes))),
            (
                MESSAGE_NUMBER,
                Arc::new(UInt32Array::from_iter_values(numbers)),
            ),
        ],
    )
}

fn with_behind(rows: &RecordBatch, behind: [(&str, ArrayRef); 2]) -> Result<RecordBatch, SqlError> {
    let mut fields = rows.schema().fields().to_vec();
    let mut columns = rows.columns().to_vec();
    for (name, column) in behind {
        let nullable = *column.data_type() != DataType::UInt32;
        fields.push(Arc::new(Field::new(
            name,
            column.data_type().clone(),
            nullable,
        )));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unexpected)
}

/// The changes of messages of which no row is refused, and the number of the message that each is of.
async fn passing(
    rows: &mut Rows<'_>,
    mut decoded: RecordBatch,
) -> Result<Option<(PlacedChanges, Vec<usize>)>, SqlError> {
    loop {
        let numbers = numbers_of(&decoded)?;
        let mut aside = telling(rows);
        let changes = changes_of(rows, &decoded, &mut aside).await;
        let changes = changes.map_err(failure)?;
        let refused = aside.take_waiting().into_iter();
        let refused: BTreeSet<usize> = refused.filter_map(|row| row.message_number).collect();
        if refused.is_empty() {
            return Ok(changes.map(|changes| {
                let places = changes.places.iter();
                let messages = places.map(|place| numbers[*place as usize]).collect();
                (changes, messages)
            }));
        }
        let passes = numbers.iter().map(|number| Some(!refused.contains(number)));
        let passes: BooleanArray = passes.collect();
        decoded = filter_record_batch(&decoded, &passes).map_err(unexpected)?;
    }
}

fn telling(rows: &Rows<'_>) -> QuarantineWriter {
    let lake = &rows.plan.engine().lake;
    QuarantineWriter::new(lake, rows.pipeline, rows.run, RowIds::default()).only_telling()
}

/// The number of the message that each row is of.
fn numbers_of(decoded: &RecordBatch) -> Result<Vec<usize>, SqlError> {
    let column = decoded.columns().last();
    let numbers = column.and_then(|column| column.as_any().downcast_ref::<UInt32Array>());
    let numbers = numbers.ok_or_else(|| SqlError::internal("decoded messages have no numbers"))?;
    Ok(numbers.values().iter().map(|one| *one as usize).collect())
}

fn place_of(row: &QuarantinedRow, partitions: &[TopicPartition]) -> Place {
    let Some(message) = &row.message else {
        return (usize::MAX, -1);
    };
    let wanted = (message.topic.as_str(), message.partition);
    let number = partitions.partition_point(|one| (one.topic.as_ref(), one.partition) < wanted);
    (number, message.offset)
}

/// The first replayed offset of each partition.
fn first_of(replayed: &[Replayed], partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, i64> {
    let mut first = BTreeMap::new();
    for (partition, offset) in replayed.iter().flat_map(|part| &part.places) {
        if let Some(partition) = partitions.get(*partition) {
            let known = first.entry(partition.clone()).or_insert(*offset);
            *known = (*offset).min(*known);
        }
    }
    first
}

/// The keys of rows of the table, in a form that can be compared.
struct Keys {
    names: Vec<String>,
    converter: RowConverter,
}

impl Keys {
    fn of(rows: &mut Rows<'_>) -> Result<Self, SqlError> {
        let names = rows.plan.key.clone();
        let schema = &rows.ready()?.schema;
        let fields = names.iter().map(|name| {
            let field = schema.field_with_name(name).map_err(unexpected)?;
            Ok(SortField::new(field.data_type().clone()))
        });
        let fields = fields.collect::<Result<Vec<_>, SqlError>>()?;
        Ok(Self {
            names,
            converter: RowConverter::new(fields).map_err(unexpected)?,
        })
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<OwnedRow>, SqlError> {
        let columns = self.names.iter().map(|name| {
            let column = rows.column_by_name(name).cloned();
            column.ok_or_else(|| SqlError::internal("changes lack a column of the key"))
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, SqlError>>()?;
        let rows = self
            .converter
            .convert_columns(&columns)
            .map_err(unexpected)?;
        Ok(rows.iter().map(|row| row.owned()).collect())
    }
}

/// What the partitions have after the replayed messages.
struct Tail<'a> {
    plan: &'a TopicPlan,
    decoding: &'a Decoding,
    partitions: &'a [TopicPartition],
    /// Messages that are not in the table as they are in the topic.
    aside: BTreeSet<Place>,
    /// Of each key that is replayed, by partition: the offset of the last message that changed it.
    newest: HashMap<(usize, OwnedRow), i64>,
}

impl Tail<'_> {
    /// Reads what comes after `from` and before `until`.
    async fn read(
        &mut self,
        open: &OpenRun,
        rows: &mut Rows<'_>,
        keys: &mut Keys,
        (from, until): (
            &BTreeMap<TopicPartition, i64>,
            &BTreeMap<TopicPartition, i64>,
        ),
    ) -> Result<(), SqlError> {
        let after: BTreeMap<TopicPartition, i64> = from
            .iter()
            .map(|(partition, offset)| (partition.clone(), offset + 1))
            .filter(|(partition, after)| until.get(partition).is_some_and(|until| after < until))
            .collect();
        if after.is_empty() {
            return Ok(());
        }
        let session = self.plan.cluster.session()?;
        let ends = session.ends(after.keys().cloned().collect()).await?;
        for (partition, after) in &after {
            let is_there = ends.get(partition).is_some_and(|ends| {
                ends.low <= *after
                    && until
                        .get(partition)
                        .is_some_and(|until| *until <= ends.high)
            });
            if !is_there {
                return Err(self.gone(partition, *after));
            }
        }
        // Blocks number partitions by what is read, which need not be all of them.
        let numbers: Vec<(usize, i64)> = after
            .keys()
            .map(|partition| {
                let number = self.partitions.partition_point(|one| one < partition);
                (number, until.get(partition).copied().unwrap_or(0))
            })
            .collect();
        let mut decoding = self.decoding.clone();
        let named = after.keys().map(|one| (one.topic.clone(), one.partition));
        decoding.partitions = Arc::new(named.collect());
        let options = ReaderOptions {
            group: self.plan.options.group.clone(),
            block_messages_max: self.plan.options.batch_rows,
        };
        let mut reader = self.plan.cluster.read(&after, &options)?;
        let mut open_ones: BTreeSet<usize> = (0..numbers.len()).collect();
        while !open_ones.is_empty() {
            open.require_lease()?;
            let block = tokio::time::timeout(COMES_WITHIN, reader.next()).await;
            let block = block.map_err(|_| {
                let what = "the messages after the replayed ones did not come in time";
                SqlError::new(SqlState::CONNECTION_FAILURE, what).retryable()
            })??;
            let Some(block) = block else {
                return Err(SqlError::internal("reading ended before its end"));
            };
            for message in block.iter() {
                let index = message.partition as usize;
                if message.offset + 1 >= numbers[index].1 {
                    open_ones.remove(&index);
                }
            }
            for end in block.ends() {
                open_ones.remove(&(end.partition as usize));
            }
            let block = block.filtered(|message| {
                let (number, until) = numbers[message.partition as usize];
                message.offset < until && !self.aside.contains(&(number, message.offset))
            });
            if !block.is_empty() {
                let block = Arc::new(block);
                self.look(rows, keys, (&decoding, block, &numbers)).await?;
            }
        }
        Ok(())
    }

    /// Notes which keys messages name that were replayed before. Nothing but the key is asked of them.
    async fn look_at_replayed(
        &mut self,
        rows: &mut Rows<'_>,
        keys: &mut Keys,
        before: &[QuarantinedRow],
    ) -> Result<(), SqlError> {
        let placed = decode(self.decoding, before, self.partitions, 0).await?;
        let source = Arc::clone(rows.ready()?.transform.source());
        let all = Corrected {
            goes: Some(vec![true; placed.numbers.len()]),
            rows: RecordBatch::try_new(source, placed.columns).map_err(unexpected)?,
            numbers: placed.numbers,
        };
        let Some((changes, messages)) = passing(rows, numbered(all)?).await? else {
            return Ok(());
        };
        for (key, message) in keys.rows(&changes.batch.rows)?.into_iter().zip(messages) {
            self.note(place_of(&before[message], self.partitions), key);
        }
        Ok(())
    }

    /// A message has changed a key.
    fn note(&mut self, (partition, offset): Place, key: OwnedRow) {
        if let Some(newest) = self.newest.get_mut(&(partition, key)) {
            *newest = offset.max(*newest);
        }
    }

    /// Notes which keys the messages of a block changed.
    async fn look(
        &mut self,
        rows: &mut Rows<'_>,
        keys: &mut Keys,
        (decoding, block, numbers): (&Decoding, Arc<MessageBlock>, &[(usize, i64)]),
    ) -> Result<(), SqlError> {
        let decoded = decoding.clone().decode(Arc::clone(&block)).await?;
        let Some((changes, messages)) = passing(rows, decoded.rows).await? else {
            return Ok(());
        };
        for (key, message) in keys.rows(&changes.batch.rows)?.into_iter().zip(messages) {
            let Some(message) = block.get(message) else {
                continue;
            };
            let partition = numbers[message.partition as usize].0;
            self.note((partition, message.offset), key);
        }
        Ok(())
    }

    fn gone(&self, partition: &TopicPartition, offset: i64) -> SqlError {
        let name = &self.plan.rows.name;
        SqlError::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("cannot replay into a table with a key: the messages of partition {partition} from offset {offset} on are not all there any more"),
        )
        .detail("later messages of the same keys may have been among them")
        .hint(format!("name other rows with WHERE, correct the table with SQL, or build it anew with RUN PIPELINE {name} FULL REFRESH"))
    }
}

fn unexpected(error: ArrowError) -> SqlError {
    SqlError::internal("could not form the changes of messages to replay").caused_by(error)
}
