//! Every quirk that a plan decides, by name, with what `protocol` makes of it.
//!
//! Leaves out: quirks of scores and of what is drawn (worker: statistics, fit/measured, report).
//! Invariant: one line of the table per quirk; whatever it changes changes ids too.

use crate::plan::plan;
use crate::plan::tests::{dataset_facts, job, model_facts};
use glmeval_common::dataset::TaskName;
use glmeval_common::job::{Job, JobProbe, NetworkChoice, NetworkKind, ProbeChoice, Protocol};
use glmeval_common::model::{ModelFacts, Precision};
use glmeval_common::plan::{DatasetFacts, Plan};
use glmeval_common::representation::Pooling;
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec, SetSpec};
use std::collections::BTreeSet;

const NT: &str = "nucleotide-transformer-v1";

/// Everything a plan tells of a set and of its fits.
struct Seen {
    set: SetSpec,
    units: Vec<FitUnit>,
}

impl Seen {
    fn fit(&self, representation: &str) -> &Fit {
        let fits = self.units.iter().flat_map(|unit| &unit.fits);
        let mut found = fits.filter(|fit| fit.identity.representation.starts_with(representation));
        found.next().unwrap()
    }

    fn ids(&self) -> BTreeSet<String> {
        let fits = self.units.iter().flat_map(|unit| &unit.fits);
        fits.map(|fit| fit.id().to_string()).chain([self.set.id.to_string()]).collect()
    }
}

struct Quirk {
    name: &'static str,
    task: TaskName,
    architecture: &'static str,
    probe: NetworkKind,
    /// What is looked at.
    seen: fn(&Seen) -> String,
    published: &'static str,
    corrected: &'static str,
}

fn training(seen: &Seen, representation: &str) -> String {
    match &seen.fit(representation).probe {
        ProbeSpec::Network { training, .. } => format!(
            "{:?}, batches of {}, {:?}, {:?}",
            training.loss, training.batch_rows, training.order, training.restore
        ),
        other => format!("{other:?}"),
    }
}

fn architecture(seen: &Seen) -> String {
    match &seen.fit("full").probe {
        ProbeSpec::Network { architecture, .. } => format!("{architecture:?}"),
        other => format!("{other:?}"),
    }
}

/// Poolings of the set, then what each unit reads and is validated on.
fn reads(seen: &Seen) -> String {
    let units = seen.units.iter().map(|unit| {
        let name = &unit.fits[0].identity.representation;
        let on = unit.validated_on.map_or(String::new(), |on| format!(" validated on {on}"));
        format!("{name}{on}")
    });
    let units: BTreeSet<String> = units.collect();
    let poolings: Vec<_> = seen.set.poolings.iter().map(|pooling| pooling.name()).collect();
    format!("{}: {}", poolings.join(" "), units.into_iter().collect::<Vec<_>>().join(", "))
}

const QUIRKS: [Quirk; 9] = [
    Quirk {
        name: "the front of a chip-cnn is built and not connected",
        task: TaskName::ChipSeq,
        architecture: "gpn",
        probe: NetworkKind::ChipCnn,
        seen: architecture,
        published: "ChipCnn { front: Raw }",
        corrected: "ChipCnn { front: Normalised }",
    },
    Quirk {
        name: "linear outputs of a dense network are taken for probabilities",
        task: TaskName::Eclip,
        architecture: NT,
        probe: NetworkKind::RepMlp,
        seen: |seen| training(seen, "mean"),
        published: "BinaryCrossEntropy, batches of 256, Buffered { rows: 1024 }, WhenStopped",
        corrected: "BinaryCrossEntropyOfLogits, batches of 256, Shuffled, Always",
    },
    Quirk {
        name: "examples stay in stored order, rep-cnns differ, the last weights are kept",
        task: TaskName::LentiMpra,
        architecture: "gpn",
        probe: NetworkKind::RepCnn,
        seen: |seen| format!("{}, {}", training(seen, "full"), architecture(seen)),
        published: "MeanSquaredError, batches of 64, Stored, WhenStopped, \
                    RepCnn { factor: 1.0, reduce: 128 }",
        corrected: "MeanSquaredError, batches of 128, Shuffled, Always, \
                    RepCnn { factor: 1.0, reduce: 196 }",
    },
    Quirk {
        name: "the class token is cut at token 1, means are validated on it: dense",
        task: TaskName::Splicing,
        architecture: NT,
        probe: NetworkKind::RepMlp,
        seen: reads,
        published: "mean full after-cls: after-cls, mean validated on after-cls",
        corrected: "cls mean full: cls, mean",
    },
    Quirk {
        name: "the class token is cut at token 1, means are validated on it: linear",
        task: TaskName::Splicing,
        architecture: "nucleotide-transformer-v2",
        probe: NetworkKind::Linear,
        seen: reads,
        published: "mean full after-cls: after-cls, mean validated on after-cls",
        corrected: "cls mean full: cls, mean",
    },
    Quirk {
        name: "means take in special tokens and padding",
        task: TaskName::LentiMpra,
        architecture: "hyenadna",
        probe: NetworkKind::RepMlp,
        seen: |seen| seen.fit("mean").identity.representation.clone(),
        published: "mean",
        corrected: "mean (mean over nucleotides)",
    },
    Quirk {
        name: "a mask is given where segments are expected",
        task: TaskName::LentiMpra,
        architecture: "dnabert-2",
        probe: NetworkKind::RepMlp,
        seen: |seen| format!("{:?}", seen.set.model.options.quirk),
        published: "Some(MaskAsSegments)",
        corrected: "None",
    },
    Quirk {
        name: "padding is as wide as channels say",
        task: TaskName::VariantEffect,
        architecture: "sei",
        probe: NetworkKind::RepMlp,
        seen: |seen| format!("{:?}", seen.set.model.options.quirk),
        published: "Some(Length(4292))",
        corrected: "None",
    },
    Quirk {
        name: "a buffer shuffles files that may be sorted",
        task: TaskName::ChipSeq,
        architecture: NT,
        probe: NetworkKind::ChipCnn,
        seen: |seen| training(seen, "full"),
        published: "BinaryCrossEntropy, batches of 256, Buffered { rows: 1024 }, WhenStopped",
        corrected: "BinaryCrossEntropy, batches of 256, Shuffled, Always",
    },
];

