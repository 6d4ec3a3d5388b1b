//! Plans of variants: sets of scores, comparisons, applied fits, quirks of inputs.

use crate::plan::tests::{dataset_facts, job, model_facts};
use crate::plan::{plan, verify};
use glmeval_common::dataset::TaskName;
use glmeval_common::effect::Score;
use glmeval_common::job::{
    EffectsChoice, Job, JobDataset, JobEmbedding, JobProbe, LayerChoice, ProbeChoice, Protocol,
    ZeroShot,
};
use glmeval_common::model::{InputQuirk, ModelFacts, Padding, Precision};
use glmeval_common::plan::{DatasetFacts, Plan, PlannedUnit, UnitSpec};
use glmeval_common::representation::Pooling;
use glmeval_common::unit::{FitUnit, ProbeSpec};
use std::collections::BTreeSet;

/// Data sets "D" of 1,000 sequences and "V" of 300 variants of two elements, scores of "V" and means of
/// both, a ridge on the means of "D" applied to "V".
fn variants_job() -> Job {
    let mut job = job();
    let source = job.datasets[0].source.clone();
    let (name, task) = ("V".to_owned(), TaskName::VariantEffect);
    job.datasets.push(JobDataset { name, task, source });
    job.embeddings[0].layers = LayerChoice::List(vec![4]);
    job.embeddings.push(JobEmbedding {
        layers: LayerChoice::Word("last".to_owned()),
        poolings: vec![Pooling::Effect],
        dataset_indices: Some(BTreeSet::from([1])),
        zero_shot: Some(ZeroShot::default()),
        ..job.embeddings[0].clone()
    });
    let choice = EffectsChoice { trained_on: 0, probes: None, targets: None };
    let choice = ProbeChoice::Effects(choice);
    let probe = JobProbe { choice, dataset_indices: vec![1], ..job.probes[0].clone() };
    job.probes.push(probe);
    job
}

fn variant_facts(length: u64) -> DatasetFacts {
    let mut facts = dataset_facts("v", 300);
    facts.schema.sequences = vec!["reference".to_owned(), "alternative".to_owned()];
    facts.schema.targets = vec!["LDLR".to_owned(), "PKLR".to_owned()];
    (facts.length_min, facts.length_max, facts.nucleotides) = (length, length, 600 * length);
    facts
}

fn planned_with(job: &Job, variants: DatasetFacts, model: ModelFacts) -> Result<Plan, String> {
    let class = |precision: Precision| format!("{}.cpu.1", precision.name());
    let planned = plan(job, &[dataset_facts("d", 1_000), variants], &[model], &class);
    planned.map_err(|error| error.chain())
}

fn planned(job: &Job) -> Result<Plan, String> {
    planned_with(job, variant_facts(200), model_facts("m"))
}

fn fit_units(plan: &Plan) -> Vec<(PlannedUnit<'_>, &FitUnit)> {
    let units = plan.units().filter_map(|unit| match unit.spec {
        UnitSpec::Fit(fit) => Some((unit, fit)),
        _ => None,
    });
    units.collect()
}

#[test]
fn scores_are_a_set_of_their_own_and_are_compared_without_a_probe() {
    let plan = planned(&variants_job()).unwrap();
    verify(&plan).unwrap();
    let set = plan.sets.iter().find(|set| set.effects.is_some()).unwrap();
    assert_eq!(
        (set.columns(), set.layers.as_slice()),
        (vec!["one_minus_cos".into(), "cos".into()], &[4][..])
    );
    assert_eq!(plan.sets.len(), 3, "means of both data sets, scores of one");
    let shards = plan.units().filter(|unit| match unit.spec {
        UnitSpec::Extract { set, .. } => plan.sets[set].effects.is_some(),
        _ => false,
    });
    let shards: Vec<_> = shards.collect();
    assert_eq!((shards.len(), shards[0].bytes), (3, 100 * 2 * 4));
    let means = plan.units().find(|unit| match unit.spec {
        UnitSpec::Extract { set, dataset, .. } => dataset == 1 && plan.sets[set].effects.is_none(),
        _ => false,
    });
    assert_eq!(shards[0].flops, means.unwrap().flops, "two windows each");
    let units = fit_units(&plan);
    let is_score = |unit: &FitUnit| matches!(unit.fits[0].probe, ProbeSpec::ZeroShot { .. });
    let (_, unit) = units.iter().find(|(_, unit)| is_score(unit)).unwrap();
    let identity = &unit.fits[0].identity;
    assert_eq!(
        (identity.representation.as_str(), identity.probe.as_str()),
        ("zero-shot", "cosine")
    );
    assert_eq!((unit.fits.len(), identity.layer), (1, Some(4)));
}

#[test]
fn an_applied_fit_waits_for_its_unit_and_the_shards_of_the_variants() {
    let plan = planned(&variants_job()).unwrap();
    let units = fit_units(&plan);
    let number_of = |id: &str| {
        let made = |unit: &FitUnit| unit.fits.iter().any(|fit| fit.id().as_str() == id);
        plan.fit_units().find(|(_, unit)| made(unit)).unwrap().0
    };
    let mut applied = 0;
    for (planned, unit) in units {
        let ProbeSpec::Applied { fit, .. } = &unit.fits[0].probe else { continue };
        let base = number_of(fit.as_str());
        assert!(planned.prerequisites.contains(&(base, base + 1)), "{:?}", planned.prerequisites);
        let identity = &unit.fits[0].identity;
        assert_eq!((identity.dataset.as_str(), identity.probe.as_str()), ("V", "ridge, alpha 1"));
        let shards = usize::from(identity.representation == "mean");
        assert_eq!(planned.prerequisites.len(), 2 + shards);
        applied += 1;
    }
    assert_eq!(applied, 2, "on means and on one-hot sequences");
}

