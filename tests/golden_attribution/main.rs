//! Attribution maps against whole analyses, described by the fixtures themselves.
//!
//! Every JSON below `science/maps` is run: entropies of the model that it names, gradients of both
//! networks that it describes, all maps and their correlations, each within its own tolerance. Leaves
//! out: facts that hold for any weights (worker). The command that writes maps is in `command`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod case;
mod command;

use case::{Case, flat};
use glmeval_common::dna::DnaSequence;
use glmeval_tests::golden::{self, number};
use glmeval_worker::attribution::{
    EmbeddingGradients, Entropies, EntropyMaximum, TokenEntropies, correlate, expand, information,
    saliency,
};
use glmeval_worker::model::Model;
use glmeval_worker::models;
use glmeval_worker::scoring::masked_logits;
use glmeval_worker::variants::published;

/// Map 1: output, gradient and its correction.
fn saliency_maps(case: &Case) -> Vec<Vec<f64>> {
    let mut probe = case.one_hot_probe();
    let found = saliency(&mut probe, &case.sequences).unwrap();
    let outputs = found.iter().map(|one| f64::from(one.output));
    case.compare("f_onehot", &outputs.collect::<Vec<f64>>());
    let gradients = found.iter().flat_map(|one| &one.gradient).map(|&value| f64::from(value));
    case.compare("onehot_gradient", &gradients.collect::<Vec<f64>>());
    for (sequence, together) in case.sequences.iter().zip(&found) {
        let alone = saliency(&mut probe, &[sequence]).unwrap();
        assert_eq!(&alone[0], together, "{}: alone and among others", case.name);
    }
    let maps: Vec<Vec<f64>> = found.into_iter().map(|one| one.map).collect();
    case.compare("map1", &flat(&maps));
    maps
}

/// Entropies and their maximum.
fn entropies(case: &Case, model: &Model) -> (Vec<TokenEntropies>, f64) {
    let asked = Entropies::new(model).unwrap();
    check_distribution(case, model, &asked);
    let found: Vec<TokenEntropies> = case.sequences.iter().map(|s| asked.of(s).unwrap()).collect();
    let values: Vec<&[f64]> = found.iter().map(|one| one.values.as_slice()).collect();
    case.compare("entropy", &values.concat());
    let mut maximum = EntropyMaximum::default();
    (0..).zip(&found).for_each(|(sequence, one)| maximum.add(sequence, one));
    let value = maximum.value.unwrap();
    let close = |name: &str, found: f64| {
        let Some(expected) = number(&case.description[name]) else { return };
        let tolerance = case.tolerance("max_entropy");
        assert!((found - expected).abs() <= tolerance, "{} {name}: {found}", case.name);
    };
    close("max_entropy", value);
    close("max_entropy_without_cls", maximum.of_nucleotides.unwrap());
    let place = serde_json::json!([maximum.sequence, maximum.token]);
    assert_eq!(case.description["argmax_entropy_sequence_token"], place, "{}", case.name);
    (found, value)
}

/// The mask, the columns of the softmax, the tokens, and the probabilities where they are stored.
fn check_distribution(case: &Case, model: &Model, asked: &Entropies<'_>) {
    let mask = model.tokenizer().mask_id().map(u64::from);
    assert_eq!(case.description["mask_id"].as_u64(), mask, "{}", case.name);
    let columns = case.description["softmax_columns"].as_array().map(|columns| {
        columns.iter().map(|column| column.as_u64().unwrap() as u32).collect::<Vec<_>>()
    });
    assert_eq!(columns.as_deref(), asked.columns(), "{}", case.name);
    let ids: Vec<Vec<u32>> =
        case.sequences.iter().map(|sequence| asked.tokens(sequence).unwrap().0).collect();
    let flat: Vec<i64> = ids.iter().flatten().map(|&id| i64::from(id)).collect();
    assert_eq!(case.tensors["tokens"].i64(), flat, "{}", case.name);
    if !case.tensors.contains_key("masked_base_probabilities_seq0") {
        return;
    }
    let positions: Vec<usize> = (0..ids[0].len()).collect();
    let logits = masked_logits(model, &ids[0], &positions).unwrap();
    let rows = logits.chunks_exact(logits.len() / positions.len());
    let found: Vec<f64> = rows
        .flat_map(|row| {
            let weight = |&column: &u32| f64::from(row[column as usize]).exp();
            let weights: Vec<f64> = asked.columns().unwrap().iter().map(weight).collect();
            let sum: f64 = weights.iter().sum();
            weights.into_iter().map(move |weight| weight / sum)
        })
        .collect();
    // Not described: a probability moves no more than the entropy that is made of it.
    case.compare_within("masked_base_probabilities_seq0", case.tolerance("entropy"), &found);
}

