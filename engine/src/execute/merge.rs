//! `MERGE INTO table USING source ON condition WHEN ... THEN ... [RETURNING ...]`.
//!
//! ```text
//! source JOIN target ON condition -> number of the clause that applies -> its values
//!     -> UPDATE: the old row goes, its successor comes
//!        DELETE: the old row goes
//!        INSERT: a row of no predecessor comes
//! ```
//!
//! The join is outer on the side whose unmatched rows a clause speaks of. Each clause computes its
//! values only for the rows it applies to. Rows no clause acts on never leave the query.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int32Type;
use boathouse_catalog::definitions::{
    ColumnDefinition, ObjectKind, ObjectRef, Privilege, TableDefinition,
};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast::{self, Expr, Ident, SelectItem, TableFactor};
use boathouse_sql::name::{is_reserved, quote_identifier};
use boathouse_sql::statement::{Merge, MergeAction, MergeClause, MergeKind};
use boathouse_sql::{parse_expression, parse_query};
use datafusion::common::ScalarValue;
use futures::StreamExt;

use super::changes::{self, ADDRESS_COLUMNS, FoundRows, Subject, Successors};
use super::done;
use super::insert::{is_default, target, target_columns};
use super::narrow;
use super::write::schema_of;
use crate::error::{SqlError, SqlState};
use crate::lake::FILE_COLUMN;
use crate::outcome::{Description, Outcome, RowsTag};
use crate::query::failure::from_datafusion;
use crate::query::{self, PlannedQuery, QueryContext};
use crate::session::{Prepared, Session};

/// The relation of one row that says which clause applies.
const CLAUSE: &str = "#clause";
const CLAUSE_COLUMN: &str = "_boathouse_clause";
/// What a source subquery without a name is called.
const SOURCE: &str = "#source";
/// Is NULL where no row of the source is.
const SOURCE_COLUMN: &str = "_boathouse_source";
/// Beside the rows for RETURNING: what was done. Shown without its end, as [`query::naming`] has it.
const ACTION_COLUMN: &str = "merge_action\u{1}";

struct Planned {
    subject: Subject,
    context: QueryContext,
    rows: PlannedQuery,
    /// Of each clause.
    steps: Vec<Step>,
    returning: Option<Vec<SelectItem>>,
}

/// What is done with the rows a clause applies to.
struct Step {
    action: Action,
    /// Where the values of the table's columns are in the query's rows: the new ones, of DELETE the old.
    values: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Nothing,
    Insert,
    Update,
    Delete,
}

impl Action {
    fn of(action: &MergeAction) -> Self {
        match action {
            MergeAction::DoNothing => Self::Nothing,
            MergeAction::Insert { .. } => Self::Insert,
            MergeAction::Update(_) => Self::Update,
            MergeAction::Delete => Self::Delete,
        }
    }

    fn privilege(self) -> Option<Privilege> {
        match self {
            Self::Nothing => None,
            Self::Insert => Some(Privilege::Insert),
            Self::Update => Some(Privilege::Update),
            Self::Delete => Some(Privilege::Delete),
        }
    }

