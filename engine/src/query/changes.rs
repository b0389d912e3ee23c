//! `table_changes('table', from [, to])`: the rows that came and went, version by version.
//!
//! ```text
//! plain  -> as they are
//! mixed  -> with a primary key, a row that went and one that came with the same key are an update
//! copied -> rows that went and came unchanged are left out, then as mixed
//! ```

use std::sync::Arc;

use boathouse_catalog::Snapshot;
use boathouse_catalog::definitions::TableDefinition;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::name::quote_identifier;
use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;

use super::QueryContext;
use super::resolve::{Argument, Found, Rights, readable_table};
use crate::error::{SqlError, SqlState};
use crate::lake::{
    AsOf, CHANGE_TYPE_COLUMN, COMMIT_TIMESTAMP_COLUMN, COMMIT_VERSION_COLUMN, ChangeFeed,
    LakeTable, TableSnapshot,
};

pub const FUNCTION: &str = "table_changes";

const PLAIN: &str = "#plain";
const MIXED: &str = "#mixed";
const COPIED: &str = "#copied";

/// The relation of a call.
pub async fn open(
    context: &QueryContext,
    rights: &Rights,
    arguments: &[(Option<String>, Argument)],
    found: &mut Found,
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let (name, from, to) = match arguments {
        [(None, Argument::Text(name)), (None, from)] => (name, from, None),
        [(None, Argument::Text(name)), (None, from), (None, to)] => (name, from, Some(to)),
        _ => return Err(usage()),
    };
    let parts = crate::function::system::split_name(name);
    let definition = readable_table(context, rights, &parts)?;
    found.tables.push(definition.id);
    let table = context.engine.lake.table(&definition).await?;
    let to = match to {
        None | Some(Argument::Null) => {
            let newest = context.table_snapshot(definition.id, &table).await?;
            found.versions.push((definition.id, newest.version()));
            newest
        }
        Some(to) => table.snapshot(Some(bound(context, to)?)).await?,
    };
    let from = match bound(context, from)? {
        AsOf::Version(version) => version,
        AsOf::Timestamp(time) => first_since(&table, &to, time).await?,
    };
    if from > to.version() {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!(
                "table \"{}\" has no version {from} up to version {}",
                definition.name,
                to.version()
            ),
        ));
    }
    let feed = table.changes(from, &to).await?;
    plan(context, rights, &definition, feed).await
}

fn usage() -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        "table_changes takes a table's name and the first and last version or time",
    )
    .hint("SELECT * FROM table_changes('schema.table', 3, 7)")
}

/// A version's number, or a time.
pub(super) fn bound(context: &QueryContext, argument: &Argument) -> Result<AsOf, SqlError> {
    match argument {
        Argument::Number(digits) => digits.parse().map(AsOf::Version).map_err(|_| usage()),
        Argument::Text(text) => {
            if let Ok(version) = text.parse() {
                return Ok(AsOf::Version(version));
            }
            let zone = context.session.time_zone();
            let wanted = ColumnType::TimestampTz;
            let micros = crate::function::text_io::parse(text, &wanted, zone)?.as_int();
            Ok(AsOf::Timestamp(micros.div_euclid(1000)))
        }
        _ => Err(usage()),
    }
}

/// The first version committed at a time or later.
async fn first_since(
    table: &LakeTable,
    to: &TableSnapshot,
    milliseconds: i64,
) -> Result<i64, SqlError> {
    let entries = table.history(None).await?;
    let since = entries
        .iter()
        .filter(|entry| entry.timestamp.is_some_and(|at| at >= milliseconds));
    Ok(since
        .map(|entry| entry.version)
        .min()
        .unwrap_or_else(|| to.version() + 1))
}

async fn plan(
    context: &QueryContext,
    rights: &Rights,
    definition: &TableDefinition,
    feed: ChangeFeed,
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let mut query = boathouse_sql::parse_query(&text(definition, &feed))?;
    let mut context = context.clone();
    context.snapshot = Arc::<Snapshot>::clone(&context.snapshot);
    context.extra_relations.extend([
        (PLAIN.to_owned(), feed.plain),
        (MIXED.to_owned(), feed.mixed),
        (COPIED.to_owned(), feed.copied),
    ]);
    let bound = Box::pin(super::plan::bind(&context, rights, &mut query, &[])).await?;
    Ok(Arc::new(ViewTable::new(bound.plan, None)))
}

