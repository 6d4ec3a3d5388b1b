//! Facts about models that come from a Hub: what is asked of the server, what stands in the cache.
//!
//! Leaves out: loading the models. The server is a thread of the test.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod answers;
mod broken;
mod server;

use glmeval_common::error::Result;
use glmeval_worker::hub::{Hub, HubModel, HubProgress, local_folder};
use server::{COMMIT, Request, Server, sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const CONFIG: &[u8] = b"{}";
const VOCABULARY: &[u8] = b"<cls>\n<pad>\n";

/// Bytes that differ everywhere, so that a piece in the wrong place shows.
fn weights() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// A small published model, an empty cache, and a Hub over both.
struct World {
    server: Server,
    cache: TempDir,
    hub: Hub,
}

impl World {
    fn new() -> Self {
        let weights = weights();
        Self::with(&[
            ("config.json", CONFIG),
            ("vocab.txt", VOCABULARY),
            ("model.safetensors", &weights),
            ("pytorch_model.bin", b"never asked for"),
            ("flax_model.msgpack", b"never asked for"),
            ("onnx/model.onnx", b"never asked for"),
            ("README.md", b"never asked for"),
        ])
    }

    fn with(files: &[(&str, &[u8])]) -> Self {
        let server = Server::start(files);
        let cache = tempfile::tempdir().unwrap();
        let mut hub = Hub::new(&server.url, cache.path());
        hub.retries = 3;
        hub.pause = Duration::ZERO;
        hub.pause_max = Duration::ZERO;
        Self { server, cache, hub }
    }

    fn fetch(&self, model: &str) -> Result<PathBuf> {
        self.fetch_with(model, &mut |_| ())
    }

    fn fetch_with(&self, model: &str, progress: &mut dyn FnMut(HubProgress)) -> Result<PathBuf> {
        self.hub.fetch(&HubModel::parse(model).unwrap(), progress)
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join("models--ada--tiny")
    }

    fn snapshot(&self) -> PathBuf {
        self.folder().join("snapshots").join(COMMIT)
    }

    fn partial(&self) -> PathBuf {
        self.folder().join("blobs").join(format!("{}.incomplete", sha256(&weights())))
    }

    /// Whether anything stands where users of the cache look for weights.
    fn shows_weights(&self) -> bool {
        let blob = self.folder().join("blobs").join(sha256(&weights()));
        blob.exists() || self.snapshot().join("model.safetensors").symlink_metadata().is_ok()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The requests for a file's bytes.
fn gets<'a>(requests: &'a [Request], name: &str) -> Vec<&'a Request> {
    let fits = |request: &&Request| request.method == "GET" && request.path.ends_with(name);
    requests.iter().filter(fits).collect()
}

#[test]
fn a_fetched_model_has_what_loading_it_needs_and_nothing_else() {
    let world = World::new();
    let snapshot = world.fetch("hf://ada/tiny").unwrap();
    assert_eq!(snapshot, world.snapshot());
    assert_eq!(names(&snapshot), ["config.json", "model.safetensors", "vocab.txt"]);
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
    assert_eq!(std::fs::read(snapshot.join("vocab.txt")).unwrap(), VOCABULARY);
}

#[test]
fn the_cache_is_laid_out_as_the_python_library_does() {
    let world = World::new();
    let snapshot = world.fetch("hf://ada/tiny@refs/pr/1").unwrap();
    let etag = sha256(&weights());
    let link = std::fs::read_link(snapshot.join("model.safetensors")).unwrap();
    assert_eq!(link, Path::new("../../blobs").join(&etag));
    let config = std::fs::read_link(snapshot.join("config.json")).unwrap();
    assert_eq!(config, Path::new("../../blobs/9e26dfeeb6e641a33dae4961196235bdb965b21b"));
    let reference = world.folder().join("refs/refs/pr/1");
    assert_eq!(std::fs::read_to_string(reference).unwrap(), COMMIT);
    let absent = world.folder().join(".no_exist").join(COMMIT);
    let expected = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&absent), expected);
    let locks = world.cache.path().join(".locks/models--ada--tiny");
    assert!(locks.join(format!("{etag}.lock")).exists());
    assert_eq!(names(&world.folder().join("blobs")).len(), 3);
}

#[test]
fn a_fetched_model_is_used_offline_without_a_request() {
    let mut world = World::new();
    let online = world.fetch("hf://ada/tiny").unwrap();
    world.server.requests();
    world.hub.offline = true;
    let source = Path::new("hf://ada/tiny");
    assert_eq!(local_folder(source, &world.hub, &mut |_| ()).unwrap(), online);
    assert_eq!(world.fetch(&format!("hf://ada/tiny@{COMMIT}")).unwrap(), online);
    assert_eq!(world.server.requests(), []);
}

#[test]
fn a_commit_that_the_cache_holds_is_used_without_a_request() {
    let world = World::with(&[("sei.pth", b"weights and nothing else")]);
    let pinned = format!("hf://ada/tiny@{COMMIT}");
    let first = world.fetch(&pinned).unwrap();
    assert!(!world.server.requests().is_empty());
    assert!(!world.folder().join("refs").exists(), "a commit needs no reference");
    assert_eq!(world.fetch(&pinned).unwrap(), first);
    assert_eq!(world.server.requests(), []);
}

#[test]
fn a_branch_that_has_not_moved_costs_one_request() {
    let world = World::new();
    world.fetch("hf://ada/tiny").unwrap();
    world.server.requests();
    world.fetch("hf://ada/tiny").unwrap();
    let paths: Vec<_> = world.server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/api/models/ada/tiny/revision/main"]);
}

