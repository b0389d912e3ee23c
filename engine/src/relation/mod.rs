//! The relations nobody created: `pg_catalog`, `information_schema`, `system`. One file each.
//!
//! A relation is its columns and a function that makes its rows of the catalog snapshot the query was
//! planned with, or of the state stores. The rows are made when the query runs and are few; filters
//! and joins are left to the query. What a role may not know is left out by the relation itself.
//! Nothing here writes.

pub mod constraint;
mod information_schema;
mod pg_catalog;
mod system;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use boathouse_catalog::definitions::TableDefinition;
use boathouse_catalog::types::ColumnType;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::{MemTable, TableType};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;

use crate::error::SqlError;
use crate::function::registry::{self, type_name as shown_type};
use crate::function::scalar::external;
use crate::function::value::{Value, column};
use crate::query::QueryContext;
use crate::query::typing::{Written, written_type_name};

/// One row, a cell for each column.
pub type Row = Vec<Value<'static>>;

/// Where rows come from.
#[derive(Clone, Copy)]
pub enum Rows {
    /// Nothing of the kind exists here, so there are none.
    None,
    /// Of the snapshot, at once.
    Now(fn(&QueryContext) -> Result<Vec<Row>, SqlError>),
    /// Of the state stores or the lake.
    Later(fn(QueryContext) -> BoxFuture<'static, Result<Vec<Row>, SqlError>>),
}

/// A system relation.
pub struct Relation {
    pub schema: &'static str,
    pub name: &'static str,
    pub oid: i64,
    /// `name type, name type, ...`.
    pub columns: &'static str,
    pub rows: Rows,
}

/// Makes a row of anything that is a cell.
#[macro_export]
macro_rules! row {
    ($($cell:expr),* $(,)?) => {
        vec![$($crate::function::value::Value::from($cell)),*]
    };
}

static RELATIONS: LazyLock<HashMap<(&'static str, &'static str), (&'static Relation, SchemaRef)>> =
    LazyLock::new(|| {
        pg_catalog::RELATIONS
            .iter()
            .chain(information_schema::RELATIONS)
            .chain(system::RELATIONS)
            .map(|relation| {
                let relation: &'static Relation = relation;
                (
                    (relation.schema, relation.name),
                    (relation, schema_of(relation)),
                )
            })
            .collect()
    });

/// The names and types of a relation's columns, as they are written in its file.
pub fn columns_of(relation: &Relation) -> impl Iterator<Item = (&'static str, &'static str)> {
    relation
        .columns
        .split(',')
        .filter_map(|column| column.trim().split_once(' '))
        .map(|(name, written)| (name.trim(), written.trim()))
}

/// What a column of type `regproc` is written as that holds names rather than oids, for functions
/// that have a name for clients to know them by and are no functions of ours. It compares with the
/// oid 0, which is `-`, as `regproc` does.
pub const FUNCTION_NAME: &str = "regproc_name";

pub fn column_type(written: &str) -> ColumnType {
    match written_type_name(written) {
        Some(Written::Type(column_type)) => column_type,
        Some(Written::Catalog(_)) => ColumnType::BigInt,
        None => ColumnType::Text,
    }
}

fn schema_of(relation: &Relation) -> SchemaRef {
    let fields = columns_of(relation)
        .map(|(name, written)| {
            let field = column_type(written).to_field(name, true);
            if written == FUNCTION_NAME {
                let mut metadata = field.metadata().clone();
                metadata.insert(FUNCTION_NAME.to_owned(), String::new());
                return field.with_metadata(metadata);
            }
            field
        })
        .collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

/// All system relations.
pub fn all() -> impl Iterator<Item = &'static Relation> {
    RELATIONS.values().map(|(relation, _)| *relation)
}

pub fn exists(schema: &str, name: &str) -> bool {
    RELATIONS.contains_key(&(schema, name))
}

/// The OID of a system relation.
pub fn oid(schema: &str, name: &str) -> Option<i64> {
    RELATIONS
        .get(&(schema, name))
        .map(|(relation, _)| relation.oid)
}

/// The schema and name of a system relation.
pub fn name_of(oid: i64) -> Option<(&'static str, &'static str)> {
    all()
        .find(|relation| relation.oid == oid)
        .map(|relation| (relation.schema, relation.name))
}

/// The columns of a relation that never has rows.
pub fn empty_columns(schema: &str, name: &str) -> Option<SchemaRef> {
    let (relation, columns) = RELATIONS.get(&(schema, name))?;
    matches!(relation.rows, Rows::None).then(|| Arc::clone(columns))
}

/// The relation as a query reads it.
pub fn open(context: &QueryContext, schema: &str, name: &str) -> Option<Arc<dyn TableProvider>> {
    let (relation, schema) = RELATIONS.get(&(schema, name))?;
    Some(Arc::new(Provider {
        relation,
        schema: Arc::clone(schema),
        context: context.clone(),
    }))
}

/// A system relation in one query.
struct Provider {
    relation: &'static Relation,
    schema: SchemaRef,
    context: QueryContext,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.relation.schema, self.relation.name)
    }
}

