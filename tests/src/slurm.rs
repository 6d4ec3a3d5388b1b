//! A Slurm of the tests' own: controller, three nodes and munge on this machine, on free ports.
//!
//! Works as root and as an ordinary user. Invariant: whatever it started, jobs included, is gone when
//! the handle is dropped, also by a panic; nothing else is touched.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::real;
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Programs of the packages `slurm-wlm` and `munge`.
const PROGRAMS: [&str; 5] = ["munged", "slurmctld", "slurmd", "sbatch", "scontrol"];
/// Looks at a job or a node before it counts as stuck, and the pause between them.
const LOOKS_MAX: u32 = 900;
const PAUSE: Duration = Duration::from_millis(200);

/// A running Slurm: partitions `spot` (the default, pre-emptible) and `high` on nodes n1 to n3.
pub struct Slurm {
    folder: TempDir,
    daemons: Vec<Child>,
}

impl Slurm {
    /// Starts one and waits until its nodes are idle; says aloud that `what` is skipped where Slurm
    /// is not installed.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start(what: &str) -> Option<Self> {
        let programs: Option<Vec<PathBuf>> =
            PROGRAMS.iter().map(|program| real::program(program, what)).collect();
        let programs = programs?;
        let [munged, slurmctld, slurmd, ..] = &programs[..] else { unreachable!() };
        let folder = tempfile::tempdir().unwrap();
        write_files(folder.path());
        let mut slurm = Self { folder, daemons: Vec::new() };
        let at = |name: &str| slurm.folder.path().join(name).display().to_string();
        let mut munge = Command::new(munged);
        munge.args(["--foreground", "--force", "--key-file", &at("munge.key")]);
        munge.args(["--socket", &at("munge.sock"), "--pid-file", &at("munged.pid")]);
        munge.args(["--log-file", &at("munged.log"), "--seed-file", &at("munged.seed")]);
        slurm.daemon(munge);
        slurm.until("munge listens", |slurm| slurm.folder.path().join("munge.sock").exists()).await;
        let mut controller = Command::new(slurmctld);
        controller.arg("-D");
        slurm.daemon(controller);
        for node in 1..=3 {
            let mut daemon = Command::new(slurmd);
            daemon.args(["-D", "-N", &format!("n{node}")]);
            slurm.daemon(daemon);
        }
        let idle =
            |slurm: &Self| slurm.ask("sinfo", &["-h", "-p", "spot", "-t", "idle", "-o", "%D"]);
        slurm.until("three nodes are idle", |slurm| idle(slurm).trim() == "3").await;
        Some(slurm)
    }

    /// What commands need to find this Slurm.
    pub fn variable(&self) -> (&'static str, PathBuf) {
        ("SLURM_CONF", self.folder.path().join("slurm.conf"))
    }

    fn daemon(&mut self, mut command: Command) {
        let (name, value) = self.variable();
        command.env(name, value).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemons.push(command.spawn().unwrap());
    }

    fn output(&self, program: &str, arguments: &[&str]) -> Output {
        let (name, value) = self.variable();
        Command::new(program).args(arguments).env(name, value).output().unwrap()
    }

    /// What a command of Slurm prints.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> String {
        String::from_utf8(self.output(program, arguments).stdout).unwrap()
    }

    /// Runs a command of Slurm, which must succeed.
    ///
    /// # Panics
    /// With what it said when it fails.
    pub fn tell(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.output(program, arguments);
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Waits until `is_true`; looks a few times a second, since Slurm tells nobody.
    ///
    /// # Panics
    /// With what was waited for, the queue and the controller's log when it does not come true.
    pub async fn until(&self, what: &str, is_true: impl Fn(&Self) -> bool) {
        for _ in 0..LOOKS_MAX {
            if is_true(self) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let log = std::fs::read_to_string(self.folder.path().join("slurmctld.log"));
        panic!("{what}: not so.\n{}\n{}", self.ask("squeue", &[]), log.unwrap_or_default());
    }

    /// States of a job, or of an array's members, in two letters (`PD`, `R`, …); empty once all are over.
    pub fn state(&self, job: &str) -> String {
        // All jobs are asked for: of one that is over the answer is an error, as of a controller that is busy.
        let output = self.output("squeue", &["-h", "-r", "-o", "%F %F_%K %t"]);
        if !output.status.success() {
            return "unknown".to_owned();
        }
        let queue = String::from_utf8(output.stdout).unwrap();
        let states = queue.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (array, member, state) = (words.next()?, words.next()?, words.next()?);
            (array == job || member == job).then_some(state)
        });
        states.collect::<Vec<_>>().join(" ")
    }

    /// Waits until a job, or every member of an array, is over.
    ///
    /// # Panics
    /// As [`Slurm::until`].
    pub async fn over(&self, job: &str) {
        self.until(&format!("job {job} is over"), |slurm| slurm.state(job).is_empty()).await;
    }

    /// Holds the members of an array still (`STOP`) until Slurm itself signals them.
    ///
    /// # Panics
    /// If none runs.
    pub fn hold(&self, array: &str) {
        let ours = carriers(&format!("SLURM_ARRAY_JOB_ID={array}\0"));
        let of_this = carriers(&self.folder.path().display().to_string());
        let is_program = |pid: &String| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            of_this.contains(pid) && name.is_ok_and(|name| name.trim() == "glmeval")
        };
        let pids: Vec<_> = ours.into_iter().filter(is_program).collect();
        assert!(!pids.is_empty(), "no member of {array} runs");
        assert!(Command::new("kill").arg("-STOP").args(pids).status().unwrap().success());
    }

    /// Lets a requeued job start in two seconds rather than in two minutes.
    ///
    /// Not at once: a node counts seconds and refuses what was signed in the one in which it ended the first
    /// run ("job credential revoked"), which Slurm's own delay is there to avoid.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_now(&self, job: &str) {
        self.until(&format!("job {job} is pending"), |slurm| {
            let update = ["update", &format!("JobId={job}"), "StartTime=now+2"];
            slurm.state(job) == "PD" && slurm.output("scontrol", &update).status.success()
        })
        .await;
        // What has little left to do may be over before anyone looks.
        self.until(&format!("job {job} runs"), |slurm| slurm.state(job) != "PD").await;
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        // Slurm's steps are nobody's children: what carries this folder in its environment is ours.
        let kill = |pids: Vec<String>| {
            if !pids.is_empty() {
                drop(Command::new("kill").arg("-9").args(pids).output());
            }
        };
        let daemons: Vec<String> =
            self.daemons.iter().map(|child| child.id().to_string()).collect();
        kill(daemons);
        for daemon in &mut self.daemons {
            drop(daemon.wait());
        }
        kill(carriers(&self.folder.path().display().to_string()));
    }
}

