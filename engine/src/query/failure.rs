//! The one place where a DataFusion error becomes a [`SqlError`].
//!
//! Errors of ours travel through DataFusion as `External` and come out unharmed. DataFusion's own
//! are told apart by kind first, by their words where the kind does not say enough. What is left is
//! XX000: a defect to be looked at, with the cause kept for the log.

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::parquet::errors::ParquetError;

use crate::error::{SqlError, SqlState};

/// Translates an error met while planning or running a query.
pub fn from_datafusion(error: DataFusionError) -> SqlError {
    match error {
        DataFusionError::External(cause) => match cause.downcast::<SqlError>() {
            Ok(error) => *error,
            Err(cause) => match cause.downcast::<DataFusionError>() {
                Ok(error) => from_datafusion(*error),
                Err(cause) => match cause.downcast::<ArrowError>() {
                    Ok(error) => from_arrow(*error),
                    Err(cause) => SqlError::internal(first_line(&cause.to_string())),
                },
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            from_datafusion(*inner)
        }
        DataFusionError::Shared(inner) => match std::sync::Arc::try_unwrap(inner) {
            Ok(inner) => from_datafusion(inner),
            Err(shared) => from_shared(&shared),
        },
        DataFusionError::Collection(mut errors) if !errors.is_empty() => {
            from_datafusion(errors.swap_remove(0))
        }
        DataFusionError::ArrowError(error, _) => from_arrow(*error),
        DataFusionError::SchemaError(error, _) => from_schema(*error),
        DataFusionError::ResourcesExhausted(message) => {
            SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory")
                .detail(first_line(&message))
                .hint("Raise the memory limit, or make the query hold less at a time.")
                .retryable()
        }
        DataFusionError::NotImplemented(message) => {
            SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, lower_first(&message))
        }
        DataFusionError::ObjectStore(error) => {
            let state = match error.as_ref() {
                datafusion::object_store::Error::NotFound { .. } => SqlState::UNDEFINED_FILE,
                _ => SqlState::IO_ERROR,
            };
            SqlError::new(state, "could not read from the object store").caused_by(error)
        }
        DataFusionError::IoError(error) => {
            let state = match error.kind() {
                std::io::ErrorKind::StorageFull => SqlState::DISK_FULL,
                std::io::ErrorKind::NotFound => SqlState::UNDEFINED_FILE,
                _ => SqlState::IO_ERROR,
            };
            SqlError::new(state, "could not read or write a file").caused_by(error)
        }
        // A filter that is evaluated while its file is read.
        DataFusionError::ParquetError(error) => match *error {
            ParquetError::External(cause) if cause.is::<ArrowError>() => {
                match cause.downcast::<ArrowError>() {
                    Ok(error) => from_arrow(*error),
                    Err(cause) => from_words(&cause.to_string()),
                }
            }
            error => SqlError::new(SqlState::DATA_CORRUPTED, "a Parquet file cannot be read")
                .caused_by(error),
        },
        DataFusionError::SQL(error, _) => SqlError::new(SqlState::SYNTAX_ERROR, error.to_string()),
        DataFusionError::Plan(message) => from_plan(&message),
        DataFusionError::Execution(message) => from_words(&message),
        DataFusionError::Internal(message)
            if message.contains("async functions should not be called directly") =>
        {
            SqlError::unsupported("a function that waits in this place")
                .hint("call it in a select list or in WHERE")
        }
        DataFusionError::Internal(message) => SqlError::internal(first_line(&message)),
        other => from_words(&other.to_string()),
    }
}

/// An error that several streams share is told by its words.
fn from_shared(error: &DataFusionError) -> SqlError {
    match error {
        DataFusionError::External(cause) => match cause.downcast_ref::<SqlError>() {
            Some(error) => copy(error),
            None => from_words(&error.to_string()),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            from_shared(inner)
        }
        DataFusionError::Shared(inner) => from_shared(inner),
        DataFusionError::ArrowError(error, _) => from_arrow_words(error),
        DataFusionError::ResourcesExhausted(message) => {
            from_datafusion(DataFusionError::ResourcesExhausted(message.clone()))
        }
        other => from_words(&other.to_string()),
    }
}

fn copy(error: &SqlError) -> SqlError {
    let mut copied = SqlError::new(error.state, error.message.clone());
    copied.detail = error.detail.clone();
    copied.hint = error.hint.clone();
    copied.position = error.position;
    copied.retryable = error.retryable;
    copied
}

fn from_arrow(error: ArrowError) -> SqlError {
    match error {
        ArrowError::ExternalError(cause) => match cause.downcast::<SqlError>() {
            Ok(error) => *error,
            Err(cause) => match cause.downcast::<DataFusionError>() {
                Ok(error) => from_datafusion(*error),
                Err(cause) => from_words(&cause.to_string()),
            },
        },
        other => from_arrow_words(&other),
    }
}

fn from_arrow_words(error: &ArrowError) -> SqlError {
    match error {
        ArrowError::DivideByZero => division_by_zero(),
        ArrowError::ArithmeticOverflow(_) => overflow(&error.to_string()),
        other => from_words(&other.to_string()),
    }
}

pub fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

fn overflow(message: &str) -> SqlError {
    let name = if message.contains("Int16") {
        "smallint out of range"
    } else if message.contains("Int32") || message.contains("i32") {
        "integer out of range"
    } else if message.contains("Decimal") {
        "numeric field overflow"
    } else {
        "bigint out of range"
    };
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, name)
}

