//! Files of outside systems, turned into Arrow.
//!
//! ```text
//! FileStore: list -> fetch -> LocalFile -> FileFormat: infer, read -> DecodedBatch
//!   (local, s3, sftp)                        (csv, excel, json, parquet)
//! ```
//!
//! Transports and decoders know nothing of each other: a transport hands over a file on the local
//! disk, a decoder turns such a file into record batches. Neither knows Delta, SQL text, pipelines
//! or the catalog's objects. Adding an outside system is a folder here and one line in
//! [`registry`]; adding a decoder is a folder under [`format`] and one line there. Databases ([`mysql`]) and brokers
//! ([`kafka`], whose messages [`message`] decodes) have no files and interfaces of their own.
//!
//! What must stay true: no value is dropped silently. A cell that does not fit its column is null
//! *and* kept as text in `_rescued`; a record that cannot be split into cells is a
//! [`format::RejectedRow`] with its raw content; a file that cannot be read at all is one error.

pub mod connector;
pub mod error;
pub mod file;
pub mod format;
pub mod kafka;
pub mod local;
pub mod message;
pub mod mysql;
pub mod options;
mod pattern;
pub mod registry;
pub mod s3;
pub mod sftp;
pub mod value;

pub use connector::{Check, Connector, Remote};
pub use error::{ConnectorError, FormatError};
pub use file::{FileEntry, FileStore, LocalFile};
pub use format::excel::{reader::excel_reader_main, set_excel_reader};
pub use format::{
    DecodeSchema, DecodedBatch, FileFormat, FileStatistics, Format, InferenceLimits, RejectedRow,
};
pub use options::{OptionValue, Options};
