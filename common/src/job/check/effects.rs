//! Tables about variants: `variants` of a data set, `zero_shot` of a representation, `variant-effect`
//! of a probe.
//!
//! Leaves out: what the files hold (readers). Invariant: files that a pattern names are sorted, so that
//! a data set does not depend on the order of a folder.

use super::{DatasetSpec, JobDataset, Place, RepresentationSpec};
use crate::dataset::{DatasetSource, TaskName};
use crate::error::InputError;
use crate::job::{EffectsChoice, LayerChoice, ProbeChoice, ProbeTable, ZeroShot};
use crate::readers::variants::{VariantColumn, VariantFormat, archive_table};
use crate::representation::StoredDtype;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The checked form of a data set of variants.
pub(super) fn variants(
    place: &Place<'_>,
    key: &str,
    spec: &DatasetSpec,
) -> Result<JobDataset, InputError> {
    let wrong = |name: &str, expected: &str, found: String| {
        place.wrong(&format!("{key}.{name}"), expected, found)
    };
    if !matches!(spec.task, TaskName::VariantEffect | TaskName::None) {
        return Err(wrong("task", "\"variant-effect\"", format!("{:?}", spec.task.name())));
    }
    let paths = files(place, key, spec.variants.as_deref().unwrap_or_default())?;
    let is_stored = |path: &&PathBuf| VariantFormat::of(path) == VariantFormat::Archive;
    let stored = paths.iter().filter(is_stored).count();
    let tables = paths.iter().filter(is_stored).filter_map(|path| archive_table(path));
    let companions: Vec<PathBuf> = tables.collect();
    let genome = match &spec.genome {
        Some(genome) => Some(place.existing(&format!("{key}.genome"), genome)?),
        None if stored == paths.len() => None,
        None => return Err(wrong("genome", "a FASTA file", "nothing".to_owned())),
    };
    if spec.window.is_none() && stored == 0 {
        return Err(wrong("window", "an even window length", "nothing".to_owned()));
    }
    if let Some(odd) = spec.window.filter(|window| *window < 2 || !window.is_multiple_of(2)) {
        return Err(wrong("window", "an even window length", odd.to_string()));
    }
    let columns = spec.variant_columns.clone().unwrap_or_default();
    let unknown = columns
        .iter()
        .find(|(column, name)| VariantColumn::parse(column).is_none() || name.is_empty());
    if let Some((column, name)) = unknown {
        let names: Vec<&str> = VariantColumn::ALL.iter().map(|column| column.name()).collect();
        let expected = format!("names of columns for some of {}", names.join(", "));
        return Err(wrong("variant_columns", &expected, format!("{column} = {name:?}")));
    }
    let source = DatasetSource::Variants {
        paths,
        companions,
        genome,
        window: spec.window,
        elements: spec.elements.clone().unwrap_or_default(),
        columns,
        indels: spec.indels.unwrap_or_default(),
    };
    Ok(JobDataset { name: spec.name.clone(), task: TaskName::VariantEffect, source })
}

/// The files that `patterns` name, sorted, each once.
fn files(place: &Place<'_>, key: &str, patterns: &[PathBuf]) -> Result<Vec<PathBuf>, InputError> {
    let key = format!("{key}.variants");
    let mut paths = Vec::new();
    for pattern in patterns {
        let name = pattern.file_name().unwrap_or_default().to_string_lossy();
        if !name.contains(['*', '?']) {
            paths.push(place.existing(&key, pattern)?);
            continue;
        }
        let full = place.folder.join(pattern);
        let folder = full.parent().unwrap_or(Path::new("/"));
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let fits = |path: &PathBuf| {
            let name_of = path.file_name().unwrap_or_default().to_string_lossy();
            path.is_file() && is_match(name.as_bytes(), name_of.as_bytes())
        };
        let found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(fits).collect();
        if found.is_empty() {
            let found = format!("none like {}", full.display());
            return Err(place.wrong(&key, "at least one file", found));
        }
        paths.extend(found);
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// Whether `name` is what `pattern` stands for: `*` any letters, `?` one.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    // The place behind the last star, and how much of the name it has taken.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(letter) if *letter == b'?' || name.get(n) == Some(letter) => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((behind, taken)) => {
                    *taken += 1;
                    (p, n) = (*behind, *taken);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|letter| *letter == b'*')
}

