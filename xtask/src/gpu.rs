//! `cargo xtask gpu`: one file that proves and measures the kernels on a machine with a GPU and nothing of ours.
//!
//! Leaves out: that machine. Invariant: the bundle holds all that `run.sh` needs but the driver, CUDA's libraries and Python, and,
//! where it is bare, a checkout; it stays small enough to be carried.

use crate::{forget_package, run as run_command, say};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = include_str!("gpu/run.sh");
const TABLE: &str = include_str!("gpu/table.py");

/// Bytes that a whole bundle may have, and one that is carried beside a checkout.
const BYTES_MAX: u64 = 60 << 20;
const BARE_BYTES_MAX: u64 = 14 << 20;

/// What xz is told: one stream, as executables repeat each other farther apart than presets look back; Python unpacks it too,
/// where a bare machine has no xz.
const XZ: &str = "-T1 --x86 --lzma2=preset=9e,dict=128MiB";

/// Packages that are built together, so that each of their dependencies is built once.
const PACKAGES: [&str; 4] = ["glmeval-kernels", "glmeval-worker", "glmeval-tests", "glmeval"];

/// What is tested: kind and name of a target of cargo's, and its name in the bundle.
const TESTS: [(&str, &str, &str); 4] = [
    ("lib", "glmeval_kernels", "kernels-tests"),
    ("lib", "glmeval_worker", "worker-tests"),
    ("test", "golden_models", "golden-models"),
    ("test", "golden_networks", "golden-networks"),
];

/// Programs, likewise.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("bin", "glmeval", "glmeval"),
    ("example", "gpu_bench", "gpu_bench"),
    ("example", "network_rate", "network_rate"),
];

/// The program that `run.sh` does without.
const SPARED: &str = "bin/glmeval";

/// Files that tests read, by their path in the repository.
const FIXTURES: [&str; 3] = ["tests/golden/models", "tests/golden/probes", "examples/models"];

/// Folders that tests pass on the way to their fixtures.
const PASSED: [&str; 2] = ["worker", "kernels"];

/// Programs that measure PyTorch.
const PEERS: [&str; 2] = ["bench/peers/gpu.py", "bench/peers/amx.py"];

/// What is to be packed.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    profile: String,
    /// Without fixtures and peers, for a machine that has a checkout.
    is_bare: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { profile: "release".to_owned(), is_bare: false };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match (word.as_str(), words.as_slice()) {
                ("--bare", _) => options.is_bare = true,
                ("--profile", [profile, ..]) => {
                    options.profile.clone_from(profile);
                    words.next();
                }
                _ => bail!("expected --bare or --profile NAME, found {arguments:?}"),
            }
        }
        Ok(options)
    }
}

pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let Options { profile, is_bare } = Options::parse(arguments)?;
    let target = root.join("target/gpu");
    let folder = target.join("glmeval-gpu");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let binaries = folder.join("bin");
    std::fs::create_dir_all(&binaries)?;
    place(root, &profile, &["test", "--no-run", "--lib"], &TESTS, &binaries)?;
    place(root, &profile, &["build"], &PROGRAMS, &binaries)?;
    if !is_bare {
        add_repository(root, &folder.join("repository"))?;
    }
    // Tests know their fixtures by the path they were compiled at; the script makes it lead here.
    std::fs::write(folder.join("root"), root.display().to_string())?;
    std::fs::write(folder.join("revision"), revision(root))?;
    std::fs::write(folder.join("run.sh"), SCRIPT)?;
    std::fs::write(folder.join("table.py"), TABLE)?;
    let (name, bytes_max) = match is_bare {
        true => ("glmeval-gpu-bare.tar.xz", BARE_BYTES_MAX),
        false => ("glmeval-gpu.tar.xz", BYTES_MAX),
    };
    let archive = target.join(name);
    list(&folder, "")?;
    let mut bytes = pack(&target, &archive)?;
    if is_bare && bytes > bytes_max {
        say(&format!("{SPARED} is left out: with it {bytes} bytes, expected {bytes_max} at most"));
        std::fs::remove_file(folder.join(SPARED))?;
        bytes = pack(&target, &archive)?;
    }
    say(&format!("{}: {bytes} bytes, {bytes_max} at most", archive.display()));
    say(&format!("there: python3 -m tarfile -e {name} && bash glmeval-gpu/run.sh"));
    if bytes > bytes_max {
        let place = archive.display();
        bail!(
            "expected at most {bytes_max} bytes, found {bytes}; {place} is whole and may be used"
        );
    }
    Ok(())
}

/// What tests and peers read of the repository.
fn add_repository(root: &Path, to: &Path) -> Result<()> {
    for path in FIXTURES.iter().chain(&PEERS) {
        copy(&root.join(path), &to.join(path))?;
    }
    for path in PASSED {
        std::fs::create_dir_all(to.join(path))?;
    }
    Ok(())
}

/// The commit that is packed, for people; empty where git does not say.
fn revision(root: &Path) -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(root)
        .output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Prints the bytes of each file, those of the repository by what was asked for.
