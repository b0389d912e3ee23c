//! Changes of the source's tables, followed by the tables they land in.
//!
//! A statement in the binlog tells what was renamed, dropped, emptied, and what an added column has in the rows
//! that were there. What columns a table has at a place of the binlog is told by its rows; where none come, by the
//! server, as soon as everything up to its answer has been read. The two are brought together here, by ordinary
//! statements to our own tables: each does nothing where it has been done, so that it may be done again after a
//! crash.
//!
//! What cannot be told so (a computed value in rows that were there, a type whose values are converted) is not
//! guessed: the table is read anew while it stays as it is, and gets its new rows in one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use boathouse_catalog::definitions::TableDefinition;
use boathouse_catalog::types::ColumnType;
use boathouse_connectors::mysql::types::SourceType;
use boathouse_connectors::mysql::{
    AddedValue, ColumnChange, DefaultValue, SchemaChange, SourceColumn, SourceTable, TableName,
};
use boathouse_sql::name::{quote_identifier, quote_literal};

use super::plan::{Follow, Follows};
use super::pump::Pump;
use super::shape::{DELETED, Deletes, Kind, Shape};
use super::sql::{self, qualified};
use super::state::{CaptureState, SnapshotState, in_files};
use super::target;
use crate::error::{SqlError, SqlState};
use crate::lake::CommitRequest;

/// Follows a statement.
pub(super) async fn change(pump: &mut Pump, changes: Vec<SchemaChange>) -> Result<(), SqlError> {
    let mut renames = Vec::new();
    for change in changes {
        if let SchemaChange::Alter { table, .. } = &change
            && let Some(captured) = pump.tables.get(table)
            && pump.stream.next_place() <= captured.state.listed_at
        {
            continue;
        }
        match change {
            SchemaChange::Create(name) => created(pump, name).await?,
            SchemaChange::Drop(name) => dropped(pump, &name).await?,
            SchemaChange::DropDatabase(database) => {
                let names: Vec<TableName> = pump.tables.keys().cloned().collect();
                for name in names.iter().filter(|name| name.database == database) {
                    dropped(pump, name).await?;
                }
            }
            SchemaChange::Truncate(name) => {
                match pump.plan.options.follows.truncate {
                    Follow::Evolve => {}
                    Follow::Ignore => continue,
                    Follow::Exception => return Err(stops(&name, "truncate", "TRUNCATE", &[])),
                }
                if pump.tables.contains_key(&name) && !pump.is_ahead(&name) {
                    truncate(pump, &name).await?;
                }
            }
            SchemaChange::Rename { from, to } => renames.push((from, to)),
            SchemaChange::Alter { table, changes } => {
                if pump.is_ahead(&table) || !pump.tables.contains_key(&table) {
                    continue;
                }
                // On record before the position can pass the statement.
                if changes.contains(&ColumnChange::Unclear) {
                    pump.warn(format!(
                        "{table} is read anew: what its rows became cannot be told"
                    ));
                    reload(pump, &table).await?;
                }
                pump.hint(&table, changes);
            }
        }
    }
    renamed(pump, renames).await
}

/// A table was made: what it has comes with the changes.
async fn created(pump: &mut Pump, name: TableName) -> Result<(), SqlError> {
    if !(pump.plan.wanted)(&name) || pump.is_ahead(&name) {
        return Ok(());
    }
    match pump.tables.get(&name) {
        // One of its name was dropped, and its rows stayed.
        Some(captured) if captured.state.dropped => {
            truncate(pump, &name).await?;
            pump.change_state(&name, |state| {
                state.dropped = false;
                state.snapshot = SnapshotState::Done { rows: 0 };
            })
            .await?;
            pump.hint(&name, vec![]);
            Ok(())
        }
        // It was met when the source's tables were listed, further on than this statement.
        Some(_) => Ok(()),
        None => {
            let (found, place) = pump.look_up(&name).await?;
            match found {
                Some(source) => pump.capture(source, false, place).await,
                // It is there no longer. Its rows, if it has any, tell its columns.
                None => Ok(()),
            }
        }
    }
}

async fn dropped(pump: &mut Pump, name: &TableName) -> Result<(), SqlError> {
    if !pump.tables.contains_key(name) || pump.is_ahead(name) {
        return Ok(());
    }
    if pump.plan.options.follows.drop_table == Follow::Exception {
        return Err(stops(name, "drop_table", "DROP TABLE", &[]));
    }
    pump.discard_chunk(name);
    pump.change_state(name, |state| state.dropped = true)
        .await?;
    if let Some(captured) = pump.tables.get_mut(name) {
        captured.hints = None;
    }
    pump.warn(format!(
        "{name} was dropped at the source; the table it landed in keeps its rows"
    ));
    Ok(())
}

