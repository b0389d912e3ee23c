//! What of a source's table lands here, and as what: which of its columns, what a query makes of them, what rows
//! say of where they come from, and what becomes of rows that go.
//!
//! ```text
//! columns of the source, but for EXCEPT COLUMNS -> + INCLUDE -> AS SELECT -> + _deleted -> the table
//! ```
//!
//! Rows keep their key. Of a table with a key, a row that the query leaves out is one that is not there.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{cast, filter_record_batch, or, take, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use boathouse_catalog::definitions::TableDefinition;
use boathouse_catalog::types::ColumnType;
use boathouse_connectors::mysql::{
    ChangedRows, RowChange, RowDetail, RowOperation, RowOrigins, SourceTable, TableName,
};
use boathouse_sql::ast;
use boathouse_sql::name::quote_literal;
use boathouse_sql::statement::{CreatePipeline, Into as Target, PipelineSource};
use regex::Regex;

use super::super::transform::RowWise;
use super::plan::patterns;
use crate::error::{SqlError, SqlState};
use crate::lake;
use crate::query::{self, QueryContext};

/// What tells rows that were deleted at the source, and are kept.
pub(super) const DELETED: &str = "_deleted";

/// Which table of the source a row is of, where several land in one: its database and its name.
pub(super) const SHARD: [&str; 2] = ["_database", "_table"];

/// What becomes of rows that are deleted at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ingest) enum Deletes {
    /// They go.
    Hard,
    /// They stay, with `_deleted`.
    Soft,
    /// Every change is a row, and none goes.
    History,
}

/// What rows say of where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Included {
    Op,
    CommitTs,
    Gtid,
    Position,
    Ordinal,
}

impl Included {
    const ALL: [Self; 5] = [
        Self::Op,
        Self::CommitTs,
        Self::Gtid,
        Self::Position,
        Self::Ordinal,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Op => "_op",
            Self::CommitTs => "_commit_ts",
            Self::Gtid => "_gtid",
            Self::Position => "_position",
            Self::Ordinal => "_ordinal",
        }
    }

    fn column_type(self) -> ColumnType {
        match self {
            Self::Op | Self::Gtid => ColumnType::Text,
            Self::CommitTs => ColumnType::TimestampTz,
            Self::Position | Self::Ordinal => ColumnType::BigInt,
        }
    }

    /// Of changed rows.
    fn of(self, origins: &RowOrigins) -> ArrayRef {
        let rows = origins.operations.len();
        let mut commits = Vec::with_capacity(rows);
        for (number, (first, commit)) in origins.commits.iter().enumerate() {
            let next = origins.commits.get(number + 1).map_or(rows, |next| next.0);
            commits.extend(std::iter::repeat_n(commit, next.saturating_sub(*first)));
        }
        match self {
            Self::Op => Arc::new(StringArray::from_iter_values(
                origins.operations.iter().map(|operation| match operation {
                    RowOperation::Insert => "c",
                    RowOperation::Update => "u",
                    RowOperation::Delete => "d",
                }),
            )),
            Self::CommitTs => {
                let times = commits
                    .iter()
                    .map(|commit| (commit.at > 0).then_some(commit.at));
                let times: TimestampMicrosecondArray = times.collect();
                Arc::new(times.with_timezone("UTC"))
            }
            Self::Gtid => {
                let gtids = commits.iter().map(|commit| commit.gtid.as_deref());
                Arc::new(gtids.collect::<StringArray>())
            }
            Self::Position => Arc::new(Int64Array::from_iter_values(
                commits.iter().map(|commit| commit.position),
            )),
            Self::Ordinal => Arc::new(Int64Array::from(origins.ordinals.clone())),
        }
    }

    /// Of rows that no change brings.
    fn of_read(self, rows: usize, operation: &str) -> ArrayRef {
        match self {
            Self::Op => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
                operation, rows,
            ))),
            Self::CommitTs => {
                let none: TimestampMicrosecondArray =
                    std::iter::repeat_n(None::<i64>, rows).collect();
                Arc::new(none.with_timezone("UTC"))
            }
            Self::Gtid => Arc::new(StringArray::new_null(rows)),
            Self::Position | Self::Ordinal => Arc::new(Int64Array::new_null(rows)),
        }
    }
}

