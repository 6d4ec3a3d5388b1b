//! Batches of examples, the next one gathered while the current one is trained on.
//!
//! Leaves out: order of rows (order). Invariant: a batch holds the rows asked for, in their order;
//! whoever is done with a batch gives its memory back.

use super::cache::ExampleCache;
use glmeval_common::error::{Error, Result};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Batches in memory at a time: one trained on, one gathered.
const BATCHES_MAX: usize = 2;

/// Targets of all examples, in the layout of one loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    /// Values of one example.
    pub per_example: usize,
    /// `[examples, per_example]`.
    pub values: Vec<f32>,
}

impl Targets {
    /// Targets of example `row`; empty if there is none.
    pub fn row(&self, row: usize) -> &[f32] {
        let start = row.saturating_mul(self.per_example);
        self.values.get(start..start.saturating_add(self.per_example)).unwrap_or(&[])
    }
}

/// What batches are gathered from.
#[derive(Clone, Copy, Debug)]
pub struct BatchSource<'a> {
    /// Features.
    pub cache: &'a ExampleCache,
    /// Values of each input of the network; they stand side by side in a row.
    pub inputs: &'a [usize],
    /// Targets.
    pub targets: &'a Targets,
    /// Examples of a batch; the last may have fewer.
    pub batch_rows: usize,
}

/// One batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// Examples.
    pub rows: usize,
    /// One per input, `[rows, values]`.
    pub inputs: Vec<Vec<f32>>,
    /// `[rows, per_example]`.
    pub targets: Vec<f32>,
}

impl Gathered {
    /// The inputs as a network takes them.
    pub fn input_slices(&self) -> Vec<&[f32]> {
        self.inputs.iter().map(Vec::as_slice).collect()
    }

    fn gather(
        &mut self,
        source: &BatchSource<'_>,
        rows: &[usize],
        memory: &mut Memory,
    ) -> Result<()> {
        self.rows = rows.len();
        self.inputs.resize_with(source.inputs.len(), Vec::new);
        for (input, values) in self.inputs.iter_mut().zip(source.inputs) {
            input.resize(rows.len().saturating_mul(*values), 0.0);
        }
        self.targets.clear();
        let row_values = source.cache.row_values();
        for (place, &row) in rows.iter().enumerate() {
            self.targets.extend_from_slice(source.targets.row(row));
            if let [input] = self.inputs.as_mut_slice() {
                let out = input.get_mut(place * row_values..(place + 1) * row_values);
                source.cache.read(row, &mut memory.bytes, out.unwrap_or(&mut []))?;
                continue;
            }
            memory.row.resize(row_values, 0.0);
            source.cache.read(row, &mut memory.bytes, &mut memory.row)?;
            let mut rest = memory.row.as_slice();
            for (input, &values) in self.inputs.iter_mut().zip(source.inputs) {
                let Some((own, others)) = rest.split_at_checked(values) else { break };
                if let Some(out) = input.get_mut(place * values..(place + 1) * values) {
                    out.copy_from_slice(own);
                }
                rest = others;
            }
        }
        Ok(())
    }
}

/// Memory of the gatherer.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    row: Vec<f32>,
}

/// Calls `take` with the batches of `rows` in order, until it breaks.
///
/// # Errors
/// The first of `take` or of reading.
pub fn for_each_batch(
    source: &BatchSource<'_>,
    rows: &[usize],
    take: &mut dyn FnMut(&Gathered) -> Result<ControlFlow<()>>,
) -> Result<()> {
    if source.inputs.iter().sum::<usize>() != source.cache.row_values() || source.batch_rows == 0 {
        let (inputs, found) = (source.inputs, source.cache.row_values());
        return Err(Error::bug(format!("batches of inputs {inputs:?} from {found} values")));
    }
    let (send, receive) = sync_channel::<Result<Gathered>>(BATCHES_MAX);
    let (give_back, free) = sync_channel::<Gathered>(BATCHES_MAX);
    for _ in 0..BATCHES_MAX {
        // There is room for exactly as many.
        let _ = give_back.send(Gathered::default());
    }
    std::thread::scope(|scope| {
        scope.spawn(move || gather_all(source, rows, &send, &free));
        // Dropped on every way out, so that the gatherer does not wait for a batch that never comes.
        let (receive, give_back) = (receive, give_back);
        for batch in receive {
            let batch = batch?;
            if take(&batch)?.is_break() {
                break;
            }
            // The gatherer may be done.
            let _ = give_back.send(batch);
        }
        Ok(())
    })
}

/// Ends when all is gathered or the other side is gone.
fn gather_all(
    source: &BatchSource<'_>,
    rows: &[usize],
    send: &SyncSender<Result<Gathered>>,
    free: &Receiver<Gathered>,
) {
    let mut memory = Memory::default();
    for rows in rows.chunks(source.batch_rows) {
        let Ok(mut batch) = free.recv() else { return };
        let gathered = batch.gather(source, rows, &mut memory);
        let failed = gathered.is_err();
        if send.send(gathered.map(|()| batch)).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache::RowFormat;
    use super::*;
    use glmeval_common::representation::StoredDtype;

    #[test]
    fn batches_hold_the_rows_asked_for_split_into_inputs() {
        let format = RowFormat::Numbers(StoredDtype::F32);
        let mut cache = ExampleCache::new(format, 3, 5, 24).unwrap();
        let bytes: Vec<u8> = (0..15).flat_map(|i| (i as f32).to_le_bytes()).collect();
        cache.push(&bytes).unwrap();
        let targets = Targets { per_example: 1, values: vec![0.0, 10.0, 20.0, 30.0, 40.0] };
        let source =
            BatchSource { cache: &cache, inputs: &[1, 2], targets: &targets, batch_rows: 2 };
        let mut seen = Vec::new();
        for_each_batch(&source, &[4, 0, 3], &mut |batch| {
            seen.push(batch.clone());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(seen[0].inputs, [vec![12.0, 0.0], vec![13.0, 14.0, 1.0, 2.0]]);
        assert_eq!((seen[1].rows, &seen[1].targets), (1, &vec![30.0]));
        let stop = &mut |_: &Gathered| Ok(ControlFlow::Break(()));
        for_each_batch(&source, &[0, 1, 2, 3, 4, 0, 1, 2, 3, 4], stop).unwrap();
        assert!(for_each_batch(&source, &[7], &mut |_| Ok(ControlFlow::Continue(()))).is_err());
    }
}
