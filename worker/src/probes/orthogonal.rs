//! Minimum-norm solutions through orthogonal transformations: QR, then one-sided Jacobi.
//!
//! Leaves out: well-conditioned systems (cholesky), which are far cheaper.
//! Invariant: row transformations act on features and targets alike, so
//! `[X | Y] -> V' [X | Y]` leaves every least-squares solution unchanged.
//!
//! Source: Demmel and Veselic 1992 (Jacobi's method is more accurate than QR).

use super::design::{Design, dot};
use rayon::prelude::*;

/// Rows that one step of the QR eliminates.
const PANEL_ROWS: usize = 256;
const SWEEPS_MAX: usize = 60;

/// A row of the transformed system: features, then targets.
type Row = Vec<f64>;

/// Minimum-norm `w[y,:]` of `min ||Y - Xc w||^2 + alpha ||w||^2` for centred targets.
///
/// Singular values up to `cutoff` of the largest count as zero.
pub(super) fn solve(
    design: &Design<'_>,
    targets: &[Vec<f64>],
    (alpha, cutoff): (f64, f64),
) -> Vec<Vec<f64>> {
    let (rows, columns) = (design.rows(), design.columns());
    let mut system =
        if rows > columns { triangle(design, targets) } else { plain(design, targets) };
    orthogonalise(&mut system, columns);
    let squares: Vec<f64> =
        system.iter().map(|row| dot(&row[..columns], &row[..columns])).collect();
    let largest = squares.iter().fold(0.0_f64, |a, &b| a.max(b)).sqrt();
    let cutoff = largest * cutoff;
    let mut weights = vec![vec![0.0; columns]; targets.len()];
    for (row, square) in system.iter().zip(squares) {
        if square.sqrt() <= cutoff {
            continue;
        }
        let (features, rotated) = row.split_at(columns);
        for (weights, target) in weights.iter_mut().zip(rotated) {
            let share = target / (square + alpha);
            weights.iter_mut().zip(features).for_each(|(w, x)| *w += share * x);
        }
    }
    weights
}

fn plain(design: &Design<'_>, targets: &[Vec<f64>]) -> Vec<Row> {
    (0..design.rows()).map(|row| full_row(design, targets, row)).collect()
}

fn full_row(design: &Design<'_>, targets: &[Vec<f64>], row: usize) -> Row {
    let features = (0..design.columns()).map(|column| design.value(row, column));
    features.chain(targets.iter().map(|target| target[row])).collect()
}

/// R and Q'Y of the QR factorisation, built up panel by panel with Householder reflections.
fn triangle(design: &Design<'_>, targets: &[Vec<f64>]) -> Vec<Row> {
    let (columns, width) = (design.columns(), design.columns() + targets.len());
    // By columns: entries above `columns` are R, those below the panel of rows.
    let mut stacked: Vec<Vec<f64>> = vec![vec![0.0; columns]; width];
    for first in (0..design.rows()).step_by(PANEL_ROWS) {
        let rows = first..(first + PANEL_ROWS).min(design.rows());
        stacked.par_iter_mut().enumerate().for_each(|(c, column)| {
            column.truncate(columns);
            column.extend(rows.clone().map(|row| match c.checked_sub(columns) {
                None => design.value(row, c),
                Some(target) => targets[target][row],
            }));
        });
        eliminate(&mut stacked, columns);
    }
    (0..columns).map(|i| stacked.iter().map(|column| column[i]).collect()).collect()
}

/// Reflects the panel below each diagonal entry to zero.
fn eliminate(stacked: &mut [Vec<f64>], columns: usize) {
    for pivot in 0..columns {
        let (head, tail) = stacked.split_at_mut(pivot + 1);
        let column = &mut head[pivot];
        let (above, panel) = column.split_at_mut(columns);
        let below = dot(panel, panel);
        if below == 0.0 {
            continue;
        }
        let norm = (above[pivot] * above[pivot] + below).sqrt();
        let diagonal = if above[pivot] > 0.0 { -norm } else { norm };
        let first = above[pivot] - diagonal;
        let scale = 2.0 / (first * first + below);
        above[pivot] = diagonal;
        let reflect = |column: &mut Vec<f64>| {
            let (above, rows) = column.split_at_mut(columns);
            let share = scale * (first * above[pivot] + dot(panel, rows));
            above[pivot] -= share * first;
            rows.iter_mut().zip(&*panel).for_each(|(row, v)| *row -= share * v);
        };
        tail.par_iter_mut().with_min_len(32).for_each(reflect);
    }
}

/// Rotates pairs of rows until the feature parts of all rows are orthogonal.
fn orthogonalise(rows: &mut Vec<Row>, columns: usize) {
    if rows.len() % 2 == 1 {
        let width = rows.first().map_or(0, Vec::len);
        rows.push(vec![0.0; width]);
    }
    let tolerance = f64::EPSILON * (columns.max(1) as f64).sqrt();
    for _ in 0..SWEEPS_MAX {
        let largest =
            rows.iter().map(|row| dot(&row[..columns], &row[..columns])).fold(0.0, f64::max);
        // Rows this short lie below every cut-off; turning them would never end.
        let negligible = largest * f64::EPSILON * f64::EPSILON;
        let mut turned = false;
        for _ in 1..rows.len().max(2) {
            turned |= rows
                .par_chunks_mut(2)
                .with_min_len(8)
                .map(|pair| match pair {
                    [a, b] => rotate(a, b, columns, (tolerance, negligible)),
                    _ => false,
                })
                .reduce(|| false, |a, b| a | b);
            next_round(rows);
        }
        if !turned {
            break;
        }
    }
}

/// One Jacobi rotation; whether it was needed.
fn rotate(a: &mut [f64], b: &mut [f64], columns: usize, limits: (f64, f64)) -> bool {
    let (tolerance, negligible) = limits;
    let aa = dot(&a[..columns], &a[..columns]);
    let bb = dot(&b[..columns], &b[..columns]);
    let ab = dot(&a[..columns], &b[..columns]);
    if aa <= negligible || bb <= negligible || ab.abs() <= tolerance * aa.sqrt() * bb.sqrt() {
        return false;
    }
    let zeta = (bb - aa) / (2.0 * ab);
    let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = cosine * tangent;
    for (a, b) in a.iter_mut().zip(b.iter_mut()) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
    true
}

/// Round-robin: row 0 stays, all others move on, so that every pair meets once a sweep.
fn next_round(rows: &mut [Row]) {
    let count = rows.len();
    if count < 4 {
        return;
    }
    // Pairs are (0,1), (2,3), …: even places are one bank, odd places the other.
    let mut order: Vec<usize> = (0..count).step_by(2).chain((1..count).step_by(2).rev()).collect();
    order[1..].rotate_right(1);
    let half = count / 2;
    let mut moved: Vec<Row> = order.iter().map(|&i| std::mem::take(&mut rows[i])).collect();
    for i in 0..half {
        rows[2 * i] = std::mem::take(&mut moved[i]);
        rows[2 * i + 1] = std::mem::take(&mut moved[count - 1 - i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_rows_meets_once_a_sweep() {
        let mut rows: Vec<Row> = (0..10).map(|i| vec![f64::from(i)]).collect();
        let mut met = std::collections::BTreeSet::new();
        for _ in 1..10 {
            for pair in rows.chunks(2) {
                let (a, b) = (pair[0][0] as u32, pair[1][0] as u32);
                met.insert((a.min(b), a.max(b)));
            }
            next_round(&mut rows);
        }
        assert_eq!(met.len(), 45);
    }
}
