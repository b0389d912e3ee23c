//! `REPLAY QUARANTINE` where rows go to tables by a column.
//!
//! `SET` may correct the column that names the table, so it is applied once to find the table, and again to make the row. Each
//! table's rows are a sequence and a commit of their own, so a replay that dies half way has replayed whole tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use boathouse_catalog::definitions::{ObjectId, PipelineDefinition};
use boathouse_sql::statement::ReplayQuarantine;
use serde_json::{Value, json};

use super::super::super::quarantine::QuarantinedRow;
use super::super::super::replay::{Corrections, Replaying, unknown_columns, waiting_rows};
use super::super::super::rows::{Rows, count};
use super::super::super::run::OpenRun;
use super::super::super::schema::SourceSchema;
use super::super::super::target::Target;
use super::super::decode::Decoding;
use super::super::plan::{FanPlan, TopicPlan};
use super::super::pump::partitions_of;
use super::super::replay::{BLOCK_MESSAGES, block_of, decode, partitions_of as partitions_in};
use super::{FanOut, Opened, table_name};
use crate::error::{SqlError, SqlState};

/// Replays what the statement selects.
pub(in crate::ingest::kafka) async fn replay_by_table(
    open: &mut OpenRun,
    (plan, fan): (&TopicPlan, &FanPlan),
    pipeline: &PipelineDefinition,
    statement: &ReplayQuarantine,
) -> Result<(), SqlError> {
    let session = plan.cluster.session()?;
    let partitions = partitions_of(plan, &session).await?;
    let begun = FanOut::open(plan, fan, open, pipeline.id, (&session, &partitions)).await?;
    let Opened {
        mut fan,
        source,
        position,
        ..
    } = begun;
    let mut waiting = waiting_rows(plan.rows.engine(), pipeline.id).await?;
    waiting.retain(|row| row.message.is_some());
    if waiting.is_empty() {
        return Ok(());
    }
    if source.is_empty() && plan.rows.query.is_some() {
        return Err(unknown_columns());
    }
    fan.plan(&source).await?;
    let by_table = fan.rows_by_table(&waiting, &source, statement).await?;
    let mut position = position.unwrap_or_else(|| json!({}));
    let mut refused = None;
    let mut replayed = by_table.is_empty();
    for ((name, value), rows) in by_table {
        let rows: Vec<QuarantinedRow> = rows.into_iter().map(|row| waiting[row].clone()).collect();
        position["tables"] = json!([name]);
        let work = TableReplay {
            statement,
            waiting: &rows,
            routing: &source,
            position: &position,
        };
        let before = std::mem::take(&mut open.counters);
        let outcome = fan.replay_into(open, pipeline.id, &value, work).await;
        fan.forget_unlanded();
        open.counters.rows_in += before.rows_in;
        open.counters.rows_out += before.rows_out;
        open.counters.rows_quarantined += before.rows_quarantined;
        match outcome {
            Ok(()) => replayed = true,
            // Its messages have not the columns that the statement names; those of other tables may.
            Err(error) if error.state == SqlState::UNDEFINED_COLUMN => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    match refused {
        Some(error) if !replayed => Err(error),
        _ => Ok(()),
    }
}

/// What is replayed into one table.
struct TableReplay<'r> {
    statement: &'r ReplayQuarantine,
    waiting: &'r [QuarantinedRow],
    /// The columns that routing needs.
    routing: &'r SourceSchema,
    position: &'r Value,
}

impl FanOut<'_> {
    /// The waiting rows by the table that each names once it is corrected. One that names none goes on waiting.
    async fn rows_by_table(
        &mut self,
        waiting: &[QuarantinedRow],
        source: &SourceSchema,
        statement: &ReplayQuarantine,
    ) -> Result<BTreeMap<(String, String), Vec<usize>>, SqlError> {
        let router = self.router.as_ref();
        let router = router.ok_or_else(|| SqlError::internal("the routing was not planned"))?;
        let mut corrected = statement.clone();
        corrected.filter = None;
        let columns = router.transform().source();
        corrected
            .assignments
            .retain(|(name, _)| columns.index_of(name).is_ok());
        let corrections = Corrections::plan(&self.plan.rows, router.transform(), &corrected)?;
        let partitions = partitions_in(waiting);
        let mut decoding = Decoding::new(self.plan, source, &partitions);
        decoding.schema.keep_unknown = false;
        let mut named: Vec<(usize, String)> = Vec::new();
        for first in (0..waiting.len()).step_by(BLOCK_MESSAGES) {
            let end = waiting.len().min(first + BLOCK_MESSAGES);
            let some = &waiting[first..end];
            let placed = decode(&decoding, some, &partitions, first).await?;
            let Some(batch) = corrections.apply(placed, waiting, router.transform())? else {
                continue;
            };
            for (row, value) in router.values(&batch.rows)?.0 {
                named.extend(value.map(|value| (batch.numbers[row as usize], value)));
            }
        }
        named.sort_unstable();
        let mut by_table: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        for (row, value) in named {
            let Ok((_, name)) = table_name(Some(&value), &self.fan.by) else {
                continue;
            };
            by_table.entry((name, value)).or_default().push(row);
        }
        Ok(by_table)
    }

    /// Replays rows into one table.
    async fn replay_into(
        &mut self,
        open: &mut OpenRun,
        pipeline: ObjectId,
        value: &str,
        work: TableReplay<'_>,
    ) -> Result<(), SqlError> {
        let plan = self.plan;
        // One whose name is taken, or for which there is no room, goes on waiting.
        let Ok(table) = self.table_of(Some(value)) else {
            open.counters.rows_quarantined = count(work.waiting.len());
            return Ok(());
        };
        let partitions = partitions_in(work.waiting);
        let mut decoding = Decoding::new(plan, work.routing, &partitions);
        let routing = work.routing.clone();
        let mut tally = Rows::new(&plan.rows, pipeline, open.run, routing, open.counters);
        table.open(pipeline, &decoding).await?;
        for some in work.waiting.chunks(BLOCK_MESSAGES) {
            let block = Arc::new(block_of(some, &partitions, &[]));
            table.learn(plan, &decoding, &block).await?;
        }
        let columns = table.columns(&tally.source);
        let (transform, expectations) = table.shape(plan, &mut tally, &columns).await?;
        open.add_messages(std::mem::take(&mut tally.messages))
            .await?;
        decoding.schema.columns = columns.arrow();
        if Target::find(&table.plan).await?.is_none() {
            // No table is made for rows that are not selected, or that no rule lets pass.
            let corrections = Corrections::plan(&table.plan, &transform, work.statement)?;
            let mut passing = 0;
            for first in (0..work.waiting.len()).step_by(BLOCK_MESSAGES) {
                let end = work.waiting.len().min(first + BLOCK_MESSAGES);
                let some = &work.waiting[first..end];
                let placed = decode(&decoding, some, &partitions, first).await?;
                let Some(batch) = corrections.apply(placed, work.waiting, &transform)? else {
                    continue;
                };
                for part in transform.apply(&batch.rows).await?.0 {
                    let verdict = expectations.judge(&part.output);
                    let all = part.output.num_rows();
                    passing += verdict.keep.map_or(all, |keep| keep.true_count());
                }
            }
            if passing == 0 {
                open.counters.rows_quarantined = count(work.waiting.len());
                return Ok(());
            }
        }
        let row_plan = Arc::clone(&table.plan);
        let mut rows = Rows::new(&row_plan, pipeline, open.run, columns, open.counters);
        rows.lands = table.lands.take();
        let mut replaying = Replaying::begin(&mut rows, work.statement).await?;
        for first in (0..work.waiting.len()).step_by(BLOCK_MESSAGES) {
            let end = work.waiting.len().min(first + BLOCK_MESSAGES);
            let some = &work.waiting[first..end];
            let placed = decode(&decoding, some, &partitions, first).await?;
            replaying
                .take(open, &mut rows, placed, work.waiting)
                .await?;
        }
        // On record before its commit, so that a start finds the commit.
        table.ready = rows.ready.take();
        let record: Vec<_> = table.record().into_iter().collect();
        rows.ready = table.ready.take();
        let captures = plan.rows.engine().catalog.captures();
        captures.put(pipeline, &open.lease, &record).await?;
        let position = work.position.clone();
        let done = replaying.commit(open, &mut rows, table.mark, position);
        done.await?;
        table.ready = rows.ready.take();
        Ok(())
    }
}
