//! The Dockerfile, read: no container engine runs where these tests do.
//!
//! Leaves out: whether it builds; nobody has seen that. Invariant: what it copies is there, and enough
//! for cargo to resolve the workspace.

use crate::{root, text};
use std::process::Command;

fn lines(instruction: &str) -> Vec<String> {
    let joined = text("Dockerfile").replace("\\\n", " ");
    let wanted = format!("{instruction} ");
    let lines = joined.lines().filter_map(|line| line.strip_prefix(&wanted));
    lines.map(str::to_owned).collect()
}

#[test]
fn stages_start_from_pinned_bases_or_from_each_other() {
    let mut stages: Vec<String> = Vec::new();
    for line in lines("FROM") {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [base, "AS", name] = words[..] else { panic!("{line}: every stage has a name") };
        let version = base.split_once(':').map(|(_, tag)| tag);
        let pinned = version.is_some_and(|tag| {
            tag.starts_with(|letter: char| letter.is_ascii_digit()) && tag.contains('.')
        });
        assert!(pinned || stages.iter().any(|stage| stage == base), "{base} is not pinned");
        stages.push(name.to_owned());
    }
    assert_eq!(stages, ["build", "nvrtc", "cpu", "gpu"]);
    let cargo = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = cargo.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let rust = format!("rust:{}.", version.unwrap().trim_matches('"'));
    assert!(lines("FROM")[0].starts_with(&rust), "the toolchain that the workspace asks for");
}

#[test]
fn the_program_runs_as_nobody_special_and_hears_signals_itself() {
    assert_eq!(lines("USER"), ["10001:10001"]);
    assert_eq!(lines("ENTRYPOINT"), ["[\"glmeval\"]"]);
    let manifest = text("kubernetes/base/workers.yaml");
    assert!(manifest.contains("runAsUser: 10001") && manifest.contains("fsGroup: 10001"));
}

#[test]
fn no_secret_enters_the_image_and_nothing_is_fetched_unpinned() {
    let dockerfile = text("Dockerfile");
    for word in ["ARG", "ADD", "curl", "wget", "AWS_", "TOKEN", "PASSWORD", "latest"] {
        assert!(!dockerfile.contains(word), "{word}");
    }
    assert!(dockerfile.contains("nvidia-cuda-nvrtc-cu12=="), "the wheel's version is fixed");
}

#[test]
fn what_is_copied_is_there_let_through_and_enough_for_cargo() {
    let ignore = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    let copied = tempfile::tempdir().unwrap();
    for line in lines("COPY").iter().filter(|line| !line.starts_with("--from")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (target, sources) = words.split_last().unwrap();
        for source in sources {
            assert!(root().join(source).exists(), "{source} does not exist");
            let through = |kept: &str| source == &kept || source.starts_with(&format!("{kept}/"));
            let kept = ignore.lines().filter_map(|line| line.strip_prefix('!')).any(through);
            assert!(kept, ".dockerignore keeps {source} out");
            let to = copied.path().join(if *target == "./" { source } else { target });
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            let from = root().join(source);
            let copy = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
            assert!(copy.success());
        }
    }
    let edit = lines("RUN").into_iter().find(|line| line.starts_with("sed ")).unwrap();
    let edited = Command::new("sh").args(["-c", &edit]).current_dir(copied.path()).status();
    assert!(edited.unwrap().success());
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]);
    let output = cargo.current_dir(copied.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
