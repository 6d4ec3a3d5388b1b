use super::*;
use crate::tile::PanelStep;

/// A xorshift sequence of words.
fn words(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as u32
    }
}

/// A bf16 in the upper half of a word, with its exponent from `lowest..=highest`, or zero.
fn upper(word: u32, lowest: u32, highest: u32) -> u32 {
    let exponent = lowest + (word >> 8) % (highest - lowest + 1);
    if word.is_multiple_of(16) { 0 } else { word & 0x807f_0000 | exponent << 23 }
}

fn operand(word: &mut impl FnMut() -> u32, lowest: u32, highest: u32) -> Step {
    let mut pair = || upper(word(), lowest, highest) | upper(word(), lowest, highest) >> 16;
    Step(std::array::from_fn(|_| Pairs(std::array::from_fn(|_| std::array::from_fn(|_| pair())))))
}

/// Sums after the products, NaN as one value.
fn sums_on(unit: Unit, start: &Sums, rows: usize, left: &[Step], right: &[Step]) -> Vec<u32> {
    let mut sums = *start;
    unit.ready().add_products(&mut sums, None, rows, left, right);
    let used = sums.0[..rows].as_flattened();
    used.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

#[test]
fn every_unit_gives_the_same_bits_for_operands_of_any_size() {
    // Exponents of the operands and of the sums they are added to.
    let sizes = [
        ((120, 130), (120, 130)),
        ((90, 160), (90, 160)),
        ((50, 70), (0, 10)),
        ((58, 66), (0, 3)),
        ((0, 127), (0, 5)),
        ((0, 254), (0, 254)),
        ((182, 192), (240, 254)),
        ((0, 255), (0, 255)),
    ];
    let mut word = words(0x9e37_79b9_7f4a_7c15);
    for ((lowest, highest), (sum_lowest, sum_highest)) in sizes {
        for (rows, steps) in [(1, 1), (16, 3), (17, 2), (32, 5)] {
            let mut start = Sums([[0.0; SIDE]; SIDE]);
            for sum in start.0.as_flattened_mut() {
                let bits = upper(word(), sum_lowest, sum_highest) | word() & 0xffff;
                *sum = f32::from_bits(bits);
            }
            let mut operands = |lowest| {
                (0..steps).map(|_| operand(&mut word, lowest, highest)).collect::<Vec<_>>()
            };
            let (left, right) = (operands(lowest), operands(lowest.max(highest.min(128) / 2)));
            let expected = sums_on(Unit::Emulated(Isa::Baseline), &start, rows, &left, &right);
            for unit in Unit::available() {
                let found = sums_on(unit, &start, rows, &left, &right);
                assert_eq!(found, expected, "{unit:?} {lowest}..={highest} {rows} rows");
            }
        }
    }
}

/// `2^-126 - distance` in units of `2^-152`, as one product added to another.
fn next_to_the_smallest(distance: f32) -> Vec<(Unit, u32)> {
    let (mut left, mut right) = (Step::ZERO, Step::ZERO);
    let small = 2.0_f32.powi(-63).to_bits() >> 16;
    (left.0[0].0[0][0], right.0[0].0[0][0]) = (small, small);
    left.0[0].0[0][1] = (-2.0_f32.powi(-76)).to_bits() >> 16;
    right.0[0].0[1][0] = (distance * 2.0_f32.powi(-76)).to_bits() >> 16;
    let start = Sums([[0.0; SIDE]; SIDE]);
    let first = |unit| sums_on(unit, &start, 1, &[left], &[right])[0];
    Unit::available().into_iter().map(|unit| (unit, first(unit))).collect()
}

#[test]
fn results_below_the_normal_numbers_are_judged_after_rounding() {
    for (distance, expected) in [(1.0, f32::MIN_POSITIVE), (2.0, f32::MIN_POSITIVE), (3.0, 0.0)] {
        for (unit, found) in next_to_the_smallest(distance) {
            assert_eq!(found, expected.to_bits(), "{unit:?} {distance}");
        }
    }
}

/// A panel whose first column is `column`.
fn panel_of(column: &[f32]) -> Vec<PanelStep> {
    let step = |&value| {
        let mut step = PanelStep::ZERO;
        step.0[0] = value;
        step
    };
    column.iter().map(step).collect()
}

#[test]
fn a_worked_step_adds_even_and_odd_products_apart() {
    // Even: 2^24 + 1 - 2^24 loses the one; odd: 1 + 1 stays.
    let row = [4096.0, 1.0, 1.0, 1.0, -4096.0];
    let column = [4096.0, 1.0, 1.0, 1.0, 4096.0];
    let (mut left, mut right) = ([Step::ZERO], [Step::ZERO]);
    pack_row(Isa::best(), &row, 0, &mut left);
    round_panel(Isa::best(), &panel_of(&column), &mut right);
    for unit in Unit::available() {
        let mut start = Sums([[0.0; SIDE]; SIDE]);
        start.0[0][0] = 0.5;
        assert_eq!(sums_on(unit, &start, 1, &left, &right)[0], 2.5_f32.to_bits(), "{unit:?}");
    }
}

#[test]
fn rounding_is_to_the_nearest_even() {
    for (given, expected) in [
        (0x3f80_8000, 0x3f80_0000),
        (0x3f81_8000, 0x3f82_0000),
        (0x3f80_8001, 0x3f81_0000),
        (0xbf80_7fff, 0xbf80_0000),
        (0x7f7f_ffff, 0x7f80_0000),
        (0xff80_0000, 0xff80_0000),
        (0x7f80_0001, 0x7fc0_0000),
        (0xffff_ffff, 0xffff_0000),
        (0x8000_0001, 0x8000_0000),
    ] {
        assert_eq!(pack::rounded(f32::from_bits(given)), expected, "{given:08x}");
    }
}

/// Words of two steps that were full of something else before `pack`.
fn packed(pack: impl Fn(&mut [Step])) -> Vec<u32> {
    let mut steps = [Step([Pairs([[7; HALF]; HALF]); 2]); 2];
    pack(&mut steps);
    steps.iter().flat_map(|step| step.0).flat_map(|half| half.0).flatten().collect()
}

/// One value of a step, `line` being its row of pairs and `place` the pair in it.
fn value(words: &[u32], step: usize, (line, place): (usize, usize), odd: bool) -> f32 {
    let word = words[step * SIDE * HALF + line * HALF + place];
    f32::from_bits(if odd { word & 0xffff_0000 } else { word << 16 })
}

#[test]
fn rows_are_packed_the_same_on_every_instruction_set_with_zeros_for_what_is_missing() {
    let row: Vec<f32> = (0..45).map(|i| i as f32).collect();
    let on = |isa| {
        packed(|steps| {
            pack_row(isa, &row, 5, steps);
            pack_row(isa, &row[..32], 19, steps);
            pack_row(isa, &[], 20, steps);
        })
    };
    let words = on(Isa::Baseline);
    for (place, k) in [(5, 0), (5, 31), (5, 32), (5, 44), (19, 7)] {
        assert_eq!(value(&words, k / 32, (place, k % 32 / 2), k % 2 == 1), row[k], "{place} {k}");
    }
    for (place, step) in [(19, 1), (20, 0), (20, 1)] {
        assert_eq!(value(&words, step, (place, 0), false), 0.0, "{place} {step}");
    }
    assert_eq!(value(&words, 1, (5, 6), true), 0.0, "k beyond the last");
    for isa in Isa::available() {
        assert_eq!(on(isa), words, "{isa:?}");
    }
}

#[test]
fn rows_are_rounded_the_same_on_every_instruction_set_for_values_of_any_kind() {
    let mut word = words(0x2545_f491_4f6c_dd1d);
    // Each exponent, subnormals, infinities and NaN included, with lower halves next to a tie.
    let row: Vec<f32> = (0..64 * STEP_WIDTH as u32)
        .map(|i| {
            let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff][word() as usize % 6];
            f32::from_bits((i % 512) << 23 | word() & 0x007f_0000 | lower)
        })
        .collect();
    let expected: Vec<u32> = row.iter().map(|&x| pack::rounded(x)).collect();
    for isa in Isa::available() {
        let mut steps = [Step::ZERO; 64];
        pack_row(isa, &row, 21, &mut steps);
        for (step, expected) in steps.iter().zip(expected.chunks(STEP_WIDTH)) {
            let found = step.0[1].0[5].map(|pair| [pair << 16, pair & 0xffff_0000]);
            assert_eq!(found.as_flattened(), expected, "{isa:?}");
        }
    }
}

#[test]
fn panels_are_packed_the_same_on_every_instruction_set_with_zeros_for_what_is_missing() {
    let value_at = |k: usize, column: usize| ((k * 32 + column) % 251) as f32;
    let panel: Vec<PanelStep> =
        (0..45).map(|k| PanelStep(std::array::from_fn(|column| value_at(k, column)))).collect();
    let on = |isa| packed(|steps| round_panel(isa, &panel, steps));
    let words = on(Isa::Baseline);
    for (k, column) in [(0, 0), (31, 5), (32, 15), (7, 16), (44, 31)] {
        let line = (column / HALF) * HALF + k % 32 / 2;
        let found = value(&words, k / 32, (line, column % HALF), k % 2 == 1);
        assert_eq!(found, value_at(k, column), "{k} {column}");
    }
    assert_eq!(value(&words, 1, (6, 3), true), 0.0, "k beyond the last");
    assert_eq!(value(&words, 1, (HALF + 7, 3), false), 0.0, "k beyond the last");
    for isa in Isa::available() {
        assert_eq!(on(isa), words, "{isa:?}");
    }
}