/// Empties a table, under a sequence as rows are committed: whoever has lost the lease cannot.
async fn truncate(pump: &mut Pump, name: &TableName) -> Result<(), SqlError> {
    pump.discard_chunk(name);
    let Some(captured) = pump.tables.get_mut(name) else {
        return Ok(());
    };
    // Nothing that was read before counts any more, and nothing can be in the table.
    captured.touched.clear();
    captured.staged.clear();
    let reads = !captured.state.snapshot.is_done();
    let schema = target::schema_name(&pump.plan, &captured.definition);
    let table = qualified(&schema, &captured.definition.name);
    let of_this = captured.shape.condition();
    let statement = match captured.shape.deletes {
        Deletes::Hard if captured.shape.shard.is_none() => None,
        Deletes::Hard => Some(format!("DELETE FROM {table} WHERE {of_this}")),
        Deletes::Soft => Some(format!(
            "UPDATE {table} SET {DELETED} = true WHERE {DELETED} IS NOT TRUE AND {of_this}"
        )),
        Deletes::History => return Ok(()),
    };
    if let Some(statement) = statement {
        // It does nothing where it has been done.
        sql::run(&pump.plan, &[statement]).await?;
        if reads {
            captured.touched_is_whole = false;
            pump.change_state(name, |state| state.snapshot = SnapshotState::begin())
                .await?;
        }
        return Ok(());
    }
    let (lake, mark) = (Arc::clone(&captured.lake), captured.mark);
    let committer = pump.committer.clone();
    let sequence = committer
        .prepare(&pump.committed, pump.sequence, &[])
        .await?;
    lake.commit(CommitRequest {
        operation: "TRUNCATE".into(),
        removes_all: true,
        transaction: Some(committer.mark(mark, sequence)),
        info: committer.info(),
        ..CommitRequest::default()
    })
    .await?;
    committer.settle(sequence).await?;
    pump.sequence = sequence;
    pump.marked(name, sequence);
    if let Some(captured) = pump.tables.get_mut(name) {
        captured.touched_is_whole |= reads;
    }
    if reads {
        pump.change_state(name, |state| state.snapshot = SnapshotState::begin())
            .await?;
    }
    Ok(())
}

/// Tables got other names, several at once.
async fn renamed(pump: &mut Pump, renames: Vec<(TableName, TableName)>) -> Result<(), SqlError> {
    // Where each name's table comes from, after all of them.
    let mut origins: BTreeMap<TableName, TableName> = BTreeMap::new();
    for (from, to) in &renames {
        let origin = origins.remove(from).unwrap_or_else(|| from.clone());
        origins.insert(to.clone(), origin);
    }
    let left: Vec<TableName> = renames
        .iter()
        .map(|(from, _)| from.clone())
        .filter(|from| !origins.contains_key(from))
        .collect();
    for (to, origin) in &origins {
        if !(pump.plan.wanted)(to) || to == origin {
            continue;
        }
        if pump.is_ahead(to) {
            continue;
        }
        let known = pump.tables.contains_key(to);
        if !known && !move_table(pump, origin, to).await? {
            // It is new under a wanted name: its rows are there already.
            let (found, place) = pump.look_up(to).await?;
            if let Some(source) = found {
                pump.capture(source, true, place).await?;
            }
        } else if known {
            // Another table has the name now: what it has is read in its place.
            pump.discard_chunk(to);
            pump.change_state(to, |state| state.dropped = false).await?;
            reload(pump, to).await?;
            pump.hint(to, vec![ColumnChange::Unclear]);
        }
    }
    // A name that no table has any more; what had it may have moved on with its rows.
    for name in left {
        // They are there under the new name, where tables are told apart by it.
        let moved_on = origins
            .iter()
            .any(|(to, origin)| *origin == name && (pump.plan.wanted)(to));
        if moved_on && pump.plan.one_table.is_some() && !pump.is_ahead(&name) {
            truncate(pump, &name).await?;
        }
        dropped(pump, &name).await?;
    }
    Ok(())
}

/// Gives the table that a source's table lands in the source's new name. Tells whether it could.
async fn move_table(pump: &mut Pump, from: &TableName, to: &TableName) -> Result<bool, SqlError> {
    let Some(captured) = pump.tables.get(from) else {
        return Ok(false);
    };
    if captured.state.dropped
        || !captured.state.snapshot.is_done()
        || captured.shape.shard.is_some()
    {
        return Ok(false);
    }
    let target = captured.state.target;
    // The new record first: whatever is cut short after it is gone on with from there.
    let mut state = captured.state.clone();
    state.table.name = to.clone();
    state.renamed_from = Some(from.clone());
    pump.put(&state).await?;
    pump.finish_rename(&state).await?;
    let Some(mut captured) = pump.tables.remove(from) else {
        return Ok(false);
    };
    pump.stream.forget(from);
    state.renamed_from = None;
    captured.state = state;
    if let Some((definition, lake)) = target::reopen(&pump.plan, target).await? {
        captured.definition = definition;
        captured.lake = lake;
    }
    pump.tables.insert(to.clone(), captured);
    pump.change_state(to, |_| {}).await?;
    pump.hint(to, Vec::new());
    Ok(true)
}

/// Has a table read anew; until that is done it stays as it is, and is kept up with the changes.
pub(super) async fn reload(pump: &mut Pump, name: &TableName) -> Result<(), SqlError> {
    pump.discard_chunk(name);
    if let Some(captured) = pump.tables.get_mut(name) {
        captured.forget_reading();
        captured.uncertain.clear();
    }
    pump.change_state(name, |state| {
        state.has_partials = false;
        state.snapshot = SnapshotState::Reading {
            after: None,
            rows: 0,
            replaces: true,
        };
    })
    .await
}

