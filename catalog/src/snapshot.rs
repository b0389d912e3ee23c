//! Every definition of the catalog at one version, in memory and immutable.
//!
//! A lookup is a map access, and a copy shares everything that does not change: each kind of object
//! is behind its own `Arc`, and so is each definition. A snapshot is consistent: what a definition
//! refers to by id is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::definitions::{
    ConnectionDefinition, Grant, ObjectId, ObjectKind, ObjectRef, PipelineDefinition, Privilege,
    RoleDefinition, SchemaDefinition, SecretDefinition, TableDefinition, ViewDefinition,
};

/// The built-in roles that hold a privilege on everything, by name.
const READ_ALL_DATA: &str = "pg_read_all_data";
const WRITE_ALL_DATA: &str = "pg_write_all_data";

/// A table or a view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Relation<'a> {
    Table(&'a Arc<TableDefinition>),
    View(&'a Arc<ViewDefinition>),
}

impl Relation<'_> {
    pub fn id(&self) -> ObjectId {
        match self {
            Self::Table(table) => table.id,
            Self::View(view) => view.id,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Table(table) => &table.name,
            Self::View(view) => &view.name,
        }
    }

    pub fn schema(&self) -> ObjectId {
        match self {
            Self::Table(table) => table.schema,
            Self::View(view) => view.schema,
        }
    }

    pub fn owner(&self) -> ObjectId {
        match self {
            Self::Table(table) => table.owner,
            Self::View(view) => view.owner,
        }
    }

    pub fn object(&self) -> ObjectRef {
        match self {
            Self::Table(table) => ObjectRef::new(ObjectKind::Table, table.id),
            Self::View(view) => ObjectRef::new(ObjectKind::View, view.id),
        }
    }
}

/// Who holds what on an object, and whether they may grant it on.
type Held = BTreeMap<(ObjectId, Privilege), bool>;

/// The whole catalog at one version.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(crate) version: i64,
    /// Tells the overlay of a transaction from every other; 0 of a committed snapshot.
    pub(crate) stamp: u64,
    pub(crate) database_comment: Option<String>,
    pub(crate) schemas: Arc<Objects<SchemaDefinition>>,
    pub(crate) tables: Arc<BTreeMap<ObjectId, Arc<TableDefinition>>>,
    pub(crate) views: Arc<BTreeMap<ObjectId, Arc<ViewDefinition>>>,
    /// By schema and name: tables and views share their names.
    relation_names: Arc<BTreeMap<ObjectId, BTreeMap<String, ObjectId>>>,
    pub(crate) connections: Arc<Objects<ConnectionDefinition>>,
    pub(crate) secrets: Arc<Objects<SecretDefinition>>,
    pub(crate) pipelines: Arc<Objects<PipelineDefinition>>,
    pub(crate) roles: Arc<Objects<RoleDefinition>>,
    pub(crate) grants: Arc<BTreeMap<ObjectRef, Held>>,
}

impl Snapshot {
    /// Grows by one with every committed transaction of any process.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Equal for two snapshots only if they say the same: the version, and what a transaction has
    /// changed on top of it.
    pub fn edition(&self) -> (i64, u64) {
        (self.version, self.stamp)
    }

    pub fn schema(&self, name: &str) -> Option<&Arc<SchemaDefinition>> {
        self.schemas.named(name)
    }

    pub fn schema_by_id(&self, id: ObjectId) -> Option<&Arc<SchemaDefinition>> {
        self.schemas.get(id)
    }