    /// What `merge_action()` gives.
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "DO NOTHING",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

async fn plan(
    session: &Session,
    context: &QueryContext,
    merge: &Merge,
    types: &[Option<ColumnType>],
    parameters: Option<&[ScalarValue]>,
) -> Result<Planned, SqlError> {
    check_reachable(merge)?;
    let subject = open(session, context, merge).await?;
    let mut source = merge.source.clone();
    let source_name = name_source(&mut source)?;
    if source_name.value == subject.alias {
        return Err(SqlError::new(
            SqlState("42712"),
            format!("name \"{}\" specified more than once", subject.alias),
        )
        .detail("The name is used both as MERGE target table and data source."));
    }
    let returning = match &merge.returning {
        Some(items) => Some(returning_items(&subject, &source_name, items)?),
        None => None,
    };
    let clauses = Clauses {
        subject: &subject,
        target_name: changes::quoted(&subject.alias),
        source_name,
        merge,
    };
    let (context, source) = match parameters {
        // Which rows of the target no row of the source has cannot be told by the source's keys.
        Some(parameters) if !clauses.has(MergeKind::NotMatchedBySource) => {
            let join = narrow::Join {
                source,
                source_name: &clauses.source_name,
                with: merge.with.as_ref(),
                on: &merge.on,
            };
            narrow::join(context, &subject, join, types, parameters).await?
        }
        _ => (subject.context(context), source),
    };
    let (query, steps) = clauses.query(source)?;
    let rows = match query::plan_query(&context, &query, types).await {
        Ok(rows) => rows,
        Err(error) => {
            // Within LATERAL a column that does not exist is taken for one of a missing relation.
            let conditions = clauses.conditions(*query)?;
            query::plan_query(&context, &conditions, types).await?;
            return Err(error);
        }
    };
    Ok(Planned {
        subject,
        context,
        rows,
        steps,
        returning,
    })
}

/// Finds the table; the role needs the rights of every action.
async fn open(
    session: &Session,
    context: &QueryContext,
    merge: &Merge,
) -> Result<Subject, SqlError> {
    let reads_target = |clause: &MergeClause| {
        let mut read: Vec<&Expr> = clause.condition.iter().collect();
        if let MergeAction::Update(assignments) = &clause.action {
            read.extend(assignments.iter().map(|assignment| &assignment.value));
        }
        clause.kind != MergeKind::NotMatchedByTarget && read.into_iter().any(changes::names_column)
    };
    let reads = changes::names_column(&merge.on)
        || merge.returning.is_some()
        || merge.clauses.iter().any(reads_target);
    let actions = merge.clauses.iter().map(|one| Action::of(&one.action));
    let mut privileges = actions.filter_map(Action::privilege);
    let first = privileges.next().unwrap_or(Privilege::Select);
    let alias = merge.alias.as_ref();
    let subject = Subject::open(session, context, &merge.table, alias, first, reads).await?;
    let object = ObjectRef::new(ObjectKind::Table, subject.definition.id);
    for privilege in privileges {
        let (snapshot, name) = (&context.snapshot, &subject.definition.name);
        session
            .state
            .require(snapshot, object, privilege, "table", name)?;
    }
    Ok(subject)
}

fn check_reachable(merge: &Merge) -> Result<(), SqlError> {
    for (index, clause) in merge.clauses.iter().enumerate() {
        let mut earlier = merge.clauses[..index].iter();
        if earlier.any(|earlier| earlier.kind == clause.kind && earlier.condition.is_none()) {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "unreachable WHEN clause specified after unconditional WHEN clause",
            ));
        }
    }
    Ok(())
}

/// What the source is called. A subquery without a name gets one.
fn name_source(source: &mut TableFactor) -> Result<Ident, SqlError> {
    let (alias, name) = match source {
        TableFactor::Table { alias, name, .. } | TableFactor::Function { alias, name, .. } => {
            (alias, name.0.last().and_then(|part| part.as_ident()))
        }
        TableFactor::Derived { alias, .. } => {
            let alias = alias.get_or_insert_with(|| called(changes::quoted(SOURCE)));
            return Ok(alias.name.clone());
        }
        TableFactor::UNNEST { alias, .. } => (alias, None),
        _ => {
            return Err(SqlError::unsupported("this source of MERGE")
                .hint("write USING (SELECT ... FROM ...) AS name"));
        }
    };
    match (alias, name) {
        (Some(alias), _) => Ok(alias.name.clone()),
        (None, Some(name)) => Ok(name.clone()),
        (None, None) => Ok(changes::quoted("unnest")),
    }
}

fn called(name: Ident) -> ast::TableAlias {
    ast::TableAlias {
        explicit: true,
        name,
        columns: Vec::new(),
        at: None,
    }
}

struct Clauses<'a> {
    subject: &'a Subject,
    target_name: Ident,
    source_name: Ident,
    merge: &'a Merge,
}

