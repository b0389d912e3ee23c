//! Sources that another server takes the place of, or that become another one themselves.

use std::time::Duration;

use boathouse_tests::mysql::{DURABLE, Flavor, Source};
use boathouse_tests::network::Traffic;
use boathouse_tests::{Failure, rows};

use crate::workload::{MIXED_TABLES, Workload, mixed};
use crate::{Fixture, Schedule, seed};

impl Fixture {
    /// The warnings that tell that every table is read anew.
    pub async fn read_anew(&self) -> Result<Vec<String>, Failure> {
        let lake = self.server.connect().await?;
        rows(
            &lake,
            "SELECT message FROM system.pipeline_errors WHERE message LIKE '%every table is read anew%' ORDER BY at",
        )
        .await
    }
}

pub async fn replicas_take_over(flavor: Flavor) -> Result<(), Failure> {
    let seed = seed()?;
    let primary = Source::own(flavor, &[]).await?;
    let options: &[&str] = match flavor {
        Flavor::MySql => &["--server-id=2"],
        Flavor::MariaDb => &["--server-id=2", "--log-slave-updates=ON"],
    };
    let other_options = [&options[1..], &["--server-id=3"]].concat();
    let (second, third) = tokio::join!(
        Source::own(flavor, options),
        Source::own(flavor, &other_options)
    );
    let (second, third) = (second?, third?);
    second.replicate(&primary).await?;
    third.replicate(&primary).await?;
    let mut fixture = Fixture::start_at(primary).await?;
    let network = fixture.through_network().await?;
    let mut session = fixture.session().await?;
    session.execute(MIXED_TABLES).await?;
    let address = fixture.source.address();
    let workload = Workload::start(&address, &fixture.database, seed, 2, mixed);
    fixture
        .create_pipeline(
            Schedule::Continuous,
            "target_lag = '200 ms', chunk_rows = 20",
        )
        .await?;
    tokio::time::sleep(Duration::from_millis(2500)).await;

    // The first replica has everything, some of which was not read before.
    network.set(Traffic::Cut);
    tokio::time::sleep(Duration::from_millis(300)).await;
    workload.stop().await?;
    second.catch_up(&fixture.source).await?;
    third.catch_up(&fixture.source).await?;
    second.promote().await?;
    third.promote().await?;
    third.replicate_on(&second).await?;
    network.lead_to(second.address().port());
    network.set(Traffic::Flows);
    let first = std::mem::replace(&mut fixture.source, second);
    fixture.follow("at the second server").await?;
    fixture.work(seed.wrapping_add(1000)).await?;
    fixture.follow("with changes of its own").await?;

    // The other one has nothing new. In its binlog what it did itself is before what was read at the others,
    // which must not come again.
    third.catch_up(&fixture.source).await?;
    third.promote().await?;
    network.lead_to(third.address().port());
    drop(std::mem::replace(&mut fixture.source, third));
    fixture.follow("at the third server").await?;
    fixture.kill()?;
    fixture.restart().await?;
    fixture.follow("once more").await?;
    fixture.work(seed.wrapping_add(2000)).await?;
    fixture.follow("going on at the third server").await?;
    assert_eq!(fixture.read_anew().await?, Vec::<String>::new());

    // The first one lacks what was read since, and has gone on with as much of its own.
    network.lead_to(first.address().port());
    fixture.source = first;
    let mut session = fixture.session().await?;
    for number in 0..200 {
        session
            .execute(&format!("INSERT INTO logged (a) VALUES ({number})"))
            .await?;
    }
    fixture.follow("back at the first server").await?;
    let told = fixture.read_anew().await?;
    assert_eq!(told.len(), 1, "{told:?}");
    fixture.work(seed.wrapping_add(3000)).await?;
    fixture.follow("going on at the first server").await?;
    Ok(())
}

pub async fn servers_become_others(flavor: Flavor) -> Result<(), Failure> {
    let seed = seed()?;
    let mut fixture = Fixture::start_at(Source::own(flavor, DURABLE).await?).await?;
    fixture.session().await?.execute(MIXED_TABLES).await?;
    fixture.work(seed).await?;
    fixture
        .create_pipeline(Schedule::OnDemand, "chunk_rows = 20")
        .await?;
    fixture.follow("the snapshot").await?;

    // The same data, and another name among the servers.
    fixture.work(seed ^ 1).await?;
    fixture.source.kill()?;
    fixture.source.become_another()?;
    fixture.source.start().await?;
    fixture.work(seed ^ 2).await?;
    fixture.follow("under another name").await?;
    assert_eq!(fixture.read_anew().await?, Vec::<String>::new());

    // A backup comes back after changes that were read: as many others may take their numbers.
    fixture.source.kill()?;
    fixture.source.back_up()?;
    fixture.source.start().await?;
    fixture
        .session()
        .await?
        .execute("UPDATE pairs SET v = 1; INSERT INTO logged (a) VALUES (1), (2)")
        .await?;
    fixture.follow("what will be lost").await?;
    fixture.source.kill()?;
    fixture.source.restore()?;
    fixture.source.start().await?;
    fixture.work(seed ^ 3).await?;
    fixture.follow("with the backup").await?;
    assert_eq!(fixture.read_anew().await?.len(), 1);
    fixture.work(seed ^ 4).await?;
    fixture.follow("going on").await?;
    Ok(())
}
