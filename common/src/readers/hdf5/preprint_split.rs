//! The split of the preprint's lentiMPRA files, which store none: 10 % test, then 10 % valid.
//!
//! Leaves out: every other use of NumPy's generator. Invariant: the test rows are those of
//! scikit-learn's `train_test_split(test_size=0.1, random_state=42)`; the second cut is assumed to
//! have used the same state, which is not on record.

use crate::example::Split;

const SEED: u32 = 42;
const TEST_SHARE: f64 = 0.1;

/// The split of each of `rows` rows.
///
/// Source: scikit-learn `ShuffleSplit` and NumPy `RandomState.permutation`.
pub(super) fn splits(rows: usize) -> Vec<Split> {
    let mut splits = vec![Split::Train; rows];
    let permutation = Mt19937::new(SEED).permutation(rows);
    let (test, rest) = permutation.split_at(held_out(rows));
    let valid = Mt19937::new(SEED).permutation(rest.len());
    let valid = valid.iter().take(held_out(rest.len())).filter_map(|&index| rest.get(index));
    for (&row, split) in test
        .iter()
        .zip(std::iter::repeat(Split::Test))
        .chain(valid.zip(std::iter::repeat(Split::Valid)))
    {
        if let Some(slot) = splits.get_mut(row) {
            *slot = split;
        }
    }
    splits
}

/// scikit-learn rounds the held-out share up.
fn held_out(rows: usize) -> usize {
    ((TEST_SHARE * rows as f64).ceil() as usize).min(rows)
}

/// Mersenne Twister (Matsumoto, Nishimura 1998), as NumPy's `RandomState` seeds and draws it.
struct Mt19937 {
    state: [u32; STATE],
    next: usize,
}

const STATE: usize = 624;
const SHIFT: usize = 397;

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [0_u32; STATE];
        let mut last = seed;
        state[0] = seed;
        for (index, word) in (0_u32..).zip(&mut state).skip(1) {
            last = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(index);
            *word = last;
        }
        Self { state, next: STATE }
    }

    fn twist(&mut self) {
        for index in 0..STATE {
            let mixed =
                (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % STATE] & 0x7fff_ffff);
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + SHIFT) % STATE] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.next >= STATE {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Uniform in 0..=`last` by masking and drawing again; `last` is below 2^32.
    fn up_to(&mut self, last: usize) -> usize {
        let mask = last.checked_next_power_of_two().map_or(usize::MAX, |power| {
            if power == last { power.saturating_mul(2) - 1 } else { power - 1 }
        });
        loop {
            let value = self.next_u32() as usize & mask;
            if value <= last {
                return value;
            }
        }
    }

    fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let other = self.up_to(last);
            order.swap(last, other);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_is_that_of_numpy() {
        // numpy.random.RandomState(42).permutation(10)
        assert_eq!(Mt19937::new(42).permutation(10), [8, 1, 5, 0, 7, 2, 9, 4, 3, 6]);
    }

    #[test]
    fn sizes_are_those_of_the_preprint() {
        let splits = splits(139_877);
        let count = |split| splits.iter().filter(|&&found| found == split).count();
        assert_eq!(count(Split::Train), 113_300);
        assert_eq!(count(Split::Valid), 12_589);
        assert_eq!(count(Split::Test), 13_988);
    }
}
