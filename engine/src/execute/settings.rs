//! Run-time settings: which exist, what they may be set to, what a session starts with.
//!
//! A value is kept as `SHOW` prints it. Settings in a transaction are undone by ROLLBACK, and
//! `SET LOCAL` by its end, as in PostgreSQL. A name with a dot (`myapp.user`) is the client's own
//! and takes any text; any other unknown name is an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::state::split_names;
use crate::error::{SqlError, SqlState};

/// What a setting accepts.
enum Kind {
    Text,
    Boolean,
    /// An integer of these bounds, without a unit.
    Integer(i64, i64),
    /// Milliseconds; `5s`, `10min` and the like are accepted. 0 turns it off.
    Milliseconds,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of the first words; the second are PostgreSQL's too, and nothing here can follow them.
    Partly(&'static [&'static str], &'static [&'static str]),
    TimeZone,
    DateStyle,
    Encoding,
    /// Shown only.
    Fixed,
}

struct Setting {
    name: &'static str,
    default: &'static str,
    kind: Kind,
    /// Sent to the client at start and whenever it changes (`ParameterStatus`).
    reported_as: Option<&'static str>,
    description: &'static str,
}

const fn setting(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    description: &'static str,
) -> Setting {
    Setting {
        name,
        default,
        kind,
        reported_as: None,
        description,
    }
}

const fn reported(
    name: &'static str,
    reported_as: &'static str,
    default: &'static str,
    kind: Kind,
    description: &'static str,
) -> Setting {
    Setting {
        name,
        default,
        kind,
        reported_as: Some(reported_as),
        description,
    }
}

/// The version of PostgreSQL whose behaviour clients may expect.
pub const SERVER_VERSION: &str = "15.8";

/// Each statement sees what was committed before it, as PostgreSQL's first two levels have it. Readers
/// that ask for the third as a matter of course get in with a warning.
const ISOLATION: Kind = Kind::Partly(
    &["read uncommitted", "read committed", "repeatable read"],
    &["serializable"],
);
const MESSAGE_LEVEL: &[&str] = &[
    "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "notice", "warning", "error",
];

