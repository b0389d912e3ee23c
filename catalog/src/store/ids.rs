//! Object ids, handed out in memory from blocks reserved in the database.
//!
//! Creating an object needs its id at once and without I/O, so each process reserves a block when it
//! opens the catalog and another whenever a commit or a refresh finds the last one half used. An id is
//! never given twice; those left over when a process ends are lost, of four thousand million.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::definitions::ObjectId;
use crate::error::CatalogError;

/// Ids reserved at a time.
pub(crate) const BLOCK: i64 = 1024;

/// The ids reserved for this process and not yet used.
#[derive(Debug, Default)]
pub(crate) struct IdAllocator {
    reserved: Mutex<VecDeque<Range<i64>>>,
}

impl IdAllocator {
    pub(crate) fn take(&self) -> Result<ObjectId, CatalogError> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(block) = reserved.front_mut() {
            if let Some(id) = block.next() {
                return Ok(ObjectId(id));
            }
            reserved.pop_front();
        }
        Err(CatalogError::OutOfIds)
    }

    pub(crate) fn add(&self, block: Range<i64>) {
        self.reserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(block);
    }

    /// How many ids can be taken before the next block is needed.
    pub(crate) fn available(&self) -> i64 {
        let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        reserved
            .iter()
            .map(|block| (block.end - block.start).max(0))
            .sum()
    }
}