/// Changes took effect that are not known any more.
pub(super) async fn unproved(pump: &mut Pump, tables: BTreeSet<TableName>) -> Result<(), SqlError> {
    for name in &tables {
        let Some(captured) = pump.tables.get_mut(name) else {
            continue;
        };
        if captured.reloads() {
            captured.reloads_again = true;
            continue;
        }
        pump.warn(format!(
            "{name} is read anew: a transaction changed it that the binlog does not tell in full"
        ));
        reload(pump, name).await?;
    }
    // Rows that were held do not tell what they are by now.
    pump.flush().await?;
    pump.wait_committed().await?;
    for name in &tables {
        if let Some(captured) = pump.tables.get_mut(name)
            && !captured.reloads_again
        {
            captured.touched.clear();
        }
    }
    Ok(())
}

/// Rows have come of a table that is not known as it is.
pub(super) async fn differs(
    pump: &mut Pump,
    name: TableName,
    columns: Vec<SourceColumn>,
    key: Vec<String>,
) -> Result<(), SqlError> {
    if !pump.tables.contains_key(&name) {
        let (found, place) = pump.look_up(&name).await?;
        let reads = pump.plan.options.snapshot;
        let (source, reads) = match found {
            Some(source) => (source, reads),
            // It is there no longer: all it ever had is in the binlog, and so are the statements that change it.
            None => {
                let source = SourceTable {
                    name: name.clone(),
                    columns,
                    key,
                    comment: None,
                    rows_estimate: 0,
                    bytes_estimate: 0,
                };
                let here = pump.stream.position().place();
                return pump.capture(source, false, here).await;
            }
        };
        return pump.capture(source, reads, place).await;
    }
    let Some(captured) = pump.tables.get(&name) else {
        return Ok(());
    };
    if captured.state.dropped {
        return pump
            .change_state(&name, |state| state.dropped = false)
            .await;
    }
    let mut source = captured.state.table.clone();
    source.columns = columns;
    // The statement that changed the columns may have changed their defaults, too.
    source.columns = without_defaults(&source);
    if !key.is_empty() && !captured.source.key.is_empty() {
        source.key = key;
    } else if is_foreseen(pump, &captured.state)
        && !source.key.iter().all(|name| source.column(name).is_some())
    {
        // A key of columns that are yet to come.
        source.key = key;
    }
    follow(pump, &name, source).await?;
    if let Some(captured) = pump.tables.get_mut(&name) {
        captured.lacks_defaults = true;
    }
    Ok(())
}

/// Brings tables into line of which statements said something and no rows have come since.
pub(super) async fn align(pump: &mut Pump) -> Result<(), SqlError> {
    let hinted: Vec<TableName> = pump
        .tables
        .iter()
        .filter(|(_, captured)| captured.hints.is_some() && !captured.state.dropped)
        .map(|(name, _)| name.clone())
        .collect();
    if hinted.is_empty() {
        return Ok(());
    }
    if pump.proposal.is_none() {
        let names = hinted.clone();
        let server = &pump.plan.server;
        let tables = server
            .source_tables(move |name| names.contains(name))
            .await?;
        let place = server.source_state().await?.position.place();
        pump.proposal = Some((place, tables));
    }
    let reached = |place: &(u64, u64)| pump.stream.position().place() >= *place;
    if !pump
        .proposal
        .as_ref()
        .is_some_and(|(place, _)| reached(place))
    {
        return Ok(());
    }
    let Some((_, tables)) = pump.proposal.take() else {
        return Ok(());
    };
    pump.flush().await?;
    pump.wait_committed().await?;
    for name in hinted {
        match tables.iter().find(|table| table.name == name) {
            Some(source) => follow(pump, &name, source.clone()).await?,
            None => {
                // It is gone, and so will its statement say.
                if let Some(captured) = pump.tables.get_mut(&name) {
                    captured.hints = None;
                }
            }
        }
    }
    Ok(())
}

/// What is to be done to a table.
#[derive(Default)]
struct Todo {
    steps: Vec<Alteration>,
    /// Its rows have to be read anew, for this reason.
    reload: Option<String>,
}

/// A statement to the table.
struct Alteration {
    statement: String,
    /// What is done instead where everything is read anew, should the statement be refused.
    otherwise: Vec<String>,
    /// The column that it drops.
    drops: Option<String>,
}

impl Todo {
    fn push(&mut self, statement: String) {
        self.steps.push(Alteration {
            statement,
            otherwise: Vec::new(),
            drops: None,
        });
    }

    fn reload(&mut self, reason: impl Into<String>) {
        self.reload.get_or_insert_with(|| reason.into());
    }
}

