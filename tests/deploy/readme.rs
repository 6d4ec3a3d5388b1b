//! The chapters of `deploy/README.md` that need no cloud, word by word.
//!
//! Invariant: only the job is another one, so that it takes seconds.

use crate::{root, text};
use glmeval_tests::glmeval::binary;
use glmeval_tests::jobs::write_long_job;
use glmeval_tests::results::{check_committed_once, results};
use glmeval_tests::slurm::Slurm;
use std::path::Path;
use tokio::process::Command;

/// The blocks of shell in a chapter, one after another.
fn blocks(chapter: &str) -> String {
    let readme = text("README.md");
    let from = readme.find(&format!("\n## {chapter}\n")).unwrap() + 1;
    let rest = &readme[from..];
    let chapter = &rest[..rest[3..].find("\n## ").map_or(rest.len(), |end| end + 3)];
    let mut found = String::new();
    for part in chapter.split("```sh\n").skip(1) {
        found.push_str(part.split("```").next().unwrap());
    }
    assert!(!found.is_empty());
    found
}

/// Runs `script` as a person's shell would, with job control, stopping at the first failure.
async fn follow(folder: &Path, script: &str, variables: &[(&str, &str)]) -> String {
    let path =
        format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -eum\n{script}")]).current_dir(folder).kill_on_drop(true);
    command.env("PATH", path).envs(variables.iter().copied());
    for name in ["GLMEVAL_COORDINATOR", "GLMEVAL_TLS", "RUST_LOG"] {
        command.env_remove(name);
    }
    let limit = std::time::Duration::from_secs(400);
    let output = tokio::time::timeout(limit, command.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{}\n{}", said[0], said[1]);
    said[0].clone()
}

/// A folder that looks like the repository, with a small job for the example.
fn checkout() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("deploy"), folder.path().join("deploy")).unwrap();
    write_long_job(folder.path(), 120, 8);
    folder
}

fn with_small_job(script: &str) -> String {
    let example = "GLMEVAL_JOB=examples/quickstart.toml ";
    assert!(script.contains(example) && root().join("examples/quickstart.toml").is_file());
    script.replace(example, "GLMEVAL_JOB=job.toml ")
}

#[tokio::test]
async fn the_chapter_on_plain_processes_works_word_by_word() {
    let folder = checkout();
    let folder = folder.path();
    follow(folder, &with_small_job(&blocks("Plain processes")), &[]).await;
    check_committed_once(&folder.join("glmeval-store")).await;
    let coordinated = results(&folder.join("glmeval-store")).await;
    assert_eq!(coordinated, results(&folder.join("glmeval-store-2")).await);
}

#[tokio::test]
async fn the_chapter_on_slurm_works_word_by_word() {
    let Some(slurm) = Slurm::start("deploy/README.md, Slurm").await else { return };
    let folder = checkout();
    let folder = folder.path();
    // What the chapter before has set.
    let before = "export GLMEVAL_JOB=job.toml GLMEVAL_STORE=$PWD/glmeval-store\n\
                  glmeval certs new certificates\nexport GLMEVAL_TLS=$PWD/certificates\n";
    let (name, file) = slurm.variable();
    let variables = [(name, file.to_str().unwrap())];
    let said = follow(folder, &format!("{before}{}", blocks("Slurm")), &variables).await;
    assert!(said.contains("glmeval-"), "the queue is shown: {said}");
    let coordinated = results(&folder.join("glmeval-store")).await;
    assert!(!coordinated.is_empty());
    assert_eq!(coordinated, results(&folder.join("glmeval-store-3")).await);
    for page in ["report-slurm/report.html", "report-partition/report.html"] {
        assert!(folder.join(page).is_file(), "{page}");
    }
}
