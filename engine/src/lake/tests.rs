//! The lake as its callers use it: create, write, commit, read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int16Array,
    Int32Array, Int64Array, ListArray, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Int32Type, Schema, SchemaRef};
use boathouse_catalog::definitions::{ColumnDefinition, ObjectId, TableDefinition};
use boathouse_catalog::types::ColumnType;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use expect_test::{Expect, expect};
use tempfile::TempDir;

use super::*;

/// A lake in a folder of its own with one table `t`.
pub(super) struct Fixture {
    _folder: TempDir,
    pub lake: Arc<Lake>,
    pub definition: TableDefinition,
    pub table: Arc<LakeTable>,
}

fn definition(columns: &[(&str, ColumnType)], partition_by: &[&str]) -> TableDefinition {
    let mut definition = TableDefinition::new(ObjectId(16384), "t", ObjectId::SUPERUSER, "");
    definition.columns = columns
        .iter()
        .map(|(name, column_type)| ColumnDefinition::new(*name, column_type.clone(), true))
        .collect();
    definition.partition_by = partition_by.iter().map(ToString::to_string).collect();
    definition
}

pub(super) async fn fixture(columns: &[(&str, ColumnType)], partition_by: &[&str]) -> Fixture {
    fixture_with(columns, partition_by, &[]).await
}

/// The same with properties.
pub(super) async fn fixture_with(
    columns: &[(&str, ColumnType)],
    partition_by: &[&str],
    properties: &[(&str, &str)],
) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path().to_str().unwrap(), &BTreeMap::new())
        .await
        .unwrap();
    let mut definition = definition(columns, partition_by);
    for (name, value) in properties {
        let (name, value) = ((*name).to_owned(), (*value).to_owned());
        definition.properties.insert(name, value);
    }
    definition.location = lake.create_table(&definition, "public").await.unwrap();
    let table = lake.table(&definition).await.unwrap();
    Fixture {
        _folder: folder,
        lake,
        definition,
        table,
    }
}

impl Fixture {
    /// The table as another process has it open.
    pub async fn reopen(&self) -> Arc<LakeTable> {
        let url = self.table.location();
        Lake::open_table(&url, &BTreeMap::new()).await.unwrap()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.cached().schema())
    }

    pub async fn write(&self, columns: Vec<ArrayRef>) -> Vec<WrittenFile> {
        let schema = self.schema();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let mut writer = self
            .table
            .writer(
                schema,
                (&self.definition.partition_by, self.table.cached().names()),
                WriterOptions::default(),
            )
            .unwrap();
        writer.write(&batch).await.unwrap();
        writer.finish().await.unwrap()
    }

    pub async fn append(&self, columns: Vec<ArrayRef>) -> Committed {
        let adds = self.write(columns).await;
        self.commit(adds, None).await.unwrap()
    }

    async fn commit(
        &self,
        adds: Vec<WrittenFile>,
        transaction: Option<TransactionMark>,
    ) -> Result<Committed, LakeError> {
        let request = CommitRequest {
            operation: "WRITE".into(),
            adds,
            transaction,
            ..CommitRequest::default()
        };
        self.table.commit(request).await
    }

    async fn query(&self, sql: &str, expected: Expect) {
        self.query_at(None, sql, expected).await;
    }

    async fn query_at(&self, at: Option<AsOf>, sql: &str, expected: Expect) {
        let snapshot = self.table.snapshot(at).await.unwrap();
        let context = SessionContext::new();
        context
            .register_table("t", self.table.provider(&snapshot))
            .unwrap();
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        expected.assert_eq(&pretty_format_batches(&batches).unwrap().to_string());
    }
}

