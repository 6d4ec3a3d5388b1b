//! From a job file as written to a checked job.

use super::{
    DatasetSpec, Job, JobDataset, JobEmbedding, JobFeature, JobModel, JobSpec, LayerChoice,
    Protocol, RepresentationSpec, SetsOfTask,
};
use crate::dataset::{DatasetSource, Hdf5Layout, TableColumns, TaskName};
use crate::error::{InputError, Result};
use crate::representation::{
    FullRows, Pooling, RepresentationOptions, SequenceFeature, Strands, UndefinedInKmers,
};
use std::path::{Path, PathBuf};

mod attribution;
mod effects;
mod grid;
mod layers;
mod own;
mod probes;
mod raw;
mod strays;

/// Poolings of a representation of states that names none.
const POOLINGS_DEFAULT: &[Pooling] = &[Pooling::Cls, Pooling::Mean];
const SOURCE_KEYS: &str = "exactly one of fasta, bed, narrowpeak, windows, table, hdf5, parquet, variants, psi, peaks, tfrecord, archive";

/// Where messages point to: the file and the folder that relative paths start at.
struct Place<'a> {
    file: &'a str,
    folder: &'a Path,
}

impl Place<'_> {
    fn wrong(
        &self,
        key: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> InputError {
        InputError::new(self.file, key, expected, found)
    }

    /// The absolute path of an existing file or folder.
    fn existing(&self, key: &str, path: &Path) -> Result<PathBuf, InputError> {
        let full = self.folder.join(path);
        if full.exists() {
            Ok(full)
        } else {
            let found = format!("{} which does not exist", full.display());
            Err(self.wrong(key, "a path that exists", found))
        }
    }
}

pub(super) fn check(
    spec: JobSpec,
    text: &str,
    (file, folder): (&str, &Path),
    sets: &SetsOfTask<'_>,
) -> Result<Job> {
    let place = Place { file, folder };
    check_name(&place, "name", &spec.name)?;
    if spec.shard_rows == Some(0) {
        return Err(place.wrong("shard_rows", "at least 1", 0).into());
    }
    spec.schedule.unwrap_or_default().check(file)?;
    let mut names = Vec::new();
    for (i, model) in spec.models.iter().enumerate() {
        let key = format!("model[{i}]");
        let name = grid::model_name((&place, &key), model)?;
        names.push((key, name));
    }
    unique(&place, names.into_iter())?;
    let tables = grid::expanded(&place, &spec.datasets, sets)?;
    unique(&place, tables.iter().map(|(key, table)| (key.clone(), table.name.clone())))?;
    if spec.datasets.is_empty() {
        return Err(place.wrong("dataset", "at least one [[dataset]] table", "none").into());
    }
    let mut models = Vec::new();
    for (i, model) in spec.models.iter().enumerate() {
        models.push(grid::model((&place, &format!("model[{i}]")), model, &spec)?);
    }
    let datasets = tables
        .iter()
        .map(|(key, dataset)| check_dataset(&place, key, dataset, spec.seed))
        .collect::<Result<Vec<_>, _>>()?;
    let (mut embeddings, mut features) = (Vec::new(), Vec::new());
    for (i, table) in spec.representations.iter().enumerate() {
        let key = format!("representation[{i}]");
        let filters = (&table.datasets, &table.tasks);
        let dataset_indices = grid::chosen((&place, &key), filters, &datasets)?;
        let dataset_indices = effects::narrowed((&place, &key), table, dataset_indices, &datasets)?;
        match check_representation(&place, &key, table, spec.protocol, &mut models)? {
            Checked::Embedding(embedding) => {
                embeddings.push(JobEmbedding { dataset_indices, ..embedding });
            }
            Checked::Feature(feature) => features.push(JobFeature { feature, dataset_indices }),
        }
    }
    grid::drop_unread(&mut models, spec.models.len(), &mut embeddings);
    if embeddings.is_empty() && features.is_empty() {
        let expected = "at least one [[representation]] table";
        return Err(place.wrong("representation", expected, "none").into());
    }
    let probes = probes::check(&place, &spec.probes, &models, &datasets)?;
    let attributions = attribution::check(&place, &spec.attributions, &models, &datasets)?;
    if let Some(prices) = &spec.cost {
        prices.check(file)?;
    }
    Ok(Job {
        file: file.to_owned(),
        toml: text.to_owned(),
        name: spec.name,
        seed: spec.seed,
        protocol: spec.protocol,
        shard_rows: spec.shard_rows,
        models,
        datasets,
        embeddings,
        features,
        probes,
        prices: spec.cost,
        attributions,
    })
}

