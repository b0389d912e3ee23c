//! The index against a plain map, whoever changes the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use boathouse_catalog::types::ColumnType;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use roaring::RoaringTreemap;

use super::tests::{Fixture, fixture};
use super::{AsOf, Asked, CommitRequest, LakeTable, Upkeep};

/// Repeatable, and random enough.
pub(super) struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

struct Keyed {
    fixture: Fixture,
    key: Vec<String>,
    session: Arc<SessionState>,
}

impl Keyed {
    async fn new(key_type: ColumnType) -> Self {
        let columns = [("k", key_type), ("v", ColumnType::BigInt)];
        Self {
            fixture: fixture(&columns, &[]).await,
            key: vec!["k".into()],
            session: Arc::new(SessionContext::new().state()),
        }
    }

    fn keys(&self, keys: &[i64]) -> ArrayRef {
        let schema = self.fixture.table.cached();
        match schema.schema().field(0).data_type() {
            arrow::datatypes::DataType::Int64 => Arc::new(Int64Array::from(keys.to_vec())),
            _ => Arc::new(StringArray::from_iter_values(
                keys.iter().map(|key| format!("key {key}")),
            )),
        }
    }

    /// Where the keys are, through `table`: by path and row. `None` when the index does not answer.
    async fn locate(
        &self,
        table: &Arc<LakeTable>,
        keys: &[i64],
    ) -> Option<BTreeMap<(String, i64), i64>> {
        let snapshot = table.snapshot(None).await.unwrap();
        let located = table
            .locate(
                Asked {
                    key: &self.key,
                    keys: &[self.keys(keys)],
                    builds: true,
                },
                &snapshot,
                &snapshot,
                &self.session,
            )
            .await
            .unwrap()?;
        let files = located.rows.column(1).as_primitive::<Int32Type>();
        let rows = located.rows.column(2).as_primitive::<Int64Type>();
        let found = located.rows.column(0);
        let number = |row: usize| match found.as_string_opt::<i32>() {
            Some(texts) => texts.value(row)["key ".len()..].parse().unwrap(),
            None => found.as_primitive::<Int64Type>().value(row),
        };
        let address = |row: usize| {
            let file = usize::try_from(files.value(row)).unwrap();
            (snapshot.files()[file].path.clone(), rows.value(row))
        };
        Some(
            (0..found.len())
                .map(|row| (address(row), number(row)))
                .collect(),
        )
    }

    /// Commits new rows and deletes old ones.
    async fn change(&self, keys: &[i64], gone: &[(String, i64)]) -> String {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![0; keys.len()]));
        let adds = self.fixture.write(vec![self.keys(keys), values]).await;
        let path = adds[0].path().to_owned();
        let mut deletes: BTreeMap<String, RoaringTreemap> = BTreeMap::new();
        for (file, row) in gone {
            let rows = deletes.entry(file.clone()).or_default();
            rows.insert(u64::try_from(*row).unwrap());
        }
        let request = CommitRequest {
            operation: "WRITE".into(),
            adds,
            deletes: deletes
                .into_iter()
                .map(|(file, rows)| (file, Arc::new(rows)))
                .collect(),
            ..CommitRequest::default()
        };
        self.fixture.table.commit(request).await.unwrap();
        path
    }
}

