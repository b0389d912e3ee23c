//! Workbooks as people make them, and as attackers do, read through the real reading process.

#![allow(clippy::unwrap_used, reason = "what fails in a test fails the test")]

use std::fs;
use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use arrow::util::pretty::pretty_format_batches;
use boathouse_connectors::format::format;
use boathouse_connectors::{
    DecodeSchema, FormatError, InferenceLimits, LocalFile, Options, set_excel_reader,
};
use expect_test::{Expect, expect};
use rust_xlsxwriter::{ExcelDateTime, Format, Formula, Workbook, XlsxError};
use zip::write::SimpleFileOptions;

fn read(path: &Path, options: &[(&str, &str)]) -> Result<String, FormatError> {
    read_as(path, options, &InferenceLimits::default(), true)
}

fn read_as(
    path: &Path,
    options: &[(&str, &str)],
    limits: &InferenceLimits,
    inferred: bool,
) -> Result<String, FormatError> {
    set_excel_reader(env!("CARGO_BIN_EXE_boathouse-excel-reader"));
    let mut options = Options::new("format \"EXCEL\"", options.iter().copied());
    let format = format("EXCEL").unwrap().configure(&mut options).unwrap();
    options.finish().unwrap();
    let file = LocalFile::in_place(path, "in/book", fs::metadata(path).unwrap().len());
    let columns = format.infer(&file, limits)?;
    let types: Vec<String> = columns
        .fields()
        .iter()
        .map(|f| format!("{} {}", f.name(), f.data_type()))
        .collect();
    let mut schema = DecodeSchema::new(columns);
    schema.inferred = inferred;
    let mut batches = Vec::new();
    format.read(&file, &schema, &mut |decoded| {
        batches.push(decoded.batch);
        ControlFlow::Continue(())
    })?;
    let batch = arrow::compute::concat_batches(&schema.output(), &batches).unwrap();
    let shown: Vec<usize> = (0..batch.num_columns())
        .filter(|&index| batch.schema().field(index).name() != "_file")
        .collect();
    let table = pretty_format_batches(&[batch.project(&shown).unwrap()]).unwrap();
    Ok(format!("{}\n{table}\n", types.join(", ")))
}

fn shown(error: &FormatError) -> String {
    format!(
        "[{}] {error}\n{}\n",
        error.sqlstate,
        error.hint.as_deref().unwrap_or("")
    )
}

fn check(
    build: impl FnOnce(&mut Workbook) -> Result<(), XlsxError>,
    options: &[(&str, &str)],
    expected: Expect,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.xlsx");
    let mut book = Workbook::new();
    build(&mut book).unwrap();
    book.save(&path).unwrap();
    expected.assert_eq(&read(&path, options).unwrap_or_else(|error| shown(&error)));
}

fn check_refused(path: &Path, options: &[(&str, &str)], expected: Expect) {
    let start = Instant::now();
    let error = read(path, options).unwrap_err();
    let elapsed = start.elapsed();
    expected.assert_eq(&shown(&error));
    // The promise is two seconds; an unoptimised build beside other tests is slower.
    let seconds = if cfg!(debug_assertions) { 10 } else { 2 };
    assert!(elapsed < Duration::from_secs(seconds), "took {elapsed:?}");
}

