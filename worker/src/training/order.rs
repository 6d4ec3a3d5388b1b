//! In which order an epoch sees its examples.
//!
//! Leaves out: where examples lie. Invariant: an order depends on the rows, the seed and the epoch
//! alone.

use glmeval_common::network::ExampleOrder;
use glmeval_common::rng::Rng;

/// The rows of epoch `epoch`, in the order they are seen.
///
/// Buffered: the buffer starts with the first rows; each draw takes one of it at random, and the next
/// row in its place.
///
/// Source: TensorFlow `tf.data.Dataset.shuffle` with `reshuffle_each_iteration`.
pub fn epoch_order(order: ExampleOrder, rows: &[usize], seed: u64, epoch: u32) -> Vec<usize> {
    let mut rng = Rng::derive(seed, &format!("epoch {epoch}"));
    match order {
        ExampleOrder::Stored => rows.to_vec(),
        ExampleOrder::Shuffled => {
            let mut rows = rows.to_vec();
            rng.shuffle(&mut rows);
            rows
        }
        ExampleOrder::Buffered { rows: size } => {
            let size = usize::try_from(size).unwrap_or(usize::MAX).clamp(1, rows.len().max(1));
            let (first, rest) = rows.split_at(size.min(rows.len()));
            let mut buffer = first.to_vec();
            let mut rest = rest.iter();
            let mut drawn = Vec::with_capacity(rows.len());
            while !buffer.is_empty() {
                let at = usize::try_from(rng.below(buffer.len() as u64)).unwrap_or(0);
                match rest.next() {
                    Some(&next) => drawn.push(std::mem::replace(&mut buffer[at], next)),
                    None => drawn.push(buffer.swap_remove(at)),
                }
            }
            drawn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [usize; 9] = [3, 5, 8, 9, 10, 11, 20, 21, 22];

    fn order(order: ExampleOrder, epoch: u32) -> Vec<usize> {
        epoch_order(order, &ROWS, 7, epoch)
    }

    #[test]
    fn every_epoch_sees_every_row_once() {
        for kind in [
            ExampleOrder::Stored,
            ExampleOrder::Shuffled,
            ExampleOrder::Buffered { rows: 4 },
            ExampleOrder::Buffered { rows: 0 },
            ExampleOrder::Buffered { rows: u32::MAX },
        ] {
            let mut rows = order(kind, 3);
            assert_eq!(rows, order(kind, 3));
            rows.sort_unstable();
            assert_eq!(rows, ROWS);
            assert_eq!(epoch_order(kind, &[], 7, 1), [] as [usize; 0]);
        }
    }

    #[test]
    fn epochs_differ_unless_stored() {
        assert_eq!(order(ExampleOrder::Stored, 1), ROWS);
        assert_ne!(order(ExampleOrder::Shuffled, 1), order(ExampleOrder::Shuffled, 2));
        let buffered = ExampleOrder::Buffered { rows: 5 };
        assert_ne!(order(buffered, 1), order(buffered, 2));
    }

    #[test]
    fn a_buffer_draws_no_row_before_it_came_in() {
        let drawn = order(ExampleOrder::Buffered { rows: 3 }, 1);
        for (place, row) in drawn.iter().enumerate() {
            let stored = ROWS.iter().position(|known| known == row).unwrap();
            assert!(stored <= place + 2, "{drawn:?}");
        }
        assert_eq!(order(ExampleOrder::Buffered { rows: 1 }, 1), ROWS);
    }
}