fn integers(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

const MARK: &str = "boathouse:7";

fn mark(expected: Option<i64>, version: i64) -> Option<TransactionMark> {
    Some(TransactionMark {
        application: MARK.into(),
        expected,
        version,
    })
}

#[tokio::test]
async fn every_type_comes_back_as_it_went_in() {
    let fixture = fixture(
        &[
            ("flag", ColumnType::Boolean),
            ("small", ColumnType::SmallInt),
            ("whole", ColumnType::Integer),
            ("big", ColumnType::BigInt),
            (
                "price",
                ColumnType::Numeric {
                    precision: Some(12),
                    scale: 2,
                },
            ),
            ("ratio", ColumnType::Double),
            ("name", ColumnType::Text),
            ("bytes", ColumnType::Bytea),
            ("day", ColumnType::Date),
            ("clock", ColumnType::Time),
            ("local", ColumnType::Timestamp),
            ("instant", ColumnType::TimestampTz),
            ("id", ColumnType::Uuid),
            ("doc", ColumnType::Jsonb),
            ("tags", ColumnType::Array(Box::new(ColumnType::Integer))),
        ],
        &[],
    )
    .await;
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let list = arrow::compute::cast(&list, fixture.schema().field(14).data_type()).unwrap();
    fixture
        .append(vec![
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            Arc::new(Int16Array::from(vec![Some(-3), None])),
            Arc::new(Int32Array::from(vec![Some(70_000), None])),
            Arc::new(Int64Array::from(vec![Some(1 << 40), None])),
            Arc::new(
                Decimal128Array::from(vec![Some(-12_345), None])
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
            ),
            Arc::new(Float64Array::from(vec![Some(0.5), None])),
            texts(&[Some("naïve"), None]),
            Arc::new(BinaryArray::from(vec![Some(b"\x00\xff".as_slice()), None])),
            Arc::new(Date32Array::from(vec![Some(19_000), None])),
            Arc::new(Time64MicrosecondArray::from(vec![
                Some(3_661_000_001),
                None,
            ])),
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(1_700_000_000_123_456),
                None,
            ])),
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None])
                    .with_timezone("UTC"),
            ),
            texts(&[Some("018f3f2e-0000-7000-8000-000000000001"), None]),
            texts(&[Some("{\"a\": 1}"), None]),
            list,
        ])
        .await;
    fixture
        .query(
            "SELECT * FROM t",
            expect![[r#"
                +------+-------+-------+---------------+---------+-------+-------+-------+------------+-----------------+----------------------------+-----------------------------+--------------------------------------+----------+-------+
                | flag | small | whole | big           | price   | ratio | name  | bytes | day        | clock           | local                      | instant                     | id                                   | doc      | tags  |
                +------+-------+-------+---------------+---------+-------+-------+-------+------------+-----------------+----------------------------+-----------------------------+--------------------------------------+----------+-------+
                | true | -3    | 70000 | 1099511627776 | -123.45 | 0.5   | naïve | 00ff  | 2022-01-08 | 01:01:01.000001 | 2023-11-14T22:13:20.123456 | 2023-11-14T22:13:20.123456Z | 018f3f2e-0000-7000-8000-000000000001 | {"a": 1} | [1, ] |
                |      |       |       |               |         |       |       |       |            |                 |                            |                             |                                      |          |       |
                +------+-------+-------+---------------+---------+-------+-------+-------+------------+-----------------+----------------------------+-----------------------------+--------------------------------------+----------+-------+"#]],
        )
        .await;
    fixture
        .query(
            "SELECT clock FROM t WHERE clock > '01:00:00'",
            expect![[r#"
        +-----------------+
        | clock           |
        +-----------------+
        | 01:01:01.000001 |
        +-----------------+"#]],
        )
        .await;
}

#[tokio::test]
async fn partition_values_may_hold_anything() {
    let fixture = fixture(
        &[
            ("id", ColumnType::Integer),
            ("place", ColumnType::Text),
            ("day", ColumnType::Date),
        ],
        &["place", "day"],
    )
    .await;
    fixture
        .append(vec![
            integers([1, 2, 3, 4, 5]),
            texts(&[Some("a b"), Some("50%/x=y"), None, Some("a b"), Some("é")]),
            Arc::new(Date32Array::from(vec![
                Some(0),
                Some(0),
                Some(1),
                Some(0),
                None,
            ])),
        ])
        .await;
    assert_eq!(fixture.table.cached().files().len(), 4);
    fixture
        .query(
            "SELECT * FROM t ORDER BY id",
            expect![[r#"
        +----+---------+------------+
        | id | place   | day        |
        +----+---------+------------+
        | 1  | a b     | 1970-01-01 |
        | 2  | 50%/x=y | 1970-01-01 |
        | 3  |         | 1970-01-02 |
        | 4  | a b     | 1970-01-01 |
        | 5  | é       |            |
        +----+---------+------------+"#]],
        )
        .await;
    fixture
        .query(
            "SELECT id FROM t WHERE place = '50%/x=y'",
            expect![[r#"
        +----+
        | id |
        +----+
        | 2  |
        +----+"#]],
        )
        .await;
    fixture
        .query(
            "SELECT id FROM t WHERE place IS NULL",
            expect![[r#"
        +----+
        | id |
        +----+
        | 3  |
        +----+"#]],
        )
        .await;
}

#[tokio::test]
async fn files_are_pruned_and_counts_come_from_statistics() {
    let fixture = fixture(
        &[("id", ColumnType::Integer), ("name", ColumnType::Text)],
        &[],
    )
    .await;
    for start in [0, 100, 200] {
        let names: Vec<String> = (start..start + 100)
            .map(|id| format!("name {id:03}"))
            .collect();
        fixture
            .append(vec![
                integers(start..start + 100),
                Arc::new(StringArray::from(names)),
            ])
            .await;
    }
    let snapshot = fixture.table.snapshot(None).await.unwrap();
    assert_eq!((snapshot.version(), snapshot.row_count()), (3, Some(300)));
    let context = SessionContext::new();
    context
        .register_table("t", fixture.table.provider(&snapshot))
        .unwrap();
    let plan = |sql: &'static str| {
        let context = &context;
        async move {
            let plan = context
                .sql(sql)
                .await
                .unwrap()
                .create_physical_plan()
                .await
                .unwrap();
            datafusion::physical_plan::displayable(plan.as_ref())
                .indent(false)
                .to_string()
        }
    };
    let files = |plan: &str| plan.matches(".zstd.parquet").count();
    assert_eq!(files(&plan("SELECT * FROM t WHERE id = 150").await), 1);
    assert_eq!(
        files(&plan("SELECT * FROM t WHERE name > 'name 199'").await),
        1
    );
    assert_eq!(files(&plan("SELECT * FROM t WHERE id < 0").await), 0);
    assert_eq!(files(&plan("SELECT * FROM t LIMIT 5").await), 1);
    let count = plan("SELECT count(*) FROM t").await;
    assert!(!count.contains("DataSourceExec: file_groups"), "{count}");
}

#[tokio::test]
async fn a_batch_is_committed_once_however_often_it_is_tried() {
    let fixture = fixture(&[("id", ColumnType::Integer)], &[]).await;
    let adds = fixture.write(vec![integers([1, 2])]).await;
    let first = fixture.commit(adds.clone(), mark(None, 1)).await.unwrap();
    assert_eq!(
        first,
        Committed {
            version: 1,
            earlier: false
        }
    );
    let again = fixture.commit(adds.clone(), mark(None, 1)).await.unwrap();
    assert_eq!(
        again,
        Committed {
            version: 1,
            earlier: true
        }
    );
    let stale = fixture.commit(adds, mark(None, 2)).await.unwrap_err();
    expect![[r#"table at "LAKE" was changed by another writer: "boathouse:7" stands at 1, expected nothing"#]].assert_eq(
        &stale.to_string().replace(fixture.table.location().as_str(), "LAKE"),
    );
    assert_eq!(
        fixture.table.cached().transaction(MARK).await.unwrap(),
        Some(1)
    );
    fixture
        .query(
            "SELECT * FROM t",
            expect![[r#"
        +----+
        | id |
        +----+
        | 1  |
        | 2  |
        +----+"#]],
        )
        .await;
}

#[tokio::test]
async fn writers_that_do_not_know_each_other_all_commit() {
    let fixture = fixture(&[("id", ColumnType::Integer)], &[]).await;
    let mut tasks = Vec::new();
    for writer in 0..8 {
        // Each opens the table anew, as another process would.
        let table = Lake::open_table(&fixture.table.location(), &BTreeMap::new())
            .await
            .unwrap();
        let adds = fixture.write(vec![integers([writer])]).await;
        tasks.push(tokio::spawn(async move {
            let request = CommitRequest {
                operation: "WRITE".into(),
                adds,
                ..CommitRequest::default()
            };
            table.commit(request).await.unwrap().version
        }));
    }
    let mut versions = Vec::new();
    for task in tasks {
        versions.push(task.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).collect::<Vec<_>>());
    fixture
        .query(
            "SELECT id FROM t ORDER BY id",
            expect![[r#"
        +----+
        | id |
        +----+
        | 0  |
        | 1  |
        | 2  |
        | 3  |
        | 4  |
        | 5  |
        | 6  |
        | 7  |
        +----+"#]],
        )
        .await;
}

#[tokio::test]
async fn a_file_that_is_gone_cannot_be_removed_again() {
    let fixture = fixture(&[("id", ColumnType::Integer)], &[]).await;
    fixture.append(vec![integers([1])]).await;
    let path = fixture.table.cached().files()[0].path.clone();
    let replacement = fixture.write(vec![integers([2])]).await;
    let request = CommitRequest {
        operation: "WRITE".into(),
        adds: replacement,
        removes: vec![path.clone()],
        ..CommitRequest::default()
    };
    fixture.table.commit(request.clone()).await.unwrap();
    fixture
        .query(
            "SELECT id FROM t",
            expect![[r#"
        +----+
        | id |
        +----+
        | 2  |
        +----+"#]],
        )
        .await;
    let refused = fixture.table.commit(request).await.unwrap_err();
    assert!(matches!(refused, LakeError::Conflict { .. }), "{refused}");
}

#[tokio::test]
async fn added_columns_are_null_in_older_files_and_versions_stay_readable() {
    let mut fixture = fixture(&[("id", ColumnType::Integer)], &[]).await;
    fixture.append(vec![integers([1])]).await;
    fixture
        .definition
        .columns
        .push(ColumnDefinition::new("at", ColumnType::Timestamp, true));
    let change = MetadataChange {
        schema_name: "public".into(),
        definition: fixture.definition.clone(),
    };
    fixture
        .table
        .change_metadata("ADD COLUMN", change, &fixture.table.turn().await)
        .await
        .unwrap();
    fixture
        .append(vec![
            integers([2]),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(0)])),
        ])
        .await;
    fixture
        .query(
            "SELECT * FROM t ORDER BY id",
            expect![[r#"
        +----+---------------------+
        | id | at                  |
        +----+---------------------+
        | 1  |                     |
        | 2  | 1970-01-01T00:00:00 |
        +----+---------------------+"#]],
        )
        .await;
    fixture
        .query(
            "SELECT id FROM t WHERE at IS NULL",
            expect![[r#"
        +----+
        | id |
        +----+
        | 1  |
        +----+"#]],
        )
        .await;
    fixture
        .query_at(
            Some(AsOf::Version(1)),
            "SELECT * FROM t",
            expect![[r#"
        +----+
        | id |
        +----+
        | 1  |
        +----+"#]],
        )
        .await;
    let operations: Vec<_> = fixture
        .table
        .history(None)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| (entry.version, entry.operation.unwrap(), entry.rows_added))
        .collect();
    expect![[r#"
        [
            (
                3,
                "WRITE",
                Some(
                    1,
                ),
            ),
            (
                2,
                "ADD COLUMN",
                Some(
                    0,
                ),
            ),
            (
                1,
                "WRITE",
                Some(
                    1,
                ),
            ),
            (
                0,
                "CREATE TABLE",
                Some(
                    0,
                ),
            ),
        ]
    "#]]
    .assert_debug_eq(&operations);
}

#[tokio::test]
async fn an_abandoned_write_leaves_nothing() {
    let fixture = fixture(&[("id", ColumnType::Integer)], &[]).await;
    let options = WriterOptions {
        file_bytes: 1,
        ..WriterOptions::default()
    };
    let mut writer = fixture
        .table
        .writer(fixture.schema(), (&[], &FileNames::default()), options)
        .unwrap();
    let batch = RecordBatch::try_new(fixture.schema(), vec![integers(0..10)]).unwrap();
    writer.write(&batch).await.unwrap();
    writer.write(&batch).await.unwrap();
    writer.abandon().await;
    let folder = fixture.table.place.url.to_file_path().unwrap();
    let left: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, ["_delta_log"]);
}

#[tokio::test]
async fn a_checkpoint_follows_every_hundredth_version() {
    let fixture = fixture(&[("id", ColumnType::Integer)], &[]).await;
    for id in 0..101 {
        fixture.append(vec![integers([id])]).await;
    }
    let log = fixture
        .table
        .place
        .url
        .to_file_path()
        .unwrap()
        .join("_delta_log");
    assert!(log.join("00000000000000000100.checkpoint.parquet").exists());
    let fresh = Lake::open_table(&fixture.table.location(), &BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(fresh.cached().row_count(), Some(101));
    assert_eq!(fresh.cached().version(), 101);
}

#[tokio::test]
async fn the_lake_alone_tells_its_tables() {
    let fixture = fixture(&[("id", ColumnType::Uuid)], &[]).await;
    let found = fixture.lake.list_tables().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].location, "public/t");
    assert_eq!(
        found[0].definition,
        Some(("public".into(), fixture.definition.clone()))
    );
    let second = fixture
        .lake
        .create_table(&definition(&[("id", ColumnType::Uuid)], &[]), "public")
        .await
        .unwrap();
    assert!(second.starts_with("public/t-"), "{second}");
    fixture.lake.drop_table("public/t").await.unwrap();
    let left = fixture.lake.list_tables().await.unwrap();
    assert_eq!(
        left.iter().map(|found| &found.location).collect::<Vec<_>>(),
        [&second]
    );
    fixture.lake.check().await.unwrap();
}

#[tokio::test]
async fn a_dropped_table_is_not_mistaken_for_its_successor() {
    let fixture = fixture(&[("a", ColumnType::Integer)], &[]).await;
    fixture.append(vec![integers([1])]).await;
    fixture.append(vec![integers([2])]).await;
    // Another process has the table open while this one drops it and makes it anew.
    let other = Lake::open(fixture.lake.url().as_str(), &BTreeMap::new())
        .await
        .unwrap();
    let old = other.table(&fixture.definition).await.unwrap();
    let files = fixture.write(vec![integers([3])]).await;
    fixture
        .lake
        .drop_table(&fixture.definition.location)
        .await
        .unwrap();
    let mut successor = definition(&[("a", ColumnType::Integer)], &[]);
    successor.location = fixture
        .lake
        .create_table(&successor, "public")
        .await
        .unwrap();
    assert_ne!(successor.location, fixture.definition.location);
    let error = old
        .commit(CommitRequest {
            adds: files,
            ..CommitRequest::default()
        })
        .await
        .unwrap_err();
    assert!(matches!(error, LakeError::Dropped { .. }), "{error}");
    let seen = other.table(&successor).await.unwrap();
    assert_eq!(seen.snapshot(None).await.unwrap().version(), 0);
    let left = fixture.lake.list_tables().await.unwrap();
    assert_eq!(
        left.iter().map(|found| &found.location).collect::<Vec<_>>(),
        [&successor.location]
    );
}

#[tokio::test]
async fn the_folder_of_an_unborn_table_is_used_again() {
    let fixture = fixture(&[("a", ColumnType::Integer)], &[]).await;
    let location = &fixture.definition.location;
    fixture.lake.discard_table(location).await.unwrap();
    let again = definition(&[("a", ColumnType::Integer)], &[]);
    let again = fixture.lake.create_table(&again, "public").await.unwrap();
    assert_eq!(&again, location);
}

#[tokio::test]
async fn many_partitions_and_small_limits_lose_no_row() {
    let fixture = fixture(
        &[("id", ColumnType::Integer), ("part", ColumnType::Integer)],
        &["part"],
    )
    .await;
    let options = WriterOptions {
        file_bytes: 4_000,
        row_group_rows: 50,
        open_bytes: 2_000,
        open_files: 5,
        lanes: 2,
    };
    let schema: Arc<Schema> = fixture.schema();
    let mut writer = fixture
        .table
        .writer(
            Arc::clone(&schema),
            (&["part".into()], &FileNames::default()),
            options,
        )
        .unwrap();
    for start in (0..20_000).step_by(1_000) {
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                integers(start..start + 1_000),
                integers((start..start + 1_000).map(|id| id % 13)),
            ],
        )
        .unwrap();
        writer.write(&batch).await.unwrap();
    }
    let adds = writer.finish().await.unwrap();
    fixture.commit(adds, None).await.unwrap();
    fixture
        .query(
            "SELECT count(*), count(DISTINCT id), sum(id), count(DISTINCT part) FROM t WHERE id >= 0",
            expect![[r#"
                +----------+----------------------+-----------+------------------------+
                | count(*) | count(DISTINCT t.id) | sum(t.id) | count(DISTINCT t.part) |
                +----------+----------------------+-----------+------------------------+
                | 20000    | 20000                | 199990000 | 13                     |
                +----------+----------------------+-----------+------------------------+"#]],
        )
        .await;
}

/// The data files and deletion vectors in the table's folder.
async fn stored(fixture: &Fixture) -> Vec<String> {
    let store = fixture.table.place.prefixed();
    let mut names: Vec<String> = store
        .list(None)
        .map_ok(|object| object.location.to_string())
        .try_filter(|path| futures::future::ready(!path.starts_with("_delta_log")))
        .try_collect()
        .await
        .unwrap();
    names.sort_unstable();
    names
}

async fn delete(fixture: &Fixture, file: usize, rows: &[u64]) -> Result<Committed, LakeError> {
    let snapshot = fixture.table.snapshot(None).await.unwrap();
    let path = snapshot.files()[file].path.clone();
    let rows = rows.iter().copied().collect::<roaring::RoaringTreemap>();
    let request = CommitRequest {
        operation: "DELETE".into(),
        deletes: BTreeMap::from([(path, Arc::new(rows))]),
        ..CommitRequest::default()
    };
    fixture.table.commit(request).await
}

#[tokio::test]
async fn optimize_and_vacuum_keep_the_rows_and_nothing_else() {
    let fixture = fixture(&[("n", ColumnType::Integer)], &[]).await;
    for start in [0, 10, 20] {
        fixture.append(vec![integers(start..start + 10)]).await;
    }
    delete(&fixture, 0, &[1, 3]).await.unwrap();
    delete(&fixture, 1, &(0..10).collect::<Vec<_>>())
        .await
        .unwrap();
    let before = fixture.table.snapshot(None).await.unwrap().version();
    let sum = "select count(*) as rows, sum(n) as sum, min(n) as least from t";
    fixture
        .query(
            sum,
            expect![[r#"
                +------+-----+-------+
                | rows | sum | least |
                +------+-----+-------+
                | 18   | 246 | 0     |
                +------+-----+-------+"#]],
        )
        .await;
    let state = SessionContext::new().state();
    let made = fixture
        .table
        .optimize(&state, &Upkeep::default())
        .await
        .unwrap();
    assert_eq!((made.files_removed, made.files_added), (2, 1));
    // Nothing more to do.
    let again = fixture
        .table
        .optimize(&state, &Upkeep::default())
        .await
        .unwrap();
    assert_eq!(again, Compaction::default());
    // Whatever is younger than the retention stays, for those who still read the older version.
    let hour = std::time::Duration::from_secs(3600);
    assert!(fixture.table.vacuum(hour, false).await.unwrap().is_empty());
    fixture
        .query_at(
            Some(AsOf::Version(before)),
            sum,
            expect![[r#"
                +------+-----+-------+
                | rows | sum | least |
                +------+-----+-------+
                | 18   | 246 | 0     |
                +------+-----+-------+"#]],
        )
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let all = stored(&fixture).await;
    // A query of this process may still be reading it.
    let read = fixture
        .table
        .snapshot(Some(AsOf::Version(before)))
        .await
        .unwrap();
    let needed: Vec<&str> = read.files().iter().map(|file| file.path.as_str()).collect();
    let unneeded = fixture
        .table
        .vacuum(std::time::Duration::ZERO, true)
        .await
        .unwrap();
    assert!(
        !needed
            .iter()
            .any(|path| unneeded.iter().any(|gone| gone == path))
    );
    drop(read);
    let unneeded = fixture
        .table
        .vacuum(std::time::Duration::ZERO, true)
        .await
        .unwrap();
    assert_eq!(stored(&fixture).await, all);
    assert_eq!(
        fixture
            .table
            .vacuum(std::time::Duration::ZERO, false)
            .await
            .unwrap(),
        unneeded
    );
    let left = stored(&fixture).await;
    let snapshot = fixture.table.snapshot(None).await.unwrap();
    assert_eq!(left, [snapshot.files()[0].path.clone()]);
    assert_eq!(unneeded.len() + 1, all.len());
    fixture
        .query(
            sum,
            expect![[r#"
                +------+-----+-------+
                | rows | sum | least |
                +------+-----+-------+
                | 18   | 246 | 0     |
                +------+-----+-------+"#]],
        )
        .await;
    // A vector in use is no litter.
    delete(&fixture, 0, &[0]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let unneeded = fixture
        .table
        .vacuum(std::time::Duration::ZERO, false)
        .await
        .unwrap();
    assert!(unneeded.is_empty(), "{unneeded:?}");
}

#[tokio::test]
async fn a_rewrite_never_brings_a_deleted_row_back() {
    let fixture = fixture(&[("n", ColumnType::Integer)], &[]).await;
    fixture.append(vec![integers(0..10)]).await;
    let read = fixture.table.snapshot(None).await.unwrap();
    let adds = fixture.write(vec![integers(0..10)]).await;
    delete(&fixture, 0, &[5]).await.unwrap();
    let request = CommitRequest {
        operation: "OPTIMIZE".into(),
        adds,
        rewrites: BTreeMap::from([(read.files()[0].path.clone(), None)]),
        ..CommitRequest::default()
    };
    let refused = fixture.table.commit(request).await.unwrap_err();
    assert!(matches!(refused, LakeError::Conflict { .. }), "{refused}");
    // Neither is a row deleted twice.
    let refused = delete(&fixture, 0, &[5, 6]).await.unwrap_err();
    assert!(matches!(refused, LakeError::Conflict { .. }), "{refused}");
    delete(&fixture, 0, &[6]).await.unwrap();
    assert_eq!(fixture.table.cached().row_count(), Some(8));
}

#[tokio::test]
async fn rows_deleted_while_their_file_is_rewritten_stay_deleted() {
    let fixture = fixture(&[("n", ColumnType::Integer)], &[]).await;
    fixture.append(vec![integers(0..10)]).await;
    delete(&fixture, 0, &[2]).await.unwrap();
    let read = fixture.table.snapshot(None).await.unwrap();
    let state = SessionContext::new().state();
    let rewritten = async || {
        let rows = fixture
            .table
            .rows_of(&read, read.files().to_vec(), &state)
            .await;
        let rows: Vec<RecordBatch> = rows.unwrap().try_collect().await.unwrap();
        let rows = rows
            .iter()
            .map(|batch| Arc::clone(batch.column(0)))
            .collect();
        vec![Rewritten {
            files: read.files().to_vec(),
            written: fixture.write(rows).await,
            in_order: true,
        }]
    };
    let (first, second) = (rewritten().await, rewritten().await);
    delete(&fixture, 0, &[5, 9]).await.unwrap();
    let turn = fixture.table.turn().await;
    let table = &fixture.table;
    table
        .commit_rewritten("OPTIMIZE", first, &turn)
        .await
        .unwrap();
    // The file is gone now.
    let refused = table.commit_rewritten("OPTIMIZE", second, &turn).await;
    drop(turn);
    assert!(matches!(refused, Err(LakeError::Conflict { .. })));
    assert_eq!(fixture.table.cached().files().len(), 1);
    fixture
        .query(
            "select count(*) as rows, sum(n) as sum, count(*) filter (where n in (2, 5, 9)) as gone from t",
            expect![[r#"
                +------+-----+------+
                | rows | sum | gone |
                +------+-----+------+
                | 7    | 29  | 0    |
                +------+-----+------+"#]],
        )
        .await;
    // Whoever found a row before still deletes it, and none twice.
    let by_old = |row: u64| CommitRequest {
        operation: "DELETE".into(),
        deletes: BTreeMap::from([(read.files()[0].path.clone(), Arc::new([row].into()))]),
        ..CommitRequest::default()
    };
    let refused = fixture.table.commit(by_old(5)).await;
    assert!(matches!(refused, Err(LakeError::Conflict { .. })));
    fixture.table.commit(by_old(8)).await.unwrap();
    fixture
        .query(
            "select sum(n) as sum from t",
            expect![[r#"
                +-----+
                | sum |
                +-----+
                | 21  |
                +-----+"#]],
        )
        .await;
}

#[tokio::test]
async fn rows_found_before_a_compaction_are_deleted_after_it() {
    let fixture = fixture(&[("n", ColumnType::Integer)], &[]).await;
    for start in (0..80).step_by(10) {
        fixture.append(vec![integers(start..start + 10)]).await;
    }
    let holding = |snapshot: &TableSnapshot, value: i32| {
        let least = datafusion::common::ScalarValue::Int32(Some(value / 10 * 10));
        let mut files = snapshot.files().iter();
        let found = files.position(|file| {
            file.statistics.column_statistics[0].min_value.get_value() == Some(&least)
        });
        found.unwrap()
    };
    let file = holding(&fixture.table.cached(), 20);
    delete(&fixture, file, &[0, 4]).await.unwrap();
    // The rows 13, 15, 25 and 79, as somebody found them before the compaction.
    let found = fixture.table.snapshot(None).await.unwrap();
    let mut deletes = BTreeMap::new();
    for (row, value) in [(3, 13), (5, 15), (5, 25), (9, 79)] {
        let file = &found.files()[holding(&found, value)];
        let rows: &mut roaring::RoaringTreemap = deletes.entry(file.path.clone()).or_default();
        rows.insert(row);
    }
    let deletes: BTreeMap<_, _> = deletes
        .into_iter()
        .map(|(path, rows)| (path, Arc::new(rows)))
        .collect();
    let state = SessionContext::new().state();
    fixture
        .table
        .optimize(&state, &Upkeep::default())
        .await
        .unwrap();
    assert_eq!(fixture.table.cached().files().len(), 1);
    let request = CommitRequest {
        operation: "DELETE".into(),
        deletes,
        keys_read: Some(Arc::clone(&found)),
        ..CommitRequest::default()
    };
    fixture.table.commit(request.clone()).await.unwrap();
    fixture
        .query(
            "select count(*) as rows, sum(n) as sum, \
             count(*) filter (where n in (13, 15, 20, 24, 25, 79)) as gone from t",
            expect![[r#"
                +------+------+------+
                | rows | sum  | gone |
                +------+------+------+
                | 74   | 2984 | 0    |
                +------+------+------+"#]],
        )
        .await;
    // Once only.
    let refused = fixture.table.commit(request).await.unwrap_err();
    assert!(matches!(refused, LakeError::Conflict { .. }), "{refused}");
}

#[tokio::test]
async fn old_log_entries_go_once_a_checkpoint_stands_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path().to_str().unwrap(), &BTreeMap::new())
        .await
        .unwrap();
    let mut definition = definition(&[("n", ColumnType::Integer)], &[]);
    definition.properties = [
        ("delta.checkpointInterval", "5"),
        ("delta.logRetentionDuration", "interval 1 millisecond"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    definition.location = lake.create_table(&definition, "public").await.unwrap();
    let table = lake.table(&definition).await.unwrap();
    let fixture = Fixture {
        _folder: folder,
        lake,
        definition,
        table,
    };
    for number in 0..11 {
        fixture.append(vec![integers([number])]).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let log: Vec<i64> = fixture
        .table
        .history(None)
        .await
        .unwrap()
        .iter()
        .map(|entry| entry.version)
        .collect();
    assert_eq!(log, [11, 10]);
    let again = fixture.reopen().await.snapshot(None).await.unwrap();
    assert_eq!((again.version(), again.row_count()), (11, Some(11)));
    let gone = fixture.table.snapshot(Some(AsOf::Version(3))).await;
    assert!(
        matches!(gone, Err(LakeError::NoSuchVersion { .. })),
        "{gone:?}"
    );
}

#[tokio::test]
async fn named_and_key_columns_have_statistics_wherever_they_stand() {
    let names: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
    let columns: Vec<(&str, ColumnType)> = names
        .iter()
        .map(|name| (name.as_str(), ColumnType::Integer))
        .collect();
    let schema = arrow::datatypes::Schema::new(
        names
            .iter()
            .map(|name| arrow::datatypes::Field::new(name, arrow::datatypes::DataType::Int32, true))
            .collect::<Vec<_>>(),
    );
    let mut definition = definition(&columns, &[]);
    let of = |properties: &[(&str, &str)], definition: &TableDefinition| {
        let properties = properties.iter();
        let properties = properties.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut columns: Vec<usize> =
            statistics::columns_of(&properties.collect(), Some(definition), &schema)
                .into_iter()
                .collect();
        columns.sort_unstable();
        columns
    };
    assert_eq!(of(&[], &definition), (0..32).collect::<Vec<_>>());
    definition.primary_key = Some(boathouse_catalog::definitions::KeyConstraint {
        name: "k".into(),
        columns: vec!["c39".into()],
    });
    definition
        .properties
        .insert("cluster_by".into(), "c35, c2".into());
    let first = ("delta.dataSkippingNumIndexedCols", "2");
    assert_eq!(of(&[first], &definition), [0, 1, 2, 35, 39]);
    let named = ("delta.dataSkippingStatsColumns", "c7, `c8`");
    assert_eq!(of(&[first, named], &definition), [2, 7, 8, 35, 39]);
    let all = ("delta.dataSkippingNumIndexedCols", "-1");
    assert_eq!(of(&[all], &definition).len(), 40);
}

#[tokio::test]
async fn a_table_nobody_uses_is_put_away_when_there_is_no_room() {
    let fixture = fixture(&[("n", ColumnType::Integer)], &[]).await;
    fixture.append(vec![integers(0..10)]).await;
    assert!(fixture.lake.tables_bytes() > 1_000);
    fixture.lake.set_tables_bytes_max(0);
    fixture.lake.trim().await;
    let location = fixture.definition.location.clone();
    // The fixture has it.
    assert!(fixture.lake.opened(&location).await.is_some());
    let lake = Arc::clone(&fixture.lake);
    let folder = fixture._folder;
    drop(fixture.table);
    lake.trim().await;
    assert!(lake.opened(&location).await.is_none());
    assert_eq!(lake.tables_bytes(), 0);
    let again = lake.table_at(&location).await.unwrap();
    assert_eq!(again.cached().row_count(), Some(10));
    drop(folder);
}
