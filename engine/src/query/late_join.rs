//! Drops, while a table is read, the rows that a join far above will drop.
//!
//! A hash join tells the scans of its larger side which keys its smaller side has. They skip files and row
//! groups by that, but where keys are strewn over a table they skip nothing, and rows of no use are
//! aggregated or joined to others on the way to the join. To look up each key when it is read costs more
//! than the join's own look-up: it is worth it when there is such work in between, and the smaller side
//! leaves something out. Sending rows between cores alone is less work than the look-up.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::DynamicFilterPhysicalExpr;
use datafusion::physical_expr::split_conjunction;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;

/// Turns on, scan by scan, that the keys of joins are looked up while files are read. It follows the rule
/// that gives scans the filters of joins.
#[derive(Debug, Default)]
pub struct LateBehindJoins;

impl PhysicalOptimizerRule for LateBehindJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(rewrite(&plan, Above::default())?.unwrap_or(plan))
    }

    fn name(&self) -> &str {
        "late_behind_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What is between a part of a plan and its root.
#[derive(Debug, Clone, Copy, Default)]
struct Above {
    /// A join that drops rows of this part.
    drops: bool,
    /// Work on each row, before it gets there.
    works: bool,
}

/// The plan with its scans changed, or `None` when it stays as it is.
fn rewrite(plan: &Arc<dyn ExecutionPlan>, above: Above) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        return Ok((above.drops && above.works).then(|| late(scan)).flatten());
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let further = Above {
            works: true,
            ..above
        };
        let left = rewrite(join.left(), further)?;
        let of_right = if above.drops {
            further
        } else {
            Above {
                drops: left.is_some() || is_filtered(join.left())?,
                works: false,
            }
        };
        let right = rewrite(join.right(), of_right)?;
        if left.is_none() && right.is_none() {
            return Ok(None);
        }
        let left = left.unwrap_or_else(|| Arc::clone(join.left()));
        let right = right.unwrap_or_else(|| Arc::clone(join.right()));
        return replace_children_if_necessary(Arc::clone(plan), vec![left, right]).map(Some);
    }
    let below = Above {
        // Below a filter the scan would evaluate it as well.
        drops: above.drops && !plan.is::<FilterExec>(),
        works: above.works || plan.is::<AggregateExec>(),
    };
    let mut changed = false;
    let mut children = Vec::new();
    for child in plan.children() {
        let rewritten = rewrite(child, below)?;
        changed |= rewritten.is_some();
        children.push(rewritten.unwrap_or_else(|| Arc::clone(child)));
    }
    if !changed {
        return Ok(None);
    }
    replace_children_if_necessary(Arc::clone(plan), children).map(Some)
}

/// Whether a plan leaves out some of the rows it reads.
fn is_filtered(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut filtered = false;
    plan.apply(|node| {
        filtered |= node.is::<FilterExec>();
        Ok(if filtered {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    })?;
    Ok(filtered)
}

/// The scan with the filters of joins evaluated while it reads, when they are all it has.
fn late(scan: &DataSourceExec) -> Option<Arc<dyn ExecutionPlan>> {
    let (config, source) = scan.downcast_to_file_source::<ParquetSource>()?;
    let filter = source.filter()?;
    let from_joins = split_conjunction(&filter)
        .into_iter()
        .all(|part| part.is::<DynamicFilterPhysicalExpr>());
    // The reader numbers rows after it has filtered them.
    if !from_joins || !source.table_schema().virtual_columns().is_empty() {
        return None;
    }
    let source = source.clone().with_pushdown_filters(true);
    let config = FileScanConfigBuilder::from(config.clone())
        .with_source(Arc::new(source))
        .build();
    Some(DataSourceExec::from_data_source(config))
}