async fn follows_a_model(key_type: ColumnType, seed: u64) {
    let keyed = Keyed::new(key_type).await;
    let mut draw = Draw(seed);
    // Key to address.
    let mut model: BTreeMap<i64, (String, i64)> = BTreeMap::new();
    let all: Vec<i64> = (0..60).collect();
    // Another process: it has its own idea of the table, and of the index.
    let other = keyed.fixture.reopen().await;
    for step in 0..60 {
        match draw.below(10) {
            0 => {
                keyed
                    .fixture
                    .table
                    .optimize(&keyed.session, &Upkeep::default())
                    .await
                    .unwrap();
                let found = keyed.locate(&other, &all).await.unwrap();
                let keys: Vec<i64> = found.values().copied().collect();
                let mut sorted = keys.clone();
                sorted.sort_unstable();
                assert_eq!(
                    sorted,
                    model.keys().copied().collect::<Vec<_>>(),
                    "step {step}"
                );
                model = found
                    .into_iter()
                    .map(|(address, key)| (key, address))
                    .collect();
            }
            1 => keyed.fixture.lake.set_index_bytes_max(0),
            2 => keyed.fixture.lake.set_index_bytes_max(1 << 20),
            _ => {
                let count = 1 + draw.below(8);
                let mut keys: Vec<i64> = (0..count)
                    .map(|_| i64::try_from(draw.below(60)).unwrap())
                    .collect();
                keys.sort_unstable();
                keys.dedup();
                let deleted = i64::try_from(draw.below(60)).unwrap();
                let gone: Vec<_> = keys
                    .iter()
                    .chain(Some(&deleted).filter(|key| !keys.contains(key)))
                    .filter_map(|key| model.remove(key))
                    .collect();
                let path = keyed.change(&keys, &gone).await;
                for (row, key) in (0..).zip(keys) {
                    model.insert(key, (path.clone(), row));
                }
            }
        }
        let expected: BTreeMap<_, _> = model
            .iter()
            .map(|(key, address)| (address.clone(), *key))
            .collect();
        if let Some(found) = keyed.locate(&keyed.fixture.table, &all).await {
            assert_eq!(found, expected, "step {step}");
        }
        if draw.below(3) == 0 {
            let found = keyed.locate(&other, &all).await;
            assert_eq!(found, Some(expected), "step {step}, seen by another");
        }
    }
}

#[tokio::test]
async fn it_follows_the_table_whoever_commits() {
    for seed in [1, 77, 9_001] {
        follows_a_model(ColumnType::BigInt, seed).await;
        follows_a_model(ColumnType::Text, seed).await;
    }
}

