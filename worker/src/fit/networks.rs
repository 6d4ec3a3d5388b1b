//! Network fits of a unit: what each trains on, which share batches, how many run at a time.
//!
//! Leaves out: the loop over epochs (training), what is kept of it (watching). Invariant: all that can
//! be refused is refused before the first step of any fit, and keeps no other from being trained.

use super::measured::{Chosen, Measured, choose, missing};
use super::memory::check_memory;
use super::reading::Examples;
use super::refused::Refused;
use super::watching::{FitWatcher, resume};
use super::work::{Blueprint, Layout, Prepared, Work};
use crate::attempt::UnitContext;
use crate::network::Network;
use crate::statistics::splicing_tissues;
use crate::training::batches::Targets;
use crate::training::cache::memory_left;
use crate::training::networks::Networks;
use crate::training::on_device::OnDevice;
use crate::training::residence::Residence;
use crate::training::run::{Run, Seeds, Source, Trainer, train};
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::example::Split;
use glmeval_common::network::{
    Architecture, Extent, Loss, Monitor, NetworkSpec, Restore, TrainingSpec,
};
use glmeval_common::representation::Pooling;
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec};
use glmeval_kernels::cuda::Gpu;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::runtime::Handle;

/// Threads that one run keeps busy; more runs are trained at a time where there are more.
const THREADS_PER_RUN: usize = 8;
/// Bytes of activations of all runs that are trained at a time.
const ACTIVATION_BYTES_MAX: usize = 8 << 30;

