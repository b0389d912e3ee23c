//! What a person wants to know about pipelines, files, tables and statements.
//!
//! A pipeline's rows are shown to its owner and to whoever has a right on it. One line in
//! [`RELATIONS`] for each; `docs/reference/system.md` describes the columns.

mod audit_log;
mod files_loaded;
mod pipeline_errors;
mod pipeline_lag;
mod pipeline_runs;
mod pipelines;
mod quarantine;
mod queries;
mod table_history;

use std::sync::Arc;

use boathouse_catalog::definitions::{
    ObjectId, ObjectKind, ObjectRef, PipelineDefinition, Privilege,
};

use crate::query::QueryContext;
use crate::relation::Relation;

pub static RELATIONS: &[Relation] = &[
    audit_log::RELATION,
    files_loaded::RELATION,
    pipeline_errors::RELATION,
    pipeline_lag::RELATION,
    pipeline_runs::RELATION,
    pipelines::RELATION,
    quarantine::RELATION,
    queries::RELATION,
    table_history::RELATION,
];

/// Whether the role may see what a pipeline did.
fn may_see(context: &QueryContext, pipeline: ObjectId) -> bool {
    let object = ObjectRef::new(ObjectKind::Pipeline, pipeline);
    let snapshot = &context.snapshot;
    let monitor = snapshot
        .role("pg_monitor")
        .is_some_and(|role| snapshot.inherits_from(context.session.role, role.id));
    monitor || snapshot.has_privilege(context.session.role, object, Privilege::Select)
}

fn pipelines(context: &QueryContext) -> Vec<Arc<PipelineDefinition>> {
    context
        .snapshot
        .pipelines()
        .filter(|pipeline| may_see(context, pipeline.id))
        .cloned()
        .collect()
}

fn pipeline_name(context: &QueryContext, id: ObjectId) -> Option<String> {
    context
        .snapshot
        .pipeline_by_id(id)
        .map(|pipeline| pipeline.name.clone())
}