fn check_name(place: &Place<'_>, key: &str, name: &str) -> Result<(), InputError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_. +".contains(c);
    if name.is_empty() || name.len() > 120 || !name.chars().all(plain) {
        let expected = "1 to 120 letters, digits, blanks or any of - _ . +";
        return Err(place.wrong(key, expected, format!("{name:?}")));
    }
    Ok(())
}

/// Names by the key of their table, each once.
fn unique(
    place: &Place<'_>,
    names: impl Iterator<Item = (String, String)>,
) -> Result<(), InputError> {
    let mut seen = std::collections::BTreeSet::new();
    for (key, name) in names {
        let key = format!("{key}.name");
        check_name(place, &key, &name)?;
        if seen.contains(&name) {
            return Err(place.wrong(&key, "a name used once", format!("{name:?} twice")));
        }
        seen.insert(name);
    }
    Ok(())
}

fn check_dataset(
    place: &Place<'_>,
    key: &str,
    spec: &DatasetSpec,
    seed: u64,
) -> Result<JobDataset, InputError> {
    if let Some(archive) = &spec.archive {
        let dataset = grid::archived((place, key), spec, archive)?;
        strays::check_dataset((place, key), spec, "archive")?;
        return Ok(dataset);
    }
    let variants = spec.variants.as_ref().and_then(|patterns| patterns.first().cloned());
    let named = [
        ("variants", &variants),
        ("fasta", &spec.fasta),
        ("bed", &spec.bed),
        ("narrowpeak", &spec.narrowpeak),
        ("windows", &spec.windows),
        ("table", &spec.table),
        ("hdf5", &spec.hdf5),
        ("parquet", &spec.parquet),
    ];
    let given: Vec<_> =
        named.iter().filter_map(|(name, path)| path.as_ref().map(|path| (*name, path))).collect();
    let built = raw::given(spec);
    if let (&[], &[kind]) = (given.as_slice(), built.as_slice()) {
        strays::check_dataset((place, key), spec, kind)?;
        let source = raw::source(place, key, spec, seed)?;
        let source = own::check(place, key, spec, source)?;
        return Ok(JobDataset { name: spec.name.clone(), task: spec.task, source });
    }
    let ([(kind, path)], []) = (&given[..], &built[..]) else {
        let found: Vec<_> = given.iter().map(|(name, _)| *name).chain(built).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(" and ") };
        return Err(place.wrong(key, SOURCE_KEYS, found));
    };
    strays::check_dataset((place, key), spec, kind)?;
    if *kind == "variants" {
        return effects::variants(place, key, spec);
    }
    let path = place.existing(&format!("{key}.{kind}"), path)?;
    let genome = || -> Result<PathBuf, InputError> {
        let key = format!("{key}.genome");
        let genome = spec.genome.as_ref();
        let genome = genome.ok_or_else(|| place.wrong(&key, "a FASTA file", "nothing"))?;
        place.existing(&key, genome)
    };
    let columns = || -> Result<TableColumns, InputError> {
        let columns = spec.columns.clone();
        columns.ok_or_else(|| {
            let expected = "a table such as { sequence = \"seq\", targets = [\"activity\"] }";
            place.wrong(&format!("{key}.columns"), expected, "nothing")
        })
    };
    if spec.window == Some(0) || spec.stride == Some(0) {
        return Err(place.wrong(&format!("{key}.window"), "window and stride of at least 1", 0));
    }
    let source = match *kind {
        "fasta" => DatasetSource::Fasta { path },
        "bed" => DatasetSource::Bed { path, genome: genome()?, window: spec.window },
        "narrowpeak" => DatasetSource::NarrowPeak { path, genome: genome()?, window: spec.window },
        "windows" => windows(place, key, spec, path)?,
        "table" => DatasetSource::Table { path, columns: columns()? },
        "parquet" => DatasetSource::Parquet { path, columns: columns()? },
        _ => DatasetSource::Hdf5 { path, layout: layout(place, key, spec)?, length: spec.length },
    };
    let source = own::check(place, key, spec, source)?;
    Ok(JobDataset { name: spec.name.clone(), task: spec.task, source })
}

