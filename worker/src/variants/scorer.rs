//! Runs a gLM over windows and scores their variants.
//!
//! Leaves out: cutting windows and comparing scores with effects. Invariant: a score is computed from
//! the states and logits of its own two windows alone; strands are averaged score by score.

use super::groups::{Group, Groups, Strand};
use super::likelihood::{Likelihoods, base_ids, likelihoods, masked_difference};
use super::score::missing;
use super::{Distances, distances};
use super::{Score, TokenSet, Window, published};
use crate::batching;
use crate::device::device_error;
use crate::model::{KeptStates, LayerRequest, Model, States, TokenBatch, does_not_fit, in_halves};
use glmeval_common::error::{Error, Result};
use glmeval_common::model::TokenRule;
use glmeval_kernels::cuda::View;
use glmeval_kernels::ops::state_distance::cuda::{Pair, state_distances};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use std::borrow::Cow;

/// What is computed of every variant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScorerOptions {
    /// Scores; their columns come in the order of [`Score::ALL`].
    pub scores: Vec<Score>,
    /// Whether each score is averaged with that of the reverse complements.
    pub both_strands: bool,
    /// Tokens whose states are compared.
    pub tokens: TokenSet,
    /// Tokens that every window is padded to, without a mask.
    pub pad_to: Option<usize>,
}

/// What became of a variant.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// One number for each of [`Scorer::columns`].
    Scored(Vec<f64>),
    /// Why it has no score.
    Dropped(String),
}

/// Scores variants with one gLM.
pub struct Scorer<'m> {
    model: &'m Model,
    options: ScorerOptions,
    /// Ids of A, C, G and T; empty where no score needs them.
    bases: Vec<u32>,
}

/// Scores of one alternative, or why there are none.
type Scored = Result<Vec<f64>, String>;

impl<'m> Scorer<'m> {
    /// Scores with `model`.
    ///
    /// # Errors
    /// `Invalid` for a score or a set of tokens that the gLM does not have, and for no score at all.
    pub fn new(model: &'m Model, mut options: ScorerOptions) -> Result<Self> {
        options.scores.sort_unstable();
        options.scores.dedup();
        if let Some(reason) = options.scores.iter().find_map(|score| missing(*score, model)) {
            return Err(Error::invalid(reason));
        }
        let facts = model.facts();
        let is_cut = matches!(facts.token_rule, TokenRule::Blocks { .. });
        if options.tokens == TokenSet::Nucleotides && (!is_cut || facts.states_fixed.is_some()) {
            let kind = &facts.architecture;
            return Err(Error::invalid(format!("{kind} has no tokens that stand for nucleotides")));
        }
        if options.scores.is_empty() {
            return Err(Error::invalid("expected at least one score, found none"));
        }
        let is_causal = options.scores.contains(&Score::CausalLlr);
        let bases = if is_causal { base_ids(model)? } else { Vec::new() };
        Ok(Self { model, options, bases })
    }

