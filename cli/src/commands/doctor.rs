//! `glmeval doctor`: is this machine, is this store fit?

use crate::output::{Format, Table, say, say_json};
use clap::Args;
use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::error::Result;
use glmeval_common::rng::random_token;
use glmeval_common::store::{Created, Store};
use serde::Serialize;
use std::process::ExitCode;

/// Creators that race for one object, and how often.
const CREATORS: usize = 16;
const ROUNDS: usize = 10;
/// Large enough to be uploaded in parts.
const LARGE_BYTES: usize = 24 << 20;

/// Arguments of `doctor`.
#[derive(Args)]
#[command(after_help = "Examples:
  glmeval doctor
  glmeval doctor --store s3://lab/glmeval

A store is fit when a race of creators has exactly one winner, what was written is read and listed at
once, and large objects arrive whole. The check writes under `doctor/` and deletes it again.")]
pub(crate) struct Arguments {
    /// Folder or URL of a store to check.
    #[arg(long)]
    store: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Check {
    check: &'static str,
    passed: bool,
    found: String,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut checks = machine();
    if let Some(url) = &arguments.store {
        checks.extend(store_checks(url).await);
    }
    if arguments.format == Format::Json {
        say_json(&checks)?;
    } else {
        let mut table = Table::new(&["check", "result", "found"]);
        for check in &checks {
            let result = if check.passed { "ok" } else { "FAILED" };
            table.row(vec![check.check.to_owned(), result.to_owned(), check.found.clone()]);
        }
        say(&table.text(arguments.format));
    }
    let passed = checks.iter().all(|check| check.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn machine() -> Vec<Check> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    vec![
        Check { check: "CPU threads", passed: true, found: threads.to_string() },
        Check {
            check: "CPU instructions",
            passed: true,
            found: glmeval_worker::instruction_set().to_owned(),
        },
        Check {
            check: "numeric classes",
            passed: true,
            found: glmeval_worker::numeric_classes().join(", "),
        },
        Check {
            check: "bf16 matrix products",
            passed: true,
            found: match glmeval_worker::bf16_kind() {
                "emulated" => "emulated: slower than f32, for its bits only".to_owned(),
                kind => kind.to_owned(),
            },
        },
        Check {
            check: "GPU",
            passed: true,
            found: "none: this build computes on the CPU".to_owned(),
        },
    ]
}

async fn store_checks(url: &str) -> Vec<Check> {
    let store = match Store::open(url) {
        Ok(store) => store,
        Err(error) => {
            return vec![Check { check: "store opens", passed: false, found: error.chain() }];
        }
    };
    let folder = format!("doctor/{}", random_token());
    let clock = SystemClock::default();
    let checks = vec![
        judged("create, second create", second_create(&store, &folder).await),
        judged("race of creators", race(&store, &folder).await),
        judged("listed at once", listing(&store, &folder).await),
        judged("large object, range read", large(&store, &folder).await),
        judged("latency of a small write", latency(&store, &folder, &clock).await),
    ];
    for entry in store.list(&folder).await.unwrap_or_default() {
        if let Err(error) = store.delete(&entry.path).await {
            tracing::warn!("delete {}: {}", entry.path, error.chain());
        }
    }
    checks
}

/// Turns what a check found (`Ok(Err)` = a bad finding) into a line.
fn judged(check: &'static str, result: Result<Result<String, String>>) -> Check {
    match result {
        Ok(Ok(found)) => Check { check, passed: true, found },
        Ok(Err(found)) => Check { check, passed: false, found },
        Err(error) => Check { check, passed: false, found: error.chain() },
    }
}

async fn second_create(store: &Store, folder: &str) -> Result<Result<String, String>> {
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

async fn race(store: &Store, folder: &str) -> Result<Result<String, String>> {
    for round in 0..ROUNDS {
        let path = format!("{folder}/race-{round}");
        let creators = (0..CREATORS).map(|creator| {
            let path = path.clone();
            async move { store.create(&path, format!("creator {creator}").into()).await }
        });
        let mut winners = 0;
        for outcome in futures::future::join_all(creators).await {
            winners += usize::from(matches!(outcome?, Created::Won));
        }
        if winners != 1 {
            return Ok(Err(format!("round {round}: {winners} of {CREATORS} creators won")));
        }
    }
    Ok(Ok(format!("one winner in each of {ROUNDS} rounds of {CREATORS}")))
}

async fn listing(store: &Store, folder: &str) -> Result<Result<String, String>> {
    let count = store.list(folder).await?.len();
    let expected = ROUNDS + 1;
    let found = format!("{count} of {expected} objects");
    Ok(if count == expected { Ok(found) } else { Err(found) })
}

async fn large(store: &Store, folder: &str) -> Result<Result<String, String>> {
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

async fn latency(store: &Store, folder: &str, clock: &dyn Clock) -> Result<Result<String, String>> {
    const WRITES: u64 = 20;
    let start = clock.now_ms();
    for write in 0..WRITES {
        store.create(&format!("{folder}/small-{write}"), "x".into()).await?;
    }
    let milliseconds = clock.now_ms().saturating_sub(start) as f64 / WRITES as f64;
    Ok(Ok(format!("{milliseconds:.1} ms")))
}
