//! Settles the query of a view when it is stored, so that nothing that comes later changes its meaning.
//!
//! A relation's name gets its schema, because whoever reads the view has a search path of their own
//! and the view has its owner's rights. `*` becomes the columns it stands for, because a column added
//! to a table would move those after it. What is stored stays SQL text: [`relations`] tells what it
//! depends on, and [`redirect`] follows a relation to its new name.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use boathouse_catalog::definitions::ViewDefinition;
use boathouse_sql::ast::{
    Expr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, Visit,
    VisitMut, Visitor, VisitorMut, With,
};
use boathouse_sql::name::quote_identifier;
use boathouse_sql::parse_query;

use super::naming::MARK;
use super::resolve::{self, Rights, Scopes};
use super::{QueryContext, plan, plan_query, rewrite};
use crate::error::SqlError;

/// The query with its names and columns settled. It has the same result.
pub async fn settle(context: &QueryContext, query: &Query) -> Result<Query, SqlError> {
    let rights = Rights::of_session(context);
    let mut named = query.clone();
    each_relation(&mut named, &mut |name, _| {
        let parts = resolve::parts_of(name);
        if let [_] = parts.as_slice()
            && let Some((schema, table)) =
                resolve::place(context, &context.snapshot, &rights, &parts)?
        {
            *name = ObjectName::from(vec![identifier(&schema), identifier(table)]);
        }
        Ok(())
    })?;
    let mut settled = named.clone();
    expand(context, &rights, &mut settled).await;
    // A query that refers to columns around it may not be what it was when it is written out.
    let before = plan_query(context, &named, &[]).await?;
    match plan_query(context, &settled, &[]).await {
        Ok(after) if after.fields == before.fields => Ok(settled),
        _ => Ok(named),
    }
}

/// The relations a view reads, as schema and name.
pub fn relations(view: &ViewDefinition, schema: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    // A view that does not parse cannot be read either, so nothing depends on it.
    if let Ok(mut query) = parse_query(&view.query) {
        let _ = each_relation(&mut query, &mut |name, _| {
            found.extend(qualified(name, schema));
            Ok(())
        });
    }
    found
}

/// The text of a view after relations got the schema and name that `to` gives; `None` when it names
/// none of them.
pub fn redirect(
    view: &ViewDefinition,
    schema: &str,
    to: &dyn Fn(&str, &str) -> Option<(String, String)>,
) -> Option<String> {
    let mut query = parse_query(&view.query).ok()?;
    let mut changed = false;
    let visited = each_relation(&mut query, &mut |name, alias| {
        if let Some((schema, table)) = qualified(name, schema)
            && let Some((new_schema, new_table)) = to(&schema, &table)
        {
            changed = true;
            *name = ObjectName::from(vec![identifier(&new_schema), identifier(&new_table)]);
            // Its columns are called by the old name.
            if alias.is_none() && new_table != table {
                *alias = Some(TableAlias {
                    explicit: true,
                    name: identifier(&table),
                    columns: Vec::new(),
                    at: None,
                });
            }
        }
        Ok(())
    });
    (changed && visited.is_ok()).then(|| query.to_string())
}

pub(super) fn identifier(name: &str) -> Ident {
    if quote_identifier(name) == name {
        Ident::new(name)
    } else {
        Ident::with_quote('"', name)
    }
}

fn qualified(name: &ObjectName, schema: &str) -> Option<(String, String)> {
    let mut parts = resolve::parts_of(name);
    let table = parts.pop()?;
    Some((parts.pop().unwrap_or_else(|| schema.to_owned()), table))
}

type Visited<'a> = dyn FnMut(&mut ObjectName, &mut Option<TableAlias>) -> Result<(), SqlError> + 'a;

