use super::*;
use Architecture::*;
use ChipFront::*;

fn one(length: usize, channels: usize) -> Vec<Extent> {
    vec![Extent::Sequence { length, channels }]
}

fn two(length: usize, channels: usize) -> Vec<Extent> {
    one(length, channels).repeat(2)
}

fn vector(channels: usize) -> Vec<Extent> {
    vec![Extent::Vector { channels }]
}

/// Every network of the study with its inputs, targets, all parameters, trained parameters.
fn published() -> Vec<(Architecture, Vec<Extent>, usize, u64, u64)> {
    vec![
        (RepCnn { factor: 0.5, reduce: 196 }, one(41, 2560), 1, 835_943, 829_603),
        (RepCnn { factor: 1.0, reduce: 196 }, one(41, 2560), 1, 1_531_913, 1_524_353),
        (RepCnn { factor: 2.0, reduce: 196 }, one(41, 2560), 1, 4_040_525, 4_030_525),
        (RepCnn { factor: 0.5, reduce: 128 }, one(230, 512), 1, 639_723, 637_479),
        (RepCnn { factor: 1.0, reduce: 128 }, one(230, 512), 1, 2_173_781, 2_170_317),
        (RepCnn { factor: 2.0, reduce: 128 }, one(230, 512), 1, 8_128_041, 8_122_137),
        (RepCnn { factor: 0.5, reduce: 128 }, one(59, 768), 1, 378_603, 375_847),
        (RepCnn { factor: 1.0, reduce: 128 }, one(59, 768), 1, 1_027_925, 1_023_949),
        (RepCnn { factor: 2.0, reduce: 128 }, one(59, 768), 1, 3_443_241, 3_436_825),
        (RepCnn { factor: 0.5, reduce: 128 }, one(232, 256), 1, 605_931, 604_199),
        (RepCnn { factor: 1.0, reduce: 128 }, one(232, 256), 1, 2_139_989, 2_137_037),
        (RepCnn { factor: 2.0, reduce: 128 }, one(232, 256), 1, 8_094_249, 8_088_857),
        (RepCnn { factor: 0.5, reduce: 128 }, one(960, 16), 1, 1_786_667, 1_785_415),
        (RepCnn { factor: 1.0, reduce: 128 }, one(960, 16), 1, 6_957_973, 6_955_501),
        (RepCnn { factor: 2.0, reduce: 128 }, one(960, 16), 1, 27_461_225, 27_456_313),
        (RepCnn { factor: 1.0, reduce: 196 }, one(230, 4), 1, 2_200_361, 2_197_913),
        (RepMlp { factor: 0.5 }, vector(2560), 1, 690_177, 689_409),
        (RepMlp { factor: 1.0 }, vector(2560), 1, 1_445_889, 1_444_353),
        (RepMlp { factor: 2.0 }, vector(2560), 1, 3_153_921, 3_150_849),
        (RepMlp { factor: 0.5 }, vector(512), 1, 165_889, 165_121),
        (RepMlp { factor: 1.0 }, vector(512), 1, 397_313, 395_777),
        (RepMlp { factor: 2.0 }, vector(512), 1, 1_056_769, 1_053_697),
        (RepMlp { factor: 0.5 }, vector(768), 1, 231_425, 230_657),
        (RepMlp { factor: 1.0 }, vector(768), 1, 528_385, 526_849),
        (RepMlp { factor: 2.0 }, vector(768), 1, 1_318_913, 1_315_841),
        (RepMlp { factor: 0.5 }, vector(256), 1, 100_353, 99_585),
        (RepMlp { factor: 1.0 }, vector(256), 1, 266_241, 264_705),
        (RepMlp { factor: 2.0 }, vector(256), 1, 794_625, 791_553),
        (Named(&named::mprann::NETWORK), one(230, 4), 1, 3_959_451, 3_957_751),
        (Named(&named::resnet::NETWORK), one(230, 4), 1, 1_395_077, 1_390_797),
        (ChipCnn { front: Normalised }, one(36, 2560), 1, 1_678_753, 1_672_545),
        (ChipCnn { front: Raw }, one(200, 512), 1, 521_121, 520_033),
        (ChipCnn { front: Reduced }, one(200, 512), 1, 783_777, 782_689),
        (ChipCnn { front: Raw }, one(57, 768), 1, 471_969, 470_881),
        (ChipCnn { front: Normalised }, one(57, 768), 1, 754_081, 751_457),
        (ChipCnn { front: Raw }, one(53, 768), 1, 471_969, 470_881),
        (ChipCnn { front: Normalised }, one(53, 768), 1, 754_081, 751_457),
        (ChipCnn { front: Raw }, one(202, 256), 1, 406_433, 405_345),
        (ChipCnn { front: Normalised }, one(202, 256), 1, 653_729, 652_129),
        (ChipCnn { front: Raw }, one(960, 16), 1, 1_085_345, 1_084_257),
        (ChipCnn { front: Normalised }, one(960, 16), 1, 1_316_321, 1_315_201),
        (ChipCnn { front: Raw }, one(200, 4), 1, 293_537, 292_449),
        (ChipCnn { front: Reduced }, one(200, 4), 1, 523_681, 522_593),
        (RepMlp { factor: 1.0 }, vector(4), 1, 137_217, 135_681),
        (RepMlp { factor: 1.0 }, vector(16), 1, 143_361, 141_825),
        (RepMlp { factor: 1.0 }, vector(2560), 1, 1_445_889, 1_444_353),
        (RbpCnn, one(1000, 4), 120, 383_480, 381_304),
        (InsertCnn, one(173, 4), 1, 275_441, 274_417),
        (InsertCnn, one(34, 2560), 1, 398_129, 397_105),
        (InsertCnn, one(46, 768), 1, 312_113, 311_089),
        (InsertCnn, one(173, 512), 1, 299_825, 298_801),
        (InsertCnn, one(175, 256), 1, 287_537, 286_513),
        (InsertCnn, one(960, 16), 1, 276_017, 274_993),
        (InsertCnn, one(100, 192), 1, 284_465, 283_441),
        (SplicingCnn { is_reduced: false }, two(400, 4), 56, 2_046_316, 2_043_940),
        (SplicingCnn { is_reduced: false }, two(71, 2560), 56, 5_250_412, 5_248_036),
        (SplicingCnn { is_reduced: true }, two(71, 2560), 56, 4_223_340, 4_210_724),
        (SplicingCnn { is_reduced: false }, two(270, 768), 56, 2_825_580, 2_823_204),
        (SplicingCnn { is_reduced: false }, two(400, 512), 56, 2_956_652, 2_954_276),
        (SplicingCnn { is_reduced: false }, two(402, 256), 56, 2_497_900, 2_495_524),
        (SplicingCnn { is_reduced: false }, two(960, 16), 56, 4_361_580, 4_359_204),
        (SplicingCnn { is_reduced: false }, two(100, 192), 56, 1_138_028, 1_135_652),
        (RepMlp { factor: 1.0 }, vector(5120), 56, 2_770_744, 2_769_208),
        (Linear, vector(5120), 56, 286_776, 286_776),
    ]
}

