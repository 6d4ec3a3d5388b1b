//! The number types a data set may hold, and their values as f64.
//!
//! Leaves out: strings (`array`). Invariant: every type that is accepted is widened exactly, save
//! 64-bit integers above 2^53.

use half::f16;
use hdf5_pure::{Datatype, DatatypeByteOrder, FloatingPointLayout};

/// One number type: its width in bytes, its byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    kind: Kind,
    big_endian: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

const IEEE754_BINARY16: FloatingPointLayout = FloatingPointLayout {
    bit_offset: 0,
    bit_precision: 16,
    exponent_location: 10,
    exponent_size: 5,
    mantissa_location: 0,
    mantissa_size: 10,
    exponent_bias: 15,
};

impl Element {
    /// The number type of `datatype`; otherwise words for what it is instead.
    pub(super) fn of(datatype: &Datatype) -> Result<Self, String> {
        match datatype {
            Datatype::FixedPoint { size, byte_order, layout } => {
                let whole = layout.bit_offset == 0
                    && u32::from(layout.bit_precision) == size.saturating_mul(8);
                let kind = match (size, layout.signed) {
                    _ if !whole => None,
                    (1, true) => Some(Kind::I8),
                    (2, true) => Some(Kind::I16),
                    (4, true) => Some(Kind::I32),
                    (8, true) => Some(Kind::I64),
                    (1, false) => Some(Kind::U8),
                    (2, false) => Some(Kind::U16),
                    (4, false) => Some(Kind::U32),
                    (8, false) => Some(Kind::U64),
                    _ => None,
                };
                Self::checked(kind, *byte_order, "an integer", *size)
            }
            Datatype::FloatingPoint { size, byte_order, layout } => {
                let kind = match (size, *layout) {
                    (2, IEEE754_BINARY16) => Some(Kind::F16),
                    (4, FloatingPointLayout::IEEE754_BINARY32) => Some(Kind::F32),
                    (8, FloatingPointLayout::IEEE754_BINARY64) => Some(Kind::F64),
                    _ => None,
                };
                Self::checked(kind, *byte_order, "a float", *size)
            }
            // h5py stores bool as an enumeration of FALSE and TRUE over i8.
            Datatype::Enumeration { size, base_type, .. } => match base_type.as_ref() {
                Datatype::FixedPoint { size: base_size, .. } if base_size == size => {
                    Self::of(base_type)
                }
                _ => Err("an enumeration of something else".to_owned()),
            },
            Datatype::Compound { members, .. } => Err(compound(members)),
            Datatype::String { .. } | Datatype::VariableLength { is_string: true, .. } => {
                Err("strings".to_owned())
            }
            Datatype::VariableLength { .. } => Err("variable-length sequences".to_owned()),
            Datatype::Array { .. } => Err("an array type".to_owned()),
            Datatype::Time { .. } => Err("times".to_owned()),
            Datatype::BitField { .. } => Err("bit fields".to_owned()),
            Datatype::Opaque { .. } => Err("opaque bytes".to_owned()),
            Datatype::Reference { .. } => Err("references".to_owned()),
            _ => Err("a type of no known class".to_owned()),
        }
    }

    fn checked(
        kind: Option<Kind>,
        order: DatatypeByteOrder,
        words: &str,
        size: u32,
    ) -> Result<Self, String> {
        match (kind, order) {
            (Some(kind), DatatypeByteOrder::LittleEndian) => Ok(Self { kind, big_endian: false }),
            (Some(kind), DatatypeByteOrder::BigEndian) => Ok(Self { kind, big_endian: true }),
            _ => Err(format!("{words} of {size} bytes in an unusual layout")),
        }
    }

    /// Whether it is no integer.
    pub(super) fn is_float(self) -> bool {
        matches!(self.kind, Kind::F16 | Kind::F32 | Kind::F64)
    }

    /// Width in bytes.
    pub(super) fn bytes(self) -> usize {
        match self.kind {
            Kind::I8 | Kind::U8 => 1,
            Kind::F16 | Kind::I16 | Kind::U16 => 2,
            Kind::F32 | Kind::I32 | Kind::U32 => 4,
            Kind::F64 | Kind::I64 | Kind::U64 => 8,
        }
    }

    /// Appends the values of `raw` to `values`.
    pub(super) fn widen(self, raw: &[u8], values: &mut Vec<f64>) {
        match self.kind {
            Kind::F16 => self.each(raw, values, |b| f16::from_le_bytes(b).to_f64()),
            Kind::F32 => self.each(raw, values, |b| f64::from(f32::from_le_bytes(b))),
            Kind::F64 => self.each(raw, values, f64::from_le_bytes),
            Kind::I8 => self.each(raw, values, |b| f64::from(i8::from_le_bytes(b))),
            Kind::I16 => self.each(raw, values, |b| f64::from(i16::from_le_bytes(b))),
            Kind::I32 => self.each(raw, values, |b| f64::from(i32::from_le_bytes(b))),
            Kind::I64 => self.each(raw, values, |b| i64::from_le_bytes(b) as f64),
            Kind::U8 => self.each(raw, values, |b: [u8; 1]| f64::from(b[0])),
            Kind::U16 => self.each(raw, values, |b| f64::from(u16::from_le_bytes(b))),
            Kind::U32 => self.each(raw, values, |b| f64::from(u32::from_le_bytes(b))),
            Kind::U64 => self.each(raw, values, |b| u64::from_le_bytes(b) as f64),
        }
    }

    fn each<const N: usize>(
        self,
        raw: &[u8],
        values: &mut Vec<f64>,
        value: impl Fn([u8; N]) -> f64,
    ) {
        let (elements, _) = raw.as_chunks::<N>();
        if self.big_endian {
            values.extend(elements.iter().map(|bytes| {
                let mut bytes = *bytes;
                bytes.reverse();
                value(bytes)
            }));
        } else {
            values.extend(elements.iter().map(|bytes| value(*bytes)));
        }
    }
}

/// NumPy stores a complex number as a compound of `r` and `i`.
fn compound(members: &[hdf5_pure::CompoundMember]) -> String {
    let names: Vec<&str> = members.iter().take(8).map(|member| member.name.as_str()).collect();
    if names == ["r", "i"] {
        "complex numbers (a compound type)".to_owned()
    } else {
        format!("a compound type with fields {}", names.join(", "))
    }
}
