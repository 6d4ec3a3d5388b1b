//! moto: a test double of S3 in Python, for machines without the real gateway.
//!
//! Invariant: the server ends with the test process, however that ends, for it reads a pipe from it.

use super::{BUCKET, request};
use crate::python;
use std::io::{BufRead, BufReader};
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

/// A running server; the pipe of its standard input stays open as long as this lives.
struct Server {
    _process: Child,
    port: u16,
}

/// Port of this process's server; without Python it says aloud that `what` is skipped.
pub(super) fn port(what: &str) -> Option<u16> {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let python = python::python(what)?;
    Some(SERVER.get_or_init(|| start(&python)).port)
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
    let address = ([127, 0, 0, 1], port).into();
    request("PUT", address, &format!("/{BUCKET}"))
        .unwrap_or_else(|e| panic!("make a bucket at port {port}: {e}"));
    Server { _process: process, port }
}
