//! The cells of one sheet, row by row, from any kind of workbook.
//!
//! The only file that names calamine. XLSX and XLSB are read as a stream; XLS and ODS are held
//! whole by the library, which is why reading happens under a memory limit.

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::Path;

use calamine::{
    Data, DataRef, Dimensions, ExcelDateTime, Ods, OdsError, Reader, SheetType, SheetVisible, Xls,
    XlsError, Xlsb, XlsbError, Xlsx, XlsxError, open_workbook,
};

use crate::error::FormatError;
use crate::value::column::Native;

use super::guard::{self, Kind};

type Source = BufReader<File>;

/// An opened workbook.
pub enum Book {
    Xls(Box<Xls<Source>>),
    Xlsx(Box<Xlsx<Source>>),
    Xlsb(Box<Xlsb<Source>>),
    Ods(Box<Ods<Source>>),
}

/// A sheet as the workbook lists it.
#[derive(Debug, Clone)]
pub struct SheetEntry {
    pub name: String,
    pub hidden: bool,
}

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CellValue<'a> {
    Value(Native<'a>),
    /// `#DIV/0!` and its kin: a text that stands for no value.
    Error(&'a str),
}

/// Receives the cells of a sheet in order of rows: row and column from 0.
pub type OnCell<'f> =
    dyn FnMut(u32, u32, CellValue<'_>) -> Result<ControlFlow<()>, FormatError> + 'f;

impl Book {
    pub fn open(path: &Path, kind: Kind) -> Result<Self, FormatError> {
        Ok(match kind {
            Kind::Xls => Self::Xls(Box::new(open_workbook(path).map_err(xls)?)),
            Kind::Xlsx => Self::Xlsx(Box::new(open_workbook(path).map_err(xlsx)?)),
            Kind::Xlsb => Self::Xlsb(Box::new(open_workbook(path).map_err(xlsb)?)),
            Kind::Ods => Self::Ods(Box::new(open_workbook(path).map_err(ods)?)),
        })
    }

    pub fn sheets(&self) -> Vec<SheetEntry> {
        let sheets = match self {
            Self::Xls(book) => book.sheets_metadata(),
            Self::Xlsx(book) => book.sheets_metadata(),
            Self::Xlsb(book) => book.sheets_metadata(),
            Self::Ods(book) => book.sheets_metadata(),
        };
        sheets
            .iter()
            .filter(|sheet| sheet.typ == SheetType::WorkSheet)
            .map(|sheet| SheetEntry {
                name: sheet.name.clone(),
                hidden: sheet.visible != SheetVisible::Visible,
            })
            .collect()
    }

    /// Merged regions. Of XLSB and ODS the library does not tell them.
    pub fn merged(&mut self, sheet: &str) -> Result<Vec<Region>, FormatError> {
        let regions = match self {
            Self::Xls(book) => book.merge_cells_by_sheet_name(sheet).map_err(xls)?,
            Self::Xlsx(book) => book.merge_cells_by_sheet_name(sheet).map_err(xlsx)?,
            Self::Xlsb(_) | Self::Ods(_) => Vec::new(),
        };
        Ok(regions.iter().map(Region::from).collect())
    }

    pub fn each_cell(&mut self, sheet: &str, on_cell: &mut OnCell<'_>) -> Result<(), FormatError> {
        match self {
            Self::Xls(book) => each_of(&book.worksheet_range(sheet).map_err(xls)?, on_cell),
            Self::Ods(book) => each_of(&book.worksheet_range(sheet).map_err(ods)?, on_cell),
            Self::Xlsx(book) => {
                let mut reader = book.worksheet_cells_reader(sheet).map_err(xlsx)?;
                while let Some(cell) = reader.next_cell().map_err(xlsx)? {
                    if hand_on(cell.get_position(), cell.get_value(), on_cell)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
            Self::Xlsb(book) => {
                let mut reader = book.worksheet_cells_reader(sheet).map_err(xlsb)?;
                while let Some(cell) = reader.next_cell().map_err(xlsb)? {
                    if hand_on(cell.get_position(), cell.get_value(), on_cell)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

/// A merged region, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub first_row: u32,
    pub first_column: u32,
    pub last_row: u32,
    pub last_column: u32,
}

impl From<&Dimensions> for Region {
    fn from(dimensions: &Dimensions) -> Self {
        Self {
            first_row: dimensions.start.0,
            first_column: dimensions.start.1,
            last_row: dimensions.end.0,
            last_column: dimensions.end.1,
        }
    }
}

fn each_of(range: &calamine::Range<Data>, on_cell: &mut OnCell<'_>) -> Result<(), FormatError> {
    let (first_row, first_column) = range.start().unwrap_or((0, 0));
    for (row, column, value) in range.used_cells() {
        let row = first_row + u32::try_from(row).unwrap_or(u32::MAX - first_row);
        let column = first_column + u32::try_from(column).unwrap_or(0);
        let flow = match value {
            Data::Int(value) => on_cell(row, column, CellValue::Value(Native::Integer(*value)))?,
            Data::Float(value) => on_cell(row, column, CellValue::Value(Native::Float(*value)))?,
            Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => {
                text_cell(row, column, text, on_cell)?
            }
            Data::Bool(value) => on_cell(row, column, CellValue::Value(Native::Boolean(*value)))?,
            Data::DateTime(time) => on_cell(row, column, CellValue::Value(time_of(time)))?,
            Data::Error(error) => on_cell(row, column, CellValue::Error(&error.to_string()))?,
            Data::Empty => continue,
        };
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

fn hand_on(
    (row, column): (u32, u32),
    value: &DataRef<'_>,
    on_cell: &mut OnCell<'_>,
) -> Result<ControlFlow<()>, FormatError> {
    match value {
        DataRef::Int(value) => on_cell(row, column, CellValue::Value(Native::Integer(*value))),
        DataRef::Float(value) => on_cell(row, column, CellValue::Value(Native::Float(*value))),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
            text_cell(row, column, text, on_cell)
        }
        DataRef::SharedString(text) => text_cell(row, column, text, on_cell),
        DataRef::Bool(value) => on_cell(row, column, CellValue::Value(Native::Boolean(*value))),
        DataRef::DateTime(time) => on_cell(row, column, CellValue::Value(time_of(time))),
        DataRef::Error(error) => on_cell(row, column, CellValue::Error(&error.to_string())),
        DataRef::Empty => Ok(ControlFlow::Continue(())),
    }
}

fn text_cell(
    row: u32,
    column: u32,
    text: &str,
    on_cell: &mut OnCell<'_>,
) -> Result<ControlFlow<()>, FormatError> {
    if text.is_empty() {
        return Ok(ControlFlow::Continue(()));
    }
    on_cell(row, column, CellValue::Value(Native::Text(text)))
}

/// Below one there is no date in a serial number, only a time of day.
fn time_of(time: &ExcelDateTime) -> Native<'static> {
    let serial = time.as_f64();
    if time.is_duration() || (0.0..1.0).contains(&serial) {
        return Native::Duration((serial * 86_400_000.0).round() as i64 * 1000);
    }
    let (year, month, day, hour, minute, second, milli) = time.to_ymd_hms_milli();
    let moment =
        chrono::NaiveDate::from_ymd_opt(year.into(), month.into(), day.into()).and_then(|date| {
            date.and_hms_milli_opt(hour.into(), minute.into(), second.into(), milli.into())
        });
    match moment {
        Some(moment) => Native::DateTime(moment.and_utc().timestamp_micros()),
        None => Native::Float(serial),
    }
}

fn xls(error: XlsError) -> FormatError {
    match error {
        XlsError::Password => guard::protected(),
        other => guard::damaged(other),
    }
}

fn xlsx(error: XlsxError) -> FormatError {
    match error {
        XlsxError::Password => guard::protected(),
        other => guard::damaged(other),
    }
}

fn xlsb(error: XlsbError) -> FormatError {
    match error {
        XlsbError::Password => guard::protected(),
        other => guard::damaged(other),
    }
}

fn ods(error: OdsError) -> FormatError {
    match error {
        OdsError::Password => guard::protected(),
        other => guard::damaged(other),
    }
}
