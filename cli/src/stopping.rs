//! Arguments that say what orders a worker to stop.
//!
//! Leaves out: listening (`glmeval_worker::notice`), what is done then.

use clap::{Args, ValueEnum};
use glmeval_common::error::Result;
use glmeval_worker::agent::StopSource;
use glmeval_worker::notice::{Cloud, Endpoints, PreemptionNotice, StopOrders};
use std::path::PathBuf;

/// Whose notices a worker listens to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Notices {
    /// Nobody's: signals only.
    #[default]
    None,
    /// Amazon EC2 spot instances.
    Aws,
    /// Google Compute Engine spot and pre-emptible machines.
    Gcp,
    /// Azure spot machines.
    Azure,
    /// Whichever of them answers.
    Auto,
}

/// What stops a worker besides SIGTERM, SIGUSR1, SIGINT and `glmeval drain`.
#[derive(Args)]
pub(crate) struct StopArguments {
    /// Seconds the unit in hand may go on after an order to stop [default: 60 after a signal,
    /// otherwise what the notice leaves].
    #[arg(long)]
    grace_seconds: Option<u64>,
    /// Cloud whose notices of pre-emption are listened to.
    #[arg(long, value_enum, default_value_t, env = "GLMEVAL_PREEMPTION_NOTICE")]
    preemption_notice: Notices,
    /// Stop when this file appears; a number in it is the seconds of grace.
    #[arg(long, value_name = "PATH")]
    drain_file: Option<PathBuf>,
}

impl StopArguments {
    /// Begins to listen.
    pub(crate) fn listen(&self) -> Result<StopSource> {
        let notice = match self.preemption_notice {
            Notices::None => PreemptionNotice::None,
            Notices::Aws => PreemptionNotice::Of(Cloud::Aws),
            Notices::Gcp => PreemptionNotice::Of(Cloud::Gcp),
            Notices::Azure => PreemptionNotice::Of(Cloud::Azure),
            Notices::Auto => PreemptionNotice::Auto,
        };
        let orders = StopOrders {
            grace_ms_max: self.grace_seconds.map(|seconds| seconds.saturating_mul(1_000)),
            notice,
            endpoints: Endpoints::from_environment(),
            drain_file: self.drain_file.clone(),
        };
        orders.listen()
    }
}
