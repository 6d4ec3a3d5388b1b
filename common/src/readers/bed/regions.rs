//! Lines that name a region of a genome, and the windows cut for them.
//!
//! Leaves out: which columns a format has (`bed`, `narrow_peak`). Invariant: start < end for every
//! region, checked against the chromosome's length before anything is read from the genome.

use crate::dna::{DnaSequence, Interval, Strand};
use crate::error::{Error, InputError, Result};
use crate::example::{Example, ExampleSchema};
use crate::limits::{SEQUENCE_NT_MAX, TABLE_LINE_BYTES_MAX};
use crate::readers::genome::Genome;
use crate::readers::text::unique::RepeatedIds;
use crate::readers::text::{TextReader, batch, excerpt, utf8};
use crate::readers::windows::check_window;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// Columns of a line that are kept; formats of this family have fewer.
const COLUMNS_KEPT_MAX: usize = 64;

/// A region as a line names it.
pub(in crate::readers) struct Region {
    pub(in crate::readers) chromosome: String,
    pub(in crate::readers) start: u64,
    pub(in crate::readers) end: u64,
    /// The base that a window is centred on, 0-based.
    pub(in crate::readers) centre: u64,
    pub(in crate::readers) strand: Strand,
    /// Whether the line names the strand.
    has_strand: bool,
    name: Option<String>,
}

/// Makes a region of a line.
type Parse = fn(&Columns<'_>) -> Result<Region>;

/// Reads the regions of a file.
pub(in crate::readers) struct RegionLines {
    text: TextReader,
    parse: Parse,
    has_regions: bool,
}

/// Reads the regions of a file and cuts each from a genome.
pub(in crate::readers) struct RegionReader {
    lines: RegionLines,
    genome: Arc<Genome>,
    window: Option<u64>,
    schema: ExampleSchema,
    ids: RepeatedIds,
}

impl RegionLines {
    /// Opens `path`, whose lines `parse` understands.
    pub(in crate::readers) fn open(path: &Path, parse: Parse) -> Result<Self> {
        let text = TextReader::open(path, TABLE_LINE_BYTES_MAX)?;
        Ok(Self { text, parse, has_regions: false })
    }

    /// The next region; `None` at the end of a file that had one.
    pub(in crate::readers) fn next_region(&mut self) -> Result<Option<Region>> {
        while let Some(line) = self.text.next_line()? {
            if !is_data(line) {
                continue;
            }
            let region = (self.parse)(&Columns::split(&self.text)?)?;
            self.has_regions = true;
            return Ok(Some(region));
        }
        if !self.has_regions {
            let (file, expected) = (self.text.path().display(), "at least one interval");
            return Err(
                InputError::new(file, "", expected, "0 intervals: the file is empty").into()
            );
        }
        Ok(None)
    }

    /// Length of the chromosome that the region read last lies in.
    pub(in crate::readers) fn check(&self, region: &Region, genome: &Genome) -> Result<u64> {
        let Region { chromosome, end, .. } = region;
        let Some(contig) = genome.contig(chromosome) else {
            let expected = genome.expected_name();
            return Err(self.defect(expected, excerpt(chromosome.as_bytes())));
        };
        let length = contig.length;
        if *end > length {
            let expected = format!("end <= {length}, the length of chromosome {chromosome}");
            return Err(self.defect(expected, end));
        }
        Ok(length)
    }

    /// A defect of the line read last.
    pub(in crate::readers) fn defect(
        &self,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Error {
        self.text.defect("", expected, found).into()
    }

    /// Prefers damage of a compressed file to `error`.
    pub(in crate::readers) fn explain(&mut self, error: Error) -> Error {
        self.text.explain(error)
    }
}

impl RegionReader {
    /// Opens `path`, whose lines `parse` understands.
    pub(in crate::readers) fn open(
        path: &Path,
        genome: Arc<Genome>,
        window: Option<u64>,
        parse: Parse,
    ) -> Result<Self> {
        window.map_or(Ok(()), check_window)?;
        let lines = RegionLines::open(path, parse)?;
        let schema = ExampleSchema { has_intervals: true, ..ExampleSchema::sequences_only() };
        Ok(Self { lines, genome, window, schema, ids: RepeatedIds::default() })
    }

    pub(in crate::readers) fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    /// What readers should know of ids that came again.
    pub(in crate::readers) fn notes(&self) -> Vec<String> {
        self.ids.notes(&self.lines.text.path().display().to_string(), "lines")
    }

    pub(in crate::readers) fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        batch::collect(rows, || self.next_example()).map_err(|error| self.lines.explain(error))
    }

    fn next_example(&mut self) -> Result<Option<Example>> {
        let Some(region) = self.lines.next_region()? else { return Ok(None) };
        let example = self.cut(region)?;
        self.ids.look(&example.id, self.lines.text.line_number());
        Ok(Some(example))
    }

    fn cut(&self, region: Region) -> Result<Example> {
        let length = self.lines.check(&region, &self.genome)?;
        let Region { chromosome, start, end, centre, strand, has_strand, name } = region;
        let (start, end) = match self.window {
            None => (start, end),
            Some(window) => {
                let from = centre.checked_sub(window / 2);
                let piece = from.map(|from| (from, from.saturating_add(window)));
                piece.filter(|&(_, to)| to <= length).ok_or_else(|| {
                    let expected = format!(
                        "a window inside chromosome {chromosome} of length {length} (0 to {length})"
                    );
                    let found = format!("{window} nucleotides centred on {centre}");
                    self.lines.defect(expected, found)
                })?
            }
        };
        if end - start > SEQUENCE_NT_MAX as u64 {
            let expected = format!("an interval of at most {SEQUENCE_NT_MAX} nucleotides");
            return Err(self.lines.defect(expected, end - start));
        }
        let letters = self.genome.fetch(&chromosome, start, end)?;
        let sequence = DnaSequence::new(letters).expect("fetch checked the letters");
        let sequence = match strand {
            Strand::Forward => sequence,
            Strand::Reverse => sequence.reverse_complement(),
        };
        let interval = Interval { chromosome, start, end, strand };
        let id = name.unwrap_or_else(|| match has_strand {
            true => interval.to_string(),
            false => format!("{}:{start}-{end}", interval.chromosome),
        });
        Ok(Example {
            id,
            sequences: vec![sequence],
            interval: Some(interval),
            split: None,
            targets: Vec::new(),
        })
    }
}

/// Whether a line holds a region rather than a comment or words to a browser.
fn is_data(line: &[u8]) -> bool {
    let is_word = |word: &[u8]| {
        line.strip_prefix(word).is_some_and(|rest| matches!(rest.first(), None | Some(b' ')))
    };
    !line.trim_ascii().is_empty()
        && line.first() != Some(&b'#')
        && !is_word(b"track")
        && !is_word(b"browser")
}

/// The columns of one line: between tabs, or between blanks where there is no tab.
pub(in crate::readers) struct Columns<'a> {
    text: &'a TextReader,
    columns: Vec<&'a str>,
    count: usize,
}