impl Clauses<'_> {
    fn has(&self, kind: MergeKind) -> bool {
        self.merge.clauses.iter().any(|clause| clause.kind == kind)
    }

    /// The query that finds the rows, and what to do with them.
    fn query(&self, source: TableFactor) -> Result<(Box<ast::Query>, Vec<Step>), SqlError> {
        changes::check_row_wise(&self.merge.on, "JOIN conditions")?;
        let join = match (
            self.has(MergeKind::NotMatchedByTarget),
            self.has(MergeKind::NotMatchedBySource),
        ) {
            (false, false) => "JOIN",
            (true, false) => "LEFT JOIN",
            (false, true) => "RIGHT JOIN",
            (true, true) => "FULL JOIN",
        };
        let clause = quote_identifier(CLAUSE);
        let mut query = parse_query(&format!(
            "SELECT 1 FROM {source} {join} {target} AS {alias} ON true \
             CROSS JOIN LATERAL (SELECT 1) AS {clause} WHERE {clause}.{CLAUSE_COLUMN} IS NOT NULL",
            target = quote_identifier(changes::TARGET),
            alias = quote_identifier(&self.subject.alias),
            source = quote_identifier(SOURCE),
        ))?;
        query.with.clone_from(&self.merge.with);
        let (items, steps) = self.items()?;
        let select = changes::select_of(&mut query)?;
        select.projection = items;
        for from in &mut select.from {
            from.relation = self.marked(source.clone())?;
            let [join, applying] = from.joins.as_mut_slice() else {
                continue;
            };
            applying.relation = self.applying()?;
            if let ast::JoinOperator::Join(on)
            | ast::JoinOperator::Left(on)
            | ast::JoinOperator::Right(on)
            | ast::JoinOperator::FullOuter(on) = &mut join.join_operator
            {
                let condition = query::condition(self.merge.on.clone(), "JOIN/ON");
                *on = ast::JoinConstraint::On(condition);
            }
        }
        self.subject.unqualify(&mut query);
        Ok((query, steps))
    }

    /// Such a query of the conditions, without the clauses.
    fn conditions(&self, mut query: ast::Query) -> Result<ast::Query, SqlError> {
        let select = changes::select_of(&mut query)?;
        for from in &mut select.from {
            from.joins.pop();
        }
        select.selection = None;
        let conditions = self.merge.clauses.iter().filter_map(|clause| {
            let condition = clause.condition.as_ref()?;
            Some(
                self.visible(clause.kind, condition)
                    .map(SelectItem::UnnamedExpr),
            )
        });
        let one = SelectItem::UnnamedExpr(parse_expression("1")?);
        select.projection = std::iter::once(Ok(one))
            .chain(conditions)
            .collect::<Result<_, SqlError>>()?;
        Ok(query)
    }

    /// The source, with a column that says whether its row is there if some clause asks.
    fn marked(&self, source: TableFactor) -> Result<TableFactor, SqlError> {
        if !self.has(MergeKind::NotMatchedBySource) {
            return Ok(source);
        }
        let mut subquery = parse_query(&format!("SELECT *, true AS {SOURCE_COLUMN} FROM source"))?;
        for from in &mut changes::select_of(&mut subquery)?.from {
            from.relation = source.clone();
        }
        Ok(derived(false, subquery, self.source_name.clone()))
    }

    /// The number of the first clause that applies to a row; NULL where nothing is to be done. A condition
    /// is asked of the rows of its kind alone.
    fn applying(&self) -> Result<TableFactor, SqlError> {
        let mut kinds = Vec::new();
        for kind in [
            MergeKind::Matched,
            MergeKind::NotMatchedByTarget,
            MergeKind::NotMatchedBySource,
        ] {
            let mut branches = Vec::new();
            for (number, clause) in self.merge.clauses.iter().enumerate() {
                if clause.kind != kind {
                    continue;
                }
                let condition = match &clause.condition {
                    None => parse_expression("true")?,
                    Some(condition) => {
                        changes::check_row_wise(condition, "MERGE WHEN conditions")?;
                        check_no_membership(condition)?;
                        query::condition(self.visible(kind, condition)?, "WHEN")
                    }
                };
                let number = match clause.action {
                    MergeAction::DoNothing => "CAST(NULL AS integer)".to_owned(),
                    _ => number.to_string(),
                };
                branches.push((condition, parse_expression(&number)?));
            }
            if !branches.is_empty() {
                kinds.push((self.kind_condition(kind), case(branches)?));
            }
        }
        let mut subquery = parse_query("SELECT 1")?;
        changes::select_of(&mut subquery)?.projection = vec![SelectItem::ExprWithAlias {
            expr: case(kinds)?,
            alias: changes::quoted(CLAUSE_COLUMN),
        }];
        Ok(derived(true, subquery, changes::quoted(CLAUSE)))
    }

    fn kind_condition(&self, kind: MergeKind) -> Expr {
        let of_target = Box::new(column(&self.target_name, FILE_COLUMN));
        let of_source = Box::new(column(&self.source_name, SOURCE_COLUMN));
        match kind {
            MergeKind::NotMatchedByTarget => Expr::IsNull(of_target),
            MergeKind::NotMatchedBySource => Expr::IsNull(of_source),
            MergeKind::Matched if self.has(MergeKind::NotMatchedBySource) => binary(
                Expr::IsNotNull(of_target),
                ast::BinaryOperator::And,
                Expr::IsNotNull(of_source),
            ),
            MergeKind::Matched => Expr::IsNotNull(of_target),
        }
    }

    /// What the query selects: the address, the clause, the old values where they are wanted, and the
    /// values each clause gives.
    fn items(&self) -> Result<(Vec<SelectItem>, Vec<Step>), SqlError> {
        let definition = &self.subject.definition;
        let applying = column(&changes::quoted(CLAUSE), CLAUSE_COLUMN);
        let mut items = self
            .subject
            .addressed(vec![SelectItem::UnnamedExpr(applying.clone())]);
        // Only the old values that some action keeps or gives: the others need not be read.
        let mut old = vec![0; definition.columns.len()];
        let columns = definition.columns.iter().zip(self.subject.assigned(&[])?);
        for (at, (column, value)) in old.iter_mut().zip(columns) {
            if self.wants_old(&column.name)? {
                *at = items.len();
                items.push(value);
            }
        }
        let mut steps = Vec::new();
        for (number, clause) in self.merge.clauses.iter().enumerate() {
            let action = Action::of(&clause.action);
            let given = self.given(&clause.action)?;
            let mut values = old.clone();
            for (index, definition) in definition.columns.iter().enumerate() {
                let Some(value) = given.get(definition.name.as_str()) else {
                    continue;
                };
                let value = self.visible(clause.kind, value)?;
                let applies = binary(
                    applying.clone(),
                    ast::BinaryOperator::Eq,
                    parse_expression(&number.to_string())?,
                );
                let value = query::assigned(value, &target(definition));
                values[index] = items.len();
                items.push(SelectItem::ExprWithAlias {
                    expr: case(vec![(applies, value)])?,
                    alias: changes::quoted(&format!("{number} {}", definition.name)),
                });
            }
            steps.push(Step { action, values });
        }
        Ok((items, steps))
    }

    /// Whether an action keeps or gives a column's old value.
    fn wants_old(&self, column: &str) -> Result<bool, SqlError> {
        for clause in &self.merge.clauses {
            let wants = match &clause.action {
                MergeAction::Update(_) => !self.given(&clause.action)?.contains_key(column),
                MergeAction::Delete => self.merge.returning.is_some(),
                MergeAction::DoNothing | MergeAction::Insert { .. } => false,
            };
            if wants {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The values an action gives to columns: INSERT to all of them, UPDATE to those assigned.
    fn given(&self, action: &MergeAction) -> Result<BTreeMap<&str, Expr>, SqlError> {
        let definition = &self.subject.definition;
        let (columns, values) = match action {
            MergeAction::DoNothing | MergeAction::Delete => return Ok(BTreeMap::new()),
            MergeAction::Update(assignments) => {
                changes::check_assignments(assignments)?;
                return self.subject.assignments(assignments);
            }
            MergeAction::Insert { columns, values } => (columns, values.as_deref()),
        };
        let given = target_columns(definition, columns)?;
        let values = values.unwrap_or_default();
        let misfit = match values.len().cmp(&given.len()) {
            std::cmp::Ordering::Greater => Some("INSERT has more expressions than target columns"),
            std::cmp::Ordering::Less if !columns.is_empty() => {
                Some("INSERT has more target columns than expressions")
            }
            _ => None,
        };
        if let Some(misfit) = misfit {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, misfit));
        }
        let mut named: BTreeMap<&str, &Expr> = BTreeMap::new();
        for (column, value) in given.iter().zip(values) {
            changes::check_row_wise(value, "VALUES")?;
            if !is_default(value) {
                named.insert(&column.name, value);
            }
        }
        let all = definition.columns.iter().map(|column| {
            let value = match named.get(column.name.as_str()) {
                Some(value) => (*value).clone(),
                None => parse_expression(column.default.as_deref().unwrap_or("NULL"))?,
            };
            Ok((column.name.as_str(), value))
        });
        all.collect()
    }

    /// An expression of a clause with its names bound to the one relation that has a row there: of the
    /// other nothing may be read, and a name without a relation is not ambiguous.
    fn visible(&self, kind: MergeKind, expression: &Expr) -> Result<Expr, SqlError> {
        let (visible, hidden) = match kind {
            MergeKind::Matched => return Ok(expression.clone()),
            MergeKind::NotMatchedByTarget => (&self.source_name, &self.target_name),
            MergeKind::NotMatchedBySource => (&self.target_name, &self.source_name),
        };
        let mut expression = expression.clone();
        let mut names = Names {
            visible,
            hidden,
            depth: 0,
        };
        match ast::VisitMut::visit(&mut expression, &mut names) {
            ControlFlow::Continue(()) => Ok(expression),
            ControlFlow::Break(()) => Err(SqlError::new(
                SqlState::UNDEFINED_TABLE,
                format!(
                    "invalid reference to FROM-clause entry for table \"{}\"",
                    hidden.value
                ),
            )
            .detail(format!(
                "There is an entry for table \"{}\", but it cannot be referenced from this part of \
                 the query.",
                hidden.value
            ))),
        }
    }
}

