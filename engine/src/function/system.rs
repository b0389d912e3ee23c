//! Functions that ask about the session, the catalog and the server.

use boathouse_catalog::Relation;
use boathouse_catalog::definitions::{ObjectId, ObjectKind, ObjectRef, Privilege, RoleDefinition};
use boathouse_catalog::types::ColumnType;

use super::registry::Builder;
use super::scalar::FunctionContext;
use super::set_returning::texts;
use super::text::quote_identifier;
use super::value::Value;
use crate::error::{SqlError, SqlState};

type Cell<'a> = Result<Value<'a>, SqlError>;

/// What `version()` and `server_version` claim.
pub const SERVER_VERSION: &str = "15.8";
pub const SERVER_VERSION_NUMBER: &str = "150008";
/// The OID of the one database.
pub const DATABASE_OID: i64 = 5;

fn version() -> String {
    format!(
        "PostgreSQL {SERVER_VERSION} (Boathouse {})",
        env!("CARGO_PKG_VERSION")
    )
}

fn oid_of(cell: &Value<'_>) -> ObjectId {
    ObjectId(cell.as_int())
}

/// The schemas a name without one is looked up in, as they exist.
fn search_path(context: &FunctionContext) -> Vec<String> {
    context
        .session
        .search_path
        .iter()
        .map(|name| {
            if name == "$user" {
                context.session.role_name.clone()
            } else {
                name.clone()
            }
        })
        .filter(|name| context.snapshot.schema(name).is_some())
        .collect()
}

/// `schema.table` as two names, unquoted.
pub(crate) fn split_name(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => {
                if let Some(part) = parts.last_mut() {
                    if quoted {
                        part.push(c)
                    } else {
                        part.extend(c.to_lowercase())
                    }
                }
            }
        }
    }
    parts
}

/// The OID of a relation by name.
fn find_relation(context: &FunctionContext, text: &str) -> Option<i64> {
    let parts = split_name(text);
    let find = |schema: &str, name: &str| {
        crate::relation::oid(schema, name).or_else(|| {
            context
                .snapshot
                .relation(schema, name)
                .map(|found| found.object().id.0)
        })
    };
    match parts.as_slice() {
        [name] => find("pg_catalog", name).or_else(|| {
            search_path(context)
                .iter()
                .find_map(|schema| find(schema, name))
        }),
        [schema, name] => find(schema, name),
        _ => None,
    }
}

/// A relation's name as `regclass` prints it: with its schema where it is not in the search path.
fn relation_name(context: &FunctionContext, oid: i64) -> Option<String> {
    if let Some((schema, name)) = crate::relation::name_of(oid) {
        return Some(if schema == "pg_catalog" {
            name.to_owned()
        } else {
            format!("{schema}.{name}")
        });
    }
    let relation = context.snapshot.relation_by_id(ObjectId(oid))?;
    let (schema, name) = (relation.schema(), relation.name());
    let schema = context.snapshot.schema_by_id(schema)?;
    let name_shown = quote_identifier(name);
    let first = search_path(context)
        .into_iter()
        .find(|candidate| context.snapshot.relation(candidate, name).is_some());
    Some(if first.as_deref() == Some(schema.name.as_str()) {
        name_shown
    } else {
        format!("{}.{name_shown}", quote_identifier(&schema.name))
    })
}

fn role_name(context: &FunctionContext, oid: i64) -> String {
    context
        .snapshot
        .role_by_id(ObjectId(oid))
        .map_or_else(|| format!("unknown (OID={oid})"), |role| role.name.clone())
}

/// A type's name by OID and modifier, as `format_type` gives it.
pub fn format_type(oid: i64, modifier: Option<i64>) -> String {
    let base = match u32::try_from(oid).ok().and_then(ColumnType::from_oid) {
        Some(_) if oid == 19 => return "name".to_owned(),
        Some(ColumnType::Text) if oid == 1042 => "character".to_owned(),
        Some(column_type) => super::registry::type_name(&column_type),
        None => {
            return crate::relation::type_name(oid).map_or_else(|| "???".to_owned(), str::to_owned);
        }
    };
    match (oid, modifier) {
        (1700, Some(modifier)) if modifier >= 4 => {
            let packed = modifier - 4;
            let (precision, scale) = (packed >> 16, packed & 0x7ff);
            format!("numeric({precision},{scale})")
        }
        (1043, Some(modifier)) if modifier >= 4 => format!("character varying({})", modifier - 4),
        (1042, Some(modifier)) if modifier >= 4 => format!("character({})", modifier - 4),
        _ => base,
    }
}