#[test]
fn what_cannot_be_scored_or_applied_is_refused_by_its_key() {
    let mut job = variants_job();
    job.embeddings[1].zero_shot =
        Some(ZeroShot { scores: Some(vec![Score::CausalLlr]), ..ZeroShot::default() });
    let error = planned(&job).unwrap_err();
    assert!(error.contains("scores: expected scores that NT gives, found causal-llr"), "{error}");
    let mut job = variants_job();
    let choice =
        EffectsChoice { trained_on: 0, probes: Some(vec!["resnet".into()]), targets: None };
    job.probes[1].choice = ProbeChoice::Effects(choice);
    let error = planned(&job).unwrap_err();
    assert!(error.contains("trained_on: expected fits of resnet on D"), "{error}");
    let job = variants_job();
    let error = planned_with(&job, variant_facts(230), model_facts("m")).unwrap_err();
    assert!(error.contains("datasets: expected windows as in D"), "{error}");
}

#[test]
fn scores_and_applied_fits_have_one_name_of_their_data_set() {
    let planned = |job: &Job| {
        let facts = [dataset_facts("d", 1_000), variant_facts(200), variant_facts(200)];
        let class = |precision: Precision| format!("{}.cpu.1", precision.name());
        plan(job, &facts, &[model_facts("m")], &class).map_err(|error| error.chain())
    };
    let mut job = variants_job();
    job.datasets.push(JobDataset { name: "W".into(), ..job.datasets[1].clone() });
    planned(&job).unwrap();
    let mut scored = job.clone();
    scored.embeddings[1].dataset_indices = Some(BTreeSet::from([1, 2]));
    let error = planned(&scored).unwrap_err();
    let expected =
        "scores of its own for gLM NT on data set W, found those of gLM NT on data set V";
    assert!(error.contains("representation[0]") && error.contains(expected), "{error}");
    let mut applied = job.clone();
    applied.probes[1].dataset_indices = vec![1, 2];
    let error = planned(&applied).unwrap_err();
    assert!(error.contains("on data set W, found those of data set V under another"), "{error}");
    // Tables that apply the same fits apply them once.
    let mut twice = job.clone();
    twice.probes.push(twice.probes[1].clone());
    assert_eq!(planned(&twice).unwrap().entries, planned(&job).unwrap().entries);
}

#[test]
fn windows_are_padded_to_the_table_or_to_the_longest_of_the_data_set() {
    let model = ModelFacts { architecture: "dnabert-2".into(), ..model_facts("m") };
    let mut job = variants_job();
    let pad_to = |job: &Job| {
        let plan = planned_with(job, variant_facts(200), model.clone()).unwrap();
        let set = plan.sets.iter().find_map(|set| set.effects.clone()).unwrap();
        (set.pad_to, plan.sets.iter().find(|set| set.effects.is_some()).unwrap().id.clone())
    };
    let (table, first) = pad_to(&job);
    job.embeddings[1].zero_shot.as_mut().unwrap().longest.insert(1, 71);
    let (longest, second) = pad_to(&job);
    assert_eq!((table, longest), (Some(57), Some(71)));
    assert_ne!(first, second);
}

#[test]
fn quirks_of_inputs_follow_the_protocol() {
    let quirk = |architecture: &str, task, protocol| {
        let mut job = variants_job();
        (job.protocol, job.datasets[0].task) = (protocol, task);
        let (tokens_max, architecture) = (4_096, architecture.to_owned());
        let model = ModelFacts { tokens_max, architecture, ..model_facts("m") };
        let plan = planned_with(&job, variant_facts(200), model).unwrap();
        let sets = plan.sets.iter().filter(|set| set.effects.is_none());
        sets.map(|set| set.model.options.quirk).collect::<Vec<_>>()
    };
    let published = Protocol::Published;
    let sei = quirk("sei", TaskName::Regression, published);
    assert_eq!(sei, [None, Some(InputQuirk::Length(200 + 4_092))]);
    let bert = quirk("dnabert-2", TaskName::LentiMpra, published);
    assert_eq!(bert, [Some(InputQuirk::MaskAsSegments), None]);
    let mut masked = variants_job();
    masked.datasets[0].task = TaskName::LentiMpra;
    masked.models.iter_mut().for_each(|model| model.options.padding = Padding::Masked);
    let model = ModelFacts { architecture: "dnabert-2".to_owned(), ..model_facts("m") };
    let plan = planned_with(&masked, variant_facts(200), model).unwrap();
    assert!(plan.sets.iter().all(|set| set.model.options.quirk.is_none()));
    for architecture in ["sei", "dnabert-2"] {
        let found = quirk(architecture, TaskName::LentiMpra, Protocol::Corrected);
        assert_eq!(found, [None, None]);
    }
}
