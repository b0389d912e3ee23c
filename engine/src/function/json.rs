//! Functions and operators over json and jsonb.
//!
//! Both are text in memory. jsonb is kept in one canonical form (keys sorted by length then bytes,
//! one space after `:` and `,`, the last of equal keys wins), so that equal values are equal text;
//! json stays as it was written.

use boathouse_catalog::types::ColumnType;
use datafusion::arrow::array::Array;
use serde_json::{Map, Value as Json};

use super::registry::Builder;
use super::scalar::FunctionContext;
use super::set_returning::texts;
use super::text_io;
use super::value::{Reader, Value, column};
use crate::error::{SqlError, SqlState};

type Cell<'a> = Result<Value<'a>, SqlError>;

/// Prints a value as jsonb prints itself.
pub fn jsonb_text(value: &Json) -> String {
    match value {
        Json::Object(map) => {
            let mut keys = map.keys().collect::<Vec<_>>();
            keys.sort_by(|left, right| (left.len(), left).cmp(&(right.len(), right)));
            let members = keys
                .into_iter()
                .map(|key| {
                    let value = map.get(key).map(jsonb_text).unwrap_or_default();
                    format!("{}: {value}", Json::String(key.clone()))
                })
                .collect::<Vec<_>>();
            format!("{{{}}}", members.join(", "))
        }
        Json::Array(items) => {
            format!(
                "[{}]",
                items.iter().map(jsonb_text).collect::<Vec<_>>().join(", ")
            )
        }
        other => other.to_string(),
    }
}

fn parse(text: &str) -> Result<Json, SqlError> {
    serde_json::from_str(text).map_err(|error| {
        SqlError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type json",
        )
        .detail(error.to_string())
    })
}

fn text_of(value: &Json) -> Value<'static> {
    match value {
        Json::Null => Value::Null,
        Json::String(text) => Value::text(text.clone()),
        other => Value::text(jsonb_text(other)),
    }
}

fn member<'j>(value: &'j Json, key: &str) -> Option<&'j Json> {
    match value {
        Json::Object(map) => map.get(key),
        Json::Array(items) => element(items, key.parse().ok()?),
        _ => None,
    }
}

fn element(items: &[Json], index: i64) -> Option<&Json> {
    let index = if index < 0 {
        i64::try_from(items.len()).ok()? + index
    } else {
        index
    };
    items.get(usize::try_from(index).ok()?)
}

fn path_parts(cell: &Value<'_>) -> Result<Vec<String>, SqlError> {
    let Some(list) = cell.as_list() else {
        return Ok(Vec::new());
    };
    let reader = Reader::new(list)?;
    Ok((0..list.len())
        .map(|row| reader.value(row).as_text().to_owned())
        .collect())
}

fn follow<'j>(value: &'j Json, path: &[String]) -> Option<&'j Json> {
    path.iter().try_fold(value, |value, key| member(value, key))
}

fn shown<'a>(found: Option<&Json>, as_text: bool) -> Value<'a> {
    match (found, as_text) {
        (None, _) => Value::Null,
        (Some(found), true) => text_of(found),
        (Some(found), false) => Value::text(jsonb_text(found)),
    }
}

/// Whether `left` contains `right`.
fn contains(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Object(left), Json::Object(right)) => right
            .iter()
            .all(|(key, wanted)| left.get(key).is_some_and(|given| contains(given, wanted))),
        (Json::Array(left), Json::Array(right)) => right
            .iter()
            .all(|wanted| left.iter().any(|given| contains(given, wanted))),
        (Json::Array(left), scalar) if !scalar.is_object() => left.contains(scalar),
        (Json::Number(left), Json::Number(right)) => left.as_f64() == right.as_f64(),
        (left, right) => left == right,
    }
}

fn has_key(value: &Json, key: &str) -> bool {
    match value {
        Json::Object(map) => map.contains_key(key),
        Json::Array(items) => items.iter().any(|item| item.as_str() == Some(key)),
        Json::String(text) => text == key,
        _ => false,
    }
}

/// A cell as JSON, when its PostgreSQL type is not known any more.
pub fn to_json(cell: &Value<'_>, zone: chrono_tz::Tz) -> Json {
    match cell {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Float(value) => serde_json::Number::from_f64(*value).map_or_else(
            || Json::String(text_io::display_float(*value, false)),
            Json::Number,
        ),
        Value::Numeric { unscaled, scale } => {
            let text = text_io::display_numeric(*unscaled, *scale);
            serde_json::from_str(&text).unwrap_or(Json::String(text))
        }
        Value::Text(text) => Json::String(text.to_string()),
        Value::Timestamp(micros) => {
            Json::String(text_io::display_timestamp(*micros).replacen(' ', "T", 1))
        }
        Value::List(list) => match Reader::new(list) {
            Ok(reader) => Json::Array(
                (0..list.len())
                    .map(|row| to_json(&reader.value(row), zone))
                    .collect(),
            ),
            Err(_) => Json::Null,
        },
        other => Json::String(text_io::display(other, &ColumnType::Text, zone)),
    }
}