/// Gives a table the columns that its source has.
async fn follow(
    pump: &mut Pump,
    name: &TableName,
    mut source: SourceTable,
) -> Result<(), SqlError> {
    let Some(captured) = pump.tables.get_mut(name) else {
        return Ok(());
    };
    let mut hints = captured.hints.take().unwrap_or_default();
    let state = captured.state.clone();
    let known = &state.table;
    source.rows_estimate = source.rows_estimate.max(known.rows_estimate);
    source.bytes_estimate = source.bytes_estimate.max(known.bytes_estimate);
    let in_files_before = state.in_files.clone();
    let Some((definition, lake)) = target::reopen(&pump.plan, state.target).await? else {
        return Ok(());
    };
    let rows = lake.snapshot(None).await?.row_count();
    let schema = target::schema_name(&pump.plan, &definition);
    let table = qualified(&schema, &definition.name);
    let mut todo = Todo::default();
    // What it was described as is of later, and what statements said on the way to its first rows is of columns
    // that nothing here has yet.
    let begins = rows == Some(0) && is_foreseen(pump, &state);
    let mut follows = pump.plan.options.follows;
    if begins {
        hints.clear();
        follows = Follows::EVOLVE;
    }
    let columns = followed(&state, &hints);
    let mut state = state;
    let mut shape = pump.plan.shape(&source, &state.ignored).await;
    if follows.add_column != Follow::Evolve
        && let Ok(found) = &shape
        && let added = added(&found.lands, &columns)
        && !added.is_empty()
    {
        if follows.add_column == Follow::Exception {
            return Err(stops(name, "add_column", "ADD COLUMN", &added));
        }
        state.ignored.extend(added);
        shape = pump.plan.shape(&source, &state.ignored).await;
    }
    let shape = shape.map_err(|error| refused(name, error))?;
    let sides = (&source, shape.lands.as_ref());
    check_follows(follows, &columns, &mut state, sides, &definition)?;
    let known = &state.table;
    match shape.shard {
        None => plan(
            &mut todo,
            &table,
            &columns,
            (&state, &shape.lands),
            &definition,
            rows == Some(0),
        ),
        Some(_) => plan_in_one(&mut todo, &table, &columns, (&state, &shape), &definition),
    }
    if known.key != source.key {
        todo.reload("its key is another");
    }
    let mut kept = BTreeSet::new();
    for step in std::mem::take(&mut todo.steps) {
        let Err(error) = sql::run(&pump.plan, &[step.statement]).await else {
            continue;
        };
        if let Some(column) = &step.drops
            && error.state == SqlState::DEPENDENT_OBJECTS_STILL_EXIST
            && let Some(mine) = definition.column(column)
            && is_gone(&columns, &source, mine.name_in_files())
        {
            match shape.lands.column(column) {
                None => {
                    kept.insert(mine.name_in_files().to_owned());
                    if !state.kept.contains(mine.name_in_files()) {
                        let why = error.detail.unwrap_or(error.message);
                        pump.warn(format!(
                            "column \"{column}\" of {name} is gone at the source and stays here: {why}; it goes with a run or a change of the table after that"
                        ));
                    }
                }
                // Another one has its name by now, and what is here is read anew.
                Some(now) if now.source_type.column_type() == mine.column_type => {
                    todo.reload(format!("column {column} is another one"));
                }
                Some(_) => return Err(refused(name, error)),
            }
            continue;
        }
        if !pump.refreshes || step.otherwise.is_empty() {
            return Err(refused(name, error));
        }
        let done = sql::run(&pump.plan, &step.otherwise).await;
        done.map_err(|error| refused(name, error))?;
        todo.reload
            .get_or_insert_with(|| "a column is of another type".to_owned());
    }
    let changed = source != *known;
    let has_other_columns = without_defaults(&source) != without_defaults(known);
    let Some((definition, _)) = target::reopen(&pump.plan, state.target).await? else {
        return Ok(());
    };
    let (statements, is_new) = match shape.shard {
        None => made_of(&shape, &table, &definition),
        Some(_) => (Vec::new(), false),
    };
    if !statements.is_empty() {
        let done = sql::run(&pump.plan, &statements).await;
        done.map_err(|error| refused(name, error))?;
    }
    if is_new {
        todo.reload("a column is made otherwise of its columns");
    }
    let Some((definition, lake)) = target::reopen(&pump.plan, state.target).await? else {
        return Ok(());
    };
    target::check_key(&definition, &shape).map_err(|error| refused(name, error))?;
    let (definition, lake) = match target::follow_key(&pump.plan, &definition, &shape.lands).await?
    {
        true => match target::reopen(&pump.plan, state.target).await? {
            Some(opened) => opened,
            None => return Ok(()),
        },
        false => (definition, lake),
    };
    let in_files = in_files(&shape.lands, &definition);
    pump.defined(&definition, &lake);
    if changed || in_files != in_files_before || kept != state.kept {
        pump.discard_chunk(name);
        let ignored = state.ignored.clone();
        let mut left = state.left.clone();
        left.retain(|one| !in_files.values().any(|now| now == one));
        pump.change_state(name, |state| {
            state.ignored = ignored;
            state.kept = kept;
            state.left = left;
            state.table = source;
            state.in_files = in_files;
        })
        .await?;
    }
    pump.stream.trust_defaults(name, true);
    if let Some(captured) = pump.tables.get_mut(name) {
        captured.lacks_defaults = false;
    }
    let reads = !state.snapshot.is_done();
    if let Some(reason) = todo.reload {
        if rows != Some(0) {
            pump.warn(format!("{name} is read anew: {reason}"));
            reload(pump, name).await?;
        }
    } else if reads && has_other_columns {
        // Chunks that were read have not what was added since; the simplest is to begin again.
        reload(pump, name).await?;
    }
    Ok(())
}

