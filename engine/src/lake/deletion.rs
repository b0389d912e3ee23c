//! Deletion vectors: which rows of a file are gone, read whoever wrote them, and written.
//!
//! All vectors of one commit go into one file `deletion_vector_<uuid>.bin` of the table's folder,
//! in the format of the Delta protocol ("Deletion Vector Format").

use std::collections::BTreeMap;

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
    pub(super) async fn deleted_rows(&self, file: &DataFile) -> Result<RoaringTreemap, LakeError> {
        let mut deleted = RoaringTreemap::new();
        if let Some(vector) = &file.deletion_vector {
            let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
                LakeError::storage("read a deletion vector", self.location(), error)
            };
            let vector = descriptor(vector).map_err(failed)?;
            let engine = self.log_store.engine(None);
            let root = self.place.url.clone();
            let rows = tokio::task::spawn_blocking(move || {
                vector.row_indexes(engine.storage_handler(), &root)
            })
            .await
            .map_err(|error| failed(error.into()))?
            .map_err(|error| failed(error.into()))?;
            deleted.extend(rows);
        }
        if let Some(here) = &file.deleted_here {
            deleted |= here.as_ref();
        }
        Ok(deleted)
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
        for (file, rows) in vectors {
            let mut vector = KernelDeletionVector::new();
            vector.add_deleted_row_indexes(rows);
            let written = writer.write_deletion_vector(vector).map_err(failed)?;
            by_file.insert(
                file,
                DeletionVectorDescriptor {
                    storage_type: StorageType::UuidRelativePath,
                    path_or_inline_dv: z85::encode(id.as_bytes()),
                    offset: Some(written.offset),
                    size_in_bytes: written.size_in_bytes,
                    cardinality: written.cardinality,
                },
            );
        }
        writer.finalize().map_err(failed)?;
        self.place
            .prefixed()
            .put(&path, Bytes::from(bytes).into())
            .await
            .map_err(|error| {
                LakeError::storage("write a deletion vector", self.location(), error)
            })?;
        Ok(WrittenVectors { path, by_file })
    }
}