fn facts(task: TaskName) -> DatasetFacts {
    let split_rows = [("train", 70), ("valid", 10), ("test", 20)];
    let mut facts = DatasetFacts {
        split_rows: split_rows.map(|(name, rows)| (name.to_owned(), rows)).into(),
        ..dataset_facts("d", 100)
    };
    if task == TaskName::Splicing {
        facts.schema.sequences = vec!["left".to_owned(), "right".to_owned()];
        facts.schema.targets = (0..112).map(|i| format!("t{i}")).collect();
    }
    facts
}

fn job_of(quirk: &Quirk, protocol: Protocol, poolings: &[Pooling]) -> Job {
    let mut job = job();
    job.protocol = protocol;
    job.datasets[0].task = quirk.task;
    job.features.clear();
    job.embeddings[0].poolings = poolings.to_vec();
    let choice = ProbeChoice::Network(NetworkChoice::of(quirk.probe.clone()));
    if quirk.task == TaskName::VariantEffect {
        job.probes.clear();
    } else {
        let probe = JobProbe::linear(ProbeSpec::LeastSquares, vec![0]);
        job.probes = vec![JobProbe { choice, ..probe }];
    }
    job
}

fn planned(quirk: &Quirk, job: &Job) -> Plan {
    let (tokens_max, architecture) = (4_096, quirk.architecture.to_owned());
    let model = ModelFacts { tokens_max, architecture, ..model_facts("m") };
    let class = |precision: Precision| format!("{}.cpu.1", precision.name());
    plan(job, &[facts(quirk.task)], &[model], &class).unwrap()
}

fn seen(plan: &Plan) -> Seen {
    let units = plan.fit_units().map(|(_, unit)| unit.clone()).collect();
    Seen { set: plan.sets[0].clone(), units }
}

#[test]
fn every_quirk_follows_the_protocol_and_is_part_of_the_ids() {
    for quirk in &QUIRKS {
        let all = [Pooling::Cls, Pooling::Mean, Pooling::Full];
        let [published, corrected] = [Protocol::Published, Protocol::Corrected]
            .map(|protocol| seen(&planned(quirk, &job_of(quirk, protocol, &all))));
        assert_eq!((quirk.seen)(&published), quirk.published, "{}", quirk.name);
        assert_eq!((quirk.seen)(&corrected), quirk.corrected, "{}", quirk.name);
        assert_ne!(published.ids(), corrected.ids(), "{}", quirk.name);
    }
}

#[test]
fn what_a_quirk_does_not_touch_keeps_its_id() {
    let quirk = &QUIRKS[3];
    let sets = |protocol, poolings: &[Pooling]| {
        let mut job = job_of(quirk, protocol, poolings);
        job.probes.clear();
        planned(quirk, &job).sets[0].id.clone()
    };
    let [published, corrected] = [Protocol::Published, Protocol::Corrected];
    for poolings in [&[Pooling::Mean, Pooling::Full][..], &[Pooling::Full]] {
        assert_eq!(sets(published, poolings), sets(corrected, poolings));
    }
    assert_ne!(sets(published, &[Pooling::Cls]), sets(corrected, &[Pooling::Cls]));
}

#[test]
fn a_mean_that_is_validated_on_the_class_token_brings_it_along() {
    let quirk = &QUIRKS[3];
    let plan = planned(quirk, &job_of(quirk, Protocol::Published, &[Pooling::Mean]));
    assert_eq!(plan.sets[0].poolings, [Pooling::Mean, Pooling::AfterCls]);
    assert_eq!(reads(&seen(&plan)), "mean after-cls: mean validated on after-cls");
    let other = Quirk { architecture: "gpn", probe: NetworkKind::RepMlp, ..QUIRKS[3] };
    let plan = planned(&other, &job_of(&other, Protocol::Published, &[Pooling::Mean]));
    assert_eq!(reads(&seen(&plan)), "mean: mean");
}
