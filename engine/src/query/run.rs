//! Runs planned queries: optimizes once, keeps what may be kept, streams the rows.
//!
//! An optimized plan is kept with the [`PlannedQuery`]. A query of constants alone is answered from
//! the rows themselves, without a physical plan. A plan that reads the session or the clock is
//! optimized anew each time, because the optimizer folds such calls into constants.

use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::task::{Context, Poll};

use boathouse_catalog::types::ColumnType;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::common::{DataFusionError, ParamValues, Result as DataFusionResult, ScalarValue};
use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use futures::{Stream, StreamExt};

use super::cooperate::YieldAboveMultipliers;
use super::failure::from_datafusion;
use super::few_rows::ByRows;
use super::late_join::LateBehindJoins;
use super::series::Planner;
use super::{PlannedQuery, QueryContext, plan};
use crate::error::SqlError;

/// Rows of a batch: joins and aggregates of TPC-H take a tenth less time than with 8,192, and a wide
/// result still stays small on the way to the client.
const BATCH_ROWS: usize = 16_384;

/// One state per runtime: it holds the optimizer's rules and nothing of a session.
static STATES: LazyLock<Mutex<Vec<(Weak<RuntimeEnv>, Arc<SessionState>)>>> =
    LazyLock::new(Mutex::default);

/// The optimizer, the physical planner and the runtime.
pub fn session_state(context: &QueryContext) -> Arc<SessionState> {
    state_of(&context.engine.runtime)
}

/// The same for work that is done in no session.
pub fn state_of(runtime: &Arc<RuntimeEnv>) -> Arc<SessionState> {
    let make = || {
        let mut config = SessionConfig::new()
            .with_batch_size(BATCH_ROWS)
            .with_information_schema(false)
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.sql_parser.map_string_types_to_utf8view = false;
        options.execution.parquet.schema_force_view_types = false;
        options.execution.time_zone = Some("UTC".into());
        let mut rules = PhysicalOptimizer::new().rules;
        rules.push(Arc::new(YieldAboveMultipliers));
        rules.push(Arc::new(LateBehindJoins));
        Arc::new(
            SessionStateBuilder::new_with_default_features()
                .with_config(config)
                .with_physical_optimizer_rules(vec![Arc::new(ByRows::new(rules))])
                .with_query_planner(Arc::new(Planner))
                .with_runtime_env(Arc::clone(runtime))
                .build(),
        )
    };
    let Ok(mut states) = STATES.lock() else {
        return make();
    };
    states.retain(|(weak, _)| weak.strong_count() > 0);
    if let Some((_, state)) = states
        .iter()
        .find(|(weak, _)| std::ptr::eq(weak.as_ptr(), Arc::as_ptr(runtime)))
    {
        return Arc::clone(state);
    }
    let state = make();
    states.push((Arc::downgrade(runtime), Arc::clone(&state)));
    state
}

/// What is kept of a planned query between its runs.
pub struct Kept {
    optimized: LogicalPlan,
    rows: Option<RecordBatch>,
}

/// Optimizes a plan that needs neither parameters nor the session, or gives what was kept.
fn kept(context: &QueryContext, planned: &PlannedQuery) -> Result<Arc<Kept>, SqlError> {
    if let Some(kept) = planned.kept.get() {
        return Ok(Arc::clone(kept));
    }
    let optimized = optimize(context, planned.plan.clone())?;
    let rows = if planned.parameters.is_empty() {
        constant_rows(&optimized, &planned.fields)?
    } else {
        None
    };
    let kept = Arc::new(Kept { optimized, rows });
    Ok(Arc::clone(planned.kept.get_or_init(|| kept)))
}

/// Runs the optimizer.
pub fn optimize(context: &QueryContext, plan: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    session_state(context)
        .optimize(&plan)
        .map_err(from_datafusion)
}

/// The rows of `SELECT` over nothing, when every item is a constant.
fn constant_rows(plan: &LogicalPlan, fields: &SchemaRef) -> Result<Option<RecordBatch>, SqlError> {
    let LogicalPlan::Projection(projection) = plan else {
        return Ok(None);
    };
    let LogicalPlan::EmptyRelation(empty) = projection.input.as_ref() else {
        return Ok(None);
    };
    if !empty.produce_one_row {
        return Ok(None);
    }
    let mut columns = Vec::with_capacity(projection.expr.len());
    for item in &projection.expr {
        let mut item = item;
        while let Expr::Alias(alias) = item {
            item = &alias.expr;
        }
        let Expr::Literal(value, _) = item else {
            return Ok(None);
        };
        columns.push(value.to_array().map_err(from_datafusion)?);
    }
    shape(columns, 1, fields).map(Some).map_err(from_datafusion)
}

