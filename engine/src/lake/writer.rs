//! Writes rows as the Parquet files of a table. Nothing is visible until a commit names them.
//!
//! ```text
//! write(batch) -> split by partition -> lanes (encode) -> row group -> upload
//!                                                              finish() -> Add actions
//! ```
//!
//! Memory is bounded whatever the input: a row group is closed at [`WriterOptions::row_group_rows`]
//! rows or when the open row groups together hold [`WriterOptions::open_bytes`], a file at
//! [`WriterOptions::file_bytes`], and uploads hold a few parts. Dropping the writer or calling
//! [`AppendWriter::abandon`] deletes what was uploaded as well as it can; a file that stays behind
//! after a crash is in no commit, so no reader sees it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use deltalake_core::kernel::Add;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowRowGroupWriterFactory, ArrowWriter, ArrowWriterOptions,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::encoder::{Lanes, RowGroup, encode_error};
use super::files::FileSettings;
use super::partition::{self, PartitionKey};
use super::{FileNames, LakeError, statistics, stored};

/// How files are cut.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// A file is closed once it has this many bytes.
    pub file_bytes: u64,
    /// A row group is closed once it has this many rows.
    pub row_group_rows: usize,
    /// Encoded bytes that open row groups may hold together.
    pub open_bytes: usize,
    /// Files open at once, one per partition being written.
    pub open_files: usize,
    /// Threads that encode.
    pub lanes: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            file_bytes: 128 << 20,
            row_group_rows: 1 << 20,
            open_bytes: 32 << 20,
            open_files: 64,
            lanes: std::thread::available_parallelism().map_or(2, |cores| cores.get().min(4)),
        }
    }
}

/// Bytes of one part of an upload, and how many parts may be under way for one file.
const UPLOAD_PART_BYTES: usize = 8 << 20;
const UPLOAD_PARTS_MAX: usize = 4;

/// A data file that is complete in the store and in no commit yet.
#[derive(Debug, Clone)]
pub struct WrittenFile {
    pub(super) add: Add,
    /// What it holds, by the names that files give columns.
    pub(super) columns: SchemaRef,
    pub rows: u64,
    pub bytes: u64,
}

impl WrittenFile {
    /// The file's path below the table's folder.
    pub fn path(&self) -> &str {
        &self.add.path
    }

    /// Puts a mark on the file that stays in the log: [`super::DataFile::tag`].
    pub fn set_tag(&mut self, name: &str, value: &str) {
        let tags = self.add.tags.get_or_insert_default();
        tags.insert(name.to_owned(), Some(value.to_owned()));
    }
}

/// Writes batches in the table's column order into new data files.
pub struct AppendWriter {
    store: Arc<dyn ObjectStore>,
    options: WriterOptions,
    schema: SchemaRef,
    /// What the files hold: the stored types of all but the partition columns.
    file_schema: SchemaRef,
    file_fields: Vec<FieldRef>,
    file_columns: Vec<usize>,
    /// For each of these whether files get statistics of it.
    with_statistics: Arc<[bool]>,
    partition_columns: Vec<usize>,
    /// As the log calls them.
    partition_names: Vec<String>,
    properties: WriterProperties,
    codec: String,
    lanes: Option<Lanes>,
    open: HashMap<PartitionKey, OpenFile>,
    finished: Vec<WrittenFile>,
    /// Every path begun, to be deleted unless [`AppendWriter::finish`] is reached.
    begun: Arc<Mutex<Vec<Path>>>,
    rows: u64,
}

struct OpenFile {
    path: Path,
    key: PartitionKey,
    file: Box<SerializedFileWriter<Vec<u8>>>,
    factory: Arc<ArrowRowGroupWriterFactory>,
    row_group: Option<RowGroup>,
    columns_with_nan: HashSet<usize>,
    rows: u64,
    bytes: u64,
    upload: Upload,
}

/// Sends a file's bytes to the store in the background.
struct Upload {
    parts: mpsc::Sender<Bytes>,
    task: JoinHandle<Result<(), LakeError>>,
}

