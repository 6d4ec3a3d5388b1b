//! What the store holds of a data set, of fits and of a report that a worker says are committed.
//!
//! Leaves out: the numbers. Checked: that the record speaks of the unit, counts its rows, names objects of its own
//! and none of another, their lengths, and their sha256 where asked. Invariant: as of all evidence.

use super::{Author, DIGEST_BYTES_MAX, Evidence, wrong_object};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::ids::WorkerId;
use glmeval_common::layout::ObjectRecord;
use glmeval_common::store::Store;
use glmeval_common::store::examples::find_manifest;
use glmeval_common::store::fits::find_scores;
use glmeval_common::store::reports::find_report;
use glmeval_common::unit::{Fit, FitUnit, PrepareUnit, ReportUnit};

/// Requests under way at a time: a data set has hundreds of parts, a unit dozens of fits.
const REQUESTS_MAX: usize = 16;

/// Looks at a prepared data set.
///
/// # Errors
/// As [`super::look`].
pub(super) async fn look_at_dataset(
    store: &Store,
    unit: &PrepareUnit,
    digest: bool,
) -> Result<Evidence> {
    let standing = find_manifest(store, &unit.dataset).await;
    let Some(manifest) = believed(standing)? else { return Ok(Evidence::Absent) };
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(reason) => return Ok(bad(None, reason)),
    };
    if manifest.rows != unit.rows {
        let reason = format!("rows: expected {}, found {}", unit.rows, manifest.rows);
        return Ok(bad(Some(&manifest.worker), reason));
    }
    let parts: Vec<&ObjectRecord> = manifest.parts.iter().map(|part| &part.object).collect();
    let wrong = wrong_objects(store, &parts, digest).await?;
    Ok(verdict(&manifest.worker, wrong))
}

/// Looks at every fit of a unit; the first that is not as it should be decides.
///
/// # Errors
/// As [`super::look`].
pub(super) async fn look_at_fits(store: &Store, unit: &FitUnit, digest: bool) -> Result<Evidence> {
    let mut looks: Vec<BoxFuture<'_, Result<Evidence>>> = Vec::new();
    for fit in &unit.fits {
        looks.push(Box::pin(look_at_fit(store, fit, digest)));
    }
    let looks = futures::stream::iter(looks).buffered(REQUESTS_MAX);
    let found: Vec<Evidence> = looks.try_collect().await?;
    let is_absent = found.contains(&Evidence::Absent);
    let bad = found.into_iter().find(Evidence::is_bad);
    Ok(match bad {
        Some(bad) => bad,
        None if is_absent => Evidence::Absent,
        // Its fits may be of several workers.
        None => Evidence::Sound(None),
    })
}

/// Looks at one fit.
///
/// # Errors
/// As [`super::look`].
pub(super) async fn look_at_fit(store: &Store, fit: &Fit, digest: bool) -> Result<Evidence> {
    let standing = find_scores(store, fit.id()).await;
    let Some(scores) = believed(standing)? else { return Ok(Evidence::Absent) };
    let scores = match scores {
        Ok(scores) => scores,
        Err(reason) => return Ok(bad(None, reason)),
    };
    let objects: Vec<&ObjectRecord> = scores.objects.iter().collect();
    let wrong = wrong_objects(store, &objects, digest).await?;
    Ok(verdict(&WorkerId::new(&scores.worker), wrong))
}

/// Looks at a report.
///
/// # Errors
/// As [`super::look`].
pub(super) async fn look_at_report(
    store: &Store,
    unit: &ReportUnit,
    digest: bool,
) -> Result<Evidence> {
    let Some(commit) = believed(find_report(store, &unit.job).await)? else {
        return Ok(Evidence::Absent);
    };
    let commit = match commit {
        Ok(commit) => commit,
        Err(reason) => return Ok(bad(None, reason)),
    };
    let files: Vec<&ObjectRecord> = commit.files.iter().collect();
    let wrong = wrong_objects(store, &files, digest).await?;
    Ok(verdict(&commit.worker, wrong))
}

/// A record that stands, or why nobody can believe it; `None` if there is none.
fn believed<T>(standing: Result<Option<T>>) -> Result<Option<Result<T, String>>> {
    match standing {
        Ok(record) => Ok(record.map(Ok)),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Some(Err(error.chain()))),
        Err(error) => Err(error),
    }
}

fn bad(worker: Option<&WorkerId>, reason: String) -> Evidence {
    let author = worker.map(|worker| Author { worker: worker.clone(), generation: None });
    Evidence::Bad { author, reason, is_covered: false }
}

fn verdict(worker: &WorkerId, wrong: Option<String>) -> Evidence {
    match wrong {
        Some(reason) => bad(Some(worker), reason),
        None => Evidence::Sound(Some(Author { worker: worker.clone(), generation: None })),
    }
}

/// What of the objects that a record names is not as it says; digests of the first
/// [`DIGEST_BYTES_MAX`] bytes only.
async fn wrong_objects(
    store: &Store,
    objects: &[&ObjectRecord],
    digest: bool,
) -> Result<Option<String>> {
    let mut bytes = 0_u64;
    let mut looks: Vec<BoxFuture<'_, Result<Option<String>>>> = Vec::new();
    for object in objects {
        bytes = bytes.saturating_add(object.bytes);
        looks.push(Box::pin(wrong_object(store, object, digest && bytes <= DIGEST_BYTES_MAX)));
    }
    let looks = futures::stream::iter(looks).buffered(REQUESTS_MAX);
    let found: Vec<Option<String>> = looks.try_collect().await?;
    Ok(found.into_iter().flatten().next())
}
