//! Each type against both servers: what a `SELECT` answers and what the binlog holds are one column.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef};
use arrow::util::display::array_value_to_string;
use futures::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStreamRequest, Row};

use super::wire::code;
use super::{ColumnBuilder, SourceType, ValuePolicies, WireColumn, skip_binlog};
use crate::mysql::server::Session;
use crate::mysql::{Flavor, MySqlServer, TlsMode};

/// A column and the values its rows have, as SQL writes both.
type Column<'a> = (&'a str, &'a [&'a str]);

/// Types both servers have.
const COMMON: &[Column] = &[
    ("TINYINT", &["-128", "127", "0"]),
    ("YEAR", &["1901", "2155", "0"]),
    ("TINYINT UNSIGNED", &["0", "255"]),
    ("SMALLINT", &["-32768", "32767"]),
    ("SMALLINT UNSIGNED", &["0", "65535"]),
    ("MEDIUMINT", &["-8388608", "8388607"]),
    ("MEDIUMINT UNSIGNED", &["0", "16777215"]),
    ("INT", &["-2147483648", "2147483647"]),
    ("INT(10) UNSIGNED ZEROFILL", &["0", "4294967295", "7"]),
    (
        "BIGINT",
        &["-9223372036854775808", "9223372036854775807", "-1"],
    ),
    ("BIGINT UNSIGNED", &["0", "18446744073709551615"]),
    (
        "DECIMAL(10,2)",
        &["0", "-0.01", "99999999.99", "-99999999.99", "1.5"],
    ),
    ("DECIMAL(5,0)", &["0", "-99999", "1"]),
    ("DECIMAL(5,5)", &["0.00001", "-0.99999"]),
    ("DECIMAL(18,9)", &["123456789.987654321", "-0.000000001"]),
    ("DECIMAL(19,10)", &["123456789.9876543210", "-1"]),
    (
        "DECIMAL(38,10)",
        &[
            "9999999999999999999999999999.9999999999",
            "-1234567890123456789012345678.0123456789",
            "0",
        ],
    ),
    (
        "DECIMAL(40,2) UNSIGNED ZEROFILL",
        &["0", "0.05", "12345678901234567890123456789012345678.99"],
    ),
    (
        "DECIMAL(65,30)",
        &[
            "0",
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "-0.000000000000000000000000000001",
            "12.5",
        ],
    ),
    ("FLOAT", &["0", "1.5", "-3.4e38", "1e-30", "0.1"]),
    ("FLOAT(7,3)", &["1234.567", "-0.001"]),
    (
        "DOUBLE",
        &[
            "0",
            "0.1",
            "-1.7976931348623157e308",
            "5e-324",
            "123456.789",
        ],
    ),
    ("BIT(1)", &["b'0'", "b'1'"]),
    ("BIT(5)", &["b'10101'", "b'0'"]),
    ("BIT(16)", &["b'1000000000000001'"]),
    ("BIT(63)", &["0x7FFFFFFFFFFFFFFF", "1"]),
    ("BIT(64)", &["0xFFFFFFFFFFFFFFFF", "1"]),
    (
        "DATE",
        &[
            "'1000-01-01'",
            "'9999-12-31'",
            "'1970-01-01'",
            "'2024-02-29'",
            "'0000-00-00'",
            "'2024-00-15'",
            "'2023-02-31'",
            "'0001-01-01'",
        ],
    ),
    (
        "DATETIME",
        &[
            "'1000-01-01 00:00:00'",
            "'9999-12-31 23:59:59'",
            "'0000-00-00'",
            "'2024-00-00 01:02:03'",
        ],
    ),
    (
        "DATETIME(1)",
        &["'2024-02-29 23:59:59.9'", "'1969-12-31 23:59:59.1'"],
    ),
    ("DATETIME(2)", &["'2024-02-29 23:59:59.99'"]),
    ("DATETIME(3)", &["'2024-02-29 23:59:59.123'"]),
    ("DATETIME(4)", &["'2024-02-29 23:59:59.0009'"]),
    ("DATETIME(5)", &["'2024-02-29 23:59:59.00001'"]),
    (
        "DATETIME(6)",
        &[
            "'9999-12-31 23:59:59.999999'",
            "'1000-01-01 00:00:00.000001'",
        ],
    ),
    (
        "TIMESTAMP NULL",
        &[
            "'1970-01-01 00:00:01'",
            "'2038-01-19 03:14:07'",
            "'0000-00-00'",
        ],
    ),
    ("TIMESTAMP(1) NULL", &["'2024-03-31 01:30:00.5'"]),
    (
        "TIMESTAMP(3) NULL",
        &["'2024-10-27 01:30:00.125'", "'0000-00-00'"],
    ),
    ("TIMESTAMP(4) NULL", &["'2024-10-27 01:30:00.1256'"]),
    ("TIMESTAMP(6) NULL", &["'2038-01-19 03:14:07.999999'"]),
    (
        "TIME",
        &["'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'"],
    ),
    (
        "TIME(1)",
        &["'-00:00:00.5'", "'12:34:56.7'", "'-838:59:58.9'"],
    ),
    ("TIME(2)", &["'-00:00:00.05'", "'100:00:00.99'"]),
    ("TIME(3)", &["'-12:00:00.001'", "'12:34:56.789'"]),
    ("TIME(4)", &["'-12:00:00.0001'", "'0'"]),
    ("TIME(5)", &["'-12:00:00.00001'", "'23:59:59.99999'"]),
    ("TIME(6)", &["'-838:59:58.999999'", "'-00:00:00.000001'"]),
    (
        "CHAR(10) CHARACTER SET utf8mb4",
        &["'abc  '", "''", "'  é💩'"],
    ),
    (
        "CHAR(255) CHARACTER SET utf8mb4",
        &["REPEAT('💩', 255)", "'x'"],
    ),
    (
        "VARCHAR(40) CHARACTER SET utf8mb4",
        &["'abc  '", "''", "'日本語 💩'"],
    ),
    (
        "VARCHAR(300) CHARACTER SET utf8mb4",
        &["REPEAT('é', 300)", "'x'"],
    ),
    ("VARCHAR(40) CHARACTER SET utf8mb3", &["'日本語'"]),
    ("VARCHAR(40) CHARACTER SET ascii", &["'abc'"]),
    (
        "VARCHAR(40) CHARACTER SET latin1",
        &["'café €'", "_latin1 x'818D8F909D'"],
    ),
    ("CHAR(4) CHARACTER SET ucs2", &["'é€ '", "'ab'"]),
    ("CHAR(4) CHARACTER SET utf16", &["'é💩  '", "'ab'"]),
    ("VARCHAR(40) CHARACTER SET utf16le", &["'é💩'", "'ab'"]),
    ("VARCHAR(40) CHARACTER SET utf32", &["'é💩'", "'ab'"]),
    ("VARCHAR(40) CHARACTER SET gbk", &["'你好 abc'"]),
    ("VARCHAR(40) CHARACTER SET gb2312", &["'你好―・'"]),
    ("VARCHAR(40) CHARACTER SET big5", &["'中文ぁЯ'"]),
    ("VARCHAR(40) CHARACTER SET sjis", &["'日本〜ｱ'"]),
    ("VARCHAR(40) CHARACTER SET cp932", &["'日本～ｱ①'"]),
    ("VARCHAR(40) CHARACTER SET ujis", &["'日本〜ｱ丂'"]),
    ("VARCHAR(40) CHARACTER SET eucjpms", &["'日本～ｱ黑①'"]),
    ("VARCHAR(40) CHARACTER SET euckr", &["'한국어'"]),
    ("VARCHAR(40) CHARACTER SET cp1251", &["'Привет'"]),
    ("VARCHAR(40) CHARACTER SET koi8u", &["'Привіт'"]),
    ("VARCHAR(40) CHARACTER SET greek", &["'αβγ'"]),
    ("VARCHAR(40) CHARACTER SET hebrew", &["'שלום'"]),
    ("VARCHAR(40) CHARACTER SET swe7", &["'Åäö'"]),
    ("VARCHAR(40) CHARACTER SET tis620", &["'สวัสดี'"]),
    ("TINYTEXT CHARACTER SET utf8mb4", &["''", "'é'"]),
    ("TEXT CHARACTER SET utf8mb4", &["REPEAT('é', 2000)"]),
    ("MEDIUMTEXT CHARACTER SET latin2", &["'ąćę'"]),
    ("LONGTEXT CHARACTER SET utf8mb4", &["REPEAT('x', 70000)"]),
    (
        "BINARY(8)",
        &["x'0102'", "x'00'", "''", "x'FFFFFFFFFFFFFFFF'"],
    ),
    ("BINARY(255)", &["'a'", "REPEAT(x'FF', 255)"]),
    ("VARBINARY(40)", &["x'010200'", "''"]),
    ("VARBINARY(400)", &["REPEAT(x'00FF', 200)"]),
    ("TINYBLOB", &["x'00FF'", "''"]),
    ("BLOB", &["x'00FF'"]),
    ("MEDIUMBLOB", &["x'00FF'"]),
    ("LONGBLOB", &["REPEAT(x'00FF', 40000)"]),
    (
        "ENUM('a','b''c','d\\\\e','x,y','\n') CHARACTER SET utf8mb4",
        &[
            "'a'",
            "'b''c'",
            "'d\\\\e'",
            "'x,y'",
            "'\n'",
            "'none of them'",
        ],
    ),
    ("ENUM('é','€') CHARACTER SET latin1", &["'é'", "2"]),
    ("ENUM('é','日') CHARACTER SET ucs2", &["'é'", "2"]),
    (
        "SET('a','b','é') CHARACTER SET latin1",
        &["''", "'a,é'", "7"],
    ),
    (
        "SET('a','b','c','d','e','f','g','h','i','日') CHARACTER SET utf16",
        &["'a,日'", "'i'", "0"],
    ),
    (
        "GEOMETRY",
        &[
            "ST_GeomFromText('POINT(1 2)')",
            "ST_GeomFromText('LINESTRING(0 0,1 1)', 4326)",
        ],
    ),
    ("POINT", &["ST_GeomFromText('POINT(-1 2.5)', 0)"]),
    // The signs of the columns are a list of bits: all of them have to be counted alike.
    ("INT UNSIGNED", &["4294967295"]),
    ("INT", &["-1"]),
];

