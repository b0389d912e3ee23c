//! Finds the relations a query names, and lets nobody read what they may not.
//!
//! Two steps. [`collect`] walks the syntax tree with the scopes of its CTEs, gives every relation
//! that is not a CTE a name of ours (`#1`) under its own alias, and lists what has to be found.
//! [`find`] then finds each: a table at a version, a view planned with its owner's rights, a system
//! relation, a file. **Rights are checked in [`find`] and nowhere else**; what it returns may be read.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use boathouse_catalog::definitions::{ObjectId, ObjectKind, ObjectRef, Privilege, TableDefinition};
use boathouse_catalog::{Relation, Snapshot};
use boathouse_sql::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, Query, Select,
    SelectItem, SetExpr, Spanned, TableAlias, TableFactor, TableVersion, UnaryOperator, Value,
    ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{
    EmptyRelation, Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder, TableSource,
};

use super::QueryContext;
use crate::error::{SqlError, SqlState};
use crate::lake::AsOf;

/// Views inside views, before a view is taken for one that contains itself.
const VIEW_DEPTH_MAX: usize = 32;

/// A relation to be found.
#[derive(Debug)]
pub enum Request {
    Named {
        parts: Vec<String>,
        version: Option<Box<TableVersion>>,
        position: usize,
    },
    Files {
        function: String,
        arguments: Vec<(Option<String>, Argument)>,
        position: usize,
    },
}

/// A constant argument of a file function.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    Text(String),
    Number(String),
    Boolean(bool),
    List(Vec<Argument>),
    Null,
}

/// Functions of a FROM clause that read files.
pub const FILE_FUNCTIONS: &[&str] = &[
    "read_parquet",
    "read_csv",
    "read_json",
    "read_excel",
    "read_delta",
    super::changes::FUNCTION,
    super::origins::FUNCTION,
];

/// Replaces every relation by a name of ours and lists what they stood for.
pub fn collect(query: &mut Query) -> Result<Vec<(String, Request)>, SqlError> {
    let mut collector = Collector::default();
    match VisitMut::visit(query, &mut collector) {
        ControlFlow::Continue(()) => Ok(collector.requests),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// The CTE names that are visible while a query is walked.
#[derive(Default)]
pub struct Scopes {
    /// Of each query that is being walked.
    visible: Vec<HashSet<String>>,
    /// What is visible inside the query of a CTE, by the query's address.
    entered: HashMap<usize, HashSet<String>>,
}

impl Scopes {
    pub fn enter(&mut self, query: &Query) {
        let address = std::ptr::from_ref::<Query>(query) as usize;
        let mut visible = match self.entered.remove(&address) {
            Some(visible) => visible,
            None => self.visible.last().cloned().unwrap_or_default(),
        };
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                let name = cte.alias.name.value.clone();
                let mut inside = visible.clone();
                if with.recursive {
                    inside.insert(name.clone());
                }
                self.entered
                    .insert(std::ptr::from_ref::<Query>(&cte.query) as usize, inside);
                visible.insert(name);
            }
        }
        self.visible.push(visible);
    }

    pub fn leave(&mut self) {
        self.visible.pop();
    }

    pub fn holds(&self, name: &str) -> bool {
        let visible = self.visible.last();
        visible.is_some_and(|visible| visible.contains(name))
    }
}

#[derive(Default)]
struct Collector {
    requests: Vec<(String, Request)>,
    scopes: Scopes,
}