/// Processes, this one left out, whose environment has `text`.
fn carriers(text: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().into_string() else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if pid != own && String::from_utf8_lossy(&environment).contains(text) {
            found.push(pid);
        }
    }
    found
}

fn write_files(folder: &Path) {
    let key = folder.join("munge.key");
    let bytes: Vec<u8> =
        (0..64).flat_map(|_| glmeval_common::rng::random_token().into_bytes()).collect();
    std::fs::write(&key, &bytes[..1024]).unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o400)).unwrap();
    std::fs::create_dir(folder.join("state")).unwrap();
    for node in 1..=3 {
        std::fs::create_dir(folder.join(format!("spool-n{node}"))).unwrap();
    }
    std::fs::write(folder.join("slurm.conf"), configuration(folder)).unwrap();
}

fn first_word(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn configuration(folder: &Path) -> String {
    let (host, user) = (first_word("hostname", &["-s"]), first_word("id", &["-un"]));
    // Held together, so that no port is given twice.
    let held: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<_> = held.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
    let at = folder.display();
    let mut text = format!(
        "ClusterName=glmeval\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={}\n\
         SlurmUser={user}\nSlurmdUser={user}\nAuthType=auth/munge\nAuthInfo=socket={at}/munge.sock\n\
         StateSaveLocation={at}/state\nSlurmdSpoolDir={at}/spool-%n\n\
         SlurmctldPidFile={at}/slurmctld.pid\nSlurmdPidFile={at}/slurmd-%n.pid\n\
         SlurmctldLogFile={at}/slurmctld.log\nSlurmdLogFile={at}/slurmd-%n.log\n\
         ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\n\
         SelectTypeParameters=CR_Core\nJobAcctGatherType=jobacct_gather/none\n\
         AccountingStorageType=accounting_storage/none\nMpiDefault=none\n\
         SlurmdParameters=config_overrides\nReturnToService=2\nSlurmdTimeout=10\nKillWait=5\n\
         PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n\
         SchedulerParameters=sched_interval=2,bf_interval=2\n",
        ports[0]
    );
    for (node, port) in ports.iter().enumerate().skip(1) {
        text.push_str(&format!(
            "NodeName=n{node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 \
             RealMemory=64000\n"
        ));
    }
    text + "PartitionName=spot Nodes=n[1-3] Default=YES PriorityTier=1 PreemptMode=REQUEUE \
            GraceTime=3\nPartitionName=high Nodes=n[1-3] PriorityTier=10 PreemptMode=OFF\n"
}