fn list(folder: &Path, within: &str) -> Result<()> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.join(within))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for name in names {
        let path = if within.is_empty() { name } else { format!("{within}/{name}") };
        let known = path.strip_prefix("repository/").unwrap_or(&path);
        let is_listed = FIXTURES.contains(&known);
        if folder.join(&path).is_dir() && !is_listed {
            list(folder, &path)?;
        } else {
            say(&format!("{:>12} bytes  {path}", bytes_of(&folder.join(&path))?));
        }
    }
    Ok(())
}

fn bytes_of(path: &Path) -> Result<u64> {
    if !path.is_dir() {
        return Ok(std::fs::metadata(path)?.len());
    }
    std::fs::read_dir(path)?.map(|entry| bytes_of(&entry?.path())).sum()
}

/// Packs the bundle; the bytes it takes.
fn pack(target: &Path, archive: &Path) -> Result<u64> {
    let mut pack = Command::new("tar");
    pack.env("XZ_OPT", XZ).args(["--sort=name", "-cJf"]).arg(archive);
    run_command(pack.arg("-C").arg(target).arg("glmeval-gpu"))?;
    Ok(std::fs::metadata(archive)?.len())
}

/// Builds targets and puts them into a folder without symbols.
fn place(
    root: &Path,
    profile: &str,
    words: &[&str],
    targets: &[(&str, &str, &str)],
    folder: &Path,
) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(words).args(["--profile", profile, "--locked", "--message-format", "json"]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    for (kind, name, _) in targets.iter().filter(|(kind, ..)| *kind != "lib") {
        command.arg(format!("--{kind}")).arg(name);
    }
    say(&format!("$ {command:?}"));
    command.current_dir(root).stderr(std::process::Stdio::inherit());
    let output = forget_package(&mut command).output()?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout).context("cargo's messages")?;
    for (kind, name, to) in targets {
        let built = text.lines().find_map(|message| executable(message, kind, name));
        let built = built.with_context(|| format!("{command:?} made no {kind} {name}"))?;
        let mut strip = Command::new("strip");
        run_command(strip.arg("-o").arg(folder.join(to)).arg(built))?;
    }
    Ok(())
}

