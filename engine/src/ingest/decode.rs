//! Decodes a file on a thread of its own into a bounded queue.
//!
//! Dropping the receiver stops the decoder at its next batch. A panic of a decoder on bad input
//! becomes the file's error.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use boathouse_connectors::{
    DecodeSchema, DecodedBatch, FileFormat, FileStatistics, FormatError, LocalFile,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Decoded batches waiting for the transformation.
const QUEUE_BATCHES_MAX: usize = 4;

/// A file being decoded.
pub(super) struct Decoding {
    pub batches: mpsc::Receiver<DecodedBatch>,
    outcome: JoinHandle<Result<FileStatistics, FormatError>>,
    name: String,
}

impl Decoding {
    pub fn start(format: Arc<dyn FileFormat>, file: LocalFile, schema: DecodeSchema) -> Self {
        let (sender, batches) = mpsc::channel(QUEUE_BATCHES_MAX);
        let name = file.name.clone();
        let outcome = tokio::task::spawn_blocking(move || {
            format.read(
                &file,
                &schema,
                &mut |batch| match sender.blocking_send(batch) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                },
            )
        });
        Self {
            batches,
            outcome,
            name,
        }
    }

    /// The same for a file of our own, which is removed when it was read.
    pub fn start_and_remove(
        format: Arc<dyn FileFormat>,
        file: LocalFile,
        schema: DecodeSchema,
        path: PathBuf,
    ) -> Self {
        let mut decoding = Self::start(format, file, schema);
        let reading = decoding.outcome;
        decoding.outcome = tokio::spawn(async move {
            let outcome = reading.await;
            if let Err(error) = tokio::fs::remove_file(&path).await {
                tracing::warn!(path = %path.display(), %error, "could not remove a spooled file");
            }
            outcome.unwrap_or_else(|ended| {
                Err(FormatError::malformed("the file made its decoder fail").caused_by(ended))
            })
        });
        decoding
    }

    /// How the decoding ended, once all batches were taken.
    pub async fn finish(self) -> Result<FileStatistics, FormatError> {
        drop(self.batches);
        match self.outcome.await {
            Ok(outcome) => outcome.map_err(|error| error.file(self.name)),
            Err(ended) => Err(FormatError::malformed("the file made its decoder fail")
                .file(self.name)
                .caused_by(ended)),
        }
    }
}
