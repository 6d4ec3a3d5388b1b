//! Plans of maps: what is explained, beside which gLM, what it waits for and costs.

use crate::plan::tests::{dataset_facts, job, model_facts};
use crate::plan::{plan, verify};
use glmeval_common::attribution::MapKind;
use glmeval_common::dataset::TaskName;
use glmeval_common::job::{
    Job, JobAttribution, JobDataset, JobModel, JobProbe, LayerChoice, NetworkChoice, ProbeChoice,
    Protocol,
};
use glmeval_common::model::{ModelFacts, Precision};
use glmeval_common::plan::{DatasetFacts, Plan, PlannedUnit, UnitSpec};
use glmeval_common::representation::{FullRows, Pooling};
use glmeval_common::unit::{AttributionSpec, Fit, UnitKind};

fn network(name: &str, repeats: u32) -> JobProbe {
    let kind = NetworkChoice::find(name).unwrap();
    let choice = ProbeChoice::Network(NetworkChoice::of(kind));
    JobProbe { choice, repeats: Some(repeats), ..job().probes.remove(0) }
}

fn table() -> JobAttribution {
    JobAttribution {
        key: "attribution[0]".into(),
        dataset_indices: None,
        probe: None,
        models: None,
        embedding_probe: None,
        top: 500,
        kinds: None,
        logos: 3,
    }
}

/// ChIP-seq "D" of 200 nucleotides with three repeats of a chip-cnn on one-hot and on two layers of NT.
fn maps_job() -> Job {
    let mut job = job();
    job.datasets[0].task = TaskName::ChipSeq;
    job.embeddings[0].layers = LayerChoice::List(vec![2, 4]);
    job.embeddings[0].poolings = vec![Pooling::Full];
    job.probes = vec![network("chip-cnn", 3)];
    job.attributions = vec![table()];
    job
}

fn facts(rows: u64) -> DatasetFacts {
    let mut facts = dataset_facts("d", rows);
    let splits = [("train", rows * 7 / 10), ("valid", rows / 10), ("test", rows / 5)];
    facts.split_rows = splits.map(|(split, rows)| (split.to_owned(), rows)).into();
    facts
}

fn planned_with(job: &Job, model: ModelFacts) -> Result<Plan, String> {
    let class = |precision: Precision| format!("{}.cpu.1", precision.name());
    plan(job, &[facts(10_000)], &[model], &class).map_err(|error| error.chain())
}

fn planned(job: &Job) -> Result<Plan, String> {
    planned_with(job, model_facts("m"))
}

/// Units of maps with their one fit.
fn maps(plan: &Plan) -> Vec<(PlannedUnit<'_>, &Fit, &AttributionSpec)> {
    let units = plan.units().filter_map(|unit| match unit.spec {
        UnitSpec::Fit(made) => Some((unit, &made.fits[0], made.fits[0].probe.attribution()?)),
        _ => None,
    });
    units.collect()
}

/// Number of the unit that makes a fit.
fn unit_of(plan: &Plan, id: &str) -> u32 {
    let made = |fits: &[Fit]| fits.iter().any(|fit| fit.id().as_str() == id);
    plan.fit_units().find(|(_, unit)| made(&unit.fits)).unwrap().0
}

