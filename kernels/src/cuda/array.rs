//! Arrays in a device's memory, and views of parts of them.
//!
//! Leaves out: shapes; they are the operations'. Invariant: an array is given back when it is dropped, and a view cannot
//! outlive it.

use super::Gpu;
use crate::error::{KernelError, Result};
use std::marker::PhantomData;
use std::ops::Range;

/// The bits of a bfloat16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// The bits of an IEEE half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(pub u16);

impl Bf16 {
    /// The nearest, ties to even.
    pub fn from_f32(x: f32) -> Self {
        let bits = x.to_bits();
        if x.is_nan() {
            return Self((bits >> 16) as u16 | 0x40);
        }
        Self((bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
    }

    /// Its value.
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

/// What an array may hold.
///
/// # Safety
/// Any bits must be a value, and there must be no padding.
pub unsafe trait Element: Copy + Send + Sync + 'static {}

// SAFETY: any bits of these are a value.
unsafe impl Element for f32 {}
// SAFETY: as above.
unsafe impl Element for f64 {}
// SAFETY: as above.
unsafe impl Element for u8 {}
// SAFETY: as above.
unsafe impl Element for u16 {}
// SAFETY: as above.
unsafe impl Element for u32 {}
// SAFETY: as above.
unsafe impl Element for u64 {}
// SAFETY: as above.
unsafe impl Element for i32 {}
// SAFETY: as above.
unsafe impl Element for i64 {}
// SAFETY: as above.
unsafe impl Element for Bf16 {}
// SAFETY: as above.
unsafe impl Element for F16 {}

/// A number that kernels read as f32, and round f32 to.
pub trait Number: Element {
    /// What sources call it: the code of `NumberOf` in `common.cuh`.
    const CODE: i64;
}

impl Number for f32 {
    const CODE: i64 = 0;
}

impl Number for Bf16 {
    const CODE: i64 = 1;
}

impl Number for F16 {
    const CODE: i64 = 2;
}

/// An array in a device's memory.
pub struct DeviceArray<T: Element> {
    gpu: Gpu,
    address: u64,
    length: usize,
    element: PhantomData<T>,
}

impl<T: Element> DeviceArray<T> {
    /// An array of `length` values, not initialised.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no room.
    pub fn new(gpu: &Gpu, length: usize) -> Result<Self> {
        let bytes = length.checked_mul(size_of::<T>()).ok_or_else(|| KernelError::Shape {
            op: "array",
            operand: "length",
            expected: "less than 2^64 bytes".to_owned(),
            found: format!("{length} values"),
        })?;
        let address = gpu.driver().allocate(bytes.max(1))?;
        Ok(Self { gpu: gpu.clone(), address, length, element: PhantomData })
    }

    /// An array of zeros.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no room.
    pub fn zeros(gpu: &Gpu, length: usize) -> Result<Self> {
        let mut array = Self::new(gpu, length)?;
        array.view_mut().fill_bytes(0)?;
        Ok(array)
    }

    /// An array that holds `values`.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no room.
    pub fn from_slice(gpu: &Gpu, values: &[T]) -> Result<Self> {
        let mut array = Self::new(gpu, values.len())?;
        array.view_mut().write(values)?;
        Ok(array)
    }

    /// Values it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All of it, to read.
    pub fn view(&self) -> View<'_, T> {
        View { gpu: &self.gpu, address: self.address, length: self.length, element: PhantomData }
    }

    /// All of it, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_, T> {
        ViewMut { gpu: &self.gpu, address: self.address, length: self.length, element: PhantomData }
    }

    /// Its values, once the work told so far is done.
    ///
    /// # Errors
    /// `Device` if a kernel failed meanwhile.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        self.view().to_vec()
    }
}

impl<T: Element> Drop for DeviceArray<T> {
    fn drop(&mut self) {
        self.gpu.driver().free(self.address);
    }
}

/// A part of an array, to read.
#[derive(Clone, Copy)]
pub struct View<'a, T: Element> {
    gpu: &'a Gpu,
    address: u64,
    length: usize,
    element: PhantomData<&'a T>,
}

