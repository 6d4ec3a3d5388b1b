//! Every released format version still opens: `formats/v1` is a whole store as version 1 wrote it,
//! `formats/v2` what differs in version 2.
//!
//! `GLMEVAL_WRITE_FORMATS=<empty folder>` writes such a store, for the fixture of a next version.

use crate::records::{check_everything, write_everything};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::{FitId, JobId, SetId};
use glmeval_common::layout;
use glmeval_common::plan::UnitSpec;
use glmeval_common::store::embeddings::SetManifest;
use glmeval_common::store::{Store, embeddings, fits, jobs, reports};
use std::path::Path;

#[tokio::test]
async fn a_store_of_version_one_still_opens() {
    if let Some(folder) = std::env::var_os("GLMEVAL_WRITE_FORMATS") {
        write_everything(&Store::open(folder.to_str().unwrap()).unwrap()).await;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("formats/v1");
    assert!(folder.join("coordinators/main").is_dir(), "the fixture is not there");
    check_everything(&Store::open(folder.to_str().unwrap()).unwrap()).await;
}

#[tokio::test]
async fn a_plan_of_version_two_counts_its_shards() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("formats");
    let read = async |version: &str| {
        let store = Store::open(folder.join(version).to_str().unwrap()).unwrap();
        jobs::read_plan(&store, &JobId::new("job")).await.unwrap()
    };
    let (listed, counted) = (read("v1").await, read("v2").await);
    assert_eq!((listed.version, listed.unit_count()), (1, 4));
    assert_eq!((counted.version, counted.unit_count()), (2, 5));
    let shards: Vec<_> = counted.units().skip(1).take(2).collect();
    let extract = |start, end| UnitSpec::Extract { set: 0, dataset: 0, start, end };
    assert_eq!(
        shards.iter().map(|unit| unit.spec).collect::<Vec<_>>(),
        [extract(0, 3), extract(3, 4)]
    );
    assert_eq!(counted.totals(0, 5), listed.totals(0, 4));
    assert_eq!(
        counted.fit_units().map(|(_, fit)| fit).collect::<Vec<_>>(),
        listed.fit_units().map(|(_, fit)| fit).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn records_of_a_newer_version_are_refused_by_path_and_version() {
    let store = Store::memory();
    let (set, fit, job) = (SetId::new("set"), FitId::new("fit"), JobId::new("job"));
    let paths = [
        layout::set_manifest_path(&set),
        layout::shard_commit_path(&set, 0, 4),
        layout::scores_path(&fit),
        layout::plan_path(&job),
        layout::report_commit_path(&job),
    ];
    for path in &paths {
        store.create(path, "{\"version\": 99, \"else\": true}\n".into()).await.unwrap();
    }
    let errors = [
        store.read_record::<SetManifest>(&paths[0]).await.unwrap_err(),
        embeddings::find_commit(&store, &set, 0, 4).await.unwrap_err(),
        fits::find_scores(&store, &fit).await.unwrap_err(),
        jobs::read_plan(&store, &job).await.unwrap_err(),
        reports::find_report(&store, &job).await.unwrap_err(),
    ];
    for (path, error) in paths.iter().zip(errors) {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(text.contains(path) && text.contains("newer") && text.contains("99"), "{text}");
    }
}
