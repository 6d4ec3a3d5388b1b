//! Columns of the gathered input: what some rows of the weights meet at successive positions.
//!
//! Leaves out: rounding. Invariant: beyond a sequence's ends, and beyond the last row of the
//! weights, lie zeros.

use super::Taps;
use crate::isa::per_isa;
use crate::ops::batch_conv1d::Affine;
use crate::tile::{LeftStep, PanelStep, TILE_COLUMNS, TILE_ROWS};
use std::ops::Range;

per_isa!(
    /// Writes twelve rows of the weights, from `row` on, at positions from `position` on.
    pub(super) fn gather_tile(
        taps: &Taps<'_>,
        row: usize,
        position: usize,
        steps: &mut [LeftStep]
    ) = tile_of
);

per_isa!(
    /// Writes 32 rows of the weights, as [`gather_tile`].
    pub(super) fn gather_panel(
        taps: &Taps<'_>,
        row: usize,
        position: usize,
        steps: &mut [PanelStep]
    ) = panel_of
);

#[inline(always)]
fn tile_of(taps: &Taps<'_>, row: usize, position: usize, steps: &mut [LeftStep]) {
    columns::<LeftStep, TILE_ROWS>(taps, row, position, steps, |step| step);
}

#[inline(always)]
fn panel_of(taps: &Taps<'_>, row: usize, position: usize, steps: &mut [PanelStep]) {
    columns::<PanelStep, TILE_COLUMNS>(taps, row, position, steps, |step| &mut step.0);
}

/// Asks for the values that some rows of the weights meet at some positions, so that they are near
/// when they are gathered.
pub(super) fn fetch(taps: &Taps<'_>, rows: Range<usize>, at: Range<usize>) {
    let (width, positions) = (taps.width, &taps.positions);
    let (tap, channel) = (rows.start / width, rows.start % width);
    let (mut sequence, mut place) =
        (at.start / positions.output_length, at.start % positions.output_length);
    for _ in at {
        let source = (place + tap * positions.dilation).saturating_sub(positions.padding_left);
        let first = (sequence * positions.length + source) * width + channel;
        for line in (first..first + rows.len()).step_by(VALUES_PER_LINE) {
            fetch_line(taps.values, line);
        }
        place += 1;
        if place == positions.output_length {
            (sequence, place) = (sequence + 1, 0);
        }
    }
}

/// Values of a cache line.
const VALUES_PER_LINE: usize = 16;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch_line(values: &[f32], index: usize) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: a hint, which may be about any address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(values.as_ptr().wrapping_add(index).cast()) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn fetch_line(_values: &[f32], _index: usize) {}

/// Goes through the parts of a row that lie together in memory: all of it without dilation, else
/// what one tap has of it.
#[inline(always)]
fn columns<Step, const COUNT: usize>(
    taps: &Taps<'_>,
    row: usize,
    position: usize,
    steps: &mut [Step],
    values: impl Fn(&mut Step) -> &mut [f32; COUNT],
) {
    let (width, positions) = (taps.width, &taps.positions);
    let end = (row + COUNT).min(positions.kernel * width);
    let map = Map::new(taps.affine, row, width);
    let mut at = row;
    while at < end {
        let (tap, channel) = (at / width, at % width);
        let whole = positions.dilation == 1;
        let count = if whole { end - at } else { (width - channel).min(end - at) };
        // Both stay below the values of a sequence and its zeros, which can be counted.
        let ahead = tap * positions.dilation * width + channel;
        let part = Part { ahead, behind: positions.padding_left * width, first: at - row, count };
        part.copy(taps, &map, position, steps, &values);
        at += count;
    }
    if end - row < COUNT {
        steps.iter_mut().for_each(|step| values(step)[end - row..].fill(0.0));
    }
}

/// The map of each column.
struct Map<const COUNT: usize>(Option<[[f32; COUNT]; 2]>);

impl<const COUNT: usize> Map<COUNT> {
    #[inline(always)]
    fn new(affine: Option<Affine<'_>>, row: usize, width: usize) -> Self {
        let first = row % width;
        let columns = |of: &[f32]| {
            if let Some(columns) = of[first..].first_chunk() {
                return *columns;
            }
            let mut columns = [0.0; COUNT];
            let around = of.iter().cycle().skip(first);
            columns.iter_mut().zip(around).for_each(|(to, from)| *to = *from);
            columns
        };
        Self(affine.map(|affine| [columns(affine.shift), columns(affine.scale)]))
    }
}

