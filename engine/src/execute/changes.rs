//! What UPDATE, DELETE, MERGE and ON CONFLICT share: finding the rows to change, and RETURNING.
//!
//! ```text
//! target table, each row with its file and position -> query -> rows to delete, by position
//!                                                            -> new rows -> TableWrite
//! ```
//!
//! The target stands in the query under a name that no table can have, so the rights to it are
//! checked here and those to every other relation where the query names it.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type};
use boathouse_catalog::definitions::{
    ColumnDefinition, ObjectKind, ObjectRef, Privilege, TableDefinition,
};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast::{self, Expr, Ident, Select, SelectItem, SetExpr};
use boathouse_sql::name::{QualifiedName, quote_identifier};
use boathouse_sql::{parse_expression, parse_query};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use futures::TryStreamExt;
use roaring::RoaringTreemap;

use super::insert::{is_default, target};
use super::rows;
use super::write::{TableWrite, schema_of};
use crate::error::{SqlError, SqlState};
use crate::lake::{
    Asked, DeltaProvider, FILE_COLUMN, LakeTable, ROW_COLUMN, TableSnapshot, WrittenFile,
};
use crate::outcome::{Description, Outcome, RowsTag};
use crate::query::failure::from_datafusion;
use crate::query::{self, PlannedQuery, QueryContext, Target};
use crate::session::Session;

/// The target's name in its statement's query.
pub(super) const TARGET: &str = "#target";

/// The columns a query over the target begins with: where the row is.
pub(super) const ADDRESS_COLUMNS: usize = 2;

/// The table a statement changes, as its transaction sees it.
pub(super) struct Subject {
    pub schema_name: String,
    pub definition: Arc<TableDefinition>,
    /// What the statement calls it.
    pub alias: String,
    table: Arc<LakeTable>,
    snapshot: Arc<TableSnapshot>,
    /// The same without what the transaction has done.
    committed: Arc<TableSnapshot>,
}

impl Subject {
    /// Finds the table; the role needs `privilege`, and SELECT when the statement reads columns.
    pub async fn open(
        session: &Session,
        context: &QueryContext,
        name: &QualifiedName,
        alias: Option<&String>,
        privilege: Privilege,
        reads: bool,
    ) -> Result<Self, SqlError> {
        let snapshot = &context.snapshot;
        let definition = session.state.table(snapshot, name)?;
        let object = ObjectRef::new(ObjectKind::Table, definition.id);
        let needed = [Some(privilege), reads.then_some(Privilege::Select)];
        for privilege in needed.into_iter().flatten() {
            let name = &definition.name;
            session
                .state
                .require(snapshot, object, privilege, "table", name)?;
        }
        let mut subject = Self::of(context, &definition).await?;
        if let Some(alias) = alias {
            subject.alias.clone_from(alias);
        }
        Ok(subject)
    }

    /// The table as the transaction sees it, whoever asks.
    pub async fn of(
        context: &QueryContext,
        definition: &Arc<TableDefinition>,
    ) -> Result<Self, SqlError> {
        let definition = Arc::clone(definition);
        let schema = context.snapshot.schema_by_id(definition.schema);
        let schema_name = schema.map(|schema| schema.name.clone()).unwrap_or_default();
        let table = context.engine.lake.table(&definition).await?;
        let mut at = context.table_snapshot(definition.id, &table).await?;
        let committed = Arc::clone(&at);
        if let Some(extended) = at.as_defined(&definition) {
            at = Arc::new(extended);
        }
        if let Some(rows) = context.uncommitted.get(&definition.id) {
            at = Arc::new(at.with_uncommitted(rows)?);
        }
        Ok(Self {
            schema_name,
            alias: definition.name.clone(),
            definition,
            table,
            snapshot: at,
            committed,
        })
    }

    /// Tells the transaction that the table was searched for the keys of new rows.
    pub fn note_keys_read(&self, session: &mut Session) -> Result<(), SqlError> {
        let work = session.work()?;
        work.keys_read(&self.schema_name, &self.definition, &self.committed)
    }

    /// The relation that reads it.
    pub fn provider(&self) -> Arc<DeltaProvider> {
        self.table.provider(&self.snapshot)
    }