/// Whether no column of the source is what a column of our data files was, whether it lands or not.
fn is_gone(columns: &[Followed], source: &SourceTable, in_files: &str) -> bool {
    !columns.iter().any(|column| {
        let was = column.was.as_ref();
        was.and_then(|(_, in_files)| in_files.as_deref()) == Some(in_files)
            && source.column(&column.name).is_some()
    })
}

/// Whether a table may be described as of later than what is read now.
fn is_foreseen(pump: &Pump, state: &CaptureState) -> bool {
    let here = pump.stream.next_place();
    state.foreseen_at.is_some_and(|place| here <= place)
}

/// The columns apart from what rows have that do not name them.
fn without_defaults(table: &SourceTable) -> Vec<SourceColumn> {
    let mut columns = table.columns.clone();
    for column in &mut columns {
        column.default = DefaultValue::Computed;
    }
    columns
}

/// The same for one of several tables that land in one: a column is there as long as one of them ever had it,
/// and has the widest type.
fn plan_in_one(
    todo: &mut Todo,
    table: &str,
    columns: &[Followed],
    (state, shape): (&CaptureState, &Shape),
    definition: &TableDefinition,
) {
    todo.steps.extend(
        columns_in_one(table, shape, definition)
            .into_iter()
            .map(|statement| Alteration {
                statement,
                otherwise: Vec::new(),
                drops: None,
            }),
    );
    let is_left = |column: &str| {
        let mine = definition.column(column);
        mine.is_some_and(|mine| state.left.contains(mine.name_in_files()))
    };
    for column in &shape.lands.columns {
        let followed = columns.iter().find(|one| one.name == column.name);
        let was = followed.and_then(|one| one.was.as_ref());
        let in_files = was.and_then(|(_, in_files)| in_files.as_deref());
        let same = definition
            .column(&column.name)
            .is_some_and(|mine| in_files == Some(mine.name_in_files()));
        let value = followed.and_then(|one| one.value.as_ref());
        match was {
            Some((old, _)) if same => {
                if converts(old, &column.source_type) && !widens(old, &column.source_type) {
                    todo.reload(format!("column {} was converted", column.name));
                }
            }
            None if value == Some(&AddedValue::Null) && !is_left(&column.name) => {}
            _ => todo.reload(format!("column {} has other values", column.name)),
        }
    }
    let gone = state.in_files.values().filter_map(|in_files| {
        let mut mine = definition.columns.iter();
        let mine = mine.find(|one| one.name_in_files() == in_files)?;
        let lands = shape.columns.iter().any(|column| column.name == mine.name);
        (!lands && mine.nullable).then(|| quote_identifier(&mine.name))
    });
    let of_this = shape.condition();
    for name in gone {
        todo.push(format!(
            "UPDATE {table} SET {name} = NULL WHERE {name} IS NOT NULL AND {of_this}"
        ));
    }
}

/// The statements that give a table that several land in the columns of one.
pub(super) fn columns_in_one(
    table: &str,
    shape: &Shape,
    definition: &TableDefinition,
) -> Vec<String> {
    let mut statements = Vec::new();
    for column in &shape.columns {
        let name = quote_identifier(&column.name);
        let has = column.column_type.sql_name();
        let wider =
            |from: &ColumnType, to: &ColumnType| crate::lake::widens(&from.arrow(), &to.arrow());
        match definition.column(&column.name) {
            None => statements.push(format!(
                "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {has}"
            )),
            Some(mine) if mine.column_type == column.column_type => {}
            Some(mine) if wider(&column.column_type, &mine.column_type) => {}
            // Refused where it is not wider.
            Some(_) => statements.push(format!(
                "ALTER TABLE {table} ALTER COLUMN {name} TYPE {has}"
            )),
        }
    }
    statements
}

/// The columns that land and did not before.
fn added(lands: &SourceTable, columns: &[Followed]) -> Vec<String> {
    let is_known = |name: &str| {
        let mut columns = columns.iter();
        let followed = columns.find(|column| column.name == name);
        let was = followed.and_then(|column| column.was.as_ref());
        was.is_some_and(|(_, in_files)| in_files.is_some())
    };
    let names = lands.columns.iter().map(|column| &column.name);
    names.filter(|name| !is_known(name)).cloned().collect()
}