fn find_role<'c>(
    context: &'c FunctionContext,
    cell: &Value<'_>,
) -> Result<&'c RoleDefinition, SqlError> {
    let found = match cell {
        Value::Int(oid) => context.snapshot.role_by_id(ObjectId(*oid)),
        other => context.snapshot.role(other.as_text()),
    };
    found.map(AsRef::as_ref).ok_or_else(|| {
        SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!(
                "role \"{}\" does not exist",
                super::text::plain(cell, chrono_tz::UTC)
            ),
        )
    })
}

fn privileges(text: &str) -> Result<Vec<Privilege>, SqlError> {
    text.split(',')
        .map(|word| {
            let word = word.trim().to_ascii_uppercase();
            let word = word.strip_suffix(" WITH GRANT OPTION").unwrap_or(&word);
            Privilege::from_keyword(word).ok_or_else(|| {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("unrecognized privilege type: \"{word}\""),
                )
            })
        })
        .collect()
}

/// `has_<kind>_privilege([role,] object, privilege)`.
fn has_privilege<'a>(
    context: &FunctionContext,
    cells: &[Value<'a>],
    find: impl Fn(&Value<'_>) -> Result<Option<ObjectRef>, SqlError>,
) -> Cell<'a> {
    let (role, object, wanted) = match cells {
        [object, wanted] => (context.session.role, object, wanted),
        [role, object, wanted] => (find_role(context, role)?.id, object, wanted),
        _ => return Ok(Value::Null),
    };
    let wanted = privileges(wanted.as_text())?;
    Ok(match find(object)? {
        Some(object) => Value::Bool(
            wanted
                .iter()
                .any(|one| context.snapshot.has_privilege(role, object, *one)),
        ),
        // A relation of the system may be read by everybody.
        None => Value::Bool(wanted.contains(&Privilege::Select)),
    })
}

fn has_table<'a>(context: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    has_privilege(context, cells, |object| {
        let oid = match object {
            Value::Int(oid) => Some(*oid),
            other => find_relation(context, other.as_text()),
        };
        let Some(oid) = oid else {
            return Err(SqlError::new(
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{}\" does not exist", object.as_text()),
            ));
        };
        Ok(context
            .snapshot
            .relation_by_id(ObjectId(oid))
            .map(|relation| relation.object()))
    })
}

fn has_schema<'a>(context: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    has_privilege(context, cells, |object| {
        let schema = match object {
            Value::Int(oid) => context.snapshot.schema_by_id(ObjectId(*oid)),
            other => context.snapshot.schema(other.as_text()),
        };
        Ok(schema.map(|schema| ObjectRef::new(ObjectKind::Schema, schema.id)))
    })
}

fn size(bytes: f64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 10_240.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", value.round(), units[unit])
}

fn comment_on(context: &FunctionContext, oid: i64, catalog: &str) -> Option<String> {
    let id = ObjectId(oid);
    match catalog {
        "pg_namespace" => context.snapshot.schema_by_id(id)?.comment.clone(),
        "pg_authid" => context.snapshot.role_by_id(id)?.comment.clone(),
        "pg_database" => context.snapshot.database_comment().map(str::to_owned),
        _ => match context.snapshot.relation_by_id(id)? {
            Relation::Table(table) => table.comment.clone(),
            Relation::View(view) => view.comment.clone(),
        },
    }
}

fn setting<'a>(context: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    let name = cells[0].as_text();
    if let Some(value) = context.session.setting(name) {
        return Ok(Value::text(value.to_owned()));
    }
    let fallback = match name.to_ascii_lowercase().as_str() {
        "server_version" => Some(SERVER_VERSION),
        "server_version_num" => Some(SERVER_VERSION_NUMBER),
        "search_path" => return Ok(Value::text(context.session.search_path.join(", "))),
        _ => None,
    };
    match fallback {
        Some(value) => Ok(Value::text(value)),
        None if cells.get(1).is_some_and(Value::as_bool) => Ok(Value::Null),
        None => Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}

/// Names `set_config` may set in one statement.
const REQUESTED_SETTINGS_MAX: usize = 1000;