fn windows(
    place: &Place<'_>,
    key: &str,
    spec: &DatasetSpec,
    genome: PathBuf,
) -> Result<DatasetSource, InputError> {
    let key_window = format!("{key}.window");
    let window = spec.window;
    let window = window.ok_or_else(|| place.wrong(&key_window, "a window length", "nothing"))?;
    let share = spec.undefined_share_max.unwrap_or(0.5);
    if !(0.0..=1.0).contains(&share) {
        return Err(place.wrong(&format!("{key}.undefined_share_max"), "0 to 1", share));
    }
    let stride = spec.stride.unwrap_or(window);
    Ok(DatasetSource::Windows { genome, window, stride, undefined_share_max: share })
}

fn layout(place: &Place<'_>, key: &str, spec: &DatasetSpec) -> Result<Hdf5Layout, InputError> {
    match (&spec.layout, &spec.keys) {
        (Some(layout), None) => return Ok(layout.clone()),
        (None, Some(keys)) => return Ok(Hdf5Layout::Keys(keys.clone())),
        (Some(_), Some(_)) => {
            return Err(place.wrong(key, "one of layout and keys", "both"));
        }
        (None, None) => {}
    }
    match spec.task {
        TaskName::ChipSeq | TaskName::Eclip | TaskName::Classification => Ok(Hdf5Layout::Binary),
        TaskName::LentiMpra | TaskName::Regression => Ok(Hdf5Layout::Regression),
        TaskName::InsertSeq => Ok(Hdf5Layout::Insert),
        TaskName::Splicing => Ok(Hdf5Layout::DeltaLogit),
        TaskName::VariantEffect => Ok(Hdf5Layout::RefAlt),
        TaskName::None => {
            let expected = "layout = { key = \"…\" }, or a task that has a layout";
            Err(place.wrong(&format!("{key}.layout"), expected, "nothing"))
        }
    }
}

enum Checked {
    Embedding(JobEmbedding),
    Feature(SequenceFeature),
}

/// The published dinucleotide counts read undefined letters as A; no other counts were published.
fn undefined_in_kmers(k: u32, protocol: Protocol) -> UndefinedInKmers {
    match (k, protocol) {
        (2, Protocol::Published) => UndefinedInKmers::ReadAsA,
        _ => UndefinedInKmers::LeftOut,
    }
}