/// Whether changes are to be followed. Columns that are gone at the source and stay here are forgotten.
fn check_follows(
    follows: Follows,
    columns: &[Followed],
    state: &mut CaptureState,
    (source, lands): (&SourceTable, &SourceTable),
    definition: &TableDefinition,
) -> Result<(), SqlError> {
    let name = &source.name;
    let landed = |column: &Followed| {
        let in_files = column.was.as_ref()?.1.as_deref()?;
        let mut ours = definition.columns.iter();
        ours.find(|one| one.name_in_files() == in_files)
    };
    let mut renamed = Vec::new();
    let mut retyped = Vec::new();
    for column in columns {
        let (Some(mine), Some(now)) = (landed(column), lands.column(&column.name)) else {
            continue;
        };
        if mine.name != column.name {
            renamed.push(mine.name.clone());
        }
        let was = column.was.as_ref().map(|(was, _)| was);
        let same = was.is_some_and(|was| {
            was.column_type() == now.source_type.column_type() && !converts(was, &now.source_type)
        });
        if !same {
            retyped.push(column.name.clone());
        }
    }
    if follows.rename_column == Follow::Exception && !renamed.is_empty() {
        return Err(stops(name, "rename_column", "RENAME COLUMN", &renamed));
    }
    if follows.change_type == Follow::Exception && !retyped.is_empty() {
        return Err(stops(name, "change_type", "a change of type", &retyped));
    }
    let stays: BTreeSet<&str> = columns
        .iter()
        .filter(|column| lands.column(&column.name).is_some())
        .filter_map(|column| column.was.as_ref()?.1.as_deref())
        .collect();
    // What the pipeline itself leaves out goes in any case.
    let is_there = |column: &str| {
        let mut columns = columns.iter();
        columns.any(|one| {
            let was = one
                .was
                .as_ref()
                .and_then(|(_, in_files)| in_files.as_deref());
            was == Some(column) && source.column(&one.name).is_some()
        })
    };
    let gone: Vec<String> = state
        .in_files
        .iter()
        .filter(|(_, in_files)| !stays.contains(in_files.as_str()) && !is_there(in_files))
        .map(|(column, _)| column.clone())
        .collect();
    if gone.is_empty() || follows.drop_column == Follow::Evolve {
        return Ok(());
    }
    if follows.drop_column == Follow::Exception {
        return Err(stops(name, "drop_column", "DROP COLUMN", &gone));
    }
    let (gone, stay): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut state.in_files)
        .into_iter()
        .partition(|(column, _)| gone.contains(column));
    state.left.extend(gone.into_values());
    state.in_files = stay;
    Ok(())
}

/// A change that the pipeline is to stop before.
fn stops(name: &TableName, option: &str, change: &str, columns: &[String]) -> SqlError {
    let of = match columns {
        [] => String::new(),
        columns => format!(" ({})", columns.join(", ")),
    };
    SqlError::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("{name} has met {change}{of}, and the pipeline has {option} = 'exception'"),
    )
    .hint(format!(
        "CREATE OR REPLACE PIPELINE with {option} = 'evolve' has it followed from here"
    ))
}

/// The statements that give a table the columns that are none of the source's. Tells whether one is computed
/// that rows have not got yet.
fn made_of(shape: &Shape, table: &str, definition: &TableDefinition) -> (Vec<String>, bool) {
    let mut statements = Vec::new();
    let mut is_new = false;
    for column in shape.extras() {
        let name = quote_identifier(&column.name);
        let known = definition.column(&column.name);
        if known.is_some_and(|known| known.column_type == column.column_type) {
            continue;
        }
        if known.is_some() {
            statements.push(format!("ALTER TABLE {table} DROP COLUMN {name}"));
        }
        statements.push(format!(
            "ALTER TABLE {table} ADD COLUMN {name} {}",
            column.column_type.sql_name()
        ));
        is_new |= column.kind == Kind::Computed;
    }
    (statements, is_new)
}

/// A column of the source, followed through statements.
#[derive(Clone)]
struct Followed {
    /// What it is called in the end.
    name: String,
    /// Its type before, and what our data files call it; `None` for one that was added.
    was: Option<(SourceType, Option<String>)>,
    /// What an added one has in rows that were there.
    value: Option<AddedValue>,
}

/// The columns that a table was known to have, as statements leave them. Within one statement all names are those
/// of before.
fn followed(state: &CaptureState, hints: &[Vec<ColumnChange>]) -> Vec<Followed> {
    let known = state.table.columns.iter().map(|column| Followed {
        name: column.name.clone(),
        was: Some((
            column.source_type.clone(),
            state.in_files.get(&column.name).cloned(),
        )),
        value: None,
    });
    let mut columns: Vec<Followed> = known.collect();
    for statement in hints {
        let before = columns.clone();
        let place = |name: &str| before.iter().position(|column| column.name == name);
        let mut gone = Vec::new();
        let mut added = Vec::new();
        for change in statement {
            match change {
                ColumnChange::Rename { from, to } => {
                    if let Some(column) = place(from).and_then(|at| columns.get_mut(at)) {
                        column.name.clone_from(to);
                    }
                }
                ColumnChange::Drop { name } => gone.extend(place(name)),
                ColumnChange::Add { name, value } => added.push(Followed {
                    name: name.clone(),
                    was: None,
                    value: Some(value.clone()),
                }),
                ColumnChange::Modify { .. } => {}
                // The table is being read anew since it was met.
                ColumnChange::Unclear => {}
            }
        }
        let mut index = 0;
        columns.retain(|_| {
            index += 1;
            !gone.contains(&(index - 1))
        });
        for column in added {
            if !columns.iter().any(|one| one.name == column.name) {
                columns.push(column);
            }
        }
    }
    columns
}

