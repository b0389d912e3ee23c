//! A list of changes to the catalog and the snapshot as they leave it.
//!
//! ```text
//! base snapshot --change--> overlay --change--> overlay      what the transaction itself sees
//!                  |                    |
//!                  +---- the changes ---+--> Catalog::commit applies them to the newest snapshot
//! ```
//!
//! Each change is checked when it is made, against the overlay, and once more by the commit, against
//! what others have committed meanwhile: by the same code, in `change`. A change made to an object
//! that somebody else changed since is a [`CatalogError::ConcurrentUpdate`]. Dropping a transaction
//! undoes it; a clone of it is a savepoint.

mod change;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::DateTime;

use crate::definitions::{
    ConnectionDefinition, Grant, ObjectId, ObjectKind, ObjectRef, PipelineDefinition, Privilege,
    RoleDefinition, SchemaDefinition, SecretDefinition, TableDefinition, ViewDefinition,
};
use crate::error::CatalogError;
use crate::secret::{MasterKey, Secret};
use crate::snapshot::{Named, Relation, Snapshot};
use crate::store::ids::IdAllocator;

pub(crate) use change::{Change, Object};

/// Stamps of overlays; a committed snapshot has 0.
static NEXT_STAMP: AtomicU64 = AtomicU64::new(1);

/// The name of a schema and of a table in it.
type QualifiedName = (String, String);

/// Changes that are made together or not at all.
#[derive(Clone)]
pub struct Transaction {
    overlay: Snapshot,
    changes: Vec<Change>,
    ids: Arc<IdAllocator>,
    key: Arc<MasterKey>,
}

impl Transaction {
    pub(crate) fn begin(base: &Snapshot, ids: Arc<IdAllocator>, key: Arc<MasterKey>) -> Self {
        Self {
            overlay: base.clone(),
            changes: Vec::new(),
            ids,
            key,
        }
    }