    /// Names of what [`Outcome::Scored`] holds.
    pub fn columns(&self) -> Vec<&'static str> {
        self.options.scores.iter().flat_map(|score| score.columns()).copied().collect()
    }

    /// The same scores over windows padded to `tokens` tokens; `None` = not padded.
    #[must_use]
    pub fn padded_to(mut self, tokens: Option<usize>) -> Self {
        self.options.pad_to = tokens;
        self
    }

    /// Tokens of the longest of `windows`, alternatives and strands included; 0 for none.
    ///
    /// # Errors
    /// Defects of the gLM; windows that it cannot take do not count.
    pub fn tokens_max(&self, windows: &[&Window]) -> Result<usize> {
        let groups = Groups::new(windows).tokenize(self.model, self.options.both_strands, None)?;
        let strands = groups.iter().flatten().flat_map(|group| &group.strands);
        Ok(strands.flat_map(|strand| &strand.ids).map(Vec::len).max().unwrap_or(0))
    }

    /// Scores `windows`; `done` is told how many more are finished and may stop the work.
    ///
    /// # Errors
    /// Those of the gLM and of `done`; a window that the gLM cannot take is dropped.
    pub fn score(
        &self,
        windows: &[&Window],
        done: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Vec<Outcome>> {
        let groups = Groups::new(windows);
        let (strands, pad_to) = (self.options.both_strands, self.options.pad_to);
        let tokens = groups.tokenize(self.model, strands, pad_to)?;
        let mut variants = vec![0; tokens.len()];
        for &(group, _) in &groups.places {
            variants[group] += 1;
        }
        let mut found: Vec<Vec<Scored>> = vec![Vec::new(); tokens.len()];
        let usable: Vec<(usize, &Group)> =
            tokens.iter().enumerate().filter_map(|(i, t)| Some((i, t.as_ref().ok()?))).collect();
        let counts: Vec<usize> = usable.iter().map(|(_, group)| group.token_count()).collect();
        let alone = |member: usize, tokens: usize, error: Error| {
            let start = groups.start(usable.get(member).map_or(0, |(group, _)| *group), windows);
            does_not_fit(&format!("variants of the window at {start}"), tokens, &error)
        };
        let batches = batching::pack(&counts, self.model.tokens_per_batch());
        in_halves(self.model, &counts, batches, &alone, &mut |members| {
            let batch: Vec<&Group> = members.iter().map(|&member| usable[member].1).collect();
            let mut finished = 0;
            for (member, scored) in members.iter().zip(self.score_groups(&batch)?) {
                let group = usable[*member].0;
                finished += variants[group];
                found[group] = scored;
            }
            done(finished)
        })?;
        let outcome = |&(group, alternative): &(usize, usize)| match &tokens[group] {
            Err(reason) => Outcome::Dropped(reason.clone()),
            Ok(_) => match found[group].get(alternative) {
                Some(Ok(scores)) => Outcome::Scored(scores.clone()),
                Some(Err(reason)) => Outcome::Dropped(reason.clone()),
                None => Outcome::Dropped("no score was computed".to_owned()),
            },
        };
        Ok(groups.places.iter().map(outcome).collect())
    }

    /// Scores of each alternative of each group, whose sequences share a batch.
    fn score_groups(&self, groups: &[&Group]) -> Result<Vec<Vec<Scored>>> {
        let passes = Passes::run(self, groups)?;
        let mut strands = 0;
        let mut places = Vec::new();
        for group in groups {
            let alternatives = group.strands.first().map_or(0, |s| s.ids.len().saturating_sub(1));
            places.extend((0..alternatives).map(|alternative| (strands, *group, alternative)));
            strands += group.strands.len();
        }
        let scored: Vec<Scored> = places
            .par_iter()
            .map(|&(first, group, alternative)| self.average(&passes, first, group, alternative))
            .collect();
        let mut scored = scored.into_iter();
        let per_group = |group: &&Group| {
            let count = group.strands.first().map_or(0, |s| s.ids.len().saturating_sub(1));
            scored.by_ref().take(count).collect()
        };
        Ok(groups.iter().map(per_group).collect())
    }

    /// Scores of one alternative, averaged over the strands, the first of which is number `first`.
    fn average(&self, passes: &Passes, first: usize, group: &Group, alternative: usize) -> Scored {
        let mut sums: Vec<f64> = Vec::new();
        for (number, strand) in (first..).zip(&group.strands) {
            let scores = self.of_strand(passes, number, strand, alternative)?;
            if sums.is_empty() {
                sums = scores;
            } else {
                sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
            }
        }
        let count = group.strands.len() as f64;
        sums.iter_mut().for_each(|sum| *sum /= count);
        match sums.iter().all(|score| score.is_finite()) {
            true => Ok(sums),
            false => Err("a score that is no finite number".to_owned()),
        }
    }

    fn of_strand(
        &self,
        passes: &Passes,
        number: usize,
        strand: &Strand,
        alternative: usize,
    ) -> Scored {
        let mut scores = Vec::new();
        let needs_distance =
            |score: &Score| matches!(score, Score::Cosine | Score::Dot | Score::L1 | Score::L2);
        let compared = match self.options.scores.iter().any(needs_distance) {
            false => None,
            true if !passes.compared.is_empty() => {
                Some(passes.compared(number, alternative + 1).ok_or(UNLIKE_COUNTS)?)
            }
            true => {
                let r = self.chosen(passes.states(number, 0), strand);
                let s = self.chosen(passes.states(number, alternative + 1), strand);
                if r.len() != s.len() {
                    return Err(UNLIKE_COUNTS.into());
                }
                Some(distances(r.iter().copied().zip(s.iter().copied())))
            }
        };
        for score in &self.options.scores {
            match (score, &compared) {
                (Score::Cosine, Some(d)) => scores.extend([d.one_minus_cos, d.cos]),
                (Score::Dot, Some(d)) => scores.push(d.dot),
                (Score::L1, Some(d)) => scores.push(d.l1),
                (Score::L2, Some(d)) => scores.push(d.l2_squared),
                (Score::MaskedLlr, _) => {
                    scores.push(passes.masked_difference(number, strand, alternative)?);
                }
                (Score::CausalLlr, _) => {
                    let [from, to] = [0, alternative + 1].map(|s| passes.likelihoods(number, s));
                    scores.extend([
                        to.nucleotides - from.nucleotides,
                        to.all - from.all,
                        to.acgt - from.acgt,
                    ]);
                }
                (_, None) => return Err("states that were not computed".to_owned()),
            }
        }
        Ok(scores)
    }

    /// Compares the states of each sequence of `strands`, which begin at the rows `offsets`, with those of its strand's
    /// reference, on the device that has them; `None` where they have different numbers of tokens.
    fn compare(
        &self,
        strands: &[&Strand],
        offsets: &[usize],
        states: View<'_, f32>,
    ) -> Result<Vec<Option<Distances>>> {
        let is_chosen = self.options.tokens == TokenSet::Nucleotides;
        let skips = published(&self.model.facts().architecture).skips_first;
        let skipped = usize::from(skips && self.options.tokens == TokenSet::Published);
        let spans: Vec<&[usize]> = offsets.windows(2).collect();
        let (mut pairs, mut places) = (Vec::new(), Vec::new());
        // Rows of tokens that are no neighbours are laid beside each other before they are compared.
        let mut chosen = Vec::new();
        let mut first = 0;
        for strand in strands {
            let of_strand = spans.get(first..first + strand.ids.len()).unwrap_or_default();
            let Some(reference) = of_strand.first() else { continue };
            let first_chosen = chosen.len();
            for (sequence, span) in (first..).zip(of_strand) {
                let (rows, expected) = (span[1] - span[0], reference[1] - reference[0]);
                if is_chosen && strand.nucleotides().all(|token| token < rows) {
                    let second = chosen.len();
                    chosen.extend(strand.nucleotides().map(|token| span[0] + token));
                    pairs.push(Pair { first: first_chosen, second, rows: chosen.len() - second });
                    places.push(sequence);
                } else if !is_chosen && rows == expected {
                    let rows = rows.saturating_sub(skipped);
                    let (first, second) = (reference[0] + skipped, span[0] + skipped);
                    pairs.push(Pair { first, second, rows });
                    places.push(sequence);
                }
            }
            first += strand.ids.len();
        }
        let width = self.model.facts().width as usize;
        let kept = is_chosen.then(|| States::Device(states).rows(&chosen, width)).transpose()?;
        let states = match kept.as_ref().map(KeptStates::states) {
            Some(States::Device(chosen)) => chosen,
            _ => states,
        };
        let found = state_distances(states, width, &pairs).map_err(device_error)?;
        let mut compared = vec![None; spans.len()];
        for (place, found) in places.into_iter().zip(found) {
            compared[place] = Some(found);
        }
        Ok(compared)
    }

    /// The states of the tokens that are compared.
    fn chosen<'s>(&self, states: &'s [f32], strand: &Strand) -> Cow<'s, [f32]> {
        let width = self.model.facts().width as usize;
        let skips = published(&self.model.facts().architecture).skips_first;
        match self.options.tokens {
            TokenSet::Published if skips => Cow::Borrowed(states.get(width..).unwrap_or_default()),
            TokenSet::Published | TokenSet::All => Cow::Borrowed(states),
            TokenSet::Nucleotides => {
                let row = |token: usize| states.get(token * width..(token + 1) * width);
                Cow::Owned(strand.nucleotides().filter_map(row).flatten().copied().collect())
            }
        }
    }
}