/// Binds names outside of subqueries.
struct Names<'a> {
    visible: &'a Ident,
    hidden: &'a Ident,
    depth: usize,
}

impl ast::VisitorMut for Names<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        if names_relation(expression, self.hidden) {
            return ControlFlow::Break(());
        }
        // An unquoted reserved word is a value, such as CURRENT_DATE.
        if let Expr::Identifier(name) = expression
            && (name.quote_style.is_some() || !is_reserved(&name.value.to_ascii_uppercase()))
        {
            *expression = Expr::CompoundIdentifier(vec![self.visible.clone(), name.clone()]);
        }
        ControlFlow::Continue(())
    }
}

/// Whether an expression is a column of the relation, as `relation.column` or `schema.relation.column`.
fn names_relation(expression: &Expr, relation: &Ident) -> bool {
    match expression {
        Expr::CompoundIdentifier(parts) => matches!(
            parts.as_slice(),
            [name, _] | [_, name, _] if name.value == relation.value
        ),
        _ => false,
    }
}

fn column(relation: &Ident, column: &str) -> Expr {
    Expr::CompoundIdentifier(vec![relation.clone(), changes::quoted(column)])
}

fn binary(left: Expr, op: ast::BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    }
}

/// Finds `EXISTS` and `IN (SELECT ...)` outside of subqueries.
struct Memberships {
    depth: usize,
}

