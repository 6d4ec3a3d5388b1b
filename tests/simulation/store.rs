//! The one object store of a simulation: memory behind weather, and a guard that nothing is ever rewritten.
//!
//! Leaves out: lag of lists and reads, which the contract with a store rules out. Invariant: what a request does,
//! it does at one moment between its delays, so a process that dies meanwhile has written all or nothing.

use crate::world::{Sabotage, Weather, World, lock};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use glmeval_common::store::Store;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A write whose sender was told that it failed, still on its way.
struct Late {
    due_ms: u64,
    who: String,
    path: Path,
    payload: PutPayload,
    mode: PutMode,
}

/// What the guard knows.
#[derive(Default)]
struct Guard {
    /// Every object ever written, with its first bytes.
    written: BTreeMap<String, Bytes>,
    /// Data that a commit names.
    named: BTreeSet<String>,
    late: Vec<Late>,
}

/// The objects themselves, shared by all hosts.
pub(crate) struct Objects {
    world: Arc<World>,
    memory: InMemory,
    guard: Mutex<Guard>,
}

impl Objects {
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        let (world, memory) = (Arc::clone(world), InMemory::new());
        Arc::new(Self { world, memory, guard: Mutex::default() })
    }

    /// The store as the process `who` on `host` sees it.
    pub(crate) fn seen_from(self: &Arc<Self>, host: &str, who: &str) -> Store {
        let (host, who) = (host.to_owned(), who.to_owned());
        let view = View { objects: Arc::clone(self), host, who };
        Store::from_object_store(Arc::new(view), "").expect("an empty prefix is a path")
    }

    /// The store without weather, for oracles.
    pub(crate) fn truth(self: &Arc<Self>) -> Store {
        self.seen_from("", "oracle")
    }

    /// Writes that arrive after their senders gave them up.
    async fn settle_late(&self) {
        let now_ms = self.world.now_ms();
        let due: Vec<Late> = {
            let mut guard = lock(&self.guard);
            let (due, rest) = guard.late.drain(..).partition(|late| late.due_ms <= now_ms);
            guard.late = rest;
            due
        };
        for Late { who, path, payload, mode, .. } in due {
            let done = self.write(&who, &path, payload, mode).await;
            let became = if done.is_ok() { "written" } else { "refused" };
            self.world.note(&who, format!("late put {path} {became}"));
        }
    }

    /// Carries a write out and looks at what it does.
    async fn write(
        &self,
        who: &str,
        path: &Path,
        payload: PutPayload,
        mode: PutMode,
    ) -> Result<PutResult> {
        let sabotage = self.world.sabotage;
        let is_commit = path.as_ref().contains("/commit/");
        let mode = match sabotage {
            Sabotage::TwoWinners => PutMode::Overwrite,
            _ => mode,
        };
        let bytes = Bytes::from(payload.clone());
        let result = self.memory.put_opts(path, payload, PutOptions::from(mode)).await?;
        self.look(who, path, &bytes);
        if sabotage == Sabotage::Forgetful && is_commit && self.world.chance(0.05) {
            self.memory.delete(path).await?;
        }
        Ok(result)
    }

    fn look(&self, who: &str, path: &Path, bytes: &Bytes) {
        let mut broken = Vec::new();
        let mut guard = lock(&self.guard);
        let first = guard.written.entry(path.to_string()).or_insert_with(|| bytes.clone());
        if first != bytes {
            broken.push(format!("{who} replaced {path} by other bytes"));
        }
        if path.as_ref().ends_with(".json") {
            let text = String::from_utf8_lossy(bytes);
            let named =
                text.split("\"path\": \"").skip(1).filter_map(|rest| rest.split('"').next());
            guard.named.extend(named.map(str::to_owned));
            let too_old = lock(&self.world.orders).too_old.clone();
            let too_old = too_old.iter().filter(|attempt| text.contains(attempt.as_str()));
            broken.extend(
                too_old.map(|attempt| format!("the fenced attempt {attempt} wrote {path}")),
            );
        }
        drop(guard);
        for text in broken {
            self.world.violation(text);
        }
    }
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// Refused before anything happened.
    Refused,
    /// Carried out, but the answer is lost.
    Unclear,
    /// Answered with an error, carried out later.
    Late,
}

/// The store as one process sees it.
struct View {
    objects: Arc<Objects>,
    host: String,
    who: String,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn unavailable(what: &str) -> Error {
    Error::Generic { store: "simulated", source: what.to_owned().into() }
}

impl View {
    fn is_oracle(&self) -> bool {
        self.host.is_empty()
    }

