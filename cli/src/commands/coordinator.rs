//! `glmeval coordinator --listen A --store URL`.

use crate::commands::doctor::store::check_once;
use crate::connecting::{TrustArguments, coordinator_name, host_name, listen_address};
use crate::exit;
use crate::output::{complain, say};
use crate::planning::{KindArguments, Planned, plan_file};
use crate::telemetry::{self, MetricsArguments, listen};
use clap::Args;
use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::control::Control;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::layout::FORMAT_VERSION;
use glmeval_common::rng::random_token;
use glmeval_common::store::Store;
use glmeval_common::store::coordinators::{Claim, end};
use glmeval_common::store::jobs::cancelled;
use glmeval_common::trust::{Role, Token};
use glmeval_coordinator::dashboard::{self, Access};
use glmeval_coordinator::{
    Coordinator, CoordinatorRecord, Recovery, Settings, StoredJobs, Trust, service,
};
use glmeval_worker::agent::StopSource;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Time for workers to hear that every job is over.
const LINGER_MS: u64 = 2_000;

/// Arguments of `coordinator`.
#[derive(Args)]
#[command(after_help = "Example:
  glmeval certs new certificates
  glmeval coordinator --listen 0.0.0.0:7070 --store s3://lab/glmeval --tls certificates
  glmeval coordinator --store s3://lab/glmeval --name run7 --until-idle job.toml

Beyond loopback it listens with certificates only. With --token-file each call needs that token too; with
--operator-token-file the first token is for workers alone. Health checks need neither.

It keeps nothing but short memory: after a crash, start it again with the same store and name; workers
go on meanwhile. A second coordinator of the same name replaces the first. On SIGTERM, SIGINT or SIGUSR1
it exits with 75 while a job is unfinished; one that was replaced exits with 42: do not start it again.")]
pub(crate) struct Arguments {
    /// Jobs to start with. With them, jobs that the store holds from before are left to others.
    #[arg(value_name = "JOB")]
    jobs: Vec<PathBuf>,
    #[command(flatten)]
    device: KindArguments,
    /// Leave once every job is over; `worker --discover --until-idle` then leaves as well.
    #[arg(long)]
    until_idle: bool,
    /// Address to listen on; port 0 takes a free one and prints it.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "HOST:PORT", value_parser = listen_address)]
    listen: String,
    /// Address that workers reach it at; without a port, the one it listens on [default: this host
    /// when it listens on every address].
    #[arg(long, value_name = "HOST[:PORT]")]
    advertise: Option<String>,
    /// Also answer gRPC health checks here, in plain text: Kubernetes asks without TLS.
    #[arg(long, value_name = "HOST:PORT", value_parser = listen_address)]
    health_listen: Option<String>,
    /// Folder or URL of the store.
    #[arg(long)]
    store: String,
    /// Name; the newest coordinator of a name fences the older ones.
    #[arg(long, default_value = "default", value_parser = coordinator_name)]
    name: String,
    /// A lease lives this long without a heartbeat.
    #[arg(long, default_value_t = glmeval_common::limits::LEASE_TTL_MS, value_name = "MS")]
    lease_ttl_ms: u64,
    /// Serve the web dashboard, /metrics, /healthz and /readyz here, such as 127.0.0.1:8080.
    #[arg(long, value_name = "HOST:PORT", value_parser = listen_address)]
    dashboard: Option<String>,
    /// File with the token that the dashboard asks for, needed off loopback [default: the operators'].
    #[arg(long, value_name = "FILE", requires = "dashboard")]
    dashboard_token_file: Option<PathBuf>,
    /// Serve dashboard and metrics over TLS, with the certificate of --tls, on loopback too; beyond it that is so
    /// without saying wherever certificates are given. Readers need none of their own.
    #[arg(long)]
    dashboard_tls: bool,
    #[command(flatten)]
    metrics: MetricsArguments,
    /// File with the token of operators [default: that of --token-file serves both].
    #[arg(long, value_name = "FILE", env = "GLMEVAL_OPERATOR_TOKEN_FILE", requires = "token_file")]
    operator_token_file: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArguments,
}

