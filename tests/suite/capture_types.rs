//! A column of every type, with the values that are easily got wrong, read by the snapshot, by the inserts
//! of the binlog and by its updates: three ways that meet in the same values.

use std::collections::BTreeMap;

use boathouse_tests::mysql::Flavor;
use boathouse_tests::{Failure, rows};

use crate::{Fixture, Schedule};

/// A column: its name and type at the source, its type in the lake, and values as the source reads them.
/// A column without values is generated.
struct Column {
    name: &'static str,
    source: String,
    lake: &'static str,
    values: Vec<String>,
}

fn column(name: &'static str, source: &str, lake: &'static str, values: &[&str]) -> Column {
    Column {
        name,
        source: source.to_owned(),
        lake,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    }
}

fn numbers() -> Vec<Column> {
    vec![
        column("tiny", "TINYINT", "smallint", &["-128", "127", "0"]),
        column(
            "tiny_u",
            "TINYINT UNSIGNED",
            "smallint",
            &["0", "255", "128"],
        ),
        column("truth", "BOOLEAN", "smallint", &["TRUE", "FALSE", "-1"]),
        column("small", "SMALLINT", "smallint", &["-32768", "32767", "0"]),
        column(
            "small_u",
            "SMALLINT UNSIGNED",
            "integer",
            &["65535", "0", "32768"],
        ),
        column(
            "medium",
            "MEDIUMINT",
            "integer",
            &["-8388608", "8388607", "-1"],
        ),
        column(
            "medium_u",
            "MEDIUMINT UNSIGNED",
            "integer",
            &["16777215", "8388608", "0"],
        ),
        column("n", "INT", "integer", &["-2147483648", "2147483647", "0"]),
        column(
            "n_u",
            "INT UNSIGNED",
            "bigint",
            &["4294967295", "2147483648", "0"],
        ),
        column(
            "filled",
            "INT(6) ZEROFILL",
            "bigint",
            &["42", "0", "4294967295"],
        ),
        column(
            "big",
            "BIGINT",
            "bigint",
            &["-9223372036854775808", "9223372036854775807", "0"],
        ),
        column(
            "big_u",
            "BIGINT UNSIGNED",
            "numeric(20,0)",
            &["18446744073709551615", "9223372036854775808", "0"],
        ),
        column(
            "the_year",
            "YEAR",
            "smallint",
            &["1901", "2155", "0", "2000"],
        ),
        column(
            "money",
            "DECIMAL(10,2)",
            "numeric(10,2)",
            &["-99999999.99", "0.01", "-0.01", "1.5"],
        ),
        column(
            "share",
            "DECIMAL(5,5)",
            "numeric(5,5)",
            &["0.99999", "-0.00001", "0"],
        ),
        column(
            "whole",
            "DECIMAL(20)",
            "numeric(20,0)",
            &["-99999999999999999999", "7", "0"],
        ),
        column(
            "wide",
            "DECIMAL(38,10)",
            "numeric(38,10)",
            &[
                "9999999999999999999999999999.9999999999",
                "-1234567890123456789012345678.0123456789",
                "0.0000000001",
            ],
        ),
        column(
            "widest",
            "DECIMAL(65,30)",
            "text",
            &[
                "99999999999999999999999999999999999.999999999999999999999999999999",
                "-0.000000000000000000000000000001",
                "0",
                "12345.678",
            ],
        ),
        column(
            "wide_whole",
            "DECIMAL(39,0)",
            "text",
            &["-1", "999999999999999999999999999999999999999"],
        ),
        column(
            "f",
            "FLOAT",
            "real",
            &[
                "3.4028234e38",
                "-1.17549435e-38",
                "0.123456789",
                "16777216",
                "-123456.789",
                "0",
            ],
        ),
        column(
            "d",
            "DOUBLE",
            "double precision",
            &[
                "1.7976931348623157e308",
                "2.2250738585072014e-308",
                "0.1",
                "1e23",
                "-9007199254740993",
                "0",
            ],
        ),
        column("f_shown", "FLOAT(7,3)", "real", &["1234.567", "-0.001"]),
        column(
            "d_shown",
            "DOUBLE(12,4)",
            "double precision",
            &["12345678.1234", "-0.0001"],
        ),
        column("b1", "BIT(1)", "boolean", &["b'1'", "b'0'"]),
        column("b2", "BIT(2)", "bigint", &["b'11'", "b'10'", "b'0'"]),
        column(
            "b63",
            "BIT(63)",
            "bigint",
            &["9223372036854775807", "256", "0"],
        ),
        column(
            "b64",
            "BIT(64)",
            "numeric(20,0)",
            &["18446744073709551615", "9223372036854775808", "1"],
        ),
    ]
}

