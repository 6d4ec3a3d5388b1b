//! Makes the certificates of a job: a CA and one certificate for each role.
//!
//! Leaves out: files, checking (`common::trust`). Invariant: the CA's key never leaves this function, so
//! the certificates made here are all there will ever be under it.

use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::trust::{Role, sha256_of_certificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use std::time::Duration;

const SECONDS_PER_DAY: u64 = 86_400;
/// Clocks of nodes that are behind by less take new certificates all the same.
const BACKDATED_S: u64 = 3_600;
/// Longest name of a job's certificates.
const NAME_BYTES_MAX: usize = 40;

/// What certificates are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Name in the subject: lower-case letters, digits and hyphens.
    pub name: &'a str,
    /// Host names and addresses of the coordinator beside those of loopback.
    pub hosts: &'a [String],
    /// Days they are valid.
    pub days: u32,
    /// Seconds since 1970 now.
    pub now_unix_s: u64,
}

/// A certificate with its key.
pub struct Issued {
    /// Whom it is for.
    pub role: Role,
    /// The certificate as PEM.
    pub certificate_pem: String,
    /// Its private key as PEM.
    pub key_pem: String,
}

/// All certificates of a job.
pub struct Minted {
    /// Certificate of the CA as PEM.
    pub ca_pem: String,
    /// Its fingerprint.
    pub ca_sha256: String,
    /// One certificate for each role.
    pub issued: Vec<Issued>,
}

fn failed(error: rcgen::Error) -> Error {
    Error::bug("make a certificate").with_source(error)
}

fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let bytes = name.as_bytes();
    let good = bytes.len() <= NAME_BYTES_MAX && bytes.iter().all(|b| plain(*b));
    if good && ends(bytes.first()) && ends(bytes.last()) {
        return Ok(());
    }
    let expected = format!("1 to {NAME_BYTES_MAX} lower-case letters, digits and inner hyphens");
    Err(InputError::new("certificates", "name", expected, format!("{name:?}")).into())
}

fn parameters(order: &Order<'_>, what: &str, names: Vec<String>) -> Result<CertificateParams> {
    let mut parameters = CertificateParams::new(names).map_err(|e| {
        let expected = "host names and addresses";
        Error::from(InputError::new("certificates", "host", expected, format!("{:?}", order.hosts)))
            .context(e.to_string())
    })?;
    let epoch = date_time_ymd(1970, 1, 1);
    let valid_s = u64::from(order.days).saturating_mul(SECONDS_PER_DAY);
    let start_s = order.now_unix_s.saturating_sub(BACKDATED_S);
    parameters.not_before = epoch + Duration::from_secs(start_s);
    parameters.not_after = epoch + Duration::from_secs(order.now_unix_s.saturating_add(valid_s));
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "glmeval");
    parameters.distinguished_name.push(DnType::OrganizationalUnitName, what);
    parameters.distinguished_name.push(DnType::CommonName, format!("{} {what}", order.name));
    Ok(parameters)
}

fn issue(order: &Order<'_>, issuer: &CertifiedIssuer<'_, KeyPair>, role: Role) -> Result<Issued> {
    let mut names = vec![role.certificate_name().to_owned()];
    if role == Role::Coordinator {
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        names.extend(order.hosts.iter().cloned());
    }
    let mut parameters = parameters(order, role.name(), names)?;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A worker that could serve would pass for a coordinator, and the other way round.
    parameters.extended_key_usages = vec![match role {
        Role::Coordinator => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Operator | Role::Worker => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = parameters.signed_by(&key, issuer).map_err(failed)?;
    Ok(Issued { role, certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// Makes a CA and a certificate for each role (ECDSA over P-256), valid from an hour ago.
///
/// # Errors
/// `Invalid` for a name or host that fits in no certificate.
pub fn mint(order: &Order<'_>) -> Result<Minted> {
    check_name(order.name)?;
    let mut authority = parameters(order, "ca", Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(failed)?;
    let issuer = CertifiedIssuer::self_signed(authority, key).map_err(failed)?;
    let issued = Role::ALL.into_iter().map(|role| issue(order, &issuer, role));
    Ok(Minted {
        ca_pem: issuer.pem(),
        ca_sha256: sha256_of_certificate(issuer.der()),
        issued: issued.collect::<Result<_>>()?,
    })
}