fn array_result<'a>(items: Vec<Json>) -> Cell<'a> {
    texts(items.iter().map(jsonb_text).collect::<Vec<_>>())
}

fn not_an_object(function: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("cannot call {function} on a non-object"),
    )
}

fn elements_of(cell: &Value<'_>, function: &str) -> Result<Vec<Json>, SqlError> {
    match parse(cell.as_text())? {
        Json::Array(items) => Ok(items),
        Json::Object(_) => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("cannot call {function} on an object"),
        )),
        _ => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "cannot extract elements from a scalar",
        )),
    }
}

fn build_object<'a>(context: &FunctionContext, cells: &[Value<'a>], spaced: bool) -> Cell<'a> {
    let zone = context.zone;
    if !cells.len().is_multiple_of(2) {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "argument list must have even number of elements",
        ));
    }
    let mut members = Vec::new();
    for pair in cells.chunks(2) {
        if pair[0].is_null() {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "argument 1: key must not be null",
            ));
        }
        let key = Json::String(super::text::plain(&pair[0], zone));
        members.push((key, raw_or_json(&pair[1], zone)));
    }
    if spaced {
        let text = members
            .iter()
            .map(|(key, value)| format!("{key} : {value}"))
            .collect::<Vec<_>>()
            .join(", ");
        return Ok(Value::text(format!("{{{text}}}")));
    }
    let mut map = Map::new();
    for (key, value) in members {
        map.insert(
            key.as_str().unwrap_or_default().to_owned(),
            serde_json::from_str(&value).unwrap_or(Json::Null),
        );
    }
    Ok(Value::text(jsonb_text(&Json::Object(map))))
}

/// Arguments reach the builders as JSON text already (the planner wraps them in `to_json`), so a
/// text is JSON here.
fn raw_or_json(cell: &Value<'_>, zone: chrono_tz::Tz) -> String {
    match cell {
        Value::Text(text) => text.to_string(),
        other => to_json(other, zone).to_string(),
    }
}

fn set_at(value: &mut Json, path: &[String], new: Json, create: bool) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    match value {
        Json::Object(map) => {
            if rest.is_empty() {
                if create || map.contains_key(first) {
                    map.insert(first.clone(), new);
                }
            } else if let Some(inner) = map.get_mut(first) {
                set_at(inner, rest, new, create);
            }
        }
        Json::Array(items) => {
            let Ok(index) = first.parse::<i64>() else {
                return;
            };
            let length = i64::try_from(items.len()).unwrap_or(0);
            let at = if index < 0 { length + index } else { index };
            match usize::try_from(at).ok().filter(|at| *at < items.len()) {
                Some(at) if rest.is_empty() => items[at] = new,
                Some(at) => set_at(&mut items[at], rest, new, create),
                None if create && rest.is_empty() && index >= 0 => items.push(new),
                None if create && rest.is_empty() => items.insert(0, new),
                None => {}
            }
        }
        _ => {}
    }
}

