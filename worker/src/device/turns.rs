//! One device between the units that this process runs at a time.
//!
//! Leaves out: other processes on the device. Invariant: while a unit records what it tells the device, and while it fills the
//! device's memory with examples, no other unit tells it anything.

use super::Device;
use crate::attempt::UnitContext;
use glmeval_common::error::Result;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A device that units of this process take turns on.
#[derive(Debug, Default)]
pub(crate) struct SharedDevice {
    device: Device,
    turns: RwLock<()>,
}

impl SharedDevice {
    /// Nobody is on it yet.
    pub(crate) fn new(device: Device) -> Self {
        Self { device, turns: RwLock::new(()) }
    }

    /// The device.
    pub(crate) fn get(&self) -> &Device {
        &self.device
    }

    /// Waits until no unit has it alone; the CPU is nobody's.
    ///
    /// # Errors
    /// `Unavailable` once told to stop.
    pub(crate) async fn beside_others(
        &self,
        context: &UnitContext<'_>,
    ) -> Result<Option<RwLockReadGuard<'_, ()>>> {
        self.wait(context, self.turns.read()).await
    }

    /// Waits until no other unit is on it.
    ///
    /// # Errors
    /// `Unavailable` once told to stop.
    pub(crate) async fn alone(
        &self,
        context: &UnitContext<'_>,
    ) -> Result<Option<RwLockWriteGuard<'_, ()>>> {
        self.wait(context, self.turns.write()).await
    }

    async fn wait<T>(
        &self,
        context: &UnitContext<'_>,
        turn: impl Future<Output = T>,
    ) -> Result<Option<T>> {
        if let Device::Cpu = self.device {
            return Ok(None);
        }
        tokio::select! {
            biased;
            turn = turn => Ok(Some(turn)),
            _ = context.stop().stopped() => context.check_stop().map(|()| None),
        }
    }
}
