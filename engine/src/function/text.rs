//! Functions over text.

use super::registry::Builder;
use super::value::Value;
use crate::error::{SqlError, SqlState};

/// A pattern whose escape character is a backslash, from one that has another or none.
fn like_escape(pattern: &str, escape: &str) -> Result<String, SqlError> {
    let mut characters = escape.chars();
    let escape = characters.next();
    if characters.next().is_some() {
        return Err(SqlError::new(SqlState("22019"), "invalid escape string")
            .hint("Escape string must be empty or one character."));
    }
    let mut converted = String::with_capacity(pattern.len());
    let mut escaped = false;
    for character in pattern.chars() {
        if Some(character) == escape && !escaped {
            converted.push('\\');
            escaped = true;
            continue;
        }
        if character == '\\' && !escaped {
            converted.push('\\');
        }
        converted.push(character);
        escaped = false;
    }
    Ok(converted)
}

pub fn register(functions: &mut Builder) {
    for (signature, native) in [
        ("lower(text) text", "lower"),
        ("upper(text) text", "upper"),
        ("btrim(text, [text]) text", "btrim"),
        ("ltrim(text, [text]) text", "ltrim"),
        ("rtrim(text, [text]) text", "rtrim"),
        ("replace(text, text, text) text", "replace"),
        ("strpos(text, text) integer", "strpos"),
        ("position(text, text) integer", "strpos"),
        ("length(text) integer", "character_length"),
        ("char_length(text) integer", "character_length"),
        ("character_length(text) integer", "character_length"),
        ("octet_length(text) integer", "octet_length"),
        ("bit_length(text) integer", "bit_length"),
        ("lpad(text, bigint, [text]) text", "lpad"),
        ("rpad(text, bigint, [text]) text", "rpad"),
        ("reverse(text) text", "reverse"),
        ("repeat(text, bigint) text", "repeat"),
        ("translate(text, text, text) text", "translate"),
        ("ascii(text) integer", "ascii"),
        ("starts_with(text, text) boolean", "starts_with"),
        ("md5(text) text", "md5"),
    ] {
        functions.native(signature, native);
    }
    functions.rows("initcap(text) text", |_, cells| {
        let mut text = String::new();
        let mut inside = false;
        for c in cells[0].as_text().chars() {
            if c.is_alphanumeric() {
                if inside {
                    text.extend(c.to_lowercase());
                } else {
                    text.extend(c.to_uppercase());
                }
                inside = true;
            } else {
                text.push(c);
                inside = false;
            }
        }
        Ok(Value::text(text))
    });
    functions.rows("left(text, integer) text", |_, cells| {
        let count = cells[1].as_int();
        Ok(cells[0].part(|text| split_at(text, count).0))
    });
    functions.rows("right(text, integer) text", |_, cells| {
        let count = cells[1].as_int();
        Ok(cells[0].part(|text| match count {
            0 => "",
            _ => split_at(text, count.saturating_neg()).1,
        }))
    });
    functions.rows("substring(text, bigint, [bigint]) text", substring);
    functions.rows("substr(text, bigint, [bigint]) text", substring);
    functions.rows("split_part(text, text, integer) text", |_, cells| {
        let (separator, field) = (cells[1].as_text(), cells[2].as_int());
        if field == 0 {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "field position must not be zero",
            ));
        }
        Ok(cells[0].part(|text| split_part(text, separator, field).unwrap_or_default()))
    });
    functions.rows("chr(integer) text", |_, cells| {
        match u32::try_from(cells[0].as_int())
            .ok()
            .and_then(char::from_u32)
        {
            Some(c) if c != '\0' => Ok(Value::text(c.to_string())),
            _ => Err(SqlError::new(
                SqlState("54000"),
                "requested character not valid for encoding",
            )),
        }
    });
    functions.rows("to_hex(bigint) text", |_, cells| {
        Ok(Value::text(format!("{:x}", cells[0].as_int())))
    });
    functions.rows(
        "overlay(text, text, integer, [integer]) text",
        |_, cells| {
            let text = cells[0].as_text();
            let piece = cells[1].as_text();
            let start = usize::try_from(cells[2].as_int() - 1).unwrap_or(0);
            let length = match cells.get(3) {
                Some(length) => usize::try_from(length.as_int()).unwrap_or(0),
                None => piece.chars().count(),
            };
            let head = text.chars().take(start);
            let tail = text.chars().skip(start + length);
            Ok(Value::text(
                head.chain(piece.chars()).chain(tail).collect::<String>(),
            ))
        },
    );
    functions.rows_with_null("concat(variadic any) text", |context, cells| {
        let mut text = String::new();
        for cell in cells {
            match cell {
                Value::Text(cell) => text.push_str(cell),
                other => text.push_str(&plain(other, context.zone)),
            }
        }
        Ok(Value::text(text))
    });
    functions.rows_with_null("concat_ws(text, variadic any) text", |context, cells| {
        let zone = context.zone;
        let Some((separator, rest)) = cells.split_first() else {
            return Ok(Value::Null);
        };
        if separator.is_null() {
            return Ok(Value::Null);
        }
        let parts = rest
            .iter()
            .filter(|cell| !cell.is_null())
            .map(|cell| plain(cell, zone))
            .collect::<Vec<_>>();
        Ok(Value::text(parts.join(separator.as_text())))
    });
    functions.rows("quote_ident(text) text", |_, cells| {
        Ok(Value::text(quote_identifier(cells[0].as_text())))
    });
    functions.rows("quote_literal(text) text", |_, cells| {
        Ok(Value::text(quote_literal(cells[0].as_text())))
    });
    functions.rows_with_null("quote_nullable(text) text", |_, cells| {
        Ok(Value::text(match &cells[0] {
            Value::Null => "NULL".to_owned(),
            other => quote_literal(other.as_text()),
        }))
    });
    functions.rows("like_escape(text, text) text", |_, cells| {
        like_escape(cells[0].as_text(), cells[1].as_text()).map(Value::text)
    });
    functions.rows("encode(bytea, text) text", |_, cells| {
        let Value::Bytes(bytes) = &cells[0] else {
            return Ok(Value::Null);
        };
        match cells[1].as_text() {
            "hex" => Ok(Value::text(
                bytes
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>(),
            )),
            "escape" => Ok(Value::text(String::from_utf8_lossy(bytes).into_owned())),
            other => Err(SqlError::unsupported(format!("encoding \"{other}\""))),
        }
    });
    functions.rows("similar_to_escape(text) text", |_, cells| {
        Ok(Value::text(similar_pattern(cells[0].as_text())))
    });
    functions.rows("string_to_array(text, text) text[]", |_, cells| {
        let (text, separator) = (cells[0].as_text(), cells[1].as_text());
        let parts: Vec<&str> = if text.is_empty() {
            Vec::new()
        } else if separator.is_empty() {
            vec![text]
        } else {
            text.split(separator).collect()
        };
        super::set_returning::texts(parts)
    });
    functions.rows(
        "array_to_string(anyarray, text, [text]) text",
        |context, cells| {
            let zone = context.zone;
            let Some(list) = cells[0].as_list() else {
                return Ok(Value::Null);
            };
            let reader = super::value::Reader::new(list)?;
            let parts = (0..list.len())
                .filter_map(|row| match reader.value(row) {
                    Value::Null => cells.get(2).map(|null| null.as_text().to_owned()),
                    other => Some(plain(&other, zone)),
                })
                .collect::<Vec<_>>();
            Ok(Value::text(parts.join(cells[1].as_text())))
        },
    );
    functions.rows("array_to_string_of(anyarray) text", |context, cells| {
        Ok(Value::text(plain(&cells[0], context.zone)))
    });
}