#[test]
fn the_last_repeat_of_the_deepest_layer_is_explained_once_it_is_there() {
    let plan = planned(&maps_job()).unwrap();
    verify(&plan).unwrap();
    let maps = maps(&plan);
    let [(unit, fit, spec)] = maps.as_slice() else { panic!("{maps:?}") };
    let fits: Vec<_> = plan.fit_units().flat_map(|(_, unit)| &unit.fits).collect();
    let of = |id| fits.iter().find(|fit| fit.id() == id).map(|fit| &fit.identity).unwrap();
    let ([explained], [of_states]) = (&spec.explained[..], &spec.of_states[..]) else {
        panic!("{spec:?}")
    };
    let (explained, of_states) = (of(explained), of(of_states));
    assert_eq!((explained.representation.as_str(), explained.repeat), ("one-hot", 2));
    assert_eq!((of_states.layer, of_states.repeat), (Some(4), 2));
    for made in [explained, of_states] {
        let number = unit_of(&plan, made.fit.as_str());
        assert!(unit.prerequisites.contains(&(number, number + 1)), "{:?}", unit.prerequisites);
    }
    assert!(unit.prerequisites.contains(&(0, 1)), "the prepared data set");
    let masked = spec.masked.as_ref().unwrap();
    assert_eq!((masked.model.name.as_str(), masked.numeric_class.as_str()), ("NT", "f32.cpu.1"));
    assert_eq!((spec.top, &spec.kinds[..]), (500, &MapKind::ALL[..]));
    assert_eq!(fit.label(), "maps of chip-cnn and NT on D");
    assert!(!fit.probe.is_fitted());
    // The report waits for the maps as well.
    let report = plan.units().last().unwrap();
    assert_eq!(report.spec.kind(), UnitKind::Report);
    let last = plan.unit_count() - 1;
    assert!(report.prerequisites.iter().any(|(_, past)| *past == last));
}

#[test]
fn a_network_of_nucleotides_is_told_by_the_set_that_it_reads() {
    let rows = |full_rows| {
        let mut job = maps_job();
        job.embeddings[0].options.full_rows = full_rows;
        maps(&planned(&job).unwrap())[0].2.state_rows.clone()
    };
    assert_eq!(rows(FullRows::Tokens), [FullRows::Tokens]);
    assert_eq!(rows(FullRows::Nucleotides), [FullRows::Nucleotides]);
    let mut job = maps_job();
    job.attributions[0].kinds = Some(vec![MapKind::Saliency]);
    assert_eq!(maps(&planned(&job).unwrap())[0].2.state_rows, []);
}

#[test]
fn corrected_every_repeat_is_looked_at() {
    let mut job = maps_job();
    job.protocol = Protocol::Corrected;
    let plan = planned(&job).unwrap();
    let (unit, _, spec) = maps(&plan).remove(0);
    assert_eq!((spec.explained.len(), spec.of_states.len()), (3, 3));
    assert_eq!(spec.state_rows, [FullRows::Tokens; 3]);
    for id in spec.explained.iter().chain(&spec.of_states) {
        let number = unit_of(&plan, id.as_str());
        assert!(unit.prerequisites.contains(&(number, number + 1)));
    }
}

#[test]
fn a_pass_for_each_token_of_the_highest_sequences_is_counted() {
    let plan = planned(&maps_job()).unwrap();
    let of_model = model_facts("m").flops(36, 4);
    let flops = maps(&plan)[0].0.flops;
    let saliency = flops - 500.0 * 37.0 * of_model;
    // About 2.8 million products of a one-hot chip-cnn, for 2,000 test sequences and 500 gradients.
    assert!((0.5..2.0).contains(&(saliency / (2.8e6 * (4_000.0 + 3_000.0)))), "{saliency}");
    let mut job = maps_job();
    job.attributions[0].kinds = Some(vec![MapKind::Saliency, MapKind::Information]);
    let fewer = maps(&planned(&job).unwrap())[0].0.flops;
    assert_eq!(fewer, flops - of_model * 500.0, "no pass for states");
}

#[test]
fn logos_and_names_change_no_maps() {
    let id = |job: &Job| maps(&planned(job).unwrap())[0].1.id().clone();
    let first = id(&maps_job());
    let mut job = maps_job();
    job.attributions[0].logos = 9;
    job.models[0].name = "another".into();
    job.datasets[0].name = "E".into();
    assert_eq!(id(&job), first);
    job.attributions[0].top = 10;
    assert_ne!(id(&job), first);
}

