//! MySQL and MariaDB as sources, both real.

use std::collections::BTreeMap;

use boathouse_tests::{Failure, Server, lake_folder, rows, service};

/// The servers that every test runs against.
fn servers() -> Result<Vec<(&'static str, BTreeMap<String, String>)>, Failure> {
    Ok(vec![
        ("mysql", service::mysql()?),
        ("mariadb", service::mariadb()?),
    ])
}

fn connection(name: &str, at: &BTreeMap<String, String>, more: &str) -> String {
    format!(
        "CREATE CONNECTION {name} TO MYSQL WITH (host = '{}', port = {}, user = '{}', password = '{}'{more})",
        at["HOST"], at["PORT"], at["USER"], at["PASSWORD"]
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_checked_step_by_step() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    for (name, at) in servers()? {
        client.batch_execute(&connection(name, &at, "")).await?;
        let checks = rows(&client, &format!("CHECK CONNECTION {name}")).await?;
        let failed: Vec<&String> = checks.iter().filter(|row| !row.contains("|ok|")).collect();
        assert!(failed.is_empty(), "{name}: {failed:?}");
        for step in [
            "connect",
            "format",
            "row image",
            "row metadata",
            "grants",
            "read binlog",
        ] {
            let found = checks
                .iter()
                .any(|row| row.starts_with(&format!("{step}|")));
            assert!(found, "{name} has no step {step}: {checks:?}");
        }
        // Over TLS, whoever signed the certificate.
        let secure = format!("{name}_tls");
        if name == "mysql" {
            client
                .batch_execute(&connection(&secure, &at, ", tls = 'require'"))
                .await?;
            let checks = rows(&client, &format!("CHECK CONNECTION {secure}")).await?;
            assert!(
                checks.iter().any(|row| row.starts_with("tls|ok|TLS")),
                "{checks:?}"
            );
        }
        // What nobody signed whom we trust is not trusted.
        let verified = format!("{name}_verified");
        client
            .batch_execute(&connection(&verified, &at, ", tls = 'verify-full'"))
            .await?;
        let checks = rows(&client, &format!("CHECK CONNECTION {verified}")).await?;
        assert!(checks[0].starts_with("connect|failed|"), "{checks:?}");
    }
    let wrong =
        connection("wrong", &service::mysql()?, "").replace("password = '", "password = 'x");
    client.batch_execute(&wrong).await?;
    let checks = rows(&client, "CHECK CONNECTION wrong").await?;
    assert!(
        checks[0].starts_with("connect|failed|") && checks[0].contains("Access denied"),
        "{checks:?}"
    );
    let error = client
        .batch_execute("CREATE CONNECTION c TO MYSQL WITH (host = 'h', user = 'u', tls = 'maybe')")
        .await
        .unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("22023"));
    Ok(())
}