/// Every setting, by name.
const SETTINGS: &[Setting] = &[
    reported(
        "application_name",
        "application_name",
        "",
        Kind::Text,
        "names the client in pg_stat_activity",
    ),
    setting(
        "array_nulls",
        "on",
        Kind::Boolean,
        "accepted for compatibility",
    ),
    setting(
        "backslash_quote",
        "safe_encoding",
        Kind::Text,
        "accepted for compatibility",
    ),
    setting(
        "bytea_output",
        "hex",
        Kind::Word(&["hex", "escape"]),
        "how bytea is written as text",
    ),
    setting(
        "check_function_bodies",
        "on",
        Kind::Boolean,
        "accepted for compatibility",
    ),
    reported(
        "client_encoding",
        "client_encoding",
        "UTF8",
        Kind::Encoding,
        "always UTF8",
    ),
    setting(
        "client_min_messages",
        "notice",
        Kind::Word(MESSAGE_LEVEL),
        "the least message level sent to the client",
    ),
    reported(
        "datestyle",
        "DateStyle",
        "ISO, MDY",
        Kind::DateStyle,
        "how dates are read; always written ISO",
    ),
    setting(
        "default_table_access_method",
        "heap",
        Kind::Text,
        "accepted for compatibility",
    ),
    setting(
        "default_tablespace",
        "",
        Kind::Text,
        "accepted for compatibility",
    ),
    setting(
        "default_transaction_deferrable",
        "off",
        Kind::Boolean,
        "accepted for compatibility",
    ),
    setting(
        "default_transaction_isolation",
        "read committed",
        ISOLATION,
        "of new transactions",
    ),
    reported(
        "default_transaction_read_only",
        "default_transaction_read_only",
        "off",
        Kind::Boolean,
        "whether new transactions may write",
    ),
    setting(
        "enable_seqscan",
        "on",
        Kind::Boolean,
        "accepted for compatibility",
    ),
    setting(
        "extra_float_digits",
        "1",
        Kind::Integer(-15, 3),
        "floats are always written exactly",
    ),
    setting(
        "force_parallel_mode",
        "off",
        Kind::Text,
        "accepted for compatibility",
    ),
    setting(
        "idle_in_transaction_session_timeout",
        "0",
        Kind::Milliseconds,
        "ends a session that idles in a transaction",
    ),
    setting(
        "idle_session_timeout",
        "0",
        Kind::Milliseconds,
        "ends a session that idles",
    ),
    reported(
        "in_hot_standby",
        "in_hot_standby",
        "off",
        Kind::Fixed,
        "always off",
    ),
    reported(
        "integer_datetimes",
        "integer_datetimes",
        "on",
        Kind::Fixed,
        "always on",
    ),
    reported(
        "intervalstyle",
        "IntervalStyle",
        "postgres",
        Kind::Partly(
            &["postgres", "iso_8601"],
            &["postgres_verbose", "sql_standard"],
        ),
        "how intervals are sent to the client",
    ),
    reported(
        "is_superuser",
        "is_superuser",
        "off",
        Kind::Fixed,
        "whether the current role is a superuser",
    ),
    setting("jit", "off", Kind::Boolean, "accepted for compatibility"),
    setting(
        "lc_collate",
        "C",
        Kind::Fixed,
        "text is compared by its bytes",
    ),
    setting("lc_ctype", "C.UTF-8", Kind::Fixed, "text is UTF-8"),
    setting("lc_messages", "C", Kind::Text, "accepted for compatibility"),
    setting("lc_monetary", "C", Kind::Text, "accepted for compatibility"),
    setting("lc_numeric", "C", Kind::Text, "accepted for compatibility"),
    setting("lc_time", "C", Kind::Text, "accepted for compatibility"),
    setting(
        "lock_timeout",
        "0",
        Kind::Milliseconds,
        "accepted for compatibility",
    ),
    setting(
        "max_connections",
        "100",
        Kind::Fixed,
        "how many sessions may be open",
    ),
    setting(
        "max_identifier_length",
        "63",
        Kind::Fixed,
        "bytes of a name that count",
    ),
    setting("max_index_keys", "32", Kind::Fixed, "columns of a key"),
    setting(
        "max_parallel_workers_per_gather",
        "2",
        Kind::Integer(0, 1024),
        "accepted for compatibility",
    ),
    setting(
        "quote_all_identifiers",
        "off",
        Kind::Boolean,
        "accepted for compatibility",
    ),
    setting(
        "row_security",
        "on",
        Kind::Boolean,
        "accepted for compatibility",
    ),
    setting(
        "search_path",
        "\"$user\", public",
        Kind::Text,
        "schemas searched for unqualified names",
    ),
    setting("server_encoding", "UTF8", Kind::Fixed, "always UTF8"),
    reported(
        "server_version",
        "server_version",
        SERVER_VERSION,
        Kind::Fixed,
        "the PostgreSQL version clients may expect",
    ),
    setting(
        "server_version_num",
        "150008",
        Kind::Fixed,
        "the same as a number",
    ),
    reported(
        "session_authorization",
        "session_authorization",
        "",
        Kind::Fixed,
        "the role that logged in",
    ),
    setting(
        "ssl",
        "off",
        Kind::Fixed,
        "whether connections may be encrypted",
    ),
    setting(
        "ssl_renegotiation_limit",
        "0",
        Kind::Integer(0, 0),
        "accepted for compatibility",
    ),
    reported(
        "standard_conforming_strings",
        "standard_conforming_strings",
        "on",
        Kind::Word(&["on"]),
        "always on",
    ),
    setting(
        "statement_timeout",
        "0",
        Kind::Milliseconds,
        "ends a statement that runs longer",
    ),
    setting(
        "synchronize_seqscans",
        "on",
        Kind::Boolean,
        "accepted for compatibility",
    ),
    setting(
        "synchronous_commit",
        "on",
        Kind::Text,
        "every commit is durable",
    ),
    reported(
        "timezone",
        "TimeZone",
        "UTC",
        Kind::TimeZone,
        "the time zone timestamps with time zone are read and written in",
    ),
    setting(
        "transaction_deferrable",
        "off",
        Kind::Boolean,
        "accepted for compatibility",
    ),
    setting(
        "transaction_isolation",
        "read committed",
        ISOLATION,
        "of this transaction",
    ),
    setting(
        "transaction_read_only",
        "off",
        Kind::Boolean,
        "whether this transaction may write",
    ),
    setting("work_mem", "4MB", Kind::Text, "accepted for compatibility"),
    setting(
        "xmlbinary",
        "base64",
        Kind::Text,
        "accepted for compatibility",
    ),
    setting(
        "xmloption",
        "content",
        Kind::Text,
        "accepted for compatibility",
    ),
];

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS
        .binary_search_by(|known| known.name.cmp(name))
        .ok()
        .map(|index| &SETTINGS[index])
}

