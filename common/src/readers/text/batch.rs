//! Batches of examples that are bounded in rows and in bytes.
//!
//! Leaves out: where examples come from. Invariant: only the end of the source gives an empty batch.

use crate::error::Result;
use crate::example::Example;
use crate::limits::PARSER_ALLOCATION_BYTES_MAX;

/// Collects at most `rows` examples from `next`, fewer once they hold many letters.
pub(in crate::readers) fn collect(
    rows: usize,
    mut next: impl FnMut() -> Result<Option<Example>>,
) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    let mut bytes = 0;
    while examples.len() < rows && bytes < PARSER_ALLOCATION_BYTES_MAX {
        let Some(example) = next()? else { break };
        bytes += example.sequences.iter().map(|sequence| sequence.len()).sum::<usize>();
        bytes += example.id.len();
        examples.push(example);
    }
    Ok(examples)
}