/// Norms of the embedding's gradient, one for each token.
fn gradients(case: &Case, model: &Model) -> Vec<Vec<f64>> {
    let pads = !published(&model.facts().architecture).padded.is_empty();
    let mut gradients = EmbeddingGradients::new(model, case.embedding_probe(model), pads).unwrap();
    let found = gradients.of(&case.sequences).unwrap();
    let outputs = found.iter().map(|one| f64::from(one.output));
    case.compare("f_embedding", &outputs.collect::<Vec<f64>>());
    for (sequence, together) in case.sequences.iter().zip(&found) {
        let alone = gradients.of(&[sequence]).unwrap();
        assert_eq!(&alone[0], together, "{}: alone and among others", case.name);
    }
    let norms: Vec<Vec<f64>> = found.into_iter().map(|one| one.norms).collect();
    case.compare("grad_norm", &flat(&norms));
    norms
}

/// Mean correlations of all pairs that the fixture has.
fn check_correlations(case: &Case, maps: [&[Vec<f64>]; 3]) {
    let by_name = |name: &str| match name {
        "map1" => maps[0],
        "map2" => maps[1],
        "map3" => maps[2],
        other => panic!("{}: a map that is not known: {other}", case.name),
    };
    let pairs = case.description["correlations_of_absolute_maps"].as_object().unwrap();
    assert!(!pairs.is_empty(), "{}", case.name);
    for (pair, expected) in pairs {
        let (map, other) = pair.split_once("_vs_").unwrap();
        let each = by_name(map).iter().zip(by_name(other));
        let found: Vec<_> = each.map(|(a, b)| correlate(a, b)).collect();
        for (name, expected) in expected.as_object().unwrap() {
            let values: Vec<f64> = found
                .iter()
                .map(|one| if name == "pearson" { one.pearson } else { one.spearman }.unwrap())
                .collect();
            let tolerance = number(&expected["tolerance_abs"]).unwrap();
            let close = |found: f64, expected: &serde_json::Value| {
                let expected = number(expected).unwrap();
                let place = format!("{} {name} of {pair}", case.name);
                assert!((found - expected).abs() <= tolerance, "{place}: {found} for {expected}");
            };
            let per_sequence = expected["per_sequence"].as_array().unwrap();
            assert_eq!(per_sequence.len(), values.len(), "{}", case.name);
            values.iter().zip(per_sequence).for_each(|(&found, expected)| close(found, expected));
            close(values.iter().sum::<f64>() / values.len() as f64, &expected["mean"]);
        }
    }
}

#[test]
fn maps_and_their_correlations_are_those_of_the_fixtures() {
    for path in golden::descriptions("science/maps") {
        let case = Case::open(&path);
        let model = case.model();
        let first = saliency_maps(&case);
        let (entropies, maximum) = entropies(&case, &model);
        let norms = gradients(&case, &model);
        let (mut second, mut third) = (Vec::new(), Vec::new());
        for (entropies, norms) in entropies.iter().zip(&norms) {
            let per_token = information(&entropies.values, maximum);
            let product: Vec<f64> = per_token.iter().zip(norms).map(|(a, b)| a * b).collect();
            second.push(expand(&per_token, &entropies.lengths).unwrap());
            third.push(expand(&product, &entropies.lengths).unwrap());
        }
        case.compare("map2", &flat(&second));
        case.compare("map3", &flat(&third));
        check_correlations(&case, [&first, &second, &third]);
    }
}

#[test]
fn every_masked_model_has_a_number_for_each_nucleotide_and_others_are_refused() {
    let letters = "ACGTTGCATTAGCGACCATGCAAGTCAGGTACCATTGACG";
    let sequence = DnaSequence::new(letters).unwrap();
    let (mut mapped, mut refused) = (0, 0);
    for folder in golden::folders("models") {
        let Ok(model) = models::open(&folder) else { continue };
        let place = folder.display();
        let asked = match Entropies::new(&model) {
            Ok(asked) => asked,
            Err(error) => {
                let reasons = ["only those before them", "no mask token", "no language-model head"];
                let text = error.chain();
                assert!(reasons.iter().any(|reason| text.contains(reason)), "{place}: {text}");
                refused += 1;
                continue;
            }
        };
        assert!(!model.is_causal(), "{place}");
        let found = asked.of(&sequence).unwrap();
        let map = expand(&found.values, &found.lengths).unwrap();
        assert_eq!(map.len(), letters.len(), "{place}");
        assert!(map.iter().all(|entropy| entropy.is_finite() && *entropy >= 0.0), "{place}");
        mapped += 1;
    }
    assert!((mapped > 1 && refused > 1) || golden::is_elsewhere(), "{mapped} {refused}");
}
