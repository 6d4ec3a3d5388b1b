//! A real S3 server: Ceph's gateway over a monitor and an OSD in memory, one for all processes of a test run.
//!
//! Leaves out: the recipe itself (`ceph.sh`). Invariant: whoever uses the servers holds a shared lock; the
//! keeper ends them when nobody does and the run is over, and they die with the keeper.

use super::{BUCKET, S3, request};
use crate::real;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as ObjectPath;
use object_store::signer::Signer;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

const KEEPER: &str = include_str!("ceph.sh");
/// Key and secret of the one user.
const CREDENTIALS: (&str, &str) = ("tests", "tests-secret");
/// Looks at a server that starts, and the pause between two: a minute and a half together.
const LOOKS_MAX: u32 = 900;
const PAUSE: Duration = Duration::from_millis(100);
/// A run of all tests ends before this.
const RUN_MAX: Duration = Duration::from_secs(2 * 3600);

/// The servers of this test run.
#[derive(Debug)]
pub struct Ceph {
    /// Where their configuration and logs lie.
    folder: PathBuf,
    gateway: SocketAddr,
    /// Held shared for as long as this process may use the servers.
    _users: File,
}

/// The servers of this test run, started by the first who asks; without the programs it says aloud that `what` is skipped.
///
/// # Panics
/// When they do not start; without the programs where `GLMEVAL_REQUIRE_REAL=1`.
pub fn ceph(what: &str) -> Option<&'static Ceph> {
    static CEPH: OnceLock<Ceph> = OnceLock::new();
    for name in ["radosgw", "ceph-mon", "ceph-osd", "ceph-authtool", "setpriv", "flock"] {
        real::program(name, what)?;
    }
    Some(CEPH.get_or_init(|| join_or_start().unwrap_or_else(|e| panic!("start Ceph: {e}"))))
}

impl Ceph {
    /// An unused place behind the shared gateway.
    pub fn place(&self) -> S3 {
        S3::new(self.gateway, CREDENTIALS)
    }

    /// A further gateway to the same objects at `address`, which its test may kill.
    ///
    /// # Panics
    /// When it does not start.
    pub fn own_gateway(&self, address: IpAddr) -> Gateway {
        let address = SocketAddr::new(address, free_port(address).expect("a free port"));
        let mut gateway = Gateway { folder: self.folder.clone(), address, process: None };
        gateway.start();
        gateway
    }
}

/// A gateway of one test's own; it dies with the test.
#[derive(Debug)]
pub struct Gateway {
    folder: PathBuf,
    address: SocketAddr,
    process: Option<Child>,
}

impl Gateway {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An unused place behind it.
    pub fn place(&self) -> S3 {
        S3::new(self.address, CREDENTIALS)
    }

    /// Starts it (again) at its address and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(&mut self) {
        let endpoint = format!("--rgw_frontends=beast endpoint={}", self.address);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "radosgw", "-c", "ceph.conf", "-n", "client.rgw"]);
        command.args(["-f", &endpoint]).current_dir(&self.folder);
        let process = silent(&mut command).spawn().unwrap_or_else(|e| panic!("radosgw: {e}"));
        self.process = Some(process);
        let answers = || request("GET", self.address, "/").is_ok();
        assert!(wait_until(answers), "the gateway at {} does not answer", self.address);
    }

    /// `kill -9`: nothing listens any more; what it stored stays.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process
                .kill()
                .and_then(|()| process.wait())
                .expect("the gateway is this process's own");
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

fn silent(command: &mut Command) -> &mut Command {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

#[expect(clippy::disallowed_methods, reason = "a server that starts gives no sign but its answer")]
fn wait_until(mut met: impl FnMut() -> bool) -> bool {
    (0..LOOKS_MAX).any(|_| {
        let met = met();
        if !met {
            std::thread::sleep(PAUSE);
        }
        met
    })
}

/// A port that nothing listens on at the moment.
fn free_port(address: IpAddr) -> io::Result<u16> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}

