//! Tables of ours as Python deltalake, Polars and DuckDB read them, value by value.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int16Array,
    Int32Array, Int64Array, ListArray, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Int32Type;
use boathouse_catalog::definitions::{ColumnDefinition, ObjectId, TableDefinition};
use boathouse_catalog::types::ColumnType;
use expect_test::expect;

use super::*;

fn repository() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("..")
}

/// Runs a script of tests/services and gives what it prints.
fn service(script: &str) -> String {
    let path = repository().join("tests/services").join(script);
    let output = Command::new("sh").arg(&path).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Writes a table of every type with awkward partition values into a lake.
async fn write_table(lake: &Lake) -> String {
    let columns: Vec<(&str, ColumnType, ArrayRef)> = vec![
        (
            "id",
            ColumnType::Integer,
            Arc::new(Int32Array::from(vec![1, 2, 3])),
        ),
        (
            "place",
            ColumnType::Text,
            text(&[Some("a b"), Some("50%/x=y"), None]),
        ),
        (
            "flag",
            ColumnType::Boolean,
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        (
            "small",
            ColumnType::SmallInt,
            Arc::new(Int16Array::from(vec![Some(-3), None, Some(7)])),
        ),
        (
            "big",
            ColumnType::BigInt,
            Arc::new(Int64Array::from(vec![Some(1 << 40), None, Some(-1)])),
        ),
        (
            "price",
            ColumnType::Numeric {
                precision: Some(12),
                scale: 2,
            },
            Arc::new(
                Decimal128Array::from(vec![Some(-12_345), None, Some(5)])
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
            ),
        ),
        (
            "ratio",
            ColumnType::Double,
            Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-2.25)])),
        ),
        (
            "name",
            ColumnType::Text,
            text(&[Some("naïve"), None, Some("")]),
        ),
        (
            "bytes",
            ColumnType::Bytea,
            Arc::new(BinaryArray::from(vec![
                Some(b"\x00\xff".as_slice()),
                None,
                Some(b""),
            ])),
        ),
        (
            "day",
            ColumnType::Date,
            Arc::new(Date32Array::from(vec![Some(19_000), None, Some(-1)])),
        ),
        (
            "clock",
            ColumnType::Time,
            Arc::new(Time64MicrosecondArray::from(vec![
                Some(3_661_000_001),
                None,
                Some(0),
            ])),
        ),
        (
            "local",
            ColumnType::Timestamp,
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(1_700_000_000_123_456),
                None,
                Some(0),
            ])),
        ),
        (
            "instant",
            ColumnType::TimestampTz,
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None, Some(0)])
                    .with_timezone("UTC"),
            ),
        ),
        (
            "key",
            ColumnType::Uuid,
            text(&[Some("018f3f2e-0000-7000-8000-000000000001"), None, None]),
        ),
        (
            "doc",
            ColumnType::Jsonb,
            text(&[Some("{\"a\": 1}"), None, Some("[]")]),
        ),
        (
            "tags",
            ColumnType::Array(Box::new(ColumnType::Integer)),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
                Some(vec![Some(1), None]),
                None,
                Some(vec![]),
            ])),
        ),
    ];
    let mut definition = TableDefinition::new(ObjectId(16384), "t", ObjectId::SUPERUSER, "");
    definition.columns = columns
        .iter()
        .map(|(name, column_type, _)| ColumnDefinition::new(*name, column_type.clone(), true))
        .collect();
    definition.partition_by = vec!["place".into()];
    let location = lake.create_table(&definition, "public").await.unwrap();
    let table = lake.table_at(&location).await.unwrap();
    let schema = Arc::clone(table.cached().schema());
    let arrays = columns
        .iter()
        .zip(schema.fields())
        .map(|((_, _, array), field)| arrow::compute::cast(array, field.data_type()).unwrap())
        .collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let mut writer = table
        .writer(schema, &definition.partition_by, WriterOptions::default())
        .unwrap();
    writer.write(&batch).await.unwrap();
    let adds = writer.finish().await.unwrap();
    let request = CommitRequest {
        operation: "WRITE".into(),
        adds,
        ..CommitRequest::default()
    };
    table.commit(request).await.unwrap();
    lake.table_url(&location).unwrap().to_string()
}

