//! Motifs from MEME and JASPAR files, plain, gzip or bgzip, told apart by their first line.
//!
//! Leaves out: scanning with them. Invariant: every position of a motif has four probabilities in
//! the order A, C, G, T that sum to one.
//!
//! ```text
//! MEME version 5                              >MA0004.1 Arnt
//! ALPHABET= ACGT                              A [ 4 19  0  0  0  0 ]
//! Background letter frequencies               C [16  0 20  0  0  0 ]
//! A 0.25 C 0.25 G 0.25 T 0.25                 G [ 0  1  0 20  0 20 ]
//! MOTIF MA0004.1 Arnt                         T [ 0  0  0  0 20  0 ]
//! letter-probability matrix: alength= 4 w= 6 nsites= 20
//!  0.2 0.8 0 0 …
//! ```

use crate::error::{Error, InputError, Result};
use crate::readers::text::{TextReader, excerpt, utf8};
use std::collections::BTreeSet;
use std::path::Path;

mod jaspar;
mod meme;
#[cfg(test)]
mod tests;

/// Bytes of a line at most.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Positions of a motif at most; MEME's own limit is 300.
const MOTIF_NT_MAX: usize = 1_000;
/// Motifs of a file at most.
const MOTIFS_MAX: usize = 100_000;
/// How far the probabilities of a position may sum from one: files print few digits.
const SUM_SLACK: f64 = 0.02;

/// A motif: what is found at each of its positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Motif {
    /// Its identifier, such as `MA0004.1`; no two of a file share one.
    pub id: String,
    /// What people call it, such as `Arnt`.
    pub name: Option<String>,
    /// Probabilities of A, C, G and T at each position.
    pub probabilities: Vec<[f64; 4]>,
    /// Sites that the probabilities were counted from, where the file says so.
    pub sites: Option<f64>,
}

impl Motif {
    /// Identifier and name, as people read them.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {name}", self.id),
            None => self.id.clone(),
        }
    }

    /// The motif of the other strand.
    #[must_use]
    pub fn reverse_complement(&self) -> Self {
        let turned = |&[a, c, g, t]: &[f64; 4]| [t, g, c, a];
        let probabilities = self.probabilities.iter().rev().map(turned).collect();
        Self { probabilities, ..self.clone() }
    }
}

/// All motifs of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MotifSet {
    /// In the order of the file; at least one.
    pub motifs: Vec<Motif>,
    /// Frequencies of A, C, G and T in what the motifs were found in, where the file has them.
    pub background: Option<[f64; 4]>,
}

/// Reads a file of motifs.
///
/// MEME: versions 3 to 5, minimal files and whole reports; the probability matrix is taken where
/// there is one, else log-odds are turned back with the background. JASPAR: counts with or without
/// letters before the rows. `U` is read as `T`: columns have the same order.
///
/// # Errors
/// `NotFound` or `Invalid` with file, line, expected and found.
pub fn read(path: &Path) -> Result<MotifSet> {
    parse(TextReader::open(path, LINE_BYTES_MAX)?)
}

fn parse(text: TextReader) -> Result<MotifSet> {
    let mut lines = Lines { text, again: false };
    match parse_lines(&mut lines) {
        Err(error) => Err(lines.text.explain(error)),
        found => found,
    }
}

fn parse_lines(lines: &mut Lines) -> Result<MotifSet> {
    let mut set = loop {
        let Some(line) = lines.next_line()? else {
            let file = lines.text.path().display();
            let expected = "motifs in MEME or JASPAR format";
            return Err(InputError::new(file, "", expected, "no line with text").into());
        };
        if line.starts_with("MEME version") {
            meme::check_version(lines)?;
            break meme::read(lines)?;
        }
        if line.starts_with('>') {
            lines.step_back();
            break jaspar::read(lines)?;
        }
        // Reports of the program meme begin with a frame of asterisks.
        if !line.starts_with(['*', '#']) && !line.starts_with("MEME - ") {
            let expected = "`MEME version 4` or a JASPAR header that starts with '>'";
            return Err(lines.defect("", expected, excerpt(line.as_bytes())));
        }
    };
    if set.motifs.is_empty() {
        let file = lines.text.path().display();
        return Err(InputError::new(file, "", "at least one motif", "0 motifs").into());
    }
    for motif in &mut set.motifs {
        motif.probabilities.iter_mut().for_each(normalise);
    }
    Ok(set)
}

/// Lines with text, one of which may be read again.
struct Lines {
    text: TextReader,
    again: bool,
}

impl Lines {
    /// The next line that is not blank, without blanks at its ends.
    fn next_line(&mut self) -> Result<Option<String>> {
        loop {
            if std::mem::take(&mut self.again) {
                // The text was checked when it was read first.
            } else if self.text.next_line()?.is_none() {
                return Ok(None);
            }
            match utf8(self.text.line()) {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => return Ok(Some(line.trim().to_owned())),
                Err(found) => return Err(self.defect("", "text in UTF-8", found)),
            }
        }
    }

    /// Lets the next call give the same line again.
    fn step_back(&mut self) {
        self.again = true;
    }

    fn number(&self) -> u64 {
        self.text.line_number()
    }

    fn defect(
        &self,
        place: impl std::fmt::Display,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Error {
        self.text.defect(place, expected, found).into()
    }

    /// Numbers between blanks.
    fn numbers(&self, line: &str) -> Result<Vec<f64>> {
        let number = |word: &str| {
            let value = word.parse::<f64>().ok().filter(|value| value.is_finite());
            value.ok_or_else(|| self.defect("", "finite numbers", excerpt(word.as_bytes())))
        };
        line.split_whitespace().map(number).collect()
    }

    /// Remembers the id of a motif.
    fn check_id(&self, ids: &mut BTreeSet<String>, id: &str) -> Result<()> {
        if id.is_empty() {
            return Err(self.defect("", "an identifier of the motif", "none"));
        }
        if ids.len() == MOTIFS_MAX {
            let expected = format!("at most {MOTIFS_MAX} motifs (the limit)");
            return Err(self.defect("", expected, "one more"));
        }
        if !ids.insert(id.to_owned()) {
            let found = format!("{} again (a duplicate)", excerpt(id.as_bytes()));
            return Err(self.defect("", "unique identifiers", found));
        }
        Ok(())
    }
}

/// Makes four numbers that sum to about one, or are counts, sum to one.
fn normalise(row: &mut [f64; 4]) {
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
}
