//! One holder at a time.

use std::time::Duration;

use expect_test::expect;

use super::*;

#[test]
fn what_a_holder_tells_is_heard_as_long_as_its_lease_lasts() {
    on_both(async |database: TestDatabase| {
        let one = database.open().await;
        let leases = one.leases();
        let long = Duration::from_secs(600);
        let held = leases.acquire("p:1", "one", long).await.unwrap().unwrap();
        let other = leases.acquire("p:12", "two", long).await.unwrap().unwrap();
        let below = leases.acquire("p:1:member:7", "three", long);
        let below = below.await.unwrap().unwrap();
        let (first, second) = (serde_json::json!({"a": 1}), serde_json::json!([2]));
        let tell =
            async |lease: &Lease, ttl, told| leases.renew_telling(lease, ttl, told).await.unwrap();
        assert!(leases.told("p:1").await.unwrap().is_empty());
        assert!(tell(&held, long, Some(&first)).await);
        assert!(tell(&below, long, Some(&second)).await);
        assert!(tell(&other, long, Some(&second)).await);
        assert_eq!(
            leases.told("p:1").await.unwrap(),
            [first.clone(), second.clone()]
        );
        // It stays with renewals that tell nothing new, and may be taken back.
        assert!(leases.renew(&held, long).await.unwrap());
        assert_eq!(
            leases.told("p:1").await.unwrap(),
            [first.clone(), second.clone()]
        );
        assert!(tell(&below, long, None).await);
        assert_eq!(
            leases.told("p:1").await.unwrap(),
            std::slice::from_ref(&first)
        );
        // What has run out is not heard, nor what was told by a holder before.
        assert!(tell(&held, Duration::ZERO, Some(&first)).await);
        assert!(leases.told("p:1").await.unwrap().is_empty());
        let next = leases.acquire("p:1", "four", long).await.unwrap().unwrap();
        assert!(leases.told("p:1").await.unwrap().is_empty());
        assert!(!tell(&held, long, Some(&first)).await);
        assert!(tell(&next, long, Some(&first)).await);
        leases.release(&next).await.unwrap();
        assert!(leases.told("p:1").await.unwrap().is_empty());
    });
}

#[test]
fn a_lease_has_one_holder_and_each_a_larger_token() {
    on_both(async |database: TestDatabase| {
        let (one, pipeline) = with_pipeline(&database).await;
        let two = database.open().await;
        let (long, ended) = (Duration::from_secs(600), Duration::ZERO);
        let first = one
            .leases()
            .acquire("stock", "one", long)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            two.leases().acquire("stock", "two", long).await.unwrap(),
            None
        );
        assert!(
            two.leases()
                .acquire("other", "two", long)
                .await
                .unwrap()
                .is_some()
        );
        // Its time is over, but nobody has taken it: it is still held.
        assert!(one.leases().renew(&first, ended).await.unwrap());
        let held = NewPosition {
            lease: Some(&first),
            ..position(pipeline, 0)
        };
        one.positions().prepare(held.clone()).await.unwrap();

        let second = two
            .leases()
            .acquire("stock", "two", long)
            .await
            .unwrap()
            .unwrap();
        assert!(second.fencing > first.fencing);
        assert!(!one.leases().renew(&first, long).await.unwrap());
        let error = one.positions().prepare(held).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "lease \"stock\" was taken over by another server"
        );
        assert!(matches!(error, CatalogError::LeaseLost(_)));
        one.leases().release(&first).await.unwrap();
        assert!(
            two.leases().renew(&second, long).await.unwrap(),
            "only its holder gives it back"
        );
        two.leases().release(&second).await.unwrap();
        assert!(!two.leases().renew(&second, long).await.unwrap());
        let third = one
            .leases()
            .acquire("stock", "one", long)
            .await
            .unwrap()
            .unwrap();
        assert!(third.fencing > second.fencing);
    });
}

#[test]
fn of_many_who_want_a_lease_one_gets_it() {
    on_both(async |database: TestDatabase| {
        let catalogs = [database.open().await, database.open().await];
        let wanting: Vec<_> = (0..20)
            .map(|number| {
                let leases = catalogs[number % 2].leases();
                tokio::spawn(async move {
                    let owner = format!("server {number}");
                    leases
                        .acquire("stock", &owner, Duration::from_secs(600))
                        .await
                        .unwrap()
                })
            })
            .collect();
        let mut holders = 0;
        for one in wanting {
            holders += u32::from(one.await.unwrap().is_some());
        }
        assert_eq!(holders, 1);
    });
}

