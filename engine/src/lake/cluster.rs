//! Rows that are asked for together lie together: files are sorted by the columns of the cluster key.
//!
//! One column is sorted by its values. Of several, each value becomes its rank among the values of a
//! sample, and rows are sorted by the interleaved bits of the ranks (Z-order), so that every column
//! narrows what is read, whichever is asked for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::snapshot::DataFile;
use super::{LakeError, LakeTable, TableSnapshot};
use crate::query::failure::from_datafusion;

/// The mark of a file that is sorted: by which columns.
pub(super) const CLUSTER_TAG: &str = "boathouse.clusterBy";

/// Rows a sample has, about.
const SAMPLE_ROWS: u64 = 65_536;

/// Bits of a rank: values are told apart by a 4,096th of the sample.
const RANK_BITS_MAX: usize = 12;

impl LakeTable {
    /// The rows of files, sorted by the cluster key.
    pub(super) async fn sorted(
        self: &Arc<Self>,
        snapshot: &TableSnapshot,
        files: Vec<Arc<DataFile>>,
        columns: &[String],
        state: &SessionState,
    ) -> Result<SendableRecordBatchStream, LakeError> {
        let failed = |error| LakeError::Plan(Box::new(from_datafusion(error)));
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(state.config().clone())
            .with_runtime_env(Arc::clone(state.runtime_env()))
            .build();
        let context = SessionContext::new_with_state(state);
        let provider = self.provider(&Arc::new(snapshot.with_files(files)));
        let rows = provider.snapshot().row_count().unwrap_or(0);
        let frame = context.read_table(provider).map_err(failed)?;
        let named = |name: &String| Expr::Column(datafusion::common::Column::from_name(name));
        let key = match columns {
            [column] => named(column),
            _ => {
                let wanted = columns.iter().map(named).collect::<Vec<_>>();
                let keys = frame.clone().select(wanted.clone()).map_err(failed)?;
                let keys = keys.execute_stream().await.map_err(failed)?;
                let order = ZOrder::of_sample(keys, rows / SAMPLE_ROWS + 1).await;
                ScalarUDF::from(order.map_err(failed)?).call(wanted)
            }
        };
        let sorted = frame.sort(vec![key.sort(true, false)]).map_err(failed)?;
        sorted.execute_stream().await.map_err(failed)
    }
}

/// The interleaved ranks of the values of several columns.
#[derive(Debug)]
struct ZOrder {
    signature: Signature,
    /// Of each column, ascending.
    bounds: Vec<Vec<OwnedRow>>,
    bits: usize,
}

impl PartialEq for ZOrder {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for ZOrder {}

impl std::hash::Hash for ZOrder {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bits.hash(state);
    }
}

impl ZOrder {
    /// Takes every `nth` row of a stream.
    async fn of_sample(
        mut keys: SendableRecordBatchStream,
        nth: u64,
    ) -> Result<Self, DataFusionError> {
        let width = keys.schema().fields().len().max(1);
        let bits = (u64::BITS as usize / width).clamp(1, RANK_BITS_MAX);
        let mut samples: Vec<Vec<OwnedRow>> = vec![Vec::new(); width];
        let mut next = 0;
        while let Some(batch) = keys.next().await {
            let batch = batch?;
            let rows = batch.num_rows() as u64;
            let mut chosen = Vec::new();
            while next < rows {
                chosen.push(next);
                next += nth;
            }
            next -= rows;
            let chosen = UInt64Array::from(chosen);
            for (column, sample) in batch.columns().iter().zip(&mut samples) {
                let column = take(column, &chosen, None)?;
                sample.extend(ordered(&column)?);
            }
        }
        let bounds = samples
            .into_iter()
            .map(|mut sample| {
                sample.sort_unstable();
                let step = sample.len().div_ceil(1 << bits).max(1);
                let mut bounds: Vec<_> = sample.into_iter().step_by(step).collect();
                bounds.dedup();
                bounds
            })
            .collect();
        Ok(Self {
            signature: Signature::variadic_any(Volatility::Immutable),
            bounds,
            bits,
        })
    }

    fn of(&self, columns: &[ArrayRef]) -> Result<ArrayRef, DataFusionError> {
        let rows = columns.first().map_or(0, |column| column.len());
        let mut keys = vec![0_u64; rows];
        for (number, (column, bounds)) in columns.iter().zip(&self.bounds).enumerate() {
            for (key, value) in keys.iter_mut().zip(ordered(column)?) {
                let rank = bounds.partition_point(|bound| *bound <= value);
                // As many bits as ranks are told apart by, spread over all of them.
                let rank = (rank << self.bits) / (bounds.len() + 1);
                for bit in 0..self.bits {
                    if rank >> bit & 1 == 1 {
                        let place = bit * self.bounds.len() + (self.bounds.len() - 1 - number);
                        *key |= 1 << place;
                    }
                }
            }
        }
        Ok(Arc::new(UInt64Array::from(keys)))
    }
}

