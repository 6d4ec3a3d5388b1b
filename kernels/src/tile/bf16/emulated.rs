//! The bf16 tile in software, the meaning of the class on every CPU.
//!
//! Leaves out: speed beyond what loops over columns give. Invariant: the same roundings in the same
//! order as the matrix unit, its treatment of subnormals included.

use super::{HALF, Pairs, SIDE, Step, Sums};
use crate::isa::per_isa;

per_isa!(
    /// The software form of `Ready::add_products`.
    pub(super) fn add_products(sums: &mut Sums, rows: usize, left: &[Step], right: &[Step]) = steps
);

#[inline(always)]
fn steps(sums: &mut Sums, rows: usize, left: &[Step], right: &[Step]) {
    for (index, sums) in sums.0.iter_mut().enumerate().take(rows.min(SIDE)) {
        let (low, high) = sums.split_at_mut(HALF);
        for (left, right) in left.iter().zip(right) {
            let pairs = &left.0[index / HALF].0[index % HALF];
            add_step(low, pairs, &right.0[0]);
            add_step(high, pairs, &right.0[1]);
        }
    }
}

/// One step of one row: its even and its odd products apart, then both into the sums.
#[inline(always)]
fn add_step(sums: &mut [f32], left: &[u32; HALF], right: &Pairs) {
    let (mut even, mut odd) = ([0.0; HALF], [0.0; HALF]);
    for (&left, right) in left.iter().zip(&right.0) {
        add_product(&mut even, low(left), right, low);
        add_product(&mut odd, high(left), right, high);
    }
    for ((sum, even), odd) in sums.iter_mut().zip(even).zip(odd) {
        *sum = flushed(flushed(*sum) + flushed(even + odd));
    }
}

/// Adds one left value times sixteen columns.
#[inline(always)]
fn add_product(
    sums: &mut [f32; HALF],
    left: f32,
    right: &[u32; HALF],
    half: impl Fn(u32) -> f32 + Copy,
) {
    let mut next = [0.0; HALF];
    let mut at_the_edge = 0;
    for ((next, &sum), &right) in next.iter_mut().zip(&*sums).zip(right) {
        let exact = left.mul_add(half(right), sum);
        at_the_edge |= u32::from(exact.abs() == f32::MIN_POSITIVE);
        *next = flushed(exact);
    }
    if at_the_edge != 0 {
        for ((next, &sum), &right) in next.iter_mut().zip(&*sums).zip(right) {
            *next = settled(sum, left, half(right));
        }
    }
    *sums = next;
}

/// `sum + left * right`, zero if it is below the normal numbers when rounded as one of them.
///
/// The rounding of subnormals is coarser and lifts some such results to the smallest normal
/// number. Next to it f64 holds the sum exactly.
#[inline(always)]
fn settled(sum: f32, left: f32, right: f32) -> f32 {
    /// Halfway between the smallest normal number and the one below it, were it normal.
    const LIFTED: f64 = f32::MIN_POSITIVE as f64 * (1.0 - f32::EPSILON as f64 / 4.0);
    let rounded = left.mul_add(right, sum);
    let exact = f64::from(left) * f64::from(right) + f64::from(sum);
    if rounded.abs() == f32::MIN_POSITIVE && exact.abs() < LIFTED {
        return 0.0_f32.copysign(rounded);
    }
    flushed(rounded)
}

/// Zero of the same sign in place of a subnormal number.
#[inline(always)]
fn flushed(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0.0_f32.copysign(value) } else { value }
}

#[inline(always)]
fn low(pair: u32) -> f32 {
    flushed(f32::from_bits(pair << 16))
}

#[inline(always)]
fn high(pair: u32) -> f32 {
    flushed(f32::from_bits(pair & 0xffff_0000))
}