/// The rows that came and those that went, an update as one of each: the columns of the table, then those that say what
/// happened and in which version, by the given names.
pub async fn came_and_went(
    context: &QueryContext,
    feed: ChangeFeed,
    (kind, version): (&str, &str),
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let text = format!(
        "SELECT {}, {CHANGE_TYPE_COLUMN} AS {}, {COMMIT_VERSION_COLUMN} AS {} FROM ({}) AS c",
        columns_of(&feed).join(", "),
        quote_identifier(kind),
        quote_identifier(version),
        unpaired(&feed)
    );
    let relations = [
        (PLAIN.to_owned(), feed.plain),
        (MIXED.to_owned(), feed.mixed),
        (COPIED.to_owned(), feed.copied),
    ];
    relation_of(context, &text, relations.into()).await
}

/// What a query over relations of its own gives, as a relation.
pub async fn relation_of(
    context: &QueryContext,
    text: &str,
    relations: Vec<(String, Arc<dyn TableProvider>)>,
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let mut query = boathouse_sql::parse_query(text)?;
    let mut context = context.clone();
    context.extra_relations.extend(relations);
    let rights = Rights::of_session(&context);
    let bound = Box::pin(super::plan::bind(&context, &rights, &mut query, &[])).await?;
    Ok(Arc::new(ViewTable::new(bound.plan, None)))
}

fn columns_of(feed: &ChangeFeed) -> Vec<String> {
    let fields = feed.schema.fields().iter();
    fields.map(|field| quote_identifier(field.name())).collect()
}

/// The query of rows that came and went, without those that did not change.
fn unpaired(feed: &ChangeFeed) -> String {
    let (all, both) = parts(feed);
    format!("SELECT {all} FROM \"{PLAIN}\" UNION ALL {both}")
}

/// All columns, and the query of the changes of versions in which rows came and went.
fn parts(feed: &ChangeFeed) -> (String, String) {
    let columns = columns_of(feed);
    let facts = [
        CHANGE_TYPE_COLUMN,
        COMMIT_VERSION_COLUMN,
        COMMIT_TIMESTAMP_COLUMN,
    ]
    .join(", ");
    let all = format!("{}, {facts}", columns.join(", "));
    // json has no equality.
    let values: Vec<String> = feed
        .schema
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| match ColumnType::from_field(field) {
            ColumnType::Json | ColumnType::Jsonb => format!("{column}::text"),
            _ => column.clone(),
        })
        .collect();
    let row = format!("{COMMIT_VERSION_COLUMN}, {}", values.join(", "));
    let changed = format!(
        "SELECT {all} FROM (SELECT {all}, \
         row_number() OVER (PARTITION BY {row}, {CHANGE_TYPE_COLUMN}) AS \"#nth\", \
         count(*) OVER (PARTITION BY {row}) \
         - count(*) OVER (PARTITION BY {row}, {CHANGE_TYPE_COLUMN}) AS \"#others\" \
         FROM \"{COPIED}\") AS c WHERE \"#nth\" > \"#others\""
    );
    let both = format!("SELECT {all} FROM \"{MIXED}\" UNION ALL {changed}");
    (all, both)
}

/// The query that tells updates from rows that came and went, and leaves out what did not change.
fn text(definition: &TableDefinition, feed: &ChangeFeed) -> String {
    let columns = columns_of(feed);
    let (all, both) = parts(feed);
    // By the names of the last version told, which may have been given up since.
    let key = definition.primary_key.as_ref().and_then(|key| {
        let columns = key.columns.iter().map(|name| {
            let in_files = definition.column(name)?.name_in_files();
            let mut fields = feed.schema.fields().iter();
            fields.find(|field| feed.names.of_column(field.name()) == in_files)
        });
        columns.collect::<Option<Vec<_>>>()
    });
    let paired = match key {
        None => both,
        Some(key) => {
            let key: Vec<_> = key
                .iter()
                .map(|field| quote_identifier(field.name()))
                .collect();
            let key = format!("{COMMIT_VERSION_COLUMN}, {}", key.join(", "));
            let kinds = format!(
                "min({CHANGE_TYPE_COLUMN}) OVER (PARTITION BY {key}) \
                 <> max({CHANGE_TYPE_COLUMN}) OVER (PARTITION BY {key})"
            );
            let columns = columns.join(", ");
            format!(
                "SELECT {columns}, CASE WHEN NOT \"#update\" THEN {CHANGE_TYPE_COLUMN} \
                 WHEN {CHANGE_TYPE_COLUMN} = 'delete' THEN 'update_preimage' \
                 ELSE 'update_postimage' END AS {CHANGE_TYPE_COLUMN}, \
                 {COMMIT_VERSION_COLUMN}, {COMMIT_TIMESTAMP_COLUMN} \
                 FROM (SELECT {all}, {kinds} AS \"#update\" FROM ({both}) AS b) AS p"
            )
        }
    };
    format!("SELECT {all} FROM \"{PLAIN}\" UNION ALL {paired}")
}
