//! Which crate of ours may depend on which.

use anyhow::Result;
use std::path::Path;

/// Crate and what it may depend on; test-only edges included.
const ALLOWED: [(&str, &[&str]); 8] = [
    ("common", &[]),
    ("kernels", &[]),
    ("worker", &["common", "kernels"]),
    ("coordinator", &["common"]),
    ("cli", &["common", "coordinator", "worker"]),
    ("tests", &["common", "kernels", "worker", "coordinator", "cli"]),
    ("xtask", &[]),
    ("fuzz", &["common", "worker"]),
];

pub(super) fn check(root: &Path, complaints: &mut Vec<String>) -> Result<()> {
    for (krate, allowed) in ALLOWED {
        let path = root.join(krate).join("Cargo.toml");
        if !path.exists() {
            continue;
        }
        for line in std::fs::read_to_string(path)?.lines() {
            let Some(rest) = line.trim().strip_prefix("glmeval-") else { continue };
            let end =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
            let target = &rest[..end];
            if !allowed.contains(&target) {
                complaints.push(format!("{krate} must not depend on {target}"));
            }
        }
    }
    Ok(())
}
