//! From a probe of the job and what it can read to the fits it asks for.
//!
//! Leaves out: ids and units (fits). Invariant: a probe that reads nothing is refused with what it
//! could read and what there is; nothing is left out in silence but what does not suit.

use super::reads::Features;
use super::{Planner, TrainingClass};
use glmeval_common::dataset::TaskName;
use glmeval_common::error::{Error, Result};
use glmeval_common::example::Split;
use glmeval_common::job::published::{
    self, ProbeInput, ends_in_sigmoid, predictions, published_training,
};
use glmeval_common::job::{JobProbe, NetworkChoice, NetworkKind, ProbeChoice};
use glmeval_common::model::Precision;
use glmeval_common::network::named::{self, Reads};
use glmeval_common::network::{Loss, Monitor, ResolvedNetwork, TrainingSpec};
use glmeval_common::unit::{LOGISTIC_C, LOGISTIC_ITERATIONS_MAX, ProbeSpec, RIDGE_ALPHA};

/// A probe on one representation, before fractions and repeats.
pub(super) struct Fitting {
    pub(super) probe: ProbeSpec,
    /// As reports name it.
    pub(super) label: String,
    pub(super) factor: f64,
    pub(super) fractions: Vec<f64>,
    pub(super) repeats: u32,
    /// The network with extents, and the class it is trained in; `None` for linear probes.
    pub(super) network: Option<(ResolvedNetwork, TrainingClass)>,
}

/// A probe with the data set it is fitted on.
pub(super) struct ProbeOn<'a> {
    pub(super) planner: &'a Planner<'a>,
    pub(super) probe: &'a JobProbe,
    pub(super) dataset: usize,
}

/// What a probe reads if the job does not say.
enum Suits {
    /// One vector of an example; one-hot sequences count as one.
    Vectors,
    /// One vector, one-hot sequences left out.
    Dense,
    /// Sequences of positions.
    Sequences,
    /// One-hot sequences.
    OneHot,
    /// Whatever its layers can be built on.
    Buildable,
}

impl Suits {
    fn of(choice: &ProbeChoice) -> Self {
        let ProbeChoice::Network(choice) = choice else { return Self::Vectors };
        match choice.kind {
            NetworkKind::RepMlp | NetworkKind::Linear => Self::Dense,
            NetworkKind::RbpCnn => Self::OneHot,
            NetworkKind::Named(network) => match network.reads {
                Reads::Vectors => Self::Dense,
                Reads::Sequences => Self::Sequences,
                Reads::OneHot => Self::OneHot,
            },
            NetworkKind::Own { .. } => Self::Buildable,
            _ => Self::Sequences,
        }
    }

    fn reads(&self, input: ProbeInput) -> bool {
        match self {
            Self::Vectors => input == ProbeInput::OneHot || !input.is_sequence(),
            Self::Dense => !input.is_sequence(),
            Self::Sequences => input.is_sequence(),
            Self::OneHot => input == ProbeInput::OneHot,
            Self::Buildable => true,
        }
    }

    fn words(&self) -> &'static str {
        match self {
            Self::Vectors => "pooling cls or mean, one_hot, kmer or nucleotides",
            Self::Dense => "pooling cls or mean, kmer or nucleotides",
            Self::Sequences => "pooling full or one_hot",
            Self::OneHot => "one_hot",
            Self::Buildable => "one that its layers can be built on",
        }
    }
}

