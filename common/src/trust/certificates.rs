//! Certificates of a job: read, checked against each other, named by their fingerprints.
//!
//! Leaves out: making them (coordinator), connections. Invariant: an identity that [`TlsIdentity::check`]
//! passed is accepted by every process that believes the same CA, as far as one clock can tell.

use super::Role;
use crate::digest::sha256_hex;
use crate::error::{Error, InputError, Result, io_error};
use crate::limits::TRUST_FILE_BYTES_MAX;
use rustls::client::{WebPkiServerVerifier, danger::ServerCertVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Lower-case hexadecimal sha256 of a certificate: what `openssl x509 -fingerprint -sha256` prints.
pub fn sha256_of_certificate(der: &[u8]) -> String {
    sha256_hex(der)
}

/// Where the three files of an identity lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate of the CA (PEM); several while one replaces another.
    pub ca: PathBuf,
    /// Own certificate (PEM), then those between it and the CA.
    pub certificate: PathBuf,
    /// Own private key (PEM).
    pub key: PathBuf,
}

impl TlsFiles {
    /// The files of `role` in a folder that `glmeval certs new` wrote, or a part of it.
    pub fn in_folder(folder: &Path, role: Role) -> Self {
        let name = role.name();
        Self {
            ca: folder.join("ca.pem"),
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        }
    }
}

/// A CA and a certificate of it with its private key.
#[derive(Clone)]
pub struct TlsIdentity {
    files: TlsFiles,
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsIdentity({})", self.files.certificate.display())
    }
}

/// Reads a file that cannot be long.
///
/// # Errors
/// `Invalid` when it is longer than [`TRUST_FILE_BYTES_MAX`], as [`io_error`] otherwise.
pub(super) fn read_small(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|e| io_error(path, e))?;
    let mut bytes = Vec::new();
    let read = file.take(TRUST_FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|e| io_error(path, e))?;
    if bytes.len() as u64 > TRUST_FILE_BYTES_MAX {
        let expected = format!("at most {TRUST_FILE_BYTES_MAX} bytes");
        return Err(InputError::new(path.display(), "", expected, "more").into());
    }
    Ok(bytes)
}

/// Says so when others than the owner and its group can read a secret.
fn warn_if_open(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
    if mode & 0o007 != 0 {
        tracing::warn!(path = %path.display(), "everybody on this machine can read this secret");
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|found| !found.is_empty()).ok_or_else(|| {
        InputError::new(path.display(), "", "certificates as PEM", "something else").into()
    })
}

impl TlsIdentity {
    /// Reads and parses the three files.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` or `Unavailable` naming the file; a key is never quoted.
    pub fn read(files: TlsFiles) -> Result<Self> {
        let ca = read_small(&files.ca)?;
        let certificate = read_small(&files.certificate)?;
        let key = read_small(&files.key)?;
        warn_if_open(&files.key);
        let authorities = certificates(&files.ca, &ca)?;
        let chain = certificates(&files.certificate, &certificate)?;
        let identity = Self { files, ca, certificate, key, authorities, chain };
        identity.private_key()?;
        Ok(identity)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            let place = self.files.key.display();
            InputError::new(place, "", "a private key as PEM", "something else").into()
        })
    }

    /// The CA's certificates as PEM.
    pub fn ca_pem(&self) -> &[u8] {
        &self.ca
    }

    /// The own certificate as PEM.
    pub fn certificate_pem(&self) -> &[u8] {
        &self.certificate
    }

    /// The private key as PEM: a secret.
    pub fn reveal_key_pem(&self) -> &[u8] {
        &self.key
    }

    /// Fingerprint of the CA, the first one if there are several.
    pub fn ca_sha256(&self) -> String {
        self.authorities.first().map(|ca| sha256_of_certificate(ca)).unwrap_or_default()
    }

    /// Whether one of the CAs has this fingerprint.
    pub fn believes(&self, ca_sha256: &str) -> bool {
        self.authorities.iter().any(|ca| sha256_of_certificate(ca) == ca_sha256)
    }

    fn roots(&self) -> Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots.add(authority.clone()).map_err(|e| self.defect("the certificate of a CA", &e))?;
        }
        Ok(Arc::new(roots))
    }

    fn defect(&self, expected: &str, found: &dyn fmt::Display) -> Error {
        InputError::new(self.files.certificate.display(), "", expected, found).into()
    }

    /// Checks that the key belongs to the certificate, and that a process which believes the same CA
    /// takes the certificate for one of `role` at this time.
    ///
    /// # Errors
    /// `Invalid` naming the file, what was expected of it, and what is wrong.
    pub fn check(&self, role: Role, unix_ms: u64) -> Result<()> {
        let ca = self.files.ca.display();
        let expected =
            format!("a certificate of the role {} that {ca} vouches for now", role.name());
        let defect = |found: &dyn fmt::Display| self.defect(&expected, found);
        let (own, between) = self.chain.split_first().ok_or_else(|| defect(&"none"))?;
        CertifiedKey::from_der(self.chain.clone(), self.private_key()?, &provider())
            .map_err(|e| defect(&format!("{e} ({})", self.files.key.display())))?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(unix_ms));
        let roots = self.roots()?;
        if role == Role::Coordinator {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider().into());
            let verifier = verifier.build().map_err(|e| defect(&e))?;
            let name = server_name(role)?;
            let verified = verifier.verify_server_cert(own, between, &name, &[], now);
            return verified.map(drop).map_err(|e| defect(&e));
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider().into());
        let verifier = verifier.build().map_err(|e| defect(&e))?;
        verifier.verify_client_cert(own, between, now).map_err(|e| defect(&e))?;
        if roles_of(own).contains(&role) {
            return Ok(());
        }
        Err(defect(&format!("one without the name {}", role.certificate_name())))
    }

    /// How a coordinator with this identity serves pages and metrics: TLS 1.3 over HTTP/1.1, no client
    /// certificate, which browsers rarely have.
    ///
    /// # Errors
    /// `Invalid` when the files make no server.
    pub fn page_config(&self) -> Result<Arc<ServerConfig>> {
        let defect = |found: &dyn fmt::Display| self.defect("a certificate to serve with", found);
        let mut config = ServerConfig::builder_with_provider(provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| defect(&e))?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.private_key()?)
            .map_err(|e| defect(&e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// How a coordinator with this identity listens: TLS 1.3, client certificates of the CA required.
    ///
    /// # Errors
    /// `Invalid` when the files make no server.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>> {
        let defect = |found: &dyn fmt::Display| self.defect("a certificate to serve with", found);
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider().into());
        let mut config = ServerConfig::builder_with_provider(provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| defect(&e))?
            .with_client_cert_verifier(clients.build().map_err(|e| defect(&e))?)
            .with_single_cert(self.chain.clone(), self.private_key()?)
            .map_err(|e| defect(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not look at the client's certificate again.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

fn server_name(role: Role) -> Result<ServerName<'static>> {
    ServerName::try_from(role.certificate_name())
        .map_err(|e| Error::bug("the name of a role is no DNS name").with_source(e))
}

/// The roles that a certificate names; none for one that cannot be read.
pub fn roles_of(certificate: &CertificateDer<'_>) -> Vec<Role> {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return Vec::new() };
    let names = |role: &Role| {
        server_name(*role).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    Role::ALL.into_iter().filter(names).collect()
}
