//! Functions over regular expressions.
//!
//! The patterns are Rust's, which differ from PostgreSQL's in what they cannot say (back references,
//! look-around); such a pattern is 2201B. Compiled patterns are kept per thread: a row then pays for the
//! match alone, and a pattern that is a column costs no more than its distinct values.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use regex::{Captures, Regex, Replacer};

use super::registry::Builder;
use super::set_returning::texts;
use super::value::Value;
use crate::error::{SqlError, SqlState};

/// Patterns kept per thread before they are dropped together.
const PATTERNS_MAX: usize = 64;

/// How a pattern is written.
#[derive(Clone, Copy)]
enum Syntax<'a> {
    Regex { flags: &'a str },
    Like,
}

struct Known {
    pattern: String,
    /// `None` for a pattern of LIKE.
    flags: Option<String>,
    /// Shared and not cloned: a clone of a `Regex` builds its automaton anew.
    regex: Rc<Regex>,
}

thread_local! {
    /// The pattern used last is the first.
    static PATTERNS: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

fn compile(pattern: &str, syntax: Syntax<'_>) -> Result<Rc<Regex>, SqlError> {
    let flags = match syntax {
        Syntax::Regex { flags } => Some(flags),
        Syntax::Like => None,
    };
    PATTERNS.with_borrow_mut(|patterns| {
        let place = patterns
            .iter()
            .position(|known| known.pattern == pattern && known.flags.as_deref() == flags);
        if let Some(place) = place {
            patterns.swap(0, place);
            return Ok(Rc::clone(&patterns[0].regex));
        }
        let whole = match flags {
            Some(flags) => with_flags(pattern, flags)?,
            None => like_pattern(pattern),
        };
        let regex = Regex::new(&whole).map_err(|error| {
            SqlError::new(
                SqlState("2201B"),
                format!("invalid regular expression: \"{pattern}\""),
            )
            .caused_by(error)
        })?;
        let regex = Rc::new(regex);
        if patterns.len() >= PATTERNS_MAX {
            patterns.clear();
        }
        patterns.push(Known {
            pattern: pattern.to_owned(),
            flags: flags.map(str::to_owned),
            regex: Rc::clone(&regex),
        });
        Ok(regex)
    })
}

/// Puts PostgreSQL's flags in front of a pattern, as the regex crate writes them.
fn with_flags(pattern: &str, flags: &str) -> Result<String, SqlError> {
    let mut inline = String::new();
    for flag in flags.chars() {
        match flag {
            'i' => inline.push('i'),
            'x' => inline.push('x'),
            'n' | 'm' => inline.push('m'),
            's' => inline.push('s'),
            'g' | 'c' => {}
            other => {
                return Err(SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("invalid regular expression option: \"{other}\""),
                ));
            }
        }
    }
    Ok(if inline.is_empty() {
        pattern.to_owned()
    } else {
        format!("(?{inline}){pattern}")
    })
}

/// A pattern of LIKE without an escape as a regular expression.
fn like_pattern(pattern: &str) -> String {
    let mut regex = String::from("(?s)^");
    for c in pattern.chars() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push('$');
    regex
}

/// LIKE without an escape.
pub fn like(text: &str, pattern: &str) -> Result<bool, SqlError> {
    Ok(compile(pattern, Syntax::Like)?.is_match(text))
}

