//! Flags by which a command proves who it is to a coordinator, and the connection they make.
//!
//! Leaves out: what is checked how (`common::trust`). Invariant: certificates are looked at before
//! anything is sent, so that a bad one is named here and not by a broken connection.

use clap::Args;
use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::error::{InputError, Result};
use glmeval_common::ids::check_name;
use glmeval_common::trust::{Credentials, Role, TlsFiles, TlsIdentity, Token};
use glmeval_common::wire::GrpcControl;
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// How this process proves who it is.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trust")]
pub(crate) struct TrustArguments {
    /// Folder of certificates as `glmeval certs new` writes it: mutual TLS.
    #[arg(long, value_name = "DIR", env = "GLMEVAL_TLS")]
    tls: Option<PathBuf>,
    /// Certificate of the CA [default: ca.pem in --tls].
    #[arg(long, value_name = "FILE", env = "GLMEVAL_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// Own certificate [default: coordinator.pem, worker.pem or operator.pem in --tls].
    #[arg(long, value_name = "FILE", env = "GLMEVAL_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Its private key [default: coordinator.key, worker.key or operator.key in --tls].
    #[arg(long, value_name = "FILE", env = "GLMEVAL_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// File that holds the bearer token, as `glmeval certs token` writes it.
    #[arg(long, value_name = "FILE", env = "GLMEVAL_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Do without TLS beyond this machine: everybody on the network can read and forge what is said.
    #[arg(long)]
    pub(crate) insecure: bool,
}

impl TrustArguments {
    /// The first of these flags that was given, rather than found in the environment.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let files = [
            ("--tls", "GLMEVAL_TLS", &self.tls),
            ("--tls-ca", "GLMEVAL_TLS_CA", &self.tls_ca),
            ("--tls-cert", "GLMEVAL_TLS_CERT", &self.tls_cert),
            ("--tls-key", "GLMEVAL_TLS_KEY", &self.tls_key),
            ("--token-file", "GLMEVAL_TOKEN_FILE", &self.token_file),
        ];
        let is_given = |variable: &str, value: &Option<PathBuf>| {
            value.is_some() && *value != std::env::var_os(variable).map(PathBuf::from)
        };
        let file = files.into_iter().find(|(_, variable, value)| is_given(variable, value));
        file.map(|(flag, ..)| flag).or(self.insecure.then_some("--insecure"))
    }

    /// Where the files of `role` lie; `None` without TLS.
    fn files(&self, role: Role) -> Result<Option<TlsFiles>> {
        let single = [&self.tls_ca, &self.tls_cert, &self.tls_key];
        if self.tls.is_none() && single.iter().all(|file| file.is_none()) {
            return Ok(None);
        }
        let folder = self.tls.as_deref().map(|folder| TlsFiles::in_folder(folder, role));
        let [ca, certificate, key] = single.map(Clone::clone);
        let (in_ca, in_certificate, in_key) = folder
            .map(|files| (Some(files.ca), Some(files.certificate), Some(files.key)))
            .unwrap_or_default();
        let found = (ca.or(in_ca), certificate.or(in_certificate), key.or(in_key));
        let (Some(ca), Some(certificate), Some(key)) = found else {
            let expected = "--tls DIR, or all of --tls-ca, --tls-cert and --tls-key";
            return Err(InputError::new("command line", "TLS", expected, "some of them").into());
        };
        Ok(Some(TlsFiles { ca, certificate, key }))
    }

    /// The certificates for `role`, checked; `None` without TLS.
    ///
    /// # Errors
    /// `Invalid` or `NotFound` naming the file.
    pub(crate) fn identity(&self, role: Role) -> Result<Option<TlsIdentity>> {
        let Some(files) = self.files(role)? else { return Ok(None) };
        let identity = TlsIdentity::read(files)?;
        identity.check(role, SystemClock::default().unix_ms())?;
        Ok(Some(identity))
    }

    /// The token; `None` without one.
    ///
    /// # Errors
    /// `Invalid` or `NotFound` naming the file.
    pub(crate) fn token(&self) -> Result<Option<Token>> {
        self.token_file.as_deref().map(Token::read).transpose()
    }

    /// All of it for `role`.
    ///
    /// # Errors
    /// `Invalid` or `NotFound` naming the file.
    pub(crate) fn credentials(&self, role: Role) -> Result<Credentials> {
        let (tls, token) = (self.identity(role)?, self.token()?);
        Ok(Credentials { tls, token, insecure: self.insecure })
    }

    /// The coordinator at `address` as an operator sees it.
    ///
    /// # Errors
    /// As [`TrustArguments::credentials`] and [`GrpcControl::connect_as`].
    pub(crate) fn connect(&self, address: &str) -> Result<GrpcControl> {
        GrpcControl::connect_as(address, &self.credentials(Role::Operator)?)
    }
}

/// Takes the name of a coordinator: part of an object path.
pub(crate) fn coordinator_name(text: &str) -> Result<String, String> {
    check_name("name", text).map_err(|e| e.chain())?;
    Ok(text.to_owned())
}

/// Takes an address to listen on: `HOST:PORT`, where HOST may be a name, an IPv4 address or one of version 6 in brackets.
pub(crate) fn listen_address(text: &str) -> Result<String, String> {
    let is_host = |host: &str| match host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        Some(within) => within.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || ":/[]".contains(c))
        }
    };
    let parts = text.rsplit_once(':').filter(|(host, _)| is_host(host));
    match parts.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT, such as 127.0.0.1:7070 or [::]:0".to_owned()),
    }
}

/// Name of this machine, of letters that any log, record and object path takes.
pub(crate) fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = read.trim().chars().map(|c| if plain(c) { c } else { '-' }).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::listen_address;

    #[test]
    fn an_address_to_listen_on_has_a_host_and_a_port() {
        for good in [
            "127.0.0.1:7070",
            "0.0.0.0:0",
            "[::]:7070",
            "[::1]:1",
            "localhost:7070",
            "node-17.lab:80",
        ] {
            assert_eq!(listen_address(good).as_deref(), Ok(good));
        }
        for bad in [
            "foo",
            "",
            "7070",
            ":7070",
            "foo:",
            "foo:x",
            "foo:70000",
            "::1:7070",
            "[x]:1",
            "http://a:1",
        ] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }
}
