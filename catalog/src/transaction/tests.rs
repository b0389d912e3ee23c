//! The rules each change must keep, in memory.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::*;
use crate::definitions::{ForeignKey, OptionValue};
use crate::testing::{on_sqlite, pipeline, table};

/// Makes changes in a new catalog and expects how each ended.
fn check(changes: impl Fn(&mut Transaction) -> Vec<Result<(), CatalogError>>, expected: Expect) {
    on_sqlite(async |database: crate::testing::TestDatabase| {
        let mut transaction = database.open().await.begin();
        let lines: String = changes(&mut transaction)
            .iter()
            .map(|result| match result {
                Ok(()) => "done\n".to_owned(),
                Err(error) => {
                    let more: String = [("detail", error.detail()), ("hint", error.hint())]
                        .into_iter()
                        .filter_map(|(kind, text)| Some(format!("  {kind}: {}\n", text?)))
                        .collect();
                    format!("{}: {error}\n{more}", error.sqlstate())
                }
            })
            .collect();
        expected.assert_eq(&lines);
    });
}

fn public(transaction: &Transaction) -> ObjectId {
    transaction.snapshot().schema("public").unwrap().id
}

fn role(transaction: &mut Transaction, name: &str) -> ObjectId {
    transaction.create_role(RoleDefinition::new(name)).unwrap()
}

fn joined(transaction: &Transaction, member: ObjectId, of: ObjectId) -> RoleDefinition {
    let mut role = transaction
        .snapshot()
        .role_by_id(member)
        .unwrap()
        .as_ref()
        .clone();
    role.member_of.push(of);
    role
}

fn referring(transaction: &Transaction, name: &str, to: &str) -> TableDefinition {
    let mut table = table(transaction.snapshot(), name);
    table.foreign_keys.push(ForeignKey {
        name: format!("{name}_{to}_fkey"),
        columns: vec!["id".to_owned()],
        references_schema: "public".to_owned(),
        references_table: to.to_owned(),
        references_columns: vec!["id".to_owned()],
    });
    table
}