/// A value's text where its PostgreSQL type is not known any more.
pub fn plain(cell: &Value<'_>, zone: chrono_tz::Tz) -> String {
    use boathouse_catalog::types::ColumnType;
    match cell {
        Value::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
        other => super::text_io::display(other, &ColumnType::Text, zone),
    }
}

/// Where the character after the first `count` begins.
fn place(text: &str, count: usize) -> usize {
    text.char_indices()
        .nth(count)
        .map_or(text.len(), |(place, _)| place)
}

/// Splits after the first `count` characters, or before the last when it is negative.
fn split_at(text: &str, count: i64) -> (&str, &str) {
    let characters = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    text.split_at(if count >= 0 {
        place(text, characters)
    } else {
        text.char_indices()
            .nth_back(characters - 1)
            .map_or(0, |(place, _)| place)
    })
}

/// The part numbered `field` from 1, or from -1 at the end.
fn split_part<'t>(text: &'t str, separator: &str, field: i64) -> Option<&'t str> {
    let index = usize::try_from(field.unsigned_abs()).ok()?.checked_sub(1)?;
    if separator.is_empty() {
        return (index == 0).then_some(text);
    }
    if field > 0 {
        return text.split(separator).nth(index);
    }
    let last = text.split(separator).count() - 1;
    text.split(separator).nth(last.checked_sub(index)?)
}

