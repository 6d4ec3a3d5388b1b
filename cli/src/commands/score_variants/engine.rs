//! What scores windows: a gLM, a trained network, or a network over the states of a gLM.
//!
//! Leaves out: files. Invariant: every window is looked at before the first is scored, so that padding
//! depends on all of them and on no order.

use super::input::stored_window;
use super::{Arguments, ScoreName};
use crate::output::complain;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_worker::model::Model;
use glmeval_worker::variants::{
    Outcome, PROBE_COLUMNS, PROBE_WINDOW, ProbeReads, Published, Score, ScoreForm, Scorer,
    ScorerOptions, StatesProbe, VariantProbe, Window, missing, published,
};

/// Any scorer.
pub(super) enum Engine<'m> {
    /// A gLM.
    Model { scorer: Option<Box<Scorer<'m>>>, known: Published, window: u64, longest: usize },
    /// A trained network of one-hot windows.
    Probe { probe: Box<VariantProbe>, window: u64 },
    /// A trained network of a gLM's states.
    States { probe: Box<StatesProbe<'m>>, window: u64 },
}

impl<'m> Engine<'m> {
    /// Makes the scorer that the arguments ask for.
    pub(super) fn new(
        arguments: &Arguments,
        model: Option<&'m Model>,
        probe: Option<VariantProbe>,
    ) -> Result<Self> {
        let stored = stored_window(&arguments.input)?;
        let wrong = |expected: String, asked| -> Error {
            InputError::new("command line", "--window", expected, asked).into()
        };
        let asked = match (arguments.window, stored) {
            (Some(asked), Some(stored)) if asked != stored => {
                return Err(wrong(format!("{stored}, the length of the stored windows"), asked));
            }
            (asked, stored) => asked.or(stored),
        };
        let Some(probe) = probe else {
            let model = model.ok_or_else(|| Error::bug("neither a gLM nor a probe"))?;
            return Self::of_model(arguments, model, asked);
        };
        let window = asked.or(probe.window()).unwrap_or(PROBE_WINDOW);
        match (model, probe.reads()) {
            (None, ProbeReads::OneHot) => {
                if let Some(read) = probe.window().filter(|read| *read != window) {
                    return Err(wrong(format!("{read}, which the network reads"), window));
                }
                Ok(Self::Probe { probe: Box::new(probe), window })
            }
            (None, ProbeReads::States { name, .. }) => {
                let expected = format!("the gLM that the probe was trained on, {name}");
                Err(InputError::new("command line", "--model", expected, "none").into())
            }
            (Some(model), _) => {
                let pads = !published(&model.facts().architecture).padded.is_empty();
                let probe = Box::new(StatesProbe::new(model, probe, pads)?);
                Ok(Self::States { probe, window })
            }
        }
    }

    fn of_model(arguments: &Arguments, model: &'m Model, window: Option<u64>) -> Result<Self> {
        let known = published(&model.facts().architecture);
        let is_all = arguments.scores.contains(&ScoreName::All);
        let scores = if is_all {
            Score::ALL.into_iter().filter(|score| missing(*score, model).is_none()).collect()
        } else if arguments.scores.is_empty() {
            known.scores.to_vec()
        } else {
            arguments.scores.iter().filter_map(|name| name.score()).collect()
        };
        let options = ScorerOptions {
            scores,
            both_strands: arguments.both_strands,
            tokens: arguments.token_set.into(),
            pad_to: None,
        };
        let scorer = Some(Box::new(Scorer::new(model, options)?));
        let window = window.unwrap_or_else(|| known.window_of(model.facts()));
        Ok(Self::Model { scorer, known, window, longest: 0 })
    }

    /// Length of its windows in nucleotides.
    pub(super) fn window(&self) -> u64 {
        match self {
            Self::Model { window, .. }
            | Self::Probe { window, .. }
            | Self::States { window, .. } => *window,
        }
    }

    /// Looks at windows before any is scored.
    pub(super) fn look(&mut self, windows: &[&Window]) -> Result<()> {
        if let Self::Model { scorer: Some(scorer), known, longest, .. } = self
            && !known.padded.is_empty()
        {
            *longest = (*longest).max(scorer.tokens_max(windows)?);
        }
        Ok(())
    }

    /// Decides the padding once all windows were seen.
    pub(super) fn finish_looking(&mut self, length: u64) {
        if let Self::Model { scorer, known, longest, .. } = self {
            let pad_to = known.pad_to(length, *longest);
            if let Some(tokens) = pad_to {
                complain(&format!("windows padded to {tokens} tokens, as published"));
            }
            *scorer = scorer.take().map(|scorer| Box::new(scorer.padded_to(pad_to)));
        }
    }

    /// Names of the scores.
    pub(super) fn columns(&self) -> Vec<&'static str> {
        match self {
            Self::Model { scorer, .. } => scorer.as_ref().map_or(Vec::new(), |s| s.columns()),
            Self::Probe { .. } | Self::States { .. } => PROBE_COLUMNS.to_vec(),
        }
    }

    /// How each score is compared with effects.
    pub(super) fn forms(&self) -> Vec<(String, ScoreForm)> {
        let form = |column: &str| match self {
            Self::Probe { .. } | Self::States { .. } if column == "probe" => ScoreForm::Signed,
            Self::Probe { .. } | Self::States { .. } => ScoreForm::Ignored,
            Self::Model { known, .. } if column == "masked_llr" && known.masked_is_absolute => {
                ScoreForm::Absolute
            }
            Self::Model { .. } => ScoreForm::Distance,
        };
        self.columns().into_iter().map(|column| (column.to_owned(), form(column))).collect()
    }

    /// Scores windows; `done` is told how many more are finished.
    pub(super) fn score(
        &mut self,
        windows: &[&Window],
        done: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Vec<Outcome>> {
        match self {
            Self::Model { scorer, .. } => {
                let scorer = scorer.as_ref().ok_or_else(|| Error::bug("no scorer"))?;
                scorer.score(windows, done)
            }
            Self::States { probe, .. } => probe.effects(windows, done),
            Self::Probe { probe, .. } => {
                let effects = probe.effects(windows)?;
                done(windows.len() as u64)?;
                Ok(effects.into_iter().map(|effect| Outcome::Scored(effect.to_vec())).collect())
            }
        }
    }
}
