//! Which PostgreSQL type an expression has, and how it becomes another.
//!
//! An expression's type is read from the field DataFusion computes for it, with the type's own name
//! in the field's metadata where Arrow does not tell (uuid, json, varchar). `None` is PostgreSQL's
//! `unknown`: a bare string literal, a NULL, a parameter without a type. It takes whatever type the
//! other side of an operator has, and is read by that type's input function at planning.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast::{BinaryOperator, DataType as SqlDataType};
use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::async_udf::AsyncScalarUDF;
use datafusion::logical_expr::expr::{Cast, Placeholder, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF};

use crate::error::{SqlError, SqlState};
use crate::function::registry::{distance, is_integer, is_number, is_text, type_name};
use crate::function::scalar::{Body, FunctionContext, PgScalar};
use crate::function::value::{Reader, Value, column};
use crate::function::{cast, text_io};

/// A type as it is written in a cast.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    Type(ColumnType),
    /// A type of object names: `regclass`, `regtype`, `regproc`, `regnamespace`, `regrole`.
    Catalog(&'static str),
}

/// The type of object identifiers.
pub fn oid_type() -> ColumnType {
    ColumnType::BigInt
}

pub fn written_type(data_type: &SqlDataType) -> Option<Written> {
    written_type_name(&data_type.to_string())
}

/// Reads a type name with its modifiers and array brackets.
pub fn written_type_name(text: &str) -> Option<Written> {
    let mut text = text.trim().to_ascii_lowercase();
    let mut dimensions = 0;
    loop {
        text = text.trim_end().to_owned();
        if text.ends_with(']') {
            text.truncate(text.rfind('[')?);
            dimensions += 1;
        } else if let Some(rest) = text.strip_suffix(" array") {
            text = rest.to_owned();
            dimensions += 1;
        } else {
            break;
        }
    }
    if let Some(element) = text
        .strip_prefix("array<")
        .and_then(|rest| rest.strip_suffix('>'))
    {
        text = element.to_owned();
        dimensions += 1;
    }
    let text = text.replace('"', "");
    let text = text.strip_prefix("pg_catalog.").unwrap_or(&text).to_owned();
    let (name, modifiers) = match (text.find('('), text.find(')')) {
        (Some(open), Some(close)) if open < close => {
            let modifiers = text[open + 1..close]
                .split(',')
                .filter_map(|part| part.trim().parse::<i64>().ok())
                .collect::<Vec<_>>();
            (
                format!("{}{}", text[..open].trim_end(), &text[close + 1..]),
                modifiers,
            )
        }
        _ => (text, Vec::new()),
    };
    let catalog = match name.as_str() {
        "regclass" => Some("regclass"),
        "regtype" => Some("regtype"),
        "regproc" | "regprocedure" => Some("regproc"),
        "regnamespace" => Some("regnamespace"),
        "regrole" => Some("regrole"),
        _ => None,
    };
    if let Some(catalog) = catalog
        && dimensions == 0
    {
        return Some(Written::Catalog(catalog));
    }
    let element = match name.as_str() {
        "oid" | "xid" | "cid" | "regclass" | "regtype" | "regproc" => oid_type(),
        "name" | "char" if name == "name" => ColumnType::Text,
        "cstring" | "pg_node_tree" | "pg_lsn" | "unknown" | "aclitem" | "anyelement"
        | "refcursor" | "inet" | "cidr" | "xml" | "tsvector" | "tsquery" | "citext" => {
            ColumnType::Text
        }
        "int2vector" => ColumnType::Array(Box::new(ColumnType::SmallInt)),
        "oidvector" => ColumnType::Array(Box::new(oid_type())),
        "string" => return None,
        other => {
            // A time's number of fractional digits is not kept: microseconds always are.
            let modifiers = if other.starts_with("time") || other.starts_with("interval") {
                &[]
            } else {
                modifiers.as_slice()
            };
            ColumnType::from_name(other, modifiers).ok()?
        }
    };
    let mut column_type = element;
    for _ in 0..dimensions.min(1) {
        column_type = ColumnType::Array(Box::new(column_type));
    }
    Some(Written::Type(column_type))
}

