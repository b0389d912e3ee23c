//! Messages of Protobuf and CSV, and those with headers, from a real broker.
//!
//! The messages of Protobuf were written by Confluent's serializer for Python (confluent-kafka 2.16, protobuf 7.36).

use std::io::Write;

use boathouse_tests::topic::Topic;
use boathouse_tests::{Failure, explain, rows, value};

const MONEY: &str = r#"syntax = "proto3";
package shop;
message Money {
  int64 cents = 1;
  string currency = 2;
}
"#;

const ORDERS: &str = r#"syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "shop/money.proto";
enum State {
  OPEN = 0;
  PAID = 1;
}
message Order {
  int64 id = 1;
  uint64 ticket = 2;
  State state = 3;
  optional string note = 4;
  google.protobuf.Timestamp at = 5;
  google.protobuf.Int32Value qty = 6;
  Money paid = 7;
  repeated string tags = 8;
  map<string, int32> stock = 9;
  bytes raw = 10;
  oneof payment {
    string card = 11;
    Money voucher = 12;
  }
  double rate = 13;
}
message Events {
  message Refund {
    int64 id = 1;
    string reason = 2;
  }
}
"#;

const REFUND: &str =
    r#"syntax = "proto3"; package shop; message Refund { int64 id = 1; string reason = 2; }"#;

/// The order 7, and the order 8 of which little is set, both behind the id 1 and the place of `Order`.
const ORDER_7: &str = "000000000100080710ffffffffffffffffff0118012a0b08809d9cb2061080e59a7732003a0808e20912034555524201614201624a050a01781003520200ff5a047669736169000000000000e03f";
const ORDER_8: &str = "0000000001000808220062020805";

/// A refund of the order 7, behind the id 1 and the place of `Events.Refund`.
const REFUND_7: &str = "00000000010402000807120662726f6b656e";

fn bytes(hexadecimal: &str) -> Result<Vec<u8>, Failure> {
    let pairs = (0..hexadecimal.len()).step_by(2);
    let pairs = pairs.map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16));
    Ok(pairs.collect::<Result<_, _>>()?)
}

/// A refund without anything before it.
fn refund() -> Result<Vec<u8>, Failure> {
    Ok(bytes(REFUND_7)?.split_off(8))
}

/// A message as Glue's serializers write it.
fn glue(body: &[u8], compresses: bool) -> Result<Vec<u8>, Failure> {
    let mut message = vec![3, if compresses { 5 } else { 0 }];
    message.extend(uuid::Uuid::new_v4().as_bytes());
    if !compresses {
        message.extend(body);
        return Ok(message);
    }
    let mut encoder = flate2::write::ZlibEncoder::new(message, flate2::Compression::default());
    encoder.write_all(body)?;
    Ok(encoder.finish()?)
}

async fn aside(topic: &Topic) -> Result<Vec<String>, Failure> {
    let query = "SELECT message_offset, reason FROM system.quarantine ORDER BY message_offset";
    rows(&topic.client, query).await
}