#[test]
fn names_are_unique_within_their_kind() {
    check(
        |transaction| {
            let superuser = ObjectId::SUPERUSER;
            let orders = table(transaction.snapshot(), "orders");
            let view = ViewDefinition {
                id: ObjectId::default(),
                schema: public(transaction),
                name: "orders".to_owned(),
                owner: superuser,
                query: "SELECT 1".to_owned(),
                columns: Vec::new(),
                comment: None,
                column_comments: BTreeMap::new(),
            };
            vec![
                transaction.create_table(orders.clone()).map(drop),
                transaction.create_table(orders).map(drop),
                transaction.create_view(view).map(drop),
                transaction.create_schema("orders", superuser).map(drop),
                transaction.create_schema("orders", superuser).map(drop),
                transaction.create_pipeline(pipeline("orders")).map(drop),
                transaction.create_pipeline(pipeline("orders")).map(drop),
                transaction
                    .create_role(RoleDefinition::new("boathouse"))
                    .map(drop),
            ]
        },
        expect![[r#"
            done
            42P07: relation "orders" already exists
            42P07: relation "orders" already exists
            done
            42P06: schema "orders" already exists
            done
            42710: pipeline "orders" already exists
            42710: role "boathouse" already exists
        "#]],
    );
}

#[test]
fn what_is_built_in_or_reserved_stays() {
    check(
        |transaction| {
            let superuser = ObjectId::SUPERUSER;
            let system = transaction.snapshot().schema("system").unwrap().id;
            let mut hidden = table(transaction.snapshot(), "hidden");
            hidden.schema = system;
            let mut admin = transaction
                .snapshot()
                .role_by_id(superuser)
                .unwrap()
                .as_ref()
                .clone();
            admin
                .settings
                .insert("search_path".to_owned(), "gold".to_owned());
            let schema = public(transaction);
            vec![
                transaction.drop_schema(system),
                transaction.rename_schema(schema, "private"),
                transaction.drop_role(superuser),
                transaction.create_table(hidden).map(drop),
                transaction.create_schema("pg_mine", superuser).map(drop),
                transaction
                    .create_role(RoleDefinition::new("pg_mine"))
                    .map(drop),
                transaction
                    .create_role(RoleDefinition::new("public"))
                    .map(drop),
                transaction.replace_role(admin),
            ]
        },
        expect![[r#"
            2BP01: cannot change schema "system" because it is required by the database system
            2BP01: cannot change schema "public" because it is required by the database system
            2BP01: cannot change role "boathouse" because it is required by the database system
            2BP01: cannot change schema "system" because it is required by the database system
            42939: schema name "pg_mine" is reserved
              hint: names that begin with "pg_" belong to the system
            42939: role name "pg_mine" is reserved
              hint: names that begin with "pg_" belong to the system
            42939: role name "public" is reserved
              hint: names that begin with "pg_" belong to the system
            done
        "#]],
    );
}

#[test]
fn what_others_need_cannot_be_dropped() {
    check(
        |transaction| {
            let ada = role(transaction, "ada");
            let gold = transaction.create_schema("gold", ada).unwrap();
            let orders = transaction
                .create_table(table(transaction.snapshot(), "orders"))
                .unwrap();
            let mut items = referring(transaction, "items", "orders");
            items.schema = gold;
            let items = transaction.create_table(items).unwrap();
            let itself = referring(transaction, "tree", "tree");
            let tree = transaction.create_table(itself).unwrap();
            let secret = transaction
                .create_secret("pw", ada, &Secret::new("x"))
                .unwrap();
            let inbox = ConnectionDefinition {
                id: ObjectId::default(),
                name: "inbox".to_owned(),
                owner: ObjectId::SUPERUSER,
                kind: "SFTP".to_owned(),
                options: BTreeMap::from([(
                    "password".to_owned(),
                    OptionValue::Secret("pw".to_owned()),
                )]),
                comment: None,
            };
            transaction.create_connection(inbox.clone()).unwrap();
            let usage = Grant {
                object: ObjectRef::DATABASE,
                grantee: ada,
                privilege: Privilege::Create,
                grantable: false,
            };
            transaction.grant(usage).unwrap();
            let missing = referring(transaction, "more", "nothing");
            let mut unusable = inbox;
            unusable.name = "outbox".to_owned();
            let unknown = OptionValue::Secret("unknown".to_owned());
            unusable.options.insert("password".to_owned(), unknown);
            vec![
                transaction.drop_schema(gold),
                transaction.drop_table(orders),
                transaction.drop_secret(secret),
                transaction.drop_role(ada),
                transaction.create_table(missing).map(drop),
                transaction.create_connection(unusable).map(drop),
                transaction.drop_table(tree),
                transaction.drop_table(items),
                transaction.drop_table(orders),
                transaction.drop_table(orders),
            ]
        },
        expect![[r#"
            2BP01: cannot drop schema "gold" because other objects depend on it
              detail: table items depends on schema gold
              hint: use DROP ... CASCADE to drop the dependent objects too
            2BP01: cannot drop table "orders" because other objects depend on it
              detail: constraint items_orders_fkey on table items depends on table orders
            2BP01: cannot drop secret "pw" because other objects depend on it
              detail: connection inbox depends on secret pw
            2BP01: cannot drop role "ada" because other objects depend on it
              detail: owner of schema gold
            owner of secret pw
            privileges for database boathouse
            42P01: relation "public.nothing" does not exist
            42704: secret "unknown" does not exist
            done
            done
            done
            42P01: table with OID 16386 does not exist
        "#]],
    );
}

#[test]
fn membership_has_no_loops_and_ends_with_the_role() {
    check(
        |transaction| {
            let (ada, team) = (role(transaction, "ada"), role(transaction, "team"));
            let all = role(transaction, "all");
            let results = vec![
                transaction.replace_role(joined(transaction, ada, team)),
                transaction.replace_role(joined(transaction, team, all)),
                transaction.replace_role(joined(transaction, all, ada)),
                transaction.replace_role(joined(transaction, ada, ada)),
                transaction.drop_role(team),
            ];
            assert!(!transaction.snapshot().is_member(ada, all));
            assert_eq!(
                transaction.snapshot().role_by_id(ada).unwrap().member_of,
                []
            );
            results
        },
        expect![[r#"
            done
            done
            0LP01: role "ada" is a member of role "all"
            0LP01: role "ada" is a member of role "ada"
            done
        "#]],
    );
}

#[test]
fn foreign_keys_follow_a_new_name() {
    on_sqlite(async |database: crate::testing::TestDatabase| {
        let mut transaction = database.open().await.begin();
        let orders = transaction
            .create_table(table(transaction.snapshot(), "orders"))
            .unwrap();
        transaction
            .create_table(referring(&transaction, "items", "orders"))
            .unwrap();
        let mut renamed = transaction
            .snapshot()
            .table_by_id(orders)
            .unwrap()
            .as_ref()
            .clone();
        renamed.name = "sales".to_owned();
        transaction.replace_table(renamed).unwrap();
        let items = transaction.snapshot().table("public", "items").unwrap();
        assert_eq!(items.foreign_keys[0].references_table, "sales");
        assert!(transaction.snapshot().table("public", "orders").is_none());
    });
}

#[test]
fn privileges_come_from_owner_grant_membership_and_public() {
    on_sqlite(async |database: crate::testing::TestDatabase| {
        let mut transaction = database.open().await.begin();
        let (ada, bob) = (role(&mut transaction, "ada"), role(&mut transaction, "bob"));
        let (team, reader) = (
            role(&mut transaction, "team"),
            role(&mut transaction, "reader"),
        );
        let mut orders = table(transaction.snapshot(), "orders");
        orders.owner = team;
        let orders = transaction.create_table(orders).unwrap();
        let orders = ObjectRef::new(ObjectKind::Table, orders);
        let may = |transaction: &Transaction, role, privilege| {
            transaction
                .snapshot()
                .has_privilege(role, orders, privilege)
        };
        let grant = |grantee, privilege, grantable| Grant {
            object: orders,
            grantee,
            privilege,
            grantable,
        };

        assert!(may(&transaction, ObjectId::SUPERUSER, Privilege::Delete));
        assert!(may(&transaction, team, Privilege::Delete));
        assert!(!may(&transaction, ada, Privilege::Select));
        transaction
            .replace_role(joined(&transaction, ada, team))
            .unwrap();
        assert!(
            may(&transaction, ada, Privilege::Delete),
            "a member has the owner's rights"
        );

        // Without INHERIT they come by SET ROLE only.
        let mut alone = joined(&transaction, bob, team);
        alone.inherit = false;
        transaction.replace_role(alone).unwrap();
        assert!(transaction.snapshot().is_member(bob, team));
        assert!(!may(&transaction, bob, Privilege::Select));

        transaction
            .grant(grant(bob, Privilege::Select, true))
            .unwrap();
        transaction
            .grant(grant(bob, Privilege::Select, false))
            .unwrap();
        assert!(may(&transaction, bob, Privilege::Select));
        assert!(
            transaction
                .snapshot()
                .can_grant(bob, orders, Privilege::Select)
        );
        transaction
            .revoke(orders, bob, Privilege::Select, true)
            .unwrap();
        assert!(
            !transaction
                .snapshot()
                .can_grant(bob, orders, Privilege::Select)
        );
        assert!(may(&transaction, bob, Privilege::Select));
        transaction
            .revoke(orders, bob, Privilege::Select, false)
            .unwrap();
        assert!(!may(&transaction, bob, Privilege::Select));

        transaction
            .grant(grant(ObjectId::PUBLIC, Privilege::Insert, false))
            .unwrap();
        assert!(may(&transaction, reader, Privilege::Insert));
        assert!(!may(&transaction, reader, Privilege::Select));
        let read_all = transaction.snapshot().role("pg_read_all_data").unwrap().id;
        transaction
            .replace_role(joined(&transaction, reader, read_all))
            .unwrap();
        assert!(may(&transaction, reader, Privilege::Select));
        assert!(!may(&transaction, reader, Privilege::Update));

        // Rights end with the object.
        transaction.drop_table(orders.id).unwrap();
        assert!(!may(&transaction, reader, Privilege::Insert));
        assert_eq!(transaction.snapshot().grants_on(orders).count(), 0);
    });
}

#[test]
fn every_state_of_a_transaction_has_an_edition_of_its_own() {
    on_sqlite(async |database: crate::testing::TestDatabase| {
        let catalog = database.open().await;
        let mut transaction = catalog.begin();
        let begun = transaction.snapshot().edition();
        assert_eq!(begun, catalog.snapshot().edition());
        let savepoint = transaction.clone();
        transaction
            .create_schema("one", ObjectId::SUPERUSER)
            .unwrap();
        let one = transaction.snapshot().edition();
        let mut again = savepoint.clone();
        again.create_schema("two", ObjectId::SUPERUSER).unwrap();
        let two = again.snapshot().edition();
        assert!(begun != one && one != two && begun != two);
        assert_eq!(savepoint.snapshot().edition(), begun);
        catalog.commit(again).await.unwrap();
        assert_eq!(
            catalog.snapshot().edition(),
            database.open().await.snapshot().edition()
        );
    });
}
