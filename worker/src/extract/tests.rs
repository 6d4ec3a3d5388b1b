use super::*;
use crate::device::Device;
use crate::model::ModelOptions;
use crate::model::testing::{Cramped, OnHost};
use glmeval_common::dna::DnaSequence;
use glmeval_common::ids::{DatasetId, SetId};
use glmeval_common::limits::TOKENS_PER_BATCH_MAX;
use glmeval_common::representation::MeanOver;
use glmeval_common::unit::ModelRef;
use glmeval_kernels::cuda::{DeviceArray, Gpu};
use std::path::PathBuf;

const WIDTH: usize = 64;

fn model() -> (PathBuf, Model) {
    let folder =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/nt-v1-random"));
    let model = crate::models::open(&folder).unwrap();
    (folder, model)
}

fn set(model: &Model, folder: PathBuf, dtype: StoredDtype) -> SetSpec {
    SetSpec {
        id: SetId::new("set"),
        model: ModelRef {
            id: model.facts().id.clone(),
            name: "nt".into(),
            source: folder,
            options: ModelOptions::default(),
        },
        dataset: DatasetId::new("data"),
        layers: vec![0, 2, 4],
        poolings: vec![Pooling::Cls, Pooling::Mean, Pooling::Full],
        dtype,
        options: Default::default(),
        numeric_class: crate::numeric_class(Default::default()),
        effects: None,
    }
}

/// Sequences of unlike lengths, some with undefined letters.
fn examples() -> Vec<Example> {
    let lengths = [30_usize, 6, 113, 61, 30, 240, 7, 95];
    let letter = |i: usize| if i % 37 == 11 { 'N' } else { ['A', 'C', 'G', 'T'][i * i % 251 % 4] };
    let sequence = |row: usize| (0..lengths[row]).map(|i| letter(i + 17 * row)).collect::<String>();
    (0..lengths.len())
        .map(|row| Example {
            id: format!("e{row}"),
            sequences: vec![DnaSequence::new(sequence(row)).unwrap()],
            interval: None,
            split: None,
            targets: Vec::new(),
        })
        .collect()
}

fn shard(examples: &[Example], start: usize, end: usize) -> ShardExamples {
    let examples = examples[start..end].to_vec();
    ShardExamples { start: start as u64, end: end as u64, examples, indices: None }
}

#[test]
fn neither_batches_nor_shards_change_a_bit() {
    let (folder, model) = model();
    let examples = examples();
    for dtype in [StoredDtype::F32, StoredDtype::F16] {
        let set = set(&model, folder.clone(), dtype);
        let run = |shard: &ShardExamples, budget: usize| {
            let mut rows = 0;
            let found = embed_in_batches(&model, &set, shard, budget, &mut |done| rows += done);
            assert_eq!(rows, shard.examples.len() as u64);
            found.unwrap()
        };
        let whole = shard(&examples, 0, examples.len());
        let expected = run(&whole, TOKENS_PER_BATCH_MAX);
        for budget in [1, 20, 45] {
            assert_eq!(run(&whole, budget), expected, "at most {budget} tokens a batch");
        }
        let parts = [(0, 3), (3, 4), (4, 8)].map(|(a, b)| run(&shard(&examples, a, b), 30));
        for tensor in &expected.tensors {
            let values = parts.iter().flat_map(|part| {
                part.tensor(tensor.layer, tensor.pooling).unwrap().values.iter().copied()
            });
            let joined: Vec<u8> = values.collect();
            assert_eq!(joined, tensor.values, "layer {} {}", tensor.layer, tensor.pooling);
        }
    }
}

/// Pairs of unlike lengths, the second of which is the first of the next example.
fn paired(examples: &[Example]) -> Vec<Example> {
    let mut paired = examples.to_vec();
    for (row, example) in paired.iter_mut().enumerate() {
        let next = examples[(row + 1) % examples.len()].sequences[0].clone();
        example.sequences.push(next);
    }
    paired
}

