//! PostgreSQL's own catalogs, with the columns of version 15.
//!
//! A relation for which there is nothing here has its columns and no rows, so that a client's query
//! over it runs. One line in [`RELATIONS`] for each.

mod pg_aggregate;
mod pg_am;
mod pg_amop;
mod pg_amproc;
mod pg_attrdef;
mod pg_attribute;
mod pg_auth_members;
mod pg_authid;
mod pg_cast;
mod pg_class;
mod pg_collation;
mod pg_constraint;
mod pg_conversion;
mod pg_cursors;
mod pg_database;
mod pg_db_role_setting;
mod pg_default_acl;
mod pg_depend;
mod pg_description;
mod pg_enum;
mod pg_event_trigger;
mod pg_extension;
mod pg_foreign_data_wrapper;
mod pg_foreign_server;
mod pg_foreign_table;
mod pg_group;
mod pg_index;
mod pg_indexes;
mod pg_inherits;
mod pg_init_privs;
mod pg_language;
mod pg_largeobject_metadata;
mod pg_locks;
mod pg_matviews;
mod pg_namespace;
mod pg_opclass;
mod pg_operator;
mod pg_opfamily;
mod pg_partitioned_table;
mod pg_policies;
mod pg_policy;
mod pg_prepared_statements;
mod pg_prepared_xacts;
mod pg_proc;
mod pg_publication;
mod pg_publication_namespace;
mod pg_publication_rel;
mod pg_publication_tables;
mod pg_range;
mod pg_replication_slots;
mod pg_rewrite;
mod pg_roles;
mod pg_rules;
mod pg_seclabel;
mod pg_sequence;
mod pg_sequences;
mod pg_settings;
mod pg_shdepend;
mod pg_shdescription;
mod pg_shseclabel;
mod pg_stat_activity;
mod pg_stat_all_tables;
mod pg_stat_database;
mod pg_stat_gssapi;
mod pg_stat_replication;
mod pg_stat_ssl;
mod pg_stat_user_indexes;
mod pg_stat_user_tables;
mod pg_statio_user_tables;
mod pg_statistic_ext;
mod pg_stats;
mod pg_subscription;
mod pg_tables;
mod pg_tablespace;
mod pg_timezone_names;
mod pg_trigger;
mod pg_ts_config;
mod pg_ts_dict;
mod pg_type;
mod pg_user;
mod pg_user_mapping;
mod pg_views;

use boathouse_catalog::definitions::{Grant, ObjectId, ObjectRef, RoleDefinition};

use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::Relation;

pub static RELATIONS: &[Relation] = &[
    pg_aggregate::RELATION,
    pg_am::RELATION,
    pg_amop::RELATION,
    pg_amproc::RELATION,
    pg_attrdef::RELATION,
    pg_attribute::RELATION,
    pg_auth_members::RELATION,
    pg_authid::RELATION,
    pg_cast::RELATION,
    pg_class::RELATION,
    pg_collation::RELATION,
    pg_constraint::RELATION,
    pg_conversion::RELATION,
    pg_cursors::RELATION,
    pg_database::RELATION,
    pg_db_role_setting::RELATION,
    pg_default_acl::RELATION,
    pg_depend::RELATION,
    pg_description::RELATION,
    pg_enum::RELATION,
    pg_event_trigger::RELATION,
    pg_extension::RELATION,
    pg_foreign_data_wrapper::RELATION,
    pg_foreign_server::RELATION,
    pg_foreign_table::RELATION,
    pg_group::RELATION,
    pg_index::RELATION,
    pg_indexes::RELATION,
    pg_inherits::RELATION,
    pg_init_privs::RELATION,
    pg_language::RELATION,
    pg_largeobject_metadata::RELATION,
    pg_locks::RELATION,
    pg_matviews::RELATION,
    pg_namespace::RELATION,
    pg_opclass::RELATION,
    pg_operator::RELATION,
    pg_opfamily::RELATION,
    pg_partitioned_table::RELATION,
    pg_policies::RELATION,
    pg_policy::RELATION,
    pg_prepared_statements::RELATION,
    pg_prepared_xacts::RELATION,
    pg_proc::RELATION,
    pg_publication::RELATION,
    pg_publication_namespace::RELATION,
    pg_publication_rel::RELATION,
    pg_publication_tables::RELATION,
    pg_range::RELATION,
    pg_replication_slots::RELATION,
    pg_rewrite::RELATION,
    pg_roles::RELATION,
    pg_rules::RELATION,
    pg_seclabel::RELATION,
    pg_sequence::RELATION,
    pg_sequences::RELATION,
    pg_settings::RELATION,
    pg_shdepend::RELATION,
    pg_shdescription::RELATION,
    pg_shseclabel::RELATION,
    pg_stat_activity::RELATION,
    pg_stat_all_tables::RELATION,
    pg_stat_database::RELATION,
    pg_stat_gssapi::RELATION,
    pg_stat_replication::RELATION,
    pg_stat_ssl::RELATION,
    pg_stat_user_indexes::RELATION,
    pg_stat_user_tables::RELATION,
    pg_statio_user_tables::RELATION,
    pg_statistic_ext::RELATION,
    pg_stats::RELATION,
    pg_subscription::RELATION,
    pg_tables::RELATION,
    pg_tablespace::RELATION,
    pg_timezone_names::RELATION,
    pg_trigger::RELATION,
    pg_ts_config::RELATION,
    pg_ts_dict::RELATION,
    pg_type::RELATION,
    pg_user::RELATION,
    pg_user_mapping::RELATION,
    pg_views::RELATION,
];

fn schema_name(context: &QueryContext, id: ObjectId) -> Option<String> {
    context
        .snapshot
        .schema_by_id(id)
        .map(|schema| schema.name.clone())
}

fn role_name(context: &QueryContext, id: ObjectId) -> Option<String> {
    context
        .snapshot
        .role_by_id(id)
        .map(|role| role.name.clone())
}

/// `ALTER ROLE ... SET` as an array.
fn settings(role: &RoleDefinition) -> Value<'static> {
    if role.settings.is_empty() {
        return Value::Null;
    }
    let settings = role
        .settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>();
    Value::from(settings)
}

/// An access list, `grantee=privileges/grantor` each; NULL when only the owner's rights hold.
fn access_list(context: &QueryContext, object: ObjectRef) -> Value<'static> {
    let snapshot = &context.snapshot;
    let mut grants: Vec<Grant> = snapshot.grants_on(object).collect();
    if grants.is_empty() {
        return Value::Null;
    }
    grants.sort_by_key(|grant| grant.grantee);
    let owner = snapshot
        .owner(object)
        .and_then(|owner| role_name(context, owner));
    let owner = owner.unwrap_or_default();
    let all = object
        .kind
        .privileges()
        .iter()
        .map(|privilege| privilege.letter())
        .collect::<String>();
    let mut entries = vec![format!("{owner}={all}/{owner}")];
    let mut index = 0;
    while index < grants.len() {
        let grantee = grants[index].grantee;
        let name = if grantee == ObjectId::PUBLIC {
            String::new()
        } else {
            role_name(context, grantee).unwrap_or_default()
        };
        let mut letters = String::new();
        while index < grants.len() && grants[index].grantee == grantee {
            letters.push(grants[index].privilege.letter());
            if grants[index].grantable {
                letters.push('*');
            }
            index += 1;
        }
        entries.push(format!("{name}={letters}/{owner}"));
    }
    Value::from(entries)
}
