//! What happens at the end of an epoch: early stopping and the fall of the learning rate.
//!
//! Leaves out: copies of weights, which the loop keeps when told. Invariant: the state after an epoch
//! depends on the monitor's values so far alone; NaN is never an improvement.

use glmeval_common::network::{self, Monitor};
use serde::{Deserialize, Serialize};

/// Which of two values of a monitor is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// As of a loss.
    Smaller,
    /// As of an area under a curve.
    Larger,
}

impl Better {
    /// What is better for `monitor`.
    pub fn of(monitor: Monitor) -> Self {
        match monitor {
            Monitor::Loss => Self::Smaller,
            Monitor::Aupr => Self::Larger,
        }
    }

    /// Whether `value` is better than `best` by more than `margin`; without a best, any number is.
    fn improves(self, value: f64, best: Option<f64>, margin: f64) -> bool {
        match (self, best) {
            (Self::Smaller, best) => value < best.unwrap_or(f64::INFINITY) - margin,
            (Self::Larger, best) => value > best.unwrap_or(f64::NEG_INFINITY) + margin,
        }
    }
}

/// What the loop does after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Keep a copy of the weights: they are the best, or the first.
    pub keep: bool,
    /// No further epoch.
    pub stop: bool,
}

/// Stops when the monitor has not improved for a number of epochs.
///
/// Equality is no improvement. The first epoch's weights are kept whatever their value.
///
/// Source: Keras 2.12 `callbacks.EarlyStopping` with `min_delta` 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    better: Better,
    patience: Option<u32>,
    epochs: u32,
    wait: u32,
    best: Option<f64>,
    best_epoch: u32,
}

impl EarlyStopping {
    /// Before the first epoch; without a patience it never stops but still knows the best epoch.
    pub fn new(patience: Option<u32>, better: Better) -> Self {
        Self { better, patience, epochs: 0, wait: 0, best: None, best_epoch: 0 }
    }

    /// Takes the monitor's value at the end of an epoch.
    pub fn observe(&mut self, value: f64) -> Verdict {
        let epoch = self.epochs;
        self.epochs = epoch.saturating_add(1);
        self.wait = self.wait.saturating_add(1);
        if self.better.improves(value, self.best, 0.0) {
            self.best = Some(value);
            self.best_epoch = epoch;
            self.wait = 0;
            return Verdict { keep: true, stop: false };
        }
        let is_out = self.patience.is_some_and(|patience| self.wait >= patience);
        Verdict { keep: epoch == 0, stop: is_out && epoch > 0 }
    }

    /// Epochs since the last improvement.
    pub fn wait(&self) -> u32 {
        self.wait
    }

    /// The best value; none before the first improvement.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// The epoch of the best value, counted from 0.
    pub fn best_epoch(&self) -> u32 {
        self.best_epoch
    }
}

/// Lowers the learning rate when the monitor has not improved for a number of epochs.
///
/// Its best value is its own: improvements smaller than `improvement_min` count for early stopping
/// and not here.
///
/// Source: Keras 2.12 `callbacks.ReduceLROnPlateau`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    settings: network::Plateau,
    better: Better,
    wait: u32,
    cooldown: u32,
    best: Option<f64>,
}

impl Plateau {
    /// Before the first epoch.
    pub fn new(settings: network::Plateau, better: Better) -> Self {
        Self { settings, better, wait: 0, cooldown: 0, best: None }
    }

    /// Takes the monitor's value at the end of an epoch and the learning rate used in it; gives the
    /// learning rate of the next.
    ///
    /// ```text
    /// f32(max(rate factor, rate_min))
    /// ```
    pub fn observe(&mut self, value: f64, learning_rate: f32) -> f32 {
        if self.cooldown > 0 {
            self.cooldown -= 1;
            self.wait = 0;
        }
        if self.better.improves(value, self.best, self.settings.improvement_min) {
            self.best = Some(value);
            self.wait = 0;
            return learning_rate;
        }
        if self.cooldown > 0 {
            return learning_rate;
        }
        self.wait = self.wait.saturating_add(1);
        let minimum = self.settings.learning_rate_min;
        if self.wait < self.settings.patience || learning_rate <= minimum as f32 {
            return learning_rate;
        }
        self.cooldown = self.settings.cooldown;
        self.wait = 0;
        (f64::from(learning_rate) * self.settings.factor).max(minimum) as f32
    }

    /// Epochs since the last improvement, change or cooldown.
    pub fn wait(&self) -> u32 {
        self.wait
    }

    /// Epochs left in which none is counted.
    pub fn cooldown(&self) -> u32 {
        self.cooldown
    }

    /// The best value; none before the first improvement.
    pub fn best(&self) -> Option<f64> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: network::Plateau = network::Plateau {
        factor: 0.5,
        patience: 1,
        learning_rate_min: 0.2,
        improvement_min: 1e-4,
        cooldown: 1,
    };

    #[test]
    fn equal_and_missing_values_are_no_improvement() {
        let mut stopping = EarlyStopping::new(Some(2), Better::Larger);
        let stops: Vec<_> =
            [f64::NAN, 0.5, 0.5, f64::NAN].map(|value| stopping.observe(value).stop).into();
        assert_eq!(stops, [false, false, false, true]);
        assert_eq!((stopping.best(), stopping.best_epoch()), (Some(0.5), 1));
    }

    #[test]
    fn first_weights_are_kept_whatever_their_value() {
        let mut stopping = EarlyStopping::new(None, Better::Smaller);
        assert_eq!(stopping.observe(f64::NAN), Verdict { keep: true, stop: false });
        assert_eq!(stopping.observe(f64::NAN), Verdict { keep: false, stop: false });
    }

    #[test]
    fn rate_falls_waits_for_the_cooldown_and_ends_at_its_minimum() {
        let mut plateau = Plateau::new(SETTINGS, Better::Smaller);
        let mut rate = 1.0;
        let rates: Vec<f32> = [1.0, 1.0, 0.99995, 1.0, 1.0, 1.0, 1.0]
            .map(|value| {
                rate = plateau.observe(value, rate);
                rate
            })
            .into();
        assert_eq!(rates, [1.0, 0.5, 0.25, 0.2, 0.2, 0.2, 0.2]);
        assert_eq!(plateau.best(), Some(1.0));
    }

    #[test]
    fn states_survive_their_files() {
        let mut stopping = EarlyStopping::new(Some(3), Better::Smaller);
        stopping.observe(0.25);
        let text = serde_json::to_string(&stopping).unwrap();
        assert_eq!(serde_json::from_str::<EarlyStopping>(&text).unwrap(), stopping);
    }
}
