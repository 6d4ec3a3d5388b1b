//! Statistics, linear probes and sequence features against scipy, scikit-learn, Keras and numpy.
//!
//! Leaves out: neural probes. Invariant: cases are found by their description; those of a kind
//! that does not exist here (ridge that chooses its penalty or has no intercept: the study fits neither)
//! are printed as not covered, never passed in silence.

use glmeval_common::dna::DnaSequence;
use glmeval_common::representation::{SequenceFeature, UndefinedInKmers};
use glmeval_common::unit::ProbeSpec;
use glmeval_tests::golden::cases::{self, Case};
use glmeval_tests::golden::{self, Tensor};
use glmeval_worker::features::sequence_features;
use glmeval_worker::probe::{FittedProbe, Matrix};
use glmeval_worker::probes::linear_probe;
use glmeval_worker::statistics as st;
use serde_json::Value;

/// Statistics in f64 (README: 1e-9); Keras areas are f32 there (2e-6).
const STATISTIC_TOLERANCE: f64 = 1e-9;
const KERAS_TOLERANCE: f64 = 2e-6;
/// Coefficients, relative to the largest of the array (README: 1e-6).
const COEFFICIENT_TOLERANCE: f64 = 1e-6;

fn matrix(case: &Case, role: &str) -> Matrix {
    let tensor = case.tensor(role);
    Matrix::new(tensor.shape[0], tensor.shape[1], tensor.f32())
        .expect("as many values as the shape says")
}

