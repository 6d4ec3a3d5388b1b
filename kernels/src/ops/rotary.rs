//! Rotary position embedding of queries and keys.
//!
//! Leaves out: how frequencies were chosen; checkpoints hold them or a model derives them.
//! Invariant: a token's result depends on that token and its position alone.

use crate::error::{KernelError, Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use crate::parallel;
use crate::sequences::Sequences;

pub mod cuda;

/// Cosines and sines of every position and pair.
#[derive(Clone)]
pub struct RotaryTable {
    /// `[length, K/2]`
    cosines: Vec<f32>,
    /// `[length, K/2]`
    sines: Vec<f32>,
    pairs: usize,
    length: usize,
}

impl RotaryTable {
    /// Computes the angles of `length` positions.
    ///
    /// ```text
    /// angle[t,j] = t * inverse_frequencies[j]
    /// ```
    ///
    /// - `inverse_frequencies`: `[K/2]`
    ///
    /// The product is one of f32, as models were trained with; its cosine and sine are computed in
    /// f64 and rounded once.
    pub fn new(inverse_frequencies: &[f32], length: usize) -> Self {
        let (cosines, sines) = (0..length)
            .flat_map(|t| inverse_frequencies.iter().map(move |frequency| t as f32 * frequency))
            .map(|angle| cosine_and_sine(f64::from(angle)))
            .unzip();
        Self { cosines, sines, pairs: inverse_frequencies.len(), length }
    }

    /// Cosines and sines of one position.
    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let part = position * self.pairs..(position + 1) * self.pairs;
        (&self.cosines[part.clone()], &self.sines[part])
    }
}

/// Own forms, as those of the system may differ in the last place from one to the next.
fn cosine_and_sine(angle: f64) -> (f32, f32) {
    // pi/2 in two parts; fused, the first product loses nothing.
    const QUARTER: f64 = std::f64::consts::FRAC_PI_2;
    const QUARTER_LOST: f64 = 6.123_233_995_736_766e-17;
    let quarters = (angle * std::f64::consts::FRAC_2_PI).round_ties_even();
    let r = quarters.mul_add(-QUARTER, angle);
    let r = quarters.mul_add(-QUARTER_LOST, r);
    let (cosine, sine) = (taylor(r * r, 1), r * taylor(r * r, 2));
    let (cosine, sine) = match quarters.rem_euclid(4.0) {
        0.0 => (cosine, sine),
        1.0 => (-sine, cosine),
        2.0 => (-cosine, -sine),
        // The third quarter, or what is not a number.
        _ => (sine, -cosine),
    };
    (cosine as f32, sine as f32)
}

/// Series in the square of x: of the cosine with `first` 1, of the sine over x with 2.
fn taylor(square: f64, first: u8) -> f64 {
    (0..10_u8).rev().fold(1.0, |sum, n| {
        let below = f64::from(2 * n + first);
        (-square / (below * (below + 1.0))).mul_add(sum, 1.0)
    })
}

/// Rotates queries and keys in place by the position of their token within its sequence.
///
/// ```text
/// x[j]       = x[j] cos[t,j] - x[j + K/2] sin[t,j]
/// x[j + K/2] = x[j + K/2] cos[t,j] + x[j] sin[t,j]      for j < K/2 of each head
/// ```
///
/// - `qkv`: `[N, 3 D]`; thirds 0 and 1 are rotated, head `h` has columns `h K..(h+1) K` of each
/// - `offsets`: `[B + 1]` token counts before each sequence, from 0 to N
///
/// The second product of each line is rounded before it is added by a fused multiply-add.
///
/// # Errors
/// `Shape` if `qkv` is not three times `heads` times K values per token, `offsets` do not fit, or
/// a sequence is longer than the table.
///
/// Source: Su et al. 2021, "RoFormer", eq. 34, halves instead of neighbours.
pub fn rotary(qkv: &mut [f32], offsets: &[usize], heads: usize, table: &RotaryTable) -> Result<()> {
    const OP: &str = "rotary";
    let sequences = Sequences::check(OP, offsets)?;
    let width = heads.saturating_mul(table.pairs).saturating_mul(2);
    let tokens = check_rows(OP, "qkv", qkv.len(), width.saturating_mul(3))?;
    check_length(OP, "tokens of qkv", tokens, sequences.token_count())?;
    let longest = sequences.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
    if longest > table.length {
        return Err(KernelError::Shape {
            op: OP,
            operand: "offsets",
            expected: format!("sequences of at most {} tokens", table.length),
            found: format!("{longest} tokens"),
        });
    }
    let isa = Isa::best();
    parallel::for_rows(qkv, 3 * width, |first, rows| {
        for (row, token) in rows.chunks_exact_mut(3 * width).zip(first..) {
            let (cosines, sines) = table.at(token - sequences.around(token).start);
            rotate(isa, &mut row[..2 * width], cosines, sines);
        }
    });
    Ok(())
}