async fn refused(topic: &Topic, format: &str) -> Result<String, Failure> {
    let create = format!(
        "CREATE PIPELINE refused FROM KAFKA events TOPICS ('{}') FORMAT {format} INTO r",
        topic.name
    );
    match topic.client.simple_query(&create).await {
        Ok(_) => Err("the statement was not refused".into()),
        Err(error) => Ok(explain(error).to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_protobuf_have_the_types_of_their_files() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let client = &topic.client;
    let money = [("shop/money.proto", "money")];
    topic.registry.register(1, "PROTOBUF", ORDERS, &money);
    topic
        .registry
        .register_subject("money", "PROTOBUF", MONEY, &[]);
    let later = REFUND.replace("}", "bool settled = 3; }");
    topic.registry.register(2, "PROTOBUF", &later, &[]);
    topic.registry.register(3, "AVRO", "\"string\"", &[]);
    topic.registry.register(
        4,
        "PROTOBUF",
        "syntax = \"proto3\"; message A { B b = 1; }",
        &[],
    );
    let mut cut = bytes(ORDER_7)?;
    cut.truncate(20);
    let mut settled = vec![0, 0, 0, 0, 2, 0];
    settled.extend(refund()?.iter().chain(&[0x18, 1]));
    topic.produce(&[
        bytes(ORDER_7)?,
        bytes(ORDER_8)?,
        cut,
        vec![0, 0, 0, 0, 9, 0],
        vec![0, 0, 0, 0, 3, 0],
        vec![0, 0, 0, 0, 4, 0],
        vec![0, 0, 0, 0, 1, 2, 14],
        b"{}".to_vec(),
        bytes(REFUND_7)?,
    ])?;
    topic.run("PROTOBUF INTO t").await?;
    assert_eq!(
        rows(
            client,
            "SELECT id, ticket, state, note, at, qty, paid, tags, stock, raw, card, voucher, rate, _rescued \
             FROM t WHERE reason IS NULL ORDER BY id"
        )
        .await?,
        [
            "7|18446744073709551615|PAID|∅|2024-05-17 08:00:00.25+00|0|{\"cents\":1250,\"currency\":\"EUR\"}|[\"a\",\"b\"]|{\"x\":3}|\\x00ff|visa|∅|0.5|∅",
            "8|0|OPEN||∅|∅|∅|[]|{}|\\x|∅|{\"cents\":5,\"currency\":\"\"}|0|∅",
        ]
    );
    assert_eq!(
        rows(
            client,
            "SELECT id, reason, ticket FROM t WHERE reason IS NOT NULL"
        )
        .await?,
        ["7|broken|∅"]
    );
    assert_eq!(
        value(
            client,
            "SELECT pg_typeof(ticket), pg_typeof(at), pg_typeof(qty), pg_typeof(paid), pg_typeof(raw) FROM t LIMIT 1"
        )
        .await?,
        "numeric|timestamp with time zone|integer|jsonb|bytea"
    );
    let reasons = aside(&topic).await?;
    assert_eq!(
        reasons[..3],
        [
            "2|the message is not of schema 1: it ends within a field",
            "3|schema 9 is not in the registry",
            "4|schema 3 is of AVRO, not of PROTOBUF",
        ]
    );
    assert!(
        reasons[3].starts_with("5|schema 4 cannot be understood: "),
        "{reasons:?}"
    );
    assert_eq!(
        reasons[4..],
        [
            "6|schema 1 cannot be understood: it has no message at [7]",
            "7|the message does not begin with the id of its schema",
        ]
    );
    // A schema that has more fields has more columns.
    topic.produce(&[settled])?;
    rows(client, "RUN PIPELINE p").await?;
    assert_eq!(
        rows(client, "SELECT id, reason, settled FROM t WHERE settled").await?,
        ["7|broken|t"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_may_be_in_the_statement() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let client = &topic.client;
    topic.produce(&[
        refund()?,
        bytes(REFUND_7)?,
        vec![0x08, 0x09, 0xf8, 0x7f, 0x01],
        vec![],
    ])?;
    topic
        .run(&format!(
            "PROTOBUF (schema = '{REFUND}') COLUMNS (id integer, why text) INTO t"
        ))
        .await?;
    assert_eq!(
        rows(client, "SELECT id, why, _rescued FROM t ORDER BY id").await?,
        ["0|∅|∅", "7|∅|{\"reason\":\"broken\"}", "9|∅|∅"]
    );
    assert_eq!(
        aside(&topic).await?,
        [
            "1|the message is not of the schema: a field has no number that fields can have; it may begin with the id of a schema in a registry"
        ]
    );
    let shown = value(client, "SHOW CREATE PIPELINE p").await?;
    assert!(
        shown.contains("FORMAT PROTOBUF (schema = 'syntax = \"proto3\""),
        "{shown}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_and_go_by_messages_of_protobuf() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let refund = refund()?;
    topic.produce_keyed(&[
        (b"7", Some(&refund[..])),
        (b"8", Some(&[0x12, 1, b'x'])),
        (b"9", Some(&[0x12, 1, b'y'])),
        (b"8", None),
    ])?;
    let schema = REFUND.replace("int64 id = 1", "optional int64 id = 1");
    topic
        .run(&format!(
            "UPSERT (encoding = 'protobuf', schema = '{schema}', message = 'shop.Refund') INTO t KEY (id)"
        ))
        .await?;
    assert_eq!(aside(&topic).await?, Vec::<String>::new());
    assert_eq!(
        rows(&topic.client, "SELECT id, reason FROM t ORDER BY id").await?,
        ["7|broken", "9|y"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_debezium_may_be_of_protobuf() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let envelope = r#"syntax = "proto3";
package shop;
message Envelope {
  message Value {
    int32 id = 1;
    string name = 2;
  }
  Value before = 1;
  Value after = 2;
  string op = 3;
}
"#;
    topic.registry.register(7, "PROTOBUF", envelope, &[]);
    // Two rows come, the first is changed, the second goes.
    topic.produce(&[
        bytes("000000000700120508011201611a0163")?,
        bytes("000000000700120508021201621a0163")?,
        bytes("0000000007000a05080112016112060801120261321a0175")?,
        bytes("0000000007000a0508021201621a0164")?,
    ])?;
    topic
        .run("DEBEZIUM (encoding = 'protobuf') INTO t KEY (id)")
        .await?;
    assert_eq!(aside(&topic).await?, Vec::<String>::new());
    assert_eq!(
        rows(&topic.client, "SELECT id, name FROM t").await?,
        ["1|a2"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_csv_is_a_record() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let client = &topic.client;
    topic.produce(&[
        "1;\"a;\"\"b\"\"\";1,50;2024-05-17",
        "2;NA;x;17.05.2024",
        "3;c\r\n",
        "4;d;2,5;2024-05-18;more",
        "5\n6",
        "7;\"d",
        "",
    ])?;
    topic
        .run(
            "CSV (delimiter = ';', null_values = 'NA', decimal = ',', column_names = ('id', 'name', 'paid', 'day')) \
             COLUMNS (id integer, name text, paid numeric(10,2), day date) INTO t",
        )
        .await?;
    assert_eq!(
        rows(
            client,
            "SELECT id, name, paid, day, _rescued FROM t ORDER BY id"
        )
        .await?,
        [
            "1|a;\"b\"|1.50|2024-05-17|∅",
            "2|∅|∅|∅|{\"paid\":\"x\",\"day\":\"17.05.2024\"}",
            "3|c|∅|∅|∅",
            "4|d|2.50|2024-05-18|{\"column_5\":\"more\"}",
        ]
    );
    assert_eq!(
        aside(&topic).await?,
        [
            "4|the message has 2 records, not one",
            "5|a quoted cell is never closed",
            "6|the message has no record",
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_csv_may_have_no_names() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let client = &topic.client;
    topic.produce(&["1,a", "2,b"])?;
    topic.run("CSV INTO t").await?;
    topic.produce(&["3,c,2024-05-17"])?;
    rows(client, "RUN PIPELINE p").await?;
    assert_eq!(
        rows(
            client,
            "SELECT column_1, column_2, column_3 FROM t ORDER BY column_1"
        )
        .await?,
        ["1|a|∅", "2|b|∅", "3|c|2024-05-17"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_glue_are_passed_over_where_the_schema_is_given() -> Result<(), Failure> {
    let record = r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"reason","type":"string"}]}"#;
    let avro = [&[14, 12][..], b"broken"].concat();
    let json = br#"{"id": 7, "reason": "broken"}"#;
    let schema = format!("schema = '{record}', header = 'glue'");
    let file = format!("schema = '{REFUND}', header = 'glue'");
    for (format, body) in [
        (format!("AVRO ({schema})"), avro),
        (format!("PROTOBUF ({file})"), refund()?),
        ("JSON (header = 'glue')".to_owned(), json.to_vec()),
    ] {
        let topic = Topic::create().await?;
        topic.produce(&[glue(&body, false)?, glue(&body, true)?, body.clone()])?;
        topic.run(&format!("{format} INTO t")).await?;
        assert_eq!(
            rows(&topic.client, "SELECT id, reason, _rescued FROM t").await?,
            ["7|broken|∅", "7|broken|∅"],
            "{format}"
        );
        assert_eq!(
            aside(&topic).await?,
            ["2|the message does not begin with the header of AWS Glue"],
            "{format}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_were_not_told_of_are_named() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    topic.produce(&[glue(b"{}", false)?])?;
    topic.run("AVRO INTO t").await?;
    assert_eq!(
        aside(&topic).await?,
        [
            "0|the message has its schema in AWS Glue's registry, which is not asked; give the options schema and header = 'glue'"
        ]
    );
    rows(&topic.client, "DROP PIPELINE p").await?;
    topic.run("JSON COLUMNS (id integer) INTO j").await?;
    assert_eq!(
        aside(&topic).await?,
        ["0|the message has the header of AWS Glue; give FORMAT JSON the option header = 'glue'"]
    );
    let json = Topic::create().await?;
    json.produce(&[[&[0, 0, 0, 0, 5][..], br#"{"id": 7}"#].concat()])?;
    json.run("JSON (header = 'confluent') INTO t").await?;
    assert_eq!(rows(&json.client, "SELECT id FROM t").await?, ["7"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_are_none_are_refused_at_once() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let of = async |format: &str| refused(&topic, format).await;
    let several = "syntax = \"proto3\"; message A {} message B {}";
    let told = of(&format!("PROTOBUF (schema = '{several}')")).await?;
    assert!(told.contains("several messages"), "{told}");
    let told = of(&format!("PROTOBUF (schema = '{several}', message = 'C')")).await?;
    assert!(
        told.contains("no message \"C\", but \"A\", \"B\""),
        "{told}"
    );
    let told = of("PROTOBUF (schema = 'message {')").await?;
    assert!(
        told.contains("option \"schema\" cannot be understood"),
        "{told}"
    );
    let told = of("AVRO (schema = '{')").await?;
    assert!(
        told.contains("option \"schema\" cannot be understood"),
        "{told}"
    );
    let told = of("AVRO (header = 'glue')").await?;
    assert!(told.contains("go with \"schema\""), "{told}");
    let told = of("AVRO (schema = '\"string\"', message = 'A')").await?;
    assert!(told.contains("has no option \"message\""), "{told}");
    let told = of("CSV (column_names = 'a, a')").await?;
    assert!(told.contains("a column \"a\" twice"), "{told}");
    Ok(())
}

/// Messages of other formats than JSON go to tables by a column, too.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_csv_go_to_tables_by_a_column() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let client = &topic.client;
    rows(client, "CREATE SCHEMA bronze").await?;
    topic.produce(&[
        "1,sale,4.50,a",
        "2,refund,1.00",
        "3,sale,x,b,more",
        "4,,1.00",
        "5\n6",
    ])?;
    topic
        .run(
            "CSV (column_names = ('id', 'kind', 'paid', 'note')) \
             COLUMNS (id integer, kind text, paid numeric(10,2), note text) INTO SCHEMA bronze BY kind",
        )
        .await?;
    assert_eq!(
        rows(
            client,
            "SELECT id, kind, paid, note, _rescued FROM bronze.sale ORDER BY id"
        )
        .await?,
        [
            "1|sale|4.50|a|∅",
            "3|sale|∅|b|{\"paid\":\"x\",\"column_5\":\"more\"}"
        ]
    );
    let refund = "SELECT id, kind, paid, _rescued FROM bronze.refund";
    assert_eq!(rows(client, refund).await?, ["2|refund|1.00|∅"]);
    assert_eq!(
        aside(&topic).await?,
        [
            "3|column \"kind\", which names the table, has no value",
            "4|the message has 2 records, not one",
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_protobuf_go_to_tables_by_a_column() -> Result<(), Failure> {
    let topic = Topic::create().await?;
    let client = &topic.client;
    rows(client, "CREATE SCHEMA bronze").await?;
    let refunds = "syntax = \"proto3\"; message Refund { int64 id = 1; string reason = 2; optional int32 parts = 3; }";
    topic.registry.register(1, "PROTOBUF", refunds, &[]);
    let wider = refunds.replace("}", "optional bool settled = 4; }");
    topic.registry.register(2, "PROTOBUF", &wider, &[]);
    let message = |schema: u8, id: u8, reason: &str, rest: &[u8]| {
        let mut message = vec![0, 0, 0, 0, schema, 0, 8, id, 18];
        message.push(u8::try_from(reason.len()).unwrap_or(0));
        message.extend(reason.as_bytes());
        message.extend(rest);
        message
    };
    topic.produce(&[
        message(1, 1, "broken", &[24, 2]),
        message(1, 2, "late", &[]),
        message(2, 3, "broken", &[32, 1]),
        message(1, 4, "", &[]),
        vec![0, 0, 0, 0, 1, 0, 8],
    ])?;
    topic.run("PROTOBUF INTO SCHEMA bronze BY reason").await?;
    let broken = "SELECT id, reason, parts, settled FROM bronze.broken ORDER BY id";
    assert_eq!(
        rows(client, broken).await?,
        ["1|broken|2|∅", "3|broken|∅|t"]
    );
    let late = rows(client, "SELECT * FROM bronze.late").await?;
    assert_eq!(late.len(), 1);
    let columns = "SELECT string_agg(column_name, ',' ORDER BY column_name) FROM information_schema.columns \
                   WHERE table_schema = 'bronze' AND table_name = 'late'";
    let columns = value(client, columns).await?;
    assert!(!columns.contains("settled"), "{columns}");
    let aside = aside(&topic).await?;
    assert_eq!(aside.len(), 2, "{aside:?}");
    assert_eq!(
        aside[0],
        "3|column \"reason\", which names the table, has no value"
    );
    Ok(())
}
