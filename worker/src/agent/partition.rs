//! Partition mode: no coordinator; every worker takes a fixed share, then whatever is left.
//!
//! Leaves out: leases. Invariant: the order decides economy only; the commit decides who won, so
//! any number of workers with any shares finish the job together. A shard that fails for good is cut down to
//! the rows at fault; a worker that is at fault itself ends.

use super::{
    RunContext, Stop, StopHandle, StopSource, UnitOutcome, UnitProgress, UnitRunner, stop_pair,
    unit_rows, worker_span,
};
use async_trait::async_trait;
use glmeval_common::clock::Clock;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::{Attempt, Generation, WorkerId};
use glmeval_common::plan::Plan;
use glmeval_common::rng::random_token;
use glmeval_common::unit::{ExtractUnit, WorkUnit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument;

/// Attempts at one unit before it is left to others.
const ATTEMPTS_MAX: u32 = 3;
/// How long a worker waits when all that is left waits for others.
const WAIT_MS: u64 = 2_000;

/// Rows at fault of one shard that are told of.
const ROWS_TOLD_MAX: usize = 10;

/// How long a unit may take to give up once told to.
const ABANDON_MS_MAX: u64 = 2_000;

/// Tells which units of a plan are committed.
#[async_trait]
pub trait CommitCheck: Send + Sync {
    /// Per unit of the plan: whether its commit stands.
    async fn committed(&self, plan: &Plan) -> Result<Vec<bool>>;
}

/// How a partition worker ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionOutcome {
    /// Units this worker committed.
    pub committed: u64,
    /// Units that failed here, with their error chains, and are not committed by anyone.
    pub failed: Vec<(u32, String)>,
    /// Units nobody has committed, the failed ones and those behind them included.
    pub left: u64,
    /// Whether it was stopped.
    pub stopped: bool,
}

/// The order in which worker `index` of `count` tries `units` units: its own contiguous share
/// first, then all others in an order of its own, so that helpers spread out.
pub fn partition(units: u32, index: u32, count: u32) -> Vec<u32> {
    let count = count.max(1);
    let bound = |i: u32| (u64::from(units) * u64::from(i.min(count)) / u64::from(count)) as u32;
    let own = bound(index)..bound(index.saturating_add(1));
    let mut others: Vec<u32> = (0..units).filter(|unit| !own.contains(unit)).collect();
    others.sort_by_cached_key(|unit| scattered((u64::from(index) << 32) | u64::from(*unit)));
    own.chain(others).collect()
}

/// A number without a pattern, another one for every `number` (the finaliser of SplitMix64).
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A partition worker at work.
pub struct PartitionWorker<'a> {
    /// The job.
    pub plan: &'a Plan,
    /// Name of this process.
    pub worker: WorkerId,
    /// What is done already, by whomever.
    pub check: &'a dyn CommitCheck,
    /// Does one unit.
    pub runner: &'a dyn UnitRunner,
    /// This machine's time.
    pub clock: &'a dyn Clock,
    /// Ends the work between two units.
    pub stop: StopSource,
}

/// What one worker knows of the units.
struct Ledger {
    committed: Vec<bool>,
    attempts: Vec<u32>,
    errors: BTreeMap<u32, String>,
    /// Committed units whose data was found damaged, until this worker has looked at them again.
    doubted: BTreeSet<u32>,
    /// Per range of prerequisites: all units before this one are done.
    done_before: BTreeMap<(u32, u32), u32>,
}

impl Ledger {
    fn is_done(&self, unit: u32) -> bool {
        let committed = self.committed.get(unit as usize).copied().unwrap_or(false);
        committed && !self.doubted.contains(&unit)
    }

    /// Takes note of a failure.
    fn fail(&mut self, plan: &Plan, unit: u32, error: &Error) {
        let attempts = if error.kind().is_transient() { 1 } else { ATTEMPTS_MAX };
        if let Some(count) = self.attempts.get_mut(unit as usize) {
            *count += attempts;
        }
        if error.kind() == ErrorKind::Corrupt
            && let Some(planned) = plan.unit(unit)
        {
            self.done_before.clear();
            let inputs = planned.prerequisites.iter().flat_map(|(first, past)| *first..*past);
            self.doubted.extend(inputs);
        }
        self.errors.insert(unit, error.chain());
    }