/// Name, default and description of every setting, for `SHOW ALL` and `pg_settings`.
pub fn known() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    SETTINGS
        .iter()
        .map(|known| (known.name, known.default, known.description))
}

/// One session's settings, with what a transaction has to undo.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Shared with the statements that run under them.
    values: Arc<BTreeMap<String, String>>,
    /// What RESET goes back to: defaults, overlaid by the startup packet and the role.
    session_defaults: BTreeMap<String, String>,
    changed: Vec<String>,
}

impl Settings {
    pub fn new() -> Self {
        let values: BTreeMap<String, String> = SETTINGS
            .iter()
            .map(|known| (known.name.to_owned(), known.default.to_owned()))
            .collect();
        Self {
            session_defaults: values.clone(),
            values: Arc::new(values),
            changed: Vec::new(),
        }
    }

    /// Sets what the session starts with, given as one text; RESET comes back to it.
    pub fn set_default(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        let name = name.to_ascii_lowercase();
        self.set_text(&name, value)?;
        if let Some(value) = self.values.get(&name) {
            self.session_defaults.insert(name, value.clone());
        }
        Ok(())
    }

    /// Sets what only the server may (`is_superuser`, `session_authorization`).
    pub fn force(&mut self, name: &'static str, value: impl Into<String>) {
        let value = value.into();
        self.session_defaults.insert(name.to_owned(), value.clone());
        if Arc::make_mut(&mut self.values)
            .insert(name.to_owned(), value.clone())
            .as_ref()
            != Some(&value)
        {
            self.changed.push(name.to_owned());
        }
    }

    /// `SET name TO values`.
    pub fn set(&mut self, name: &str, values: &[String]) -> Result<(), SqlError> {
        let name = name.to_ascii_lowercase();
        let value = match find(&name) {
            Some(known) => canonical(known, values)?,
            None if name.contains('.') => values.join(", "),
            None => return Err(unknown(&name)),
        };
        self.store(name, value);
        Ok(())
    }

    /// Sets a value given as one text.
    pub fn set_text(&mut self, name: &str, text: &str) -> Result<(), SqlError> {
        self.set(name, &values_of(&name.to_ascii_lowercase(), text))
    }

    /// Puts back a value as [`Self::get`] gave it.
    pub fn put_back(&mut self, name: &str, value: &str) {
        self.store(name.to_ascii_lowercase(), value.to_owned());
    }

    /// `RESET name` and `SET name TO DEFAULT`.
    pub fn reset(&mut self, name: &str) -> Result<(), SqlError> {
        let name = name.to_ascii_lowercase();
        match self.session_defaults.get(&name).cloned() {
            Some(value) => self.store(name, value),
            None if name.contains('.') => {
                Arc::make_mut(&mut self.values).remove(&name);
            }
            None => return Err(unknown(&name)),
        }
        Ok(())
    }

    pub fn reset_all(&mut self) {
        let defaults = self.session_defaults.clone();
        Arc::make_mut(&mut self.values).retain(|name, _| defaults.contains_key(name));
        for (name, value) in defaults {
            if name != "transaction_isolation" && name != "transaction_read_only" {
                self.store(name, value);
            }
        }
    }

    fn store(&mut self, name: String, value: String) {
        if self.values.get(&name) != Some(&value) {
            self.changed.push(name.clone());
            Arc::make_mut(&mut self.values).insert(name, value);
        }
    }

