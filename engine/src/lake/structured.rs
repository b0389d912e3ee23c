//! Columns of structs and maps, which SQL has no types for: they are read as `json`.
//!
//! Files and the log keep their types, and a scan turns what it reads into text as it hands it on. A filter
//! on such a column is not taken into the scan. Nothing of ours writes such a column.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, ListArray, RecordBatch, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::error::ArrowError;
use arrow_json::writer::{EncoderOptions, make_encoder};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

/// Whether values of a type are read as JSON, or lists of such.
pub(super) fn is_structured(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) | DataType::Map(_, _) => true,
        DataType::List(item) => is_structured(item.data_type()),
        _ => false,
    }
}

/// The type without what only the log says of its fields, every one of them nullable: the type that files of
/// any writer are read as.
pub(super) fn scanned_type(data_type: &DataType) -> DataType {
    let plain = |field: &FieldRef, nullable: bool| {
        let inner = scanned_type(field.data_type());
        Arc::new(Field::new(field.name(), inner, nullable))
    };
    match data_type {
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| plain(field, true)).collect())
        }
        DataType::List(item) => DataType::List(plain(item, true)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let fields = [plain(&fields[0], false), plain(&fields[1], true)];
                let fields = DataType::Struct(fields.into_iter().collect());
                let entries = Field::new(entries.name(), fields, false);
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}

/// JSON has no keys but text.
fn keyed_by_text(data_type: &DataType) -> DataType {
    let inside = |field: &FieldRef| {
        let inner = keyed_by_text(field.data_type());
        Arc::new(Field::clone(field).with_data_type(inner))
    };
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inside).collect()),
        DataType::List(item) => DataType::List(inside(item)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let key = Field::clone(&fields[0]).with_data_type(DataType::Utf8);
                let fields = [Arc::new(key), inside(&fields[1])];
                let fields = DataType::Struct(fields.into_iter().collect());
                let entries = Field::clone(entries).with_data_type(fields);
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}

fn json_of(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if let DataType::List(_) = values.data_type() {
        let list = values.as_list::<i32>();
        let items = json_of(list.values())?;
        let item = Arc::new(Field::new("item", items.data_type().clone(), true));
        let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
        return Ok(Arc::new(ListArray::try_new(item, offsets, items, nulls)?));
    }
    let values = cast(values, &keyed_by_text(values.data_type()))?;
    let field = Arc::new(Field::new("", values.data_type().clone(), true));
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, values.as_ref(), &options)?;
    let mut json = StringBuilder::with_capacity(values.len(), values.len() * 16);
    let mut bytes = Vec::new();
    for row in 0..values.len() {
        if values.is_null(row) {
            json.append_null();
            continue;
        }
        bytes.clear();
        encoder.encode(row, &mut bytes);
        json.append_value(String::from_utf8_lossy(&bytes));
    }
    Ok(Arc::new(json.finish()))
}

/// A column of a scan, as JSON.
#[derive(Debug, Clone)]
pub(super) struct AsJson {
    column: Arc<dyn PhysicalExpr>,
    to: DataType,
}

impl AsJson {
    pub(super) fn new(column: Arc<dyn PhysicalExpr>, to: DataType) -> Self {
        Self { column, to }
    }
}

impl PartialEq for AsJson {
    fn eq(&self, other: &Self) -> bool {
        self.to == other.to && self.column.eq(&other.column)
    }
}

impl Eq for AsJson {}

impl Hash for AsJson {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
    }
}

impl fmt::Display for AsJson {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "json({})", self.column)
    }
}

impl PhysicalExpr for AsJson {
    fn data_type(&self, _input: &Schema) -> Result<DataType, DataFusionError> {
        Ok(self.to.clone())
    }

    fn nullable(&self, _input: &Schema) -> Result<bool, DataFusionError> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue, DataFusionError> {
        let values = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        let json = cast(&json_of(&values)?, &self.to)?;
        Ok(ColumnarValue::Array(json))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let column = children.pop();
        let column = column.unwrap_or_else(|| Arc::clone(&self.column));
        Ok(Arc::new(Self::new(column, self.to.clone())))
    }

    fn fmt_sql(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "json(")?;
        self.column.fmt_sql(formatter)?;
        write!(formatter, ")")
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, MapBuilder, StructArray};
    use arrow::array::{Int32Builder, StringBuilder};
    use expect_test::expect;

    use super::*;

    fn lines(values: &ArrayRef) -> String {
        let json = json_of(values).unwrap();
        let json = json.as_string::<i32>();
        let lines = json.iter().map(|value| value.unwrap_or("NULL"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn structs_and_maps_become_objects() {
        let field = Field::new("a", DataType::Int32, true);
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
        let nulls = Some(vec![true, true, false].into());
        let rows = StructArray::new(vec![field].into(), vec![numbers], nulls);
        expect![[r#"
            {"a":1}
            {"a":null}
            NULL
        "#]]
        .assert_eq(&lines(&(Arc::new(rows) as ArrayRef)));
        let mut map = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
        map.keys().append_value(7);
        map.values().append_value("x");
        map.append(true).unwrap();
        map.append(true).unwrap();
        map.append(false).unwrap();
        expect![[r#"
            {"7":"x"}
            {}
            NULL
        "#]]
        .assert_eq(&lines(&(Arc::new(map.finish()) as ArrayRef)));
    }
}