impl VisitorMut for Collector {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        expand_table_command(&mut query.body);
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Self::Break> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        // psql asks of every column whether its collation is another than its type's. None is.
        if let Expr::Subquery(query) = expr
            && asks_collation(query)
        {
            *expr = Expr::Value(Value::Null.into());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        match self.table_factor(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

impl Collector {
    fn table_factor(&mut self, factor: &mut TableFactor) -> Result<(), SqlError> {
        let position = usize::try_from(factor.span().start.column).unwrap_or(0);
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                version,
                sample,
                ..
            } => {
                if sample.is_some() {
                    return Err(SqlError::unsupported("TABLESAMPLE"));
                }
                let parts = parts_of(name);
                if let [single] = parts.as_slice()
                    && version.is_none()
                    && self.scopes.holds(single)
                {
                    return Ok(());
                }
                let shown = parts.last().cloned().unwrap_or_default();
                let request = Request::Named {
                    parts,
                    version: version.take().map(Box::new),
                    position,
                };
                self.replace(name, alias, shown, request);
            }
            TableFactor::Table {
                name,
                alias,
                args: args @ Some(_),
                ..
            } => {
                let function = super::rewrite::function_name(name);
                if FILE_FUNCTIONS.contains(&function.as_str())
                    && let Some(taken) = args.take()
                {
                    let arguments = constant_arguments(&function, &taken.args)?;
                    let shown = function.clone();
                    let request = Request::Files {
                        function,
                        arguments,
                        position,
                    };
                    self.replace(name, alias, shown, request);
                }
            }
            TableFactor::Function {
                name, args, alias, ..
            } => {
                let function = super::rewrite::function_name(name);
                if FILE_FUNCTIONS.contains(&function.as_str()) {
                    let arguments = constant_arguments(&function, args)?;
                    let mut name = name.clone();
                    let mut alias = alias.take();
                    let shown = function.clone();
                    let request = Request::Files {
                        function,
                        arguments,
                        position,
                    };
                    self.replace(&mut name, &mut alias, shown, request);
                    *factor = TableFactor::Table {
                        name,
                        alias,
                        args: None,
                        with_hints: Vec::new(),
                        version: None,
                        with_ordinality: false,
                        partitions: Vec::new(),
                        json_path: None,
                        sample: None,
                        index_hints: Vec::new(),
                    };
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn replace(
        &mut self,
        name: &mut ObjectName,
        alias: &mut Option<TableAlias>,
        shown: String,
        request: Request,
    ) {
        let ours = format!("#{}", self.requests.len() + 1);
        if alias.is_none() {
            *alias = Some(TableAlias {
                explicit: true,
                name: Ident::with_quote('"', shown),
                columns: Vec::new(),
                at: None,
            });
        }
        *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote(
            '"',
            ours.clone(),
        ))]);
        self.requests.push((ours, request));
    }
}

pub fn parts_of(name: &ObjectName) -> Vec<String> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => ident.value.clone(),
            other => other.to_string(),
        })
        .collect()
}

/// `(SELECT c.collname FROM pg_collation c, pg_type t WHERE ... a.attcollation <> t.typcollation)`.
fn asks_collation(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return false;
    };
    let names = select
        .from
        .iter()
        .filter_map(|from| match &from.relation {
            TableFactor::Table { name, .. } => parts_of(name).pop(),
            _ => None,
        })
        .collect::<Vec<_>>();
    names == ["pg_collation", "pg_type"]
}

/// `TABLE t` is `SELECT * FROM t`.
pub fn expand_table_command(body: &mut SetExpr) {
    match body {
        SetExpr::Table(table) => {
            let mut parts = Vec::new();
            parts.extend(table.schema_name.clone());
            parts.extend(table.table_name.clone());
            let mut select = Select::clone(&super::rewrite::EMPTY_SELECT);
            select.projection = vec![SelectItem::Wildcard(Default::default())];
            select.from = vec![ast::TableWithJoins {
                relation: TableFactor::Table {
                    name: ObjectName::from(parts.into_iter().map(Ident::new).collect::<Vec<_>>()),
                    alias: None,
                    args: None,
                    with_hints: Vec::new(),
                    version: None,
                    with_ordinality: false,
                    partitions: Vec::new(),
                    json_path: None,
                    sample: None,
                    index_hints: Vec::new(),
                },
                joins: Vec::new(),
            }];
            *body = SetExpr::Select(Box::new(select));
        }
        SetExpr::SetOperation { left, right, .. } => {
            expand_table_command(left);
            expand_table_command(right);
        }
        _ => {}
    }
}

fn constant_arguments(
    function: &str,
    arguments: &[FunctionArg],
) -> Result<Vec<(Option<String>, Argument)>, SqlError> {
    let constant = |expr: &Expr| {
        constant(expr).ok_or_else(|| {
            SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("the arguments of {function} must be constants"),
            )
        })
    };
    arguments
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => match named(expr) {
                Some((name, value)) => Ok((Some(name), constant(value)?)),
                None => Ok((None, constant(expr)?)),
            },
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(expr),
                ..
            } => Ok((Some(name.value.clone()), constant(expr)?)),
            FunctionArg::ExprNamed {
                name,
                arg: FunctionArgExpr::Expr(expr),
                ..
            } => Ok((Some(name.to_string()), constant(expr)?)),
            other => Err(SqlError::unsupported(format!("the argument \"{other}\""))),
        })
        .collect()
}

