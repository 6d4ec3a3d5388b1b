//! Early stopping and the fall of the learning rate against Keras' own classes, epoch by epoch.
//!
//! Leaves out: what is stopped. Tolerance: none; learning rates within their float32 rounding.

use crate::keras::{count, list, number, plateau, text};
use glmeval_tests::golden;
use glmeval_worker::training::callbacks::{Better, EarlyStopping, Plateau};
use serde_json::Value;

/// A rate as the fixture has it, in f32.
const RATE_TOLERANCE: f64 = 1e-6;

fn better(settings: &Value) -> Better {
    match settings["mode"].as_str() {
        Some("min") => Better::Smaller,
        Some("max") => Better::Larger,
        other => panic!("a mode that is not known: {other:?}"),
    }
}

/// A best value; infinite before the first.
fn best(better: Better, found: Option<f64>) -> f64 {
    found.unwrap_or(match better {
        Better::Smaller => f64::INFINITY,
        Better::Larger => f64::NEG_INFINITY,
    })
}

fn check_rate(place: &str, found: f32, expected: &Value) {
    let (found, expected) = (f64::from(found), number(expected));
    assert!((found - expected).abs() <= RATE_TOLERANCE * expected, "{place}: {found} {expected}");
}

fn check_trace(trace: &Value) {
    let name = text(&trace["name"]);
    let stop = &trace["early_stopping"];
    let patience = count(&stop["patience"]) as u32;
    let better = better(stop);
    assert_eq!(number(&stop["min_delta"]), 0.0, "{name}");
    let mut stopping = EarlyStopping::new(Some(patience), better);
    let mut falling = Plateau::new(plateau(&trace["reduce_lr"]), better);
    let mut rate = number(&trace["initial_lr"]) as f32;
    let mut kept = 0;
    for epoch in list(&trace["epochs"]) {
        let place = format!("{name} epoch {}", epoch["epoch"]);
        check_rate(&place, rate, &epoch["lr_used"]);
        let value = number(&epoch["value"]);
        let verdict = stopping.observe(value);
        rate = falling.observe(value, rate);
        check_rate(&place, rate, &epoch["lr_after"]);
        if verdict.keep {
            kept = count(&epoch["epoch"]);
        }
        assert_eq!(verdict.stop, epoch["stop"] == true, "{place}");
        assert_eq!(stopping.wait() as usize, count(&epoch["es_wait"]), "{place}");
        assert_eq!(best(better, stopping.best()), number(&epoch["es_best"]), "{place}");
        assert_eq!(stopping.best_epoch() as usize, count(&epoch["es_best_epoch"]), "{place}");
        assert_eq!(falling.wait() as usize, count(&epoch["rl_wait"]), "{place}");
        assert_eq!(falling.cooldown() as usize, count(&epoch["rl_cooldown"]), "{place}");
        assert_eq!(best(better, falling.best()), number(&epoch["rl_best"]), "{place}");
    }
    let result = &trace["result"];
    let last = list(&trace["epochs"]).len() - 1;
    let restored = if result["stopped"] == true { kept } else { last };
    assert_eq!(restored, count(&result["weights_after_fit_are_from_epoch"]), "{name}");
}

#[test]
fn states_after_every_epoch_are_those_of_keras() {
    let path = golden::root().join("probes/fit/callback_traces.json");
    if !path.exists() && golden::is_elsewhere() {
        return;
    }
    let traces = golden::json(&path);
    let traces = list(&traces["traces"]);
    assert!(traces.len() > 10 || golden::is_elsewhere(), "traces");
    traces.iter().for_each(check_trace);
}
