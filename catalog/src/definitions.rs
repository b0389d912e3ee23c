//! What each kind of object is made of, as plain data.
//!
//! A definition refers to other objects by [`ObjectId`], which no rename changes; only a foreign key
//! names its target, because that is what the lake's own table metadata can hold. Definitions are
//! stored as JSON, so a field added later needs `#[serde(default)]`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::CatalogError;
use crate::types::ColumnType;

/// Identifies an object for as long as the catalog lives; never given twice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ObjectId(pub i64);

impl ObjectId {
    /// Stands for everyone in a [`Grant`].
    pub const PUBLIC: Self = Self(0);
    /// The one database, as an object rights are granted on.
    pub const DATABASE: Self = Self(1);
    /// The role `boathouse`, which may do everything.
    pub const SUPERUSER: Self = Self(10);
    /// The first id of an object somebody created, as in PostgreSQL; ids below it are built in.
    pub const FIRST_USER: Self = Self(16384);

    /// The id as PostgreSQL's catalogs show it.
    pub fn oid(self) -> u32 {
        // Ids are handed out from the range of `u32`, see `store::ids`.
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// Whether the object came with the program, so that it can be neither dropped nor renamed.
    pub fn is_built_in(self) -> bool {
        self < Self::FIRST_USER
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The kinds of object a right can be granted on or a comment be made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    Database,
    Schema,
    Table,
    View,
    Connection,
    Secret,
    Pipeline,
    Role,
}

impl ObjectKind {
    /// The name in messages and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Schema => "schema",
            Self::Table => "table",
            Self::View => "view",
            Self::Connection => "connection",
            Self::Secret => "secret",
            Self::Pipeline => "pipeline",
            Self::Role => "role",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        const ALL: [ObjectKind; 8] = [
            ObjectKind::Database,
            ObjectKind::Schema,
            ObjectKind::Table,
            ObjectKind::View,
            ObjectKind::Connection,
            ObjectKind::Secret,
            ObjectKind::Pipeline,
            ObjectKind::Role,
        ];
        ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What `GRANT ALL` gives on this kind of object.
    pub fn privileges(self) -> &'static [Privilege] {
        match self {
            Self::Database => &[Privilege::Create, Privilege::Connect, Privilege::Temporary],
            Self::Schema => &[Privilege::Usage, Privilege::Create],
            Self::Table | Self::View => &[
                Privilege::Insert,
                Privilege::Select,
                Privilege::Update,
                Privilege::Delete,
                Privilege::Truncate,
                Privilege::References,
                Privilege::Trigger,
            ],
            Self::Connection | Self::Secret => &[Privilege::Usage],
            Self::Pipeline => &[Privilege::Select, Privilege::Execute],
            Self::Role => &[],
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One object, of whatever kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    pub kind: ObjectKind,
    pub id: ObjectId,
}

impl ObjectRef {
    pub const DATABASE: Self = Self {
        kind: ObjectKind::Database,
        id: ObjectId::DATABASE,
    };

    pub fn new(kind: ObjectKind, id: ObjectId) -> Self {
        Self { kind, id }
    }
}

/// A right on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    References,
    Trigger,
    Usage,
    Create,
    Connect,
    Temporary,
    /// To run or replay a pipeline.
    Execute,
}

impl Privilege {
    pub const ALL: [Self; 12] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Truncate,
        Self::References,
        Self::Trigger,
        Self::Usage,
        Self::Create,
        Self::Connect,
        Self::Temporary,
        Self::Execute,
    ];

    /// The word in `GRANT`.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::References => "REFERENCES",
            Self::Trigger => "TRIGGER",
            Self::Usage => "USAGE",
            Self::Create => "CREATE",
            Self::Connect => "CONNECT",
            Self::Temporary => "TEMPORARY",
            Self::Execute => "EXECUTE",
        }
    }

    /// The letter in an access list such as `boathouse=arwdDxt/boathouse`.
    pub fn letter(self) -> char {
        match self {
            Self::Select => 'r',
            Self::Insert => 'a',
            Self::Update => 'w',
            Self::Delete => 'd',
            Self::Truncate => 'D',
            Self::References => 'x',
            Self::Trigger => 't',
            Self::Usage => 'U',
            Self::Create => 'C',
            Self::Connect => 'c',
            Self::Temporary => 'T',
            Self::Execute => 'X',
        }
    }

    /// Reads the word in `GRANT`, without regard to case; `TEMP` is `TEMPORARY`.
    pub fn from_keyword(word: &str) -> Option<Self> {
        let word = if word.eq_ignore_ascii_case("TEMP") {
            "TEMPORARY"
        } else {
            word
        };
        Self::ALL
            .into_iter()
            .find(|one| one.keyword().eq_ignore_ascii_case(word))
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.keyword())
    }
}

