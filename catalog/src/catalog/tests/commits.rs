//! Commits: what others see, what clashes, and what survives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::definitions::{
    ConnectionDefinition, ForeignKey, Grant, ObjectRef, OptionValue, Privilege, RoleDefinition,
    ViewDefinition,
};
use crate::testing::{create_role, pipeline};

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
        let test = "catalog::tests::commits::what_was_acknowledged_survives_a_kill";
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

#[test]
fn settling_waits_for_a_commit_that_is_on_its_way() {
    on_both(async |database: TestDatabase| {
        let catalog = database.open().await;
        let other = database.open().await;
        let mut writing = other.shared.database.write().await.unwrap();
        write::next_version(&mut writing).await.unwrap();
        let settling = tokio::spawn({
            let catalog = catalog.clone();
            async move { catalog.settle().await }
        });
        writing.commit().await.unwrap();
        let settled = settling.await.unwrap().unwrap();
        assert_eq!(settled.version(), 2);
        assert_eq!(catalog.snapshot().version(), 2);
    });
}
