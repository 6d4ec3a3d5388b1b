//! A source file to examples in the store.
//!
//! Leaves out: reading formats (`common::readers`). Invariant: what is prepared is what was planned;
//! a source that changed since is refused.

use crate::attempt::{UnitContext, is_sound};
use glmeval_common::error::Result;
use glmeval_common::readers;
use glmeval_common::store::Outcome;
use glmeval_common::store::examples::{ExampleWriter, check_dataset, check_rows, find_manifest};
use glmeval_common::survey::check_unchanged;
use glmeval_common::unit::PrepareUnit;
use std::collections::BTreeMap;

/// Examples read at a time.
const ROWS_PER_READ: usize = 1_024;

/// Streams the source into Parquet parts and commits them.
///
/// # Errors
/// `Invalid` when the source is damaged or no longer what was planned; store errors.
pub(crate) async fn prepare(context: &UnitContext<'_>, unit: &PrepareUnit) -> Result<bool> {
    let store = context.store;
    let standing = find_manifest(store, &unit.dataset).await;
    let check = async |manifest| {
        check_rows(&manifest, unit.rows)?;
        check_dataset(store, &manifest).await
    };
    if is_sound(standing, check).await? {
        return Ok(false);
    }
    tokio::task::block_in_place(|| check_unchanged(&unit.source, unit.task, &unit.dataset))?;
    let mut reader = readers::open(&unit.source, unit.task)?;
    let identity = (context.attempt.clone(), context.worker.clone());
    let schema = reader.schema().clone();
    let mut writer = ExampleWriter::new(context.store, &unit.dataset, &unit.name, schema, identity);
    loop {
        let examples = match tokio::task::block_in_place(|| reader.read(ROWS_PER_READ)) {
            Ok(examples) => examples,
            Err(error) => {
                writer.abandon().await;
                return Err(error);
            }
        };
        if examples.is_empty() {
            break;
        }
        let count = examples.len() as u64;
        for example in examples {
            if let Err(error) = writer.push(example).await {
                writer.abandon().await;
                return Err(error);
            }
        }
        context.done(count);
    }
    let outcome = writer.commit(provenance(unit, &reader.notes())).await?;
    Ok(matches!(outcome, Outcome::Won(_)))
}

fn provenance(unit: &PrepareUnit, notes: &[String]) -> BTreeMap<String, String> {
    let files =
        unit.source.paths().iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let mut lines = BTreeMap::from([
        ("files".to_owned(), files.join(", ")),
        ("task".to_owned(), unit.task.name().to_owned()),
        ("program".to_owned(), concat!("glmeval ", env!("CARGO_PKG_VERSION")).to_owned()),
    ]);
    if !notes.is_empty() {
        lines.insert("notes".to_owned(), notes.join("; "));
    }
    lines
}
