//! Which table each message belongs to.
//!
//! Only the columns that the query may read are decoded for it, and of the query only the column that names the table is
//! evaluated, without its WHERE: that is asked when the row is made.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt32Type};
use boathouse_catalog::types::ColumnType;
use boathouse_connectors::format::plain_name;
use boathouse_sql::ast;
use boathouse_sql::name::quote_identifier;

use super::super::super::quarantine::Rejected;
use super::super::super::row_plan::RowPlan;
use super::super::super::rows::as_source;
use super::super::super::schema::SourceSchema;
use super::super::super::transform::{FailedRow, Transform};
use super::require_column;
use crate::error::{SqlError, SqlState};

/// Bytes of a table's name, as PostgreSQL has it.
const NAME_BYTES_MAX: usize = 63;

/// Characters of a value that a reason shows.
const SHOWN_MAX: usize = 80;

/// The messages of a block by their numbers, each with the value that names its table, and those without an answer.
pub(super) type Routed = (Vec<(u32, Option<String>)>, Vec<Rejected>);

/// Finds the values that name tables.
pub(super) struct Router {
    transform: Transform,
    column: usize,
}

impl Router {
    pub async fn plan(rows: &RowPlan, source: &SourceSchema, by: &str) -> Result<Self, SqlError> {
        let mut plan = rows.clone();
        plan.not_null = Vec::new();
        if let Some(query) = &rows.query {
            let text = format!("SELECT {} FROM ({query}) AS routed", quote_identifier(by));
            plan.query = Some(boathouse_sql::parse_query(&text)?);
        }
        let transform = Transform::plan(&plan, source, &[]).await?;
        if !transform.is_row_wise() || transform.is_lookup() {
            return Err(SqlError::unsupported(
                "a query that aggregates, sorts or joins, of a pipeline FROM KAFKA INTO SCHEMA ... BY",
            )
            .hint("select and filter here, and do the rest in views of the tables"));
        }
        require_column(transform.fields(), by)?;
        let column = transform.fields().index_of(by);
        let column = column.map_err(|error| {
            SqlError::internal("the column of BY is not in its place").caused_by(error)
        })?;
        Ok(Self { transform, column })
    }

    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// The values of decoded messages.
    pub fn route(&self, decoded: &RecordBatch) -> Result<Routed, SqlError> {
        let source = as_source(&self.transform, decoded)?;
        let numbers = decoded.columns().last();
        let numbers = numbers.and_then(|column| column.as_primitive_opt::<UInt32Type>());
        let numbers =
            numbers.ok_or_else(|| SqlError::internal("decoded messages have no numbers"))?;
        let (values, failed) = self.values(&source)?;
        let values = values.into_iter();
        let routed = values.map(|(row, value)| (numbers.value(row as usize), value));
        let failed = failed.into_iter().map(|row| {
            let at = row.row as usize;
            Rejected::of_row(&source, at, row.error.state, row.error.message)
        });
        Ok((routed.collect(), failed.collect()))
    }

    /// The value of each row that has an answer, and the rows that have none.
    pub fn values(
        &self,
        source: &RecordBatch,
    ) -> Result<(Vec<(u32, Option<String>)>, Vec<FailedRow>), SqlError> {
        let (applied, failed) = self.transform.apply_unfiltered(source);
        let mut values = Vec::with_capacity(source.num_rows());
        for part in applied {
            let texts = cast(part.output.column(self.column), &DataType::Utf8);
            let texts = texts.map_err(|error| {
                SqlError::internal("the values that name tables are no texts").caused_by(error)
            })?;
            let texts = texts.as_string::<i32>();
            for (row, text) in part.rows.values().iter().zip(texts) {
                values.push((*row, text.map(str::to_owned)));
            }
        }
        Ok((values, failed))
    }
}

/// The columns that routing needs, where the messages need not tell.
pub(super) fn source_of(rows: &RowPlan, by: &str) -> SourceSchema {
    match (&rows.declared, &rows.query) {
        (Some(declared), None) => {
            let mut only = declared.clone();
            only.columns.retain(|(name, _)| name == by);
            only
        }
        (Some(declared), Some(query)) => mentioned(query, by, declared.clone()),
        (None, None) if !rows.metadata_names().contains(&by) => SourceSchema {
            columns: vec![(by.to_owned(), ColumnType::Text)],
        },
        (None, _) => SourceSchema::default(),
    }
}

/// Of some columns those that a query may read, by its words.
pub(super) fn mentioned(query: &ast::Query, by: &str, mut found: SourceSchema) -> SourceSchema {
    let words = boathouse_sql::words(&query.to_string());
    found
        .columns
        .retain(|(name, _)| name == by || words.contains(name));
    found
}

/// The value, and the name of the table it names.
pub(super) fn table_name<'v>(
    value: Option<&'v str>,
    by: &str,
) -> Result<(&'v str, String), (SqlState, String)> {
    let Some(value) = value.filter(|value| !value.trim().is_empty()) else {
        let reason = format!("column \"{by}\", which names the table, has no value");
        return Err((SqlState::NOT_NULL_VIOLATION, reason));
    };
    let name = plain_name(value);
    let refused = |why: &str| {
        let reason = format!(
            "\"{}\" in column \"{by}\" names no table: {why}",
            shown(value)
        );
        (SqlState::INVALID_TEXT_REPRESENTATION, reason)
    };
    if name.is_empty() || name.chars().all(|character| character == '_') {
        return Err(refused("it has neither a letter nor a digit"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(refused("its name would have more than 63 bytes"));
    }
    Ok((value, name))
}

/// The beginning of a value.
pub(super) fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN_MAX).collect();
    if shown.len() < value.len() {
        shown.push_str("...");
    }
    shown
}

/// The columns of one table's messages, with those that the query may read and they lack.
pub(super) fn with_mentioned(own: &SourceSchema, routing: &SourceSchema) -> SourceSchema {
    let mut all = own.clone();
    all.add(routing);
    all
}

/// What makes values of messages: the column and the query.
pub(super) fn routing_stamp(rows: &RowPlan, by: &str) -> String {
    let mut hasher = DefaultHasher::new();
    by.hash(&mut hasher);
    let query = rows.query.as_ref().map(ToString::to_string);
    query.hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(value: &str) -> String {
        match table_name(Some(value), "kind") {
            Ok((_, name)) => name,
            Err((state, reason)) => format!("{}: {reason}", state.0),
        }
    }

    #[test]
    fn a_value_names_a_table_by_the_rule_of_columns() {
        assert_eq!(named("order-created"), "order_created");
        assert_eq!(named("Order Created"), "order_created");
        assert_eq!(named("com.shop/Paid!"), "com_shop_paid");
        assert_eq!(named("2fa"), "_2fa");
        assert_eq!(named("Größe"), "größe");
    }

    #[test]
    fn a_value_that_names_none_says_why() {
        assert_eq!(
            named(" "),
            "23502: column \"kind\", which names the table, has no value"
        );
        assert_eq!(
            named("!?"),
            "22P02: \"!?\" in column \"kind\" names no table: it has neither a letter nor a digit"
        );
        let long = "x".repeat(64);
        assert_eq!(
            named(&long),
            format!(
                "22P02: \"{long}\" in column \"kind\" names no table: its name would have more than 63 bytes"
            )
        );
        assert!(shown(&"x".repeat(100)).ends_with("x..."));
    }
}
