//! A finished shard's way into the store: at once, or by way of the spool while the store is away.
//!
//! Leaves out: files (`spool`), what a commit is (`common::store`). Invariant: a shard is given up only if another
//! attempt has committed it, if it is too old, or if the store refuses it for good; where it refuses this
//! worker, a shard of the spool stays there.

use super::Runner;
use crate::agent::{REVOKED, Readiness, StopSource};
use crate::attempt::UnitContext;
use crate::spool::{Refusal, Spool, SpooledShard, Ticket};
use bytes::Bytes;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::limits;
use glmeval_common::rng::{Rng, random_token};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::models::create_model;
use glmeval_common::store::embeddings::{commit_shard, create_set};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Where a shard waits.
enum Kept {
    OnDisk(Ticket),
    InMemory(Bytes),
}

/// Counts a shard that found no room on the disk for as long as it lives.
struct Stranded<'a>(&'a AtomicUsize);

impl<'a> Stranded<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Stranded<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Kept {
    fn read(&self) -> Result<Bytes> {
        match self {
            Self::OnDisk(ticket) => tokio::task::block_in_place(|| Ok(ticket.read()?.1)),
            Self::InMemory(bytes) => Ok(bytes.clone()),
        }
    }

    fn remove(self) {
        if let Self::OnDisk(ticket) = self {
            ticket.remove();
        }
    }
}

impl Runner {
    /// Describes the set and its gLM in the store, for people, and commits the shard; whether this attempt won.
    async fn publish(&self, store: &Store, shard: &SpooledShard, bytes: Bytes) -> Result<bool> {
        let set = &shard.manifest.set;
        let described = || self.described.lock().unwrap_or_else(PoisonError::into_inner);
        let is_described = described().contains(set);
        if !is_described {
            create_model(store, &shard.model).await?;
            create_set(store, &shard.manifest).await?;
            described().insert(set.clone());
        }
        Ok(commit_shard(store, &shard.attempt, bytes).await?.is_won())
    }

    /// Tries the store until it answers, one shard of the spool at a time.
    async fn try_on(
        &self,
        store: &Store,
        spool: &Spool,
        (shard, kept): (&SpooledShard, Kept),
        stop: &StopSource,
    ) -> Result<bool> {
        let mut wait_ms = limits::SPOOL_WAIT_MS_MIN;
        loop {
            let share = 0.5 + 0.5 * Rng::derive(0, &random_token()).uniform();
            let wait = Duration::from_secs_f64(wait_ms as f64 * share / 1_000.0);
            let order = tokio::select! {
                biased;
                order = stop.stopped() => order,
                _turn = async { tokio::time::sleep(wait).await; spool.turn.lock().await } => {
                    let published = match kept.read() {
                        Ok(bytes) => self.publish(store, shard, bytes).await,
                        Err(error) => Err(error),
                    };
                    match published {
                        Err(error) if error.kind() == ErrorKind::Unavailable => {
                            wait_ms = (2 * wait_ms).min(limits::SPOOL_WAIT_MS_MAX);
                            continue;
                        }
                        // Another worker may be allowed to commit what lies on the disk.
                        Err(error) if error.is_of_place() => return Err(error),
                        settled => {
                            kept.remove();
                            return settled;
                        }
                    }
                }
            };
            if order.reason == REVOKED {
                kept.remove();
            }
            return Err(Error::unavailable(format!(
                "waiting for the store, told to stop: {}",
                order.reason
            )));
        }
    }

    /// Commits a finished shard, however long the store is away; whether this attempt won.
    pub(super) async fn deliver(
        &self,
        context: &UnitContext<'_>,
        shard: SpooledShard,
        bytes: Bytes,
    ) -> Result<bool> {
        context.progress().mark_computed();
        let (start, end) = (shard.attempt.start, shard.attempt.end);
        tracing::debug!(start, end, "shard computed");
        let won = self.deliver_or_keep(context, shard, bytes).await?;
        tracing::debug!(start, end, won, "shard delivered");
        Ok(won)
    }

    async fn deliver_or_keep(
        &self,
        context: &UnitContext<'_>,
        shard: SpooledShard,
        bytes: Bytes,
    ) -> Result<bool> {
        let spool = match (&self.spool, self.publish(context.store, &shard, bytes.clone()).await) {
            (Some(spool), Err(error)) if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(
                    error = error.chain(),
                    "the store is away: a shard goes to the spool"
                );
                spool
            }
            (_, settled) => return settled,
        };
        context.progress().set_waiting(true);
        let (kept, _stranded) = match tokio::task::block_in_place(|| spool.keep(&shard, &bytes)) {
            Ok(ticket) => (Kept::OnDisk(ticket), None),
            Err(refusal) => {
                match refusal {
                    Refusal::Disk(error) => {
                        tracing::error!(error = error.chain(), "the spool takes no more");
                    }
                    Refusal::Full => tracing::warn!(
                        shards = spool.shards(),
                        "the spool is full: nothing is computed until the store is back"
                    ),
                }
                (Kept::InMemory(bytes), Some(Stranded::new(&self.stranded)))
            }
        };
        let won = self.try_on(context.store, spool, (&shard, kept), context.stop()).await;
        context.progress().set_waiting(false);
        won
    }

    /// Whether finished shards wait for the store.
    pub(super) fn store_is_away(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.shards() > 0)
            || self.stranded.load(Ordering::Relaxed) > 0
    }

    /// Whether a further unit would find room.
    pub(super) fn room(&self) -> Readiness {
        match self.spool.as_ref().and_then(|spool| spool.defect()) {
            Some(defect) => Readiness::Broken(defect),
            None if self.stranded.load(Ordering::Relaxed) > 0 => Readiness::Full,
            None => Readiness::Ready,
        }
    }

    /// Commits, in the background, what workers that are gone have left in the spool.
    pub fn deliver_left(self: &Arc<Self>, left: Vec<Ticket>, stop: &StopSource) {
        let (runner, stop) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move {
            for ticket in left {
                runner.deliver_one(ticket, &stop).await;
            }
        });
    }

    async fn deliver_one(&self, ticket: Ticket, stop: &StopSource) {
        let Some(spool) = &self.spool else { return };
        let shard = match tokio::task::block_in_place(|| ticket.read()) {
            Ok((shard, _)) => shard,
            Err(error) => {
                tracing::warn!(error = error.chain(), "a shard of the spool cannot be read");
                ticket.remove();
                return;
            }
        };
        let age_ms = self.clock.unix_ms().checked_sub(shard.started_unix_ms);
        // A clock that was set back tells no age.
        let age_ms = age_ms.filter(|age_ms| *age_ms <= limits::ATTEMPT_AGE_MS_MAX);
        let Some(age_ms) = age_ms else {
            tracing::warn!(attempt = %shard.attempt.attempt, "a shard of the spool is too old");
            ticket.remove();
            return;
        };
        let store = self.store.for_attempt_of_age(Arc::clone(&self.clock), age_ms);
        match self.try_on(&store, spool, (&shard, Kept::OnDisk(ticket)), stop).await {
            Ok(won) => {
                let (start, end) = (shard.attempt.start, shard.attempt.end);
                tracing::debug!(start, end, won, "shard delivered");
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "a shard of the spool is not committed")
            }
        }
    }
}
