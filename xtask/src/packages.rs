//! Debian packages that tests start real components from: an S3 gateway, Slurm, a browser, Prometheus.
//!
//! Leaves out: starting them (`tests/src/`). Invariant: what is there is not installed again; off
//! Debian, or not as root, what is missing is named and nothing is touched.

use crate::{run as run_command, say};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// A component: the programs that tell whether it is there, and the packages it comes from.
struct Component {
    name: &'static str,
    programs: &'static [&'static str],
    packages: &'static [&'static str],
}

const COMPONENTS: [Component; 7] = [
    Component {
        name: "S3 gateway",
        programs: &["radosgw", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool"],
        packages: &["radosgw", "ceph-mon", "ceph-osd", "ceph-common"],
    },
    Component {
        name: "Slurm",
        programs: &["slurmctld", "slurmd", "sbatch", "munged"],
        packages: &["slurm-wlm", "munge"],
    },
    Component {
        name: "browser",
        programs: &["chromium", "chromedriver"],
        packages: &["chromium", "chromium-driver"],
    },
    Component {
        name: "Prometheus",
        programs: &["prometheus", "promtool"],
        packages: &["prometheus"],
    },
    Component { name: "host emulator of CUDA kernels", programs: &["g++"], packages: &["g++"] },
    Component { name: "kubectl", programs: &["kubectl"], packages: &["kubernetes-client"] },
    Component { name: "network namespaces", programs: &["ip"], packages: &["iproute2"] },
];

/// Installs what is missing where that is possible.
///
/// # Errors
/// With the names of what is missing when nothing can be installed or installing failed.
pub(crate) fn install() -> Result<()> {
    let missing: Vec<_> = COMPONENTS.iter().filter(|part| !part.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|part| part.name).collect();
    let packages: Vec<_> = missing.iter().flat_map(|part| part.packages).copied().collect();
    say(&format!("tests use {}: apt-get install {}", names.join(", "), packages.join(" ")));
    apt_install(&packages)?;
    let missing = COMPONENTS.iter().filter(|part| !part.is_there()).map(|part| part.name);
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() { Ok(()) } else { bail!("not there: {}", missing.join(", ")) }
}

/// Installs Debian packages, as root only.
///
/// # Errors
/// When this is not Debian, not root, or apt fails.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    let root = succeeds(Command::new("sh").args(["-c", "test \"$(id -u)\" = 0"]));
    if !root || !Path::new("/usr/bin/apt-get").exists() {
        bail!("not root on Debian, so nothing is installed");
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        run_command(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

/// Whether a command ends well; what it prints is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

impl Component {
    fn is_there(&self) -> bool {
        // Servers lie in folders that an ordinary user's path leaves out.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        self.programs
            .iter()
            .all(|program| path.split(':').any(|folder| Path::new(folder).join(program).is_file()))
    }
}