/// The operator of a symbol, for `OPERATOR(pg_catalog.~)` and `= ANY`.
pub fn binary_operator(symbol: &str) -> Option<BinaryOperator> {
    Some(match symbol {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "%" => BinaryOperator::Modulo,
        "||" => BinaryOperator::StringConcat,
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "&&" => BinaryOperator::PGOverlap,
        "@>" => BinaryOperator::AtArrow,
        "<@" => BinaryOperator::ArrowAt,
        "->" => BinaryOperator::Arrow,
        "->>" => BinaryOperator::LongArrow,
        _ => return None,
    })
}

/// The type of an expression; `None` when it is unknown.
pub fn type_of(expr: &Expr, schema: &DFSchema) -> Result<Option<ColumnType>, SqlError> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, None) => return Ok(None),
        Expr::Placeholder(Placeholder { field: None, .. }) => return Ok(None),
        Expr::Alias(alias) if alias.metadata.is_none() => return type_of(&alias.expr, schema),
        Expr::ScalarSubquery(subquery) => {
            let field = subquery.subquery.schema().fields().first().cloned();
            return Ok(field.map(|field| ColumnType::from_field(&field)));
        }
        _ => {}
    }
    let (_, field) = expr
        .to_field(schema)
        .map_err(super::failure::from_datafusion)?;
    if field.data_type().is_null() {
        return Ok(None);
    }
    Ok(Some(ColumnType::from_field(&field)))
}

/// The metadata that names a type, if Arrow does not tell it.
fn metadata_of(column_type: &ColumnType) -> FieldMetadata {
    FieldMetadata::new_from_field(&column_type.to_field("", true))
}

/// A literal that is known to have its type.
pub fn typed_literal(value: ScalarValue, column_type: &ColumnType) -> Expr {
    let metadata = metadata_of(column_type);
    // A text literal without metadata would be taken for an untyped one.
    let metadata = if metadata.is_empty() && is_text(column_type) {
        FieldMetadata::new([("boathouse.typed".to_owned(), "text".to_owned())].into())
    } else {
        metadata
    };
    Expr::Literal(
        value,
        if metadata.is_empty() {
            None
        } else {
            Some(metadata)
        },
    )
}

/// Says which type an expression has where Arrow alone does not.
pub fn retype(expr: Expr, column_type: &ColumnType, schema: &DFSchema) -> Expr {
    let metadata = metadata_of(column_type);
    if let Expr::Literal(value, _) = expr {
        return typed_literal(value, column_type);
    }
    let current = expr.to_field(schema).ok();
    let told = current
        .as_ref()
        .is_some_and(|(_, field)| ColumnType::from_field(field) == *column_type);
    if told {
        return expr;
    }
    if metadata.is_empty() {
        let plain: FieldRef = Arc::new(Field::new("", column_type.arrow(), true));
        let same_arrow =
            current.is_some_and(|(_, field)| *field.data_type() == column_type.arrow());
        if same_arrow && is_text(column_type) {
            // Takes the narrower type's name off again.
            let field = Arc::new(
                Field::new("text", column_type.arrow(), true)
                    .with_metadata([("boathouse.typed".to_owned(), "text".to_owned())].into()),
            );
            return Expr::Cast(Cast::new_from_field(Box::new(expr), field));
        }
        return Expr::Cast(Cast::new_from_field(Box::new(expr), plain));
    }
    let name = expr.schema_name().to_string();
    expr.alias_with_metadata(name, Some(metadata))
}

/// The value of a constant, as a literal of a type.
fn literal_from(value: &Value<'_>, column_type: &ColumnType) -> Result<Expr, SqlError> {
    let array = column(std::slice::from_ref(value), &column_type.arrow())?;
    let scalar = ScalarValue::try_from_array(&array, 0)
        .map_err(|error| SqlError::internal("a constant has no value").caused_by(error))?;
    Ok(typed_literal(scalar, column_type))
}

/// How strictly a cast is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// `CAST(x AS t)`: whatever has a cast.
    Explicit,
    /// As `Explicit`, but NULL where the value does not fit.
    Try,
}

