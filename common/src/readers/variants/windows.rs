//! Windows of a genome around variants.
//!
//! Leaves out: what is computed of them. Invariant: a window holds the reference base that the file
//! lists, at index L/2 - 1 of L; whatever does not is dropped with a reason.

use crate::dna::DnaSequence;
use crate::error::{Error, InputError, Result};
use crate::limits::SEQUENCE_NT_MAX;
use crate::readers::genome::{Contig, Genome};
use crate::variant::Variant;
use std::path::Path;
use std::sync::Arc;

/// The sequence around a variant, and the base that it puts in the middle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// First base on the chromosome, 0-based.
    pub start: u64,
    /// Letters of the genome, the variant's reference base at [`Window::index`].
    pub reference: DnaSequence,
    /// The base in its place.
    pub alternative: u8,
}

impl Window {
    /// Where the variant stands: L/2 - 1.
    pub fn index(&self) -> usize {
        middle(self.reference.len())
    }

    /// The window with the alternative base.
    pub fn alternative_sequence(&self) -> DnaSequence {
        let mut letters = self.reference.as_bytes().to_vec();
        if let Some(letter) = letters.get_mut(self.index()) {
            *letter = self.alternative;
        }
        DnaSequence::new(letters).unwrap_or_default()
    }
}

fn middle(length: usize) -> usize {
    (length / 2).saturating_sub(1)
}

/// Cuts windows from a genome.
#[derive(Clone)]
pub struct WindowCutter {
    genome: Option<Arc<Genome>>,
    length: u64,
}

impl WindowCutter {
    /// Cuts windows of `length` nucleotides; without a genome, variants must bring their windows.
    ///
    /// # Errors
    /// `Invalid` for a length that is odd, below 2 or longer than a sequence may be.
    pub fn new(genome: Option<Arc<Genome>>, length: u64) -> Result<Self> {
        if length < 2 || !length.is_multiple_of(2) || length > SEQUENCE_NT_MAX as u64 {
            return Err(Error::invalid(format!(
                "window: expected an even number of nucleotides from 2 to {SEQUENCE_NT_MAX}, \
                 found {length}"
            )));
        }
        Ok(Self { genome, length })
    }

    /// Length of every window in nucleotides.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The window of `variant`, or why it has none: `start = position - L/2`, 0-based.
    ///
    /// `file` is where the variant stands, for errors. A chromosome is looked for as it is spelt, then
    /// with or without `chr` in front of it.
    ///
    /// # Errors
    /// `Invalid` for a chromosome that the genome lacks, a stored window of another length, and a
    /// variant without a window where there is no genome; damage of the genome.
    pub fn cut(&self, file: &Path, variant: &Variant) -> Result<Result<Window, String>> {
        let Some((reference, alternative)) = variant.substitution() else {
            return Ok(Err("no exchange of one base for another".to_owned()));
        };
        if let Some(stored) = &variant.stored {
            let [window, _] = stored.as_ref();
            return self.take(file, variant, window.clone(), alternative).map(Ok);
        }
        let Some(genome) = &self.genome else {
            let expected = "a genome to cut windows from";
            return Err(InputError::new("command line", "--genome", expected, "none").into());
        };
        let contig = genome.contig(&variant.chromosome).ok_or_else(|| {
            let expected = genome.expected_name();
            let place = format!("line {}", variant.line);
            let found = format!("{:?}", variant.chromosome);
            Error::from(InputError::new(file.display(), place, expected, found))
        })?;
        let (position, half) = (variant.position, self.length / 2);
        if position > contig.length {
            let Contig { name, length } = contig;
            return Ok(Err(format!("{name} ends at {length}, before {position}")));
        }
        let base = genome.fetch(&contig.name, position - 1, position)?;
        if base != [reference] {
            let found = String::from_utf8_lossy(&base).into_owned();
            let listed = char::from(reference);
            return Ok(Err(format!("the genome has {found} for the reference {listed}")));
        }
        let end = position.saturating_add(half);
        let start = position.checked_sub(half).filter(|_| end <= contig.length);
        let Some(start) = start else {
            let Contig { name, length } = contig;
            let before = if position < half { "-" } else { "" };
            let start = position.abs_diff(half);
            return Ok(Err(format!(
                "window {before}{start} to {end} leaves {name} (0 to {length})"
            )));
        };
        let letters = genome.fetch(&contig.name, start, end)?;
        let reference = DnaSequence::new(letters)
            .map_err(|bad| Error::bug(format!("a genome with {bad} of a window")))?;
        Ok(Ok(Window { start, reference, alternative }))
    }

    /// A window that the file itself holds.
    fn take(
        &self,
        file: &Path,
        variant: &Variant,
        reference: DnaSequence,
        alternative: u8,
    ) -> Result<Window> {
        if reference.len() as u64 != self.length {
            let place = format!("row {}", variant.line);
            let expected = format!("a window of {} nucleotides", self.length);
            return Err(InputError::new(file.display(), place, expected, reference.len()).into());
        }
        let start = variant.position.saturating_sub(self.length / 2);
        Ok(Window { start, reference, alternative })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cutter(length: u64) -> (tempfile::TempDir, WindowCutter) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fa");
        std::fs::write(&path, ">chr1\nACGTacgtAC\n>2\nGGGG\n").unwrap();
        let cutter =
            WindowCutter::new(Some(Arc::new(Genome::open(&path).unwrap())), length).unwrap();
        (folder, cutter)
    }

    fn cut(
        chromosome: &str,
        position: u64,
        reference: &str,
        length: u64,
    ) -> Result<Result<Window, String>> {
        let variant = Variant {
            chromosome: chromosome.to_owned(),
            position,
            reference: reference.to_owned(),
            alternative: "N".to_owned().replace('N', if reference == "A" { "C" } else { "A" }),
            line: 7,
            ..Variant::default()
        };
        cutter(length).1.cut(Path::new("a.vcf"), &variant)
    }

    #[test]
    fn the_variant_stands_left_of_the_middle() {
        let window = cut("chr1", 5, "A", 4).unwrap().unwrap();
        assert_eq!((window.start, window.index()), (3, 1));
        assert_eq!(window.reference.as_str(), "TACG");
        assert_eq!(window.alternative_sequence().as_str(), "TCCG");
        assert_eq!(cut("1", 5, "A", 4).unwrap().unwrap(), window);
        assert_eq!(cut("chr2", 2, "G", 4).unwrap().unwrap().start, 0);
    }

    #[test]
    fn what_does_not_fit_the_genome_is_dropped_with_its_reason() {
        let reason = |position, reference, length| {
            cut("1", position, reference, length).unwrap().unwrap_err()
        };
        assert_eq!(reason(5, "G", 4), "the genome has A for the reference G");
        assert_eq!(reason(1, "A", 4), "window -1 to 3 leaves chr1 (0 to 10)");
        assert_eq!(reason(9, "A", 4), "window 7 to 11 leaves chr1 (0 to 10)");
        assert_eq!(reason(11, "A", 4), "chr1 ends at 10, before 11");
        let error = cut("3", 1, "A", 4).unwrap_err().to_string();
        assert!(error.contains("a.vcf: line 7: expected a chromosome of the genome"), "{error}");
    }

    #[test]
    fn a_window_has_an_even_number_of_nucleotides() {
        for length in [0, 3, u64::MAX] {
            assert!(WindowCutter::new(None, length).is_err());
        }
    }
}