impl Provider {
    async fn batch(&self) -> Result<RecordBatch, SqlError> {
        let rows = match self.relation.rows {
            Rows::None => Vec::new(),
            Rows::Now(rows) => rows(&self.context)?,
            Rows::Later(rows) => rows(self.context.clone()).await?,
        };
        let mut columns = vec![Vec::with_capacity(rows.len()); self.schema.fields().len()];
        for row in rows {
            if row.len() != columns.len() {
                return Err(SqlError::internal(format!(
                    "a row of {}.{} has {} cells for {} columns",
                    self.relation.schema,
                    self.relation.name,
                    row.len(),
                    columns.len()
                )));
            }
            for (cells, cell) in columns.iter_mut().zip(row) {
                cells.push(cell);
            }
        }
        let arrays = columns
            .iter()
            .zip(self.schema.fields())
            .map(|(cells, field)| column(cells, field.data_type()))
            .collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(|error| SqlError::internal("a system relation has no rows").caused_by(error))
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let batch = self.batch().await.map_err(external)?;
        let table = MemTable::try_new(Arc::clone(&self.schema), vec![vec![batch]])?;
        table.scan(state, projection, filters, limit).await
    }
}

/// A type of `pg_type` that no column of a table can have.
pub struct ExtraType {
    pub oid: i64,
    pub name: &'static str,
    pub array: i64,
    pub length: i64,
    pub kind: &'static str,
    pub category: &'static str,
}

/// Types of the system catalogs and pseudo-types.
pub const EXTRA_TYPES: &[ExtraType] = &[
    ExtraType {
        oid: 18,
        name: "char",
        array: 1002,
        length: 1,
        kind: "b",
        category: "Z",
    },
    ExtraType {
        oid: 19,
        name: "name",
        array: 1003,
        length: 64,
        kind: "b",
        category: "S",
    },
    ExtraType {
        oid: 22,
        name: "int2vector",
        array: 1006,
        length: -1,
        kind: "b",
        category: "A",
    },
    ExtraType {
        oid: 24,
        name: "regproc",
        array: 1008,
        length: 4,
        kind: "b",
        category: "N",
    },
    ExtraType {
        oid: 26,
        name: "oid",
        array: 1028,
        length: 4,
        kind: "b",
        category: "N",
    },
    ExtraType {
        oid: 28,
        name: "xid",
        array: 1011,
        length: 4,
        kind: "b",
        category: "U",
    },
    ExtraType {
        oid: 30,
        name: "oidvector",
        array: 1013,
        length: -1,
        kind: "b",
        category: "A",
    },
    ExtraType {
        oid: 194,
        name: "pg_node_tree",
        array: 0,
        length: -1,
        kind: "b",
        category: "Z",
    },
    ExtraType {
        oid: 705,
        name: "unknown",
        array: 0,
        length: -2,
        kind: "p",
        category: "X",
    },
    ExtraType {
        oid: 1033,
        name: "aclitem",
        array: 1034,
        length: 12,
        kind: "b",
        category: "U",
    },
    ExtraType {
        oid: 2205,
        name: "regclass",
        array: 2210,
        length: 4,
        kind: "b",
        category: "N",
    },
    ExtraType {
        oid: 2206,
        name: "regtype",
        array: 2211,
        length: 4,
        kind: "b",
        category: "N",
    },
    ExtraType {
        oid: 2249,
        name: "record",
        array: 2287,
        length: -1,
        kind: "p",
        category: "P",
    },
    ExtraType {
        oid: 2276,
        name: "any",
        array: 0,
        length: 4,
        kind: "p",
        category: "P",
    },
    ExtraType {
        oid: 2277,
        name: "anyarray",
        array: 0,
        length: -1,
        kind: "p",
        category: "P",
    },
    ExtraType {
        oid: 2278,
        name: "void",
        array: 0,
        length: 4,
        kind: "p",
        category: "P",
    },
    ExtraType {
        oid: 2283,
        name: "anyelement",
        array: 0,
        length: 4,
        kind: "p",
        category: "P",
    },
];