/// Scores of variants that a representation asks for, if it does.
pub(super) fn zero_shot(
    place: &Place<'_>,
    key: &str,
    spec: &RepresentationSpec,
) -> Result<Option<ZeroShot>, InputError> {
    let wrong = |name: &str, expected: &str, found: &str| {
        Err(place.wrong(&format!("{key}.{name}"), expected, found))
    };
    if spec.zero_shot != Some(true) {
        return match (spec.scores.is_some(), spec.both_strands.is_some()) {
            (true, _) => wrong("scores", "zero_shot = true beside it", "none"),
            (_, true) => {
                wrong("both_strands", "zero_shot = true, or strands = \"averaged\"", "neither")
            }
            _ => Ok(None),
        };
    }
    let is_last = matches!(&spec.layers, None | Some(LayerChoice::Word(_)))
        && spec.layers != Some(LayerChoice::Word("all".to_owned()));
    let keys = [
        ("layers", !is_last),
        ("pooling", spec.pooling.is_some()),
        ("mean_over", spec.mean_over.is_some()),
        ("full_rows", spec.full_rows.is_some()),
        ("dtype", spec.dtype.is_some_and(|dtype| dtype != StoredDtype::F32)),
    ];
    if let Some((name, _)) = keys.into_iter().find(|(_, is_given)| *is_given) {
        let expected = "nothing: zero-shot scores are of the last layer, stored as f32";
        return wrong(name, expected, "another choice");
    }
    let mut scores = spec.scores.clone();
    if let Some(scores) = &mut scores {
        scores.sort_unstable();
        scores.dedup();
        if scores.is_empty() {
            return wrong("scores", "at least one score", "none");
        }
    }
    Ok(Some(ZeroShot { scores, ..ZeroShot::default() }))
}

/// The `chosen` data sets that a representation is made of, `None` = all: scores are of variants alone.
pub(super) fn narrowed(
    at: (&Place<'_>, &str),
    spec: &RepresentationSpec,
    chosen: Option<BTreeSet<usize>>,
    datasets: &[JobDataset],
) -> Result<Option<BTreeSet<usize>>, InputError> {
    match spec.zero_shot {
        // Without a gLM the key is refused as such.
        Some(true) if spec.model.is_some() => of_variants(at, chosen, datasets).map(Some),
        _ => Ok(chosen),
    }
}

/// Data sets of variants among the `chosen` ones, which must be of variants all, or among all.
pub(super) fn of_variants(
    (place, key): (&Place<'_>, &str),
    chosen: Option<BTreeSet<usize>>,
    datasets: &[JobDataset],
) -> Result<BTreeSet<usize>, InputError> {
    let key = format!("{key}.datasets");
    let task = |index: usize| datasets.get(index).map(|dataset| dataset.task);
    let suits = |index: &usize| task(*index) == Some(TaskName::VariantEffect);
    let expected = "data sets of task variant-effect";
    let other = chosen.as_ref().and_then(|chosen| chosen.iter().find(|index| !suits(index)));
    if let Some(other) = other.and_then(|index| datasets.get(*index)) {
        return Err(place.wrong(&key, expected, format!("{:?}", other.name)));
    }
    let all = || (0..datasets.len()).filter(suits).collect::<BTreeSet<_>>();
    let indices = chosen.unwrap_or_else(all);
    if indices.is_empty() {
        return Err(place.wrong(&key, expected, "none"));
    }
    Ok(indices)
}

/// Index of the data set `name`; what there is where it is not.
fn find(datasets: &[JobDataset], name: &str) -> Result<usize, String> {
    datasets.iter().position(|dataset| dataset.name == name).ok_or_else(|| {
        let known: Vec<_> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        format!("names of [[dataset]] tables: {}", known.join(", "))
    })
}

/// What a table of kind `variant-effect` applies.
pub(super) fn applied(
    place: &Place<'_>,
    key: &str,
    table: &ProbeTable,
    datasets: &[JobDataset],
) -> Result<ProbeChoice, InputError> {
    let wrong = |name: &str, expected: &str, found: String| {
        place.wrong(&format!("{key}.{name}"), expected, found)
    };
    let Some(name) = &table.trained_on else {
        let expected = "the name of the data set that the probes are trained on";
        return Err(wrong("trained_on", expected, "nothing".to_owned()));
    };
    let trained_on = find(datasets, name)
        .map_err(|expected| wrong("trained_on", &expected, format!("{name:?}")))?;
    for (name, list) in [("probes", &table.probes), ("targets", &table.targets)] {
        if list.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong(name, "at least one name", "none".to_owned()));
        }
    }
    let (probes, targets) = (table.probes.clone(), table.targets.clone());
    Ok(ProbeChoice::Effects(EffectsChoice { trained_on, probes, targets }))
}