fn moments() -> Vec<Column> {
    let zero = "'0000-00-00 00:00:00'";
    vec![
        column(
            "day",
            "DATE",
            "date",
            &[
                "'0001-01-01'",
                "'9999-12-31'",
                "'0000-00-00'",
                "'2024-00-10'",
                "'2024-05-00'",
                "'2024-02-29'",
                "'1582-10-10'",
            ],
        ),
        column(
            "dt",
            "DATETIME",
            "timestamp without time zone",
            &[
                "'1000-01-01 00:00:00'",
                "'9999-12-31 23:59:59'",
                zero,
                "'2024-03-31 02:30:00'",
                "'2024-00-00 10:00:00'",
            ],
        ),
        column(
            "dt3",
            "DATETIME(3)",
            "timestamp without time zone",
            &[
                "'1969-12-31 23:59:59.999'",
                "'2024-01-01 00:00:00.120'",
                zero,
            ],
        ),
        column(
            "dt6",
            "DATETIME(6)",
            "timestamp without time zone",
            &[
                "'9999-12-31 23:59:59.999999'",
                "'0001-01-01 00:00:00.000001'",
                "'2024-01-01 10:00:00'",
                zero,
            ],
        ),
        column(
            "ts",
            "TIMESTAMP NULL",
            "timestamp with time zone",
            &[
                "'1970-01-01 00:00:01'",
                "'2038-01-19 03:14:07'",
                zero,
                "'2024-03-31 01:30:00'",
            ],
        ),
        column(
            "ts3",
            "TIMESTAMP(3) NULL",
            "timestamp with time zone",
            &[
                "'1970-01-01 00:00:01.001'",
                "'2038-01-19 03:14:07.999'",
                zero,
            ],
        ),
        column(
            "ts6",
            "TIMESTAMP(6) NULL",
            "timestamp with time zone",
            &[
                "'2001-09-09 01:46:40.000001'",
                "'2038-01-19 03:14:07.999999'",
                zero,
            ],
        ),
        column(
            "t",
            "TIME",
            "text",
            &[
                "'838:59:59'",
                "'-838:59:59'",
                "'-00:00:01'",
                "'25:00:00'",
                "'0:0:0'",
            ],
        ),
        column(
            "t3",
            "TIME(3)",
            "text",
            &[
                "'838:59:59.000'",
                "'-00:00:00.001'",
                "'-25:01:02.120'",
                "'12:00:00'",
            ],
        ),
        column(
            "t6",
            "TIME(6)",
            "text",
            &[
                "'-838:59:59.000000'",
                "'-00:00:00.000001'",
                "'99:59:59.999999'",
                "'-01:00:00.999999'",
                "'0:0:0'",
            ],
        ),
    ]
}

