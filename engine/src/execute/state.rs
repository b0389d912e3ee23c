//! What a session remembers between statements.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use boathouse_catalog::Snapshot;
use boathouse_catalog::definitions::ObjectId;

use super::cursor::Cursor;
use super::settings::Settings;
use super::work::Work;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::outcome::Notice;
use crate::query::session::RequestedSettings;
use crate::query::{Pins, QueryContext, SessionInfo};
use crate::session::{Prepared, SessionOptions, TransactionStatus};

/// Notices kept for a client that does not take them.
const NOTICES_MAX: usize = 1000;

static NEXT_PROCESS_ID: AtomicI32 = AtomicI32::new(1);

/// Where the session stands between BEGIN and COMMIT.
pub(crate) enum Block {
    /// Each statement is its own transaction.
    None,
    /// Several statements of one simple query, or a pipeline up to `Sync`.
    Implicit(Box<Work>),
    Explicit(Box<Work>),
    /// After an error in an explicit transaction: only ROLLBACK is heard. Holds what the settings
    /// were at BEGIN.
    Failed(Box<Work>),
}

/// A role by id and name. What it may do is asked of the catalog each time: a role can lose it while
/// its session is open.
#[derive(Debug, Clone)]
pub(crate) struct RoleIdentity {
    pub id: ObjectId,
    pub name: String,
}

pub struct SessionState {
    process_id: i32,
    pub(super) database: String,
    client_address: Option<SocketAddr>,
    pub(super) session_user: RoleIdentity,
    pub(super) role: RoleIdentity,
    pub(super) settings: Settings,
    pub(super) block: Block,
    pub(super) prepared: HashMap<String, Prepared>,
    pub(super) cursors: HashMap<String, Cursor>,
    notices: Vec<Notice>,
    requested_settings: RequestedSettings,
}

impl SessionState {
    /// Starts from the role's settings and the startup packet's.
    pub fn open(engine: &Arc<Engine>, options: SessionOptions) -> Result<Self, SqlError> {
        let snapshot = engine.catalog.snapshot();
        let role = snapshot.role(&options.role).ok_or_else(|| {
            SqlError::new(
                SqlState("28000"),
                format!("role \"{}\" does not exist", options.role),
            )
        })?;
        let identity = RoleIdentity {
            id: role.id,
            name: role.name.clone(),
        };
        let mut settings = Settings::new();
        for (name, value) in &role.settings {
            // A setting that is no longer taken must not lock its role out.
            if let Err(error) = settings.set_default(name, value) {
                tracing::warn!(role = %role.name, setting = %name, %error, "a role's setting is ignored");
            }
        }
        for (name, value) in &options.settings {
            settings.set_default(name, value)?;
        }
        settings.force("session_authorization", identity.name.clone());
        settings.force("is_superuser", if role.superuser { "on" } else { "off" });
        settings.take_changed();
        Ok(Self {
            process_id: NEXT_PROCESS_ID.fetch_add(1, Ordering::Relaxed),
            database: options.database,
            client_address: options.client_address,
            session_user: identity.clone(),
            role: identity,
            settings,
            block: Block::None,
            prepared: HashMap::new(),
            cursors: HashMap::new(),
            notices: Vec::new(),
            requested_settings: RequestedSettings::default(),
        })
    }

    pub fn transaction_status(&self) -> TransactionStatus {
        match self.block {
            Block::None | Block::Implicit(_) => TransactionStatus::Idle,
            Block::Explicit(_) => TransactionStatus::InTransaction,
            Block::Failed(_) => TransactionStatus::Failed,
        }
    }

    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Who logged in.
    pub fn session_user_name(&self) -> &str {
        &self.session_user.name
    }

    pub fn setting(&self, name: &str) -> Option<String> {
        self.settings.get(name).ok().map(str::to_owned)
    }

    pub fn statement_timeout(&self) -> Option<Duration> {
        self.settings.milliseconds("statement_timeout")
    }

    pub fn fail_transaction(&mut self) {
        self.forget_requested_settings();
        self.block = match std::mem::replace(&mut self.block, Block::None) {
            Block::Explicit(work) | Block::Failed(work) => Block::Failed(work),
            implicit => implicit,
        };
    }

