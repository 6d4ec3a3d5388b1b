//! Tokens of the longest window of variants, for gLMs that the study padded to it.
//!
//! Leaves out: what padding follows (common). Invariant: every window of a data set counts, so that what
//! is padded to depends on no order and no shard.

use glmeval_common::effect::published;
use glmeval_common::error::Result;
use glmeval_common::job::Job;
use glmeval_common::model::ModelFacts;
use glmeval_common::readers;
use glmeval_common::representation::Strands;
use glmeval_worker::models;

/// Examples read at a time.
const ROWS_PER_READ: usize = 1_024;

/// Counts where a representation of zero-shot scores needs it; windows that a gLM cannot take do not
/// count.
///
/// # Errors
/// Those of the vocabulary and of the files.
pub(super) fn count_tokens(job: &mut Job, facts: &[ModelFacts]) -> Result<()> {
    let (models, datasets) = (&job.models, &job.datasets);
    for embedding in &mut job.embeddings {
        let Some(zero_shot) = &mut embedding.zero_shot else { continue };
        let of_model = models.get(embedding.model_index).zip(facts.get(embedding.model_index));
        let Some((model, facts)) = of_model else { continue };
        if published(&facts.architecture).padded.is_empty() {
            continue;
        }
        let folder = super::fetching::fetch(&model.source)?;
        let tokenizer = models::tokenizer(&folder, &model.options)?;
        let indices = embedding.dataset_indices.iter().flatten();
        for (index, dataset) in indices.filter_map(|&i| Some((i, datasets.get(i)?))) {
            let mut reader = readers::open(&dataset.source, dataset.task)?;
            let mut longest = 0;
            loop {
                let examples = reader.read(ROWS_PER_READ)?;
                if examples.is_empty() {
                    break;
                }
                for sequence in examples.iter().flat_map(|example| &example.sequences) {
                    let mut count = |letters: &str| {
                        let tokens = tokenizer.encode(letters).map_or(0, |tokens| tokens.len());
                        longest = longest.max(tokens as u64);
                    };
                    count(sequence.as_str());
                    if embedding.options.strands == Strands::Averaged {
                        count(sequence.reverse_complement().as_str());
                    }
                }
            }
            zero_shot.longest.insert(index, longest);
        }
    }
    Ok(())
}
