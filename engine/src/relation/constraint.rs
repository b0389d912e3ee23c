//! The keys and checks of tables as objects with OIDs of their own.
//!
//! The catalog numbers tables, not their constraints. PostgreSQL's clients want a number for each, so
//! one is made of the table's and the constraint's place: stable while the table's constraints are.

use boathouse_catalog::Snapshot;
use boathouse_catalog::definitions::{ObjectId, TableDefinition};

use crate::function::text::quote_identifier;

/// Where the made-up OIDs begin; above what objects will reach, within what an OID holds.
const BASE: i64 = 2_000_000_000;
/// Constraints a table may have before their numbers run into the next table's.
const PER_TABLE: i64 = 64;
/// The indexes under keys are numbered apart from the keys.
const INDEX_OFFSET: i64 = 32;

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Primary,
    Unique,
    Foreign {
        schema: String,
        table: String,
        columns: Vec<String>,
    },
    Check(String),
}

/// One constraint of a table.
#[derive(Debug, Clone)]
pub struct Constraint {
    pub oid: i64,
    pub index_oid: i64,
    pub table: ObjectId,
    pub schema: ObjectId,
    pub name: String,
    pub columns: Vec<String>,
    pub kind: Kind,
}

fn numbers(table: &TableDefinition, place: i64) -> (i64, i64) {
    let first = BASE + (table.id.0 - ObjectId::FIRST_USER.0).rem_euclid(30_000_000) * PER_TABLE;
    (first + place, first + INDEX_OFFSET + place)
}

/// A table's constraints, its primary key first.
pub fn of_table(table: &TableDefinition) -> Vec<Constraint> {
    let mut constraints = Vec::new();
    let mut push = |name: &str, columns: &[String], kind: Kind| {
        let place = i64::try_from(constraints.len()).unwrap_or(0) % INDEX_OFFSET;
        let (oid, index_oid) = numbers(table, place);
        constraints.push(Constraint {
            oid,
            index_oid,
            table: table.id,
            schema: table.schema,
            name: name.to_owned(),
            columns: columns.to_vec(),
            kind,
        });
    };
    if let Some(key) = &table.primary_key {
        push(&key.name, &key.columns, Kind::Primary);
    }
    for key in &table.unique_keys {
        push(&key.name, &key.columns, Kind::Unique);
    }
    for key in &table.foreign_keys {
        let kind = Kind::Foreign {
            schema: key.references_schema.clone(),
            table: key.references_table.clone(),
            columns: key.references_columns.clone(),
        };
        push(&key.name, &key.columns, kind);
    }
    for check in &table.checks {
        push(&check.name, &[], Kind::Check(check.expression.clone()));
    }
    constraints
}

/// Every constraint of every table.
pub fn all(snapshot: &Snapshot) -> Vec<Constraint> {
    snapshot
        .tables()
        .flat_map(|table| of_table(table))
        .collect()
}

pub fn by_oid(snapshot: &Snapshot, oid: i64) -> Option<Constraint> {
    all(snapshot)
        .into_iter()
        .find(|constraint| constraint.oid == oid)
}

/// The key whose index has this OID.
pub fn by_index(snapshot: &Snapshot, oid: i64) -> Option<Constraint> {
    all(snapshot)
        .into_iter()
        .find(|constraint| constraint.index_oid == oid && constraint.is_key())
}

impl Constraint {
    pub fn is_key(&self) -> bool {
        matches!(self.kind, Kind::Primary | Kind::Unique)
    }

    /// `contype`.
    pub fn letter(&self) -> &'static str {
        match self.kind {
            Kind::Primary => "p",
            Kind::Unique => "u",
            Kind::Foreign { .. } => "f",
            Kind::Check(_) => "c",
        }
    }

    /// The words of `information_schema.table_constraints`.
    pub fn type_words(&self) -> &'static str {
        match self.kind {
            Kind::Primary => "PRIMARY KEY",
            Kind::Unique => "UNIQUE",
            Kind::Foreign { .. } => "FOREIGN KEY",
            Kind::Check(_) => "CHECK",
        }
    }

    /// `pg_get_constraintdef`.
    pub fn definition(&self) -> String {
        match &self.kind {
            Kind::Primary => format!("PRIMARY KEY ({})", list(&self.columns)),
            Kind::Unique => format!("UNIQUE ({})", list(&self.columns)),
            Kind::Foreign {
                schema,
                table,
                columns,
            } => {
                let target = if schema == "public" {
                    quote_identifier(table)
                } else {
                    format!("{}.{}", quote_identifier(schema), quote_identifier(table))
                };
                let columns = if columns.is_empty() {
                    String::new()
                } else {
                    format!("({})", list(columns))
                };
                format!(
                    "FOREIGN KEY ({}) REFERENCES {target}{columns}",
                    list(&self.columns)
                )
            }
            Kind::Check(expression) => format!("CHECK ({expression})"),
        }
    }

    /// `pg_get_indexdef`.
    pub fn index_definition(&self, snapshot: &Snapshot) -> String {
        let table = snapshot.table_by_id(self.table);
        let schema = snapshot.schema_by_id(self.schema);
        format!(
            "CREATE UNIQUE INDEX {} ON {}.{} USING btree ({})",
            quote_identifier(&self.name),
            schema
                .map(|schema| quote_identifier(&schema.name))
                .unwrap_or_default(),
            table
                .map(|table| quote_identifier(&table.name))
                .unwrap_or_default(),
            list(&self.columns)
        )
    }

    /// The table's column numbers of the constraint.
    pub fn numbers(&self, snapshot: &Snapshot) -> Vec<i64> {
        let Some(table) = snapshot.table_by_id(self.table) else {
            return Vec::new();
        };
        column_numbers(table, &self.columns)
    }
}

/// The numbers of columns, from 1.
pub fn column_numbers(table: &TableDefinition, columns: &[String]) -> Vec<i64> {
    columns
        .iter()
        .filter_map(|name| table.columns.iter().position(|column| column.name == *name))
        .map(|index| i64::try_from(index + 1).unwrap_or(0))
        .collect()
}

fn list(columns: &[String]) -> String {
    columns
        .iter()
        .map(|name| quote_identifier(name))
        .collect::<Vec<_>>()
        .join(", ")
}