/// What the statement says of all tables.
pub(in crate::ingest) struct Shapes {
    /// As they are written, and compiled.
    except: Vec<(String, Regex)>,
    include: Vec<Included>,
    /// All tables land in one.
    in_one: bool,
    pub(super) deletes: Deletes,
    query: Option<Box<ast::Query>>,
    queries: Vec<(Vec<(String, Regex)>, Box<ast::Query>)>,
}

/// Patterns that no table of the source has anything for: perhaps they are mistyped, and what they are to leave
/// out or mask would land as it is.
pub(super) struct Unmatched {
    /// Of `FOR`.
    pub tables: Vec<String>,
    /// Of `EXCEPT COLUMNS`.
    pub columns: Vec<String>,
}

fn compiled(texts: &[String]) -> Result<Vec<(String, Regex)>, SqlError> {
    Ok(texts.iter().cloned().zip(patterns(texts)?).collect())
}

impl Shapes {
    pub fn of(statement: &CreatePipeline, deletes: Deletes) -> Result<Self, SqlError> {
        let PipelineSource::MySql {
            except_columns,
            include,
            ..
        } = &statement.source
        else {
            return Err(SqlError::internal("the pipeline is not from a database"));
        };
        if let Some(wrong) = except_columns.iter().find(|text| !text.contains('.')) {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("the pattern of columns '{wrong}' names no table"),
            )
            .hint("patterns are those of LIKE, over database.table.column: 'shop.customers.email', '%.password'"));
        }
        let mut included = Vec::new();
        for field in include {
            let mut all = Included::ALL.into_iter();
            let found = all.find(|one| one.name().trim_start_matches('_') == field);
            let found = found.ok_or_else(|| {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("a pipeline FROM MYSQL cannot INCLUDE \"{field}\""),
                )
                .hint("it can include op, commit_ts, gtid, position and ordinal")
            })?;
            if !included.contains(&found) {
                included.push(found);
            }
        }
        if deletes == Deletes::History && included.is_empty() {
            included = Included::ALL.to_vec();
        }
        let queries = statement.queries.iter();
        let queries = queries.map(|one| Ok((compiled(&one.tables)?, one.query.clone())));
        Ok(Self {
            except: compiled(except_columns)?,
            include: included,
            in_one: matches!(statement.into, Target::Table { .. }),
            deletes,
            query: statement.query.clone(),
            queries: queries.collect::<Result<_, SqlError>>()?,
        })
    }

    /// What changed rows have to tell.
    pub fn detail(&self) -> RowDetail {
        RowDetail {
            origins: !self.include.is_empty(),
            whole_deletes: self.deletes != Deletes::Hard,
            whole_rows: self.deletes == Deletes::History,
        }
    }

    /// The patterns that match nothing of these tables.
    pub fn unmatched(&self, tables: &[&SourceTable]) -> Unmatched {
        let names: Vec<String> = tables.iter().map(|table| table.name.to_string()).collect();
        let columns: Vec<String> = tables
            .iter()
            .flat_map(|table| {
                let columns = table.columns.iter();
                columns.map(|column| format!("{}.{}", table.name, column.name))
            })
            .collect();
        let without = |patterns: &[(String, Regex)], among: &[String]| -> Vec<String> {
            let none = |one: &Regex| !among.iter().any(|name| one.is_match(name));
            let unmatched = patterns.iter().filter(|(_, one)| none(one));
            unmatched.map(|(text, _)| text.clone()).collect()
        };
        let of_tables = self.queries.iter();
        Unmatched {
            tables: of_tables
                .flat_map(|(patterns, _)| without(patterns, &names))
                .collect(),
            columns: without(&self.except, &columns),
        }
    }

    fn query_of(&self, table: &TableName) -> Option<&ast::Query> {
        let full = table.to_string();
        let mut queries = self.queries.iter();
        let own = queries.find(|(tables, _)| tables.iter().any(|(_, one)| one.is_match(&full)));
        own.map(|(_, query)| query.as_ref())
            .or(self.query.as_deref())
    }

    /// As what a table lands. `ignored` names columns that were added at the source and are not followed.
    pub async fn shape(
        &self,
        context: &QueryContext,
        source: &SourceTable,
        ignored: &BTreeSet<String>,
    ) -> Result<Shape, SqlError> {
        let wrong = |message: String| {
            let message = format!("{}: {message}", source.name);
            SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
        };
        let mut input: Vec<Field> = Vec::new();
        for column in &source.columns {
            let full = format!("{}.{}", source.name, column.name);
            let is_left_out = self.except.iter().any(|(_, one)| one.is_match(&full));
            if !is_left_out && !ignored.contains(&column.name) {
                let column_type = column.source_type.column_type();
                input.push(column_type.to_field(&column.name, true));
            }
        }
        let of_source = input.len();
        for included in &self.include {
            input.push(included.column_type().to_field(included.name(), true));
        }
        if self.deletes == Deletes::Soft {
            if source.key.is_empty() {
                return Err(wrong("without a key, deleted rows cannot be kept".into())
                    .hint("leave it out with EXCEPT, or give it a key at the source"));
            }
            input.push(ColumnType::Boolean.to_field(DELETED, true));
        }
        if self.in_one {
            input.extend(SHARD.map(|name| ColumnType::Text.to_field(name, true)));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = input.iter().find(|field| !names.insert(field.name())) {
            return Err(wrong(format!(
                "it has a column \"{}\" of its own, which INCLUDE would add",
                twice.name()
            ))
            .hint("leave it out with EXCEPT COLUMNS"));
        }
        input.truncate(of_source + self.include.len());
        let input: SchemaRef = Arc::new(Schema::new(input));
        let query = self.query_of(&source.name);
        let compiled = match query {
            None => None,
            Some(query) => Some(
                self.compile(context, query, &input, of_source)
                    .await
                    .map_err(|mut error| {
                        error.message = format!("{}: {}", source.name, error.message);
                        error
                    })?,
            ),
        };
        let mut columns = Vec::new();
        match &compiled {
            None => {
                for (at, field) in input.fields().iter().enumerate() {
                    columns.push(Landing {
                        name: field.name().clone(),
                        column_type: ColumnType::from_field(field),
                        kind: match at < of_source {
                            true => Kind::Source,
                            false => Kind::Origin,
                        },
                    });
                }
            }
            Some(compiled) => {
                let fields = compiled.fields().fields().iter();
                for (field, reads) in fields.zip(compiled.inputs()) {
                    let as_it_is = reads
                        .is
                        .is_some_and(|at| at < of_source && input.field(at).name() == field.name());
                    let of_origin = reads.all.iter().any(|at| *at >= of_source);
                    columns.push(Landing {
                        name: field.name().clone(),
                        column_type: ColumnType::from_field(field),
                        kind: match (as_it_is, of_origin) {
                            (true, _) => Kind::Source,
                            (false, true) => Kind::Origin,
                            (false, false) => Kind::Computed,
                        },
                    });
                }
            }
        }
        if self.in_one {
            let shard = SHARD.map(|name| Landing {
                name: name.into(),
                column_type: ColumnType::Text,
                kind: Kind::Computed,
            });
            columns.splice(0..0, shard);
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = columns.iter().find(|one| !names.insert(one.name.clone())) {
            return Err(wrong(format!("column \"{}\" is given twice", twice.name)));
        }
        let as_they_are = columns.iter().filter(|column| column.kind == Kind::Source);
        let as_they_are: BTreeSet<String> = as_they_are.map(|column| column.name.clone()).collect();
        let lands = |name: &String| as_they_are.contains(name);
        if let Some(missing) = source.key.iter().find(|name| !lands(name))
            && self.deletes != Deletes::History
        {
            return Err(wrong(format!(
                "column \"{missing}\" of its key has to land as it is"
            ))
            .hint("name it in the query, and do not leave it out with EXCEPT COLUMNS"));
        }
        if self.deletes == Deletes::Soft {
            columns.push(Landing {
                name: DELETED.into(),
                column_type: ColumnType::Boolean,
                kind: Kind::Origin,
            });
        }
        let mut visible = source.clone();
        visible.columns.retain(|column| lands(&column.name));
        let shard = self
            .in_one
            .then(|| [source.name.database.clone(), source.name.table.clone()]);
        if self.deletes == Deletes::History {
            visible.key.clear();
        } else if shard.is_some() && !visible.key.is_empty() {
            visible.key.splice(0..0, SHARD.map(str::to_owned));
        }
        let is_plain = visible == *source
            && columns.len() == source.columns.len()
            && self.deletes == Deletes::Hard;
        let text = match is_plain {
            true => String::new(),
            false => format!(
                "{:?} {:?} {} {}",
                self.deletes,
                self.include,
                query.map(ToString::to_string).unwrap_or_default(),
                visible
                    .columns
                    .iter()
                    .map(|column| column.name.as_str())
                    .collect::<Vec<_>>()
                    .join(","),
            ),
        };
        Ok(Shape {
            source_key: source.key.clone(),
            shard,
            lands: Arc::new(visible),
            columns,
            input,
            of_source,
            include: self.include.clone(),
            query: compiled,
            deletes: self.deletes,
            is_plain,
            text: match self.in_one {
                true => format!("one {text}"),
                false => text,
            },
        })
    }

    async fn compile(
        &self,
        context: &QueryContext,
        query: &ast::Query,
        input: &SchemaRef,
        of_source: usize,
    ) -> Result<RowWise, SqlError> {
        let refused = |what: &str| {
            SqlError::unsupported(what.to_owned())
                .hint("a pipeline FROM MYSQL takes SELECT expressions FROM source [WHERE condition]; what needs more is a pipeline FROM TABLE or a view")
        };
        let compiled = RowWise::plan(context, query, input).await?;
        let compiled = compiled.ok_or_else(|| {
            refused("a query of a pipeline FROM MYSQL that does not go row by row")
        })?;
        if compiled.is_volatile() {
            return Err(refused(
                "a query of a pipeline FROM MYSQL whose values are others each time",
            ));
        }
        if self.deletes != Deletes::History
            && compiled.filters_by().iter().any(|at| *at >= of_source)
        {
            return Err(refused(
                "a condition on where a row comes from, but with deletes = 'history',",
            ));
        }
        Ok(compiled)
    }
}

/// A column of a table that rows land in.
#[derive(Debug, Clone)]
pub(super) struct Landing {
    pub name: String,
    pub column_type: ColumnType,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is one of the source, under its name and as it is there.
    Source,
    /// It is made of those.
    Computed,
    /// It tells where a row comes from, or depends on it.
    Origin,
}

/// As what a table of the source lands.
pub(super) struct Shape {
    /// The key by which rows are told apart at the source.
    source_key: Vec<String>,
    /// What rows have in [`SHARD`].
    pub shard: Option<[String; 2]>,
    /// The table with the columns that land as they are, and the key that rows are changed by here.
    pub lands: Arc<SourceTable>,
    pub columns: Vec<Landing>,
    input: SchemaRef,
    of_source: usize,
    include: Vec<Included>,
    query: Option<RowWise>,
    pub deletes: Deletes,
    is_plain: bool,
    /// Tells shapes apart: of another, rows that are there have to be read anew.
    pub text: String,
}

impl Shape {
    /// The columns that do not come from the source as they are.
    pub fn extras(&self) -> impl Iterator<Item = &Landing> {
        let mut extras = self.columns.iter();
        std::iter::from_fn(move || extras.find(|column| column.kind != Kind::Source))
    }

    /// The columns whose values follow from those of the source.
    pub fn compared(&self) -> impl Iterator<Item = &Landing> {
        let mut columns = self.columns.iter();
        std::iter::from_fn(move || columns.find(|column| column.kind != Kind::Origin))
    }

    /// Changes of the source as changes here.
    pub fn changed(&self, changed: ChangedRows) -> Result<ChangedRows, SqlError> {
        if self.is_plain {
            return Ok(changed);
        }
        let ChangedRows {
            rows,
            mut changes,
            mut keys_before,
            origins,
            uncertain,
        } = changed;
        let included = |included: &Included| match &origins {
            Some(origins) => included.of(origins),
            None => included.of_read(rows.num_rows(), "u"),
        };
        let input = self.input_of(&rows, included)?;
        let keyed = !self.source_key.is_empty();
        let values_of_deletes = !keyed || self.deletes != Deletes::Hard;
        let has_values = |change: &RowChange| *change == RowChange::Upsert || values_of_deletes;
        let (output, stays) = self.evaluate(input, changes.iter().map(has_values))?;
        let mut output = self.with_shard(output)?;
        if let (Some(shard), Some(keys)) = (&self.shard, &mut keys_before) {
            let rows = output.num_rows();
            keys.splice(0..0, shard.each_ref().map(|name| repeated(name, rows)));
        }
        let keeps_all = stays.iter().all(|stays| *stays);
        match self.deletes {
            Deletes::Hard if keyed => {
                for (change, stays) in changes.iter_mut().zip(&stays) {
                    if !stays {
                        *change = RowChange::Delete;
                    }
                }
            }
            Deletes::Soft => {
                let deleted = changes.iter().map(|change| *change == RowChange::Delete);
                let deleted: BooleanArray = deleted.map(Some).collect();
                output = with_column(&output, DELETED, Arc::new(deleted))?;
                for (change, stays) in changes.iter_mut().zip(&stays) {
                    *change = match stays {
                        true => RowChange::Upsert,
                        // It never was to be here.
                        false => RowChange::Delete,
                    };
                }
            }
            Deletes::Hard | Deletes::History => {
                if !keeps_all {
                    let kept = BooleanArray::from(stays.clone());
                    output = filter_record_batch(&output, &kept).map_err(unshaped)?;
                    let mut stays = stays.iter();
                    changes.retain(|_| stays.next().copied().unwrap_or_default());
                }
                if self.deletes == Deletes::History {
                    changes.fill(RowChange::Upsert);
                    keys_before = None;
                }
            }
        }
        Ok(ChangedRows {
            rows: output,
            changes,
            keys_before,
            origins: None,
            uncertain,
        })
    }

    /// Whether changed rows lack columns that a query reads, and can be asked of the source whole. A row that stays
    /// when it is deleted cannot: whether it ever was here is not known then.
    pub fn is_to_be_asked(&self, rows: &RecordBatch) -> bool {
        let mut of_source = self.input.fields().iter().take(self.of_source);
        // A fraction that is rounded to be written names no row.
        let can_be_named = self.source_key.iter().all(|name| {
            let field = self.input.field_with_name(name);
            field.is_ok_and(|field| !field.data_type().is_floating())
        });
        self.query.is_some()
            && self.deletes == Deletes::Hard
            && !self.source_key.is_empty()
            && can_be_named
            && of_source.any(|field| rows.column_by_name(field.name()).is_none())
    }

    /// What changes of rows that are to be asked for do tell: which keys no row has any more.
    pub fn gone(&self, changed: ChangedRows) -> Result<ChangedRows, SqlError> {
        let columns = self.source_key.iter().map(|name| {
            let schema = changed.rows.schema();
            let field = schema.field_with_name(name).map_err(unshaped)?.clone();
            Ok((field, changed.rows.column_by_name(name).cloned()))
        });
        let columns = columns.collect::<Result<Vec<_>, SqlError>>()?;
        let (fields, now): (Vec<Field>, Vec<Option<ArrayRef>>) = columns.into_iter().unzip();
        let now: Vec<ArrayRef> = now.into_iter().flatten().collect();
        let deleted = changed.changes.iter().map(|one| *one == RowChange::Delete);
        let mut goes: BooleanArray = deleted.map(Some).collect();
        if let Some(before) = &changed.keys_before {
            for (before, now) in before.iter().zip(&now) {
                let differs = distinct(before, now).map_err(unshaped)?;
                goes = or(&goes, &differs).map_err(unshaped)?;
            }
        }
        let keys = RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            changed.keys_before.unwrap_or(now),
        );
        let keys = filter_record_batch(&keys.map_err(unshaped)?, &goes).map_err(unshaped)?;
        Ok(ChangedRows {
            changes: vec![RowChange::Delete; keys.num_rows()],
            rows: self.with_shard(keys)?,
            keys_before: None,
            origins: None,
            uncertain: Vec::new(),
        })
    }

    /// Rows as they were read from the source's table, as rows here.
    pub fn read(&self, rows: RecordBatch) -> Result<RecordBatch, SqlError> {
        if self.is_plain {
            return Ok(rows);
        }
        let count = rows.num_rows();
        let input = self.input_of(&rows, |included| included.of_read(count, "r"))?;
        let mut output = match &self.query {
            None => input,
            Some(query) => query.evaluate(&input, true).map_err(query::failure)?.0,
        };
        output = self.with_shard(output)?;
        if self.deletes == Deletes::Soft {
            let living = BooleanArray::from(vec![false; output.num_rows()]);
            output = with_column(&output, DELETED, Arc::new(living))?;
        }
        Ok(output)
    }

    /// Rows with the table that they are of, where several land in one.
    pub fn with_shard(&self, rows: RecordBatch) -> Result<RecordBatch, SqlError> {
        let Some(shard) = &self.shard else {
            return Ok(rows);
        };
        let count = rows.num_rows();
        let mut fields: Vec<Arc<Field>> = SHARD
            .map(|name| Arc::new(ColumnType::Text.to_field(name, true)))
            .to_vec();
        fields.extend(rows.schema().fields().iter().cloned());
        let mut columns = shard.each_ref().map(|name| repeated(name, count)).to_vec();
        columns.extend(rows.columns().iter().cloned());
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unshaped)
    }

    /// Which rows are of this table, by their columns [`SHARD`].
    pub fn is_of_shard(&self, columns: &[ArrayRef]) -> Option<Vec<bool>> {
        let (Some([database, table]), [databases, tables, ..]) = (&self.shard, columns) else {
            return None;
        };
        let databases = databases.as_string_opt::<i32>()?;
        let tables = tables.as_string_opt::<i32>()?;
        let rows = databases.iter().zip(tables);
        let rows = rows.map(|(one, other)| one == Some(database) && other == Some(table));
        Some(rows.collect())
    }

    /// A condition for its rows here.
    pub fn condition(&self) -> String {
        let Some(shard) = &self.shard else {
            return "true".to_owned();
        };
        let names = SHARD.iter().zip(shard);
        let conditions = names.map(|(name, value)| format!("{name} = {}", quote_literal(value)));
        conditions.collect::<Vec<_>>().join(" AND ")
    }

    /// Values as the columns have them by now that they land in: another table of them may have wider ones.
    pub fn fit(
        &self,
        rows: RecordBatch,
        definition: &TableDefinition,
    ) -> Result<RecordBatch, SqlError> {
        if self.shard.is_none() {
            return Ok(rows);
        }
        let schema = rows.schema();
        let mut fields = Vec::with_capacity(rows.num_columns());
        let mut columns = Vec::with_capacity(rows.num_columns());
        for (field, column) in schema.fields().iter().zip(rows.columns()) {
            let wanted = definition.column(field.name());
            let wanted = wanted.map(|wanted| wanted.column_type.to_field(field.name(), true));
            match wanted.filter(|wanted| lake::widens(field.data_type(), wanted.data_type())) {
                Some(wanted) => {
                    columns.push(cast(column, wanted.data_type()).map_err(unshaped)?);
                    fields.push(Arc::new(wanted));
                }
                None => {
                    columns.push(Arc::clone(column));
                    fields.push(Arc::clone(field));
                }
            }
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unshaped)
    }

    /// Marks that say rows were deleted, of rows that have the key's columns.
    pub fn deleted(&self, keys: RecordBatch) -> Result<RecordBatch, SqlError> {
        let rows = keys.num_rows();
        let mut marked = with_column(
            &keys,
            DELETED,
            Arc::new(BooleanArray::from(vec![true; rows])),
        )?;
        for column in self
            .columns
            .iter()
            .filter(|column| column.kind == Kind::Origin)
        {
            let mut all = Included::ALL.into_iter();
            if let Some(included) = all.find(|one| one.name() == column.name)
                && self.include.contains(&included)
            {
                marked = with_column(&marked, included.name(), included.of_read(rows, "d"))?;
            }
        }
        Ok(marked)
    }

    /// What a query reads.
    fn input_of(
        &self,
        rows: &RecordBatch,
        included: impl Fn(&Included) -> ArrayRef,
    ) -> Result<RecordBatch, SqlError> {
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for field in self.input.fields().iter().take(self.of_source) {
            if let Some(column) = rows.column_by_name(field.name()) {
                fields.push(Arc::clone(field));
                columns.push(Arc::clone(column));
            } else if self.query.is_some() {
                return Err(SqlError::unsupported(format!(
                    "a query over {}, of whose rows the binlog has some columns only",
                    self.lands.name
                ))
                .hint("SET GLOBAL binlog_row_image = FULL, in sessions too"));
            }
        }
        let of_origin = self.input.fields().iter().skip(self.of_source);
        for (field, one) in of_origin.zip(&self.include) {
            let column = cast(&included(one), field.data_type()).map_err(unshaped)?;
            fields.push(Arc::clone(field));
            columns.push(column);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unshaped)
    }

    /// The query's row of each row that has values; whether it gives one.
    fn evaluate(
        &self,
        input: RecordBatch,
        has_values: impl Iterator<Item = bool>,
    ) -> Result<(RecordBatch, Vec<bool>), SqlError> {
        let count = input.num_rows();
        let Some(query) = &self.query else {
            return Ok((input, vec![true; count]));
        };
        let asked: Vec<u32> = (0..)
            .zip(has_values)
            .filter_map(|(row, has)| has.then_some(row))
            .collect();
        let asked = UInt32Array::from(asked);
        let values = match asked.len() == count {
            true => input.clone(),
            false => take_record_batch(&input, &asked).map_err(unshaped)?,
        };
        let (given, kept) = query.evaluate(&values, true).map_err(query::failure)?;
        if given.num_rows() == count {
            return Ok((given, vec![true; count]));
        }
        // Every row has a place, and the columns of the key.
        let mut places: Vec<Option<u32>> = vec![None; count];
        for (place, row) in (0..).zip(kept.values()) {
            let row = asked
                .values()
                .get(*row as usize)
                .copied()
                .unwrap_or_default();
            if let Some(at) = places.get_mut(row as usize) {
                *at = Some(place);
            }
        }
        let indices: UInt32Array = places.iter().copied().collect();
        let fields = given.schema();
        let columns = fields.fields().iter().zip(given.columns());
        let columns = columns.map(|(field, column)| {
            let is_key = self.source_key.contains(field.name());
            match input.column_by_name(field.name()).filter(|_| is_key) {
                Some(key) => Ok(Arc::clone(key)),
                None => take(column, &indices, None).map_err(unshaped),
            }
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let output = RecordBatch::try_new(fields, columns).map_err(unshaped)?;
        // A row that goes, and is not asked for its values, is none that the query leaves out.
        let mut was_asked = vec![false; count];
        for row in asked.values() {
            if let Some(was) = was_asked.get_mut(*row as usize) {
                *was = true;
            }
        }
        let stays = places.iter().zip(was_asked);
        Ok((
            output,
            stays
                .map(|(place, asked)| place.is_some() || !asked)
                .collect(),
        ))
    }
}

fn repeated(text: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
        text, rows,
    )))
}

fn with_column(rows: &RecordBatch, name: &str, column: ArrayRef) -> Result<RecordBatch, SqlError> {
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
    let mut columns = rows.columns().to_vec();
    columns.push(column);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unshaped)
}

fn unshaped(error: arrow::error::ArrowError) -> SqlError {
    SqlError::internal("rows of the source cannot be given their shape").caused_by(error)
}