impl<'a> Columns<'a> {
    fn split(text: &'a TextReader) -> Result<Self> {
        let line = utf8(text.line()).map_err(|found| text.defect("", "UTF-8", found))?;
        let (columns, count) = if line.contains('\t') {
            (line.split('\t').take(COLUMNS_KEPT_MAX).collect(), line.split('\t').count())
        } else {
            let columns = line.split_ascii_whitespace();
            (columns.clone().take(COLUMNS_KEPT_MAX).collect(), columns.count())
        };
        Ok(Self { text, columns, count })
    }

    /// Refuses a line whose number of columns is not in `counts`, in words `expected`.
    pub(in crate::readers) fn expect_count(
        &self,
        counts: RangeInclusive<usize>,
        expected: &str,
    ) -> Result<()> {
        if counts.contains(&self.count) {
            return Ok(());
        }
        let expected = format!("{expected} columns between tabs");
        Err(self.defect(expected, format_args!("{} columns", self.count)))
    }

    /// Column `index`, from 0; empty where the line has none.
    pub(in crate::readers) fn get(&self, index: usize) -> &'a str {
        self.columns.get(index).copied().unwrap_or_default()
    }

    /// Column `index` as a number; `expected` says which.
    pub(in crate::readers) fn number(&self, index: usize, expected: &str) -> Result<u64> {
        let column = self.get(index);
        column.parse().map_err(|_| self.defect(expected, excerpt(column.as_bytes())))
    }

    /// Chromosome, start, end, name and strand: the columns that all these formats share.
    pub(in crate::readers) fn region(&self) -> Result<Region> {
        let start = self.number(1, "start, a non-negative integer")?;
        let end = self.number(2, "end, a non-negative integer")?;
        if start >= end {
            return Err(self.defect("start < end", format_args!("start {start}, end {end}")));
        }
        let strand = match self.get(5) {
            "+" | "." | "" => Strand::Forward,
            "-" => Strand::Reverse,
            other => return Err(self.defect("strand + or - or .", excerpt(other.as_bytes()))),
        };
        let name = Some(self.get(3)).filter(|name| !matches!(*name, "" | "."));
        Ok(Region {
            chromosome: self.get(0).to_owned(),
            start,
            end,
            centre: start + (end - start) / 2,
            strand,
            has_strand: matches!(self.get(5), "+" | "-"),
            name: name.map(str::to_owned),
        })
    }

    /// A defect of this line.
    pub(in crate::readers) fn defect(
        &self,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Error {
        self.text.defect("", expected, found).into()
    }
}
