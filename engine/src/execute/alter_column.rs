//! `ALTER TABLE` on columns that rows have values in: renaming, dropping and retyping them without
//! touching a file, and constraints that every row must be seen to meet.
//!
//! Constraints and views that name the column follow its new name, or stand in the way.

use std::sync::Arc;

use boathouse_catalog::definitions::{ColumnDefinition, TableDefinition, ViewDefinition};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::name::quote_identifier;
use boathouse_sql::{ast, parse_query};
use futures::TryStreamExt;

use super::{alter_table, properties, view};
use crate::error::{SqlError, SqlState};
use crate::lake;
use crate::query::failure::from_datafusion;
use crate::query::{self, mention};
use crate::session::Session;

/// `RENAME COLUMN from TO to`.
pub(super) fn rename(
    session: &mut Session,
    definition: &mut TableDefinition,
    (from, to): (&str, &str),
) -> Result<(), SqlError> {
    if definition.column(from).is_none() {
        return Err(SqlError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{from}\" does not exist"),
        ));
    }
    if definition.column(to).is_some() {
        return Err(SqlError::new(
            SqlState::DUPLICATE_COLUMN,
            format!(
                "column \"{to}\" of relation \"{}\" already exists",
                definition.name
            ),
        ));
    }
    // DuckDB's delta extension (1.5.5) reads NULL for a partition column that stands behind a column which
    // files call otherwise.
    let mut behind = definition
        .columns
        .iter()
        .skip_while(|one| one.name != from)
        .skip(1);
    if let Some(column) = behind.find(|one| definition.partition_by.contains(&one.name)) {
        return Err(SqlError::unsupported(format!(
            "renaming column \"{from}\", which stands before column \"{}\", by which the table is partitioned",
            column.name
        ))
        .detail("DuckDB would read NULL in every row of the latter.")
        .hint("make a new table with CREATE TABLE ... AS SELECT, or rename it in a view"));
    }
    rename_in_views(session, definition, from, to)?;
    let rename = |name: &mut String| {
        if name == from {
            to.clone_into(name);
        }
    };
    for check in &mut definition.checks {
        if mention::expression_names(&check.expression, from) {
            let renamed = mention::renamed_in_expression(&check.expression, from, to);
            check.expression = renamed.ok_or_else(|| {
                let what = format!(
                    "renaming a column whose name constraint \"{}\" has for something else too",
                    check.name
                );
                SqlError::unsupported(what).hint("drop the constraint, rename, and add it again")
            })?;
        }
    }
    properties::rename_column(definition, from, to);
    for column in definition.columns.iter_mut().filter(|one| one.name == from) {
        column.rename(to);
    }
    let keys = definition
        .primary_key
        .iter_mut()
        .chain(&mut definition.unique_keys);
    let mine = keys.flat_map(|key| &mut key.columns);
    let foreign = definition
        .foreign_keys
        .iter_mut()
        .flat_map(|key| &mut key.columns);
    mine.chain(foreign)
        .chain(&mut definition.partition_by)
        .for_each(rename);
    for mut other in referring(session, definition)? {
        for key in &mut other.foreign_keys {
            if refers(session, key, definition) {
                key.references_columns.iter_mut().for_each(rename);
            }
        }
        if other.id == definition.id {
            definition.foreign_keys = other.foreign_keys;
        } else {
            session.catalog("ALTER TABLE")?.replace_table(other)?;
        }
    }
    Ok(())
}

fn rename_in_views(
    session: &mut Session,
    definition: &TableDefinition,
    from: &str,
    to: &str,
) -> Result<(), SqlError> {
    let snapshot = session.snapshot();
    let relation = view::qualified(&snapshot, definition.schema, &definition.name);
    for found in views_naming(session, definition, from) {
        let schema = view::qualified(&snapshot, found.schema, &found.name).0;
        // Another relation with a column of either name would be meant by some of the words.
        let others = query::view::relations(&found, &schema);
        let alone = others
            .iter()
            .filter(|other| **other != relation)
            .all(|other| {
                let columns =
                    snapshot
                        .relation(&other.0, &other.1)
                        .map(|relation| match relation {
                            boathouse_catalog::Relation::Table(table) => table
                                .columns
                                .iter()
                                .map(|column| column.name.clone())
                                .collect(),
                            boathouse_catalog::Relation::View(view) => view
                                .columns
                                .iter()
                                .map(|(name, _)| name.clone())
                                .collect::<Vec<_>>(),
                        });
                columns
                    .is_some_and(|columns| !columns.iter().any(|name| name == from || name == to))
            });
        let renamed = mention::renamed_in_query(&found.query, from, to).filter(|_| alone);
        let Some(renamed) = renamed else {
            let what = format!(
                "renaming a column that view \"{}\" may read by a word it has for something else too",
                found.name
            );
            return Err(SqlError::unsupported(what)
                .hint("drop the view, rename the column, and make the view again"));
        };
        let mut changed = ViewDefinition::clone(&found);
        changed.query = renamed;
        session.catalog("ALTER TABLE")?.replace_view(changed)?;
    }
    Ok(())
}

