//! Zero-shot effects of variants against whole analyses, described by the fixtures themselves.
//!
//! Every JSON below `science/variants` is run: windows are cut from its contigs, scored by the model
//! that it names, and compared with its scores, its correlations and its tolerances. Leaves out:
//! facts that hold for any weights (worker).

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod layouts;
mod probe;

use glmeval_common::readers::genome::Genome;
use glmeval_common::variant::Variant;
use glmeval_tests::golden::{self, Tensor, number};
use glmeval_worker::model::Model;
use glmeval_worker::variants::{
    Evaluation, Outcome, Score, ScoreForm, Scorer, ScorerOptions, TokenSet, Window, WindowCutter,
    missing,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is no count in {value}"))
}

/// One analysis: its variants and their windows.
struct Case {
    name: String,
    description: Value,
    tensors: BTreeMap<String, Tensor>,
    variants: Vec<Variant>,
    windows: Vec<Window>,
}

impl Case {
    /// Reads an analysis and checks every window against its text, and what must be dropped.
    fn open(path: &Path) -> Self {
        let description = golden::json(path);
        let beside = description["arrays"].as_str().map(|name| path.with_file_name(name));
        let tensors = beside.map_or_else(BTreeMap::new, |path| golden::tensors(&path));
        let folder = tempfile::tempdir().unwrap();
        let fasta = folder.path().join("contigs.fa");
        let contigs = description["contigs"].as_object().unwrap().iter();
        let contigs =
            contigs.map(|(name, letters)| format!(">{name}\n{}\n", letters.as_str().unwrap()));
        std::fs::write(&fasta, contigs.collect::<String>()).unwrap();
        let genome = Arc::new(Genome::open(&fasta).unwrap());
        let cut = |row: &Value| {
            let length = count(row, "window_length");
            let cutter = WindowCutter::new(Some(Arc::clone(&genome)), length).unwrap();
            cutter.cut(path, &variant(row)).unwrap()
        };
        let name = text(&description, "case").to_owned();
        let mut windows = Vec::new();
        for row in description["variants"].as_array().unwrap() {
            let window = cut(row).unwrap_or_else(|reason| panic!("{name}: {reason}: {row}"));
            assert_eq!(window.start, count(row, "start0"), "{name}");
            assert_eq!(window.start + window.reference.len() as u64, count(row, "end0"), "{name}");
            // Long windows are left out; their tokens are compared instead.
            if let Some(letters) = row["ref_window"].as_str() {
                assert_eq!(window.reference.as_str(), letters, "{name}");
                let alternative = text(row, "alt_window");
                assert_eq!(window.alternative_sequence().as_str(), alternative, "{name}");
            }
            windows.push(window);
        }
        for row in description["must_be_dropped"].as_array().into_iter().flatten() {
            let reason = cut(row).expect_err("dropped");
            assert!(reason.contains("reference"), "{name}: {reason}");
        }
        let variants = description["variants"].as_array().unwrap().iter().map(variant).collect();
        Self { name, description, tensors, variants, windows }
    }

    fn rows(&self) -> &[Value] {
        self.description["variants"].as_array().unwrap()
    }

    /// A score of a row as the fixture has it.
    fn expected(&self, row: usize, score: &str) -> Option<f64> {
        self.rows()[row]["scores"].get(score).and_then(number)
    }

    /// Compares one column with the score of that name, and its correlations with effects.
    fn compare(&self, score: &str, form: ScoreForm, found: &[f64]) {
        let tolerance = number(&self.description["tolerances"][score]["abs"]).unwrap();
        let mut worst: f64 = 0.0;
        for (row, &found) in found.iter().enumerate() {
            let Some(expected) = self.expected(row, score) else { continue };
            let difference = (found - expected).abs();
            let place = format!("{} {score} of row {row}", self.name);
            assert!(difference <= tolerance, "{place}: {found} for {expected}, {difference:e}");
            worst = worst.max(difference);
        }
        let share = worst / tolerance;
        golden::note(&format!("{} {score}: {worst:.2e}, {share:.3} of the tolerance", self.name));
        if self.description["correlations"].get(score).is_some() {
            self.compare_correlations(score, form, found);
        }
    }

    fn compare_correlations(&self, score: &str, form: ScoreForm, found: &[f64]) {
        let expected = &self.description["correlations"][score];
        let tolerance = number(&expected["tolerance_abs"]).unwrap();
        let mut evaluation = Evaluation::new(vec![(score.to_owned(), form)]);
        for (variant, &score) in self.variants.iter().zip(found) {
            evaluation.add(variant, &[score]);
        }
        let found = evaluation.correlations();
        let close = |name: &str, found: Option<f64>, expected: &Value| {
            let (found, expected) = (found.unwrap(), number(expected).unwrap());
            let difference = (found - expected).abs();
            let place = format!("{} r of {score} in {name}", self.name);
            assert!(difference <= tolerance, "{place}: {found} for {expected}");
        };
        assert_eq!(found.elements.len(), expected["r_signed"].as_object().unwrap().len());
        for element in &found.elements {
            close(&element.element, element.r_signed, &expected["r_signed"][&element.element]);
        }
        for cell in &found.cells {
            close(&cell.cell, cell.r_reported, &expected["r_reported"][&cell.cell]);
            if let Some(signed) = self.description.get("r_mean_signed") {
                close(&cell.cell, cell.r_mean_signed, &signed[&cell.cell]);
            }
        }
    }
}

