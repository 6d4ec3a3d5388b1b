//! Effects that a network predicts from a gLM's states of both windows.
//!
//! Leaves out: the network (`probe`). Invariant: as for scores without a probe: alternatives at one
//! place share the reference, and nothing else in a batch changes a bit.

use super::Window;
use super::groups::{Group, Groups};
use super::probe::{VariantProbe, effect};
use super::scorer::Outcome;
use crate::batching;
use crate::model::{LayerRequest, Model, TokenBatch, does_not_fit, in_halves};
use crate::representation::{StrandStates, represent};
use glmeval_common::error::{Error, Result};
use glmeval_common::network::Extent;
use glmeval_common::representation::{Pooling, RepresentationOptions};

/// A network over the states of one gLM.
pub struct StatesProbe<'m> {
    model: &'m Model,
    probe: VariantProbe,
    request: LayerRequest,
    pooling: Pooling,
    pad_to: Option<usize>,
}

impl<'m> StatesProbe<'m> {
    /// Lets `probe` read `model`; with `pads`, windows are padded to the tokens that it reads.
    ///
    /// # Errors
    /// `Invalid` for a network that reads letters or was trained on another gLM.
    pub fn new(model: &'m Model, probe: VariantProbe, pads: bool) -> Result<Self> {
        let (request, pooling) = probe.layer_of(model)?;
        let pad_to = match probe.input() {
            Extent::Sequence { length, .. } if pads => Some(length),
            _ => None,
        };
        Ok(Self { model, probe, request, pooling, pad_to })
    }

    /// Effects of `windows`, [`super::PROBE_COLUMNS`]; `done` as for scores.
    ///
    /// # Errors
    /// Those of the gLM and of `done`; a window that the gLM or the network cannot take is dropped.
    pub fn effects(
        &mut self,
        windows: &[&Window],
        done: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Vec<Outcome>> {
        let groups = Groups::new(windows);
        let tokens = groups.tokenize(self.model, false, self.pad_to)?;
        let mut variants = vec![0; tokens.len()];
        for &(group, _) in &groups.places {
            variants[group] += 1;
        }
        let usable: Vec<(usize, &Group)> =
            tokens.iter().enumerate().filter_map(|(i, t)| Some((i, t.as_ref().ok()?))).collect();
        let counts: Vec<usize> = usable.iter().map(|(_, group)| group.token_count()).collect();
        let mut found: Vec<Result<Vec<f32>, String>> = vec![Ok(Vec::new()); tokens.len()];
        let alone = |member: usize, tokens: usize, error: Error| {
            let start = groups.start(usable.get(member).map_or(0, |(group, _)| *group), windows);
            does_not_fit(&format!("variants of the window at {start}"), tokens, &error)
        };
        let model = self.model;
        let batches = batching::pack(&counts, model.tokens_per_batch());
        in_halves(model, &counts, batches, &alone, &mut |members| {
            let batch: Vec<&Group> = members.iter().map(|&member| usable[member].1).collect();
            let mut finished = 0;
            for (member, values) in members.iter().zip(self.predict(&batch)?) {
                let group = usable[*member].0;
                finished += variants[group];
                found[group] = values;
            }
            done(finished)
        })?;
        let outcome = |&(group, alternative): &(usize, usize)| {
            let values = tokens[group].as_ref().and(found[group].as_ref());
            match values.map(|f| (f.first().copied(), f.get(alternative + 1).copied())) {
                Ok((Some(from), Some(to))) => Outcome::Scored(effect(from, to).to_vec()),
                Ok(_) => Outcome::Dropped("no effect was computed".to_owned()),
                Err(reason) => Outcome::Dropped(reason.clone()),
            }
        };
        Ok(groups.places.iter().map(outcome).collect())
    }

    /// f of every sequence of each group, reference first.
    fn predict(&mut self, groups: &[&Group]) -> Result<Vec<Result<Vec<f32>, String>>> {
        let strands = groups.iter().flat_map(|group| &group.strands);
        let sequences: Vec<&[u32]> =
            strands.flat_map(|strand| &strand.ids).map(Vec::as_slice).collect();
        let batch = TokenBatch::pack(sequences.iter().copied());
        let mut states = Vec::new();
        self.model
            .forward(&batch, &self.request, &mut |_, layer| states.extend_from_slice(layer))?;
        let offsets = self.model.state_offsets(&batch);
        let width = self.model.facts().width as usize;
        let mut spans = offsets.windows(2);
        let mut found = Vec::with_capacity(groups.len());
        for group in groups {
            let count = group.strands.iter().map(|strand| strand.ids.len()).sum();
            let mut input = Vec::new();
            let mut refused = None;
            for span in spans.by_ref().take(count) {
                let states = states.get(span[0] * width..span[1] * width).unwrap_or_default();
                let strand = StrandStates { states, lengths: &[] };
                let options = RepresentationOptions::default();
                let skips = self.model.mean_skips_first();
                let row = represent(self.pooling, options, &[strand], width, skips)?;
                let expected = self.probe.input();
                if row.len() != expected.values() {
                    let rows = row.len() / width.max(1);
                    refused = Some(format!("{rows} states of {width}: the probe reads {expected}"));
                }
                input.extend(row);
            }
            found.push(match refused {
                Some(reason) => Err(reason),
                None => Ok(self.probe.predict(&input)?),
            });
        }
        Ok(found)
    }
}