per_isa!(fn rotate(heads: &mut [f32], cosines: &[f32], sines: &[f32]) = rotate_heads);

#[inline(always)]
fn rotate_heads(heads: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let pairs = cosines.len();
    for head in heads.chunks_exact_mut(2 * pairs) {
        let (left, right) = head.split_at_mut(pairs);
        let factors = cosines.iter().zip(sines);
        for ((left, right), (&cosine, &sine)) in left.iter_mut().zip(right).zip(factors) {
            let (x, y) = (*left, *right);
            *left = x.mul_add(cosine, -(y * sine));
            *right = y.mul_add(cosine, x * sine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        (i as f32 * 0.61).sin() * 2.0
    }

    #[test]
    fn angles_agree_with_those_of_the_system() {
        for i in 0..20_000_i32 {
            let angle = f64::from((f64::from(i) * 0.731 - 300.0) as f32);
            let (cosine, sine) = cosine_and_sine(angle);
            // The system may round to the neighbour where f64 is next to the middle of two f32.
            assert!((f64::from(cosine) - angle.cos()).abs() <= 3.1e-8, "cos {angle}");
            assert!((f64::from(sine) - angle.sin()).abs() <= 3.1e-8, "sin {angle}");
        }
        assert_eq!(cosine_and_sine(0.0), (1.0, 0.0));
    }

    #[test]
    fn queries_and_keys_turn_by_their_position_and_values_stay() {
        let frequencies = [std::f32::consts::FRAC_PI_2, 0.0];
        let table = RotaryTable::new(&frequencies, 2);
        let mut qkv: Vec<f32> = (1..=24_u8).map(f32::from).collect();
        rotary(&mut qkv, &[0, 2], 1, &table).unwrap();
        assert!(qkv[..12].iter().zip(1_u8..).all(|(&x, y)| x == f32::from(y)), "{qkv:?}");
        let expected = [-15.0, 14.0, 13.0, 16.0, -19.0, 18.0, 17.0, 20.0, 21.0, 22.0, 23.0, 24.0];
        for (found, expected) in qkv[12..].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{qkv:?}");
        }
    }

    #[test]
    fn a_sequence_has_the_same_bits_alone_and_among_others() {
        let (heads, pairs) = (3, 5);
        let width = 3 * heads * 2 * pairs;
        let frequencies: Vec<f32> = (0..pairs).map(|j| 0.3_f32.powi(j as i32)).collect();
        let table = RotaryTable::new(&frequencies, 900);
        let offsets = [0, 7, 7, 880, 1000];
        let given: Vec<f32> = (0..1000 * width).map(value).collect();
        let mut all = given.clone();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| rotary(&mut all, &offsets, heads, &table)).unwrap();
        for pair in offsets.windows(2) {
            let part = pair[0] * width..pair[1] * width;
            let mut alone = given[part.clone()].to_vec();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            pool.install(|| rotary(&mut alone, &[0, pair[1] - pair[0]], heads, &table)).unwrap();
            assert_eq!(alone, all[part], "{pair:?}");
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for pairs in [1, 16, 33] {
            let table: Vec<f32> = (0..2 * pairs).map(value).collect();
            let run = |isa| {
                let mut heads: Vec<f32> = (0..6 * pairs).map(value).collect();
                rotate(isa, &mut heads, &table[..pairs], &table[pairs..]);
                heads.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            for isa in Isa::available() {
                assert_eq!(run(isa), run(Isa::Baseline), "{isa:?} {pairs}");
            }
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let table = RotaryTable::new(&[1.0], 2);
        let refused = |qkv: &mut [f32], offsets: &[usize], heads| {
            rotary(qkv, offsets, heads, &table).unwrap_err().to_string()
        };
        assert!(refused(&mut [0.0; 12], &[0, 2], 2).contains("has 1 values, expected 2"));
        assert!(refused(&mut [0.0; 13], &[0, 2], 1).contains("qkv"));
        assert!(refused(&mut [0.0; 12], &[0, 2], 0).contains("qkv"));
        assert!(refused(&mut [0.0; 12], &[1, 2], 1).contains("rise from 0"));
        assert!(refused(&mut [0.0; 18], &[0, 3], 1).contains("at most 2 tokens"));
        rotary(&mut [], &[0], 1, &table).unwrap();
    }
}
