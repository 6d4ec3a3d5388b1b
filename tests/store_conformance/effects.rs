//! Scores of variants and probes applied to them, as a store of today holds them: `formats/v2`.
//!
//! Leaves out: how they are computed (worker). `GLMEVAL_WRITE_FORMATS` writes them anew, as for [`formats`](crate::formats).

use crate::commits::attempt;
use crate::records::{identity, plan, scores, set};
use bytes::Bytes;
use glmeval_common::effect::{EffectSpec, Score};
use glmeval_common::embedding::{EmbeddingShard, ShardIdentity, ShardTensor, narrow};
use glmeval_common::ids::{Attempt, DatasetId, FitId, JobId, ModelId, SetId};
use glmeval_common::plan::{EntrySpec, Plan, PlanEntry};
use glmeval_common::representation::{FeatureSource, Pooling, StoredDtype};
use glmeval_common::score::{FitIdentity, FitScores};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{
    SetManifest, ShardAttempt, commit_shard, create_set, find_commit, read_set, read_shard,
};
use glmeval_common::store::fits::{
    FitObjects, Prediction, commit_fit, find_scores, read_predictions,
};
use glmeval_common::store::jobs;
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec, SetSpec};
use std::path::Path;

fn effect_set() -> SetSpec {
    SetSpec {
        id: SetId::new("effects"),
        dataset: DatasetId::new("variants"),
        poolings: vec![Pooling::Effect],
        dtype: StoredDtype::F32,
        effects: Some(EffectSpec {
            scores: vec![Score::Cosine, Score::MaskedLlr],
            pad_to: Some(226),
        }),
        ..set()
    }
}

fn effect_shard() -> EmbeddingShard {
    let columns = effect_set().columns();
    let width = columns.len();
    let values: Vec<f32> = (0..3 * width).map(|value| value as f32 / 8.0 - 1.0).collect();
    let values = narrow(&values, width, StoredDtype::F32, &|row| row.to_string()).unwrap().into();
    EmbeddingShard {
        identity: ShardIdentity {
            set: SetId::new("effects"),
            model: ModelId::new("model"),
            dataset: DatasetId::new("variants"),
            dtype: StoredDtype::F32,
            numeric_class: "f32.cpu.1".to_owned(),
            columns,
        },
        start: 0,
        end: 3,
        row_ids: (0..3).map(|row| format!("chr19:{row}:A:C")).collect(),
        example_indices: None,
        sequences: 1,
        tensors: vec![ShardTensor {
            layer: 1,
            pooling: Pooling::Effect,
            rows: 3,
            width: width as u64,
            values,
        }],
        token_offsets: None,
    }
}

fn applied() -> FitIdentity {
    FitIdentity {
        fit: FitId::new("applied"),
        task: "variant-effect".to_owned(),
        dataset: "CAGI5".to_owned(),
        dataset_id: DatasetId::new("variants"),
        trained_on: Some("HepG2".to_owned()),
        ..identity()
    }
}

fn effects() -> Vec<Prediction> {
    let row = |id: &str, prediction| Prediction {
        id: id.to_owned(),
        split: glmeval_common::example::Split::Test,
        target: "LDLR".to_owned(),
        measured: 0.11,
        prediction,
    };
    vec![row("chr19:0:A:C", -0.5), row("chr19:1:A:C", 0.25)]
}

/// A plan with an applied probe, and one of means that are validated on another pooling.
fn plan_of_effects() -> Plan {
    let unit = |features, fits, validated_on| {
        let task = glmeval_common::dataset::TaskName::VariantEffect;
        let (dataset, training_class) = (DatasetId::new("variants"), None);
        let spec = FitUnit { dataset, task, features, fits, validated_on, training_class };
        let spec = EntrySpec::Fit(Box::new(spec));
        PlanEntry { spec, prerequisites: Vec::new(), flops: 1.0, bytes: 1 }
    };
    let embedding =
        |pooling| FeatureSource::Embedding { set: SetId::new("effects"), layer: 1, pooling };
    let probe = ProbeSpec::Applied { fit: FitId::new("fit"), targets: vec!["LDLR".to_owned()] };
    let compared = ProbeSpec::ZeroShot { score: Score::MaskedLlr, absolute: true };
    let fits = |identity: FitIdentity, probe| vec![Fit { identity, probe }];
    let mean = identity();
    Plan {
        job: JobId::new("effects"),
        sets: vec![effect_set()],
        entries: vec![
            unit(embedding(Pooling::Full), fits(applied(), probe), None),
            unit(embedding(Pooling::Effect), fits(applied(), compared), None),
            unit(
                embedding(Pooling::Mean),
                fits(mean, ProbeSpec::Ridge { alpha: 1.0 }),
                Some(Pooling::AfterCls),
            ),
        ]
        .into(),
        ..plan()
    }
}

async fn write(store: &Store) {
    create_set(store, &SetManifest::of(&effect_set())).await.unwrap();
    let what = ShardAttempt { set: SetId::new("effects"), ..attempt(0, 3, "attempt") };
    commit_shard(store, &what, effect_shard().encode().unwrap()).await.unwrap();
    let scores = FitScores { identity: applied(), ..scores() };
    let objects = FitObjects { weights: None::<Bytes>, history: None, predictions: &effects() };
    commit_fit(store, &Attempt::new("attempt"), scores, objects).await.unwrap();
    jobs::create_job(store, &plan_of_effects(), "name = \"effects\"\n").await.unwrap();
}

async fn check(store: &Store) {
    let found = read_set(store, &SetId::new("effects")).await.unwrap();
    assert_eq!(found, SetManifest::of(&effect_set()));
    assert_eq!(found.columns, effect_set().columns());
    let commit = find_commit(store, &SetId::new("effects"), 0, 3).await.unwrap().unwrap();
    assert_eq!(read_shard(store, &commit).await.unwrap(), effect_shard());
    let found = find_scores(store, &FitId::new("applied")).await.unwrap().unwrap();
    assert_eq!(found.identity, applied());
    assert_eq!(found.statistics, scores().statistics);
    assert_eq!(read_predictions(store, &found).await.unwrap(), effects());
    let found = jobs::read_plan(store, &JobId::new("effects")).await.unwrap();
    assert_eq!(found, plan_of_effects());
}

#[tokio::test]
async fn scores_of_variants_and_applied_probes_of_today_still_open() {
    if let Some(folder) = std::env::var_os("GLMEVAL_WRITE_FORMATS") {
        write(&Store::open(folder.to_str().unwrap()).unwrap()).await;
    }
    let store = Store::memory();
    write(&store).await;
    check(&store).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("formats/v2");
    assert!(folder.join("embeddings/effects").is_dir(), "the fixture is not there");
    check(&Store::open(folder.to_str().unwrap()).unwrap()).await;
}
