//! Who gets in, and how: TLS, passwords, the HTTP pages.

use std::path::Path;
use std::process::Command;

use boathouse_tests::{Failure, PASSWORD, Server, ServerOptions, binary, lake_folder};

/// A certificate for 127.0.0.1, signed by itself.
fn certificate(folder: &Path) -> Result<(String, String), Failure> {
    let (key, chain) = (folder.join("server.key"), folder.join("server.pem"));
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&chain)
        .output()?;
    assert!(made.status.success(), "{made:?}");
    Ok((key.display().to_string(), chain.display().to_string()))
}

/// What psql says to a connection string: its output, or its error.
fn psql(server: &Server, user: &str, password: &str, tls: &str) -> Result<String, Failure> {
    let output = Command::new("psql")
        .args(["-X", "-At", "-c", "SELECT current_user"])
        .arg(format!(
            "host=127.0.0.1 port={} user={user} dbname=boathouse {tls}",
            server.port
        ))
        .env("PGPASSWORD", password)
        .output()?;
    let said = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    Ok(String::from_utf8(said)?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_required_only_tls_gets_in() -> Result<(), Failure> {
    let (folder, lake) = lake_folder()?;
    let (key, chain) = certificate(folder.path())?;
    let arguments = [
        "--tls-cert",
        &chain,
        "--tls-key",
        &key,
        "--require-tls",
        "true",
    ];
    let server = Server::spawn(
        &lake,
        ServerOptions {
            arguments: arguments.map(str::to_owned).to_vec(),
            ..ServerOptions::default()
        },
    )?;
    let verified = format!("sslmode=verify-full sslrootcert={chain}");
    let mut answer = String::new();
    for _ in 0..600 {
        answer = psql(&server, "boathouse", PASSWORD, &verified)?;
        if !answer.contains("refused") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(answer, "boathouse", "{}", server.log());
    // The program's own client gets in, too, and verifies what it is told to.
    let other = tempfile::tempdir()?;
    let (_, strange) = certificate(other.path())?;
    for (trusted, expected) in [(None, true), (Some(&chain), true), (Some(&strange), false)] {
        let mut asked = Command::new(binary()?);
        asked
            .args(["sql", "--host", "127.0.0.1", "--port"])
            .arg(server.port.to_string())
            .env("BOATHOUSE_PASSWORD", PASSWORD);
        if let Some(file) = trusted {
            asked.arg("--ca-file").arg(file);
        }
        let asked = asked.args(["--csv", "SELECT current_user"]).output()?;
        assert_eq!(asked.status.success(), expected, "{asked:?}");
        assert_eq!(
            String::from_utf8_lossy(&asked.stdout).contains("boathouse"),
            expected,
            "{asked:?}"
        );
    }
    let plain = psql(&server, "boathouse", PASSWORD, "sslmode=disable")?;
    assert!(
        plain.contains(
            "FATAL:  no pg_hba.conf entry for host \"127.0.0.1\", user \"boathouse\", \
             database \"boathouse\", no encryption"
        ),
        "{plain}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_user_are_answered_alike() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client
        .batch_execute("CREATE ROLE visitor LOGIN PASSWORD 'let me in'; CREATE ROLE nobody NOLOGIN")
        .await?;
    assert_eq!(psql(&server, "visitor", "let me in", "")?, "visitor");
    for user in ["visitor", "stranger"] {
        let answer = psql(&server, user, "a guess", "")?;
        let expected = format!("FATAL:  password authentication failed for user \"{user}\"");
        assert!(answer.contains(&expected), "{answer}");
    }
    let answer = psql(&server, "nobody", "a guess", "")?;
    assert!(answer.contains("FATAL:"), "{answer}");
    // Nothing that was typed as a password is in the log.
    assert!(!server.log().contains("a guess"), "{}", server.log());
    assert!(!server.log().contains("let me in"), "{}", server.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_seen_from_outside_ask_for_a_password_and_health_does_not() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let inside = Server::start(&lake).await?;
    let (_folder, lake) = lake_folder()?;
    let options = ServerOptions {
        http_host: Some("0.0.0.0"),
        ..ServerOptions::default()
    };
    let server = Server::start_with(&lake, options).await?;
    let status_of = |server: &Server, path: &str, user: Option<&str>| -> Result<String, Failure> {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
        if let Some(user) = user {
            curl.args(["-u", user]);
        }
        curl.arg(format!("http://127.0.0.1:{}/{path}", server.http_port));
        Ok(String::from_utf8(curl.output()?.stdout)?)
    };
    assert_eq!(status_of(&inside, "metrics", None)?, "200");
    let status = |path: &str, user: Option<&str>| status_of(&server, path, user);
    assert_eq!(status("health", None)?, "200");
    assert_eq!(status("ready", None)?, "200");
    assert_eq!(status("metrics", None)?, "401");
    assert_eq!(status("metrics", Some("boathouse:wrong"))?, "401");
    let superuser = format!("boathouse:{PASSWORD}");
    assert_eq!(status("metrics", Some(&superuser))?, "200");
    Ok(())
}
