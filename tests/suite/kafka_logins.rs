//! How one is let in at brokers that ask, over TLS, who one is; and what `CHECK CONNECTION` says to who is not.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use boathouse_tests::kafka::Sent;
use boathouse_tests::kafka_logins::{
    ACCESS_KEY_ID, CLIENT_ID, CLIENT_SECRET, InterruptedBroker, LoginBroker, LossyWay, PASSWORD,
    TokenProvider, USER, unsigned_token,
};
use boathouse_tests::{
    Failure, Server, ServerOptions, lake_folder, repository, rows, service, value, wait_for,
};
use tempfile::TempDir;
use tokio_postgres::Client;

const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

struct Fixture {
    broker: LoginBroker,
    lake: PathBuf,
    client: Client,
    _server: Server,
    _folder: TempDir,
}

impl Fixture {
    async fn start(environment: &[(&str, &str)]) -> Result<Self, Failure> {
        let broker = LoginBroker::start().await?;
        broker.broker.create_topic("t", 1, &[]).await?;
        broker
            .broker
            .produce("t", (0..10).map(|_| Sent::new(b"{\"id\":1}")))?;
        let (folder, lake) = lake_folder()?;
        let options = ServerOptions {
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..ServerOptions::default()
        };
        let server = Server::start_with(&lake, options).await?;
        let client = server.connect().await?;
        Ok(Self {
            broker,
            lake,
            client,
            _server: server,
            _folder: folder,
        })
    }

    /// Makes the connection `c` anew. Every option but the brokers is a secret.
    async fn connect(&self, brokers: &str, options: &[(&str, &str)]) -> Result<(), Failure> {
        let mut written = format!("brokers = '{brokers}', timeout = '3 s'");
        for (name, value) in options {
            let secret = format!("CREATE OR REPLACE SECRET my_{name} AS '{value}'");
            rows(&self.client, &secret).await?;
            written += &format!(", {name} = SECRET my_{name}");
        }
        let create = format!("CREATE OR REPLACE CONNECTION c TO KAFKA WITH ({written})");
        rows(&self.client, &create).await?;
        Ok(())
    }

    async fn check(&self, brokers: &str, options: &[(&str, &str)]) -> Result<Vec<String>, Failure> {
        self.connect(brokers, options).await?;
        rows(&self.client, "CHECK CONNECTION c").await
    }

    /// Passes every step, and reads messages.
    async fn passes(
        &self,
        port: u16,
        options: &[(&str, &str)],
        steps: &[&str],
    ) -> Result<(), Failure> {
        let checks = self.check(&format!("127.0.0.1:{port}"), options).await?;
        let passed: Vec<&str> = checks
            .iter()
            .filter_map(|check| check.split_once("|ok|").map(|(step, _)| step))
            .collect();
        assert_eq!(passed, steps, "{options:?}: {checks:?}");
        assert_eq!(checks.len(), steps.len(), "{options:?}: {checks:?}");
        let pipeline = "CREATE PIPELINE p FROM KAFKA c TOPICS ('t') FORMAT JSON COLUMNS (id bigint) INTO read SCHEDULE ON DEMAND";
        for sql in [pipeline, "RUN PIPELINE p"] {
            rows(&self.client, sql).await?;
        }
        assert_eq!(
            value(&self.client, "SELECT count(*) FROM read").await?,
            "10"
        );
        rows(&self.client, "DROP PIPELINE p; DROP TABLE read").await?;
        Ok(())
    }

    /// Fails at the last of the steps, with these words, and says this to do about it.
    async fn fails(
        &self,
        brokers: &str,
        options: &[(&str, &str)],
        (steps, words, fix): (&[&str], &str, &str),
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let checks = self.check(brokers, options).await?;
        let took = begun.elapsed();
        let found: Vec<&str> = checks
            .iter()
            .filter_map(|check| check.split('|').next())
            .collect();
        assert_eq!(found, steps, "{checks:?}");
        let (failed, passed) = checks.split_last().ok_or("there is no step")?;
        assert!(
            passed.iter().all(|step| step.contains("|ok|")),
            "{checks:?}"
        );
        let told: Vec<&str> = failed.split('|').collect();
        assert_eq!(told[1], "failed", "{checks:?}");
        assert!(told[2].contains(words), "{checks:?}");
        assert!(told[3].contains(fix), "{checks:?}");
        assert!(took < Duration::from_secs(20), "{took:?}: {checks:?}");
        for (_, secret) in options.iter().filter(|(name, _)| name.contains("word")) {
            assert!(!checks.join("\n").contains(secret), "{checks:?}");
        }
        Ok(())
    }
}

