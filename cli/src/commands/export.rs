//! `glmeval export EMBEDDINGS --format parquet|npy|h5ad`.

use crate::output::{complain, say};
use crate::writing;
use clap::{Args, ValueEnum};
use glmeval_common::embedding::export::{ExportLayout, NpyExport, ParquetExport};
use glmeval_common::error::{Error, ErrorKind, InputError, Result, io_error};
use glmeval_common::ids::SetId;
use glmeval_common::representation::Pooling;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{SetManifest, read_rows_among, read_set};
use glmeval_common::store::examples::read_manifest;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod anndata;
mod extent;

use extent::{Extent, extent};

/// Examples in memory at a time.
const ROWS_PER_READ: u64 = 4_096;

/// What to write.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum FileFormat {
    /// Columns `id` and `embedding` (a list of fixed length), one such column per sequence of an
    /// example; tokens of `full` as rows.
    Parquet,
    /// One array [rows, width] without ids; [rows, 2, width] for examples of two sequences.
    Npy,
    /// AnnData: cls or mean as X, splits, places and targets as obs.
    H5ad,
}

/// Arguments of `export`.
#[derive(Args)]
#[command(after_help = "Examples:
  glmeval export embeddings --format parquet --out embeddings.parquet
  glmeval export embeddings --pool mean --format h5ad --out embeddings.h5ad
  glmeval export s3://lab/glmeval --set 3f2a… --layer 12 --pool mean --format npy --out x.npy

Rows stand in the order of the examples; a set that is not whole is refused. Read with pandas.read_parquet,
duckdb, polars, numpy.load, or anndata.read_h5ad.")]
pub(crate) struct Arguments {
    /// Folder or URL that `embed --out` or `run --store` wrote to, or one set below it.
    embeddings: String,
    /// Id of the embedding set, where the store holds several.
    #[arg(long)]
    set: Option<String>,
    /// Layer, where the set holds several.
    #[arg(long)]
    layer: Option<u32>,
    /// Pooling, where the set holds several: cls, mean or full.
    #[arg(long)]
    pool: Option<String>,
    /// Format of the file.
    #[arg(long, value_enum)]
    format: FileFormat,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let (url, named) = split_set(&arguments.embeddings);
    let store = Store::open_existing(url)?;
    let set = match arguments.set.as_deref().or(named) {
        Some(id) => SetId::parse(id)?,
        None => only_set(&store).await?,
    };
    let manifest = read_set(&store, &set).await?;
    let layer = choose("--layer", &manifest.layers, arguments.layer.as_ref(), u32::to_string)?;
    let poolings: Vec<String> = manifest.poolings.iter().map(Pooling::to_string).collect();
    let pooling = choose("--pool", &poolings, arguments.pool.as_ref(), String::clone)?;
    let pooling = Pooling::ALL.into_iter().find(|known| known.name() == pooling);
    let pooling = pooling.ok_or_else(|| Error::bug("a set with an unknown pooling"))?;
    let rows = write(&store, &manifest, (layer, pooling), &arguments).await?;
    complain(&match manifest.columns.as_slice() {
        [] => format!("{rows} rows of layer {layer} {pooling}"),
        // An npy file has no place for them.
        columns => format!("{rows} rows of {pooling}, columns {}", columns.join(", ")),
    });
    say(&arguments.out.display().to_string());
    Ok(ExitCode::SUCCESS)
}

/// The store and the set of `URL/embeddings/SET`, the form that `embed` prints.
fn split_set(text: &str) -> (&str, Option<&str>) {
    match text.trim_end_matches('/').rsplit_once("/embeddings/") {
        Some((url, set)) if !set.contains('/') => (url, Some(set)),
        _ => (text, None),
    }
}

async fn only_set(store: &Store) -> Result<SetId> {
    let sets = store.list_folders("embeddings").await?;
    match sets.as_slice() {
        [set] => Ok(SetId::new(set)),
        [] => Err(Error::not_found(format!("{}: no embedding set", store.url()))),
        _ => {
            let expected = format!("one of {}", sets.join(", "));
            Err(InputError::new("command line", "--set", expected, "nothing").into())
        }
    }
}