/// `delimiter = ','`, which reads as a comparison.
fn named(expr: &Expr) -> Option<(String, &Expr)> {
    match expr {
        Expr::BinaryOp {
            left,
            op: ast::BinaryOperator::Eq,
            right,
        } => match left.as_ref() {
            Expr::Identifier(name) => Some((name.value.clone(), right)),
            _ => None,
        },
        _ => None,
    }
}

fn constant(expr: &Expr) -> Option<Argument> {
    Some(match expr {
        Expr::Value(ValueWithSpan { value, .. }) => match value {
            Value::Number(digits, _) => Argument::Number(digits.clone()),
            Value::Boolean(value) => Argument::Boolean(*value),
            Value::Null => Argument::Null,
            Value::Placeholder(_) => return None,
            other => Argument::Text(other.clone().into_string()?),
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => match constant(expr)? {
            Argument::Number(digits) => Argument::Number(format!("-{digits}")),
            _ => return None,
        },
        Expr::Array(array) => Argument::List(
            array
                .elem
                .iter()
                .map(constant)
                .collect::<Option<Vec<_>>>()?,
        ),
        Expr::Nested(inner) => constant(inner)?,
        Expr::Identifier(name) => Argument::Text(name.value.clone()),
        _ => return None,
    })
}

/// On whose behalf relations are looked up.
#[derive(Clone)]
pub struct Rights {
    pub role: ObjectId,
    /// Schemas to look in for a name without one, in order.
    pub search_path: Vec<String>,
    /// How many views deep this is.
    pub depth: usize,
}

impl Rights {
    pub fn of_session(context: &QueryContext) -> Self {
        let search_path = context
            .session
            .search_path
            .iter()
            .map(|name| {
                if name == "$user" {
                    context.session.role_name.clone()
                } else {
                    name.clone()
                }
            })
            .collect();
        Self {
            role: context.session.role,
            search_path,
            depth: 0,
        }
    }
}

/// What was found, by our names, and the catalog tables among it.
#[derive(Default)]
pub struct Found {
    pub sources: HashMap<String, Arc<dyn TableSource>>,
    pub tables: Vec<ObjectId>,
    /// The versions of those that are read as they are now.
    pub versions: Vec<(ObjectId, i64)>,
    /// Whether a view among it holds a constant read with the time of planning.
    pub holds_time: bool,
}

/// Finds everything that was asked for.
pub async fn find(
    context: &QueryContext,
    rights: &Rights,
    requests: Vec<(String, Request)>,
) -> Result<Found, SqlError> {
    let mut found = Found::default();
    for (name, request) in requests {
        let source = match request {
            Request::Named {
                parts,
                version,
                position,
            } => {
                let version = version.map(|version| *version);
                find_named(context, rights, &parts, version, position, &mut found).await?
            }
            Request::Files {
                function,
                arguments,
                position,
            } if function == super::changes::FUNCTION => {
                let provider = super::changes::open(context, rights, &arguments, &mut found);
                let provider = Box::pin(provider)
                    .await
                    .map_err(|error| error.at(position))?;
                provider_as_source(provider)
            }
            Request::Files {
                function,
                arguments,
                position,
            } if function == super::origins::FUNCTION => {
                let provider = super::origins::open(context, rights, &arguments, &mut found);
                let provider = Box::pin(provider)
                    .await
                    .map_err(|error| error.at(position))?;
                provider_as_source(provider)
            }
            Request::Files {
                function,
                arguments,
                position,
            } => {
                check_file_right(context, rights)?;
                let provider = super::files::open(context, &function, &arguments)
                    .await
                    .map_err(|error| {
                        if error.position.is_none() {
                            error.at(position)
                        } else {
                            error
                        }
                    })?;
                provider_as_source(provider)
            }
        };
        found.sources.insert(name, source);
    }
    Ok(found)
}

fn check_file_right(context: &QueryContext, rights: &Rights) -> Result<(), SqlError> {
    let snapshot = &context.snapshot;
    let allowed = snapshot.is_superuser(rights.role)
        || snapshot
            .role("pg_read_server_files")
            .is_some_and(|role| snapshot.inherits_from(rights.role, role.id));
    if allowed {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "permission denied to read files",
    )
    .detail("Only roles with privileges of the \"pg_read_server_files\" role may read files.")
    .hint("GRANT pg_read_server_files TO <role>"))
}