    /// By name, as are all lists of this type unless they say otherwise.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<SchemaDefinition>> {
        self.schemas.iter()
    }

    pub fn table(&self, schema: &str, name: &str) -> Option<&Arc<TableDefinition>> {
        match self.relation(schema, name)? {
            Relation::Table(table) => Some(table),
            Relation::View(_) => None,
        }
    }

    pub fn table_by_id(&self, id: ObjectId) -> Option<&Arc<TableDefinition>> {
        self.tables.get(&id)
    }

    pub fn view(&self, schema: &str, name: &str) -> Option<&Arc<ViewDefinition>> {
        match self.relation(schema, name)? {
            Relation::Table(_) => None,
            Relation::View(view) => Some(view),
        }
    }

    pub fn view_by_id(&self, id: ObjectId) -> Option<&Arc<ViewDefinition>> {
        self.views.get(&id)
    }

    pub fn relation(&self, schema: &str, name: &str) -> Option<Relation<'_>> {
        self.relation_in(self.schema(schema)?.id, name)
    }

    pub fn relation_in(&self, schema: ObjectId, name: &str) -> Option<Relation<'_>> {
        self.relation_by_id(*self.relation_names.get(&schema)?.get(name)?)
    }

    pub fn relation_by_id(&self, id: ObjectId) -> Option<Relation<'_>> {
        let table = self.tables.get(&id).map(Relation::Table);
        table.or_else(|| self.views.get(&id).map(Relation::View))
    }

    /// The tables and views of a schema, by name.
    pub fn relations_in(&self, schema: ObjectId) -> impl Iterator<Item = Relation<'_>> {
        let names = self.relation_names.get(&schema).into_iter().flatten();
        names.filter_map(|(_, id)| self.relation_by_id(*id))
    }

    /// In the order they were created.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableDefinition>> {
        self.tables.values()
    }

    /// In the order they were created.
    pub fn views(&self) -> impl Iterator<Item = &Arc<ViewDefinition>> {
        self.views.values()
    }

    pub fn connection(&self, name: &str) -> Option<&Arc<ConnectionDefinition>> {
        self.connections.named(name)
    }

    pub fn connection_by_id(&self, id: ObjectId) -> Option<&Arc<ConnectionDefinition>> {
        self.connections.get(id)
    }

    pub fn connections(&self) -> impl Iterator<Item = &Arc<ConnectionDefinition>> {
        self.connections.iter()
    }

    pub fn secret(&self, name: &str) -> Option<&Arc<SecretDefinition>> {
        self.secrets.named(name)
    }

    pub fn secret_by_id(&self, id: ObjectId) -> Option<&Arc<SecretDefinition>> {
        self.secrets.get(id)
    }

    pub fn secrets(&self) -> impl Iterator<Item = &Arc<SecretDefinition>> {
        self.secrets.iter()
    }

    pub fn pipeline(&self, name: &str) -> Option<&Arc<PipelineDefinition>> {
        self.pipelines.named(name)
    }

    pub fn pipeline_by_id(&self, id: ObjectId) -> Option<&Arc<PipelineDefinition>> {
        self.pipelines.get(id)
    }

    pub fn pipelines(&self) -> impl Iterator<Item = &Arc<PipelineDefinition>> {
        self.pipelines.iter()
    }

    pub fn role(&self, name: &str) -> Option<&Arc<RoleDefinition>> {
        self.roles.named(name)
    }

    pub fn role_by_id(&self, id: ObjectId) -> Option<&Arc<RoleDefinition>> {
        self.roles.get(id)
    }

    pub fn roles(&self) -> impl Iterator<Item = &Arc<RoleDefinition>> {
        self.roles.iter()
    }

    /// By object, then grantee.
    pub fn grants(&self) -> impl Iterator<Item = Grant> + '_ {
        self.grants
            .keys()
            .flat_map(|object| self.grants_on(*object))
    }

    pub fn grants_on(&self, object: ObjectRef) -> impl Iterator<Item = Grant> + '_ {
        self.grants.get(&object).into_iter().flatten().map(
            move |((grantee, privilege), grantable)| Grant {
                object,
                grantee: *grantee,
                privilege: *privilege,
                grantable: *grantable,
            },
        )
    }

    /// The comment on the database itself.
    pub fn database_comment(&self) -> Option<&str> {
        self.database_comment.as_deref()
    }

    /// Whether `role` may `SET ROLE of`: it is that role, or a member of it directly or through
    /// others, or a superuser.
    pub fn is_member(&self, role: ObjectId, of: ObjectId) -> bool {
        self.is_superuser(role) || self.reaches(role, of, |_| true)
    }

    /// Whether `role` has the rights of `of` without `SET ROLE`, that is, through roles that inherit.
    pub fn inherits_from(&self, role: ObjectId, of: ObjectId) -> bool {
        self.is_superuser(role) || self.reaches(role, of, |member| member.inherit)
    }

    pub fn is_superuser(&self, role: ObjectId) -> bool {
        self.role_by_id(role).is_some_and(|role| role.superuser)
    }

    /// Whether a role holds a privilege as superuser, as owner, through a grant to it, to a role it
    /// inherits from or to PUBLIC, or through a built-in role such as `pg_read_all_data`.
    pub fn has_privilege(&self, role: ObjectId, object: ObjectRef, privilege: Privilege) -> bool {
        if self.is_superuser(role)
            || self
                .owner(object)
                .is_some_and(|owner| self.inherits_from(role, owner))
        {
            return true;
        }
        let granted = self.grants_on(object).any(|grant| {
            grant.privilege == privilege
                && (grant.grantee == ObjectId::PUBLIC || self.inherits_from(role, grant.grantee))
        });
        granted || self.has_privilege_on_all(role, object.kind, privilege)
    }

    /// Whether a role may grant a privilege on: as owner, as superuser, or by `WITH GRANT OPTION`.
    pub fn can_grant(&self, role: ObjectId, object: ObjectRef, privilege: Privilege) -> bool {
        self.is_superuser(role)
            || self
                .owner(object)
                .is_some_and(|owner| self.inherits_from(role, owner))
            || self.grants_on(object).any(|grant| {
                grant.privilege == privilege
                    && grant.grantable
                    && self.inherits_from(role, grant.grantee)
            })
    }

    /// Who owns an object; roles have no owner, the database belongs to `boathouse`.
    pub fn owner(&self, object: ObjectRef) -> Option<ObjectId> {
        let id = object.id;
        match object.kind {
            ObjectKind::Database => Some(ObjectId::SUPERUSER),
            ObjectKind::Schema => self.schema_by_id(id).map(|one| one.owner),
            ObjectKind::Table => self.table_by_id(id).map(|one| one.owner),
            ObjectKind::View => self.view_by_id(id).map(|one| one.owner),
            ObjectKind::Connection => self.connection_by_id(id).map(|one| one.owner),
            ObjectKind::Secret => self.secret_by_id(id).map(|one| one.owner),
            ObjectKind::Pipeline => self.pipeline_by_id(id).map(|one| one.owner),
            ObjectKind::Role => None,
        }
    }

    /// The name of an object, without its schema.
    pub fn name(&self, object: ObjectRef) -> Option<&str> {
        let id = object.id;
        match object.kind {
            ObjectKind::Database => Some("boathouse"),
            ObjectKind::Schema => self.schema_by_id(id).map(|one| one.name.as_str()),
            ObjectKind::Table => self.table_by_id(id).map(|one| one.name.as_str()),
            ObjectKind::View => self.view_by_id(id).map(|one| one.name.as_str()),
            ObjectKind::Connection => self.connection_by_id(id).map(|one| one.name.as_str()),
            ObjectKind::Secret => self.secret_by_id(id).map(|one| one.name.as_str()),
            ObjectKind::Pipeline => self.pipeline_by_id(id).map(|one| one.name.as_str()),
            ObjectKind::Role => self.role_by_id(id).map(|one| one.name.as_str()),
        }
    }

    /// Whether `role` is a member of `of`, leaving aside that a superuser counts as one.
    pub(crate) fn reaches_member(&self, role: ObjectId, of: ObjectId) -> bool {
        self.reaches(role, of, |_| true)
    }

    fn has_privilege_on_all(&self, role: ObjectId, kind: ObjectKind, privilege: Privilege) -> bool {
        let through = |name| {
            self.role(name)
                .is_some_and(|of| self.inherits_from(role, of.id))
        };
        match (kind, privilege) {
            (ObjectKind::Table | ObjectKind::View, Privilege::Select) => through(READ_ALL_DATA),
            (
                ObjectKind::Table | ObjectKind::View,
                Privilege::Insert | Privilege::Update | Privilege::Delete,
            ) => through(WRITE_ALL_DATA),
            (ObjectKind::Schema, Privilege::Usage) => {
                through(READ_ALL_DATA) || through(WRITE_ALL_DATA)
            }
            _ => false,
        }
    }

    /// Follows memberships from `role`, past each role that `passes`, looking for `of`.
    fn reaches(
        &self,
        role: ObjectId,
        of: ObjectId,
        passes: impl Fn(&RoleDefinition) -> bool,
    ) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![role];
        while let Some(next) = open.pop() {
            if next == of {
                return true;
            }
            if let Some(member) = self.role_by_id(next).filter(|member| passes(member))
                && seen.insert(next)
            {
                open.extend(&member.member_of);
            }
        }
        false
    }

    pub(crate) fn put_table(&mut self, table: Arc<TableDefinition>) {
        self.take_relation(table.id);
        self.name_relation(table.schema, table.name.clone(), table.id);
        Arc::make_mut(&mut self.tables).insert(table.id, table);
    }

    pub(crate) fn put_view(&mut self, view: Arc<ViewDefinition>) {
        self.take_relation(view.id);
        self.name_relation(view.schema, view.name.clone(), view.id);
        Arc::make_mut(&mut self.views).insert(view.id, view);
    }

    pub(crate) fn take_relation(&mut self, id: ObjectId) {
        let Some(relation) = self.relation_by_id(id) else {
            return;
        };
        let (kind, schema, name) = (
            relation.object().kind,
            relation.schema(),
            relation.name().to_owned(),
        );
        if let Some(names) = Arc::make_mut(&mut self.relation_names).get_mut(&schema) {
            names.remove(&name);
        }
        if kind == ObjectKind::Table {
            Arc::make_mut(&mut self.tables).remove(&id);
        } else {
            Arc::make_mut(&mut self.views).remove(&id);
        }
    }

    fn name_relation(&mut self, schema: ObjectId, name: String, id: ObjectId) {
        Arc::make_mut(&mut self.relation_names)
            .entry(schema)
            .or_default()
            .insert(name, id);
    }
}

