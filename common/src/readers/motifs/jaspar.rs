//! JASPAR's counts: a header, then four rows, with or without their letters.
//!
//! Leaves out: other vendors' matrices that stand upright. Invariant: rows of a motif have one
//! length, and every position at least one count.

use super::{Lines, MOTIF_NT_MAX, Motif, MotifSet};
use crate::error::Result;
use crate::readers::text::excerpt;
use std::collections::BTreeSet;

/// Rows in the order that they have without letters.
const LETTERS: [char; 4] = ['A', 'C', 'G', 'T'];
/// Totals of a position above this are counts, below it frequencies.
const FREQUENCY_MAX: f64 = 1.5;

/// Reads all motifs.
pub(super) fn read(lines: &mut Lines) -> Result<MotifSet> {
    let mut set = MotifSet::default();
    let mut ids = BTreeSet::new();
    while let Some(line) = lines.next_line()? {
        let Some(header) = line.strip_prefix('>') else {
            let expected = "a header that starts with '>', or four rows after it";
            return Err(lines.defect("", expected, excerpt(line.as_bytes())));
        };
        let header = header.trim();
        let (id, name) = header.split_once(char::is_whitespace).unwrap_or((header, ""));
        lines.check_id(&mut ids, id)?;
        let name = Some(name.trim()).filter(|name| !name.is_empty()).map(str::to_owned);
        let id = id.to_owned();
        let (probabilities, sites) = matrix(lines, &id)?;
        set.motifs.push(Motif { id, name, probabilities, sites });
    }
    Ok(set)
}

/// Probabilities of each position and the sites they were counted from.
fn matrix(lines: &mut Lines, id: &str) -> Result<(Vec<[f64; 4]>, Option<f64>)> {
    let place = format!("motif {id}");
    let mut rows: [Option<Vec<f64>>; 4] = [const { None }; 4];
    for index in 0..LETTERS.len() {
        let line = lines.next_line()?;
        let Some(line) = line.filter(|line| !line.starts_with('>')) else {
            return Err(lines.defect(place, "4 rows: A, C, G, T", format!("{index} rows")));
        };
        let (row, numbers) = row(lines, index, &line)?;
        let width = rows.iter().flatten().map(Vec::len).next();
        if numbers.is_empty() || numbers.len() > MOTIF_NT_MAX {
            let expected = format!("1 to {MOTIF_NT_MAX} numbers");
            return Err(lines.defect(place, expected, numbers.len()));
        }
        if let Some(width) = width.filter(|width| *width != numbers.len()) {
            let found = format!("{} numbers", numbers.len());
            return Err(lines.defect(
                place,
                format!("{width} numbers as in the row before"),
                found,
            ));
        }
        match rows.get_mut(row) {
            Some(cell @ None) => *cell = Some(numbers),
            _ => return Err(lines.defect(place, "each of A, C, G and T once", "one twice")),
        }
    }
    let [a, c, g, t] = rows.map(Option::unwrap_or_default);
    let columns = a.iter().zip(&c).zip(g.iter().zip(&t));
    let columns: Vec<[f64; 4]> = columns.map(|((&a, &c), (&g, &t))| [a, c, g, t]).collect();
    let totals: Vec<f64> = columns.iter().map(|column| column.iter().sum()).collect();
    if let Some(over) = totals.iter().position(|total| !total.is_finite()) {
        let found = format!("a larger one at position {}", over + 1);
        return Err(lines.defect(place, format!("totals of at most {:e}", f64::MAX), found));
    }
    if let Some(empty) = totals.iter().position(|total| *total <= 0.0) {
        let expected = "at least one count at every position";
        return Err(lines.defect(place, expected, format!("none at position {}", empty + 1)));
    }
    let sites = totals.into_iter().fold(0.0, f64::max);
    Ok((columns, Some(sites).filter(|sites| *sites > FREQUENCY_MAX)))
}

/// Which letter the row is of, and its numbers.
fn row(lines: &Lines, index: usize, line: &str) -> Result<(usize, Vec<f64>)> {
    let mut letters = line.chars();
    let first = letters.next().unwrap_or_default();
    let (row, rest) = if first.is_ascii_alphabetic() {
        let upper = first.to_ascii_uppercase();
        let base = if upper == 'U' { 'T' } else { upper };
        match LETTERS.iter().position(|letter| *letter == base) {
            Some(row) => (row, letters.as_str()),
            None => {
                return Err(lines.defect("", "a row of A, C, G or T", excerpt(line.as_bytes())));
            }
        }
    } else {
        (index, line)
    };
    let numbers = lines.numbers(&rest.replace(['[', ']', ':', '|'], " "))?;
    if numbers.iter().any(|number| *number < 0.0) {
        return Err(lines.defect("", "counts of at least 0", excerpt(line.as_bytes())));
    }
    Ok((row, numbers))
}
