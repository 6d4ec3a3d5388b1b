use super::*;
use crate::plan::tests::{dataset_facts, job, model_facts};
use crate::plan::{NumericClasses, plan, plan_in, verify, worker_memory};
use glmeval_common::dataset::TaskName;
use glmeval_common::example::Split;
use glmeval_common::job::{
    Job, JobDataset, JobEmbedding, JobModel, JobProbe, NetworkChoice, NetworkKind, ProbeChoice,
    Protocol, TrainingChanges,
};
use glmeval_common::model::{ModelFacts, Precision};
use glmeval_common::network::named::{mprann, resnet};
use glmeval_common::network::{Architecture, ChipFront, Loss, ResolvedNetwork, TrainingSpec};
use glmeval_common::plan::UnitSpec;
use glmeval_common::plan::{DatasetFacts, Plan};
use glmeval_common::representation::{FeatureSource, Pooling, SequenceFeature};
use std::collections::{BTreeMap, BTreeSet};

fn class(precision: Precision) -> String {
    format!("{}.cpu.1", precision.name())
}

fn split_facts(rows: u64) -> DatasetFacts {
    let split_rows = [("train", rows * 7 / 10), ("valid", rows / 10), ("test", rows / 5)];
    DatasetFacts {
        split_rows: split_rows.map(|(name, rows)| (name.to_owned(), rows)).into(),
        ..dataset_facts("d", rows)
    }
}

/// A hundred examples, those of `splits` in none.
fn without(splits: &[Split]) -> DatasetFacts {
    let mut facts = split_facts(100);
    facts.split_rows.retain(|name, _| splits.iter().all(|split| split.name() != name));
    facts
}

fn network(kind: NetworkKind) -> JobProbe {
    let choice = ProbeChoice::Network(NetworkChoice::of(kind));
    JobProbe { choice, ..JobProbe::linear(ProbeSpec::LeastSquares, vec![0]) }
}

/// A job of one data set with one-hot, k-mers, and cls, mean and full of layers 2 and 4.
fn job_of(task: TaskName, probes: Vec<JobProbe>) -> Job {
    let mut job = job();
    job.datasets[0].task = task;
    job.embeddings[0].poolings = vec![Pooling::Cls, Pooling::Mean, Pooling::Full];
    job.features.push(SequenceFeature::kmer(2).into());
    job.probes = probes;
    job
}

fn planned(job: &Job, facts: DatasetFacts, model: &str) -> Result<Plan> {
    let model = ModelFacts { architecture: model.to_owned(), ..model_facts("m") };
    let plan = plan(job, &[facts], &[model], &class)?;
    verify(&plan)?;
    Ok(plan)
}

fn units(plan: &Plan) -> Vec<&FitUnit> {
    plan.fit_units().map(|(_, unit)| unit).collect()
}

fn fits(plan: &Plan) -> Vec<&Fit> {
    units(plan).into_iter().flat_map(|unit| &unit.fits).collect()
}

/// Fits by probe and representation.
fn counts(plan: &Plan) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for fit in fits(plan) {
        let FitIdentity { probe, representation, .. } = &fit.identity;
        *counts.entry(format!("{probe} on {representation}")).or_default() += 1;
    }
    counts
}