/// One folder for each build folder: runs of two checkouts have nothing in common.
fn base() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let name =
        Sha256::digest(program.parent().unwrap_or(Path::new("/")).as_os_str().as_encoded_bytes());
    let name: String = name.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    // Sockets lie below it, whose paths are short by nature.
    let folder = std::env::temp_dir().join(format!("glmeval-ceph-{name}"));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn join_or_start() -> io::Result<Ceph> {
    let base = base()?;
    let open = |name: &str| File::options().create(true).append(true).open(base.join(name));
    let users = open("users")?;
    users.lock_shared()?;
    // One starts, the others wait for it here.
    let starting = open("starting")?;
    starting.lock()?;
    let (folder, port) = match running(&base)? {
        Some(found) => found,
        None => start_once(&base)?,
    };
    let gateway = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    Ok(Ceph { folder, gateway, _users: users })
}

/// The servers that another process of the run has started.
fn running(base: &Path) -> io::Result<Option<(PathBuf, u16)>> {
    for entry in std::fs::read_dir(base)? {
        let folder = entry?.path();
        let port = std::fs::read_to_string(folder.join("ready")).ok();
        if let Some(port) = port.and_then(|text| text.trim().parse().ok()) {
            if request("GET", SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), "/").is_ok() {
                return Ok(Some((folder, port)));
            }
            // Its keeper was killed before it could tidy up.
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(None)
}

/// Starts the servers; after two failures every further process of this run fails at once, with the reason.
///
/// Each of dozens of tests would otherwise wait for its own time limit, one after the other.
fn start_once(base: &Path) -> io::Result<(PathBuf, u16)> {
    let runner = std::os::unix::process::parent_id();
    let failure = base.join(format!("failed-for-{runner}"));
    // Process numbers come again; a run does not last that long.
    let is_of_this_run = |at: std::time::SystemTime| at.elapsed().is_ok_and(|age| age < RUN_MAX);
    if std::fs::metadata(&failure).and_then(|found| found.modified()).is_ok_and(is_of_this_run) {
        let why = std::fs::read_to_string(&failure)?;
        return Err(io::Error::other(format!("as for an earlier test: {why}")));
    }
    // A port that was free may be taken before the server listens on it.
    let started = start(base, runner).or_else(|_| start(base, runner));
    if let Err(why) = &started {
        std::fs::write(&failure, why.to_string())?;
    }
    started
}

fn start(base: &Path, runner: u32) -> io::Result<(PathBuf, u16)> {
    let localhost = Ipv4Addr::LOCALHOST.into();
    let (monitor, port) = (free_port(localhost)?, free_port(localhost)?);
    let folder = base.join(format!("{}-{port}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut keeper = Command::new("sh");
    keeper
        .args(["-c", KEEPER, "ceph.sh"])
        .arg(&folder)
        .args([runner.to_string(), monitor.to_string()]);
    keeper.arg(port.to_string());
    // An interrupted run ends by its own; the keeper sees that and tidies up.
    keeper.process_group(0);
    let mut keeper = silent(&mut keeper).spawn()?;
    let mut state = None;
    let settled = wait_until(|| {
        state = keeper.try_wait().ok().flatten();
        state.is_some() || folder.join("started").exists()
    });
    let address = SocketAddr::new(localhost, port);
    let answers = settled && state.is_none() && wait_until(|| request("GET", address, "/").is_ok());
    if !answers {
        let why = std::fs::read_to_string(folder.join("failed")).unwrap_or_default();
        return Err(io::Error::other(format!("{}: {why}", folder.display())));
    }
    make_bucket(address)?;
    std::fs::write(folder.join("ready.partial"), port.to_string())?;
    std::fs::rename(folder.join("ready.partial"), folder.join("ready"))?;
    Ok((folder, port))
}

/// Makes the bucket by a signed request.
fn make_bucket(address: SocketAddr) -> io::Result<()> {
    let builder = AmazonS3Builder::new()
        .with_endpoint(format!("http://{address}"))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(BUCKET)
        .with_access_key_id(CREDENTIALS.0)
        .with_secret_access_key(CREDENTIALS.1);
    // The caller may stand inside a runtime, where another cannot be entered.
    let signing = std::thread::spawn(move || {
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let client = builder.build().map_err(io::Error::other)?;
        let path = ObjectPath::default();
        let signed = client.signed_url(reqwest::Method::PUT, &path, Duration::from_secs(60));
        runtime.block_on(signed).map_err(io::Error::other)
    });
    let url = signing.join().map_err(|_| io::Error::other("signing panicked"))??;
    let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    request("PUT", address, &target)
}