const MYSQL: &[Column] = &[
    (
        "JSON",
        &[
            "'{\"b\": [1, 2.5, \"x\"], \"a\": null, \"ccc\": {\"d\": {}}, \"\": []}'",
            "'[true, false, null, -1, 65535, 65536, -32769, 4294967296, 18446744073709551615, -9223372036854775808]'",
            "'\"a\\\\\"b\\\\\\\\c\\\\n\\\\t\\\\u0001\\\\u00e9💩/\"'",
            "'1e15'",
            "'[1.0, -0.0, 0.1, 1e14, 1.5e-15, 1e-16, 1e308, 5e-324, 100.25]'",
            "JSON_ARRAY(CAST('10:11:12.5' AS TIME(1)), CAST('-838:59:59' AS TIME), DATE'2020-01-02', TIMESTAMP'2020-01-02 03:04:05.000006', DATE'0000-00-00')",
            "JSON_ARRAY(1.50, -0.5, 12345678901234567890.123, CAST(0 AS DECIMAL(5,2)))",
            "JSON_ARRAY(REPEAT(x'01', 200), b'101', CAST(x'00FF' AS BINARY(4)), x'')",
            "JSON_ARRAY(ST_GeomFromText('POINT(1 2)'), CAST(2024 AS YEAR))",
            "JSON_OBJECT('large', REPEAT('x', 70000), 'n', 70000, 'u', 3000000000, 'i', -70000, 'a', JSON_ARRAY(1, 70000))",
            "'null'",
            "'\"\"'",
        ],
    ),
    ("VECTOR(3)", &["TO_VECTOR('[1,2.5,-3]')"]),
    ("VARCHAR(40) CHARACTER SET gb18030", &["'你好💩'"]),
    (
        "VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_ja_0900_as_cs",
        &["'日本'"],
    ),
];

