//! Rows in, batches or PostgreSQL's complaints out.

use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::statement::{CopyColumns, CopyFormat, CopyHeader, CopyOptions};
use expect_test::{Expect, expect};

use super::*;

fn columns() -> Vec<(String, ColumnType)> {
    vec![
        ("id".to_owned(), ColumnType::Integer),
        ("name".to_owned(), ColumnType::Text),
        (
            "price".to_owned(),
            ColumnType::Numeric {
                precision: Some(6),
                scale: 2,
            },
        ),
    ]
}

/// Feeds the input whole and byte by byte: both must come to the same.
fn check(options: &CopyOptions, columns: &[(String, ColumnType)], input: &[u8], expected: Expect) {
    let whole = shown(options, columns, input.chunks(input.len().max(1)));
    let bytewise = shown(options, columns, input.chunks(1));
    assert_eq!(whole, bytewise);
    expected.assert_eq(&whole);
}

fn shown<'a>(
    options: &CopyOptions,
    columns: &[(String, ColumnType)],
    chunks: impl Iterator<Item = &'a [u8]>,
) -> String {
    let mut decoder = CopyDecoder::new("t", options, columns, "Asia/Jakarta").unwrap();
    let decode = || {
        for chunk in chunks {
            decoder.push(chunk)?;
        }
        decoder.finish()?;
        decoder.take_batch()
    };
    match decode() {
        Ok(batch) => {
            // Shown as UTC, whatever time zones the test is built with.
            let columns = batch.columns().iter().zip(batch.schema_ref().fields());
            let plain = columns.map(|(array, field)| match field.data_type() {
                DataType::Timestamp(unit, Some(_)) => {
                    let plain = cast(array, &DataType::Timestamp(*unit, None)).unwrap();
                    (format!("{} (UTC)", field.name()), plain)
                }
                _ => (field.name().clone(), array.clone()),
            });
            let batch = RecordBatch::try_from_iter(plain).unwrap();
            let table = pretty_format_batches(&[batch]).unwrap();
            format!("{table}\nskipped {}\n", decoder.skipped())
        }
        Err(error) => format!(
            "{} {error}\n{}\n",
            error.state.0,
            error.detail.as_deref().unwrap_or_default()
        ),
    }
}

