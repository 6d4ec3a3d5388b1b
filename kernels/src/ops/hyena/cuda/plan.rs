//! How a transform of a number of points is cut into blocks and stages on a device, and its factors.
//!
//! Leaves out: launches. Invariant: stages are those of `transform.cuh` for the same points; what a block holds beside one
//! series never reaches a result.

use crate::cuda::LaunchShape;
use crate::ops::fft::root;

/// Points of the largest transform that one block holds: two channels of them are 136 KiB.
pub(super) const BLOCK_POINTS_MAX: usize = 1 << 13;
/// Points of the largest transform.
pub(super) const POINTS_MAX: usize = 1 << 20;
/// Channels that lie side by side where a transform takes several blocks: 32 bytes of a row.
pub(super) const CHANNELS: usize = 8;
/// Points of all series of a block whose transform takes several blocks, at most: three blocks share a multiprocessor.
const TILE_POINTS_MAX: usize = 1 << 13;

/// A block's part of a transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Points of a series.
    pub(super) points: usize,
    /// Series side by side.
    pub(super) series: usize,
    /// Whether frequencies are a quarter above whole ones, and values are real.
    quarter: bool,
    /// Whether it is a column's, which knows channels among its series.
    column: bool,
}

impl Block {
    /// A block that does all of a transform: more channels where points are few, so that its warps are busy; as many as
    /// `room`, bytes of shared memory, holds where it ends.
    pub(super) fn mixing(points: usize, room: usize) -> Self {
        let series = match points {
            0..=64 => 32,
            65..=128 => 16,
            129..=1024 => 8,
            1025..=4096 => 4,
            _ => 2,
        };
        let mut block = Self { points, series, quarter: true, column: false };
        while block.shared_bytes() > room && block.series > 1 {
            block.series /= 2;
        }
        block
    }

    /// A block of neighbouring columns.
    pub(super) fn columns(points: usize, columns: usize) -> Self {
        let tile = (TILE_POINTS_MAX / CHANNELS / points).max(1);
        let tile = (1 << tile.ilog2()).min(columns);
        Self { points, series: tile * CHANNELS, quarter: true, column: true }
    }

    /// A block that does one row.
    pub(super) fn row(points: usize) -> Self {
        Self { points, series: CHANNELS, quarter: false, column: false }
    }

    /// Threads: about sixteen points each.
    fn threads(&self) -> usize {
        let values = self.points * self.series;
        let threads =
            if values > 10_240 { 512 } else { (values / 16).next_power_of_two().min(256) };
        threads.max(32).max(self.series)
    }

    /// What the kernel is compiled with; `value`: the code of rows' numbers, where there are rows.
    pub(super) fn defines(&self, value: Option<i64>) -> Vec<(&'static str, i64)> {
        let threads = self.threads();
        // Registers of a thread: 128 of 512 threads, 80 of 256, 96 below. Short columns need a few more than 80.
        let resident = match threads {
            512.. => 1,
            256.. if self.column && self.points < 96 => 2,
            // These stand alone where shared memory is small; three stages of sixteen points need more.
            256.. if !self.column && self.points > 2560 => 1,
            256.. => 3,
            128.. => 5,
            64.. => 10,
            _ => 16,
        };
        let mut defines = vec![
            ("POINTS", self.points as i64),
            ("SERIES", self.series as i64),
            ("THREADS", threads as i64),
            ("BLOCKS", resident),
            ("QUARTER", i64::from(self.quarter)),
        ];
        defines.extend(value.map(|code| ("VALUE", code)));
        if self.column {
            defines.push(("CHANNELS", CHANNELS as i64));
        }
        defines
    }

    /// Shared memory: a spare place after each last radix of points.
    fn shared_bytes(&self) -> usize {
        let last = radices(self.points).last().copied().unwrap_or(1);
        (self.points + self.points / last) * self.series * 8
    }

    /// A launch of so many blocks.
    pub(super) fn launch(&self, blocks: usize) -> LaunchShape {
        LaunchShape::line(blocks, self.threads() as u32).shared(self.shared_bytes())
    }
}

/// Points that each stage joins at once, as `radix` of `transform.cuh`.
fn radices(points: usize) -> Vec<usize> {
    let twos = points.trailing_zeros() as usize;
    let odd = points >> twos;
    let stages = twos.div_ceil(4) + usize::from(odd == 1 && twos <= 4);
    let wide = (0..stages).map(|stage| 1 << ((twos + stage) / stages));
    [odd].into_iter().filter(|odd| *odd > 1).chain(wide).collect()
}

/// Factors of every stage, `[radix][stride]` complex: `exp(-2 pi i j (b + q) / joined)`, q a quarter in the first stage if
/// `quarter`.
pub(super) fn roots(points: usize, quarter: bool) -> Vec<f32> {
    let mut joined = points;
    let mut factors = Vec::new();
    for (stage, radix) in radices(points).into_iter().enumerate() {
        let shift = usize::from(quarter && stage == 0);
        let stride = joined / radix;
        for b in 0..radix {
            factors.extend((0..stride).flat_map(|j| root(j * (4 * b + shift), 4 * joined)));
        }
        joined = stride;
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_multiply_to_the_points_and_none_is_wider_than_sixteen() {
        for points in [4, 8, 16, 48, 80, 128, 160, 1024, 1280, 1536, 8192] {
            let stages = radices(points);
            assert_eq!(stages.iter().product::<usize>(), points);
            assert!(stages.len() >= 2 && stages.iter().all(|stage| (2..=16).contains(stage)));
        }
    }

    #[test]
    fn blocks_fit_the_shared_memory_of_every_target() {
        for points in (4..14).flat_map(|twos| [1, 3, 5].map(|odd| odd << twos)) {
            if (16..=BLOCK_POINTS_MAX).contains(&points) {
                for room in [99 << 10, 163 << 10, 227 << 10] {
                    let block = Block::mixing(points, room);
                    assert!(block.shared_bytes() <= room, "{points}");
                }
                let all = Block::mixing(points, usize::MAX);
                assert_eq!(Block::mixing(points, 163 << 10), all, "{points}");
            }
            if (80..=1024).contains(&points) {
                assert!(Block::columns(points, 1024).shared_bytes() <= 72 << 10, "{points}");
                assert!(Block::row(points).shared_bytes() <= 72 << 10, "{points}");
            }
        }
    }
}