fn from_schema(error: SchemaError) -> SqlError {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let relation = field.relation.as_ref().map(|relation| relation.table());
            let of_relation = |known: &datafusion::common::Column| {
                known.relation.as_ref().map(|relation| relation.table()) == relation
            };
            match relation {
                Some(name) if !valid_fields.iter().any(of_relation) => missing_relation(name),
                _ => undefined_column(relation, &field.name),
            }
        }
        SchemaError::AmbiguousReference { field } => SqlError::new(
            SqlState::AMBIGUOUS_COLUMN,
            format!(
                "column reference \"{}\" is ambiguous",
                super::naming::shown_name(&field.name)
            ),
        ),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => SqlError::new(
            SqlState::DUPLICATE_COLUMN,
            format!(
                "column \"{}\" specified more than once",
                super::naming::shown_name(&name)
            ),
        ),
    }
}

fn missing_relation(name: &str) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_TABLE,
        format!("missing FROM-clause entry for table \"{name}\""),
    )
}

pub fn undefined_column(relation: Option<&str>, name: &str) -> SqlError {
    let message = match relation {
        Some(relation) => format!("column {relation}.{name} does not exist"),
        None => format!("column \"{name}\" does not exist"),
    };
    SqlError::new(SqlState::UNDEFINED_COLUMN, message)
}

fn from_plan(message: &str) -> SqlError {
    let lower = message.to_ascii_lowercase();
    if lower.contains("aggregate functions are not allowed in the where clause") {
        return SqlError::new(
            SqlState("42803"),
            "aggregate functions are not allowed in WHERE",
        );
    }
    if lower.contains("filter with non-boolean predicate") {
        return SqlError::new(
            SqlState::DATATYPE_MISMATCH,
            "argument of WHERE must be type boolean",
        );
    }
    if lower.contains("must be in group by")
        || lower.contains("must appear in the group by")
        || lower.contains("could not be resolved from available columns")
        || lower.contains("references non-aggregate values")
    {
        let column = quoted(message).unwrap_or_default();
        let message = if column.is_empty() {
            "column must appear in the GROUP BY clause or be used in an aggregate function"
                .to_owned()
        } else {
            format!(
                "column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate \
                 function"
            )
        };
        return SqlError::new(SqlState::GROUPING_ERROR, message);
    }
    if lower.contains("aggregate function calls cannot be nested")
        || lower.contains("aggregate functions are not allowed")
    {
        return SqlError::new(SqlState::GROUPING_ERROR, lower_first(&first_line(message)));
    }
    if lower.contains("queries have different number of columns")
        || lower.contains("must have the same number of columns")
        || (lower.contains("union") && lower.contains("same number of columns"))
    {
        return SqlError::new(
            SqlState::SYNTAX_ERROR,
            "each UNION query must have the same number of columns",
        );
    }
    if lower.contains("inconsistent data length across values") {
        return SqlError::new(
            SqlState::SYNTAX_ERROR,
            "VALUES lists must all be the same length",
        );
    }
    if lower.contains("order by position") || lower.contains("order by column") {
        return SqlError::new(
            SqlState::SYNTAX_ERROR,
            "ORDER BY position is not in select list",
        );
    }
    if lower.contains("invalid qualifier") {
        let name = message
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .trim_matches(['"', '\'', '`'].as_slice());
        return missing_relation(name);
    }
    // What the planner refuses is about the statement, whatever its words.
    let mut error = from_words(message);
    if error.state == SqlState::INTERNAL_ERROR {
        error.state = SqlState("42000");
    }
    error
}

/// Tells by words what a kind of error does not tell.
fn from_words(message: &str) -> SqlError {
    let lower = message.to_ascii_lowercase();
    if lower.contains("scalar subquery") || lower.contains("more than one row") {
        return SqlError::new(
            SqlState("21000"),
            "more than one row returned by a subquery used as an expression",
        );
    }
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        return division_by_zero();
    }
    if lower.contains("overflow")
        || lower.contains("out of range")
        || lower.contains("is too large")
    {
        return overflow(message);
    }
    if lower.contains("cannot cast string") || lower.contains("error parsing") {
        return SqlError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            lower_first(&first_line(message)),
        );
    }
    if lower.contains("resources exhausted") || lower.contains("failed to allocate") {
        return SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory").retryable();
    }
    if lower.contains("not implemented")
        || lower.contains("not supported")
        || lower.contains("unsupported")
    {
        return SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            lower_first(&first_line(message)),
        );
    }
    if lower.contains("regex") {
        return SqlError::new(
            SqlState("2201B"),
            format!("invalid regular expression: {}", first_line(message)),
        );
    }
    if lower.contains("error during planning")
        || lower.contains("cannot infer")
        || lower.contains("coerce")
    {
        return SqlError::new(
            SqlState::DATATYPE_MISMATCH,
            lower_first(&first_line(message)),
        );
    }
    SqlError::internal(lower_first(&first_line(message)))
}

fn quoted(message: &str) -> Option<&str> {
    let start = message.find('"')? + 1;
    let end = message[start..].find('"')? + start;
    let name = &message[start..end];
    name.rsplit('.').next()
}

/// Causes may go on for pages; whoever asked gets the first line.
fn first_line(message: &str) -> String {
    message
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end_matches('.')
        .to_owned()
}

fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second))
            if first.is_ascii_uppercase() && !second.is_ascii_uppercase() =>
        {
            format!("{}{}", first.to_ascii_lowercase(), chars.as_str())
        }
        _ => message.to_owned(),
    }
}