#[test]
fn probes_read_what_suits_them() {
    let kinds = [NetworkKind::RepCnn, NetworkKind::RepMlp, NetworkKind::Named(&resnet::NETWORK)];
    let job = job_of(TaskName::LentiMpra, kinds.map(network).to_vec());
    let plan = planned(&job, split_facts(100), "nucleotide-transformer-v1").unwrap();
    let expected = [
        ("rep-cnn on full", 2),
        ("rep-cnn on one-hot", 1),
        ("rep-mlp on cls", 2),
        ("rep-mlp on kmer-2", 1),
        ("rep-mlp on mean", 2),
        ("resnet on one-hot", 1),
    ];
    assert_eq!(counts(&plan), expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[test]
fn the_studys_probes_follow_from_the_task() {
    let published = JobProbe { choice: ProbeChoice::Published, ..network(NetworkKind::RepCnn) };
    let counted = |task| {
        let job = job_of(task, vec![published.clone()]);
        counts(&planned(&job, split_facts(100), "gpn").unwrap())
    };
    let regression = counted(TaskName::LentiMpra);
    assert_eq!(regression.len(), 8, "{regression:?}");
    assert_eq!(regression["ridge on mean"], 2);
    assert_eq!(regression["mprann on one-hot"], 1);
    let binding = counted(TaskName::ChipSeq);
    assert_eq!(binding["chip-cnn on full"], 10, "five repeats of two layers");
    assert_eq!(binding["rep-mlp on kmer-2"], 5);
    assert_eq!(binding["logistic on kmer-2"], 1);
    assert!(!binding.contains_key("logistic on one-hot"));
    let elongation = counted(TaskName::InsertSeq);
    assert_eq!(elongation["insert-cnn on one-hot"], 500, "ten fractions, fifty repeats");
}

#[test]
fn two_sided_data_sets_are_read_side_by_side_or_as_one_vector() {
    let mut facts = split_facts(100);
    facts.schema.sequences = vec!["left".to_owned(), "right".to_owned()];
    facts.schema.targets = (0..112).map(|i| format!("t{i}")).collect();
    let published = JobProbe { choice: ProbeChoice::Published, ..network(NetworkKind::RepCnn) };
    let mut job = job_of(TaskName::Splicing, vec![published]);
    job.embeddings.clear();
    let plan = planned(&job, facts, "gpn").unwrap();
    assert_eq!(counts(&plan), BTreeMap::from([("splicing-cnn on one-hot".to_owned(), 15)]));
    let fit = fits(&plan)[0];
    let ProbeSpec::Network { architecture, training } = &fit.probe else { panic!("a network") };
    assert_eq!(*architecture, Architecture::SplicingCnn { is_reduced: false });
    assert_eq!(training.loss, Loss::SplicingDivergence);
}

#[test]
fn axes_multiply_and_every_fit_has_an_id_of_its_own() {
    let mut probe = network(NetworkKind::RepCnn);
    probe.factors = vec![0.5, 1.0];
    probe.fractions = Some(vec![0.25, 1.0]);
    probe.repeats = Some(3);
    let job = job_of(TaskName::LentiMpra, vec![probe]);
    let plan = planned(&job, split_facts(100), "gpn").unwrap();
    let fits = fits(&plan);
    assert_eq!(fits.len(), 2 * 2 * 3 * 3, "factors, fractions, repeats, representations");
    let ids: BTreeSet<_> = fits.iter().map(|fit| fit.id()).collect();
    assert_eq!(ids.len(), fits.len());
    let last = &fits[11].identity;
    assert_eq!((last.factor, last.fraction, last.repeat), (1.0, 1.0, 2));
}

#[test]
fn a_change_of_training_changes_id_and_label() {
    let fit = |changes: TrainingChanges| {
        let probe = JobProbe { training: changes, ..network(NetworkKind::Named(&resnet::NETWORK)) };
        let job = job_of(TaskName::LentiMpra, vec![probe]);
        fits(&planned(&job, split_facts(100), "gpn").unwrap())[0].clone()
    };
    let study = fit(TrainingChanges::default());
    let same = fit(TrainingChanges { batch_rows: Some(128), ..TrainingChanges::default() });
    let faster = fit(TrainingChanges { learning_rate: Some(0.01), ..TrainingChanges::default() });
    assert_eq!(study, same, "what the study does anyway");
    assert_ne!(study.id(), faster.id());
    assert_eq!(faster.identity.probe, "resnet, learning rate 0.01");
}

#[test]
fn the_protocol_decides_what_stands_in_front_of_a_chip_cnn() {
    let front = |protocol, model: &str| {
        let mut job = job_of(TaskName::ChipSeq, vec![network(NetworkKind::ChipCnn)]);
        job.protocol = protocol;
        let plan = planned(&job, split_facts(100), model).unwrap();
        let on_full = fits(&plan).into_iter().find(|fit| fit.identity.representation == "full");
        match &on_full.unwrap().probe {
            ProbeSpec::Network { architecture: Architecture::ChipCnn { front }, .. } => *front,
            other => panic!("{other:?}"),
        }
    };
    let nt = "nucleotide-transformer-v2";
    assert_eq!(front(Protocol::Published, nt), ChipFront::Normalised);
    assert_eq!(front(Protocol::Published, "gpn"), ChipFront::Raw);
    assert_eq!(front(Protocol::Corrected, "gpn"), ChipFront::Normalised);
}

#[test]
fn fits_of_a_unit_read_the_same_features_within_both_bounds() {
    let mut probe = network(NetworkKind::RepMlp);
    probe.repeats = Some(11);
    let job = job_of(TaskName::LentiMpra, vec![probe]);
    let sizes = |rows| -> Vec<usize> {
        let plan = planned(&job, split_facts(rows), "gpn").unwrap();
        units(&plan).iter().map(|unit| unit.fits.len()).collect()
    };
    assert_eq!(sizes(100), [8, 3].repeat(5), "four vectors of a gLM and k-mers");
    let large = sizes(4_000_000);
    assert_eq!(large, [1].repeat(55), "a fit beyond five minutes is alone");
    let plan = planned(&job, split_facts(200_000), "gpn").unwrap();
    for unit in plan.units() {
        if let UnitSpec::Fit(fits) = unit.spec {
            assert!(unit.flops <= UNIT_FLOPS_MAX && (1..=8).contains(&fits.fits.len()));
            let FeatureSource::Embedding { set, .. } = &fits.features else { continue };
            assert_eq!(*set, plan.sets[0].id);
        }
    }
}

#[test]
fn probes_that_cannot_be_fitted_are_refused_with_the_reason() {
    let refused = |job: &Job, facts: DatasetFacts| planned(job, facts, "gpn").unwrap_err().chain();
    let mut vectors = job_of(TaskName::LentiMpra, vec![network(NetworkKind::RepCnn)]);
    vectors.features.clear();
    vectors.embeddings[0].poolings = vec![Pooling::Mean];
    let error = refused(&vectors, split_facts(100));
    assert!(
        error.contains("probe.representations") && error.contains("full or one_hot"),
        "{error}"
    );
    let convolutions =
        job_of(TaskName::LentiMpra, vec![network(NetworkKind::Named(&resnet::NETWORK))]);
    let uneven = DatasetFacts { length_min: 180, ..split_facts(100) };
    let error = refused(&convolutions, uneven);
    assert!(error.contains("one length") && error.contains("180 to 200"), "{error}");
    let error = refused(&convolutions, without(&Split::ALL));
    assert!(error.contains("\"D\" without train"), "{error}");
    let short = DatasetFacts { length_min: 20, length_max: 20, ..split_facts(100) };
    let error = refused(&convolutions, short);
    assert!(error.contains("resnet") && error.contains("layer"), "{error}");
    let mut nowhere = convolutions.clone();
    nowhere.probes[0].dataset_indices.clear();
    let error = refused(&nowhere, split_facts(100));
    assert!(error.contains("probe.datasets: expected at least one data set"), "{error}");
    let changes = TrainingChanges { loss: Some(Loss::BinaryCrossEntropy), ..Default::default() };
    let probe = JobProbe { training: changes, ..network(NetworkKind::Named(&resnet::NETWORK)) };
    let error = refused(&job_of(TaskName::LentiMpra, vec![probe]), split_facts(100));
    assert!(error.contains("probe.loss") && error.contains("lenti-mpra"), "{error}");
}

#[test]
fn a_linear_probe_needs_examples_to_fit_and_to_score() {
    let ridge = JobProbe::linear(ProbeSpec::Ridge { alpha: 1.0 }, vec![0]);
    let job = job_of(TaskName::LentiMpra, vec![ridge.clone()]);
    let plan = |job: &Job, facts| planned(job, facts, "gpn").map_err(|error| error.chain());
    for (lacking, name) in [(&Split::ALL[..], "train"), (&[Split::Train], "train")] {
        let error = plan(&job, without(lacking)).unwrap_err();
        assert!(error.contains("train and test for ridge"), "{error}");
        assert!(error.contains(&format!("found \"D\" without {name}")), "{error}");
    }
    let error = plan(&job, without(&[Split::Test])).unwrap_err();
    assert!(error.contains("probe.datasets") && error.contains("without test"), "{error}");
    plan(&job, without(&[Split::Valid])).unwrap();
    let uneven = DatasetFacts { length_min: 180, ..split_facts(100) };
    let error = plan(&job, uneven.clone()).unwrap_err();
    assert!(error.contains("one length for ridge") && error.contains("180 to 200"), "{error}");
    let counted =
        JobProbe { representations: Some(vec!["kmer".into(), "mean".into()]), ..ridge.clone() };
    plan(&job_of(TaskName::LentiMpra, vec![counted]), uneven).unwrap();
    let published = JobProbe { choice: ProbeChoice::Published, ..ridge };
    let mut binding = job_of(TaskName::ChipSeq, vec![published]);
    (binding.embeddings, binding.features) = (Vec::new(), vec![SequenceFeature::kmer(2).into()]);
    let error = plan(&binding, without(&[Split::Test])).unwrap_err();
    assert!(error.contains("train and test for logistic"), "{error}");
}

#[test]
fn a_fraction_that_leaves_no_example_is_refused() {
    let ridge = JobProbe::linear(ProbeSpec::Ridge { alpha: 1.0 }, vec![0]);
    for mut probe in [ridge, network(NetworkKind::RepMlp)] {
        let plan = |probe: &JobProbe| {
            planned(&job_of(TaskName::LentiMpra, vec![probe.clone()]), split_facts(100), "gpn")
        };
        probe.fractions = Some(vec![1.0, 1.0 / 70.0]);
        assert_eq!(fits(&plan(&probe).unwrap()).len() % 2, 0, "one of 70 is left");
        probe.fractions = Some(vec![1.0, 0.014]);
        let error = plan(&probe).unwrap_err().chain();
        let expected = "probe.fractions: expected fractions that leave one of 70 examples";
        assert!(error.contains(expected) && error.contains("found 0.014 for"), "{error}");
    }
}

#[test]
fn a_users_own_network_reads_what_its_layers_can_be_built_on() {
    let text = r#"{"inputs": ["sequence"], "layers": [
        {"name": "pool", "inputs": ["sequence"], "kind": {"max-pool": {"size": 200}}},
        {"name": "flat", "inputs": ["pool"], "kind": "flatten"},
        {"name": "out", "inputs": ["flat"], "kind": {"dense": {"units": 1, "bias": true,
            "activation": "linear", "initializer": "glorot-uniform", "l2": 0.0}}}]}"#;
    let own = |text: &str| {
        let network = serde_json::from_str(text).unwrap();
        vec![self::network(NetworkKind::Own { name: "mine".to_owned(), network })]
    };
    let plan = planned(&job_of(TaskName::Regression, own(text)), split_facts(100), "gpn").unwrap();
    assert_eq!(counts(&plan), BTreeMap::from([("mine on one-hot".to_owned(), 1)]));
    let two = text.replace("\"units\": 1", "\"units\": 2");
    let job = job_of(TaskName::Regression, own(&two));
    let error = planned(&job, split_facts(100), "gpn").unwrap_err().chain();
    assert!(error.contains("1 to 36 positions") || error.contains("a sequence"), "{error}");
}

