//! Where reading begins: by the table's marks, and held against what the brokers have.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::state::{Lease, RunMessage, Severity};
use boathouse_connectors::kafka::{KafkaSession, PartitionEnds, TopicPartition};
use serde_json::{Map, Value, json};

use super::super::run::{application, not_refreshed};
use super::plan::{Start, TopicPlan};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{LakeTable, TableSnapshot, TransactionMark};

/// How long a partition may take to have again what was read of it, after its broker has started anew.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(10);

/// What is known of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    /// Read next.
    pub next: i64,
    /// What the table's mark says.
    pub mark: Option<i64>,
    /// Where reading began that no commit tells of.
    pub start: Option<i64>,
    /// The last message read, by which a topic that was made again is told from the one there was.
    pub last: Option<LastMessage>,
}

/// The last message of a partition that is in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastMessage {
    pub offset: i64,
    pub fingerprint: u64,
}

impl Progress {
    /// A partition of which nothing has been read.
    fn from(start: i64) -> Self {
        Self {
            next: start,
            mark: None,
            start: Some(start),
            last: None,
        }
    }

    /// Where the reader begins: at the last message, if it can be looked at again.
    pub fn read_from(&self) -> i64 {
        match self.last {
            Some(last) if last.offset < self.next => last.offset,
            _ => self.next,
        }
    }
}

/// The name under which a partition's offset is marked.
pub(super) fn application_of(pipeline: ObjectId, partition: &TopicPartition) -> String {
    format!(
        "{}:{}:{}",
        application(pipeline),
        partition.topic,
        partition.partition
    )
}

/// What a table's mark of a partition says.
pub(super) async fn marked(
    snapshot: &TableSnapshot,
    pipeline: ObjectId,
    partition: &TopicPartition,
) -> Result<Option<i64>, SqlError> {
    let name = application_of(pipeline, partition);
    Ok(snapshot.transaction(&name).await?)
}

/// The mark that a commit moves.
pub(super) fn mark_of(
    pipeline: ObjectId,
    partition: &TopicPartition,
    progress: &Progress,
) -> TransactionMark {
    TransactionMark {
        application: application_of(pipeline, partition),
        expected: progress.mark,
        version: progress.next,
    }
}

/// Where a position names partitions that are not read any more, but may have marks.
pub(super) const FORMER: &str = "former";

/// What a position says of partitions, besides what their marks say.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    starts: BTreeMap<TopicPartition, i64>,
    lasts: BTreeMap<TopicPartition, (i64, LastMessage)>,
    /// Whether there was a position at all.
    pub any: bool,
}

/// What goes into a position.
pub(super) fn to_json(progress: &BTreeMap<TopicPartition, Progress>) -> Value {
    let mut topics: Map<String, Value> = Map::new();
    for (partition, progress) in progress {
        let mut one = Map::new();
        one.insert("next".into(), json!(progress.next));
        if let Some(start) = progress.start {
            one.insert("start".into(), json!(start));
        }
        if let Some(last) = progress.last {
            one.insert(
                "last".into(),
                json!([last.offset, last.fingerprint.to_string()]),
            );
        }
        let of_topic = topics
            .entry(partition.topic.to_string())
            .or_insert_with(|| json!({}));
        of_topic[partition.partition.to_string()] = Value::Object(one);
    }
    Value::Object(topics)
}

impl Recorded {
    /// What is on record of a pipeline: what the last commit remembers, and where reading begins by notes.
    pub async fn load(engine: &Engine, pipeline: ObjectId) -> Result<Self, SqlError> {
        let positions = engine.catalog.positions();
        let last = positions.last_committed(pipeline).await?;
        let last = last.map(|last| last.position);
        let mut recorded = Self::from_json(last.as_ref());
        for note in positions.notes(pipeline).await? {
            recorded.any = true;
            for (partition, one) in partitions_of(Some(&note)) {
                // The first that was noted counts.
                if let Some(start) = one["start"].as_i64() {
                    recorded.starts.entry(partition).or_insert(start);
                }
            }
        }
        Ok(recorded)
    }

