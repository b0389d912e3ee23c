//! `CSV`: a message is one record; its cells are columns by their places.
//!
//! Options `column_names` (a list: the names of the cells), `max_columns`, and those of [`RecordFormat::take`].
//!
//! No message is a header. The names are those of `column_names`, or of `COLUMNS`, or else `column_1`, `column_2`, ....

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::json::{text_of, widened};
use super::{
    DecodedMessages, MessageBlock, MessageContext, MessageFormat, MessageKind, RejectedMessage,
};
use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::format::csv::record::{Record, RecordFormat};
use crate::format::csv::take_columns_max;
use crate::format::json::row::builders;
use crate::format::{DecodeSchema, METADATA_COLUMNS};
use crate::options::Options;
use crate::value::column::ColumnBuilder;
use crate::value::infer::TypeSample;
use crate::value::rescue::Rescued;

/// The format.
pub struct Csv;

impl MessageKind for Csv {
    fn name(&self) -> &'static str {
        "CSV"
    }

    fn configure(
        &self,
        options: &mut Options,
        _: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        let names = options.take_list("column_names")?.unwrap_or_default();
        for (index, name) in names.iter().enumerate() {
            let is_taken = names[..index].contains(name);
            if is_taken || name.is_empty() || METADATA_COLUMNS.contains(&name.as_str()) {
                return Err(ConnectorError::option(format!(
                    "option \"column_names\" cannot name a column \"{name}\"{}",
                    if is_taken { " twice" } else { "" }
                )));
            }
        }
        Ok(Arc::new(CsvFormat {
            names,
            columns_max: take_columns_max(options)?,
            records: RecordFormat::take(options)?,
        }))
    }
}

struct CsvFormat {
    /// Of the cells, in order. None when the statement gives none.
    names: Vec<String>,
    columns_max: usize,
    records: RecordFormat,
}

/// The name of a cell that has none.
fn numbered(cell: usize) -> String {
    format!("column_{}", cell + 1)
}

impl CsvFormat {
    /// The names of cells, when they are known.
    fn names<'s>(&'s self, schema: &'s DecodeSchema) -> Option<Vec<&'s str>> {
        if !self.names.is_empty() {
            return Some(self.names.iter().map(String::as_str).collect());
        }
        let fields = schema.columns.fields();
        (!schema.inferred).then(|| fields.iter().map(|field| field.name().as_str()).collect())
    }

    fn name(&self, cell: usize) -> String {
        self.names
            .get(cell)
            .cloned()
            .unwrap_or_else(|| numbered(cell))
    }
}

impl MessageFormat for CsvFormat {
    fn infer(&self, block: &MessageBlock) -> Result<Option<SchemaRef>, FormatError> {
        let mut record = Record::default();
        let mut samples: Vec<(TypeSample, bool)> = Vec::new();
        for message in block.iter() {
            // What cannot be read is rejected when it is decoded.
            let Some(Ok(text)) = message.payload.map(text_of) else {
                continue;
            };
            if self.records.split(text, &mut record).is_err() {
                continue;
            }
            let width = match self.names.len() {
                0 => record.width(),
                named => record.width().min(named),
            };
            if width > self.columns_max {
                return Err(FormatError::new(
                    sqlstate::LIMIT_EXCEEDED,
                    format!("a message has more than {} cells", self.columns_max),
                )
                .hint("look at the delimiter, or raise max_columns"));
            }
            if samples.len() < width {
                samples.resize(width, (TypeSample::default(), false));
            }
            for (cell, (sample, has_value)) in samples.iter_mut().enumerate() {
                if let Some(value) = self.records.value(text, &record, cell, false) {
                    sample.add_text(value, &self.records.values);
                    *has_value = true;
                }
            }
        }
        let fields: Vec<Field> = samples
            .iter()
            .enumerate()
            .filter(|(_, (_, has_value))| *has_value)
            .map(|(cell, (sample, _))| Field::new(self.name(cell), sample.data_type(), true))
            .collect();
        Ok((!fields.is_empty()).then(|| Arc::new(widened(&Schema::new(fields)))))
    }

