//! From `[[attribution]]` tables to checked ones.
//!
//! Leaves out: whether the job makes such fits (planned). Invariant: every error names the key.

use super::{Place, grid};
use crate::attribution::{MapKind, TOP};
use crate::dataset::TaskName;
use crate::error::InputError;
use crate::job::{AttributionTable, JobAttribution, JobDataset, JobModel};
use std::collections::BTreeSet;

/// Sequences of one data set at most; their maps are in memory when they are stored.
const TOP_MAX: u32 = 100_000;
/// Logos of one data set and gLM at most; a page holds them all.
const LOGOS_MAX: u32 = 50;
/// Logos where the table does not say.
const LOGOS: u32 = 3;

/// Checks all tables of a job.
pub(super) fn check(
    place: &Place<'_>,
    tables: &[AttributionTable],
    models: &[JobModel],
    datasets: &[JobDataset],
) -> Result<Vec<JobAttribution>, InputError> {
    let tables = tables.iter().enumerate();
    tables.map(|(i, table)| check_one((place, i), table, models, datasets)).collect()
}

fn check_one(
    (place, i): (&Place<'_>, usize),
    table: &AttributionTable,
    models: &[JobModel],
    datasets: &[JobDataset],
) -> Result<JobAttribution, InputError> {
    let key = format!("attribution[{i}]");
    let at = (place, key.as_str());
    let wrong = |name: &str, expected: &str, found: String| {
        Err(place.wrong(&format!("{key}.{name}"), expected, found))
    };
    let dataset_indices = grid::chosen(at, (&table.datasets, &table.tasks), datasets)?;
    let has_none = |index: &&usize| {
        use TaskName::{None, Splicing, VariantEffect};
        datasets.get(**index).is_some_and(|d| matches!(d.task, None | Splicing | VariantEffect))
    };
    if let Some(index) = dataset_indices.iter().flatten().find(has_none) {
        let name = if table.datasets.is_some() { "datasets" } else { "tasks" };
        let found = datasets.get(*index).map_or("none", |dataset| &dataset.name);
        return wrong(name, "data sets of one sequence and one target", format!("{found:?}"));
    }
    let kinds = kinds(at, table)?;
    let chosen = JobAttribution {
        dataset_indices,
        probe: table.probe.clone(),
        models: grid::models(at, &table.models, models)?,
        embedding_probe: table.embedding_probe.clone(),
        top: table.top.unwrap_or(TOP),
        kinds,
        logos: table.logos.unwrap_or(LOGOS),
        key: key.clone(),
    };
    if !(1..=TOP_MAX).contains(&chosen.top) {
        return wrong("top", "1 to 100000 sequences", chosen.top.to_string());
    }
    if chosen.logos > LOGOS_MAX {
        return wrong("logos", "at most 50 sequences", chosen.logos.to_string());
    }
    if chosen.models.is_some() && !chosen.wants_model() {
        let expected = "information or information_gradient with models";
        return wrong("kinds", expected, "neither".to_owned());
    }
    if chosen.embedding_probe.is_some() && !chosen.wants(MapKind::InformationGradient) {
        let expected = "information_gradient with embedding_probe";
        return wrong("kinds", expected, "none".to_owned());
    }
    Ok(chosen)
}

/// The kinds of a table, sorted, each once.
fn kinds(
    (place, key): (&Place<'_>, &str),
    table: &AttributionTable,
) -> Result<Option<Vec<MapKind>>, InputError> {
    let Some(names) = &table.kinds else { return Ok(None) };
    let mut kinds = BTreeSet::new();
    let expected = || {
        let names = MapKind::ALL.map(MapKind::name);
        format!("some of {}, each once", names.join(", "))
    };
    let wrong = |found: String| Err(place.wrong(&format!("{key}.kinds"), expected(), found));
    for name in names {
        match MapKind::find(name) {
            Some(kind) if kinds.insert(kind) => {}
            Some(_) => return wrong(format!("{name:?} twice")),
            None => return wrong(format!("{name:?}")),
        }
    }
    if kinds.is_empty() {
        return wrong("none".to_owned());
    }
    Ok(Some(kinds.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use crate::attribution::MapKind;
    use crate::job::Job;
    use std::path::Path;

    fn job(attribution: &str) -> Result<Job, String> {
        let text = format!(
            "name = \"a\"\n[[model]]\npublished = \"gpn-human\"\npath = \"gpn\"\n\
             [[dataset]]\narchive = \"a\"\ntask = \"chip-seq\"\nnames = [\"CTCF\", \"REST\"]\n\
             [[dataset]]\narchive = \"a\"\ntask = \"splicing\"\nname = \"ASCOT GTEx\"\n\
             [[representation]]\none_hot = true\n[[representation]]\nmodel = \"GPN-human\"\n\
             [[attribution]]\n{attribution}\n"
        );
        Job::parse(&text, "job.toml", Path::new("/")).map_err(|error| error.chain())
    }

    #[test]
    fn what_is_left_out_stays_open_but_for_the_studys_numbers() {
        let job = job("").unwrap();
        let [table] = job.attributions.as_slice() else { panic!("{:?}", job.attributions) };
        assert_eq!((table.top, table.logos, &table.kinds), (500, 3, &None));
        assert!(table.dataset_indices.is_none() && table.models.is_none());
        assert!(table.wants_model() && table.wants(MapKind::Saliency));
    }

    #[test]
    fn kinds_are_sorted_and_saliency_alone_needs_no_model() {
        let of = |text: &str| job(text).unwrap().attributions.remove(0);
        let both = of("kinds = [\"information\", \"saliency\"]\ntasks = [\"chip-seq\"]");
        assert_eq!(both.kinds.unwrap(), [MapKind::Saliency, MapKind::Information]);
        assert_eq!(both.dataset_indices.unwrap(), [0, 1].into());
        assert!(!of("kinds = [\"saliency\"]").wants_model());
    }

    #[test]
    fn what_is_wrong_is_told_by_its_key() {
        let cases = [
            ("kinds = [\"gradient\"]", "kinds: expected some of saliency, information, inf"),
            ("kinds = [\"saliency\", \"saliency\"]", "kinds: expected some of saliency"),
            ("kinds = []", "kinds: expected some of saliency"),
            ("top = 0", "top: expected 1 to 100000 sequences, found 0"),
            ("logos = 51", "logos: expected at most 50 sequences, found 51"),
            ("models = [\"NT\"]", "models: expected names of [[model]] tables: GPN-human"),
            ("datasets = [\"MAX\"]", "datasets: expected names of [[dataset]] tables"),
            ("datasets = [\"ASCOT GTEx\"]", "datasets: expected data sets of one sequence"),
            ("tasks = [\"splicing\"]", "tasks: expected data sets of one sequence"),
            (
                "kinds = [\"saliency\"]\nmodels = [\"GPN-human\"]",
                "kinds: expected information or information_gradient with models",
            ),
            (
                "kinds = [\"saliency\", \"information\"]\nembedding_probe = \"chip-cnn\"",
                "kinds: expected information_gradient with embedding_probe",
            ),
            ("topp = 1", "unknown"),
        ];
        for (text, expected) in cases {
            let error = job(text).err().unwrap();
            let is_ours = error.contains("attribution[0]") || expected == "unknown";
            assert!(is_ours && (error.contains(expected) || expected == "unknown"), "{error}");
        }
    }
}
