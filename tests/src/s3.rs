//! An S3 server of the tests' own: moto on a free loopback port, one for each test process.
//!
//! `GLMEVAL_TEST_S3` (`s3://bucket/prefix`, with the usual `AWS_*`) names another one instead.
//! Invariant: the server ends with the test process, however that ends, for it reads a pipe from it.

use crate::python;
use glmeval_common::error::Result;
use glmeval_common::rng::random_token;
use glmeval_common::store::Store;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Prints the port once it listens; ends with its standard input.
const SERVER: &str = "
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
application = DomainDispatcherApplication(create_backend_app)
server = make_server('127.0.0.1', 0, application, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.port, flush=True)
sys.stdin.read()
";
const BUCKET: &str = "glmeval-test";

/// An empty place in an S3 store.
#[derive(Clone, Debug)]
pub struct S3 {
    /// `s3://bucket/prefix`.
    pub url: String,
    /// `AWS_*` for stores and child processes; empty where the environment holds them.
    pub variables: Vec<(&'static str, String)>,
}

impl S3 {
    /// Opens the place as a store.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn open(&self) -> Result<Store> {
        Store::open_with(&self.url, &self.variables)
    }
}

/// A running server; the pipe of its standard input stays open as long as this lives.
struct Server {
    _process: Child,
    port: u16,
}

/// A fresh place in S3; without a server it says aloud that `what` is skipped.
///
/// # Panics
/// When the server does not start; without Python where `GLMEVAL_REQUIRE_REAL=1`.
pub fn s3(what: &str) -> Option<S3> {
    static SERVER: OnceLock<Server> = OnceLock::new();
    if let Ok(url) = std::env::var("GLMEVAL_TEST_S3") {
        let url = format!("{}/{}", url.trim_end_matches('/'), random_token());
        return Some(S3 { url, variables: Vec::new() });
    }
    let python = python::python(what)?;
    let server = SERVER.get_or_init(|| start(&python));
    let variables = [
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", server.port)),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ];
    let url = format!("s3://{BUCKET}/{}", random_token());
    Some(S3 { url, variables: variables.to_vec() })
}

fn start(python: &Path) -> Server {
    let mut process = Command::new(python)
        .args(["-c", SERVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("start the S3 server with {}: {e}", python.display()));
    let mut line = String::new();
    let stdout = process.stdout.take().expect("standard output is piped");
    BufReader::new(stdout).read_line(&mut line).expect("the S3 server's port");
    let port = line.trim().parse();
    let port = port.unwrap_or_else(|_| panic!("moto does not start: {} -c …", python.display()));
    make_bucket(port).unwrap_or_else(|e| panic!("make a bucket at port {port}: {e}"));
    Server { _process: process, port }
}

fn make_bucket(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let host = format!("127.0.0.1:{port}");
    let close = "Content-Length: 0\r\nConnection: close";
    write!(stream, "PUT /{BUCKET} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.lines().next().unwrap_or_default();
    if status.contains(" 200 ") { Ok(()) } else { Err(std::io::Error::other(status.to_owned())) }
}
