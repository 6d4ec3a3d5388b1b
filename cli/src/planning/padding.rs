//! Tokens of the longest window of variants, for gLMs that the study padded to it.
//!
//! Leaves out: what padding follows (common). Invariant: every window of a data set counts, so that what
//! is padded to depends on no order and no shard.

use glmeval_common::dataset::DatasetSource;
use glmeval_common::effect::published;
use glmeval_common::error::Result;
use glmeval_common::job::{Job, JobModel};
use glmeval_common::model::ModelFacts;
use glmeval_common::readers;
use glmeval_common::representation::Strands;
use glmeval_worker::models;

/// Examples read at a time.
const ROWS_PER_READ: usize = 1_024;

/// Counts where a representation of zero-shot scores needs it and data set and gLM are here; windows
/// that a gLM cannot take do not count.
///
/// # Errors
/// Those of the vocabulary and of the files.
pub(super) fn count_tokens(
    job: &mut Job,
    facts: &[ModelFacts],
    is_here: impl Fn(&JobModel) -> bool,
) -> Result<()> {
    let (models, datasets) = (&job.models, &job.datasets);
    for embedding in &mut job.embeddings {
        let Some(zero_shot) = &mut embedding.zero_shot else { continue };
        let of_model = models.get(embedding.model_index).zip(facts.get(embedding.model_index));
        let Some((model, facts)) = of_model else { continue };
        let is_padded = !published(&facts.architecture).padded.is_empty();
        let indices = embedding.dataset_indices.iter().flatten();
        let here: Vec<_> = indices
            .filter_map(|&i| Some((i, datasets.get(i)?)))
            .filter(|(_, dataset)| !matches!(dataset.source, DatasetSource::Archive { .. }))
            .collect();
        if !is_padded || here.is_empty() || !is_here(model) {
            continue;
        }
        let folder = super::fetching::fetch(&model.source)?;
        let tokenizer = models::tokenizer(&folder, &model.options)?;
        for (index, dataset) in here {
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