/// The pattern of argument 1 with the flags of argument `flags_index`, if it is given.
fn pattern(cells: &[Value<'_>], flags_index: usize) -> Result<Rc<Regex>, SqlError> {
    let flags = flags(cells, flags_index);
    compile(cells[1].as_text(), Syntax::Regex { flags })
}

fn flags<'a>(cells: &'a [Value<'_>], index: usize) -> &'a str {
    cells.get(index).map_or("", Value::as_text)
}

pub fn register(functions: &mut Builder) {
    functions.rows(
        "regexp_replace(text, text, text, [text]) text",
        |_, cells| {
            let regex = pattern(cells, 3)?;
            let replacement = Replacement(cells[2].as_text());
            let text = cells[0].as_text();
            let replaced = if flags(cells, 3).contains('g') {
                regex.replace_all(text, replacement)
            } else {
                regex.replace(text, replacement)
            };
            Ok(match replaced {
                Cow::Borrowed(_) => cells[0].clone(),
                Cow::Owned(replaced) => Value::text(replaced),
            })
        },
    );
    functions.rows("regexp_match(text, text, [text]) text[]", |_, cells| {
        let regex = pattern(cells, 2)?;
        match regex.captures(cells[0].as_text()) {
            Some(captures) => groups(&captures),
            None => Ok(Value::Null),
        }
    });
    functions.rows(
        "regexp_count(text, text, [integer], [text]) integer",
        |_, cells| {
            let regex = pattern(cells, 3)?;
            let start = cells.get(2).map_or(1, Value::as_int);
            let skip = usize::try_from(start - 1).unwrap_or(0);
            let text: String = cells[0].as_text().chars().skip(skip).collect();
            Ok(Value::Int(
                i64::try_from(regex.find_iter(&text).count()).unwrap_or(i64::MAX),
            ))
        },
    );
    functions.rows("regexp_like(text, text, [text]) boolean", |_, cells| {
        let regex = pattern(cells, 2)?;
        Ok(Value::Bool(regex.is_match(cells[0].as_text())))
    });
    functions.rows("regexp_substr(text, text) text", |_, cells| {
        let regex = pattern(cells, 2)?;
        Ok(match regex.find(cells[0].as_text()) {
            Some(found) => Value::text(found.as_str().to_owned()),
            None => Value::Null,
        })
    });
    functions.rows("substring(text, text) text", |_, cells| {
        let regex = pattern(cells, 2)?;
        Ok(match regex.captures(cells[0].as_text()) {
            Some(captures) => {
                let group = if captures.len() > 1 {
                    captures.get(1)
                } else {
                    captures.get(0)
                };
                group.map_or(Value::Null, |group| Value::text(group.as_str().to_owned()))
            }
            None => Value::Null,
        })
    });
    functions.rows(
        "regexp_split_to_array(text, text, [text]) text[]",
        |_, cells| {
            let regex = pattern(cells, 2)?;
            texts(regex.split(cells[0].as_text()).collect::<Vec<_>>())
        },
    );
    functions.rows(
        "regexp_split_to_table(text, text, [text]) text[]",
        |_, cells| {
            let regex = pattern(cells, 2)?;
            texts(regex.split(cells[0].as_text()).collect::<Vec<_>>())
        },
    );
}

/// The groups of a match, or the whole match when there are none.
fn groups(captures: &regex::Captures<'_>) -> Result<Value<'static>, SqlError> {
    let start = usize::from(captures.len() > 1);
    let cells = (start..captures.len())
        .map(|group| {
            captures
                .get(group)
                .map_or(Value::Null, |group| Value::text(group.as_str().to_owned()))
        })
        .collect::<Vec<_>>();
    Ok(Value::List(super::value::column(
        &cells,
        &datafusion::arrow::datatypes::DataType::Utf8,
    )?))
}

/// A replacement as PostgreSQL writes it: `\1` to `\9` are the groups, `\&` is the whole match, `\\` a
/// backslash; a backslash before anything else stands for itself.
struct Replacement<'a>(&'a str);

impl Replacer for Replacement<'_> {
    fn replace_append(&mut self, captures: &Captures<'_>, out: &mut String) {
        let mut rest = self.0;
        while let Some((before, after)) = rest.split_once('\\') {
            out.push_str(before);
            let mut following = after.chars();
            let group = match following.next() {
                Some('&') => 0,
                Some(digit @ '1'..='9') => digit as usize - '0' as usize,
                Some('\\') => {
                    out.push('\\');
                    rest = following.as_str();
                    continue;
                }
                _ => {
                    out.push('\\');
                    rest = after;
                    continue;
                }
            };
            out.push_str(captures.get(group).map_or("", |group| group.as_str()));
            rest = following.as_str();
        }
        out.push_str(rest);
    }

    fn no_expansion(&mut self) -> Option<Cow<'_, str>> {
        (!self.0.contains('\\')).then_some(Cow::Borrowed(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str, pattern: &str, replacement: &str) -> String {
        let regex = compile(pattern, Syntax::Regex { flags: "" }).unwrap();
        regex.replace(text, Replacement(replacement)).into_owned()
    }

    #[test]
    fn a_replacement_knows_groups_and_the_match() {
        assert_eq!(replaced("a1b", "([0-9])", r"<\1>"), "a<1>b");
        assert_eq!(replaced("a1b", "([0-9])", r"\&\&"), "a11b");
        assert_eq!(replaced("a1b", "([0-9])", r"\2$1"), "a$1b");
        assert_eq!(replaced("a1b", "([0-9])", r"\\1\n\0\"), r"a\1\n\0\b");
        assert_eq!(replaced("a1b", "([0-9])", "$0é"), "a$0éb");
    }

    #[test]
    fn a_pattern_is_compiled_once() {
        let plain = compile("once", Syntax::Regex { flags: "" }).unwrap();
        for index in 0..PATTERNS_MAX / 2 {
            compile(&format!("other{index}"), Syntax::Regex { flags: "" }).unwrap();
        }
        let again = compile("once", Syntax::Regex { flags: "" }).unwrap();
        assert!(Rc::ptr_eq(&plain, &again));
        assert!(
            !compile("ONCE", Syntax::Regex { flags: "" })
                .unwrap()
                .is_match("once")
        );
        assert!(
            compile("ONCE", Syntax::Regex { flags: "i" })
                .unwrap()
                .is_match("once")
        );
    }

    #[test]
    fn like_and_a_regular_expression_of_the_same_text_are_two() {
        assert!(like("a.c", "a.c").unwrap());
        assert!(!like("abc", "a.c").unwrap());
        assert!(
            compile("a.c", Syntax::Regex { flags: "" })
                .unwrap()
                .is_match("abc")
        );
        assert!(like("x\ny", "x%").unwrap());
    }
}