#[test]
fn a_cache_of_the_python_library_is_used_without_a_request() {
    let world = World::new();
    std::fs::create_dir_all(world.folder().join("blobs")).unwrap();
    std::fs::create_dir_all(world.folder().join("refs")).unwrap();
    std::fs::create_dir_all(world.snapshot()).unwrap();
    std::fs::write(world.folder().join("refs/main"), COMMIT).unwrap();
    for name in ["config.json", "tokenizer.json", "pytorch_model.bin", "README.md"] {
        std::fs::write(world.folder().join("blobs").join(name), name).unwrap();
        let link = world.snapshot().join(name);
        std::os::unix::fs::symlink(Path::new("../../blobs").join(name), link).unwrap();
    }
    assert_eq!(world.fetch(&format!("hf://ada/tiny@{COMMIT}")).unwrap(), world.snapshot());
    let offline = Hub { offline: true, ..world.hub.clone() };
    let model = HubModel::parse("hf://ada/tiny").unwrap();
    assert_eq!(offline.fetch(&model, &mut |_| ()).unwrap(), world.snapshot());
    assert_eq!(world.server.requests(), []);
    // A link whose blob was deleted is no file.
    std::fs::remove_file(world.folder().join("blobs/pytorch_model.bin")).unwrap();
    let error = offline.fetch(&model, &mut |_| ()).unwrap_err().chain();
    assert!(error.contains("with weights"), "{error}");
}

#[test]
fn shards_come_with_their_index() {
    let index = br#"{"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}"#;
    let files: [(&str, &[u8]); 6] = [
        ("config.json", CONFIG),
        ("model.safetensors.index.json", index),
        ("part-1.safetensors", b"first"),
        ("part-2.safetensors", b"second"),
        ("consolidated.safetensors", b"never asked for"),
        ("pytorch_model.bin", b"never asked for"),
    ];
    let world = World::with(&files);
    let snapshot = world.fetch("hf://ada/tiny").unwrap();
    let expected =
        ["config.json", "model.safetensors.index.json", "part-1.safetensors", "part-2.safetensors"];
    assert_eq!(names(&snapshot), expected);
    // Without one shard the snapshot is not whole.
    std::fs::remove_file(snapshot.join("part-2.safetensors")).unwrap();
    let offline = Hub { offline: true, ..world.hub.clone() };
    let model = HubModel::parse("hf://ada/tiny").unwrap();
    let error = offline.fetch(&model, &mut |_| ()).unwrap_err().chain();
    assert!(error.contains("with part-2.safetensors"), "{error}");
    world.server.requests();
    world.fetch(&format!("hf://ada/tiny@{COMMIT}")).unwrap();
    assert!(gets(&world.server.requests(), "safetensors").is_empty(), "the blob is there still");
}

#[test]
fn progress_tells_what_is_to_be_had_and_how_much_is_there() {
    let world = World::new();
    let mut events = Vec::new();
    world.fetch_with("hf://ada/tiny", &mut |event| events.push(event)).unwrap();
    let bytes = (CONFIG.len() + VOCABULARY.len() + weights().len()) as u64;
    assert_eq!(events.first(), Some(&HubProgress::Planned { files: 3, bytes }));
    let total = weights().len() as u64;
    let last = HubProgress::Received { file: "model.safetensors".into(), done: total, total };
    assert_eq!(events.last(), Some(&last));
}

#[test]
fn a_fetch_may_be_called_inside_a_runtime() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let snapshot = runtime.block_on(async { world.fetch("hf://ada/tiny") }).unwrap();
    assert_eq!(snapshot, world.snapshot());
}

#[test]
fn two_fetches_at_once_both_succeed_and_download_once() {
    let world = World::new();
    let folders: Vec<_> = std::thread::scope(|scope| {
        let fetches: Vec<_> =
            (0..2).map(|_| scope.spawn(|| world.fetch("hf://ada/tiny").unwrap())).collect();
        fetches.into_iter().map(|fetch| fetch.join().unwrap()).collect()
    });
    assert_eq!(folders, [world.snapshot(), world.snapshot()]);
    assert_eq!(std::fs::read(world.snapshot().join("model.safetensors")).unwrap(), weights());
    assert_eq!(gets(&world.server.requests(), "storage/model.safetensors").len(), 1);
    assert_eq!(names(&world.folder().join("blobs")).len(), 3);
    assert_eq!(names(&world.snapshot()).len(), 3, "nothing is left beside the links");
}

#[test]
fn a_file_that_another_process_downloads_is_waited_for() {
    let world = World::new();
    let locks = world.cache.path().join(".locks/models--ada--tiny");
    std::fs::create_dir_all(&locks).unwrap();
    let path = locks.join(format!("{}.lock", sha256(&weights())));
    let mut other = Some(std::fs::File::create(path).unwrap());
    other.as_ref().unwrap().lock().unwrap();
    // The other process finishes its download, then lets go.
    let mut finish = |event| {
        if event == (HubProgress::Waiting { file: "model.safetensors".to_owned() }) {
            let blob = world.folder().join("blobs").join(sha256(&weights()));
            std::fs::write(blob, weights()).unwrap();
            drop(other.take());
        }
    };
    let snapshot = world.fetch_with("hf://ada/tiny", &mut finish).unwrap();
    assert!(other.is_none(), "the lock was not waited for");
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
    assert!(gets(&world.server.requests(), "storage/model.safetensors").is_empty());
}
