//! The scripts of `deploy/slurm` on a real Slurm: whole jobs, a requeue, a pre-emption, a partition.
//!
//! Leaves out: GPUs, cgroups, several machines. Invariant: whatever Slurm does to a worker, the bytes
//! are those of an undisturbed run.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_tests::glmeval::{binary, succeeds};
use glmeval_tests::jobs::write_long_job;
use glmeval_tests::results::{check_committed_once, commits, results};
use glmeval_tests::slurm::Slurm;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A Slurm, and a folder with a job and certificates.
struct World {
    slurm: Slurm,
    folder: TempDir,
    /// Name of the coordinator, where it is not that of its job.
    name: Option<String>,
}

fn script(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("deploy/slurm").join(name).display().to_string()
}

impl World {
    async fn start(what: &str, rows: usize) -> Option<Self> {
        let slurm = Slurm::start(what).await?;
        let folder = tempfile::tempdir().unwrap();
        write_long_job(folder.path(), rows, 8);
        succeeds(folder.path(), &["certs", "new", "certificates"]).await;
        Some(Self { slurm, folder, name: None })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Hands in one of the scripts; returns the number of the job.
    async fn sbatch(&self, options: &[&str], name: &str, arguments: &[&str]) -> String {
        let (conf, file) = self.slurm.variable();
        let mut command = tokio::process::Command::new("sbatch");
        command.args(["--parsable", "--cpus-per-task=1"]).args(options).arg(script(name));
        command.args(arguments).current_dir(self.folder.path()).env(conf, file);
        command.env("GLMEVAL", binary()).env("GLMEVAL_STORE", self.path("store"));
        command.env("GLMEVAL_TLS", self.path("certificates")).env("GLMEVAL_GRACE_SECONDS", "3");
        command.env("GLMEVAL_DETACHED_SECONDS", "15");
        command.env("RUST_LOG", "glmeval_worker=debug,glmeval=info").env("NO_COLOR", "1");
        if let Some(name) = &self.name {
            command.env("GLMEVAL_NAME", name);
        }
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    async fn log_has(&self, name: &str, text: &str) {
        let what = format!("{name} has {text:?}");
        self.slurm.until(&what, |_| self.log(name).contains(text)).await;
    }

    /// Waits until some units are committed and work is in hand.
    async fn at_work(&self, count: usize) {
        let what = format!("{count} commits");
        let store = self.path("store");
        self.slurm.until(&what, |_| commits(&store).len() >= count).await;
    }

    /// The job is whole, and its bytes are those of a run that nobody disturbed.
    async fn check(&self) {
        check_committed_once(&self.path("store")).await;
        succeeds(self.folder.path(), &["run", "job.toml", "--store", "alone"]).await;
        let there = results(&self.path("store")).await;
        assert_eq!(there, results(&self.path("alone")).await);
        assert!(!there.is_empty());
    }
}

#[tokio::test]
async fn a_requeued_worker_hands_back_and_comes_again_and_the_bytes_are_the_same() {
    let Some(world) = World::start("deploy/slurm, coordinator and workers", 1_600).await else {
        return;
    };
    // Before their coordinator: they wait for its record.
    let coordinator = world.sbatch(&["--begin=now+3"], "coordinator.sbatch", &["job.toml"]).await;
    let workers = world.sbatch(&["--array=0-1"], "workers.sbatch", &[&coordinator]).await;
    let (first, log) = (format!("{workers}_0"), format!("glmeval-worker-{workers}_0.log"));
    world.at_work(10).await;
    world.log_has(&log, "unit starts").await;
    world.slurm.tell("scontrol", &["requeue", &first]);
    world.log_has(&log, "worker stops").await;
    world.slurm.start_now(&first).await;
    world.log_has(&log, "ended with 75 after 0 restarts").await;
    world.slurm.over(&workers).await;
    world.slurm.over(&coordinator).await;
    let text = world.log(&log);
    assert!(text.contains("handed_back="), "{text}");
    assert!(text.contains("ended with 0 after 1 restarts"), "{text}");
    let text = world.log(&format!("glmeval-coordinator-{coordinator}.log"));
    assert!(text.contains("ended with 0 after 0 restarts"), "{text}");
    world.check().await;
}

#[tokio::test]
async fn a_coordinator_near_its_time_limit_requeues_itself_and_workers_follow_it() {
    let Some(world) = World::start("deploy/slurm, the coordinator's time limit", 1_600).await
    else {
        return;
    };
    let coordinator = world.sbatch(&[], "coordinator.sbatch", &["job.toml"]).await;
    let workers = world.sbatch(&["--array=0-1"], "workers.sbatch", &[&coordinator]).await;
    world.at_work(10).await;
    world.slurm.tell("scancel", &["--batch", "--signal=USR1", &coordinator]);
    world.slurm.start_now(&coordinator).await;
    world.slurm.over(&workers).await;
    world.slurm.over(&coordinator).await;
    let text = world.log(&format!("glmeval-coordinator-{coordinator}.log"));
    assert!(text.contains("stops: SIGUSR1") && text.contains("ended with 75"), "{text}");
    assert!(text.contains("epoch 2") && text.contains("ended with 0 after 1 restarts"), "{text}");
    world.check().await;
}

#[tokio::test]
async fn workers_whose_coordinator_is_cancelled_requeue_themselves_and_follow_the_next() {
    let what = "deploy/slurm, a cancelled coordinator";
    let Some(mut world) = World::start(what, 1_600).await else { return };
    let coordinator = world.sbatch(&[], "coordinator.sbatch", &["job.toml"]).await;
    let workers = world.sbatch(&["--array=0-1"], "workers.sbatch", &[&coordinator]).await;
    world.at_work(10).await;
    world.slurm.tell("scancel", &[&coordinator]);
    world.slurm.over(&coordinator).await;
    let text = world.log(&format!("glmeval-coordinator-{coordinator}.log"));
    assert!(text.contains("ended with 75 after 0 restarts"), "it does not come again: {text}");
    let done = commits(&world.path("store")).len();
    for index in [0, 1] {
        let log = format!("glmeval-worker-{workers}_{index}.log");
        world.log_has(&log, "ended with 75 after 0 restarts").await;
    }
    assert!(commits(&world.path("store")).len() >= done, "what is committed stays");
    // Handed in again under the name that the workers look for.
    world.name = Some(format!("slurm-{coordinator}"));
    let next = world.sbatch(&[], "coordinator.sbatch", &["job.toml"]).await;
    for index in [0, 1] {
        world.slurm.start_now(&format!("{workers}_{index}")).await;
    }
    world.slurm.over(&workers).await;
    world.slurm.over(&next).await;
    let text = world.log(&format!("glmeval-coordinator-{next}.log"));
    assert!(text.contains("epoch 2") && text.contains("ended with 0 after 0 restarts"), "{text}");
    // Slurm may drop a requeued member where the other has left it nothing to do.
    let log = |index| world.log(&format!("glmeval-worker-{workers}_{index}.log"));
    let came_again = (0..2).any(|index| log(index).contains("ended with 0 after 1 restarts"));
    assert!(came_again, "{}\n{}", log(0), log(1));
    world.check().await;
}

#[tokio::test]
async fn workers_that_a_high_job_pre_empts_hand_back_and_come_again() {
    let Some(world) = World::start("deploy/slurm, pre-emption", 1_600).await else { return };
    let coordinator = world.sbatch(&["--nodelist=n1"], "coordinator.sbatch", &["job.toml"]).await;
    // One per node, so that a job on both nodes has to push them out.
    let whole = ["--array=0-1", "--cpus-per-task=8", "--exclude=n1"];
    let workers = world.sbatch(&whole, "workers.sbatch", &[&coordinator]).await;
    let (first, log) = (format!("{workers}_0"), format!("glmeval-worker-{workers}_0.log"));
    world.at_work(10).await;
    world.log_has(&log, "unit starts").await;
    // A pre-emption takes Slurm up to half a minute, the job less: its signal sets them going again.
    world.slurm.hold(&workers);
    let high = ["-p", "high", "-w", "n2,n3", "-N", "2", "--cpus-per-task=8"];
    let high = [&high[..], &["--parsable", "--output=/dev/null", "--wrap=true"]].concat();
    world.slurm.tell("sbatch", &high);
    world.log_has(&log, "worker stops").await;
    world.log_has(&log, "ended with 75 after 0 restarts").await;
    world.slurm.start_now(&first).await;
    let second = format!("{workers}_1");
    world.slurm.start_now(&second).await;
    world.slurm.over(&workers).await;
    world.slurm.over(&coordinator).await;
    let text = world.log(&log);
    assert!(text.contains("ended with 0 after 1 restarts"), "{text}");
    world.check().await;
}

#[tokio::test]
async fn a_partition_array_ends_the_job_although_a_member_is_requeued() {
    let Some(world) = World::start("deploy/slurm, partition array", 1_200).await else { return };
    let array = world.sbatch(&["--array=0-2"], "partition.sbatch", &["job.toml"]).await;
    let (member, log) = (format!("{array}_1"), format!("glmeval-partition-{array}_1.log"));
    world.at_work(10).await;
    world.log_has(&log, "unit starts").await;
    world.slurm.tell("scontrol", &["requeue", &member]);
    world.log_has(&log, "ended with 75 after 0 restarts").await;
    world.slurm.start_now(&member).await;
    world.slurm.over(&array).await;
    for index in 0..3 {
        let text = world.log(&format!("glmeval-partition-{array}_{index}.log"));
        assert!(text.contains("ended with 0 after"), "{text}");
    }
    world.check().await;
}

#[test]
fn the_lines_that_pass_signals_on_are_the_same_in_every_script() {
    let lines = |name: &str| {
        let text = std::fs::read_to_string(script(name)).unwrap();
        let from = text.find("# --- the same lines").unwrap();
        text[from..text.find("# --- end of the same lines").unwrap()].to_owned()
    };
    for name in ["workers.sbatch", "partition.sbatch"] {
        assert_eq!(lines(name), lines("coordinator.sbatch"));
    }
}

#[tokio::test]
async fn a_script_requeues_after_75_alone_and_never_more_often_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let program = |name: &str, text: &str| {
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
    };
    program("scontrol", "echo \"$@\" >> requeued");
    program("glmeval", "exit \"$CODE\"");
    let requeued = folder.path().join("requeued");
    for (code, restarts, expected) in [
        (0, "0", ""),
        (42, "0", ""),
        (1, "0", ""),
        (3, "0", ""),
        (75, "99", "requeue 7\n"),
        (75, "100", ""),
    ] {
        drop(std::fs::remove_file(&requeued));
        let mut command = tokio::process::Command::new("bash");
        command.arg(script("workers.sbatch")).arg("5").current_dir(folder.path());
        command
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("CODE", code.to_string());
        command.env("SLURM_JOB_ID", "7").env("SLURM_RESTART_COUNT", restarts);
        let status = command.env("GLMEVAL_STORE", "store").status().await.unwrap();
        assert_eq!(status.code(), Some(code));
        let found = std::fs::read_to_string(&requeued).unwrap_or_default();
        assert_eq!(found, expected, "exit {code} after {restarts} restarts");
    }
}
