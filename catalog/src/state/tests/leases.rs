//! One holder at a time.

use std::time::Duration;

use super::*;

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
