//! Who the pipeline is at its source: users that are dropped, granted anew and get other passwords; certificates
//! and the ways in which passwords are asked for.

use boathouse_tests::mysql::{Flavor, Source, SourceClient};
use boathouse_tests::{Failure, rows};
use tokio_postgres::Client;

use crate::{Fixture, Schedule};

const TABLES: &str = "
    CREATE TABLE kept (id INT PRIMARY KEY, v INT); INSERT INTO kept VALUES (1, 1), (2, 2);
    CREATE TABLE altered (id INT PRIMARY KEY, v INT); INSERT INTO altered VALUES (1, 1)";

impl Fixture {
    /// A user at the source with no more rights than the reference asks for, of the database's name.
    async fn create_user(&self, session: &mut SourceClient, password: &str) -> Result<(), Failure> {
        let name = &self.database;
        let replication = replication(self.source.flavor);
        session
            .execute(&format!(
                "CREATE USER '{name}'@'%' IDENTIFIED BY '{password}';
                 GRANT {replication} ON *.* TO '{name}'@'%';
                 GRANT SELECT ON {name}.* TO '{name}'@'%'"
            ))
            .await
    }

    /// The run fails, for all of these reasons.
    async fn fails_with(&self, what: &str, reasons: &[&str]) -> Result<(), Failure> {
        let told = self.run().await.err().map(|error| error.to_string());
        let told = told.unwrap_or_else(|| "success".to_owned());
        match reasons.iter().all(|reason| told.contains(reason)) {
            true => Ok(()),
            false => Err(format!("{what}: {told} instead of {reasons:?}").into()),
        }
    }
}

fn replication(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql => "REPLICATION SLAVE, REPLICATION CLIENT",
        Flavor::MariaDb => "REPLICATION SLAVE, BINLOG MONITOR",
    }
}

pub async fn users_come_and_go(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session.execute(TABLES).await?;
    let name = fixture.database.clone();
    fixture.create_user(&mut session, "first").await?;
    let lake = fixture.server.connect().await?;
    rows(
        &lake,
        &format!(
            "CREATE SECRET word AS 'first';
             ALTER CONNECTION shop SET (user = '{name}', password = SECRET word)"
        ),
    )
    .await?;
    fixture.create_pipeline(Schedule::OnDemand, "").await?;
    fixture.follow("the snapshot").await?;

    // Another password, which the secret learns a while later.
    session
        .execute(&format!(
            "ALTER USER '{name}'@'%' IDENTIFIED BY 'second'; UPDATE kept SET v = v + 1"
        ))
        .await?;
    fixture
        .fails_with(
            "another password",
            &["28000", "Access denied", "ALTER CONNECTION"],
        )
        .await?;
    rows(&lake, "ALTER SECRET word AS 'second'").await?;
    fixture.follow("with the other password").await?;

    // Rights, one after another. What was changed meanwhile is not lost.
    let replication = replication(flavor);
    for (what, right, reasons) in [
        (
            "without replication",
            format!("REPLICATION SLAVE ON *.* {{}} '{name}'@'%'"),
            ["42501", "REPLICATION", "GRANT"],
        ),
        (
            "without any global right",
            format!("{replication} ON *.* {{}} '{name}'@'%'"),
            ["42501", "privilege", "GRANT"],
        ),
    ] {
        session
            .execute(&format!("REVOKE {}", right.replace("{}", "FROM")))
            .await?;
        session
            .execute("UPDATE kept SET v = v + 1; INSERT INTO altered (id) SELECT MAX(id) + 1 FROM altered")
            .await?;
        fixture.fails_with(what, &reasons).await?;
        session
            .execute(&format!("GRANT {}", right.replace("{}", "TO")))
            .await?;
        fixture.follow(&format!("no longer {what}")).await?;
    }

    // The binlog tells of tables that may not be read. That they cannot be seen does not make them gone.
    session
        .execute(&format!("REVOKE SELECT ON {name}.* FROM '{name}'@'%'"))
        .await?;
    session
        .execute(
            "UPDATE kept SET v = v + 1;
             ALTER TABLE altered ADD COLUMN made TIMESTAMP DEFAULT CURRENT_TIMESTAMP;
             INSERT INTO altered (id, v) VALUES (100, 7);
             CREATE TABLE unseen (id INT PRIMARY KEY); INSERT INTO unseen VALUES (1)",
        )
        .await?;
    fixture
        .fails_with("without SELECT", &["42501", "SELECT", "GRANT"])
        .await?;
    session
        .execute(&format!(
            "GRANT SELECT ON {name}.* TO '{name}'@'%'; INSERT INTO altered (id, v) VALUES (101, 8)"
        ))
        .await?;
    fixture.follow("with SELECT again").await?;

    // Gone altogether, and made anew.
    session
        .execute(&format!(
            "DROP USER '{name}'@'%'; UPDATE kept SET v = v + 1"
        ))
        .await?;
    fixture
        .fails_with("without the user", &["28000", "CREATE USER"])
        .await?;
    fixture.create_user(&mut session, "second").await?;
    fixture.follow("with the user again").await?;
    session.execute(&format!("DROP USER '{name}'@'%'")).await?;
    fixture.finish().await
}

