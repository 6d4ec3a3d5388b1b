//! Global importance analysis against whole analyses, described by the fixtures themselves.
//!
//! Every JSON below `science/gia` is run: motifs are embedded into its backgrounds and predicted by its
//! network, or its sequences are shuffled. Leaves out: facts that hold for any network (worker).

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod shuffle;

use glmeval_common::dna::DnaSequence;
use glmeval_common::error::Result;
use glmeval_tests::golden::{self, Tensor, number};
use glmeval_worker::importance::{
    Analysis, Experiment, Importance, MapForm, PlacedMotif, important_sites, interaction, kept,
};
use glmeval_worker::statistics::{Alternative, MannWhitney, Method, mann_whitney_by};
use glmeval_worker::variants::VariantProbe;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Nucleotides on each side of a site that are kept with it.
const REACH: usize = 2;

fn dna(value: &Value) -> DnaSequence {
    DnaSequence::new(value.as_str().unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is no list"))
}

fn near(found: f64, expected: &Value, tolerance: f64, what: &str) {
    let expected = number(expected).unwrap();
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected}");
}

/// One analysis with its network.
struct Case {
    name: String,
    description: Value,
    tensors: BTreeMap<String, Tensor>,
    probe: VariantProbe,
    tolerance: f64,
}

fn predict(probe: &mut VariantProbe, sequences: &[DnaSequence]) -> Result<Vec<f64>> {
    Ok(probe.predict_sequences(sequences)?.into_iter().map(f64::from).collect())
}

impl Case {
    fn open(path: &Path, description: Value) -> Self {
        let name = path.display().to_string();
        let weights = path.with_file_name(description["arrays"].as_str().unwrap());
        let probe = VariantProbe::open(path, &weights).unwrap_or_else(|e| panic!("{}", e.chain()));
        let tolerance = number(&description["tolerances"]["prediction_abs"]).unwrap();
        let tensors = golden::tensors(&weights);
        Self { name, description, tensors, probe, tolerance }
    }

