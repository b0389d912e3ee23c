//! The handle on a catalog: the newest snapshot, commits, secrets, and the stores of state.
//!
//! ```text
//! commit: lock the version -> load what others committed -> apply the changes -> write -> publish
//! ```
//!
//! The version's row orders the commits of all processes, and the in-memory checks run while it is
//! held, so two processes never both take a name. A commit runs in a task of its own: whoever waits
//! for it may go away, and it is finished or undone all the same.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use crate::definitions::{ObjectId, ObjectKind, RoleDefinition};
use crate::error::CatalogError;
use crate::password::verifier_of;
use crate::secret::{MasterKey, Secret};
use crate::snapshot::Snapshot;
use crate::state::{AuditLog, Captures, FileLedger, Leases, Positions, QuarantineLedger, Runs};
use crate::store::database::{Database, file_url};
use crate::store::ids::{BLOCK, IdAllocator};
use crate::store::{load, write};
use crate::transaction::Transaction;

/// What the key check seals, and the object it is sealed for: none.
const KEY_CHECK: &str = "boathouse";
const KEY_CHECK_OBJECT: ObjectId = ObjectId::PUBLIC;

/// How often [`Catalog::set_password`] starts over when others change the role meanwhile.
const ATTEMPTS_MAX: u32 = 10;

/// How a catalog is opened.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// Database connections at most.
    pub connections_max: u32,
    /// How often the version is looked at, so that the commits of other processes are seen.
    pub poll_interval: Duration,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self {
            connections_max: 4,
            poll_interval: Duration::from_millis(250),
        }
    }
}

/// An open catalog. Clones share it; the background refresh ends with the last of them.
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    snapshot: RwLock<Arc<Snapshot>>,
    ids: Arc<IdAllocator>,
    key: Arc<MasterKey>,
}

impl Catalog {
    /// Opens a catalog, creating it or bringing it to this version of the program as needed.
    /// `url` is `sqlite:///path/catalog.db` (see [`Catalog::url_of_file`]) or `postgres://...`.
    /// Must be called within a Tokio runtime.
    pub async fn open(
        url: &str,
        key: MasterKey,
        options: CatalogOptions,
    ) -> Result<Self, CatalogError> {
        let database = Database::open(url, options.connections_max).await?;
        check_key(&database, &key).await?;
        let mut reading = database.read().await?;
        let snapshot = load::snapshot(&mut reading).await?;
        reading.rollback().await?;
        let shared = Arc::new(Shared {
            database,
            snapshot: RwLock::new(Arc::new(snapshot)),
            ids: Arc::default(),
            key: Arc::new(key),
        });
        shared.reserve_ids(BLOCK).await?;
        tokio::spawn(follow(Arc::downgrade(&shared), options.poll_interval));
        Ok(Self { shared })
    }

    /// The URL of a catalog in a SQLite file, whatever characters its path has.
    pub fn url_of_file(path: &Path) -> String {
        file_url(path)
    }