    /// The relation that reads some of its files.
    pub fn provider_of(&self, paths: &HashSet<String>) -> Arc<DeltaProvider> {
        let part = self.snapshot.with_paths(paths);
        self.table.provider(&Arc::new(part))
    }

    /// The relation that reads the rows with one of `keys`, when the index knows them.
    pub async fn located(
        &self,
        context: &QueryContext,
        key: &[String],
        keys: &[ArrayRef],
    ) -> Result<Option<Arc<dyn TableProvider>>, SqlError> {
        if keys.first().is_none_or(|column| column.is_empty()) {
            return Ok(None);
        }
        let session = query::session_state(context);
        let (committed, seen) = (&self.committed, &self.snapshot);
        let asked = Asked {
            key,
            keys,
            builds: true,
        };
        let located = self.table.locate(asked, committed, seen, &session);
        let Some(located) = located.await? else {
            return Ok(None);
        };
        let uncommitted = context.uncommitted.get(&self.definition.id);
        let new: HashSet<&str> = uncommitted
            .iter()
            .flat_map(|rows| rows.files.iter().map(WrittenFile::path))
            .collect();
        Ok(Some(self.table.located_provider(seen, located, &new)))
    }

    /// The context in which the target can be named.
    pub fn context(&self, context: &QueryContext) -> QueryContext {
        let mut context = context.clone();
        let key = self.definition.primary_key.as_ref();
        let key = key.map_or(&[][..], |key| &key.columns);
        let provider: Arc<dyn TableProvider> = self.table.addressed_provider(&self.snapshot, key);
        context.extra_relations.push((TARGET.into(), provider));
        context
    }

    /// The same, but of the target only the rows that have one of `keys`, the columns of `key`, when the
    /// index of the table knows them.
    pub async fn context_of_keys(
        &self,
        context: &QueryContext,
        key: &[String],
        keys: &[ArrayRef],
    ) -> Result<QueryContext, SqlError> {
        let located = self.located_context(context, key, keys).await?;
        Ok(located.unwrap_or_else(|| self.context(context)))
    }

    /// The same, if the index knows them.
    pub async fn located_context(
        &self,
        context: &QueryContext,
        key: &[String],
        keys: &[ArrayRef],
    ) -> Result<Option<QueryContext>, SqlError> {
        let Some(provider) = self.located(context, key, keys).await? else {
            return Ok(None);
        };
        let mut context = context.clone();
        context.extra_relations.push((TARGET.into(), provider));
        Ok(Some(context))
    }

    /// A query over the target, of `items` after the address.
    pub fn query(&self, items: Vec<SelectItem>) -> Result<Box<ast::Query>, SqlError> {
        let mut query = over_target(&self.alias)?;
        select_of(&mut query)?.projection = self.addressed(items);
        Ok(query)
    }

    /// The address of the target's row, and `items`.
    pub fn addressed(&self, items: Vec<SelectItem>) -> Vec<SelectItem> {
        [FILE_COLUMN, ROW_COLUMN]
            .map(|name| SelectItem::UnnamedExpr(self.column(name)))
            .into_iter()
            .chain(items)
            .collect()
    }

    fn column(&self, column: &str) -> Expr {
        Expr::CompoundIdentifier(vec![quoted(&self.alias), quoted(column)])
    }

    /// What each column gets: the assigned value, or what it holds. With the casts to its type.
    pub fn assigned(&self, assignments: &[ast::Assignment]) -> Result<Vec<SelectItem>, SqlError> {
        let mut values = self.assignments(assignments)?;
        Ok(self
            .definition
            .columns
            .iter()
            .map(|column| {
                let value = values.remove(column.name.as_str());
                SelectItem::ExprWithAlias {
                    expr: value.unwrap_or_else(|| self.column(&column.name)),
                    alias: quoted(&column.name),
                }
            })
            .collect())
    }

