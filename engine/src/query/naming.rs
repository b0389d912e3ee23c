//! The names of a query's columns, as PostgreSQL's `FigureColname` gives them.
//!
//! Every item of a select list gets its final name here, before anything else looks at it. The
//! planner wants names to be unique, PostgreSQL does not: a name that repeats gets an invisible
//! suffix ([`MARK`]) that [`shown_name`] takes off again where the result is described.

use std::collections::HashSet;

use boathouse_sql::ast::{
    CastKind, DataType, Expr, FunctionArguments, Ident, ObjectNamePart, Query, Select, SelectItem,
    SetExpr, TrimWhereField,
};

/// Separates a name from the number that makes it unique. No one can type it by accident.
pub const MARK: char = '\u{1}';

/// The name as the client sees it.
pub fn shown_name(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// Gives every unnamed item of a select list its name.
pub fn name_select_items(select: &mut Select) {
    let wildcard = select.projection.iter().any(|item| {
        matches!(
            item,
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(_, _)
        )
    });
    let mut taken: HashSet<String> = HashSet::new();
    let mut columns: HashSet<(String, String)> = HashSet::new();
    for item in &mut select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                // A plain column keeps its qualifier, so that two tables' columns of one name can
                // stand side by side; only its repetition has to be told apart.
                if let Some(path) = column_path(expr)
                    && !wildcard
                {
                    let name = path.1.clone();
                    if columns.insert(path) && !taken.contains(&name) {
                        continue;
                    }
                    let alias = Ident::with_quote('"', unique(&mut taken, name, true));
                    *item = SelectItem::ExprWithAlias {
                        expr: expr.clone(),
                        alias,
                    };
                    continue;
                }
                let name = figure_name(expr);
                let repeats = columns.iter().any(|(_, column)| *column == name);
                let plain = column_path(expr).is_some();
                let alias = Ident::with_quote(
                    '"',
                    unique(&mut taken, name, repeats || (wildcard && plain)),
                );
                *item = SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias,
                };
            }
            SelectItem::ExprWithAlias { alias, .. } => {
                let repeats = columns.iter().any(|(_, column)| *column == alias.value);
                alias.value = unique(&mut taken, alias.value.clone(), repeats);
                alias.quote_style = Some('"');
            }
            _ => {}
        }
    }
}

/// The qualifier and the name of a plain column.
fn column_path(expr: &Expr) -> Option<(String, String)> {
    match expr {
        Expr::Identifier(ident) => Some((String::new(), ident.value.clone())),
        Expr::CompoundIdentifier(parts) => {
            let (last, qualifier) = parts.split_last()?;
            let qualifier = qualifier
                .iter()
                .map(|part| part.value.as_str())
                .collect::<Vec<_>>()
                .join(".");
            Some((qualifier, last.value.clone()))
        }
        _ => None,
    }
}

/// PostgreSQL's name for an unnamed expression.
pub fn figure_name(expr: &Expr) -> String {
    strong_name(expr).unwrap_or_else(|| "?column?".to_owned())
}