#[cfg(test)]
mod tests {
    use super::is_match;
    use crate::dataset::DatasetSource;
    use crate::effect::Score;
    use crate::job::Job;
    use std::path::Path;

    #[test]
    fn stars_stand_for_any_letters_and_marks_for_one() {
        for (pattern, name, expected) in [
            ("*.tsv", "challenge_LDLR.tsv", true),
            ("*.tsv", "a.tsv.gz", false),
            ("*_*.tsv", "release_F9.tsv", true),
            ("a?c*", "abcde", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("*a*b", "xaxbxab", true),
        ] {
            assert_eq!(is_match(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    fn parse(folder: &Path, more: &str) -> Result<Job, String> {
        for name in ["b.tsv", "a.tsv", "g.fa", "m"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let text = format!(
            "name = \"v\"\n[[model]]\nname = \"M\"\npath = \"m\"\n[[dataset]]\nname = \"D\"\n\
             variants = [\"*.tsv\", \"a.tsv\"]\ngenome = \"g.fa\"\nwindow = 8\n\
             [[representation]]\nmodel = \"M\"\n{more}"
        );
        Job::parse(&text, "job.toml", folder).map_err(|error| error.chain())
    }

    #[test]
    fn files_are_sorted_and_scores_too() {
        let folder = tempfile::tempdir().unwrap();
        let job = parse(folder.path(), "zero_shot = true\nscores = [\"dot\", \"cosine\"]\n");
        let job = job.unwrap();
        let DatasetSource::Variants { paths, .. } = &job.datasets[0].source else { panic!() };
        let names: Vec<_> = paths.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["a.tsv", "b.tsv"]);
        let scores = job.embeddings[0].zero_shot.clone().unwrap().scores;
        assert_eq!(scores, Some(vec![Score::Cosine, Score::Dot]));
        assert!(job.embeddings[0].reads(0));
    }

    #[test]
    fn keys_that_do_not_belong_to_zero_shot_scores_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |more: &str| parse(folder.path(), more).unwrap_err();
        for (more, message) in [
            (
                "zero_shot = true\npooling = [\"mean\"]\n",
                "representation[0].pooling: expected nothing",
            ),
            ("zero_shot = true\ndtype = \"f16\"\n", "representation[0].dtype"),
            ("zero_shot = true\nlayers = [1]\n", "representation[0].layers"),
            ("zero_shot = true\nscores = []\n", "representation[0].scores: expected at least one"),
            ("scores = [\"dot\"]\n", "expected zero_shot = true"),
            ("pooling = [\"effect\"]\n", "expected at least one of cls, mean, full"),
            ("datasets = [\"X\"]\n", "names of [[dataset]] tables: D"),
            ("[[probe]]\nkind = \"variant-effect\"\n", "probe[0].trained_on: expected the name"),
            ("[[probe]]\nkind = \"ridge\"\ntrained_on = \"D\"\n", "trained_on on a ridge probe"),
        ] {
            let error = refused(more);
            assert!(error.contains(message), "{error}");
        }
    }
}