#[test]
fn training_costs_products_of_every_example_over_the_epochs_and_is_held_in_memory() {
    let mut probe = network(NetworkKind::Named(&mprann::NETWORK));
    probe.training.epochs_max = Some(10);
    let mut job = job_of(TaskName::LentiMpra, vec![probe]);
    job.embeddings.clear();
    let facts = DatasetFacts { length_min: 230, length_max: 230, ..split_facts(1_000) };
    let plan = planned(&job, facts, "gpn").unwrap();
    let unit = plan.units().find(|unit| matches!(unit.spec, UnitSpec::Fit(_))).unwrap();
    // 138.4 million multiply-adds; 700 examples to train on, 100 to watch.
    let expected = 138.4e6 * (6.0 * 700.0 + 2.0 * 100.0) * 10.0;
    assert!((unit.flops / expected - 1.0).abs() < 0.01, "{} {expected}", unit.flops);
    let memory = worker_memory(&plan, 1);
    let weights = 3_959_451 * 4 * 4;
    let features = 1_000 * 230;
    assert!(memory.training > weights + features && memory.training < 1 << 30);
    assert_eq!(memory.total(), memory.weights + memory.program + memory.training);
}

#[test]
fn what_is_written_out_as_the_study_has_it_is_the_studys_probe() {
    let with = |kind: NetworkKind, reduce, front| JobProbe {
        choice: ProbeChoice::Network(NetworkChoice { reduce, front, ..NetworkChoice::of(kind) }),
        ..network(NetworkKind::RepCnn)
    };
    let reduced = |reduce| with(NetworkKind::RepCnn, Some(reduce), None);
    let labels = |task, probes: Vec<JobProbe>| {
        let plan = planned(&job_of(task, probes), split_facts(100), "gpn").unwrap();
        counts(&plan)
    };
    // 128 of tokens, 196 of one-hot: as published.
    let found = labels(TaskName::LentiMpra, vec![network(NetworkKind::RepCnn), reduced(196)]);
    let expected =
        [("rep-cnn on full", 2), ("rep-cnn on one-hot", 1), ("rep-cnn, reduced to 196 on full", 2)];
    assert_eq!(found, expected.map(|(label, count)| (label.to_owned(), count)).into());
    let raw = with(NetworkKind::ChipCnn, None, Some(ChipFront::Raw));
    let found = labels(TaskName::ChipSeq, vec![network(NetworkKind::ChipCnn), raw]);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["chip-cnn on full", "chip-cnn on one-hot"]);
}