/// Trains, scores and commits those of `fits` that are not `refused`, on a device if there is one; whether one of
/// the commits is this attempt's.
///
/// # Errors
/// `Unavailable` once told to stop; store errors.
pub(super) async fn fit_all<'a>(
    (context, gpu): (&UnitContext<'_>, Option<&Gpu>),
    unit: &'a FitUnit,
    fits: &[&'a Fit],
    (target_names, examples): (&[String], &Examples),
    refused: &mut Refused<'a>,
) -> Result<bool> {
    if fits.is_empty() {
        return Ok(false);
    }
    let runtime = Handle::current();
    tokio::task::block_in_place(|| {
        let mut work = Work {
            context,
            unit,
            residence: gpu.map(Residence::new),
            target_names,
            examples,
            runtime,
            blueprints: Vec::new(),
            fits: Vec::new(),
            networks: Vec::new(),
            targets: BTreeMap::new(),
        };
        for fit in fits {
            let added = work.add(fit);
            refused.sort_out(fit, added)?;
        }
        work.train()
    })
}

impl<'a> Work<'a> {
    fn add(&mut self, fit: &'a Fit) -> Result<()> {
        let ProbeSpec::Network { architecture, training } = &fit.probe else {
            return Err(Error::bug("a linear probe is not trained by steps"));
        };
        let dataset = &fit.identity.dataset;
        check_training(training)?;
        let measured = &self.examples.measured;
        let mut chosen = choose(&fit.identity, self.unit.task, measured)?;
        let (layout, outputs) = layout(dataset, training.loss, self.target_names)?;
        let validated = |on: Pooling| format!("validated on {on} of the valid examples");
        let mut notes: Vec<String> = self.unit.validated_on.map(validated).into_iter().collect();
        let asks = self.measured_at_least(layout);
        for (rows, split) in [(&mut chosen.train, Split::Train), (&mut chosen.valid, Split::Valid)]
        {
            let before = rows.len();
            rows.retain(|&row| is_measured(measured, (layout, asks), outputs, row));
            let (left_out, left) = (before - rows.len(), rows.len());
            if left_out > 0 {
                let what = match (layout, asks) {
                    (Layout::Pairs, _) => "the mean is not measured",
                    (Layout::Plain, Asks::All) => "a target is not measured",
                    (Layout::Plain, Asks::One) => "no target is measured",
                };
                notes.push(format!("{left_out} of {before} examples of {split} left out: {what}"));
            }
            if left == 0 && before > 0 {
                return Err(missing(dataset, split, " whose targets are measured"));
            }
        }
        let is_watched = training.stop_patience.is_some()
            || training.plateau.is_some()
            || training.restore == Restore::Always;
        if is_watched && chosen.valid.is_empty() {
            let purpose = " for early stopping and the learning rate";
            return Err(missing(dataset, Split::Valid, purpose));
        }
        let network = self.compile(architecture, training, outputs)?;
        self.check_memory(network, training, &chosen)?;
        let inputs = self.blueprints.get(network).map_or(&[][..], |b| b.inputs.as_slice());
        let input_values = inputs.iter().map(|extent| extent.values()).collect();
        self.targets.entry(layout).or_insert_with(|| targets(measured, layout, outputs));
        let name = self.name(fit);
        let spec = training;
        self.fits.push(Prepared { fit, name, spec, network, chosen, notes, layout, input_values });
        Ok(())
    }

    /// Which targets an example must have: losses leave out the user's own that are missing; the study's
    /// tasks know no missing ones but splicing, whose plain losses take complete examples.
    fn measured_at_least(&self, layout: Layout) -> Asks {
        match self.unit.task.may_lack_targets() && layout == Layout::Plain {
            true => Asks::One,
            false => Asks::All,
        }
    }

    /// The fit's label, and its id where another has the same.
    fn name(&self, fit: &Fit) -> String {
        let mut name = fit.label();
        if self.fits.iter().any(|known| known.name == name) {
            name.push_str(&format!(" ({})", fit.id()));
        }
        name
    }

    /// Index of the network of `architecture`, compiled once for all fits that train it.
    fn compile(
        &mut self,
        architecture: &Architecture,
        training: &TrainingSpec,
        outputs: usize,
    ) -> Result<usize> {
        let (spec, inputs) = layers(architecture, &self.examples.sides, outputs)?;
        let (loss, precision) = (training.loss, training.precision);
        let blueprint = Blueprint { spec, inputs, loss, precision };
        if let Some(index) = self.blueprints.iter().position(|known| *known == blueprint) {
            return Ok(index);
        }
        let resolved = blueprint.spec.resolve(&blueprint.inputs)?;
        let network = match self.residence {
            Some(_) => Network::for_device(resolved, loss, precision)?,
            None => Network::new(resolved, loss, precision)?,
        };
        self.networks.push(network);
        self.blueprints.push(blueprint);
        Ok(self.networks.len() - 1)
    }

    /// Refuses a network that cannot be trained in the memory that is left.
    fn check_memory(&self, network: usize, spec: &TrainingSpec, chosen: &Chosen) -> Result<()> {
        let Some(network) = self.networks.get(network) else { return Ok(()) };
        let longest = [&chosen.train, &chosen.valid, &chosen.test].map(Vec::len).into_iter().max();
        let rows = usize::try_from(spec.batch_rows).unwrap_or(usize::MAX);
        let rows = rows.min(longest.unwrap_or(0));
        check_memory(network.resolved(), (rows, self.residence.is_some()), memory_left())
    }

    /// Fits that share batches, in the order of the first of each; on a device, which holds the examples
    /// anyway, each fit alone.
    fn groups(&self) -> Vec<Vec<usize>> {
        if self.residence.is_some() {
            return (0..self.fits.len()).map(|fit| vec![fit]).collect();
        }
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (index, fit) in self.fits.iter().enumerate() {
            let first = |group: &Vec<usize>| group.first().and_then(|&first| self.fits.get(first));
            let shared = groups
                .iter_mut()
                .find(|group| first(group).is_some_and(|first| first.shares_batches(fit)));
            match shared {
                Some(group) => group.push(index),
                None => groups.push(vec![index]),
            }
        }
        groups
    }

    /// How many groups are trained at a time; a fit becomes the same whatever the number. A device is filled
    /// by one.
    fn lanes(&self, groups: usize) -> usize {
        if self.residence.is_some() {
            return 1;
        }
        let bytes = |fit: &Prepared<'_>| {
            let layers = self.networks.get(fit.network).map_or(&[][..], |n| &n.resolved().layers);
            let values: usize = layers.iter().map(|layer| layer.output.values()).sum();
            let rows = usize::try_from(fit.spec.batch_rows).unwrap_or(usize::MAX);
            // Values and their gradients.
            values.saturating_mul(rows).saturating_mul(2 * size_of::<f32>())
        };
        let most = self.fits.iter().map(bytes).max().unwrap_or(1);
        let by_memory = ACTIVATION_BYTES_MAX.checked_div(most).unwrap_or(groups);
        let by_threads = rayon::current_num_threads() / THREADS_PER_RUN;
        groups.min(by_threads).min(by_memory).max(1)
    }

    fn train(&self) -> Result<bool> {
        let rows = |fit: &Prepared<'_>| {
            (fit.chosen.train.len() as u64).saturating_mul(u64::from(fit.spec.epochs_max))
        };
        self.context.progress().set_rows_total(self.fits.iter().map(rows).sum());
        let groups = self.groups();
        let lanes = self.lanes(groups.len());
        let (next, is_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let lane = || -> Result<bool> {
            let mut is_won = false;
            while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.train_group(group, &is_failed) {
                    Ok(won) => is_won |= won,
                    // Only the first error is one; it made the others give up.
                    Err(_) if is_failed.swap(true, Ordering::Relaxed) => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(is_won)
        };
        if lanes == 1 {
            return lane();
        }
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..lanes {
                scope.spawn(|| {
                    let result = lane();
                    results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                });
            }
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().try_fold(false, |won, result| Ok(won | result?))
    }

    fn train_group(&self, group: &[usize], is_failed: &AtomicBool) -> Result<bool> {
        let fits: Vec<&Prepared<'_>> = group.iter().filter_map(|&fit| self.fits.get(fit)).collect();
        let Some(first) = fits.first() else { return Ok(false) };
        let mut runs = Vec::new();
        for fit in &fits {
            let network = self.networks.get(fit.network);
            let network = network.ok_or_else(|| Error::bug("a fit without its network"))?;
            let identity = &fit.fit.identity;
            let seeds = Seeds::derive(identity.seed, identity.repeat);
            let run = Run::new(fit.network, fit.spec.clone(), seeds, network);
            runs.push(self.runtime.block_on(resume(self.context, fit, run))?);
        }
        let source = Source {
            batches: self.batches(first)?,
            train: first.chosen.train.clone(),
            valid: first.chosen.valid.clone(),
        };
        let mut watcher = FitWatcher::new(self, &fits, is_failed);
        let mut on_cpu = Networks::new(&self.networks);
        let mut on_device = self.residence.as_ref().map(|it| OnDevice::new(&self.networks, it));
        let trainer: &mut dyn Trainer = match &mut on_device {
            Some(on_device) => on_device,
            None => &mut on_cpu,
        };
        train(&source, runs, trainer, &mut watcher)?;
        Ok(watcher.is_won())
    }
}

/// Refuses settings that train nothing.
fn check_training(training: &TrainingSpec) -> Result<()> {
    let wrong = |key: &str, expected: &str, found: String| {
        Err(InputError::new("training", key, expected, found).into())
    };
    let rate = training.learning_rate;
    if training.batch_rows == 0 {
        return wrong("batch_rows", "at least 1", "0".to_owned());
    }
    if training.epochs_max == 0 {
        return wrong("epochs_max", "at least 1", "0".to_owned());
    }
    if !(rate > 0.0 && rate.is_finite()) {
        return wrong("learning_rate", "a number above 0", rate.to_string());
    }
    let is_binary =
        matches!(training.loss, Loss::BinaryCrossEntropy | Loss::BinaryCrossEntropyOfLogits);
    if training.monitor == Monitor::Aupr && !is_binary {
        return wrong("monitor", "loss, unless targets are binary", "aupr".to_owned());
    }
    Ok(())
}

/// How targets stand in batches, and how many values are predicted.
fn layout(dataset: &str, loss: Loss, names: &[String]) -> Result<(Layout, usize)> {
    if names.is_empty() {
        return Err(Error::invalid(format!("data set {dataset}: expected targets, found none")));
    }
    match (splicing_tissues(names), loss) {
        (Some(tissues), Loss::SplicingDivergence) => Ok((Layout::Pairs, tissues)),
        (Some(tissues), _) => Ok((Layout::Plain, tissues)),
        (None, Loss::SplicingDivergence) => {
            let expected = "targets delta_0 … and as many mean_0 … for the splicing divergence";
            let found = format!("{:?} …", names.first().map_or("", String::as_str));
            Err(InputError::new(format!("data set {dataset}"), "", expected, found).into())
        }
        (None, _) => Ok((Layout::Plain, names.len())),
    }
}

/// Which targets of an example must be measured for a loss on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    All,
    One,
}

