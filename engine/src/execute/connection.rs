//! `CREATE`, `ALTER`, `DROP` and `CHECK CONNECTION`.
//!
//! Options are checked when the connection is made, by the connector itself; no network is touched
//! until `CHECK CONNECTION` or a pipeline's run. Secrets stay names until then.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::{
    ConnectionDefinition, ObjectId, ObjectKind, ObjectRef, OptionValue as StoredOption, Privilege,
};
use boathouse_catalog::types::ColumnType;
use boathouse_catalog::{Catalog, Snapshot};
use boathouse_connectors::Remote;
use boathouse_connectors::options::{OptionValue, Options};
use boathouse_connectors::registry;
use boathouse_sql::SqlOption;
use boathouse_sql::option::OptionValue as WrittenOption;
use boathouse_sql::statement::{
    AlterConnection, AlterConnectionAction, CheckConnection, CreateConnection, DropConnection,
};

use super::done;
use super::pipeline::statement_of;
use super::resolve::undefined;
use super::rows::{self, Column};
use crate::error::{SqlError, SqlState};
use crate::outcome::{Outcome, RowsTag};
use crate::session::Session;

/// A connection ready to be used, its secrets revealed.
pub(crate) async fn open(
    catalog: &Catalog,
    definition: &ConnectionDefinition,
) -> Result<Remote, SqlError> {
    let mut values: Vec<(String, OptionValue)> = Vec::new();
    for (name, value) in &definition.options {
        let value = match value {
            StoredOption::Text(text) => OptionValue::Text(text.clone()),
            StoredOption::Secret(secret) => {
                OptionValue::Secret(catalog.reveal_secret(secret).await?.expose().to_owned())
            }
        };
        values.push((name.clone(), value));
    }
    configure(&definition.kind, values)
}

fn configure(kind: &str, values: Vec<(String, OptionValue)>) -> Result<Remote, SqlError> {
    let connector = registry::connector(kind)?;
    let mut options = Options::new(format!("connector \"{}\"", connector.name()), values);
    let remote = connector.configure(&mut options)?;
    options.finish()?;
    Ok(remote)
}

/// Written options as they are stored; every secret must exist and be usable by the role.
fn stored_options(
    session: &Session,
    snapshot: &Snapshot,
    options: &[SqlOption],
) -> Result<BTreeMap<String, StoredOption>, SqlError> {
    let mut stored = BTreeMap::new();
    for option in options {
        let value = match &option.value {
            WrittenOption::Secret(name) => {
                let secret = snapshot
                    .secret(name)
                    .ok_or_else(|| undefined("secret", name))?;
                session.state.require(
                    snapshot,
                    ObjectRef::new(ObjectKind::Secret, secret.id),
                    Privilege::Usage,
                    "secret",
                    name,
                )?;
                StoredOption::Secret(name.clone())
            }
            other => StoredOption::Text(other.text().unwrap_or_default()),
        };
        if stored.insert(option.name.clone(), value).is_some() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("option \"{}\" is given twice", option.name),
            ));
        }
    }
    Ok(stored)
}

/// Has the connector check the options, with the secrets as the session's transaction has them.
fn check_options(
    session: &Session,
    snapshot: &Snapshot,
    kind: &str,
    options: &BTreeMap<String, StoredOption>,
) -> Result<(), SqlError> {
    let catalog = &session.engine.catalog;
    let values = options
        .iter()
        .map(|(name, value)| {
            let value = match value {
                StoredOption::Text(text) => OptionValue::Text(text.clone()),
                StoredOption::Secret(secret) => {
                    let secret = catalog.reveal_secret_in(snapshot, secret)?;
                    OptionValue::Secret(secret.expose().to_owned())
                }
            };
            Ok((name.clone(), value))
        })
        .collect::<Result<Vec<_>, SqlError>>()?;
    configure(kind, values).map(|_| ())
}

/// A LOCAL connection reads this machine's files, which is a right of its own.
fn require_kind(session: &Session, snapshot: &Snapshot, kind: &str) -> Result<(), SqlError> {
    if kind.eq_ignore_ascii_case("LOCAL") {
        session.state.require_member(
            snapshot,
            "pg_read_server_files",
            "connect to the server's own files",
        )?;
    }
    Ok(())
}

pub(super) fn create(
    session: &mut Session,
    create: &CreateConnection,
) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    session.state.require(
        &snapshot,
        ObjectRef::DATABASE,
        Privilege::Create,
        "database",
        &session.state.database,
    )?;
    require_kind(session, &snapshot, &create.kind)?;
    let existing = snapshot.connection(&create.name).cloned();
    if existing.is_some() && !create.or_replace {
        let message = format!("connection \"{}\" already exists", create.name);
        if create.if_not_exists {
            session.state.notice(
                "NOTICE",
                SqlState::DUPLICATE_OBJECT,
                format!("{message}, skipping"),
            );
            return done("CREATE CONNECTION");
        }
        return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, message));
    }
    let options = stored_options(session, &snapshot, &create.options)?;
    check_options(session, &snapshot, &create.kind, &options)?;
    match existing {
        Some(existing) => {
            session
                .state
                .require_owner(&snapshot, existing.owner, "connection", &create.name)?;
            let mut changed = (*existing).clone();
            changed.kind.clone_from(&create.kind);
            changed.options = options;
            session
                .catalog("CREATE CONNECTION")?
                .replace_connection(changed)?;
        }
        None => {
            let definition = ConnectionDefinition {
                id: ObjectId::default(),
                name: create.name.clone(),
                owner: session.state.role.id,
                kind: create.kind.clone(),
                options,
                comment: None,
            };
            session
                .catalog("CREATE CONNECTION")?
                .create_connection(definition)?;
        }
    }
    done("CREATE CONNECTION")
}

