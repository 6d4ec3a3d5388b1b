//! Facts that hold for any weights; numbers are compared with upstream's in `tests/golden_supervised.rs`.

use super::*;
use crate::model::{Model, RandomTensors, TensorShape, write_safetensors};
use crate::models;
use serde_json::{Value, json};

fn config() -> Value {
    json!({
        "model_type": "rbp-cnn", "sequence_length": 47, "filters": [3, 5], "dense": 4, "outputs": 2,
    })
}

fn folder(config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn random(config: &Value) -> Model {
    models::open_random(folder(config).path(), &ModelOptions::default(), 3).unwrap()
}

fn states(model: &Model, sequences: &[&[u32]]) -> Vec<u32> {
    let batch = TokenBatch::pack(sequences.iter().copied());
    model.last_states(&batch).unwrap().iter().map(|value| value.to_bits()).collect()
}

fn plan(config: &Value) -> Plan {
    let config = RbpCnnConfig::read(folder(config).path()).unwrap();
    Plan { config, options: ModelOptions::default() }
}

/// A folder with `tensors` of seed 3.
fn written(config: &Value, tensors: &[TensorShape]) -> tempfile::TempDir {
    let (folder, plan) = (folder(config), plan(config));
    let path = folder.path().join("model.safetensors");
    write_safetensors(&path, tensors, &mut RandomTensors::new(3, &plan)).unwrap();
    folder
}

#[test]
fn facts_follow_from_the_config() {
    let facts = random(&config()).facts().clone();
    assert_eq!(facts.architecture, "rbp-cnn");
    assert_eq!((facts.layer_count, facts.width, facts.states(9)), (1, 5, 4));
    assert_eq!((facts.tokens_max, facts.tokens(9)), (47, 9));
    let convolutions = 19 * 4 * 3 + 3 * 3 * 9 + 7 * 3 * 5;
    let norms = 2 * (4 * 3 + 5 + 4);
    assert_eq!(facts.parameters, convolutions + norms + 5 * 4 + 4 * 2 + 2);
    let flops = 2.0 * f64::from(47 * (19 * 4 * 3 + 3 * 3 * 9) + 4 * 7 * 3 * 5);
    assert!((facts.flops(9, 1) / flops - 1.0).abs() < 1e-12);
    let shape = plan(&json!({ "model_type": "rbp-cnn" })).shape();
    assert_eq!((shape.states_fixed, shape.width, shape.tokens_max), (Some(100), 192, 1_000));
}

#[test]
fn padding_stands_on_both_sides_and_is_no_nucleotide() {
    let model = random(&config());
    let alone = states(&model, &[&[0, 1]]);
    let mut padded = vec![4; 22];
    padded.extend([0, 1]);
    padded.extend([4; 23]);
    assert_eq!(states(&model, &[&padded]), alone);
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch() {
    let model = random(&config());
    let sequences: [&[u32]; 3] = [&[0, 1, 2, 3, 4], &[3; 47], &[2, 2, 1]];
    let together = states(&model, &sequences);
    for (sequence, shared) in sequences.into_iter().zip(together.chunks(20)) {
        assert_eq!(states(&model, &[sequence]), shared);
    }
    let batch = TokenBatch::pack(sequences);
    assert_eq!(model.logits(&batch).unwrap().len(), 3 * 2);
}

#[test]
fn inputs_and_sizes_that_cannot_be_run_are_refused() {
    let model = random(&config());
    let error = |ids: &[u32]| model.last_states(&TokenBatch::pack([ids])).unwrap_err().to_string();
    assert!(error(&[0; 48]).contains("at most 47 tokens, found 48"));
    assert!(error(&[5]).contains("below 5, found 5"));
    for (key, value) in [
        ("sequence_length", json!(9)),
        ("filters", json!([3])),
        ("dense", json!("4")),
        ("batch_norm_eps", json!(0)),
    ] {
        let mut config = config();
        config[key] = value;
        let error = RbpCnnConfig::read(folder(&config).path()).unwrap_err().chain();
        assert!(error.contains(&format!("config.json: {key}: expected")), "{error}");
    }
}

#[test]
fn weights_that_end_at_the_embedding_give_states_but_no_predictions() {
    let mut tensors = plan(&config()).initial_tensors();
    let behind = ["dense", "batch_normalization_5"];
    tensors.retain(|tensor| !behind.iter().any(|start| tensor.name.starts_with(start)));
    let folder = written(&config(), &tensors);
    let model = models::open(folder.path()).unwrap();
    assert_eq!(states(&model, &[&[0, 1]]), states(&random(&config()), &[&[0, 1]]));
    let error = model.logits(&TokenBatch::pack([[0].as_slice()])).unwrap_err();
    assert!(error.to_string().contains("end at the embedding"), "{error}");
}

#[test]
fn layers_with_a_bias_are_another_network() {
    let mut tensors = plan(&config()).initial_tensors();
    tensors.push(TensorShape { name: "conv1d_2/bias".to_owned(), shape: vec![3] });
    let error = models::open(written(&config(), &tensors).path()).err().unwrap().chain();
    assert!(error.contains("tensor conv1d_2/bias: expected a layer without bias"), "{error}");
}

#[test]
fn a_written_random_model_is_the_random_model() {
    let folder = folder(&config());
    models::write_random(folder.path(), 3).unwrap();
    let read = models::open(folder.path()).unwrap();
    assert_eq!(states(&read, &[&[0, 1]]), states(&random(&config()), &[&[0, 1]]));
    let batch = TokenBatch::pack([[3].as_slice()]);
    assert_eq!(read.logits(&batch).unwrap(), random(&config()).logits(&batch).unwrap());
}

#[test]
fn eps_decides_states_and_the_id() {
    let mut other = config();
    other["batch_norm_eps"] = json!(0.5);
    let (published, other) = (random(&config()), random(&other));
    assert_ne!(published.facts().id, other.facts().id);
    assert_ne!(states(&published, &[&[0]]), states(&other, &[&[0]]));
}

/// Statistics by name; others are one and zero.
struct Fixed(&'static str, f32);

impl TensorSource for Fixed {
    fn take_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let rest = if name.ends_with("gamma") || name.ends_with("variance") { 1.0 } else { 0.0 };
        Ok(vec![if name.ends_with(self.0) { self.1 } else { rest }; shape[0]])
    }

    fn contains(&self, _: &str) -> bool {
        true
    }

    fn digest(&self) -> Result<String> {
        Ok(String::new())
    }
}

#[test]
fn batch_norm_subtracts_the_mean_and_divides_by_the_deviation() {
    let applied = |name, value, eps| {
        let mut x = [8.0];
        BatchNorm::load(0, 1, eps, &mut Fixed(name, value)).unwrap().apply(&mut x);
        x[0]
    };
    assert_eq!(applied("moving_mean", 3.0, 0.0), 5.0);
    assert_eq!(applied("moving_variance", 3.0, 1.0), 4.0);
    assert_eq!(applied("gamma", 0.5, 0.0), 4.0);
    assert_eq!(applied("beta", -1.0, 0.0), 7.0);
    let negative = BatchNorm::load(1, 1, 1.0, &mut Fixed("variance", -0.5)).err().unwrap();
    let message = negative.to_string();
    assert!(message.contains("batch_normalization_1/moving_variance: expected"), "{message}");
}