fn texts() -> Vec<Column> {
    // Members enough for two bytes.
    let members: Vec<String> = (1..=300).map(|number| format!("'m{number}'")).collect();
    // And members enough for the highest bit.
    let bits: Vec<String> = (1..=64).map(|number| format!("'b{number}'")).collect();
    let mut texts = vec![
        column(
            "plain",
            "VARCHAR(40)",
            "text",
            &[
                "''",
                "'x  '",
                r#"'it''s "q" \\ \n\t\r'"#,
                "'😀 ünï'",
                "'NULL'",
            ],
        ),
        column(
            "padded",
            "CHAR(10)",
            "text",
            &["''", "'x  '", "'äöü'", "'😀😀😀😀😀😀😀😀😀😀'"],
        ),
        column(
            "latin",
            "VARCHAR(20) CHARACTER SET latin1",
            "text",
            &["'Größe €'", "'ÿ'", "'  '"],
        ),
        column(
            "latin_char",
            "CHAR(20) CHARACTER SET latin1 COLLATE latin1_bin",
            "text",
            &["'œuvre'", "'a '"],
        ),
        column(
            "latin2",
            "VARCHAR(20) CHARACTER SET latin2",
            "text",
            &["'Łódź'"],
        ),
        column(
            "chinese",
            "VARCHAR(20) CHARACTER SET gbk",
            "text",
            &["'汉字漢字'", "'誠\\\\'", "''"],
        ),
        column(
            "chinese_char",
            "CHAR(5) CHARACTER SET gbk",
            "text",
            &["'你好'", "'誠'"],
        ),
        column(
            "taiwanese",
            "VARCHAR(20) CHARACTER SET big5",
            "text",
            &["'漢字功'"],
        ),
        column(
            "new_chinese",
            "VARCHAR(20) CHARACTER SET gb18030",
            "text",
            &["'汉字😀'"],
        ),
        column(
            "japanese",
            "VARCHAR(20) CHARACTER SET sjis",
            "text",
            &["'日本語ソ'"],
        ),
        column(
            "euc_japanese",
            "VARCHAR(20) CHARACTER SET ujis",
            "text",
            &["'日本語'"],
        ),
        column(
            "korean",
            "VARCHAR(20) CHARACTER SET euckr",
            "text",
            &["'한국어'"],
        ),
        column(
            "russian",
            "TEXT CHARACTER SET cp1251",
            "text",
            &["'Привет №'", "''"],
        ),
        column("koi", "CHAR(20) CHARACTER SET koi8r", "text", &["'Привет'"]),
        column(
            "greek",
            "VARCHAR(20) CHARACTER SET greek",
            "text",
            &["'Ωμέγα'"],
        ),
        column("dos", "VARCHAR(20) CHARACTER SET cp850", "text", &["'é½'"]),
        column(
            "ascii_text",
            "VARCHAR(20) CHARACTER SET ascii",
            "text",
            &["'plain'"],
        ),
        column(
            "utf8_3",
            "VARCHAR(20) CHARACTER SET utf8mb3",
            "text",
            &["'€ é'"],
        ),
        column(
            "utf8_4",
            "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "text",
            &["'😀a '", "'A'"],
        ),
        column(
            "utf_16",
            "VARCHAR(20) CHARACTER SET utf16",
            "text",
            &["'😀 Ω'", "''"],
        ),
        column(
            "utf_16_char",
            "CHAR(9) CHARACTER SET utf16",
            "text",
            &["'Ω'", "'😀'"],
        ),
        column(
            "utf_16_text",
            "TEXT CHARACTER SET utf16",
            "text",
            &["'😀 Ω'"],
        ),
        column("ucs_2", "VARCHAR(20) CHARACTER SET ucs2", "text", &["'Ωä'"]),
        column(
            "utf_32",
            "VARCHAR(20) CHARACTER SET utf32",
            "text",
            &["'😀'"],
        ),
        column(
            "short_text",
            "TINYTEXT",
            "text",
            &["''", "REPEAT('x', 255)"],
        ),
        column("usual_text", "TEXT", "text", &["REPEAT('ä', 300)", "''"]),
        column(
            "medium_text",
            "MEDIUMTEXT",
            "text",
            &["REPEAT('ä', 40000)", "'m'"],
        ),
        column(
            "long_text",
            "LONGTEXT",
            "text",
            &["REPEAT('😀', 20000)", "''"],
        ),
        column(
            "long_varchar",
            "VARCHAR(2000)",
            "text",
            &["REPEAT('ü', 2000)", "'short'"],
        ),
        column("Two Words", "VARCHAR(20)", "text", &["'named oddly'"]),
        column("select", "INT", "integer", &["1"]),
        column("größe", "INT", "integer", &["2"]),
        column(
            "choice",
            r#"ENUM('a','it''s','say "q"','comma, inside','ünï','back\\slash','')"#,
            "text",
            &[
                "'a'",
                "'it''s'",
                "'say \"q\"'",
                "'comma, inside'",
                "'ünï'",
                r"'back\\slash'",
                "''",
                "0",
            ],
        ),
        column(
            "latin_choice",
            "ENUM('größer','kleiner') CHARACTER SET latin1",
            "text",
            &["'größer'", "'kleiner'"],
        ),
        column(
            "several",
            r#"SET('a','it''s','say "q"','ünï','back\\slash')"#,
            "text",
            &["''", "'a,it''s'", "31", r"'ünï,back\\slash'", "'a'"],
        ),
    ];
    texts.push(Column {
        name: "many_choices",
        source: format!("ENUM({})", members.join(",")),
        lake: "text",
        values: ["'m1'", "'m255'", "'m256'", "'m300'"]
            .map(str::to_owned)
            .to_vec(),
    });
    texts.push(Column {
        name: "many_bits",
        source: format!("SET({})", bits.join(",")),
        lake: "text",
        values: ["'b1,b64'", "'b9'", "18446744073709551615", "0"]
            .map(str::to_owned)
            .to_vec(),
    });
    texts
}

