//! What the results of a job took and cost, from the store alone: seconds of every commit, prices of the
//! job file, losses that a snapshot of the job tells of.
//!
//! Leaves out: losses since the last snapshot; only a running coordinator knows of those. Invariant: the
//! same store gives the same lines; without prices there is no cost, and no losses are told.

use super::REQUESTS_MAX;
use crate::report::FitResult;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::job::Prices;
use glmeval_common::plan::{Plan, UnitSpec};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::find_commit;
use glmeval_common::store::jobs::{Spent, read_job_toml, spent};
use std::collections::BTreeMap;

/// Device of units that no numeric class names.
const KIND_DEFAULT: &str = "cpu";
const SECONDS_PER_HOUR: f64 = 3_600.0;

/// Lines for people: device hours of the committed results, and what they cost where prices are known.
///
/// # Errors
/// Store errors.
pub(super) async fn lines(
    store: &Store,
    plan: &Plan,
    (fits, of_maps): (&[FitResult], f64),
) -> Result<Vec<(String, String)>> {
    let text = match read_job_toml(store, &plan.job).await {
        Ok(text) => text,
        // A job that was never submitted has no file.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let prices = Prices::of_job_file(&text, "job.toml").ok().flatten();
    let mut seconds = shard_seconds(store, plan).await?;
    let fitted: f64 = fits.iter().map(|fit| fit.scores.seconds).sum();
    *seconds.entry(KIND_DEFAULT.to_owned()).or_default() += fitted + of_maps;
    let Some(prices) = prices else { return Ok(vec![hours(&seconds)]) };
    let mut lines = told(&prices, &seconds);
    lines.extend(lost(&prices, &spent(store, &plan.job).await?));
    Ok(lines)
}

/// What came to nothing, as far as a snapshot tells; nothing to say without losses.
fn lost(prices: &Prices, spent: &Spent) -> Option<(String, String)> {
    let kinds = spent.kinds.iter().map(|(kind, seconds)| (kind, seconds.lost()));
    let kinds: Vec<_> = kinds.filter(|(_, lost)| *lost > 0.0).collect();
    if kinds.is_empty() {
        return None;
    }
    let hours = kinds.iter().map(|(kind, lost)| format!("{:.3} h {kind}", lost / SECONDS_PER_HOUR));
    let hours: Vec<String> = hours.collect();
    let cost: Option<f64> = kinds.iter().map(|(kind, lost)| prices.seconds(kind, *lost)).sum();
    let cost = cost.map_or(String::new(), |cost| format!(" for {cost:.4} {}", prices.currency));
    let Spent { leases_expired, leases_handed_back, duplicates, .. } = spent;
    let text = format!(
        "{}{cost}: {leases_expired} leases expired, {leases_handed_back} handed back, \
         {duplicates} units computed twice; as of the last snapshot",
        hours.join(", ")
    );
    Some(("Lost device time".to_owned(), text))
}

fn hours(seconds: &BTreeMap<String, f64>) -> (String, String) {
    let hours: Vec<String> = seconds
        .iter()
        .map(|(kind, seconds)| format!("{:.3} h {kind}", seconds / SECONDS_PER_HOUR))
        .collect();
    ("Device time of the results".to_owned(), hours.join(", "))
}

fn told(prices: &Prices, seconds: &BTreeMap<String, f64>) -> Vec<(String, String)> {
    let cost: Option<f64> =
        seconds.iter().map(|(kind, seconds)| prices.seconds(kind, *seconds)).sum();
    let currency = &prices.currency;
    let cost = match cost {
        Some(cost) => format!("{cost:.4} {currency}, losses not counted"),
        None => "a kind of device has no price in the job file".to_owned(),
    };
    vec![hours(seconds), ("Their cost".to_owned(), cost)]
}

/// Seconds of every committed shard of the plan, by kind of device.
async fn shard_seconds(store: &Store, plan: &Plan) -> Result<BTreeMap<String, f64>> {
    let mut reads: Vec<BoxFuture<'_, Result<(String, f64)>>> = Vec::new();
    for unit in plan.units() {
        let UnitSpec::Extract { set, start, end, .. } = unit.spec else { continue };
        let Some(set) = plan.sets.get(set) else { continue };
        reads.push(Box::pin(async move {
            let commit = find_commit(store, &set.id, start, end).await?;
            let seconds = commit.map_or(0.0, |commit| commit.seconds);
            Ok((kind_of_class(&set.numeric_class), seconds))
        }));
    }
    let shards: Vec<_> = futures::stream::iter(reads).buffered(REQUESTS_MAX).try_collect().await?;
    let mut sums = BTreeMap::new();
    for (kind, seconds) in shards {
        *sums.entry(kind).or_default() += seconds;
    }
    Ok(sums)
}

/// The device of a numeric class such as `f32.cpu.1`.
fn kind_of_class(class: &str) -> String {
    class.split('.').nth(1).unwrap_or(KIND_DEFAULT).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use glmeval_common::store::jobs::DeviceSeconds;

    #[test]
    fn hours_are_priced_and_a_kind_without_a_price_is_said() {
        let text = "[cost]\ncurrency = \"EUR\"\ncpu = 2.0";
        let prices = Prices::of_job_file(text, "job.toml").unwrap().unwrap();
        let seconds = |kind: &str| BTreeMap::from([(kind.to_owned(), 1_800.0)]);
        assert_eq!(told(&prices, &seconds("cpu"))[0].1, "0.500 h cpu");
        assert_eq!(told(&prices, &seconds("cpu"))[1].1, "1.0000 EUR, losses not counted");
        assert!(told(&prices, &seconds("gpu"))[1].1.contains("no price"));
        assert_eq!(kind_of_class("f32.cpu.1"), "cpu");
    }

    #[test]
    fn losses_of_earlier_coordinators_are_told_with_their_price() {
        let prices = Prices::of_job_file("[cost]\ncurrency = \"EUR\"\ncpu = 2.0", "job.toml");
        let prices = prices.unwrap().unwrap();
        assert_eq!(lost(&prices, &Spent::default()), None);
        let seconds = DeviceSeconds { useful: 9.0, expired: 1_800.0, ..DeviceSeconds::default() };
        let kinds = BTreeMap::from([("cpu".to_owned(), seconds)]);
        let spent = Spent { kinds, leases_expired: 3, ..Spent::default() };
        let (_, text) = lost(&prices, &spent).unwrap();
        assert!(
            text.starts_with("0.500 h cpu for 1.0000 EUR: 3 leases expired, 0 handed"),
            "{text}"
        );
    }
}