/// Values as bytes that compare as they do, NULL last.
fn ordered(column: &ArrayRef) -> Result<Vec<OwnedRow>, DataFusionError> {
    let options = arrow::compute::SortOptions {
        descending: false,
        nulls_first: false,
    };
    let field = SortField::new_with_options(column.data_type().clone(), options);
    let converter = RowConverter::new(vec![field])?;
    let rows = converter.convert_columns(std::slice::from_ref(column))?;
    Ok(rows.iter().map(|row| row.owned()).collect())
}

impl ScalarUDFImpl for ZOrder {
    fn name(&self) -> &str {
        "z_order"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::UInt64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        self.of(&columns).map(ColumnarValue::Array)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::Int32Type;
    use boathouse_catalog::types::ColumnType;

    use super::super::Upkeep;
    use super::super::tests::fixture;
    use super::*;

    /// The share of stretches of 512 rows that a search for one value has to look at.
    fn share(values: &[i32], value: i32) -> f64 {
        let stretches = values.chunks(512);
        let all = stretches.len();
        let hit = stretches.filter(|stretch| {
            stretch.iter().min() <= Some(&value) && stretch.iter().max() >= Some(&value)
        });
        let hit = u32::try_from(hit.count()).unwrap();
        f64::from(hit) / f64::from(u32::try_from(all).unwrap())
    }

    async fn stored(table: &Arc<LakeTable>) -> (Vec<i32>, Vec<i32>) {
        let snapshot = table.snapshot(None).await.unwrap();
        let context = SessionContext::new_with_config(
            datafusion::prelude::SessionConfig::new().with_target_partitions(1),
        );
        let frame = context.read_table(table.provider(&snapshot)).unwrap();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for batch in frame.collect().await.unwrap() {
            a.extend(batch.column(0).as_primitive::<Int32Type>().values());
            b.extend(batch.column(1).as_primitive::<Int32Type>().values());
        }
        (a, b)
    }

    #[tokio::test]
    async fn each_column_of_the_cluster_key_narrows_what_is_read() {
        let columns = [("a", ColumnType::Integer), ("b", ColumnType::Integer)];
        let fixture = fixture(&columns, &[]).await;
        let (a, b): (Vec<i32>, Vec<i32>) = (0..40_000_i64)
            .map(|row| (row * 7919 % 40_009, row * 104_729 % 1_009))
            .map(|(a, b)| (i32::try_from(a).unwrap(), i32::try_from(b).unwrap()))
            .unzip();
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(a.clone())),
            Arc::new(Int32Array::from(b.clone())),
        ];
        fixture.append(arrays).await;
        let state = SessionContext::new().state();
        let upkeep = Upkeep {
            cluster_by: vec!["a".into(), "b".into()],
            unasked: false,
        };
        let before = stored(&fixture.table).await;
        assert!(share(&before.0, 20_000) > 0.9 && share(&before.1, 500) > 0.9);
        fixture.table.optimize(&state, &upkeep).await.unwrap();
        let after = stored(&fixture.table).await;
        assert!(share(&after.0, 20_000) < 0.3, "{}", share(&after.0, 20_000));
        assert!(share(&after.1, 500) < 0.3, "{}", share(&after.1, 500));
        let pairs = |(a, b): (Vec<i32>, Vec<i32>)| {
            let mut counts: BTreeMap<(i32, i32), usize> = BTreeMap::new();
            for pair in a.into_iter().zip(b) {
                *counts.entry(pair).or_default() += 1;
            }
            counts
        };
        assert_eq!(pairs(after), pairs((a, b)));
        // What is sorted stays as it is.
        let version = fixture.table.cached().version();
        fixture.table.optimize(&state, &upkeep).await.unwrap();
        assert_eq!(fixture.table.cached().version(), version);
    }

    #[tokio::test]
    async fn small_files_are_put_together_unasked_once_they_are_many() {
        let fixture = fixture(&[("n", ColumnType::Integer)], &[]).await;
        let state = SessionContext::new().state();
        let upkeep = Upkeep {
            cluster_by: Vec::new(),
            unasked: true,
        };
        for number in 0..40 {
            fixture
                .append(vec![Arc::new(Int32Array::from(vec![number]))])
                .await;
            fixture.table.optimize(&state, &upkeep).await.unwrap();
            let files = fixture.table.cached().files().len();
            assert!(files <= 20, "{files} files after {number} commits");
        }
        let versions = fixture.table.cached().version();
        assert!(versions < 46, "{versions} versions");
        assert_eq!(fixture.table.cached().row_count(), Some(40));
    }
}
