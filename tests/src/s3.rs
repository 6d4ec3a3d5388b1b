//! S3 servers of the tests' own: a real gateway where it is installed, else a test double.
//!
//! `GLMEVAL_TEST_S3` (`s3://bucket/prefix`, with the usual `AWS_*`) names another one instead.
//! Leaves out: how each server is started (`ceph`, `moto`), faults on the way to it (`proxy`).
//! Invariant: no server outlives the test run, however that ends.

use glmeval_common::error::Result;
use glmeval_common::rng::random_token;
use glmeval_common::store::Store;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub mod ceph;
mod moto;
pub mod proxy;

/// The bucket of every test; each test has a prefix of its own.
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
    /// An unused prefix of the tests' bucket in the server at `address`.
    pub fn new(address: SocketAddr, (key, secret): (&str, &str)) -> Self {
        let variables = [
            ("AWS_ENDPOINT_URL", format!("http://{address}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", key.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        Self { url: format!("s3://{BUCKET}/{}", random_token()), variables: variables.to_vec() }
    }

    /// The same place with another value of one of its variables.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        for (known, old) in &mut other.variables {
            if *known == name {
                *old = value.to_owned();
            }
        }
        other
    }

    /// Address of the server.
    ///
    /// # Panics
    /// If the environment names it.
    pub fn server(&self) -> SocketAddr {
        let endpoint = self.variables.iter().find(|(name, _)| *name == "AWS_ENDPOINT_URL");
        let endpoint = endpoint.and_then(|(_, url)| url.strip_prefix("http://")?.parse().ok());
        endpoint.expect("the tests' own server")
    }

    /// The same place by way of another address.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Self {
        self.with("AWS_ENDPOINT_URL", &format!("http://{address}"))
    }

    /// Opens the place as a store.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn open(&self) -> Result<Store> {
        Store::open_with(&self.url, &self.variables)
    }
}

/// A fresh place in S3; without a server it says aloud that `what` is skipped.
///
/// # Panics
/// When the server does not start; without the real one where `GLMEVAL_REQUIRE_REAL=1`.
pub fn s3(what: &str) -> Option<S3> {
    if let Ok(url) = std::env::var("GLMEVAL_TEST_S3") {
        let url = format!("{}/{}", url.trim_end_matches('/'), random_token());
        return Some(S3 { url, variables: Vec::new() });
    }
    if let Some(ceph) = ceph::ceph(&format!("{what}, on the real gateway")) {
        return Some(ceph.place());
    }
    let port = moto::port(what)?;
    Some(S3::new(([127, 0, 0, 1], port).into(), ("test", "test")))
}

/// Sends one request without a body; the status line must say 200.
fn request(method: &str, address: SocketAddr, target: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let close = "Content-Length: 0\r\nConnection: close";
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: {address}\r\n{close}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    if answer.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(std::io::Error::other(answer.into_owned()))
    }
}
