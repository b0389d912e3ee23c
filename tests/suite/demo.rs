//! `boathouse demo` does what the README says: loads the example inbox, shows results, serves.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use boathouse_tests::{Failure, PASSWORD, binary, free_port, lake_folder};

#[test]
fn the_demo_loads_the_example_files_and_says_how_to_connect() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let port = free_port()?;
    let mut child = Command::new(binary()?)
        .arg("demo")
        .arg("--lake")
        .arg(&lake)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(["--http", &format!("127.0.0.1:{}", free_port()?)])
        .env("BOATHOUSE_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let output = child.stdout.take().ok_or("the demo has no output")?;
    let mut seen = String::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        seen.push_str(&line);
        seen.push('\n');
        if line.contains("psql ") {
            break;
        }
    }
    let count = Command::new("psql")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "boathouse",
            "boathouse",
            "-At",
        ])
        .args([
            "-c",
            "SELECT count(*), count(DISTINCT _file) FROM bronze.stock",
        ])
        .env("PGPASSWORD", PASSWORD)
        .output()?;
    child.kill()?;
    child.wait()?;
    assert!(seen.contains("psql "), "{seen}");
    assert!(seen.contains("Paracetamol 500 mg"), "{seen}");
    assert_eq!(String::from_utf8_lossy(&count.stdout), "31|3\n", "{seen}");
    Ok(())
}
