//! A PostgreSQL function as DataFusion calls it.
//!
//! The planner has chosen the overload and cast the arguments before a [`PgScalar`] exists, so here
//! nothing is coerced any more: types are final, rows are read, the body runs.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use boathouse_catalog::Snapshot;
use boathouse_catalog::types::ColumnType;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::value::{Reader, Value, column};
use crate::engine::Engine;
use crate::error::SqlError;
use crate::query::SessionInfo;

/// What a function may look at beside its arguments.
pub struct FunctionContext {
    pub session: Arc<SessionInfo>,
    /// The session's time zone, looked up once.
    pub zone: chrono_tz::Tz,
    pub snapshot: Arc<Snapshot>,
    pub engine: Option<Arc<Engine>>,
}

impl FunctionContext {
    pub fn new(
        session: Arc<SessionInfo>,
        snapshot: Arc<Snapshot>,
        engine: Option<Arc<Engine>>,
    ) -> Self {
        Self {
            zone: session.time_zone(),
            session,
            snapshot,
            engine,
        }
    }
}

#[cfg(test)]
impl FunctionContext {
    /// A context that knows no more than a time zone.
    pub fn of_zone(zone: &str) -> Self {
        let setting = ("timezone".to_owned(), zone.to_owned());
        let session = SessionInfo {
            database: String::new(),
            session_user: String::new(),
            role: Default::default(),
            role_name: String::new(),
            superuser: false,
            search_path: Vec::new(),
            settings: Arc::new([setting].into()),
            process_id: 0,
            client_address: None,
            server_address: None,
            transaction_timestamp: 0,
            statement_timestamp: 0,
            server_started_at: 0,
            in_transaction: false,
            requested_settings: Default::default(),
        };
        Self::new(Arc::new(session), Arc::default(), None)
    }
}

/// A row function.
pub type RowBody = for<'a> fn(&FunctionContext, &[Value<'a>]) -> Result<Value<'a>, SqlError>;
/// A function over whole columns; gets the result's Arrow type and the number of rows.
pub type ColumnBody = fn(&[ColumnarValue], &DataType, usize) -> Result<ColumnarValue, SqlError>;

/// A way over whole columns: what the row function gives, or `None` where the row function has to
/// say. Gets the session's time zone and the result's Arrow type.
pub type Shortcut = fn(chrono_tz::Tz, &[ColumnarValue], &DataType) -> Option<ArrayRef>;

#[derive(Clone)]
pub enum Body {
    Rows(RowBody),
    Columns(ColumnBody),
    /// A function of DataFusion's that does what PostgreSQL's does.
    Native(Arc<ScalarUDF>),
    /// Waits: see [`super::sleep`].
    Sleep,
    /// A cast; a lenient one gives NULL for what does not fit.
    Cast {
        from: ColumnType,
        to: ColumnType,
        lenient: bool,
    },
}

/// The type a call gives.
#[derive(Clone)]
pub enum Returns {
    Type(ColumnType),
    /// The type of the argument.
    SameAs(usize),
    /// The element type of an array argument.
    ElementOf(usize),
    /// An array of the argument's type.
    ArrayOf(usize),
    /// Decided by the arguments' types and those that are constants.
    Computed(fn(&[ColumnType], &[Option<ScalarValue>]) -> ColumnType),
}

/// What an argument takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    Type(ColumnType),
    /// A numeric of any precision, left as it is.
    AnyNumeric,
    AnyArray,
    Any,
}

/// One signature of a function and what it does.
#[derive(Clone)]
pub struct Overload {
    pub name: &'static str,
    pub parameters: Vec<Parameter>,
    /// How many leading parameters must be given.
    pub required: usize,
    /// Whether the last parameter may be repeated.
    pub variadic: bool,
    pub returns: Returns,
    /// NULL in, NULL out.
    pub strict: bool,
    pub volatility: Volatility,
    pub body: Body,
    /// For a body of rows that is called often.
    pub shortcut: Option<Shortcut>,
}

/// A chosen overload with its result type.
pub struct PgScalar {
    pub overload: Arc<Overload>,
    pub return_type: ColumnType,
    pub context: Arc<FunctionContext>,
    signature: Signature,
}

