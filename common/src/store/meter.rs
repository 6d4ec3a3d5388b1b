//! Counts and times every request to the store: the one place where that happens.
//!
//! Leaves out: who shows the numbers (heartbeats, `/metrics`). Invariant: one request to the store, every
//! repetition included, is one count; no path and no name ever becomes a label.

use super::retry::is_not_found;
use crate::clock::Stopwatch;
use crate::control::StoreRequests;
use object_store::Error as StoreError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Name of the histogram, in seconds, by `op` and `outcome`.
pub const REQUEST_SECONDS: &str = "glmeval_store_request_seconds";

const OPERATIONS: [&str; 6] = ["create", "put", "get", "head", "list", "delete"];
const OUTCOMES: [&str; 4] = ["ok", "exists", "missing", "error"];

#[derive(Debug, Default)]
struct Cell {
    requests: AtomicU64,
    microseconds: AtomicU64,
}

/// Requests made through one [`super::Store`] and its clones.
#[derive(Debug, Default)]
pub struct Meter {
    cells: [[Cell; OUTCOMES.len()]; OPERATIONS.len()],
}

fn outcome<T>(result: &object_store::Result<T>) -> usize {
    match result {
        Ok(_) => 0,
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => 1,
        Err(error) if is_not_found(error) => 2,
        Err(_) => 3,
    }
}

impl Meter {
    /// Awaits one request of `operation` and counts it.
    pub(super) async fn time<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let watch = Stopwatch::default();
        let result = request.await;
        self.count(operation, outcome(&result), watch.seconds());
        result
    }

    fn count(&self, operation: &'static str, outcome: usize, seconds: f64) {
        let row = OPERATIONS.iter().position(|known| *known == operation);
        let cell = row.and_then(|row| self.cells.get(row)?.get(outcome));
        let (Some(cell), Some(name)) = (cell, OUTCOMES.get(outcome)) else { return };
        cell.requests.fetch_add(1, Ordering::Relaxed);
        cell.microseconds.fetch_add((seconds * 1e6) as u64, Ordering::Relaxed);
        metrics::histogram!(REQUEST_SECONDS, "op" => operation, "outcome" => *name).record(seconds);
    }

    /// What was counted so far; operations and outcomes that did not occur are left out.
    pub fn requests(&self) -> Vec<StoreRequests> {
        let cells = OPERATIONS.iter().zip(&self.cells).flat_map(|(operation, row)| {
            OUTCOMES.iter().zip(row).map(move |(outcome, cell)| StoreRequests {
                operation: (*operation).to_owned(),
                outcome: (*outcome).to_owned(),
                requests: cell.requests.load(Ordering::Relaxed),
                seconds: cell.microseconds.load(Ordering::Relaxed) as f64 / 1e6,
            })
        });
        cells.filter(|cell| cell.requests > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;

    #[tokio::test]
    async fn every_request_is_counted_by_operation_and_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().display().to_string()).unwrap();
        store.create("a/b", "1".into()).await.unwrap();
        store.create("a/b", "2".into()).await.unwrap();
        assert!(store.get("a/none").await.is_err());
        store.list("a").await.unwrap();
        let counted: Vec<_> = store
            .requests()
            .into_iter()
            .map(|cell| (cell.operation, cell.outcome, cell.requests))
            .collect();
        let expected = [
            ("create", "ok", 1),
            ("create", "exists", 1),
            ("get", "ok", 1),
            ("get", "missing", 1),
            ("list", "ok", 1),
        ];
        let expected: Vec<_> =
            expected.map(|(op, outcome, count)| (op.to_owned(), outcome.to_owned(), count)).into();
        assert_eq!(counted, expected);
    }
}
