//! Ugly files, and that no way of cutting a file changes its rows.

use super::*;
use crate::format::{ROW, format};
use arrow::util::pretty::pretty_format_batches;
use expect_test::{Expect, expect};
use std::io::Write;

fn spool(bytes: &[u8]) -> LocalFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let size = bytes.len() as u64;
    LocalFile::spooled(file.into_temp_path(), "in/ugly.csv", size)
}

fn read_all(format: &dyn FileFormat, file: &LocalFile, schema: &DecodeSchema) -> String {
    let mut batches = Vec::new();
    let mut rejected = Vec::new();
    let statistics = format
        .read(file, schema, &mut |decoded| {
            batches.push(decoded.batch);
            rejected.extend(decoded.rejected);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(statistics.rows_rejected, rejected.len() as u64);
    let batch = arrow::compute::concat_batches(&schema.output(), &batches).unwrap();
    assert_eq!(statistics.rows, batch.num_rows() as u64);
    // The name of the file is the same everywhere.
    let shown: Vec<usize> = (0..batch.num_columns())
        .filter(|&index| batch.schema().field(index).name() != "_file")
        .filter(|&index| {
            batch.schema().field(index).name() != "_sheet"
                || batch.column(index).null_count() < batch.num_rows()
        })
        .collect();
    let mut text = pretty_format_batches(&[batch.project(&shown).unwrap()])
        .unwrap()
        .to_string();
    for row in rejected {
        text += &format!(
            "\nrejected {}: {} [{}] {:?}",
            row.row, row.reason, row.sqlstate, row.raw
        );
    }
    text + "\n"
}

fn configure(options: &[(&str, &str)]) -> Arc<dyn FileFormat> {
    let mut options = Options::new("format \"CSV\"", options.iter().copied());
    let configured = format("csv").unwrap().configure(&mut options).unwrap();
    options.finish().unwrap();
    configured
}

fn check_bytes(bytes: &[u8], options: &[(&str, &str)], expected: Expect) {
    let file = spool(bytes);
    let format = configure(options);
    let columns = format.infer(&file, &InferenceLimits::default()).unwrap();
    let types: Vec<String> = columns
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    let shown = read_all(&*format, &file, &DecodeSchema::new(columns));
    expected.assert_eq(&format!("{}\n{shown}", types.join(", ")));
}

fn check(text: &str, options: &[(&str, &str)], expected: Expect) {
    check_bytes(text.as_bytes(), options, expected);
}

#[test]
fn a_merchant_file_with_everything_wrong() {
    check(
        "\u{feff}Laporan Stok;;;\n\nKode SKU;Nama Barang;Jumlah;Harga\n007;\"Kopi; \"\"Luwak\"\"\nspesial\";1.200;12.500,50\n008;Teh;x;0,5\n009;Gula\n010;Susu;3;7,25;extra;more\nTotal;;1.203;\n",
        &[
            ("decimal", ","),
            ("thousands", "."),
            ("footer", "/^total/i"),
        ],
        expect![[r#"
            kode_sku Utf8, nama_barang Utf8, jumlah Utf8, harga Float64
            +----------+---------------+--------+---------+----------------------------------------+------+
            | kode_sku | nama_barang   | jumlah | harga   | _rescued                               | _row |
            +----------+---------------+--------+---------+----------------------------------------+------+
            | 007      | Kopi; "Luwak" | 1.200  | 12500.5 |                                        | 4    |
            |          | spesial       |        |         |                                        |      |
            | 008      | Teh           | x      | 0.5     |                                        | 6    |
            | 009      | Gula          |        |         |                                        | 7    |
            | 010      | Susu          | 3      | 7.25    | {"column_5":"extra","column_6":"more"} | 8    |
            +----------+---------------+--------+---------+----------------------------------------+------+
        "#]],
    );
}

#[test]
fn encodings_are_found() {
    let (latin, _, _) =
        encoding_rs::WINDOWS_1252.encode("name,city\nJosé,Málaga\nZoë,Übach\nRené,Orléans\n");
    check_bytes(
        &latin,
        &[],
        expect![[r#"
        name Utf8, city Utf8
        +------+---------+----------+------+
        | name | city    | _rescued | _row |
        +------+---------+----------+------+
        | José | Málaga  |          | 2    |
        | Zoë  | Übach   |          | 3    |
        | René | Orléans |          | 4    |
        +------+---------+----------+------+
    "#]],
    );
    let text = "name,qty\nJosé,1\n日本,2\n";
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let expected = expect![[r#"
        name Utf8, qty Int64
        +------+-----+----------+------+
        | name | qty | _rescued | _row |
        +------+-----+----------+------+
        | José | 1   |          | 2    |
        | 日本 | 2   |          | 3    |
        +------+-----+----------+------+
    "#]];
    check_bytes(&[&[0xff, 0xfe], utf16.as_slice()].concat(), &[], expected);
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    check_bytes(
        &utf16,
        &[("encoding", "utf-16be")],
        expect![[r#"
        name Utf8, qty Int64
        +------+-----+----------+------+
        | name | qty | _rescued | _row |
        +------+-----+----------+------+
        | José | 1   |          | 2    |
        | 日本 | 2   |          | 3    |
        +------+-----+----------+------+
    "#]],
    );
}

#[test]
fn a_row_that_is_not_utf8_is_rejected_alone() {
    check_bytes(
        b"a,b\n1,x\n2,caf\xe9\n3,y\n",
        &[("encoding", "utf-8")],
        expect![[r#"
            a Int64, b Utf8
            +---+---+----------+------+
            | a | b | _rescued | _row |
            +---+---+----------+------+
            | 1 | x |          | 2    |
            | 3 | y |          | 4    |
            +---+---+----------+------+
            rejected 3: the record is not valid UTF-8; its raw content is shown as windows-1252 [22021] "2,café"
        "#]],
    );
}

#[test]
fn a_stray_byte_does_not_make_another_encoding_of_a_utf8_text() {
    let text = "a,b\n1,é\n2,ü\n".as_bytes();
    check_bytes(
        &[text, b"3,caf\xe9\n"].concat(),
        &[],
        expect![[r#"
            a Int64, b Utf8
            +---+---+----------+------+
            | a | b | _rescued | _row |
            +---+---+----------+------+
            | 1 | é |          | 2    |
            | 2 | ü |          | 3    |
            +---+---+----------+------+
            rejected 4: the record is not valid UTF-8; its raw content is shown as windows-1252 [22021] "3,café"
        "#]],
    );
}

#[test]
fn what_is_not_valid_in_its_encoding_is_rejected_alone() {
    let mut utf16: Vec<u8> = "a,b\n1,é\n2,é"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    // Half of a surrogate pair.
    utf16.extend([0x00, 0xd8]);
    utf16.extend("\n3,y\n".encode_utf16().flat_map(u16::to_le_bytes));
    check_bytes(
        &utf16,
        &[("encoding", "utf-16le")],
        expect![[r#"
            a Int64, b Utf8
            +---+---+----------+------+
            | a | b | _rescued | _row |
            +---+---+----------+------+
            | 1 | é |          | 2    |
            | 3 | y |          | 4    |
            +---+---+----------+------+
            rejected 3: the record is not valid UTF-16LE; what cannot be read is shown as � [22021] "2,é�"
        "#]],
    );
}

#[test]
fn an_invalid_comment_spoils_nothing_beside_it() {
    check_bytes(
        b"name\n# caf\xe9\nGr\xc3\xb6\xc3\x9fe\n",
        &[("encoding", "utf-8"), ("comment", "#")],
        expect![[r#"
            name Utf8
            +-------+----------+------+
            | name  | _rescued | _row |
            +-------+----------+------+
            | Größe |          | 3    |
            +-------+----------+------+
        "#]],
    );
}

#[test]
fn an_invalid_row_does_not_change_the_names_of_the_columns() {
    check_bytes(
        "größe\n1\n"
            .bytes()
            .chain(*b"\xe9\n")
            .collect::<Vec<_>>()
            .as_slice(),
        &[("encoding", "utf-8")],
        expect![[r#"
            größe Utf8
            +-------+----------+------+
            | größe | _rescued | _row |
            +-------+----------+------+
            | 1     |          | 2    |
            +-------+----------+------+
            rejected 3: the record is not valid UTF-8; its raw content is shown as windows-1252 [22021] "é"
        "#]],
    );
}

#[test]
fn an_encoding_that_shows_late_is_still_found() {
    let mut text = b"footer,name\n".to_vec();
    while text.len() < (1 << 18) + (1 << 10) {
        text.extend(b"x,ascii only\n");
    }
    text.extend(b"y,Caf\xe9 Orl\xe9ans\n");
    check_bytes(
        &text,
        &[("footer", "x")],
        expect![[r#"
            footer Utf8, name Utf8
            +--------+--------------+----------+-------+
            | footer | name         | _rescued | _row  |
            +--------+--------------+----------+-------+
            | y      | Café Orléans |          | 20245 |
            +--------+--------------+----------+-------+
        "#]],
    );
}

#[test]
fn short_rows_of_a_wide_table_come_in_small_batches() {
    let header: Vec<String> = (0..2_000).map(|number| format!("c{number}")).collect();
    let text = header.join(",") + &"\n1".repeat(5_000);
    let file = spool(text.as_bytes());
    let format = configure(&[("header", "true")]);
    let columns = format.infer(&file, &InferenceLimits::default()).unwrap();
    let mut rows = Vec::new();
    format
        .read(&file, &DecodeSchema::new(columns), &mut |decoded| {
            rows.push(decoded.batch.num_rows());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(rows, [2_097, 2_097, 806]);
}

#[test]
fn columns_without_end_are_refused() {
    let error = configure(&[("max_columns", "2")])
        .infer(&spool(b"a,b,c\n"), &InferenceLimits::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "file \"in/ugly.csv\": the file has 3 columns; more than 2 are refused"
    );
}

#[test]
fn ragged_rows_can_be_rejected() {
    check(
        "a,b\n1,2\n3\n4,5,6\n7,8,\n",
        &[("ragged", "reject")],
        expect![[r#"
        a Int64, b Int64
        +---+---+----------+------+
        | a | b | _rescued | _row |
        +---+---+----------+------+
        | 1 | 2 |          | 2    |
        | 7 | 8 |          | 5    |
        +---+---+----------+------+
        rejected 3: the record has 1 cells, not 2 [22P04] "3"
        rejected 4: the record has 3 cells, not 2 [22P04] "4,5,6"
    "#]],
    );
}

#[test]
fn nulls_footers_comments_and_dates() {
    check(
        "# exported\nid,day,note\n1,31/01/2024,\"\"\n2,NA,\n# middle\n3,01/02/2024,NA\nend,,\nof file,,\n",
        &[
            ("comment", "#"),
            ("null_values", "NA"),
            ("date_format", "DD/MM/YYYY"),
            ("skip_footer", "2"),
        ],
        expect![[r#"
            id Int64, day Date32, note Utf8
            +----+------------+------+----------+------+
            | id | day        | note | _rescued | _row |
            +----+------------+------+----------+------+
            | 1  | 2024-01-31 |      |          | 3    |
            | 2  |            |      |          | 4    |
            | 3  | 2024-02-01 |      |          | 6    |
            +----+------------+------+----------+------+
        "#]],
    );
}

#[test]
fn a_type_that_changes_behind_the_sample_is_rescued() {
    let mut text = "id,v\n".to_owned();
    for row in 0..5 {
        text += &format!("{row},{row}\n");
    }
    text += "5,five\n";
    let file = spool(text.as_bytes());
    let format = configure(&[]);
    let limits = InferenceLimits {
        rows: 3,
        ..InferenceLimits::default()
    };
    let columns = format.infer(&file, &limits).unwrap();
    let narrow = Arc::new(Schema::new(vec![columns.field(1).clone()]));
    let shown = read_all(&*format, &file, &DecodeSchema::new(narrow));
    expect![[r#"
        +---+-----------------------+------+
        | v | _rescued              | _row |
        +---+-----------------------+------+
        | 0 | {"id":"0"}            | 2    |
        | 1 | {"id":"1"}            | 3    |
        | 2 | {"id":"2"}            | 4    |
        | 3 | {"id":"3"}            | 5    |
        | 4 | {"id":"4"}            | 6    |
        |   | {"v":"five","id":"5"} | 7    |
        +---+-----------------------+------+
    "#]]
    .assert_eq(&shown);
}

#[test]
fn identifiers_do_not_fit_a_column_found_to_be_numbers() {
    let file = spool(b"code\n007\n+62812\n7\n");
    let format = configure(&[]);
    let columns = Arc::new(Schema::new(vec![Field::new(
        "code",
        arrow::datatypes::DataType::Int64,
        true,
    )]));
    let mut schema = DecodeSchema::new(columns);
    expect![[r#"
        +------+-------------------+------+
        | code | _rescued          | _row |
        +------+-------------------+------+
        |      | {"code":"007"}    | 2    |
        |      | {"code":"+62812"} | 3    |
        | 7    |                   | 4    |
        +------+-------------------+------+
    "#]]
    .assert_eq(&read_all(&*format, &file, &schema));
    schema.inferred = false;
    expect![[r#"
        +-------+----------+------+
        | code  | _rescued | _row |
        +-------+----------+------+
        | 7     |          | 2    |
        | 62812 |          | 3    |
        | 7     |          | 4    |
        +-------+----------+------+
    "#]]
    .assert_eq(&read_all(&*format, &file, &schema));
}

#[test]
fn compressed_files_and_archives() {
    let text = "a,b\n1,x\n2,y\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let expected = || {
        expect![[r#"
        a Int64, b Utf8
        +---+---+----------+------+
        | a | b | _rescued | _row |
        +---+---+----------+------+
        | 1 | x |          | 2    |
        | 2 | y |          | 3    |
        +---+---+----------+------+
    "#]]
    };
    check_bytes(&gzip, &[], expected());
    check_bytes(
        &zstd::encode_all(text.as_bytes(), 1).unwrap(),
        &[],
        expected(),
    );

    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    for (name, text) in [("x/1.csv", "a,b\n1,x\n"), ("x/2.csv", "b;a\ny;2\n")] {
        archive.start_file(name, options).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    let bytes = archive.finish().unwrap().into_inner();
    check_bytes(
        &bytes,
        &[],
        expect![[r#"
        a Int64, b Utf8
        +---+---+----------+---------+------+
        | a | b | _rescued | _sheet  | _row |
        +---+---+----------+---------+------+
        | 1 | x |          | x/1.csv | 2    |
        | 2 | y |          | x/2.csv | 2    |
        +---+---+----------+---------+------+
    "#]],
    );

    let error = configure(&[])
        .infer(&spool(&gzip[..gzip.len() - 6]), &InferenceLimits::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "file \"in/ugly.csv\": the file is truncated"
    );
}

#[test]
fn an_empty_file_has_no_columns() {
    let error = configure(&[])
        .infer(&spool(b""), &InferenceLimits::default())
        .unwrap_err();
    assert_eq!(error.to_string(), "file \"in/ugly.csv\": the file is empty");
}

#[test]
fn reading_stops_when_the_sink_says_so() {
    let text = "a\n".to_owned() + &"1\n".repeat(100_000);
    let format = CsvFormat {
        chunk_bytes: 64,
        ..CsvFormat::take(&mut Options::none("t")).unwrap()
    };
    let file = spool(text.as_bytes());
    let columns = format.infer(&file, &InferenceLimits::default()).unwrap();
    let mut batches = 0;
    let statistics = format
        .read(&file, &DecodeSchema::new(columns), &mut |_| {
            batches += 1;
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!((batches, statistics.rows < 100_000), (1, true));
}

/// Any size of chunk gives the rows of the crate `csv`, in order, with the lines they start at.
#[test]
fn chunk_borders_do_not_show() {
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut below = |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % bound
    };
    for _ in 0..60 {
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        writer.write_record(["k", "a", "b"]).unwrap();
        let mut expected = Vec::new();
        let mut line = 2;
        for key in 0..1 + below(120) {
            let mut cell = || -> String {
                let pieces = ["x", "\n", "\"", ",", "é", "\r\n", "long text"];
                (0..below(5))
                    .map(|_| pieces[below(pieces.len() as u64) as usize])
                    .collect()
            };
            let record = [format!("k{key}"), cell(), cell()];
            writer.write_record(&record).unwrap();
            let lines = record
                .iter()
                .map(|cell| cell.matches('\n').count())
                .sum::<usize>();
            expected.push((record, line));
            line += 1 + lines as i64;
        }
        let file = spool(&writer.into_inner().unwrap());
        for chunk_bytes in [1, 7, 33, 64, 255, 1 << 20] {
            let mut options = Options::new(
                "t",
                [
                    ("header", "true"),
                    ("delimiter", ","),
                    ("quote", "\""),
                    ("escape", "\""),
                ],
            );
            let format = CsvFormat {
                chunk_bytes,
                ..CsvFormat::take(&mut options).unwrap()
            };
            let text = |name| Field::new(name, arrow::datatypes::DataType::Utf8, true);
            let columns = Arc::new(Schema::new(vec![text("k"), text("a"), text("b")]));
            let mut rows = Vec::new();
            format
                .read(&file, &DecodeSchema::new(columns), &mut |decoded| {
                    assert!(decoded.rejected.is_empty());
                    let column = |index: usize| decoded.batch.column(index).clone();
                    let texts: Vec<arrow::array::StringArray> = (0..3)
                        .map(|index| column(index).as_any().downcast_ref().cloned().unwrap())
                        .collect();
                    let lines = decoded.batch.column_by_name(ROW).unwrap().clone();
                    let lines: &arrow::array::Int64Array = lines.as_any().downcast_ref().unwrap();
                    for row in 0..decoded.batch.num_rows() {
                        use arrow::array::Array;
                        let cell = |index: usize| {
                            if texts[index].is_null(row) {
                                ""
                            } else {
                                texts[index].value(row)
                            }
                            .to_owned()
                        };
                        rows.push(([cell(0), cell(1), cell(2)], lines.value(row)));
                    }
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(rows, expected, "chunks of {chunk_bytes} bytes");
        }
    }
}
