//! The process that reads one workbook, under a memory limit it sets itself before it looks.
//!
//! Whatever a workbook makes the library allocate, this process ends and the server lives. It
//! reads one request, answers in frames and ends; it writes nothing else anywhere.

use std::fs::File;
use std::io::{self, BufRead, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use arrow::ipc::writer::StreamWriter;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::error::{FormatError, sqlstate};
use crate::format::{DecodeSchema, FileStatistics};
use crate::options::Options;
use crate::value::infer::TypeSample;

use super::cells::Book;
use super::guard;
use super::protocol::{self, Failure, Request, Task, write_frame};
use super::settings::Settings;
use super::sheet::{Purpose, Sheet};

/// Text of a sheet beyond this must stand in a reasonable relation to the workbook: one long
/// shared text referred to by every cell makes terabytes out of a small file.
const TEXT_BYTES_FREE: u64 = 64 << 20;
const TEXT_RATIO_MAX: u64 = 20;

/// Batches parsed and not yet written.
const BATCHES_AHEAD: usize = 2;

/// `boathouse __read-excel`: what the binary calls with the arguments after that word.
pub fn excel_reader_main(_arguments: impl Iterator<Item = String>) -> ExitCode {
    // A handle of its own, because a thread of its own writes the rows.
    let Ok(descriptor) = io::stdout().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    let mut output = BufWriter::with_capacity(1 << 16, File::from(descriptor));
    let mut requests = io::stdin().lock();
    let mut opened = None;
    loop {
        let result = match read_request(&mut requests, opened.is_none()) {
            // The parent has no more questions.
            Ok(None) => return ExitCode::SUCCESS,
            Ok(Some(request)) => serve(&request, &mut opened, &mut output),
            Err(error) => Err(error),
        };
        let failed = result.is_err();
        let answered = match result {
            Ok(()) => Ok(()),
            Err(error) => serde_json::to_vec(&Failure::from(&error))
                .map_err(io::Error::other)
                .and_then(|bytes| write_frame(&mut output, protocol::FAILED, &bytes)),
        };
        if answered.and_then(|()| output.flush()).is_err() {
            return ExitCode::FAILURE;
        }
        if failed {
            return ExitCode::SUCCESS;
        }
    }
}

/// The next request. With the first one comes the memory limit.
fn read_request(input: &mut impl BufRead, first: bool) -> Result<Option<Request>, FormatError> {
    let mut text = String::new();
    if input.read_line(&mut text).map_err(FormatError::io)? == 0 {
        return Ok(None);
    }
    let request: Request = serde_json::from_str(&text).map_err(|error| {
        FormatError::new(sqlstate::INTERNAL_ERROR, "request is not valid").caused_by(error)
    })?;
    if first {
        // Of everything the process writes to, which is what grows; address space that is only
        // reserved does not count.
        let bytes = Some(request.memory_mib << 20);
        setrlimit(
            Resource::Data,
            Rlimit {
                current: bytes,
                maximum: bytes,
            },
        )
        .map_err(|error| FormatError::io(error.into()))?;
    }
    Ok(Some(request))
}

/// The workbook all requests are about.
struct Opened {
    workbook: guard::Workbook,
    book: Book,
}

impl Opened {
    fn open(path: &Path, memory_mib: u64) -> Result<Self, FormatError> {
        let workbook = guard::inspect(path, memory_mib)?;
        let book = Book::open(path, workbook.kind)?;
        Ok(Self { workbook, book })
    }
}

fn serve(
    request: &Request,
    opened: &mut Option<Opened>,
    output: &mut (impl Write + Send),
) -> Result<(), FormatError> {
    let mut options = Options::new("format \"EXCEL\"", request.options.iter().map(owned));
    let settings = Settings::take(&mut options).map_err(|error| {
        FormatError::new(sqlstate::INTERNAL_ERROR, "options are not valid").caused_by(error)
    })?;
    let opened = match opened {
        Some(opened) => opened,
        none => none.insert(Opened::open(&request.path, request.memory_mib)?),
    };
    let sheets = settings.choose(&opened.book.sheets())?;
    let mut context = Context {
        settings: &settings,
        workbook: &opened.workbook,
        book: &mut opened.book,
    };
    match &request.task {
        Task::Infer { rows } => context.infer(&sheets, *rows, output),
        Task::Read {
            columns,
            keep_unknown,
            inferred,
        } => {
            let schema = DecodeSchema {
                columns: columns.clone(),
                keep_unknown: *keep_unknown,
                inferred: *inferred,
            };
            context.read(&sheets, &schema, request, output)
        }
    }
}

fn owned(pair: &(String, String)) -> (String, String) {
    pair.clone()
}

struct Context<'a> {
    settings: &'a Settings,
    workbook: &'a guard::Workbook,
    book: &'a mut Book,
}

