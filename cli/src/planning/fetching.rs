//! Fetches gLMs named `hf://…` before anything opens them, and shows how far it is.

use crate::output::{bytes, complain};
use glmeval_common::error::Result;
use glmeval_worker::hub::{Hub, HubModel, HubProgress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// The folder or file that `source` names: fetched into the cache if it is `hf://…`, where what is
/// there already is not fetched again.
///
/// # Errors
/// As [`Hub::fetch`].
pub(crate) fn fetch(source: &Path) -> Result<PathBuf> {
    let Some(text) = source.to_str().filter(|text| HubModel::is_named_by(text)) else {
        return Ok(source.to_owned());
    };
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg:24} {wide_bar} {bytes}/{total_bytes} {eta}");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let fetched = Hub::from_environment()?.fetch(&HubModel::parse(text)?, &mut |progress| {
        show(text, bar.as_ref(), &progress);
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    fetched
}

fn show(text: &str, bar: Option<&ProgressBar>, progress: &HubProgress) {
    match (progress, bar) {
        (HubProgress::Planned { files, bytes: count }, None) if *files > 0 => {
            complain(&format!("{text}: fetching {files} files, {}", bytes(*count)));
        }
        (HubProgress::Received { file, done, total }, Some(bar)) => {
            bar.set_message(file.clone());
            bar.set_length(*total);
            bar.set_position(*done);
        }
        (HubProgress::Waiting { file }, _) => {
            complain(&format!("{text}: waiting for another process that fetches {file}"));
        }
        (HubProgress::Repeating { reason }, _) => complain(&format!("{text}: again: {reason}")),
        (HubProgress::Cached { reason }, _) => {
            complain(&format!("{text}: using the cache: {reason}"));
        }
        (HubProgress::Planned { .. } | HubProgress::Received { .. }, _) => {}
    }
}
