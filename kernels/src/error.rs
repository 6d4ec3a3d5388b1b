//! What an operation says when its operands do not fit together.
//!
//! Leaves out: what the caller does next; shapes come from code, so a mismatch is a defect there.
//! Invariant: a message names the operation, the operand, what was expected and what was found.

/// A refused operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// An operand's length or extent does not fit the others.
    #[error("{op}: {operand} has {found}, expected {expected}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The operand that does not fit.
        operand: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// There is no such device, or a library that it needs.
    #[error("{device}: {reason}")]
    NoDevice {
        /// What was asked for.
        device: String,
        /// Why there is none.
        reason: String,
    },
    /// The device's memory, or the share of it that may be used, is full.
    #[error("{device}: no room for {bytes} bytes, {free} of {total} are free")]
    OutOfMemory {
        /// The device.
        device: String,
        /// Bytes that were asked for.
        bytes: u64,
        /// Bytes that are left.
        free: u64,
        /// Bytes there are.
        total: u64,
    },
    /// A kernel's source does not compile; a defect, or a compiler that is too old.
    #[error("{source_name} for {target}: {log}")]
    Compile {
        /// The source.
        source_name: String,
        /// What it was compiled for.
        target: String,
        /// What the compiler says.
        log: String,
    },
    /// The device refused or failed.
    #[error("{operation} on {device}: {message}")]
    Device {
        /// The device.
        device: String,
        /// Operation, kernel and sizes.
        operation: String,
        /// What the driver says.
        message: String,
    },
}

/// Result of an operation.
pub type Result<T, E = KernelError> = std::result::Result<T, E>;

/// Refuses `operand` unless it holds exactly `expected` values.
pub(crate) fn check_length(
    op: &'static str,
    operand: &'static str,
    found: usize,
    expected: usize,
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(KernelError::Shape {
        op,
        operand,
        expected: format!("{expected} values"),
        found: format!("{found} values"),
    })
}

/// Number of rows of `width` values in `length` values; `width` must not be zero.
pub(crate) fn check_rows(
    op: &'static str,
    operand: &'static str,
    length: usize,
    width: usize,
) -> Result<usize> {
    if width != 0 && length.is_multiple_of(width) {
        return Ok(length / width);
    }
    Err(KernelError::Shape {
        op,
        operand,
        expected: format!("whole rows of {width} values, at least one value each"),
        found: format!("{length} values"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_operation_operand_expected_and_found() {
        let error = check_length("layer_norm", "weight", 512, 768).unwrap_err();
        assert_eq!(error.to_string(), "layer_norm: weight has 512 values, expected 768 values");
    }

    #[test]
    fn rows_of_no_values_are_refused() {
        assert!(check_rows("softmax", "x", 0, 0).is_err());
        assert_eq!(check_rows("softmax", "x", 6, 3), Ok(2));
        assert!(check_rows("softmax", "x", 7, 3).is_err());
    }
}
