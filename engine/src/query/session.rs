//! What a query may know of the session that asks it: who, which settings, what time it is.
//!
//! A value, not a connection: whoever carries out statements builds one per statement, cheaply (it
//! is cloned by `Arc`). Functions such as `current_user`, `now()` and `current_setting()` read it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use boathouse_catalog::definitions::ObjectId;

/// The session as its functions see it.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    pub database: String,
    /// The role that authenticated (`session_user`).
    pub session_user: String,
    /// The role whose rights apply (`current_user`), after `SET ROLE`.
    pub role: ObjectId,
    pub role_name: String,
    pub superuser: bool,
    /// As `SET search_path` gave it, `$user` not yet replaced.
    pub search_path: Vec<String>,
    /// Every run-time setting by its lower-case name, as `SHOW` prints it.
    pub settings: Arc<BTreeMap<String, String>>,
    pub process_id: i32,
    pub client_address: Option<SocketAddr>,
    pub server_address: Option<SocketAddr>,
    /// Microseconds since 1970, UTC: `now()`.
    pub transaction_timestamp: i64,
    /// Microseconds since 1970, UTC.
    pub statement_timestamp: i64,
    /// Microseconds since 1970, UTC: `pg_postmaster_start_time()`.
    pub server_started_at: i64,
    pub in_transaction: bool,
    /// What `set_config` asks for; the session does it when the statement has ended.
    pub requested_settings: RequestedSettings,
}

/// Settings to be changed, by name: the value, or `None` for the default, and whether only for the
/// transaction.
pub type RequestedSettings = Arc<Mutex<BTreeMap<String, (Option<String>, bool)>>>;

impl SessionInfo {
    /// A setting's value as `SHOW` prints it.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings
            .get(&name.to_ascii_lowercase())
            .map(String::as_str)
    }

    /// The session's `TimeZone`; UTC where it is unknown.
    pub fn time_zone(&self) -> chrono_tz::Tz {
        self.setting("timezone")
            .and_then(|name| name.parse().ok().or_else(|| fixed_zone(name)))
            .unwrap_or(chrono_tz::UTC)
    }
}

/// The zone of a fixed offset, `<+07>-07`, which the IANA database has for whole hours, with the sign
/// of POSIX: `Etc/GMT-7`.
pub fn fixed_zone(setting: &str) -> Option<chrono_tz::Tz> {
    let (hours, _) = setting.strip_prefix('<')?.split_once('>')?;
    let hours: i32 = hours.parse().ok()?;
    format!("Etc/GMT{:+}", -hours).parse().ok()
}