#[test]
fn equal_maps_under_two_names_are_refused_with_both() {
    let mut job = maps_job();
    let kinds = Some(vec![MapKind::Saliency, MapKind::Information]);
    job.attributions = vec![
        JobAttribution { kinds, models: Some(vec!["NT".into()]), ..table() },
        JobAttribution { key: "attribution[1]".into(), ..table() },
    ];
    job.attributions[1].kinds = job.attributions[0].kinds.clone();
    assert_eq!(maps(&planned(&job).unwrap()).len(), 1, "tables may overlap under the same names");
    let plan_all = |job: &Job| {
        let class = |precision: Precision| format!("{}.cpu.1", precision.name());
        let datasets: Vec<_> = job.datasets.iter().map(|_| facts(10_000)).collect();
        let models: Vec<_> = job.models.iter().map(|_| model_facts("m")).collect();
        plan(job, &datasets, &models, &class).map_err(|error| error.chain())
    };
    let mut models = job.clone();
    models.models.push(JobModel { name: "B".into(), ..models.models[0].clone() });
    models.attributions[1].models = Some(vec!["B".into()]);
    let error = plan_all(&models).unwrap_err();
    let expected = "attribution[1]: expected maps of its own for probe chip-cnn of gLM B on data set \
                    D, found those of gLM NT under another name";
    assert!(error.ends_with(expected), "{error}");
    models.attributions[1].top = 10;
    assert_eq!(maps(&plan_all(&models).unwrap()).len(), 2, "maps of their own");

    let mut datasets = job;
    datasets.datasets.push(JobDataset { name: "E".into(), ..datasets.datasets[0].clone() });
    datasets.attributions[0].dataset_indices = Some([0].into());
    datasets.attributions[1].dataset_indices = Some([1].into());
    let error = plan_all(&datasets).unwrap_err();
    assert!(error.contains("on data set E, found those of data set D under"), "{error}");
}

#[test]
fn without_a_masked_model_saliency_is_mapped_alone() {
    let causal = ModelFacts { architecture: "hyenadna".into(), ..model_facts("m") };
    let plan = planned_with(&maps_job(), causal.clone()).unwrap();
    let (_, fit, spec) = maps(&plan)[0];
    assert!(spec.masked.is_none() && spec.of_states.is_empty() && fit.identity.model.is_none());
    let mut job = maps_job();
    job.attributions[0].models = Some(vec!["NT".into()]);
    let error = planned_with(&job, causal).unwrap_err();
    assert!(error.contains("attribution[0].models: expected gLMs that predict masked"), "{error}");
    let mut job = maps_job();
    job.attributions[0].kinds = Some(vec![MapKind::Saliency]);
    assert!(maps(&planned(&job).unwrap())[0].2.masked.is_none());
}

#[test]
fn a_network_that_is_not_there_or_not_the_only_one_is_refused_by_its_key() {
    let refused = |change: &dyn Fn(&mut Job)| {
        let mut job = maps_job();
        change(&mut job);
        planned(&job).unwrap_err()
    };
    let error = refused(&|job| {
        job.probes =
            vec![JobProbe::linear(glmeval_common::unit::ProbeSpec::Ridge { alpha: 1.0 }, vec![0])]
    });
    assert!(error.contains("attribution[0].datasets: expected at least one"), "{error}");
    let error = refused(&|job| {
        job.attributions[0].dataset_indices = Some([0].into());
        job.attributions[0].probe = Some("resnet".into());
    });
    assert!(error.contains("probe: expected fits of resnet on one-hot sequences of D"), "{error}");
    let error = refused(&|job| job.attributions[0].embedding_probe = Some("rep-cnn".into()));
    let expected = "embedding_probe: expected fits of rep-cnn on pooling full of NT on D";
    assert!(error.contains(expected), "{error}");
    let error = refused(&|job| {
        let other = NetworkChoice::find("rbp-cnn").unwrap();
        job.probes = vec![network("rep-cnn", 1), network("chip-cnn", 1)];
        job.probes[1].choice = ProbeChoice::Network(NetworkChoice::of(other));
    });
    assert!(error.contains("probe: expected rbp-cnn or rep-cnn, found all of these"), "{error}");
}

#[test]
fn the_only_network_is_explained_where_the_studys_is_not_there() {
    let mut job = maps_job();
    job.probes = vec![network("rep-cnn", 1)];
    let plan = planned(&job).unwrap();
    let (_, fit, spec) = maps(&plan)[0];
    assert_eq!((fit.identity.probe.as_str(), spec.of_states.len()), ("rep-cnn", 1));
}