#[test]
fn a_sequence_has_the_bits_it_has_alone_whatever_stands_beside_it() {
    let (folder, model) = model();
    let examples = examples();
    let both = Strands::Averaged;
    for options in [
        RepresentationOptions::default(),
        RepresentationOptions {
            strands: both,
            full_rows: FullRows::Nucleotides,
            ..Default::default()
        },
    ] {
        let set = SetSpec { options, ..set(&model, folder.clone(), StoredDtype::F32) };
        let run = |examples: &[Example], budget| {
            let shard = shard(examples, 0, examples.len());
            embed_in_batches(&model, &set, &shard, budget, &mut |_| ()).unwrap()
        };
        let alone = run(&examples, TOKENS_PER_BATCH_MAX);
        let pairs = run(&paired(&examples), 50);
        assert_eq!(EmbeddingShard::decode(&pairs.encode().unwrap(), "x").unwrap(), pairs);
        assert_eq!((pairs.sequences, pairs.row_ids.len()), (2, examples.len()));
        for row in 0..examples.len() {
            for tensor in &alone.tensors {
                let values = |shard: &EmbeddingShard, row: usize| {
                    shard.values_f32(tensor.layer, tensor.pooling, row..row + 1).unwrap()
                };
                let next = (row + 1) % examples.len();
                let expected = [values(&alone, row), values(&alone, next)].concat();
                assert_eq!(values(&pairs, row), expected, "{} {}", tensor.layer, tensor.pooling);
            }
        }
        let offsets = pairs.token_offsets.unwrap();
        let counts: Vec<u64> = offsets.windows(2).map(|span| span[1] - span[0]).collect();
        let single = alone.token_offsets.unwrap();
        let single: Vec<u64> = single.windows(2).map(|span| span[1] - span[0]).collect();
        let next = single.iter().cycle().skip(1);
        let expected: Vec<u64> = single.iter().zip(next).flat_map(|(a, b)| [*a, *b]).collect();
        assert_eq!(counts, expected);
    }
}

#[test]
fn examples_of_unlike_numbers_of_sequences_are_refused_by_name() {
    let (folder, model) = model();
    let set = set(&model, folder, StoredDtype::F32);
    let mut examples = paired(&examples());
    examples[5].sequences.pop();
    let shard = shard(&examples, 0, examples.len());
    let error = embed(&model, &set, &shard, &mut |_| ()).unwrap_err().to_string();
    assert_eq!(error, "example e5: expected 2 sequences, found 1");
}

#[test]
fn a_state_that_is_not_finite_is_named_with_its_example() {
    let (folder, model) = model();
    let examples = examples();
    let set = set(&model, folder, StoredDtype::F32);
    let tokens = tokenize(&model, &set, &examples).unwrap();
    let mut rows = Rows::new(&set, &model, &examples, &tokens).unwrap();
    let batch =
        TokenBatch::pack([2, 1].map(|row: usize| tokens[row].sequences[0][0].ids.as_slice()));
    let mut states = vec![0.5; batch.token_count() * WIDTH];
    let mut check = |states: &[f32], part: &str| {
        let error = rows.take(2, States::Host(states), &batch, &[2, 1]).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    };
    let cls = tokens[2].count() * WIDTH;
    states[cls] = f32::NAN;
    check(&states, "row e1 of layer 2 cls, column 0");
    states[cls] = 0.5;
    states[cls - 1] = f32::INFINITY;
    check(&states, "row e2 of layer 2 mean, column 63");
}

#[test]
fn both_strands_give_a_sequence_and_its_reverse_complement_one_representation() {
    let (folder, model) = model();
    let options = RepresentationOptions {
        strands: Strands::Averaged,
        full_rows: FullRows::Nucleotides,
        ..RepresentationOptions::default()
    };
    let set = SetSpec { options, ..set(&model, folder, StoredDtype::F32) };
    let examples = examples();
    let mut turned = examples.clone();
    for example in &mut turned {
        example.sequences[0] = example.sequences[0].reverse_complement();
    }
    let run = |examples: &[Example], budget| {
        let shard = shard(examples, 0, examples.len());
        embed_in_batches(&model, &set, &shard, budget, &mut |_| ()).unwrap()
    };
    let (given, other) = (run(&examples, 80), run(&turned, 4096));
    let offsets = given.token_offsets.clone().unwrap();
    let lengths = examples.iter().map(|example| example.sequences[0].as_str().len() as u64);
    assert_eq!(
        offsets.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>(),
        lengths.collect::<Vec<_>>()
    );
    for (given, other) in given.tensors.iter().zip(&other.tensors) {
        let rows = |tensor: &ShardTensor| -> Vec<Vec<u8>> {
            tensor.values.chunks(WIDTH * 4).map(<[u8]>::to_vec).collect()
        };
        let (given_rows, mut other_rows) = (rows(given), rows(other));
        if given.pooling == Pooling::Full {
            for span in offsets.windows(2) {
                other_rows[span[0] as usize..span[1] as usize].reverse();
            }
        }
        assert_eq!(given_rows, other_rows, "layer {} {}", given.layer, given.pooling);
    }
}