/// Why windows have no distance.
const UNLIKE_COUNTS: &str = "reference and alternative have different numbers of tokens";

/// What the gLM said of all sequences of a batch of groups.
struct Passes {
    width: usize,
    /// Number of the first sequence of each strand, and one past the last.
    firsts: Vec<usize>,
    /// States of all sequences; empty where no score needs them, or a device compared them.
    states: Vec<f32>,
    /// Of each sequence, what a device found comparing its states with the reference's; empty where none did.
    compared: Vec<Option<Distances>>,
    /// Where those of each sequence begin, in rows.
    offsets: Vec<usize>,
    /// Of each sequence; empty where no score needs them.
    likelihoods: Vec<Likelihoods>,
    /// Logits at the masked token of each strand, `None` where no score needs them or the gLM does
    /// not say which token it is.
    masked: Vec<Option<Vec<f32>>>,
}

impl Passes {
    fn run(scorer: &Scorer<'_>, groups: &[&Group]) -> Result<Self> {
        let (model, scores) = (scorer.model, &scorer.options.scores);
        let strands: Vec<&Strand> = groups.iter().flat_map(|group| &group.strands).collect();
        let mut firsts = vec![0];
        for strand in &strands {
            firsts.push(firsts.last().copied().unwrap_or(0) + strand.ids.len());
        }
        let mut passes = Self {
            width: model.facts().width as usize,
            firsts,
            states: Vec::new(),
            compared: Vec::new(),
            offsets: Vec::new(),
            likelihoods: Vec::new(),
            masked: vec![None; strands.len()],
        };
        if scores.iter().any(|score| score.needs_states()) {
            let sequences = strands.iter().flat_map(|strand| &strand.ids).map(Vec::as_slice);
            let batch = TokenBatch::pack(sequences);
            passes.offsets = model.state_offsets(&batch);
            let last = model.facts().layer_count;
            model.hand_out(&batch, &LayerRequest::new(&[last], last)?, &mut |_, states| {
                if scores.contains(&Score::CausalLlr) {
                    let logits = model.head_of(states)?;
                    passes.likelihoods = all_likelihoods(&strands, &batch, &logits, &scorer.bases)?;
                }
                match states {
                    States::Device(states) => {
                        passes.compared = scorer.compare(&strands, &passes.offsets, states)?;
                    }
                    States::Host(states) => passes.states = states.to_vec(),
                }
                Ok(())
            })?;
        }
        if scores.contains(&Score::MaskedLlr) {
            passes.masked = masked(model, &strands)?;
        }
        Ok(passes)
    }