const UNVERIFIED: (&[&str], &str, &str) = (
    &["connect", "tls"],
    "could not be verified",
    "tls_ca takes the certificate of the authority",
);

#[tokio::test(flavor = "multi_thread")]
async fn brokers_with_tls_are_verified_and_who_is_kept_out_hears_why() -> Result<(), Failure> {
    let fixture = Fixture::start(&[]).await?;
    let (broker, certificates) = (&fixture.broker, &fixture.broker.certificates);
    let at = |port: u16| format!("127.0.0.1:{port}");
    let (tls, mutual, login) = (broker.tls(), broker.mutual(), broker.login());
    let full = ("tls", "verify-full");
    let ca = ("tls_ca", certificates.authority.as_str());
    let other_ca = ("tls_ca", broker.other.authority.as_str());
    let encrypted = ["connect", "tls", "topics", "read"];

    fixture.passes(tls, &[full, ca], &encrypted).await?;
    fixture
        .passes(tls, &[("tls", "require")], &encrypted)
        .await?;
    fixture
        .fails(&at(tls), &[full, other_ca], UNVERIFIED)
        .await?;
    fixture.fails(&at(tls), &[full], UNVERIFIED).await?;
    // The certificate is for 127.0.0.1.
    let elsewhere = format!("localhost:{tls}");
    let for_another: (&[&str], _, _) = (
        &["connect", "tls"],
        "is for another host than they are reached by",
        "name the brokers as their certificate does",
    );
    fixture.fails(&elsewhere, &[full, ca], for_another).await?;
    fixture
        .fails(&elsewhere, &[full, other_ca], UNVERIFIED)
        .await?;
    let checks = fixture
        .check(&elsewhere, &[("tls", "verify-ca"), ca])
        .await?;
    assert_eq!(checks.len(), 4, "{checks:?}");
    let without: (&[&str], _, _) = (
        &["connect", "tls"],
        "connection closed by peer",
        "tls = 'verify-full'",
    );
    fixture
        .fails(&at(tls), &[("tls", "disable")], without)
        .await?;
    let needless: (&[&str], _, _) = (
        &["connect", "tls"],
        "PLAINTEXT broker listener",
        "tls = 'disable'",
    );
    fixture
        .fails(&broker.broker.address(), &[full, ca], needless)
        .await?;

    let own = [
        ("tls_cert", certificates.client.as_str()),
        ("tls_key", certificates.client_key.as_str()),
    ];
    let foreign = [
        ("tls_cert", broker.other.client.as_str()),
        ("tls_key", broker.other.client_key.as_str()),
    ];
    fixture
        .passes(mutual, &[full, ca, own[0], own[1]], &encrypted)
        .await?;
    let refused: (&[&str], _, _) = (
        &["connect", "tls"],
        "refused the certificate of this client",
        "tls_cert and tls_key",
    );
    fixture.fails(&at(mutual), &[full, ca], refused).await?;
    fixture
        .fails(&at(mutual), &[full, ca, foreign[0], foreign[1]], refused)
        .await?;
    // What a broker says when it ends a connection is easily lost. Who has a certificate sends a signature, too.
    let lossy = LossyWay::to(mutual, 2).await?;
    fixture.fails(&at(lossy.port), &[full, ca], refused).await?;
    let lossy = LossyWay::to(mutual, 3).await?;
    fixture
        .fails(
            &at(lossy.port),
            &[full, ca, foreign[0], foreign[1]],
            refused,
        )
        .await?;
    let no_pair: (&[&str], _, _) = (&["options"], "key values mismatch", "");
    fixture
        .fails(&at(mutual), &[full, ca, own[0], foreign[1]], no_pair)
        .await?;

    let user = ("user", USER);
    let logged_in = ["connect", "tls", "login", "topics", "read"];
    let steps: &[&str] = &["connect", "tls", "login"];
    for mechanism in ["plain", "scram-sha-512"] {
        let sasl = ("sasl", mechanism);
        let right = [full, ca, sasl, user, ("password", PASSWORD)];
        fixture.passes(login, &right, &logged_in).await?;
        let wrong = [full, ca, sasl, user, ("password", "hunter2")];
        let told = (steps, "refused to let in", "\"password\"");
        fixture.fails(&at(login), &wrong, told).await?;
    }
    let unknown = [full, ca, ("sasl", "scram-sha-256"), user, ("password", "x")];
    let told = (steps, "Unsupported SASL mechanism", "option \"sasl\"");
    fixture.fails(&at(login), &unknown, told).await?;
    let told = (steps, "connection closed by peer", "\"user\"");
    fixture.fails(&at(login), &[full, ca], told).await?;
    // No password goes to who has no trusted certificate.
    let right = [
        full,
        other_ca,
        ("sasl", "plain"),
        user,
        ("password", PASSWORD),
    ];
    fixture.fails(&at(login), &right, UNVERIFIED).await?;

    let token = unsigned_token(USER, 600)?;
    let sasl = ("sasl", "oauthbearer");
    fixture
        .passes(login, &[full, ca, sasl, ("token", &token)], &logged_in)
        .await?;
    for token in [unsigned_token(USER, -5)?, "abc".to_owned()] {
        let told = (steps, "refused to let in", "\"token\"");
        fixture
            .fails(&at(login), &[full, ca, sasl, ("token", &token)], told)
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_from_an_identity_provider_and_are_renewed() -> Result<(), Failure> {
    let fixture = Fixture::start(&[]).await?;
    let (broker, client) = (&fixture.broker, &fixture.client);
    let provider = TokenProvider::start().await?;
    let (login, url) = (broker.login(), provider.url());
    let options = [
        ("tls", "verify-full"),
        ("tls_ca", broker.certificates.authority.as_str()),
        ("sasl", "oauthbearer"),
        ("oauth_url", url.as_str()),
        ("oauth_client_id", CLIENT_ID),
        ("oauth_client_secret", CLIENT_SECRET),
        ("oauth_scope", "kafka read"),
    ];
    let with = |name, value| {
        let mut changed = options;
        for option in changed.iter_mut().filter(|option| option.0 == name) {
            option.1 = value;
        }
        changed
    };
    let logged_in = ["connect", "tls", "login", "topics", "read"];
    // A provider may fail now and then.
    provider.set_faults(&[
        ("503 Service Unavailable", ""),
        ("429 Too Many Requests", "{}"),
    ]);
    fixture.passes(login, &options, &logged_in).await?;
    // One token serves all clients of a connection.
    assert!(provider.asked() <= 6, "{}", provider.asked());

    let at = format!("127.0.0.1:{login}");
    let steps: &[&str] = &["connect", "tls", "login"];
    for (wrong, words) in [
        (
            with("oauth_client_secret", "hunter2"),
            "gives no token: invalid_client: the client is not known",
        ),
        (with("oauth_scope", "all"), "gives no token: invalid_scope"),
        (
            with("oauth_url", "http://127.0.0.1:1/token"),
            "the provider of tokens at http://127.0.0.1:1/token cannot be reached",
        ),
    ] {
        fixture
            .fails(&at, &wrong, (steps, words, "\"oauth_"))
            .await?;
    }
    let echo = r#"{"error":"bad","error_description":"no secret is s3cret/+ %"}"#;
    for (status, body, words) in [
        ("200 OK", "<html>", "answers what is no token"),
        ("302 Found", "", "it answers 302 Found"),
        ("401 Unauthorized", echo, "bad: no secret is ..."),
    ] {
        provider.set_faults(&[(status, body); 9]);
        fixture
            .fails(&at, &options, (steps, words, "\"oauth_"))
            .await?;
    }
    provider.set_faults(&[]);

    // The brokers end connections whose token is over.
    provider.set_life(12);
    fixture.connect(&at, &options).await?;
    let create = "CREATE PIPELINE p FROM KAFKA c TOPICS ('t') FORMAT JSON COLUMNS (id bigint) INTO read WITH (target_lag = '200 ms')";
    rows(client, create).await?;
    let before = provider.asked();
    for second in 11..=34 {
        broker.broker.produce("t", [Sent::new(b"{\"id\":1}")])?;
        wait_for(client, "SELECT count(*) FROM read", &second.to_string()).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let renewed = provider.asked() - before;
    assert!((2..20).contains(&renewed), "{renewed}");
    let failed = "SELECT error FROM system.pipeline_runs WHERE pipeline = 'p' AND state = 'failed'";
    assert_eq!(rows(client, failed).await?, [""; 0]);
    let shown = value(client, "SHOW CREATE CONNECTION c").await?;
    assert!(!shown.contains(CLIENT_SECRET), "{shown}");

    // One that takes the client for no client of its own any more stops the pipeline, whoever meets it.
    let refusal = r#"{"error":"invalid_client","error_description":"the client was removed"}"#;
    provider.set_faults(&[("401 Unauthorized", refusal); 99]);
    let last = "SELECT last_run_state, (SELECT error LIKE '%gives no token: invalid_client%' FROM system.pipeline_runs \
                WHERE run_id = last_run_id) FROM system.pipelines";
    wait_for(client, last, "failed|t").await?;
    let run = value(client, "SELECT last_run_id FROM system.pipelines").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        value(client, "SELECT last_run_id FROM system.pipelines").await?,
        run
    );
    let log = std::fs::read_to_string(fixture.lake.with_extension("log"))?;
    assert!(!log.contains(CLIENT_SECRET) && !log.contains("s3cret%2F"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_broken_off_is_no_refusal() -> Result<(), Failure> {
    let interrupted = InterruptedBroker::start().await?;
    let broker = &interrupted.broker;
    broker.create_topic("t", 1, &[]).await?;
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    let connect = format!(
        "CREATE CONNECTION c TO KAFKA WITH (brokers = '127.0.0.1:{}', sasl = 'plain', \
         user = 'boathouse', password = 'boathouse', timeout = '10 s')",
        interrupted.login
    );
    rows(&client, &connect).await?;
    let create = "CREATE PIPELINE p FROM KAFKA c TOPICS ('t') FORMAT JSON COLUMNS (id bigint) INTO read WITH (target_lag = '200 ms')";
    rows(&client, create).await?;
    for round in 1..=3 {
        broker.produce("t", [Sent::new(b"{\"id\":1}")])?;
        wait_for(&client, "SELECT count(*) FROM read", &round.to_string()).await?;
        // What is open ends, and clients come again.
        interrupted.end_connections();
    }
    assert!(interrupted.begun() > 9, "{}", interrupted.begun());
    let failed = "SELECT error FROM system.pipeline_runs WHERE state = 'failed'";
    assert_eq!(rows(&client, failed).await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn amazon_msk_is_logged_in_to_by_iam() -> Result<(), Failure> {
    let fixture = Fixture::start(&[
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ("AWS_SESSION_TOKEN", "environment/+="),
    ])
    .await?;
    let (broker, iam) = (&fixture.broker, fixture.broker.iam());
    let ca = ("tls_ca", broker.certificates.authority.as_str());
    let here = [
        ("tls", "verify-full"),
        ca,
        ("sasl", "aws-msk-iam"),
        ("region", "eu-central-1"),
    ];
    let keys = [
        ("access_key_id", ACCESS_KEY_ID),
        ("secret_access_key", SECRET_ACCESS_KEY),
    ];
    let logged_in = ["connect", "tls", "login", "topics", "read"];
    let with = |more: &[(&'static str, &'static str)]| [&here[..], more].concat();

    fixture.passes(iam, &with(&keys), &logged_in).await?;
    are_signed(broker, SECRET_ACCESS_KEY, "")?;
    let session = ("session_token", "IQoJb3JpZ2luX2VjE/+==");
    let of_a_session = with(&[keys[0], keys[1], session]);
    fixture.passes(iam, &of_a_session, &logged_in).await?;
    are_signed(broker, SECRET_ACCESS_KEY, session.1)?;
    fixture.passes(iam, &here, &logged_in).await?;
    are_signed(broker, SECRET_ACCESS_KEY, "environment/+=")?;

    // Tables go out by the same way.
    let client = &fixture.client;
    broker.broker.create_topic("out", 1, &[]).await?;
    let write = "COPY (SELECT 7 AS id) TO KAFKA c TOPIC 'out'";
    rows(client, write).await?;
    assert_eq!(broker.broker.consume("out", 1)?, ["0:0 {\"id\":7}"]);

    let stranger = with(&[("access_key_id", "AKIDSTRANGER"), keys[1]]);
    let told: (&[&str], _, _) = (
        &["connect", "tls", "login"],
        "refused to let in",
        "\"access_key_id\"",
    );
    let at = format!("127.0.0.1:{iam}");
    fixture.fails(&at, &stranger, told).await?;
    let log = std::fs::read_to_string(fixture.lake.with_extension("log"))?;
    assert!(!log.contains(SECRET_ACCESS_KEY));
    Ok(())
}

/// Holds the tokens that the broker took last against what AWS's own library signs.
fn are_signed(broker: &LoginBroker, secret: &str, session: &str) -> Result<(), Failure> {
    let log = broker.broker.log()?;
    let mut tokens = log
        .lines()
        .filter_map(|line| line.strip_prefix("IamValidator: "));
    let last = tokens.next_back().ok_or("the broker has seen no token")?;
    let mut python = Command::new(service::python_aws()?)
        .arg(repository().join("tests/interop/msk_token.py"))
        .args(["eu-central-1", ACCESS_KEY_ID, secret, session])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = python.stdin.take().ok_or("python takes no input")?;
    writeln!(input, "{last}")?;
    drop(input);
    let told = String::from_utf8(python.wait_with_output()?.stdout)?;
    match told.trim() {
        "same" => Ok(()),
        other => Err(other.to_owned().into()),
    }
}