/// Objects of one kind, whose names are unique among themselves.
#[derive(Debug, Clone)]
pub(crate) struct Objects<T> {
    by_id: BTreeMap<ObjectId, Arc<T>>,
    by_name: BTreeMap<String, ObjectId>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
        }
    }
}

impl<T: Named> Objects<T> {
    pub(crate) fn get(&self, id: ObjectId) -> Option<&Arc<T>> {
        self.by_id.get(&id)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Arc<T>> {
        self.get(*self.by_name.get(name)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_name.values().filter_map(|id| self.by_id.get(id))
    }

    pub(crate) fn put(&mut self, object: Arc<T>) {
        self.take(object.id());
        self.by_name.insert(object.name().to_owned(), object.id());
        self.by_id.insert(object.id(), object);
    }

    pub(crate) fn take(&mut self, id: ObjectId) {
        if let Some(object) = self.by_id.remove(&id) {
            self.by_name.remove(object.name());
        }
    }
}

/// What a definition of any kind has.
pub(crate) trait Named {
    const KIND: ObjectKind;
    fn id(&self) -> ObjectId;
    fn name(&self) -> &str;
}

macro_rules! named {
    ($($definition:ty => $kind:ident),* $(,)?) => {$(
        impl Named for $definition {
            const KIND: ObjectKind = ObjectKind::$kind;
            fn id(&self) -> ObjectId {
                self.id
            }
            fn name(&self) -> &str {
                &self.name
            }
        }
    )*};
}

named! {
    SchemaDefinition => Schema,
    TableDefinition => Table,
    ViewDefinition => View,
    ConnectionDefinition => Connection,
    SecretDefinition => Secret,
    PipelineDefinition => Pipeline,
    RoleDefinition => Role,
}