fn bytes() -> Vec<Column> {
    vec![
        column(
            "b_fixed",
            "BINARY(8)",
            "bytea",
            &[
                "x'00'",
                "x'0102'",
                "'abc'",
                "x'0001000000000000'",
                "''",
                "x'2020'",
            ],
        ),
        column(
            "b_var",
            "VARBINARY(20)",
            "bytea",
            &["x''", "x'00FF00'", "'abc  '", "'\\\\x00'"],
        ),
        column(
            "b_wide",
            "VARBINARY(300)",
            "bytea",
            &["REPEAT(x'FF', 300)", "x'00'"],
        ),
        column(
            "b_as_binary",
            "VARCHAR(20) CHARACTER SET binary",
            "bytea",
            &["x'C3'", "'a'"],
        ),
        column(
            "b_tiny",
            "TINYBLOB",
            "bytea",
            &["x''", "REPEAT(x'00', 255)"],
        ),
        column("b_blob", "BLOB", "bytea", &["REPEAT(x'00FF', 300)", "x''"]),
        column(
            "b_medium",
            "MEDIUMBLOB",
            "bytea",
            &["REPEAT(x'00FF10', 30000)", "x'5C'"],
        ),
        column(
            "b_long",
            "LONGBLOB",
            "bytea",
            &["REPEAT(x'80', 100000)", "x'00'"],
        ),
    ]
}