/// Runs `check` on every case; `None` means that nothing here computes it.
fn run(family: &str, check: impl Fn(&Case) -> Option<Vec<String>>) {
    let (mut complaints, mut covered, mut left_out) = (Vec::new(), 0, Vec::new());
    for case in &cases::all(family) {
        match check(case) {
            None => left_out.push(case.name().to_owned()),
            Some(found) => {
                covered += 1;
                complaints.extend(found.into_iter().map(|text| format!("{}: {text}", case.name())));
            }
        }
    }
    let is_there = covered > 0 || !left_out.is_empty();
    golden::note(&format!("{family}: {covered} cases covered, not covered: {left_out:?}"));
    assert!(covered > 0 || !is_there && golden::is_elsewhere(), "{family}: nothing covered");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn compare(what: &str, found: Option<f64>, expected: f64, tolerance: f64) -> Vec<String> {
    let agree = match found {
        None => expected.is_nan(),
        Some(found) => (found - expected).abs() <= tolerance,
    };
    if agree { Vec::new() } else { vec![format!("{what}: expected {expected}, found {found:?}")] }
}

fn compare_all(what: &str, found: &[f64], expected: &[f64], relative: f64) -> Vec<String> {
    if found.len() != expected.len() {
        return vec![format!("{what}: expected {} values, found {}", expected.len(), found.len())];
    }
    let scale = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let pairs = found.iter().zip(expected).enumerate();
    pairs
        .flat_map(|(i, (&a, &b))| compare(&format!("{what}[{i}]"), Some(a), b, relative * scale))
        .take(3)
        .collect()
}

#[test]
fn statistics_agree_with_scipy_scikit_learn_and_keras() {
    run("metrics", |case| {
        let expected = golden::number(&case.parameters["value"]).unwrap_or(f64::NAN);
        let binary = || (case.values("labels"), case.values("scores"));
        let found = match case.text("metric") {
            "pearson" => st::pearson(case.values("x"), case.values("y")),
            "spearman" => {
                let policy = match case.text("nan_policy") {
                    "omit" => st::NanPolicy::Omit,
                    _ => st::NanPolicy::Propagate,
                };
                st::spearman(case.values("x"), case.values("y"), policy)
            }
            "spearman_columns" => return Some(check_columns(case)),
            "auroc" => st::auroc(binary().0, binary().1),
            "average_precision" => st::average_precision(binary().0, binary().1),
            "binary_accuracy" => st::accuracy(binary().0, binary().1),
            "keras_auc" => return Some(check_keras(case)),
            "splice_filter" => return Some(check_exons(case)),
            "mse" => st::mean_squared_error(case.values("pred"), case.values("y")),
            "r2" => mean_r_squared(case),
            _ => return None,
        };
        Some(compare("value", found, expected, STATISTIC_TOLERANCE))
    });
}

fn check_columns(case: &Case) -> Vec<String> {
    let columns = case.tensor("x").shape[1];
    let found = st::spearman_columns(case.values("x"), case.values("y"), columns);
    let expected = case.parameters["value"].as_array().expect("value is a list");
    assert_eq!(found.len(), expected.len(), "{}: columns", case.name());
    found
        .iter()
        .zip(expected)
        .flat_map(|(found, expected)| {
            let expected = golden::number(expected).expect("a number");
            compare("column", *found, expected, STATISTIC_TOLERANCE)
        })
        .collect()
}

fn check_keras(case: &Case) -> Vec<String> {
    let thresholds = case.number("num_thresholds") as usize;
    let (labels, scores) = (case.values("labels"), case.values("scores"));
    let counts = st::KerasCounts::with_thresholds(labels, scores, thresholds);
    let area = if case.text("curve") == "PR" { counts.precision_recall() } else { counts.roc() };
    let expected = case.number("value");
    let mut complaints = compare("area", area, expected, KERAS_TOLERANCE);
    if case.has("tp") {
        let (tp, fp) = (counts.true_positives(), counts.false_positives());
        let rest = |counts: &[f64], total: f64| -> Vec<f64> {
            counts.iter().map(|count| total - count).collect()
        };
        let (fn_, tn) = (rest(&tp, tp[0]), rest(&fp, fp[0]));
        for (role, found) in [("tp", &tp), ("fp", &fp), ("fn", &fn_), ("tn", &tn)] {
            complaints.extend(compare_all(role, found, case.values(role), 0.0));
        }
    }
    complaints
}

/// Targets `[exons, tissues, 2]`: difference of logits, logit of the mean.
fn check_exons(case: &Case) -> Vec<String> {
    let y = case.tensor("y");
    let [_, tissues, 2] = y.shape[..] else { panic!("{}: shape {:?}", case.name(), y.shape) };
    let column = |start: usize| -> Vec<f64> {
        y.values.iter().skip(start).step_by(2 * tissues).copied().collect()
    };
    let columns = |side: usize| (0..tissues).map(|t| column(2 * t + side)).collect::<Vec<_>>();
    let found: Vec<u64> =
        st::splicing_exons(&columns(0), &columns(1)).into_iter().map(|exon| exon as u64).collect();
    let expected = case.parameters["value"].as_array().expect("value is a list");
    let expected: Vec<u64> = expected.iter().filter_map(Value::as_u64).collect();
    if found == expected { Vec::new() } else { vec![format!("exons {found:?}, not {expected:?}")] }
}

fn mean_r_squared(case: &Case) -> Option<f64> {
    let outputs = case.tensor("y").shape.get(1).copied().unwrap_or(1);
    let column = |role: &str, c: usize| -> Vec<f64> {
        case.values(role).iter().skip(c).step_by(outputs).copied().collect()
    };
    let values: Option<Vec<f64>> =
        (0..outputs).map(|c| st::r_squared(&column("pred", c), &column("y", c))).collect();
    values.map(|values| values.iter().sum::<f64>() / outputs as f64)
}

#[test]
fn linear_probes_agree_with_scikit_learn() {
    run("linear", |case| {
        let spec = match case.text("model") {
            "ridge" if case.parameters["fit_intercept"] == Value::Bool(true) => {
                ProbeSpec::Ridge { alpha: case.number("alpha") }
            }
            "linear_regression" => ProbeSpec::LeastSquares,
            "logistic_regression" => {
                let c = case.number("C");
                ProbeSpec::Logistic { c, iterations_max: 100 }
            }
            _ => return None,
        };
        let x = matrix(case, "X");
        let y = case.tensor("y");
        let outputs = y.shape.get(1).copied().unwrap_or(1);
        let targets: Vec<Vec<f64>> = (0..outputs)
            .map(|c| y.values.iter().skip(c).step_by(outputs).copied().collect())
            .collect();
        let fitted = linear_probe(&spec).expect("linear").fit(&x, &targets).expect("a fit");
        Some(check_fit(case, &fitted))
    });
}

fn check_fit(case: &Case, fitted: &FittedProbe) -> Vec<String> {
    let mut complaints = Vec::new();
    if !fitted.converged {
        complaints.push("did not converge".to_owned());
    }
    for (array, role) in fitted.arrays().iter().zip(["coef", "intercept"]) {
        let expected = case.values(role);
        let scale = case.values("coef").iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        let tolerance = COEFFICIENT_TOLERANCE
            * if role == "coef" { 1.0 } else { (scale / largest(expected)).max(1.0) };
        complaints.extend(compare_all(role, &array.values, expected, tolerance));
    }
    let predictions = fitted.predict(&matrix(case, "X_test")).expect("predictions");
    let rows = predictions.first().map_or(0, Vec::len);
    let flat: Vec<f64> =
        (0..rows).flat_map(|row| predictions.iter().map(move |target| target[row])).collect();
    if case.has("proba") {
        complaints.extend(compare_all("proba", &flat, case.values("proba"), COEFFICIENT_TOLERANCE));
        let labels: Vec<f64> = flat.iter().map(|&p| if p > 0.5 { 1.0 } else { 0.0 }).collect();
        complaints.extend(compare_all("label", &labels, case.values("label"), 0.0));
    } else {
        complaints.extend(compare_all("pred", &flat, case.values("pred"), COEFFICIENT_TOLERANCE));
    }
    complaints
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(f64::MIN_POSITIVE, |a, b| a.max(b.abs()))
}

#[test]
fn sequence_features_agree_with_numpy() {
    run("features", |case| {
        let tensor = case.find("onehot")?;
        let [examples, 4, length] = tensor.shape[..] else { return None };
        let sequences: Vec<[DnaSequence; 1]> =
            (0..examples).map(|e| [sequence(tensor, e, length)]).collect();
        let mut complaints = Vec::new();
        let expected: Vec<f64> = (0..examples)
            .flat_map(|e| (0..length).flat_map(move |l| (0..4).map(move |c| (e, c, l))))
            .map(|(e, c, l)| tensor.values[(e * 4 + c) * length + l])
            .collect();
        let found = features(SequenceFeature::OneHot, &sequences);
        complaints.extend(compare_all("onehot", &found, &expected, 0.0));
        if case.has("nucleotide") {
            let found = features(SequenceFeature::Nucleotides, &sequences);
            complaints.extend(compare_all("nucleotide", &found, case.values("nucleotide"), 1e-7));
        }
        if case.has("dinucleotide") {
            let undefined = UndefinedInKmers::ReadAsA;
            let found = features(SequenceFeature::Kmer { k: 2, undefined }, &sequences);
            complaints.extend(compare_all(
                "dinucleotide",
                &found,
                case.values("dinucleotide"),
                0.0,
            ));
        }
        Some(complaints)
    });
}

fn sequence(one_hot: &Tensor, example: usize, length: usize) -> DnaSequence {
    let letter = |l: usize| {
        let hot = (0..4).find(|c| one_hot.values[(example * 4 + c) * length + l] == 1.0);
        hot.map_or(b'N', |c| b"ACGT"[c])
    };
    DnaSequence::new((0..length).map(letter).collect::<Vec<u8>>()).expect("letters")
}

fn features(feature: SequenceFeature, sequences: &[[DnaSequence; 1]]) -> Vec<f64> {
    let examples: Vec<(&str, &[DnaSequence])> =
        sequences.iter().map(|sequence| ("example", &sequence[..])).collect();
    let matrix = sequence_features(feature, "golden", &examples).expect("features");
    matrix.values().iter().map(|&value| f64::from(value)).collect()
}
