//! Notices that this machine is about to be taken away: clouds' metadata services, a file that appears.
//!
//! Leaves out: signals (`agent::stop`), what a worker does then (`agent::session`). Invariant: nothing
//! that a service answers, late or wrong or not at all, delays or stops a worker; only a notice does.

use crate::agent::{Stop, StopHandle, StopSource, stop_pair};
use async_trait::async_trait;
use glmeval_common::error::{Error, ErrorKind, InputError, Result};
use std::path::PathBuf;
use std::time::Duration;

mod aws;
mod azure;
mod drain_file;
mod gcp;
mod metadata;

pub use metadata::Endpoints;

/// Grace of a signal unless told otherwise.
const SIGNAL_GRACE_MS: u64 = 60_000;
/// Of the time a cloud gives, kept for handing back and leaving.
const LEAVE_MS: u64 = 10_000;
/// A service that failed to answer is asked this many times less often.
const PAUSES_AFTER_ERROR: u32 = 4;

/// A cloud that takes machines back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cloud {
    /// Amazon EC2: two minutes of notice.
    Aws,
    /// Google Compute Engine: about thirty seconds.
    Gcp,
    /// Microsoft Azure: at least thirty seconds.
    Azure,
}

/// Whose notices are listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreemptionNotice {
    /// Nobody's; no request is made.
    #[default]
    None,
    /// This cloud's, whether or not its service answers at first.
    Of(Cloud),
    /// Those of the clouds whose service answers when asked once.
    Auto,
}

/// Everything that may order a process to stop; the first order wins.
#[derive(Clone, Debug, Default)]
pub struct StopOrders {
    /// What the unit in hand may take at most, whatever a source allows.
    pub grace_ms_max: Option<u64>,
    /// Cloud notices.
    pub notice: PreemptionNotice,
    /// Where the clouds' services are.
    pub endpoints: Endpoints,
    /// A file whose appearance is an order.
    pub drain_file: Option<PathBuf>,
}

/// A service that says when its machine is taken away.
#[async_trait]
trait NoticeService: Send {
    /// The service, for messages.
    fn name(&self) -> &'static str;

    /// Makes sure that the service is there and is what it should be.
    ///
    /// # Errors
    /// `NotFound` for another service at its place, `Unavailable` without any.
    async fn identify(&mut self) -> Result<()>;

    /// The notice, if there is one now; may wait for it.
    ///
    /// # Errors
    /// `Invalid` for an answer that makes no sense, `Unavailable` without one.
    async fn ask(&mut self) -> Result<Option<Stop>>;

    /// How long to wait before it is asked again.
    fn pause(&self) -> Duration;
}

/// Grace of a notice that comes `lead_ms` ahead and is heard of up to `pause` late.
fn grace_ms(lead_ms: u64, pause: Duration) -> u64 {
    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    lead_ms.saturating_sub(pause_ms).saturating_sub(LEAVE_MS)
}

impl Cloud {
    fn service(self, endpoints: &Endpoints) -> Result<Box<dyn NoticeService>> {
        Ok(match self {
            Self::Aws => Box::new(aws::Aws::new(endpoints)?),
            Self::Gcp => Box::new(gcp::Gcp::new(endpoints)?),
            Self::Azure => Box::new(azure::Azure::new(endpoints)?),
        })
    }
}

impl StopOrders {
    /// Starts to listen to signals and to everything that is asked for.
    ///
    /// # Errors
    /// `Unavailable` when the process cannot listen to signals, `Invalid` for an endpoint that is none.
    pub fn listen(self) -> Result<StopSource> {
        let (handle, source) = stop_pair();
        let handle = handle.with_grace_max(self.grace_ms_max);
        handle.clone().follow_signals(self.grace_ms_max.unwrap_or(SIGNAL_GRACE_MS))?;
        self.listen_to_notices(&handle, &source)?;
        Ok(source)
    }

    /// Everything of [`StopOrders::listen`] but signals.
    ///
    /// # Errors
    /// `Invalid` for an endpoint that is none.
    pub fn listen_to_notices(self, handle: &StopHandle, source: &StopSource) -> Result<()> {
        const ALL: [Cloud; 3] = [Cloud::Aws, Cloud::Gcp, Cloud::Azure];
        let (clouds, must_answer) = match &self.notice {
            PreemptionNotice::None => (&[][..], false),
            PreemptionNotice::Of(cloud) => (std::slice::from_ref(cloud), false),
            PreemptionNotice::Auto => (&ALL[..], true),
        };
        for cloud in clouds {
            let service = cloud.service(&self.endpoints)?;
            let (handle, source) = (handle.clone(), source.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = source.stopped() => {}
                    () = follow(service, must_answer, &handle) => {}
                }
            });
        }
        if let Some(path) = self.drain_file {
            let (handle, source) = (handle.clone(), source.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = source.stopped() => {}
                    order = drain_file::appeared(&path) => handle.give(order),
                }
            });
        }
        Ok(())
    }
}

/// Asks a service until it gives notice; one that must answer is given up when it does not.
async fn follow(mut service: Box<dyn NoticeService>, must_answer: bool, handle: &StopHandle) {
    let name = service.name();
    let mut troubled = false;
    if let Err(error) = service.identify().await {
        tracing::debug!(service = name, error = error.chain(), "no notices of pre-emption");
        if must_answer {
            return;
        }
        troubled = true;
    } else {
        tracing::info!(service = name, "notices of pre-emption are listened to");
    }
    loop {
        match service.ask().await {
            Ok(Some(order)) => return handle.give(order),
            Ok(None) => {
                troubled = false;
                tokio::time::sleep(service.pause()).await;
            }
            Err(error) => {
                // Said once per disturbance: this repeats as long as the worker lives.
                if !troubled && error.kind() == ErrorKind::Invalid {
                    tracing::warn!(
                        service = name,
                        error = error.chain(),
                        "answer is not understood"
                    );
                } else if !troubled {
                    tracing::debug!(service = name, error = error.chain(), "no answer");
                }
                troubled = true;
                tokio::time::sleep(service.pause() * PAUSES_AFTER_ERROR).await;
            }
        }
    }
}

/// An answer that makes no sense, quoted as far as people need it.
fn not_understood(service: &str, place: &str, expected: &str, found: &[u8]) -> Error {
    const QUOTED_BYTES_MAX: usize = 80;
    let found = String::from_utf8_lossy(found.get(..QUOTED_BYTES_MAX).unwrap_or(found));
    InputError::new(service, place, expected, format!("{found:?}")).into()
}
