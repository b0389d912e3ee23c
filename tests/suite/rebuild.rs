//! `boathouse catalog rebuild`: a lost catalog costs no table.

use std::process::Command;

use boathouse_tests::{Failure, PASSWORD, Server, binary, lake_folder, rows};

#[tokio::test(flavor = "multi_thread")]
async fn tables_come_back_from_the_lake_alone() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let mut server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE SCHEMA shop;
             CREATE TABLE shop.item (sku text PRIMARY KEY, price numeric(10,2) DEFAULT 1.50,
               sold timestamptz, CHECK (price >= 0)) PARTITIONED BY (sku);
             COMMENT ON TABLE shop.item IS 'what is sold';
             INSERT INTO shop.item VALUES ('a', 9.50, '2024-01-01'), ('b', NULL, NULL);
             CREATE TABLE plain (id int)",
        )
        .await?;
    let described = rows(&client, "SHOW CREATE TABLE shop.item").await?;
    server.kill()?;
    for file in std::fs::read_dir(lake.join("_boathouse"))? {
        let path = file?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("catalog"))
        {
            std::fs::remove_file(path)?;
        }
    }

    let output = Command::new(binary()?)
        .args(["catalog", "rebuild", "--lake"])
        .arg(&lake)
        .env("BOATHOUSE_PASSWORD", PASSWORD)
        .output()?;
    assert!(output.status.success(), "{output:?}");

    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    assert_eq!(
        rows(&client, "SELECT * FROM shop.item ORDER BY sku").await?,
        ["a|9.50|2024-01-01 00:00:00+00", "b|∅|∅"]
    );
    assert_eq!(rows(&client, "SELECT count(*) FROM plain").await?, ["0"]);
    assert_eq!(
        rows(&client, "SHOW CREATE TABLE shop.item").await?,
        described
    );
    let refused = rows(&client, "INSERT INTO shop.item VALUES ('c', -1)").await;
    assert!(refused.is_err_and(|error| error.to_string().contains("item_price_check")));
    Ok(())
}
