//! Maps of small networks and of a gLM with random weights.

use super::*;
use crate::device::Device;
use crate::model::testing::{Cramped, OnHost};
use crate::model::{Model, ModelOptions};
use crate::models;
use crate::variants::{ProbeReads, VariantProbe};
use glmeval_common::dna::DnaSequence;
use glmeval_common::network::{Activation, Extent, Initializer, LayerKind, LayerSpec, NetworkSpec};
use glmeval_common::representation::Pooling;
use glmeval_common::rng::Rng;
use glmeval_kernels::cuda::Gpu;
use std::collections::BTreeMap;
use std::path::Path;

fn model() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/nt-v1-random");
    models::open(&folder).unwrap()
}

fn sequences(count: usize, length: usize) -> Vec<DnaSequence> {
    let mut rng = Rng::derive(5, "sequences");
    let mut letter = || b"ACGT"[(rng.normal().abs() * 100.0) as usize % 4];
    let letters = (0..count).map(|_| (0..length).map(|_| letter()).collect::<Vec<u8>>());
    letters.map(|letters| DnaSequence::new(letters).unwrap()).collect()
}

/// Means of two positions, a hidden layer, one output behind a sigmoid, over `input`.
fn probe(input: Extent, reads: ProbeReads) -> VariantProbe {
    let layer = |name: &str, input: &str, kind| LayerSpec {
        name: name.to_owned(),
        inputs: vec![input.to_owned()],
        kind,
    };
    let dense = |units, activation| LayerKind::Dense {
        units,
        bias: true,
        activation,
        initializer: Initializer::HeUniform,
        l2: 0.0,
    };
    let network = NetworkSpec {
        inputs: vec!["x".to_owned()],
        layers: vec![
            layer("pool", "x", LayerKind::AveragePool { size: 2 }),
            layer("flat", "pool", LayerKind::Flatten),
            layer("hidden", "flat", dense(6, Activation::Silu)),
            layer("out", "hidden", dense(1, Activation::Sigmoid)),
        ],
    };
    let mut rng = Rng::derive(8, "weights");
    let shapes = network.resolve(&[input]).unwrap().weights;
    let weights: BTreeMap<String, Vec<f32>> = shapes
        .into_iter()
        .map(|shape| {
            let values = (0..shape.values()).map(|_| 0.2 * rng.normal() as f32);
            (shape.name.clone(), values.collect())
        })
        .collect();
    VariantProbe::new(&network, input, reads, &weights).unwrap()
}

fn one_hot_probe(length: usize) -> VariantProbe {
    probe(Extent::Sequence { length, channels: 4 }, ProbeReads::OneHot)
}

fn states_probe(model: &Model, tokens: usize, pooling: Pooling) -> VariantProbe {
    let facts = model.facts();
    let (id, name, layer) = (facts.id.clone(), "NT".to_owned(), facts.layer_count);
    let extent = Extent::Sequence { length: tokens, channels: facts.width as usize };
    probe(extent, ProbeReads::States { model: id, name, layer, pooling })
}

#[test]
fn a_saliency_is_the_slope_of_the_logit_and_the_same_among_any_others() {
    let mut probe = one_hot_probe(14);
    let sequences = sequences(37, 14);
    let together = saliency(&mut probe, &sequences).unwrap();
    for (sequence, expected) in sequences.iter().zip(&together).step_by(9) {
        let alone = saliency(&mut probe, &[sequence]).unwrap();
        assert_eq!(&alone[0], expected);
    }
    let input = probe.one_hot(&sequences[..1]).unwrap();
    let mut moved = |index: usize, far: f32| {
        let mut input = input.clone();
        input[index] += far;
        f64::from(probe.predict(&input).unwrap()[0])
    };
    for (index, &slope) in together[0].gradient.iter().enumerate() {
        let expected = (moved(index, 1e-2) - moved(index, -1e-2)) / 2e-2;
        assert!((f64::from(slope) - expected).abs() < 1e-3, "{index}: {slope} for {expected}");
    }
}

#[test]
fn a_sequence_that_the_network_does_not_read_is_refused() {
    let error = saliency(&mut one_hot_probe(12), &sequences(1, 13)).unwrap_err();
    assert!(error.chain().contains("expected windows of 12 nucleotides"), "{}", error.chain());
}

#[test]
fn entropies_cover_every_token_and_lengths_every_nucleotide() {
    let model = model();
    let asked = Entropies::new(&model).unwrap();
    assert_eq!(asked.columns(), None);
    let vocabulary = f64::from(4_105_u32).ln();
    for length in [12, 15] {
        let sequence = &sequences(1, length)[0];
        let found = asked.of(sequence).unwrap();
        let tokens = 1 + length / 6 + length % 6;
        assert_eq!((found.values.len(), found.lengths.len()), (tokens, tokens));
        assert!(found.values.iter().all(|&h| h > 0.0 && h <= vocabulary), "{found:?}");
        assert_eq!(expand(&found.values, &found.lengths).unwrap().len(), length);
    }
}

