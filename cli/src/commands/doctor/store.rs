//! Is a store fit? The long form for `doctor`, the short one that `run` and `coordinator` make once per store.
//!
//! Leaves out: printing. Invariant: what is written here is deleted again, but for the note that a store is fit.

use super::Check;
use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::layout::{FORMAT_VERSION, STORE_FITNESS_PATH};
use glmeval_common::rng::random_token;
use glmeval_common::store::{Created, Store};
use serde::{Deserialize, Serialize};

/// Creators that race for one object, and how often.
const CREATORS: usize = 16;
const ROUNDS: usize = 10;
/// Large enough to be uploaded in parts.
const LARGE_BYTES: usize = 24 << 20;
/// Seconds by which S3 lets a clock differ.
const SKEW_SECONDS_MAX: i64 = 900;

/// What a check found: `Err` is a bad finding.
type Finding = Result<String, String>;

/// Every check of the store at `url`.
pub(super) async fn checks(url: &str) -> Vec<Check> {
    let store = match Store::open(url) {
        Ok(store) => store,
        Err(error) => {
            return vec![Check { check: "store opens", passed: false, found: error.chain() }];
        }
    };
    let folder = format!("doctor/{}", random_token());
    let clock = SystemClock::default();
    let mut checks = vec![
        judged("create, second create", second_create(&store, &folder).await),
        judged("race of creators", race(&store, &folder, ROUNDS).await),
        judged("read at once", reading(&store, &folder).await),
        judged("listed at once", listing(&store, &folder, ROUNDS + 2).await),
        judged("large object, range read", large(&store, &folder).await),
        judged("latency of a small write", latency(&store, &folder, &clock).await),
    ];
    checks.extend(store.clock_ahead_ms().map(clock_offset));
    sweep(&store, &folder).await;
    checks
}

/// Makes the short form of the checks unless the store holds a note that it stood them.
///
/// # Errors
/// `Invalid` for a store that would lose work; store errors.
pub(crate) async fn check_once(store: &Store) -> Result<()> {
    if matches!(store.find_record::<Fitness>(STORE_FITNESS_PATH).await, Ok(Some(_))) {
        return Ok(());
    }
    let folder = format!("doctor/{}", random_token());
    let found = [
        ("create, second create", second_create(store, &folder).await),
        ("race of creators", race(store, &folder, 1).await),
        ("read at once", reading(store, &folder).await),
        ("listed at once", listing(store, &folder, 3).await),
    ];
    sweep(store, &folder).await;
    for (check, finding) in found {
        if let Err(bad) = finding? {
            let message = format!("store {} is not fit: {check}: {bad}", store.url());
            return Err(Error::invalid(message));
        }
    }
    let fitness = Fitness {
        version: FORMAT_VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        checked_unix_ms: SystemClock::default().unix_ms(),
        token: random_token(),
    };
    match store.create_record(STORE_FITNESS_PATH, fitness).await {
        Ok(_) => Ok(()),
        // A note that cannot be read is as good as none: the next start checks again.
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
        Err(error) => Err(error),
    }
}

/// Says that the store stood the checks.
#[derive(Serialize, Deserialize)]
struct Fitness {
    version: u32,
    program: String,
    checked_unix_ms: u64,
    token: String,
}

async fn sweep(store: &Store, folder: &str) {
    for entry in store.list(folder).await.unwrap_or_default() {
        if let Err(error) = store.delete(&entry.path).await {
            tracing::warn!("delete {}: {}", entry.path, error.chain());
        }
    }
}

/// Turns what a check found into a line.
fn judged(check: &'static str, result: Result<Finding>) -> Check {
    match result {
        Ok(Ok(found)) => Check { check, passed: true, found },
        Ok(Err(found)) => Check { check, passed: false, found },
        Err(error) => Check { check, passed: false, found: error.chain() },
    }
}

