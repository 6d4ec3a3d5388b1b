//! Runs a format library on a thread of its own, so that a hostile file cannot end the process.
//!
//! Leaves out: bounding memory and time; callers check declared sizes before they ask for data.
//! Invariant: whatever the library does to a corrupt file, the caller gets a value or an error.

use crate::error::{Error, InputError, Result};

/// Stack of the thread: type descriptions nest as deep as a 64 KiB header message allows, and a
/// stack overflow cannot be caught. Pages that are not touched cost nothing.
const STACK_BYTES: usize = 64 << 20;

/// Runs `work` on `file`; a panic in it becomes a defect of the file at `place`.
///
/// # Errors
/// `Invalid` when `work` panics, `Unavailable` when the thread cannot be started.
pub(crate) fn isolated<T: Send>(
    file: &str,
    place: &str,
    work: impl FnOnce() -> T + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("format reader".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|e| Error::unavailable("start a reader thread").with_source(e))?;
        thread.join().map_err(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            let found = format!("corrupt structures that the format library stumbles on: {text}");
            InputError::new(file, place, "a file that can be parsed", found).into()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_file() {
        let values: Vec<u8> = Vec::new();
        let index = values.len();
        let error = isolated("a.h5", "x_train", || values[index]).unwrap_err();
        assert!(error.to_string().starts_with("a.h5: x_train: expected"), "{error}");
        assert_eq!(isolated("a.h5", "", || 7).unwrap(), 7);
    }
}