fn undefined_table(parts: &[String], position: usize) -> SqlError {
    let error = SqlError::new(
        SqlState::UNDEFINED_TABLE,
        format!("relation \"{}\" does not exist", parts.join(".")),
    );
    if position > 0 {
        error.at(position)
    } else {
        error
    }
}

/// The schema a relation is found in, and its name there.
pub fn place<'a>(
    context: &QueryContext,
    snapshot: &Snapshot,
    rights: &Rights,
    parts: &'a [String],
) -> Result<Option<(String, &'a str)>, SqlError> {
    match parts {
        [name] => {
            if crate::relation::exists("pg_catalog", name) {
                return Ok(Some(("pg_catalog".to_owned(), name)));
            }
            for schema in &rights.search_path {
                if snapshot.relation(schema, name).is_some()
                    || crate::relation::exists(schema, name)
                {
                    return Ok(Some((schema.clone(), name)));
                }
            }
            Ok(None)
        }
        [schema, name] => Ok(Some((schema.clone(), name))),
        [database, schema, name] => {
            if *database != context.session.database {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!(
                        "cross-database references are not implemented: \"{}\"",
                        parts.join(".")
                    ),
                ));
            }
            Ok(Some((schema.clone(), name)))
        }
        _ => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!(
                "improper qualified name (too many dotted names): {}",
                parts.join(".")
            ),
        )),
    }
}

async fn find_named(
    context: &QueryContext,
    rights: &Rights,
    parts: &[String],
    version: Option<TableVersion>,
    position: usize,
    found: &mut Found,
) -> Result<Arc<dyn TableSource>, SqlError> {
    if let [name] = parts
        && let Some((_, provider)) = context
            .extra_relations
            .iter()
            .find(|(extra, _)| extra == name)
    {
        return Ok(provider_as_source(Arc::clone(provider)));
    }
    let snapshot = &context.snapshot;
    let Some((schema, name)) = place(context, snapshot, rights, parts)? else {
        return Err(undefined_table(parts, position));
    };
    if version.is_none()
        && let Some(columns) = crate::relation::empty_columns(&schema, name)
    {
        // The optimizer sees that nothing comes of it, and drops what is built on it.
        let columns = DFSchema::try_from(columns.as_ref().clone())
            .map_err(super::failure::from_datafusion)?;
        let nothing = LogicalPlan::EmptyRelation(EmptyRelation {
            produce_one_row: false,
            schema: Arc::new(columns),
        });
        return Ok(provider_as_source(Arc::new(ViewTable::new(nothing, None))));
    }
    if let Some(provider) = crate::relation::open(context, &schema, name) {
        if version.is_some() {
            return Err(SqlError::unsupported("the history of a system relation"));
        }
        return Ok(provider_as_source(provider));
    }
    match readable(snapshot, rights, (&schema, name), (parts, position))? {
        Relation::Table(definition) => {
            found.tables.push(definition.id);
            let pinned = version.is_some();
            let as_of = version.map(|version| as_of(context, version)).transpose()?;
            let table = context.engine.lake.table(definition).await?;
            let mut at = match as_of {
                None => context.table_snapshot(definition.id, &table).await?,
                as_of => table.snapshot(as_of).await?,
            };
            if !pinned {
                found.versions.push((definition.id, at.version()));
            }
            if let Some(extended) = (!pinned).then(|| at.as_defined(definition)).flatten() {
                at = Arc::new(extended);
            }
            if let Some(rows) = context.uncommitted.get(&definition.id).filter(|_| !pinned) {
                at = Arc::new(at.with_uncommitted(rows)?);
            }
            let key = definition.primary_key.as_ref();
            let key = key.map_or(&[][..], |key| &key.columns);
            let provider: Arc<dyn TableProvider> = table.keyed_provider(&at, key);
            Ok(provider_as_source(provider))
        }
        Relation::View(view) => {
            if version.is_some() {
                return Err(SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("\"{name}\" is not a table"),
                ));
            }
            if rights.depth >= VIEW_DEPTH_MAX {
                return Err(SqlError::new(
                    SqlState("42P17"),
                    format!("infinite recursion detected in rules for relation \"{name}\""),
                ));
            }
            let mut query = boathouse_sql::parse_query(&view.query).map_err(|error| {
                SqlError::internal(format!("the query of view \"{name}\" does not parse"))
                    .caused_by(std::io::Error::other(format!("{error:?}")))
            })?;
            // Its names have their schemas. The reader's search path must have no say in what is read
            // with the owner's rights.
            let inside = Rights {
                role: view.owner,
                search_path: vec![schema.clone()],
                depth: rights.depth + 1,
            };
            let bound = Box::pin(super::plan::bind(context, &inside, &mut query, &[])).await?;
            found.tables.extend(bound.tables);
            found.versions.extend(bound.versions);
            found.holds_time |= bound.holds_time;
            // The view's columns were settled when it was made; they hold whatever the tables became.
            let items = bound
                .plan
                .schema()
                .columns()
                .into_iter()
                .zip(&view.columns)
                .map(|(column, (label, _))| PlanExpr::Column(column).alias(label))
                .collect::<Vec<_>>();
            let plan = LogicalPlanBuilder::from(bound.plan)
                .project(items)
                .and_then(LogicalPlanBuilder::build)
                .map_err(super::failure::from_datafusion)?;
            Ok(provider_as_source(Arc::new(ViewTable::new(plan, None))))
        }
    }
}