/// Asks the session to change a setting; gives the value it will have.
fn set_config<'a>(context: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    if cells[0].is_null() {
        return Err(SqlError::new(
            SqlState("22004"),
            "SET requires parameter name",
        ));
    }
    let name = cells[0].as_text().to_ascii_lowercase();
    let value = match &cells[1] {
        Value::Null => None,
        text => Some(crate::execute::canonical_setting(&name, text.as_text())?),
    };
    let mut requested = context
        .session
        .requested_settings
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if requested.len() >= REQUESTED_SETTINGS_MAX && !requested.contains_key(&name) {
        return Err(
            SqlError::new(SqlState("54000"), "too many settings in one statement")
                .hint("set fewer, or in several statements"),
        );
    }
    requested.insert(name, (value.clone(), cells[2].as_bool()));
    Ok(value.map_or(Value::Null, Value::text))
}

fn table_size<'a>(context: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
    let oid = match &cells[0] {
        Value::Int(oid) => Some(*oid),
        other => find_relation(context, other.as_text()),
    };
    let known = oid.and_then(|oid| {
        context
            .snapshot
            .table_by_id(ObjectId(oid))
            .map(|table| crate::relation::known_size(table))
    });
    Ok(Value::Int(known.flatten().unwrap_or(0)))
}

pub fn register(functions: &mut Builder) {
    register_session(functions);
    register_names(functions);
    register_privileges(functions);
    register_definitions(functions);
    for signature in [
        "pg_relation_size(any, [text]) bigint",
        "pg_table_size(any) bigint",
        "pg_total_relation_size(any) bigint",
    ] {
        functions.stable(signature, table_size);
    }
    functions.rows("pg_indexes_size(any) bigint", |_, _| Ok(Value::Int(0)));
    functions.stable("pg_database_size(any) bigint", |context, _| {
        let sizes = context
            .snapshot
            .tables()
            .filter_map(|table| crate::relation::known_size(table));
        Ok(Value::Int(sizes.sum()))
    });
    functions.rows("pg_size_pretty(bigint) text", |_, cells| {
        Ok(Value::text(size(cells[0].as_float())))
    });
    functions.rows("pg_size_pretty(numeric) text", |_, cells| {
        Ok(Value::text(size(cells[0].as_float())))
    });
    functions.rows("cardinality(anyarray) integer", |_, cells| {
        Ok(Value::Int(
            cells[0].as_list().map_or(0, |list| list.len() as i64),
        ))
    });
    for signature in [
        "array_length(anyarray, integer) integer",
        "array_upper(anyarray, integer) integer",
    ] {
        functions.rows(signature, |_, cells| {
            Ok(match cells[0].as_list() {
                Some(list) if !list.is_empty() && cells[1].as_int() == 1 => {
                    Value::Int(list.len() as i64)
                }
                _ => Value::Null,
            })
        });
    }
    functions.rows("array_lower(anyarray, integer) integer", |_, cells| {
        Ok(match cells[0].as_list() {
            Some(list) if !list.is_empty() && cells[1].as_int() == 1 => Value::Int(1),
            _ => Value::Null,
        })
    });
    functions.volatile("gen_random_uuid() uuid", |_, _| {
        Ok(Value::text(uuid::Uuid::new_v4().to_string()))
    });
}

