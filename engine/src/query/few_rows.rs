//! Plans queries that read few rows for one core.
//!
//! To deal rows out to the cores, to hash them and to merge what comes back costs the same however few
//! they are: of a small table it is most of the query, and where many ask at once it takes the cores
//! from each other. PostgreSQL too reads a small table (`min_parallel_table_scan_size`, 8 MiB) alone.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::ConfigOnlyContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// Rows that all relations of a query together may have to be read by one core.
const FEW_ROWS: usize = 100_000;

/// The other rules, told of one core where few rows are read.
#[derive(Debug)]
pub struct ByRows {
    rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
}

impl ByRows {
    pub fn new(rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>) -> Self {
        Self { rules }
    }
}

impl PhysicalOptimizerRule for ByRows {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let one_core;
        let config = if rows_read(plan.as_ref()).is_some_and(|rows| rows <= FEW_ROWS) {
            let mut options = config.clone();
            options.execution.target_partitions = 1;
            one_core = options;
            &one_core
        } else {
            config
        };
        let context = ConfigOnlyContext::new(config);
        self.rules.iter().try_fold(plan, |plan, rule| {
            rule.optimize_with_context(plan, &context)
                .map_err(|error| error.context(rule.name()))
        })
    }

    fn name(&self) -> &str {
        "by_rows"
    }

    /// Some of the rules settle whether a column can be NULL.
    fn schema_check(&self) -> bool {
        false
    }
}

/// Rows of the relations a plan reads, or as many as a product of them has; `None` when nobody knows.
fn rows_read(plan: &dyn ExecutionPlan) -> Option<usize> {
    let children = plan.children();
    if children.is_empty() {
        let statistics = StatisticsContext::new().compute(plan, &StatisticsArgs::new());
        return statistics.ok()?.num_rows.get_value().copied();
    }
    let mut rows = children.into_iter().map(|child| rows_read(child.as_ref()));
    match plan.name() {
        // What they make of a row has no bound.
        "UnnestExec" | "RecursiveQueryExec" => None,
        "CrossJoinExec" | "NestedLoopJoinExec" => rows.try_fold(1_usize, |product, rows| {
            Some(product.saturating_mul(rows?.max(1)))
        }),
        _ => rows.try_fold(0_usize, |sum, rows| Some(sum.saturating_add(rows?))),
    }
}