/// The statements that give a table the columns of its source, beginning with what it has now.
fn plan(
    todo: &mut Todo,
    table: &str,
    columns: &[Followed],
    (state, source): (&CaptureState, &SourceTable),
    definition: &TableDefinition,
    empty: bool,
) {
    let ours = |in_files: &str| {
        let mut columns = definition.columns.iter();
        columns.find(|column| column.name_in_files() == in_files)
    };
    let stays = |in_files: &str| {
        columns.iter().any(|column| {
            let same = column.was.as_ref().and_then(|(_, name)| name.as_deref()) == Some(in_files);
            same && source.column(&column.name).is_some()
        })
    };
    // Gone: columns of before that no column of now was.
    let mut gone: Vec<&str> = state
        .in_files
        .values()
        .chain(&state.kept)
        .filter(|in_files| !stays(in_files))
        .filter_map(|in_files| ours(in_files))
        .map(|column| column.name.as_str())
        .collect();
    // A table has a column at all times: the last goes when others are there.
    let last = match gone.len() == definition.columns.len() {
        true => gone.pop(),
        false => None,
    };
    for name in gone {
        let column = quote_identifier(name);
        todo.steps.push(Alteration {
            statement: format!("ALTER TABLE {table} DROP COLUMN IF EXISTS {column}"),
            otherwise: Vec::new(),
            drops: Some(name.to_owned()),
        });
    }
    if let Some(name) = last {
        todo.push(format!(
            "ALTER TABLE {table} RENAME COLUMN {} TO _dropped",
            quote_identifier(name)
        ));
    }
    // Renamed: all aside first, where a column that is renamed too still has a name that is wanted.
    let mut renames = Vec::new();
    for column in columns {
        if let Some((_, Some(in_files))) = &column.was
            && let Some(mine) = ours(in_files)
            && mine.name != column.name
            && source.column(&column.name).is_some()
        {
            renames.push((mine.name.as_str(), column.name.as_str()));
        }
    }
    // One that the source has no more, and that stays here, gives way to one that is renamed to its name.
    for (_, to) in &renames {
        let mut mine = definition.columns.iter();
        if mine.any(|mine| mine.name == *to && state.left.contains(mine.name_in_files())) {
            let name = quote_identifier(to);
            todo.push(format!("ALTER TABLE {table} DROP COLUMN IF EXISTS {name}"));
        }
    }
    let clash = renames
        .iter()
        .any(|(_, to)| renames.iter().any(|(from, _)| from == to));
    let rename = |from: &str, to: &str| {
        format!(
            "ALTER TABLE {table} RENAME COLUMN {} TO {}",
            quote_identifier(from),
            quote_identifier(to)
        )
    };
    let aside = |number: usize| format!("_renamed_{number}");
    if clash {
        for (number, (from, _)) in renames.iter().enumerate() {
            todo.push(rename(from, &aside(number)));
        }
    }
    for (number, (from, to)) in renames.iter().enumerate() {
        todo.push(match clash {
            true => rename(&aside(number), to),
            false => rename(from, to),
        });
    }
    for column in &source.columns {
        let followed = columns.iter().find(|one| one.name == column.name);
        // One that somebody has dropped here is made again.
        let here = |in_files: &Option<String>| in_files.as_deref().and_then(ours).is_some();
        let was = followed.and_then(|one| one.was.as_ref());
        let Some((old, _)) = was.filter(|(_, in_files)| here(in_files)) else {
            let mut mine = definition.columns.iter();
            let left = mine
                .find(|mine| mine.name == column.name && state.left.contains(mine.name_in_files()));
            let Some(mine) = left else {
                let value = followed.and_then(|one| one.value.as_ref());
                add_column(todo, table, column, value, empty);
                continue;
            };
            // What it had goes with the table's rows, so that any type can take its place.
            let has = column.source_type.column_type();
            if mine.column_type != has {
                let (name, has) = (quote_identifier(&column.name), has.sql_name());
                todo.push(format!("ALTER TABLE {table} DROP COLUMN IF EXISTS {name}"));
                todo.push(format!(
                    "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {has}"
                ));
            }
            todo.reload(format!("column {} is another one", column.name));
            continue;
        };
        let (had, has) = (old.column_type(), column.source_type.column_type());
        if had == has {
            if converts(old, &column.source_type) && !empty {
                todo.reload(format!("column {} was converted", column.name));
            }
            continue;
        }
        todo.steps.push(retype(table, &column.name, &has));
        if !widens(old, &column.source_type) && !empty {
            todo.reload(format!("column {} was converted", column.name));
        }
    }
    if last.is_some() {
        todo.push(format!("ALTER TABLE {table} DROP COLUMN _dropped"));
    }
}

