//! The drivers people use connect and fetch every type: psycopg, ADBC, ConnectorX.

use std::process::Command;

use boathouse_tests::{Failure, PASSWORD, Server, lake_folder, repository, service};

#[tokio::test(flavor = "multi_thread")]
async fn drivers_fetch_values_of_every_type() -> Result<(), Failure> {
    let python = service::python()?;
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let password = PASSWORD.replace(' ', "%20");
    let url = format!(
        "postgresql://boathouse:{password}@127.0.0.1:{}/boathouse",
        server.port
    );
    let output = Command::new(python)
        .arg(repository().join("tests/interop/clients.py"))
        .arg(url)
        .output()?;
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        server.log()
    );
    Ok(())
}
