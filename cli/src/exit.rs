//! Exit codes that are not an error's kind.

/// The command line asks for what is not done.
pub(crate) const WRONG_USAGE: u8 = 2;
/// The job finished and some units were given up.
pub(crate) const FINISHED_WITH_FAILED_UNITS: u8 = 3;
/// Stopped with work left: start a replacement.
pub(crate) const WORK_LEFT: u8 = 75;
/// Interrupted by the user; run again to resume.
pub(crate) const INTERRUPTED: u8 = 130;
/// This worker is refused whatever it does, or this coordinator was replaced: do not start it again.
pub(crate) const NEVER_RETRY: u8 = 42;
