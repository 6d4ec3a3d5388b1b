//! One column of a batch as texts or as numbers, whatever its Arrow type.
//!
//! Leaves out: what the values mean. Invariant: a null is never a value, at most a missing one.

use crate::error::{Error, InputError, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use std::borrow::Cow;

/// A column of one batch.
pub(super) struct Column<'a> {
    pub(super) array: &'a ArrayRef,
}

impl<'a> Column<'a> {
    /// Checks that a column of type `kind` can be targets or, otherwise, texts.
    ///
    /// # Errors
    /// `Invalid` with the column and its type.
    pub(super) fn check(file: &str, name: &str, kind: &DataType, is_target: bool) -> Result<()> {
        let (fits, expected) = if is_target {
            (is_number(kind), "numbers: integer, float or bool")
        } else {
            (is_text(kind) || kind.is_integer(), "strings")
        };
        if fits {
            return Ok(());
        }
        let place = format!("column {name}");
        Err(InputError::new(file, place, expected, format!("type {kind}")).into())
    }

    /// The values as bytes; integers in decimal.
    ///
    /// # Errors
    /// What `null` makes of the first row that is null.
    pub(super) fn texts(self, null: impl Fn(usize) -> Error) -> Result<Vec<Cow<'a, [u8]>>> {
        let array = self.array.as_ref();
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            let values = text_values(dictionary.values().as_ref());
            if dictionary.is_empty() || values.is_empty() {
                return if dictionary.is_empty() { Ok(Vec::new()) } else { Err(null(0)) };
            }
            let keys = dictionary.normalized_keys().into_iter().enumerate();
            return keys
                .map(|(row, key)| {
                    let value = values.get(key).cloned().flatten();
                    value.filter(|_| dictionary.is_valid(row)).ok_or_else(|| null(row))
                })
                .collect();
        }
        let values = text_values(array).into_iter().enumerate();
        values.map(|(row, value)| value.ok_or_else(|| null(row))).collect()
    }

    /// The values as numbers.
    ///
    /// # Errors
    /// What `null` makes of the first row that is null.
    pub(super) fn numbers(self, null: impl Fn(usize) -> Error) -> Result<Vec<f64>> {
        let values = number_values(self.array.as_ref()).into_iter().enumerate();
        values.map(|(row, value)| value.ok_or_else(|| null(row))).collect()
    }

    /// The values as numbers, NaN in place of a null.
    pub(super) fn numbers_or_missing(self) -> Vec<f64> {
        let values = number_values(self.array.as_ref()).into_iter();
        values.map(|value| value.unwrap_or(f64::NAN)).collect()
    }
}

fn is_number(kind: &DataType) -> bool {
    kind.is_integer() || kind.is_floating() || *kind == DataType::Boolean
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Dictionary(_, values) => {
            !matches!(**values, DataType::Dictionary(_, _)) && is_text(values)
        }
        _ => false,
    }
}

/// Texts of an array without a dictionary; nothing for a type that holds none.
fn text_values(array: &dyn Array) -> Vec<Option<Cow<'_, [u8]>>> {
    fn borrowed<'a>(value: Option<&'a [u8]>) -> Option<Cow<'a, [u8]>> {
        value.map(Cow::Borrowed)
    }
    if let Some(texts) = array.as_string_opt::<i32>() {
        texts.iter().map(|text| borrowed(text.map(str::as_bytes))).collect()
    } else if let Some(texts) = array.as_string_opt::<i64>() {
        texts.iter().map(|text| borrowed(text.map(str::as_bytes))).collect()
    } else if let Some(texts) = array.as_string_view_opt() {
        texts.iter().map(|text| borrowed(text.map(str::as_bytes))).collect()
    } else if let Some(bytes) = array.as_binary_opt::<i32>() {
        bytes.iter().map(borrowed).collect()
    } else if let Some(bytes) = array.as_binary_opt::<i64>() {
        bytes.iter().map(borrowed).collect()
    } else if let Some(bytes) = array.as_binary_view_opt() {
        bytes.iter().map(borrowed).collect()
    } else {
        decimals(array)
    }
}

/// Integers in decimal.
fn decimals(array: &dyn Array) -> Vec<Option<Cow<'_, [u8]>>> {
    fn each<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<Vec<Option<Cow<'_, [u8]>>>>
    where
        T::Native: ToString,
    {
        let integers = array.as_primitive_opt::<T>()?.iter();
        Some(integers.map(|i| i.map(|i| Cow::Owned(i.to_string().into_bytes()))).collect())
    }
    each::<Int64Type>(array)
        .or_else(|| each::<Int32Type>(array))
        .or_else(|| each::<Int16Type>(array))
        .or_else(|| each::<Int8Type>(array))
        .or_else(|| each::<UInt64Type>(array))
        .or_else(|| each::<UInt32Type>(array))
        .or_else(|| each::<UInt16Type>(array))
        .or_else(|| each::<UInt8Type>(array))
        .unwrap_or_default()
}

/// Numbers of an array; nothing for a type that holds none.
fn number_values(array: &dyn Array) -> Vec<Option<f64>> {
    fn each<T: ArrowPrimitiveType>(
        array: &dyn Array,
        value: impl Fn(T::Native) -> f64,
    ) -> Option<Vec<Option<f64>>> {
        Some(array.as_primitive_opt::<T>()?.iter().map(|number| number.map(&value)).collect())
    }
    if let Some(bools) = array.as_boolean_opt() {
        return bools.iter().map(|bool| bool.map(|bool| f64::from(u8::from(bool)))).collect();
    }
    each::<Float32Type>(array, f64::from)
        .or_else(|| each::<Float64Type>(array, |value| value))
        .or_else(|| each::<Float16Type>(array, |value| value.to_f64()))
        .or_else(|| each::<Int64Type>(array, |value| value as f64))
        .or_else(|| each::<Int32Type>(array, f64::from))
        .or_else(|| each::<Int16Type>(array, f64::from))
        .or_else(|| each::<Int8Type>(array, f64::from))
        .or_else(|| each::<UInt64Type>(array, |value| value as f64))
        .or_else(|| each::<UInt32Type>(array, f64::from))
        .or_else(|| each::<UInt16Type>(array, f64::from))
        .or_else(|| each::<UInt8Type>(array, f64::from))
        .unwrap_or_default()
}