pub(super) fn alter(session: &mut Session, alter: &AlterConnection) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    let connection = session.state.connection(&snapshot, &alter.name)?;
    session
        .state
        .require_owner(&snapshot, connection.owner, "connection", &alter.name)?;
    require_kind(session, &snapshot, &connection.kind)?;
    let mut changed = (*connection).clone();
    match &alter.action {
        AlterConnectionAction::SetOptions(options) => {
            changed
                .options
                .extend(stored_options(session, &snapshot, options)?);
            check_options(session, &snapshot, &changed.kind, &changed.options)?;
        }
        AlterConnectionAction::ResetOptions(names) => {
            changed.options.retain(|name, _| !names.contains(name));
            check_options(session, &snapshot, &changed.kind, &changed.options)?;
        }
        AlterConnectionAction::RenameTo(name) => {
            changed.name.clone_from(name);
            if snapshot.connection(name).is_none() {
                rename_in_pipelines(session, &snapshot, &alter.name, name)?;
            }
        }
        AlterConnectionAction::OwnerTo(owner) => {
            changed.owner = session.state.new_owner(&snapshot, owner)?;
        }
    }
    session
        .catalog("ALTER CONNECTION")?
        .replace_connection(changed)?;
    done("ALTER CONNECTION")
}

pub(super) fn drop(session: &mut Session, drop: &DropConnection) -> Result<Outcome, SqlError> {
    for name in &drop.names {
        let snapshot = session.snapshot();
        let Some(connection) = snapshot.connection(name).cloned() else {
            if drop.if_exists {
                session.state.notice(
                    "NOTICE",
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("connection \"{name}\" does not exist, skipping"),
                );
                continue;
            }
            return Err(undefined("connection", name));
        };
        session
            .state
            .require_owner(&snapshot, connection.owner, "connection", name)?;
        drop_pipelines(session, &snapshot, name, drop.cascade)?;
        session
            .catalog("DROP CONNECTION")?
            .drop_connection(connection.id)?;
    }
    done("DROP CONNECTION")
}

/// Has pipelines name a connection as it will be called.
fn rename_in_pipelines(
    session: &mut Session,
    snapshot: &Snapshot,
    from: &str,
    to: &str,
) -> Result<(), SqlError> {
    for pipeline in snapshot.pipelines() {
        let mut statement = statement_of(pipeline)?;
        if statement.connections().contains(&from) {
            statement.rename_connection(from, to);
            let mut changed = (**pipeline).clone();
            changed.statement = statement.to_string();
            session
                .catalog("ALTER CONNECTION")?
                .replace_pipeline(changed)?;
        }
    }
    Ok(())
}

/// Makes sure that no pipeline is left without a connection it names: drops them with CASCADE, and refuses without.
fn drop_pipelines(
    session: &mut Session,
    snapshot: &Snapshot,
    connection: &str,
    cascade: bool,
) -> Result<(), SqlError> {
    let mut pipelines = Vec::new();
    for pipeline in snapshot.pipelines() {
        if statement_of(pipeline)?.connections().contains(&connection) {
            pipelines.push(pipeline.clone());
        }
    }
    pipelines.sort_by(|a, b| a.name.cmp(&b.name));
    if !pipelines.is_empty() && !cascade {
        let detail: Vec<String> = pipelines
            .iter()
            .map(|pipeline| {
                format!(
                    "pipeline {} depends on connection {connection}",
                    pipeline.name
                )
            })
            .collect();
        return Err(SqlError::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop connection {connection} because other objects depend on it"),
        )
        .detail(detail.join("\n"))
        .hint("Use DROP ... CASCADE to drop the dependent objects too."));
    }
    for pipeline in pipelines {
        session
            .catalog("DROP CONNECTION")?
            .drop_pipeline(pipeline.id)?;
        session.state.notice(
            "NOTICE",
            SqlState::SUCCESSFUL_COMPLETION,
            format!("drop cascades to pipeline {}", pipeline.name),
        );
    }
    Ok(())
}

pub(super) fn check_fields() -> SchemaRef {
    rows::fields(&[
        ("name", ColumnType::Text),
        ("status", ColumnType::Text),
        ("detail", ColumnType::Text),
        ("fix", ColumnType::Text),
    ])
}

pub(super) async fn check(
    session: &mut Session,
    check: &CheckConnection,
) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    let connection = session.state.connection(&snapshot, &check.name)?;
    session.state.require(
        &snapshot,
        ObjectRef::new(ObjectKind::Connection, connection.id),
        Privilege::Usage,
        "connection",
        &check.name,
    )?;
    let remote = open(&session.engine.catalog, &connection).await?;
    let checks = remote.check().await;
    let status = |ok: bool| if ok { "ok" } else { "failed" }.to_owned();
    let columns = vec![
        Column::Text(checks.iter().map(|one| Some(one.name.to_owned())).collect()),
        Column::Text(checks.iter().map(|one| Some(status(one.ok))).collect()),
        Column::Text(checks.iter().map(|one| Some(one.detail.clone())).collect()),
        Column::Text(checks.iter().map(|one| one.fix.clone()).collect()),
    ];
    rows::outcome(check_fields(), columns, RowsTag::Verb("CHECK CONNECTION"))
}