    /// The values of the assigned columns, by their names.
    pub fn assignments(
        &self,
        assignments: &[ast::Assignment],
    ) -> Result<BTreeMap<&str, Expr>, SqlError> {
        let mut values = BTreeMap::new();
        for assignment in assignments {
            let pairs = match &assignment.target {
                ast::AssignmentTarget::ColumnName(name) => {
                    vec![(name, assignment.value.clone())]
                }
                ast::AssignmentTarget::Tuple(names) => names
                    .iter()
                    .zip(row_of(&assignment.value, names.len())?)
                    .collect(),
            };
            for (name, mut value) in pairs {
                let column = self.assigned_column(name)?;
                if is_default(&value) {
                    value = parse_expression(column.default.as_deref().unwrap_or("NULL"))?;
                }
                if values.insert(column.name.as_str(), value).is_some() {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        format!("multiple assignments to same column \"{}\"", column.name),
                    ));
                }
            }
        }
        Ok(values)
    }

    fn assigned_column(&self, name: &ast::ObjectName) -> Result<&ColumnDefinition, SqlError> {
        let first = name.0.first().and_then(|part| part.as_ident());
        let first = first.map_or("", |ident| ident.value.as_str());
        let column = self.definition.column(first).ok_or_else(|| {
            let relation = &self.definition.name;
            SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{first}\" of relation \"{relation}\" does not exist"),
            )
        })?;
        if name.0.len() > 1 {
            return Err(SqlError::unsupported("assigning a part of a column"));
        }
        Ok(column)
    }

    /// Has `schema.table.column` name the target's column, as it may where the target has no alias.
    pub fn unqualify(&self, query: &mut ast::Query) {
        unqualify(query, &self.schema_name, &self.definition.name, &self.alias);
    }

    /// Fails when a relation of FROM or USING has the target's name.
    pub fn check_distinct(&self, others: &[ast::TableWithJoins]) -> Result<(), SqlError> {
        for other in others {
            let joined = other.joins.iter().map(|join| &join.relation);
            for factor in std::iter::once(&other.relation).chain(joined) {
                let ast::TableFactor::Table { name, alias, .. } = factor else {
                    continue;
                };
                let last = name.0.last().and_then(|part| part.as_ident());
                let called = alias.as_ref().map(|alias| &alias.name).or(last);
                if called.is_some_and(|called| called.value == self.alias) {
                    return Err(SqlError::new(
                        SqlState("42712"),
                        format!("table name \"{}\" specified more than once", self.alias),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The types the columns of such a query are assigned to: the address's, then the table's.
    pub fn targets(&self) -> Vec<Target> {
        let address = [
            (FILE_COLUMN, ColumnType::Integer),
            (ROW_COLUMN, ColumnType::BigInt),
        ];
        address
            .into_iter()
            .map(|(column, column_type)| Target {
                column: column.to_owned(),
                column_type,
            })
            .chain(self.definition.columns.iter().map(target))
            .collect()
    }
}

/// The rows a statement has found, each once.
#[derive(Default)]
pub(super) struct FoundRows {
    by_file: BTreeMap<i32, RoaringTreemap>,
    pub count: u64,
}

impl FoundRows {
    /// Notes the rows of a batch that begins with their addresses, and gives those not noted before,
    /// the addresses included: a row that several others join to is changed once.
    pub fn take(&mut self, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let fresh: BooleanArray = (0..batch.num_rows())
            .map(|row| Some(self.insert(batch, row)))
            .collect();
        self.count += fresh.true_count() as u64;
        if fresh.true_count() == batch.num_rows() {
            return Ok(batch.clone());
        }
        filter_record_batch(batch, &fresh)
            .map_err(|error| SqlError::internal("could not pick rows").caused_by(error))
    }

    /// Whether a row of such a batch is noted already.
    pub fn holds(&self, batch: &RecordBatch, row: usize) -> bool {
        address(batch, row).is_some_and(|(file, position)| {
            let rows = self.by_file.get(&file);
            rows.is_some_and(|rows| rows.contains(position))
        })
    }

    /// Notes one row of such a batch.
    pub fn add(&mut self, batch: &RecordBatch, row: usize) {
        self.count += u64::from(self.insert(batch, row));
    }

    fn insert(&mut self, batch: &RecordBatch, row: usize) -> bool {
        address(batch, row)
            .is_some_and(|(file, position)| self.by_file.entry(file).or_default().insert(position))
    }

    /// Hands the rows to the transaction, which deletes them.
    pub fn delete(
        self,
        session: &mut Session,
        subject: &Subject,
        operation: &'static str,
    ) -> Result<(), SqlError> {
        if self.by_file.is_empty() {
            return Ok(());
        }
        let files = subject.snapshot.files();
        let mut by_path = BTreeMap::new();
        for (index, rows) in self.by_file {
            let file = usize::try_from(index)
                .ok()
                .and_then(|index| files.get(index));
            let file = file.ok_or_else(|| SqlError::internal("a row of no file was found"))?;
            by_path.insert(file.path.clone(), rows);
        }
        let (schema_name, definition) = (&subject.schema_name, &subject.definition);
        session
            .work()?
            .rows_deleted(schema_name, definition, by_path, operation)
    }
}

/// Writes the successors of changed rows. A file's marks say which file of a source its rows came from;
/// the successors keep them, so that what later replaces the source's rows replaces them too.
pub(super) struct Successors<'a> {
    subject: &'a Subject,
    keeps: bool,
    kept: Vec<RecordBatch>,
    /// Oldest first; bounded by [`ORIGINS_OPEN_MAX`].
    open: Vec<(BTreeMap<String, String>, TableWrite)>,
    operation: &'static str,
}

/// Origins whose successors are written at the same time.
const ORIGINS_OPEN_MAX: usize = 8;

impl<'a> Successors<'a> {
    /// `keeps` has the rows kept for RETURNING.
    pub fn new(subject: &'a Subject, keeps: bool, operation: &'static str) -> Self {
        Self {
            subject,
            keeps,
            kept: Vec::new(),
            open: Vec::new(),
            operation,
        }
    }

    /// Takes rows that begin with their predecessors' addresses; `values` are their columns.
    pub async fn write(
        &mut self,
        session: &mut Session,
        batch: &RecordBatch,
        values: &[usize],
    ) -> Result<(), SqlError> {
        let failed = |error| SqlError::internal("could not read new rows").caused_by(error);
        let files = batch.column(0).as_primitive::<Int32Type>();
        let mut by_origin: BTreeMap<BTreeMap<String, String>, Vec<bool>> = BTreeMap::new();
        let mut of_file: BTreeMap<i32, BTreeMap<String, String>> = BTreeMap::new();
        for row in 0..batch.num_rows() {
            let file = files.value(row);
            let tags = of_file.entry(file).or_insert_with(|| {
                let index = usize::try_from(file).unwrap_or(usize::MAX);
                let file = self.subject.snapshot.files().get(index);
                file.map(|file| file.tags()).unwrap_or_default()
            });
            if !by_origin.contains_key(tags) {
                by_origin.insert(tags.clone(), vec![false; batch.num_rows()]);
            }
            if let Some(chosen) = by_origin.get_mut(tags) {
                chosen[row] = true;
            }
        }
        for (tags, chosen) in by_origin {
            let part = filter_record_batch(batch, &BooleanArray::from(chosen))
                .and_then(|part| part.project(values))
                .map_err(failed)?;
            self.writer(session, tags).await?.write(&part).await?;
        }
        Ok(())
    }

    /// The writer for rows of one origin; of none, for new rows.
    pub async fn writer(
        &mut self,
        session: &mut Session,
        tags: BTreeMap<String, String>,
    ) -> Result<&mut TableWrite, SqlError> {
        let index = match self.open.iter().position(|(known, _)| *known == tags) {
            Some(index) => index,
            None => {
                if self.open.len() >= ORIGINS_OPEN_MAX {
                    self.close_oldest(session).await?;
                }
                let definition = &self.subject.definition;
                let mut write = TableWrite::begin(
                    session,
                    &self.subject.schema_name,
                    Arc::clone(definition),
                    &definition.columns,
                )
                .await?;
                write.set_tags(tags.clone());
                if self.keeps {
                    write.keep_rows();
                }
                self.open.push((tags, write));
                self.open.len() - 1
            }
        };
        Ok(&mut self.open[index].1)
    }

    async fn close_oldest(&mut self, session: &mut Session) -> Result<(), SqlError> {
        let (_, mut write) = self.open.remove(0);
        self.kept.extend(write.take_kept());
        write.finish(session, self.operation).await?;
        Ok(())
    }

    /// Completes the files, and gives the rows that were to be kept.
    pub async fn finish(mut self, session: &mut Session) -> Result<Vec<RecordBatch>, SqlError> {
        while !self.open.is_empty() {
            self.close_oldest(session).await?;
        }
        Ok(self.kept)
    }
}

/// Where a row of a batch that begins with addresses is.
fn address(batch: &RecordBatch, row: usize) -> Option<(i32, u64)> {
    let files = batch.column(0).as_primitive::<Int32Type>();
    let positions = batch.column(1).as_primitive::<Int64Type>();
    let position = u64::try_from(positions.value(row)).ok()?;
    (files.is_valid(row) && positions.is_valid(row)).then(|| (files.value(row), position))
}

/// Plans `RETURNING items` over changed rows of a table.
pub(super) async fn plan_returning(
    context: &QueryContext,
    definition: &TableDefinition,
    alias: &str,
    items: &[SelectItem],
    rows: Vec<RecordBatch>,
    parameter_types: &[Option<ColumnType>],
) -> Result<(QueryContext, PlannedQuery), SqlError> {
    let rows = MemTable::try_new(schema_of(definition), vec![rows]).map_err(from_datafusion)?;
    let mut context = context.clone();
    context
        .extra_relations
        .push((TARGET.into(), Arc::new(rows)));
    let mut query = over_target(alias)?;
    select_of(&mut query)?.projection = items.to_vec();
    if let Some(schema) = context.snapshot.schema_by_id(definition.schema) {
        unqualify(&mut query, &schema.name, &definition.name, alias);
    }
    let planned = query::plan_query(&context, &query, parameter_types).await?;
    Ok((context, planned))
}

/// The rows `RETURNING` gives.
pub(super) async fn returned(
    context: &QueryContext,
    planned: &PlannedQuery,
    parameters: &[ScalarValue],
    tag: RowsTag,
) -> Result<Outcome, SqlError> {
    let parameters = own(parameters, planned);
    let stream = query::execute_query(context, planned, parameters).await?;
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(from_datafusion)?;
    Ok(rows::of_batches(Arc::clone(&planned.fields), batches, tag))
}

/// The parameters of one of a statement's queries.
pub(super) fn own<'a>(parameters: &'a [ScalarValue], planned: &PlannedQuery) -> &'a [ScalarValue] {
    &parameters[..planned.parameters.len().min(parameters.len())]
}

/// The parameters of a statement made of several queries: the first to know one settles its type.
pub(super) fn all_parameters(
    first: &[ColumnType],
    second: Option<&PlannedQuery>,
) -> Vec<ColumnType> {
    let mut parameters = first.to_vec();
    if let Some(second) = second {
        parameters.extend(second.parameters.iter().skip(first.len()).cloned());
    }
    parameters
}

/// What a statement that changes rows takes and gives.
pub(super) async fn describe(
    context: &QueryContext,
    subject: &Subject,
    rows: &PlannedQuery,
    returning: Option<&[SelectItem]>,
    types: &[Option<ColumnType>],
) -> Result<Description, SqlError> {
    let returning = match returning {
        None => None,
        Some(items) => {
            let (definition, alias) = (&subject.definition, &subject.alias);
            let planned = plan_returning(context, definition, alias, items, Vec::new(), types);
            Some(planned.await?.1)
        }
    };
    Ok(Description {
        parameters: all_parameters(&rows.parameters, returning.as_ref()),
        fields: returning.map(|planned| planned.fields),
    })
}

/// The parameter types a prepared statement was described with.
pub(super) fn described(prepared: &crate::session::Prepared) -> Vec<Option<ColumnType>> {
    let parameters = prepared.description.parameters.iter();
    parameters.cloned().map(Some).collect()
}

/// Whether an expression names a column.
pub(super) fn names_column(expression: &Expr) -> bool {
    !is_default(expression)
        && ast::visit_expressions(expression, |inner| match inner {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .is_break()
}

pub(super) fn select_of(query: &mut ast::Query) -> Result<&mut Select, SqlError> {
    match query.body.as_mut() {
        SetExpr::Select(select) => Ok(select),
        _ => Err(SqlError::internal("a statement's query is no SELECT")),
    }
}

fn over_target(alias: &str) -> Result<Box<ast::Query>, SqlError> {
    let alias = quote_identifier(alias);
    Ok(parse_query(&format!(
        "SELECT 1 FROM \"{TARGET}\" AS {alias}"
    ))?)
}

pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// The values of `(a, b) = (1, 2)`.
fn row_of(value: &Expr, width: usize) -> Result<Vec<Expr>, SqlError> {
    let values = match value {
        Expr::Tuple(values) => values.clone(),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("row") => {
            let ast::FunctionArguments::List(list) = &function.args else {
                return Err(SqlError::unsupported("this form of ROW"));
            };
            let values = list.args.iter().map(|argument| match argument {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(value)) => Ok(value.clone()),
                _ => Err(SqlError::unsupported("this form of ROW")),
            });
            values.collect::<Result<_, _>>()?
        }
        Expr::Subquery(_) => {
            return Err(SqlError::unsupported("assigning the columns of a subquery"));
        }
        _ => {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
            ));
        }
    };
    if values.len() != width {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "number of columns does not match number of values",
        ));
    }
    Ok(values)
}