/// The executable of a target, if a message of cargo's names it.
fn executable(message: &str, kind: &str, name: &str) -> Option<PathBuf> {
    let target = format!("\"kind\":[\"{kind}\"]");
    let name = format!("\"name\":\"{name}\"");
    if !message.contains(&target) || !message.contains(&name) {
        return None;
    }
    let (_, rest) = message.split_once("\"executable\":\"")?;
    Some(PathBuf::from(rest.split_once('"')?.0))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_of_a_target_is_found() {
        let message =
            r#"{"target":{"kind":["lib"],"name":"a"},"executable":"/a/b-1","fresh":true}"#;
        assert_eq!(executable(message, "lib", "a"), Some(PathBuf::from("/a/b-1")));
        assert_eq!(executable(message, "lib", "b"), None);
        assert_eq!(executable(message, "test", "a"), None);
        let library = r#"{"target":{"kind":["lib"],"name":"a"},"executable":null}"#;
        assert_eq!(executable(library, "lib", "a"), None);
    }

    #[test]
    fn what_is_bundled_is_there() {
        let root = crate::root();
        for path in FIXTURES.iter().chain(&PEERS).chain(&PASSED) {
            assert!(root.join(path).exists(), "{path}");
        }
    }

    #[test]
    fn words_are_taken_in_any_order() {
        let parse = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Options::parse(&words).ok()
        };
        let options =
            |profile: &str, is_bare| Some(Options { profile: profile.to_owned(), is_bare });
        assert_eq!(parse(&[]), options("release", false));
        assert_eq!(parse(&["--bare"]), options("release", true));
        assert_eq!(parse(&["--profile", "dev", "--bare"]), options("dev", true));
        assert_eq!(parse(&["--profile"]), None);
        assert_eq!(parse(&["dev"]), None);
    }

    #[test]
    fn tests_that_the_script_leaves_out_are_there() {
        let root = crate::root();
        let (_, skipped) = SCRIPT.split_once("emulated_only=(").expect("a list of tests");
        let (skipped, _) = skipped.split_once(')').expect("its end");
        let mut count = 0;
        for line in skipped.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (file, name) =
                line.split_once("  # ").map(|(name, file)| (file, name)).expect(line);
            let text = std::fs::read_to_string(root.join(file)).expect(file);
            let last = name.rsplit("::").next().expect(name);
            let is_there =
                ["fn", "mod"].iter().any(|word| text.contains(&format!("{word} {last}")));
            assert!(is_there, "{name} in {file}");
            count += 1;
        }
        assert!(count > 5);
    }

    /// Tests of which one breaks the device for those behind it in the same process, in libtest's words.
    const SUITE: &str = r#"
        names="cuda::tests::passes cuda::tests::breaks cuda::tests::follows"
        for word in "$@"; do
            case $word in
                --list) printf '%s: test\n' $names; exit ;;
                cuda::tests::*) only="$only $word" ;;
            esac
        done
        case "$*" in *--exact*) names=$only ;; esac
        for name in $names; do
            printf 'test %s ... words of a test\n' "$name"
            [ "$name" = cuda::tests::breaks ] && [ -n "$BREAKS" ] && broken=1
            [ -z "$broken" ] && echo ok || echo FAILED
            [ -n "$broken" ] && [ "$BREAKS" = abort ] && exit 134
        done
        echo "test result: of all"
        [ -z "$broken" ] || exit 101"#;

    const BENCH: &str = r#"
        case "$*" in
            *--suites*) echo layer_norm ;;
            *--open*) [ -n "$GPU" ] && echo "a device" || { echo "no driver"; exit 1; } ;;
            *) echo '{"case": "a", "dtype": "f32", "median_ms": 1.0}' ;;
        esac"#;

    /// Exit code, summary and what was printed of the script, beside programs of shell and in a folder with fixtures.
    fn played(words: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
        let place = tempfile::tempdir().unwrap();
        let (bundle, checkout) = (place.path().join("bundle"), place.path().join("checkout"));
        std::fs::create_dir_all(bundle.join("bin")).unwrap();
        std::fs::create_dir_all(checkout.join("tests/golden/models")).unwrap();
        std::fs::write(bundle.join("run.sh"), SCRIPT).unwrap();
        std::fs::write(bundle.join("root"), place.path().join("at/root").display().to_string())
            .unwrap();
        let suites = TESTS.map(|(.., name)| (name, SUITE));
        let programs = [("gpu_bench", BENCH), ("network_rate", "true"), ("glmeval", "true")];
        for (name, text) in suites.into_iter().chain(programs) {
            let path = bundle.join("bin").join(name);
            std::fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(path, mode).unwrap();
        }
        let mut script = Command::new("bash");
        script.arg(bundle.join("run.sh")).args(words).current_dir(&checkout);
        for name in ["OUT", "RESULTS", "REPOSITORY"] {
            script.env_remove(name);
        }
        script.env("PYTHON", "false").envs(environment.iter().copied());
        let output = script.output().unwrap();
        let summary = std::fs::read_to_string(bundle.join("summary.txt")).unwrap_or_default();
        assert_eq!(bundle.join("results.tgz").exists(), !summary.is_empty());
        (output.status.code(), summary, String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn a_script_whose_steps_pass_ends_with_0_and_tells_each() {
        let (code, summary, said) = played(&["parity", "ours"], &[("GPU", "1")]);
        assert_eq!(code, Some(0), "{said}");
        let lines = summary.lines().filter(|line| line.contains(" passed  "));
        assert_eq!(lines.count(), 1 + 2 + 5 + 2, "{summary}");
        assert!(summary.contains("passed 3, failed 0, unfinished 0, not begun 0"), "{summary}");
    }

    #[test]
    fn a_test_that_fails_beside_others_only_is_told_from_one_that_fails_alone() {
        let (code, summary, said) = played(&["parity"], &[("GPU", "1"), ("BREAKS", "device")]);
        assert_eq!(code, Some(1), "{said}");
        for line in [
            "passed 1, failed 2, unfinished 0, not begun 0",
            "FAILS ALONE with 101  cuda::tests::breaks",
            "passes alone          cuda::tests::follows",
        ] {
            assert_eq!(summary.matches(line).count(), 5, "{line} in {summary}");
        }
    }

    #[test]
    fn tests_behind_one_that_ends_the_process_are_run_after_all() {
        let (code, summary, said) = played(&["parity"], &[("GPU", "1"), ("BREAKS", "abort")]);
        assert_eq!(code, Some(1), "{said}");
        let counts = "passed 2, failed 1, unfinished 0, not begun 0";
        assert_eq!(summary.matches(counts).count(), 5, "{summary}");
    }

    #[test]
    fn without_a_gpu_the_script_does_what_needs_none_and_ends_with_3() {
        let (code, summary, said) = played(&[], &[]);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("no GPU can be used: no driver"), "{said}");
        assert!(summary.contains("cpu-models") && !summary.contains("parity-models"), "{summary}");
    }

    #[test]
    fn a_word_it_does_not_know_and_fixtures_that_are_not_there_end_the_script_with_2() {
        assert_eq!(played(&["bench"], &[]).0, Some(2));
        assert_eq!(played(&["cpu"], &[("REPOSITORY", "/nowhere")]).0, Some(2));
    }

    #[test]
    fn what_a_word_has_no_time_for_is_unfinished() {
        let (code, summary, said) = played(&["ours"], &[("GPU", "1"), ("SECONDS_MAX", "4")]);
        assert_eq!(code, Some(1), "{said}");
        assert!(summary.contains("ours-first-layer_norm    unfinished 124"), "{summary}");
    }
}