/// Gives a column another type; where its values cannot have it, without them.
fn retype(table: &str, column: &str, to: &ColumnType) -> Alteration {
    let (name, has) = (quote_identifier(column), to.sql_name());
    Alteration {
        statement: format!("ALTER TABLE {table} ALTER COLUMN {name} TYPE {has}"),
        otherwise: vec![
            format!("ALTER TABLE {table} DROP COLUMN {name}"),
            format!("ALTER TABLE {table} ADD COLUMN {name} {has}"),
        ],
        drops: None,
    }
}

/// Whether values stay the same in another type of ours.
fn widens(from: &SourceType, to: &SourceType) -> bool {
    let decimal = |source: &SourceType| matches!(source, SourceType::Decimal { .. });
    (is_number(from) && is_number(to)) || (decimal(from) && decimal(to))
}

fn add_column(
    todo: &mut Todo,
    table: &str,
    column: &SourceColumn,
    value: Option<&AddedValue>,
    empty: bool,
) {
    let name = quote_identifier(&column.name);
    let column_type = column.source_type.column_type();
    todo.push(format!(
        "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {}",
        column_type.sql_name()
    ));
    if empty {
        return;
    }
    match value.map(|value| literal(value, &column.source_type)) {
        Some(Some(None)) => {}
        Some(Some(Some(text))) => todo.push(format!(
            "UPDATE {table} SET {name} = CAST({} AS {})",
            quote_literal(&text),
            column_type.sql_name()
        )),
        _ => todo.reload(format!("the server computed column {}", column.name)),
    }
}

/// The value of an added column in rows that were there, as a text of ours: `Some(None)` for NULL, `None` when
/// it cannot be told.
fn literal(value: &AddedValue, source: &SourceType) -> Option<Option<String>> {
    match value {
        AddedValue::Null => Some(None),
        AddedValue::Computed => None,
        AddedValue::Zero => match source {
            SourceType::Text { .. } => Some(Some(String::new())),
            SourceType::Enum { values, .. } => Some(Some(values.first()?.clone())),
            source if is_number(source) => Some(Some("0".to_owned())),
            _ => None,
        },
        AddedValue::Literal(text) => match source {
            SourceType::Text { .. } => Some(Some(text.clone())),
            SourceType::Enum { values, .. } => values.contains(text).then(|| Some(text.clone())),
            source if is_number(source) => {
                let plain =
                    |character: char| character.is_ascii_digit() || matches!(character, '.' | '-');
                // Rounding is the server's affair.
                let whole = !text.contains('.');
                let fits = whole || matches!(source, SourceType::Double);
                (text.chars().all(plain) && fits).then(|| Some(text.clone()))
            }
            _ => None,
        },
    }
}

fn is_number(source: &SourceType) -> bool {
    matches!(
        source,
        SourceType::TinyInt { .. }
            | SourceType::SmallInt { .. }
            | SourceType::MediumInt { .. }
            | SourceType::Int { .. }
            | SourceType::BigInt { .. }
            | SourceType::Float
            | SourceType::Double
            | SourceType::Year
    ) || matches!(source, SourceType::Decimal { .. } if matches!(source.column_type(), ColumnType::Numeric { .. }))
}

/// Whether values may be others although our type is the same.
fn converts(from: &SourceType, to: &SourceType) -> bool {
    match (from, to) {
        // Names that were taken out leave their rows with another value; those of a set are told in the order
        // of the type.
        (SourceType::Enum { values: old, .. }, SourceType::Enum { values: new, .. }) => {
            !old.iter().all(|name| new.contains(name))
        }
        (SourceType::Set { values: old, .. }, SourceType::Set { values: new, .. }) => {
            !new.starts_with(old)
        }
        // What the new character set lacks has become question marks.
        (SourceType::Text { charset: old }, SourceType::Text { charset: new }) => {
            old != new
                && !matches!(
                    new.name(),
                    "utf8mb4" | "utf16" | "utf16le" | "utf32" | "gb18030"
                )
        }
        (SourceType::DateTime { fraction: old }, SourceType::DateTime { fraction: new })
        | (SourceType::Timestamp { fraction: old }, SourceType::Timestamp { fraction: new }) => {
            new < old
        }
        (SourceType::Bytes { fixed: None }, SourceType::Bytes { fixed: None }) => false,
        (from, to) => {
            std::mem::discriminant(from) != std::mem::discriminant(to)
                || from != to && !same_numbers(from, to)
        }
    }
}

/// Whether one integer type holds the values of the other as they are.
fn same_numbers(from: &SourceType, to: &SourceType) -> bool {
    from.column_type() == to.column_type() && is_number(from) && is_number(to)
}

/// A change that our table cannot follow.
fn refused(name: &TableName, error: SqlError) -> SqlError {
    if error.retryable {
        return error;
    }
    let message = format!(
        "{name} has changed in a way that its table cannot follow: {}",
        error.message
    );
    let refused = SqlError::new(SqlState::DATATYPE_MISMATCH, message);
    let refused = match &error.detail {
        Some(detail) if detail.starts_with("view ") => refused.detail(detail.clone()).hint(
            "drop the view (SHOW CREATE VIEW prints it), RUN PIPELINE, and make the view again",
        ),
        _ => refused.hint("RUN PIPELINE ... FULL REFRESH reads the tables anew, after the column was given its new type or dropped"),
    };
    refused.caused_by(error)
}
