//! Changes applied by key against a plain map, whoever else changes the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use boathouse_catalog::types::ColumnType;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use super::key_index_tests::Draw;
use super::tests::{Fixture, fixture_with};
use super::{ApplyRequest, Change, ChangeBatch, LakeError, TransactionMark, Upkeep};

type Row = (Option<i64>, Option<String>);
type Model = BTreeMap<i64, Row>;

const COLUMNS: [(&str, ColumnType); 3] = [
    ("k", ColumnType::BigInt),
    ("a", ColumnType::BigInt),
    ("b", ColumnType::Text),
];

/// One change as the source tells it; `None` for a column it does not name.
#[derive(Debug, Clone)]
struct Told {
    change: Change,
    before: i64,
    key: i64,
    a: Option<Option<i64>>,
    b: Option<Option<String>>,
}

impl Told {
    fn upsert(key: i64, a: Option<Option<i64>>, b: Option<Option<String>>) -> Self {
        let change = Change::Upsert;
        Self {
            change,
            before: key,
            key,
            a,
            b,
        }
    }

    fn delete(key: i64) -> Self {
        Self {
            change: Change::Delete,
            ..Self::upsert(key, None, None)
        }
    }

    fn apply(&self, model: &mut Model) {
        let old = model.remove(&self.before);
        if self.change == Change::Delete {
            return;
        }
        let (mut a, mut b) = old.unwrap_or_default();
        if let Some(new) = self.a {
            a = new;
        }
        if let Some(new) = &self.b {
            b.clone_from(new);
        }
        model.insert(self.key, (a, b));
    }

    fn shape(&self) -> (bool, bool) {
        (self.a.is_some(), self.b.is_some())
    }
}

/// The changes as batches of one shape each.
fn batches(told: &[Told]) -> Vec<ChangeBatch> {
    told.chunk_by(|one, other| one.shape() == other.shape())
        .map(|part| {
            let (has_a, has_b) = part[0].shape();
            let keys = |key: fn(&Told) -> i64| -> ArrayRef {
                Arc::new(Int64Array::from_iter_values(part.iter().map(key)))
            };
            let mut columns = vec![("k", keys(|told| told.key))];
            if has_a {
                let values = part.iter().map(|told| told.a.unwrap());
                columns.push(("a", Arc::new(Int64Array::from_iter(values))));
            }
            if has_b {
                let values = part.iter().map(|told| told.b.clone().unwrap());
                columns.push(("b", Arc::new(StringArray::from_iter(values))));
            }
            let moves = part.iter().any(|told| told.before != told.key);
            ChangeBatch {
                rows: RecordBatch::try_from_iter(columns).unwrap(),
                changes: part.iter().map(|told| told.change).collect(),
                keys_before: moves.then(|| vec![keys(|told| told.before)]),
            }
        })
        .collect()
}

fn request(told: &[Told]) -> ApplyRequest {
    ApplyRequest {
        key: vec!["k".into()],
        changes: batches(told),
        operation: "STREAMING UPDATE".into(),
        ..ApplyRequest::default()
    }
}

fn session() -> Arc<SessionState> {
    Arc::new(SessionContext::new().state())
}

/// The rows of the table, which has each key once.
async fn rows(fixture: &Fixture) -> Model {
    let snapshot = fixture.table.snapshot(None).await.unwrap();
    let context = SessionContext::new();
    let provider = fixture.table.provider(&snapshot);
    let batches = context
        .read_table(provider)
        .unwrap()
        .collect()
        .await
        .unwrap();
    let mut model = Model::new();
    for batch in batches {
        let keys = batch.column(0).as_primitive::<Int64Type>();
        let a = batch.column(1).as_primitive::<Int64Type>();
        let b = batch.column(2).as_string::<i32>();
        for row in 0..batch.num_rows() {
            let values = (
                a.is_valid(row).then(|| a.value(row)),
                b.is_valid(row).then(|| b.value(row).to_owned()),
            );
            let before = model.insert(keys.value(row), values);
            assert!(before.is_none(), "key {} is there twice", keys.value(row));
        }
    }
    model
}

fn drawn(draw: &mut Draw, model: &Model) -> Vec<Told> {
    let mut model = model.clone();
    let count = 1 + draw.below(60);
    let mut told = Vec::new();
    while (told.len() as u64) < count {
        let key = draw.below(80) as i64;
        let there = model.contains_key(&key);
        let a = match draw.below(5) {
            0 => None,
            value => Some(draw.below(1000) as i64 * value as i64),
        };
        let b = (draw.below(4) > 0).then(|| format!("text {}", draw.below(1000)));
        let one = match draw.below(10) {
            0..=2 => Told::upsert(key, Some(a), Some(b)),
            3 => Told::delete(key),
            4 | 5 if there => Told::upsert(key, Some(a), None),
            6 if there => Told::upsert(key, None, Some(b)),
            kind @ 7..=9 if there => {
                let to = 100 + draw.below(40) as i64;
                let to = if model.contains_key(&to) { key } else { to };
                Told {
                    before: key,
                    ..match kind {
                        7 => Told::upsert(to, Some(a), Some(b)),
                        8 => Told::upsert(to, Some(a), None),
                        _ => Told::upsert(to, None, Some(b)),
                    }
                }
            }
            _ => continue,
        };
        one.apply(&mut model);
        told.push(one);
    }
    told
}