/// Apart from where it is written, so that it is computed by vectors.
#[inline(always)]
fn mapped<const COUNT: usize>(
    values: &[f32; COUNT],
    shift: &[f32; COUNT],
    scale: &[f32; COUNT],
) -> [f32; COUNT] {
    let mut out = *values;
    for ((out, shift), scale) in out.iter_mut().zip(shift).zip(scale) {
        *out = (*out - shift) * scale;
    }
    out
}

/// Columns whose values lie together in memory.
struct Part {
    /// Values from a position's first to this part's.
    ahead: usize,
    /// Values of the zeros before a sequence.
    behind: usize,
    /// First column.
    first: usize,
    /// Columns.
    count: usize,
}

impl Part {
    /// Copies the part at every position, by runs of one sequence.
    #[inline(always)]
    fn copy<Step, const COUNT: usize>(
        &self,
        taps: &Taps<'_>,
        map: &Map<COUNT>,
        position: usize,
        steps: &mut [Step],
        values: &impl Fn(&mut Step) -> &mut [f32; COUNT],
    ) {
        let (width, positions) = (taps.width, &taps.positions);
        let of_sequence = positions.length * width;
        let (mut sequence, mut place) =
            (position / positions.output_length, position % positions.output_length);
        // Places at which all of the part lies inside the sequence.
        let inside_from = self.behind.saturating_sub(self.ahead).div_ceil(width);
        let reach = (of_sequence + self.behind).checked_sub(self.ahead + self.count);
        let inside_to = reach.map_or(0, |reach| reach / width + 1);
        let mut rest = steps;
        while !rest.is_empty() {
            let count = rest.len().min(positions.output_length - place);
            let (run, after) = rest.split_at_mut(count);
            let x = &taps.values[sequence * of_sequence..][..of_sequence];
            let before = inside_from.clamp(place, place + count) - place;
            let until = inside_to.clamp(place + before, place + count) - place;
            for (index, step) in run.iter_mut().enumerate() {
                if index < before || index >= until {
                    self.at_the_edge(x, (place + index) * width, map, values(step));
                }
            }
            if before < until {
                let start = (place + before) * width + self.ahead - self.behind;
                self.inside(&x[start..], width, map, &mut run[before..until], values);
            }
            (sequence, place, rest) = (sequence + 1, 0, after);
        }
    }

    /// Copies the part where all of it is inside the sequence.
    #[inline(always)]
    fn inside<Step, const COUNT: usize>(
        &self,
        x: &[f32],
        width: usize,
        map: &Map<COUNT>,
        steps: &mut [Step],
        values: &impl Fn(&mut Step) -> &mut [f32; COUNT],
    ) {
        if self.count == COUNT {
            let mut x = x;
            for step in steps {
                let Some(from) = x.first_chunk::<COUNT>() else { return };
                *values(step) = match &map.0 {
                    None => *from,
                    Some([shift, scale]) => mapped(from, shift, scale),
                };
                x = x.get(width..).unwrap_or(&[]);
            }
            return;
        }
        let columns = self.first..self.first + self.count;
        for (index, step) in steps.iter_mut().enumerate() {
            let from = &x[index * width..][..self.count];
            let to = &mut values(step)[columns.clone()];
            match &map.0 {
                None => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
                Some([shift, scale]) => {
                    let map = shift[columns.clone()].iter().zip(&scale[columns.clone()]);
                    for ((to, from), (shift, scale)) in to.iter_mut().zip(from).zip(map) {
                        *to = (from - shift) * scale;
                    }
                }
            }
        }
    }

    /// Copies what is inside the sequence, for the place that begins at the value `start`.
    #[inline(always)]
    fn at_the_edge<const COUNT: usize>(
        &self,
        x: &[f32],
        start: usize,
        map: &Map<COUNT>,
        to: &mut [f32; COUNT],
    ) {
        let (first, end) = (start + self.ahead, self.behind + x.len());
        if first + self.count <= self.behind || first >= end {
            if self.count == COUNT {
                *to = [0.0; COUNT];
            } else {
                to[self.first..self.first + self.count].fill(0.0);
            }
            return;
        }
        for column in 0..self.count {
            let from = (first + column).checked_sub(self.behind);
            let column = self.first + column;
            to[column] = match (from.and_then(|from| x.get(from)), &map.0) {
                (None, _) => 0.0,
                (Some(value), None) => *value,
                (Some(value), Some([shift, scale])) => (value - shift[column]) * scale[column],
            };
        }
    }
}
