//! Deletion vectors that other engines wrote: the log's description as the kernel reads it.

use delta_kernel::actions::deletion_vector::{
    DeletionVectorDescriptor as KernelDescriptor, DeletionVectorStorageType,
};
use deltalake_core::kernel::{DeletionVectorDescriptor, StorageType};

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
