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
        .writer(
            schema,
            (&definition.partition_by, &FileNames::default()),
            WriterOptions::default(),
        )
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

/// What some readers say of the table, or what is wrong with it.
fn read_by(readers: &str, url: &str, options: &serde_json::Value) -> Result<String, String> {
    let python = service("python.sh");
    let output = Command::new(python)
        .arg(repository().join("tests/interop/read_table.py"))
        .args([url, &options.to_string(), readers])
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What each reader says of the table, and that all say the same.
fn read_by_all(url: &str, options: &serde_json::Value) -> String {
    read_alike(&["deltalake", "polars", "duckdb"], url, options)
}

fn read_alike(readers: &[&str], url: &str, options: &serde_json::Value) -> String {
    let printed = read_by(&readers.join(","), url, options).unwrap();
    let of = |reader: &str| -> Vec<&str> {
        let lines = printed.lines();
        let said = lines.filter_map(|line| line.strip_prefix(reader)?.strip_prefix(' '));
        said.collect()
    };
    let first = of(readers[0]);
    for reader in readers {
        assert_eq!(first, of(reader), "{reader}");
    }
    first.join("\n")
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

/// Appends a row of numbers.
async fn append(table: &LakeTable, definition: &TableDefinition, values: &[i64]) {
    let fields = definition.columns.iter();
    let fields = fields.map(|column| column.column_type.to_field(&column.name, true));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
    let columns = values.iter().zip(schema.fields()).map(|(value, field)| {
        arrow::compute::cast(&Int64Array::from(vec![*value]), field.data_type()).unwrap()
    });
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
    let names = FileNames::of(definition);
    let layout = (definition.partition_by.as_slice(), &names);
    let mut writer = table
        .writer(schema, layout, WriterOptions::default())
        .unwrap();
    writer.write(&batch).await.unwrap();
    let adds = writer.finish().await.unwrap();
    let request = CommitRequest {
        operation: "WRITE".into(),
        adds,
        ..CommitRequest::default()
    };
    table.commit(request).await.unwrap();
}

async fn alter(table: &LakeTable, definition: &TableDefinition) {
    let change = MetadataChange {
        schema_name: "public".into(),
        definition: definition.clone(),
    };
    let turn = table.turn().await;
    table
        .change_metadata("ALTER TABLE", change, &turn)
        .await
        .unwrap();
    drop(turn);
}

/// Polars knows no column mapping, so it refuses the table.
#[tokio::test]
async fn other_readers_see_renamed_and_dropped_columns() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let lake = Lake::open(place, &BTreeMap::new()).await.unwrap();
    let mut definition = TableDefinition::new(ObjectId(16384), "t", ObjectId::SUPERUSER, "");
    for name in ["id", "part", "a", "b"] {
        let column = ColumnDefinition::new(name, ColumnType::Integer, true);
        definition.add_column(column);
    }
    definition.partition_by = vec!["part".into()];
    let location = lake.create_table(&definition, "public").await.unwrap();
    let table = lake.table_at(&location).await.unwrap();
    append(&table, &definition, &[1, 7, 10, 100]).await;
    // `a` becomes `b`, another `a` comes, the partition is called otherwise.
    definition.drop_column("b").unwrap();
    let mut columns = definition.columns.iter_mut();
    columns.find(|one| one.name == "a").unwrap().rename("b");
    let mut columns = definition.columns.iter_mut();
    columns
        .find(|one| one.name == "part")
        .unwrap()
        .rename("whole");
    definition.partition_by = vec!["whole".into()];
    definition.add_column(ColumnDefinition::new("a", ColumnType::Integer, true));
    alter(&table, &definition).await;
    append(&table, &definition, &[2, 8, 20, 2000]).await;
    let url = lake.table_url(&location).unwrap();
    let folder = url.to_file_path().unwrap();
    let (place, options) = (folder.to_str().unwrap(), serde_json::json!({}));
    let read = read_alike(&["deltalake", "duckdb"], place, &options);
    expect![[r#"
        a=NULL | b=10 | id=1 | whole=7
        a=2000 | b=20 | id=2 | whole=8"#]]
    .assert_eq(&read);
    let refused = read_by("polars", place, &options).err().unwrap_or_default();
    assert!(refused.contains("columnMapping"), "{refused}");
}

/// Python deltalake, and Polars which asks it, know no widened types, so they refuse the table.
#[tokio::test]
async fn a_reader_that_knows_widened_types_sees_the_values() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let lake = Lake::open(place, &BTreeMap::new()).await.unwrap();
    let mut definition = TableDefinition::new(ObjectId(16384), "t", ObjectId::SUPERUSER, "");
    for name in ["id", "a"] {
        let column = ColumnDefinition::new(name, ColumnType::Integer, true);
        definition.add_column(column);
    }
    let location = lake.create_table(&definition, "public").await.unwrap();
    let table = lake.table_at(&location).await.unwrap();
    append(&table, &definition, &[1, 10]).await;
    definition.columns[1].column_type = ColumnType::BigInt;
    alter(&table, &definition).await;
    append(&table, &definition, &[2, 5_000_000_000]).await;
    let url = lake.table_url(&location).unwrap();
    let folder = url.to_file_path().unwrap();
    let read = read_by("duckdb", folder.to_str().unwrap(), &serde_json::json!({})).unwrap();
    expect![[r#"
        duckdb a=10 | id=1
        duckdb a=5000000000 | id=2
    "#]]
    .assert_eq(&read);
    for reader in ["deltalake", "polars"] {
        let refused = read_by(reader, folder.to_str().unwrap(), &serde_json::json!({}));
        let message = refused.err().unwrap_or_default();
        assert!(
            message.to_lowercase().contains("typewidening"),
            "{reader}: {message}"
        );
    }
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