/// The network of a user under a name of its own, with so many repeats.
fn own_network(name: &str, repeats: u32) -> JobProbe {
    let text = r#"{"inputs": ["sequence"], "layers": [
        {"name": "out", "inputs": ["sequence"], "kind": {"dense": {"units": 1, "bias": true,
            "activation": "linear", "initializer": "glorot-uniform", "l2": 0.0}}}]}"#;
    let (name, network) = (name.to_owned(), serde_json::from_str(text).unwrap());
    JobProbe {
        key: format!("probe {name}"),
        repeats: Some(repeats),
        representations: Some(vec!["kmer".to_owned()]),
        ..self::network(NetworkKind::Own { name, network })
    }
}

#[test]
fn one_fit_under_two_names_is_refused_with_both() {
    let mut job = job_of(TaskName::LentiMpra, vec![own_network("p", 3), own_network("q", 4)]);
    let error = planned(&job, split_facts(100), "gpn").unwrap_err().chain();
    let expected = "job.toml: probe q: expected fits of its own for probe q on data set D, found \
                    those of probe p under another name";
    assert_eq!(error, expected);
    // Another name is another fit where a single setting differs.
    job.probes[1].training.epochs_max = Some(3);
    assert_eq!(fits(&planned(&job, split_facts(100), "gpn").unwrap()).len(), 7);

    let mut twice = job_of(TaskName::LentiMpra, vec![own_network("p", 1), own_network("q", 1)]);
    twice.datasets.push(JobDataset { name: "R".into(), ..twice.datasets[0].clone() });
    let plan_both = |job: &Job| {
        let facts = [split_facts(100), split_facts(100)];
        plan(job, &facts, &[model_facts("m")], &class).map_err(|error| error.chain())
    };
    plan_both(&twice).unwrap_err();
    twice.probes.truncate(1);
    assert_eq!(fits(&plan_both(&twice).unwrap()).len(), 1, "a second name of no fit is no harm");
    twice.probes[0].dataset_indices = vec![0, 1];
    let error = plan_both(&twice).unwrap_err();
    assert!(error.contains("on data set R, found those of data set D under"), "{error}");

    let ridge = JobProbe::linear(ProbeSpec::Ridge { alpha: 1.0 }, vec![0]);
    let mut models = job_of(TaskName::LentiMpra, vec![ridge]);
    models.models.push(JobModel { name: "B".into(), ..models.models[0].clone() });
    models.embeddings[0].poolings = vec![Pooling::Mean];
    models.embeddings.push(JobEmbedding { model_index: 1, ..models.embeddings[0].clone() });
    let plan_both = |job: &Job| {
        let facts = [model_facts("m"), model_facts("m")];
        plan(job, &[split_facts(100)], &facts, &class).map_err(|error| error.chain())
    };
    let error = plan_both(&models).unwrap_err();
    assert!(error.contains("of gLM B on data set D, found those of gLM NT under"), "{error}");
    models.embeddings[1].poolings = vec![Pooling::Cls];
    let plan = plan_both(&models).unwrap();
    let names: BTreeSet<_> = fits(&plan)
        .iter()
        .filter_map(|fit| Some((fit.identity.model.clone()?, fit.identity.representation.clone())))
        .collect();
    let expected = [("B", "cls"), ("NT", "mean")];
    assert_eq!(names, expected.map(|(model, on)| (model.to_owned(), on.to_owned())).into());
}

