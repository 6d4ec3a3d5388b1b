//! Attention over packed sequences, of one length or of many.
//!
//! Leaves out: f32 forms, which are for parity. Invariant: the last sequence is compared with the CPU's.

use super::{Bench, Case, draw, look};
use glmeval_kernels::cuda::{Bf16, DeviceArray};
use glmeval_kernels::error::Result;
use glmeval_kernels::ops::attention::cuda::{SequenceTable, attention};
use glmeval_kernels::ops::attention::{PositionBias, attention as on_cpu};

/// Tokens of a batch.
const TOKENS: usize = 65_536;
const LENGTHS: [usize; 9] = [34, 36, 41, 71, 128, 171, 336, 1000, 2048];
/// Heads, and values of each.
const HEADS: [(usize, usize); 3] = [(20, 64), (20, 128), (12, 64)];
/// Longest sequence, heads, values of each.
const MIXED: [(usize, usize, usize); 5] =
    [(41, 20, 64), (171, 20, 64), (336, 20, 64), (1000, 20, 64), (1000, 20, 128)];

pub(super) fn even_lengths(bench: &Bench) -> Result<()> {
    for (heads, width) in HEADS {
        for length in LENGTHS {
            let length = bench.extent(length);
            let count = (bench.extent(TOKENS) / length).max(1);
            let name = format!("attention_T{length}_H{heads}_D{width}");
            one(bench, name, &vec![length; count], (heads, width))?;
        }
    }
    Ok(())
}

pub(super) fn mixed_lengths(bench: &Bench) -> Result<()> {
    for (longest, heads, width) in MIXED {
        let name = format!("attention_mixed{longest}_H{heads}_D{width}");
        one(bench, name, &lengths(bench.extent(longest), bench.extent(TOKENS)), (heads, width))?;
    }
    Ok(())
}

/// Lengths from a quarter of the longest, as the peers' program draws them.
fn lengths(longest: usize, tokens: usize) -> Vec<usize> {
    let least = (longest / 4).max(1);
    let (mut state, mut sum, mut lengths) = (1_u32, 0, Vec::new());
    while sum < tokens {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = least + (state >> 8) as usize % (longest - least + 1);
        sum += length;
        lengths.push(length);
    }
    lengths
}

fn one(
    bench: &Bench,
    name: String,
    lengths: &[usize],
    (heads, width): (usize, usize),
) -> Result<()> {
    let heads = if bench.is_smoke { 2 } else { heads };
    let mut offsets = vec![0];
    offsets.extend(lengths.iter().scan(0, |sum, length| {
        *sum += length;
        Some(*sum)
    }));
    let (tokens, row) = (lengths.iter().sum::<usize>(), heads * width);
    let pairs: f64 = lengths.iter().map(|&length| (length * length) as f64).sum();
    let bytes = 2 * 4 * tokens * row;
    let flop = 4.0 * pairs * row as f64;
    let case = Case { suite: "gpu", name, dtype: "bf16", bytes: bytes as f64, flop };
    bench.attempt(&case, || measured(bench, &case, &offsets, (heads, width)))
}

fn measured(
    bench: &Bench,
    case: &Case,
    offsets: &[usize],
    (heads, width): (usize, usize),
) -> Result<()> {
    let gpu = &bench.gpu;
    let turns = bench.turns(case.bytes as usize);
    let (tokens, row) = (offsets[offsets.len() - 1], heads * width);
    let drawn: Vec<Bf16> = draw(5, 3 * tokens * row).iter().map(|&x| Bf16::from_f32(x)).collect();
    let (mut inputs, mut outs) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        inputs.push(DeviceArray::from_slice(gpu, &drawn)?);
        outs.push(DeviceArray::<Bf16>::new(gpu, tokens * row)?);
    }
    let table = SequenceTable::new(gpu, offsets)?;
    let scale = 1.0 / (width as f32).sqrt();
    let mut attend = |turn: usize| {
        attention(inputs[turn].view(), &table, heads, scale, None, &mut outs[turn].view_mut())
    };
    attend(0)?;
    bench.row(case, turns, &mut attend)?;
    let last = offsets[offsets.len() - 2];
    let own: Vec<f32> = drawn[last * 3 * row..].iter().map(|x| x.to_f32()).collect();
    let mut expected = vec![0.0; own.len() / 3];
    let bounds = [0, tokens - last];
    on_cpu(&own, &bounds, heads, scale, PositionBias::None, &mut expected)?;
    let found = outs[0].view().part(last * row..tokens * row).to_vec()?;
    for (found, expected) in found.iter().zip(&expected) {
        look(case, found.to_f32(), *expected, 0.03)?;
    }
    Ok(())
}
