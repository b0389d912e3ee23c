//! Every function by name, and which overload a call means.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use boathouse_catalog::types::ColumnType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Volatility;

use super::scalar::{Body, ColumnBody, Overload, Parameter, Returns, RowBody, Shortcut};
use crate::error::{SqlError, SqlState};

/// The functions of all families. Built once; a signature that does not parse is a defect and is
/// caught by a test of this module.
static FUNCTIONS: LazyLock<HashMap<&'static str, Vec<Arc<Overload>>>> = LazyLock::new(|| {
    let mut builder = Builder::default();
    super::text::register(&mut builder);
    super::format_text::register(&mut builder);
    super::regexp::register(&mut builder);
    super::number::register(&mut builder);
    super::datetime::register(&mut builder);
    super::interval::register(&mut builder);
    super::to_char::register(&mut builder);
    super::json::register(&mut builder);
    super::system::register(&mut builder);
    super::set_returning::register(&mut builder);
    super::sleep::register(&mut builder);
    super::operator::register(&mut builder);
    super::shortcut::register(&mut builder);
    builder.functions
});

/// Collects the overloads of the families. A signature is written
/// `name(type, [optional type], variadic type) result`; `any`, `anyarray` and a bare `numeric` take
/// what they are given; a result is a type, `$0` (the type of argument 0), `$0[]` or `$0.element`.
#[derive(Default)]
pub struct Builder {
    functions: HashMap<&'static str, Vec<Arc<Overload>>>,
}

impl Builder {
    /// A strict, immutable row function.
    pub fn rows(&mut self, signature: &'static str, body: RowBody) {
        self.add(
            signature,
            true,
            Volatility::Immutable,
            None,
            Body::Rows(body),
        );
    }

    /// A row function that sees NULLs.
    pub fn rows_with_null(&mut self, signature: &'static str, body: RowBody) {
        self.add(
            signature,
            false,
            Volatility::Immutable,
            None,
            Body::Rows(body),
        );
    }

    /// A row function of the session or the catalog.
    pub fn stable(&mut self, signature: &'static str, body: RowBody) {
        self.add(signature, true, Volatility::Stable, None, Body::Rows(body));
    }

    /// A row function that may differ from one row to the next.
    pub fn volatile(&mut self, signature: &'static str, body: RowBody) {
        self.add(
            signature,
            false,
            Volatility::Volatile,
            None,
            Body::Rows(body),
        );
    }

    /// A function that waits.
    pub fn sleeping(&mut self, signature: &'static str) {
        self.add(signature, true, Volatility::Volatile, None, Body::Sleep);
    }

    /// A strict row function whose type depends on its arguments.
    pub fn computed(
        &mut self,
        signature: &'static str,
        returns: fn(&[ColumnType], &[Option<ScalarValue>]) -> ColumnType,
        body: RowBody,
    ) {
        let returns = Some(Returns::Computed(returns));
        self.add(
            signature,
            true,
            Volatility::Immutable,
            returns,
            Body::Rows(body),
        );
    }

    /// A function over columns whose type depends on its arguments.
    pub fn columns(
        &mut self,
        signature: &'static str,
        returns: Option<fn(&[ColumnType], &[Option<ScalarValue>]) -> ColumnType>,
        body: ColumnBody,
    ) {
        let returns = returns.map(Returns::Computed);
        self.add(
            signature,
            true,
            Volatility::Immutable,
            returns,
            Body::Columns(body),
        );
    }

    /// A function of DataFusion's, by its name there.
    pub fn native(&mut self, signature: &'static str, name: &str) {
        let function = crate::query::built_in(name);
        debug_assert!(function.is_some(), "DataFusion has no function \"{name}\"");
        if let Some(function) = function {
            let volatility = function.signature().volatility;
            self.add(signature, true, volatility, None, Body::Native(function));
        }
    }

