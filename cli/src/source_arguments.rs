//! Arguments that name where sequences come from.
//!
//! Leaves out: reading them. Invariant: they stand for one `[[dataset]]` table, checked as one.

use clap::{ArgGroup, Args};
use glmeval_common::dataset::{Hdf5Layout, TableColumns};
use glmeval_common::job::DatasetSpec;
use std::path::PathBuf;

/// One source of sequences.
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).multiple(true)
    .args(["fasta", "bed", "narrowpeak", "genome", "hdf5", "tsv"])))]
pub(crate) struct SourceArguments {
    /// FASTA, plain, gzip or bgzip.
    #[arg(long)]
    fasta: Option<PathBuf>,
    /// BED; needs --genome.
    #[arg(long)]
    bed: Option<PathBuf>,
    /// narrowPeak; needs --genome, windows are centred on summits.
    #[arg(long)]
    narrowpeak: Option<PathBuf>,
    /// Genome FASTA: of --bed or --narrowpeak, or with --window alone to cut into windows.
    #[arg(long)]
    genome: Option<PathBuf>,
    /// Window length in nucleotides.
    #[arg(long, conflicts_with_all = ["fasta", "hdf5", "tsv"])]
    window: Option<u64>,
    /// Distance between window starts in nucleotides [default: the window length].
    #[arg(long, requires = "window",
        conflicts_with_all = ["fasta", "bed", "narrowpeak", "hdf5", "tsv"])]
    stride: Option<u64>,
    /// Skip windows with a larger share of undefined letters.
    #[arg(long, default_value_t = 0.5,
        conflicts_with_all = ["fasta", "bed", "narrowpeak", "hdf5", "tsv"])]
    undefined_share_max: f64,
    /// HDF5 file and key of the one-hot data set.
    #[arg(long, value_name = "FILE:KEY", value_parser = file_and_name)]
    hdf5: Option<(PathBuf, String)>,
    /// TSV or CSV file and column of the sequence.
    #[arg(long, value_name = "FILE:COLUMN", value_parser = file_and_name)]
    tsv: Option<(PathBuf, String)>,
    /// Column of the ids of --tsv [default: rows are numbered].
    #[arg(long, value_name = "COLUMN", requires = "tsv")]
    id_column: Option<String>,
}

impl SourceArguments {
    /// The `[[dataset]]` table they stand for; `split` is a column of --tsv.
    pub(crate) fn spec(&self, split: Option<&str>) -> DatasetSpec {
        let windows = self.bed.is_none() && self.narrowpeak.is_none();
        let genome = self.genome.clone();
        let mut spec = DatasetSpec {
            name: "sequences".to_owned(),
            fasta: self.fasta.clone(),
            bed: self.bed.clone(),
            narrowpeak: self.narrowpeak.clone(),
            window: self.window,
            ..DatasetSpec::default()
        };
        if windows {
            // A default is no choice, which sources without windows would refuse.
            spec.undefined_share_max = genome.is_some().then_some(self.undefined_share_max);
            spec.windows = genome;
            spec.stride = self.stride;
        } else {
            spec.genome = genome;
        }
        if let Some((path, key)) = &self.hdf5 {
            (spec.hdf5, spec.layout) = (Some(path.clone()), Some(Hdf5Layout::Key(key.clone())));
        }
        if let Some((path, sequence)) = &self.tsv {
            let (sequence, id) = (sequence.clone(), self.id_column.clone());
            let split = split.map(str::to_owned);
            spec.table = Some(path.clone());
            spec.columns = Some(TableColumns { sequence, id, split, ..TableColumns::default() });
        }
        spec
    }
}

/// Splits `FILE:NAME`; the last colon counts.
pub(crate) fn file_and_name(text: &str) -> Result<(PathBuf, String), String> {
    let parts = text.rsplit_once(':');
    let parts = parts.filter(|(path, name)| !path.is_empty() && !name.is_empty());
    let (path, name) = parts.ok_or("expected a file, a colon and a name")?;
    Ok((PathBuf::from(path), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        source: SourceArguments,
    }

    fn parse(line: &str) -> Result<Line, clap::Error> {
        Line::try_parse_from(format!("embed {line}").split(' '))
    }

    #[test]
    fn options_of_another_source_are_refused_with_both_names() {
        for (line, option, source) in [
            ("--fasta r.fa --window 5", "--window", "--fasta"),
            ("--fasta r.fa --undefined-share-max 0.1", "--undefined-share-max", "--fasta"),
            ("--fasta r.fa --id-column name", "", "--tsv"),
            ("--tsv t.tsv:seq --window 5", "--window", "--tsv"),
            ("--bed b.bed --genome g.fa --window 5 --stride 2", "--stride", "--bed"),
            ("--genome g.fa --stride 2", "", "--window"),
        ] {
            let error = parse(line).err().expect(line).to_string();
            assert!(error.contains(option) && error.contains(source), "{line}: {error}");
        }
    }

    #[test]
    fn options_of_a_source_are_taken_and_defaults_refuse_nothing() {
        for line in [
            "--fasta r.fa",
            "--bed b.bed --genome g.fa --window 5",
            "--genome g.fa --window 5 --stride 2 --undefined-share-max 0.1",
            "--tsv t.tsv:seq --id-column name",
            "--hdf5 a.h5:x",
        ] {
            let spec = parse(line).map(|line| line.source.spec(None));
            assert!(
                spec.is_ok(),
                "{line}: {}",
                spec.err().map_or(String::new(), |e| e.to_string())
            );
        }
    }
}
