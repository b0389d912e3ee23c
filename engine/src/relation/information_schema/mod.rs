//! The standard's view of the catalog.
//!
//! Shows what the role owns or has some right on, as the standard asks. One line in [`RELATIONS`] for
//! each.

mod applicable_roles;
mod character_sets;
mod check_constraints;
mod columns;
mod constraint_column_usage;
mod enabled_roles;
mod information_schema_catalog_name;
mod key_column_usage;
mod parameters;
mod referential_constraints;
mod role_table_grants;
mod routines;
mod schemata;
mod sequences;
mod table_constraints;
mod table_privileges;
mod tables;
mod triggers;
mod views;

use boathouse_catalog::Relation as CatalogRelation;
use boathouse_catalog::definitions::{ColumnDefinition, ObjectId, ObjectKind, ObjectRef};

use crate::query::QueryContext;
use crate::relation::Relation;
use crate::relation::constraint::{self, Constraint};

pub static RELATIONS: &[Relation] = &[
    applicable_roles::RELATION,
    character_sets::RELATION,
    check_constraints::RELATION,
    columns::RELATION,
    constraint_column_usage::RELATION,
    enabled_roles::RELATION,
    information_schema_catalog_name::RELATION,
    key_column_usage::RELATION,
    parameters::RELATION,
    referential_constraints::RELATION,
    role_table_grants::RELATION,
    routines::RELATION,
    schemata::RELATION,
    sequences::RELATION,
    table_constraints::RELATION,
    table_privileges::RELATION,
    tables::RELATION,
    triggers::RELATION,
    views::RELATION,
];

/// A table or view as the role sees it.
struct Visible {
    /// `None` for a system relation.
    id: Option<ObjectId>,
    schema: String,
    name: String,
    is_view: bool,
    columns: Vec<ColumnDefinition>,
}

/// Whether the role owns an object or has any right on it.
fn may_see(context: &QueryContext, object: ObjectRef) -> bool {
    object.kind.privileges().iter().any(|privilege| {
        context
            .snapshot
            .has_privilege(context.session.role, object, *privilege)
    })
}

fn may_see_schema(context: &QueryContext, schema: ObjectId) -> bool {
    schema.is_built_in() || may_see(context, ObjectRef::new(ObjectKind::Schema, schema))
}

/// Everything the role has some right on, system relations last.
fn visible(context: &QueryContext) -> Vec<Visible> {
    let snapshot = &context.snapshot;
    let mut found = Vec::new();
    for schema in snapshot.schemas() {
        for relation in snapshot.relations_in(schema.id) {
            if !may_see(context, relation.object()) {
                continue;
            }
            let (is_view, columns) = match relation {
                CatalogRelation::Table(table) => (false, table.columns.clone()),
                CatalogRelation::View(view) => {
                    let columns = view
                        .columns
                        .iter()
                        .map(|(name, kind)| ColumnDefinition::new(name.clone(), kind.clone(), true))
                        .collect();
                    (true, columns)
                }
            };
            found.push(Visible {
                id: Some(relation.object().id),
                schema: schema.name.clone(),
                name: relation.name().to_owned(),
                is_view,
                columns,
            });
        }
    }
    for relation in crate::relation::all() {
        let columns = crate::relation::columns_of(relation)
            .map(|(name, written)| {
                ColumnDefinition::new(name, crate::relation::column_type(written), true)
            })
            .collect();
        found.push(Visible {
            id: None,
            schema: relation.schema.to_owned(),
            name: relation.name.to_owned(),
            is_view: relation.schema != "pg_catalog" || relation.oid >= 12_000,
            columns,
        });
    }
    found
}

/// The constraints of the tables the role has some right on, with schema and table.
fn constraints(context: &QueryContext) -> Vec<(String, String, Constraint)> {
    let mut found = Vec::new();
    for table in context.snapshot.tables() {
        if !may_see(context, ObjectRef::new(ObjectKind::Table, table.id)) {
            continue;
        }
        let schema = context.snapshot.schema_by_id(table.schema);
        let schema = schema.map(|schema| schema.name.clone()).unwrap_or_default();
        for one in constraint::of_table(table) {
            found.push((schema.clone(), table.name.clone(), one));
        }
    }
    found
}

fn role_name(context: &QueryContext, id: ObjectId) -> Option<String> {
    context
        .snapshot
        .role_by_id(id)
        .map(|role| role.name.clone())
}
