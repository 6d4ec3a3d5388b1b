//! `glmeval coordinator --listen A --store URL`.

use crate::commands::doctor::store::check_once;
use crate::connecting::{TrustArguments, coordinator_name, host_name};
use crate::exit;
use crate::output::complain;
use clap::Args;
use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::error::{Error, Result};
use glmeval_common::layout::FORMAT_VERSION;
use glmeval_common::rng::random_token;
use glmeval_common::store::Store;
use glmeval_common::trust::{Role, Token};
use glmeval_coordinator::{
    Coordinator, CoordinatorRecord, Recovery, Settings, StoredJobs, Trust, service,
};
use glmeval_worker::agent::StopSource;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Arguments of `coordinator`.
#[derive(Args)]
#[command(after_help = "Example:
  glmeval certs new certificates
  glmeval coordinator --listen 0.0.0.0:7070 --store s3://lab/glmeval --tls certificates

Beyond loopback it listens with certificates only. With --token-file each call needs that token too; with
--operator-token-file the first token is for workers alone. Health checks need neither.

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
    #[arg(long, default_value = "default", value_parser = coordinator_name)]
    name: String,
    /// A lease lives this long without a heartbeat.
    #[arg(long, default_value_t = glmeval_common::limits::LEASE_TTL_MS, value_name = "MS")]
    lease_ttl_ms: u64,
    /// File with the token of operators [default: that of --token-file serves both].
    #[arg(long, value_name = "FILE", env = "GLMEVAL_OPERATOR_TOKEN_FILE", requires = "token_file")]
    operator_token_file: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArguments,
}

impl Arguments {
    fn trust(&self) -> Result<Trust> {
        let operator = self.operator_token_file.as_deref().map(Token::read).transpose()?;
        Trust::new(self.trust.identity(Role::Coordinator)?, self.trust.token()?, operator)
    }

    /// Where workers reach a coordinator that listens on `bound`.
    fn address(&self, bound: SocketAddr) -> String {
        match &self.advertise {
            Some(address) => address.clone(),
            // Nobody can connect to "every address".
            None if bound.ip().is_unspecified() => format!("{}:{}", host_name(), bound.port()),
            None => bound.to_string(),
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let trust = arguments.trust()?;
    let store = Store::open(&arguments.store)?;
    check_once(&store).await?;
    let listener = tokio::net::TcpListener::bind(&arguments.listen).await.map_err(|e| {
        Error::unavailable(format!("listen on {}", arguments.listen)).with_source(e)
    })?;
    let bound = listener
        .local_addr()
        .map_err(|e| Error::unavailable("read the bound address").with_source(e))?;
    if let Err(error) = trust.allows(bound, arguments.trust.insecure) {
        complain(&format!("error: {}", error.chain()));
        return Ok(ExitCode::from(exit::WRONG_USAGE));
    }
    let address = arguments.address(bound);
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
    let jobs = Arc::new(StoredJobs::shared(store).with_ca(trust.ca_sha256()));
    let name = &arguments.name;
    let coordinator =
        Coordinator::start(name, jobs, clock, settings, &record, Recovery::AllJobs).await?;
    complain(&format!("coordinator {name} epoch {} listens on {bound}", coordinator.epoch()));
    let stop = StopSource::from_signals(0)?;
    service::serve_trusted(coordinator, listener, trust, async move {
        stop.stopped().await;
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}
