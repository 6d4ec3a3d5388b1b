//! `cargo xtask fuzz`: feeds readers with what libFuzzer makes up, guided by the code it reaches.
//!
//! Leaves out: the readers (`fuzz/src/targets.rs`). Invariant: needs the stable compiler and a C++
//! compiler only; the flags are those of cargo-fuzz, without a sanitizer.

mod seeds;

use crate::{run as run_command, say};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

const USAGE: &str = "cargo xtask fuzz [NAME …] [--seconds N]";
/// Seconds that a target is run where nothing else is said.
const SECONDS: u64 = 300;
/// What makes the compiler count edges and compared values.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Memory of a process in MiB, seconds of one input, and bytes of one input that count as too many.
const LIMITS: [&str; 3] = ["-rss_limit_mb=2048", "-timeout=10", "-max_len=131072"];

pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let (names, seconds) = parse(arguments)?;
    let host = host()?;
    let folder = root.join("target/fuzz");
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--locked", "--target", &host]);
    // Build scripts and macros run uninstrumented, as they are for the host and not for a target.
    build.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &folder);
    run_command(build.current_dir(root.join("fuzz")))?;
    for name in names {
        let corpus = folder.join("corpus").join(name);
        let artifacts = folder.join("artifacts").join(name);
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&artifacts)?;
        let (_, ends) = seeds::ALL.iter().find(|(known, _)| *known == name).context(USAGE)?;
        for (index, seed) in seeds::files(root, ends).iter().enumerate() {
            std::fs::copy(seed, corpus.join(format!("seed-{index}")))?;
        }
        say(&format!("fuzz {name}: corpus in {}", corpus.display()));
        let mut command = Command::new(folder.join(&host).join("release/readers"));
        command.env("GLMEVAL_FUZZ", name).args(LIMITS);
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        run_command(command.arg("-print_final_stats=1").arg(&corpus).current_dir(root))?;
    }
    Ok(())
}

/// Names of targets, all if none is given, and seconds of each.
fn parse(arguments: &[String]) -> Result<(Vec<&str>, u64)> {
    let (mut names, mut seconds) = (Vec::new(), SECONDS);
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            "--seconds" => seconds = rest.next().context(USAGE)?.parse().context(USAGE)?,
            name if seeds::ALL.iter().any(|(known, _)| *known == name) => names.push(name),
            other => {
                let known = seeds::ALL.map(|(name, _)| name).join(", ");
                bail!("{USAGE}, found {other:?}; targets: {known}");
            }
        }
    }
    if names.is_empty() {
        names = seeds::ALL.map(|(name, _)| name).to_vec();
    }
    Ok((names, seconds))
}

/// The compiler's own target.
fn host() -> Result<String> {
    let told = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8(told.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV: no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{SECONDS, parse, seeds};

    #[test]
    fn targets_are_those_named_or_all() {
        let parsed = |text: &str| {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            parse(&words).ok().map(|(names, seconds)| (names.join(" "), seconds))
        };
        assert_eq!(parsed("vcf bed --seconds 5"), Some(("vcf bed".to_owned(), 5)));
        let all = seeds::ALL.map(|(name, _)| name).join(" ");
        assert_eq!(parsed(""), Some((all, SECONDS)));
        for text in ["--seconds", "--seconds x", "vfc"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
