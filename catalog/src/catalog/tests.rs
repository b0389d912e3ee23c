//! Commits, on both databases: what others see, what clashes, and what survives.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use expect_test::expect;

use super::*;
use crate::definitions::{
    ConnectionDefinition, ForeignKey, Grant, ObjectRef, OptionValue, Privilege, RoleDefinition,
    ViewDefinition,
};
use crate::testing::{TestDatabase, create_role, on_both, on_postgres, on_sqlite, pipeline, table};
use crate::types::ColumnType;

/// An error as a client gets it.
fn words(error: &CatalogError) -> String {
    format!("{}: {error}", error.sqlstate())
}

async fn create_table(catalog: &Catalog, name: &str) -> ObjectId {
    let mut transaction = catalog.begin();
    let id = transaction
        .create_table(table(transaction.snapshot(), name))
        .unwrap();
    catalog.commit(transaction).await.unwrap();
    id
}

#[test]
fn a_new_catalog_has_what_is_built_in() {
    on_both(async |database: TestDatabase| {
        let snapshot = database.open().await.snapshot();
        let mut lines: Vec<_> = snapshot
            .roles()
            .map(|role| {
                format!(
                    "role {} {} superuser={}",
                    role.id, role.name, role.superuser
                )
            })
            .collect();
        lines.extend(
            snapshot
                .schemas()
                .map(|schema| format!("schema {} {}", schema.id, schema.name)),
        );
        lines.extend(snapshot.grants().map(|grant| {
            let name = snapshot.name(grant.object).unwrap();
            format!(
                "{} on {} {name} to {}",
                grant.privilege, grant.object.kind, grant.grantee
            )
        }));
        expect![[r#"
            role 10 boathouse superuser=true
            role 3373 pg_monitor superuser=false
            role 6181 pg_read_all_data superuser=false
            role 4569 pg_read_server_files superuser=false
            role 6182 pg_write_all_data superuser=false
            role 4570 pg_write_server_files superuser=false
            schema 13000 information_schema
            schema 11 pg_catalog
            schema 2200 public
            schema 13001 system
            CONNECT on database boathouse to 0
            TEMPORARY on database boathouse to 0
            USAGE on schema pg_catalog to 0
            USAGE on schema public to 0
            USAGE on schema information_schema to 0
            USAGE on schema system to 0
        "#]]
        .assert_eq(&format!("{}\n", lines.join("\n")));
    });
}

#[test]
fn everything_committed_is_there_after_opening_again() {
    on_both(async |database: TestDatabase| {
        let catalog = database.open().await;
        let mut transaction = catalog.begin();
        let ada = transaction
            .create_role(RoleDefinition {
                login: true,
                connection_limit: 3,
                valid_until: Some(chrono::Utc::now()),
                verifier: Some(verifier_of("tiger")),
                settings: BTreeMap::from([("search_path".to_owned(), "gold".to_owned())]),
                member_of: vec![ObjectId(6181), ObjectId(3373), ObjectId(6181)],
                ..RoleDefinition::new("ada")
            })
            .unwrap();
        let gold = transaction.create_schema("gold", ada).unwrap();
        let mut orders = table(transaction.snapshot(), "orders");
        orders.schema = gold;
        let orders = transaction.create_table(orders).unwrap();
        let mut items = table(transaction.snapshot(), "items");
        items.foreign_keys.push(ForeignKey {
            name: "items_order".to_owned(),
            columns: vec!["id".to_owned()],
            references_schema: "gold".to_owned(),
            references_table: "orders".to_owned(),
            references_columns: vec!["id".to_owned()],
        });
        let items = transaction.create_table(items).unwrap();
        let view = transaction
            .create_view(ViewDefinition {
                id: ObjectId::default(),
                schema: gold,
                name: "cheap".to_owned(),
                owner: ada,
                query: "SELECT id FROM gold.orders".to_owned(),
                columns: vec![("id".to_owned(), ColumnType::BigInt)],
                comment: None,
                column_comments: BTreeMap::new(),
            })
            .unwrap();
        let secret = transaction
            .create_secret("pw", ada, &Secret::new("tiger"))
            .unwrap();
        let connection = transaction
            .create_connection(ConnectionDefinition {
                id: ObjectId::default(),
                name: "inbox".to_owned(),
                owner: ada,
                kind: "SFTP".to_owned(),
                options: BTreeMap::from([
                    ("host".to_owned(), OptionValue::Text("files".to_owned())),
                    ("password".to_owned(), OptionValue::Secret("pw".to_owned())),
                ]),
                comment: None,
            })
            .unwrap();
        let stock = transaction.create_pipeline(pipeline("stock")).unwrap();
        let select = Grant {
            object: ObjectRef::new(ObjectKind::Table, orders),
            grantee: ObjectId::PUBLIC,
            privilege: Privilege::Select,
            grantable: false,
        };
        transaction.grant(select).unwrap();
        for (kind, id) in [
            (ObjectKind::Database, ObjectId::DATABASE),
            (ObjectKind::Schema, gold),
            (ObjectKind::Table, orders),
            (ObjectKind::View, view),
            (ObjectKind::Connection, connection),
            (ObjectKind::Secret, secret),
            (ObjectKind::Pipeline, stock),
            (ObjectKind::Role, ada),
        ] {
            let text = Some(format!("a {kind}"));
            transaction
                .set_comment(ObjectRef::new(kind, id), None, text)
                .unwrap();
        }
        let price = Some("with tax".to_owned());
        let of_orders = ObjectRef::new(ObjectKind::Table, orders);
        transaction
            .set_comment(of_orders, Some("price"), price)
            .unwrap();
        // A new name of the schema reaches the foreign key that refers to it.
        transaction.rename_schema(gold, "mart").unwrap();

        let own = catalog.commit(transaction).await.unwrap();
        assert!(Arc::ptr_eq(&own, &catalog.snapshot()));
        let other = database.open().await;
        assert_eq!(format!("{own:?}"), format!("{:?}", other.snapshot()));
        assert_eq!(
            own.role("ada").unwrap(),
            other.snapshot().role("ada").unwrap()
        );
        assert_eq!(
            own.table("public", "items").unwrap().foreign_keys[0].references_schema,
            "mart"
        );
        assert_eq!(other.reveal_secret("pw").await.unwrap().expose(), "tiger");

        let mut transaction = other.begin();
        transaction.drop_table(items).unwrap();
        transaction.drop_table(orders).unwrap();
        transaction.drop_view(view).unwrap();
        transaction.drop_schema(gold).unwrap();
        transaction.drop_connection(connection).unwrap();
        transaction.drop_secret(secret).unwrap();
        transaction.drop_pipeline(stock).unwrap();
        transaction.drop_role(ada).unwrap();
        let of_database = ObjectRef::DATABASE;
        transaction.set_comment(of_database, None, None).unwrap();
        other.commit(transaction).await.unwrap();
        let left = catalog.refresh().await.unwrap();
        let again = database.open().await.snapshot();
        assert_eq!(format!("{left:?}"), format!("{again:?}"));
        assert_eq!(left.roles().count(), 6);
        assert_eq!(left.grants().count(), 6);
    });
}

#[test]
fn two_processes_cannot_take_one_name() {
    on_both(async |database: TestDatabase| {
        let (one, two) = (database.open().await, database.open().await);
        let (mut first, mut second) = (one.begin(), two.begin());
        first
            .create_table(table(first.snapshot(), "orders"))
            .unwrap();
        second
            .create_table(table(second.snapshot(), "orders"))
            .unwrap();
        one.commit(first).await.unwrap();
        let error = two.commit(second).await.unwrap_err();
        assert_eq!(words(&error), "42P07: relation \"orders\" already exists");
        assert!(
            two.snapshot().table("public", "orders").is_none(),
            "not yet refreshed"
        );
        assert!(
            two.refresh()
                .await
                .unwrap()
                .table("public", "orders")
                .is_some()
        );
        create_table(&two, "items").await;
        assert!(
            one.refresh()
                .await
                .unwrap()
                .table("public", "items")
                .is_some()
        );
    });
}

#[test]
fn of_two_concurrent_alters_the_second_fails() {
    on_both(async |database: TestDatabase| {
        let (one, two) = (database.open().await, database.open().await);
        let id = create_table(&one, "orders").await;
        two.refresh().await.unwrap();
        let renamed = |transaction: &mut Transaction, name: &str| {
            let mut table = transaction
                .snapshot()
                .table_by_id(id)
                .unwrap()
                .as_ref()
                .clone();
            table.name = name.to_owned();
            transaction.replace_table(table).unwrap();
        };
        let (mut first, mut second) = (one.begin(), two.begin());
        renamed(&mut first, "sales");
        renamed(&mut second, "purchases");
        second.create_schema("gold", ObjectId::SUPERUSER).unwrap();
        one.commit(first).await.unwrap();
        let error = two.commit(second).await.unwrap_err();
        assert_eq!(
            words(&error),
            "40001: could not serialize access due to concurrent update of table \"orders\""
        );
        assert!(error.retryable());
        let snapshot = two.refresh().await.unwrap();
        assert!(snapshot.table("public", "sales").is_some());
        assert!(
            snapshot.schema("gold").is_none(),
            "nothing of a failed transaction stays"
        );

        let (mut dropping, mut altering) = (one.begin(), two.begin());
        dropping.drop_table(id).unwrap();
        renamed(&mut altering, "orders");
        one.commit(dropping).await.unwrap();
        assert_eq!(two.commit(altering).await.unwrap_err().sqlstate(), "40001");
    });
}

#[test]
fn many_writers_lose_nothing() {
    on_both(async |database: TestDatabase| {
        let (one, two) = (database.open().await, database.open().await);
        let writers: Vec<_> = (0..40)
            .map(|number| {
                let catalog = if number % 2 == 0 {
                    one.clone()
                } else {
                    two.clone()
                };
                tokio::spawn(async move { create_table(&catalog, &format!("t{number}")).await })
            })
            .collect();
        let mut ids = Vec::new();
        for writer in writers {
            ids.push(writer.await.unwrap());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 40, "no id is given twice");
        let (left, right) = (one.refresh().await.unwrap(), two.refresh().await.unwrap());
        assert_eq!(left.tables().count(), 40);
        assert_eq!(format!("{left:?}"), format!("{right:?}"));
        assert_eq!(left.version(), 41);
    });
}

#[test]
fn a_commit_goes_on_when_nobody_waits_for_it() {
    on_both(async |database: TestDatabase| {
        let catalog = database.open().await;
        let mut transaction = catalog.begin();
        transaction
            .create_table(table(transaction.snapshot(), "orders"))
            .unwrap();
        let commit = catalog.commit(transaction);
        let mut commit = Box::pin(commit);
        std::future::poll_fn(|context| {
            assert!(commit.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        drop(commit);
        // The next commit queues behind it.
        create_table(&catalog, "items").await;
        let snapshot = database.open().await.snapshot();
        assert!(snapshot.table("public", "items").is_some());
        while catalog
            .refresh()
            .await
            .unwrap()
            .table("public", "orders")
            .is_none()
        {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_wrong_key_is_noticed_when_the_catalog_is_opened() {
    on_both(async |database: TestDatabase| {
        database.open().await;
        let error = database
            .try_open(MasterKey::generate())
            .await
            .err()
            .unwrap();
        assert_eq!(
            words(&error),
            "F0000: the master key is not the one the catalog was created with"
        );
        database.open().await;
    });
}

#[test]
fn several_processes_may_create_a_catalog_at_once() {
    on_both(async |database: TestDatabase| {
        let opening: Vec<_> = (0..6)
            .map(|_| {
                let (url, key) = (database.url.clone(), database.key.clone());
                let options = CatalogOptions {
                    connections_max: 2,
                    ..CatalogOptions::default()
                };
                tokio::spawn(async move { Catalog::open(&url, key, options).await })
            })
            .collect();
        for opened in opening {
            let catalog = opened.await.unwrap().unwrap();
            assert_eq!(catalog.snapshot().version(), 1);
            catalog.ping().await.unwrap();
        }
    });
}

#[test]
fn a_database_of_a_newer_program_is_left_alone() {
    on_both(async |database: TestDatabase| {
        let catalog = database.open().await;
        let newer = "INSERT INTO _sqlx_migrations \
            (version, description, success, checksum, execution_time) \
            SELECT 9999, 'newer', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
        sqlx::query(newer)
            .execute(catalog.shared.database.pool())
            .await
            .unwrap();
        let error = database.try_open(database.key.clone()).await.err().unwrap();
        assert_eq!(
            words(&error),
            "55000: could not bring the catalog to this version of the program"
        );
    });
}

#[test]
fn the_commits_of_others_are_seen_without_asking() {
    on_both(async |database: TestDatabase| {
        let options = CatalogOptions {
            poll_interval: Duration::from_millis(5),
            ..CatalogOptions::default()
        };
        let watching = Catalog::open(&database.url, database.key.clone(), options)
            .await
            .unwrap();
        create_table(&database.open().await, "orders").await;
        let seen = async {
            while watching.snapshot().table("public", "orders").is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), seen)
            .await
            .unwrap();
    });
}

#[test]
fn a_first_password_is_set_once() {
    on_both(async |database: TestDatabase| {
        let (one, two) = (database.open().await, database.open().await);
        let passwords = (Secret::new("one"), Secret::new("two"));
        let (first, second) = tokio::join!(
            one.initialize_password("boathouse", &passwords.0),
            two.initialize_password("boathouse", &passwords.1),
        );
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(first != second, "one of them set it");
        let password = if first { "one" } else { "two" };
        let verifier = |snapshot: &Snapshot| {
            let role = snapshot.role("boathouse").unwrap();
            crate::password::Verifier::parse(role.verifier.as_ref().unwrap()).unwrap()
        };
        assert!(verifier(&one.refresh().await.unwrap()).matches(password));
        two.set_password("boathouse", &Secret::new("three"))
            .await
            .unwrap();
        assert!(verifier(&one.refresh().await.unwrap()).matches("three"));
        let error = two
            .set_password("nobody", &Secret::new("x"))
            .await
            .unwrap_err();
        assert_eq!(words(&error), "42704: role \"nobody\" does not exist");
    });
}

#[test]
fn a_large_transaction_reserves_its_ids() {
    on_both(async |database: TestDatabase| {
        let catalog = database.open().await;
        let mut transaction = catalog.begin();
        let error = (0..5000).find_map(|number| {
            transaction
                .create_schema(format!("s{number}"), ObjectId::SUPERUSER)
                .err()
        });
        assert_eq!(
            words(&error.unwrap()),
            "54000: too many objects created in one transaction"
        );
        catalog.reserve_ids(1500).await.unwrap();
        let mut transaction = catalog.begin();
        for number in 0..1500 {
            transaction
                .create_schema(format!("s{number}"), ObjectId::SUPERUSER)
                .unwrap();
        }
        let snapshot = catalog.commit(transaction).await.unwrap();
        assert_eq!(snapshot.schemas().count(), 1504);
        create_role(&catalog, RoleDefinition::new("ada")).await;
    });
}

#[test]
fn the_file_is_for_its_owner_only() {
    on_sqlite(async |database: TestDatabase| {
        let catalog = database.open().await;
        create_table(&catalog, "orders").await;
        let files = std::fs::read_dir(database.folder.path().join("new/100%?")).unwrap();
        let mut found: Vec<_> = files
            .map(|file| {
                let file = file.unwrap();
                let mode = file.metadata().unwrap().permissions().mode() & 0o777;
                format!("{:o} {}", mode, file.file_name().to_string_lossy())
            })
            .collect();
        found.sort();
        expect![[r#"
            600 catalog.db
            600 catalog.db-shm
            600 catalog.db-wal
            600 catalog.db.lock
        "#]]
        .assert_eq(&format!("{}\n", found.join("\n")));
    });
}

#[test]
fn what_is_no_catalog_url_is_refused_without_its_password() {
    on_sqlite(async |database: TestDatabase| {
        for (url, message) in [
            (
                "mysql://root:tiger@db/x",
                "catalog URL \"mysql://...@db/x\" is not supported",
            ),
            (
                "sqlite::memory:",
                "catalog URL \"sqlite::memory:\" is not supported",
            ),
            ("catalog.db", "catalog URL \"catalog.db\" is not supported"),
        ] {
            let key = database.key.clone();
            let error = Catalog::open(url, key, CatalogOptions::default())
                .await
                .err()
                .unwrap();
            assert_eq!(error.to_string(), message);
        }
    });
}

#[test]
fn a_thousand_tables_are_loaded_in_under_a_tenth_of_a_second() {
    /// Code that is not optimized takes ten times as long, and shares the machine with other tests.
    const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 100 });
    on_sqlite(async |database: TestDatabase| {
        let catalog = database.open().await;
        let mut transaction = catalog.begin();
        for number in 0..1000 {
            let mut table = table(transaction.snapshot(), &format!("table_{number}"));
            for column in 2..12 {
                let name = format!("column_{column}");
                table
                    .columns
                    .push(crate::definitions::ColumnDefinition::new(
                        name,
                        ColumnType::Varchar(Some(20)),
                        true,
                    ));
            }
            transaction.create_table(table).unwrap();
        }
        catalog.commit(transaction).await.unwrap();
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let started = Instant::now();
            let opened = database.open().await;
            assert_eq!(opened.snapshot().tables().count(), 1000);
            best = best.min(started.elapsed());
        }
        println!("opening a catalog of 1000 tables with 12 columns each: {best:?}");
        assert!(best < LIMIT, "{best:?}");
    });
}

#[test]
fn connections_that_broke_are_replaced() {
    on_postgres(async |database: TestDatabase| {
        let catalog = database.open().await;
        create_table(&catalog, "orders").await;
        let broken = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let other = database.open().await;
        sqlx::query(broken)
            .execute(other.shared.database.pool())
            .await
            .unwrap();
        catalog.ping().await.unwrap();
        create_table(&catalog, "items").await;
        assert_eq!(other.refresh().await.unwrap().tables().count(), 2);
    });
}

/// The test starts itself as another process, which commits and says so until it is killed.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    const URL: &str = "BOATHOUSE_TEST_COMMIT_UNTIL_KILLED";
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const COMMITS: usize = 20;
    let key = MasterKey::from_base64(KEY).unwrap();
    if let Ok(url) = std::env::var(URL) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let catalog = Catalog::open(&url, key, CatalogOptions::default())
                .await
                .unwrap();
            for number in 0.. {
                create_table(&catalog, &format!("t{number}")).await;
                println!("committed t{number}");
            }
        });
        return;
    }
    on_both(async |database: TestDatabase| {
        let database = TestDatabase {
            key: key.clone(),
            ..database
        };
        let test = "catalog::tests::what_was_acknowledged_survives_a_kill";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .env(URL, &database.url)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut acknowledged: Vec<_> = std::io::BufRead::lines(output)
            .filter_map(|line| Some(line.unwrap().split_once("committed ")?.1.to_owned()))
            .take(COMMITS)
            .collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(acknowledged.len(), COMMITS);
        let catalog = database.open().await;
        let snapshot = catalog.snapshot();
        acknowledged.retain(|name| snapshot.table("public", name).is_none());
        assert_eq!(acknowledged, [] as [String; 0]);
        assert_eq!(
            snapshot.version(),
            1 + i64::try_from(snapshot.tables().count()).unwrap()
        );
        create_table(&catalog, "after").await;
    });
}
