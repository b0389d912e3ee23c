//! Tables that need what is not understood are refused by its name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

/// A table of another program: its protocol, properties and the metadata of its one column.
async fn open(
    protocol: Value,
    properties: Value,
    column: Value,
) -> (tempfile::TempDir, Result<Arc<LakeTable>, LakeError>) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("_delta_log");
    std::fs::create_dir(&log).unwrap();
    let schema = json!({"type": "struct", "fields": [
        {"name": "id", "type": "long", "nullable": true, "metadata": column},
    ]});
    let metadata = json!({
        "id": "3c2f8f0a-0000-4000-8000-000000000000",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.to_string(),
        "partitionColumns": [],
        "configuration": properties,
        "createdTime": 0,
    });
    let entry = format!(
        "{}\n{}\n",
        json!({ "protocol": protocol }),
        json!({ "metaData": metadata })
    );
    std::fs::write(log.join("00000000000000000000.json"), entry).unwrap();
    let place = folder.path().to_str().unwrap().to_owned();
    let opened = Lake::open_table(&place, &BTreeMap::new()).await;
    (folder, opened)
}

fn features(reader: &[&str], writer: &[&str]) -> Value {
    json!({
        "minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": reader, "writerFeatures": writer,
    })
}

#[tokio::test]
async fn a_feature_that_reading_needs_is_named() {
    for feature in [
        "variantType",
        "catalogManaged",
        "catalogOwned-preview",
        "geospatial",
        "somethingNew",
    ] {
        let (_folder, opened) = open(features(&[feature], &[feature]), json!({}), json!({})).await;
        let error = opened.err().unwrap();
        assert!(matches!(error, LakeError::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(feature), "{error}");
    }
    let mapping = json!({"delta.columnMapping.mode": "id", "delta.columnMapping.maxColumnId": "1"});
    let column = json!({"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "c"});
    let feature = ["columnMapping"];
    let (_folder, opened) = open(features(&feature, &feature), mapping, column).await;
    let error = opened.err().unwrap();
    assert!(error.to_string().contains("columnMapping by id"), "{error}");
}

#[tokio::test]
async fn files_outside_of_the_table_are_refused() {
    let plain = json!({"minReaderVersion": 1, "minWriterVersion": 2});
    for path in [
        "file:/elsewhere/a.parquet",
        "/elsewhere/a.parquet",
        "s3://b/a.parquet",
    ] {
        let (folder, opened) = open(plain.clone(), json!({}), json!({})).await;
        opened.unwrap();
        let add = json!({"add": {
            "path": path, "partitionValues": {}, "size": 1, "modificationTime": 0, "dataChange": true,
        }});
        let entry = folder.path().join("_delta_log/00000000000000000001.json");
        std::fs::write(entry, add.to_string()).unwrap();
        let place = folder.path().to_str().unwrap();
        let opened = Lake::open_table(place, &BTreeMap::new()).await;
        let error = opened.err().unwrap();
        assert!(
            matches!(error, LakeError::Unsupported { .. }),
            "{path}: {error:?}"
        );
        assert!(error.to_string().contains("shallow clone"), "{error}");
    }
}

#[tokio::test]
async fn a_feature_that_writing_needs_is_named() {
    let plain = json!({"minReaderVersion": 1, "minWriterVersion": 6});
    let with = |feature: &str| features(&[], &[feature]);
    let cases = [
        (with("rowTracking"), json!({}), json!({}), "rowTracking"),
        (
            with("inCommitTimestamp"),
            json!({}),
            json!({}),
            "inCommitTimestamp",
        ),
        (with("clustering"), json!({}), json!({}), "clustering"),
        (
            with("icebergCompatV2"),
            json!({}),
            json!({}),
            "icebergCompatV2",
        ),
        (with("somethingNew"), json!({}), json!({}), "somethingNew"),
        (
            plain.clone(),
            json!({"delta.constraints.small": "id < 10"}),
            json!({}),
            "delta.constraints.small",
        ),
        (
            plain.clone(),
            json!({}),
            json!({"delta.invariants": "{\"expression\": {\"expression\": \"id < 10\"}}"}),
            "invariants",
        ),
        (
            plain.clone(),
            json!({}),
            json!({"delta.generationExpression": "1 + 1"}),
            "generatedColumns",
        ),
        (
            plain.clone(),
            json!({}),
            json!({"delta.identity.start": 1, "delta.identity.step": 1, "delta.identity.allowExplicitInsert": false}),
            "identityColumns",
        ),
    ];
    for (protocol, properties, column, named) in cases {
        let (_folder, opened) = open(protocol, properties, column).await;
        let table = opened.unwrap_or_else(|error| panic!("{named}: {error}"));
        let error = table.check_writable().await.err().unwrap();
        assert!(matches!(error, LakeError::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}

#[tokio::test]
async fn rows_of_a_table_to_append_to_stay() {
    let plain = json!({"minReaderVersion": 1, "minWriterVersion": 4});
    for property in ["delta.appendOnly", "delta.enableChangeDataFeed"] {
        let properties = Map::from_iter([(property.to_owned(), json!("true"))]);
        let (_folder, opened) = open(plain.clone(), Value::from(properties), json!({})).await;
        let table = opened.unwrap();
        table.check_writable().await.unwrap();
        let append = CommitRequest {
            operation: "WRITE".into(),
            ..CommitRequest::default()
        };
        table.commit(append).await.unwrap();
        let truncate = CommitRequest {
            operation: "TRUNCATE".into(),
            removes_all: true,
            ..CommitRequest::default()
        };
        let error = table.commit(truncate).await.err().unwrap();
        assert!(error.to_string().contains(property), "{error}");
    }
}