    pub fn get(&self, name: &str) -> Result<&str, SqlError> {
        let name = name.to_ascii_lowercase();
        self.values
            .get(&name)
            .map(String::as_str)
            .ok_or_else(|| unknown(&name))
    }

    pub fn all(&self) -> &Arc<BTreeMap<String, String>> {
        &self.values
    }

    /// Puts every value back to what it was in `earlier`.
    pub fn restore(&mut self, earlier: &BTreeMap<String, String>) {
        Arc::make_mut(&mut self.values).retain(|name, _| earlier.contains_key(name));
        for (name, value) in earlier {
            self.store(name.clone(), value.clone());
        }
    }

    pub fn boolean(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| value == "on")
    }

    pub fn milliseconds(&self, name: &str) -> Option<Duration> {
        let milliseconds = self
            .values
            .get(name)
            .and_then(|value| parse_milliseconds(value))?;
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }

    /// Reported settings that have changed since the last call.
    pub fn take_changed(&mut self) -> Vec<(String, String)> {
        let changed = std::mem::take(&mut self.changed);
        let mut reports = Vec::new();
        for name in changed {
            let Some(reported_as) = find(&name).and_then(|known| known.reported_as) else {
                continue;
            };
            let Some(value) = self.values.get(&name) else {
                continue;
            };
            if !reports
                .iter()
                .any(|(seen, _): &(String, String)| seen == reported_as)
            {
                reports.push((reported_as.to_owned(), value.clone()));
            }
        }
        reports
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

fn unknown(name: &str) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
    .hint("SHOW ALL lists the settings; a setting of your own has a dot in its name")
}

fn invalid(name: &str, value: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{name}\": \"{value}\""),
    )
}

/// A value that PostgreSQL knows and that would change nothing here.
fn refused(name: &str, value: &str) -> SqlError {
    SqlError::unsupported(format!("value \"{value}\" of parameter \"{name}\""))
}

/// The value a setting would have, for `set_config`, whose text is split where the setting is a list.
pub fn canonical_setting(name: &str, text: &str) -> Result<String, SqlError> {
    let name = name.to_ascii_lowercase();
    match find(&name) {
        Some(known) => canonical(known, &values_of(&name, text)),
        None if name.contains('.') => Ok(text.to_owned()),
        None => Err(unknown(&name)),
    }
}

fn values_of(name: &str, text: &str) -> Vec<String> {
    if name == "search_path" {
        split_names(text)
    } else {
        vec![text.to_owned()]
    }
}

fn canonical(known: &Setting, values: &[String]) -> Result<String, SqlError> {
    let joined = if known.name == "search_path" {
        values
            .iter()
            .map(|schema| quoted(schema))
            .collect::<Vec<_>>()
            .join(", ")
    } else {
        values.join(", ")
    };
    match known.kind {
        Kind::Fixed => Err(SqlError::new(
            SqlState("55P02"),
            format!("parameter \"{}\" cannot be changed", known.name),
        )),
        Kind::Text => Ok(joined),
        Kind::Boolean => boolean(&joined)
            .map(|on| if on { "on" } else { "off" }.to_owned())
            .ok_or_else(|| {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("parameter \"{}\" requires a Boolean value", known.name),
                )
            }),
        Kind::Integer(least, most) => match joined.trim().parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number.to_string()),
            Ok(number) => Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!(
                    "{number} is outside the valid range for parameter \"{}\" ({least} .. {most})",
                    known.name
                ),
            )),
            Err(_) => Err(invalid(known.name, &joined)),
        },
        Kind::Milliseconds => parse_milliseconds(&joined)
            .map(show_milliseconds)
            .ok_or_else(|| invalid(known.name, &joined).hint("valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\" and \"d\"")),
        Kind::Word(words) => {
            let lower = joined.to_ascii_lowercase();
            if words.contains(&lower.as_str()) {
                Ok(lower)
            } else {
                Err(invalid(known.name, &joined)
                    .hint(format!("available values: {}", words.join(", "))))
            }
        }
        Kind::TimeZone => time_zone(&joined).ok_or_else(|| {
            invalid("TimeZone", &joined).hint(
                "name a zone such as Asia/Jakarta, or give a number of whole hours east of UTC",
            )
        }),
        Kind::Partly(words, others) => {
            let lower = joined.to_ascii_lowercase();
            if words.contains(&lower.as_str()) {
                Ok(lower)
            } else if others.contains(&lower.as_str()) {
                Err(refused(known.name, &joined)
                    .hint(format!("available values: {}", words.join(", "))))
            } else {
                Err(invalid(known.name, &joined)
                    .hint(format!("available values: {}", words.join(", "))))
            }
        }
        Kind::DateStyle => match date_style(&joined) {
            Some("MDY") => Ok("ISO, MDY".to_owned()),
            Some(_) => Err(refused("DateStyle", &joined).hint(
                "dates in figures are read month first; write them as 2024-02-01, which is read alike everywhere",
            )),
            None => Err(invalid("DateStyle", &joined)),
        },
        Kind::Encoding => {
            let plain: String = joined.to_ascii_lowercase().replace(['-', '_', '\''], "");
            if matches!(plain.as_str(), "utf8" | "unicode" | "sqlascii") {
                Ok("UTF8".to_owned())
            } else {
                Err(invalid(known.name, &joined).hint("text is sent and taken as UTF8 only"))
            }
        }
    }
}

