//! gLMs as they were loaded (`models/<model-id>.json`), for people: which files an id stands for.
//!
//! Leaves out: weights. Invariant: nothing reads these records to decide anything; the first one stays.

use crate::error::Result;
use crate::layout::{self, FORMAT_VERSION};
use crate::model::ModelFacts;
use crate::store::{Store, record};
use crate::unit::ModelRef;
use serde::{Deserialize, Serialize};

/// What was loaded under a model id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Format version of this record.
    pub version: u32,
    /// Architecture, sizes, and the id: a digest of architecture, tensors and tokenizer.
    pub facts: ModelFacts,
    /// Name in the job file that was first to load it.
    pub name: String,
    /// Last part of the path it was loaded from.
    pub source: String,
    /// Digest of everything that decides token ids.
    pub tokenizer_digest: String,
}

impl ModelRecord {
    /// The record of a gLM that was opened as `model`.
    pub fn of(model: &ModelRef, facts: &ModelFacts, tokenizer_digest: String) -> Self {
        let source = model.source.file_name().unwrap_or_default();
        Self {
            version: FORMAT_VERSION,
            facts: facts.clone(),
            name: model.name.clone(),
            source: source.to_string_lossy().into_owned(),
            tokenizer_digest,
        }
    }
}

/// Writes the record of a gLM unless there is one.
///
/// # Errors
/// Store errors.
pub async fn create_model(store: &Store, model: &ModelRecord) -> Result<()> {
    let path = layout::model_path(&model.facts.id);
    store.create(&path, record::encode(model)?).await.map(drop)
}

/// Reads the record of a gLM, `None` if it was never used.
///
/// # Errors
/// `Corrupt`, `Invalid` for a newer version; store errors.
pub async fn find_model(store: &Store, id: &crate::ids::ModelId) -> Result<Option<ModelRecord>> {
    store.find_record(&layout::model_path(id)).await
}