#[test]
fn a_report_with_title_merged_header_totals_and_text_numbers() {
    check(
        |book| {
            let plain = Format::new();
            let date = Format::new().set_num_format("dd/mm/yyyy");
            let sheet = book.add_worksheet().set_name("Stock")?;
            sheet.merge_range(0, 0, 0, 5, "Laporan Stok", &plain)?;
            sheet.merge_range(2, 0, 3, 0, "SKU", &plain)?;
            sheet.merge_range(2, 1, 2, 2, "Stock", &plain)?;
            sheet.write(3, 1, "Qty")?.write(3, 2, "Price")?;
            sheet.merge_range(2, 3, 3, 3, "Counted on", &plain)?;
            sheet.merge_range(2, 4, 3, 4, "Shelf", &plain)?;
            let day = ExcelDateTime::from_ymd(2024, 2, 29)?;
            sheet.write(4, 0, "007")?.write(4, 1, 3)?.write(4, 2, 1.5)?;
            sheet.write_with_format(4, 3, &day, &date)?;
            sheet.merge_range(4, 4, 5, 4, "A-1", &plain)?;
            sheet.write(5, 0, "008")?.write(5, 1, "n/a")?;
            sheet.write(5, 2, Formula::new("1+1").set_result("2"))?;
            sheet.write(7, 0, "Jumlah")?.write(7, 1, 3)?;
            let hidden = book.add_worksheet().set_name("Secret")?;
            hidden.set_hidden(true).write(0, 0, "x")?;
            Ok(())
        },
        &[
            ("header_row", "3"),
            ("header_rows", "2"),
            ("footer", "/^(total|jumlah)/i"),
            ("null_values", "n/a"),
        ],
        expect![[r#"
            sku Utf8, stock_qty Int64, stock_price Float64, counted_on Date32, shelf Utf8
            +-----+-----------+-------------+------------+-------+----------+--------+------+
            | sku | stock_qty | stock_price | counted_on | shelf | _rescued | _sheet | _row |
            +-----+-----------+-------------+------------+-------+----------+--------+------+
            | 007 | 3         | 1.5         | 2024-02-29 | A-1   |          | Stock  | 5    |
            | 008 |           | 2.0         |            | A-1   |          | Stock  | 6    |
            +-----+-----------+-------------+------------+-------+----------+--------+------+
        "#]],
    );
}

#[test]
fn the_header_is_found_below_a_title() {
    check(
        |book| {
            let sheet = book.add_worksheet();
            sheet.write(0, 0, "Claims of January")?;
            sheet
                .write(2, 1, "Claim")?
                .write(2, 2, "Amount")?
                .write(2, 3, "Paid")?;
            sheet
                .write(3, 1, "C-1")?
                .write(3, 2, 10.25)?
                .write(3, 3, true)?;
            sheet.write(4, 1, "C-2")?.write(4, 2, "ten")?;
            sheet
                .write(5, 1, "C-3")?
                .write(5, 2, 7)?
                .write(5, 5, "stray")?;
            Ok(())
        },
        &[],
        expect![[r#"
            claim Utf8, amount Utf8, paid Boolean
            +-------+--------+------+----------------------+--------+------+
            | claim | amount | paid | _rescued             | _sheet | _row |
            +-------+--------+------+----------------------+--------+------+
            | C-1   | 10.25  | true |                      | Sheet1 | 4    |
            | C-2   | ten    |      |                      | Sheet1 | 5    |
            | C-3   | 7      |      | {"column_f":"stray"} | Sheet1 | 6    |
            +-------+--------+------+----------------------+--------+------+
        "#]],
    );
}

#[test]
fn sheets_by_pattern_and_a_range() {
    let two = |book: &mut Workbook| {
        for (name, value) in [("Stock A", 1), ("Stock B", 2), ("Notes", 3)] {
            let sheet = book.add_worksheet().set_name(name)?;
            sheet
                .write(0, 0, "junk")?
                .write(1, 1, "k")?
                .write(1, 2, "v")?;
            sheet
                .write(2, 1, name)?
                .write(2, 2, value)?
                .write(2, 3, "outside")?;
        }
        Ok(())
    };
    check(
        two,
        &[("sheet", "/^Stock/"), ("range", "B2:C")],
        expect![[r#"
        k Utf8, v Int64
        +---------+---+----------+---------+------+
        | k       | v | _rescued | _sheet  | _row |
        +---------+---+----------+---------+------+
        | Stock A | 1 |          | Stock A | 3    |
        | Stock B | 2 |          | Stock B | 3    |
        +---------+---+----------+---------+------+
    "#]],
    );
    check(
        two,
        &[("sheet", "Lager")],
        expect![[r#"
        [22P04] file "in/book": no visible sheet matches "Lager"
        the workbook has the sheets: Stock A, Stock B, Notes
    "#]],
    );
}

#[test]
fn error_cells_and_late_types_are_rescued() {
    check(
        |book| {
            let sheet = book.add_worksheet();
            sheet.write(0, 0, "id")?.write(0, 1, "v")?;
            for row in 1..=20_000 {
                sheet.write(row, 0, row)?.write(row, 1, row)?;
            }
            sheet.write(20_001, 0, 20_001)?.write(20_001, 1, "many")?;
            sheet.write(20_002, 0, 20_002)?;
            sheet.write(20_002, 1, Formula::new("1/0").set_result("#DIV/0!"))?;
            Ok(())
        },
        &[("footer", "/^[0-9]{1,4}$|^1|^20000$/")],
        expect![[r##"
            id Int64, v Utf8
            +-------+------+-----------------+--------+-------+
            | id    | v    | _rescued        | _sheet | _row  |
            +-------+------+-----------------+--------+-------+
            | 20001 | many |                 | Sheet1 | 20002 |
            | 20002 |      | {"v":"#DIV/0!"} | Sheet1 | 20003 |
            +-------+------+-----------------+--------+-------+
        "##]],
    );
}

#[test]
fn identifiers_do_not_fit_a_column_found_to_be_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.xlsx");
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.write(0, 0, "code").unwrap();
    sheet.write(1, 0, 101).unwrap();
    sheet.write(2, 0, "007").unwrap();
    book.save(&path).unwrap();
    let limits = InferenceLimits {
        rows: 1,
        ..InferenceLimits::default()
    };
    expect![[r#"
        code Int64
        +------+----------------+--------+------+
        | code | _rescued       | _sheet | _row |
        +------+----------------+--------+------+
        | 101  |                | Sheet1 | 2    |
        |      | {"code":"007"} | Sheet1 | 3    |
        +------+----------------+--------+------+
    "#]]
    .assert_eq(&read_as(&path, &[], &limits, true).unwrap());
    expect![[r#"
        code Int64
        +------+----------+--------+------+
        | code | _rescued | _sheet | _row |
        +------+----------+--------+------+
        | 101  |          | Sheet1 | 2    |
        | 7    |          | Sheet1 | 3    |
        +------+----------+--------+------+
    "#]]
    .assert_eq(&read_as(&path, &[], &limits, false).unwrap());
}

#[test]
fn old_and_open_kinds_of_workbook() {
    let fixtures = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/fixtures");
    let xls = read(&fixtures.join("stock.xls"), &[("footer", "total")]).unwrap();
    expect![[r#"
        sku Utf8, qty Int64, price Float64, counted Date32
        +-----+-----+-------+------------+----------+--------+------+
        | sku | qty | price | counted    | _rescued | _sheet | _row |
        +-----+-----+-------+------------+----------+--------+------+
        | 007 | 3   | 1.5   | 2024-01-31 |          | Stock  | 4    |
        | 008 | 4   | 2.25  | 2024-02-29 |          | Stock  | 5    |
        +-----+-----+-------+------------+----------+--------+------+
    "#]]
    .assert_eq(&xls);
    let ods = read(&fixtures.join("stock.ods"), &[]).unwrap();
    expect![[r#"
        sku Utf8, qty Int64, price Float64
        +-----+-----+-------+----------+--------+------+
        | sku | qty | price | _rescued | _sheet | _row |
        +-----+-----+-------+----------+--------+------+
        | 007 | 3   | 1.5   |          | Stock  | 2    |
        | 008 | 4   | 2.25  |          | Stock  | 3    |
        +-----+-----+-------+----------+--------+------+
    "#]]
    .assert_eq(&ods);
}

/// A workbook of one sheet, written by hand.
fn by_hand(path: &Path, workbook: &str, strings: &[u8], sheet: &mut dyn FnMut(&mut dyn Write)) {
    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .compression_level(Some(1));
    let parts: [(&str, &[u8]); 5] = [
        ("[Content_Types].xml", br#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>"#),
        ("_rels/.rels", br#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#),
        ("xl/workbook.xml", workbook.as_bytes()),
        ("xl/_rels/workbook.xml.rels", br#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings" Target="sharedStrings.xml"/><Relationship Id="r3" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/></Relationships>"#),
        ("xl/styles.xml", br#"<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>"#),
    ];
    for (name, bytes) in parts {
        archive.start_file(name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.start_file("xl/sharedStrings.xml", options).unwrap();
    archive.write_all(strings).unwrap();
    archive
        .start_file("xl/worksheets/sheet1.xml", options)
        .unwrap();
    archive.write_all(br#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>"#).unwrap();
    sheet(&mut archive);
    archive.write_all(b"</sheetData></worksheet>").unwrap();
    archive.finish().unwrap();
}

fn workbook(properties: &str) -> String {
    format!(
        r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">{properties}<sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>"#
    )
}

const NO_STRINGS: &[u8] =
    br#"<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"></sst>"#;

#[test]
fn both_calendars() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.xlsx");
    let mut sheet = |out: &mut dyn Write| {
        out.write_all(br#"<row r="1"><c r="A1" t="inlineStr"><is><t>day</t></is></c></row><row r="2"><c r="A2" s="1"><v>43831</v></c></row><row r="3"><c r="A3" s="1"><v>60.5</v></c></row>"#).unwrap();
    };
    by_hand(&path, &workbook(""), NO_STRINGS, &mut sheet);
    expect![[r#"
        day Utf8
        +------------+----------+--------+------+
        | day        | _rescued | _sheet | _row |
        +------------+----------+--------+------+
        | 2020-01-01 |          | S      | 2    |
        | 60.5       |          | S      | 3    |
        +------------+----------+--------+------+
    "#]]
    .assert_eq(&read(&path, &[]).unwrap());
    by_hand(
        &path,
        &workbook(r#"<workbookPr date1904="1"/>"#),
        NO_STRINGS,
        &mut sheet,
    );
    expect![[r#"
        day Timestamp(µs)
        +---------------------+----------+--------+------+
        | day                 | _rescued | _sheet | _row |
        +---------------------+----------+--------+------+
        | 2024-01-02T00:00:00 |          | S      | 2    |
        | 1904-03-01T12:00:00 |          | S      | 3    |
        +---------------------+----------+--------+------+
    "#]]
    .assert_eq(&read(&path, &[]).unwrap());
}

#[test]
fn a_protected_a_truncated_and_a_false_workbook_are_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.xlsx");
    // The container of an encrypted workbook, as far as its directory.
    let mut ole = vec![0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
    ole.resize(1024, 0);
    ole.extend("EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes));
    ole.resize(4096, 0);
    fs::write(&path, ole).unwrap();
    check_refused(
        &path,
        &[],
        expect![[r#"
        [22P04] file "in/book": the workbook is protected by a password
        save it without a password
    "#]],
    );

    // ODS says in its manifest which parts are encrypted.
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let manifest = r#"<?xml version="1.0"?><manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml" manifest:size="9"><manifest:encryption-data manifest:checksum="x"/></manifest:file-entry></manifest:manifest>"#;
    for (name, text) in [
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
        ("META-INF/manifest.xml", manifest),
        ("content.xml", "encrypted"),
    ] {
        archive
            .start_file(name, SimpleFileOptions::default())
            .unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
    check_refused(
        &path,
        &[],
        expect![[r#"
        [22P04] file "in/book": the workbook is protected by a password
        save it without a password
    "#]],
    );

    // Or all of it is encrypted as one part.
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    archive
        .start_file("encrypted-package", SimpleFileOptions::default())
        .unwrap();
    archive.finish().unwrap();
    check_refused(
        &path,
        &[],
        expect![[r#"
        [22P04] file "in/book": the workbook is protected by a password
        save it without a password
    "#]],
    );

    let mut book = Workbook::new();
    book.add_worksheet().write(0, 0, "a").unwrap();
    let whole = book.save_to_buffer().unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    check_refused(
        &path,
        &[],
        expect![[r#"
        [22P04] file "in/book": the workbook is truncated or damaged
        deliver the file again; a transfer may have been cut off
    "#]],
    );

    fs::write(&path, "<html><table><tr><td>a</td></tr></table></html>").unwrap();
    check_refused(
        &path,
        &[],
        expect![[r#"
        [22P04] file "in/book": the file is not a workbook
        it is HTML or XML text; have it saved as XLSX
    "#]],
    );
}

#[test]
fn files_made_to_exhaust_memory_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.xlsx");

    by_hand(&path, &workbook(""), NO_STRINGS, &mut |out| {
        out.write_all(br#"<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>"#).unwrap();
    });
    check_refused(
        &path,
        &[],
        expect![[r#"
        [54000] file "in/book", sheet "S", row 1048576, column "XFD": the sheet reaches column XFD; more than 2000 columns are refused
        clear the stray cell, give a range such as 'A1:T', or raise max_columns
    "#]],
    );

    // More shared texts than the memory holds.
    by_hand(
        &path,
        &workbook(""),
        br#"<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" count="1" uniqueCount="30000000"><si><t>a</t></si></sst>"#,
        &mut |out| out.write_all(br#"<row r="1"><c r="A1" t="s"><v>0</v></c></row>"#).unwrap(),
    );
    check_refused(
        &path,
        &[],
        expect![[r#"
        [53200] file "in/book": reading the workbook needs more than 768 MiB of memory
        if the workbook is honest, raise memory_limit_mb or deliver it in parts
    "#]],
    );

    // One text of 32 KiB that a million cells refer to.
    let strings = format!(
        r#"<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>{}</t></si></sst>"#,
        "x".repeat(32_000)
    );
    by_hand(&path, &workbook(""), strings.as_bytes(), &mut |out| {
        for row in 1..=50_000 {
            let mut line = format!(r#"<row r="{row}">"#);
            for column in ["A", "B", "C", "D"] {
                line += &format!(r#"<c r="{column}{row}" t="s"><v>0</v></c>"#);
            }
            out.write_all(line.as_bytes()).unwrap();
            out.write_all(b"</row>").unwrap();
        }
    });
    check_refused(
        &path,
        &[],
        expect![[r#"
        [54000] file "in/book", sheet "S": the sheet unfolds to more than 141 MiB of text
        this is how files made to exhaust memory look; save the workbook anew
    "#]],
    );

    // A sheet of 200 MiB of blanks in 200 KiB.
    by_hand(&path, &workbook(""), NO_STRINGS, &mut |out| {
        let blanks = vec![b' '; 1 << 20];
        for _ in 0..200 {
            out.write_all(&blanks).unwrap();
        }
    });
    check_refused(
        &path,
        &[],
        expect![[r#"
        [54000] file "in/book": part "xl/worksheets/sheet1.xml" of the workbook unpacks to 200 MiB from 1979 KiB
        this is how files made to exhaust memory look; save the workbook anew
    "#]],
    );

    // Honest in size, but more than the limit allows to hold.
    let mut strings = Cursor::new(Vec::new());
    strings
        .write_all(b"<sst xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\">")
        .unwrap();
    for number in 0..250_000 {
        write!(
            strings,
            "<si><t>text number {number} of many that are all different</t></si>"
        )
        .unwrap();
    }
    strings.write_all(b"</sst>").unwrap();
    by_hand(&path, &workbook(""), strings.get_ref(), &mut |_| {});
    check_refused(
        &path,
        &[("memory_limit_mb", "14")],
        expect![[r#"
        [53200] file "in/book": reading the workbook needs more than 14 MiB of memory
        if the workbook is honest, raise memory_limit_mb or deliver it in parts
    "#]],
    );
}