fn check_representation(
    place: &Place<'_>,
    key: &str,
    spec: &RepresentationSpec,
    protocol: Protocol,
    models: &mut Vec<JobModel>,
) -> Result<Checked, InputError> {
    strays::check_representation((place, key), spec)?;
    let one_of = "exactly one of model, one_hot = true, kmer, nucleotides = true";
    let flags = (spec.one_hot.unwrap_or(false), spec.nucleotides.unwrap_or(false));
    match (&spec.model, flags, spec.kmer) {
        (Some(name), (false, false), None) => {
            let model_index = models.iter().position(|known| known.name == *name);
            let model_index = model_index.ok_or_else(|| {
                let names: Vec<_> = models.iter().map(|known| known.name.as_str()).collect();
                let expected = format!("the name of a [[model]]: {}", names.join(", "));
                place.wrong(&format!("{key}.model"), expected, format!("{name:?}"))
            })?;
            let layers = spec.layers.clone().unwrap_or(LayerChoice::Word("last".to_owned()));
            if let LayerChoice::Word(word) = &layers
                && word != "last"
                && word != "all"
            {
                let expected = "\"last\", \"all\" or a list of layer numbers";
                return Err(place.wrong(&format!("{key}.layers"), expected, format!("{word:?}")));
            }
            let zero_shot = effects::zero_shot(place, key, spec)?;
            let all = || match zero_shot {
                Some(_) => vec![Pooling::Effect],
                None => POOLINGS_DEFAULT.to_vec(),
            };
            let mut poolings = spec.pooling.clone().unwrap_or_else(all);
            poolings.sort_unstable();
            poolings.dedup();
            // Both are made by plans alone.
            let is_made = |pooling: &&Pooling| {
                matches!(pooling, Pooling::Effect | Pooling::AfterCls) && zero_shot.is_none()
            };
            let made = poolings.iter().find(is_made);
            if poolings.is_empty() || made.is_some() {
                let key = format!("{key}.pooling");
                let found = made.map_or("none".to_owned(), |made| format!("{:?}", made.name()));
                return Err(place.wrong(&key, "at least one of cls, mean, full", found));
            }
            let dtype = spec.dtype.unwrap_or_default();
            let options = check_options(place, key, spec, &poolings)?;
            let key = key.to_owned();
            let model_index = grid::variant(models, model_index, spec);
            let embedding = JobEmbedding {
                model_index,
                layers,
                poolings,
                dtype,
                options,
                dataset_indices: None,
                key,
                zero_shot,
            };
            Ok(Checked::Embedding(embedding))
        }
        (None, (true, false), None) => Ok(Checked::Feature(SequenceFeature::OneHot)),
        (None, (false, true), None) => Ok(Checked::Feature(SequenceFeature::Nucleotides)),
        (None, (false, false), Some(k)) if (1..=8).contains(&k) => {
            Ok(Checked::Feature(SequenceFeature::Kmer {
                k,
                undefined: undefined_in_kmers(k, protocol),
            }))
        }
        (None, (false, false), Some(k)) => Err(place.wrong(&format!("{key}.kmer"), "1 to 8", k)),
        (None, (false, false), None) => Err(place.wrong(key, one_of, "none")),
        _ => Err(place.wrong(key, one_of, "more than one")),
    }
}

/// Strands and tokens of a representation; states of two strands only meet at nucleotides.
fn check_options(
    place: &Place<'_>,
    key: &str,
    spec: &RepresentationSpec,
    poolings: &[Pooling],
) -> Result<RepresentationOptions, InputError> {
    let options = RepresentationOptions {
        strands: match spec.both_strands {
            Some(true) => Strands::Averaged,
            _ => spec.strands.unwrap_or_default(),
        },
        mean_over: spec.mean_over.unwrap_or_default(),
        full_rows: spec.full_rows.unwrap_or_default(),
    };
    let is_full = poolings.contains(&Pooling::Full);
    if is_full && options.strands == Strands::Averaged && options.full_rows == FullRows::Tokens {
        let expected = "\"nucleotides\" with strands \"averaged\" and pooling full";
        return Err(place.wrong(&format!("{key}.full_rows"), expected, "\"tokens\""));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use crate::job::Job;
    use std::path::Path;

    fn refused(text: &str) -> String {
        Job::parse(text, "job.toml", Path::new("/")).unwrap_err().chain()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_known_keys() {
        let error = refused("name = \"a\"\nsed = 1\n");
        assert!(error.contains("job.toml: line 2") && error.contains("`seed`"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named_with_its_key() {
        let error = refused("name = \"a\"\n[[dataset]]\nname = \"d\"\nfasta = \"no/such.fa\"\n");
        assert!(error.contains("dataset[0].fasta") && error.contains("/no/such.fa"), "{error}");
    }

    #[test]
    fn two_sources_are_refused() {
        let error =
            refused("name = \"a\"\n[[dataset]]\nname = \"d\"\nfasta = \"a\"\ntable = \"b\"\n");
        assert!(error.contains("fasta and table"), "{error}");
    }
}