/// After a compaction of more rows than a statement waits for, the index answers at once.
#[tokio::test]
async fn it_follows_rows_that_compactions_move() {
    let keyed = Keyed::new(ColumnType::BigInt).await;
    let table = &keyed.fixture.table;
    const FILE: i64 = 100_000;
    let mut paths = Vec::new();
    for start in [0, FILE, 2 * FILE] {
        let keys: Vec<i64> = (start..start + FILE).collect();
        paths.push(keyed.change(&keys, &[]).await);
    }
    while keyed.locate(table, &[1]).await.is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let asked = [0, 5, FILE - 1, FILE, 2 * FILE + 7, 3 * FILE - 1, -4];
    for round in 0..4 {
        // Rows go and come, before and after the file is put together with others.
        let found = keyed.locate(table, &[round, 10 + round]).await.unwrap();
        let gone: Vec<(String, i64)> = found.into_keys().collect();
        assert_eq!(gone.len(), 2, "round {round}");
        keyed.change(&[round, 10 + round, -4 - round], &gone).await;
        table
            .optimize(&keyed.session, &Upkeep::default())
            .await
            .unwrap();
        assert_eq!(table.cached().files().len(), 1, "round {round}");
        let found = keyed.locate(table, &asked).await;
        let found = found.unwrap_or_else(|| panic!("round {round}: the index is not there"));
        let other = keyed.fixture.reopen().await;
        let expected = loop {
            match keyed.locate(&other, &asked).await {
                Some(expected) => break expected,
                None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        assert_eq!(found, expected, "round {round}");
        assert_eq!(found.len(), asked.len(), "round {round}");
    }
}

#[tokio::test]
async fn a_table_with_a_doubled_key_has_no_index() {
    let keyed = Keyed::new(ColumnType::BigInt).await;
    keyed.change(&[1, 2, 3], &[]).await;
    let table = &keyed.fixture.table;
    assert_eq!(keyed.locate(table, &[1, 2, 9]).await.unwrap().len(), 2);
    keyed.change(&[3, 4], &[]).await;
    assert_eq!(keyed.locate(table, &[3]).await, None);
    let other = keyed.fixture.reopen().await;
    assert_eq!(keyed.locate(&other, &[3]).await, None);
}

#[tokio::test]
async fn rows_that_come_back_are_found_again() {
    let keyed = Keyed::new(ColumnType::BigInt).await;
    let first = keyed.change(&[1, 2], &[]).await;
    let table = &keyed.fixture.table;
    keyed.change(&[1], &[(first.clone(), 0)]).await;
    let before = table.snapshot(None).await.unwrap();
    assert_eq!(keyed.locate(table, &[1, 2]).await.unwrap().len(), 2);
    // As RESTORE of another program does it: the old file without its deletion vector, the new one gone.
    let old = table.snapshot(Some(AsOf::Version(1))).await.unwrap();
    let entry = serde_json::to_string(&serde_json::json!({"commitInfo": {"operation": "RESTORE"}}))
        .unwrap();
    let mut lines = vec![entry];
    for file in before.files() {
        let remove = deltalake_core::kernel::Action::Remove(file.remove(true));
        lines.push(serde_json::to_string(&remove).unwrap());
    }
    for file in old.files() {
        let add = deltalake_core::kernel::Add {
            deletion_vector: None,
            stats: Some("{\"numRecords\":2}".into()),
            ..file.add_again(None, before_vector(&before))
        };
        lines.push(serde_json::to_string(&deltalake_core::kernel::Action::Add(add)).unwrap());
    }
    let version = before.version() + 1;
    let log = object_store::path::Path::from(format!("_delta_log/{version:020}.json"));
    let store = table.place.prefixed();
    object_store::ObjectStoreExt::put(&store, &log, lines.join("\n").into())
        .await
        .unwrap();
    let found = keyed.locate(table, &[1, 2]).await.unwrap();
    assert_eq!(
        found,
        BTreeMap::from([((first.clone(), 0), 1), ((first, 1), 2)])
    );
}

fn before_vector(
    snapshot: &super::TableSnapshot,
) -> deltalake_core::kernel::DeletionVectorDescriptor {
    let mut vectors = snapshot
        .files()
        .iter()
        .filter_map(|file| file.deletion_vector.clone());
    vectors.next().unwrap()
}

#[tokio::test]
async fn the_room_goes_to_the_table_used_last() {
    let fixtures = [
        Keyed::new(ColumnType::BigInt).await,
        Keyed::new(ColumnType::BigInt).await,
    ];
    // Two tables of one lake.
    let lake = &fixtures[0].fixture.lake;
    let mut tables = Vec::new();
    for name in ["one", "two"] {
        let mut definition = fixtures[0].fixture.definition.clone();
        definition.name = name.into();
        definition.location = String::new();
        definition.location = lake.create_table(&definition, "public").await.unwrap();
        tables.push(lake.table(&definition).await.unwrap());
    }
    for table in &tables {
        let keys: Vec<i64> = (0..10_000).collect();
        let values: ArrayRef = Arc::new(Int64Array::from(keys.clone()));
        let schema = Arc::clone(table.cached().schema());
        let batch = arrow::array::RecordBatch::try_new(
            Arc::clone(&schema),
            vec![Arc::clone(&values), values],
        )
        .unwrap();
        let mut writer = table
            .writer(
                schema,
                (&[], &super::FileNames::default()),
                super::WriterOptions::default(),
            )
            .unwrap();
        writer.write(&batch).await.unwrap();
        let request = CommitRequest {
            operation: "WRITE".into(),
            adds: writer.finish().await.unwrap(),
            ..CommitRequest::default()
        };
        table.commit(request).await.unwrap();
    }
    lake.set_index_bytes_max(200_000);
    for table in [&tables[0], &tables[1], &tables[0]] {
        assert_eq!(fixtures[0].locate(table, &[7]).await.unwrap().len(), 1);
        let bytes = lake.index_bytes();
        assert!((120_000..200_000).contains(&bytes), "{bytes} bytes");
    }
    lake.set_index_bytes_max(100_000);
    assert_eq!(fixtures[0].locate(&tables[1], &[7]).await, None);
}
