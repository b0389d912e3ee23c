//! What DataFusion's SQL planner is told: the relations already resolved, the functions, the options.
//!
//! Nothing is registered anywhere: the provider lives as long as the planning of one query.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, TableReference, plan_err};
use datafusion::datasource::{cte_worktable::CteWorkTable, provider_as_source};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};

/// DataFusion's functions by name, for those PostgreSQL has too.
pub struct BuiltIn {
    pub scalars: Arc<HashMap<String, Arc<ScalarUDF>>>,
    pub aggregates: HashMap<String, Arc<AggregateUDF>>,
    pub windows: HashMap<String, Arc<WindowUDF>>,
}

pub static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| {
    use datafusion::execution::SessionStateDefaults as Defaults;
    let mut scalars = HashMap::new();
    for function in Defaults::default_scalar_functions() {
        for alias in function.aliases() {
            scalars.insert(alias.clone(), Arc::clone(&function));
        }
        scalars.insert(function.name().to_owned(), function);
    }
    let mut aggregates = HashMap::new();
    for function in Defaults::default_aggregate_functions() {
        for alias in function.aliases() {
            aggregates.insert(alias.clone(), Arc::clone(&function));
        }
        aggregates.insert(function.name().to_owned(), function);
    }
    let mut windows = HashMap::new();
    for function in Defaults::default_window_functions() {
        for alias in function.aliases() {
            windows.insert(alias.clone(), Arc::clone(&function));
        }
        windows.insert(function.name().to_owned(), function);
    }
    BuiltIn {
        scalars: Arc::new(scalars),
        aggregates,
        windows,
    }
});

/// Serves one planning.
pub struct Provider {
    /// By the name the resolver gave.
    pub sources: HashMap<String, Arc<dyn TableSource>>,
    pub planners: Vec<Arc<dyn ExprPlanner>>,
    pub options: Arc<ConfigOptions>,
}

impl ContextProvider for Provider {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        self.sources.get(name.table()).cloned().ok_or_else(|| {
            DataFusionError::Plan(format!("relation \"{}\" is not resolved", name.table()))
        })
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(
            name, schema,
        ))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        None
    }

    fn get_function_meta(&self, _name: &str) -> Option<Arc<ScalarUDF>> {
        // Every scalar call reaches the binder as an operator; none is left for DataFusion.
        None
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        BUILT_IN.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        BUILT_IN.windows.get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn get_table_function_source(
        &self,
        name: &str,
        _arguments: Vec<datafusion::logical_expr::Expr>,
    ) -> Result<Arc<dyn TableSource>> {
        plan_err!("function {name} is not a relation")
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        BUILT_IN.aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        BUILT_IN.windows.keys().cloned().collect()
    }
}