fn substring<'a>(
    _context: &super::FunctionContext,
    cells: &[Value<'a>],
) -> Result<Value<'a>, SqlError> {
    let start = cells[1].as_int();
    let end = match cells.get(2) {
        Some(length) if length.as_int() < 0 => {
            return Err(SqlError::new(
                SqlState("22011"),
                "negative substring length not allowed",
            ));
        }
        Some(length) => start.saturating_add(length.as_int()),
        None => i64::MAX,
    };
    let first = start.max(1);
    let skip = usize::try_from(first - 1).unwrap_or(usize::MAX);
    let count = usize::try_from(end.saturating_sub(first).max(0)).unwrap_or(usize::MAX);
    Ok(cells[0].part(|text| {
        let text = &text[place(text, skip)..];
        &text[..place(text, count)]
    }))
}

/// Quotes an identifier where it needs it.
pub fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$')
        && !RESERVED.contains(&name);
    if plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Words that cannot be a name without quotes.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

pub fn quote_literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// `SIMILAR TO` as a regular expression.
fn similar_pattern(pattern: &str) -> String {
    let mut regex = String::from("^(?:");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '\\' => {
                if let Some(next) = chars.next() {
                    regex.push_str(&regex::escape(&next.to_string()));
                }
            }
            '.' | '^' | '$' => {
                regex.push('\\');
                regex.push(c);
            }
            other => regex.push(other),
        }
    }
    regex.push_str(")$");
    regex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_between_characters() {
        for (count, parts) in [
            (0, ("", "añ√z")),
            (1, ("a", "ñ√z")),
            (3, ("añ√", "z")),
            (4, ("añ√z", "")),
            (i64::MAX, ("añ√z", "")),
            (-1, ("añ√", "z")),
            (-3, ("a", "ñ√z")),
            (-4, ("", "añ√z")),
            (i64::MIN, ("", "añ√z")),
        ] {
            assert_eq!(split_at("añ√z", count), parts);
        }
    }

    #[test]
    fn parts_are_numbered_from_either_end() {
        let parts = |text, separator| {
            [1, 2, 3, -1, -2, -3].map(|field| split_part(text, separator, field).unwrap_or("-"))
        };
        assert_eq!(parts("a,b", ","), ["a", "b", "-", "b", "a", "-"]);
        assert_eq!(parts("aaa", "aa"), ["", "a", "-", "a", "", "-"]);
        assert_eq!(parts("a", ""), ["a", "-", "-", "a", "-", "-"]);
        assert_eq!(parts("", ","), ["", "-", "-", "", "-", "-"]);
    }
}
