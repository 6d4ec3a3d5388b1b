//! Which paths have the form of those that this program writes.
//!
//! Leaves out: whether an object is of use (`store::gc`), and what reads a path. Invariant: content ids and
//! random tokens are 32 hexadecimal digits, so a name that people chose is never taken for one of ours.

use super::{parse_revision, parse_shard_name};

/// Files of a fit.
const FIT_FILES: [(&str, &str); 5] = [
    ("history", "parquet"),
    ("maps", "safetensors"),
    ("predictions", "parquet"),
    ("sequences", "parquet"),
    ("weights", "safetensors"),
];

/// Whether the program itself writes objects to such paths; others are the user's, wherever they lie.
pub fn is_written(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["clock", file] => is_file(file, "json", is_digest),
        ["coordinators", _, file] => is_record(file, |stem| is_number(stem, 12)),
        ["coordinators", _, "refused", file] => {
            is_record(file, |stem| stem.starts_with("worker-") && stem.len() > "worker-".len())
        }
        ["doctor", "fit.json"] => true,
        ["doctor", token, _] => is_digest(token),
        ["embeddings", id, rest @ ..] => is_digest(id) && is_of_set(rest),
        ["examples", id, rest @ ..] => is_digest(id) && is_of_dataset(rest),
        ["jobs", id, rest @ ..] => is_digest(id) && is_of_job(rest),
        ["models", file] => is_record(file, is_digest),
        ["probes", id, rest @ ..] => is_digest(id) && is_of_fit(rest),
        _ => false,
    }
}

fn is_of_set(rest: &[&str]) -> bool {
    let is_range = |stem: &str| {
        let (start, end) = stem.split_once('-').unwrap_or_default();
        is_number(start, 10) && is_number(end, 10) && parse_shard_name(stem).is_some()
    };
    match rest {
        [file] => is_record(file, |stem| stem == "manifest"),
        ["commit", file] => is_record(file, is_range),
        ["data", file] => is_attempt(file, "safetensors", is_range),
        _ => false,
    }
}

fn is_of_dataset(rest: &[&str]) -> bool {
    let is_part =
        |stem: &str| stem.strip_prefix("part-").is_some_and(|number| is_number(number, 5));
    match rest {
        [file] => is_record(file, |stem| stem == "manifest"),
        ["data", file] => is_attempt(file, "parquet", is_part),
        _ => false,
    }
}

fn is_of_fit(rest: &[&str]) -> bool {
    let is_epoch = |stem: &str| is_number(stem, 6);
    match rest {
        [file] => is_record(file, |stem| stem == "scores"),
        ["data", file] => {
            FIT_FILES.iter().any(|(name, ending)| is_attempt(file, ending, |stem| stem == *name))
        }
        ["epochs", file] => is_record(file, is_epoch),
        ["epochs", "data", file] => is_attempt(file, "safetensors", is_epoch),
        _ => false,
    }
}

fn is_of_job(rest: &[&str]) -> bool {
    match rest {
        ["job.toml"] => true,
        [file] => is_record(file, |stem| ["cancelled", "plan", "resumed"].contains(&stem)),
        ["failed", file] => is_record(file, |stem| {
            let (unit, rows) = stem.split_once('-').unwrap_or((stem, "0-1"));
            is_number(unit, 7) && parse_shard_name(rows).is_some()
        }),
        ["report", file] => is_record(file, |stem| stem == "commit"),
        ["report", "data", token, _, ..] => is_digest(token),
        ["snapshots", file] => is_file(file, "msgpack", |stem| is_number(stem, 12)),
        _ => false,
    }
}

/// `<stem>.<ending>`.
fn is_file(file: &str, ending: &str, is_stem: impl Fn(&str) -> bool) -> bool {
    let stem = file.strip_suffix(ending).and_then(|stem| stem.strip_suffix('.'));
    stem.is_some_and(is_stem)
}

/// `<stem>.json` or `<stem>.r<n>.json`.
fn is_record(file: &str, is_stem: impl Fn(&str) -> bool) -> bool {
    parse_revision(file).is_some_and(|(first, _)| is_file(&first, "json", is_stem))
}