    /// Partitions that were read once and are not among these.
    pub fn former(&self, all: &[TopicPartition]) -> BTreeMap<TopicPartition, Progress> {
        let starts = self.starts.iter();
        let former = starts.filter(|(partition, _)| !all.contains(partition));
        former
            .map(|(partition, start)| (partition.clone(), Progress::from(*start)))
            .collect()
    }

    pub fn from_json(position: Option<&Value>) -> Self {
        let mut recorded = Self {
            any: position.is_some(),
            ..Self::default()
        };
        let former = position.map(|position| &position[FORMER]);
        for (partition, one) in partitions_of(former)
            .into_iter()
            .chain(partitions_of(position))
        {
            if let Some(start) = one["start"].as_i64() {
                recorded.starts.insert(partition.clone(), start);
            }
            let last = one["last"][0].as_i64().zip(
                one["last"][1]
                    .as_str()
                    .and_then(|digits| digits.parse().ok()),
            );
            if let (Some(next), Some((offset, fingerprint))) = (one["next"].as_i64(), last) {
                let last = LastMessage {
                    offset,
                    fingerprint,
                };
                recorded.lasts.insert(partition, (next, last));
            }
        }
        recorded
    }
}

/// The partitions that a position names.
pub(super) fn partitions_of(position: Option<&Value>) -> Vec<(TopicPartition, &Value)> {
    let topics = position.and_then(|position| position["topics"].as_object());
    let mut found = Vec::new();
    for (topic, partitions) in topics.into_iter().flatten() {
        let topic: std::sync::Arc<str> = topic.as_str().into();
        for (partition, one) in partitions.as_object().into_iter().flatten() {
            if let Ok(partition) = partition.parse() {
                let topic = topic.clone();
                found.push((TopicPartition { topic, partition }, one));
            }
        }
    }
    found
}

/// Where reading begins.
pub(super) struct Begun {
    pub progress: BTreeMap<TopicPartition, Progress>,
    /// Where the partitions began and ended when they were asked.
    pub ends: BTreeMap<TopicPartition, PartitionEnds>,
    /// Some begin where no commit tells of.
    pub is_new: bool,
    pub warnings: Vec<RunMessage>,
}

/// Puts on record where reading begins of partitions that no commit and no note tells of, whichever server is to read them. What
/// another server has noted first counts.
pub(super) async fn note_starts(
    plan: &TopicPlan,
    (pipeline, lease): (ObjectId, &Lease),
    session: &KafkaSession,
    table: Option<&LakeTable>,
    all: &[TopicPartition],
    recorded: Recorded,
) -> Result<Recorded, SqlError> {
    let mut marks = BTreeMap::new();
    let unknown = |partition: &&TopicPartition| !recorded.starts.contains_key(partition);
    if all.iter().filter(unknown).count() == 0 {
        return Ok(recorded);
    }
    if let Some(table) = table {
        let snapshot = table.snapshot(None).await?;
        for partition in all {
            if let Some(mark) = marked(&snapshot, pipeline, partition).await? {
                marks.insert(partition.clone(), mark);
            }
        }
    }
    let new: Vec<TopicPartition> = all
        .iter()
        .filter(unknown)
        .filter(|partition| !marks.contains_key(partition))
        .cloned()
        .collect();
    if new.is_empty() {
        return Ok(recorded);
    }
    let ends = session.ends(new.clone()).await?;
    let first = !recorded.any && marks.is_empty();
    let starts = starts_of(plan, session, new, &ends, first).await?;
    let starts: BTreeMap<TopicPartition, Progress> = starts
        .into_iter()
        .map(|(partition, next)| (partition, Progress::from(next)))
        .collect();
    let engine = plan.rows.engine();
    let note = json!({ "topics": to_json(&starts) });
    let positions = engine.catalog.positions();
    positions.note(pipeline, &note, lease).await?;
    Recorded::load(engine, pipeline).await
}

