//! Decodes one file and writes it as Parquet: what the benchmark times, and a way to look at how a
//! file is understood.
//!
//! `decode CSV in.csv out.parquet [option=value ...]`; `-` for the output only decodes.

use std::error::Error;
use std::fs::File;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

use boathouse_connectors::format::format;
use boathouse_connectors::{DecodeSchema, InferenceLimits, LocalFile, Options, excel_reader_main};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == "__read-excel" {
        return excel_reader_main(arguments);
    }
    match run(&first, &arguments.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(kind: &str, arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [input, output, options @ ..] = arguments else {
        return Err("usage: decode FORMAT INPUT OUTPUT|- [option=value ...]".into());
    };
    let start = Instant::now();
    let options = options.iter().filter_map(|option| option.split_once('='));
    let mut options = Options::new(format!("format \"{kind}\""), options);
    let format = format(kind)?.configure(&mut options)?;
    options.finish()?;
    let file = LocalFile::in_place(input, input, std::fs::metadata(input)?.len());
    let columns = format.infer(&file, &InferenceLimits::default())?;
    let inferred = start.elapsed();
    let kept: Vec<usize> = (0..columns.fields().len()).collect();
    let schema = DecodeSchema::new(columns.clone());
    let mut writer = None;
    if output != "-" {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .build();
        writer = Some(ArrowWriter::try_new(
            File::create(output)?,
            columns,
            Some(properties),
        )?);
    }
    let mut failure = None;
    let statistics = format.read(&file, &schema, &mut |decoded| {
        let written = match &mut writer {
            Some(writer) => decoded
                .batch
                .project(&kept)
                .map_err(Into::into)
                .and_then(|batch| writer.write(&batch)),
            None => Ok(()),
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    println!(
        "{} rows, {} rescued, {} rejected; inferred in {:.3} s, all in {:.3} s",
        statistics.rows,
        statistics.rows_rescued,
        statistics.rows_rejected,
        inferred.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