#[test]
fn tables_that_overlap_under_the_same_names_are_fitted_once() {
    let published = JobProbe { choice: ProbeChoice::Published, ..network(NetworkKind::RepCnn) };
    let mut one = network(NetworkKind::RepMlp);
    one.fractions = Some(vec![0.5, 1.0]);
    one.representations = Some(vec!["cls".into(), "mean".into()]);
    let plan =
        |probes| planned(&job_of(TaskName::LentiMpra, probes), split_facts(100), "gpn").unwrap();
    let found = plan(vec![published.clone(), one]);
    assert_eq!(fits(&found).len(), fits(&plan(vec![published])).len() + 4, "the new fraction");
    let found = plan(vec![own_network("p", 2), own_network("p", 5)]);
    assert_eq!(fits(&found).len(), 5, "a longer list of repeats");
}

#[test]
fn a_linear_probe_has_a_learning_curve_but_no_repeats() {
    let mut probe = JobProbe::linear(ProbeSpec::Ridge { alpha: 1.0 }, vec![0]);
    probe.fractions = Some(vec![0.5, 1.0]);
    let mut job = job_of(TaskName::LentiMpra, vec![probe]);
    job.embeddings.clear();
    let plan = planned(&job, split_facts(100), "gpn").unwrap();
    let fractions: Vec<_> = fits(&plan).iter().map(|fit| fit.identity.fraction).collect();
    assert_eq!(fractions, [0.5, 1.0, 0.5, 1.0], "of one-hot and k-mers");
}

