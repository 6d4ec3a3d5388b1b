//! Errors by what the caller does next; their gRPC codes and exit codes.
//!
//! Leaves out: logging. An error is logged where it is handled, never where it passes.

use std::error::Error as StdError;
use std::fmt;

/// What the caller of a failed operation should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Fix the request or the input file.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// Read again, then try again.
    Conflict,
    /// A newer owner exists: stop and drop the output.
    Fenced,
    /// Try again later.
    Unavailable,
    /// Stored bytes are not what their manifest says.
    Corrupt,
    /// A defect of this program.
    Bug,
}

impl ErrorKind {
    /// Process exit code of a command that ends with this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Fenced | Self::Unavailable => 75,
            Self::Invalid | Self::NotFound | Self::Conflict | Self::Corrupt | Self::Bug => 1,
        }
    }

    /// Whether the same work may succeed elsewhere or later.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Unavailable | Self::Conflict | Self::Corrupt | Self::Fenced => true,
            Self::Invalid | Self::NotFound | Self::Bug => false,
        }
    }

    /// gRPC status code of a call that ends with this kind.
    pub fn grpc_code(self) -> tonic::Code {
        match self {
            Self::Invalid => tonic::Code::InvalidArgument,
            Self::NotFound => tonic::Code::NotFound,
            Self::Conflict => tonic::Code::Aborted,
            Self::Fenced => tonic::Code::FailedPrecondition,
            Self::Unavailable => tonic::Code::Unavailable,
            Self::Corrupt => tonic::Code::DataLoss,
            Self::Bug => tonic::Code::Internal,
        }
    }

    /// Kind of a gRPC status code; the inverse of [`ErrorKind::grpc_code`].
    pub fn from_grpc_code(code: tonic::Code) -> Self {
        match code {
            tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Self::Invalid,
            // Who is refused for what it is stays so until its credentials change.
            tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => Self::Invalid,
            tonic::Code::NotFound => Self::NotFound,
            tonic::Code::Aborted | tonic::Code::AlreadyExists => Self::Conflict,
            tonic::Code::FailedPrecondition => Self::Fenced,
            tonic::Code::DataLoss => Self::Corrupt,
            tonic::Code::Internal | tonic::Code::Unimplemented => Self::Bug,
            _ => Self::Unavailable,
        }
    }
}

/// What an error is to be blamed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// The work, perhaps some rows of it.
    Work,
    /// The work as a whole.
    AllRows,
    /// The process that met it, or the store as that process reaches it.
    Place,
}

/// An error of any part of the system: its kind, one line of text, its cause.
///
/// The text is lower case, has no full stop and reads after "failed to".
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    blame: Blame,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, blame: Blame::Work, message: message.into(), source: None }
    }

    /// Makes an [`ErrorKind::Invalid`] error.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Makes an [`ErrorKind::NotFound`] error.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Makes an [`ErrorKind::Unavailable`] error.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// Makes an [`ErrorKind::Corrupt`] error.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Makes an [`ErrorKind::Bug`] error.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, message)
    }

    /// Wraps the error in one more line that says what was being done; the kind stays.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        let (kind, blame) = (self.kind, self.blame);
        Self { kind, blame, message: message.into(), source: Some(Box::new(self)) }
    }

    /// Keeps `source` as the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Says that no single row is at fault, so that fewer rows would fail too.
    #[must_use]
    pub fn of_all_rows(self) -> Self {
        let blame = if self.blame == Blame::Place { Blame::Place } else { Blame::AllRows };
        Self { blame, ..self }
    }

    /// Says that the work is not at fault but where it was tried: this process, its files, or the store as
    /// it reaches it. Others may do the same work; this process meets the same again.
    #[must_use]
    pub fn of_place(self) -> Self {
        Self { blame: Blame::Place, ..self }
    }

    /// Whether fewer rows would fail too.
    pub fn is_of_all_rows(&self) -> bool {
        self.blame == Blame::AllRows
    }

    /// Whether the place is at fault, see [`Error::of_place`].
    pub fn is_of_place(&self) -> bool {
        self.blame == Blame::Place
    }

    /// The first cause of type `T`: facts that a caller needs beside the kind.
    pub fn find<T: StdError + 'static>(&self) -> Option<&T> {
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            if let Some(found) = cause.downcast_ref::<T>() {
                return Some(found);
            }
            next = cause.source();
        }
        None
    }

    /// What the caller does next.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The whole chain on one line, joined by `: `; a cause that its error quotes already is not repeated.
    pub fn chain(&self) -> String {
        let mut line = self.message.clone();
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            let text = cause.to_string();
            // Some libraries print their own causes.
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            next = cause.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

/// A defect of an input file: which file, where in it, what was expected, what was found.
///
/// Displays as `file: place: expected …, found …`; an empty place is left out.
/// Lines and columns count from 1, rows and records from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// Path or URL of the file as the user wrote it.
    pub file: String,
    /// Line, record, tensor or key.
    pub place: String,
    /// What a good file has there.
    pub expected: String,
    /// What this file has there.
    pub found: String,
}