    fn is_given_up(&self, unit: u32) -> bool {
        self.attempts.get(unit as usize).is_none_or(|attempts| *attempts >= ATTEMPTS_MAX)
    }

    fn can_start(&mut self, plan: &Plan, unit: u32) -> bool {
        if self.is_done(unit) || self.is_given_up(unit) {
            return false;
        }
        let planned = plan.unit(unit);
        planned.is_some_and(|it| it.prerequisites.iter().all(|range| self.is_range_done(*range)))
    }

    /// Goes on where the last look at this range ended: many units ask for the same one.
    fn is_range_done(&mut self, (first, past): (u32, u32)) -> bool {
        let from = self.done_before.get(&(first, past)).copied().unwrap_or(first);
        let open = (from..past).find(|unit| !self.is_done(*unit));
        self.done_before.insert((first, past), open.unwrap_or(past));
        open.is_none()
    }
}

impl PartitionWorker<'_> {
    /// Runs the plan as worker `index` of `count` until every unit is committed, this worker can
    /// do no more of them, or it is stopped.
    ///
    /// # Errors
    /// As the commit check; what this worker, its files or its way to the store are to be blamed for.
    pub async fn run(&self, index: u32, count: u32) -> Result<PartitionOutcome> {
        self.run_share(index, count).instrument(worker_span(&self.worker)).await
    }

    async fn run_share(&self, index: u32, count: u32) -> Result<PartitionOutcome> {
        let units = self.plan.unit_count();
        let order = partition(units, index, count);
        let mut ledger = Ledger {
            committed: Vec::new(),
            attempts: vec![0; units as usize],
            errors: BTreeMap::new(),
            doubted: BTreeSet::new(),
            done_before: BTreeMap::new(),
        };
        let mut won = 0;
        loop {
            ledger.committed = self.check.committed(self.plan).await?;
            ledger.done_before.clear();
            let mut idle = true;
            for unit in &order {
                if ledger.can_start(self.plan, *unit) && !self.stop.is_stopped() {
                    idle = false;
                    won += u64::from(self.run_unit(*unit, &mut ledger).await?);
                }
            }
            let open: Vec<u32> = (0..units).filter(|unit| !ledger.is_done(*unit)).collect();
            // What this worker gave up may be done by others, but it does not wait for them.
            let hopeless = idle && open.iter().any(|unit| ledger.is_given_up(*unit));
            let stopped = self.stop.is_stopped();
            if open.is_empty() || stopped || hopeless {
                let left = open.len() as u64;
                let failed =
                    ledger.errors.into_iter().filter(|(unit, _)| open.binary_search(unit).is_ok());
                let failed = failed.collect();
                return Ok(PartitionOutcome { committed: won, failed, left, stopped });
            }
            if idle {
                tokio::select! {
                    _ = self.stop.stopped() => {}
                    () = tokio::time::sleep(Duration::from_millis(WAIT_MS)) => {}
                }
            }
        }
    }

    /// Runs one unit; whether this worker committed it.
    async fn run_unit(&self, unit: u32, ledger: &mut Ledger) -> Result<bool> {
        let Some(work) = self.plan.work_unit(unit) else { return Ok(false) };
        let mut ended = self.run_work(&work).await;
        if let (Some(Err(error)), WorkUnit::Extract(shard)) = (&ended, &work)
            && !error.kind().is_transient()
            && !error.is_of_place()
        {
            ended = self.run_halves(shard, error).await;
        }
        match ended {
            Some(Ok(outcome)) => {
                ledger.doubted.remove(&unit);
                if let Some(committed) = ledger.committed.get_mut(unit as usize) {
                    *committed = true;
                }
                return Ok(outcome == UnitOutcome::Committed);
            }
            Some(Err(error)) if error.is_of_place() => return Err(error),
            Some(Err(error)) => {
                tracing::warn!(unit = work.label(), error = error.chain(), "unit failed");
                ledger.fail(self.plan, unit, &error);
            }
            None => tracing::info!(unit = work.label(), "unit handed back"),
        }
        Ok(false)
    }

    /// Runs a shard that failed for good in halves, and those that fail likewise again, down to the rows
    /// at fault, as coordinated workers do; the error names these rows.
    async fn run_halves(&self, shard: &ExtractUnit, first: &Error) -> Option<Result<UnitOutcome>> {
        let halves = |start: u64, end: u64| {
            let middle = start + (end - start) / 2;
            [(middle, end), (start, middle)]
        };
        if shard.end.saturating_sub(shard.start) < 2 {
            return Some(Err(Error::invalid(first.chain())));
        }
        let mut left = halves(shard.start, shard.end).to_vec();
        let (mut outcome, mut faults, mut sound) = (UnitOutcome::Lost, Vec::new(), 0_u64);
        while let Some((start, end)) = left.pop() {
            if self.stop.is_stopped() {
                return None;
            }
            let part = WorkUnit::Extract(ExtractUnit { start, end, ..shard.clone() });
            match self.run_work(&part).await? {
                Ok(ended) => {
                    sound += 1;
                    if ended == UnitOutcome::Committed {
                        outcome = ended;
                    }
                }
                Err(error) if error.kind().is_transient() || error.is_of_place() => {
                    return Some(Err(error));
                }
                Err(_) if end - start > 1 => left.extend(halves(start, end)),
                Err(error) => faults.push(format!("examples {start}-{end}: {}", error.chain())),
            }
            if sound == 0 && faults.len() >= ROWS_TOLD_MAX {
                // It is not the rows.
                return Some(Err(Error::invalid(first.chain())));
            }
        }
        if faults.is_empty() {
            return Some(Ok(outcome));
        }
        let more = faults.len().saturating_sub(ROWS_TOLD_MAX);
        faults.truncate(ROWS_TOLD_MAX);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Some(Err(Error::invalid(format!("{}{more}", faults.join("; ")))))
    }

    /// Runs what is a unit, or a part of one; `None` if it was handed back.
    async fn run_work(&self, work: &WorkUnit) -> Option<Result<UnitOutcome>> {
        let (stop, source) = stop_pair();
        let context = RunContext {
            worker: self.worker.clone(),
            generation: Generation::default(),
            progress: Arc::new(UnitProgress::new(self.clock.now_ms(), unit_rows(work))),
            stop: source,
        };
        let attempt = Attempt::new(random_token());
        tracing::debug!(unit = work.label(), "unit starts");
        let running = self.runner.run(work, &attempt, &context);
        let ended = self.within_grace(running, &context.progress, &stop).await;
        // What fails once it is told to stop says nothing of the unit.
        ended.filter(|ended| ended.is_ok() || !stop.was_told())
    }

    /// The unit's result; `None` if it was dropped since it did not fit into the grace of a stop.
    async fn within_grace(
        &self,
        running: impl Future<Output = Result<UnitOutcome>>,
        progress: &UnitProgress,
        stop: &StopHandle,
    ) -> Option<Result<UnitOutcome>> {
        tokio::pin!(running);
        let Stop { grace_ms, reason } = tokio::select! {
            biased;
            result = &mut running => return Some(result),
            order = self.stop.stopped() => order,
        };
        tracing::info!(reason, grace_ms, "worker stops");
        // Another worker can begin at once what this one cannot finish.
        if progress.left_ms(self.clock).is_none_or(|left_ms| left_ms <= grace_ms) {
            let grace = Duration::from_millis(grace_ms);
            if let Ok(result) = tokio::time::timeout(grace, &mut running).await {
                return Some(result);
            }
        }
        stop.stop(0, "grace is over");
        tokio::time::timeout(Duration::from_millis(ABANDON_MS_MAX), running).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_shares_tile_the_units_and_every_order_holds_all_of_them() {
        for (units, count) in [(0, 1), (1, 3), (10, 3), (7, 7), (5, 9)] {
            let mut own = Vec::new();
            for index in 0..count {
                let order = partition(units, index, count);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..units).collect::<Vec<_>>());
                let bound = |i: u32| units * i / count;
                own.extend(order.into_iter().take((bound(index + 1) - bound(index)) as usize));
            }
            assert_eq!(own, (0..units).collect::<Vec<_>>());
        }
    }

    #[test]
    fn helpers_spread_out_over_the_rest() {
        let tail = |index: u32| partition(100, index, 4)[25..].to_vec();
        assert_ne!(tail(0)[..10], tail(1)[..10]);
    }
}
