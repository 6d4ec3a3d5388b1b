//! A file whose appearance is an order to stop: for every platform whose notices nobody here knows.
//!
//! Invariant: what the file says can shorten the grace, never prevent the stop.

use super::Stop;
use std::path::Path;
use std::time::Duration;

const PAUSE: Duration = Duration::from_secs(1);
/// Room for a number; the rest of a longer file is not its business.
const BYTES_MAX: u64 = 64;

/// Waits until `path` exists. A number of seconds in it is the grace of the unit in hand; otherwise
/// the unit may take the time it needs.
pub(super) async fn appeared(path: &Path) -> Stop {
    while !tokio::fs::try_exists(path).await.unwrap_or(false) {
        tokio::time::sleep(PAUSE).await;
    }
    let text = read_start(path).await.unwrap_or_default();
    let seconds = text.trim().parse::<u64>().ok();
    if seconds.is_none() && !text.trim().is_empty() {
        tracing::warn!(path = %path.display(), "expected a number of seconds or nothing, found text");
    }
    let grace_ms = seconds.map_or(u64::from(u32::MAX), |seconds| seconds.saturating_mul(1_000));
    Stop { grace_ms, reason: format!("drain file {}", path.display()) }
}

async fn read_start(path: &Path) -> std::io::Result<String> {
    use tokio::io::AsyncReadExt;
    let mut text = Vec::new();
    tokio::fs::File::open(path).await?.take(BYTES_MAX).read_to_end(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