    pub fn begin_implicit(&mut self) {
        if matches!(self.block, Block::None) {
            self.block = Block::Implicit(Box::new(Work::begin(&self.settings)));
        }
    }

    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Undoes what `set_config` asked for in a statement that failed.
    pub fn forget_requested_settings(&mut self) {
        self.requested_settings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Does what `set_config` asked for in the statement before.
    pub fn apply_requested_settings(&mut self) {
        let requested = std::mem::take(
            &mut *self
                .requested_settings
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for (name, (value, local)) in requested {
            let work = match &mut self.block {
                Block::Implicit(work) | Block::Explicit(work) => Some(work),
                Block::None if local => continue,
                Block::None => None,
                // Undone with the rest of the transaction.
                Block::Failed(_) => continue,
            };
            if let Some(work) = work {
                if local && let Ok(before) = self.settings.get(&name) {
                    work.local_settings.push((name.clone(), before.to_owned()));
                }
                if name == "transaction_read_only" {
                    work.read_only = value.as_deref() == Some("on");
                }
            }
            let set = match &value {
                Some(value) => self.settings.set_text(&name, value),
                None => self.settings.reset(&name),
            };
            if let Err(error) = set {
                tracing::warn!(setting = %name, %error, "set_config could not be carried out");
            }
        }
    }

    pub fn take_reported_settings(&mut self) -> Vec<(String, String)> {
        self.apply_requested_settings();
        self.settings.take_changed()
    }

    pub(crate) fn notice(
        &mut self,
        severity: &'static str,
        state: SqlState,
        message: impl Into<String>,
    ) {
        // `client_min_messages`.
        let least = self.settings.get("client_min_messages").unwrap_or("notice");
        if least == "error" || (least == "warning" && severity == "NOTICE") {
            return;
        }
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(Notice {
                severity,
                state,
                message: message.into(),
                detail: None,
                hint: None,
            });
        }
    }

    /// The work of the open transaction, if there is one.
    pub(super) fn work(&mut self) -> Option<&mut Work> {
        match &mut self.block {
            Block::Implicit(work) | Block::Explicit(work) => Some(work),
            Block::None | Block::Failed(_) => None,
        }
    }

    /// The catalog as this session's transaction sees it.
    pub(super) fn snapshot(&self, engine: &Engine) -> Arc<Snapshot> {
        match &self.block {
            Block::Implicit(work) | Block::Explicit(work) => work.snapshot(engine),
            Block::None | Block::Failed(_) => engine.catalog.snapshot(),
        }
    }

    pub(super) fn set_role(&mut self, snapshot: &Snapshot, role: RoleIdentity) {
        let superuser = snapshot.is_superuser(role.id);
        self.settings
            .force("is_superuser", if superuser { "on" } else { "off" });
        self.role = role;
    }

    /// The schemas unqualified names are searched in, `$user` resolved, in order.
    pub(super) fn search_path(&self) -> Vec<String> {
        let text = self.settings.get("search_path").unwrap_or("public");
        split_names(text)
            .into_iter()
            .map(|schema| {
                if schema == "$user" {
                    self.role.name.clone()
                } else {
                    schema
                }
            })
            .collect()
    }

    /// What planning may know of the session.
    pub(crate) fn query_context(&self, engine: &Arc<Engine>) -> QueryContext {
        let now = chrono::Utc::now().timestamp_micros();
        let (transaction_timestamp, in_transaction) = match &self.block {
            Block::Explicit(work) | Block::Failed(work) => (work.started_at, true),
            Block::Implicit(work) => (work.started_at, false),
            Block::None => (now, false),
        };
        let snapshot = self.snapshot(engine);
        let superuser = snapshot.is_superuser(self.role.id);
        QueryContext {
            engine: Arc::clone(engine),
            snapshot,
            session: Arc::new(SessionInfo {
                database: self.database.clone(),
                session_user: self.session_user.name.clone(),
                role: self.role.id,
                role_name: self.role.name.clone(),
                superuser,
                search_path: split_names(self.settings.get("search_path").unwrap_or("public")),
                settings: Arc::clone(self.settings.all()),
                process_id: self.process_id,
                client_address: self.client_address,
                server_address: None,
                transaction_timestamp,
                statement_timestamp: now,
                server_started_at: engine.started_at,
                in_transaction,
                requested_settings: Arc::clone(&self.requested_settings),
            }),
            extra_relations: Vec::new(),
            uncommitted: match &self.block {
                Block::Implicit(work) | Block::Explicit(work) => work.uncommitted(),
                Block::None | Block::Failed(_) => Arc::default(),
            },
            pins: match &self.block {
                Block::Implicit(work) | Block::Explicit(work) => work.pins.clone(),
                Block::None | Block::Failed(_) => Pins::default(),
            },
        }
    }
}

/// Splits a list of possibly quoted names; what is not quoted is lower case.
pub(super) fn split_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut current = String::new();
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                current.push('"');
                characters.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => names.push(std::mem::take(&mut current)),
            ' ' if !quoted => {}
            other if quoted => current.push(other),
            other => current.extend(other.to_lowercase()),
        }
    }
    names.push(current);
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::split_names;

    #[test]
    fn a_list_of_names_is_split_outside_quotes() {
        assert_eq!(split_names("\"$user\", Public"), ["$user", "public"]);
        assert_eq!(split_names("a,\"b,\"\"c\" , "), ["a", "b,\"c"]);
    }
}