/// Whether a loss can be computed on example `row`; missing differences are masked by their loss.
fn is_measured(
    measured: &Measured,
    (layout, asks): (Layout, Asks),
    outputs: usize,
    row: usize,
) -> bool {
    let known = |column: &Vec<f64>| column.get(row).is_some_and(|target| target.is_finite());
    match layout {
        Layout::Plain => match asks {
            Asks::All => measured.targets.iter().take(outputs).all(known),
            Asks::One => measured.targets.iter().take(outputs).any(known),
        },
        Layout::Pairs => measured.targets.iter().skip(outputs).take(outputs).all(known),
    }
}

fn targets(measured: &Measured, layout: Layout, outputs: usize) -> Targets {
    let per_example = if layout == Layout::Pairs { 2 * outputs } else { outputs };
    let rows = measured.ids.len();
    let mut values = Vec::with_capacity(rows.saturating_mul(per_example));
    let at = |column: usize, row: usize| {
        measured.targets.get(column).and_then(|column| column.get(row)).copied().unwrap_or(f64::NAN)
    };
    for row in 0..rows {
        for output in 0..outputs {
            values.push(at(output, row) as f32);
            if layout == Layout::Pairs {
                values.push(at(outputs + output, row) as f32);
            }
        }
    }
    Targets { per_example, values }
}

