//! Prepared data sets at rest: Parquet parts and the manifest that makes them visible.
//!
//! Leaves out: where examples come from (`readers`). Invariant: rows keep the order they were pushed in.

use super::{Outcome, Store};
use crate::error::{Error, Result};
use crate::example::{Example, ExampleSchema};
use crate::ids::{Attempt, DatasetId, WorkerId};
use crate::layout::{self, FORMAT_VERSION, ObjectRecord};
use crate::limits;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod parquet;
#[cfg(test)]
mod tests;

/// Bytes of examples after which a part is closed early: writing one holds it four times over, and
/// whoever wants some of its rows fetches all of it.
const PART_BYTES_MAX: usize = 32 << 20;

/// One Parquet part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// The object.
    pub object: ObjectRecord,
    /// Number of its first example.
    pub first_row: u64,
    /// Examples in it.
    pub rows: u64,
}

/// Makes a data set visible (`examples/<dataset-id>/manifest.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetManifest {
    /// Format version of this record.
    pub version: u32,
    /// Content id.
    pub id: DatasetId,
    /// Name in the job file that was first to prepare it.
    pub name: String,
    /// What every example has.
    pub schema: ExampleSchema,
    /// Examples.
    pub rows: u64,
    /// Parts in order, without gaps.
    pub parts: Vec<PartRecord>,
    /// Examples by split name; empty without splits.
    pub split_rows: BTreeMap<String, u64>,
    /// Attempt that won.
    pub attempt: Attempt,
    /// Its worker.
    pub worker: WorkerId,
    /// Where it came from, for people: paths, options, digests.
    pub provenance: BTreeMap<String, String>,
}

/// Writes the examples of one attempt, part by part.
///
/// # Examples
/// `new`, `push` for each example, then `commit`; `abandon` on the way out of an error.
pub struct ExampleWriter {
    store: Store,
    manifest: DatasetManifest,
    open: Vec<Example>,
    open_bytes: usize,
    rows_per_part: usize,
}

impl ExampleWriter {
    /// Starts an attempt at the data set `id`.
    pub fn new(
        store: &Store,
        id: &DatasetId,
        name: &str,
        schema: ExampleSchema,
        (attempt, worker): (Attempt, WorkerId),
    ) -> Self {
        let manifest = DatasetManifest {
            version: FORMAT_VERSION,
            id: id.clone(),
            name: name.to_owned(),
            schema,
            rows: 0,
            parts: Vec::new(),
            split_rows: BTreeMap::new(),
            attempt,
            worker,
            provenance: BTreeMap::new(),
        };
        let rows_per_part = usize::try_from(limits::EXAMPLES_PER_PART_MAX).unwrap_or(usize::MAX);
        let store = store.clone();
        Self { store, manifest, open: Vec::new(), open_bytes: 0, rows_per_part }
    }

    /// Makes smaller parts than [`limits::EXAMPLES_PER_PART_MAX`].
    #[must_use]
    pub fn with_rows_per_part(mut self, rows: usize) -> Self {
        self.rows_per_part = rows.clamp(1, self.rows_per_part);
        self
    }

    /// Examples pushed.
    pub fn rows(&self) -> u64 {
        self.manifest.rows
    }

    /// Adds one example; writes a part when enough have come together.
    ///
    /// # Errors
    /// `Invalid` naming an example that does not fit the schema; store errors.
    pub async fn push(&mut self, example: Example) -> Result<()> {
        check(&example, &self.manifest.schema)?;
        if let Some(split) = example.split {
            *self.manifest.split_rows.entry(split.name().to_owned()).or_default() += 1;
        }
        self.manifest.rows += 1;
        self.open_bytes = self.open_bytes.saturating_add(held_bytes(&example));
        self.open.push(example);
        if self.open.len() >= self.rows_per_part || self.open_bytes >= PART_BYTES_MAX {
            self.close_part().await?;
        }
        Ok(())
    }

    async fn close_part(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let examples = std::mem::take(&mut self.open);
        self.open_bytes = 0;
        let manifest = &mut self.manifest;
        let number = u32::try_from(manifest.parts.len())
            .map_err(|_| Error::invalid(format!("data set {}: too many parts", manifest.name)))?;
        let path = layout::dataset_part_path(&manifest.id, number, &manifest.attempt);
        let bytes = parquet::encode(&manifest.schema, &examples)?;
        let object = self.store.put_data("part", &path, bytes).await?;
        let rows = examples.len() as u64;
        manifest.parts.push(PartRecord { object, first_row: manifest.rows - rows, rows });
        Ok(())
    }

    /// Writes the last part and commits; the loser's parts are deleted.
    ///
    /// Where a manifest stands whose parts are damaged, the next revision is committed instead.
    ///
    /// # Errors
    /// As [`Store::put_data`] and [`Store::commit`].
    pub async fn commit(
        mut self,
        provenance: BTreeMap<String, String>,
    ) -> Result<Outcome<DatasetManifest>> {
        if let Err(error) = self.close_part().await {
            self.abandon().await;
            return Err(error);
        }
        let mut manifest = self.manifest;
        manifest.provenance = provenance;
        let objects: Vec<_> = manifest.parts.iter().map(|part| part.object.clone()).collect();
        let path = layout::dataset_manifest_path(&manifest.id);
        let store = &self.store;
        let rows = manifest.rows;
        let check = |standing: DatasetManifest| async move {
            check_rows(&standing, rows)?;
            check_dataset(store, &standing).await
        };
        store.commit(&path, manifest, &objects, check).await
    }

    /// Gives up: deletes the parts written so far.
    pub async fn abandon(self) {
        for part in &self.manifest.parts {
            self.store.discard(&part.object.path).await;
        }
    }
}

