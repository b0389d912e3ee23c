//! `generate_series` over constants, row by row instead of as one array.
//!
//! A set-returning call reaches the planner as an array that is unnested. Where the arguments are the
//! same for the whole query, the unnest and the array are replaced by a leaf here, which counts as far
//! as the query reads: a series of any length takes the memory of one batch, and stops when it is
//! cancelled. Series over columns stay arrays.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use boathouse_catalog::types::ColumnType;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, Result, ScalarValue};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    ColumnarValue, EmptyRelation, Expr, Extension, LogicalPlan, Unnest, UserDefinedLogicalNode,
    UserDefinedLogicalNodeCore,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::plan::as_pg;
use crate::function::scalar::external;
use crate::function::set_returning::Series;
use crate::function::value::Reader;

/// Puts leaves in the place of unnested series of constants.
pub fn stream(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Unnest(unnest) = &node else {
            return Ok(Transformed::no(node));
        };
        Ok(match series_of(unnest) {
            Some(series) => Transformed::yes(LogicalPlan::Extension(Extension {
                node: Arc::new(series),
            })),
            None => Transformed::no(node),
        })
    })
    .map(|done| done.data)
}

/// The series that an unnest of nothing else gives.
fn series_of(unnest: &Unnest) -> Option<SeriesNode> {
    let LogicalPlan::Projection(projection) = unnest.input.as_ref() else {
        return None;
    };
    let single_row = matches!(
        projection.input.as_ref(),
        LogicalPlan::EmptyRelation(EmptyRelation {
            produce_one_row: true,
            ..
        })
    );
    let [item] = projection.expr.as_slice() else {
        return None;
    };
    if !single_row || unnest.list_type_columns.len() != 1 || unnest.schema.fields().len() != 1 {
        return None;
    }
    let mut item = item;
    while let Expr::Alias(alias) = item {
        item = &alias.expr;
    }
    let Expr::ScalarFunction(call) = item else {
        return None;
    };
    let function = as_pg(call)?;
    let constant = call.args.iter().all(|argument| {
        !argument
            .exists(|part| {
                Ok(matches!(
                    part,
                    Expr::Column(_)
                        | Expr::OuterReferenceColumn(_, _)
                        | Expr::ScalarSubquery(_)
                        | Expr::Exists(_)
                        | Expr::InSubquery(_)
                        | Expr::Unnest(_)
                ))
            })
            .unwrap_or(true)
    });
    let ColumnType::Array(element) = &function.return_type else {
        return None;
    };
    (function.overload.name == "generate_series" && constant).then(|| SeriesNode {
        zone: function.context.session.time_zone(),
        element: element.as_ref().clone(),
        arguments: call.args.clone(),
        schema: Arc::clone(&unnest.schema),
    })
}

/// A series in a logical plan. Its arguments may still hold parameters and calls.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SeriesNode {
    arguments: Vec<Expr>,
    element: ColumnType,
    zone: chrono_tz::Tz,
    schema: DFSchemaRef,
}

impl Hash for SeriesNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.arguments.hash(state);
        self.schema.hash(state);
    }
}

impl PartialOrd for SeriesNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.arguments.partial_cmp(&other.arguments)
    }
}

impl UserDefinedLogicalNodeCore for SeriesNode {
    fn name(&self) -> &str {
        "Series"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.arguments.clone()
    }

    fn fmt_for_explain(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Series")
    }

    fn with_exprs_and_inputs(
        &self,
        arguments: Vec<Expr>,
        _inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        Ok(Self {
            arguments,
            ..self.clone()
        })
    }
}

/// DataFusion's planner, and ours for series.
#[derive(Debug)]
pub struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(SeriesPlanner)])
            .create_physical_plan(plan, session)
            .await?;
        crate::function::not_empty::rewrite(plan)
    }
}

struct SeriesPlanner;

#[async_trait]
impl ExtensionPlanner for SeriesPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        _physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        planning: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<SeriesNode>() else {
            return Ok(None);
        };
        let none = DFSchema::empty();
        let one_row = super::run::one_empty_row()?;
        let mut arguments = Vec::with_capacity(node.arguments.len());
        for argument in &node.arguments {
            let value = planner
                .create_physical_expr(argument, &none, session, planning)?
                .evaluate(&one_row)?;
            arguments.push(match value {
                ColumnarValue::Scalar(value) => value,
                ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0)?,
            });
        }
        let schema: SchemaRef = Arc::new(node.schema.as_arrow().clone());
        let source = SeriesSource {
            arguments,
            element: node.element.clone(),
            zone: node.zone,
            schema: Arc::clone(&schema),
        };
        // Wrong arguments are told before the first row is.
        source.start().map_err(external)?;
        let plan = StreamingTableExec::try_new(
            schema,
            vec![Arc::new(source)],
            None,
            Vec::new(),
            false,
            None,
        )?;
        Ok(Some(Arc::new(plan)))
    }
}

/// A series ready to be counted, from the start each time.
#[derive(Debug)]
struct SeriesSource {
    arguments: Vec<ScalarValue>,
    element: ColumnType,
    zone: chrono_tz::Tz,
    schema: SchemaRef,
}

impl SeriesSource {
    /// `None` for the series of a NULL, which has no rows.
    fn start(&self) -> Result<Option<Series>, crate::SqlError> {
        if self.arguments.iter().any(ScalarValue::is_null) {
            return Ok(None);
        }
        let readers = self
            .arguments
            .iter()
            .map(|argument| {
                let array = argument
                    .to_array()
                    .map_err(super::failure::from_datafusion)?;
                Reader::new(&array)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let cells: Vec<_> = readers.iter().map(|reader| reader.value(0)).collect();
        Series::new(&cells, &self.element, self.zone).map(Some)
    }
}

impl PartitionStream for SeriesSource {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batch_rows = context.session_config().batch_size();
        let schema = Arc::clone(&self.schema);
        let first = self.start().map_err(external);
        let batches = futures::stream::try_unfold(first, move |state| {
            let schema = Arc::clone(&schema);
            async move {
                let Some(mut series) = state? else {
                    return Ok(None);
                };
                let values = series.take(batch_rows).map_err(external)?;
                if values.is_empty() {
                    return Ok(None);
                }
                let batch = RecordBatch::try_new(schema, vec![values])?;
                Ok(Some((batch, Ok(Some(series)))))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            batches,
        ))
    }
}