impl Arguments {
    /// Binds what dashboard and metrics are asked to listen on.
    async fn bind_telemetry(&self, trust: &Trust) -> Result<[Option<telemetry::Bound>; 2]> {
        let dashboard = match &self.dashboard {
            Some(address) => {
                let file = self.dashboard_token_file.as_ref().or(self.operator_token_file.as_ref());
                let access = match file {
                    Some(file) => Access::of_file(file)?,
                    None => Access::default(),
                };
                let listener = listen(address).await?;
                access.check_address(&listener)?;
                let access = telemetry::secured(access, &listener, trust, self.dashboard_tls)?;
                Some((listener, access))
            }
            None => None,
        };
        Ok([dashboard, self.metrics.bind((trust, self.dashboard_tls)).await?])
    }

    fn trust(&self) -> Result<Trust> {
        let operator = self.operator_token_file.as_deref().map(Token::read).transpose()?;
        Trust::new(self.trust.identity(Role::Coordinator)?, self.trust.token()?, operator)
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    match serve(arguments).await {
        // Started again it would replace the one that replaced it, and so on for ever.
        Err(error) if error.kind() == ErrorKind::Fenced => {
            complain(&format!("error: {}", error.chain()));
            Ok(ExitCode::from(exit::NEVER_RETRY))
        }
        ended => ended,
    }
}

/// # Errors
/// `Fenced` once another coordinator has taken its place.
async fn serve(arguments: Arguments) -> Result<ExitCode> {
    let trust = arguments.trust()?;
    let store = Store::open(&arguments.store)?;
    check_once(&store).await?;
    let listener = listen(&arguments.listen).await?;
    let bound = listener
        .local_addr()
        .map_err(|e| Error::unavailable("read the bound address").with_source(e))?;
    if let Err(error) = trust.allows(bound, arguments.trust.insecure) {
        complain(&format!("error: {}", error.chain()));
        return Ok(ExitCode::from(exit::WRONG_USAGE));
    }
    let address = advertised(arguments.advertise.as_deref(), bound);
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
    let ca_sha256 = trust.ca_sha256();
    let jobs = Arc::new(StoredJobs::shared(store.clone()).with_ca(ca_sha256.clone()));
    let name = &arguments.name;
    let recovery =
        if arguments.jobs.is_empty() { Recovery::AllJobs } else { Recovery::SubmittedOnly };
    // What may fail on this machine fails before the epoch is taken, which ends the coordinator that runs.
    let health = match &arguments.health_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let pages = arguments.bind_telemetry(&trust).await?;
    let kind = arguments.device.kind()?;
    let plan = |job: &PathBuf| tokio::task::block_in_place(|| plan_file(job, &kind));
    let planned: Vec<Planned> = arguments.jobs.iter().map(plan).collect::<Result<_>>()?;
    let coordinator = Coordinator::start(name, jobs, clock, settings, &record, recovery).await?;
    let told = told_to_stop(&arguments, &coordinator)?;
    if let Some(listener) = health {
        tokio::spawn(service::serve_health(listener));
    }
    submit_all(&coordinator, &store, planned).await?;
    complain(&format!("coordinator {name} epoch {} listens on {bound}", coordinator.epoch()));
    serve_telemetry(&coordinator, pages)?;
    service::serve_trusted(coordinator.clone(), listener, trust, told).await?;
    let claim = Claim {
        token: random_token(),
        address: None,
        ca_sha256,
        program: record.program,
        started_unix_ms: record.started_unix_ms,
    };
    leave(&arguments, &coordinator, &store, &claim).await
}

/// Hands over the jobs of the command line, but for cancelled ones: a coordinator that is started again with the same words is
/// no wish to resume them.
async fn submit_all(coordinator: &Coordinator, store: &Store, jobs: Vec<Planned>) -> Result<()> {
    for Planned { job, plan, .. } in jobs {
        if cancelled(store, &plan.job).await?.is_some() {
            say(plan.job.as_str());
            complain(&format!("job {} was cancelled: `glmeval submit` resumes it", plan.job));
            continue;
        }
        say(coordinator.submit(&job.toml, plan).await?.as_str());
    }
    Ok(())
}

/// Serves dashboard and metrics on what was bound for them.
fn serve_telemetry(
    coordinator: &Coordinator,
    [dashboard, metrics]: [Option<telemetry::Bound>; 2],
) -> Result<()> {
    if dashboard.is_none() && metrics.is_none() {
        return Ok(());
    }
    let text = telemetry::start_metrics()?;
    if let Some((listener, access)) = dashboard {
        telemetry::announce("dashboard", (&listener, &access), "/");
        let serving = dashboard::serve(coordinator.clone(), listener, access, Arc::clone(&text));
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(error = error.chain(), "the dashboard is served no more");
            }
        });
    }
    let coordinator = coordinator.clone();
    let text = Arc::new(move || dashboard::metrics_text(&coordinator, &text));
    telemetry::serve_metrics(metrics, text);
    Ok(())
}

