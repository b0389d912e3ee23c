//! The reading process on its own, for the tests of this crate: the program itself answers to
//! `boathouse __read-excel` in the same way.

fn main() -> std::process::ExitCode {
    boathouse_connectors::excel_reader_main(std::env::args().skip(2))
}
