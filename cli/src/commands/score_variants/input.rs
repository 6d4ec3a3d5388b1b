//! The files of variants, and the windows cut for them.
//!
//! Leaves out: scores. Invariant: files are read twice, first to find every defect before anything is
//! computed, so they must not change in between.

use clap::{Args, ValueEnum};
use glmeval_common::error::{InputError, Result};
use glmeval_common::readers::genome::Genome;
use glmeval_common::readers::variants::{
    self, VariantColumn, VariantFormat, VariantOptions, VariantReader, examples,
};
use glmeval_common::variant::{Indels, Variant, VariantFields};
use glmeval_worker::variants::{Window, WindowCutter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Variants of one read of the first pass.
const VARIANTS_PER_LOOK: usize = 1_024;

/// How variants are written down.
#[derive(Clone, Copy, ValueEnum)]
enum InputName {
    /// VCF, plain, gzip or bgzip.
    Vcf,
    /// TSV or CSV with a header line.
    Table,
    /// CAGI5's raw tables: seven lines, then six columns without a header.
    Cagi,
    /// The paper's windows: HDF5 of `ref` and `alt`, a CSV beside it; no genome is needed.
    Archive,
}

/// What happens to variants that are no exchange of one base.
#[derive(Clone, Copy, Default, ValueEnum)]
enum IndelName {
    /// An error that names file and line.
    #[default]
    Refuse,
    /// A row without a score.
    Skip,
}

/// Where variants and their windows come from.
#[derive(Args)]
pub(super) struct InputArguments {
    /// Genome FASTA, plain, gzip or bgzip; chromosomes with or without `chr`.
    #[arg(long)]
    genome: Option<PathBuf>,
    /// VCF, TSV, CSV, CAGI5's raw tables, or the paper's `CAGI_onehot.h5`; several are one after the other.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE", aliases = ["vcf", "tsv"])]
    variants: Vec<PathBuf>,
    /// How the variants are written down [default: by the name of the file].
    #[arg(long, value_enum)]
    input: Option<InputName>,
    /// Name of a column of a table, such as `effect=log2_ratio`; repeat for more.
    #[arg(long = "column", value_name = "COLUMN=NAME", value_parser = column)]
    columns: Vec<(VariantColumn, String)>,
    /// Insertions, deletions and all else that is no exchange of one base.
    #[arg(long, value_enum, default_value_t)]
    indels: IndelName,
}

impl InputArguments {
    /// All that is read, each beside its argument.
    pub(super) fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let beside = self.variants.iter().filter(|path| self.is_archive(path));
        let beside = beside.filter_map(|path| variants::archive_table(path));
        let variants = self.variants.iter().cloned().chain(beside).map(|path| ("--variants", path));
        variants.chain(self.genome.clone().map(|path| ("--genome", path))).collect()
    }

    /// Refuses names of columns where no file is a table.
    fn check_columns(&self) -> Result<()> {
        let is_table = |path: &PathBuf| match self.input {
            Some(name) => matches!(name, InputName::Table),
            None => VariantFormat::of(path) == VariantFormat::Table,
        };
        if self.columns.is_empty() || self.variants.iter().any(is_table) {
            return Ok(());
        }
        let expected = "a table among --variants, whose columns it names";
        Err(InputError::new("command line", "--column", expected, "no table").into())
    }

    fn is_archive(&self, path: &Path) -> bool {
        match self.input {
            Some(InputName::Archive) => true,
            Some(_) => false,
            None => VariantFormat::of(path) == VariantFormat::Archive,
        }
    }
}

fn column(text: &str) -> Result<(VariantColumn, String), String> {
    let parts = text.split_once('=').filter(|(_, name)| !name.is_empty());
    let found = parts.and_then(|(column, name)| Some((VariantColumn::parse(column)?, name)));
    found.map(|(column, name)| (column, name.to_owned())).ok_or_else(|| {
        let names: Vec<&str> = VariantColumn::ALL.iter().map(|column| column.name()).collect();
        format!("expected COLUMN=NAME, COLUMN being one of {}", names.join(", "))
    })
}

/// A variant and its window, or why it has none.
pub(super) type Row = (Variant, Result<Window, String>);

/// What the first pass found.
pub(super) struct Survey {
    /// Variants of all files.
    pub(super) rows: u64,
    /// Which optional values any of them has.
    pub(super) fields: VariantFields,
}

/// Files that can be read from their beginning as often as needed.
pub(super) struct Input {
    paths: Vec<PathBuf>,
    options: VariantOptions,
    cutter: WindowCutter,
}

impl Input {
    /// Opens the genome; windows have `window` nucleotides, unless the files hold windows.
    pub(super) fn open(arguments: &InputArguments, window: u64) -> Result<Self> {
        arguments.check_columns()?;
        let options = VariantOptions {
            format: arguments.input.map(|name| match name {
                InputName::Vcf => VariantFormat::Vcf,
                InputName::Table => VariantFormat::Table,
                InputName::Cagi => VariantFormat::Cagi,
                InputName::Archive => VariantFormat::Archive,
            }),
            indels: match arguments.indels {
                IndelName::Refuse => Indels::Refuse,
                IndelName::Skip => Indels::Skip,
            },
            columns: arguments.columns.iter().cloned().collect(),
        };
        let genome = arguments.genome.as_deref().map(Genome::open).transpose()?.map(Arc::new);
        let paths = arguments.variants.clone();
        let cutter = WindowCutter::new(genome, window)?;
        Ok(Self { paths, options, cutter })
    }

    /// Length of all windows in nucleotides.
    pub(super) fn window(&self) -> u64 {
        self.cutter.length()
    }

    /// Reads everything once; `look` sees every window.
    pub(super) fn survey(&self, look: &mut dyn FnMut(&[&Window]) -> Result<()>) -> Result<Survey> {
        let mut rows = 0;
        self.each(VARIANTS_PER_LOOK, &mut |read| {
            rows += read.len() as u64;
            let windows = read.iter().filter_map(|(_, window)| window.as_ref().ok());
            look(&windows.collect::<Vec<_>>())
        })?;
        Ok(Survey { rows, fields: self.fields()? })
    }

    /// Which optional values any of the files has.
    pub(super) fn fields(&self) -> Result<VariantFields> {
        let mut fields = VariantFields::default();
        for path in &self.paths {
            fields = fields.or(self.reader(path)?.fields());
        }
        Ok(fields)
    }

    fn reader(&self, path: &Path) -> Result<Box<dyn VariantReader>> {
        variants::open(path, &self.options)
    }

    /// Hands out the rows of all files in their order, at most `count` at a time.
    pub(super) fn each(
        &self,
        count: usize,
        take: &mut dyn FnMut(Vec<Row>) -> Result<()>,
    ) -> Result<()> {
        for path in &self.paths {
            let mut reader = self.reader(path)?;
            loop {
                let variants = reader.read(count)?;
                if variants.is_empty() {
                    break;
                }
                let mut rows = Vec::with_capacity(variants.len());
                for variant in variants {
                    let window = self.cutter.cut(path, &variant)?;
                    rows.push((variant, window));
                }
                take(rows)?;
            }
        }
        Ok(())
    }
}

/// The window length of stored windows; `None` where no file holds some.
pub(super) fn stored_window(arguments: &InputArguments) -> Result<Option<u64>> {
    let path = arguments.variants.iter().find(|path| arguments.is_archive(path));
    path.map(|path| examples::stored_window(path)).transpose()
}
