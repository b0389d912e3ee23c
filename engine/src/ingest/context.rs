//! On whose behalf a pipeline works: its owner's rights, a fixed session, its connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use boathouse_catalog::Snapshot;
use boathouse_catalog::definitions::{
    ConnectionDefinition, ObjectId, ObjectKind, ObjectRef, OptionValue, Privilege, SecretDefinition,
};
use boathouse_connectors::{OptionValue as ConnectorOption, Options, Remote, registry};

use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::query::{QueryContext, SessionInfo};

/// A session without a connection: the owner's role, UTC, `public`.
pub(super) fn query_context(
    engine: &Arc<Engine>,
    snapshot: Arc<Snapshot>,
    owner: ObjectId,
) -> Result<QueryContext, SqlError> {
    let role = snapshot.role_by_id(owner).ok_or_else(|| {
        SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            "the owner of the pipeline does not exist",
        )
        .hint("give it another with ALTER PIPELINE ... OWNER TO")
    })?;
    let now = chrono::Utc::now().timestamp_micros();
    let session = SessionInfo {
        database: "boathouse".into(),
        session_user: role.name.clone(),
        role: owner,
        role_name: role.name.clone(),
        superuser: snapshot.is_superuser(owner),
        search_path: vec!["public".into()],
        settings: Arc::new(BTreeMap::from([("timezone".into(), "UTC".into())])),
        process_id: 0,
        client_address: None,
        server_address: None,
        transaction_timestamp: now,
        statement_timestamp: now,
        server_started_at: now,
        in_transaction: false,
        requested_settings: Default::default(),
    };
    Ok(QueryContext {
        engine: Arc::clone(engine),
        snapshot,
        session: Arc::new(session),
        extra_relations: Vec::new(),
        uncommitted: Default::default(),
        pins: Default::default(),
    })
}

/// What a connection was when it was opened: its options, and the secrets they name.
#[derive(Debug, Clone)]
pub(super) struct OpenedConnection {
    connection: Arc<ConnectionDefinition>,
    secrets: Vec<Arc<SecretDefinition>>,
}

impl OpenedConnection {
    /// Of the connection that `snapshot` calls so.
    pub fn of(snapshot: &Snapshot, name: &str) -> Option<Self> {
        let connection = snapshot.connection(name)?.clone();
        let secrets = connection.options.values().filter_map(|value| match value {
            OptionValue::Secret(secret) => snapshot.secret(secret).cloned(),
            OptionValue::Text(_) => None,
        });
        Some(Self {
            secrets: secrets.collect(),
            connection,
        })
    }

    /// Whether it would be opened the same way now. A secret that is gone changes nothing until there is another one of its
    /// name.
    pub fn is_as_told(&self, snapshot: &Snapshot) -> bool {
        let mut connections = snapshot.connections();
        let has_these_options = connections
            .any(|now| now.id == self.connection.id && now.options == self.connection.options);
        has_these_options
            && self.secrets.iter().all(|was| {
                let now = snapshot.secret(&was.name);
                now.is_none_or(|now| now.id == was.id && now.ciphertext == was.ciphertext)
            })
    }
}

/// Opens a connection, secrets revealed. The owner must be allowed to use it.
pub(super) async fn open_connection(
    context: &QueryContext,
    name: &str,
) -> Result<Remote, SqlError> {
    let definition = context.snapshot.connection(name).ok_or_else(|| {
        SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("connection \"{name}\" does not exist"),
        )
    })?;
    let object = ObjectRef::new(ObjectKind::Connection, definition.id);
    if !context
        .snapshot
        .has_privilege(context.session.role, object, Privilege::Usage)
    {
        return Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for connection \"{name}\""),
        ));
    }
    let mut values = Vec::with_capacity(definition.options.len());
    for (option, value) in &definition.options {
        let value = match value {
            OptionValue::Text(text) => ConnectorOption::Text(text.clone()),
            OptionValue::Secret(secret) => {
                let revealed = context.engine.catalog.reveal_secret(secret).await?;
                ConnectorOption::Secret(revealed.expose().to_owned())
            }
        };
        values.push((option.clone(), value));
    }
    let connector = registry::connector(&definition.kind)?;
    let mut options = Options::new(format!("connector \"{}\"", connector.name()), values);
    let remote = connector.configure(&mut options)?;
    options.finish()?;
    Ok(remote)
}