/// The rows of a batch, which begins with their addresses, in the table's columns.
pub(super) fn without_address(
    batch: &RecordBatch,
    subject: &Subject,
) -> Result<RecordBatch, SqlError> {
    let schema = schema_of(&subject.definition);
    let columns = batch.columns()[ADDRESS_COLUMNS..]
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| arrow::compute::cast(column, field.data_type()))
        .collect::<Result<Vec<_>, _>>();
    columns
        .and_then(|columns| RecordBatch::try_new(schema, columns))
        .map_err(|error| SqlError::internal("could not read changed rows").caused_by(error))
}

fn unqualify(query: &mut ast::Query, schema: &str, table: &str, alias: &str) {
    if alias != table {
        return;
    }
    let _: ControlFlow<()> = ast::visit_expressions_mut(query, |expression| {
        if let Expr::CompoundIdentifier(parts) = expression
            && let [first, second, _] = parts.as_slice()
            && first.value == schema
            && second.value == table
        {
            parts.remove(0);
        }
        ControlFlow::Continue(())
    });
}

/// RETURNING speaks of the changed rows one by one. A `*` would be of the joined tables as well.
pub(super) fn check_returning(items: &[SelectItem], joined: bool) -> Result<(), SqlError> {
    for item in items {
        match item {
            SelectItem::Wildcard(_) if joined => {
                return Err(SqlError::unsupported(
                    "RETURNING * of a statement that joins other tables",
                )
                .hint("name the changed table: RETURNING t.*"));
            }
            SelectItem::UnnamedExpr(expression)
            | SelectItem::ExprWithAlias {
                expr: expression, ..
            } => check_row_wise(expression, "RETURNING")?,
            _ => {}
        }
    }
    Ok(())
}