/// The OID of a type written in a relation's columns.
pub fn written_type_oid(written: &str) -> i64 {
    let array = written.ends_with("[]");
    let base = written.trim_end_matches("[]");
    match EXTRA_TYPES.iter().find(|extra| extra.name == base) {
        Some(extra) if array => extra.array,
        Some(extra) => extra.oid,
        None => i64::from(column_type(written).oid()),
    }
}

/// The name of a type by OID, where it is none a column can have.
pub fn type_name(oid: i64) -> Option<&'static str> {
    EXTRA_TYPES
        .iter()
        .find(|extra| extra.oid == oid)
        .map(|extra| match extra.name {
            "char" => "\"char\"",
            "any" => "\"any\"",
            other => other,
        })
}

/// A function as `pg_proc` lists it.
pub struct Procedure {
    pub oid: i64,
    pub name: String,
    pub arguments: Vec<String>,
    pub result: String,
    pub kind: &'static str,
    pub strict: bool,
    pub volatility: &'static str,
    pub variadic: bool,
}

/// Where the OIDs of functions begin.
const FUNCTION_BASE: i64 = 6_000_001;

static PROCEDURES: LazyLock<Vec<Procedure>> = LazyLock::new(|| {
    use crate::function::scalar::{Parameter, Returns};
    use datafusion::logical_expr::Volatility;
    let mut procedures = registry::all()
        .filter(|overload| {
            overload
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_')
                && ![
                    "_of", "_result", "_name", "_oid", "_value", "_key", "_escape",
                ]
                .iter()
                .any(|ending| overload.name.ends_with(ending))
        })
        .map(|overload| {
            let arguments = overload
                .parameters
                .iter()
                .map(|parameter| match parameter {
                    Parameter::Type(column_type) => shown_type(column_type),
                    Parameter::AnyNumeric => "numeric".to_owned(),
                    Parameter::AnyArray => "anyarray".to_owned(),
                    Parameter::Any => "\"any\"".to_owned(),
                })
                .collect();
            let result = match &overload.returns {
                Returns::Type(column_type) => shown_type(column_type),
                Returns::Computed(_) => "numeric".to_owned(),
                Returns::ArrayOf(_) => "anyarray".to_owned(),
                Returns::SameAs(_) | Returns::ElementOf(_) => "anyelement".to_owned(),
            };
            Procedure {
                oid: 0,
                name: overload.name.to_owned(),
                arguments,
                result,
                kind: "f",
                strict: overload.strict,
                volatility: match overload.volatility {
                    Volatility::Immutable => "i",
                    Volatility::Stable => "s",
                    Volatility::Volatile => "v",
                },
                variadic: overload.variadic,
            }
        })
        .chain(crate::query::AGGREGATES.iter().map(|name| Procedure {
            oid: 0,
            name: (*name).to_owned(),
            arguments: vec!["\"any\"".to_owned()],
            result: "anyelement".to_owned(),
            kind: "a",
            strict: false,
            volatility: "i",
            variadic: false,
        }))
        .collect::<Vec<_>>();
    procedures
        .sort_by(|left, right| (&left.name, &left.arguments).cmp(&(&right.name, &right.arguments)));
    for (index, procedure) in procedures.iter_mut().enumerate() {
        procedure.oid = FUNCTION_BASE + i64::try_from(index).unwrap_or(0);
    }
    procedures
});

pub fn procedures() -> &'static [Procedure] {
    &PROCEDURES
}

fn procedure(oid: i64) -> Option<&'static Procedure> {
    PROCEDURES.iter().find(|procedure| procedure.oid == oid)
}

pub fn function_oid(name: &str) -> Option<i64> {
    PROCEDURES
        .iter()
        .find(|procedure| procedure.name == name)
        .map(|procedure| procedure.oid)
}

pub fn function_name(oid: i64) -> Option<&'static str> {
    procedure(oid).map(|procedure| procedure.name.as_str())
}

pub fn function_result(oid: i64) -> Option<&'static str> {
    procedure(oid).map(|procedure| procedure.result.as_str())
}

pub fn function_arguments(oid: i64) -> Option<String> {
    procedure(oid).map(|procedure| procedure.arguments.join(", "))
}

/// The size of a table that is open, without reading anything.
pub fn known_size(table: &TableDefinition) -> Option<i64> {
    let _ = table;
    None
}