fn register_session(functions: &mut Builder) {
    functions.stable("current_schema() text", |context, _| {
        Ok(search_path(context)
            .into_iter()
            .next()
            .map_or(Value::Null, Value::text))
    });
    functions.stable("current_schemas(boolean) text[]", |context, cells| {
        let mut schemas = search_path(context);
        if cells[0].as_bool() {
            schemas.insert(0, "pg_catalog".to_owned());
        }
        texts(schemas)
    });
    for signature in ["current_user() text", "user() text", "current_role() text"] {
        functions.stable(signature, |context, _| {
            Ok(Value::text(context.session.role_name.clone()))
        });
    }
    functions.stable("session_user() text", |context, _| {
        Ok(Value::text(context.session.session_user.clone()))
    });
    for signature in ["current_database() text", "current_catalog() text"] {
        functions.stable(signature, |context, _| {
            Ok(Value::text(context.session.database.clone()))
        });
    }
    functions.rows("version() text", |_, _| Ok(Value::text(version())));
    functions.stable("pg_backend_pid() integer", |context, _| {
        Ok(Value::Int(i64::from(context.session.process_id)))
    });
    functions.stable("current_setting(text, [boolean]) text", setting);
    functions.volatile("set_config(text, text, boolean) text", set_config);
    functions.stable("pg_postmaster_start_time() timestamptz", |context, _| {
        Ok(Value::Timestamp(context.session.server_started_at))
    });
    functions.stable("pg_conf_load_time() timestamptz", |context, _| {
        Ok(Value::Timestamp(context.session.server_started_at))
    });
    functions.stable("txid_current() bigint", |context, _| {
        Ok(Value::Int(context.snapshot.version()))
    });
    functions.stable("pg_current_xact_id() bigint", |context, _| {
        Ok(Value::Int(context.snapshot.version()))
    });
    for signature in [
        "pg_is_in_recovery() boolean",
        "pg_is_in_backup() boolean",
        "pg_is_wal_replay_paused() boolean",
        "pg_is_other_temp_schema(bigint) boolean",
        "row_security_active(any) boolean",
    ] {
        functions.rows(signature, |_, _| Ok(Value::Bool(false)));
    }
    functions.rows("pg_my_temp_schema() bigint", |_, _| Ok(Value::Int(0)));
    functions.rows("pg_encoding_to_char(integer) text", |_, cells| {
        Ok(Value::text(if cells[0].as_int() == 6 {
            "UTF8"
        } else {
            "SQL_ASCII"
        }))
    });
    functions.rows("pg_char_to_encoding(text) integer", |_, cells| {
        let utf8 = cells[0].as_text().to_ascii_uppercase().replace('-', "") == "UTF8";
        Ok(Value::Int(if utf8 { 6 } else { -1 }))
    });
    functions.rows("pg_client_encoding() text", |_, _| Ok(Value::text("UTF8")));
    functions.rows("getdatabaseencoding() text", |_, _| Ok(Value::text("UTF8")));
    functions.stable("inet_server_addr() text", |context, _| {
        Ok(context
            .session
            .server_address
            .map_or(Value::Null, |at| Value::text(at.ip().to_string())))
    });
    functions.stable("inet_server_port() integer", |context, _| {
        Ok(context
            .session
            .server_address
            .map_or(Value::Null, |at| Value::Int(at.port().into())))
    });
    functions.stable("inet_client_addr() text", |context, _| {
        Ok(context
            .session
            .client_address
            .map_or(Value::Null, |at| Value::text(at.ip().to_string())))
    });
    functions.stable("inet_client_port() integer", |context, _| {
        Ok(context
            .session
            .client_address
            .map_or(Value::Null, |at| Value::Int(at.port().into())))
    });
    for signature in [
        "pg_cancel_backend(integer) boolean",
        "pg_terminate_backend(integer) boolean",
    ] {
        functions.volatile(signature, |_, _| {
            Err(SqlError::unsupported("ending another session by SQL"))
        });
    }
    // A lock that two sessions hold at once would be worse than none.
    for signature in [
        "pg_advisory_lock(bigint) text",
        "pg_advisory_lock_shared(bigint) text",
        "pg_advisory_xact_lock(bigint) text",
        "pg_try_advisory_lock(bigint) boolean",
        "pg_try_advisory_lock_shared(bigint) boolean",
        "pg_try_advisory_xact_lock(bigint) boolean",
    ] {
        functions.volatile(signature, |_, _| {
            Err(SqlError::unsupported("an advisory lock")
                .hint("let one process do what must not be done twice"))
        });
    }
    functions.volatile("pg_advisory_unlock(bigint) boolean", |_, _| {
        Ok(Value::Bool(false))
    });
    functions.volatile("pg_advisory_unlock_all() text", |_, _| Ok(Value::text("")));
}