#[test]
fn norms_are_those_of_the_gradient_of_the_states() {
    let model = model();
    let mut gradients =
        EmbeddingGradients::new(&model, states_probe(&model, 4, Pooling::Full), false).unwrap();
    let sequences = sequences(5, 13);
    let together = gradients.of(&sequences).unwrap();
    for (sequence, expected) in sequences.iter().zip(&together) {
        assert_eq!(&gradients.of(&[sequence]).unwrap()[0], expected);
        assert_eq!(expected.norms.len(), 4);
        assert!(expected.norms.iter().all(|&norm| norm > 0.0), "{expected:?}");
    }
    let error = gradients.of(&[DnaSequence::new("ACGT").unwrap()]).unwrap_err();
    assert!(error.chain().contains("which the network reads"), "{}", error.chain());
}

#[test]
fn networks_that_read_something_else_are_refused() {
    let model = model();
    let refused = |probe| match EmbeddingGradients::new(&model, probe, false) {
        Ok(_) => panic!("taken"),
        Err(error) => error.chain(),
    };
    let mean = refused(states_probe(&model, 4, Pooling::Mean));
    assert!(mean.contains("expected a network of all states of a layer (pooling full)"), "{mean}");
    let letters = refused(one_hot_probe(12));
    assert!(letters.contains("a network that reads a gLM"), "{letters}");
}

#[test]
fn entropies_come_back_from_disk_with_their_bits_and_their_maximum() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = EntropySpool::new(&folder.path().join("entropies")).unwrap();
    let sets = [vec![1.0, f64::NAN], vec![0.5, 1.5, 1.25]];
    for values in &sets {
        let lengths = vec![1; values.len()];
        spool.push(&TokenEntropies { values: values.clone(), lengths }).unwrap();
    }
    let (maximum, mut reader) = spool.finish().unwrap();
    assert_eq!((maximum.value, maximum.sequence, maximum.token), (Some(1.5), 1, 1));
    for values in &sets {
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&reader.next(values.len()).unwrap()), bits(values));
    }
    reader.next(1).unwrap_err();
}

#[test]
fn a_file_of_maps_pads_shorter_sequences_with_nan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maps.safetensors");
    let kinds = [MapKind::Saliency, MapKind::Information];
    let texts = BTreeMap::from([("format".to_owned(), "maps".to_owned())]);
    let start = || MapFile::new(&path, &kinds, (3, 2), &texts).unwrap();
    let mut file = start();
    file.push(&[vec![vec![1.0, 2.0], vec![3.0, 4.0]], vec![vec![5.0], vec![6.0]]]).unwrap();
    file.push(&[vec![vec![7.0, 8.0], vec![9.0, 10.0]]]).unwrap();
    file.push(&[vec![vec![7.0, 8.0], vec![9.0, 10.0]]]).unwrap_err();
    file.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = read.tensor("information").unwrap();
    assert_eq!(tensor.shape(), [3, 2]);
    let values: Vec<f32> =
        tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(values[..3], [3.0, 4.0, 6.0]);
    assert!(values[3].is_nan());
    assert_eq!(values[4..], [9.0, 10.0]);
    start().push(&[vec![vec![1.0; 3], vec![1.0; 3]]]).unwrap_err();
    start().finish().unwrap_err();
}

#[test]
fn entropies_on_a_device_are_those_of_the_logits_it_computed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/nt-v1-random");
    let device = Device::Cuda(Gpu::for_tests().unwrap());
    let open = || models::open_on(&folder, &ModelOptions::default(), &device).unwrap();
    let (there, here) = (open(), open().wrapped(|network| Box::new(OnHost(network))));
    let sequence = &sequences(1, 20)[0];
    let found = Entropies::new(&there).unwrap().of(sequence).unwrap();
    let expected = Entropies::new(&here).unwrap().of(sequence).unwrap();
    assert_eq!(found.lengths, expected.lengths);
    for (found, expected) in found.values.iter().zip(&expected.values) {
        assert!((found - expected).abs() <= 1e-12, "{found} {expected}");
    }
}

#[test]
fn copies_that_find_no_room_are_masked_a_few_at_a_time() {
    let sequence = &sequences(1, 40)[0];
    let whole = model();
    let expected = Entropies::new(&whole).unwrap().of(sequence).unwrap();
    let cramped = model().wrapped(|network| Box::new(Cramped(network, 25)));
    assert_eq!(Entropies::new(&cramped).unwrap().of(sequence).unwrap(), expected);
    assert!(cramped.tokens_per_batch() < 50, "{}", cramped.tokens_per_batch());
}