/// `DROP COLUMN`.
pub(super) fn drop(
    session: &mut Session,
    definition: &mut TableDefinition,
    name: &str,
    cascade: bool,
) -> Result<(), SqlError> {
    let table = definition.name.clone();
    let refused = |why: &str, hint: &str| {
        Err(SqlError::new(
            SqlState("42P16"),
            format!("cannot drop column \"{name}\" of table \"{table}\": {why}"),
        )
        .hint(hint))
    };
    if definition.partition_by.iter().any(|column| column == name) {
        return refused(
            "the table is partitioned by it",
            "make a new table with CREATE TABLE ... AS SELECT",
        );
    }
    if let Some(property) = properties::naming(definition, name) {
        return refused(
            &format!("the table's property {property} names it"),
            "first ALTER TABLE ... SET the property to other columns, or RESET it",
        );
    }
    let views = views_naming(session, definition, name);
    let referring: Vec<_> = referring(session, definition)?
        .into_iter()
        .filter(|other| {
            let mut keys = other.foreign_keys.iter();
            keys.any(|key| {
                refers(session, key, definition)
                    && key.references_columns.iter().any(|one| one == name)
            })
        })
        .collect();
    let stands_alone = views.is_empty() && referring.is_empty();
    if !cascade && !stands_alone {
        let of_views = views.iter().map(|view| {
            format!(
                "view {} depends on column {name} of table {table}",
                view.name
            )
        });
        let of_keys = referring.iter().map(|other| {
            format!(
                "a foreign key of table {} depends on column {name} of table {table}",
                other.name
            )
        });
        return Err(SqlError::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!(
                "cannot drop column {name} of table {table} because other objects depend on it"
            ),
        )
        .detail(of_views.chain(of_keys).collect::<Vec<_>>().join("\n"))
        .hint("Use DROP ... CASCADE to drop the dependent objects too."));
    }
    for mut other in referring {
        let keeps = |key: &boathouse_catalog::definitions::ForeignKey| {
            !refers(session, key, definition)
                || !key.references_columns.iter().any(|one| one == name)
        };
        other.foreign_keys.retain(keeps);
        if other.id == definition.id {
            definition.foreign_keys = other.foreign_keys;
        } else {
            session.catalog("ALTER TABLE")?.replace_table(other)?;
        }
    }
    for found in views {
        // One may be gone with another that it read.
        if session.snapshot().view_by_id(found.id).is_some() {
            view::drop_with_dependents(session, "ALTER TABLE", &found)?;
        }
    }
    let has = |columns: &[String]| columns.iter().any(|column| column == name);
    definition.primary_key.take_if(|key| has(&key.columns));
    definition.unique_keys.retain(|key| !has(&key.columns));
    definition.foreign_keys.retain(|key| !has(&key.columns));
    definition
        .checks
        .retain(|check| !mention::expression_names(&check.expression, name));
    definition.drop_column(name);
    Ok(())
}

/// `ALTER COLUMN ... TYPE`.
pub(super) async fn set_type(
    session: &mut Session,
    definition: &mut TableDefinition,
    (name, to, using): (&str, &ColumnType, Option<&ast::Expr>),
) -> Result<(), SqlError> {
    let column = alter_table::column_mut(definition, name)?;
    let from = column.column_type.clone();
    let itself = using
        .is_none_or(|using| matches!(using, ast::Expr::Identifier(column) if column.value == name));
    if from == *to && itself {
        return Ok(());
    }
    if definition.partition_by.iter().any(|column| column == name) {
        return Err(SqlError::unsupported(format!(
            "changing the type of column \"{name}\", by which the table is partitioned"
        ))
        .hint("make a new table with CREATE TABLE ... AS SELECT and a cast"));
    }
    let stored = |column_type: &ColumnType| column_type.stored_arrow();
    let wide = match (stored(&from), stored(to)) {
        (Some(before), Some(after)) => before != after && lake::widens(&before, &after),
        _ => false,
    };
    let holds = wide || always_fits(&from, to);
    if holds && itself {
        // Views follow, as far as they are what they were but for the type.
        alter_table::column_mut(definition, name)?.column_type = to.clone();
        return Ok(());
    }
    if let Some(view) = views_naming(session, definition, name).first() {
        return Err(view::in_the_way(
            &view.name,
            &format!("depends on column \"{name}\""),
        ));
    }
    if !alter_table::is_empty(session, definition).await? {
        return Err(SqlError::unsupported(format!(
            "changing the type of column \"{name}\" from {} to {} in a table that has rows",
            from.sql_name(),
            to.sql_name()
        ))
        .hint("make a new table with CREATE TABLE ... AS SELECT and a cast"));
    }
    // Older versions have values of the old type: in the files it is another column.
    let at = definition
        .columns
        .iter()
        .position(|column| column.name == name);
    if let (Some(at), Some(before)) = (at, definition.drop_column(name)) {
        super::table::push_column(
            definition,
            ColumnDefinition {
                column_type: to.clone(),
                name_in_files: None,
                ..before
            },
        )?;
        if let Some(column) = definition.columns.pop() {
            definition.columns.insert(at, column);
        }
    }
    Ok(())
}

