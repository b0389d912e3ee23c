//! Workbooks: xls, xlsx, xlsb and ods, told apart by their content.
//!
//! ```text
//! this process: child -> frames -> batches        reading process: guard -> cells -> rows -> sheet
//!                 ^                                                     (memory limit)       |
//!                 +---------------- Arrow IPC over a pipe ------------------------------------+
//! ```
//!
//! A workbook is small and can be made to unpack into anything, and the library holds some kinds
//! whole. So it is read in a process of its own with a memory limit; what remains here is a pipe.

mod cells;
mod child;
mod guard;
mod protocol;
pub mod reader;
mod rows;
mod settings;
mod sheet;

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;

use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::file::LocalFile;
use crate::options::Options;

use super::{DecodeSchema, DecodedBatch, FileFormat, FileStatistics, Format, InferenceLimits};
pub use child::set_excel_reader;
use child::{Next, Session};
use protocol::{Request, Task};
use settings::Settings;

/// The format.
pub struct Excel;

impl Format for Excel {
    fn name(&self) -> &'static str {
        "EXCEL"
    }

    fn configure(&self, options: &mut Options) -> Result<Arc<dyn FileFormat>, ConnectorError> {
        let written = options.remaining();
        let settings = Settings::take(options)?;
        Ok(Arc::new(ExcelFormat {
            options: written,
            memory_mib: settings.memory_mib,
        }))
    }
}

/// How the workbooks of a pipeline are laid out.
#[derive(Debug, Clone)]
struct ExcelFormat {
    /// As written: the reading process takes them again.
    options: Vec<(String, String)>,
    memory_mib: u64,
}

/// The workbook of this process whose columns were looked at last, still open: most likely it is read
/// next. One, and not for long: it holds memory.
static KEPT: Mutex<Kept> = Mutex::new(Kept {
    open: None,
    watched: false,
});
const KEPT_TIME: Duration = Duration::from_secs(10);

struct Kept {
    open: Option<(OpenFile, Session, Instant)>,
    /// A thread is there that ends it when its time is over.
    watched: bool,
}

/// Which file a session has open, and how it reads it.
#[derive(Debug, Clone, PartialEq)]
struct OpenFile {
    path: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
    options: Vec<(String, String)>,
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the kept session when its time is over, and itself when there is none.
fn watch_kept() {
    loop {
        std::thread::sleep(KEPT_TIME);
        let mut kept = kept();
        let over = kept
            .open
            .take_if(|(_, _, since)| since.elapsed() >= KEPT_TIME);
        let idle = kept.open.is_none();
        kept.watched = !idle;
        drop(kept);
        // Waits for a process to end: not under the lock.
        drop(over);
        if idle {
            return;
        }
    }
}

impl OpenFile {
    fn of(file: &LocalFile, format: &ExcelFormat) -> Self {
        let modified = std::fs::metadata(&file.path).and_then(|metadata| metadata.modified());
        Self {
            path: file.path.clone(),
            size: file.size,
            modified: modified.ok(),
            options: format.options.clone(),
        }
    }
}

impl ExcelFormat {
    /// The session that has the file open, or a new one.
    fn session(&self, file: &OpenFile) -> Result<Session, FormatError> {
        let found = kept().open.take_if(|(kept, _, _)| kept == file);
        match found {
            Some((_, session, _)) => Ok(session),
            None => Session::start(self.memory_mib),
        }
    }

    /// Keeps a session for the next request, for a while; the one kept before ends.
    fn keep(file: OpenFile, session: Session) {
        let mut kept = kept();
        let before = kept.open.replace((file, session, Instant::now()));
        let watched = std::mem::replace(&mut kept.watched, true);
        drop(kept);
        drop(before);
        if !watched {
            std::thread::spawn(watch_kept);
        }
    }

    fn request(&self, file: &LocalFile, task: Task) -> Request {
        Request {
            path: file.path.clone(),
            name: file.name.clone(),
            options: self.options.clone(),
            task,
            memory_mib: self.memory_mib,
        }
    }
}

impl FileFormat for ExcelFormat {
    fn infer(&self, file: &LocalFile, limits: &InferenceLimits) -> Result<SchemaRef, FormatError> {
        let request = self.request(file, Task::Infer { rows: limits.rows });
        let mut schema = None;
        let open = OpenFile::of(file, self);
        let session = self
            .session(&open)?
            .ask(&request, &mut |kind, bytes| {
                if kind == protocol::SCHEMA {
                    schema = Some(serde_json::from_slice::<Schema>(&bytes).map_err(invalid)?);
                }
                Ok(Next::Continue)
            })
            .map_err(|error| error.file(&file.name))?;
        if let Some(session) = session {
            Self::keep(open, session);
        }
        schema.map(Arc::new).ok_or_else(|| {
            FormatError::new(sqlstate::INTERNAL_ERROR, "no columns were answered").file(&file.name)
        })
    }

    fn decode(
        &self,
        file: &LocalFile,
        schema: &DecodeSchema,
        sink: &mut dyn FnMut(DecodedBatch) -> ControlFlow<()>,
    ) -> Result<FileStatistics, FormatError> {
        let task = Task::Read {
            columns: schema.columns.clone(),
            keep_unknown: schema.keep_unknown,
            inferred: schema.inferred,
        };
        let request = self.request(file, task);
        let output = schema.output();
        let mut statistics = FileStatistics::default();
        let session = self.session(&OpenFile::of(file, self))?;
        let answered = session.ask(&request, &mut |kind, bytes| {
            match kind {
                protocol::BATCH => {
                    let reader =
                        StreamReader::try_new(Cursor::new(bytes), None).map_err(invalid)?;
                    for batch in reader {
                        // The schema of the stream has lost nothing but identity.
                        let batch = batch
                            .and_then(|b| b.with_schema(output.clone()))
                            .map_err(invalid)?;
                        statistics.rows += batch.num_rows() as u64;
                        let decoded = DecodedBatch {
                            batch,
                            rejected: Vec::new(),
                        };
                        if sink(decoded).is_break() {
                            return Ok(Next::Stop);
                        }
                    }
                }
                protocol::DONE => {
                    statistics = serde_json::from_slice(&bytes).map_err(invalid)?;
                }
                _ => {}
            }
            Ok(Next::Continue)
        });
        answered.map_err(|error| error.file(&file.name))?;
        statistics.bytes = file.size;
        Ok(statistics)
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FormatError {
    FormatError::new(
        sqlstate::INTERNAL_ERROR,
        "answer of the reading process is not valid",
    )
    .caused_by(error)
}
