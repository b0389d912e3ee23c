//! The parent's side of the reading process.
//!
//! The process is started for one workbook, watched while it is waited for, and always reaped. It
//! answers several requests, because opening a workbook with many texts is half of the work. It is
//! stopped when it has said nothing for [`SILENCE_MAX`] while this side was listening, and when
//! the sink wants no more.

use std::fmt;
use std::io::{BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
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

/// A reading process with its workbook open. Dropping it ends the process.
pub struct Session {
    child: Arc<Mutex<Child>>,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    memory_mib: u64,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Session")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        end(&self.child, false);
    }
}

impl Session {
    pub fn start(memory_mib: u64) -> Result<Self, FormatError> {
        let program = reader()?;
        let mut child = Command::new(&program)
            .arg("__read-excel")
            // The limit is one of addresses, of which the allocator would otherwise keep more than it uses.
            .env(
                "_RJEM_MALLOC_CONF",
                "retain:false,narenas:1,background_thread:false",
            )
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
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let child = Arc::new(Mutex::new(child));
        let (Some(input), Some(output)) = (input, output) else {
            end(&child, false);
            return Err(FormatError::new(
                sqlstate::INTERNAL_ERROR,
                "reading process has no pipes",
            ));
        };
        Ok(Self {
            child,
            input,
            output: BufReader::with_capacity(1 << 16, output),
            memory_mib,
        })
    }

    /// Has one request answered. Gives the session back when it can answer another.
    pub fn ask(
        mut self,
        request: &Request,
        on_frame: &mut dyn FnMut(u8, Vec<u8>) -> Result<Next, FormatError>,
    ) -> Result<Option<Self>, FormatError> {
        let mut text = serde_json::to_vec(request).map_err(|error| {
            FormatError::new(sqlstate::INTERNAL_ERROR, "request cannot be written").caused_by(error)
        })?;
        text.push(b'\n');
        // A child that died early is noticed when its answer is read.
        let _ = self
            .input
            .write_all(&text)
            .and_then(|()| self.input.flush());
        let watch = Watch::start(self.child.clone());
        let result = listen(&mut self.output, &watch, on_frame);
        let silent = watch.stop();
        match result? {
            Ended::Answered => Ok(Some(self)),
            Ended::Stopped => Ok(None),
            Ended::Early if silent => Err(FormatError::new(
                sqlstate::LIMIT_EXCEEDED,
                format!(
                    "reading the workbook gave nothing for {} s",
                    SILENCE_MAX.as_secs()
                ),
            )),
            Ended::Early => {
                let status = end(&self.child, true);
                // An allocation that fails aborts the process; anything else is a defect it was led into.
                if status.and_then(|status| status.signal()) != Some(ABORTED) {
                    return Err(super::guard::damaged("reading it ended abnormally"));
                }
                Err(super::guard::needs_memory(self.memory_mib))
            }
        }
    }
}

const ABORTED: i32 = 6;

enum Ended {
    /// To the end of the answer.
    Answered,
    /// The sink wanted no more.
    Stopped,
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
                if matches!(on_frame(kind, bytes)?, Next::Stop) {
                    return Ok(Ended::Stopped);
                }
                if last {
                    return Ok(Ended::Answered);
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