    /// The catalog as this transaction sees it: its base, with its own changes.
    pub fn snapshot(&self) -> &Snapshot {
        &self.overlay
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub fn create_schema(
        &mut self,
        name: impl Into<String>,
        owner: ObjectId,
    ) -> Result<ObjectId, CatalogError> {
        let id = self.ids.take()?;
        let definition = SchemaDefinition {
            id,
            name: name.into(),
            owner,
            comment: None,
        };
        self.create(id, Object::Schema(Arc::new(definition)))
    }

    /// Replaces the schema of the same id.
    pub fn replace_schema(&mut self, definition: SchemaDefinition) -> Result<(), CatalogError> {
        let before =
            Arc::clone(self.existing(self.overlay.schema_by_id(definition.id), definition.id)?);
        let renamed = (before.name != definition.name).then(|| definition.name.clone());
        self.replace(
            Object::Schema(Arc::clone(&before)),
            Object::Schema(Arc::new(definition)),
        )?;
        match renamed {
            Some(name) => self.redirect_foreign_keys(&|schema, table| {
                (schema == before.name).then(|| (name.clone(), table.to_owned()))
            }),
            None => Ok(()),
        }
    }

    pub fn rename_schema(
        &mut self,
        id: ObjectId,
        name: impl Into<String>,
    ) -> Result<(), CatalogError> {
        let mut definition = self
            .existing(self.overlay.schema_by_id(id), id)?
            .as_ref()
            .clone();
        definition.name = name.into();
        self.replace_schema(definition)
    }

    /// Drops a schema, which must be empty.
    pub fn drop_schema(&mut self, id: ObjectId) -> Result<(), CatalogError> {
        let object = Object::Schema(Arc::clone(
            self.existing(self.overlay.schema_by_id(id), id)?,
        ));
        self.change(Change::Drop(object))
    }

    /// Creates a table; the `id` of the definition is ignored and the new one returned.
    pub fn create_table(
        &mut self,
        mut definition: TableDefinition,
    ) -> Result<ObjectId, CatalogError> {
        definition.check_columns()?;
        definition.id = self.ids.take()?;
        self.create(definition.id, Object::Table(Arc::new(definition)))
    }

    /// Replaces the table of the same id. Foreign keys of other tables follow a new name.
    pub fn replace_table(&mut self, definition: TableDefinition) -> Result<(), CatalogError> {
        let before =
            Arc::clone(self.existing(self.overlay.table_by_id(definition.id), definition.id)?);
        // A table that has them already is to stay of use.
        if before.check_columns().is_ok() {
            definition.check_columns()?;
        }
        let (from, to) = (self.qualified(&before), self.qualified(&definition));
        self.replace(Object::Table(before), Object::Table(Arc::new(definition)))?;
        if from == to {
            return Ok(());
        }
        self.redirect_foreign_keys(&|schema, table| {
            (schema == from.0 && table == from.1).then(|| to.clone())
        })
    }

    pub fn drop_table(&mut self, id: ObjectId) -> Result<(), CatalogError> {
        let object = Object::Table(Arc::clone(self.existing(self.overlay.table_by_id(id), id)?));
        self.change(Change::Drop(object))
    }

    pub fn create_view(
        &mut self,
        mut definition: ViewDefinition,
    ) -> Result<ObjectId, CatalogError> {
        definition.id = self.ids.take()?;
        self.create(definition.id, Object::View(Arc::new(definition)))
    }

    pub fn replace_view(&mut self, definition: ViewDefinition) -> Result<(), CatalogError> {
        let before = self.existing(self.overlay.view_by_id(definition.id), definition.id)?;
        self.replace(
            Object::View(Arc::clone(before)),
            Object::View(Arc::new(definition)),
        )
    }

    pub fn drop_view(&mut self, id: ObjectId) -> Result<(), CatalogError> {
        let object = Object::View(Arc::clone(self.existing(self.overlay.view_by_id(id), id)?));
        self.change(Change::Drop(object))
    }

    pub fn create_connection(
        &mut self,
        mut definition: ConnectionDefinition,
    ) -> Result<ObjectId, CatalogError> {
        definition.id = self.ids.take()?;
        self.create(definition.id, Object::Connection(Arc::new(definition)))
    }

    pub fn replace_connection(
        &mut self,
        definition: ConnectionDefinition,
    ) -> Result<(), CatalogError> {
        let before = self.existing(self.overlay.connection_by_id(definition.id), definition.id)?;
        let before = Object::Connection(Arc::clone(before));
        self.replace(before, Object::Connection(Arc::new(definition)))
    }

    pub fn drop_connection(&mut self, id: ObjectId) -> Result<(), CatalogError> {
        let found = self.existing(self.overlay.connection_by_id(id), id)?;
        let object = Object::Connection(Arc::clone(found));
        self.change(Change::Drop(object))
    }

    /// Creates a secret; its value is encrypted here and now.
    pub fn create_secret(
        &mut self,
        name: impl Into<String>,
        owner: ObjectId,
        value: &Secret,
    ) -> Result<ObjectId, CatalogError> {
        let id = self.ids.take()?;
        let ciphertext = self.key.seal(id, value);
        let name = name.into();
        let definition = SecretDefinition {
            id,
            name,
            owner,
            ciphertext,
            comment: None,
        };
        self.create(id, Object::Secret(Arc::new(definition)))
    }

    /// Gives a secret a new value.
    pub fn replace_secret(&mut self, id: ObjectId, value: &Secret) -> Result<(), CatalogError> {
        let ciphertext = self.key.seal(id, value);
        let mut definition = self
            .existing(self.overlay.secret_by_id(id), id)?
            .as_ref()
            .clone();
        definition.ciphertext = ciphertext;
        self.replace_secret_definition(definition)
    }

    /// Replaces everything about a secret except its value, which it keeps: owner, name, comment.
    pub fn replace_secret_definition(
        &mut self,
        definition: SecretDefinition,
    ) -> Result<(), CatalogError> {
        let before = self.existing(self.overlay.secret_by_id(definition.id), definition.id)?;
        self.replace(
            Object::Secret(Arc::clone(before)),
            Object::Secret(Arc::new(definition)),
        )
    }

    /// Drops a secret, which no connection may use.
    pub fn drop_secret(&mut self, id: ObjectId) -> Result<(), CatalogError> {
        let object = Object::Secret(Arc::clone(
            self.existing(self.overlay.secret_by_id(id), id)?,
        ));
        self.change(Change::Drop(object))
    }

    pub fn create_pipeline(
        &mut self,
        mut definition: PipelineDefinition,
    ) -> Result<ObjectId, CatalogError> {
        definition.id = self.ids.take()?;
        self.create(definition.id, Object::Pipeline(Arc::new(definition)))
    }

    pub fn replace_pipeline(&mut self, definition: PipelineDefinition) -> Result<(), CatalogError> {
        let before = self.existing(self.overlay.pipeline_by_id(definition.id), definition.id)?;
        self.replace(
            Object::Pipeline(Arc::clone(before)),
            Object::Pipeline(Arc::new(definition)),
        )
    }

    /// Drops a pipeline with its positions, its file ledger and its quarantine; its runs stay on
    /// record.
    pub fn drop_pipeline(&mut self, id: ObjectId) -> Result<(), CatalogError> {
        let found = self.existing(self.overlay.pipeline_by_id(id), id)?;
        let object = Object::Pipeline(Arc::clone(found));
        self.change(Change::Drop(object))
    }

    pub fn create_role(
        &mut self,
        mut definition: RoleDefinition,
    ) -> Result<ObjectId, CatalogError> {
        definition.id = self.ids.take()?;
        self.create(definition.id, Object::Role(Arc::new(as_stored(definition))))
    }

    pub fn replace_role(&mut self, definition: RoleDefinition) -> Result<(), CatalogError> {
        let before = self.existing(self.overlay.role_by_id(definition.id), definition.id)?;
        let after = Object::Role(Arc::new(as_stored(definition)));
        self.replace(Object::Role(Arc::clone(before)), after)
    }

    /// Drops a role, which may own nothing and hold no grants. Its members leave it.
    pub fn drop_role(&mut self, id: ObjectId) -> Result<(), CatalogError> {
        let object = Object::Role(Arc::clone(self.existing(self.overlay.role_by_id(id), id)?));
        let members: Vec<_> = self
            .overlay
            .roles()
            .filter(|one| one.member_of.contains(&id))
            .cloned()
            .collect();
        let mut trial = self.clone();
        for member in members {
            let mut definition = member.as_ref().clone();
            definition.member_of.retain(|of| *of != id);
            trial.replace_role(definition)?;
        }
        trial.change(Change::Drop(object))?;
        *self = trial;
        Ok(())
    }

    /// Gives a privilege. Granted twice it stays once; the grant option, once given, stays.
    pub fn grant(&mut self, grant: Grant) -> Result<(), CatalogError> {
        self.change(Change::Grant(grant))
    }

    /// Takes a privilege away, or with `option_only` just the right to grant it on. Nothing happens
    /// when it is not held.
    pub fn revoke(
        &mut self,
        object: ObjectRef,
        grantee: ObjectId,
        privilege: Privilege,
        option_only: bool,
    ) -> Result<(), CatalogError> {
        self.change(Change::Revoke {
            object,
            grantee,
            privilege,
            option_only,
        })
    }

    /// Sets or removes the comment on an object, or on a column of a table or view.
    pub fn set_comment(
        &mut self,
        object: ObjectRef,
        column: Option<&str>,
        text: Option<String>,
    ) -> Result<(), CatalogError> {
        let id = object.id;
        match object.kind {
            ObjectKind::Database => self.change(Change::CommentOnDatabase(text)),
            ObjectKind::Schema => {
                let found = self.existing(self.overlay.schema_by_id(id), id)?;
                self.replace_schema(SchemaDefinition {
                    comment: text,
                    ..found.as_ref().clone()
                })
            }
            ObjectKind::Table => {
                let mut table = self
                    .existing(self.overlay.table_by_id(id), id)?
                    .as_ref()
                    .clone();
                match column {
                    None => table.comment = text,
                    Some(name) => match table.columns.iter_mut().find(|one| one.name == name) {
                        Some(column) => column.comment = text,
                        None => return Err(unknown_column(&table.name, name)),
                    },
                }
                self.replace_table(table)
            }
            ObjectKind::View => {
                let mut view = self
                    .existing(self.overlay.view_by_id(id), id)?
                    .as_ref()
                    .clone();
                match (column, text) {
                    (None, text) => view.comment = text,
                    (Some(name), _) if !view.columns.iter().any(|(one, _)| one == name) => {
                        return Err(unknown_column(&view.name, name));
                    }
                    (Some(name), Some(text)) => {
                        view.column_comments.insert(name.to_owned(), text);
                    }
                    (Some(name), None) => {
                        view.column_comments.remove(name);
                    }
                }
                self.replace_view(view)
            }
            ObjectKind::Connection => {
                let found = self.existing(self.overlay.connection_by_id(id), id)?;
                let definition = ConnectionDefinition {
                    comment: text,
                    ..found.as_ref().clone()
                };
                self.replace_connection(definition)
            }
            ObjectKind::Secret => {
                let found = self.existing(self.overlay.secret_by_id(id), id)?;
                let definition = SecretDefinition {
                    comment: text,
                    ..found.as_ref().clone()
                };
                self.replace_secret_definition(definition)
            }
            ObjectKind::Pipeline => {
                let found = self.existing(self.overlay.pipeline_by_id(id), id)?;
                self.replace_pipeline(PipelineDefinition {
                    comment: text,
                    ..found.as_ref().clone()
                })
            }
            ObjectKind::Role => {
                let found = self.existing(self.overlay.role_by_id(id), id)?;
                self.replace_role(RoleDefinition {
                    comment: text,
                    ..found.as_ref().clone()
                })
            }
        }
    }

    fn create(&mut self, id: ObjectId, object: Object) -> Result<ObjectId, CatalogError> {
        self.change(Change::Create(object))?;
        Ok(id)
    }

    fn replace(&mut self, before: Object, after: Object) -> Result<(), CatalogError> {
        if before == after {
            return Ok(());
        }
        self.change(Change::Replace { before, after })
    }

    fn change(&mut self, change: Change) -> Result<(), CatalogError> {
        change.apply(&mut self.overlay)?;
        self.overlay.stamp = NEXT_STAMP.fetch_add(1, Ordering::Relaxed);
        self.changes.push(change);
        Ok(())
    }

    fn existing<'a, T: Named>(
        &self,
        found: Option<&'a Arc<T>>,
        id: ObjectId,
    ) -> Result<&'a Arc<T>, CatalogError> {
        found.ok_or(CatalogError::UnknownId { kind: T::KIND, id })
    }

    fn qualified(&self, table: &TableDefinition) -> QualifiedName {
        let schema = self.overlay.schema_by_id(table.schema);
        (
            schema.map(|one| one.name.clone()).unwrap_or_default(),
            table.name.clone(),
        )
    }

    /// Points the foreign keys of all tables at what `redirect` gives for their target's old name.
    fn redirect_foreign_keys(
        &mut self,
        redirect: &dyn Fn(&str, &str) -> Option<QualifiedName>,
    ) -> Result<(), CatalogError> {
        let tables: Vec<_> = self.overlay.tables().cloned().collect();
        for before in tables {
            let mut after = before.as_ref().clone();
            for key in &mut after.foreign_keys {
                if let Some((schema, table)) =
                    redirect(&key.references_schema, &key.references_table)
                {
                    key.references_schema = schema;
                    key.references_table = table;
                }
            }
            self.replace(Object::Table(before), Object::Table(Arc::new(after)))?;
        }
        Ok(())
    }
}

/// A table or a view as an object of a change.
impl From<Relation<'_>> for Object {
    fn from(relation: Relation<'_>) -> Self {
        match relation {
            Relation::Table(table) => Self::Table(Arc::clone(table)),
            Relation::View(view) => Self::View(Arc::clone(view)),
        }
    }
}

/// A role as the store will give it back, so that it compares equal to what others load.
fn as_stored(mut role: RoleDefinition) -> RoleDefinition {
    role.member_of.sort_unstable();
    role.member_of.dedup();
    role.valid_until = role
        .valid_until
        .and_then(|time| DateTime::from_timestamp_micros(time.timestamp_micros()));
    role
}

fn unknown_column(relation: &str, column: &str) -> CatalogError {
    CatalogError::UnknownColumn {
        relation: relation.to_owned(),
        column: column.to_owned(),
    }
}

#[cfg(test)]
mod tests;