/// A privilege somebody holds on an object. What the owner may do is not written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Grant {
    pub object: ObjectRef,
    /// The role, or [`ObjectId::PUBLIC`].
    pub grantee: ObjectId,
    pub privilege: Privilege,
    /// `WITH GRANT OPTION`.
    pub grantable: bool,
}

/// A namespace of tables and views.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchemaDefinition {
    pub id: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    pub comment: Option<String>,
}

/// A table of the lake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableDefinition {
    pub id: ObjectId,
    pub schema: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    /// Where its files are: relative to the lake, or an absolute URL.
    pub location: String,
    pub columns: Vec<ColumnDefinition>,
    #[serde(default)]
    pub partition_by: Vec<String>,
    #[serde(default)]
    pub primary_key: Option<KeyConstraint>,
    #[serde(default)]
    pub unique_keys: Vec<KeyConstraint>,
    #[serde(default)]
    pub foreign_keys: Vec<ForeignKey>,
    #[serde(default)]
    pub checks: Vec<CheckConstraint>,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    #[serde(default)]
    pub comment: Option<String>,
    /// What data files call the columns that were dropped: their values stay there, so no other column
    /// may be called so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_columns: Vec<String>,
}

impl TableDefinition {
    /// A table without columns at a location; the rest is for the caller to fill in.
    pub fn new(
        schema: ObjectId,
        name: impl Into<String>,
        owner: ObjectId,
        location: impl Into<String>,
    ) -> Self {
        Self {
            id: ObjectId::default(),
            schema,
            name: name.into(),
            owner,
            location: location.into(),
            columns: Vec::new(),
            partition_by: Vec::new(),
            primary_key: None,
            unique_keys: Vec::new(),
            foreign_keys: Vec::new(),
            checks: Vec::new(),
            properties: BTreeMap::new(),
            comment: None,
            dropped_columns: Vec::new(),
        }
    }

