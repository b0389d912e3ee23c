//! `REPLAY QUARANTINE` into a table with a key, where the last message of each key counts.
//!
//! A message that was set aside may have been overtaken: later ones of its key are in the table already. Which those are is
//! told by the partition itself. It is read once more from the first message that is replayed up to where the pipeline is,
//! and only the keys are looked at: nothing of it is applied again. The replayed messages have to be among what is read: a topic that
//! was made again, or has lost them, tells nothing.
//!
//! A replayed message changes no key that a later message of its partition has changed. It is done with then as well. Later
//! messages that were replayed before count too: their keys are those that they name themselves, whatever was corrected.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, SortField};
use boathouse_connectors::kafka::{ReaderOptions, TopicPartition};
use boathouse_connectors::message::{Message, MessageBlock};

use super::super::load::Failure;
use super::super::quarantine::{
    GOES, MESSAGE_NUMBER, QuarantineWriter, QuarantinedRow, RowIds, quarantined_rows,
};
use super::super::replay::{Corrected, Replaying};
use super::super::rows::{Rows, count};
use super::super::run::OpenRun;
use super::decode::Decoding;
use super::keyed::{PlacedChanges, changes_of};
use super::offsets::{marks_of, warning};
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

/// Replays the rows that the statement selects.
pub(super) async fn replay_by_key(
    (open, rows, replaying): (&mut OpenRun, &mut Rows<'_>, &mut Replaying),
    plan: &TopicPlan,
    mut waiting: Vec<QuarantinedRow>,
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
        let all = counts(&placed.numbers);
        let Some(corrected) = replaying.correct(rows, placed, &waiting)? else {
            continue;
        };
        let selected = counts(&corrected.numbers);
        let decoded = numbered(corrected)?;
        let Some((changes, messages)) = passing(rows, decoded).await? else {
            continue;
        };
        let passed: BTreeSet<usize> = messages.iter().copied().collect();
        for message in passed {
            // Of a message with several rows all have to be selected: the others wait still.
            if selected.get(&message) == all.get(&message) {
                replaying.mark(&waiting[message]);
            }
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
    let aside: BTreeMap<Place, &QuarantinedRow> =
        waiting.iter().map(|row| (place(row), row)).collect();
    before.retain(|row| row.superseded_at.is_none() && !aside.contains_key(&place(row)));
    let places = replayed.iter().flat_map(|part| &part.places);
    let expected = places.filter_map(|place| Some((*place, *aside.get(place)?)));
    let mut tail = Tail {
        plan,
        decoding: &decoding,
        partitions: &partitions,
        expected: expected.collect(),
        aside: aside.keys().copied().collect(),
        done: before.iter().map(place).collect(),
        newest,
    };
    for some in before.chunks(BLOCK_MESSAGES) {
        tail.look_at_replayed(rows, &mut keys, some).await?;
    }
    let from = first_of(&replayed, &partitions);
    let pipeline = rows.pipeline;
    let read = marks_of(&rows.ready()?.target.table, pipeline, &partitions).await?;
    tail.read(open, rows, &mut keys, (&from, &read)).await?;

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
                newest.is_none_or(|newest| *newest <= offset)
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

/// How often each number is there.
fn counts(numbers: &[usize]) -> HashMap<usize, usize> {
    let mut counts = HashMap::new();
    for number in numbers {
        *counts.entry(*number).or_default() += 1;
    }
    counts
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

/// Whether a message is the one that was set aside.
fn is_same(message: &Message<'_>, row: &QuarantinedRow) -> bool {
    row.message.as_ref().is_some_and(|kept| {
        kept.key.as_deref() == message.key && kept.payload.as_deref() == message.payload
    })
}

/// Some of the rows, by their numbers.
fn only(rows: &RecordBatch, keep: impl Fn(usize) -> bool) -> Result<RecordBatch, SqlError> {
    let keep: BooleanArray = (0..rows.num_rows()).map(|row| Some(keep(row))).collect();
    filter_record_batch(rows, &keep).map_err(unexpected)
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
    /// Replayed messages that have not been met.
    expected: BTreeMap<Place, &'a QuarantinedRow>,
    /// Messages of which rows are not in the table.
    aside: BTreeSet<Place>,
    /// Messages that were replayed before.
    done: BTreeSet<Place>,
    /// Of each key that is replayed, by partition: the offset of the last message that changed it.
    newest: HashMap<(usize, OwnedRow), i64>,
}

impl Tail<'_> {
    /// Reads from the first replayed message of each partition on, up to `until`.
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
        if from.is_empty() {
            return Ok(());
        }
        let session = self.plan.cluster.session()?;
        let ends = session.ends(from.keys().cloned().collect()).await?;
        // Blocks number partitions by what is read, which need not be all of them.
        let mut numbers: Vec<(usize, i64)> = Vec::new();
        for (partition, offset) in from {
            // Of one that was forgotten, with its topic, it is not known what came of it.
            let until = until.get(partition).filter(|until| offset < *until);
            let until = *until.ok_or_else(|| self.gone(partition, *offset))?;
            let ends = ends.get(partition);
            if !ends.is_some_and(|ends| ends.low <= *offset && until <= ends.high) {
                return Err(self.gone(partition, *offset));
            }
            numbers.push((
                self.partitions.partition_point(|one| one < partition),
                until,
            ));
        }
        let mut decoding = self.decoding.clone();
        let named = from.keys().map(|one| (one.topic.clone(), one.partition));
        decoding.partitions = Arc::new(named.collect());
        let options = ReaderOptions {
            group: self.plan.options.group.clone(),
            block_messages_max: self.plan.options.batch_rows,
        };
        let mut reader = self.plan.cluster.read(from, &options)?;
        let mut unread: BTreeSet<usize> = (0..numbers.len()).collect();
        let mut progress = Instant::now();
        while !unread.is_empty() {
            open.require_lease()?;
            let left = COMES_WITHIN.saturating_sub(progress.elapsed());
            let block = tokio::time::timeout(left, reader.next()).await;
            let block = block.map_err(|_| {
                let what = "the messages after the replayed ones did not come in time";
                let error = SqlError::new(SqlState::CONNECTION_FAILURE, what).retryable();
                match reader.status().trouble {
                    Some(trouble) => error.detail(trouble),
                    None => error,
                }
            })??;
            let Some(block) = block else {
                return Err(SqlError::internal("reading ended before its end"));
            };
            let is_new = |message: &Message<'_>| unread.contains(&(message.partition as usize));
            if block.iter().any(|message| is_new(&message)) {
                progress = Instant::now();
            }
            for message in block.iter() {
                let (number, until) = numbers[message.partition as usize];
                if message.offset + 1 >= until {
                    unread.remove(&(message.partition as usize));
                }
                if let Some(row) = self.expected.remove(&(number, message.offset))
                    && !is_same(&message, row)
                {
                    let partition = &self.partitions[number];
                    return Err(self.gone(partition, message.offset));
                }
            }
            for end in block.ends() {
                let until = numbers[end.partition as usize].1;
                if end.offset.is_none_or(|offset| offset >= until) {
                    unread.remove(&(end.partition as usize));
                }
            }
            let block =
                block.filtered(|message| message.offset < numbers[message.partition as usize].1);
            if !block.is_empty() {
                let block = Arc::new(block);
                self.look(rows, keys, (&decoding, block, &numbers)).await?;
            }
        }
        match self.expected.keys().next() {
            Some((number, offset)) => Err(self.gone(&self.partitions[*number], *offset)),
            None => Ok(()),
        }
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
        let place = |number: usize| Some(place_of(&before[number], self.partitions));
        let all = numbered(all)?;
        let changes = changes_of(rows, &all, &mut telling(rows)).await;
        self.note_all(keys, changes.map_err(failure)?, &numbers_of(&all)?, place)
    }

    /// A message has changed a key.
    fn note(&mut self, (partition, offset): Place, key: OwnedRow) {
        if let Some(newest) = self.newest.get_mut(&(partition, key)) {
            *newest = offset.max(*newest);
        }
    }

    /// Notes which keys the messages of a block changed. What the rules of now refuse was taken by those of before, unless
    /// it is in the quarantine.
    async fn look(
        &mut self,
        rows: &mut Rows<'_>,
        keys: &mut Keys,
        (decoding, block, numbers): (&Decoding, Arc<MessageBlock>, &[(usize, i64)]),
    ) -> Result<(), SqlError> {
        let place = |number: usize| {
            let message = block.get(number)?;
            Some((numbers[message.partition as usize].0, message.offset))
        };
        let decoded = decoding.clone().decode(Arc::clone(&block)).await?.rows;
        let messages = numbers_of(&decoded)?;
        let several = counts(&messages);
        // Of a message with several rows some may have been taken, and others not.
        let decoded = only(&decoded, |row| {
            place(messages[row]).is_some_and(|place| {
                let is_in_part = several.get(&messages[row]).is_some_and(|rows| *rows > 1);
                !self.done.contains(&place) && (is_in_part || !self.aside.contains(&place))
            })
        })?;
        let refused: BTreeSet<usize> = {
            let mut refused = telling(rows);
            match changes_of(rows, &decoded, &mut refused).await {
                Ok(changes) => self.note_all(keys, changes, &numbers_of(&decoded)?, place)?,
                Err(Failure::Fatal(error)) => return Err(error),
                // A rule stops the pipeline at one of them now.
                Err(_) => self.note_keys(rows, keys, &decoded, place).await?,
            }
            let refused = refused.take_waiting().into_iter();
            refused.filter_map(|row| row.message_number).collect()
        };
        let messages = numbers_of(&decoded)?;
        let taken = only(&decoded, |row| {
            let place = place(messages[row]);
            refused.contains(&messages[row])
                && place.is_some_and(|place| !self.aside.contains(&place))
        })?;
        self.note_keys(rows, keys, &taken, place).await
    }

    /// Notes the keys of all rows, whatever else is in them.
    async fn note_keys(
        &mut self,
        rows: &mut Rows<'_>,
        keys: &mut Keys,
        decoded: &RecordBatch,
        place: impl Fn(usize) -> Option<Place>,
    ) -> Result<(), SqlError> {
        let mut columns = decoded.columns().to_vec();
        let goes = columns.len().checked_sub(2);
        let goes = goes.and_then(|goes| columns.get_mut(goes));
        if let Some(goes) = goes {
            *goes = Arc::new(BooleanArray::from(vec![true; decoded.num_rows()]));
        }
        let all = RecordBatch::try_new(decoded.schema(), columns).map_err(unexpected)?;
        let changes = changes_of(rows, &all, &mut telling(rows)).await;
        self.note_all(keys, changes.map_err(failure)?, &numbers_of(&all)?, place)
    }

    fn note_all(
        &mut self,
        keys: &mut Keys,
        changes: Option<PlacedChanges>,
        messages: &[usize],
        place: impl Fn(usize) -> Option<Place>,
    ) -> Result<(), SqlError> {
        let Some(changes) = changes else {
            return Ok(());
        };
        let rows = keys.rows(&changes.batch.rows)?.into_iter();
        for (key, row) in rows.zip(changes.places) {
            if let Some(place) = place(messages[row as usize]) {
                self.note(place, key);
            }
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
