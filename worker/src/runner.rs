//! Runs one unit: reads its inputs from the store, computes, commits.
//!
//! Leaves out: which unit and when (`agent`). Invariant: a unit that is already committed is checked and,
//! if sound, left alone; its result depends on the unit and the store only.

use crate::agent::{Readiness, RunContext, UnitOutcome, UnitRunner};
use crate::attempt::{UnitContext, is_sound};
use crate::attribution::unit::attribute;
use crate::device::{Device, SharedDevice};
use crate::extract::{ShardExamples, embed};
use crate::model::{Model, Precision};
use crate::spool::{Spool, SpooledShard};
use crate::{fit, prepare, publish};
use async_trait::async_trait;
use glmeval_common::clock::Clock;
use glmeval_common::dataset::DatasetSource;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::{Attempt, DatasetId, ModelId, SetId};
use glmeval_common::model::InputQuirk;
use glmeval_common::readers::ExampleReader;
use glmeval_common::readers::genome::Genome;
use glmeval_common::readers::windows::{WindowOptions, WindowReader};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::models::ModelRecord;
use glmeval_common::store::embeddings::{SetManifest, ShardAttempt, find_commit, read_shard};
use glmeval_common::survey::check_unchanged;
use glmeval_common::unit::{ExtractUnit, FitUnit, MaskedModel, ModelRef, WorkUnit};
use metrics::counter;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use tracing::{Instrument, info_span};

mod delivery;
mod inputs;
mod opened;
use inputs::Inputs;
use opened::Opened;

/// Metric of the rows this process computed, committed or not.
const ROWS_COMPUTED: &str = "glmeval_rows_computed_total";

/// Runs units against a store, keeping opened gLMs.
pub struct Runner {
    store: Store,
    clock: Arc<dyn Clock>,
    device: SharedDevice,
    models: Opened<(ModelId, Precision, Option<InputQuirk>), Model>,
    genomes: Opened<DatasetId, Genome>,
    inputs: Inputs,
    /// Sets whose description this process has seen in the store.
    described: Mutex<BTreeSet<SetId>>,
    spool: Option<Arc<Spool>>,
    /// Finished shards that wait for the store in memory, for want of room in the spool.
    stranded: AtomicUsize,
}

