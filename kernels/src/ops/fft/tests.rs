use super::vector::LANES;
use super::*;

/// Unrelated values in -1..1.
fn value(i: usize) -> f32 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Lane `l` of position `t`, zero from `length` on.
fn fill(seed: usize, length: usize, scale: f32) -> impl Fn(usize, &mut [Point]) + Sync {
    move |first, run| {
        for (t, point) in (first..).zip(run) {
            let at = |lane| if t < length { value(seed + t * LANES + lane) * scale } else { 0.0 };
            point.re = std::array::from_fn(at);
        }
    }
}

fn convolved(how: Execution, length: usize, filter_length: usize) -> Vec<Vec<f32>> {
    let transform = Transform::of(points_for(length));
    let mut spectrum = vec![Point::ZERO; transform.places()];
    let scale = 1.0 / transform.points() as f32;
    transform.forward(how, &mut spectrum, &fill(7, filter_length, scale));
    let mut buffer = vec![Point { re: [9.0; LANES], im: [f32::NAN; LANES] }; transform.places()];
    let found = Mutex::new(vec![vec![0.0; LANES]; length]);
    transform.convolve(how, &mut buffer, &spectrum, &fill(1_000, length, 1.0), &|first, run| {
        let mut found = found.lock().unwrap();
        for (t, point) in (first..length).zip(run) {
            found[t].copy_from_slice(&point.re);
        }
    });
    found.into_inner().unwrap()
}

const ALONE: Execution = Execution { isa: Isa::Baseline, parallel: false };

fn best(parallel: bool) -> Execution {
    Execution { isa: Isa::best(), parallel }
}

#[test]
fn convolution_is_the_direct_sum() {
    let lengths = [1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 48, 49, 63, 64, 65, 80, 81, 96, 97, 127];
    for length in lengths.into_iter().chain([128, 160, 161, 192, 256, 320, 384, 500, 640, 1000]) {
        let found = convolved(best(false), length, points_for(length));
        for (t, found) in found.iter().enumerate() {
            for lane in [0, 5, 15] {
                let term = |r: usize| {
                    f64::from(value(7 + r * LANES + lane))
                        * f64::from(value(1_000 + (t - r) * LANES + lane))
                };
                let expected: f64 = (0..=t).map(term).sum();
                let error = (f64::from(found[lane]) - expected).abs();
                assert!(error < 3e-7 * (length as f64).sqrt(), "{length} {t} {lane}: {error}");
            }
        }
    }
}

#[test]
fn long_convolutions_agree_with_the_direct_sum_at_some_positions() {
    for length in [2048, 5000, 16_384, 17_000, 24_000, 32_768, 40_000, 70_000] {
        let found = convolved(best(true), length, length);
        for t in [0, 1, 100, length / 2, length - 2, length - 1] {
            for lane in [0, 15] {
                let term = |r: usize| {
                    f64::from(value(7 + r * LANES + lane))
                        * f64::from(value(1_000 + (t - r) * LANES + lane))
                };
                let expected: f64 = (0..=t).map(term).sum();
                let error = (f64::from(found[t][lane]) - expected).abs();
                assert!(error < 3e-7 * (length as f64).sqrt(), "{length} {t} {lane}: {error}");
            }
        }
    }
}

#[test]
fn every_instruction_set_and_any_threads_give_the_same_bits() {
    for length in [1, 40, 70, 200, 300, 640, 1500, 17_000] {
        let expected = convolved(ALONE, length, length);
        for isa in Isa::available() {
            let found = convolved(Execution { isa, parallel: false }, length, length);
            assert!(found == expected, "{isa:?} {length}");
        }
        assert!(convolved(best(true), length, length) == expected, "{length}");
    }
}

#[test]
fn a_filter_longer_than_the_signal_does_not_wrap() {
    for length in [17, 100, 640] {
        let short = convolved(best(false), length, length);
        let long = convolved(best(false), length, points_for(length));
        for (short, long) in short.iter().flatten().zip(long.iter().flatten()) {
            assert!((short - long).abs() < 2e-5, "{length}: {short} {long}");
        }
    }
}