/// Bytes of the letters, targets and names of one example.
fn held_bytes(example: &Example) -> usize {
    let letters: usize = example.sequences.iter().map(|sequence| sequence.len()).sum();
    let place = example.interval.as_ref().map_or(0, |interval| interval.chromosome.len());
    letters + example.targets.len() * size_of::<f32>() + example.id.len() + place
}

fn check(example: &Example, schema: &ExampleSchema) -> Result<()> {
    let defect = |what: &str, expected: usize, found: usize| {
        let id = &example.id;
        Err(Error::invalid(format!("example {id}: expected {expected} {what}, found {found}")))
    };
    if example.sequences.len() != schema.sequences.len() {
        return defect("sequences", schema.sequences.len(), example.sequences.len());
    }
    if example.targets.len() != schema.targets.len() {
        return defect("targets", schema.targets.len(), example.targets.len());
    }
    if example.split.is_some() != schema.has_splits {
        return defect("split", schema.has_splits.into(), example.split.is_some().into());
    }
    if example.interval.is_some() && !schema.has_intervals {
        return defect("intervals", 0, 1);
    }
    Ok(())
}

/// Reads and checks the newest readable manifest of a prepared data set.
///
/// # Errors
/// `NotFound`, `Corrupt`, `Invalid` for a newer version; store errors.
pub async fn read_manifest(store: &Store, id: &DatasetId) -> Result<DatasetManifest> {
    find_manifest(store, id).await?.ok_or_else(|| {
        let path = layout::dataset_manifest_path(id);
        Error::not_found(format!("{path} in {}: no such data set", store.url()))
    })
}

fn check_manifest(store: &Store, id: &DatasetId, manifest: &DatasetManifest) -> Result<()> {
    let mut next = Some(0_u64);
    for part in &manifest.parts {
        next = next.filter(|&row| row == part.first_row && part.rows > 0);
        next = next.and_then(|row| row.checked_add(part.rows));
    }
    if next != Some(manifest.rows) || manifest.id != *id {
        return Err(Error::corrupt(format!(
            "{} in {}: expected parts of {} rows in all without gaps for {id}, found others",
            layout::dataset_manifest_path(id),
            store.url(),
            manifest.rows
        )));
    }
    let path = layout::dataset_manifest_path(id);
    layout::check_own(&path, manifest.parts.iter().map(|part| &part.object)).map_err(|foreign| {
        Error::corrupt(format!(
            "{path} in {}: expected parts of its own, found {foreign}",
            store.url()
        ))
    })
}

/// Whether a manifest counts `rows` examples, as whoever read the source did.
///
/// # Errors
/// `Corrupt` if it does not.
pub fn check_rows(manifest: &DatasetManifest, rows: u64) -> Result<()> {
    if manifest.rows == rows {
        return Ok(());
    }
    let DatasetManifest { id, rows: found, .. } = manifest;
    Err(Error::corrupt(format!("data set {id}: expected {rows} rows, found {found}")))
}

/// Reads every part of a prepared data set.
///
/// # Errors
/// `Corrupt` when a part is not what the manifest says; store errors.
pub async fn check_dataset(store: &Store, manifest: &DatasetManifest) -> Result<()> {
    check_manifest(store, &manifest.id, manifest)?;
    for part in &manifest.parts {
        let past = part.first_row.saturating_add(part.rows);
        read_examples(store, manifest, part.first_row, past).await?;
    }
    Ok(())
}

/// Reads and checks the manifest of a prepared data set, `None` if it is not prepared.
///
/// # Errors
/// As [`read_manifest`] but `NotFound`.
pub async fn find_manifest(store: &Store, id: &DatasetId) -> Result<Option<DatasetManifest>> {
    let manifest: Option<DatasetManifest> =
        store.find_newest(&layout::dataset_manifest_path(id)).await?;
    if let Some(manifest) = &manifest {
        check_manifest(store, id, manifest)?;
    }
    Ok(manifest)
}

/// Reads the examples `start..end` in order.
///
/// # Errors
/// `Invalid` when the range lies outside, `Corrupt` when a part is not what the manifest says; store errors.
pub async fn read_examples(
    store: &Store,
    manifest: &DatasetManifest,
    start: u64,
    end: u64,
) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    for (part, rows) in parts_of(manifest, (start, end))? {
        let bytes = store.get_verified(&part.object).await?;
        examples.extend(decode_part(store, manifest, part, rows, bytes)?);
    }
    Ok(examples)
}

/// The parts that hold the examples `start..end`, and which of each one's own rows they are.
///
/// # Errors
/// `Invalid` when the range lies outside.
pub fn parts_of(
    manifest: &DatasetManifest,
    (start, end): (u64, u64),
) -> Result<Vec<(&PartRecord, (u64, u64))>> {
    if start > end || end > manifest.rows {
        return Err(Error::invalid(format!(
            "data set {}: expected a range within {} examples, found {start}..{end}",
            manifest.name, manifest.rows
        )));
    }
    let within = |part: &PartRecord| {
        let past = part.first_row.saturating_add(part.rows);
        let (from, to) = (start.max(part.first_row), end.min(past));
        (from < to).then(|| (from - part.first_row, to - part.first_row))
    };
    Ok(manifest.parts.iter().filter_map(|part| Some((part, within(part)?))).collect())
}

/// Rows `from..to` of the bytes of a part, which were checked.
///
/// # Errors
/// `Corrupt` when they are no part of this data set.
pub fn decode_part(
    store: &Store,
    manifest: &DatasetManifest,
    part: &PartRecord,
    rows: (u64, u64),
    bytes: Bytes,
) -> Result<Vec<Example>> {
    let place = format!("{} in {}", part.object.path, store.url());
    parquet::decode(&manifest.schema, bytes, rows, &place)
}