/// A batch of one row and no columns, for expressions over nothing.
pub fn one_empty_row() -> DataFusionResult<RecordBatch> {
    let schema = Arc::new(datafusion::arrow::datatypes::Schema::empty());
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(schema, Vec::new(), &options).map_err(DataFusionError::from)
}

/// Gives columns the result's names and types.
fn shape(
    columns: Vec<ArrayRef>,
    row_count: usize,
    fields: &SchemaRef,
) -> DataFusionResult<RecordBatch> {
    let columns = columns
        .into_iter()
        .zip(fields.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(column)
            } else {
                cast(&column, field.data_type()).map_err(DataFusionError::from)
            }
        })
        .collect::<DataFusionResult<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    // Nullability is a claim of the plan's; what the rows hold is what counts.
    let relaxed = fields
        .fields()
        .iter()
        .zip(&columns)
        .any(|(field, column)| !field.is_nullable() && column.null_count() > 0);
    let schema = if relaxed {
        Arc::new(datafusion::arrow::datatypes::Schema::new(
            fields
                .fields()
                .iter()
                .map(|field| field.as_ref().clone().with_nullable(true))
                .collect::<Vec<_>>(),
        ))
    } else {
        Arc::clone(fields)
    };
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(DataFusionError::from)
}

fn parameter_values(types: &[ColumnType], values: &[ScalarValue]) -> ParamValues {
    ParamValues::List(
        types
            .iter()
            .zip(values)
            .map(|(column_type, value)| {
                let metadata = FieldMetadata::new_from_field(&column_type.to_field("", true));
                let metadata = if metadata.is_empty() {
                    None
                } else {
                    Some(metadata)
                };
                ScalarAndMetadata::new(value.clone(), metadata)
            })
            .collect(),
    )
}

/// Runs a planned query once.
pub async fn execute(
    context: &QueryContext,
    planned: &PlannedQuery,
    parameters: &[ScalarValue],
) -> Result<SendableRecordBatchStream, SqlError> {
    if parameters.len() < planned.parameters.len() {
        return Err(SqlError::new(
            crate::error::SqlState::PROTOCOL_VIOLATION,
            format!(
                "bind message supplies {} parameters, but the statement requires {}",
                parameters.len(),
                planned.parameters.len()
            ),
        ));
    }
    let fields = Arc::clone(&planned.fields);
    let optimized = if planned.session_bound {
        let plan = plan::rebind(planned.plan.clone(), context)?;
        let plan = bind_parameters(plan, planned, parameters)?;
        let optimized = optimize(context, plan)?;
        if let Some(rows) = constant_rows(&optimized, &fields)? {
            return Ok(one_batch(rows, fields));
        }
        optimized
    } else {
        let kept = kept(context, planned)?;
        if let Some(rows) = &kept.rows {
            return Ok(one_batch(rows.clone(), fields));
        }
        bind_parameters(kept.optimized.clone(), planned, parameters)?
    };
    let state = session_state(context);
    let physical = state
        .query_planner()
        .create_physical_plan(&optimized, state.as_ref())
        .await
        .map_err(from_datafusion)?;
    let stream = execute_stream(physical, state.task_ctx()).map_err(from_datafusion)?;
    Ok(Box::pin(Shaped {
        inner: stream,
        fields,
    }))
}

fn bind_parameters(
    plan: LogicalPlan,
    planned: &PlannedQuery,
    parameters: &[ScalarValue],
) -> Result<LogicalPlan, SqlError> {
    if planned.parameters.is_empty() {
        return Ok(plan);
    }
    plan.replace_params_with_values(&parameter_values(&planned.parameters, parameters))
        .map_err(from_datafusion)
}

fn one_batch(rows: RecordBatch, fields: SchemaRef) -> SendableRecordBatchStream {
    Box::pin(Once {
        rows: Some(rows),
        fields,
    })
}

/// A stream of one batch.
struct Once {
    rows: Option<RecordBatch>,
    fields: SchemaRef,
}

impl Stream for Once {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.rows.take().map(Ok))
    }

    /// Known, which tells the caller that nothing is left to compute.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.rows.is_some());
        (left, Some(left))
    }
}

impl RecordBatchStream for Once {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.fields)
    }
}

/// A plan's stream with the result's names and types.
struct Shaped {
    inner: SendableRecordBatchStream,
    fields: SchemaRef,
}

impl Stream for Shaped {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let fields = Arc::clone(&self.fields);
        self.inner.poll_next_unpin(context).map(|next| {
            next.map(|batch| {
                let batch = batch?;
                let row_count = batch.num_rows();
                shape(batch.columns().to_vec(), row_count, &fields)
            })
        })
    }
}

impl RecordBatchStream for Shaped {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.fields)
    }
}
