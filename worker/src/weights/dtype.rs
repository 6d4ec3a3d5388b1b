//! Number types of stored tensors.
//!
//! Leaves out: arithmetic. Invariant: a type's size in bytes is 1, 2, 4 or 8.

/// Number type of a stored tensor; little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dtype {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// Upper half of an IEEE single.
    Bf16,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 64 bits.
    U64,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 8 bits.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

/// Type, its name in safetensors, its storage class in torch, its bytes.
const TABLE: [(Dtype, &str, &str, usize); 13] = [
    (Dtype::F64, "F64", "DoubleStorage", 8),
    (Dtype::F32, "F32", "FloatStorage", 4),
    (Dtype::F16, "F16", "HalfStorage", 2),
    (Dtype::Bf16, "BF16", "BFloat16Storage", 2),
    (Dtype::I64, "I64", "LongStorage", 8),
    (Dtype::I32, "I32", "IntStorage", 4),
    (Dtype::I16, "I16", "ShortStorage", 2),
    (Dtype::I8, "I8", "CharStorage", 1),
    (Dtype::U64, "U64", "UInt64Storage", 8),
    (Dtype::U32, "U32", "UInt32Storage", 4),
    (Dtype::U16, "U16", "UInt16Storage", 2),
    (Dtype::U8, "U8", "ByteStorage", 1),
    (Dtype::Bool, "BOOL", "BoolStorage", 1),
];

impl Dtype {
    /// Name as safetensors writes it: `F32`, `BF16`, `BOOL`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Size of one number in bytes.
    pub fn bytes(self) -> usize {
        self.row().3
    }

    /// Whether it can hold weights.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, usize) {
        TABLE.iter().find(|row| row.0 == self).expect("the table names every type")
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    pub(super) fn from_storage(class: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == class).map(|row| row.0)
    }

    pub(super) fn names() -> String {
        TABLE.map(|row| row.1).join(", ")
    }

    pub(super) fn storages() -> String {
        TABLE.map(|row| row.2).join(", ")
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
