//! The mixer of HyenaDNA on a device, between its two projections.
//!
//! Leaves out: the projections, and the formulas (`hyena`). Invariant: how a sequence is transformed depends on its own
//! length alone, so neither its neighbours nor what is cached change a bit of it.

mod columns;
mod filter;
mod long;
mod plan;
mod rows;
mod sources;
#[cfg(test)]
mod tests;

pub(crate) use columns::SOURCE as COLUMNS_SOURCE;
pub(crate) use filter::SOURCE as FILTER_SOURCE;
pub(crate) use rows::SOURCE as ROWS_SOURCE;
pub(crate) use sources::MIX as MIX_SOURCE;

use super::filter::FilterWeights;
use crate::cuda::{Arguments, DeviceArray, Gpu, Number, View, ViewMut};
use crate::error::{KernelError, Result, check_length};
use crate::ops::fft::points_for;
use filter::DeviceFilter;
use plan::Block;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

const OP: &str = "hyena";

/// Factors of a transform, on a device.
enum Tables {
    /// One block does all.
    Block {
        /// The block.
        block: Block,
        /// Its factors.
        roots: DeviceArray<f32>,
    },
    /// Columns, then rows.
    Long(long::Tables),
}

/// What a checkpoint holds of one mixer of width D, without its projections.
pub struct MixerWeights<'a> {
    /// `[3 D, 3]`: taps of two positions back, one back, present.
    pub short: &'a [f32],
    /// `[3 D]`
    pub short_bias: &'a [f32],
    /// `[D]`: what of the gated value is added to its convolution.
    pub skip: &'a [f32],
    /// The long filter of D channels.
    pub filter: FilterWeights<'a>,
}

/// Where the sequences of a batch lie, grouped by the points of their transforms; for any number of mixers.
pub struct Sequences {
    tokens: usize,
    longest: usize,
    /// First row and length of each, group by group.
    list: DeviceArray<u32>,
    groups: Vec<Group>,
}

/// Sequences of one number of points.
struct Group {
    points: usize,
    /// Where its first sequence stands in the list.
    first: usize,
    /// First row and length of each.
    sequences: Vec<(usize, usize)>,
}

impl Sequences {
    /// Groups sequences; `offsets` `[B + 1]` are token counts before each, from 0. Empty sequences count for nothing.
    ///
    /// # Errors
    /// `Shape` if offsets do not rise from 0 or are above 2^32; `OutOfMemory`.
    pub fn new(gpu: &Gpu, offsets: &[usize]) -> Result<Self> {
        let tokens = match (offsets.first(), offsets.last()) {
            (Some(0), Some(&tokens)) if offsets.is_sorted() && u32::try_from(tokens).is_ok() => {
                tokens
            }
            _ => return refuse("offsets", "counts that rise from 0", format!("{offsets:?}")),
        };
        let mut by_points: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for pair in offsets.windows(2).filter(|pair| pair[1] > pair[0]) {
            let length = pair[1] - pair[0];
            by_points.entry(points_for(length)).or_default().push((pair[0], length));
        }
        let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let mut list = Vec::new();
        let mut groups = Vec::new();
        for (points, sequences) in by_points {
            let first = list.len() / 2;
            let numbers = sequences.iter().flat_map(|&(row, length)| [row as u32, length as u32]);
            list.extend(numbers);
            groups.push(Group { points, first, sequences });
        }
        Ok(Self { tokens, longest, list: DeviceArray::from_slice(gpu, &list)?, groups })
    }

    /// Tokens of all sequences.
    pub fn token_count(&self) -> usize {
        self.tokens
    }
}

/// The weights of one mixer on a device, with the spectra of its filter.
pub struct HyenaMixer {
    gpu: Gpu,
    width: usize,
    short: DeviceArray<f32>,
    short_bias: DeviceArray<f32>,
    skip: DeviceArray<f32>,
    filter: DeviceFilter,
    spectra_bytes_max: usize,
    kept: Mutex<Kept>,
    /// Points up to which one block holds a transform; less in tests.
    block_points_max: usize,
}