/// The layers of a network and the extents of its inputs: one for each sequence of an example, or one
/// for all of them.
///
/// # Errors
/// `Invalid` where neither is what the network reads.
fn layers(
    architecture: &Architecture,
    sides: &[Extent],
    outputs: usize,
) -> Result<(NetworkSpec, Vec<Extent>)> {
    let refusal = match architecture.network(sides, outputs) {
        Ok(network) => return Ok((network, sides.to_vec())),
        Err(error) => error,
    };
    let Some(joined) = joined(sides).map(|extent| vec![extent]) else { return Err(refusal) };
    let network = architecture.network(&joined, outputs).map_err(|_| refusal)?;
    Ok((network, joined))
}

/// All sequences of an example as one, as rows hold them: one after the other. None for one alone.
fn joined(sides: &[Extent]) -> Option<Extent> {
    let (first, rest) = sides.split_first().filter(|(_, rest)| !rest.is_empty())?;
    rest.iter().try_fold(*first, |all, side| match (all, *side) {
        (Extent::Vector { channels: a }, Extent::Vector { channels: b }) => {
            Some(Extent::Vector { channels: a.saturating_add(b) })
        }
        (
            Extent::Sequence { length: a, channels },
            Extent::Sequence { length: b, channels: same },
        ) if channels == same => Some(Extent::Sequence { length: a.saturating_add(b), channels }),
        _ => None,
    })
}
