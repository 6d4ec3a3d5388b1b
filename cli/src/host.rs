//! What the scheduler calls this machine.

use crate::connecting::host_name;

/// Slurm's name for this machine where it runs, the kernel's elsewhere.
pub(crate) fn node() -> String {
    let slurm = std::env::var("SLURMD_NODENAME").ok().filter(|name| !name.is_empty());
    slurm.unwrap_or_else(host_name)
}