#[test]
fn every_network_of_the_study_has_its_number_of_parameters() {
    for (architecture, inputs, targets, total, trained) in published() {
        let network = architecture.network(&inputs, targets).unwrap().resolve(&inputs).unwrap();
        let found = (network.parameters(), network.trained_parameters());
        assert_eq!(found, (total, trained), "{architecture:?} on {inputs:?}");
    }
}

#[test]
fn left_and_right_vectors_are_one_vector_to_dense_networks() {
    for architecture in [Linear, RepMlp { factor: 1.0 }] {
        let parameters = |inputs: &[Extent]| {
            architecture.network(inputs, 56).unwrap().resolve(inputs).unwrap().parameters()
        };
        assert_eq!(parameters(&vector(20)), parameters(&vector(10).repeat(2)));
        assert_eq!(parameters(&vector(20)), parameters(&one(5, 4)));
        assert_eq!(parameters(&vector(40)), parameters(&two(5, 4)));
    }
}

#[test]
fn what_a_network_cannot_read_is_refused() {
    let refused = |architecture: Architecture, inputs: &[Extent]| {
        architecture.network(inputs, 1).unwrap_err().chain()
    };
    assert!(refused(Named(&named::mprann::NETWORK), &two(230, 4)).contains("1 inputs"));
    assert!(refused(Named(&named::resnet::NETWORK), &vector(8)).contains("expected a sequence"));
    assert!(refused(RbpCnn, &one(9, 4)).contains("pool1"));
}

#[test]
fn layers_of_the_users_own_must_end_in_one_value_for_each_target() {
    let text = r#"{"inputs": ["sequence"], "layers":
        [{"name": "flat", "inputs": ["sequence"], "kind": "flatten"}]}"#;
    let own = Layers(serde_json::from_str(text).unwrap());
    own.network(&one(2, 4), 8).unwrap();
    let error = own.network(&one(2, 4), 1).unwrap_err().chain();
    assert!(error.contains("layer flat") && error.contains("a vector of 1 values"), "{error}");
    assert!(error.contains("found a vector of 8"), "{error}");
}
