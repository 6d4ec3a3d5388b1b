//! How a client comes to a coordinator: address, TLS, token; and what a broken connection says of them.
//!
//! Leaves out: calls (client), files of certificates (`trust`). Invariant: a token leaves this machine
//! under TLS only, unless the user insists.

use super::convert;
use crate::error::{Error, ErrorKind, InputError, Result};
use crate::trust::{Credentials, Role, TlsIdentity};
use std::error::Error as StdError;
use std::net::IpAddr;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

const CONNECT_MS_MAX: u64 = 5_000;

/// Adds the bearer token to every call.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer")
    }
}

impl Bearer {
    pub(super) fn new(credentials: &Credentials) -> Result<Self> {
        let Some(token) = &credentials.token else { return Ok(Self(None)) };
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.reveal())
            .parse()
            .map_err(|_| Error::bug("a token that is no header"))?;
        // Libraries show sensitive headers in no log and keep them out of compression tables.
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

fn tls_config(identity: &TlsIdentity) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(identity.ca_pem()))
        .identity(Identity::from_pem(identity.certificate_pem(), identity.reveal_key_pem()))
        .domain_name(Role::Coordinator.certificate_name())
        .timeout(Duration::from_millis(CONNECT_MS_MAX))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Where `address` leads, with TLS if there are certificates.
pub(super) fn endpoint(address: &str, credentials: &Credentials) -> Result<Endpoint> {
    let defect = |expected: &str, found: &str| -> Error {
        InputError::new(format!("coordinator address {address:?}"), "", expected, found).into()
    };
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, address),
    };
    let scheme = match (scheme, &credentials.tls) {
        (None | Some("https"), Some(_)) => "https",
        (None | Some("http"), None) => "http",
        (Some("https"), None) => return Err(defect("certificates (--tls DIR)", "none")),
        (Some("http"), Some(_)) => {
            return Err(defect("https:// or no scheme, as certificates are given", "http://"));
        }
        (Some(_), _) => return Err(defect("host:port, http:// or https://", "another scheme")),
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{rest}"))
        .map_err(|e| Error::invalid(format!("coordinator address {address:?}")).with_source(e))?;
    let host = endpoint.uri().host().unwrap_or_default().to_owned();
    let is_plain = credentials.tls.is_none();
    if is_plain && credentials.token.is_some() && !credentials.insecure && !is_loopback(&host) {
        let expected =
            "certificates (--tls DIR) before a token is sent to another machine, or --insecure";
        return Err(defect(expected, "a token without TLS"));
    }
    let endpoint =
        endpoint.connect_timeout(Duration::from_millis(CONNECT_MS_MAX)).tcp_nodelay(true);
    let Some(identity) = &credentials.tls else { return Ok(endpoint) };
    endpoint.tls_config(tls_config(identity)).map_err(|e| {
        Error::invalid(format!("certificates for coordinator {address:?}")).with_source(e)
    })
}

/// Every cause of a status on one line.
fn causes(status: &Status) -> String {
    let mut line = status.message().to_owned();
    let mut next = StdError::source(status);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

/// What a broken TLS handshake says of the identities, by the words that rustls has for it: HTTP/2
/// passes its errors on as text only.
fn refusal(causes: &str) -> Option<&'static str> {
    const REFUSED: &str = "the coordinator refuses this certificate: expected one of its CA that is \
                           valid now (--tls DIR)";
    let known = [
        ("received fatal alert: ProtocolVersion", "the coordinator speaks no TLS: leave out --tls"),
        ("InvalidContentType", "the coordinator speaks no TLS: leave out --tls"),
        (
            "invalid peer certificate",
            "the coordinator shows no certificate that the CA given vouches for",
        ),
        ("received fatal alert: CertificateExpired", REFUSED),
        ("received fatal alert: BadCertificate", REFUSED),
        ("received fatal alert: UnknownCA", REFUSED),
        ("received fatal alert: UnknownCa", REFUSED),
        ("received fatal alert: CertificateUnknown", REFUSED),
        ("received fatal alert: CertificateRequired", REFUSED),
        ("received fatal alert: CertificateRevoked", REFUSED),
        ("received fatal alert: UnsupportedCertificate", REFUSED),
        ("received fatal alert: AccessDenied", REFUSED),
        ("received fatal alert: DecryptError", REFUSED),
    ];
    known.iter().find(|(words, _)| causes.contains(words)).map(|(_, meaning)| *meaning)
}

/// The error that a status stands for.
pub(super) fn answered(status: &Status) -> Error {
    let is_answer = StdError::source(status).is_none();
    if is_answer || !matches!(status.code(), Code::Unavailable | Code::Unknown) {
        return convert::from_status(status);
    }
    let causes = causes(status);
    match refusal(&causes) {
        Some(meaning) => Error::new(ErrorKind::Invalid, format!("{meaning}: {causes}")),
        None => Error::unavailable(causes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Token;

    fn with_token() -> Credentials {
        let token = Token::random().unwrap();
        Credentials { token: Some(token), ..Credentials::default() }
    }

    #[test]
    fn a_token_stays_on_this_machine_without_tls() {
        for address in ["127.0.0.1:7070", "localhost:1", "http://127.8.0.1:1", "[::1]:7070"] {
            endpoint(address, &with_token()).unwrap();
        }
        for address in ["head:7070", "http://10.0.0.4:7070", "0.0.0.0:1", "localhost.evil.org:1"] {
            let error = endpoint(address, &with_token()).unwrap_err();
            assert!(error.chain().contains("found a token without TLS"), "{}", error.chain());
            endpoint(address, &Credentials { insecure: true, ..with_token() }).unwrap();
        }
    }

    #[test]
    fn an_address_says_what_it_is() {
        let none = Credentials::default();
        for address in ["head:7070", "http://head:7070", "10.0.0.4:7070", "[fe80::1]:7070"] {
            endpoint(address, &none).unwrap();
        }
        for address in ["https://head:7070", "ftp://head:7070", "", "head 7070", "http://"] {
            let error = endpoint(address, &none).unwrap_err();
            assert!(error.chain().contains("coordinator address"), "{}", error.chain());
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}
