//! The child process that reads one workbook under a memory limit.

use std::process::ExitCode;

/// `boathouse __read-excel`: what the binary calls with the arguments after that word.
pub fn excel_reader_main(_arguments: impl Iterator<Item = String>) -> ExitCode {
    ExitCode::FAILURE
}