fn register_names(functions: &mut Builder) {
    functions.stable("regclass_oid(text) bigint", |context, cells| {
        let text = cells[0].as_text();
        if let Ok(oid) = text.trim().parse::<i64>() {
            return Ok(Value::Int(oid));
        }
        find_relation(context, text).map(Value::Int).ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{text}\" does not exist"),
            )
        })
    });
    functions.stable("to_regclass(text) text", |context, cells| {
        let found = find_relation(context, cells[0].as_text());
        Ok(found
            .and_then(|oid| relation_name(context, oid))
            .map_or(Value::Null, Value::text))
    });
    functions.stable("regclass_name(bigint) text", |context, cells| {
        let oid = cells[0].as_int();
        Ok(Value::text(match oid {
            0 => "-".to_owned(),
            _ => relation_name(context, oid).unwrap_or_else(|| oid.to_string()),
        }))
    });
    functions.stable("regtype_oid(text) bigint", |_, cells| {
        let text = cells[0].as_text();
        if let Ok(oid) = text.trim().parse::<i64>() {
            return Ok(Value::Int(oid));
        }
        match crate::query::typing::written_type_name(text) {
            Some(crate::query::typing::Written::Type(column_type)) => {
                Ok(Value::Int(i64::from(column_type.oid())))
            }
            _ => Err(SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!("type \"{text}\" does not exist"),
            )),
        }
    });
    functions.stable("to_regtype(text) text", |_, cells| {
        Ok(
            match crate::query::typing::written_type_name(cells[0].as_text()) {
                Some(crate::query::typing::Written::Type(found)) => Value::text(found.sql_name()),
                _ => Value::Null,
            },
        )
    });
    functions.stable("regtype_name(bigint) text", |_, cells| {
        Ok(Value::text(match cells[0].as_int() {
            0 => "-".to_owned(),
            oid => format_type(oid, None),
        }))
    });
    functions.stable("regproc_oid(text) bigint", |_, cells| {
        let text = cells[0].as_text();
        let name = split_name(text).pop().unwrap_or_default();
        if let Ok(oid) = name.parse::<i64>() {
            return Ok(Value::Int(oid));
        }
        crate::relation::function_oid(&name)
            .map(Value::Int)
            .ok_or_else(|| {
                SqlError::new(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("function \"{text}\" does not exist"),
                )
            })
    });
    functions.stable("regproc_name(bigint) text", |_, cells| {
        let oid = cells[0].as_int();
        Ok(Value::text(match oid {
            0 => "-".to_owned(),
            oid => {
                crate::relation::function_name(oid).map_or_else(|| oid.to_string(), str::to_owned)
            }
        }))
    });
    functions.stable("regnamespace_oid(text) bigint", |context, cells| {
        let text = cells[0].as_text();
        let name = split_name(text).pop().unwrap_or_default();
        context
            .snapshot
            .schema(&name)
            .map(|schema| Value::Int(schema.id.0))
            .ok_or_else(|| {
                SqlError::new(
                    SqlState::INVALID_SCHEMA_NAME,
                    format!("schema \"{text}\" does not exist"),
                )
            })
    });
    functions.stable("regnamespace_name(bigint) text", |context, cells| {
        let oid = cells[0].as_int();
        Ok(Value::text(
            match context.snapshot.schema_by_id(ObjectId(oid)) {
                Some(schema) => quote_identifier(&schema.name),
                None => oid.to_string(),
            },
        ))
    });
    functions.stable("regrole_oid(text) bigint", |context, cells| {
        let name = Value::text(split_name(cells[0].as_text()).pop().unwrap_or_default());
        Ok(Value::Int(find_role(context, &name)?.id.0))
    });
    functions.stable("regrole_name(bigint) text", |context, cells| {
        Ok(Value::text(role_name(context, cells[0].as_int())))
    });
    functions.stable("pg_get_userbyid(bigint) text", |context, cells| {
        Ok(Value::text(role_name(context, cells[0].as_int())))
    });
    functions.rows_with_null("format_type(bigint, integer) text", |_, cells| {
        if cells[0].is_null() {
            return Ok(Value::Null);
        }
        let modifier = if cells[1].is_null() {
            None
        } else {
            Some(cells[1].as_int())
        };
        Ok(Value::text(match cells[0].as_int() {
            0 => "-".to_owned(),
            oid => format_type(oid, modifier),
        }))
    });
    for signature in [
        "pg_table_is_visible(bigint) boolean",
        "pg_type_is_visible_as(bigint) boolean",
    ] {
        functions.stable(signature, |context, cells| {
            let oid = cells[0].as_int();
            let name = relation_name(context, oid);
            Ok(Value::Bool(name.is_some_and(|name| {
                !name
                    .replace("\"\"", "")
                    .split('"')
                    .step_by(2)
                    .any(|part| part.contains('.'))
            })))
        });
    }
    for signature in [
        "pg_type_is_visible(bigint) boolean",
        "pg_function_is_visible(bigint) boolean",
        "pg_operator_is_visible(bigint) boolean",
        "pg_opclass_is_visible(bigint) boolean",
        "pg_collation_is_visible(bigint) boolean",
        "pg_conversion_is_visible(bigint) boolean",
        "pg_statistics_obj_is_visible(bigint) boolean",
        "pg_ts_config_is_visible(bigint) boolean",
    ] {
        functions.rows(signature, |_, _| Ok(Value::Bool(true)));
    }
    functions.stable("obj_description(bigint, [text]) text", |context, cells| {
        let catalog = cells.get(1).map_or("pg_class", Value::as_text);
        Ok(comment_on(context, cells[0].as_int(), catalog).map_or(Value::Null, Value::text))
    });
    functions.stable("shobj_description(bigint, text) text", |context, cells| {
        let found = comment_on(context, cells[0].as_int(), cells[1].as_text());
        Ok(found.map_or(Value::Null, Value::text))
    });
    functions.stable("col_description(bigint, integer) text", |context, cells| {
        let index = usize::try_from(cells[1].as_int() - 1).unwrap_or(usize::MAX);
        let comment = match context.snapshot.relation_by_id(oid_of(&cells[0])) {
            Some(Relation::Table(table)) => table
                .columns
                .get(index)
                .and_then(|column| column.comment.clone()),
            Some(Relation::View(view)) => view
                .columns
                .get(index)
                .and_then(|(name, _)| view.column_comments.get(name).cloned()),
            None => None,
        };
        Ok(comment.map_or(Value::Null, Value::text))
    });
}