fn text(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// What each reader says of the table, and that all say the same.
fn read_by_all(url: &str, options: &serde_json::Value) -> String {
    let python = service("python.sh");
    let output = Command::new(python)
        .arg(repository().join("tests/interop/read_table.py"))
        .args([url, &options.to_string(), "deltalake,polars,duckdb"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    let of = |reader: &str| -> Vec<&str> {
        printed
            .lines()
            .filter_map(|line| line.strip_prefix(reader))
            .collect()
    };
    assert_eq!(of("deltalake "), of("polars "));
    assert_eq!(of("deltalake "), of("duckdb "));
    of("deltalake ").join("\n")
}

#[tokio::test]
async fn other_readers_see_the_values_of_a_local_table() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path().to_str().unwrap(), &BTreeMap::new())
        .await
        .unwrap();
    let url = write_table(&lake).await;
    let folder = url::Url::parse(&url).unwrap().to_file_path().unwrap();
    let read = read_by_all(folder.to_str().unwrap(), &serde_json::json!({}));
    expect![[r#"
        big=1099511627776 | bytes=0x00ff | clock=01:01:01.000001 | day=2022-01-08 | doc={"a": 1} | flag=True | id=1 | instant=2023-11-14T22:13:20.123456Z | key=018f3f2e-0000-7000-8000-000000000001 | local=2023-11-14T22:13:20.123456 | name=naïve | place=a b | price=-123.45 | ratio=0.5 | small=-3 | tags=[1,NULL]
        big=NULL | bytes=NULL | clock=NULL | day=NULL | doc=NULL | flag=NULL | id=2 | instant=NULL | key=NULL | local=NULL | name=NULL | place=50%/x=y | price=NULL | ratio=NULL | small=NULL | tags=NULL
        big=-1 | bytes=0x | clock=00:00:00.000000 | day=1969-12-31 | doc=[] | flag=False | id=3 | instant=1970-01-01T00:00:00.000000Z | key=NULL | local=1970-01-01T00:00:00.000000 | name= | place=NULL | price=0.05 | ratio=-2.25 | small=7 | tags=[]"#]].assert_eq(&read);
}

#[tokio::test]
async fn other_readers_see_the_values_of_a_table_on_s3() {
    let printed = service("seaweedfs.sh");
    let setting = |name: &str| {
        let prefix = format!("{name}=");
        printed
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap()
            .to_owned()
    };
    let options = BTreeMap::from([
        ("endpoint".to_owned(), setting("ENDPOINT")),
        ("region".to_owned(), "us-east-1".to_owned()),
        ("access_key_id".to_owned(), setting("ACCESS_KEY_ID")),
        ("secret_access_key".to_owned(), setting("SECRET_ACCESS_KEY")),
    ]);
    let place = format!("s3://{}/lake-{}", setting("BUCKET"), uuid::Uuid::new_v4());
    let lake = Lake::open(&place, &options).await.unwrap();
    lake.check().await.unwrap();
    let url = write_table(&lake).await;
    let read = read_by_all(
        url.trim_end_matches('/'),
        &serde_json::json!({
            "AWS_ENDPOINT_URL": setting("ENDPOINT"),
            "AWS_ACCESS_KEY_ID": setting("ACCESS_KEY_ID"),
            "AWS_SECRET_ACCESS_KEY": setting("SECRET_ACCESS_KEY"),
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }),
    );
    expect![[r#"
        big=1099511627776 | bytes=0x00ff | clock=01:01:01.000001 | day=2022-01-08 | doc={"a": 1} | flag=True | id=1 | instant=2023-11-14T22:13:20.123456Z | key=018f3f2e-0000-7000-8000-000000000001 | local=2023-11-14T22:13:20.123456 | name=naïve | place=a b | price=-123.45 | ratio=0.5 | small=-3 | tags=[1,NULL]
        big=NULL | bytes=NULL | clock=NULL | day=NULL | doc=NULL | flag=NULL | id=2 | instant=NULL | key=NULL | local=NULL | name=NULL | place=50%/x=y | price=NULL | ratio=NULL | small=NULL | tags=NULL
        big=-1 | bytes=0x | clock=00:00:00.000000 | day=1969-12-31 | doc=[] | flag=False | id=3 | instant=1970-01-01T00:00:00.000000Z | key=NULL | local=1970-01-01T00:00:00.000000 | name= | place=NULL | price=0.05 | ratio=-2.25 | small=7 | tags=[]"#]].assert_eq(&read);

    // Racing writers that know nothing of each other: the conditional put gives each its own version.
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let table = Lake::open_table(&url, &options).await.unwrap();
        tasks.push(tokio::spawn(async move {
            let request = CommitRequest {
                operation: "WRITE".into(),
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
    assert_eq!(versions, [2, 3, 4, 5]);
}
