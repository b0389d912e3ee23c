//! The parent's side of the reading process.
//!
//! The process is started for one workbook, watched while it is waited for, and always reaped. It
//! is stopped when it has said nothing for [`SILENCE_MAX`] while this side was listening, and when
//! the sink wants no more.

use std::io::{BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use crate::error::{FormatError, sqlstate};

use super::protocol::{self, Failure, Request, read_frame};

/// Opening a workbook with many shared texts is the longest silence.
const SILENCE_MAX: Duration = Duration::from_secs(60);

static READER: OnceLock<PathBuf> = OnceLock::new();

/// Names the program that answers to `__read-excel`, where it is not the running one. The first
/// call holds; the environment variable `BOATHOUSE_EXCEL_READER` does the same.
pub fn set_excel_reader(program: impl Into<PathBuf>) {
    // Whoever came first wins, as said.
    let _ = READER.set(program.into());
}

fn reader() -> Result<PathBuf, FormatError> {
    if let Some(program) = READER.get() {
        return Ok(program.clone());
    }
    match std::env::var_os("BOATHOUSE_EXCEL_READER") {
        Some(program) => Ok(program.into()),
        None => std::env::current_exe().map_err(FormatError::io),
    }
}

/// What to do with one frame: go on, or stop with everything in hand.
pub enum Next {
    Continue,
    Stop,
}

pub fn run(
    request: &Request,
    on_frame: &mut dyn FnMut(u8, Vec<u8>) -> Result<Next, FormatError>,
) -> Result<(), FormatError> {
    let program = reader()?;
    let mut child = Command::new(&program)
        .arg("__read-excel")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| {
            FormatError::new(
                sqlstate::INTERNAL_ERROR,
                format!(
                    "could not start \"{}\" to read the workbook",
                    program.display()
                ),
            )
            .caused_by(error)
        })?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(FormatError::new(
            sqlstate::INTERNAL_ERROR,
            "reading process has no pipes",
        ));
    };
    let text = serde_json::to_vec(request).map_err(|error| {
        FormatError::new(sqlstate::INTERNAL_ERROR, "request cannot be written").caused_by(error)
    })?;
    // A child that died early is noticed when its answer is read.
    let _ = input.write_all(&text);
    drop(input);
    let child = Arc::new(Mutex::new(child));
    let watch = Watch::start(child.clone());
    let mut output = BufReader::with_capacity(1 << 16, output);
    let result = listen(&mut output, &watch, on_frame);
    let silent = watch.stop();
    let early = matches!(result, Ok(Ended::Early));
    let status = end(&child, early && !silent);
    match result {
        Ok(Ended::Properly) => Ok(()),
        Ok(Ended::Early) if silent => Err(FormatError::new(
            sqlstate::LIMIT_EXCEEDED,
            format!(
                "reading the workbook gave nothing for {} s",
                SILENCE_MAX.as_secs()
            ),
        )),
        // An allocation that fails aborts the process; anything else is a defect it was led into.
        Ok(Ended::Early) if status.and_then(|status| status.signal()) == Some(ABORTED) => {
            Err(FormatError::new(
                sqlstate::OUT_OF_MEMORY,
                format!(
                    "reading the workbook needs more than {} MiB of memory",
                    request.memory_mib
                ),
            )
            .hint("if the workbook is honest, raise memory_limit_mb or deliver it in parts"))
        }
        Ok(Ended::Early) => Err(super::guard::damaged("reading it ended abnormally")),
        Err(error) => Err(error),
    }
}

const ABORTED: i32 = 6;

enum Ended {
    Properly,
    Early,
}

fn listen(
    output: &mut impl std::io::Read,
    watch: &Watch,
    on_frame: &mut dyn FnMut(u8, Vec<u8>) -> Result<Next, FormatError>,
) -> Result<Ended, FormatError> {
    loop {
        watch.listening(true);
        let frame = read_frame(output).map_err(FormatError::io)?;
        watch.listening(false);
        match frame {
            None => return Ok(Ended::Early),
            Some((protocol::FAILED, bytes)) => {
                let failure: Failure = serde_json::from_slice(&bytes).map_err(|error| {
                    FormatError::new(sqlstate::INTERNAL_ERROR, "answer is not valid")
                        .caused_by(error)
                })?;
                return Err(failure.into());
            }
            Some((kind, bytes)) => {
                let last = kind == protocol::DONE || kind == protocol::SCHEMA;
                if matches!(on_frame(kind, bytes)?, Next::Stop) || last {
                    return Ok(Ended::Properly);
                }
            }
        }
    }
}

/// Reaps the child, which ended by itself or is stopped.
fn end(child: &Mutex<Child>, ended: bool) -> Option<ExitStatus> {
    let mut child = match child.lock() {
        Ok(child) => child,
        Err(poisoned) => poisoned.into_inner(),
    };
    if !ended {
        // It may have ended meanwhile, which is as good.
        let _ = child.kill();
    }
    child.wait().ok()
}

/// Stops the child when it is silent for too long while somebody listens.
struct Watch {
    changes: Sender<bool>,
    thread: thread::JoinHandle<bool>,
}

impl Watch {
    fn start(child: Arc<Mutex<Child>>) -> Self {
        let (changes, seen) = channel();
        let thread = thread::spawn(move || {
            let mut listening = false;
            loop {
                let change = match listening {
                    true => seen.recv_timeout(SILENCE_MAX),
                    false => seen.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                match change {
                    Ok(now) => listening = now,
                    Err(RecvTimeoutError::Disconnected) => return false,
                    Err(RecvTimeoutError::Timeout) => {
                        end(&child, false);
                        return true;
                    }
                }
            }
        });
        Self { changes, thread }
    }

    fn listening(&self, now: bool) {
        // The thread is gone only when it has stopped the child.
        let _ = self.changes.send(now);
    }

    /// Whether the child was stopped for its silence.
    fn stop(self) -> bool {
        drop(self.changes);
        self.thread.join().unwrap_or(false)
    }
}
