//! What this machine is called.

/// The kernel's name for this machine.
pub(crate) fn host() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = read.map(|name| name.trim().to_owned()).unwrap_or_default();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// The scheduler's name for this machine where one runs, the kernel's elsewhere.
pub(crate) fn node() -> String {
    let slurm = std::env::var("SLURMD_NODENAME").ok().filter(|name| !name.is_empty());
    slurm.unwrap_or_else(host)
}