    /// Waits as long as the request travels, and decides its fate.
    async fn travel(&self, is_write: bool) -> (Fate, u64) {
        if self.is_oracle() {
            return (Fate::Done, 0);
        }
        let world = &self.objects.world;
        pause(world.frozen_ms(&self.host)).await;
        let (weather, cut_off) = {
            let orders = lock(&world.orders);
            (orders.weather.unwrap_or(Weather::Fair), orders.cut_off.contains(&self.host))
        };
        let (failing, slowest_ms) = match weather {
            _ if cut_off => (1.0, 2_000),
            Weather::Down => (1.0, 500),
            Weather::Fair => (0.02, 40),
            Weather::Slow => (0.02, 3_000),
            Weather::Failing => (0.5, 300),
        };
        let fails = world.chance(failing);
        let unreachable = cut_off || weather == Weather::Down;
        let fate = match world.draw(0, 4) {
            _ if !fails => Fate::Done,
            _ if unreachable || !is_write => Fate::Refused,
            0 => Fate::Refused,
            1 => Fate::Late,
            _ => Fate::Unclear,
        };
        pause(world.draw(2, slowest_ms)).await;
        self.objects.settle_late().await;
        (fate, world.draw(2, slowest_ms))
    }

    fn note(&self, what: &str, path: &str, became: &str) {
        if !self.is_oracle() {
            self.objects.world.note(&self.who, format!("{what} {path} {became}"));
        }
    }

    /// A request that only reads.
    async fn read<T>(
        &self,
        what: &str,
        path: &str,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (fate, back_ms) = self.travel(false).await;
        if fate != Fate::Done {
            self.objects.world.count("store refusals");
            self.note(what, path, "refused");
            return Err(unavailable("refused"));
        }
        let result = request.await;
        pause(back_ms).await;
        self.note(what, path, if result.is_ok() { "ok" } else { "not there" });
        result
    }
}

#[async_trait]
impl ObjectStore for View {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let objects = &self.objects;
        let what = if options.mode == PutMode::Create { "create" } else { "put" };
        let (fate, back_ms) = self.travel(true).await;
        match fate {
            Fate::Refused => {
                objects.world.count("store refusals");
                self.note(what, path.as_ref(), "refused");
                Err(unavailable("refused"))
            }
            Fate::Late => {
                objects.world.count("late writes");
                let due_ms = objects.world.now_ms() + objects.world.draw(50, 8_000);
                let (who, path) = (self.who.clone(), path.clone());
                self.note(what, path.as_ref(), "late");
                let late = Late { due_ms, who, path, payload, mode: options.mode };
                lock(&objects.guard).late.push(late);
                Err(unavailable("timed out"))
            }
            Fate::Done | Fate::Unclear => {
                let result = objects.write(&self.who, path, payload, options.mode).await;
                let became = if result.is_ok() { "written" } else { "exists" };
                self.note(what, path.as_ref(), became);
                pause(back_ms).await;
                if fate == Fate::Unclear {
                    objects.world.count("unclear writes");
                    self.note(what, path.as_ref(), "unclear");
                    return Err(unavailable("the answer is lost"));
                }
                result
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        _path: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented {
            operation: "multipart".into(),
            implementer: "simulated".into(),
        })
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let what = if options.head { "head" } else { "get" };
        let is_cancel = path.as_ref().contains("/cancelled");
        if self.objects.world.sabotage == Sabotage::LostCancel && is_cancel && !self.is_oracle() {
            let path = path.to_string();
            return Err(Error::NotFound { path, source: "forgotten".into() });
        }
        self.read(what, path.as_ref(), self.objects.memory.get_opts(path, options)).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let view = self.named();
        let delete = paths.then(move |path| {
            let view = view.named();
            async move {
                let path = path?;
                if lock(&view.objects.guard).named.contains(path.as_ref()) {
                    let text = format!("{} deletes {path}, which a commit names", view.who);
                    view.objects.world.violation(text);
                }
                let deleted = view.objects.memory.delete(&path);
                view.read("delete", path.as_ref(), deleted).await.map(|()| path.clone())
            }
        });
        delete.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (view, prefix) = (self.named(), prefix.cloned());
        let listed = async move {
            let name = prefix.as_ref().map_or("", |prefix| prefix.as_ref());
            let list = view.objects.memory.list(prefix.as_ref()).try_collect::<Vec<_>>();
            let entries = view.read("list", name, list).await?;
            Ok::<_, Error>(futures::stream::iter(entries).map(Ok))
        };
        futures::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let name = prefix.map_or("", |prefix| prefix.as_ref());
        self.read("folders", name, self.objects.memory.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "simulated".into() })
    }
}

impl View {
    fn named(&self) -> Self {
        let Self { objects, host, who } = self;
        Self { objects: Arc::clone(objects), host: host.clone(), who: who.clone() }
    }
}
