//! `boathouse demo` does what the README says: loads the example inbox, shows results, serves, and its tour works.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use boathouse_tests::kafka::Broker;
use boathouse_tests::mysql::{Flavor, Source};
use boathouse_tests::{Failure, PASSWORD, binary, free_port, lake_folder, repository};
use tempfile::TempDir;

/// How long a query of the tour may take to show what was done at a source.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(30);

struct Demo {
    port: u16,
    child: Child,
    /// What it printed up to how to connect.
    seen: String,
    _output: BufReader<ChildStdout>,
    _folder: TempDir,
}

impl Demo {
    fn start() -> Result<Self, Failure> {
        let (folder, lake) = lake_folder()?;
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
        let mut output = BufReader::new(output);
        let mut seen = String::new();
        while output.read_line(&mut seen)? > 0 {
            if seen.contains("psql ") {
                break;
            }
        }
        Ok(Self {
            port,
            child,
            seen,
            _output: output,
            _folder: folder,
        })
    }

    fn psql(&self, options: &[&str], sql: &str) -> Result<String, Failure> {
        let output = Command::new("psql")
            .args(["-X", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "boathouse", "boathouse"])
            .args(options)
            .args(["-c", sql])
            .env("PGPASSWORD", PASSWORD)
            .output()?;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)?)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into())
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Nothing is left to do when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_demo_loads_the_example_files_and_says_how_to_connect() -> Result<(), Failure> {
    let demo = Demo::start()?;
    let count = demo.psql(
        &["-At"],
        "SELECT count(*), count(DISTINCT _file) FROM bronze.stock",
    )?;
    let seen = &demo.seen;
    assert!(seen.contains("psql "), "{seen}");
    assert!(seen.contains("Paracetamol 500 mg"), "{seen}");
    assert_eq!(count, "31|3\n", "{seen}");
    Ok(())
}

/// What somebody types who follows the tour.
#[derive(Default)]
struct Typed {
    text: String,
    /// Typed to the shell, not to psql.
    is_command: bool,
    answer: String,
}

/// What the README's blocks marked `console` have, in order.
fn tour() -> Result<Vec<Typed>, Failure> {
    let page = std::fs::read_to_string(repository().join("README.md"))?;
    let mut typed: Vec<Typed> = Vec::new();
    let mut is_console = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_console = line == "```console";
            continue;
        }
        if !is_console {
            continue;
        }
        let begins = line
            .strip_prefix("boathouse=> ")
            .map(|text| (text, false))
            .or_else(|| line.strip_prefix("$ ").map(|text| (text, true)));
        if let Some((text, is_command)) = begins {
            typed.push(Typed {
                text: format!("{text}\n"),
                is_command,
                answer: String::new(),
            });
            continue;
        }
        let last = typed.last_mut().ok_or("the tour begins with an answer")?;
        let goes_on = match last.is_command {
            true => Some(line),
            false => line.strip_prefix("boathouse-> "),
        };
        let text = goes_on.map_or(&mut last.answer, |_| &mut last.text);
        text.push_str(goes_on.unwrap_or(line));
        text.push('\n');
    }
    Ok(typed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_of_the_readme_works_as_written() -> Result<(), Failure> {
    let source = Source::own(Flavor::MySql, &[]).await?;
    let source_port = source.address().port().to_string();
    let broker = Broker::own(&[]).await?;
    let broker_port = broker.port().to_string();
    let demo = Demo::start()?;
    for Typed {
        text,
        is_command,
        answer,
    } in tour()?
    {
        let starts_server = ["tests/services/mysql.sh", "tests/services/kafka.sh"];
        if text.starts_with("psql ") || starts_server.contains(&text.trim()) {
            continue;
        }
        let text = text
            .replace("12069", &source_port)
            .replace("12092", &broker_port);
        if is_command {
            let done = Command::new("bash")
                .args(["-c", &text])
                .env("BOATHOUSE_TEST_KAFKA_PORT", &broker_port)
                .current_dir(repository())
                .output()?;
            let told = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{text}{told}");
            continue;
        }
        let begun = Instant::now();
        let trimmed = |text: &str| {
            let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
            lines.join("\n")
        };
        loop {
            let found = demo.psql(&[], &text);
            if found
                .as_ref()
                .is_ok_and(|found| trimmed(found) == trimmed(&answer))
            {
                break;
            }
            // What was done at a source comes a moment later; anything else is as it is.
            if !text.starts_with("SELECT") || begun.elapsed() > FOLLOWED_WITHIN {
                return Err(format!("{text}expected\n{answer}found\n{found:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}
