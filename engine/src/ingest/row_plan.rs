//! What a pipeline's statement asks of rows, wherever they come from: their columns, query, rules and target.

use std::sync::Arc;

use arrow::datatypes::Field;
use boathouse_connectors::format::{METADATA_COLUMNS, RESCUED};
use boathouse_sql::ast;
use boathouse_sql::statement::{
    CreatePipeline, Expectation, Into as Target, OnChangedFile, OnSchemaChange, SourceColumn,
};

use super::schema::SourceSchema;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::query::QueryContext;

/// What rows of a source have besides its columns, and besides `_rescued`.
#[derive(Debug, Clone)]
pub(super) enum Metadata {
    /// `_file`, `_sheet` and `_row`. Sheets have names only where files have parts.
    OfFile { has_parts: bool },
    /// What the statement says is to be included.
    OfMessage(Vec<Field>),
}

/// What is asked of rows.
#[derive(Clone)]
pub(super) struct RowPlan {
    pub name: String,
    pub context: QueryContext,
    /// Declared with COLUMNS; the source's columns are then not inferred.
    pub declared: Option<SourceSchema>,
    /// Declared columns that must not be NULL.
    pub not_null: Vec<String>,
    pub metadata: Metadata,
    /// Tells when the columns found so far were found under another FORMAT, and count no more.
    pub format_stamp: String,
    pub query: Option<Box<ast::Query>>,
    pub expectations: Vec<Expectation>,
    pub on_schema_change: OnSchemaChange,
    pub on_changed_file: Option<OnChangedFile>,
    pub target_schema: String,
    /// Empty where rows go to several tables of the schema.
    pub target_name: String,
    /// The columns by which rows of the target are known; empty where rows are only added.
    pub key: Vec<String>,
}

impl RowPlan {
    pub fn resolve(
        context: QueryContext,
        statement: &CreatePipeline,
        columns: &[SourceColumn],
        format_stamp: String,
        metadata: Metadata,
    ) -> Result<Self, SqlError> {
        if !statement.queries.is_empty() {
            return Err(SqlError::unsupported(
                "FOR (...) AS SELECT of a pipeline that is not FROM MYSQL",
            )
            .hint("AS SELECT ... FROM source says what all its rows become"));
        }
        let (target_schema, target_name) = match &statement.into {
            Target::Table { name, .. } => (
                name.schema.clone().unwrap_or_else(|| "public".into()),
                name.name.clone(),
            ),
            Target::Schema { name, by } => match (&metadata, by) {
                // Which table a row goes to is told by the row.
                (Metadata::OfMessage(_), Some(_)) => (name.clone(), String::new()),
                (Metadata::OfMessage(_), None) => {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        "INTO SCHEMA of a pipeline FROM KAFKA needs BY",
                    )
                    .hint("INTO SCHEMA name BY column: the column's value names the table of each row"));
                }
                (Metadata::OfFile { .. }, _) => {
                    return Err(SqlError::unsupported(
                        "INTO SCHEMA of a pipeline FROM FILES",
                    ));
                }
            },
            Target::Topic(_) => {
                return Err(SqlError::unsupported(
                    "INTO KAFKA of a pipeline that is not FROM TABLE",
                ));
            }
            Target::Redshift { .. } => return Err(SqlError::unsupported("INTO REDSHIFT")),
        };
        if context.snapshot.schema(&target_schema).is_none() {
            return Err(SqlError::new(
                SqlState::INVALID_SCHEMA_NAME,
                format!("schema \"{target_schema}\" does not exist"),
            )
            .hint(format!("CREATE SCHEMA {target_schema}")));
        }
        let not_null = columns
            .iter()
            .filter(|column| column.not_null)
            .map(|column| column.name.clone())
            .collect();
        let declared = (!columns.is_empty()).then(|| SourceSchema {
            columns: columns
                .iter()
                .map(|column| (column.name.clone(), column.column_type.clone()))
                .collect(),
        });
        Ok(Self {
            name: statement.name.clone(),
            context,
            declared,
            not_null,
            metadata,
            format_stamp,
            query: statement.query.clone(),
            expectations: statement.expectations.clone(),
            on_schema_change: statement
                .on_schema_change
                .unwrap_or(OnSchemaChange::AddColumns),
            on_changed_file: statement.on_changed_file,
            target_schema,
            target_name,
            key: Vec::new(),
        })
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.context.engine
    }

    /// The names of what rows have besides the source's columns.
    pub fn metadata_names(&self) -> Vec<&str> {
        match &self.metadata {
            Metadata::OfFile { .. } => METADATA_COLUMNS.to_vec(),
            Metadata::OfMessage(fields) => {
                let fields = fields.iter().map(|field| field.name().as_str());
                std::iter::once(RESCUED).chain(fields).collect()
            }
        }
    }

    /// What happens to a changed file, given whether the query goes row by row.
    pub fn changed_file_policy(&self, row_wise: bool) -> Result<OnChangedFile, SqlError> {
        match (self.on_changed_file, row_wise) {
            (Some(OnChangedFile::Reload), false) => Err(SqlError::unsupported(
                "ON CHANGED FILE RELOAD of a query that aggregates, sorts or joins",
            )
            .hint("use ON CHANGED FILE FAIL or IGNORE")),
            (Some(policy), _) => Ok(policy),
            (None, true) => Ok(OnChangedFile::Reload),
            (None, false) => Ok(OnChangedFile::Fail),
        }
    }
}
