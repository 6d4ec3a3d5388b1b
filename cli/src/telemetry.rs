//! How a process is seen from outside: its logs, its metrics, its traces, its health.
//!
//! Leaves out: what is measured (where it happens) and how a cluster looks (coordinator's dashboard).
//! Invariant: telemetry that fails is said once on stderr and stops nothing.

use crate::connecting::listen_address;
use clap::{Args, ValueEnum};
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_coordinator::Trust;
use glmeval_coordinator::dashboard::{self, Access, MetricsText};
use metrics::{describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

pub(crate) mod logs;
pub(crate) mod machine;

/// As every Prometheus client names it.
const MEMORY: &str = "process_resident_memory_bytes";
/// How often histograms are folded together.
const UPKEEP_MS: u64 = 5_000;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where this process tells its metrics.
#[derive(Args)]
pub(crate) struct MetricsArguments {
    /// Serve Prometheus metrics and /healthz here, such as 127.0.0.1:9464.
    #[arg(long, value_name = "HOST:PORT", value_parser = listen_address)]
    metrics_addr: Option<String>,
    /// File with a bearer token that readers of the metrics must know.
    #[arg(long, value_name = "FILE", requires = "metrics_addr")]
    metrics_token_file: Option<PathBuf>,
}

impl MetricsArguments {
    /// Whether metrics are asked for.
    pub(crate) fn wanted(&self) -> bool {
        self.metrics_addr.is_some()
    }

    /// Starts to serve `metrics`, if that is asked for, as `trust` secures them; says where.
    pub(crate) async fn serve(
        &self,
        metrics: MetricsText,
        (trust, is_secured): (&Trust, bool),
    ) -> Result<()> {
        serve_metrics(self.bind((trust, is_secured)).await?, metrics);
        Ok(())
    }

    /// Binds the address of metrics, if there is one, as `trust` secures it.
    pub(crate) async fn bind(&self, (trust, is_secured): (&Trust, bool)) -> Result<Option<Bound>> {
        let Some(address) = &self.metrics_addr else { return Ok(None) };
        let access = match &self.metrics_token_file {
            Some(file) => Access::of_file(file)?,
            None => Access::default(),
        };
        let listener = listen(address).await?;
        let access = secured(access, &listener, trust, is_secured)?;
        Ok(Some((listener, access)))
    }
}

/// A socket, and who may read what is served there.
pub(crate) type Bound = (TcpListener, Access);

/// Starts to serve `metrics` where a socket was bound; says where.
pub(crate) fn serve_metrics(bound: Option<Bound>, metrics: MetricsText) {
    let Some((listener, access)) = bound else { return };
    announce("metrics", (&listener, &access), "/metrics");
    tokio::spawn(async move {
        if let Err(error) = dashboard::serve_metrics(listener, access, metrics).await {
            tracing::error!(error = error.chain(), "metrics are served no more");
        }
    });
}

/// Binds a socket.
///
/// # Errors
/// `Invalid` for an address that this machine or user has not, `Unavailable` for one that is taken or cannot be
/// looked up for now.
pub(crate) async fn listen(address: &str) -> Result<TcpListener> {
    use std::io::ErrorKind::{AddrNotAvailable, InvalidInput, PermissionDenied};
    TcpListener::bind(address).await.map_err(|error| {
        let kind = match error.kind() {
            AddrNotAvailable | InvalidInput | PermissionDenied => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("listen on {address}")).with_source(error)
    })
}

/// The same access over TLS, where it is wanted or the listener is open to others and there are certificates.
pub(crate) fn secured(
    access: Access,
    listener: &TcpListener,
    trust: &Trust,
    is_wanted: bool,
) -> Result<Access> {
    let bound = listener
        .local_addr()
        .map_err(|e| Error::unavailable("read the bound address").with_source(e))?;
    Ok(access.over(trust.page_tls(bound, is_wanted)?))
}

/// Says on stderr where something is served.
pub(crate) fn announce(what: &str, (listener, access): (&TcpListener, &Access), path: &str) {
    let scheme = if access.is_secured() { "https" } else { "http" };
    if let Ok(bound) = listener.local_addr() {
        crate::output::complain(&format!("{what} on {scheme}://{bound}{path}"));
    }
}

/// Starts to count; before the first metric is touched.
///
/// # Errors
/// `Bug` when it was started before.
pub(crate) fn start_metrics() -> Result<MetricsText> {
    let failed = |e| Error::bug("start to count metrics").with_source(e);
    let builder =
        PrometheusBuilder::new().set_buckets(&glmeval_coordinator::driver::telemetry::BUCKETS);
    let handle = builder.and_then(PrometheusBuilder::install_recorder).map_err(failed)?;
    glmeval_coordinator::driver::telemetry::describe();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_millis(UPKEEP_MS));
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    describe_gauge!(MEMORY, "Resident memory of this process.");
    describe_counter!("glmeval_rows_computed_total", "Rows this process computed, by gLM.");
    Ok(Arc::new(move || {
        gauge!(MEMORY).set(machine::memory_bytes() as f64);
        handle.render()
    }))
}