fn shapes(flavor: Flavor) -> Vec<Column> {
    let mut shapes = vec![
        column(
            "shape",
            "GEOMETRY",
            "bytea",
            &[
                "ST_GeomFromText('POINT(1 2)')",
                "ST_GeomFromText('LINESTRING(0 0, 1 1)')",
            ],
        ),
        column(
            "spot",
            "POINT",
            "bytea",
            &[
                "ST_GeomFromText('POINT(-1.5 2.25)')",
                "ST_GeomFromText('POINT(0 0)')",
            ],
        ),
        column(
            "area",
            "POLYGON",
            "bytea",
            &[
                "ST_GeomFromText('POLYGON((0 0, 10 0, 10 10, 0 10, 0 0), (2 2, 4 2, 4 4, 2 4, 2 2))')",
            ],
        ),
        column(
            "spots",
            "MULTIPOINT",
            "bytea",
            &["ST_GeomFromText('MULTIPOINT(1 1, 2 2)')"],
        ),
        column(
            "lines_",
            "MULTILINESTRING",
            "bytea",
            &["ST_GeomFromText('MULTILINESTRING((0 0, 1 1), (2 2, 3 3))')"],
        ),
        column(
            "areas",
            "MULTIPOLYGON",
            "bytea",
            &["ST_GeomFromText('MULTIPOLYGON(((0 0, 1 0, 1 1, 0 0)))')"],
        ),
        column(
            "shapes",
            "GEOMETRYCOLLECTION",
            "bytea",
            &["ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1), LINESTRING(0 0, 1 1))')"],
        ),
        column(
            "spot_with_srid",
            "GEOMETRY",
            "bytea",
            &["ST_GeomFromText('POINT(3 4)', 3857)"],
        ),
    ];
    if flavor == Flavor::MySql {
        // Stored longitude first, and told latitude first.
        let place = "ST_GeomFromText('POINT(52.5 13.4)', 4326)";
        shapes.push(column("place", "POINT SRID 4326", "bytea", &[place]));
    }
    shapes
}

fn documents(flavor: Flavor) -> Vec<Column> {
    let lake = match flavor {
        Flavor::MySql => "jsonb",
        Flavor::MariaDb => "text",
    };
    let mut values = vec![
        r#"'{"b": [1, -1, 1.5, 1e100, 0.1, 1e-7, 18446744073709551615, -9223372036854775808], "a": {"deep": {"er": [[], {}, [null, true, false]]}}, "longer": "x"}'"#,
        r#"'{"escapes": "\\" \\\\ \\/ \\b\\f\\n\\r\\t \\u0001 \\u00e9 \\ud83d\\ude00", "": "empty", "ключ": "значение"}'"#,
        "'[]'",
        "'{}'",
        "'null'",
        r#"'"a scalar"'"#,
        "'42'",
        "'1.0'",
        "'[1, 2, 32767, 32768, 65535, 65536, 2147483647, 2147483648, 4294967296]'",
        r#"'{"same": 1, "same": 2}'"#,
        r#"'  [ 1 ,2 ]  '"#,
    ];
    if flavor == Flavor::MySql {
        values.extend([
            "JSON_OBJECT('decimal', CAST(-1.10 AS DECIMAL(10,2)), 'wide', CAST('123456789012345678901234567890.5' AS DECIMAL(40,3)))",
            "JSON_OBJECT('datetime', CAST('2024-01-01 10:11:12.5' AS DATETIME(3)), 'date', DATE '2024-02-29', 'time', TIME '-25:01:02')",
            "JSON_ARRAY(TIMESTAMP '2024-01-01 10:11:12.000001', CAST('838:59:59' AS TIME), x'00FF', b'101')",
            "JSON_ARRAY(CAST(1 AS FLOAT), CAST(0.1 AS FLOAT), 1e0, -0e0, 1e15, 1e16, 1e22, 123456789.125e0)",
            // A document of more than 64 KiB has offsets of four bytes.
            "JSON_OBJECT('big', REPEAT('ä', 40000), 'n', 70000, 'small', 1)",
            "JSON_ARRAY(JSON_ARRAY(REPEAT('x', 70000), 1), JSON_OBJECT('k', REPEAT('y', 300)))",
        ]);
    }
    vec![
        column("document", "JSON", lake, &values),
        column("document_kept", "JSON NOT NULL", lake, &["'{}'", "'[1]'"]),
    ]
}