impl Runner {
    /// A runner without any gLM opened.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            device: SharedDevice::default(),
            models: Opened::default(),
            genomes: Opened::default(),
            inputs: Inputs::default(),
            described: Mutex::default(),
            spool: None,
            stranded: AtomicUsize::new(0),
        }
    }

    /// Keeps finished shards in `spool` while the store is away; without one, such units fail for now.
    #[must_use]
    pub fn with_spool(mut self, spool: Arc<Spool>) -> Self {
        self.spool = Some(spool);
        self
    }

    /// Runs gLMs on `device` rather than on the CPU, and trains there what was planned so.
    #[must_use]
    pub fn with_device(mut self, device: Device) -> Self {
        self.device = SharedDevice::new(device);
        self
    }

    /// The gLM of a unit, opened once and checked against the id that was planned; any rows need it.
    fn model(&self, model: &ModelRef) -> Result<Arc<Model>> {
        let key = (model.id.clone(), model.options.precision, model.options.quirk);
        let opened = self.models.get(key, || {
            let opened = crate::models::open_on(&model.source, &model.options, self.device.get());
            let opened = opened.map_err(|error| blamed_on_files(error, model))?;
            check_planned(model, &opened.facts().id)?;
            Ok(Arc::new(opened))
        });
        opened.map_err(Error::of_all_rows)
    }

    /// The gLM of a unit of maps, if this worker is of the numeric class that was planned.
    fn masked(&self, masked: &MaskedModel) -> Result<Arc<Model>> {
        let MaskedModel { model, numeric_class } = masked;
        let class = crate::numeric_class_on(&self.device.get().kind(), model.options.precision);
        if *numeric_class != class {
            let defect = Error::invalid(format!(
                "maps of {}: expected a worker of numeric class {numeric_class}, found {class}",
                model.name
            ));
            return Err(defect.of_place());
        }
        self.model(model)
    }

    async fn attribute(&self, context: &UnitContext<'_>, unit: &FitUnit) -> Result<bool> {
        let _turn = match unit.masked() {
            Some(_) => self.device.beside_others(context).await?,
            None => None,
        };
        attribute(context, unit, &|masked| self.masked(masked)).await
    }

    async fn extract(&self, context: &UnitContext<'_>, unit: &ExtractUnit) -> Result<bool> {
        let set = &unit.set;
        // Asking a store that is away takes long, and the commit decides anyway.
        if !self.store_is_away() {
            let standing = find_commit(context.store, &set.id, unit.start, unit.end).await;
            let standing = match standing {
                // What it needs may be at hand, and the spool takes what it makes.
                Err(error) if error.kind() == ErrorKind::Unavailable && self.spool.is_some() => {
                    tracing::debug!(error = error.chain(), "not known whether it is committed");
                    Ok(None)
                }
                known => known,
            };
            let check = async |commit| read_shard(context.store, &commit).await.map(drop);
            if is_sound(standing, check).await? {
                return Ok(false);
            }
        }
        let class = crate::numeric_class_on(&self.device.get().kind(), set.model.options.precision);
        if set.numeric_class != class {
            let defect = Error::invalid(format!(
                "embedding set {}: expected a worker of numeric class {}, found {class}",
                set.id, set.numeric_class
            ));
            return Err(defect.of_place());
        }
        let read = self.examples(context.store, unit).instrument(info_span!("read"));
        let examples = read.await?;
        let turn = self.device.beside_others(context).await?;
        let shard = tokio::task::block_in_place(|| {
            let model = self.model(&set.model)?;
            let computed = counter!(ROWS_COMPUTED, "model" => set.model.name.clone());
            embed(&model, set, &examples, &mut |rows| {
                computed.increment(rows);
                context.done(rows);
            })
        })?;
        drop(turn);
        let rows = shard.row_ids.len() as u64;
        drop(examples);
        let bytes =
            tokio::task::block_in_place(|| info_span!("encode").in_scope(|| shard.encode()))?;
        drop(shard);
        let model = tokio::task::block_in_place(|| self.model(&set.model))?;
        let seconds = context.seconds();
        let attempt = ShardAttempt {
            set: set.id.clone(),
            start: unit.start,
            end: unit.end,
            rows,
            attempt: context.attempt.clone(),
            worker: context.worker.clone(),
            generation: context.generation,
            seconds,
        };
        let shard = SpooledShard {
            attempt,
            manifest: SetManifest::of(set),
            model: ModelRecord::of(&set.model, model.facts(), model.tokenizer().digest()),
            started_unix_ms: self.clock.unix_ms().saturating_sub((seconds * 1_000.0) as u64),
        };
        self.deliver(context, shard, bytes).instrument(info_span!("commit")).await
    }

    async fn examples(&self, store: &Store, unit: &ExtractUnit) -> Result<ShardExamples> {
        let (start, end) = (unit.start, unit.end);
        if let Some(source) = &unit.lazy_source {
            return tokio::task::block_in_place(|| self.windows(unit, source));
        }
        let examples = self.inputs.examples(store, &unit.set.dataset, (start, end)).await?;
        Ok(ShardExamples { start, end, examples, indices: None })
    }

    /// Windows `start..end` of a genome that are defined enough.
    fn windows(&self, unit: &ExtractUnit, source: &DatasetSource) -> Result<ShardExamples> {
        let (start, end) = (unit.start, unit.end);
        let options = WindowOptions::of(source)
            .ok_or_else(|| Error::bug("only windows are cut while they are embedded"))?;
        let genome = self.genome(unit, source)?;
        let mut reader = WindowReader::new(genome, options, Some(start..end))?;
        let (mut examples, mut indices) = (Vec::new(), Vec::new());
        loop {
            let read = reader.read(1)?;
            if read.is_empty() {
                return Ok(ShardExamples { start, end, examples, indices: Some(indices) });
            }
            examples.extend(read);
            indices.push(reader.position() - 1);
        }
    }

    /// The genome of a unit, opened once and checked against the data set that was planned.
    fn genome(&self, unit: &ExtractUnit, source: &DatasetSource) -> Result<Arc<Genome>> {
        let dataset = &unit.set.dataset;
        self.genomes.get(dataset.clone(), || {
            check_unchanged(source, unit.task, dataset)?;
            let path = source.paths().first().copied().unwrap_or(Path::new(""));
            Ok(Arc::new(Genome::open(path)?))
        })
    }
}

/// Refuses another gLM than was planned: its files are not those that the planner saw.
fn check_planned(model: &ModelRef, found: &ModelId) -> Result<()> {
    if *found == model.id {
        return Ok(());
    }
    let (source, planned) = (model.source.display(), &model.id);
    let defect = Error::invalid(format!(
        "{source}: expected the model {planned} that was planned, found {found}: the files have changed"
    ));
    Err(defect.of_place())
}

/// What the planner could read and this worker cannot is another file, not a defect of the unit.
fn blamed_on_files(error: Error, model: &ModelRef) -> Error {
    if error.kind() != ErrorKind::Invalid {
        return error;
    }
    match crate::models::describe(&model.source, &model.options) {
        Ok(facts) => match check_planned(model, &facts.id) {
            Ok(()) => error,
            Err(differs) => differs.with_source(error),
        },
        Err(unread) if unread.kind() == ErrorKind::Invalid => error.of_place(),
        Err(_) => error,
    }
}

#[async_trait]
impl UnitRunner for Runner {
    async fn run(
        &self,
        unit: &WorkUnit,
        attempt: &Attempt,
        run: &RunContext,
    ) -> Result<UnitOutcome> {
        let store = self.store.for_attempt(Arc::clone(&self.clock));
        let context = UnitContext::new(&store, attempt, run, self.clock.as_ref());
        let won = match unit {
            WorkUnit::Prepare(unit) => prepare::prepare(&context, unit).await,
            WorkUnit::Extract(unit) => self.extract(&context, unit).await,
            WorkUnit::Fit(unit) if unit.is_attribution() => self.attribute(&context, unit).await,
            WorkUnit::Fit(unit) => fit::fit(&context, unit, &self.device).await,
            WorkUnit::Report(unit) => publish::publish(&context, unit).await,
        };
        let won = won.map_err(|error| error.context(unit.label()))?;
        Ok(if won { UnitOutcome::Committed } else { UnitOutcome::Lost })
    }

    fn readiness(&self) -> Readiness {
        self.room()
    }
}
