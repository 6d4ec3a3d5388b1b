//! Whom a coordinator answers: its certificates and tokens, and where it may listen with them.
//!
//! Leaves out: connections (incoming), calls (gate). Invariant: beyond this machine nothing is said in
//! plain text unless the user insists.

use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::trust::{Role, TlsIdentity, Token};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_rustls::rustls::ServerConfig;

/// What callers must show.
#[derive(Clone, Default)]
pub struct Trust {
    tls: Option<Arc<ServerConfig>>,
    /// As `tls`, for pages and metrics.
    pages: Option<Arc<ServerConfig>>,
    ca_sha256: Option<String>,
    /// For workers, and for operators too unless those have their own.
    token: Option<Token>,
    operator_token: Option<Token>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = (self.token.is_some(), self.operator_token.is_some());
        write!(f, "Trust(ca {:?}, tokens {tokens:?})", self.ca_sha256)
    }
}

impl Trust {
    /// Everyone is believed: for one process, tests and a laptop's loopback.
    pub fn open() -> Self {
        Self::default()
    }

    /// Certificates, a token, or both, of which callers must then show both. `operator_token` takes the
    /// operators' calls away from `token`.
    ///
    /// # Errors
    /// `Invalid` when the certificates make no server, or when both tokens are the same.
    pub fn new(
        tls: Option<TlsIdentity>,
        token: Option<Token>,
        operator_token: Option<Token>,
    ) -> Result<Self> {
        if let (Some(workers), Some(operators)) = (&token, &operator_token)
            && workers.matches(operators.reveal().as_bytes())
        {
            let expected = "another token than that of workers";
            return Err(InputError::new("operator token", "", expected, "the same").into());
        }
        let ca_sha256 = tls.as_ref().map(TlsIdentity::ca_sha256);
        let pages = tls.as_ref().map(TlsIdentity::page_config).transpose()?;
        let tls = tls.map(|identity| identity.server_config()).transpose()?;
        Ok(Self { tls, pages, ca_sha256, token, operator_token })
    }

    /// How connections are secured; `None` = plain text.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// How pages and metrics are secured on `address`: beyond loopback always where there are certificates, on
    /// loopback when that `is_wanted`; `None` = plain text.
    ///
    /// # Errors
    /// `Invalid` when it is wanted and there are no certificates.
    pub fn page_tls(
        &self,
        address: SocketAddr,
        is_wanted: bool,
    ) -> Result<Option<Arc<ServerConfig>>> {
        if is_wanted && self.pages.is_none() {
            let expected = "certificates: --tls DIR";
            return Err(InputError::new("--dashboard-tls", "", expected, "none").into());
        }
        let is_secured = is_wanted || !address.ip().to_canonical().is_loopback();
        Ok(self.pages.clone().filter(|_| is_secured))
    }

    /// Fingerprint of the CA; `None` without TLS.
    pub fn ca_sha256(&self) -> Option<String> {
        self.ca_sha256.clone()
    }

    /// Whether a coordinator may listen on `address` like this.
    ///
    /// # Errors
    /// `Invalid` for plain text beyond loopback, with what to do about it.
    pub fn allows(&self, address: SocketAddr, insecure: bool) -> Result<()> {
        if self.tls.is_some() || insecure || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        let found = match &self.token {
            Some(_) => "a token in plain text, which everybody on the network could read",
            None => "no identities at all: everybody on the network could submit and forge",
        };
        let expected = "certificates beyond loopback: make them with `glmeval certs new DIR` and give \
                        --tls DIR, listen on 127.0.0.1, or insist with --insecure";
        Err(Error::from(InputError::new(format!("--listen {address}"), "", expected, found)))
    }

    /// The roles that what stands in an `authorization` header proves; all of them without tokens.
    pub(super) fn roles_of_token(&self, header: Option<&[u8]>) -> Offered {
        let Some(token) = &self.token else { return Offered::Roles(Role::ALL.to_vec()) };
        let Some(header) = header else { return Offered::Nothing };
        let offered = bearer(header);
        // Both are compared whatever the first comparison says.
        let is_worker = token.matches(offered);
        let is_operator = self.operator_token.as_ref().unwrap_or(token).matches(offered);
        let roles = [(is_worker, Role::Worker), (is_operator, Role::Operator)];
        let roles = roles.into_iter().filter(|(is, _)| *is).map(|(_, role)| role);
        Offered::Roles(roles.collect())
    }
}

/// What a call showed.
pub(super) enum Offered {
    /// No token, where one is wanted.
    Nothing,
    /// The roles it proves; none for a wrong token.
    Roles(Vec<Role>),
}

/// What follows the word `Bearer`, in any case, and a space; nothing for other schemes.
fn bearer(header: &[u8]) -> &[u8] {
    match header.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token,
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(trust: &Trust, header: &str) -> Vec<Role> {
        match trust.roles_of_token(Some(header.as_bytes())) {
            Offered::Roles(roles) => roles,
            Offered::Nothing => panic!("a header was offered"),
        }
    }

    #[test]
    fn plain_text_is_for_loopback_or_for_those_who_insist() {
        let token = Token::random().unwrap();
        for trust in [Trust::open(), Trust::new(None, Some(token), None).unwrap()] {
            for here in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:7070", "[::ffff:127.0.0.1]:1"] {
                trust.allows(here.parse().unwrap(), false).unwrap();
            }
            for beyond in ["0.0.0.0:7070", "[::]:7070", "10.0.0.4:7070", "[fe80::1]:1"] {
                let beyond = beyond.parse().unwrap();
                let error = trust.allows(beyond, false).unwrap_err();
                assert!(error.chain().contains("--tls DIR"), "{}", error.chain());
                trust.allows(beyond, true).unwrap();
            }
        }
    }

    #[test]
    fn one_token_serves_both_roles_and_two_serve_one_each() {
        let (one, two) = (Token::random().unwrap(), Token::random().unwrap());
        let header = |token: &Token| format!("Bearer {}", token.reveal());
        let both = Trust::new(None, Some(one.clone()), None).unwrap();
        assert_eq!(roles(&both, &header(&one)), [Role::Worker, Role::Operator]);
        let split = Trust::new(None, Some(one.clone()), Some(two.clone())).unwrap();
        assert_eq!(roles(&split, &header(&one)), [Role::Worker]);
        assert_eq!(roles(&split, &header(&two)), [Role::Operator]);
        Trust::new(None, Some(one.clone()), Some(one)).unwrap_err();
    }

    #[test]
    fn other_headers_prove_nothing() {
        let token = Token::random().unwrap();
        let trust = Trust::new(None, Some(token.clone()), None).unwrap();
        let secret = token.reveal();
        for header in
            ["", "Bearer", "Bearer ", secret, "Basic dXNlcg==", &format!("Bearer  {secret}")]
        {
            assert!(roles(&trust, header).is_empty(), "{header}");
        }
        assert!(matches!(trust.roles_of_token(None), Offered::Nothing));
    }
}