fn strip_nulls(value: &mut Json) {
    match value {
        Json::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Json::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

macro_rules! for_both {
    ($functions:expr, $method:ident, $before:literal, $after:literal, $body:expr) => {
        $functions.$method(concat!($before, "json", $after), $body);
        $functions.$method(concat!($before, "jsonb", $after), $body);
    };
}

pub fn register(functions: &mut Builder) {
    functions.rows("->(json, text) json", |_, cells| {
        Ok(shown(
            member(&parse(cells[0].as_text())?, cells[1].as_text()),
            false,
        ))
    });
    functions.rows("->(jsonb, text) jsonb", |_, cells| {
        Ok(shown(
            member(&parse(cells[0].as_text())?, cells[1].as_text()),
            false,
        ))
    });
    functions.rows("->(json, bigint) json", by_index);
    functions.rows("->(jsonb, bigint) jsonb", by_index);
    for_both!(functions, rows, "->>(", ", text) text", |_, cells| {
        Ok(shown(
            member(&parse(cells[0].as_text())?, cells[1].as_text()),
            true,
        ))
    });
    for_both!(functions, rows, "->>(", ", bigint) text", |_, cells| {
        let value = parse(cells[0].as_text())?;
        let items = value.as_array().map_or(&[][..], Vec::as_slice);
        Ok(shown(element(items, cells[1].as_int()), true))
    });
    functions.rows("#>(json, text[]) json", by_path);
    functions.rows("#>(jsonb, text[]) jsonb", by_path);
    for_both!(functions, rows, "#>>(", ", text[]) text", |_, cells| {
        let path = path_parts(&cells[1])?;
        Ok(shown(follow(&parse(cells[0].as_text())?, &path), true))
    });
    functions.rows("@>(jsonb, jsonb) boolean", |_, cells| {
        Ok(Value::Bool(contains(
            &parse(cells[0].as_text())?,
            &parse(cells[1].as_text())?,
        )))
    });
    functions.rows("<@(jsonb, jsonb) boolean", |_, cells| {
        Ok(Value::Bool(contains(
            &parse(cells[1].as_text())?,
            &parse(cells[0].as_text())?,
        )))
    });
    for signature in [
        "?(jsonb, text) boolean",
        "jsonb_exists(jsonb, text) boolean",
    ] {
        functions.rows(signature, |_, cells| {
            Ok(Value::Bool(has_key(
                &parse(cells[0].as_text())?,
                cells[1].as_text(),
            )))
        });
    }
    functions.rows("?|(jsonb, text[]) boolean", |_, cells| {
        let value = parse(cells[0].as_text())?;
        Ok(Value::Bool(
            path_parts(&cells[1])?
                .iter()
                .any(|key| has_key(&value, key)),
        ))
    });
    functions.rows("?&(jsonb, text[]) boolean", |_, cells| {
        let value = parse(cells[0].as_text())?;
        Ok(Value::Bool(
            path_parts(&cells[1])?
                .iter()
                .all(|key| has_key(&value, key)),
        ))
    });
    functions.rows("||(jsonb, jsonb) jsonb", |_, cells| {
        let joined = match (parse(cells[0].as_text())?, parse(cells[1].as_text())?) {
            (Json::Object(mut left), Json::Object(right)) => {
                left.extend(right);
                Json::Object(left)
            }
            (left, right) => {
                let items = |value| match value {
                    Json::Array(items) => items,
                    other => vec![other],
                };
                let mut joined = items(left);
                joined.extend(items(right));
                Json::Array(joined)
            }
        };
        Ok(Value::text(jsonb_text(&joined)))
    });
    functions.rows("-(jsonb, text) jsonb", |_, cells| {
        let mut value = parse(cells[0].as_text())?;
        match &mut value {
            Json::Object(map) => {
                map.shift_remove(cells[1].as_text());
            }
            Json::Array(items) => items.retain(|item| item.as_str() != Some(cells[1].as_text())),
            _ => {}
        }
        Ok(Value::text(jsonb_text(&value)))
    });
    functions.rows("-(jsonb, integer) jsonb", |_, cells| {
        let mut value = parse(cells[0].as_text())?;
        if let Json::Array(items) = &mut value {
            let length = i64::try_from(items.len()).unwrap_or(0);
            let index = cells[1].as_int();
            let at = if index < 0 { length + index } else { index };
            if let Some(at) = usize::try_from(at).ok().filter(|at| *at < items.len()) {
                items.remove(at);
            }
        }
        Ok(Value::text(jsonb_text(&value)))
    });
    functions.rows_with_null("to_json(any) json", |context, cells| {
        Ok(json_of(&cells[0], context, false))
    });
    functions.rows("to_json(json) json", |_, cells| Ok(cells[0].clone()));
    functions.rows("to_json(jsonb) json", |_, cells| Ok(cells[0].clone()));
    functions.rows("to_json(timestamptz) json", |context, cells| {
        Ok(instant(&cells[0], context.zone))
    });
    functions.rows_with_null("to_jsonb(any) jsonb", |context, cells| {
        Ok(json_of(&cells[0], context, true))
    });
    functions.rows("to_jsonb(json) jsonb", |_, cells| {
        Ok(Value::text(jsonb_text(&parse(cells[0].as_text())?)))
    });
    functions.rows("to_jsonb(jsonb) jsonb", |_, cells| Ok(cells[0].clone()));
    functions.rows("to_jsonb(timestamptz) jsonb", |context, cells| {
        Ok(instant(&cells[0], context.zone))
    });
    functions.rows_with_null(
        "json_build_object_of([any], variadic any) json",
        |context, cells| build_object(context, cells, true),
    );
    functions.rows_with_null(
        "jsonb_build_object_of([any], variadic any) jsonb",
        |context, cells| build_object(context, cells, false),
    );
    functions.rows_with_null(
        "json_build_array_of([any], variadic any) json",
        |context, cells| {
            let zone = context.zone;
            let items = cells
                .iter()
                .map(|cell| raw_or_json(cell, zone))
                .collect::<Vec<_>>();
            Ok(Value::text(format!("[{}]", items.join(", "))))
        },
    );
    functions.rows_with_null(
        "jsonb_build_array_of([any], variadic any) jsonb",
        |context, cells| {
            let zone = context.zone;
            let items = cells
                .iter()
                .map(|cell| parse(&raw_or_json(cell, zone)))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(Value::text(jsonb_text(&Json::Array(items))))
        },
    );
    functions.rows("json_agg_result(anyarray) json", |_, cells| {
        Ok(Value::text(format!(
            "[{}]",
            raw_items(&cells[0])?.join(", ")
        )))
    });
    functions.rows("jsonb_agg_result(anyarray) jsonb", |_, cells| {
        Ok(Value::text(format!(
            "[{}]",
            raw_items(&cells[0])?.join(", ")
        )))
    });
    functions.rows(
        "json_object_agg_result(anyarray, anyarray) json",
        |_, cells| {
            let members = raw_items(&cells[0])?
                .into_iter()
                .zip(raw_items(&cells[1])?)
                .map(|(key, value)| format!("{} : {value}", Json::String(key)))
                .collect::<Vec<_>>();
            Ok(Value::text(format!("{{ {} }}", members.join(", "))))
        },
    );
    functions.rows(
        "jsonb_object_agg_result(anyarray, anyarray) jsonb",
        |_, cells| {
            let mut map = Map::new();
            for (key, value) in raw_items(&cells[0])?.into_iter().zip(raw_items(&cells[1])?) {
                map.insert(key, parse(&value)?);
            }
            Ok(Value::text(jsonb_text(&Json::Object(map))))
        },
    );
    for_both!(functions, rows, "json_typeof(", ") text", type_name);
    for_both!(functions, rows, "jsonb_typeof(", ") text", type_name);
    for_both!(
        functions,
        rows,
        "json_array_length(",
        ") integer",
        array_length
    );
    for_both!(
        functions,
        rows,
        "jsonb_array_length(",
        ") integer",
        array_length
    );
    functions.rows("json_array_elements(json) json[]", |_, cells| {
        array_result(elements_of(&cells[0], "json_array_elements")?)
    });
    functions.rows("jsonb_array_elements(jsonb) jsonb[]", |_, cells| {
        array_result(elements_of(&cells[0], "jsonb_array_elements")?)
    });
    for_both!(
        functions,
        rows,
        "json_array_elements_text(",
        ") text[]",
        element_texts
    );
    for_both!(
        functions,
        rows,
        "jsonb_array_elements_text(",
        ") text[]",
        element_texts
    );
    for_both!(functions, rows, "json_object_keys(", ") text[]", keys);
    for_both!(functions, rows, "jsonb_object_keys(", ") text[]", keys);
    for_both!(functions, rows, "json_each_key(", ") text[]", keys);
    for_both!(
        functions,
        rows,
        "json_each_value(",
        ") jsonb[]",
        |_, cells| {
            let value = parse(cells[0].as_text())?;
            let map = value
                .as_object()
                .ok_or_else(|| not_an_object("json_each"))?;
            let mut members = map.iter().collect::<Vec<_>>();
            members.sort_by(|left, right| (left.0.len(), left.0).cmp(&(right.0.len(), right.0)));
            array_result(
                members
                    .into_iter()
                    .map(|(_, value)| value.clone())
                    .collect(),
            )
        }
    );
    for_both!(
        functions,
        rows,
        "json_each_text_value(",
        ") text[]",
        |_, cells| {
            let value = parse(cells[0].as_text())?;
            let map = value
                .as_object()
                .ok_or_else(|| not_an_object("json_each_text"))?;
            let mut members = map.iter().collect::<Vec<_>>();
            members.sort_by(|left, right| (left.0.len(), left.0).cmp(&(right.0.len(), right.0)));
            let items = members
                .into_iter()
                .map(|(_, value)| text_of(value))
                .collect::<Vec<_>>();
            Ok(Value::List(column(
                &items,
                &datafusion::arrow::datatypes::DataType::Utf8,
            )?))
        }
    );
    functions.rows("json_extract_path(json, variadic text) json", extract_path);
    functions.rows(
        "jsonb_extract_path(jsonb, variadic text) jsonb",
        extract_path,
    );
    for_both!(
        functions,
        rows,
        "json_extract_path_text(",
        ", variadic text) text",
        extract_text
    );
    for_both!(
        functions,
        rows,
        "jsonb_extract_path_text(",
        ", variadic text) text",
        extract_text
    );
    functions.rows("jsonb_pretty(jsonb) text", |_, cells| {
        let value = parse(cells[0].as_text())?;
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        Ok(Value::text(text.replace("  ", "    ")))
    });
    functions.rows(
        "jsonb_set(jsonb, text[], jsonb, [boolean]) jsonb",
        |_, cells| {
            let mut value = parse(cells[0].as_text())?;
            let path = path_parts(&cells[1])?;
            let create = cells.get(3).is_none_or(Value::as_bool);
            set_at(&mut value, &path, parse(cells[2].as_text())?, create);
            Ok(Value::text(jsonb_text(&value)))
        },
    );
    functions.rows("json_strip_nulls(json) json", stripped);
    functions.rows("jsonb_strip_nulls(jsonb) jsonb", stripped);
}

fn raw_items(cell: &Value<'_>) -> Result<Vec<String>, SqlError> {
    let Some(list) = cell.as_list() else {
        return Ok(Vec::new());
    };
    let reader = Reader::new(list)?;
    Ok((0..list.len())
        .map(|row| match reader.value(row) {
            Value::Null => "null".to_owned(),
            other => other.as_text().to_owned(),
        })
        .collect())
}

fn json_of<'a>(cell: &Value<'a>, context: &FunctionContext, canonical: bool) -> Value<'a> {
    if cell.is_null() {
        return Value::Null;
    }
    let json = to_json(cell, context.zone);
    Value::text(match json {
        Json::Array(_) if !canonical => json.to_string(),
        other => jsonb_text(&other),
    })
}