/// A schema of `search_path` as it is listed: quoted where it has to be.
fn quoted(schema: &str) -> String {
    boathouse_sql::name::quote_identifier(schema)
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" | "y" => Some(true),
        "off" | "false" | "no" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

fn parse_milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let milliseconds = (number * factor).round();
    (milliseconds <= f64::from(i32::MAX)).then_some(milliseconds as u64)
}

/// As PostgreSQL shows it: in the largest unit that divides it.
fn show_milliseconds(milliseconds: u64) -> String {
    match milliseconds {
        0 => "0".to_owned(),
        n if n % 86_400_000 == 0 => format!("{}d", n / 86_400_000),
        n if n % 3_600_000 == 0 => format!("{}h", n / 3_600_000),
        n if n % 60_000 == 0 => format!("{}min", n / 60_000),
        n if n % 1000 == 0 => format!("{}s", n / 1000),
        n => format!("{n}ms"),
    }
}

/// A zone of the IANA database, whatever its case.
fn time_zone(text: &str) -> Option<String> {
    let wanted = text.trim().trim_matches('\'');
    if wanted.eq_ignore_ascii_case("utc") || wanted.eq_ignore_ascii_case("z") || wanted == "0" {
        return Some("UTC".to_owned());
    }
    if wanted.eq_ignore_ascii_case("default") || wanted.eq_ignore_ascii_case("local") {
        return Some("UTC".to_owned());
    }
    chrono_tz::TZ_VARIANTS
        .iter()
        .map(|zone| zone.name())
        .find(|name| name.eq_ignore_ascii_case(wanted))
        .map(str::to_owned)
        .or_else(|| fixed_offset(wanted))
}

/// An offset of whole hours as PostgreSQL shows it, `<+07>-07`. It is written like that, as hours east
/// of UTC, or as POSIX has it, with the sign the other way round: `GMT-07:00`.
fn fixed_offset(wanted: &str) -> Option<String> {
    let upper = wanted.to_ascii_uppercase();
    let posix = upper.strip_prefix("GMT").or(upper.strip_prefix("UTC"));
    let shown = upper
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'));
    let clock = match (posix, shown) {
        (Some(clock), _) | (None, Some((clock, _))) => clock,
        (None, None) => upper.as_str(),
    };
    let hours = clock.strip_suffix(":00").unwrap_or(clock);
    let written: i32 = hours.strip_suffix(".0").unwrap_or(hours).parse().ok()?;
    let hours = if posix.is_some() { -written } else { written };
    let zone = format!("<{hours:+03}>{:+03}", -hours);
    crate::query::session::fixed_zone(&zone).map(|_| zone)
}