impl ast::Visitor for Memberships {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        match expression {
            Expr::Exists { .. } | Expr::InSubquery { .. } if self.depth == 0 => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The planner knows `EXISTS` and `IN (SELECT ...)` in WHERE alone.
fn check_no_membership(condition: &Expr) -> Result<(), SqlError> {
    if ast::Visit::visit(condition, &mut Memberships { depth: 0 }).is_break() {
        return Err(
            SqlError::unsupported("EXISTS or IN (SELECT ...) in a WHEN condition")
                .hint("ask for it in the source: USING (SELECT ... WHERE ...)"),
        );
    }
    Ok(())
}

fn derived(lateral: bool, subquery: Box<ast::Query>, name: Ident) -> TableFactor {
    TableFactor::Derived {
        lateral,
        subquery,
        alias: Some(called(name)),
        sample: None,
    }
}

/// `CASE WHEN condition THEN result ... END`.
fn case(branches: Vec<(Expr, Expr)>) -> Result<Expr, SqlError> {
    let mut case = parse_expression("CASE WHEN true THEN 1 END")?;
    if let Expr::Case { conditions, .. } = &mut case {
        *conditions = branches
            .into_iter()
            .map(|(condition, result)| ast::CaseWhen { condition, result })
            .collect();
    }
    Ok(case)
}

/// The items of RETURNING over the table's columns and [`ACTION_COLUMN`].
fn returning_items(
    subject: &Subject,
    source: &Ident,
    items: &[SelectItem],
) -> Result<Vec<SelectItem>, SqlError> {
    changes::check_returning(items, true)?;
    let mut returned = Vec::new();
    for item in items {
        if let SelectItem::QualifiedWildcard(
            ast::SelectItemQualifiedWildcardKind::ObjectName(name),
            _,
        ) = item
        {
            let relation = name.0.last().and_then(|part| part.as_ident());
            if relation.is_some_and(|relation| relation.value == source.value) {
                return Err(of_source());
            }
            returned.extend(subject.assigned(&[])?);
            continue;
        }
        let mut item = item.clone();
        let reads_source = ast::visit_expressions_mut(&mut item, |expression| {
            if names_relation(expression, source) {
                return ControlFlow::Break(());
            }
            if is_merge_action(expression) {
                *expression = column(&changes::quoted(&subject.alias), ACTION_COLUMN);
            }
            ControlFlow::Continue(())
        });
        if reads_source.is_break() {
            return Err(of_source());
        }
        returned.push(item);
    }
    Ok(returned)
}

fn of_source() -> SqlError {
    SqlError::unsupported("a column of the source in RETURNING of MERGE")
}

fn is_merge_action(expression: &Expr) -> bool {
    matches!(expression, Expr::Function(function)
        if function.name.to_string().eq_ignore_ascii_case("merge_action"))
}

/// The table with [`ACTION_COLUMN`] at its end.
fn with_action(definition: &TableDefinition) -> TableDefinition {
    let mut definition = definition.clone();
    let action = ColumnDefinition::new(ACTION_COLUMN, ColumnType::Text, false);
    definition.columns.push(action);
    definition
}

impl Planned {
    async fn returning(
        &self,
        context: &QueryContext,
        items: &[SelectItem],
        rows: Vec<RecordBatch>,
        types: &[Option<ColumnType>],
    ) -> Result<(QueryContext, PlannedQuery), SqlError> {
        let definition = with_action(&self.subject.definition);
        let alias = &self.subject.alias;
        changes::plan_returning(context, &definition, alias, items, rows, types).await
    }
}

pub(super) async fn describe(
    session: &Session,
    context: &QueryContext,
    merge: &Merge,
    types: &[Option<ColumnType>],
) -> Result<Description, SqlError> {
    let planned = plan(session, context, merge, types, None).await?;
    let returning = match &planned.returning {
        None => None,
        Some(items) => {
            let returning = planned.returning(context, items, Vec::new(), types);
            Some(returning.await?.1)
        }
    };
    Ok(Description {
        parameters: changes::all_parameters(&planned.rows.parameters, returning.as_ref()),
        fields: returning.map(|returning| returning.fields),
    })
}

pub(super) async fn execute(
    session: &mut Session,
    merge: &Merge,
    prepared: &Prepared,
    parameters: &[ScalarValue],
) -> Result<Outcome, SqlError> {
    session.check_writable("MERGE")?;
    let context = session.state.query_context(&session.engine);
    let types = changes::described(prepared);
    let planned = plan(session, &context, merge, &types, Some(parameters)).await?;
    let subject = &planned.subject;
    let own = changes::own(parameters, &planned.rows);
    let mut stream = query::execute_query(&planned.context, &planned.rows, own).await?;
    let mut found = FoundRows::default();
    let mut successors = Successors::new(subject, false, "MERGE");
    let mut inserted = 0;
    let mut kept = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(from_datafusion)?;
        for (number, step) in planned.steps.iter().enumerate() {
            let rows = rows_of(&batch, number)?;
            if rows.num_rows() == 0 {
                continue;
            }
            let values = match step.action {
                Action::Nothing => continue,
                Action::Insert => {
                    inserted += rows.num_rows() as u64;
                    let values = rows.project(&step.values).map_err(picking)?;
                    let writer = successors.writer(session, BTreeMap::new()).await?;
                    writer.write(&values).await?;
                    values
                }
                Action::Update => {
                    note_once(&mut found, &rows)?;
                    successors.write(session, &rows, &step.values).await?;
                    rows.project(&step.values).map_err(picking)?
                }
                Action::Delete => {
                    note_once(&mut found, &rows)?;
                    rows
                }
            };
            if planned.returning.is_none() {
                continue;
            }
            let rows = match step.action {
                Action::Delete => {
                    let columns: Vec<usize> = (0..ADDRESS_COLUMNS)
                        .chain(step.values.iter().copied())
                        .collect();
                    let old = values.project(&columns).map_err(picking)?;
                    changes::without_address(&old, subject)?
                }
                // As they are stored.
                _ => {
                    let writer = successors.writer(session, BTreeMap::new()).await?;
                    writer.checked(&values)?
                }
            };
            kept.push(returned_rows(&subject.definition, &rows, step.action)?);
        }
    }
    let count = found.count + inserted;
    if inserted > 0 {
        subject.note_keys_read(session)?;
    }
    successors.finish(session).await?;
    found.delete(session, subject, "MERGE")?;
    let Some(items) = &planned.returning else {
        return done(format!("MERGE {count}"));
    };
    let (context, returning) = planned.returning(&context, items, kept, &types).await?;
    changes::returned(&context, &returning, parameters, RowsTag::Merge).await
}

/// The rows of a batch that one clause applies to.
fn rows_of(batch: &RecordBatch, number: usize) -> Result<RecordBatch, SqlError> {
    let applying = batch.column(ADDRESS_COLUMNS).as_primitive::<Int32Type>();
    let chosen: BooleanArray = applying
        .iter()
        .map(|clause| Some(clause.and_then(|clause| usize::try_from(clause).ok()) == Some(number)))
        .collect();
    filter_record_batch(batch, &chosen).map_err(picking)
}

/// Notes rows to be changed, none of which may have been changed before.
fn note_once(found: &mut FoundRows, rows: &RecordBatch) -> Result<(), SqlError> {
    for row in 0..rows.num_rows() {
        if found.holds(rows, row) {
            return Err(SqlError::new(
                SqlState("21000"),
                "MERGE command cannot affect row a second time",
            )
            .hint("Ensure that not more than one source row matches any one target row."));
        }
        found.add(rows, row);
    }
    Ok(())
}

/// Rows for RETURNING, with what was done to them.
fn returned_rows(
    definition: &TableDefinition,
    rows: &RecordBatch,
    action: Action,
) -> Result<RecordBatch, SqlError> {
    let mut columns = rows.columns().to_vec();
    let actions = std::iter::repeat_n(Some(action.name()), rows.num_rows());
    columns.push(Arc::new(actions.collect::<StringArray>()));
    RecordBatch::try_new(schema_of(&with_action(definition)), columns).map_err(picking)
}

fn picking(error: arrow::error::ArrowError) -> SqlError {
    SqlError::internal("could not pick rows").caused_by(error)
}