fn register_privileges(functions: &mut Builder) {
    for signature in [
        "has_table_privilege(any, text) boolean",
        "has_table_privilege(any, any, text) boolean",
    ] {
        functions.stable(signature, has_table);
    }
    for signature in [
        "has_any_column_privilege(any, text) boolean",
        "has_any_column_privilege(any, any, text) boolean",
    ] {
        functions.stable(signature, has_table);
    }
    functions.stable(
        "has_column_privilege(any, any, text) boolean",
        |context, cells| has_table(context, &[cells[0].clone(), cells[2].clone()]),
    );
    functions.stable(
        "has_column_privilege(any, any, any, text) boolean",
        |context, cells| {
            has_table(
                context,
                &[cells[0].clone(), cells[1].clone(), cells[3].clone()],
            )
        },
    );
    for signature in [
        "has_schema_privilege(any, text) boolean",
        "has_schema_privilege(any, any, text) boolean",
    ] {
        functions.stable(signature, has_schema);
    }
    for signature in [
        "has_database_privilege(any, text) boolean",
        "has_database_privilege(any, any, text) boolean",
    ] {
        functions.stable(signature, |context, cells| {
            has_privilege(context, cells, |_| Ok(Some(ObjectRef::DATABASE)))
        });
    }
    for signature in [
        "has_function_privilege(any, text) boolean",
        "has_function_privilege(any, any, text) boolean",
        "has_language_privilege(any, text) boolean",
        "has_type_privilege(any, text) boolean",
        "has_tablespace_privilege(any, text) boolean",
    ] {
        functions.rows(signature, |_, _| Ok(Value::Bool(true)));
    }
    for signature in [
        "has_sequence_privilege(any, text) boolean",
        "has_server_privilege(any, text) boolean",
        "has_foreign_data_wrapper_privilege(any, text) boolean",
    ] {
        functions.rows(signature, |_, _| Ok(Value::Bool(false)));
    }
    functions.stable("pg_has_role(any, text) boolean", |context, cells| {
        let of = find_role(context, &cells[0])?.id;
        Ok(Value::Bool(
            context.snapshot.is_member(context.session.role, of),
        ))
    });
    functions.stable("pg_has_role(any, any, text) boolean", |context, cells| {
        let role = find_role(context, &cells[0])?.id;
        let of = find_role(context, &cells[1])?.id;
        Ok(Value::Bool(context.snapshot.is_member(role, of)))
    });
}

