//! psql's own commands work: what an administrator types first.

use std::process::Command;

use boathouse_tests::{Failure, PASSWORD, Server, lake_folder};

fn psql(server: &Server, input: &str) -> Result<String, Failure> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("script.sql");
    std::fs::write(&script, input)?;
    let output = Command::new("psql")
        .args(["-X", "-h", "127.0.0.1", "-p", &server.port.to_string()])
        .args([
            "-U",
            "boathouse",
            "-d",
            "boathouse",
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
        ])
        .arg(&script)
        .env("PGPASSWORD", PASSWORD)
        .output()?;
    if !output.status.success() {
        return Err(format!("{input}\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn backslash_commands_describe_what_is_there() -> Result<(), Failure> {
    let (folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    psql(
        &server,
        "CREATE SCHEMA shop;
         CREATE TABLE shop.item (sku text PRIMARY KEY, qty int NOT NULL DEFAULT 0,
           price numeric(10,2), CHECK (qty >= 0));
         COMMENT ON TABLE shop.item IS 'what is sold';
         CREATE VIEW shop.cheap AS SELECT sku FROM shop.item WHERE price < 10;
         CREATE ROLE reader LOGIN PASSWORD 'x';
         INSERT INTO shop.item VALUES ('a', 1, 9.50), ('b', 2, 11);
         SET search_path TO shop, public;",
    )?;
    let describe = psql(&server, "\\d shop.item")?;
    for expected in [
        "sku",
        "integer",
        "numeric(10,2)",
        "not null",
        "item_pkey",
        "item_qty_check",
    ] {
        assert!(
            describe.contains(expected),
            "{expected} is missing in\n{describe}"
        );
    }
    assert!(psql(&server, "\\d+ shop.item")?.contains("price"));
    assert!(psql(&server, "\\dt shop.*")?.contains("item"));
    assert!(psql(&server, "\\dt+ shop.*")?.contains("what is sold"));
    assert!(psql(&server, "\\dv shop.*")?.contains("cheap"));
    assert!(psql(&server, "\\d+ shop.cheap")?.contains("sku"));
    assert!(psql(&server, "\\dn")?.contains("shop"));
    assert!(psql(&server, "\\du")?.contains("reader"));
    assert!(psql(&server, "\\l")?.contains("boathouse"));
    assert!(psql(&server, "\\df")?.contains("Name"));
    assert!(psql(&server, "\\conninfo")?.contains("You are connected to database"));
    assert!(psql(&server, "\\timing on\nSELECT 1;")?.contains("Time:"));
    let copied = folder.path().join("item.csv");
    psql(
        &server,
        &format!("\\copy shop.item to '{}' csv header", copied.display()),
    )?;
    assert_eq!(
        std::fs::read_to_string(&copied)?,
        "sku,qty,price\na,1,9.50\nb,2,11.00\n"
    );
    psql(
        &server,
        "CREATE TABLE shop.again (sku text, qty int, price numeric(10,2));",
    )?;
    psql(
        &server,
        &format!("\\copy shop.again from '{}' csv header", copied.display()),
    )?;
    assert!(psql(&server, "SELECT sum(price) FROM shop.again;")?.contains("20.50"));
    Ok(())
}
