//! A Spark with Delta Lake: one process, asked by one statement after the other. It ends when nobody can ask
//! it any more.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::{Failure, service};

pub struct Spark {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Its own files, and what it says besides answers.
    folder: TempDir,
}

impl Spark {
    /// Starts it; what is asked meanwhile waits.
    pub fn start() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut child = Command::new("java")
            .arg(format!("@{}", service::spark()?.display()))
            .arg(folder.path().join("files"))
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or("the process has no pipes")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output).lines(),
            folder,
        })
    }

    /// Runs a statement and gives its rows as [`crate::rows`] does.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<String>, Failure> {
        writeln!(self.input, "{}", sql.replace('\n', " "))?;
        let mut rows = Vec::new();
        for line in self.output.by_ref() {
            let line = line?;
            if line == "done" {
                return Ok(rows);
            }
            match line.split_once(' ') {
                Some(("row", row)) => rows.push(row.to_owned()),
                Some(("error", reason)) => return Err(format!("{sql}: {reason}").into()),
                _ => return Err(format!("Spark said {line}").into()),
            }
        }
        let log = std::fs::read_to_string(self.folder.path().join("log"))?;
        Err(format!("Spark ended: {log}").into())
    }
}

impl Drop for Spark {
    fn drop(&mut self) {
        // Nothing is left to do when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
