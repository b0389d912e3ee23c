//! `boathouse catalog rebuild`: enters the tables of a lake that the catalog does not know.
//!
//! A table carries its own name, types, keys, checks and comments in the Delta log, so a lost catalog
//! costs the roles, grants, views, connections, secrets and pipelines, and no table. A table that
//! another program wrote is entered by the folder it is in. Nothing in the lake is changed.

use std::process::ExitCode;

use boathouse_catalog::definitions::{ColumnDefinition, ObjectId, TableDefinition};
use boathouse_catalog::types::ColumnType;
use boathouse_catalog::{CatalogError, Transaction};
use boathouse_engine::lake::FoundTable;
use clap::Subcommand;

use super::{CommandError, open_engine, session_runtime};
use crate::config::Config;

/// The role that owns what it enters.
const OWNER: &str = "boathouse";
/// The schema of a table that lies in no folder of one.
const DEFAULT_SCHEMA: &str = "public";

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Enter the tables found in the lake that the catalog does not know
    Rebuild,
}

pub fn run(config: Config, action: Action) -> Result<ExitCode, CommandError> {
    match action {
        Action::Rebuild => session_runtime()?.block_on(rebuild(config)),
    }
}

async fn rebuild(config: Config) -> Result<ExitCode, CommandError> {
    let engine = open_engine(&config, false).await?;
    let found = engine.lake.list_tables().await?;
    eprintln!("{} tables in {}", found.len(), engine.config.lake);
    engine.catalog.reserve_ids(2 * found.len() as u32).await?;
    let mut transaction = engine.catalog.begin();
    let owner = transaction
        .snapshot()
        .role(OWNER)
        .map(|role| role.id)
        .unwrap_or_default();
    let mut entered = 0;
    for table in &found {
        let (schema, definition) = described(table, owner);
        let place = format!("{schema}.{}", definition.name);
        if is_known(&transaction, table) {
            println!("known    {place}  {}", table.location);
            continue;
        }
        match enter(&mut transaction, &schema, definition, owner) {
            Ok(()) => {
                entered += 1;
                println!("entered  {place}  {}", table.location);
            }
            Err(error) => println!("skipped  {place}  {}: {error}", table.location),
        }
    }
    engine.catalog.commit(transaction).await?;
    eprintln!("{entered} tables entered");
    engine.close().await;
    Ok(ExitCode::SUCCESS)
}

fn is_known(transaction: &Transaction, found: &FoundTable) -> bool {
    transaction
        .snapshot()
        .tables()
        .any(|table| table.location == found.location)
}

fn enter(
    transaction: &mut Transaction,
    schema: &str,
    mut definition: TableDefinition,
    owner: ObjectId,
) -> Result<(), CatalogError> {
    let known = transaction
        .snapshot()
        .schema(schema)
        .map(|schema| schema.id);
    definition.schema = match known {
        Some(id) => id,
        None => transaction.create_schema(schema, owner)?,
    };
    transaction.create_table(definition).map(|_| ())
}

/// The table's schema and definition: its own, or made from its folder and its columns.
fn described(found: &FoundTable, owner: ObjectId) -> (String, TableDefinition) {
    if let Some((schema, definition)) = &found.definition {
        let mut definition = definition.clone();
        definition.owner = owner;
        definition.location.clone_from(&found.location);
        return (schema.clone(), definition);
    }
    let mut folders = found.location.rsplit('/');
    let name = folders.next().unwrap_or(&found.location);
    let schema = folders.next().unwrap_or(DEFAULT_SCHEMA);
    let mut definition =
        TableDefinition::new(ObjectId::default(), name, owner, found.location.as_str());
    for field in found.snapshot.schema().fields() {
        let column_type = ColumnType::from_field(field);
        definition.columns.push(ColumnDefinition::new(
            field.name().as_str(),
            column_type,
            field.is_nullable(),
        ));
    }
    definition.partition_by = found.snapshot.partition_by().to_vec();
    (schema.to_owned(), definition)
}
