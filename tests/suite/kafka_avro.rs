//! Messages of Avro from a real broker, with their schemas in a registry.

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Decimal, Schema};
use boathouse_tests::topic::Topic;
use boathouse_tests::{Failure, rows, value};

const ORDER: &str = r#"{"type":"record","name":"order","fields":[
    {"name":"id","type":"long"},
    {"name":"paid","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"note","type":["null","string"],"default":null},
    {"name":"tags","type":{"type":"array","items":"string"}},
    {"name":"state","type":"shop.state"}]}"#;

const STATE: &str =
    r#"{"type":"enum","name":"state","namespace":"shop","symbols":["open","paid"]}"#;

const LATER: &str = r#"{"type":"record","name":"order","fields":[
    {"name":"id","type":"long"},{"name":"coupon","type":["null","string"],"default":null}]}"#;

/// A message as Confluent's serializer writes it.
fn framed(id: u32, schema: &str, references: &[&str], value: Value) -> Result<Vec<u8>, Failure> {
    let (schema, _) = Schema::parse_str_with_list(schema, references)?;
    let mut message = vec![0];
    message.extend(id.to_be_bytes());
    // References stand in the schema itself once it is parsed with what it refers to.
    message.extend(datum(&schema, references, value)?);
    Ok(message)
}

fn datum(schema: &Schema, references: &[&str], value: Value) -> Result<Vec<u8>, Failure> {
    let references = Schema::parse_list(references)?;
    let all = references.iter().chain([schema]);
    let writer = GenericDatumWriter::builder(schema);
    let writer = match references.is_empty() {
        true => writer.build()?,
        false => writer.schemata(all.collect())?.build()?,
    };
    Ok(writer.write_value_to_vec(value)?)
}

fn order(id: i64, unscaled: i16, state: u32) -> Value {
    Value::Record(vec![
        ("id".into(), Value::Long(id)),
        (
            "paid".into(),
            Value::Decimal(Decimal::from(unscaled.to_be_bytes())),
        ),
        ("at".into(), Value::TimestampMillis(1_700_000_000_000)),
        ("note".into(), Value::Union(0, Box::new(Value::Null))),
        ("tags".into(), Value::Array(vec![Value::String("a".into())])),
        (
            "state".into(),
            Value::Enum(state, ["open", "paid"][state as usize].into()),
        ),
    ])
}