impl ProbeOn<'_> {
    fn task(&self) -> TaskName {
        self.planner.job.datasets[self.dataset].task
    }

    fn wrong(
        &self,
        name: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Error {
        self.planner.wrong(&format!("{}.{name}", self.probe.key), expected, found).into()
    }

    /// The fits on each of `features`, in their order.
    ///
    /// # Errors
    /// `Invalid` where none of them suits, or one that suits cannot be read.
    pub(super) fn fittings(&self, features: &[Features<'_>]) -> Result<Vec<Vec<Fitting>>> {
        let JobProbe { representations, models, layers, .. } = self.probe;
        let named = |names: &Option<Vec<String>>, name: Option<&str>| match names {
            Some(names) => name.is_some_and(|name| names.iter().any(|known| known == name)),
            None => true,
        };
        let asked = |one: &&Features<'_>| {
            named(representations, Some(one.word))
                && named(models, one.model_name)
                && layers.as_ref().is_none_or(|list| one.layer.is_some_and(|l| list.contains(&l)))
        };
        let mut first_reason = None;
        let mut lists = Vec::new();
        for one in features {
            lists.push(if asked(&one) {
                match self.on(one) {
                    Ok(list) => {
                        list.iter().try_for_each(|fitting| self.check_fractions(fitting))?;
                        list
                    }
                    Err(Refused::Unsuited(reason)) => {
                        first_reason.get_or_insert(reason);
                        Vec::new()
                    }
                    Err(Refused::Wrong(error)) => return Err(error),
                }
            } else {
                Vec::new()
            });
        }
        if lists.iter().all(Vec::is_empty) {
            return Err(self.nothing_suits(features, first_reason));
        }
        Ok(lists)
    }

    /// Names what the probe could read and what there is; with the first reason if there was one.
    fn nothing_suits(&self, features: &[Features<'_>], reason: Option<String>) -> Error {
        let job = self.planner.job;
        let dataset = &job.datasets[self.dataset];
        let words = match &self.probe.choice {
            ProbeChoice::Published => published_words(self.task()),
            choice => Suits::of(choice).words(),
        };
        let expected = match &self.probe.representations {
            Some(names) => format!("a [[representation]] of {} that suits", names.join(" or ")),
            None => format!("a [[representation]] of {words}"),
        };
        let expected = match (&self.probe.models, &self.probe.layers) {
            (None, None) => expected,
            (Some(models), None) => format!("{expected}, of {}", models.join(" or ")),
            (models, Some(layers)) => {
                let models =
                    models.as_ref().map_or("any gLM".to_owned(), |names| names.join(" or "));
                format!("{expected}, of layers {layers:?} of {models}")
            }
        };
        let mut names: Vec<_> = features.iter().map(|one| one.name.as_str()).collect();
        names.dedup();
        let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
        let found = format!("{} for {:?}{reason}", names.join(", "), dataset.name);
        self.wrong("representations", expected, found)
    }

    /// The fits on one representation; none where the probe does not read such a one.
    fn on(&self, features: &Features<'_>) -> Result<Vec<Fitting>, Refused> {
        match &self.probe.choice {
            ProbeChoice::Linear(probe) if Suits::Vectors.reads(features.input) => {
                Ok(vec![self.linear(probe.clone(), self.probe.fractions.clone(), features)?])
            }
            ProbeChoice::Linear(_) => {
                Err(Refused::Unsuited("a token sequence is no vector".to_owned()))
            }
            ProbeChoice::Network(choice) => {
                let is_asked = self.probe.representations.is_some();
                if !is_asked && !Suits::of(&self.probe.choice).reads(features.input) {
                    return Ok(Vec::new());
                }
                self.network(choice, features)
            }
            ProbeChoice::Effects(_) => Ok(Vec::new()),
            ProbeChoice::Published => {
                let (probe, kinds) = published_probes(self.task(), features.input);
                let mut list = Vec::new();
                if let Some(probe) = probe {
                    list.push(self.linear(probe, None, features)?);
                }
                for kind in kinds {
                    list.extend(self.network(&NetworkChoice::of(kind), features)?);
                }
                Ok(list)
            }
        }
    }

    /// A linear probe, which draws nothing, so that repeats would be the same.
    fn linear(
        &self,
        probe: ProbeSpec,
        fractions: Option<Vec<f64>>,
        features: &Features<'_>,
    ) -> Result<Fitting, Refused> {
        self.check_lengths(probe.name(), features)?;
        self.check_splits(probe.name(), &[Split::Train, Split::Test])?;
        let (label, fractions) = (probe.label(), fractions.unwrap_or_else(|| vec![1.0]));
        Ok(Fitting { probe, label, factor: 1.0, fractions, repeats: 1, network: None })
    }

    /// A network with each of its factors.
    fn network(
        &self,
        choice: &NetworkChoice,
        features: &Features<'_>,
    ) -> Result<Vec<Fitting>, Refused> {
        self.check_lengths(name_of(choice), features)?;
        self.check_splits(name_of(choice), &Split::ALL)?;
        let (task, protocol) = (self.task(), self.planner.job.protocol);
        let targets = self.planner.datasets[self.dataset].schema.targets.len();
        let has_width = matches!(choice.kind, NetworkKind::RepCnn | NetworkKind::RepMlp);
        let factors = if has_width { &self.probe.factors[..] } else { &[1.0] };
        let is_own = matches!(choice.kind, NetworkKind::Own { .. });
        let mut list = Vec::new();
        for &factor in factors {
            let architecture = choice.architecture(features.input, factor, protocol);
            let network = architecture
                .network(&features.extents, predictions(task, targets))
                .and_then(|network| network.resolve(&features.extents));
            let network = match network {
                Ok(network) => network,
                Err(error) if is_own => {
                    return Err(Refused::Unsuited(format!("{}: {}", features.name, error.chain())));
                }
                Err(error) => {
                    let found = format!("{}: {}", features.name, error.chain());
                    let expected = format!("what {} can be built on", name_of(choice));
                    return Err(Refused::Wrong(self.wrong("representations", expected, found)));
                }
            };
            let study = published_training(task, features.input, &architecture, protocol);
            let training = self.probe.training.apply(study.clone());
            self.check_training(&training, ends_in_sigmoid(&architecture))?;
            let class = (self.planner.training_class)(&network, &training);
            self.check_precision(&training, &class)?;
            let mut label = name_of(choice).to_owned();
            let usual = NetworkChoice::of(choice.kind.clone());
            // What is written out as it would be anyway is the study's.
            if architecture != usual.architecture(features.input, factor, protocol) {
                let reduce = choice.reduce.map(|reduce| format!(", reduced to {reduce}"));
                let front = choice.front.map(|front| format!(", {} front", front.name()));
                label.extend(reduce.into_iter().chain(front));
            }
            label.push_str(&training.difference(&study));
            let fractions = match (&self.probe.fractions, &self.probe.choice) {
                (Some(fractions), _) => fractions.clone(),
                (None, ProbeChoice::Published) => {
                    published::published_fractions(task, &architecture)
                }
                (None, _) => vec![1.0],
            };
            list.push(Fitting {
                probe: ProbeSpec::Network { architecture, training },
                label,
                factor,
                fractions,
                repeats: self.probe.repeats.unwrap_or(published::published_repeats(task)),
                network: Some((network, class)),
            });
        }
        Ok(list)
    }

    fn name(&self) -> &str {
        &self.planner.job.datasets[self.dataset].name
    }

    fn rows(&self, split: Split) -> u64 {
        let facts = &self.planner.datasets[self.dataset];
        facts.split_rows.get(split.name()).copied().unwrap_or(0)
    }

    /// Refuses positions of examples that are not as many in each.
    fn check_lengths(&self, probe: &str, features: &Features<'_>) -> Result<(), Refused> {
        let Some((least, most)) = features.uneven else { return Ok(()) };
        let expected = format!("examples of one length for {probe} on a sequence");
        let (of, name) = (&features.name, self.name());
        let found = format!("{least} to {most} positions of {of} in {name:?}");
        Err(Refused::Wrong(self.wrong("datasets", expected, found)))
    }

    /// Refuses data sets that lack a split the probe needs, before anything is embedded for it.
    fn check_splits(&self, probe: &str, needed: &[Split]) -> Result<(), Refused> {
        let lacking = needed.iter().find(|split| self.rows(**split) == 0);
        let Some(lacking) = lacking else { return Ok(()) };
        let all =
            if needed.contains(&Split::Valid) { "train, valid and test" } else { "train and test" };
        let expected = format!("data sets with {all} for {probe}");
        let found = format!("{:?} without {lacking}", self.name());
        Err(Refused::Wrong(self.wrong("datasets", expected, found)))
    }

    /// Refuses fractions of which no example to train on is left.
    fn check_fractions(&self, fitting: &Fitting) -> Result<()> {
        let rows = self.rows(Split::Train);
        // The floor, as the examples of a fraction are counted.
        let is_empty = |fraction: &&f64| (**fraction * rows as f64) < 1.0;
        let Some(fraction) = fitting.fractions.iter().find(is_empty) else { return Ok(()) };
        let expected = format!("fractions that leave one of {rows} examples to train on");
        let found = format!("{fraction} for {} on {:?}", fitting.label, self.name());
        Err(self.wrong("fractions", expected, found))
    }

    /// Refuses a precision that nothing multiplies in where the network is trained.
    fn check_precision(
        &self,
        training: &TrainingSpec,
        class: &TrainingClass,
    ) -> Result<(), Refused> {
        let is_on_cpu = matches!(class, TrainingClass::OnCpu(_));
        if !is_on_cpu || training.precision != Precision::Tf32 {
            return Ok(());
        }
        let expected = "f32 or bf16, as this network is trained on the CPU";
        Err(Refused::Wrong(self.wrong("precision", expected, "\"tf32\"")))
    }

    /// Refuses a loss or a monitor that the targets do not suit.
    fn check_training(&self, training: &TrainingSpec, is_sigmoid: bool) -> Result<(), Refused> {
        let task = self.task();
        let suits = match training.loss {
            Loss::MeanSquaredError => task != TaskName::Splicing,
            Loss::BinaryCrossEntropy => task.is_binary(),
            Loss::BinaryCrossEntropyOfLogits => task.is_binary() && !is_sigmoid,
            Loss::SplicingDivergence => task == TaskName::Splicing,
        };
        let found = |what: &str| format!("{what} for task {}", task.name());
        if !suits {
            let expected = "a loss that the targets and the last layer suit";
            return Err(Refused::Wrong(self.wrong("loss", expected, found(training.loss.name()))));
        }
        if training.monitor == Monitor::Aupr && !task.is_binary() {
            return Err(Refused::Wrong(self.wrong("monitor", "\"loss\"", found("\"aupr\""))));
        }
        Ok(())
    }
}

/// Why a probe is not fitted on a representation.
enum Refused {
    /// It does not suit; another may.
    Unsuited(String),
    /// It should be, and cannot.
    Wrong(Error),
}

/// The name in reports.
fn name_of(choice: &NetworkChoice) -> &str {
    match &choice.kind {
        NetworkKind::Own { name, .. } => name,
        NetworkKind::Named(network) => network.name,
        kind => {
            let known = NetworkChoice::NUMBERED.iter().find(|(_, known)| known == kind);
            known.map_or("network", |(name, _)| name)
        }
    }
}

/// The study's probes of a task on what they read; the user's own targets count as the study's
/// first task of their kind.
fn published_probes(task: TaskName, input: ProbeInput) -> (Option<ProbeSpec>, Vec<NetworkKind>) {
    use NetworkKind::{ChipCnn, InsertCnn, Linear, Named, RepCnn, RepMlp, SplicingCnn};
    let ridge = Some(ProbeSpec::Ridge { alpha: RIDGE_ALPHA });
    let logistic =
        Some(ProbeSpec::Logistic { c: LOGISTIC_C, iterations_max: LOGISTIC_ITERATIONS_MAX });
    match (task, input) {
        (TaskName::LentiMpra | TaskName::Regression, ProbeInput::Pooled) => (ridge, vec![RepMlp]),
        (TaskName::LentiMpra | TaskName::Regression, ProbeInput::OneHot) => {
            (None, vec![RepCnn, Named(&named::resnet::NETWORK), Named(&named::mprann::NETWORK)])
        }
        (TaskName::LentiMpra | TaskName::Regression, input) if input.is_sequence() => {
            (None, vec![RepCnn])
        }
        (TaskName::ChipSeq | TaskName::Eclip | TaskName::Classification, input) => {
            if input.is_sequence() { (None, vec![ChipCnn]) } else { (logistic, vec![RepMlp]) }
        }
        (TaskName::Splicing, ProbeInput::Pooled) => (None, vec![RepMlp, Linear]),
        (TaskName::Splicing, input) if input.is_sequence() => (None, vec![SplicingCnn]),
        (TaskName::InsertSeq, input) if input.is_sequence() => (None, vec![InsertCnn]),
        _ => (None, Vec::new()),
    }
}

/// What the study's probes of a task read, in words of a job file.
fn published_words(task: TaskName) -> &'static str {
    match task {
        TaskName::InsertSeq => "pooling full or one_hot",
        task if task.is_binary() => "any pooling, one_hot, kmer or nucleotides",
        _ => "any pooling or one_hot",
    }
}
