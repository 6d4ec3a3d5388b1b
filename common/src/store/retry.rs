//! Which store errors pass by themselves, and how long to wait for that.
//!
//! Invariant: every wait is bounded by `limits`; this is the store's only place that sleeps.

use crate::error::ErrorKind;
use crate::limits;
use crate::rng::{Rng, random_token};
use object_store::Error as StoreError;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

/// Waits that double, with jitter, up to [`limits::STORE_ATTEMPTS_MAX`] attempts.
#[derive(Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Waits before the next attempt; `false` at once when there were enough.
    pub(super) async fn wait(&mut self) -> bool {
        self.attempts += 1;
        if self.attempts >= limits::STORE_ATTEMPTS_MAX {
            return false;
        }
        let doubled = limits::STORE_BACKOFF_MS_MIN << (self.attempts - 1).min(16);
        let longest = doubled.min(limits::STORE_BACKOFF_MS_MAX) as f64;
        let share = 0.5 + 0.5 * Rng::derive(0, &random_token()).uniform();
        tokio::time::sleep(Duration::from_secs_f64(longest * share / 1_000.0)).await;
        true
    }
}

/// Codes of S3 that mean no for good, whatever kind of error the client makes of them: of a refused listing
/// it makes one like that of a server that is away.
const REFUSALS: [&str; 5] = [
    "AccessDenied",
    "InvalidAccessKeyId",
    "NoSuchBucket",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

fn is_refusal(error: &StoreError) -> bool {
    REFUSALS.iter().any(|code| says(error, code))
}

/// Whether the request was certainly not carried out and repeating it cannot help.
pub(super) fn is_lasting(error: &StoreError) -> bool {
    if is_refusal(error) {
        return true;
    }
    match error {
        StoreError::InvalidPath { .. }
        | StoreError::NotSupported { .. }
        | StoreError::NotImplemented { .. }
        | StoreError::PermissionDenied { .. }
        | StoreError::Unauthenticated { .. }
        | StoreError::UnknownConfigurationKey { .. } => true,
        StoreError::NotFound { .. }
        | StoreError::AlreadyExists { .. }
        | StoreError::Precondition { .. } => false,
        other => io_kind(other).is_some_and(|kind| lasting_io(kind).is_some()),
    }
}

/// Whether there is nothing at the path. A bucket that is missing is a wrong address, not an empty place.
pub(super) fn is_not_found(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { .. }) && !says(error, "NoSuchBucket")
}

/// Whether the server's answer holds this code of S3.
fn says(error: &StoreError, code: &str) -> bool {
    error.to_string().contains(&format!("<Code>{code}</Code>"))
}

/// What a user can do about a refusal, in words; `ahead_ms` is how far this machine's clock is ahead.
pub(super) fn advice(error: &StoreError, ahead_ms: Option<i64>) -> Option<String> {
    if says(error, "RequestTimeTooSkewed") {
        let seconds = ahead_ms.unwrap_or(0) / 1_000;
        let found = match seconds {
            0 => "is too far from the store's".to_owned(),
            1.. => format!("is {seconds} s ahead of the store's"),
            _ => format!("is {} s behind the store's", seconds.unsigned_abs()),
        };
        return Some(format!("the clock of this machine {found}: set it"));
    }
    let codes = [
        ("NoSuchBucket", "the store has no such bucket: make it, or mend the URL"),
        ("InvalidAccessKeyId", "the store does not know this access key: see AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "the secret key is wrong: see AWS_SECRET_ACCESS_KEY"),
        ("AccessDenied", "the credentials do not allow this"),
        ("SlowDown", "the store asks for fewer requests"),
    ];
    let found = codes.into_iter().find(|(code, _)| says(error, code));
    found.map(|(_, advice)| advice.to_owned())
}

/// What the caller does next about a store error.
pub(super) fn kind_of(error: &StoreError) -> ErrorKind {
    if is_refusal(error) {
        return ErrorKind::Invalid;
    }
    match error {
        StoreError::NotFound { .. } => ErrorKind::NotFound,
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => ErrorKind::Conflict,
        StoreError::InvalidPath { .. }
        | StoreError::NotSupported { .. }
        | StoreError::NotImplemented { .. }
        | StoreError::PermissionDenied { .. }
        | StoreError::Unauthenticated { .. }
        | StoreError::UnknownConfigurationKey { .. } => ErrorKind::Invalid,
        other => io_kind(other).and_then(lasting_io).unwrap_or(ErrorKind::Unavailable),
    }
}

/// Whether the store, or this process's way to it, refuses what another process may be allowed: rights,
/// credentials, a clock, a file system that takes no writes.
pub(super) fn is_of_place(error: &StoreError) -> bool {
    let is_barred = || {
        let kinds = [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::NotADirectory,
        ];
        io_kind(error).is_some_and(|kind| kinds.contains(&kind))
    };
    let is_denied =
        matches!(error, StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. });
    is_refusal(error) || is_denied || is_barred()
}

/// Kind of an I/O error that the next millisecond will not mend; `None` for the others.
fn lasting_io(kind: io::ErrorKind) -> Option<ErrorKind> {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(ErrorKind::Unavailable),
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::FileTooLarge
        | io::ErrorKind::InvalidFilename => Some(ErrorKind::Invalid),
        _ => None,
    }
}

fn io_kind(error: &StoreError) -> Option<io::ErrorKind> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl Into<Box<dyn StdError + Send + Sync>>) -> StoreError {
        StoreError::Generic { store: "test", source: source.into() }
    }

    #[test]
    fn what_is_denied_is_the_places_fault_and_what_is_full_or_away_is_not() {
        let io = |kind: io::ErrorKind| generic(io::Error::from(kind));
        let denied = [
            io(io::ErrorKind::ReadOnlyFilesystem),
            io(io::ErrorKind::PermissionDenied),
            generic("403: <Error><Code>AccessDenied</Code></Error>"),
            StoreError::PermissionDenied { path: "a".into(), source: "403".into() },
        ];
        for error in denied {
            assert!(is_of_place(&error) && is_lasting(&error), "{error}");
            assert_eq!(kind_of(&error), ErrorKind::Invalid);
        }
        let others = [
            io(io::ErrorKind::StorageFull),
            io(io::ErrorKind::ConnectionReset),
            generic("503: <Error><Code>SlowDown</Code></Error>"),
            StoreError::NotFound { path: "a".into(), source: "404".into() },
        ];
        for error in others {
            assert!(!is_of_place(&error), "{error}");
        }
    }
}