impl InputError {
    /// Names a defect of `file`.
    pub fn new(
        file: impl fmt::Display,
        place: impl fmt::Display,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        Self {
            file: file.to_string(),
            place: place.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

impl StdError for InputError {}

impl From<InputError> for Error {
    fn from(defect: InputError) -> Self {
        Self::new(ErrorKind::Invalid, defect.to_string())
    }
}

/// Turns an I/O error on `path` into an [`Error`] that names the path.
pub fn io_error(path: &std::path::Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied
        | std::io::ErrorKind::IsADirectory
        | std::io::ErrorKind::NotADirectory
        | std::io::ErrorKind::AlreadyExists
        | std::io::ErrorKind::InvalidInput
        | std::io::ErrorKind::InvalidData => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, path.display().to_string()).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_prints_every_cause_once() {
        let error = Error::invalid("line 3").context("read peaks.bed").context("prepare REST");
        assert_eq!(error.chain(), "prepare REST: read peaks.bed: line 3");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let cause =
            Error::unavailable("copy: disk full").with_source(std::io::Error::other("disk full"));
        assert_eq!(cause.context("put").chain(), "put: copy: disk full");
    }

    #[test]
    fn a_cause_that_its_error_quotes_is_printed_once() {
        let cause = std::io::Error::other(Error::invalid("refused"));
        let error = Error::unavailable("get x: refused").with_source(cause);
        assert_eq!(error.context("read").chain(), "read: get x: refused");
    }

    #[test]
    fn facts_are_found_under_every_context() {
        let defect = InputError::new("a.bed", "line 6", "end <= 7004", 7011);
        let error = Error::invalid("read").with_source(defect.clone()).context("prepare");
        assert_eq!(error.find::<InputError>(), Some(&defect));
        assert!(error.find::<std::io::Error>().is_none());
    }

    #[test]
    fn whose_fault_it_is_stays_under_every_context() {
        let whole = Error::invalid("weights").of_all_rows().context("open");
        assert!(whole.is_of_all_rows() && !whole.is_of_place());
        let place = Error::invalid("other files").of_place().of_all_rows().context("open");
        assert!(place.is_of_place() && !place.is_of_all_rows());
        assert!(!Error::invalid("row").is_of_all_rows() && !Error::invalid("row").is_of_place());
    }

    #[test]
    fn input_error_names_file_place_expected_and_found() {
        let defect = InputError::new("a.bed", "line 6", "end <= 7004", 7011);
        assert_eq!(defect.to_string(), "a.bed: line 6: expected end <= 7004, found 7011");
    }

    #[test]
    fn what_stands_in_the_way_is_no_reason_to_try_again() {
        let of = |kind: std::io::ErrorKind| io_error(std::path::Path::new("a"), kind.into()).kind();
        for kind in [std::io::ErrorKind::AlreadyExists, std::io::ErrorKind::NotADirectory] {
            assert_eq!((of(kind), of(kind).exit_code()), (ErrorKind::Invalid, 1));
        }
        assert_eq!(of(std::io::ErrorKind::StorageFull), ErrorKind::Unavailable);
    }

    #[test]
    fn grpc_codes_return_to_their_kind() {
        for kind in [
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::Conflict,
            ErrorKind::Fenced,
            ErrorKind::Unavailable,
            ErrorKind::Corrupt,
            ErrorKind::Bug,
        ] {
            assert_eq!(ErrorKind::from_grpc_code(kind.grpc_code()), kind);
        }
    }
}
