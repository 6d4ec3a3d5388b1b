//! Variants as examples of two sequences, the reference's window and the alternative's.
//!
//! Leaves out: scoring. Invariant: rows stand in the order of the files; a row whose window cannot be cut
//! is left out and counted, and no count is kept back.

use super::windows::{Window, WindowCutter};
use super::{VariantColumn, VariantFormat, VariantOptions, VariantReader, open};
use crate::dataset::DatasetSource;
use crate::dna::{Interval, Strand};
use crate::error::{Error, InputError, Result};
use crate::example::{Example, ExampleSchema, Split};
use crate::readers::ExampleReader;
use crate::readers::genome::Genome;
use crate::readers::text::batch;
use crate::variant::{Variant, VariantFields};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Variants looked at together while elements are gathered.
const VARIANTS_PER_LOOK: usize = 1_024;
/// Elements of one data set at most: each is a column of targets.
const ELEMENTS_MAX: usize = 4_096;
/// Target of effects in files that name no element.
const NO_ELEMENT: &str = "effect";
/// Elements listed in an error.
const ELEMENTS_SHOWN_MAX: usize = 20;

/// Reads the examples of a [`DatasetSource::Variants`].
///
/// An example's id is `ELEMENT:CHROMOSOME:POSITION:REF>ALT`, its split test. Each element is a target:
/// the measured effect stands in the column of its own, NaN in the others. Files without effects have
/// no targets.
pub struct VariantExamples {
    /// The file that names the source.
    first: PathBuf,
    files: VecDeque<PathBuf>,
    open: Option<(PathBuf, Box<dyn VariantReader>)>,
    options: VariantOptions,
    cutter: WindowCutter,
    /// Elements that are read; empty = all.
    elements: Vec<String>,
    schema: ExampleSchema,
    kept: u64,
    /// Rows left out, by kind of reason.
    dropped: BTreeMap<String, u64>,
}

impl VariantExamples {
    /// Opens the files of `source`, reads them once for the names of elements, and opens the genome.
    ///
    /// # Errors
    /// As [`open`] and [`Genome::open`]; `Invalid` for an element that no file has, for a window that is
    /// not even, and for any defect of a file.
    pub fn open(source: &DatasetSource) -> Result<Self> {
        let DatasetSource::Variants { paths, genome, window, elements, columns, indels, .. } =
            source
        else {
            return Err(Error::bug("no source of variants"));
        };
        let columns = columns.iter().map(|(column, name)| {
            let known = VariantColumn::parse(column);
            known.map(|known| (known, name.clone())).ok_or_else(|| Error::bug("a column's name"))
        });
        let columns = columns.collect::<Result<_>>()?;
        let options = VariantOptions { format: None, indels: *indels, columns };
        let (fields, found) = look(paths, &options)?;
        if let Some(missing) = elements.iter().find(|name| !found.contains(name)) {
            let shown: Vec<&str> =
                found.iter().take(ELEMENTS_SHOWN_MAX).map(String::as_str).collect();
            let path = paths.first().map_or(String::new(), |path| path.display().to_string());
            let expected = format!("elements that the files have ({})", shown.join(", "));
            return Err(InputError::new(path, "elements", expected, missing).into());
        }
        let is_read = |name: &String| elements.is_empty() || elements.contains(name);
        let targets =
            if fields.effect { found.into_iter().filter(is_read).collect() } else { vec![] };
        let window = match window {
            Some(window) => *window,
            None => {
                let is_stored = |path: &&PathBuf| VariantFormat::of(path) == VariantFormat::Archive;
                let path = paths.iter().find(is_stored);
                stored_window(path.ok_or_else(|| Error::bug("windows without a length"))?)?
            }
        };
        let genome = genome.as_deref().map(Genome::open).transpose()?.map(Arc::new);
        Ok(Self {
            first: paths.first().cloned().unwrap_or_default(),
            files: paths.iter().cloned().collect(),
            open: None,
            options,
            cutter: WindowCutter::new(genome, window)?,
            elements: elements.clone(),
            schema: ExampleSchema {
                sequences: vec!["reference".to_owned(), "alternative".to_owned()],
                targets,
                has_intervals: true,
                has_splits: true,
            },
            kept: 0,
            dropped: BTreeMap::new(),
        })
    }

    /// The next variant of any file, with the file it stands in.
    fn next_variant(&mut self) -> Result<Option<(PathBuf, Variant)>> {
        loop {
            if let Some((path, reader)) = &mut self.open {
                if let Some(variant) = reader.next_variant()? {
                    return Ok(Some((path.clone(), variant)));
                }
                self.open = None;
            }
            let Some(path) = self.files.pop_front() else { return Ok(None) };
            let reader = open(&path, &self.options)?;
            self.open = Some((path, reader));
        }
    }