#[test]
fn a_batch_that_finds_no_room_is_halved_until_it_does() {
    let (folder, whole) = model();
    let examples = examples();
    let set = set(&whole, folder, StoredDtype::F32);
    let all = shard(&examples, 0, examples.len());
    let expected = embed(&whole, &set, &all, &mut |_| {}).unwrap();
    let cramped = model().1.wrapped(|network| Box::new(Cramped(network, 60)));
    let mut rows = 0;
    let found = embed(&cramped, &set, &all, &mut |done| rows += done).unwrap();
    assert_eq!(found, expected);
    assert_eq!(rows, examples.len() as u64);
    assert!(cramped.tokens_per_batch() < 60 * 2, "{}", cramped.tokens_per_batch());
}

#[test]
fn a_sequence_that_fits_no_device_is_named() {
    let (folder, _) = model();
    let cramped = model().1.wrapped(|network| Box::new(Cramped(network, 30)));
    let examples = examples();
    let set = set(&cramped, folder, StoredDtype::F32);
    let all = shard(&examples, 0, examples.len());
    let error = embed(&cramped, &set, &all, &mut |_| {}).unwrap_err().chain();
    assert!(error.contains("example e5") && error.contains("do not fit the device"), "{error}");
}

#[test]
fn rows_pooled_on_a_device_have_the_bytes_of_rows_pooled_on_the_host() {
    let (folder, _) = model();
    let device = Device::Cuda(Gpu::for_tests().unwrap());
    let open = || crate::models::open_on(&folder, &ModelOptions::default(), &device).unwrap();
    let (there, here) = (open(), open().wrapped(|network| Box::new(OnHost(network))));
    let few = shard(&examples(), 0, 4);
    let (tokens, nucleotides) = (FullRows::Tokens, FullRows::Nucleotides);
    for dtype in [StoredDtype::F32, StoredDtype::F16, StoredDtype::Bf16] {
        for (strands, full_rows, mean_over) in [
            (Strands::Forward, tokens, MeanOver::Published),
            (Strands::Forward, tokens, MeanOver::All),
            (Strands::Forward, nucleotides, MeanOver::Nucleotides),
            (Strands::Averaged, nucleotides, MeanOver::Published),
            (Strands::Averaged, nucleotides, MeanOver::Nucleotides),
            (Strands::Averaged, nucleotides, MeanOver::All),
        ] {
            let options = RepresentationOptions { strands, mean_over, full_rows };
            let mut set = SetSpec { options, ..set(&there, folder.clone(), dtype) };
            set.layers = vec![0, 1];
            let found = embed(&there, &set, &few, &mut |_| {}).unwrap();
            let expected = embed(&here, &set, &few, &mut |_| {}).unwrap();
            assert_eq!(found, expected, "{dtype:?} {options:?}");
        }
    }
}

#[test]
fn every_nucleotide_has_a_row_of_its_own_sequence_made_on_a_device() {
    let (folder, model) = model();
    let gpu = Gpu::for_tests().unwrap();
    let pairs = paired(&examples()[..4]);
    for strands in [Strands::Forward, Strands::Averaged] {
        let full_rows = FullRows::Nucleotides;
        let options = RepresentationOptions { strands, full_rows, ..Default::default() };
        let set = SetSpec { options, ..set(&model, folder.clone(), StoredDtype::F16) };
        let tokens = tokenize(&model, &set, &pairs).unwrap();
        let rows = Rows::new(&set, &model, &pairs, &tokens).unwrap();
        let members = [2, 0, 3];
        let sequences = members.iter().flat_map(|&member| &tokens[member].sequences);
        let ids = sequences.clone().flatten().map(|strand| strand.ids.as_slice());
        let batch = TokenBatch::pack(ids);
        let states: Vec<f32> =
            (0..batch.token_count() * WIDTH).map(|i| (i % 1009) as f32 / 64.0 - 8.0).collect();
        let states = DeviceArray::from_slice(&gpu, &states).unwrap();
        let made =
            pooled_rows(&rows.source, Pooling::Full, states.view(), &batch.offsets, &members);
        let (made, row_bytes) = (made.unwrap().expect("on the device"), rows.source.row_bytes());
        let on_host = states.to_vec().unwrap();
        let mut first = 0;
        for (number, strands) in sequences.enumerate() {
            let spans = &batch.offsets[first..=first + strands.len()];
            first += strands.len();
            let expected = rows.source.row(Pooling::Full, &on_host, spans, strands, "").unwrap();
            assert_eq!(made.of(number, row_bytes), expected, "sequence {number}");
        }
    }
}