fn register_definitions(functions: &mut Builder) {
    functions.stable("pg_get_viewdef(any, [any]) text", |context, cells| {
        let oid = match &cells[0] {
            Value::Int(oid) => Some(*oid),
            other => find_relation(context, other.as_text()),
        };
        let view = oid.and_then(|oid| context.snapshot.view_by_id(ObjectId(oid)));
        Ok(view.map_or(Value::Null, |view| Value::text(format!(" {};", view.query))))
    });
    functions.stable(
        "pg_get_constraintdef(bigint, [boolean]) text",
        |context, cells| {
            let found = crate::relation::constraint::by_oid(&context.snapshot, cells[0].as_int());
            Ok(found.map_or(Value::Null, |constraint| {
                Value::text(constraint.definition())
            }))
        },
    );
    functions.stable(
        "pg_get_indexdef(bigint, [integer], [boolean]) text",
        |context, cells| {
            let found = crate::relation::constraint::by_index(&context.snapshot, cells[0].as_int());
            let Some(constraint) = found else {
                return Ok(Value::Null);
            };
            let column = cells.get(1).map_or(0, Value::as_int);
            if column > 0 {
                let name = usize::try_from(column - 1)
                    .ok()
                    .and_then(|index| constraint.columns.get(index).cloned());
                return Ok(name.map_or(Value::Null, |name| Value::text(quote_identifier(&name))));
            }
            Ok(Value::text(constraint.index_definition(&context.snapshot)))
        },
    );
    functions.rows("pg_get_expr(any, bigint, [boolean]) text", |_, cells| {
        Ok(Value::text(cells[0].as_text().to_owned()))
    });
    for signature in [
        "pg_get_ruledef(bigint, [boolean]) text",
        "pg_get_triggerdef(bigint, [boolean]) text",
        "pg_get_partkeydef(bigint) text",
        "pg_get_partition_constraintdef(bigint) text",
        "pg_get_statisticsobjdef(bigint) text",
        "pg_get_statisticsobjdef_columns(bigint) text",
        "pg_get_serial_sequence(text, text) text",
        "pg_get_functiondef(bigint) text",
        "pg_get_function_sqlbody(bigint) text",
        "pg_tablespace_location(bigint) text",
    ] {
        functions.rows(signature, |_, _| Ok(Value::Null));
    }
    functions.stable("pg_get_function_result(bigint) text", |_, cells| {
        Ok(crate::relation::function_result(cells[0].as_int()).map_or(Value::Null, Value::text))
    });
    for signature in [
        "pg_get_function_arguments(bigint) text",
        "pg_get_function_identity_arguments(bigint) text",
    ] {
        functions.stable(signature, |_, cells| {
            Ok(crate::relation::function_arguments(cells[0].as_int())
                .map_or(Value::Null, Value::text))
        });
    }
    functions.rows("pg_relation_is_publishable(any) boolean", |_, _| {
        Ok(Value::Bool(false))
    });
    functions.rows("pg_relation_filenode(any) bigint", |_, cells| {
        Ok(cells[0].clone())
    });
    functions.rows("pg_stat_get_numscans(bigint) bigint", |_, _| {
        Ok(Value::Int(0))
    });
    functions.rows("array_position(anyarray, any) integer", |_, cells| {
        let Some(list) = cells[0].as_list() else {
            return Ok(Value::Null);
        };
        let reader = super::value::Reader::new(list)?;
        let found = (0..list.len()).position(|row| {
            let element = reader.value(row);
            !element.is_null() && super::operator::compare(&element, &cells[1]).is_eq()
        });
        Ok(found.map_or(Value::Null, |row| Value::Int(row as i64 + 1)))
    });
    functions.rows("aclexplode_grantor(anyarray) bigint[]", |_, _| {
        empty(&ColumnType::BigInt)
    });
    functions.rows("aclexplode_grantee(anyarray) bigint[]", |_, _| {
        empty(&ColumnType::BigInt)
    });
    functions.rows("aclexplode_privilege(anyarray) text[]", |_, _| {
        empty(&ColumnType::Text)
    });
    functions.rows("aclexplode_grantable(anyarray) boolean[]", |_, _| {
        empty(&ColumnType::Boolean)
    });
    functions.rows("pg_options_to_table_name(anyarray) text[]", |_, _| {
        empty(&ColumnType::Text)
    });
    functions.rows("pg_options_to_table_value(anyarray) text[]", |_, _| {
        empty(&ColumnType::Text)
    });
}

fn empty<'a>(element: &ColumnType) -> Cell<'a> {
    Ok(Value::List(super::value::column(&[], &element.arrow())?))
}