/// Shows every relation that is not a CTE.
fn each_relation(query: &mut Query, visit: &mut Visited<'_>) -> Result<(), SqlError> {
    let mut walk = Relations {
        scopes: Scopes::default(),
        visit,
    };
    match VisitMut::visit(query, &mut walk) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Relations<'a, 'b> {
    scopes: Scopes,
    visit: &'a mut Visited<'b>,
}

impl VisitorMut for Relations<'_, '_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        resolve::expand_table_command(&mut query.body);
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Self::Break> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Table {
            name,
            alias,
            args: None,
            version,
            ..
        } = factor
        {
            let cte = version.is_none()
                && matches!(resolve::parts_of(name).as_slice(), [one] if self.scopes.holds(one));
            if !cte && let Err(error) = (self.visit)(name, alias) {
                return ControlFlow::Break(Box::new(error));
            }
        }
        ControlFlow::Continue(())
    }
}

/// Writes out every `*` whose columns can be told.
async fn expand(context: &QueryContext, rights: &Rights, query: &mut Query) {
    let mut wildcards = Wildcards::default();
    let _ = Visit::visit(&*query, &mut wildcards);
    let mut columns = VecDeque::with_capacity(wildcards.queries.len());
    for mut alone in wildcards.queries {
        columns.push_back(columns_of(context, rights, &mut alone).await);
    }
    let _ = VisitMut::visit(query, &mut WriteOut { columns });
}

/// The columns of a query as items of the select list it stands for.
async fn columns_of(
    context: &QueryContext,
    rights: &Rights,
    query: &mut Query,
) -> Option<Vec<SelectItem>> {
    // Fails for a subquery that refers to what is around it; its `*` stays.
    let bound = plan::bind(context, rights, query, &[]).await.ok()?;
    let columns = bound.plan.schema().iter();
    columns
        .map(|(qualifier, field)| {
            let column = identifier(field.name());
            let expression = match qualifier {
                Some(table) => Expr::CompoundIdentifier(vec![identifier(table.table()), column]),
                None => Expr::Identifier(column),
            };
            let repeats = field.name().contains(MARK);
            (!repeats).then_some(SelectItem::UnnamedExpr(expression))
        })
        .collect()
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(
        item,
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(_, _)
    )
}

/// Lists `SELECT * FROM ...` for every `*`, with the CTEs it can see.
#[derive(Default)]
struct Wildcards {
    queries: Vec<Query>,
    scopes: Vec<Option<With>>,
    /// What is visible inside the query of a CTE, by the query's address.
    entered: HashMap<usize, Option<With>>,
}

impl Visitor for Wildcards {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let inherited = self.scopes.last().cloned().flatten();
        let address = std::ptr::from_ref::<Query>(query) as usize;
        let mut visible = self.entered.remove(&address).unwrap_or(inherited);
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let Some(with) = &query.with else { continue };
            let mut inside = visible.clone().unwrap_or_else(|| With {
                cte_tables: Vec::new(),
                ..with.clone()
            });
            inside.recursive |= with.recursive;
            let name = &cte.alias.name.value;
            inside
                .cte_tables
                .retain(|one| one.alias.name.value != *name);
            let mut after = inside.clone();
            after.cte_tables.push(cte.clone());
            let inside = if with.recursive {
                Some(after.clone())
            } else {
                visible
            };
            let address = std::ptr::from_ref::<Query>(&cte.query) as usize;
            self.entered.insert(address, inside);
            visible = Some(after);
        }
        self.scopes.push(visible);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in select.projection.iter().filter(|item| is_wildcard(item)) {
            let mut alone = Select::clone(&rewrite::EMPTY_SELECT);
            alone.projection = vec![item.clone()];
            alone.from.clone_from(&select.from);
            let mut query = Query::clone(&rewrite::EMPTY_QUERY);
            query.body = Box::new(SetExpr::Select(Box::new(alone)));
            query.with = self.scopes.last().cloned().flatten();
            self.queries.push(query);
        }
        ControlFlow::Continue(())
    }
}

/// Puts columns where each `*` stood, in the order [`Wildcards`] met them.
struct WriteOut {
    columns: VecDeque<Option<Vec<SelectItem>>>,
}

impl VisitorMut for WriteOut {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let items = std::mem::take(&mut select.projection);
        for item in items {
            let columns = if is_wildcard(&item) {
                self.columns.pop_front().flatten()
            } else {
                None
            };
            match columns {
                Some(columns) => select.projection.extend(columns),
                None => select.projection.push(item),
            }
        }
        ControlFlow::Continue(())
    }
}