/// Ends when this coordinator has to.
fn told_to_stop(
    arguments: &Arguments,
    coordinator: &Coordinator,
) -> Result<impl Future<Output = ()> + Send> {
    let (name, until_idle) = (arguments.name.clone(), arguments.until_idle);
    let (coordinator, stop) = (coordinator.clone(), StopSource::from_signals(0)?);
    Ok(async move {
        let idle = async {
            coordinator.idle().await;
            tokio::time::sleep(Duration::from_millis(LINGER_MS)).await;
        };
        tokio::select! {
            order = stop.stopped() => complain(&format!("coordinator {name} stops: {}", order.reason)),
            () = idle, if until_idle => {}
        }
    })
}

/// The exit code, after a last word to workers that will look for this coordinator.
async fn leave(
    arguments: &Arguments,
    coordinator: &Coordinator,
    store: &Store,
    last_word: &Claim,
) -> Result<ExitCode> {
    let statuses = coordinator.statuses();
    if statuses.iter().any(|status| !status.phase.is_over()) {
        return Ok(ExitCode::from(exit::WORK_LEFT));
    }
    if !arguments.until_idle || statuses.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    end(store, &arguments.name, coordinator.epoch(), last_word).await?;
    let codes = statuses.iter().map(|status| status.phase.exit_code());
    Ok(ExitCode::from(codes.max().unwrap_or(0)))
}

/// Address that goes into the record.
fn advertised(advertise: Option<&str>, bound: SocketAddr) -> String {
    let here = || if bound.ip().is_unspecified() { host_name() } else { bound.ip().to_string() };
    let address = advertise.map_or_else(here, str::to_owned);
    // An address of version 6 has colons of its own and stands in brackets when a port follows.
    if address.parse::<Ipv6Addr>().is_ok() {
        return format!("[{address}]:{}", bound.port());
    }
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { address } else { format!("{address}:{}", bound.port()) }
}

#[cfg(test)]
mod tests {
    use super::advertised;

    #[test]
    fn what_is_advertised_can_be_reached() {
        let bound = "127.0.0.1:7070".parse().unwrap();
        assert_eq!(advertised(None, bound), "127.0.0.1:7070");
        assert_eq!(advertised(Some("head"), bound), "head:7070");
        assert_eq!(advertised(Some("http://head:9"), bound), "http://head:9");
        assert_eq!(advertised(Some("::1"), bound), "[::1]:7070");
        assert_eq!(advertised(None, "[::1]:7070".parse().unwrap()), "[::1]:7070");
        let everywhere = advertised(None, "0.0.0.0:7070".parse().unwrap());
        assert!(!everywhere.starts_with("0.0.0.0") && everywhere.ends_with(":7070"));
    }
}