/// Where partitions begin that have not begun.
async fn starts_of(
    plan: &TopicPlan,
    session: &KafkaSession,
    new: Vec<TopicPartition>,
    ends: &BTreeMap<TopicPartition, PartitionEnds>,
    first: bool,
) -> Result<BTreeMap<TopicPartition, i64>, SqlError> {
    let at_time = match plan.options.start {
        Start::Time(time) if first => session.offsets_at(new.clone(), time).await?,
        _ => BTreeMap::new(),
    };
    let mut starts = BTreeMap::new();
    for partition in new {
        let Some(end) = ends.get(&partition) else {
            continue;
        };
        let given = plan.options.start_offsets.get(&partition).copied();
        // Partitions and topics that came later are read from their beginning, whatever the start was.
        let start = match (first, given, plan.options.start) {
            (true, Some(given), _) => given,
            (false, ..) | (true, None, Start::Earliest) => end.low,
            (true, None, Start::Latest) => end.high,
            (true, None, Start::Time(_)) => at_time.get(&partition).copied().unwrap_or(end.high),
        };
        starts.insert(partition, start);
    }
    Ok(starts)
}

/// Finds out where each partition goes on by the marks of a table.
pub(super) async fn begin(
    plan: &TopicPlan,
    pipeline: ObjectId,
    session: &KafkaSession,
    table: Option<&LakeTable>,
    partitions: Vec<TopicPartition>,
    recorded: &Recorded,
) -> Result<Begun, SqlError> {
    let marks = match table {
        Some(table) => marks_of(table, pipeline, &partitions).await?,
        None => BTreeMap::new(),
    };
    begin_at(plan, session, marks, partitions, recorded).await
}

