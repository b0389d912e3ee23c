//! Makes queries stop when they are told to.
//!
//! A stopped query's tasks end where they next yield. DataFusion's leaves yield every so many
//! batches, which is enough while an operator gives about as many rows as it takes. One that
//! multiplies them (a join, an unnest) can compute for minutes on one batch of a leaf: a cancelled
//! cross join would go on burning a core. So each of these yields on its own account as well.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

/// Puts a point where tasks yield above every operator that multiplies rows.
#[derive(Debug, Default)]
pub struct YieldAboveMultipliers;

impl PhysicalOptimizerRule for YieldAboveMultipliers {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let name = plan.name();
            if name.ends_with("JoinExec") || name == "UnnestExec" {
                let yielding: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(plan));
                return Ok(Transformed::yes(yielding));
            }
            Ok(Transformed::no(plan))
        })
        .data()
    }

    fn name(&self) -> &str {
        "yield_above_multipliers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
