//! The long convolution of sequences that lie in the output, block of channels by block.
//!
//! Leaves out: gates. Invariant: a sequence's number of points depends on its own length alone;
//! beside the output, memory holds one block's points and spectrum at a time for a long sequence.

use super::filter::Hidden;
use super::gate::Columns;
use super::spectra::Spectra;
use super::{HyenaOperator, points_for};
use crate::error::Result;
use crate::isa::Isa;
use crate::ops::fft::vector::Point;
use crate::ops::fft::{Execution, Transform};
use crate::parallel::SharedRows;
use rayon::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

/// Points up to which each thread works on a block of its own.
const POINTS_PER_THREAD_MAX: usize = 1 << 14;
/// Points below which a second thread does not pay.
const POINTS_PER_TASK_MIN: usize = 1 << 10;

thread_local! {
    /// Points of the block this thread works on, kept between calls.
    static BUFFER: Cell<Vec<Point>> = const { Cell::new(Vec::new()) };
}

/// Convolves each sequence of `out` in place, the skip included.
pub(super) fn convolve(
    operator: &HyenaOperator,
    offsets: &[usize],
    out: &SharedRows<'_>,
) -> Result<()> {
    let sequences = offsets.windows(2).map(|pair| pair[0]..pair[1]).filter(|it| !it.is_empty());
    let (short, long): (Vec<_>, Vec<_>) =
        sequences.partition(|tokens| points_for(tokens.len()) <= POINTS_PER_THREAD_MAX);
    Short::new(operator, short, out)?.run();
    for tokens in long {
        let mut long = Long::new(operator, tokens)?;
        (0..operator.blocks()).for_each(|block| long.run(block, out));
    }
    Ok(())
}

/// Sequences whose blocks are independent tasks.
struct Short<'a> {
    operator: &'a HyenaOperator,
    sequences: Vec<Range<usize>>,
    /// By number of points.
    spectra: BTreeMap<usize, (Arc<Transform>, Spectra)>,
    out: &'a SharedRows<'a>,
}

impl<'a> Short<'a> {
    fn new(
        operator: &'a HyenaOperator,
        sequences: Vec<Range<usize>>,
        out: &'a SharedRows<'a>,
    ) -> Result<Self> {
        let mut spectra = BTreeMap::new();
        for tokens in &sequences {
            let points = points_for(tokens.len());
            if let Entry::Vacant(entry) = spectra.entry(points) {
                entry.insert((Transform::of(points), operator.spectra(points)?));
            }
        }
        Ok(Self { operator, sequences, spectra, out })
    }

    /// One block's sequences follow each other, as they share a spectrum.
    fn run(&self) {
        let points: usize = self.sequences.iter().map(|tokens| points_for(tokens.len())).sum();
        let wanted = points * self.operator.blocks() / POINTS_PER_TASK_MIN;
        let items = self.sequences.len() * self.operator.blocks();
        let item = |index: usize| {
            let tokens = &self.sequences[index % self.sequences.len()];
            self.item(tokens, index / self.sequences.len());
        };
        if wanted > 1 && rayon::current_num_threads() > 1 {
            (0..items).into_par_iter().with_min_len(items.div_ceil(wanted)).for_each(item);
        } else {
            (0..items).for_each(item);
        }
    }

    /// Convolves one block of one sequence.
    fn item(&self, tokens: &Range<usize>, block: usize) {
        let Some((transform, spectra)) = self.spectra.get(&points_for(tokens.len())) else {
            return;
        };
        let mut buffer = BUFFER.take();
        let places = transform.places();
        buffer.resize(buffer.len().max(places), Point::ZERO);
        let how = Execution { isa: Isa::best(), parallel: false };
        let columns = Columns::new(self.out, self.operator.width(), tokens.clone(), block);
        in_place(how, transform, &mut buffer[..places], &spectra[block], &columns);
        BUFFER.set(buffer);
    }
}

/// One sequence whose blocks follow each other, all threads on each.
struct Long<'a> {
    operator: &'a HyenaOperator,
    tokens: Range<usize>,
    transform: Arc<Transform>,
    how: Execution,
    buffer: Vec<Point>,
    spectra: Source,
}

/// Where a block's spectrum comes from.
enum Source {
    Kept(Spectra),
    /// What all blocks share, and the spectrum of one.
    Computed(Hidden, Vec<Point>),
}

impl<'a> Long<'a> {
    fn new(operator: &'a HyenaOperator, tokens: Range<usize>) -> Result<Self> {
        let points = points_for(tokens.len());
        let transform = Transform::of(points);
        let places = transform.places();
        let bytes = operator.blocks() * places * size_of::<Point>();
        let spectra = if operator.cache.holds(bytes) {
            Source::Kept(operator.spectra(points)?)
        } else {
            let hidden = operator.filter.hidden(points.min(operator.filter.length_max()))?;
            Source::Computed(hidden, vec![Point::ZERO; places])
        };
        let how = Execution { isa: Isa::best(), parallel: rayon::current_num_threads() > 1 };
        Ok(Self { operator, tokens, transform, how, buffer: vec![Point::ZERO; places], spectra })
    }

    fn run(&mut self, block: usize, out: &SharedRows<'_>) {
        let spectrum = match &mut self.spectra {
            Source::Kept(spectra) => &spectra[block],
            Source::Computed(hidden, spectrum) => {
                self.operator.spectrum(self.how, &self.transform, hidden, block, spectrum);
                spectrum
            }
        };
        let columns = Columns::new(out, self.operator.width(), self.tokens.clone(), block);
        in_place(self.how, &self.transform, &mut self.buffer, spectrum, &columns);
    }
}

/// Convolves `columns` in place; the caller has no other use of them.
fn in_place(
    how: Execution,
    transform: &Transform,
    buffer: &mut [Point],
    spectrum: &[Point],
    columns: &Columns<'_>,
) {
    // SAFETY: while positions are read, none is written.
    let source = |first: usize, run: &mut [Point]| unsafe { columns.read(first, run) };
    // SAFETY: each position is written by one thread, after all were read.
    let sink = |first: usize, run: &mut [Point]| unsafe { columns.write(first, run) };
    transform.convolve(how, buffer, spectrum, &source, &sink);
}