/// What is on record under a name, a line each.
async fn check(catalog: &Catalog, name: &str, expected: Expect) {
    let lines: Vec<String> = catalog
        .leases()
        .under(name)
        .await
        .unwrap()
        .iter()
        .map(|one| {
            let state = if one.is_live { "live" } else { "ended" };
            let Lease {
                name,
                owner,
                fencing,
            } = &one.lease;
            format!("{name} {owner} {fencing} {state}")
        })
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn parts_are_shared_and_end_with_their_holder() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let leases = catalog.leases();
        let long = Duration::from_secs(600);
        let own = async |owner: &str| {
            let name = format!("stock:member:{owner}");
            leases.acquire(&name, owner, long).await.unwrap().unwrap()
        };
        let (one, two) = (own("1").await, own("12").await);
        let parts = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("stock:{name}")).collect()
        };
        let held = leases
            .acquire_parts(&one, &parts(&["b", "a", "member:1:ready"]))
            .await
            .unwrap();
        assert_eq!(held.len(), 3);
        let left = leases.acquire_parts(&two, &parts(&["a", "c"])).await;
        assert_eq!(left.unwrap().len(), 1, "one of them is taken");
        leases.acquire("stocks", "3", long).await.unwrap().unwrap();
        check(
            &catalog,
            "stock",
            expect![[r#"
                stock:a 1 1 live
                stock:b 1 1 live
                stock:c 12 1 live
                stock:member:1 1 1 live
                stock:member:12 12 1 live
                stock:member:1:ready 1 1 live"#]],
        )
        .await;

        let given: Vec<&Lease> = held.iter().filter(|one| one.name == "stock:b").collect();
        leases.release_parts(&given).await.unwrap();
        assert_eq!(
            leases.acquire_parts(&two, &parts(&["b"])).await.unwrap()[0].fencing,
            2
        );
        assert!(!leases.bury(&one, false).await.unwrap(), "it lives");
        assert!(leases.renew(&one, Duration::ZERO).await.unwrap());
        assert!(leases.bury(&one, false).await.unwrap());
        assert!(!leases.bury(&one, true).await.unwrap(), "it is buried");
        check(
            &catalog,
            "stock",
            expect![[r#"
                stock:b 12 2 live
                stock:c 12 1 live
                stock:member:12 12 1 live"#]],
        )
        .await;

        // Whoever was buried is refused from then on.
        assert!(!leases.renew(&one, long).await.unwrap());
        let late = leases.acquire_parts(&one, &parts(&["d"])).await;
        assert!(matches!(late, Err(CatalogError::LeaseLost(_))));
        let late = NewPosition {
            lease: Some(&one),
            ..position(pipeline, 0)
        };
        let late = catalog.positions().prepare(late).await;
        assert!(matches!(late, Err(CatalogError::LeaseLost(_))));
        assert_eq!(
            leases.acquire_parts(&two, &parts(&["a"])).await.unwrap()[0].fencing,
            2
        );
    });
}

#[test]
fn a_dropped_pipeline_leaves_no_lease_that_nobody_holds() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let leases = catalog.leases();
        let name = pipeline_lease(pipeline);
        let take = async |name: String| {
            let owner = format!("owner of {name}");
            let taken = leases
                .acquire(&name, &owner, Duration::from_secs(600))
                .await;
            taken.unwrap().unwrap()
        };
        let free = take(format!("{name}:part:a/0")).await;
        take(format!("{name}:part:a/1")).await;
        take(format!("{name}1")).await;
        leases.release(&free).await.unwrap();
        let mut dropping = catalog.begin();
        dropping.drop_pipeline(pipeline).unwrap();
        catalog.commit(dropping).await.unwrap();
        // Its token would be larger if it were known yet.
        assert_eq!(take(free.name.clone()).await.fencing, 1);
        let held = leases.under(&name).await.unwrap();
        assert_eq!(held.len(), 2, "what is held stays");
        assert_eq!(leases.under(&format!("{name}1")).await.unwrap().len(), 1);
    });
}