    fn add(
        &mut self,
        signature: &'static str,
        strict: bool,
        volatility: Volatility,
        returns: Option<Returns>,
        body: Body,
    ) {
        let Some((name, parameters, required, variadic, written)) = parse_signature(signature)
        else {
            debug_assert!(false, "signature \"{signature}\" does not parse");
            return;
        };
        let returns = returns.unwrap_or(written);
        self.functions
            .entry(name)
            .or_default()
            .push(Arc::new(Overload {
                name,
                parameters,
                required,
                variadic,
                returns,
                strict,
                volatility,
                body,
                shortcut: None,
            }));
    }

    /// Adds a way over whole columns to a row function.
    pub fn shortcut(&mut self, signature: &'static str, shortcut: Shortcut) {
        let overload = parse_signature(signature)
            .and_then(|(name, parameters, ..)| {
                self.functions
                    .get_mut(name)?
                    .iter_mut()
                    .find(|overload| overload.parameters == parameters)
            })
            .and_then(Arc::get_mut);
        debug_assert!(overload.is_some(), "no function \"{signature}\"");
        if let Some(overload) = overload {
            overload.shortcut = Some(shortcut);
        }
    }
}

type Signature = (&'static str, Vec<Parameter>, usize, bool, Returns);

fn parse_signature(signature: &'static str) -> Option<Signature> {
    let open = signature.find('(')?;
    let close = signature.rfind(')')?;
    let name = &signature[..open];
    let mut parameters = Vec::new();
    let mut required = 0;
    let mut variadic = false;
    for written in signature[open + 1..close]
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
    {
        let mut type_name = written;
        let optional = type_name.starts_with('[');
        type_name = type_name.trim_matches(['[', ']'].as_slice());
        let array = written.ends_with("[]");
        if let Some(rest) = type_name.strip_prefix("variadic ") {
            variadic = true;
            type_name = rest;
        }
        if !optional && !variadic {
            required += 1;
        }
        parameters.push(match type_name.trim() {
            "any" => Parameter::Any,
            "anyarray" => Parameter::AnyArray,
            "numeric" => Parameter::AnyNumeric,
            name => {
                let element = ColumnType::from_name(name, &[]).ok()?;
                Parameter::Type(if array {
                    ColumnType::Array(Box::new(element))
                } else {
                    element
                })
            }
        });
    }
    let returns = match signature[close + 1..].trim() {
        "$0" => Returns::SameAs(0),
        "$1" => Returns::SameAs(1),
        "$0[]" => Returns::ArrayOf(0),
        "$0.element" => Returns::ElementOf(0),
        written => match written.strip_suffix("[]") {
            Some(element) => Returns::Type(ColumnType::Array(Box::new(
                ColumnType::from_name(element, &[]).ok()?,
            ))),
            None => Returns::Type(ColumnType::from_name(written, &[]).ok()?),
        },
    };
    Some((name, parameters, required, variadic, returns))
}

/// What a call means: the overload, the type each argument is cast to (`None`: as it is), the result.
pub struct Resolved {
    pub overload: Arc<Overload>,
    pub argument_types: Vec<Option<ColumnType>>,
    pub return_type: ColumnType,
}

/// Whether any overload has this name.
pub fn exists(name: &str) -> bool {
    FUNCTIONS.contains_key(name)
}

/// Every overload, for `pg_proc`.
pub fn all() -> impl Iterator<Item = &'static Arc<Overload>> {
    FUNCTIONS.values().flatten()
}

