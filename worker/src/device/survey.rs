//! What this machine has of devices, told line by line.
//!
//! Leaves out: using them. Invariant: what is not there is told and is no failure; a device that is there and computes wrong is one.

use super::{Device, DeviceChoice, kernel_cache};
use glmeval_kernels::cuda;
use glmeval_kernels::error::KernelError;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// Whether nothing is wrong with it.
    pub passed: bool,
    /// What was found, or why not.
    pub found: String,
}

fn found(name: &'static str, found: Result<String, KernelError>) -> Finding {
    let found = found.unwrap_or_else(|error| format!("none: {error}"));
    Finding { name, passed: true, found }
}

/// Looks at driver, libraries, devices and emulator; compiles and runs a small kernel on each device.
pub fn survey() -> Vec<Finding> {
    let driver = cuda::driver_version();
    let mut findings =
        vec![found("NVIDIA driver", driver.map(|version| format!("for CUDA {version}")))];
    findings.push(found("NVRTC", cuda::nvrtc_version()));
    findings.push(found("cuBLASLt", cuda::cublaslt_version()));
    let cache = kernel_cache()
        .map_or("none: kernels are compiled anew by each process".to_owned(), |folder| {
            folder.display().to_string()
        });
    findings.push(found("kernel cache", Ok(cache)));
    for ordinal in 0..cuda::device_count().unwrap_or(0) {
        findings.push(device(ordinal));
    }
    let emulator = cuda::Gpu::emulated().map(|gpu| gpu.properties().compiler.clone());
    findings.push(found("emulator", emulator));
    findings
}

/// A device, and whether it computes.
fn device(ordinal: usize) -> Finding {
    let opened = DeviceChoice::Cuda(vec![ordinal]).open();
    let (passed, found) = match opened.as_deref() {
        Ok([Device::Cuda(gpu)]) => {
            let properties = gpu.properties();
            let (free, total) = gpu.memory().unwrap_or_default();
            let gib = |bytes: u64| bytes as f64 / (1_u64 << 30) as f64;
            let about = format!(
                "cuda:{ordinal} {}, sm_{}, {} multiprocessors, {:.1} of {:.1} GiB free",
                properties.name,
                properties.arch,
                properties.multiprocessors,
                gib(free),
                gib(total)
            );
            match gpu.check_itself() {
                Ok(()) => (true, format!("{about}; a kernel ran")),
                Err(error) => (false, format!("{about}; a kernel failed: {error}")),
            }
        }
        Ok(_) => (true, format!("cuda:{ordinal}: not opened")),
        // Not an error of the machine: without a library it is used as a CPU.
        Err(error) => (true, format!("cuda:{ordinal} cannot be used: {}", error.chain())),
    };
    Finding { name: "GPU", passed, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_device_is_told_calmly() {
        let findings = survey();
        let names: Vec<_> = findings.iter().map(|finding| finding.name).collect();
        assert_eq!(names[..4], ["NVIDIA driver", "NVRTC", "cuBLASLt", "kernel cache"]);
        assert_eq!(names.last(), Some(&"emulator"));
        assert!(findings.iter().all(|finding| finding.passed && !finding.found.is_empty()));
    }
}
