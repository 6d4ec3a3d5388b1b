//! Pure: whether a worker that says it is through with a unit lies, and what becomes of one that does.
//!
//! Leaves out: looking into the store (evidence). Invariant: an honest worker is never refused: a lease
//! it ever held under this coordinator counts as its own until the unit is through, and nothing is
//! held against a worker that only an earlier coordinator could judge.

use crate::evidence::{Author, Evidence};
use crate::state::event::Effect;
use crate::state::job::JobState;
use crate::state::reports::Ended;
use crate::state::{State, UnitState};
use glmeval_common::control::{LeaseKey, Outcome};
use glmeval_common::ids::{Generation, WorkerId};

/// One commit in so many has its digest compared by the coordinator; readers compare all.
const DIGESTS_ONE_IN: u64 = 32;

impl State {
    /// Whether the digest of what a worker committed should be compared now: its first, then some.
    pub fn wants_digest(&self, worker: &WorkerId, lease: &LeaseKey) -> bool {
        let vouched = self.workers.get(worker).is_some_and(|worker| worker.vouched);
        !vouched || lease.generation.counter.is_multiple_of(DIGESTS_ONE_IN)
    }

    /// Why a worker is refused for good.
    pub(in crate::state) fn refusal(&self, worker: &WorkerId) -> Option<&str> {
        self.refused.get(worker).map(String::as_str)
    }

    /// What is wrong with a report that says a unit is committed; `None` when nothing is.
    pub(in crate::state) fn lie(&self, ended: &Ended) -> Option<String> {
        let Ended { worker, lease: LeaseKey { job, unit, generation }, .. } = ended;
        let known = self.jobs.get(job).filter(|job| !job.phase().is_over())?;
        let is_judge = known.knows(*generation);
        if generation.epoch == self.epoch && generation.counter >= self.counter {
            return Some(format!(
                "reported unit {unit} under {generation}, which nobody was given"
            ));
        }
        let holds = known.holds(*unit, worker, *generation);
        match known.unit(*unit) {
            // Numbers beyond the plan are this coordinator's own.
            None if is_judge => return Some(format!("reported unit {unit}, which there is not")),
            None => return None,
            // A coordinator that came after the commit believes it without a look.
            Some(UnitState::Committed) => {
                return self.false_evidence(known, ended).filter(|_| ended.evidence.is_bad());
            }
            Some(state) if state.is_terminal() => return None,
            Some(_) if !holds && known.doubts.is_open(*unit) => return None,
            Some(_) => {}
        }
        if is_judge && !known.was_given(*unit, worker, *generation) {
            return Some(format!("reported unit {unit} under {generation}, which was not its own"));
        }
        if !is_judge && known.children.is_beyond(*unit) {
            return None;
        }
        self.false_evidence(known, ended)
    }

    fn false_evidence(&self, job: &JobState, ended: &Ended) -> Option<String> {
        let Ended { worker, lease: LeaseKey { unit, generation, .. }, outcome, evidence, .. } =
            ended;
        let is_own = |author: &Author| author.worker == *worker && *outcome == Outcome::Committed;
        match evidence {
            Evidence::Absent => {
                Some(format!("reported unit {unit} as committed, and no commit of it stands"))
            }
            Evidence::Bad { author: Some(author), reason, .. } if is_own(author) => {
                Some(format!("committed unit {unit} wrongly: {reason}"))
            }
            Evidence::Sound(Some(author)) if is_own(author) => {
                let written = author.generation.as_ref()?;
                let is_judge = job.knows(*written);
                let is_given = written == generation || job.was_given(*unit, worker, *written);
                (is_judge && !is_given).then(|| {
                    format!("committed unit {unit} under {written}, which was not its own")
                })
            }
            Evidence::Unasked | Evidence::Sound(_) | Evidence::Bad { .. } => None,
        }
    }

    /// Grants a worker nothing any more and takes back all it holds.
    pub(in crate::state) fn refuse(
        &mut self,
        worker: &WorkerId,
        reason: String,
        effects: &mut Vec<Effect>,
    ) {
        let host = self.workers.get(worker).map(|worker| worker.host.clone());
        self.refuse_known(worker, reason.clone());
        effects.push(Effect::Refused { worker: worker.clone(), reason: reason.clone() });
        effects.push(Effect::RefuseCaller(reason));
        if let Some(host) = host
            && let Some(reason) = self.hosts.lied(&host, self.settings.host_liars_max)
        {
            self.drain_host(&host, reason, effects);
        }
    }

    /// Grants nothing to a machine any more, unless nobody else could go on with its work.
    pub(in crate::state) fn drain_host(
        &mut self,
        host: &str,
        reason: String,
        effects: &mut Vec<Effect>,
    ) {
        let ill: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.host == host)
            .map(|(id, _)| id.clone())
            .collect();
        let is_spared = |worker: &WorkerId| {
            let worker = self.workers.get(worker);
            worker.is_none_or(|worker| self.has_stand_in(host, &worker.numeric_classes))
        };
        if !ill.iter().all(is_spared) {
            return;
        }
        self.hosts.drain(host, reason.clone());
        for worker in &ill {
            if let Some(worker) = self.workers.get_mut(worker) {
                worker.draining = true;
            }
        }
        effects.push(Effect::HostDrained { host: host.to_owned(), reason });
    }

    /// Whether a worker of another machine can do all that workers of those classes do.
    pub(in crate::state) fn has_stand_in(&self, host: &str, numeric_classes: &[String]) -> bool {
        self.workers.values().any(|worker| {
            worker.host != host
                && !worker.draining
                && numeric_classes.iter().all(|class| worker.numeric_classes.contains(class))
        })
    }

    /// Refused workers, drained machines and machines of unfit workers, one line each.
    pub(in crate::state) fn notices(&self) -> Vec<String> {
        let refused = self
            .refused
            .iter()
            .map(|(worker, reason)| format!("worker {worker} is refused: it {reason}"));
        let hosts =
            self.hosts.drained().map(|(host, why)| format!("host {host} is drained: {why}"));
        refused.chain(hosts).chain(self.unfit.lines()).collect()
    }
}

impl JobState {
    /// Whether a worker holds that very lease now.
    fn holds(&self, unit: u32, worker: &WorkerId, generation: Generation) -> bool {
        let leases = self.leases.of_unit(unit).iter();
        leases.clone().any(|lease| lease.worker == *worker && lease.generation == generation)
    }

    /// Whether a worker holds that lease or held it before, of a unit that is not through.
    fn was_given(&self, unit: u32, worker: &WorkerId, generation: Generation) -> bool {
        self.holds(unit, worker, generation) || self.leases.was_held(unit, worker, generation)
    }
}