/// Assigned values are of one row each.
pub(super) fn check_assignments(assignments: &[ast::Assignment]) -> Result<(), SqlError> {
    for assignment in assignments {
        check_row_wise(&assignment.value, "UPDATE")?;
    }
    Ok(())
}

/// Refuses aggregates and window functions outside of subqueries.
pub(super) fn check_row_wise(expression: &Expr, place: &str) -> Result<(), SqlError> {
    struct Calls(usize);
    impl ast::Visitor for Calls {
        type Break = bool;

        fn pre_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<bool> {
            self.0 += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<bool> {
            self.0 -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<bool> {
            if self.0 > 0 {
                return ControlFlow::Continue(());
            }
            match expression {
                Expr::Function(function) if function.over.is_some() => ControlFlow::Break(true),
                Expr::Function(function)
                    if query::AGGREGATES.contains(&function.name.to_string().as_str()) =>
                {
                    ControlFlow::Break(false)
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let (state, what) = match ast::Visit::visit(expression, &mut Calls(0)) {
        ControlFlow::Continue(()) => return Ok(()),
        ControlFlow::Break(true) => ("42P20", "window"),
        ControlFlow::Break(false) => ("42803", "aggregate"),
    };
    Err(SqlError::new(
        SqlState(state),
        format!("{what} functions are not allowed in {place}"),
    ))
}
