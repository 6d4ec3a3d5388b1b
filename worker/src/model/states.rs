//! States and logits where a network left them: in host memory or on a device.
//!
//! Leaves out: what is made of them. Invariant: whoever reads them on the host has the bits that the device has.

use crate::device::device_error;
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{DeviceArray, View};
use glmeval_kernels::ops::pool::cuda::{Spans, pool_rows};
use std::borrow::Cow;
use std::ops::Range;

/// Rows of f32 values.
#[derive(Clone, Copy)]
pub enum States<'a> {
    /// In host memory.
    Host(&'a [f32]),
    /// On the device that computed them.
    Device(View<'a, f32>),
}

/// What takes the states of a layer; its error ends the pass.
pub type Sink<'a> = dyn FnMut(u32, States<'_>) -> Result<()> + 'a;

/// What takes logits.
pub type LogitsSink<'a> = dyn FnMut(States<'_>) -> Result<()> + 'a;

impl<'a> States<'a> {
    /// Values of all rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(values) => values.len(),
            Self::Device(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their values in host memory, copied from the device if they are there.
    ///
    /// # Errors
    /// `Unavailable` if the device fails.
    pub fn on_host(&self) -> Result<Cow<'a, [f32]>> {
        match self {
            Self::Host(values) => Ok(Cow::Borrowed(values)),
            Self::Device(values) => values.to_vec().map(Cow::Owned).map_err(device_error),
        }
    }

    /// The values `part`.
    ///
    /// # Errors
    /// `Bug` if they are not there.
    pub fn part(&self, part: Range<usize>) -> Result<Self> {
        let length = self.len();
        let past = || Error::bug(format!("expected {length} values of states, found {part:?}"));
        if part.start > part.end || part.end > length {
            return Err(past());
        }
        Ok(match self {
            Self::Host(values) => Self::Host(values.get(part.clone()).ok_or_else(past)?),
            Self::Device(values) => Self::Device(values.part(part)),
        })
    }

    /// A copy of the rows `rows` of `width` values, where they are.
    ///
    /// # Errors
    /// `Invalid` for a row that is not there; `Unavailable` if the device fails.
    pub fn rows(&self, rows: &[usize], width: usize) -> Result<KeptStates> {
        let count = self.len().checked_div(width).unwrap_or(0);
        if let Some(row) = rows.iter().find(|row| **row >= count) {
            return Err(Error::invalid(format!("expected a token below {count}, found {row}")));
        }
        match self {
            Self::Host(values) => {
                let of_row = |&row: &usize| values.get(row * width..(row + 1) * width);
                let kept = rows.iter().filter_map(of_row).flatten().copied();
                Ok(KeptStates::Host(kept.collect()))
            }
            Self::Device(values) => {
                // The mean of one row is that row.
                let spans: Vec<_> = rows.iter().map(|&row| row..row + 1).collect();
                let gathered = Spans::new(values.gpu(), &spans).and_then(|spans| {
                    let mut kept = DeviceArray::new(values.gpu(), rows.len() * width)?;
                    pool_rows::<f32>(*values, &spans, &mut kept.view_mut())?;
                    Ok(kept)
                });
                gathered.map(KeptStates::Device).map_err(device_error)
            }
        }
    }
}

/// States that outlive the pass they come from.
pub enum KeptStates {
    /// In host memory.
    Host(Vec<f32>),
    /// On the device that computed them.
    Device(DeviceArray<f32>),
}

impl KeptStates {
    /// To read them.
    pub fn states(&self) -> States<'_> {
        match self {
            Self::Host(values) => States::Host(values),
            Self::Device(values) => States::Device(values.view()),
        }
    }
}
