//! Opening files that are read from their beginning more than once.
//!
//! Leaves out: what they hold. Invariant: a pipe is refused before it is opened, which could wait for
//! its writer for ever.

use crate::error::{InputError, Result, io_error};
use std::fs::{File, FileType};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Opens `path` for reading.
///
/// # Errors
/// `Invalid` for a pipe, a socket or a device; else as [`io_error`].
pub(crate) fn open(path: &Path) -> Result<File> {
    let failed = |e| io_error(path, e);
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if let Some(found) = stream(kind) {
        let expected = "a regular file, as it is read twice";
        return Err(InputError::new(path.display(), "", expected, found).into());
    }
    File::open(path).map_err(failed)
}

/// What cannot be read twice.
fn stream(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_fifo() => Some("a pipe"),
        kind if kind.is_socket() => Some("a socket"),
        kind if kind.is_char_device() || kind.is_block_device() => Some("a device"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_refused_before_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = open(&socket).unwrap_err().chain();
        assert!(error.ends_with("expected a regular file, as it is read twice, found a socket"));
        assert!(open(Path::new("/dev/null")).unwrap_err().chain().ends_with("found a device"));
    }
}
