//! Results on a terminal: aligned as psql prints them, csv, or one JSON object a line.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use boathouse_catalog::types::ColumnType;

use crate::wire::value::{Column, Style};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Aligned,
    Csv,
    Json,
}

/// One result, gathered to be printed.
pub struct Table {
    form: Form,
    names: Vec<String>,
    types: Vec<ColumnType>,
    rows: Vec<Vec<Option<String>>>,
}

impl Table {
    pub fn new(fields: &Schema, form: Form) -> Self {
        let fields = fields.fields();
        Self {
            form,
            names: fields.iter().map(|field| field.name().clone()).collect(),
            types: fields
                .iter()
                .map(|field| ColumnType::from_field(field))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// A table of text whose types are not known.
    pub fn named(names: Vec<String>, form: Form) -> Self {
        let types = vec![ColumnType::Text; names.len()];
        Self {
            form,
            names,
            types,
            rows: Vec::new(),
        }
    }

    pub fn add_row(&mut self, values: Vec<Option<String>>) {
        self.rows.push(values);
    }

    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let style = Style::default();
        let columns = (self.types.iter().zip(batch.columns()))
            .map(|(column_type, array)| Column::new(array, column_type))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|column| {
                if column.is_null(row) {
                    return None;
                }
                let mut text = Vec::new();
                column.append_text(row, &style, &mut text);
                Some(String::from_utf8_lossy(&text).into_owned())
            });
            self.rows.push(values.collect());
        }
        Ok(())
    }

    pub fn print(&self) {
        // A reader that has gone away wants no more.
        let _ = write!(std::io::stdout(), "{self}");
    }

    fn is_number(&self, column: usize) -> bool {
        self.types[column].category() == 'N'
    }

    fn write_aligned(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A line break would tear the table.
        let shown: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                row.iter()
                    .map(|value| value.as_deref().unwrap_or("").replace('\n', "\\n"))
                    .collect()
            })
            .collect();
        let widths: Vec<usize> = (0..self.names.len())
            .map(|column| {
                let values = shown.iter().map(|row| row[column].chars().count());
                values
                    .chain([self.names[column].chars().count()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let heads = self
            .names
            .iter()
            .zip(&widths)
            .map(|(name, width)| format!(" {name:^width$} "));
        writeln!(out, "{}", heads.collect::<Vec<_>>().join("|").trim_end())?;
        let rules = widths.iter().map(|width| "-".repeat(width + 2));
        writeln!(out, "{}", rules.collect::<Vec<_>>().join("+"))?;
        for row in &shown {
            let cells = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (value, width))| {
                    if self.is_number(column) {
                        format!(" {value:>width$} ")
                    } else {
                        format!(" {value:<width$} ")
                    }
                });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("|").trim_end())?;
        }
        match self.rows.len() {
            1 => writeln!(out, "(1 row)"),
            count => writeln!(out, "({count} rows)"),
        }
    }

    fn write_csv(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<Option<String>> = self.names.iter().cloned().map(Some).collect();
        for row in std::iter::once(&names).chain(&self.rows) {
            let cells = row.iter().map(|value| match value {
                None => String::new(),
                Some(value) if value.is_empty() || value.contains([',', '"', '\n', '\r']) => {
                    format!("\"{}\"", value.replace('"', "\"\""))
                }
                Some(value) => value.clone(),
            });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join(","))?;
        }
        Ok(())
    }

    fn write_json(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for row in &self.rows {
            let object: serde_json::Map<String, serde_json::Value> = row
                .iter()
                .enumerate()
                .map(|(column, value)| (self.names[column].clone(), self.json(column, value)))
                .collect();
            writeln!(out, "{}", serde_json::Value::Object(object))?;
        }
        Ok(())
    }

    fn json(&self, column: usize, value: &Option<String>) -> serde_json::Value {
        let Some(text) = value else {
            return serde_json::Value::Null;
        };
        let parsed = match &self.types[column] {
            ColumnType::Boolean => Some(serde_json::Value::Bool(text == "t")),
            // A numeric has digits a JSON number might lose.
            ColumnType::Numeric { .. } => None,
            ColumnType::Json | ColumnType::Jsonb => serde_json::from_str(text).ok(),
            other if other.category() == 'N' => serde_json::from_str(text).ok(),
            _ => None,
        };
        parsed.unwrap_or_else(|| serde_json::Value::String(text.clone()))
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.form {
            Form::Aligned => self.write_aligned(out),
            Form::Csv => self.write_csv(out),
            Form::Json => self.write_json(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, StringArray};
    use arrow::datatypes::{DataType, Field};
    use expect_test::{Expect, expect};

    use super::*;

    fn check(form: Form, expected: Expect) {
        let fields = Schema::new(vec![
            Field::new("id", DataType::Int32, true),
            Field::new("name", DataType::Utf8, true),
        ]);
        let batch = RecordBatch::try_new(
            Arc::new(fields.clone()),
            vec![
                Arc::new(Int32Array::from(vec![Some(1), Some(20)])),
                Arc::new(StringArray::from(vec![Some("a, \"b\""), None])),
            ],
        )
        .unwrap();
        let mut table = Table::new(&fields, form);
        table.add(&batch).unwrap();
        expected.assert_eq(&table.to_string());
    }

    #[test]
    fn aligned() {
        check(
            Form::Aligned,
            expect![[r#"
                 id |  name
                ----+--------
                  1 | a, "b"
                 20 |
                (2 rows)
            "#]],
        );
    }

    #[test]
    fn csv() {
        check(
            Form::Csv,
            expect![[r#"
                id,name
                1,"a, ""b"""
                20,
            "#]],
        );
    }

    #[test]
    fn json() {
        check(
            Form::Json,
            expect![[r#"
                {"id":1,"name":"a, \"b\""}
                {"id":20,"name":null}
            "#]],
        );
    }
}