/// The order in which a date's figures are to be read; the output is `ISO`.
fn date_style(text: &str) -> Option<&'static str> {
    let mut order = "MDY";
    for word in text.split(',').map(str::trim) {
        match word.to_ascii_lowercase().as_str() {
            "iso" | "default" | "" => {}
            "mdy" | "us" | "noneuropean" => order = "MDY",
            "dmy" | "european" => order = "DMY",
            "ymd" => order = "YMD",
            _ => return None,
        }
    }
    Some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_sorted_so_that_they_can_be_searched() {
        assert!(SETTINGS.is_sorted_by(|left, right| left.name < right.name));
    }

    #[test]
    fn a_timeout_takes_units_and_is_shown_in_the_largest() {
        let mut settings = Settings::new();
        settings
            .set("statement_timeout", &["90s".to_owned()])
            .unwrap();
        assert_eq!(settings.get("statement_timeout").unwrap(), "90s");
        settings
            .set("STATEMENT_TIMEOUT", &["120000".to_owned()])
            .unwrap();
        assert_eq!(settings.get("statement_timeout").unwrap(), "2min");
        assert_eq!(
            settings.milliseconds("statement_timeout"),
            Some(Duration::from_secs(120))
        );
    }

    #[test]
    fn an_unknown_name_is_an_error_and_a_dotted_one_is_the_clients_own() {
        let mut settings = Settings::new();
        let error = settings.set("no_such", &["1".to_owned()]).unwrap_err();
        assert_eq!(error.state, SqlState::UNDEFINED_OBJECT);
        settings.set("app.tenant", &["7".to_owned()]).unwrap();
        assert_eq!(settings.get("app.tenant").unwrap(), "7");
    }

    #[test]
    fn a_list_of_schemas_comes_back_as_it_was() {
        let mut settings = Settings::new();
        let before = settings.get("search_path").unwrap().to_owned();
        settings.set("search_path", &["gold".to_owned()]).unwrap();
        settings.put_back("search_path", &before);
        assert_eq!(settings.get("search_path").unwrap(), "\"$user\", public");
        settings
            .set_default("search_path", "X, \"My Y\",z")
            .unwrap();
        assert_eq!(settings.get("search_path").unwrap(), "x, \"My Y\", z");
    }

    #[test]
    fn what_would_change_nothing_is_refused_and_what_is_so_anyway_is_taken() {
        let mut settings = Settings::new();
        for (name, value) in [
            ("datestyle", "ISO"),
            ("datestyle", "iso, us"),
            ("intervalstyle", "iso_8601"),
            ("transaction_isolation", "READ UNCOMMITTED"),
        ] {
            settings.set_text(name, value).unwrap();
        }
        assert_eq!(settings.get("datestyle").unwrap(), "ISO, MDY");
        for (name, value) in [
            ("datestyle", "ISO, DMY"),
            ("intervalstyle", "sql_standard"),
            ("default_transaction_isolation", "serializable"),
        ] {
            let error = settings.set_text(name, value).unwrap_err();
            assert_eq!(error.state, SqlState::FEATURE_NOT_SUPPORTED, "{name}");
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn a_fixed_offset_is_a_zone() {
        for (given, shown) in [
            ("7", "<+07>-07"),
            ("-3", "<-03>+03"),
            ("<+07>-07", "<+07>-07"),
            ("GMT-07:00", "<+07>-07"),
            ("utc+5", "<-05>+05"),
        ] {
            assert_eq!(time_zone(given).as_deref(), Some(shown), "{given}");
        }
        for refused in ["5.5", "<+05:30>-05:30", "15", "-13", "GMT+x", ""] {
            assert_eq!(time_zone(refused), None, "{refused}");
        }
    }

    #[test]
    fn only_reported_settings_are_reported_and_once() {
        let mut settings = Settings::new();
        settings
            .set("timezone", &["asia/jakarta".to_owned()])
            .unwrap();
        settings.set("timezone", &["UTC".to_owned()]).unwrap();
        settings.set("work_mem", &["1MB".to_owned()]).unwrap();
        assert_eq!(
            settings.take_changed(),
            [("TimeZone".to_owned(), "UTC".to_owned())]
        );
        assert!(settings.take_changed().is_empty());
    }
}
