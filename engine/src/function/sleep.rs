//! `pg_sleep`: waits without holding a thread.
//!
//! A row function runs while its query is polled: sleeping there would stall every session whose work
//! is on the same thread, and nothing could cancel it. So this one is of DataFusion's asynchronous
//! kind, which is evaluated beside the query in a select list and in WHERE, and nowhere else. Dropping
//! the query ends the wait at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::async_udf::AsyncScalarUDFImpl;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::registry::Builder;
use super::scalar::PgScalar;

pub fn register(functions: &mut Builder) {
    functions.sleeping("pg_sleep(double precision) text");
}

#[async_trait]
impl AsyncScalarUDFImpl for PgScalar {
    /// Sleeps for every row in turn, which takes as long as sleeping for all at once.
    async fn invoke_async_with_args(
        &self,
        arguments: ScalarFunctionArgs,
    ) -> DataFusionResult<ColumnarValue> {
        let rows = arguments.number_rows;
        let seconds = match arguments.args.into_iter().next() {
            Some(argument) => argument.into_array(rows)?,
            None => return Ok(ColumnarValue::Scalar(Some(String::new()).into())),
        };
        let seconds = seconds.as_primitive::<Float64Type>();
        let total: f64 = seconds.iter().flatten().map(|one| one.max(0.0)).sum();
        tokio::time::sleep(Duration::try_from_secs_f64(total).unwrap_or(Duration::MAX)).await;
        let slept: StringArray = seconds.iter().map(|one| one.map(|_| "")).collect();
        Ok(ColumnarValue::Array(Arc::new(slept) as ArrayRef))
    }
}
