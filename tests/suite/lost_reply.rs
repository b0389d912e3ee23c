//! A commit whose reply is lost is asked after, and costs no row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use boathouse_tests::{Failure, Server, ServerOptions, lake_folder, rows, service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Carries bytes to PostgreSQL. Once armed, it lets the next COMMIT through and keeps the answer.
async fn carry(client: TcpStream, upstream: String, armed: Arc<AtomicBool>) -> Result<(), Failure> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(upstream).await?.into_split();
    let mut asked = vec![0; 1 << 16];
    let mut answer = vec![0; 1 << 16];
    let mut lost = false;
    loop {
        tokio::select! {
            count = from_client.read(&mut asked) => {
                let count = count?;
                if count == 0 {
                    return Ok(());
                }
                let commits = asked[..count].windows(7).any(|bytes| bytes == b"COMMIT\0");
                lost = commits && armed.swap(false, Ordering::SeqCst);
                to_server.write_all(&asked[..count]).await?;
            }
            count = from_server.read(&mut answer) => {
                let count = count?;
                if count == 0 || lost {
                    return Ok(());
                }
                to_client.write_all(&answer[..count]).await?;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_commit_was_not_answered_keeps_its_rows() -> Result<(), Failure> {
    let url = service::postgres()?;
    let (admin, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let name = format!("lost_{}", uuid::Uuid::new_v4().simple());
    admin
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await?;
    let (scheme, rest) = url.split_once("://").ok_or("the URL has no scheme")?;
    let (authority, _) = rest.split_once('/').ok_or("the URL has no database")?;
    let (user, host) = authority.rsplit_once('@').ok_or("the URL has no user")?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let armed = Arc::new(AtomicBool::new(false));
    tokio::spawn({
        let (host, armed) = (host.to_owned(), Arc::clone(&armed));
        async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, host.clone(), Arc::clone(&armed)));
            }
        }
    });

    let (folder, lake) = lake_folder()?;
    let options = ServerOptions {
        environment: vec![
            (
                "BOATHOUSE_CATALOG".to_owned(),
                format!("{scheme}://{user}@127.0.0.1:{port}/{name}"),
            ),
            (
                "BOATHOUSE_MASTER_KEY_FILE".to_owned(),
                folder.path().join("master.key").display().to_string(),
            ),
        ],
        ..ServerOptions::default()
    };
    let server = Server::start_with(&lake, options).await?;
    let client = server.connect().await?;
    armed.store(true, Ordering::SeqCst);
    client
        .batch_execute("CREATE TABLE t AS SELECT 7 AS a")
        .await?;
    assert!(!armed.load(Ordering::SeqCst), "no commit passed by");
    assert!(
        server.log().contains("reply to a commit was lost"),
        "{}",
        server.log()
    );
    assert_eq!(rows(&client, "SELECT a FROM t").await?, ["7"]);
    Ok(())
}
