//! Where a gLM runs: what a user may name, the device itself, and what it can compute.
//!
//! Leaves out: which operations there are (`kernels`). Invariant: only loading asks for the device; what is loaded knows its own;
//! without being asked for, no device but the CPU is used.

use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::limits::TOKENS_PER_BATCH_MAX;
use glmeval_common::model::{MemoryFacts, Precision};
use glmeval_kernels::cuda::{Gpu, GpuOptions};
use glmeval_kernels::error::KernelError;
use std::error::Error as StdError;
use std::path::PathBuf;
use std::str::FromStr;

mod survey;

pub use survey::{Finding, survey};

/// Tokens packed into one forward pass on a device: enough to fill it, few enough for scratch memory.
const DEVICE_TOKENS_PER_BATCH_MAX: u64 = 32_768;

/// A device.
#[derive(Clone, Debug, Default)]
pub enum Device {
    /// The threads of the caller's pool.
    #[default]
    Cpu,
    /// A CUDA device, or the emulator.
    Cuda(Gpu),
}

impl Device {
    /// The middle part of a numeric class: `cpu`, `cuda-sm90`, `cuda-emulated`.
    pub fn kind(&self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(gpu) => match gpu.properties().arch {
                0 => "cuda-emulated".to_owned(),
                arch => format!("cuda-sm{arch}"),
            },
        }
    }

    /// Its name, for people; `None` for the CPU.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Cpu => None,
            Self::Cuda(gpu) => Some(&gpu.properties().name),
        }
    }

    /// The number formats it multiplies in.
    pub fn precisions(&self) -> &'static [Precision] {
        match self {
            Self::Cpu => &[Precision::F32, Precision::Bf16],
            Self::Cuda(_) => &[Precision::F32, Precision::Tf32, Precision::Bf16],
        }
    }

    /// Refuses a number format that it does not multiply in.
    ///
    /// # Errors
    /// `Invalid` that names the format and the device.
    pub fn check_precision(&self, precision: Precision) -> Result<()> {
        if self.precisions().contains(&precision) {
            return Ok(());
        }
        let names: Vec<_> = self.precisions().iter().map(|precision| precision.name()).collect();
        let expected = format!("one of {} on {}", names.join(", "), self.kind());
        Err(InputError::new("model", "precision", expected, precision.name()).into())
    }

    /// Every numeric class it can compute in.
    pub fn numeric_classes(&self) -> Vec<String> {
        let kind = self.kind();
        self.precisions()
            .iter()
            .map(|precision| crate::numeric_class_on(&kind, *precision))
            .collect()
    }

    /// Tokens of one forward pass of a gLM whose weights are in place.
    ///
    /// The need of a token is that of the CPU's form, so this is where to begin: a batch that does not fit is halved.
    pub(crate) fn tokens_per_batch_max(&self, memory: &MemoryFacts) -> usize {
        let Self::Cuda(gpu) = self else { return TOKENS_PER_BATCH_MAX };
        if gpu.properties().arch == 0 {
            return TOKENS_PER_BATCH_MAX;
        }
        let (free, _) = gpu.memory().unwrap_or_default();
        let fitting = (free / 10 * 9) / memory.per_token.max(1);
        fitting.clamp(1, DEVICE_TOKENS_PER_BATCH_MAX) as usize
    }
}

/// Devices as a user names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// `cpu`, and `auto` for now.
    #[default]
    Cpu,
    /// `cuda`, `cuda:1`, `cuda:0,1`: NVIDIA devices of this machine.
    Cuda(Vec<usize>),
    /// `emulated`: kernels run on the host, slowly, for tests.
    Emulated,
    /// `cuda-sm90`: a kind of device, for what a cluster's workers compute.
    Kind(u32),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!("expected cpu, cuda, cuda:N, cuda:N,M, emulated or cuda-smNN, found {text:?}")
        };
        match text {
            "cpu" | "auto" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(vec![0])),
            "emulated" => return Ok(Self::Emulated),
            _ => {}
        }
        if let Some(arch) = text.strip_prefix("cuda-sm") {
            return arch.parse().ok().filter(|arch| *arch > 0).map(Self::Kind).ok_or_else(refused);
        }
        let list = text.strip_prefix("cuda:").ok_or_else(refused)?;
        let mut ordinals = Vec::new();
        for ordinal in list.split(',') {
            let ordinal = ordinal.parse().map_err(|_| refused())?;
            if ordinals.contains(&ordinal) {
                return Err(format!("expected each device once, found {text:?}"));
            }
            ordinals.push(ordinal);
        }
        Ok(Self::Cuda(ordinals))
    }
}

