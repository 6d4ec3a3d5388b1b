//! How far an embedding set goes, and what its store knows of its examples.
//!
//! Leaves out: rows. Invariant: a set that is not whole is refused before a row of it is read, wherever its
//! data set or a plan in the store counts its examples.

use crate::output::complain;
use glmeval_common::dataset::DatasetSource;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::DatasetId;
use glmeval_common::plan::PlannedDataset;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{SetManifest, committed_ranges, cover_of};
use glmeval_common::store::examples::{DatasetManifest, find_manifest};
use glmeval_common::store::jobs::{list_jobs, read_plan};

/// The examples of a set, all of them committed.
pub(super) struct Extent {
    /// One past the last example.
    pub(super) end: u64,
    /// Ranges of its shards, listed once for all that is read.
    pub(super) ranges: Vec<(u64, u64)>,
    /// The data set, where the store holds it.
    pub(super) examples: Option<DatasetManifest>,
    /// Whether the ids are places on a genome, `chromosome:start-end`.
    pub(super) is_windows: bool,
}

/// Finds the extent of `set`; warns where nothing counts its examples, so that the last shards may lack.
///
/// # Errors
/// `NotFound` naming the examples that no shard holds; store errors.
pub(super) async fn extent(store: &Store, set: &SetManifest) -> Result<Extent> {
    let ranges = committed_ranges(store, &set.set).await?;
    let examples = find_manifest(store, &set.dataset).await?;
    let planned = match &examples {
        Some(_) => None,
        // Windows over a genome are cut while they are embedded: plans alone count them.
        None => planned(store, &set.dataset).await?,
    };
    let counted = examples.as_ref().map(|examples| examples.rows);
    let counted = counted.or_else(|| planned.as_ref().map(|planned| planned.facts.rows));
    let is_windows = planned.is_some_and(|it| matches!(it.source, DatasetSource::Windows { .. }));
    let end = match counted {
        Some(end) => end,
        None => {
            let end = ranges.iter().map(|range| range.1).max();
            let end = end.ok_or_else(|| Error::not_found(format!("shards of set {}", set.set)))?;
            complain(&format!(
                "warning: the store does not say how many examples set {} has: expected those up to {end}, \
                 the last that is committed",
                set.set
            ));
            end
        }
    };
    cover_of(store, &set.set, &ranges, (0, end))?;
    Ok(Extent { end, ranges, examples, is_windows })
}

/// What the first readable plan that has the data set says of it.
async fn planned(store: &Store, dataset: &DatasetId) -> Result<Option<PlannedDataset>> {
    for entry in list_jobs(store).await? {
        let plan = match read_plan(store, &entry.job).await {
            Ok(plan) => plan,
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            // Another plan may say it as well.
            Err(_) => continue,
        };
        let found = plan.datasets.into_iter().find(|planned| planned.facts.id == *dataset);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