    pub fn column(&self, name: &str) -> Option<&ColumnDefinition> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Refuses columns whose names differ in case only.
    pub fn check_columns(&self) -> Result<(), CatalogError> {
        let mut met: HashMap<String, &str> = HashMap::new();
        for column in &self.columns {
            if let Some(one) = met.insert(column.name.to_lowercase(), &column.name)
                && one != column.name
            {
                return Err(CatalogError::AlikeColumns {
                    relation: self.name.clone(),
                    one: one.to_owned(),
                    other: column.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// Adds a column after the others. One whose name data files use for another gets a name of its own
    /// there.
    pub fn add_column(&mut self, mut column: ColumnDefinition) {
        let taken = |name: &str| {
            self.dropped_columns.iter().any(|dropped| dropped == name)
                || self
                    .columns
                    .iter()
                    .any(|other| other.name_in_files() == name)
        };
        if taken(column.name_in_files()) {
            column.name_apart();
        }
        self.columns.push(column);
    }

    /// Takes a column out. Data files keep its values.
    pub fn drop_column(&mut self, name: &str) -> Option<ColumnDefinition> {
        let at = self.columns.iter().position(|column| column.name == name)?;
        let column = self.columns.remove(at);
        self.dropped_columns.push(column.name_in_files().to_owned());
        Some(column)
    }

    /// Whether columns may be called otherwise in data files.
    pub fn maps_columns(&self) -> bool {
        !self.dropped_columns.is_empty()
            || self
                .columns
                .iter()
                .any(|column| column.name_in_files.is_some())
    }
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnDefinition {
    pub name: String,
    pub column_type: ColumnType,
    pub nullable: bool,
    /// The DEFAULT expression, as text.
    #[serde(default)]
    pub default: Option<String>,
    #[serde(default)]
    pub comment: Option<String>,
    /// What data files call it, when that is another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_in_files: Option<String>,
}

impl ColumnDefinition {
    pub fn new(name: impl Into<String>, column_type: ColumnType, nullable: bool) -> Self {
        Self {
            name: name.into(),
            column_type,
            nullable,
            default: None,
            comment: None,
            name_in_files: None,
        }
    }

    /// Has data files call it by a name that none has used.
    pub fn name_apart(&mut self) {
        self.name_in_files = Some(format!("col-{}", uuid::Uuid::new_v4()));
    }

    /// What data files call it. Stays the same for as long as the column lives.
    pub fn name_in_files(&self) -> &str {
        self.name_in_files.as_deref().unwrap_or(&self.name)
    }

    /// Gives it another name. Data files keep the old one.
    pub fn rename(&mut self, to: &str) {
        let in_files = self.name_in_files().to_owned();
        to.clone_into(&mut self.name);
        self.name_in_files = Some(in_files);
    }
}

/// PRIMARY KEY or UNIQUE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyConstraint {
    pub name: String,
    pub columns: Vec<String>,
}

/// FOREIGN KEY ... REFERENCES.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    pub name: String,
    pub columns: Vec<String>,
    pub references_schema: String,
    pub references_table: String,
    pub references_columns: Vec<String>,
}

/// CHECK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckConstraint {
    pub name: String,
    pub expression: String,
}

/// A named query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewDefinition {
    pub id: ObjectId,
    pub schema: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    /// The canonical text of the query.
    pub query: String,
    pub columns: Vec<(String, ColumnType)>,
    #[serde(default)]
    pub comment: Option<String>,
    /// Comments on columns, by column name.
    #[serde(default)]
    pub column_comments: BTreeMap<String, String>,
}

/// How to reach an outside system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionDefinition {
    pub id: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    /// The name of the connector, in capitals: `LOCAL`, `S3`, `SFTP`.
    pub kind: String,
    pub options: BTreeMap<String, OptionValue>,
    #[serde(default)]
    pub comment: Option<String>,
}

/// The value of an option as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionValue {
    Text(String),
    /// The name of a secret.
    Secret(String),
}

/// A secret, encrypted. Its value comes from [`crate::Catalog::reveal_secret`] only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDefinition {
    pub id: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    /// Nonce and ciphertext in base64, bound to `id`.
    pub ciphertext: String,
    #[serde(default)]
    pub comment: Option<String>,
}

impl fmt::Debug for SecretDefinition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SecretDefinition")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// A pipeline: its statement, and what was changed about it since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineDefinition {
    pub id: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    /// The canonical text of CREATE PIPELINE.
    pub statement: String,
    pub paused: bool,
    #[serde(default)]
    pub options: BTreeMap<String, OptionValue>,
    #[serde(default)]
    pub comment: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// A role: a user, a group, or both.
#[derive(Clone, PartialEq, Eq)]
pub struct RoleDefinition {
    pub id: ObjectId,
    pub name: String,
    pub superuser: bool,
    pub login: bool,
    /// Whether it has the rights of the roles it is a member of without `SET ROLE`.
    pub inherit: bool,
    pub create_role: bool,
    pub create_database: bool,
    /// Sessions at once; -1 is no limit.
    pub connection_limit: i32,
    /// When the password stops working.
    pub valid_until: Option<DateTime<Utc>>,
    /// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, see [`crate::password`].
    pub verifier: Option<String>,
    /// The roles it is directly a member of.
    pub member_of: Vec<ObjectId>,
    /// `ALTER ROLE ... SET`.
    pub settings: BTreeMap<String, String>,
    pub comment: Option<String>,
}

impl RoleDefinition {
    /// A role with PostgreSQL's defaults of CREATE ROLE: no login, inherits, nothing else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            id: ObjectId::default(),
            name: name.into(),
            superuser: false,
            login: false,
            inherit: true,
            create_role: false,
            create_database: false,
            connection_limit: -1,
            valid_until: None,
            verifier: None,
            member_of: Vec::new(),
            settings: BTreeMap::new(),
            comment: None,
        }
    }
}

/// Leaves the verifier out: it is as good as a password to whoever runs a server of their own.
impl fmt::Debug for RoleDefinition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RoleDefinition")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("superuser", &self.superuser)
            .field("login", &self.login)
            .field("member_of", &self.member_of)
            .finish_non_exhaustive()
    }
}