/// What a table's marks say of partitions: up to which offset each was read.
pub(super) async fn marks_of(
    table: &LakeTable,
    pipeline: ObjectId,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, i64>, SqlError> {
    let mut marks = BTreeMap::new();
    let snapshot = table.snapshot(None).await?;
    for partition in partitions {
        if let Some(mark) = marked(&snapshot, pipeline, partition).await? {
            marks.insert(partition.clone(), mark);
        }
    }
    Ok(marks)
}

/// Where the partitions begin and end. A broker that has just started may not yet have heard how far the others are.
async fn ends_of(
    session: &KafkaSession,
    partitions: &[TopicPartition],
    marks: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, PartitionEnds>, SqlError> {
    let begun = Instant::now();
    loop {
        let ends = session.ends(partitions.to_vec()).await?;
        let lacks = |(partition, mark): (&TopicPartition, &i64)| {
            ends.get(partition).is_some_and(|ends| ends.high < *mark)
        };
        if begun.elapsed() >= CATCHES_UP_WITHIN || !marks.iter().any(lacks) {
            return Ok(ends);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Where reading begins that makes a table's rows anew: where it began once. The marks stay as they are until all is read.
///
/// # Errors
///
/// Messages are gone whose rows the table may have, unless the statement says to go on without them.
pub(super) async fn begin_anew(
    plan: &TopicPlan,
    pipeline: ObjectId,
    session: &KafkaSession,
    table: &LakeTable,
    partitions: Vec<TopicPartition>,
    recorded: &Recorded,
) -> Result<(Begun, Vec<TransactionMark>), SqlError> {
    let former: Vec<TopicPartition> = recorded.former(&partitions).into_keys().collect();
    let mut gaps: Vec<String> = Vec::new();
    let mut forgotten = Vec::new();
    for (partition, mark) in marks_of(table, pipeline, &former).await? {
        let start = recorded.starts.get(&partition).copied().unwrap_or(0);
        if mark <= start {
            continue;
        }
        if plan.topics.matches(&partition.topic) {
            gaps.push(format!("partition {partition} does not exist any more"));
        }
        // What is not read any more begins from the beginning, should it be read again.
        forgotten.push(TransactionMark {
            application: application_of(pipeline, &partition),
            expected: Some(mark),
            version: start,
        });
    }
    let marks = marks_of(table, pipeline, &partitions).await?;
    let ends = ends_of(session, &partitions, &marks).await?;
    let new: Vec<TopicPartition> = partitions
        .iter()
        .filter(|one| !recorded.starts.contains_key(one))
        .cloned()
        .collect();
    if let Some(lost) = new.iter().find(|one| marks.contains_key(one))
        && plan.options.start != Start::Earliest
    {
        return Err(not_refreshed(&format!(
            "it is not on record where reading of partition {lost} began"
        ))
        .hint("DROP TABLE its target: the next run makes it anew"));
    }
    let first = !recorded.any && marks.is_empty();
    let starts = starts_of(plan, session, new, &ends, first).await?;
    let mut begun = Begun {
        progress: BTreeMap::new(),
        ends: BTreeMap::new(),
        is_new: false,
        warnings: Vec::new(),
    };
    for partition in partitions {
        let Some(end) = ends.get(&partition).copied() else {
            continue;
        };
        let start = recorded.starts.get(&partition).or(starts.get(&partition));
        let start = start.copied().unwrap_or(end.low);
        let mark = marks.get(&partition).copied();
        let last = mark.unwrap_or(start).max(start);
        let mut next = start;
        if start < end.low {
            let gone = end.low.min(last.max(start + 1)) - 1;
            gaps.push(format!(
                "partition {partition} no longer has offsets {start} to {gone}"
            ));
            next = end.low;
        }
        if last > end.high {
            gaps.push(format!(
                "partition {partition} ends at offset {}, before offset {last} up to which it was read",
                end.high
            ));
            next = end.low;
        }
        let progress = Progress {
            next,
            mark,
            start: Some(next),
            last: None,
        };
        begun.ends.insert(partition.clone(), end);
        begun.progress.insert(partition, progress);
    }
    if let Some(gap) = gaps.first()
        && !plan.options.skips_lost
    {
        let mut error = not_refreshed(gap);
        if gaps.len() > 1 {
            error = error.detail(format!(
                "{} other partitions have lost messages too",
                gaps.len() - 1
            ));
        }
        let name = boathouse_sql::name::quote_identifier(&plan.rows.name);
        return Err(error.hint(format!(
            "ALTER PIPELINE {name} SET (lost_offsets = 'skip') lets it be made of the messages there are; rows of others go"
        )));
    }
    let told = |gap: &String| warning(format!("{gap}; the table is made anew without them"));
    begun.warnings = gaps.iter().map(told).collect();
    Ok((begun, forgotten))
}

/// Finds out where each partition goes on that was committed up to its mark, if it has one.
pub(super) async fn begin_at(
    plan: &TopicPlan,
    session: &KafkaSession,
    marks: BTreeMap<TopicPartition, i64>,
    partitions: Vec<TopicPartition>,
    recorded: &Recorded,
) -> Result<Begun, SqlError> {
    let ends = ends_of(session, &partitions, &marks).await?;
    let first = !recorded.any && marks.is_empty();
    let new: Vec<TopicPartition> = partitions
        .iter()
        .filter(|one| !marks.contains_key(one) && !recorded.starts.contains_key(one))
        .cloned()
        .collect();
    let starts = starts_of(plan, session, new, &ends, first).await?;
    let mut begun = Begun {
        progress: BTreeMap::new(),
        ends: BTreeMap::new(),
        is_new: false,
        warnings: Vec::new(),
    };
    let mut gaps: Vec<Gap> = Vec::new();
    for partition in partitions {
        let Some(end) = ends.get(&partition).copied() else {
            continue;
        };
        let mark = marks.get(&partition).copied();
        let start = recorded.starts.get(&partition).copied();
        let progress = match (mark, start) {
            (Some(mark), _) => {
                let last = recorded.lasts.get(&partition);
                Progress {
                    next: mark,
                    mark: Some(mark),
                    start,
                    // What is on record of another commit than the table's says nothing.
                    last: last
                        .filter(|(next, _)| *next == mark)
                        .map(|(_, last)| *last)
                        .filter(|last| last.offset >= end.low),
                }
            }
            (None, Some(start)) => Progress::from(start),
            (None, None) => {
                begun.is_new = true;
                Progress::from(starts.get(&partition).copied().unwrap_or(end.low))
            }
        };
        let progress = match Gap::between(&partition, &progress, end) {
            None => progress,
            Some(gap) => {
                let next = end.low;
                gaps.push(gap);
                Progress {
                    next,
                    last: None,
                    ..progress
                }
            }
        };
        begun.ends.insert(partition.clone(), end);
        begun.progress.insert(partition, progress);
    }
    if let Some(gap) = gaps.first()
        && !plan.options.skips_lost
    {
        return Err(gap.error(&plan.rows.name, gaps.len() - 1));
    }
    begun.warnings = gaps.iter().map(Gap::warning).collect();
    Ok(begun)
}

/// Offsets that are to be read and are not there.
#[derive(Debug, PartialEq, Eq)]
enum Gap {
    /// From the first to the last that is gone.
    Gone {
        partition: TopicPartition,
        first: i64,
        last: i64,
    },
    /// The partition ends before it.
    NotThere {
        partition: TopicPartition,
        next: i64,
        end: i64,
    },
}

impl Gap {
    fn between(
        partition: &TopicPartition,
        progress: &Progress,
        ends: PartitionEnds,
    ) -> Option<Self> {
        let partition = partition.clone();
        if progress.next < ends.low {
            return Some(Self::Gone {
                partition,
                first: progress.next,
                last: ends.low - 1,
            });
        }
        (progress.next > ends.high).then_some(Self::NotThere {
            partition,
            next: progress.next,
            end: ends.high,
        })
    }

    fn what(&self) -> String {
        match self {
            Self::Gone {
                partition,
                first,
                last,
            } => format!(
                "partition {partition} no longer has offsets {first} to {last}, which were not read"
            ),
            Self::NotThere {
                partition,
                next,
                end,
            } => format!(
                "partition {partition} ends at offset {end}, before offset {next} that is to be read next"
            ),
        }
    }

    fn error(&self, pipeline: &str, others: usize) -> SqlError {
        let mut detail = match self {
            Self::Gone { .. } => "the topic's retention has passed them, or they were deleted",
            Self::NotThere { .. } => "the topic was made again, or its brokers have lost messages",
        }
        .to_owned();
        if others > 0 {
            detail.push_str(&format!("; so have {others} other partitions"));
        }
        SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, self.what())
            .detail(detail)
            .hint(skip_hint(pipeline))
    }

    fn warning(&self) -> RunMessage {
        warning(format!("{}; reading goes on after them", self.what()))
    }
}

/// The error of a topic that is another one than the one that was read.
pub(super) fn made_again(pipeline: &str, partition: &TopicPartition, offset: i64) -> SqlError {
    SqlError::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the message at offset {offset} of partition {partition} is another than the one that was read"),
    )
    .detail("the topic was deleted and made again")
    .hint(skip_hint(pipeline))
}

pub(super) fn skip_hint(pipeline: &str) -> String {
    format!(
        "ALTER PIPELINE {} SET (lost_offsets = 'skip') goes on with the oldest message there is",
        boathouse_sql::name::quote_identifier(pipeline)
    )
}

pub(super) fn warning(message: String) -> RunMessage {
    RunMessage {
        severity: Severity::Warning,
        sqlstate: SqlState::WARNING.0.to_owned(),
        message,
        file: None,
        sheet: None,
        row: None,
        column: None,
        hint: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition {
            topic: "orders".into(),
            partition: 3,
        }
    }

    fn progress(next: i64) -> Progress {
        Progress {
            next,
            mark: Some(next),
            start: None,
            last: None,
        }
    }

    #[test]
    fn a_gap_is_named() {
        let ends = PartitionEnds { low: 10, high: 20 };
        let gap = |next| Gap::between(&partition(), &progress(next), ends).map(|gap| gap.what());
        assert_eq!(gap(10), None);
        assert_eq!(gap(20), None);
        assert_eq!(
            gap(7).unwrap(),
            "partition orders/3 no longer has offsets 7 to 9, which were not read"
        );
        assert_eq!(
            gap(21).unwrap(),
            "partition orders/3 ends at offset 20, before offset 21 that is to be read next"
        );
    }

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let mut before = progress(8);
        before.start = Some(2);
        before.last = Some(LastMessage {
            offset: 6,
            fingerprint: u64::MAX,
        });
        let all = BTreeMap::from([(partition(), before.clone())]);
        let position = json!({ "topics": to_json(&all) });
        let recorded = Recorded::from_json(Some(&position));
        assert_eq!(recorded.starts[&partition()], 2);
        assert_eq!(recorded.lasts[&partition()], (8, before.last.unwrap()));
        assert_eq!(before.read_from(), 6);
    }
}