fn instant<'a>(cell: &Value<'a>, zone: chrono_tz::Tz) -> Value<'a> {
    let text = text_io::display_timestamptz(cell.as_int(), zone).replacen(' ', "T", 1);
    // ISO 8601 wants minutes in the offset.
    let text = match text.rfind(['+', '-']) {
        Some(at) if text.len() - at == 3 => format!("{text}:00"),
        _ => text,
    };
    Value::text(Json::String(text).to_string())
}

fn by_index<'a>(_: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    let value = parse(cells[0].as_text())?;
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    Ok(shown(element(items, cells[1].as_int()), false))
}

fn by_path<'a>(_: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    let path = path_parts(&cells[1])?;
    Ok(shown(follow(&parse(cells[0].as_text())?, &path), false))
}

fn extract_path<'a>(_: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    let path = cells[1..]
        .iter()
        .map(|cell| cell.as_text().to_owned())
        .collect::<Vec<_>>();
    Ok(shown(follow(&parse(cells[0].as_text())?, &path), false))
}

fn extract_text<'a>(_: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    let path = cells[1..]
        .iter()
        .map(|cell| cell.as_text().to_owned())
        .collect::<Vec<_>>();
    Ok(shown(follow(&parse(cells[0].as_text())?, &path), true))
}

fn type_name<'a>(_: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    Ok(Value::text(match parse(cells[0].as_text())? {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }))
}

fn array_length<'a>(_: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    match parse(cells[0].as_text())? {
        Json::Array(items) => Ok(Value::Int(i64::try_from(items.len()).unwrap_or(i64::MAX))),
        Json::Object(_) => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "cannot get array length of a non-array",
        )),
        _ => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "cannot get array length of a scalar",
        )),
    }
}

fn element_texts<'a>(_: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    let items = elements_of(&cells[0], "json_array_elements_text")?;
    let items = items.iter().map(text_of).collect::<Vec<_>>();
    Ok(Value::List(column(
        &items,
        &datafusion::arrow::datatypes::DataType::Utf8,
    )?))
}

fn keys<'a>(_: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    let value = parse(cells[0].as_text())?;
    let map = value
        .as_object()
        .ok_or_else(|| not_an_object("json_object_keys"))?;
    let mut keys = map.keys().cloned().collect::<Vec<_>>();
    keys.sort_by(|left, right| (left.len(), left).cmp(&(right.len(), right)));
    texts(keys)
}

fn stripped<'a>(_: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    let mut value = parse(cells[0].as_text())?;
    strip_nulls(&mut value);
    Ok(Value::text(jsonb_text(&value)))
}
