//! Tokens of the longest sequence or window, for gLMs that are padded to it.
//!
//! Leaves out: what padding of windows follows (common). Invariant: every sequence of a data set counts, so that
//! what is padded to depends on no order and no shard.

use glmeval_common::dataset::DatasetSource;
use glmeval_common::effect::published;
use glmeval_common::error::Result;
use glmeval_common::job::{Job, JobDataset, JobEmbedding, JobModel, Protocol};
use glmeval_common::model::{ModelFacts, ModelOptions, Padding};
use glmeval_common::readers;
use glmeval_common::representation::Strands;
use glmeval_worker::models;
use glmeval_worker::tokenizer::Tokenizer;

/// Examples read at a time.
const ROWS_PER_READ: usize = 1_024;
/// gLMs that the study padded to constants, one for each task.
const PADDED_TO_CONSTANTS: &str = "dnabert-2";

/// Tokens of the longest sequence of a data set; sequences that the gLM cannot take do not count.
fn longest(tokenizer: &dyn Tokenizer, dataset: &JobDataset, strands: Strands) -> Result<u64> {
    let mut reader = readers::open(&dataset.source, dataset.task)?;
    let mut longest = 0;
    loop {
        let examples = reader.read(ROWS_PER_READ)?;
        if examples.is_empty() {
            return Ok(longest);
        }
        for sequence in examples.iter().flat_map(|example| &example.sequences) {
            let mut count = |letters: &str| {
                let tokens = tokenizer.encode(letters).map_or(0, |tokens| tokens.len());
                longest = longest.max(tokens as u64);
            };
            count(sequence.as_str());
            if strands == Strands::Averaged {
                count(sequence.reverse_complement().as_str());
            }
        }
    }
}

/// Data sets of `indices` that can be read here.
fn here(
    datasets: &[JobDataset],
    indices: impl Iterator<Item = usize>,
) -> Vec<(usize, &JobDataset)> {
    let known = indices.filter_map(|index| Some((index, datasets.get(index)?)));
    known.filter(|(_, set)| !matches!(set.source, DatasetSource::Archive { .. })).collect()
}

/// With `protocol = "corrected"`, what the study padded to a constant is padded to the longest sequence of the
/// data sets that are read so; numbers of the gLMs that now pad to something else.
///
/// # Errors
/// Those of the vocabulary and of the files.
pub(super) fn follow_sequences(
    job: &mut Job,
    facts: &[ModelFacts],
    is_here: impl Fn(&JobModel) -> bool,
) -> Result<Vec<usize>> {
    let mut changed = Vec::new();
    if job.protocol == Protocol::Published {
        return Ok(changed);
    }
    for (index, facts) in facts.iter().enumerate() {
        let Some(model) = job.models.get(index) else { continue };
        let options = model.options;
        let is_constant = options.pad_to.is_some() && options.padding == Padding::Masked;
        if !is_constant || facts.architecture != PADDED_TO_CONSTANTS || !is_here(model) {
            continue;
        }
        let folder = super::fetching::fetch(&model.source)?;
        let bare = ModelOptions { pad_to: None, ..options };
        let tokenizer = models::tokenizer(&folder, &bare)?;
        let mut most = 0;
        let reading = |embedding: &&_| is_read_by(embedding, index);
        for embedding in job.embeddings.iter().filter(reading) {
            let indices = (0..job.datasets.len()).filter(|&dataset| embedding.reads(dataset));
            for (_, dataset) in here(&job.datasets, indices) {
                most = most.max(longest(&*tokenizer, dataset, embedding.options.strands)?);
            }
        }
        let pad_to = u32::try_from(most).ok().filter(|tokens| *tokens > 0).or(options.pad_to);
        if let Some(model) = job.models.get_mut(index).filter(|_| pad_to != options.pad_to) {
            model.options.pad_to = pad_to;
            changed.push(index);
        }
    }
    Ok(changed)
}

/// Whether states of the gLM are what it asks for; scores pad by a rule of their own.
fn is_read_by(embedding: &JobEmbedding, model: usize) -> bool {
    embedding.model_index == model && embedding.zero_shot.is_none()
}

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
        let here = here(datasets, embedding.dataset_indices.iter().flatten().copied());
        if !is_padded || here.is_empty() || !is_here(model) {
            continue;
        }
        let folder = super::fetching::fetch(&model.source)?;
        let tokenizer = models::tokenizer(&folder, &model.options)?;
        for (index, dataset) in here {
            let longest = longest(&*tokenizer, dataset, embedding.options.strands)?;
            zero_shot.longest.insert(index, longest);
        }
    }
    Ok(())
}
