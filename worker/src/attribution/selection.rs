//! The sequences with the highest outputs of a network, in bounded memory.
//!
//! Leaves out: computing outputs. Invariant: ties are in the order of the file, whatever came between.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The `count` highest of what was pushed.
#[derive(Clone, Debug)]
pub struct Highest<T> {
    count: usize,
    pushed: u64,
    kept: BTreeMap<Place, T>,
}

/// Highest output first, then first come.
#[derive(Clone, Copy, Debug)]
struct Place {
    output: f32,
    row: u64,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        other.output.total_cmp(&self.output).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place {}

impl<T> Highest<T> {
    /// Keeps `count` at most.
    pub fn new(count: usize) -> Self {
        Self { count, pushed: 0, kept: BTreeMap::new() }
    }

    /// Takes the next row of the file; what is no number counts as lowest.
    pub fn push(&mut self, output: f32, value: T) {
        // A sum with zero makes one zero of two.
        let output = if output.is_nan() { f32::NEG_INFINITY } else { output + 0.0 };
        self.kept.insert(Place { output, row: self.pushed }, value);
        self.pushed += 1;
        if self.kept.len() > self.count {
            self.kept.pop_last();
        }
    }

    /// What was kept, highest first.
    pub fn finish(self) -> Vec<T> {
        self.kept.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_come_first_and_ties_in_the_order_of_the_file() {
        let mut highest = Highest::new(4);
        let outputs = [1.0, f32::NAN, 3.0, -0.0, 3.0, 0.0, -2.0, 1.0];
        outputs.into_iter().enumerate().for_each(|(row, output)| highest.push(output, row));
        assert_eq!(highest.finish(), [2, 4, 0, 7]);
        let mut all = Highest::new(9);
        [-0.0, f32::NAN, 0.0].into_iter().enumerate().for_each(|(row, out)| all.push(out, row));
        assert_eq!(all.finish(), [0, 2, 1]);
    }
}
