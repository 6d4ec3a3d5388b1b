//! The part of a data set that was read last, so that shards beside each other fetch it once.
//!
//! Leaves out: checking bytes (`common::store`). Invariant: what is kept was checked when it was read; it is
//! dropped as soon as anything about it is wrong.

use crate::attempt::lost_input;
use bytes::Bytes;
use glmeval_common::error::Result;
use glmeval_common::example::Example;
use glmeval_common::ids::DatasetId;
use glmeval_common::layout::ObjectRecord;
use glmeval_common::store::Store;
use glmeval_common::store::examples::{DatasetManifest, decode_part, parts_of, read_manifest};
use std::sync::{Arc, Mutex, PoisonError};

/// One data set's manifest and one part of it.
#[derive(Default)]
pub(super) struct Inputs {
    manifest: Mutex<Option<(DatasetId, Arc<DatasetManifest>)>>,
    part: Mutex<Option<(ObjectRecord, Bytes)>>,
}

fn get<T: Clone>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn set<T>(slot: &Mutex<Option<T>>, value: Option<T>) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

impl Inputs {
    /// The examples of `range`, in order.
    ///
    /// # Errors
    /// As `read_examples`; what an earlier unit committed and is gone counts as damaged.
    pub(super) async fn examples(
        &self,
        store: &Store,
        dataset: &DatasetId,
        range: (u64, u64),
    ) -> Result<Vec<Example>> {
        let read = self.read(store, dataset, range).await;
        if read.is_err() {
            set(&self.manifest, None);
            set(&self.part, None);
        }
        read
    }

    async fn read(
        &self,
        store: &Store,
        dataset: &DatasetId,
        range: (u64, u64),
    ) -> Result<Vec<Example>> {
        let manifest = match get(&self.manifest).filter(|(known, _)| known == dataset) {
            Some((_, manifest)) => manifest,
            None => {
                let read = read_manifest(store, dataset).await.map_err(lost_input)?;
                let read = Arc::new(read);
                set(&self.manifest, Some((dataset.clone(), Arc::clone(&read))));
                read
            }
        };
        let mut examples = Vec::new();
        for (part, rows) in parts_of(&manifest, range)? {
            let bytes = match get(&self.part).filter(|(known, _)| *known == part.object) {
                Some((_, bytes)) => bytes,
                None => {
                    let bytes = store.get_verified(&part.object).await?;
                    set(&self.part, Some((part.object.clone(), bytes.clone())));
                    bytes
                }
            };
            examples.extend(decode_part(store, &manifest, part, rows, bytes)?);
        }
        Ok(examples)
    }
}