impl<'a, T: Element> View<'a, T> {
    /// The device it is on.
    pub fn gpu(&self) -> &'a Gpu {
        self.gpu
    }

    /// Where it begins, for a launch.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Values it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A part of it.
    ///
    /// # Panics
    /// If `part` is not inside.
    pub fn part(&self, part: Range<usize>) -> Self {
        assert!(part.start <= part.end && part.end <= self.length, "a part lies inside");
        let address = self.address + (part.start * size_of::<T>()) as u64;
        Self { gpu: self.gpu, address, length: part.len(), element: PhantomData }
    }

    /// Its values, once the work told so far is done.
    ///
    /// # Errors
    /// `Device` if a kernel failed meanwhile.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        let mut values: Vec<T> = Vec::with_capacity(self.length);
        // SAFETY: as many values as there is room for, any bits of which are a value; written before the length is set.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut(
                values.as_mut_ptr().cast::<u8>(),
                self.length * size_of::<T>(),
            );
            self.gpu.driver().read(self.address, bytes)?;
            values.set_len(self.length);
        }
        Ok(values)
    }
}

/// A part of an array, to write.
pub struct ViewMut<'a, T: Element> {
    gpu: &'a Gpu,
    address: u64,
    length: usize,
    element: PhantomData<&'a mut T>,
}

impl<'a, T: Element> ViewMut<'a, T> {
    /// The device it is on.
    pub fn gpu(&self) -> &'a Gpu {
        self.gpu
    }

    /// Where it begins, for a launch.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Values it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The same, for a shorter time.
    pub fn again(&mut self) -> ViewMut<'_, T> {
        ViewMut { gpu: self.gpu, address: self.address, length: self.length, element: PhantomData }
    }

    /// The same, to read.
    pub fn view(&self) -> View<'_, T> {
        View { gpu: self.gpu, address: self.address, length: self.length, element: PhantomData }
    }

    /// A part of it.
    ///
    /// # Panics
    /// If `part` is not inside.
    pub fn part(&mut self, part: Range<usize>) -> ViewMut<'_, T> {
        assert!(part.start <= part.end && part.end <= self.length, "a part lies inside");
        let address = self.address + (part.start * size_of::<T>()) as u64;
        ViewMut { gpu: self.gpu, address, length: part.len(), element: PhantomData }
    }

    /// A part of it, for as long as it was lent.
    ///
    /// # Panics
    /// If `part` is not inside.
    pub fn into_part(self, part: Range<usize>) -> Self {
        assert!(part.start <= part.end && part.end <= self.length, "a part lies inside");
        let address = self.address + (part.start * size_of::<T>()) as u64;
        Self { gpu: self.gpu, address, length: part.len(), element: PhantomData }
    }

    /// Copies `values` to it.
    ///
    /// # Errors
    /// `Shape` if they are not as many; `Device` if the driver refuses.
    pub fn write(&mut self, values: &[T]) -> Result<()> {
        crate::error::check_length("write", "values", values.len(), self.length)?;
        // SAFETY: the values have no padding; the lengths are equal.
        unsafe {
            let bytes =
                std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values));
            self.gpu.driver().write(self.address, bytes)
        }
    }

    /// Copies another array to it, on the device.
    ///
    /// # Errors
    /// `Shape` if they are not of one length; `Device` if the driver refuses.
    pub fn copy_from(&mut self, from: View<'_, T>) -> Result<()> {
        crate::error::check_length("copy", "from", from.length, self.length)?;
        // SAFETY: both are `length` long; a view to write overlaps no other.
        unsafe {
            let bytes = self.length * size_of::<T>();
            self.gpu.driver().copy(from.address, self.address, bytes)
        }
    }

    /// Sets every byte.
    ///
    /// # Errors
    /// `Device` if the driver refuses.
    pub fn fill_bytes(&mut self, value: u8) -> Result<()> {
        // SAFETY: the length is its own.
        unsafe { self.gpu.driver().fill(self.address, value, self.length * size_of::<T>()) }
    }
}