async fn second_create(store: &Store, folder: &str) -> Result<Finding> {
    let path = format!("{folder}/twice");
    let first = store.create(&path, "first".into()).await?;
    let second = store.create(&path, "second".into()).await?;
    Ok(match (first, second) {
        (Created::Won, Created::Lost { existing }) if existing == "first" => {
            Ok("the second is refused".to_owned())
        }
        _ => Err("a second create replaced the first: this store loses work".to_owned()),
    })
}

async fn race(store: &Store, folder: &str, rounds: usize) -> Result<Finding> {
    for round in 0..rounds {
        let path = format!("{folder}/race-{round}");
        let creators = (0..CREATORS).map(|creator| {
            let (path, text) = (path.clone(), format!("creator {creator}"));
            async move { Ok::<_, Error>((store.create(&path, text.clone().into()).await?, text)) }
        });
        let mut winners = Vec::new();
        for outcome in futures::future::join_all(creators).await {
            let (created, text) = outcome?;
            if created == Created::Won {
                winners.push(text);
            }
        }
        let standing = store.get(&path).await?;
        let count = winners.len();
        if count != 1 {
            let loss = "this store loses work";
            return Ok(Err(format!("round {round}: {count} of {CREATORS} creators won: {loss}")));
        }
        if winners.first().is_none_or(|winner| standing != *winner) {
            return Ok(Err(format!("round {round}: what stands is not the winner's")));
        }
    }
    Ok(Ok(format!("one winner in each of {rounds} rounds of {CREATORS}")))
}

async fn reading(store: &Store, folder: &str) -> Result<Finding> {
    let (path, bytes) = (format!("{folder}/read"), random_token());
    store.put_data("doctor", &path, bytes.clone().into()).await?;
    let found = store.get_if_exists(&path).await?;
    Ok(match found {
        Some(found) if found == bytes => Ok("what was written".to_owned()),
        Some(_) => Err("other bytes than were written".to_owned()),
        None => Err("an object is not there right after its write".to_owned()),
    })
}

async fn listing(store: &Store, folder: &str, expected: usize) -> Result<Finding> {
    let count = store.list(folder).await?.len();
    let found = format!("{count} of {expected} objects");
    Ok(if count == expected { Ok(found) } else { Err(found) })
}

async fn large(store: &Store, folder: &str) -> Result<Finding> {
    let bytes: Vec<u8> = (0..LARGE_BYTES).map(|i| (i % 251) as u8).collect();
    let path = format!("{folder}/large");
    let record = store.put_data("doctor", &path, bytes.clone().into()).await?;
    let whole = store.get_verified(&record).await?;
    let middle = (LARGE_BYTES / 2) as u64;
    let range = store.get_range(&path, middle..middle + 1000).await?;
    let expected = bytes.get(LARGE_BYTES / 2..LARGE_BYTES / 2 + 1000).unwrap_or_default();
    let same = whole == bytes && range == expected;
    Ok(if same { Ok(format!("{} MiB", LARGE_BYTES >> 20)) } else { Err("bytes differ".to_owned()) })
}

async fn latency(store: &Store, folder: &str, clock: &dyn Clock) -> Result<Finding> {
    const WRITES: u64 = 20;
    let start = clock.now_ms();
    for write in 0..WRITES {
        store.create(&format!("{folder}/small-{write}"), "x".into()).await?;
    }
    let milliseconds = clock.now_ms().saturating_sub(start) as f64 / WRITES as f64;
    Ok(Ok(format!("{milliseconds:.1} ms")))
}

/// How far this machine's clock is from the store's, by the `Date` of its answers.
fn clock_offset(ahead_ms: i64) -> Check {
    let seconds = ahead_ms / 1_000;
    let found = match seconds {
        0 => "within a second of the store's".to_owned(),
        1.. => format!("{seconds} s ahead of the store's"),
        _ => format!("{} s behind the store's", seconds.unsigned_abs()),
    };
    Check { check: "clock", passed: seconds.abs() < SKEW_SECONDS_MAX, found }
}
