//! Alternative splicing from public inputs: tables of percent spliced in, exons cut from a genome.
//!
//! Leaves out: the filter of scored exons, a matter of the statistics; windows made ready (`hdf5`).
//! Invariant: targets have the names and values of the archive's `delta_logit.h5`.

use crate::dataset::{PsiSet, PsiSplit, PsiTable};
use crate::dna::{DnaSequence, Interval, Strand};
use crate::error::Result;
use crate::example::{Example, ExampleSchema};
use crate::readers::ExampleReader;
use crate::readers::genome::Genome;
use crate::readers::text::{batch, excerpt};
use psi::{Exon, PsiReader};
use std::collections::VecDeque;

mod psi;
mod tissues;

pub use tissues::STUDY_TISSUES;

/// Nucleotides of intron on each side of an exon.
const FLANK_NT: u64 = 300;
/// Length of the left and of the right window in nucleotides.
const WINDOW_NT: u64 = 400;

/// Exons of tables in the order of the tables and of their rows.
///
/// The sequence of an exon runs from 300 nucleotides before it to 300 behind it, on its strand; its
/// first 400 nucleotides are the left window and its last 400 the right one. Windows of exons below
/// 200 nucleotides overlap and those of exons below 100 reach into the intron behind, as in the
/// study. An exon whose sequence leaves the chromosome is refused, never padded.
///
/// Targets are `delta_0` …, then `mean_0` …, one each for a tissue. Ids are the column `exon_id`
/// where there is one, else split and row.
pub struct SplicingReader {
    genome: Genome,
    tissues: Vec<String>,
    tables: VecDeque<(PsiTable, PsiReader)>,
    row: u64,
    schema: ExampleSchema,
}

impl SplicingReader {
    /// Opens the genome and every table of `set`, and reads each table once for its scale.
    ///
    /// # Errors
    /// `NotFound` without a file; `Invalid` with file, line, column, expected and found.
    pub fn open(set: &PsiSet) -> Result<Self> {
        let genome = Genome::open(&set.genome)?;
        let mut tissues = set.tissues.clone();
        let mut tables = VecDeque::new();
        for table in &set.tables {
            // Later tables are read by the names of the first, whatever their own order.
            let reader = PsiReader::open(table, &tissues)?;
            tissues = reader.tissues();
            tables.push_back((table.clone(), reader));
        }
        let numbered = |stem: &'static str| (0..tissues.len()).map(move |i| format!("{stem}_{i}"));
        let schema = ExampleSchema {
            sequences: vec!["left".to_owned(), "right".to_owned()],
            targets: numbered("delta").chain(numbered("mean")).collect(),
            has_intervals: true,
            has_splits: set.tables.iter().all(|table| table.split != PsiSplit::None),
        };
        Ok(Self { genome, tissues, tables, row: 0, schema })
    }

    /// Names of the tissues: `delta_i` and `mean_i` belong to the i-th.
    pub fn tissues(&self) -> &[String] {
        &self.tissues
    }

    fn next_example(&mut self) -> Result<Option<Example>> {
        while let Some((table, reader)) = self.tables.front_mut() {
            let Some(exon) = reader.next_exon()? else {
                self.tables.pop_front();
                self.row = 0;
                continue;
            };
            let row = self.row;
            self.row += 1;
            let name = match &table.split {
                PsiSplit::All(split) => format!("{split}-{row}"),
                _ => format!("row{row}"),
            };
            let cut = cut(&self.genome, reader, exon, name);
            return cut.map(Some).map_err(|error| reader.explain(error));
        }
        Ok(None)
    }
}

impl ExampleReader for SplicingReader {
    fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        batch::collect(rows, || self.next_example())
    }

    fn target_titles(&self) -> Vec<String> {
        self.tissues.clone()
    }
}

/// The windows of `exon`; `name` stands in for an id it lacks.
fn cut(genome: &Genome, reader: &PsiReader, exon: Exon, name: String) -> Result<Example> {
    let Exon { id, chromosome, start, end, strand, split, targets } = exon;
    let Some(contig) = genome.contig(&chromosome) else {
        let expected = genome.expected_name();
        return Err(reader.defect("chrom", expected, excerpt(chromosome.as_bytes())));
    };
    let length = contig.length;
    // 1-based with both ends becomes 0-based and half-open.
    let span = start.checked_sub(1 + FLANK_NT).zip(end.checked_add(FLANK_NT));
    let Some((from, to)) = span.filter(|&(_, to)| to <= length) else {
        let expected = format!(
            "an exon with {FLANK_NT} nucleotides on both sides inside {chromosome} (1 to {length})"
        );
        return Err(reader.defect("exon_start, exon_end", expected, format!("{start} to {end}")));
    };
    // An exon has a nucleotide at least, so the sequence has 601.
    let (first, last) = ((from, from + WINDOW_NT), (to - WINDOW_NT, to));
    let (left, right) = match strand {
        Strand::Forward => (first, last),
        Strand::Reverse => (last, first),
    };
    let window = |(from, to): (u64, u64)| -> Result<DnaSequence> {
        let letters = genome.fetch(&chromosome, from, to)?;
        let sequence = DnaSequence::new(letters).expect("fetch checked the letters");
        Ok(match strand {
            Strand::Forward => sequence,
            Strand::Reverse => sequence.reverse_complement(),
        })
    };
    Ok(Example {
        id: id.unwrap_or(name),
        sequences: vec![window(left)?, window(right)?],
        interval: Some(Interval { chromosome, start: from, end: to, strand }),
        split,
        targets,
    })
}