impl AppendWriter {
    /// A writer of files below `store`. `schema` is the table's, in memory types; `names` says what the
    /// files call its columns.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        schema: SchemaRef,
        (partition_by, names): (&[String], &FileNames),
        settings: &FileSettings,
        options: WriterOptions,
    ) -> Result<Self, LakeError> {
        let partition_columns = partition_by
            .iter()
            .map(|name| {
                schema.index_of(name).map_err(|_| LakeError::Encode {
                    reason: format!("partition column \"{name}\" is not a column of the table"),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let file_columns: Vec<usize> = (0..schema.fields().len())
            .filter(|index| !partition_columns.contains(index))
            .collect();
        let file_fields = file_columns
            .iter()
            .map(|index| {
                let field = stored::file_field(schema.field(*index))?;
                let name = names.of_column(field.name()).to_owned();
                Ok(Arc::new(field.with_name(name)))
            })
            .collect::<Result<Vec<FieldRef>, LakeError>>()?;
        let file_schema = Arc::new(Schema::new(file_fields.clone()));
        let options = settings.options(options);
        let properties = settings.properties(&options, names)?;
        Ok(Self {
            store,
            options,
            schema,
            file_schema,
            file_fields,
            with_statistics: file_columns
                .iter()
                .map(|index| settings.statistics.contains(index))
                .collect(),
            file_columns,
            partition_columns,
            partition_names: partition_by
                .iter()
                .map(|name| names.of_column(name).to_owned())
                .collect(),
            properties,
            codec: settings.codec().to_owned(),
            lanes: None,
            open: HashMap::new(),
            finished: Vec::new(),
            begun: Arc::default(),
            rows: 0,
        })
    }

    /// The table's schema, which batches must have.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes rows; waits while encoding or uploading is behind.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        if batch.num_columns() != self.schema.fields().len() {
            return Err(LakeError::Encode {
                reason: format!(
                    "a batch has {} columns, the table has {}",
                    batch.num_columns(),
                    self.schema.fields().len()
                ),
            });
        }
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let partition_values: Vec<ArrayRef> = self
            .partition_columns
            .iter()
            .map(|index| stored::to_stored(batch.column(*index), self.schema.field(*index)))
            .collect::<Result<_, _>>()?;
        let columns: Vec<ArrayRef> = self
            .file_columns
            .iter()
            .map(|index| stored::to_stored(batch.column(*index), self.schema.field(*index)))
            .collect::<Result<_, _>>()?;
        for (key, rows) in partition::split(&partition_values, batch.num_rows())? {
            match rows {
                None => self.write_part(key, &columns, batch.num_rows()).await?,
                Some(rows) => {
                    let part = partition::rows_of(&columns, &rows)?;
                    self.write_part(key, &part, rows.len()).await?;
                }
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    async fn write_part(
        &mut self,
        key: PartitionKey,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<(), LakeError> {
        if !self.open.contains_key(&key) {
            if self.open.len() >= self.options.open_files {
                self.close_largest_file().await?;
            }
            let file = self.begin_file(&key)?;
            self.open.insert(key.clone(), file);
        }
        let lanes = match &mut self.lanes {
            Some(lanes) => lanes,
            none => none.insert(Lanes::start(self.options.lanes)),
        };
        let Some(file) = self.open.get_mut(&key) else {
            return Err(LakeError::Encode {
                reason: "an open file was lost".into(),
            });
        };
        for (index, column) in columns.iter().enumerate() {
            if !file.columns_with_nan.contains(&index) && statistics::holds_nan(column) {
                file.columns_with_nan.insert(index);
            }
        }
        let row_group = match &mut file.row_group {
            Some(row_group) => row_group,
            none => {
                let index = file.file.flushed_row_groups().len();
                let writers = file
                    .factory
                    .create_column_writers(index)
                    .map_err(encode_error)?;
                none.insert(lanes.open(&self.file_fields, writers).await?)
            }
        };
        lanes.write(row_group, columns, rows).await?;
        file.rows += rows as u64;

        let full = row_group.rows >= self.options.row_group_rows
            || file.bytes + row_group.encoded_bytes() as u64 >= self.options.file_bytes;
        if full {
            self.close_row_group(&key).await?;
        } else if self.open_bytes() > self.options.open_bytes {
            let largest = self
                .open
                .iter()
                .max_by_key(|(_, file)| file.row_group.as_ref().map_or(0, RowGroup::encoded_bytes))
                .map(|(key, _)| key.clone());
            if let Some(largest) = largest {
                self.close_row_group(&largest).await?;
            }
        }
        if self
            .open
            .get(&key)
            .is_some_and(|file| file.bytes >= self.options.file_bytes)
        {
            self.close_file(&key).await?;
        }
        Ok(())
    }

    fn open_bytes(&self) -> usize {
        self.open
            .values()
            .filter_map(|file| file.row_group.as_ref())
            .map(RowGroup::encoded_bytes)
            .sum()
    }

    fn begin_file(&self, key: &PartitionKey) -> Result<OpenFile, LakeError> {
        let name = format!(
            "{}part-{}.{}.parquet",
            key.folder(&self.partition_names),
            uuid::Uuid::now_v7(),
            self.codec
        );
        // `parse` keeps the percent signs of escaped partition values as they are.
        let path = Path::parse(&name).map_err(|error| LakeError::Encode {
            reason: error.to_string(),
        })?;
        let options = ArrowWriterOptions::new()
            .with_properties(self.properties.clone())
            .with_skip_arrow_metadata(true);
        let (file, factory) =
            ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&self.file_schema), options)
                .and_then(ArrowWriter::into_serialized_writer)
                .map_err(encode_error)?;
        if let Ok(mut begun) = self.begun.lock() {
            begun.push(path.clone());
        }
        let upload = Upload::start(Arc::clone(&self.store), path.clone());
        Ok(OpenFile {
            path,
            key: key.clone(),
            file: Box::new(file),
            factory: Arc::new(factory),
            row_group: None,
            columns_with_nan: HashSet::new(),
            rows: 0,
            bytes: 0,
            upload,
        })
    }

    async fn close_row_group(&mut self, key: &PartitionKey) -> Result<(), LakeError> {
        let Some(lanes) = &self.lanes else {
            return Ok(());
        };
        let Some(mut open) = self.open.remove(key) else {
            return Ok(());
        };
        if let Some(row_group) = open.row_group.take() {
            let chunks = lanes.close(row_group).await?;
            open = append_row_group(open, chunks).await?;
        }
        self.open.insert(key.clone(), open);
        Ok(())
    }

    async fn close_largest_file(&mut self) -> Result<(), LakeError> {
        let largest = self
            .open
            .iter()
            .max_by_key(|(_, file)| file.rows)
            .map(|(key, _)| key.clone());
        match largest {
            Some(key) => self.close_file(&key).await,
            None => Ok(()),
        }
    }

    async fn close_file(&mut self, key: &PartitionKey) -> Result<(), LakeError> {
        self.close_row_group(key).await?;
        let Some(mut open) = self.open.remove(key) else {
            return Ok(());
        };
        let file_schema = Arc::clone(&self.file_schema);
        let wanted = Arc::clone(&self.with_statistics);
        let (open, tail, stats) = tokio::task::spawn_blocking(move || {
            let metadata = open.file.finish().map_err(encode_error)?;
            let tail = std::mem::take(open.file.inner_mut());
            let nan = &open.columns_with_nan;
            let stats = statistics::of_file(&file_schema, &metadata, &wanted, nan);
            Ok::<_, LakeError>((open, tail, stats))
        })
        .await
        .map_err(ended)??;
        let bytes = open.bytes + tail.len() as u64;
        open.upload.send(tail.into()).await;
        open.upload.finish().await?;
        let partition_values = self
            .partition_names
            .iter()
            .cloned()
            .zip(open.key.0)
            .collect::<HashMap<_, _>>();
        let add = Add {
            path: open.path.to_string(),
            partition_values,
            size: i64::try_from(bytes).unwrap_or(i64::MAX),
            modification_time: chrono::Utc::now().timestamp_millis(),
            data_change: true,
            stats: Some(stats),
            ..Default::default()
        };
        self.finished.push(WrittenFile {
            columns: Arc::clone(&self.file_schema),
            add,
            rows: open.rows,
            bytes,
        });
        Ok(())
    }

    /// Starts a new file for what comes next, so that rows before and after share none.
    pub async fn cut(&mut self) -> Result<Vec<WrittenFile>, LakeError> {
        let keys: Vec<PartitionKey> = self.open.keys().cloned().collect();
        for key in keys {
            self.close_file(&key).await?;
        }
        Ok(self.finished.clone())
    }

    /// Completes all files. They are the caller's now: to be committed, or deleted with
    /// [`super::LakeTable::discard`].
    pub async fn finish(mut self) -> Result<Vec<WrittenFile>, LakeError> {
        let files = self.cut().await?;
        if let Ok(mut begun) = self.begun.lock() {
            begun.clear();
        }
        Ok(files)
    }

    /// Gives up and deletes what was written.
    pub async fn abandon(mut self) {
        for (_, open) in self.open.drain() {
            open.upload.abandon().await;
        }
        let begun = self
            .begun
            .lock()
            .map(|mut begun| std::mem::take(&mut *begun));
        delete(&self.store, begun.unwrap_or_default()).await;
    }
}

impl Drop for AppendWriter {
    fn drop(&mut self) {
        let begun = self
            .begun
            .lock()
            .map(|mut begun| std::mem::take(&mut *begun));
        let begun = begun.unwrap_or_default();
        let uploads: Vec<Upload> = self.open.drain().map(|(_, open)| open.upload).collect();
        if begun.is_empty() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let store = Arc::clone(&self.store);
            runtime.spawn(async move {
                for upload in uploads {
                    upload.abandon().await;
                }
                delete(&store, begun).await;
            });
        }
    }
}

/// Deletes files that no commit names. A failure leaves litter, not wrong rows.
pub(super) async fn delete(store: &Arc<dyn ObjectStore>, paths: Vec<Path>) {
    for path in paths {
        match store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => tracing::warn!(%path, %error, "could not delete an abandoned file"),
        }
    }
}

async fn append_row_group(
    mut open: OpenFile,
    chunks: Vec<ArrowColumnChunk>,
) -> Result<OpenFile, LakeError> {
    let (open_back, bytes) = tokio::task::spawn_blocking(move || {
        {
            let mut row_group = open.file.next_row_group().map_err(encode_error)?;
            for chunk in chunks {
                chunk
                    .append_to_row_group(&mut row_group)
                    .map_err(encode_error)?;
            }
            row_group.close().map_err(encode_error)?;
        }
        open.file.flush().map_err(|error| LakeError::Encode {
            reason: error.to_string(),
        })?;
        let bytes = std::mem::take(open.file.inner_mut());
        Ok::<_, LakeError>((open, bytes))
    })
    .await
    .map_err(ended)??;
    open = open_back;
    open.bytes += bytes.len() as u64;
    open.upload.send(bytes.into()).await;
    Ok(open)
}

impl Upload {
    fn start(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        let (parts, mut receiver) = mpsc::channel::<Bytes>(1);
        let task = tokio::spawn(async move {
            let location = path.to_string();
            let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
                LakeError::storage("write a data file", location.clone(), error)
            };
            let mut writer = BufWriter::with_capacity(store, path, UPLOAD_PART_BYTES)
                .with_max_concurrency(UPLOAD_PARTS_MAX);
            while let Some(mut part) = receiver.recv().await {
                if part.is_empty() {
                    let _ = writer.abort().await;
                    return Ok(());
                }
                // Handed over in slices, so that the writer starts uploading before it has all.
                while !part.is_empty() {
                    let slice = part.split_to(part.len().min(UPLOAD_PART_BYTES));
                    writer
                        .put(slice)
                        .await
                        .map_err(|error| failed(error.into()))?;
                }
            }
            writer
                .shutdown()
                .await
                .map_err(|error| failed(error.into()))
        });
        Self { parts, task }
    }

    /// Queues bytes. When the upload has failed they are dropped; `finish` tells why.
    async fn send(&self, bytes: Bytes) {
        if !bytes.is_empty() {
            let _ = self.parts.send(bytes).await;
        }
    }

    async fn finish(self) -> Result<(), LakeError> {
        drop(self.parts);
        self.task.await.map_err(ended)?
    }

    /// An empty part tells the task to give up.
    async fn abandon(self) {
        let _ = self.parts.send(Bytes::new()).await;
        drop(self.parts);
        let _ = self.task.await;
    }
}

fn ended(error: tokio::task::JoinError) -> LakeError {
    LakeError::Encode {
        reason: format!("a background task ended early: {error}"),
    }
}
