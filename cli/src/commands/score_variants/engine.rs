//! What scores windows: a gLM, or a trained network.
//!
//! Leaves out: files. Invariant: every window is looked at before the first is scored, so that padding
//! depends on all of them and on no order.

use super::input::stored_window;
use super::{Arguments, ScoreName};
use crate::model_arguments::ModelArguments;
use crate::output::complain;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_worker::model::Model;
use glmeval_worker::models;
use glmeval_worker::variants::{
    Outcome, PROBE_COLUMNS, Published, Score, ScoreForm, Scorer, ScorerOptions, VariantProbe,
    Window, published,
};

/// Opens the gLM, fetched first if need be.
pub(super) fn open_model(arguments: &ModelArguments) -> Result<Model> {
    let spec = arguments.spec();
    let folder = crate::planning::fetching::fetch(&spec.path)?;
    models::open_with(&folder, &spec.options())
}

/// Either scorer.
pub(super) enum Engine<'m> {
    /// A gLM.
    Model { scorer: Option<Box<Scorer<'m>>>, known: Published, window: u64, longest: usize },
    /// A trained network.
    Probe { probe: Box<VariantProbe> },
}

impl<'m> Engine<'m> {
    /// Makes the scorer that the arguments ask for.
    pub(super) fn new(arguments: &Arguments, model: Option<&'m Model>) -> Result<Self> {
        let stored = stored_window(&arguments.input)?;
        let asked = match (arguments.window, stored) {
            (Some(asked), Some(stored)) if asked != stored => {
                let expected = format!("{stored}, the length of the stored windows");
                return Err(InputError::new("command line", "--window", expected, asked).into());
            }
            (asked, stored) => asked.or(stored),
        };
        match (model, &arguments.probe) {
            (Some(model), _) => Self::of_model(arguments, model, asked),
            (None, Some(description)) => {
                let beside = || description.with_extension("safetensors");
                let weights = arguments.probe_weights.clone().unwrap_or_else(beside);
                let probe = Box::new(VariantProbe::open(description, &weights)?);
                if let Some(asked) = asked.filter(|asked| *asked != probe.window()) {
                    let expected = format!("{}, which the network reads", probe.window());
                    let place = "--window";
                    return Err(InputError::new("command line", place, expected, asked).into());
                }
                Ok(Self::Probe { probe })
            }
            (None, None) => Err(Error::bug("neither a gLM nor a probe")),
        }
    }

    fn of_model(arguments: &Arguments, model: &'m Model, window: Option<u64>) -> Result<Self> {
        let known = published(&model.facts().architecture);
        let is_all = arguments.scores.contains(&ScoreName::All);
        let scores = if is_all {
            Score::ALL.into_iter().filter(|score| score.missing(model).is_none()).collect()
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
    pub(super) fn window(&self) -> Option<u64> {
        match self {
            Self::Model { window, .. } => Some(*window),
            Self::Probe { probe } => Some(probe.window()),
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
            Self::Probe { .. } => PROBE_COLUMNS.to_vec(),
        }
    }

    /// How each score is compared with effects.
    pub(super) fn forms(&self) -> Vec<(String, ScoreForm)> {
        let form = |column: &str| match self {
            Self::Probe { .. } if column == "probe" => ScoreForm::Signed,
            Self::Probe { .. } => ScoreForm::Ignored,
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
            Self::Probe { probe } => {
                let effects = probe.effects(windows)?;
                done(windows.len() as u64)?;
                Ok(effects.into_iter().map(|effect| Outcome::Scored(effect.to_vec())).collect())
            }
        }
    }
}