const MARIADB: &[Column] = &[
    (
        "UUID",
        &[
            "'00112233-4455-1677-8899-aabbccddeeff'",
            "'00112233-4455-4677-8899-aabbccddee00'",
            "'01907c5e-9d6f-7c3a-8e1f-000000000000'",
            "'00000000-0000-0000-0000-000000000000'",
            "'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'",
            "'00112233-4455-4677-0899-aabbccddeeff'",
        ],
    ),
    ("INET4", &["'0.0.0.0'", "'255.255.255.255'", "'10.0.0.0'"]),
    (
        "INET6",
        &[
            "'::'",
            "'::1'",
            "'1::'",
            "'::ffff:1.2.3.4'",
            "'1:0:0:2:0:0:0:3'",
        ],
    ),
    ("JSON", &["'{\"b\" :1,  \"a\": [1.0]}'", "'[]'"]),
    (
        "VARCHAR(300) COMPRESSED CHARACTER SET utf8mb4",
        &["REPEAT('é', 300)", "''", "'short'"],
    ),
    ("BLOB COMPRESSED", &["REPEAT(x'00FF', 400)", "''", "x'00'"]),
    (
        "TEXT COMPRESSED CHARACTER SET latin1",
        &["REPEAT('é', 300)"],
    ),
    (
        "VARCHAR(40) CHARACTER SET utf8mb4 COLLATE uca1400_ai_ci",
        &["'日本 💩'"],
    ),
    (
        "VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_swedish_nopad_ci",
        &["'é'"],
    ),
];