/// Spectra by number of points, each with when it was last used.
#[derive(Default)]
struct Kept {
    spectra: BTreeMap<usize, (u64, Arc<Spectrum>)>,
    uses: u64,
    bytes: usize,
}

/// A filter's spectrum for one number of points and the tables of its transform.
struct Spectrum {
    tables: Tables,
    /// `[channel groups, points, channels of a group]` complex; none if it is computed whenever it is needed.
    values: Option<DeviceArray<f32>>,
}

impl Spectrum {
    fn bytes(&self) -> usize {
        4 * self.values.as_ref().map_or(0, DeviceArray::len)
    }
}

/// Rows that a mixer reads and writes.
struct Rows<'a, T: Number> {
    /// `[N, 3 D]`
    projected: View<'a, T>,
    /// `[N, D]`
    out: ViewMut<'a, T>,
}

impl HyenaMixer {
    /// Copies the weights to the device.
    ///
    /// `spectra_bytes_max`: bytes of filter spectra kept between calls; `8 D` bytes per point, and a sequence of T tokens
    /// takes T to 1.6 T points (at least 16).
    ///
    /// # Errors
    /// `Shape` if any operand does not fit the filter's channels; `OutOfMemory`.
    pub fn new(gpu: &Gpu, weights: &MixerWeights<'_>, spectra_bytes_max: usize) -> Result<Self> {
        let filter = DeviceFilter::new(gpu, &weights.filter)?;
        let width = filter.width();
        check_length(OP, "short", weights.short.len(), 9 * width)?;
        check_length(OP, "short_bias", weights.short_bias.len(), 3 * width)?;
        check_length(OP, "skip", weights.skip.len(), width)?;
        Ok(Self {
            gpu: gpu.clone(),
            width,
            short: DeviceArray::from_slice(gpu, weights.short)?,
            short_bias: DeviceArray::from_slice(gpu, weights.short_bias)?,
            skip: DeviceArray::from_slice(gpu, weights.skip)?,
            filter,
            spectra_bytes_max,
            kept: Mutex::default(),
            block_points_max: plan::BLOCK_POINTS_MAX,
        })
    }

    /// D: channels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of filter spectra that are kept.
    pub fn spectra_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Mixes each sequence along its tokens, as [`HyenaOperator::apply`](super::HyenaOperator::apply) after its projection.
    ///
    /// - `projected`: `[N, 3 D]`: gate after, gate before, value
    /// - `out`: `[N, D]`
    ///
    /// Transforms of the fewest points that hold the sequence, out of 1, 3 and 5 times powers of two, f32 between rows of
    /// either type; up to 8,192 points in one kernel, beyond in three with an intermediate of 256 MiB at most. CPU and CUDA agree
    /// within `2e-7 log2(T)` of the norms of filter and signal for f32 rows.
    ///
    /// # Errors
    /// `Shape` if the operands do not fit or a sequence is longer than the filter or 2^20 tokens; `OutOfMemory`.
    ///
    /// Source: Poli et al. 2023, definition 3.1, order two; Nguyen et al. 2023.
    pub fn apply<T: Number>(
        &self,
        projected: View<'_, T>,
        sequences: &Sequences,
        out: &mut ViewMut<'_, T>,
    ) -> Result<()> {
        check_length(OP, "out", out.len(), sequences.tokens.saturating_mul(self.width))?;
        check_length(OP, "projected", projected.len(), out.len().saturating_mul(3))?;
        let longest = self.filter.length_max().min(plan::POINTS_MAX);
        if sequences.longest > longest {
            let expected = format!("sequences of at most {longest} tokens");
            return refuse("sequences", &expected, format!("{} tokens", sequences.longest));
        }
        for group in &sequences.groups {
            let spectrum = self.spectrum(group.points)?;
            let mut rows = Rows { projected, out: out.again() };
            if group.points <= self.block_points_max {
                let numbers = 2 * group.first..2 * (group.first + group.sequences.len());
                let list = sequences.list.view().part(numbers);
                self.mix(&spectrum, &list, &mut rows)?;
            } else {
                for &(first, length) in &group.sequences {
                    self.mix_long(&spectrum, (first, length), &mut rows)?;
                }
            }
        }
        Ok(())
    }

