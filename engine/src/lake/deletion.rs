//! Deletion vectors: which rows of a file are gone, read whoever wrote them, and written.
//!
//! All vectors of one commit go into one file `deletion_vector_<uuid>.bin` of the table's folder,
//! in the format of the Delta protocol ("Deletion Vector Format").

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use delta_kernel::actions::deletion_vector::{
    DeletionVectorDescriptor as KernelDescriptor, DeletionVectorStorageType,
};
use delta_kernel::actions::deletion_vector_writer::{
    KernelDeletionVector, StreamingDeletionVectorWriter,
};
use deltalake_core::kernel::{DeletionVectorDescriptor, StorageType};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use roaring::RoaringTreemap;

use super::snapshot::DataFile;
use super::{LakeError, LakeTable};

/// The same vector as the kernel, which can read it, describes it.
pub(super) fn descriptor(
    vector: &DeletionVectorDescriptor,
) -> Result<KernelDescriptor, Box<dyn std::error::Error + Send + Sync>> {
    let storage_type = match vector.storage_type {
        StorageType::UuidRelativePath => DeletionVectorStorageType::PersistedRelative,
        StorageType::Inline => DeletionVectorStorageType::Inline,
        StorageType::AbsolutePath => DeletionVectorStorageType::PersistedAbsolute,
    };
    Ok(KernelDescriptor {
        storage_type,
        path_or_inline_dv: vector.path_or_inline_dv.clone(),
        offset: vector.offset,
        size_in_bytes: vector.size_in_bytes,
        cardinality: vector.cardinality,
    })
}

/// Deletion vectors in memory, by where they are. One never changes.
pub(super) type VectorCache = moka::future::Cache<String, Arc<RoaringTreemap>>;

/// Bytes of deletion vectors kept in memory, for all tables of a lake.
const VECTOR_BYTES_MAX: u64 = 256 << 20;

pub(super) fn vector_cache() -> VectorCache {
    moka::future::Cache::builder()
        .weigher(|id: &String, rows: &Arc<RoaringTreemap>| {
            u32::try_from(id.len() + rows.serialized_size()).unwrap_or(u32::MAX)
        })
        .max_capacity(VECTOR_BYTES_MAX)
        .build()
}

/// Deletion vectors that are in the store and in no commit yet.
#[derive(Debug)]
pub(super) struct WrittenVectors {
    pub path: Path,
    /// By the path of the data file.
    pub by_file: BTreeMap<String, DeletionVectorDescriptor>,
}

impl LakeTable {
    /// The rows of a file that are gone: those its deletion vector names, and those an open
    /// transaction has deleted.
    pub(super) async fn deleted_rows(
        &self,
        file: &DataFile,
    ) -> Result<Arc<RoaringTreemap>, LakeError> {
        let deleted = match &file.deletion_vector {
            Some(vector) => self.rows_of_vector(vector).await?,
            None => Arc::default(),
        };
        Ok(match &file.deleted_here {
            Some(here) if deleted.is_empty() => Arc::clone(here),
            Some(here) => Arc::new(here.as_ref() | deleted.as_ref()),
            None => deleted,
        })
    }

    /// The rows a deletion vector names.
    pub(super) async fn rows_of_vector(
        &self,
        vector: &DeletionVectorDescriptor,
    ) -> Result<Arc<RoaringTreemap>, LakeError> {
        let id = self.vector_id(vector);
        if let Some(rows) = self.vectors.get(&id).await {
            return Ok(rows);
        }
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            LakeError::storage("read a deletion vector", self.location(), error)
        };
        let vector = descriptor(vector).map_err(failed)?;
        let engine = self.log_store.engine(None);
        let root = self.place.url.clone();
        let rows = tokio::task::spawn_blocking(move || {
            let rows = vector.row_indexes(engine.storage_handler(), &root)?;
            Ok::<_, delta_kernel::Error>(rows.into_iter().collect::<RoaringTreemap>())
        })
        .await
        .map_err(|error| failed(error.into()))?
        .map_err(|error| failed(error.into()))?;
        let rows = Arc::new(rows);
        self.vectors.insert(id, Arc::clone(&rows)).await;
        Ok(rows)
    }

    fn vector_id(&self, vector: &DeletionVectorDescriptor) -> String {
        let offset = vector.offset.unwrap_or_default();
        format!("{} {} {offset}", self.place.url, vector.path_or_inline_dv)
    }

    /// Writes one vector for each data file.
    pub(super) async fn write_vectors(
        &self,
        vectors: BTreeMap<String, RoaringTreemap>,
    ) -> Result<WrittenVectors, LakeError> {
        let id = uuid::Uuid::new_v4();
        let path = Path::from(format!("deletion_vector_{id}.bin"));
        let failed = |error: delta_kernel::Error| LakeError::Encode {
            reason: format!("a deletion vector: {error}"),
        };
        let mut bytes = Vec::new();
        let mut writer = StreamingDeletionVectorWriter::new(&mut bytes);
        let mut by_file = BTreeMap::new();
        let mut read_back = Vec::new();
        for (file, rows) in vectors {
            let mut vector = KernelDeletionVector::new();
            vector.add_deleted_row_indexes(&rows);
            let written = writer.write_deletion_vector(vector).map_err(failed)?;
            let described = DeletionVectorDescriptor {
                storage_type: StorageType::UuidRelativePath,
                path_or_inline_dv: z85::encode(id.as_bytes()),
                offset: Some(written.offset),
                size_in_bytes: written.size_in_bytes,
                cardinality: written.cardinality,
            };
            read_back.push((self.vector_id(&described), Arc::new(rows)));
            by_file.insert(file, described);
        }
        writer.finalize().map_err(failed)?;
        self.place
            .prefixed()
            .put(&path, Bytes::from(bytes).into())
            .await
            .map_err(|error| {
                LakeError::storage("write a deletion vector", self.location(), error)
            })?;
        for (id, rows) in read_back {
            self.vectors.insert(id, rows).await;
        }
        Ok(WrittenVectors { path, by_file })
    }
}