/// The planner of one query, as far as types go.
pub struct Typist<'a> {
    pub context: &'a Arc<FunctionContext>,
    /// Types settled for parameters, by number; the first use decides.
    pub parameters: &'a std::sync::Mutex<std::collections::BTreeMap<usize, ColumnType>>,
    /// Set when a constant is read that means something else later.
    pub holds_time: &'a AtomicBool,
}

impl Typist<'_> {
    fn zone(&self) -> chrono_tz::Tz {
        self.context.session.time_zone()
    }

    fn note_time(&self, text: &str, to: &ColumnType) {
        if text_io::holds_time(text, to) {
            self.holds_time.store(true, Ordering::Relaxed);
        }
    }

    /// The type of an expression, looking up parameters that were settled before.
    pub fn type_of(&self, expr: &Expr, schema: &DFSchema) -> Result<Option<ColumnType>, SqlError> {
        if let Expr::Placeholder(Placeholder { id, field: None }) = expr
            && let Some(number) = parameter_number(id)
            && let Ok(parameters) = self.parameters.lock()
        {
            return Ok(parameters.get(&number).cloned());
        }
        type_of(expr, schema)
    }

    /// Brings an expression to a type, as an operator or a call needs it.
    pub fn coerce(&self, expr: Expr, to: &ColumnType, schema: &DFSchema) -> Result<Expr, SqlError> {
        self.cast(expr, to, schema, Strictness::Explicit)
    }

    /// Casts.
    pub fn cast(
        &self,
        expr: Expr,
        to: &ColumnType,
        schema: &DFSchema,
        strictness: Strictness,
    ) -> Result<Expr, SqlError> {
        match &expr {
            Expr::Literal(ScalarValue::Null, _) => {
                let null = ScalarValue::try_from(&to.arrow())
                    .map_err(|error| SqlError::internal("a type has no NULL").caused_by(error))?;
                return Ok(typed_literal(null, to));
            }
            Expr::Literal(ScalarValue::Utf8(Some(text)), None) => {
                self.note_time(text, to);
                let parsed = text_io::parse(text, to, self.zone());
                return match (parsed, strictness) {
                    (Ok(value), _) => literal_from(&value, to),
                    (Err(_), Strictness::Try) => literal_from(&Value::Null, to),
                    (Err(error), _) => Err(error),
                };
            }
            Expr::Placeholder(Placeholder { id, field: None }) => {
                let settled = parameter_number(id).and_then(|number| {
                    let mut parameters = self.parameters.lock().ok()?;
                    Some(
                        parameters
                            .entry(number)
                            .or_insert_with(|| to.clone())
                            .clone(),
                    )
                });
                let settled = settled.unwrap_or_else(|| to.clone());
                let field = Arc::new(settled.to_field("", true));
                let typed = Expr::Placeholder(Placeholder::new_with_field(id.clone(), Some(field)));
                return if settled == *to {
                    Ok(typed)
                } else {
                    self.cast(typed, to, schema, strictness)
                };
            }
            _ => {}
        }
        let Some(from) = self.type_of(&expr, schema)? else {
            let field = Arc::new(to.to_field("", true));
            return Ok(Expr::Cast(Cast::new_from_field(Box::new(expr), field)));
        };
        if from == *to {
            return Ok(expr);
        }
        // A constant is cast now, so that its error comes with the statement's position and its
        // value can prune.
        if let Expr::Literal(scalar, _) = &expr
            && strictness == Strictness::Explicit
        {
            let array = scalar
                .to_array()
                .map_err(|error| SqlError::internal("a constant has no column").caused_by(error))?;
            if let ScalarValue::Utf8(Some(text)) = scalar {
                self.note_time(text, to);
            }
            let reader = Reader::new(&array)?;
            let value = cast::cast_value(&reader.value(0), &from, to, self.zone())?;
            return literal_from(&value, to);
        }
        if cast::is_relabel(&from, to) {
            return Ok(retype(expr, to, schema));
        }
        if strictness == Strictness::Explicit && cast::is_native(&from, to) {
            let mut field = to.to_field("cast", true);
            if let Ok((_, source)) = expr.to_field(schema) {
                field = field.with_nullable(source.is_nullable());
            }
            return Ok(Expr::Cast(Cast::new_from_field(
                Box::new(expr),
                Arc::new(field),
            )));
        }
        if !cast::exists(&from, to) {
            return Err(SqlError::new(
                SqlState("42846"),
                format!("cannot cast type {} to {}", type_name(&from), type_name(to)),
            ));
        }
        let overload = cast::overload(&from, to, strictness == Strictness::Try);
        Ok(self.call(overload, to.clone(), vec![expr]))
    }

    pub fn call(
        &self,
        overload: Arc<crate::function::Overload>,
        return_type: ColumnType,
        arguments: Vec<Expr>,
    ) -> Expr {
        let waits = matches!(overload.body, Body::Sleep);
        let function = PgScalar::new(overload, return_type, Arc::clone(self.context));
        let function = if waits {
            AsyncScalarUDF::new(Arc::new(function)).into_scalar_udf()
        } else {
            ScalarUDF::new_from_impl(function)
        };
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), arguments))
    }

    /// Brings expressions to one type, as CASE, COALESCE, IN and a VALUES column do.
    /// Gives `None` as the type when all are unknown; they are text then.
    pub fn unify(
        &self,
        expressions: Vec<Expr>,
        schema: &DFSchema,
        construct: &str,
    ) -> Result<(Vec<Expr>, ColumnType), SqlError> {
        let mut common: Option<ColumnType> = None;
        for expression in &expressions {
            let Some(given) = self.type_of(expression, schema)? else {
                continue;
            };
            common = Some(match common {
                None => given,
                Some(before) => common_type(&before, &given).ok_or_else(|| {
                    SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "{construct} types {} and {} cannot be matched",
                            type_name(&before),
                            type_name(&given)
                        ),
                    )
                })?,
            });
        }
        let common = common.unwrap_or(ColumnType::Text);
        let expressions = expressions
            .into_iter()
            .map(|expression| self.coerce(expression, &common, schema))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((expressions, common))
    }
}