/// Whether every text of one type is one of the other, and is stored alike.
fn always_fits(from: &ColumnType, to: &ColumnType) -> bool {
    use ColumnType as T;
    match (from, to) {
        (T::Varchar(Some(before)), T::Varchar(Some(after))) => before <= after,
        (T::Varchar(_) | T::Text, T::Varchar(None) | T::Text)
        | (T::Uuid | T::Json | T::Jsonb, T::Varchar(None) | T::Text) => true,
        _ => false,
    }
}

/// Fails unless every row has a value in a column.
pub(super) async fn require_not_null(
    session: &Session,
    definition: &TableDefinition,
    name: &str,
) -> Result<(), SqlError> {
    let condition = format!("{} IS NULL", quote_identifier(name));
    if has_row(session, definition, &condition).await? {
        return Err(SqlError::new(
            SqlState::NOT_NULL_VIOLATION,
            format!(
                "column \"{name}\" of relation \"{}\" contains null values",
                definition.name
            ),
        ));
    }
    Ok(())
}

/// Fails unless every row meets a CHECK.
pub(super) async fn require_check(
    session: &Session,
    definition: &TableDefinition,
    name: &str,
    expression: &str,
) -> Result<(), SqlError> {
    if has_row(session, definition, &format!("NOT ({expression})")).await? {
        return Err(SqlError::new(
            SqlState::CHECK_VIOLATION,
            format!(
                "check constraint \"{name}\" of relation \"{}\" is violated by some row",
                definition.name
            ),
        ));
    }
    Ok(())
}

async fn has_row(
    session: &Session,
    definition: &TableDefinition,
    condition: &str,
) -> Result<bool, SqlError> {
    const SUBJECT: &str = "#altered";
    let mut context = session.state.query_context(&session.engine);
    let definition = Arc::new(definition.clone());
    let subject = super::changes::Subject::of(&context, &definition).await?;
    context
        .extra_relations
        .push((SUBJECT.into(), subject.provider()));
    let query = parse_query(&format!(
        "SELECT 1 FROM \"{SUBJECT}\" WHERE {condition} LIMIT 1"
    ))?;
    let planned = query::plan_query(&context, &query, &[]).await?;
    let stream = query::execute_query(&context, &planned, &[]).await?;
    let rows: Vec<_> = stream.try_collect().await.map_err(from_datafusion)?;
    Ok(rows.iter().any(|batch| batch.num_rows() > 0))
}

/// The views that read a table and may read a column of it.
fn views_naming(
    session: &Session,
    definition: &TableDefinition,
    column: &str,
) -> Vec<Arc<ViewDefinition>> {
    let snapshot = session.snapshot();
    let relation = view::qualified(&snapshot, definition.schema, &definition.name);
    snapshot
        .views()
        .filter(|found| {
            let schema = view::qualified(&snapshot, found.schema, &found.name).0;
            query::view::relations(found, &schema).contains(&relation)
                && mention::query_names(&found.query, column)
        })
        .cloned()
        .collect()
}

/// The tables, this one included as it is being changed, with a foreign key to it.
fn referring(
    session: &Session,
    definition: &TableDefinition,
) -> Result<Vec<TableDefinition>, SqlError> {
    let snapshot = session.snapshot();
    let others = snapshot.tables().filter(|other| other.id != definition.id);
    let all = others.map(|other| TableDefinition::clone(other));
    Ok(all
        .chain([definition.clone()])
        .filter(|other| {
            let mut keys = other.foreign_keys.iter();
            keys.any(|key| refers(session, key, definition))
        })
        .collect())
}

fn refers(
    session: &Session,
    key: &boathouse_catalog::definitions::ForeignKey,
    definition: &TableDefinition,
) -> bool {
    let snapshot = session.snapshot();
    let (schema, table) = view::qualified(&snapshot, definition.schema, &definition.name);
    key.references_table == table && key.references_schema == schema
}