impl Context<'_> {
    fn text_bytes_max(&self) -> u64 {
        TEXT_BYTES_FREE.max(self.workbook.unpacked.saturating_mul(TEXT_RATIO_MAX))
    }

    fn merged(&mut self, sheet: &str) -> Result<Vec<super::cells::Region>, FormatError> {
        if !(self.workbook.merged && self.settings.fill_merged) {
            return Ok(Vec::new());
        }
        self.book.merged(sheet).map_err(|error| error.sheet(sheet))
    }

    fn infer(
        &mut self,
        sheets: &[String],
        rows: usize,
        output: &mut impl Write,
    ) -> Result<(), FormatError> {
        let mut fields: Vec<(Arc<str>, TypeSample)> = Vec::new();
        for name in sheets {
            let merged = self.merged(name)?;
            let purpose = Purpose::Infer { rows };
            let mut sheet = Sheet::new(self.settings, name, merged, purpose, self.text_bytes_max());
            self.book
                .each_cell(name, &mut |row, column, value| {
                    sheet.cell(row, column, value)
                })
                .map_err(|error| error.sheet(name))?;
            let (table, _) = sheet.finish()?;
            let Some(table) = table else { continue };
            for (name, sample) in table.names.into_iter().zip(table.types) {
                match fields.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) => known.merge(&sample),
                    None => fields.push((name, sample)),
                }
            }
        }
        if fields.is_empty() {
            return Err(FormatError::malformed("the sheets chosen are empty"));
        }
        let fields: Vec<Field> = fields
            .iter()
            .map(|(name, sample)| Field::new(name.as_ref(), sample.data_type(), true))
            .collect();
        answer(output, protocol::SCHEMA, &Schema::new(fields))
    }

    fn read(
        &mut self,
        sheets: &[String],
        schema: &DecodeSchema,
        request: &Request,
        output: &mut (impl Write + Send),
    ) -> Result<(), FormatError> {
        // Parsing goes on while the parent takes its time to read.
        let (sender, batches) = mpsc::sync_channel(BATCHES_AHEAD);
        let (total, written) = thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let written = batches
                    .iter()
                    .try_for_each(|batch: RecordBatch| write_batch(output, &batch));
                // Whoever still sends is told that nobody takes it any more.
                drop(batches);
                written
            });
            let total = self.read_sheets(sheets, schema, request, &sender);
            drop(sender);
            let written = writing.join().unwrap_or_else(|_| {
                Err(FormatError::new(
                    sqlstate::INTERNAL_ERROR,
                    "writing the rows ended abnormally",
                ))
            });
            (total, written)
        });
        written?;
        answer(output, protocol::DONE, &total?)
    }

    fn read_sheets(
        &mut self,
        sheets: &[String],
        schema: &DecodeSchema,
        request: &Request,
        batches: &mpsc::SyncSender<RecordBatch>,
    ) -> Result<FileStatistics, FormatError> {
        let mut total = FileStatistics::default();
        for name in sheets {
            let merged = self.merged(name)?;
            let mut sink = |batch: RecordBatch| {
                Ok(match batches.send(batch) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
            };
            let purpose = Purpose::Read {
                schema,
                file: &request.name,
                sink: &mut sink,
            };
            let mut sheet = Sheet::new(self.settings, name, merged, purpose, self.text_bytes_max());
            self.book
                .each_cell(name, &mut |row, column, value| {
                    sheet.cell(row, column, value)
                })
                .map_err(|error| error.sheet(name))?;
            let (_, statistics) = sheet.finish().map_err(|error| error.sheet(name))?;
            total.rows += statistics.rows;
            total.rows_rescued += statistics.rows_rescued;
            total.rows_skipped += statistics.rows_skipped;
            total.sheets.push(name.clone());
        }
        Ok(total)
    }
}

fn write_batch(output: &mut impl Write, batch: &RecordBatch) -> Result<(), FormatError> {
    let internal = |error: arrow::error::ArrowError| {
        FormatError::new(sqlstate::INTERNAL_ERROR, "could not hand over a batch").caused_by(error)
    };
    let mut bytes = Vec::with_capacity(batch.get_array_memory_size() + 4096);
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).map_err(internal)?;
    writer.write(batch).map_err(internal)?;
    writer.finish().map_err(internal)?;
    drop(writer);
    write_frame(output, protocol::BATCH, &bytes).map_err(FormatError::io)
}

fn answer(
    output: &mut impl Write,
    kind: u8,
    value: &impl serde::Serialize,
) -> Result<(), FormatError> {
    let bytes = serde_json::to_vec(value).map_err(|error| {
        FormatError::new(sqlstate::INTERNAL_ERROR, "could not answer").caused_by(error)
    })?;
    write_frame(output, kind, &bytes).map_err(FormatError::io)
}