    fn next_example(&mut self) -> Result<Option<Example>> {
        while let Some((path, variant)) = self.next_variant()? {
            let element = variant.element.as_deref().unwrap_or(NO_ELEMENT);
            if !self.elements.is_empty() && !self.elements.iter().any(|name| name == element) {
                continue;
            }
            match self.cutter.cut(&path, &variant)? {
                Err(reason) => *self.dropped.entry(reason_kind(&reason)).or_default() += 1,
                Ok(window) => {
                    self.kept += 1;
                    return self.example(&path, &variant, &window).map(Some);
                }
            }
        }
        if self.kept == 0 && !self.dropped.is_empty() {
            let (first, reasons) = (&self.first, self.notes().join("; "));
            let expected = "a variant with a window";
            return Err(InputError::new(first.display(), "", expected, reasons).into());
        }
        Ok(None)
    }

    fn example(&self, path: &Path, variant: &Variant, window: &Window) -> Result<Example> {
        let Variant { chromosome, position, reference, alternative, .. } = variant;
        let place = format!("{chromosome}:{position}:{reference}>{alternative}");
        let sequences = vec![window.reference.clone(), window.alternative_sequence()];
        if let Some(stored) = &variant.stored
            && stored[1] != sequences[1]
        {
            let row = format!("row {}", variant.line);
            let expected = format!("windows that differ at {} alone", window.index());
            return Err(InputError::new(path.display(), row, expected, place).into());
        }
        let element = variant.element.as_deref();
        let effect_of = |name: &String| match variant.effect {
            Some(effect) if name == element.unwrap_or(NO_ELEMENT) => effect as f32,
            _ => f32::NAN,
        };
        Ok(Example {
            id: element.map_or_else(|| place.clone(), |element| format!("{element}:{place}")),
            interval: Some(Interval {
                chromosome: chromosome.clone(),
                start: window.start,
                end: window.start.saturating_add(window.reference.len() as u64),
                strand: Strand::Forward,
            }),
            sequences,
            split: Some(Split::Test),
            targets: self.schema.targets.iter().map(effect_of).collect(),
        })
    }
}

impl ExampleReader for VariantExamples {
    fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        batch::collect(rows, || self.next_example())
    }

    fn notes(&self) -> Vec<String> {
        let all = self.dropped.values().fold(self.kept, |sum, count| sum.saturating_add(*count));
        let line = |(reason, count): (&String, &u64)| {
            format!("{count} of {all} variants left out: {reason}")
        };
        self.dropped.iter().map(line).collect()
    }
}

/// Which values the files have, and their elements in the order in which they came first.
fn look(paths: &[PathBuf], options: &VariantOptions) -> Result<(VariantFields, Vec<String>)> {
    let (mut fields, mut found) = (VariantFields::default(), Vec::new());
    for path in paths {
        let mut reader = open(path, options)?;
        fields = fields.or(reader.fields());
        loop {
            let variants = reader.read(VARIANTS_PER_LOOK)?;
            if variants.is_empty() {
                break;
            }
            for variant in variants {
                let name = variant.element.unwrap_or_else(|| NO_ELEMENT.to_owned());
                if found.len() <= ELEMENTS_MAX && !found.contains(&name) {
                    found.push(name);
                }
            }
        }
    }
    if found.len() > ELEMENTS_MAX {
        let path = paths.first().map_or(String::new(), |path| path.display().to_string());
        let expected = format!("at most {ELEMENTS_MAX} elements");
        return Err(InputError::new(path, "element", expected, "more").into());
    }
    Ok((fields, found))
}

/// The length of the windows that `path` stores, by its first row.
///
/// # Errors
/// `Invalid` without a row; defects of the file.
pub fn stored_window(path: &Path) -> Result<u64> {
    let format = Some(VariantFormat::Archive);
    let options = VariantOptions { format, ..VariantOptions::default() };
    let first = open(path, &options)?.next_variant()?;
    let length = first.and_then(|variant| Some(variant.stored?[0].len() as u64));
    length.ok_or_else(|| {
        InputError::new(path.display(), "ref", "at least one window", "0 rows").into()
    })
}

