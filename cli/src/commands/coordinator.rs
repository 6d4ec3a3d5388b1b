//! `glmeval coordinator --listen A --store URL`.

use crate::commands::doctor::store::check_once;
use crate::output::complain;
use clap::Args;
use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::error::{Error, Result};
use glmeval_common::layout::FORMAT_VERSION;
use glmeval_common::rng::random_token;
use glmeval_common::store::Store;
use glmeval_coordinator::{
    Coordinator, CoordinatorRecord, Recovery, Settings, StoredJobs, service,
};
use glmeval_worker::agent::StopSource;
use std::process::ExitCode;
use std::sync::Arc;

/// Arguments of `coordinator`.
#[derive(Args)]
#[command(after_help = "Example:
  glmeval coordinator --listen 0.0.0.0:7070 --store s3://lab/glmeval

It keeps nothing but short memory: after a crash, start it again with the same store and name; workers
go on meanwhile. A second coordinator of the same name replaces the first.")]
pub(crate) struct Arguments {
    /// Address to listen on; port 0 takes a free one and prints it.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "HOST:PORT")]
    listen: String,
    /// Address that workers reach it at [default: the one it listens on].
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Folder or URL of the store.
    #[arg(long)]
    store: String,
    /// Name; the newest coordinator of a name fences the older ones.
    #[arg(long, default_value = "default")]
    name: String,
    /// A lease lives this long without a heartbeat.
    #[arg(long, default_value_t = glmeval_common::limits::LEASE_TTL_MS, value_name = "MS")]
    lease_ttl_ms: u64,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let store = Store::open(&arguments.store)?;
    check_once(&store).await?;
    let listener = tokio::net::TcpListener::bind(&arguments.listen).await.map_err(|e| {
        Error::unavailable(format!("listen on {}", arguments.listen)).with_source(e)
    })?;
    let bound = listener
        .local_addr()
        .map_err(|e| Error::unavailable("read the bound address").with_source(e))?;
    let address = arguments.advertise.clone().unwrap_or_else(|| bound.to_string());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let record = CoordinatorRecord {
        version: FORMAT_VERSION,
        token: random_token(),
        address: Some(address),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_ms: clock.unix_ms(),
    };
    let settings = Settings {
        lease_ttl_ms: arguments.lease_ttl_ms,
        heartbeat_interval_ms: (arguments.lease_ttl_ms / 6).max(1),
        settle_ms: arguments.lease_ttl_ms / 6,
        ..Settings::default()
    };
    let jobs = Arc::new(StoredJobs::shared(store));
    let name = &arguments.name;
    let coordinator =
        Coordinator::start(name, jobs, clock, settings, &record, Recovery::AllJobs).await?;
    complain(&format!("coordinator {name} epoch {} listens on {bound}", coordinator.epoch()));
    let stop = StopSource::from_signals(0)?;
    service::serve(coordinator, listener, async move {
        stop.stopped().await;
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}