/// Made with `mysql56_temporal_format = OFF`.
const MARIADB_OLDER: &[Column] = &[
    ("TIME", &["'-838:59:59'", "'01:02:03'"]),
    ("TIME(1)", &["'-00:00:00.5'", "'838:59:59.9'"]),
    ("TIME(3)", &["'-12:13:14.567'"]),
    ("TIME(6)", &["'-838:59:58.999999'"]),
    ("DATETIME", &["'9999-12-31 23:59:59'", "'0000-00-00'"]),
    (
        "DATETIME(2)",
        &["'2024-02-29 23:59:59.12'", "'2024-00-15 01:00:00'"],
    ),
    ("DATETIME(6)", &["'9999-12-31 23:59:59.999999'"]),
    ("TIMESTAMP NULL", &["'2038-01-19 03:14:07'", "'0000-00-00'"]),
    ("TIMESTAMP(3) NULL", &["'2024-10-27 01:30:00.125'"]),
    ("TIMESTAMP(6) NULL", &["'2024-10-27 01:30:00.000001'"]),
];

#[tokio::test]
async fn mysql_answers_what_its_binlog_holds() {
    let server = server("mysql.sh");
    check(&server, "mysql_types", "", &[COMMON, MYSQL].concat()).await;
}

#[tokio::test]
async fn mariadb_answers_what_its_binlog_holds() {
    let server = server("mariadb.sh");
    check(&server, "mariadb_types", "", &[COMMON, MARIADB].concat()).await;
    let mut admin = server.connect().await.unwrap().connection;
    // Tables keep the format they were made with, so that it is switched for no longer than this takes.
    admin
        .query_drop("SET GLOBAL mysql56_temporal_format = OFF")
        .await
        .unwrap();
    let older = create(&server, "mariadb_older", MARIADB_OLDER).await;
    admin
        .query_drop("SET GLOBAL mysql56_temporal_format = ON")
        .await
        .unwrap();
    insert_and_compare(&server, &older, "", MARIADB_OLDER).await;
}

#[tokio::test]
async fn the_doubles_of_json_are_printed_as_mysql_prints_them() {
    let server = server("mysql.sh");
    // Doubles of every size, with few and with many digits.
    let numbers = "INSERT INTO {table} (c0) WITH RECURSIVE s AS \
         (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < 900) \
         SELECT JSON_ARRAY(RAND(n) * POW(10, n % 600 - 300), ROUND(RAND(n) * 1000) / 1e2, \
         POW(10, n % 60 - 30), -RAND(n) * POW(2, n % 120 - 60), n * 1e0) FROM s";
    check(&server, "mysql_doubles", numbers, &[("JSON", &[])]).await;
}