/// The one there is, or the one asked for.
fn choose<T: Clone + PartialEq>(
    flag: &str,
    held: &[T],
    asked: Option<&T>,
    name: impl Fn(&T) -> String,
) -> Result<T> {
    let names: Vec<String> = held.iter().map(&name).collect();
    let expected = format!("one of {}", names.join(", "));
    match (asked, held) {
        (Some(asked), _) if held.contains(asked) => Ok(asked.clone()),
        (Some(asked), _) => {
            Err(InputError::new("command line", flag, expected, name(asked)).into())
        }
        (None, [one]) => Ok(one.clone()),
        (None, _) => Err(InputError::new("command line", flag, expected, "nothing").into()),
    }
}

/// Either writer, over a file under a name of its own.
enum Writer {
    Parquet(Box<ParquetExport<BufWriter<File>>>),
    Npy(NpyExport<BufWriter<File>>),
}

impl Writer {
    fn new(format: FileFormat, file: BufWriter<File>, layout: ExportLayout) -> Result<Self> {
        Ok(match format {
            FileFormat::Parquet => Self::Parquet(Box::new(ParquetExport::new(file, layout)?)),
            FileFormat::Npy => Self::Npy(NpyExport::new(file, &layout)?),
            FileFormat::H5ad => return Err(Error::bug("AnnData is not written in a stream")),
        })
    }

    fn push(&mut self, ids: &[String], token_counts: &[u64], values: &[f32]) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.push(ids, token_counts, values),
            Self::Npy(writer) => writer.push(values),
        }
    }

    fn finish(self) -> Result<BufWriter<File>> {
        match self {
            Self::Parquet(writer) => writer.finish(),
            Self::Npy(writer) => writer.finish(),
        }
    }
}

/// Names of the sequences of each example, numbers where the data set is not in the store.
async fn sequence_names(store: &Store, set: &SetManifest, count: usize) -> Result<Vec<String>> {
    if count > 1 {
        match read_manifest(store, &set.dataset).await {
            Ok(found) if found.schema.sequences.len() == count => {
                return Ok(found.schema.sequences);
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok((0..count).map(|sequence| sequence.to_string()).collect())
}

/// Writes the file under a name of its own and renames it when it is whole; the number of its rows.
async fn write(
    store: &Store,
    manifest: &SetManifest,
    tensor: (u32, Pooling),
    arguments: &Arguments,
) -> Result<u64> {
    let partial = writing::partial(&arguments.out);
    let written = match arguments.format {
        FileFormat::H5ad => anndata::write(store, manifest, tensor, &partial).await,
        format => write_partial(store, manifest, tensor, (format, &partial)).await,
    };
    let settled = writing::settle(&partial, &arguments.out, written);
    settled.map_err(|e| e.context(format!("export to {}", arguments.out.display())))
}

async fn write_partial(
    store: &Store,
    manifest: &SetManifest,
    (layer, pooling): (u32, Pooling),
    (format, path): (FileFormat, &Path),
) -> Result<u64> {
    let failed = |e| io_error(path, e);
    let mut file = Some(BufWriter::new(File::create(path).map_err(failed)?));
    let Extent { end, mut ranges, .. } = extent(store, manifest).await?;
    let mut writer: Option<Writer> = None;
    let (mut start, mut count) = (0, 0);
    while start < end {
        let next = end.min(start + ROWS_PER_READ);
        let (set, tensor) = (&manifest.set, (layer, pooling));
        let rows = read_rows_among(store, set, tensor, &mut ranges, (start, next)).await?;
        if let Some(file) = file.take_if(|_| rows.width > 0) {
            let layout = ExportLayout {
                width: rows.width,
                dtype: manifest.dtype,
                tokens: pooling == Pooling::Full,
                sequences: sequence_names(store, manifest, rows.sequences).await?,
                columns: manifest.columns.clone(),
            };
            writer = Some(Writer::new(format, file, layout)?);
        }
        if let Some(writer) = &mut writer {
            writer.push(&rows.ids, &rows.token_counts, &rows.values)?;
        }
        count += match pooling {
            Pooling::Full => rows.token_counts.iter().sum(),
            Pooling::Cls | Pooling::Mean | Pooling::AfterCls | Pooling::Effect => {
                rows.ids.len() as u64
            }
        };
        start = next;
    }
    let writer = writer.ok_or_else(|| Error::not_found(format!("rows of set {}", manifest.set)))?;
    let file = writer.finish()?.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(count)
}