fn answer(schema: &str, references: &str) -> Result<String, Failure> {
    let schema = schema.replace('\n', " ").replace('"', "\\\"");
    Ok(format!(
        "{{\"schema\":\"{schema}\",\"references\":[{references}]}}"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn records_have_the_types_of_their_schemas() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let client = &topic.client;
    let reference = r#"{"name":"shop.state","subject":"shop state","version":3}"#;
    topic
        .registry
        .put("/schemas/ids/1", answer(ORDER, reference)?);
    topic
        .registry
        .put("/subjects/shop+state/versions/3", answer(STATE, "")?);
    topic.registry.put("/schemas/ids/2", answer(LATER, "")?);
    let later = Value::Record(vec![
        ("id".into(), Value::Long(4)),
        (
            "coupon".into(),
            Value::Union(1, Box::new(Value::String("MAY".into()))),
        ),
    ]);
    let messages = [
        framed(1, ORDER, &[STATE], order(1, 1250, 0))?,
        framed(1, ORDER, &[STATE], order(2, -5, 1))?,
        framed(9, LATER, &[], later.clone())?,
        b"{\"id\":3}".to_vec(),
        vec![0, 0, 0, 0, 1, 2],
        framed(2, LATER, &[], later)?,
    ];
    topic.produce(&messages)?;
    rows(
        client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{}') FORMAT AVRO INTO t SCHEDULE ON DEMAND",
            topic.name
        ),
    )
    .await?;
    rows(client, "RUN PIPELINE p").await?;
    assert_eq!(
        rows(
            client,
            "SELECT id, paid, at, note, tags, state, coupon, _rescued FROM t ORDER BY id"
        )
        .await?,
        [
            "1|12.50|2023-11-14 22:13:20+00|∅|[\"a\"]|open|∅|∅",
            "2|-0.05|2023-11-14 22:13:20+00|∅|[\"a\"]|paid|∅|∅",
            "4|∅|∅|∅|∅|∅|MAY|∅",
        ]
    );
    assert_eq!(
        value(
            client,
            "SELECT pg_typeof(paid), pg_typeof(at), pg_typeof(id) FROM t WHERE id = 1"
        )
        .await?,
        "numeric|timestamp with time zone|bigint"
    );
    let aside = rows(
        client,
        "SELECT message_offset, reason FROM system.quarantine ORDER BY message_offset",
    )
    .await?;
    assert_eq!(aside[0], "2|schema 9 is not in the registry");
    assert_eq!(
        aside[1],
        "3|the message does not begin with the id of its schema"
    );
    assert!(
        aside[2].starts_with("4|the message is not of schema 1"),
        "{aside:?}"
    );
    assert_eq!(aside.len(), 3);
    let asked = topic.registry.asked();
    let first = asked
        .iter()
        .filter(|path| *path == "/schemas/ids/1")
        .count();
    assert_eq!(first, 1, "{asked:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_debezium_may_be_of_avro() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let client = &topic.client;
    let envelope = r#"{"type":"record","name":"envelope","fields":[
        {"name":"before","type":["null",{"type":"record","name":"row","fields":[
            {"name":"id","type":"int"},{"name":"name","type":"string"}]}],"default":null},
        {"name":"after","type":["null","row"],"default":null},
        {"name":"op","type":"string"}]}"#;
    topic.registry.put("/schemas/ids/7", answer(envelope, "")?);
    let row = |id: i32, name: &str| {
        let row = Value::Record(vec![
            ("id".into(), Value::Int(id)),
            ("name".into(), Value::String(name.into())),
        ]);
        Value::Union(1, Box::new(row))
    };
    let none = || Value::Union(0, Box::new(Value::Null));
    let change = |before, after, op: &str| {
        let change = Value::Record(vec![
            ("before".into(), before),
            ("after".into(), after),
            ("op".into(), Value::String(op.into())),
        ]);
        framed(7, envelope, &[], change)
    };
    let messages = [
        change(none(), row(1, "a"), "c")?,
        change(none(), row(2, "b"), "c")?,
        change(row(1, "a"), row(1, "a2"), "u")?,
        change(row(2, "b"), none(), "d")?,
    ];
    topic.produce(&messages)?;
    rows(
        client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{}') FORMAT DEBEZIUM (encoding = 'avro') \
             INTO t KEY (id) SCHEDULE ON DEMAND",
            topic.name
        ),
    )
    .await?;
    rows(client, "RUN PIPELINE p").await?;
    let aside = rows(client, "SELECT reason FROM system.quarantine").await?;
    assert_eq!(aside, Vec::<String>::new());
    assert_eq!(rows(client, "SELECT id, name FROM t").await?, ["1|a2"]);
    Ok(())
}

const SALE: &str = r#"{"type":"record","name":"sale","fields":[
    {"name":"kind","type":"string"},{"name":"id","type":"long"},{"name":"sum","type":"int"}]}"#;

const LOGIN: &str = r#"{"type":"record","name":"login","fields":[
    {"name":"kind","type":"string"},{"name":"user","type":"string"},
    {"name":"sum","type":["null","string"],"default":null}]}"#;

/// Records of two schemas in one topic, each with columns and types of its own.
#[tokio::test(flavor = "multi_thread")]
async fn records_go_to_tables_by_a_column() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let client = &topic.client;
    rows(client, "CREATE SCHEMA bronze").await?;
    topic.registry.register(1, "AVRO", SALE, &[]);
    topic.registry.register(2, "AVRO", LOGIN, &[]);
    let sale = |id: i64| {
        let fields = vec![
            ("kind".into(), Value::String("Sale".into())),
            ("id".into(), Value::Long(id)),
            ("sum".into(), Value::Int(40)),
        ];
        framed(1, SALE, &[], Value::Record(fields))
    };
    let login = |user: &str| {
        let sum = Value::Union(1, Box::new(Value::String("none".into())));
        let fields = vec![
            ("kind".into(), Value::String("login".into())),
            ("user".into(), Value::String(user.into())),
            ("sum".into(), sum),
        ];
        framed(2, LOGIN, &[], Value::Record(fields))
    };
    topic.produce(&[
        sale(1)?,
        login("ann")?,
        vec![0, 0, 0, 0, 9],
        sale(2)?,
        login("bo")?,
    ])?;
    topic.run("AVRO INTO SCHEMA bronze BY kind").await?;
    let sales = "SELECT id, sum, pg_typeof(sum) FROM bronze.sale ORDER BY id";
    assert_eq!(rows(client, sales).await?, ["1|40|integer", "2|40|integer"]);
    let logins = "SELECT \"user\", sum, pg_typeof(sum) FROM bronze.login ORDER BY 1";
    assert_eq!(
        rows(client, logins).await?,
        ["ann|none|text", "bo|none|text"]
    );
    let aside = "SELECT message_offset FROM system.quarantine";
    assert_eq!(rows(client, aside).await?, ["2"]);
    Ok(())
}