fn strong_name(expr: &Expr) -> Option<String> {
    let fixed = |name: &str| Some(name.to_owned());
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => strong_name(inner),
        Expr::Function(function) => {
            let name = match function.name.0.last()? {
                ObjectNamePart::Identifier(ident) => ident.value.clone(),
                other => other.to_string(),
            };
            let upper_case_keyword = matches!(function.args, FunctionArguments::None);
            Some(if upper_case_keyword {
                name.to_ascii_lowercase()
            } else {
                name
            })
        }
        Expr::Cast {
            kind: CastKind::TryCast | CastKind::SafeCast,
            expr,
            ..
        } => strong_name(expr),
        Expr::Cast {
            expr, data_type, ..
        } => strong_or_weak(expr, data_type),
        Expr::TypedString(typed) => Some(type_label(&typed.data_type)),
        Expr::Interval(_) => fixed("interval"),
        Expr::Case { else_result, .. } => match else_result.as_deref() {
            Some(inner) => case_name(inner).or_else(|| fixed("case")),
            None => fixed("case"),
        },
        Expr::Exists { negated: false, .. } => fixed("exists"),
        Expr::Array(_) => fixed("array"),
        Expr::Extract { .. } => fixed("extract"),
        Expr::Position { .. } => fixed("position"),
        Expr::Substring { .. } => fixed("substring"),
        Expr::Overlay { .. } => fixed("overlay"),
        Expr::Ceil { .. } => fixed("ceil"),
        Expr::Floor { .. } => fixed("floor"),
        Expr::Trim { trim_where, .. } => fixed(match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Expr::AtTimeZone { .. } => fixed("timezone"),
        Expr::Subquery(query) => subquery_name(query),
        Expr::CompoundFieldAccess { root, .. } => strong_name(root),
        Expr::Tuple(_) => fixed("row"),
        _ => None,
    }
}

/// A cast is named for what it casts when that has a name of its own, else for its type.
fn strong_or_weak(inner: &Expr, data_type: &DataType) -> Option<String> {
    match inner {
        // The name of an inner cast or constant yields to the type.
        Expr::Value(_) | Expr::Interval(_) | Expr::TypedString(_) => Some(type_label(data_type)),
        Expr::Case { .. } => match case_strength(inner) {
            Some(name) => Some(name),
            None => Some(type_label(data_type)),
        },
        Expr::Cast { expr, .. } => match strong_or_weak_inner(expr) {
            Some(name) => Some(name),
            None => Some(type_label(data_type)),
        },
        _ => strong_name(inner).or_else(|| Some(type_label(data_type))),
    }
}

fn strong_or_weak_inner(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(_) | Expr::Interval(_) | Expr::TypedString(_) => None,
        Expr::Cast { expr, .. } => strong_or_weak_inner(expr),
        Expr::Case { .. } => case_strength(expr),
        other => strong_name(other),
    }
}

fn case_strength(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Case {
            else_result: Some(inner),
            ..
        } => case_name(inner),
        _ => None,
    }
}

/// A CASE is named for its ELSE when that is a column or a call.
fn case_name(inner: &Expr) -> Option<String> {
    match inner {
        Expr::Value(_) | Expr::Interval(_) | Expr::TypedString(_) | Expr::Cast { .. } => None,
        Expr::Case { .. } => case_strength(inner),
        other => strong_name(other),
    }
}

fn subquery_name(query: &Query) -> Option<String> {
    match query.body.as_ref() {
        SetExpr::Select(select) => match select.projection.first()? {
            SelectItem::UnnamedExpr(expr) => strong_name(expr),
            SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
            _ => None,
        },
        SetExpr::Values(_) => Some("column1".to_owned()),
        SetExpr::Query(query) => subquery_name(query),
        _ => None,
    }
}

/// The internal name of a type as it labels a cast (`int4`, `timestamptz`).
fn type_label(data_type: &DataType) -> String {
    match super::typing::written_type(data_type) {
        Some(super::typing::Written::Type(column_type)) => {
            let mut element = &column_type;
            while let boathouse_catalog::types::ColumnType::Array(inner) = element {
                element = inner;
            }
            element.internal_name().to_owned()
        }
        Some(super::typing::Written::Catalog(name)) => name.to_owned(),
        None => data_type.to_string().to_ascii_lowercase(),
    }
}

/// A name not yet taken; a repetition is marked so that the plan can tell it apart.
fn unique(taken: &mut HashSet<String>, name: String, always: bool) -> String {
    if !always && taken.insert(name.clone()) {
        return name;
    }
    let mut number = taken.len() + 1;
    loop {
        let marked = format!("{name}{MARK}{number}");
        if taken.insert(marked.clone()) {
            return marked;
        }
        number += 1;
    }
}