async fn follows_a_model(seed: u64, properties: &[(&str, &str)]) {
    let fixture = fixture_with(&COLUMNS, &[], properties).await;
    let session = session();
    let mut draw = Draw(seed);
    let mut model = Model::new();
    for round in 0..60 {
        let told = drawn(&mut draw, &model);
        let applied = fixture.table.apply(request(&told), &session).await.unwrap();
        for one in &told {
            one.apply(&mut model);
        }
        assert_eq!(applied.rows_incomplete, 0, "seed {seed} round {round}");
        assert_eq!(
            rows(&fixture).await,
            model,
            "seed {seed} round {round}: {told:?}"
        );
        match draw.below(6) {
            0 => {
                let upkeep = Upkeep::default();
                fixture.table.optimize(&session, &upkeep).await.unwrap();
            }
            // Somebody else adds rows, by keys that nobody else uses.
            1 => {
                let key = 1000 + round;
                let keys: ArrayRef = Arc::new(Int64Array::from(vec![key]));
                let text: ArrayRef = Arc::new(StringArray::from(vec!["theirs"]));
                fixture.append(vec![Arc::clone(&keys), keys, text]).await;
                model.insert(key, (Some(key), Some("theirs".into())));
            }
            2 => fixture.table.indexes.lock().unwrap().clear(),
            _ => {}
        }
    }
    assert_eq!(rows(&fixture).await, model);
}

#[tokio::test]
async fn changes_of_any_shape_give_what_the_source_has() {
    for seed in [1, 22, 333, 4444, 55_555, 666_666] {
        follows_a_model(seed, &[]).await;
    }
}

#[tokio::test]
async fn so_they_do_where_files_are_written_anew() {
    for seed in [7, 88] {
        follows_a_model(seed, &[("delta.enableDeletionVectors", "false")]).await;
    }
}

#[tokio::test]
async fn a_batch_is_applied_once_and_only_where_it_belongs() {
    let fixture = fixture_with(&COLUMNS, &[], &[]).await;
    let session = session();
    let told = [Told::upsert(1, Some(Some(5)), Some(None))];
    let mark = |expected, version| {
        Some(TransactionMark {
            application: "p".into(),
            expected,
            version,
        })
    };
    let first = ApplyRequest {
        transaction: mark(None, 1),
        ..request(&told)
    };
    let applied = fixture.table.apply(first.clone(), &session).await.unwrap();
    assert!(!applied.committed.earlier);
    let again = fixture.table.apply(first, &session).await.unwrap();
    assert!(again.committed.earlier);
    assert_eq!(again.committed.version, applied.committed.version);
    let late = ApplyRequest {
        transaction: mark(Some(7), 8),
        ..request(&told)
    };
    let error = fixture.table.apply(late, &session).await.err().unwrap();
    assert!(matches!(error, LakeError::Conflict { .. }), "{error:?}");
    // Nothing at all is a position all the same.
    let empty = ApplyRequest {
        transaction: mark(Some(1), 2),
        ..request(&[])
    };
    let applied = fixture.table.apply(empty, &session).await.unwrap();
    assert_eq!(applied.rows_written, 0);
    assert_eq!(rows(&fixture).await, Model::from([(1, (Some(5), None))]));
}

#[tokio::test]
async fn a_change_to_part_of_a_row_that_is_not_there_is_told() {
    let fixture = fixture_with(&COLUMNS, &[], &[]).await;
    let told = [
        Told::upsert(1, Some(Some(5)), None),
        Told::upsert(2, Some(Some(6)), Some(None)),
        Told::upsert(2, None, Some(Some("b".into()))),
    ];
    let applied = fixture
        .table
        .apply(request(&told), &session())
        .await
        .unwrap();
    assert_eq!((applied.rows_written, applied.rows_incomplete), (2, 1));
    let expected = [(1, (Some(5), None)), (2, (Some(6), Some("b".into())))];
    assert_eq!(rows(&fixture).await, Model::from(expected));
}

/// Two writers of the same keys, each committing many times: no change of either is lost or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_in_each_others_way_lose_nothing() {
    let fixture = fixture_with(&COLUMNS, &[], &[]).await;
    let other = fixture.reopen().await;
    let tables = [Arc::clone(&fixture.table), other];
    let mut writers = Vec::new();
    for (writer, table) in (0_i64..).zip(tables) {
        writers.push(tokio::spawn(async move {
            let session = session();
            for round in 0..12 {
                let told: Vec<Told> = (0..40)
                    .map(|key| {
                        let key = key * 2 + writer;
                        match round % 3 {
                            2 if key % 4 == writer => Told::delete(key),
                            _ => Told::upsert(key, Some(Some(round)), Some(None)),
                        }
                    })
                    .collect();
                table.apply(request(&told), &session).await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut expected = Model::new();
    for key in 0..80 {
        if key % 4 != key % 2 {
            expected.insert(key, (Some(11), None));
        }
    }
    assert_eq!(rows(&fixture).await, expected);
}