#[tokio::test]
async fn addresses_are_printed_as_mariadb_prints_them() {
    let server = server("mariadb.sh");
    let columns: &[Column] = &[("UUID", &[]), ("INET6", &[]), ("INET4", &[])];
    // Each of the eight words of an address is zero or not; UUIDs are of every version and variant.
    let numbers = "INSERT INTO {table} (c0, c1, c2) WITH RECURSIVE s AS \
         (SELECT 0 n UNION ALL SELECT n + 1 FROM s WHERE n < 900) \
         SELECT CAST(UNHEX(MD5(n)) AS UUID), CAST(UNHEX(CONCAT( \
         IF(n & 1, '0000', 'AB01'), IF(n & 2, '0000', '0001'), IF(n & 4, '0000', '0012'), \
         IF(n & 8, '0000', '0123'), IF(n & 16, '0000', '1234'), \
         IF(n & 32, '0000', IF(n & 256, 'FFFF', '0001')), \
         IF(n & 64, '0000', '0A0B'), IF(n & 128, '0000', '0001'))) AS INET6), \
         CAST(UNHEX(LEFT(MD5(n), 8)) AS INET4) FROM s";
    check(&server, "mariadb_addresses", numbers, columns).await;
}

/// Starts the server, unless it runs.
fn server(script: &str) -> MySqlServer {
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/services");
    let output = Command::new(services.join(script)).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let settings: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    MySqlServer {
        host: settings["HOST"].to_owned(),
        port: settings["PORT"].parse().unwrap(),
        user: settings["USER"].to_owned(),
        password: Some(settings["PASSWORD"].to_owned()),
        tls: TlsMode::Disable,
        ca: None,
        identity: None,
        timeout: Duration::from_secs(30),
        server_id: None,
    }
}

async fn check(server: &MySqlServer, database: &str, insert: &str, columns: &[Column<'_>]) {
    let database = create(server, database, columns).await;
    insert_and_compare(server, &database, insert, columns).await;
}

/// Makes a database of this run alone, and in it the table `t`.
async fn create(server: &MySqlServer, database: &str, columns: &[Column<'_>]) -> String {
    let database = format!("{database}_{}", std::process::id());
    let mut connection = server.connect().await.unwrap().connection;
    let definitions: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, (definition, _))| format!("c{index} {definition}"))
        .collect();
    for statement in [
        format!("CREATE DATABASE {database}"),
        format!(
            "CREATE TABLE {database}.t (id INT AUTO_INCREMENT PRIMARY KEY, {}) CHARACTER SET utf8mb4",
            definitions.join(", ")
        ),
    ] {
        connection.query_drop(statement).await.unwrap();
    }
    database
}

