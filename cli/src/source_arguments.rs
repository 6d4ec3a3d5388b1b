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
    #[arg(long)]
    window: Option<u64>,
    /// Distance between window starts in nucleotides [default: the window length].
    #[arg(long)]
    stride: Option<u64>,
    /// Skip windows with a larger share of undefined letters.
    #[arg(long, default_value_t = 0.5)]
    undefined_share_max: f64,
    /// HDF5 file and key of the one-hot data set.
    #[arg(long, value_name = "FILE:KEY", value_parser = file_and_name)]
    hdf5: Option<(PathBuf, String)>,
    /// TSV or CSV file and column of the sequence.
    #[arg(long, value_name = "FILE:COLUMN", value_parser = file_and_name)]
    tsv: Option<(PathBuf, String)>,
    /// Column of the ids of --tsv [default: rows are numbered].
    #[arg(long, value_name = "COLUMN")]
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
            spec.windows = genome;
            spec.stride = self.stride;
            spec.undefined_share_max = Some(self.undefined_share_max);
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