    /// The newest snapshot this process knows. Own commits are in it at once, those of other
    /// processes within the poll interval.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot()
    }

    /// Looks for commits of other processes now.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>, CatalogError> {
        self.shared.refresh().await
    }

    /// The newest snapshot once no commit is on its way any more. It tells what became of a commit that
    /// ended with [`CatalogError::Unreachable`].
    pub async fn settle(&self) -> Result<Arc<Snapshot>, CatalogError> {
        self.shared.settle().await
    }

    /// Begins a transaction on the newest known snapshot.
    pub fn begin(&self) -> Transaction {
        let shared = &self.shared;
        Transaction::begin(
            &shared.snapshot(),
            Arc::clone(&shared.ids),
            Arc::clone(&shared.key),
        )
    }

    /// Makes the changes of a transaction durable and visible, all or none. On an error nothing has
    /// changed, except that after [`CatalogError::Unreachable`] it may have: the reply was lost.
    pub async fn commit(&self, transaction: Transaction) -> Result<Arc<Snapshot>, CatalogError> {
        if transaction.is_empty() {
            return Ok(self.snapshot());
        }
        let shared = Arc::clone(&self.shared);
        let commit = tokio::spawn(async move { shared.commit(&transaction).await });
        match commit.await {
            Ok(committed) => committed,
            Err(stopped) => Err(CatalogError::Unreachable(Box::new(stopped))),
        }
    }

    /// Reserves ids, so that one transaction can create this many objects. Without it a transaction
    /// can create at least five hundred.
    pub async fn reserve_ids(&self, count: u32) -> Result<(), CatalogError> {
        let missing = i64::from(count) - self.shared.ids.available();
        if missing > 0 {
            self.shared.reserve_ids(missing).await
        } else {
            Ok(())
        }
    }

    /// The value of a secret, for whoever connects with it. Authorization is the caller's.
    pub async fn reveal_secret(&self, name: &str) -> Result<Secret, CatalogError> {
        let snapshot = match self.snapshot() {
            known if known.secret(name).is_some() => known,
            _ => self.refresh().await?,
        };
        self.reveal_secret_in(&snapshot, name)
    }

    /// The value of a secret as a transaction's own snapshot has it.
    pub fn reveal_secret_in(
        &self,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<Secret, CatalogError> {
        let Some(secret) = snapshot.secret(name) else {
            let kind = ObjectKind::Secret;
            return Err(CatalogError::NotFound {
                kind,
                name: name.to_owned(),
            });
        };
        self.shared
            .key
            .open(secret.id, &secret.ciphertext)
            .ok_or_else(|| CatalogError::UnreadableSecret(name.to_owned()))
    }

    /// Encrypts a value for an object, as [`Transaction::create_secret`] does.
    pub fn encrypt(&self, object: ObjectId, value: &Secret) -> String {
        self.shared.key.seal(object, value)
    }

    /// Gives a role a password (or a verifier in PostgreSQL's form), whatever it had before.
    pub async fn set_password(&self, role: &str, password: &Secret) -> Result<(), CatalogError> {
        self.store_password(role, password, |_| true)
            .await
            .map(|_| ())
    }

    /// Gives a role a password if it has none. Of several processes that do so at once one succeeds;
    /// the others are told `false`.
    pub async fn initialize_password(
        &self,
        role: &str,
        password: &Secret,
    ) -> Result<bool, CatalogError> {
        self.store_password(role, password, |role| role.verifier.is_none())
            .await
    }

    async fn store_password(
        &self,
        name: &str,
        password: &Secret,
        wanted: impl Fn(&RoleDefinition) -> bool,
    ) -> Result<bool, CatalogError> {
        let verifier = verifier_of(password.expose());
        let mut attempt = 1;
        loop {
            let mut transaction = self.begin();
            let Some(role) = transaction.snapshot().role(name) else {
                let kind = ObjectKind::Role;
                return Err(CatalogError::NotFound {
                    kind,
                    name: name.to_owned(),
                });
            };
            if !wanted(role) {
                return Ok(false);
            }
            let mut role = role.as_ref().clone();
            role.verifier = Some(verifier.clone());
            transaction.replace_role(role)?;
            match self.commit(transaction).await {
                Ok(_) => return Ok(true),
                Err(CatalogError::ConcurrentUpdate { .. }) if attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                    self.refresh().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks the database for an answer, to know that it is there.
    pub async fn ping(&self) -> Result<(), CatalogError> {
        let mut connection = self.shared.database.pool().acquire().await?;
        load::version(&mut connection).await.map(|_| ())
    }

    pub fn runs(&self) -> Runs {
        Runs::new(self.shared.database.clone())
    }

    pub fn positions(&self) -> Positions {
        Positions::new(self.shared.database.clone())
    }

    pub fn captures(&self) -> Captures {
        Captures::new(self.shared.database.clone())
    }

    pub fn files(&self) -> FileLedger {
        FileLedger::new(self.shared.database.clone())
    }

    pub fn quarantine(&self) -> QuarantineLedger {
        QuarantineLedger::new(self.shared.database.clone())
    }

    /// Whether servers on several machines may share it.
    pub fn is_shared(&self) -> bool {
        self.shared.database.is_shared()
    }

    pub fn leases(&self) -> Leases {
        Leases::new(self.shared.database.clone())
    }

    pub fn audit_log(&self) -> AuditLog {
        AuditLog::new(self.shared.database.clone())
    }

    /// Closes the connections. Everything that still uses the catalog fails from then on.
    pub async fn close(&self) {
        self.shared.database.close().await;
    }
}

impl Shared {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a snapshot the newest, unless a newer one is known.
    fn publish(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let mut newest = self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if snapshot.version > newest.version {
            *newest = snapshot;
        }
        Arc::clone(&newest)
    }

    async fn refresh(&self) -> Result<Arc<Snapshot>, CatalogError> {
        let mut reading = self.database.read().await?;
        let known = self.snapshot();
        let snapshot = if load::version(&mut reading).await? == known.version {
            known
        } else {
            self.publish(Arc::new(load::snapshot(&mut reading).await?))
        };
        reading.rollback().await?;
        Ok(snapshot)
    }

    async fn settle(&self) -> Result<Arc<Snapshot>, CatalogError> {
        // Taking the version's row waits for whoever still holds it.
        let mut writing = self.database.write().await?;
        write::next_version(&mut writing).await?;
        drop(writing);
        self.refresh().await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<Arc<Snapshot>, CatalogError> {
        let mut writing = self.database.write().await?;
        let version = write::next_version(&mut writing).await?;
        let known = self.snapshot();
        let mut newest = if known.version + 1 == version {
            known.as_ref().clone()
        } else {
            load::snapshot(&mut writing).await?
        };
        for change in transaction.changes() {
            change.apply(&mut newest)?;
            write::change(&mut writing, change).await?;
        }
        newest.version = version;
        let wanted = self.missing_ids();
        let first = match wanted {
            0 => 0,
            count => write::reserve(&mut writing, "object", count).await?,
        };
        writing.commit().await?;
        self.ids.add(first..first + wanted);
        Ok(self.publish(Arc::new(newest)))
    }

    /// How many ids to reserve, so that half a block is always at hand.
    fn missing_ids(&self) -> i64 {
        if self.ids.available() < BLOCK / 2 {
            BLOCK
        } else {
            0
        }
    }

    async fn reserve_ids(&self, count: i64) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        let first = write::reserve(&mut writing, "object", count).await?;
        writing.commit().await?;
        self.ids.add(first..first + count);
        Ok(())
    }
}

/// Leaves a check value in a new catalog, and compares the key with it in every other. Of two
/// processes that create a catalog at once the first decides.
async fn check_key(database: &Database, key: &MasterKey) -> Result<(), CatalogError> {
    let read = || sqlx::query_scalar::<_, Option<String>>("SELECT key_check FROM catalog_state");
    let stored = match read().fetch_one(database.pool()).await? {
        Some(stored) => stored,
        None => {
            let check = key.seal(KEY_CHECK_OBJECT, &Secret::new(KEY_CHECK));
            let mut writing = database.write().await?;
            let query =
                sqlx::query("UPDATE catalog_state SET key_check = $1 WHERE key_check IS NULL");
            query.bind(check).execute(&mut *writing).await?;
            let stored = read().fetch_one(&mut *writing).await?;
            writing.commit().await?;
            stored.unwrap_or_default()
        }
    };
    match key.open(KEY_CHECK_OBJECT, &stored) {
        Some(check) if check.expose() == KEY_CHECK => Ok(()),
        _ => Err(CatalogError::WrongKey),
    }
}

/// Refreshes the snapshot for as long as somebody holds the catalog, and keeps ids in reserve.
async fn follow(shared: Weak<Shared>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reachable = true;
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if shared.database.pool().is_closed() {
            return;
        }
        let result = match shared.refresh().await {
            Ok(_) if shared.missing_ids() > 0 => shared.reserve_ids(BLOCK).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match &result {
            Ok(()) if !reachable => tracing::info!("the catalog can be read again"),
            Err(error) if reachable => {
                let cause = std::error::Error::source(error).map(ToString::to_string);
                tracing::warn!(%error, cause, "the catalog cannot be read; its last state is used");
            }
            _ => {}
        }
        reachable = result.is_ok();
    }
}

#[cfg(test)]
mod tests;
