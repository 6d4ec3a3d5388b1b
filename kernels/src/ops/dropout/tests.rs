use super::*;

const MASK: DropoutMask = DropoutMask { seed: 11, step: 3, layer: 2, rate: 0.25 };

fn drop_ones(mask: DropoutMask, count: usize) -> Vec<f32> {
    let mut out = vec![9.0; count];
    dropout(&mask, &vec![1.0; count], &mut out).unwrap();
    out
}

/// Known answers of the Random123 library for Philox4x32-10.
#[test]
fn bits_are_those_of_the_published_generator() {
    let run = |counter: [u32; 4], [low, high]: [u32; 2]| {
        let seed = u64::from(low) | (u64::from(high) << 32);
        philox(counter, &DropoutMask { seed, ..MASK }.keys())
    };
    assert_eq!(run([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(
        run([u32::MAX; 4], [u32::MAX; 2]),
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
    );
    assert_eq!(
        run([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

#[test]
fn elements_are_dropped_at_the_rate_and_the_mean_stays() {
    for rate in [0.1_f32, 0.5, 0.9] {
        let out = drop_ones(DropoutMask { rate, ..MASK }, 100_000);
        let dropped = out.iter().filter(|&&x| x == 0.0).count() as f32 / 1e5;
        assert!((dropped - rate).abs() < 0.006, "{rate}: {dropped}");
        let mean = out.iter().sum::<f32>() / 1e5;
        assert!((mean - 1.0).abs() < 0.03, "{rate}: {mean}");
    }
    assert_eq!(drop_ones(DropoutMask { rate: 0.0, ..MASK }, 100), [1.0; 100]);
}

#[test]
fn seed_step_and_layer_each_make_another_mask() {
    let base = drop_ones(MASK, 1000);
    let others = [
        DropoutMask { seed: 12, ..MASK },
        DropoutMask { seed: 11 + (1 << 32), ..MASK },
        DropoutMask { step: 4, ..MASK },
        DropoutMask { step: 3 + (1 << 32), ..MASK },
        DropoutMask { layer: 1, ..MASK },
    ];
    for other in others {
        let same = drop_ones(other, 1000).iter().zip(&base).filter(|(a, b)| a == b).count();
        assert!((500..750).contains(&same), "{other:?}: {same}");
    }
}

#[test]
fn an_element_s_fate_depends_on_its_index_alone() {
    let whole = drop_ones(MASK, 200_001);
    assert_eq!(drop_ones(MASK, 77), whole[..77]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(pool.install(|| drop_ones(MASK, 200_001)), whole);
    let mut stream = Stream::new(Some(MASK), 333);
    for first in (0..20_000).step_by(333) {
        let bits = stream.bits(Isa::best(), first, 333).to_vec();
        for (bits, expected) in bits.iter().zip(&whole[first..]) {
            assert_eq!(*bits < MASK.threshold(), *expected == 0.0);
        }
    }
}

#[test]
fn what_is_dropped_is_zero_even_if_it_was_infinite() {
    let mut out = [9.0; 64];
    dropout(&MASK, &[f32::INFINITY; 64], &mut out).unwrap();
    assert!(out.contains(&0.0) && out.contains(&f32::INFINITY));
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let x: Vec<f32> = (0..3000).map(|i| i as f32 * 0.7 - 9.0).collect();
    let run = |isa| {
        let mut out = vec![0.0; x.len()];
        drop_part(isa, MASK, 29, &x, &mut out);
        out
    };
    for isa in Isa::available() {
        assert_eq!(run(isa), run(Isa::Baseline), "{isa:?}");
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    assert!(dropout(&MASK, &[0.0; 2], &mut [0.0; 3]).is_err());
}