impl DeviceChoice {
    /// Opens the devices; all are of one kind, so that all compute in the same numeric classes.
    ///
    /// # Errors
    /// `Invalid` for a device that is not there, with what is missing, or for devices of two kinds.
    pub fn open(&self) -> Result<Vec<Device>> {
        let refused = |name: String, error: KernelError| match &error {
            KernelError::NoDevice { .. } => {
                Error::invalid(format!("--device {name}")).with_source(error)
            }
            _ => device_error(error),
        };
        let devices = match self {
            Self::Cpu => vec![Device::Cpu],
            Self::Emulated => {
                let gpu = Gpu::emulated().map_err(|e| refused("emulated".to_owned(), e))?;
                vec![Device::Cuda(gpu)]
            }
            Self::Cuda(ordinals) => {
                let options = GpuOptions { cache: kernel_cache(), memory_max: None };
                let open = |ordinal: &usize| {
                    let gpu = Gpu::open(*ordinal, &options).map(Device::Cuda);
                    gpu.map_err(|e| refused(format!("cuda:{ordinal}"), e))
                };
                ordinals.iter().map(open).collect::<Result<_>>()?
            }
            Self::Kind(_) => {
                let expected = "a device of this machine: cpu, cuda, cuda:N or emulated";
                return Err(InputError::new("--device", "", expected, self.kind()?).into());
            }
        };
        let kinds: Vec<String> = devices.iter().map(Device::kind).collect();
        if kinds.windows(2).any(|pair| pair[0] != pair[1]) {
            let expected = "devices of one kind, as their numbers differ in the last bits";
            return Err(InputError::new("--device", "", expected, kinds.join(", ")).into());
        }
        Ok(devices)
    }

    /// What it is in a numeric class; asks the device unless the kind itself was named.
    ///
    /// # Errors
    /// As [`DeviceChoice::open`].
    pub fn kind(&self) -> Result<String> {
        match self {
            Self::Cpu => Ok(Device::Cpu.kind()),
            Self::Emulated => Ok("cuda-emulated".to_owned()),
            Self::Kind(arch) => Ok(format!("cuda-sm{arch}")),
            Self::Cuda(_) => Ok(self.open()?.first().map_or_else(String::new, Device::kind)),
        }
    }
}

/// Folder of compiled kernels: `GLMEVAL_KERNEL_CACHE`, else below `XDG_CACHE_HOME` or `~/.cache`; `None` if none is named.
pub fn kernel_cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    folder("GLMEVAL_KERNEL_CACHE")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("glmeval/kernels")))
        .or_else(|| Some(folder("HOME")?.join(".cache/glmeval/kernels")))
}

/// What a device's error means to the caller: a device that is full, lost or absent may serve another time or elsewhere; all
/// else is a defect of ours.
pub fn device_error(error: KernelError) -> Error {
    match &error {
        KernelError::NoDevice { .. }
        | KernelError::OutOfMemory { .. }
        | KernelError::Device { .. } => Error::unavailable("device").with_source(error),
        KernelError::Shape { .. } | KernelError::Compile { .. } => {
            Error::bug("device").with_source(error)
        }
    }
}

/// Whether an error comes from a device that is full.
pub fn is_out_of_memory(error: &Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(KernelError::OutOfMemory { .. }) = cause.downcast_ref::<KernelError>() {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_users_know_them() {
        let parse = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(parse("cpu"), Ok(DeviceChoice::Cpu));
        assert_eq!(parse("cuda"), Ok(DeviceChoice::Cuda(vec![0])));
        assert_eq!(parse("cuda:2,0"), Ok(DeviceChoice::Cuda(vec![2, 0])));
        assert_eq!(parse("cuda-sm90"), Ok(DeviceChoice::Kind(90)));
        for text in ["gpu", "cuda:", "cuda:0,0", "cuda:a", "cuda-sm", "cuda:-1", "CUDA"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_device_computes_in_classes_of_its_own() {
        let cpu = Device::Cpu.numeric_classes();
        let emulated = DeviceChoice::Emulated.open().unwrap();
        let emulated = emulated[0].numeric_classes();
        assert_eq!(emulated.len(), 3);
        assert!(emulated[0].starts_with("f32.cuda-emulated."), "{emulated:?}");
        assert!(cpu.iter().all(|class| !emulated.contains(class)));
        assert!(Device::Cpu.check_precision(Precision::Tf32).unwrap_err().chain().contains("tf32"));
    }

    #[test]
    fn a_kind_can_be_planned_for_and_not_be_opened() {
        let kind = DeviceChoice::Kind(90);
        assert_eq!(kind.kind().unwrap(), "cuda-sm90");
        assert!(kind.open().unwrap_err().chain().contains("a device of this machine"));
    }

    #[test]
    fn a_full_device_is_told_from_other_failures() {
        let device = "d".to_owned();
        let full = KernelError::OutOfMemory { device, bytes: 1, free: 0, total: 0 };
        assert!(is_out_of_memory(&device_error(full).context("layer 3")));
        let absent = KernelError::NoDevice { device: "d".to_owned(), reason: String::new() };
        assert!(!is_out_of_memory(&device_error(absent)));
    }
}