/// What stores hold is found again: ids of what CPUs fit were published with other programs.
#[test]
fn ids_of_fits_on_cpus_and_of_their_job_stay_what_they_were() {
    let kinds = [NetworkKind::RepCnn, NetworkKind::RepMlp];
    let mut probes = kinds.map(network).to_vec();
    probes.push(JobProbe::linear(ProbeSpec::Ridge { alpha: 1e-3 }, vec![0]));
    let job = job_of(TaskName::LentiMpra, probes);
    let plan = planned(&job, split_facts(100), "gpn").unwrap();
    let ids: Vec<_> = fits(&plan).iter().map(|fit| fit.id().as_str().to_owned()).collect();
    let all = ContentDigest::new("ids").field("ids", ids.join(",")).finish();
    let expected = ("ade297064dcac0d8a02ea92ca80eaeac", "e87dacf1d882a75b5726945acc3b2e82");
    assert_eq!((all.as_str(), plan.job.as_str()), expected);
}

/// Plans for devices that train networks unless their last layer has a sigmoid, in f32 and tf32.
fn planned_for_devices(job: &Job) -> Result<Plan> {
    let training = |network: &ResolvedNetwork, training: &TrainingSpec| {
        use glmeval_common::network::Activation::Sigmoid;
        let precision = training.precision.name();
        let last = network.layers.last().unwrap().spec.kind.activation();
        match last == Sigmoid || training.precision == Precision::Bf16 {
            true => TrainingClass::OnCpu(format!("{precision}.cpu.1")),
            false => TrainingClass::OnDevice(format!("{precision}.cuda-sm90.1")),
        }
    };
    let embeddings = |precision: Precision| format!("{}.cuda-sm90.1", precision.name());
    let classes = NumericClasses { embeddings: &embeddings, training: &training };
    let plan = plan_in(job, &[split_facts(100)], &[model_facts("m")], &classes)?;
    verify(&plan)?;
    Ok(plan)
}

