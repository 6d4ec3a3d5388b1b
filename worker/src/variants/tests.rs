use super::*;
use crate::device::Device;
use crate::model::testing::{Cramped, OnHost};
use crate::model::{Model, ModelOptions};
use crate::models;
use crate::scoring::masked_logits;
use glmeval_common::dna::DnaSequence;
use glmeval_common::rng::Rng;
use glmeval_kernels::cuda::Gpu;
use std::path::Path;

fn model() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/nt-v1-random");
    models::open(&folder).unwrap()
}

/// Windows of 40 nucleotides at four places of one random stretch, all three alternatives each.
fn windows() -> Vec<Window> {
    let mut rng = Rng::derive(5, "windows");
    let letters: Vec<u8> = (0..60).map(|_| b"ACGT"[rng.below(4) as usize]).collect();
    let mut windows = Vec::new();
    for start in [0_usize, 3, 3, 11, 0] {
        let reference = DnaSequence::new(&letters[start..start + 40]).unwrap();
        let own = reference.as_bytes()[19];
        for alternative in b"TGCA".iter().copied().filter(|base| *base != own) {
            let start = start as u64;
            windows.push(Window { start, reference: reference.clone(), alternative });
        }
    }
    windows
}

fn options(both_strands: bool) -> ScorerOptions {
    let scores = vec![Score::MaskedLlr, Score::Cosine, Score::L2];
    ScorerOptions { scores, both_strands, ..ScorerOptions::default() }
}

fn score(model: &Model, options: ScorerOptions, windows: &[&Window]) -> Vec<Outcome> {
    let scorer = Scorer::new(model, options).unwrap();
    let mut finished = 0;
    let scored = scorer.score(windows, &mut |count| {
        finished += count;
        Ok(())
    });
    let scored = scored.unwrap();
    let dropped = scored.iter().filter(|outcome| matches!(outcome, Outcome::Dropped(_))).count();
    assert_eq!(finished as usize + dropped, windows.len());
    scored
}

#[test]
fn a_variant_has_the_same_bits_alone_and_among_others() {
    let (model, windows) = (model(), windows());
    for both_strands in [false, true] {
        let all: Vec<&Window> = windows.iter().collect();
        let together = score(&model, options(both_strands), &all);
        let backwards: Vec<&Window> = windows.iter().rev().collect();
        let mut backwards = score(&model, options(both_strands), &backwards);
        backwards.reverse();
        assert_eq!(together, backwards);
        for (window, scored) in windows.iter().zip(&together) {
            let alone = score(&model, options(both_strands), &[window]);
            assert_eq!(alone, std::slice::from_ref(scored));
        }
    }
}

#[test]
fn strands_are_averaged_score_by_score() {
    let (model, windows) = (model(), windows());
    let scored = |both_strands| {
        let outcome = score(&model, options(both_strands), &[&windows[0]]).remove(0);
        let Outcome::Scored(scores) = outcome else { panic!("scored") };
        scores[3]
    };
    let turned = |sequence: DnaSequence| model.tokenize(&sequence.reverse_complement()).unwrap();
    let (reference, alternative) =
        (turned(windows[0].reference.clone()), turned(windows[0].alternative_sequence()));
    // CLS, then six-mers: base 20 of the other strand stands in the fourth.
    let token = 1 + 20 / 6;
    let logits = masked_logits(&model, &reference, &[token]).unwrap();
    let logit = |ids: &[u32]| f64::from(logits[ids[token] as usize]);
    let reverse = logit(&alternative) - logit(&reference);
    assert_eq!(scored(true), 0.5 * (scored(false) + reverse));
}

#[test]
fn alternatives_of_one_place_are_not_mixed() {
    let (model, windows) = (model(), windows());
    let all: Vec<&Window> = windows.iter().collect();
    let scored = score(&model, options(false), &all);
    for (i, a) in windows.iter().enumerate() {
        for (j, b) in windows.iter().enumerate() {
            assert_eq!(scored[i] == scored[j], a == b, "{i} {j}");
        }
    }
}

#[test]
fn a_window_that_the_glm_cannot_take_is_dropped_alone() {
    let (model, mut windows) = (model(), windows());
    windows.truncate(2);
    let mut letters = windows[1].reference.as_bytes().to_vec();
    letters[0] = b'R';
    windows[1].reference = DnaSequence::new(letters).unwrap();
    let all: Vec<&Window> = windows.iter().collect();
    let scored = score(&model, options(false), &all);
    assert!(matches!(scored[0], Outcome::Scored(_)));
    let Outcome::Dropped(reason) = &scored[1] else { panic!("dropped") };
    assert!(reason.contains("column 1") && reason.contains('R'), "{reason}");
}

#[test]
fn scores_that_a_glm_does_not_have_are_refused_by_name() {
    let model = model();
    let refusal = |scores: Vec<Score>, tokens| {
        let options = ScorerOptions { scores, tokens, ..ScorerOptions::default() };
        Scorer::new(&model, options).err().expect("refused").to_string()
    };
    let message = refusal(vec![Score::CausalLlr], TokenSet::All);
    assert!(message.contains("gives no causal-llr"), "{message}");
    assert!(refusal(Vec::new(), TokenSet::All).contains("at least one score"));
}

#[test]
fn work_ends_when_it_is_told_to() {
    let (model, windows) = (model(), windows());
    let all: Vec<&Window> = windows.iter().collect();
    let scorer = Scorer::new(&model, options(false)).unwrap();
    let stop = || glmeval_common::error::Error::unavailable("stopped");
    assert_eq!(scorer.score(&all, &mut |_| Err(stop())).unwrap_err().to_string(), "stopped");
}

#[test]
fn a_batch_without_room_is_halved_and_a_window_that_never_fits_is_named() {
    let (whole, windows) = (model(), windows());
    let all: Vec<&Window> = windows.iter().collect();
    let expected = score(&whole, options(true), &all);
    // A window with its alternatives and their complements has some 80 tokens.
    let cramped = |room| model().wrapped(|network| Box::new(Cramped(network, room)));
    assert_eq!(score(&cramped(200), options(true), &all), expected);
    let full = cramped(5);
    let scorer = Scorer::new(&full, options(true)).unwrap();
    let error = scorer.score(&all, &mut |_| Ok(())).unwrap_err().chain();
    assert!(
        error.contains("variants of the window at ") && error.contains("do not fit"),
        "{error}"
    );
}

#[test]
fn distances_on_a_device_are_those_of_the_states_it_computed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/nt-v1-random");
    let device = Device::Cuda(Gpu::for_tests().unwrap());
    let open = || models::open_on(&folder, &ModelOptions::default(), &device).unwrap();
    let (there, here) = (open(), open().wrapped(|network| Box::new(OnHost(network))));
    let windows = windows();
    let few: Vec<&Window> = windows.iter().take(4).collect();
    for tokens in [TokenSet::Published, TokenSet::All, TokenSet::Nucleotides] {
        let scores = vec![Score::Cosine, Score::Dot, Score::L1, Score::L2];
        let options = ScorerOptions { scores, tokens, ..ScorerOptions::default() };
        let (found, expected) =
            (score(&there, options.clone(), &few), score(&here, options.clone(), &few));
        assert_eq!(found[3..], score(&there, options, &few[3..]), "alone");
        for (found, expected) in found.iter().zip(&expected) {
            let (Outcome::Scored(found), Outcome::Scored(expected)) = (found, expected) else {
                panic!("{found:?} {expected:?}");
            };
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-12 * (1.0 + expected.abs()), "{found}");
            }
        }
    }
}