/// Columns that a plain `SELECT *` or `INSERT` has nothing to do with.
fn hidden() -> Vec<Column> {
    vec![
        column(
            "kept_sum",
            "INT GENERATED ALWAYS AS (small + 1) STORED",
            "integer",
            &[],
        ),
        column(
            "kept_text",
            "VARCHAR(50) GENERATED ALWAYS AS (CONCAT(plain, '!')) STORED",
            "text",
            &[],
        ),
        column(
            "made_product",
            "BIGINT GENERATED ALWAYS AS (small * 2) VIRTUAL",
            "bigint",
            &[],
        ),
        column(
            "made_text",
            "VARCHAR(50) GENERATED ALWAYS AS (CONCAT('<', plain, '>')) VIRTUAL",
            "text",
            &[],
        ),
        column("unseen", "INT INVISIBLE DEFAULT 7", "integer", &["8", "9"]),
    ]
}

fn columns(flavor: Flavor) -> Vec<Column> {
    let mut columns = numbers();
    columns.extend(moments());
    columns.extend(texts());
    columns.extend(bytes());
    columns.extend(shapes(flavor));
    columns.extend(documents(flavor));
    columns.extend(hidden());
    match flavor {
        Flavor::MySql => {}
        Flavor::MariaDb => {
            // What only the other has.
            columns.retain(|column| column.name != "new_chinese");
            columns.extend([
                column(
                    "id_",
                    "UUID",
                    "uuid",
                    &[
                        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
                        "'00000000-0000-0000-0000-000000000000'",
                        "'FFFFFFFF-FFFF-1FFF-8FFF-FFFFFFFFFFFF'",
                    ],
                ),
                column(
                    "address_4",
                    "INET4",
                    "text",
                    &["'127.0.0.1'", "'255.255.255.255'", "'0.0.0.0'"],
                ),
                column(
                    "address_6",
                    "INET6",
                    "text",
                    &[
                        "'::1'",
                        "'2001:db8::ff00:42:8329'",
                        "'::ffff:1.2.3.4'",
                        "'::'",
                    ],
                ),
            ]);
        }
    }
    columns
}

/// Values of the row of this number; the last row has NULL wherever it may.
fn row(columns: &[&Column], number: usize, last: usize) -> String {
    let values: Vec<&str> = columns
        .iter()
        .map(
            |column| match number == last && !column.source.contains("NOT NULL") {
                true => "NULL",
                false => column.values[number % column.values.len()].as_str(),
            },
        )
        .collect();
    values.join(", ")
}

