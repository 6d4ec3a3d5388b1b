//! The example that is too long for a gLM, by name.
//!
//! Leaves out: what is too long (coordinator's plan, which sees no example). Invariant: an error of another
//! matter is left as it is.

use glmeval_common::error::{Error, Result};
use glmeval_common::example::Example;
use glmeval_common::job::{Job, JobDataset};
use glmeval_common::readers;
use glmeval_coordinator::plan::TooLong;

/// Examples read at a time.
const ROWS_PER_READ: usize = 1_024;

/// Names the longest example of the data set whose sequences a plan refused for their length.
pub(super) fn named(error: Error, job: &Job) -> Error {
    let Some(TooLong { dataset, nucleotides, .. }) = error.find().cloned() else { return error };
    let Some(table) = job.datasets.get(dataset) else { return error };
    match find(table, nucleotides) {
        Ok(Some(id)) => error.context(format!("plan example {id} of data set {}", table.name)),
        Ok(None) | Err(_) => error,
    }
}

/// Id of the first example with a sequence of `length` nucleotides.
fn find(table: &JobDataset, length: u64) -> Result<Option<String>> {
    let mut reader = readers::open(&table.source, table.task)?;
    let is_long = |example: &Example| {
        example.sequences.iter().any(|sequence| sequence.len() as u64 == length)
    };
    loop {
        let examples = reader.read(ROWS_PER_READ)?;
        if examples.is_empty() {
            return Ok(None);
        }
        if let Some(example) = examples.into_iter().find(is_long) {
            return Ok(Some(example.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::planning::plan_file;

    #[test]
    fn a_sequence_that_is_too_long_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/nt-v1-random");
        let letters = "ACGT".repeat(50_000);
        std::fs::write(folder.path().join("s.fa"), format!(">short\nACGT\n>far too\n{letters}\n"))
            .unwrap();
        let job = format!(
            "name = \"n\"\nseed = 1\n[[model]]\nname = \"nt\"\npath = {model:?}\n\
             [[dataset]]\nname = \"d\"\nfasta = \"s.fa\"\n\
             [[representation]]\nmodel = \"nt\"\npooling = [\"mean\"]\n"
        );
        let path = folder.path().join("job.toml");
        std::fs::write(&path, job).unwrap();
        let error = plan_file(&path, "cpu").err().map(|error| error.chain()).unwrap();
        assert!(error.starts_with("plan example far of data set d: "), "{error}");
        assert!(error.contains("found one of 200000 nucleotides"), "{error}");
    }
}