/// What `CHECK CONNECTION` says of a connection with these options instead of those it had.
async fn check(lake: &Client, options: &str) -> Result<Vec<String>, Failure> {
    rows(
        lake,
        "ALTER CONNECTION shop RESET (tls, tls_ca, tls_cert, tls_key)",
    )
    .await?;
    rows(lake, &format!("ALTER CONNECTION shop SET ({options})")).await?;
    rows(lake, "CHECK CONNECTION shop").await
}

pub async fn every_way_to_log_in(flavor: Flavor) -> Result<(), Failure> {
    let (source, certificates) = Source::own_with_tls(flavor).await?;
    let fixture = Fixture::start_at(source).await?;
    let mut session = fixture.session().await?;
    session.execute(TABLES).await?;
    let lake = fixture.server.connect().await?;
    let replication = replication(flavor);
    let mut users = match flavor {
        Flavor::MySql => vec![
            (
                "sha2_plain",
                "IDENTIFIED WITH caching_sha2_password BY 'word'",
            ),
            (
                "sha2_tls",
                "IDENTIFIED WITH caching_sha2_password BY 'word' REQUIRE SSL",
            ),
        ],
        Flavor::MariaDb => {
            session.execute("INSTALL SONAME 'auth_ed25519'").await?;
            vec![
                (
                    "native",
                    "IDENTIFIED VIA mysql_native_password USING PASSWORD('word')",
                ),
                (
                    "native_tls",
                    "IDENTIFIED VIA mysql_native_password USING PASSWORD('word') REQUIRE SSL",
                ),
                ("ed", "IDENTIFIED VIA ed25519 USING PASSWORD('word')"),
                (
                    "ed_tls",
                    "IDENTIFIED VIA ed25519 USING PASSWORD('word') REQUIRE SSL",
                ),
            ]
        }
    };
    users.push(("certified", "IDENTIFIED BY 'word' REQUIRE X509"));
    for (user, identified) in &users {
        session
            .execute(&format!(
                "CREATE USER {user} {identified}; GRANT SELECT, {replication} ON *.* TO {user}"
            ))
            .await?;
    }
    let authority = format!("tls_ca = '{}'", certificates.authority);
    let identity = format!(
        "tls_cert = '{}', tls_key = '{}'",
        certificates.client, certificates.client_key
    );
    fixture.create_pipeline(Schedule::OnDemand, "").await?;
    for (user, _) in &users {
        let options = match *user {
            "certified" => format!("tls = 'verify-full', {authority}, {identity}"),
            name if name.ends_with("_tls") => format!("tls = 'verify-full', {authority}"),
            _ => "tls = 'disable'".to_owned(),
        };
        let options = format!("user = '{user}', password = 'word', {options}");
        let checks = check(&lake, &options).await?;
        let failed: Vec<&String> = checks.iter().filter(|row| !row.contains("|ok|")).collect();
        assert!(failed.is_empty(), "{user}: {failed:?}");
        let encrypted = checks.iter().any(|row| row.starts_with("tls|ok|TLS"));
        assert_eq!(
            encrypted,
            options.contains("verify-full"),
            "{user}: {checks:?}"
        );
        session.execute("UPDATE kept SET v = v + 1").await?;
        fixture.follow(user).await?;
    }

    // What is not as it has to be is named, with what to do about it.
    let secure = users[1].0;
    let user = |name: &str, tls: &str| format!("user = '{name}', password = 'word', tls = '{tls}'");
    for (what, options, reasons) in [
        (
            "no TLS",
            user(secure, "disable"),
            ["Access denied", "REQUIRE SSL"],
        ),
        (
            "an unknown authority",
            user(secure, "verify-full"),
            ["UnknownIssuer", "tls_ca"],
        ),
        (
            "an unknown authority, whatever the host",
            user(secure, "verify-ca"),
            ["UnknownIssuer", "tls_ca"],
        ),
        (
            "another host",
            format!(
                "host = 'localhost', {}, {authority}",
                user(secure, "verify-full")
            ),
            ["not valid for name", "verify-ca"],
        ),
        (
            "no certificate",
            format!(
                "host = '127.0.0.1', {}, {authority}",
                user("certified", "verify-full")
            ),
            ["Access denied", "REQUIRE X509"],
        ),
        (
            "a certificate that is none",
            format!(
                "{}, {authority}, tls_cert = 'x', tls_key = 'y'",
                user("certified", "verify-full")
            ),
            ["certificates cannot be used", "-----BEGIN"],
        ),
    ] {
        let checks = check(&lake, &options).await?;
        assert!(
            checks[0].starts_with("connect|failed|")
                && reasons.iter().all(|reason| checks[0].contains(reason)),
            "{what}: {checks:?}"
        );
    }
    for (host, tls) in [
        ("127.0.0.1", "verify-ca"),
        ("localhost", "require"),
        ("localhost", "verify-ca"),
    ] {
        let options = format!("host = '{host}', {}, {authority}", user(secure, tls));
        let checks = check(&lake, &options).await?;
        assert!(
            checks[0].starts_with("connect|ok|"),
            "{host} {tls}: {checks:?}"
        );
    }
    if flavor == Flavor::MySql {
        // A way to log in that is not known.
        session
            .execute("CREATE USER former IDENTIFIED WITH sha256_password BY 'word'")
            .await?;
        let options = format!(
            "host = '127.0.0.1', {}, {authority}",
            user("former", "verify-full")
        );
        let checks = check(&lake, &options).await?;
        let reasons = ["log in by sha256_password", "caching_sha2_password"];
        assert!(
            checks[0].starts_with("connect|failed|")
                && reasons.iter().all(|reason| checks[0].contains(reason)),
            "{checks:?}"
        );
        let shared = Source::shared(flavor)?;
        rows(&lake, &shared.create_connection("usual")).await?;
        let authority = shared.authority_of_its_own()?;
        for (tls, outcome) in [("verify-ca", "ok"), ("verify-full", "failed")] {
            let alter =
                format!("ALTER CONNECTION usual SET (tls = '{tls}', tls_ca = '{authority}')");
            rows(&lake, &alter).await?;
            let checks = rows(&lake, "CHECK CONNECTION usual").await?;
            assert!(
                checks[0].starts_with(&format!("connect|{outcome}|")),
                "{tls}: {checks:?}"
            );
        }
    }
    Ok(())
}