fn variant(row: &Value) -> Variant {
    Variant {
        chromosome: text(row, "contig").to_owned(),
        position: count(row, "pos"),
        reference: text(row, "ref").to_owned(),
        alternative: text(row, "alt").to_owned(),
        element: Some(text(row, "element").to_owned()),
        cell: row["cell"].as_str().map(str::to_owned),
        effect: number(&row["effect"]),
        ..Variant::default()
    }
}

/// What we call a score of the fixtures: its column, tokens, and how effects are compared with it.
fn known(score: &str) -> Option<(&'static str, TokenSet, ScoreForm)> {
    let (published, distance) = (TokenSet::Published, ScoreForm::Distance);
    Some(match score.trim_start_matches("embedding_") {
        "cos" => ("cos", published, distance),
        "one_minus_cos" => ("one_minus_cos", published, distance),
        "dot" => ("dot", published, distance),
        "l1" => ("l1", published, distance),
        "l2_squared" => ("l2_squared", published, distance),
        "cos_incl_cls" => ("cos", TokenSet::All, distance),
        "masked_logit_difference" => ("masked_llr", published, ScoreForm::Absolute),
        "masked_token_llr" => ("masked_llr", published, distance),
        "llr_all16" => ("causal_llr", published, distance),
        "llr_all16_with_sep" => ("causal_llr_all_tokens", published, distance),
        "llr_acgt" => ("causal_llr_acgt", published, distance),
        // Terms of the one above; their difference is what is scored.
        "loglik_ref_all16" | "loglik_alt_all16" => return None,
        other => panic!("a score that is not known: {other}"),
    })
}

/// Every column of every variant, by name; windows of one length are padded alike.
fn columns(case: &Case, model: &Model, tokens: TokenSet) -> BTreeMap<&'static str, Vec<f64>> {
    let scores = Score::ALL.into_iter().filter(|score| missing(*score, model).is_none()).collect();
    let mut by_padding: BTreeMap<Option<u64>, Vec<usize>> = BTreeMap::new();
    for (row, described) in case.rows().iter().enumerate() {
        by_padding.entry(described["pad_to"].as_u64()).or_default().push(row);
    }
    let options = ScorerOptions { scores, tokens, ..ScorerOptions::default() };
    let mut scorer = Scorer::new(model, options).unwrap();
    let names = scorer.columns();
    let mut found: BTreeMap<_, Vec<f64>> =
        names.iter().map(|&name| (name, vec![f64::NAN; case.rows().len()])).collect();
    for (pad_to, rows) in by_padding {
        scorer = scorer.padded_to(pad_to.map(|tokens| tokens as usize));
        let windows: Vec<&Window> = rows.iter().map(|&row| &case.windows[row]).collect();
        let outcomes = scorer.score(&windows, &mut |_| Ok(())).unwrap();
        for (row, outcome) in rows.into_iter().zip(outcomes) {
            let Outcome::Scored(scores) = outcome else { panic!("{}: {outcome:?}", case.name) };
            for (name, score) in names.iter().zip(scores) {
                found.get_mut(name).unwrap()[row] = score;
            }
        }
    }
    found
}

fn check_tokens(case: &Case, model: &Model) {
    for (row, window) in case.windows.iter().enumerate() {
        for (side, sequence) in
            [("ref", window.reference.clone()), ("alt", window.alternative_sequence())]
        {
            if let Some(expected) = case.tensors.get(&format!("ids_{side}_{row}")) {
                let found = model.tokenize(&sequence).unwrap();
                let found: Vec<i64> = found.into_iter().map(i64::from).collect();
                assert_eq!(found, expected.i64(), "{} {side} {row}", case.name);
            }
        }
    }
}

#[test]
fn scores_and_correlations_are_those_of_the_fixtures() {
    let mut compared = 0;
    for path in golden::descriptions("science/variants") {
        let case = Case::open(&path);
        if case.description["model"].is_null() {
            probe::check(&path, &case);
            compared += 1;
            continue;
        }
        let model = golden::model(text(&case.description, "model"));
        check_tokens(&case, &model);
        let mut by_tokens: BTreeMap<bool, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
        for score in case.description["tolerances"].as_object().unwrap().keys() {
            let Some((column, tokens, form)) = known(score) else { continue };
            let columns = by_tokens
                .entry(tokens == TokenSet::All)
                .or_insert_with(|| columns(&case, &model, tokens));
            case.compare(score, form, &columns[column]);
            compared += 1;
        }
    }
    assert!(compared > 0 || golden::is_elsewhere(), "nothing was compared");
}