pub fn parameter_number(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse().ok()
}

/// The type two values meet in, by PostgreSQL's rules for UNION and CASE.
pub fn common_type(left: &ColumnType, right: &ColumnType) -> Option<ColumnType> {
    if left == right {
        return Some(left.clone());
    }
    if is_text(left) && is_text(right) {
        return Some(ColumnType::Text);
    }
    match (left, right) {
        (
            ColumnType::Numeric {
                precision: first,
                scale: a,
            },
            ColumnType::Numeric {
                precision: second,
                scale: b,
            },
        ) => {
            return Some(widest_numeric(*first, *a, *second, *b));
        }
        (numeric @ ColumnType::Numeric { .. }, integer)
        | (integer, numeric @ ColumnType::Numeric { .. })
            if is_integer(integer) =>
        {
            let digits = integer_digits(integer);
            let ColumnType::Numeric { precision, scale } = numeric else {
                return None;
            };
            return Some(widest_numeric(*precision, *scale, Some(digits), 0));
        }
        _ => {}
    }
    if is_number(left) && is_number(right) {
        return Some(if distance(left, right).is_some() {
            right.clone()
        } else {
            left.clone()
        });
    }
    if distance(left, right).is_some() {
        return Some(right.clone());
    }
    if distance(right, left).is_some() {
        return Some(left.clone());
    }
    None
}

/// The decimal digits an integer type may need.
pub fn integer_digits(column_type: &ColumnType) -> u8 {
    match column_type {
        ColumnType::SmallInt => 5,
        ColumnType::Integer => 10,
        _ => 19,
    }
}

/// A numeric that holds both.
pub fn widest_numeric(
    first: Option<u8>,
    first_scale: i8,
    second: Option<u8>,
    second_scale: i8,
) -> ColumnType {
    let scale = first_scale.max(second_scale);
    let whole =
        |precision: Option<u8>, scale: i8| i16::from(precision.unwrap_or(38)) - i16::from(scale);
    let digits = whole(first, first_scale).max(whole(second, second_scale)) + i16::from(scale);
    let precision = u8::try_from(digits.clamp(1, 38)).unwrap_or(38);
    if first.is_none() && second.is_none() && first_scale == second_scale {
        return ColumnType::Numeric {
            precision: None,
            scale,
        };
    }
    ColumnType::Numeric {
        precision: Some(precision),
        scale,
    }
}