    fn check_predictions(&self, name: &str, found: &[f64]) {
        let expected = &self.tensors[name].values;
        assert_eq!(found.len(), expected.len(), "{}: {name}", self.name);
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (found - expected).abs();
            assert!(difference <= self.tolerance, "{}: {name}[{i}]: {found} {expected}", self.name);
        }
    }

    fn check_experiments(&mut self) -> (Analysis, BTreeMap<String, (Experiment, Importance)>) {
        let wild_type = [dna(&self.description["wild_type"])];
        let found = predict(&mut self.probe, &wild_type).unwrap()[0];
        near(found, &self.description["wild_type_prediction"], self.tolerance, "wild type");
        let backgrounds: Vec<_> = list(&self.description, "backgrounds").iter().map(dna).collect();
        let probe = &mut self.probe;
        let analysis = Analysis::new(backgrounds, &mut |s| predict(probe, s)).unwrap();
        self.check_predictions("background", &analysis.predictions);
        let mut found = BTreeMap::new();
        for row in list(&self.description, "experiments") {
            let name = row["name"].as_str().unwrap();
            let motif = |motif: &Value| PlacedMotif {
                letters: dna(&motif[0]),
                start: motif[1].as_u64().unwrap() as usize,
            };
            let motifs = list(row, "motifs").iter().map(motif).collect();
            let experiment = Experiment { name: name.to_owned(), motifs };
            let first = experiment.embed(&analysis.backgrounds()[0]).unwrap();
            assert_eq!(Some(first.as_str()), row["first_sequence"].as_str(), "{name}");
            let probe = &mut self.probe;
            let importance = analysis.run(&experiment, &mut |s| predict(probe, s)).unwrap();
            // A prediction has the same bits alone and among others.
            assert_eq!(predict(&mut self.probe, &[first]).unwrap()[0], importance.predictions[0]);
            self.check_predictions(name, &importance.predictions);
            near(importance.mean, &row["mean"], self.tolerance, name);
            near(importance.median, &row["median"], self.tolerance, name);
            near(importance.importance, &row["importance_mean"], self.tolerance, name);
            let spread = importance.importance_sd.unwrap();
            near(spread, &row["importance_sd_ddof1"], self.tolerance, name);
            found.insert(name.to_owned(), (experiment, importance));
        }
        (analysis, found)
    }

    /// `FIRST_vs_SECOND`, each an experiment or `shuffled`: U must be the same, and so must p.
    fn check_tests(&self, analysis: &Analysis, found: &BTreeMap<String, (Experiment, Importance)>) {
        let gap = number(&self.description["min_gap_between_group_values"]).unwrap_or(0.0);
        let is_decided = gap > 2.0 * self.tolerance;
        let sample = |name: &str| match name {
            "shuffled" => Some(analysis.predictions.as_slice()),
            _ => found.get(name).map(|(_, importance)| importance.predictions.as_slice()),
        };
        for (name, expected) in self.description["mann_whitney_two_sided"].as_object().unwrap() {
            let mut splits = name.match_indices("_vs_");
            let samples = splits.find_map(|(at, between)| {
                Some((sample(&name[..at])?, sample(&name[at + between.len()..])?))
            });
            let (first, second) = samples.unwrap_or_else(|| panic!("{name}: unknown samples"));
            let by = |method| mann_whitney_by(first, second, Alternative::TwoSided, method);
            let equal = |found: MannWhitney, expected: &Value| {
                if is_decided {
                    assert_eq!(Some(found.u), number(&expected["U"]), "{name}");
                    let p = number(&expected["p"]).unwrap();
                    assert!((found.p / p - 1.0).abs() <= 1e-9, "{name}: {} {p}", found.p);
                }
            };
            equal(by(Method::Asymptotic).unwrap(), &expected["asymptotic"]);
            match by(Method::Exact) {
                Some(exact) => equal(exact, &expected["exact"]),
                None => assert!(!is_decided, "{name}: no exact p without ties"),
            }
        }
    }

    /// `interaction_NAME`, of an experiment of two motifs.
    fn check_interactions(
        &mut self,
        analysis: &Analysis,
        found: &BTreeMap<String, (Experiment, Importance)>,
    ) {
        for (key, expected) in self.description.as_object().unwrap() {
            let Some(name) = key.strip_prefix("interaction_") else { continue };
            let (experiment, both) = &found[name];
            assert_eq!(experiment.motifs.len(), 2, "{key}");
            let probe = &mut self.probe;
            let mut alone = |motif: &PlacedMotif| {
                let one = Experiment { name: motif.to_string(), motifs: vec![motif.clone()] };
                analysis.run(&one, &mut |s| predict(probe, s)).unwrap()
            };
            let (first, second) = (alone(&experiment.motifs[0]), alone(&experiment.motifs[1]));
            let value = interaction(analysis, both, &first, &second);
            near(value, expected, 2.0 * self.tolerance, key);
        }
    }

    fn check_sites(&self) {
        let map = &self.tensors["wildtype_map1"].values;
        let wild_type = dna(&self.description["wild_type"]);
        for row in list(&self.description, "systematic_variant") {
            let form = match row["map"].as_str().unwrap() {
                "map" => MapForm::Signed,
                "abs_map" => MapForm::Absolute,
                other => panic!("unknown map {other}"),
            };
            let places = |key: &str| -> Vec<usize> {
                list(row, key).iter().map(|place| place.as_u64().unwrap() as usize).collect()
            };
            let found = important_sites(map, form, REACH).unwrap();
            assert_eq!(Some(found.threshold), number(&row["threshold"]), "{}", self.name);
            assert_eq!(found.sites, places("sites"), "{}", self.name);
            assert_eq!(found.kept, places("kept_positions"), "{}", self.name);
            // What is kept of the wild type is the wild type there.
            let embedded = kept("kept", &wild_type, &found.kept).embed(&wild_type).unwrap();
            assert_eq!(embedded, wild_type);
        }
    }
}

#[test]
fn predictions_importance_tests_and_sites_are_those_of_the_fixtures() {
    let mut compared = 0;
    for path in golden::descriptions("science/gia") {
        let description = golden::json(&path);
        if description["experiments"].is_null() {
            continue;
        }
        let mut case = Case::open(&path, description);
        let (analysis, found) = case.check_experiments();
        let mean = analysis.predictions.iter().sum::<f64>() / analysis.predictions.len() as f64;
        near(mean, &case.description["background_mean"], case.tolerance, "backgrounds");
        case.check_tests(&analysis, &found);
        case.check_interactions(&analysis, &found);
        case.check_sites();
        compared += 1;
    }
    assert!(compared > 0 || golden::is_elsewhere(), "nothing was compared");
}