/// Resolves a call. An argument of type `None` is an untyped literal or parameter.
/// `constants` are the values of those arguments that are known.
pub fn resolve(
    name: &str,
    arguments: &[Option<ColumnType>],
    constants: &[Option<ScalarValue>],
) -> Option<Result<Resolved, SqlError>> {
    let overloads = FUNCTIONS.get(name)?;
    let best = overloads
        .iter()
        .filter_map(|overload| Some((score(overload, arguments)?, overload)))
        .min_by_key(|(score, _)| *score);
    let Some((_, overload)) = best else {
        return Some(Err(undefined(name, arguments)));
    };
    let argument_types = arguments
        .iter()
        .enumerate()
        .map(|(index, given)| target(overload, index, given))
        .collect::<Vec<_>>();
    let types = arguments
        .iter()
        .zip(&argument_types)
        .map(|(given, target)| {
            target
                .clone()
                .or_else(|| given.clone())
                .unwrap_or(ColumnType::Text)
        })
        .collect::<Vec<_>>();
    let return_type = match &overload.returns {
        Returns::Type(column_type) => column_type.clone(),
        Returns::SameAs(index) => types.get(*index).cloned().unwrap_or(ColumnType::Text),
        Returns::ArrayOf(index) => ColumnType::Array(Box::new(
            types.get(*index).cloned().unwrap_or(ColumnType::Text),
        )),
        Returns::ElementOf(index) => match types.get(*index) {
            Some(ColumnType::Array(element)) => (**element).clone(),
            _ => ColumnType::Text,
        },
        Returns::Computed(compute) => compute(&types, constants),
    };
    Some(Ok(Resolved {
        overload: Arc::clone(overload),
        argument_types,
        return_type,
    }))
}

/// 42883, in PostgreSQL's words.
pub fn undefined(name: &str, arguments: &[Option<ColumnType>]) -> SqlError {
    let types = arguments
        .iter()
        .map(|argument| argument.as_ref().map_or("unknown".to_owned(), type_name))
        .collect::<Vec<_>>()
        .join(", ");
    SqlError::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("function {name}({types}) does not exist"),
    )
    .hint(
        "No function matches the given name and argument types. You might need to add \
             explicit type casts.",
    )
}

/// A type's name without its modifiers, as error messages print it.
pub fn type_name(column_type: &ColumnType) -> String {
    match column_type {
        ColumnType::Numeric { .. } => "numeric".to_owned(),
        ColumnType::Varchar(_) => "character varying".to_owned(),
        ColumnType::Char(_) => "character".to_owned(),
        ColumnType::Array(element) => format!("{}[]", type_name(element)),
        other => other.sql_name(),
    }
}

fn parameter(overload: &Overload, index: usize) -> Option<&Parameter> {
    overload.parameters.get(index).or_else(|| {
        if overload.variadic {
            overload.parameters.last()
        } else {
            None
        }
    })
}

/// How far a call is from an overload; `None` when it does not fit.
fn score(overload: &Overload, arguments: &[Option<ColumnType>]) -> Option<u32> {
    let most = overload.parameters.len();
    if arguments.len() < overload.required || (arguments.len() > most && !overload.variadic) {
        return None;
    }
    let mut score = 0;
    for (index, argument) in arguments.iter().enumerate() {
        let parameter = parameter(overload, index)?;
        score += match (parameter, argument) {
            // Whatever takes anything takes an untyped literal as text.
            (Parameter::Any, None) => 1,
            (Parameter::Any, _) => 40,
            (Parameter::AnyArray, Some(ColumnType::Array(_))) => 0,
            (Parameter::AnyArray, None) => 20,
            (Parameter::AnyArray, _) => return None,
            (Parameter::AnyNumeric, Some(ColumnType::Numeric { .. })) => 0,
            (Parameter::AnyNumeric, Some(other)) => distance(other, &NUMERIC)?,
            (Parameter::AnyNumeric, None) => 6,
            // An untyped literal prefers text, then the preferred type of its category.
            (Parameter::Type(ColumnType::Text), None) => 1,
            (Parameter::Type(ColumnType::Double | ColumnType::TimestampTz), None) => 2,
            (Parameter::Type(_), None) => 4,
            (Parameter::Type(wanted), Some(given)) => distance(given, wanted)?,
        };
    }
    Some(score + u32::try_from(most.saturating_sub(arguments.len())).unwrap_or(0))
}