pub async fn every_type_by_snapshot_and_by_binlog(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    // Values that a strict server would refuse are in tables all the same.
    session
        .execute("SET SESSION sql_mode = 'NO_ENGINE_SUBSTITUTION'")
        .await?;
    let columns = columns(flavor);
    let defined: Vec<String> = columns
        .iter()
        .map(|column| format!("`{}` {}", column.name, column.source))
        .collect();
    session
        .execute(&format!(
            "CREATE TABLE everything (id INT PRIMARY KEY, {}) CHARACTER SET utf8mb4",
            defined.join(", ")
        ))
        .await?;
    let given: Vec<&Column> = columns
        .iter()
        .filter(|column| !column.values.is_empty())
        .collect();
    let names: Vec<String> = given
        .iter()
        .map(|column| format!("`{}`", column.name))
        .collect();
    let last = given
        .iter()
        .map(|column| column.values.len())
        .max()
        .unwrap_or(0);
    let insert = |number: usize, offset: usize| {
        format!(
            "INSERT INTO everything (id, {}) VALUES ({}, {})",
            names.join(", "),
            number + offset,
            row(&given, number, last)
        )
    };
    for number in 0..=last {
        session.execute(&insert(number, 0)).await?;
    }
    fixture
        .create_pipeline(Schedule::OnDemand, "chunk_rows = 3")
        .await?;
    fixture.follow("by the snapshot").await?;

    for number in 0..=last {
        session.execute(&insert(number, 1000)).await?;
    }
    let same: Vec<String> = names
        .iter()
        .map(|name| format!("t.{name} = o.{name}"))
        .collect();
    session
        .execute(&format!(
            "INSERT INTO everything (id, document_kept) SELECT id + 2000, '0' FROM everything WHERE id < 1000;
             UPDATE everything t JOIN everything o ON o.id = t.id - 2000 SET {}",
            same.join(", ")
        ))
        .await?;
    let lake = fixture.follow("by the binlog").await?;

    let shown: Vec<String> = columns
        .iter()
        .map(|one| format!("\"{}\"", one.name))
        .collect();
    let all = lake
        .simple_query(&format!(
            "SELECT id, {} FROM bronze.everything",
            shown.join(", ")
        ))
        .await?;
    let mut found: BTreeMap<usize, Vec<Option<String>>> = BTreeMap::new();
    for message in &all {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            let values = (1..row.len()).map(|index| row.get(index).map(str::to_owned));
            let id = row.get(0).unwrap_or_default().parse()?;
            let before = found.insert(id, values.collect());
            assert!(before.is_none(), "row {id} is in the lake twice");
        }
    }
    assert_eq!(found.len(), 3 * (last + 1));
    for id in 0..=last {
        for offset in [1000, 2000] {
            for (index, column) in columns.iter().enumerate() {
                assert_eq!(
                    found[&id][index],
                    found[&(id + offset)][index],
                    "{} of rows {id} and {}",
                    column.name,
                    id + offset
                );
            }
        }
    }

    let types = rows(
        &lake,
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
         JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'bronze' AND c.relname = 'everything' AND a.attnum > 0",
    )
    .await?;
    let wrong: Vec<String> = columns
        .iter()
        .map(|column| format!("{}|{}", column.name, column.lake))
        .filter(|expected| !types.contains(expected))
        .collect();
    assert!(wrong.is_empty(), "not so: {wrong:?}; but {types:?}");
    fixture.finish().await
}

/// What the options say of values that have no place in the lake, and of rows that were there before.
pub async fn options_decide_about_values(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    let fill = "SET SESSION sql_mode = ''; INSERT INTO t VALUES ({id}, '0000-00-00', '2024-00-15')";
    session
        .execute("CREATE TABLE t (id INT PRIMARY KEY, d DATE, e DATE)")
        .await?;
    session.execute(&fill.replace("{id}", "1")).await?;
    let lake = fixture.server.connect().await?;
    let pipelines = [
        (
            "epoch",
            "zero_date = 'epoch'",
            Ok("1|1970-01-01|1970-01-01,2|1970-01-01|1970-01-01"),
        ),
        ("later", "snapshot = 'never'", Ok("2|∅|∅")),
        ("fail", "zero_date = 'fail'", Err("22P04")),
    ];
    for (name, options, _) in &pipelines {
        rows(&lake, &format!("CREATE SCHEMA {name}")).await?;
        let sql = format!(
            "CREATE PIPELINE {name} FROM MYSQL shop TABLES ('{}.%') INTO SCHEMA {name} \
             SCHEDULE ON DEMAND WITH ({options})",
            fixture.database
        );
        rows(&lake, &sql).await?;
        // One that fails says so below.
        let _ = rows(&lake, &format!("RUN PIPELINE {name}")).await;
    }
    session.execute(&fill.replace("{id}", "2")).await?;
    for (name, options, expected) in pipelines {
        let run = rows(&lake, &format!("RUN PIPELINE {name}")).await;
        match expected {
            Ok(expected) => {
                run?;
                let found = rows(&lake, &format!("SELECT * FROM {name}.t ORDER BY id")).await?;
                let found = found.join(",");
                assert_eq!(found, expected, "{options}");
            }
            Err(state) => {
                let told = run.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(
                    told.contains(state) && told.contains('d'),
                    "{options}: {told}"
                );
            }
        }
    }
    Ok(())
}