#[test]
fn text() {
    check(
        &CopyOptions::new(CopyFormat::Text),
        &columns(),
        b"1\ta\\tb\\\\ \\x41\\101\t1.005\r\n2\t\\N\t\\N\n3\t\t-0.5\n\\.\nrest",
        expect![[r#"
            +----+---------+-------+
            | id | name    | price |
            +----+---------+-------+
            | 1  | a	b\ AA | 1.01  |
            | 2  |         |       |
            | 3  |         | -0.50 |
            +----+---------+-------+
            skipped 0
        "#]],
    );
}

#[test]
fn csv() {
    let mut options = CopyOptions::new(CopyFormat::Csv);
    options.header = CopyHeader::Yes;
    check(
        &options,
        &columns(),
        b"id,name,price\n1,\"a, \"\"b\"\"\nc\",1e3\n2,\"\",\n 3 ,plain,.5",
        expect![[r#"
            +----+--------+---------+
            | id | name   | price   |
            +----+--------+---------+
            | 1  | a, "b" | 1000.00 |
            |    | c      |         |
            | 2  |        |         |
            | 3  | plain  | 0.50    |
            +----+--------+---------+
            skipped 0
        "#]],
    );
}

#[test]
fn csv_null_options() {
    let mut options = CopyOptions::new(CopyFormat::Csv);
    options.force_not_null = CopyColumns::Some(vec!["name".to_owned()]);
    options.force_null = CopyColumns::Some(vec!["price".to_owned()]);
    check(
        &options,
        &columns(),
        b"1,,\"\"\n",
        expect![[r#"
        +----+------+-------+
        | id | name | price |
        +----+------+-------+
        | 1  |      |       |
        +----+------+-------+
        skipped 0
    "#]],
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let text = CopyOptions::new(CopyFormat::Text);
    let csv = CopyOptions::new(CopyFormat::Csv);
    let mut header = CopyOptions::new(CopyFormat::Csv);
    header.header = CopyHeader::Match;
    check(
        &text,
        &columns(),
        b"1\ta\t2\nx\tb\t3\n",
        expect![[r#"
        22P02 invalid input syntax for type integer: "x"
        COPY t, line 2, column id: "x"
    "#]],
    );
    check(
        &text,
        &columns(),
        b"1\ta\n",
        expect![[r#"
        22P04 missing data for column "price"
        COPY t, line 1: "1	a"
    "#]],
    );
    check(
        &text,
        &columns(),
        b"1\ta\t2\t3\n",
        expect![[r#"
        22P04 extra data after last expected column
        COPY t, line 1: "1	a	2	3"
    "#]],
    );
    check(
        &text,
        &columns(),
        b"99999999999\ta\t2\n",
        expect![[r#"
        22003 value "99999999999" is out of range for type integer
        COPY t, line 1, column id: "99999999999"
    "#]],
    );
    check(
        &text,
        &columns(),
        b"1\ta\t12345.6\n",
        expect![[r#"
        22003 numeric field overflow
        A field with precision 6, scale 2 must round to an absolute value less than 10^4.
        COPY t, line 1, column price: "12345.6"
    "#]],
    );
    check(
        &text,
        &columns(),
        b"1\t\xff\t1\n",
        expect![[r#"
        22021 invalid byte sequence for encoding "UTF8": 0xff
        COPY t, line 1: "1	�	1"
    "#]],
    );
    check(
        &csv,
        &columns(),
        b"1,\"a,2\n",
        expect![[r#"
        22P04 unterminated CSV quoted field
        COPY t, line 1
    "#]],
    );
    check(
        &header,
        &columns(),
        b"id,nom,price\n",
        expect![[r#"
        22P04 column name mismatch in header line field 2: got "nom", expected "name"
        COPY t, line 1
    "#]],
    );
}

#[test]
fn bad_rows_can_be_left_out() {
    let mut options = CopyOptions::new(CopyFormat::Csv);
    options.ignore_errors = true;
    check(
        &options,
        &columns(),
        b"1,a,2\nx,b,3\n4,c,y\n5,d,6\n",
        expect![[r#"
        +----+------+-------+
        | id | name | price |
        +----+------+-------+
        | 1  | a    | 2.00  |
        | 5  | d    | 6.00  |
        +----+------+-------+
        skipped 2
    "#]],
    );
}

#[test]
fn every_type_as_text() {
    let columns: Vec<(String, ColumnType)> = [
        ColumnType::Boolean,
        ColumnType::Double,
        ColumnType::Bytea,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
        ColumnType::Interval,
        ColumnType::Uuid,
        ColumnType::Array(Box::new(ColumnType::Text)),
    ]
    .into_iter()
    .map(|column_type| (column_type.sql_name(), column_type))
    .collect();
    let mut options = CopyOptions::new(CopyFormat::Text);
    options.delimiter = b'|';
    check(
        &options,
        &columns,
        b"yes|-1.5e3|\\\\x00ff|2024-02-29|23:59:59.5|2024-01-02T03:04:05.678|2024-01-02 03:04|1 year 2 mons 3 days 04:05:06|A0EEBC999C0B4EF8BB6D6BB9BD380A11|{a,\"b c\",NULL,\"\\\\\"\"}\n\
          off|Infinity|a\\\\\\\\b|01/31/2024|12:30 PM|20240102 030405|2024-01-02 03:04:05.5+02:30|-3 days|{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}|{}\n",
        expect![[r#"
            +---------+------------------+--------+------------+------------------------+-----------------------------+--------------------------------+------------------------------------------------+--------------------------------------+---------------+
            | boolean | double precision | bytea  | date       | time without time zone | timestamp without time zone | timestamp with time zone (UTC) | interval                                       | uuid                                 | text[]        |
            +---------+------------------+--------+------------+------------------------+-----------------------------+--------------------------------+------------------------------------------------+--------------------------------------+---------------+
            | true    | -1500.0          | 00ff   | 2024-02-29 | 23:59:59.500           | 2024-01-02T03:04:05.678     | 2024-01-01T20:04:00            | 14 mons 3 days 4 hours 5 mins 6.000000000 secs | a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 | [a, b c, , "] |
            | false   | inf              | 615c62 | 2024-01-31 | 12:30:00               | 2024-01-02T03:04:05         | 2024-01-02T00:34:05.500        | -3 days                                        | a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 | []            |
            +---------+------------------+--------+------------+------------------------+-----------------------------+--------------------------------+------------------------------------------------+--------------------------------------+---------------+
            skipped 0
        "#]],
    );
}

#[test]
fn binary() {
    let mut input = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    input.extend_from_slice(b"\0\x03\0\0\0\x04\0\0\0\x07\0\0\0\x02ab");
    // 12.34: two groups, weight 0, scale 2
    input.extend_from_slice(b"\0\0\0\x0c\0\x02\0\0\0\0\0\x02\0\x0c\x0d\x48");
    input.extend_from_slice(b"\0\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    check(
        &CopyOptions::new(CopyFormat::Binary),
        &columns(),
        &input,
        expect![[r#"
        +----+------+-------+
        | id | name | price |
        +----+------+-------+
        | 7  | ab   | 12.34 |
        |    |      |       |
        +----+------+-------+
        skipped 0
    "#]],
    );
    let options = CopyOptions::new(CopyFormat::Binary);
    check(
        &options,
        &columns(),
        b"1\ta\t2\n",
        expect![[r#"
        22P04 COPY file signature not recognized

    "#]],
    );
    check(
        &options,
        &columns(),
        &input[..40],
        expect![[r#"
        22P04 unexpected EOF in COPY data
        COPY t, line 1
    "#]],
    );
    check(
        &options,
        &columns(),
        b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02",
        expect![[r#"
        22P04 row field count is 2, expected 3
        COPY t, line 1
    "#]],
    );
}

#[test]
fn decimals_round_half_away_from_zero() {
    for (text, value) in [
        ("1.005", 101),
        ("-1.005", -101),
        ("1.0049", 100),
        ("0.005", 1),
        ("0.0049", 0),
        ("5e-3", 1),
        ("5e-4", 0),
        ("12e2", 120_000),
        (".5", 50),
        ("7.", 700),
        ("+0012", 1200),
    ] {
        assert_eq!(number::decimal(text, 38, 2).unwrap(), value, "{text}");
    }
    for text in ["", ".", "1.2.3", "1e", "e5", "--1", "0x10"] {
        assert!(number::decimal(text, 38, 2).is_err(), "{text}");
    }
}

#[test]
fn a_batch_is_full_by_its_bytes_too() {
    let columns = [("txt".to_owned(), ColumnType::Text)];
    let options = CopyOptions::new(CopyFormat::Text);
    let mut decoder = CopyDecoder::new("t", &options, &columns, "UTC").unwrap();
    let row = ["x".repeat(1 << 20), "\n".to_owned()].concat();
    let mut rows = 0;
    while !decoder.is_full() {
        decoder.push(row.as_bytes()).unwrap();
        rows += 1;
    }
    assert_eq!(rows, 8);
    assert_eq!(decoder.take_batch().unwrap().num_rows(), 8);
    assert!(!decoder.is_full());
}

#[test]
fn a_row_without_an_end_is_refused() {
    let columns = [("txt".to_owned(), ColumnType::Text)];
    for (format, start, chunk) in [
        (CopyFormat::Text, &b"good\n"[..], &b"xxxxxxxxxx"[..]),
        (CopyFormat::Csv, b"good\n\"", b"x\nx\nx\nx\n"),
    ] {
        let options = CopyOptions::new(format);
        let mut decoder = CopyDecoder::new("t", &options, &columns, "UTC").unwrap();
        decoder.row_bytes_max = 1000;
        decoder.push(start).unwrap();
        let error = (0..200).find_map(|_| decoder.push(chunk).err()).unwrap();
        assert_eq!(error.state.0, "54000");
        assert_eq!(error.detail.as_deref(), Some("COPY t, line 2"));
    }
}

#[test]
fn a_long_row_is_not_read_again_with_every_chunk() {
    let columns = [("txt".to_owned(), ColumnType::Text)];
    let options = CopyOptions::new(CopyFormat::Text);
    let mut decoder = CopyDecoder::new("t", &options, &columns, "UTC").unwrap();
    let mut looks = 0;
    for _ in 0..10_000 {
        let before = decoder.retry_at;
        decoder.push(b"0123456789").unwrap();
        looks += usize::from(decoder.retry_at != before);
    }
    assert!(looks < 20, "{looks}");
    decoder.push(b"\n").unwrap();
    decoder.finish().unwrap();
    assert_eq!(decoder.take_batch().unwrap().num_rows(), 1);
}