const NUMERIC: ColumnType = ColumnType::Numeric {
    precision: None,
    scale: 10,
};

/// The type an argument has to be cast to, or `None` to leave it.
fn target(overload: &Overload, index: usize, given: &Option<ColumnType>) -> Option<ColumnType> {
    match (parameter(overload, index)?, given) {
        (Parameter::Any, None) => Some(ColumnType::Text),
        (Parameter::Any | Parameter::AnyArray, _) => None,
        (Parameter::AnyNumeric, Some(ColumnType::Numeric { .. })) => None,
        (Parameter::AnyNumeric, Some(integer)) if is_integer(integer) => {
            Some(ColumnType::Numeric {
                precision: Some(20),
                scale: 0,
            })
        }
        (Parameter::AnyNumeric, _) => Some(NUMERIC),
        (Parameter::Type(wanted), Some(given)) if same(wanted, given) => None,
        (Parameter::Type(wanted), _) => Some(wanted.clone()),
    }
}

pub fn is_integer(column_type: &ColumnType) -> bool {
    matches!(
        column_type,
        ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt
    )
}

pub fn is_number(column_type: &ColumnType) -> bool {
    is_integer(column_type)
        || matches!(
            column_type,
            ColumnType::Numeric { .. } | ColumnType::Real | ColumnType::Double
        )
}

pub fn is_text(column_type: &ColumnType) -> bool {
    matches!(
        column_type,
        ColumnType::Text | ColumnType::Varchar(_) | ColumnType::Char(_)
    )
}

/// Whether a value of one type is already one of the other, in memory too.
pub fn same(wanted: &ColumnType, given: &ColumnType) -> bool {
    wanted == given || (is_text(wanted) && is_text(given))
}

/// The cost of PostgreSQL's implicit cast between two types; `None` when there is none.
pub fn distance(from: &ColumnType, to: &ColumnType) -> Option<u32> {
    if same(to, from) {
        return Some(u32::from(from != to));
    }
    let rank = |column_type: &ColumnType| {
        Some(match column_type {
            ColumnType::SmallInt => 1,
            ColumnType::Integer => 2,
            ColumnType::BigInt => 3,
            ColumnType::Numeric { .. } => 4,
            ColumnType::Real => 5,
            ColumnType::Double => 6,
            _ => return None,
        })
    };
    if let (Some(from), Some(to)) = (rank(from), rank(to)) {
        // A numeric argument of a float function goes to double, the preferred type.
        return if from < to {
            Some(if to == 6 { 3 } else { 2 + to - from })
        } else {
            None
        };
    }
    match (from, to) {
        (ColumnType::Numeric { .. }, ColumnType::Numeric { .. }) => Some(0),
        (ColumnType::Date, ColumnType::Timestamp) => Some(5),
        (ColumnType::Date, ColumnType::TimestampTz) => Some(4),
        (ColumnType::Timestamp, ColumnType::TimestampTz) => Some(4),
        (ColumnType::Time, ColumnType::Interval) => Some(4),
        (ColumnType::Array(from), ColumnType::Array(to)) => distance(from, to),
        _ => extra_distance(from, to),
    }
}

/// Implicit casts among the types of the system catalogs.
fn extra_distance(from: &ColumnType, to: &ColumnType) -> Option<u32> {
    let _ = (from, to);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_parses() {
        assert!(FUNCTIONS.len() > 100);
    }

    #[test]
    fn an_untyped_literal_prefers_text_and_an_integer_widens() {
        let resolved = resolve("upper", &[None], &[None]).unwrap().unwrap();
        assert_eq!(resolved.return_type, ColumnType::Text);
        let resolved = resolve("sqrt", &[Some(ColumnType::Integer)], &[None])
            .unwrap()
            .unwrap();
        assert_eq!(resolved.return_type, ColumnType::Double);
    }
}
