//! Facts about files that outlive their worker.

use super::*;
use glmeval_common::ids::{Attempt, DatasetId, Generation, ModelId, SetId, WorkerId};
use glmeval_common::model::{MemoryFacts, ModelFacts, TokenRule};
use glmeval_common::representation::{Pooling, RepresentationOptions, StoredDtype};

const STORE: &str = "s3://lab/glmeval";

fn shard(name: &str) -> SpooledShard {
    let set = SetId::new("set");
    let facts = ModelFacts {
        id: ModelId::new("model"),
        architecture: "nucleotide-transformer-v1".to_owned(),
        parameters: 1,
        layer_count: 1,
        width: 2,
        tokens_max: 8,
        token_rule: TokenRule::Blocks { length: 6, special: 1 },
        states_fixed: None,
        flops_per_token: 1.0,
        flops_per_token_pair: 1.0,
        memory: MemoryFacts::default(),
    };
    let model = ModelRecord {
        version: 1,
        facts,
        name: "NT".to_owned(),
        source: "nt".to_owned(),
        tokenizer_digest: "t".to_owned(),
    };
    SpooledShard {
        attempt: ShardAttempt {
            set: set.clone(),
            start: 0,
            end: 4,
            rows: 4,
            attempt: Attempt::new(name),
            worker: WorkerId::new("w"),
            generation: Generation { epoch: 1, counter: 2 },
            seconds: 0.5,
        },
        manifest: SetManifest {
            version: 1,
            set,
            model: ModelId::new("model"),
            dataset: DatasetId::new("dataset"),
            layers: vec![1],
            poolings: vec![Pooling::Mean],
            dtype: StoredDtype::F16,
            options: RepresentationOptions::default(),
            numeric_class: "f32.cpu.1".to_owned(),
            columns: Vec::new(),
        },
        model,
        started_unix_ms: 7,
    }
}

fn open(root: &Path) -> (Arc<Spool>, Vec<Ticket>) {
    Spool::open(root, STORE, 1_000).unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn what_is_kept_is_read_back_and_gone_once_removed() {
    let root = tempfile::tempdir().unwrap();
    let (spool, left) = open(root.path());
    assert!(left.is_empty());
    let ticket = spool.keep(&shard("a"), &bytes("numbers")).unwrap();
    assert_eq!(ticket.read().unwrap(), (shard("a"), bytes("numbers")));
    assert_eq!(spool.shards(), 1);
    ticket.remove();
    assert_eq!(spool.shards(), 0);
    drop(spool);
    assert!(open(root.path()).1.is_empty());
}

#[test]
fn the_next_worker_takes_over_what_is_left_but_not_from_one_that_lives() {
    let root = tempfile::tempdir().unwrap();
    let (first, _) = open(root.path());
    drop(first.keep(&shard("a"), &bytes("numbers")).unwrap());
    assert!(open(root.path()).1.is_empty(), "its worker lives");
    drop(first);
    let other_store = Spool::open(root.path(), "s3://other", 1_000).unwrap();
    assert!(other_store.1.is_empty(), "it is another store's");
    let (heir, left) = open(root.path());
    assert_eq!((left.len(), heir.shards()), (1, 1));
    assert_eq!(left[0].read().unwrap(), (shard("a"), bytes("numbers")));
    assert!(open(root.path()).1.is_empty(), "one heir takes it");
}

#[test]
fn the_bound_counts_all_that_lies_there() {
    let root = tempfile::tempdir().unwrap();
    let (spool, _) = open(root.path());
    let first = spool.keep(&shard("a"), &bytes(&"x".repeat(600))).unwrap();
    let refused = spool.keep(&shard("b"), &bytes(&"x".repeat(401))).unwrap_err();
    assert!(matches!(refused, Refusal::Full));
    first.remove();
    spool.keep(&shard("b"), &bytes(&"x".repeat(401))).unwrap();
    assert_eq!(spool.defect(), None);
}

#[test]
fn a_cut_or_changed_file_is_corrupt_and_a_partial_one_is_never_seen() {
    let root = tempfile::tempdir().unwrap();
    let (spool, _) = open(root.path());
    let ticket = spool.keep(&shard("a"), &bytes("numbers")).unwrap();
    let whole = std::fs::read(&ticket.path).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..20], b"", &changed] {
        std::fs::write(&ticket.path, damaged).unwrap();
        let error = ticket.read().unwrap_err();
        assert_eq!(error.kind(), glmeval_common::error::ErrorKind::Corrupt);
        assert!(error.to_string().contains("a.shard"), "{error}");
    }
    std::fs::write(spool.folder.join("b.partial"), b"half").unwrap();
    drop((ticket, spool));
    assert_eq!(open(root.path()).1.len(), 1);
}

#[test]
fn a_disk_that_takes_no_more_is_told_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (spool, _) = open(root.path());
    // A folder stands where the file is to be written.
    std::fs::create_dir(spool.folder.join("a.partial")).unwrap();
    let refused = spool.keep(&shard("a"), &bytes("numbers")).unwrap_err();
    assert!(matches!(refused, Refusal::Disk(_)));
    assert!(spool.defect().unwrap().contains("a.partial"));
    assert_eq!(spool.shards(), 0);
}