    fn sequence(&self, strand: usize, sequence: usize) -> usize {
        self.firsts.get(strand).copied().unwrap_or(usize::MAX).saturating_add(sequence)
    }

    /// States `[T, D]` of a sequence of a strand; 0 is the reference.
    fn states(&self, strand: usize, sequence: usize) -> &[f32] {
        let sequence = self.sequence(strand, sequence);
        let span = self.offsets.get(sequence).zip(self.offsets.get(sequence.saturating_add(1)));
        let span = span.map(|(start, end)| start * self.width..end * self.width);
        span.and_then(|span| self.states.get(span)).unwrap_or_default()
    }

    /// What a device found comparing a sequence of a strand with its reference.
    fn compared(&self, strand: usize, sequence: usize) -> Option<Distances> {
        self.compared.get(self.sequence(strand, sequence)).copied().flatten()
    }

    fn likelihoods(&self, strand: usize, sequence: usize) -> Likelihoods {
        self.likelihoods.get(self.sequence(strand, sequence)).copied().unwrap_or_default()
    }

    fn masked_difference(
        &self,
        number: usize,
        strand: &Strand,
        alternative: usize,
    ) -> Result<f64, String> {
        let logits = self.masked.get(number).and_then(Option::as_ref).zip(strand.token);
        let ids = strand.ids.first().zip(strand.ids.get(alternative + 1));
        let difference = logits.zip(ids).and_then(|((logits, token), (reference, alternative))| {
            masked_difference(logits, reference, alternative, token)
        });
        difference.ok_or_else(|| "the variant changes several tokens".to_owned())
    }
}

/// Likelihoods of every sequence from the logits `[N, V]` of all of them.
fn all_likelihoods(
    strands: &[&Strand],
    batch: &TokenBatch,
    logits: &[f32],
    bases: &[u32],
) -> Result<Vec<Likelihoods>> {
    let width = logits.len() / batch.token_count().max(1);
    let lengths = strands.iter().flat_map(|strand| strand.ids.iter().map(|_| &strand.lengths));
    let sequences: Vec<_> = batch.offsets.windows(2).zip(lengths).collect();
    let one = |&(span, lengths): &(&[usize], &Vec<u32>)| {
        let ids = batch.ids.get(span[0]..span[1]).unwrap_or_default();
        let logits = logits.get(span[0] * width..span[1] * width).unwrap_or_default();
        likelihoods(logits, ids, lengths, bases)
    };
    sequences.par_iter().map(one).collect()
}

/// Logits at the variant's token of each reference, that token being masked.
fn masked(model: &Model, strands: &[&Strand]) -> Result<Vec<Option<Vec<f32>>>> {
    let mask = model.tokenizer().mask_id().ok_or_else(|| Error::bug("no mask token"))?;
    let mut found = vec![None; strands.len()];
    let mut known = Vec::new();
    let mut sequences = Vec::new();
    for (number, strand) in strands.iter().enumerate() {
        let Some((token, ids)) = strand.token.zip(strand.ids.first()) else { continue };
        let mut ids = ids.clone();
        let Some(id) = ids.get_mut(token) else { continue };
        *id = mask;
        sequences.push(ids);
        known.push((number, token));
    }
    if sequences.is_empty() {
        return Ok(found);
    }
    let batch = TokenBatch::pack(sequences.iter().map(Vec::as_slice));
    let rows = batch.offsets.iter().zip(&known).map(|(start, (_, token))| start + token);
    let logits = model.logits_at(&batch, &rows.collect::<Vec<_>>())?;
    let width = logits.len() / known.len();
    for (row, (number, _)) in logits.chunks_exact(width.max(1)).zip(known) {
        found[number] = Some(row.to_vec());
    }
    Ok(found)
}