impl PgScalar {
    pub fn new(
        overload: Arc<Overload>,
        return_type: ColumnType,
        context: Arc<FunctionContext>,
    ) -> Self {
        let signature = Signature::variadic_any(overload.volatility);
        let signature = if overload.parameters.is_empty() {
            Signature::nullary(overload.volatility)
        } else {
            signature
        };
        Self {
            overload,
            return_type,
            context,
            signature,
        }
    }
}

impl fmt::Debug for PgScalar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PgScalar")
            .field("name", &self.overload.name)
            .finish()
    }
}

impl PartialEq for PgScalar {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.overload, &other.overload) && self.return_type == other.return_type
    }
}

impl Eq for PgScalar {}

impl Hash for PgScalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.overload.name.hash(state);
    }
}

/// Wraps an error of ours so that it travels through DataFusion unharmed.
pub fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl ScalarUDFImpl for PgScalar {
    fn name(&self) -> &str {
        self.overload.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.return_type.arrow())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        Ok(Arc::new(
            self.return_type.to_field(self.overload.name, true),
        ))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let data_type = arguments.return_field.data_type().clone();
        if let Some(shortcut) = self.overload.shortcut
            && let Some(array) = shortcut(self.context.zone, &arguments.args, &data_type)
        {
            return Ok(ColumnarValue::Array(array));
        }
        match &self.overload.body {
            Body::Native(function) => function.invoke_with_args(arguments),
            Body::Columns(body) => {
                body(&arguments.args, &data_type, arguments.number_rows).map_err(external)
            }
            Body::Cast { from, to, lenient } => {
                let zone = self.context.zone;
                run_rows(
                    |values| {
                        let value = values.first().unwrap_or(&Value::Null);
                        match super::cast::cast_value(value, from, to, zone) {
                            Err(_) if *lenient => Ok(Value::Null),
                            done => done,
                        }
                    },
                    true,
                    &arguments.args,
                    arguments.number_rows,
                    &data_type,
                )
                .map_err(external)
            }
            Body::Sleep => Err(external(SqlError::internal(
                "a function that waits was called without waiting",
            ))),
            Body::Rows(body) => run_rows(
                |values| body(&self.context, values),
                self.overload.strict,
                &arguments.args,
                arguments.number_rows,
                &data_type,
            )
            .map_err(external),
        }
    }
}

/// Runs a row function over columns; once when every argument is a constant.
pub fn run_rows<'f>(
    body: impl for<'a> Fn(&[Value<'a>]) -> Result<Value<'a>, SqlError> + 'f,
    strict: bool,
    arguments: &[ColumnarValue],
    row_count: usize,
    data_type: &DataType,
) -> Result<ColumnarValue, SqlError> {
    let constant = arguments
        .iter()
        .all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
    let rows = if constant && !arguments.is_empty() {
        1
    } else {
        row_count
    };
    let mut readers = Vec::with_capacity(arguments.len());
    for argument in arguments {
        readers.push(match argument {
            ColumnarValue::Array(array) => (Reader::new(array)?, false),
            ColumnarValue::Scalar(scalar) => {
                let array = scalar.to_array().map_err(|error| {
                    SqlError::internal("constant has no column").caused_by(error)
                })?;
                (Reader::new(&array)?, true)
            }
        });
    }
    let mut results = Vec::with_capacity(rows);
    let mut cells = Vec::with_capacity(readers.len());
    for row in 0..rows {
        cells.clear();
        cells.extend(
            readers
                .iter()
                .map(|(reader, fixed)| reader.value(if *fixed { 0 } else { row })),
        );
        if strict && cells.iter().any(Value::is_null) {
            results.push(Value::Null);
        } else {
            results.push(body(&cells)?);
        }
    }
    let array = column(&results, data_type)?;
    if constant && !arguments.is_empty() {
        let scalar = ScalarValue::try_from_array(&array, 0)
            .map_err(|error| SqlError::internal("constant has no value").caused_by(error))?;
        return Ok(ColumnarValue::Scalar(scalar));
    }
    Ok(ColumnarValue::Array(array))
}