    /// One kernel for all sequences of `list`.
    fn mix<T: Number>(
        &self,
        spectrum: &Spectrum,
        list: &View<'_, u32>,
        rows: &mut Rows<'_, T>,
    ) -> Result<()> {
        let Tables::Block { block, roots } = &spectrum.tables else { return Ok(()) };
        let Some(values) = &spectrum.values else { return Ok(()) };
        let kernel = self.gpu.kernel(&sources::MIX, "hyena_mix", &block.defines(Some(T::CODE)))?;
        let groups = self.width.div_ceil(block.series);
        let arguments = Arguments::new()
            .array(&rows.projected)
            .array(list)
            .array(&self.short.view())
            .array(&self.short_bias.view())
            .array(&values.view())
            .array(&roots.view())
            .output(&rows.out)
            .u32(self.width as u32)
            .u32(groups as u32);
        // SAFETY: rows, taps and spectrum fit the width; a block stays in the rows of its sequence and in its channels.
        unsafe { kernel.launch(block.launch(groups * list.len() / 2), arguments) }
    }

    /// The filter's spectrum for a number of points, kept if it may be.
    fn spectrum(&self, points: usize) -> Result<Arc<Spectrum>> {
        if let Some(spectrum) = self.lock().get(points) {
            return Ok(spectrum);
        }
        let spectrum = if points <= self.block_points_max {
            self.block_spectrum(points)?
        } else {
            self.long_spectrum(points)?
        };
        let spectrum = Arc::new(spectrum);
        self.lock().put(points, &spectrum, self.spectra_bytes_max);
        Ok(spectrum)
    }

    fn block_spectrum(&self, points: usize) -> Result<Spectrum> {
        let room = self.gpu.properties().shared_bytes_max as usize;
        let block = Block::mixing(points, room);
        let roots = DeviceArray::from_slice(&self.gpu, &plan::roots(points, true))?;
        let length = points.min(self.filter.length_max());
        let hidden = self.filter.hidden(length)?;
        let taps = self.filter.taps(&hidden.view(), 0..self.width)?;
        let groups = self.width.div_ceil(block.series);
        let mut values = DeviceArray::new(&self.gpu, groups * block.series * points * 2)?;
        let kernel =
            self.gpu.kernel(&sources::MIX, "hyena_spectrum", &block.defines(Some(f32::CODE)))?;
        let arguments = Arguments::new()
            .array(&taps.view())
            .array(&self.skip.view())
            .array(&roots.view())
            .output(&values.view_mut())
            .u32(self.width as u32)
            .u32(length as u32);
        // SAFETY: taps are [length, width], the spectrum holds every group's points; a block stays in its group.
        unsafe { kernel.launch(block.launch(groups), arguments)? };
        Ok(Spectrum { tables: Tables::Block { block, roots }, values: Some(values) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn get(&mut self, points: usize) -> Option<Arc<Spectrum>> {
        self.uses += 1;
        let uses = self.uses;
        let (used, spectrum) = self.spectra.get_mut(&points)?;
        *used = uses;
        Some(Arc::clone(spectrum))
    }

    /// Keeps a spectrum unless it takes more than all may; the least recently used go first.
    fn put(&mut self, points: usize, spectrum: &Arc<Spectrum>, bytes_max: usize) {
        let bytes = spectrum.bytes();
        if bytes > bytes_max {
            return;
        }
        self.remove(points);
        while self.bytes > bytes_max - bytes {
            let held = self.spectra.iter().filter(|(_, (_, spectrum))| spectrum.bytes() > 0);
            let oldest = held.min_by_key(|(_, (used, _))| *used).map(|(points, _)| *points);
            let Some(oldest) = oldest else { break };
            self.remove(oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.spectra.insert(points, (self.uses, Arc::clone(spectrum)));
    }

    fn remove(&mut self, points: usize) {
        if let Some((_, spectrum)) = self.spectra.remove(&points) {
            self.bytes -= spectrum.bytes();
        }
    }
}

fn refuse<T>(operand: &'static str, expected: &str, found: String) -> Result<T> {
    Err(KernelError::Shape { op: OP, operand, expected: expected.to_owned(), found })
}