async fn insert_and_compare(
    server: &MySqlServer,
    database: &str,
    insert: &str,
    columns: &[Column<'_>],
) {
    let Session {
        mut connection,
        flavor,
        ..
    } = server.connect().await.unwrap();
    let status = match flavor {
        Flavor::MySql => "SHOW BINARY LOG STATUS",
        Flavor::MariaDb => "SHOW MASTER STATUS",
    };
    let position: Row = connection.query_first(status).await.unwrap().unwrap();
    let (file, offset): (String, u64) = (position.get(0).unwrap(), position.get(1).unwrap());
    let table = format!("{database}.t");
    connection
        .query_drop(
            "SET sql_mode = 'ALLOW_INVALID_DATES', character_set_results = NULL, time_zone = '+00:00'",
        )
        .await
        .unwrap();
    match insert {
        "" => {
            // A last row of nothing but NULL.
            let rows = columns.iter().map(|(_, values)| values.len()).max();
            for row in 0..=rows.unwrap() {
                let values: Vec<&str> = columns
                    .iter()
                    .map(|(_, values)| values.get(row).copied().unwrap_or("NULL"))
                    .collect();
                let names: Vec<String> = (0..columns.len())
                    .map(|index| format!("c{index}"))
                    .collect();
                let statement = format!(
                    "INSERT IGNORE INTO {table} ({}) VALUES ({})",
                    names.join(", "),
                    values.join(", ")
                );
                connection.query_drop(statement).await.unwrap();
            }
        }
        insert => {
            let statement = insert.replace("{table}", &table);
            connection.query_drop(statement).await.unwrap();
        }
    }
    let known = known_types(&mut connection, database).await;
    let selected = select(&mut connection, &table, &known).await;
    let (wire, read) = read_binlog(server, &file, offset, database, &known).await;
    for (index, (selected, read)) in selected.iter().zip(&read).enumerate() {
        let definition = match index {
            0 => "id",
            column => columns[column - 1].0,
        };
        let told = wire[index].source_type(Some(&known[index])).unwrap();
        assert_eq!(told, known[index], "{definition}");
        assert_eq!(selected.len(), read.len(), "{definition}");
        assert_eq!(
            selected.data_type(),
            &known[index].column_type().arrow(),
            "{definition}"
        );
        for row in 0..selected.len() {
            let print = |array: &ArrayRef| match array.is_null(row) {
                true => None,
                false => Some(array_value_to_string(array, row).unwrap()),
            };
            assert_eq!(print(selected), print(read), "{definition}, row {row}");
        }
        assert_eq!(selected, read, "{definition}");
        // Text that was given as such has to come back as it was.
        if let (Some((_, values)), SourceType::Text { .. }) =
            (columns.get(index.wrapping_sub(1)), &known[index])
        {
            for (row, value) in values.iter().enumerate() {
                let plain = value
                    .strip_prefix('\'')
                    .and_then(|rest| rest.strip_suffix('\''));
                if let Some(plain) = plain {
                    let printed = array_value_to_string(selected, row).unwrap();
                    assert_eq!(printed.trim_end(), plain.trim_end(), "{definition}");
                }
            }
        }
    }
    connection
        .query_drop(format!("DROP DATABASE {database}"))
        .await
        .unwrap();
}

async fn known_types(connection: &mut mysql_async::Conn, database: &str) -> Vec<SourceType> {
    let rows: Vec<Row> = connection
        .query(format!(
            "SELECT CONVERT(data_type USING utf8mb4), CONVERT(column_type USING utf8mb4), \
             CONVERT(character_set_name USING utf8mb4), \
             (SELECT COUNT(*) FROM information_schema.check_constraints c \
              WHERE c.constraint_schema = table_schema AND c.check_clause LIKE CONCAT('json_valid(`', column_name, '`)')) \
             FROM information_schema.columns WHERE table_schema = '{database}' ORDER BY ordinal_position"
        ))
        .await
        .unwrap();
    rows.into_iter()
        .map(|row| {
            let text = |index: usize| -> Option<String> { row.get(index).unwrap() };
            let json: u64 = row.get(3).unwrap();
            if json > 0 {
                return SourceType::Json;
            }
            let (data_type, column_type) = (text(0).unwrap(), text(1).unwrap());
            SourceType::of_definition(&data_type, &column_type, text(2).as_deref()).unwrap()
        })
        .collect()
}

async fn select(
    connection: &mut mysql_async::Conn,
    table: &str,
    known: &[SourceType],
) -> Vec<ArrayRef> {
    let mut builders: Vec<ColumnBuilder> = known
        .iter()
        .map(|known| ColumnBuilder::new(known, None, ValuePolicies::default()).unwrap())
        .collect();
    let rows: Vec<Row> = connection
        .exec(format!("SELECT * FROM {table} ORDER BY id"), ())
        .await
        .unwrap();
    for row in rows {
        for (index, value) in row.unwrap().into_iter().enumerate() {
            let appended = builders[index].append_value(value);
            appended.unwrap_or_else(|error| panic!("{:?}: {error}", known[index]));
        }
    }
    finished(builders)
}

fn finished(mut builders: Vec<ColumnBuilder>) -> Vec<ArrayRef> {
    let columns = builders.iter_mut().map(ColumnBuilder::finish);
    columns.collect::<Result<_, _>>().unwrap()
}

/// Reads the rows that were inserted into the only table of a database since a position.
async fn read_binlog(
    server: &MySqlServer,
    file: &str,
    offset: u64,
    database: &str,
    known: &[SourceType],
) -> (Vec<WireColumn>, Vec<ArrayRef>) {
    const TABLE_MAP: u8 = 19;
    const WRITE_ROWS_1: u8 = 23;
    const WRITE_ROWS_2: u8 = 30;
    let connection = server.connect().await.unwrap().connection;
    // A server ends the stream of a replica when another comes with the same number.
    static REPLICAS: AtomicU32 = AtomicU32::new(0);
    let replica = std::process::id() * 16 + REPLICAS.fetch_add(1, Ordering::Relaxed);
    let request = BinlogStreamRequest::new(replica)
        .with_filename(file.as_bytes())
        .with_pos(offset)
        .with_non_blocking();
    let mut stream = connection.get_binlog_stream(request).await.unwrap();
    let mut described: Option<(u64, Vec<WireColumn>)> = None;
    let mut builders: Vec<ColumnBuilder> = Vec::new();
    while let Some(event) = stream.next().await {
        let event = event.unwrap();
        let mut data = event.data();
        match event.header().event_type_raw() {
            TABLE_MAP => {
                let (table, schema, columns) = table_map(data, known);
                if schema != database {
                    continue;
                }
                if builders.is_empty() {
                    builders = columns
                        .iter()
                        .zip(known)
                        .map(|(wire, known)| {
                            let policies = ValuePolicies::default();
                            let builder = ColumnBuilder::new(known, Some(wire), policies);
                            builder.unwrap_or_else(|error| panic!("{known:?}: {wire:?}: {error}"))
                        })
                        .collect();
                }
                described = Some((table, columns));
            }
            kind @ (WRITE_ROWS_1 | WRITE_ROWS_2) => {
                let table = number(&mut data, 6);
                let Some((_, columns)) = described.as_ref().filter(|(id, _)| *id == table) else {
                    continue;
                };
                number(&mut data, 2);
                if kind == WRITE_ROWS_2 {
                    let extra = number(&mut data, 2) as usize;
                    bytes(&mut data, extra - 2);
                }
                let count = length(&mut data);
                assert_eq!(count, columns.len());
                bytes(&mut data, count.div_ceil(8));
                while !data.is_empty() {
                    let nulls = bytes(&mut data, count.div_ceil(8));
                    for (index, wire) in columns.iter().enumerate() {
                        if nulls[index / 8] >> (index % 8) & 1 == 1 {
                            builders[index].append_null();
                            continue;
                        }
                        let mut skipped = data;
                        skip_binlog(wire, &mut skipped).unwrap();
                        let appended = builders[index].append_binlog(&mut data);
                        appended.unwrap_or_else(|error| panic!("{:?}: {error}", known[index]));
                        assert_eq!(data, skipped, "{:?}", known[index]);
                    }
                }
            }
            _ => {}
        }
    }
    stream.close().await.unwrap();
    let (_, columns) = described.unwrap();
    (columns, finished(builders))
}

/// The number of a table, its database and its columns.
fn table_map(mut data: &[u8], known: &[SourceType]) -> (u64, String, Vec<WireColumn>) {
    let table = number(&mut data, 6);
    number(&mut data, 2);
    let mut name = || {
        let size = number(&mut data, 1) as usize;
        let name = bytes(&mut data, size + 1);
        String::from_utf8(name[..size].to_vec()).unwrap()
    };
    let database = name();
    name();
    let count = length(&mut data);
    let codes = bytes(&mut data, count).to_vec();
    let size = length(&mut data);
    let mut metadata = bytes(&mut data, size);
    bytes(&mut data, count.div_ceil(8));
    let mut columns: Vec<WireColumn> = codes
        .into_iter()
        .map(|type_code| {
            let length = match type_code {
                code::FLOAT
                | code::DOUBLE
                | code::BLOB
                | code::BLOB_COMPRESSED
                | code::JSON
                | code::GEOMETRY
                | code::VECTOR
                | code::TIMESTAMP2
                | code::DATETIME2
                | code::TIME2 => 1,
                code::VARCHAR
                | code::VARCHAR_COMPRESSED
                | code::VAR_STRING
                | code::STRING
                | code::NEWDECIMAL
                | code::BIT => 2,
                _ => 0,
            };
            let mut own = [0; 2];
            own[..length].copy_from_slice(bytes(&mut metadata, length));
            let type_code = match (type_code, own[0]) {
                (code::STRING, real @ (code::ENUM | code::SET)) => real,
                (other, _) => other,
            };
            WireColumn {
                type_code,
                metadata: own,
                unsigned: false,
                collation: None,
                values: Vec::new(),
            }
        })
        .collect();
    if database.starts_with("mariadb_older") {
        let known = columns.iter().zip(known);
        columns = known
            .map(|(wire, known)| wire.clone().with_known(known))
            .collect();
    }
    let is_text = match database.starts_with("mariadb") {
        true => is_mariadb_text,
        false => is_mysql_text,
    };
    while !data.is_empty() {
        let kind = number(&mut data, 1);
        let size = length(&mut data);
        let mut field = bytes(&mut data, size);
        let of = |columns: &[WireColumn], wanted: fn(u8) -> bool| -> Vec<usize> {
            (0..columns.len())
                .filter(|index| wanted(columns[*index].type_code))
                .collect()
        };
        match kind {
            1 => {
                for (bit, index) in of(&columns, is_numeric).into_iter().enumerate() {
                    columns[index].unsigned = field[bit / 8] >> (7 - bit % 8) & 1 == 1;
                }
            }
            2 | 10 => {
                let places = of(&columns, if kind == 2 { is_text } else { is_named });
                let usual = length(&mut field) as u16;
                for index in &places {
                    columns[*index].collation = Some(usual);
                }
                while !field.is_empty() {
                    let place = length(&mut field);
                    columns[places[place]].collation = Some(length(&mut field) as u16);
                }
            }
            3 | 11 => {
                for index in of(&columns, if kind == 3 { is_text } else { is_named }) {
                    columns[index].collation = Some(length(&mut field) as u16);
                }
                assert!(field.is_empty());
            }
            5 | 6 => {
                let wanted = if kind == 5 { is_set } else { is_enum };
                for index in of(&columns, wanted) {
                    for _ in 0..length(&mut field) {
                        let size = length(&mut field);
                        let name = bytes(&mut field, size).to_vec();
                        columns[index].values.push(name);
                    }
                }
            }
            _ => {}
        }
    }
    (table, database, columns)
}

fn is_numeric(type_code: u8) -> bool {
    matches!(
        type_code,
        code::TINY
            | code::YEAR
            | code::SHORT
            | code::INT24
            | code::LONG
            | code::LONGLONG
            | code::NEWDECIMAL
            | code::FLOAT
            | code::DOUBLE
    )
}

fn is_text(type_code: u8) -> bool {
    matches!(
        type_code,
        code::STRING
            | code::VAR_STRING
            | code::VARCHAR
            | code::VARCHAR_COMPRESSED
            | code::BLOB
            | code::BLOB_COMPRESSED
    )
}

/// MariaDB has a character set for a geometry among those of text, as MySQL has for a vector.
fn is_mariadb_text(type_code: u8) -> bool {
    is_text(type_code) || type_code == code::GEOMETRY
}

fn is_mysql_text(type_code: u8) -> bool {
    is_text(type_code) || type_code == code::VECTOR
}

fn is_named(type_code: u8) -> bool {
    is_set(type_code) || is_enum(type_code)
}

fn is_set(type_code: u8) -> bool {
    type_code == code::SET
}

fn is_enum(type_code: u8) -> bool {
    type_code == code::ENUM
}

fn bytes<'a>(data: &mut &'a [u8], size: usize) -> &'a [u8] {
    let (taken, rest) = data.split_at(size);
    *data = rest;
    taken
}

fn number(data: &mut &[u8], size: usize) -> u64 {
    let taken = bytes(data, size).iter().rev();
    taken.fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// A number of one byte, or of as many as the first says.
fn length(data: &mut &[u8]) -> usize {
    let size = match number(data, 1) {
        0xFC => 2,
        0xFD => 3,
        0xFE => 8,
        small => return small as usize,
    };
    number(data, size) as usize
}