/// A reason for a missing window or score without the numbers and letters of its row; one that is not
/// known stays whole.
pub fn reason_kind(reason: &str) -> String {
    if reason.starts_with("the genome has ") {
        return "the genome has another base for the reference".to_owned();
    }
    if reason.starts_with("window ") {
        return "the window leaves the chromosome".to_owned();
    }
    if reason.contains(" ends at ") && reason.contains(", before ") {
        return "the chromosome ends before the variant".to_owned();
    }
    let place = reason.strip_prefix("tokenise column ").and_then(|rest| rest.split_once(": "));
    place.map_or_else(|| reason.to_owned(), |(_, letters)| format!("tokenise: {letters}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::TaskName;
    use crate::survey::survey;
    use crate::variant::Indels;

    /// A genome of 40 bases and the source of a table of `rows`.
    fn source(folder: &Path, rows: &str, elements: &[&str]) -> DatasetSource {
        std::fs::write(folder.join("g.fa"), format!(">chr1\n{}\n", "ACGT".repeat(10))).unwrap();
        let header = "chrom\tpos\tref\talt\telement\teffect\n";
        std::fs::write(folder.join("v.tsv"), format!("{header}{rows}")).unwrap();
        DatasetSource::Variants {
            paths: vec![folder.join("v.tsv")],
            companions: Vec::new(),
            genome: Some(folder.join("g.fa")),
            window: Some(8),
            elements: elements.iter().map(|&name| name.to_owned()).collect(),
            columns: BTreeMap::new(),
            indels: Indels::Refuse,
        }
    }

    const ROWS: &str = "1\t9\tA\tC\tLDLR\t0.5\n1\t10\tG\tT\tLDLR\t1\n1\t1\tA\tC\tLDLR\t1\n\
                        1\t11\tG\tT\tF9\t-0.25\n";

    #[test]
    fn a_variant_is_a_pair_of_windows_with_its_effect_under_its_element() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path(), ROWS, &[]);
        let mut reader = VariantExamples::open(&source).unwrap();
        let examples = reader.read(10).unwrap();
        let ids: Vec<_> = examples.iter().map(|example| example.id.as_str()).collect();
        assert_eq!(ids, ["LDLR:1:9:A>C", "F9:1:11:G>T"]);
        assert_eq!(reader.schema().targets, ["LDLR", "F9"]);
        let letters: Vec<_> = examples[0].sequences.iter().map(|s| s.as_str()).collect();
        assert_eq!(letters, ["CGTACGTA", "CGTCCGTA"]);
        assert_eq!((examples[0].targets[0], examples[1].targets[1]), (0.5, -0.25));
        assert!(examples[0].targets[1].is_nan() && examples[1].targets[0].is_nan());
        let facts = survey(&source, TaskName::VariantEffect).unwrap();
        assert_eq!((facts.rows, facts.length_max), (2, 8));
        let notes = [
            "1 of 4 variants left out: the genome has another base for the reference",
            "1 of 4 variants left out: the window leaves the chromosome",
        ];
        assert_eq!(facts.notes, notes);
    }

    #[test]
    fn reasons_are_told_without_the_numbers_of_a_row_and_never_cut() {
        for (reason, kind) in [
            (
                "the genome has A for the reference G",
                "the genome has another base for the reference",
            ),
            ("window -1 to 3 leaves chr1 (0 to 10)", "the window leaves the chromosome"),
            ("chr1 ends at 10, before 11", "the chromosome ends before the variant"),
            (
                "tokenise column 41: expected A, C, G, T or N, found 'R'",
                "tokenise: expected A, C, G, T or N, found 'R'",
            ),
            ("512 tokens, expected at most 40", "512 tokens, expected at most 40"),
        ] {
            assert_eq!(reason_kind(reason), kind);
        }
    }

    #[test]
    fn elements_are_chosen_by_name_and_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let chosen = source(folder.path(), ROWS, &["F9"]);
        let mut reader = VariantExamples::open(&chosen).unwrap();
        assert_eq!(reader.schema().targets, ["F9"]);
        assert_eq!(reader.read(10).unwrap().len(), 1);
        let error = VariantExamples::open(&source(folder.path(), ROWS, &["IRF4"])).err().unwrap();
        assert!(error.to_string().contains("elements that the files have (LDLR, F9)"), "{error}");
    }

    #[test]
    fn a_file_of_which_nothing_is_left_is_refused_with_the_reasons() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path(), "1\t10\tG\tT\tLDLR\t1\n", &[]);
        let error = survey(&source, TaskName::VariantEffect).unwrap_err().chain();
        assert!(error.contains("1 of 1 variants left out: the genome has another base"), "{error}");
    }
}