    fn decode(
        &self,
        block: &MessageBlock,
        schema: &DecodeSchema,
    ) -> Result<DecodedMessages, FormatError> {
        let mut rows = Rows::new(self, schema)?;
        let mut record = Record::default();
        let mut messages = Vec::with_capacity(block.len());
        let mut rejected = Vec::new();
        for (number, message) in (0_u32..).zip(block.iter()) {
            let outcome = match message.payload {
                None => {
                    rows.append_nulls();
                    Ok(())
                }
                Some(payload) => text_of(payload).and_then(|text| {
                    let split = self.records.split(text, &mut record);
                    split
                        .and_then(|()| rows.append(text, &record))
                        .map_err(|reason| (sqlstate::BAD_FILE_FORMAT, reason))
                }),
            };
            match outcome {
                Ok(()) => messages.push(number),
                Err((sqlstate, reason)) => rejected.push(RejectedMessage {
                    message: number,
                    sqlstate: sqlstate.into(),
                    reason,
                }),
            }
        }
        let has_unknown = rows.has_unknown;
        Ok(DecodedMessages {
            columns: rows.finish()?,
            messages,
            goes: None,
            rejected,
            has_unknown,
        })
    }
}

/// Rows under construction.
struct Rows<'s> {
    format: &'s CsvFormat,
    schema: &'s DecodeSchema,
    builders: Vec<ColumnBuilder>,
    names: Option<Vec<&'s str>>,
    /// For every column the cell it is of.
    cells: Vec<Option<usize>>,
    rescued: Rescued,
    count: usize,
    has_unknown: bool,
}

impl<'s> Rows<'s> {
    fn new(format: &'s CsvFormat, schema: &'s DecodeSchema) -> Result<Self, FormatError> {
        let names = format.names(schema);
        let cell = |column: &String| match &names {
            Some(names) => names.iter().position(|name| name == column),
            None => {
                let number = column.strip_prefix("column_")?;
                number.parse::<usize>().ok()?.checked_sub(1)
            }
        };
        let fields = schema.columns.fields();
        let cells = fields.iter().map(|field| cell(field.name())).collect();
        Ok(Self {
            format,
            schema,
            builders: builders(schema)?,
            names,
            cells,
            rescued: Rescued::default(),
            count: 0,
            has_unknown: false,
        })
    }

    fn append_nulls(&mut self) {
        for builder in &mut self.builders {
            builder.append_null();
        }
        self.count += 1;
    }

    /// Appends a record, or nothing and says why.
    fn append(&mut self, text: &str, record: &Record) -> Result<(), String> {
        let records = &self.format.records;
        let found = record.width();
        let value = |cell: usize, is_text: bool| records.value(text, record, cell, is_text);
        if let Some(names) = &self.names
            && records.reject_ragged
        {
            let width = names.len();
            let has_more = (width..found).any(|cell| value(cell, true).is_some());
            if has_more || found < width {
                return Err(format!("the record has {found} cells, not {width}"));
            }
        }
        let mut filled = vec![false; found];
        for (column, cell) in self.cells.iter().enumerate() {
            let builder = &mut self.builders[column];
            let field = self.schema.columns.field(column);
            let is_text = *field.data_type() == DataType::Utf8;
            if let Some(filled) = cell.and_then(|cell| filled.get_mut(cell)) {
                *filled = true;
            }
            match cell.and_then(|cell| value(cell, is_text)) {
                None => builder.append_null(),
                Some(raw) => {
                    if builder.append_text(raw, &records.values).is_err() {
                        let name = field.name().as_str().into();
                        self.rescued.add(self.count, &name, raw);
                    }
                }
            }
        }
        let unknown = filled.iter().enumerate().filter(|(_, filled)| !**filled);
        for (cell, _) in unknown {
            let Some(raw) = value(cell, true).filter(|raw| !raw.is_empty()) else {
                continue;
            };
            // Behind the last that has a name none will ever be a column.
            let is_named = self.names.as_ref().is_none_or(|names| cell < names.len());
            self.has_unknown |= is_named;
            if self.schema.keep_unknown {
                let name = match &self.names {
                    Some(names) => names.get(cell).map(|name| (*name).to_owned()),
                    None => None,
                };
                let name = name.unwrap_or_else(|| numbered(cell));
                self.rescued.add(self.count, &name.into(), raw);
            }
        }
        self.count += 1;
        Ok(())
    }