/// `<stem>.<token>.<ending>`.
fn is_attempt(file: &str, ending: &str, is_stem: impl Fn(&str) -> bool) -> bool {
    is_file(file, ending, |name| {
        name.rsplit_once('.').is_some_and(|(stem, token)| is_digest(token) && is_stem(stem))
    })
}

/// What content ids and random tokens look like.
fn is_digest(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Decimal digits, padded to `width`.
fn is_number(text: &str, width: usize) -> bool {
    text.len() >= width && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::digest::sha256_hex;
    use crate::rng::random_token;

    fn digest(text: &str) -> String {
        sha256_hex(text.as_bytes())[..32].to_owned()
    }

    /// Every path this module's parent formats.
    fn paths() -> Vec<String> {
        let attempt = &Attempt::new(random_token());
        let (set, fit) = (&SetId::new(digest("set")), &FitId::new(digest("fit")));
        let (job, dataset) = (&JobId::new(digest("job")), &DatasetId::new(digest("data")));
        let mut paths = vec![
            model_path(&ModelId::new(digest("model"))),
            dataset_manifest_path(dataset),
            dataset_part_path(dataset, 3, attempt),
            dataset_part_path(dataset, 123_456, attempt),
            set_manifest_path(set),
            shard_commit_path(set, 0, 64),
            shard_data_path(set, 0, 64, attempt),
            shard_data_path(set, 0, 98_765_432_100, attempt),
            scores_path(fit),
            checkpoint_path(fit, 7),
            checkpoint_data_path(fit, 7, attempt),
            job_toml_path(job),
            plan_path(job),
            resumed_path(job, 1),
            cancelled_path(job, 0),
            failed_unit_path(job, 3, 2),
            failed_rows_path(job, 3, (107, 108), 1),
            snapshot_path(job, 12),
            report_commit_path(job),
            report_data_path(job, "figures/a.svg", attempt),
            coordinator_path("node-7.lab", 9),
            refused_path("node-7.lab", &WorkerId::new("node:7")),
            clock_probe_path(&random_token()),
            STORE_FITNESS_PATH.to_owned(),
        ];
        let files = ["weights.safetensors", "history.parquet", "predictions.parquet"];
        let files = files.into_iter().chain(["maps.safetensors", "sequences.parquet"]);
        paths.extend(files.map(|file| fit_data_path(fit, file, attempt)));
        paths
    }

    #[test]
    fn every_path_that_is_written_and_its_revisions_are_ours() {
        for path in paths() {
            assert!(is_written(&path), "{path}");
            let keeps_name = path.ends_with("fit.json") || path.starts_with("clock/");
            let first = parse_revision(&path).map_or_else(|| path.clone(), |(first, _)| first);
            assert!(keeps_name || is_written(&revision_path(&first, 2)), "{path}");
        }
    }

    #[test]
    fn what_people_call_their_files_is_not_ours() {
        let id = digest("x");
        for path in [
            "examples/mouse/data/reads.bam".to_owned(),
            "examples/mouse/data/part-00000.parquet".to_owned(),
            format!("examples/mouse/data/part-00000.{id}.parquet"),
            format!("examples/{id}/data/reads.bam"),
            format!("examples/{id}/data/part-00000.final.parquet"),
            format!("examples/{id}/data/part-1.{id}.parquet"),
            format!("examples/{id}/data/old/part-00000.{id}.parquet"),
            "probes/array1/data/intensity.csv".to_owned(),
            format!("probes/{id}/data/intensity.{id}.csv"),
            format!("probes/{id}/data/weights.best.safetensors"),
            format!("probes/{id}/epochs/notes.txt"),
            format!("probes/{id}/epochs/data/1.{id}.safetensors"),
            "jobs/42/report/data/run1/table.csv".to_owned(),
            format!("jobs/{id}/report/data/run1/table.csv"),
            format!("jobs/{id}/report/data/{id}"),
            format!("jobs/{id}/snapshots/1.csv"),
            format!("embeddings/{id}/data/0-64.{id}.safetensors"),
            "embeddings/mouse/data/0000000000-0000000064.v2.safetensors".to_owned(),
            format!("embeddings/{}/manifest.json", id.to_uppercase()),
            "clock/notes.json".to_owned(),
            "doctor/x/y".to_owned(),
            id.clone(),
            String::new(),
        ] {
            assert!(!is_written(&path), "{path}");
        }
    }
}