fn in_precision(kind: NetworkKind, precision: Precision) -> JobProbe {
    let training = TrainingChanges { precision: Some(precision), ..TrainingChanges::default() };
    JobProbe { training, ..network(kind) }
}

#[test]
fn networks_that_devices_train_are_other_fits_in_units_of_their_own() {
    let ridge = || JobProbe::linear(ProbeSpec::Ridge { alpha: 1e-3 }, vec![0]);
    let mut job = job_of(
        TaskName::LentiMpra,
        vec![
            in_precision(NetworkKind::RepMlp, Precision::F32),
            ridge(),
            in_precision(NetworkKind::RepMlp, Precision::Bf16),
            in_precision(NetworkKind::RepMlp, Precision::Tf32),
        ],
    );
    job.embeddings.clear();
    let plan = planned_for_devices(&job).unwrap();
    let found: Vec<_> = units(&plan)
        .iter()
        .map(|unit| {
            let fits = unit.fits.iter().map(|fit| fit.identity.probe.as_str());
            let (features, class) = (&unit.features, unit.required_class().unwrap_or("any"));
            (features.clone(), class, fits.collect::<Vec<_>>())
        })
        .collect();
    let one_hot = FeatureSource::Sequence(SequenceFeature::OneHot);
    let kmers = FeatureSource::Sequence(SequenceFeature::kmer(2));
    let expected = [
        (one_hot, "any", vec!["ridge"]),
        (kmers.clone(), "any", vec!["ridge", "rep-mlp, bf16"]),
        (kmers.clone(), "f32.cuda-sm90.1", vec!["rep-mlp"]),
        (kmers, "tf32.cuda-sm90.1", vec!["rep-mlp, tf32"]),
    ];
    assert_eq!(found, expected);
    job.probes.truncate(3);
    let on_cpu = planned(&job, split_facts(100), "nucleotide-transformer-v1").unwrap();
    let ids = |plan: &Plan| -> BTreeMap<String, FitId> {
        let named = |fit: &&Fit| {
            let FitIdentity { probe, representation, fit, .. } = fit.identity.clone();
            (format!("{probe} on {representation}"), fit)
        };
        fits(plan).iter().map(named).collect()
    };
    let (devices, cpu) = (ids(&plan), ids(&on_cpu));
    let same: Vec<_> = cpu.keys().filter(|name| cpu[*name] == devices[*name]).collect();
    assert_eq!(same, ["rep-mlp, bf16 on kmer-2", "ridge on kmer-2", "ridge on one-hot"]);
    assert_eq!(cpu.len(), 4);
    assert_eq!((on_cpu.version, plan.version), (2, 3), "older programs refuse the one alone");
}

#[test]
fn tf32_is_refused_where_a_network_is_trained_on_the_cpu() {
    let tf32 = |kind, task| job_of(task, vec![in_precision(kind, Precision::Tf32)]);
    let mlp = tf32(NetworkKind::RepMlp, TaskName::LentiMpra);
    let on_cpu = planned(&mlp, split_facts(100), "gpn").unwrap_err().chain();
    let binding = tf32(NetworkKind::ChipCnn, TaskName::ChipSeq);
    for error in [on_cpu, planned_for_devices(&binding).unwrap_err().chain()] {
        assert!(error.contains("probe.precision: expected f32 or bf16"), "{error}");
        assert!(error.contains("tf32"), "{error}");
    }
}