/// The relation of a schema, when the role may read it.
fn readable<'a>(
    snapshot: &'a Snapshot,
    rights: &Rights,
    (schema, name): (&str, &str),
    (parts, position): (&[String], usize),
) -> Result<Relation<'a>, SqlError> {
    let Some(schema_definition) = snapshot.schema(schema) else {
        return Err(undefined_table(parts, position));
    };
    let usage = ObjectRef::new(ObjectKind::Schema, schema_definition.id);
    if !snapshot.has_privilege(rights.role, usage, Privilege::Usage) {
        return Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for schema {schema}"),
        ));
    }
    let Some(relation) = snapshot.relation(schema, name) else {
        return Err(undefined_table(parts, position));
    };
    let object = relation.object();
    if !snapshot.has_privilege(rights.role, object, Privilege::Select) {
        return Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for {} {name}", object.kind),
        ));
    }
    Ok(relation)
}

/// The table of that name, when the role may read it.
pub fn readable_table(
    context: &QueryContext,
    rights: &Rights,
    parts: &[String],
) -> Result<Arc<TableDefinition>, SqlError> {
    let snapshot = &context.snapshot;
    let Some((schema, name)) = place(context, snapshot, rights, parts)? else {
        return Err(undefined_table(parts, 0));
    };
    match readable(snapshot, rights, (&schema, name), (parts, 0))? {
        Relation::Table(definition) => Ok(Arc::clone(definition)),
        Relation::View(_) => Err(SqlError::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{name}\" is not a table"),
        )),
    }
}

/// Which version `FOR VERSION AS OF n` or `FOR TIMESTAMP AS OF t` means.
fn as_of(context: &QueryContext, version: TableVersion) -> Result<AsOf, SqlError> {
    let invalid = |what: &str| {
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("{what} must be a constant"),
        )
    };
    match version {
        TableVersion::VersionAsOf(expr) => match constant(&expr) {
            Some(Argument::Number(digits) | Argument::Text(digits)) => digits
                .parse()
                .map(AsOf::Version)
                .map_err(|_| invalid("the version of a table")),
            _ => Err(invalid("the version of a table")),
        },
        TableVersion::TimestampAsOf(expr) | TableVersion::ForSystemTimeAsOf(expr) => {
            let text = match &expr {
                Expr::TypedString(typed) => typed.value.clone().into_string(),
                Expr::Cast { expr, .. } => match constant(expr) {
                    Some(Argument::Text(text)) => Some(text),
                    _ => None,
                },
                other => match constant(other) {
                    Some(Argument::Text(text)) => Some(text),
                    _ => None,
                },
            };
            let text = text.ok_or_else(|| invalid("the time of a table's version"))?;
            let wanted = boathouse_catalog::types::ColumnType::TimestampTz;
            let zone = context.session.time_zone();
            let micros = crate::function::text_io::parse(&text, &wanted, zone)?.as_int();
            Ok(AsOf::Timestamp(micros.div_euclid(1000)))
        }
        _ => Err(SqlError::unsupported("this kind of table version")),
    }
}