    /// The columns, then `_rescued`.
    fn finish(self) -> Result<Vec<ArrayRef>, FormatError> {
        let finished = self.builders.into_iter().map(ColumnBuilder::finish);
        let mut columns = finished.collect::<Result<Vec<_>, _>>().map_err(|error| {
            FormatError::new(sqlstate::INTERNAL_ERROR, "could not build a column").caused_by(error)
        })?;
        columns.push(self.rescued.finish(self.count));
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;

    use super::super::block::tests::block_of;
    use super::*;

    fn csv(options: &[(&'static str, &str)]) -> Arc<dyn MessageFormat> {
        let mut options = Options::new("test", options.iter().copied());
        Csv.configure(&mut options, &MessageContext::default())
            .unwrap()
    }

    fn shown(decoded: &DecodedMessages) -> Vec<String> {
        let row = |row: usize| {
            let cells = decoded.columns.iter();
            let cells: Vec<String> = cells
                .map(|column| array_value_to_string(column, row).unwrap())
                .collect();
            cells.join("|")
        };
        (0..decoded.messages.len()).map(row).collect()
    }

    #[test]
    fn cells_are_columns_by_their_places() {
        let block = block_of(&[
            Some(b"1,a,"),
            Some(b"2,b,2024-05-17,more"),
            Some(b"x,\"\""),
            None,
            Some(b"1\n2"),
        ]);
        let format = csv(&[]);
        let found = format.infer(&block_of(&[Some(b"1,a,"), Some(b"2,b")]));
        let found = found.unwrap().unwrap();
        let decoded = format.decode(&block, &DecodeSchema::new(found)).unwrap();
        assert_eq!(
            shown(&decoded),
            [
                "1|a|",
                r#"2|b|{"column_3":"2024-05-17","column_4":"more"}"#,
                r#"||{"column_1":"x"}"#,
                "||"
            ]
        );
        assert!(decoded.has_unknown);
        assert_eq!(decoded.rejected[0].message, 4);
        let found = format.infer(&block).unwrap().unwrap();
        let names: Vec<_> = found.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["column_1", "column_2", "column_3", "column_4"]);
    }

    #[test]
    fn names_are_given_or_those_of_the_columns() {
        let named = csv(&[("column_names", "id, at"), ("ragged", "reject")]);
        let block = block_of(&[
            Some(b"7,2024-05-17"),
            Some(b"8"),
            Some(b"9,,x"),
            Some(b"9,,"),
        ]);
        let found = named.infer(&block).unwrap().unwrap();
        let decoded = named.decode(&block, &DecodeSchema::new(found)).unwrap();
        assert_eq!(shown(&decoded), ["7|2024-05-17|", "9||"]);
        let reasons: Vec<_> = decoded.rejected.iter().map(|one| &one.reason[..]).collect();
        assert_eq!(
            reasons,
            [
                "the record has 1 cells, not 2",
                "the record has 3 cells, not 2"
            ]
        );
        let declared = DecodeSchema {
            columns: Arc::new(Schema::new(vec![
                Field::new("b", DataType::Utf8, true),
                Field::new("a", DataType::Int64, true),
            ])),
            keep_unknown: true,
            inferred: false,
        };
        let decoded = csv(&[])
            .decode(&block_of(&[Some(b"x,1,2")]), &declared)
            .unwrap();
        assert_eq!(shown(&decoded), [r#"x|1|{"column_3":"2"}"#]);
        assert!(!decoded.has_unknown);
    }
}
