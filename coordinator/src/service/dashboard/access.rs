//! Who may look: anyone on loopback, off loopback whoever knows the token; in plain text or over TLS.
//!
//! Leaves out: connections (secured). Without TLS, a token that crosses a network belongs behind a proxy or a tunnel.
//! Invariant: secrets are compared by their digests and never logged; the browser keeps a session of
//! this process, never the token.

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use glmeval_common::digest::sha256_hex;
use glmeval_common::error::{Error, Result};
use glmeval_common::rng::random_token;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;

const LOGIN: &str = include_str!("login.html");
const REFUSAL: &str = "<p class=\"refusal\" role=\"alert\">This is not the token.</p>";
const COOKIE: &str = "glmeval-session";
/// Sessions kept; the oldest goes first.
const SESSIONS_MAX: usize = 256;
/// A login form is not longer.
const FORM_BYTES_MAX: usize = 4_096;
/// Shorter tokens can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// Who may look.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// sha256 of the token; `None` = everyone who reaches the socket.
    token_sha256: Option<Arc<str>>,
    /// sha256 of each session, oldest first.
    sessions: Arc<Mutex<VecDeque<String>>>,
    /// How connections are secured; `None` = plain text.
    tls: Option<Arc<ServerConfig>>,
}

impl Access {
    /// The same people over TLS only; as they are without a configuration.
    #[must_use]
    pub fn over(self, tls: Option<Arc<ServerConfig>>) -> Self {
        Self { tls, ..self }
    }

    /// Whether it is over TLS.
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// How connections are secured; `None` = plain text.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Whoever knows `token`.
    pub fn with_token(token: &str) -> Self {
        let digest = sha256_hex(token.as_bytes());
        Self { token_sha256: Some(digest.into()), ..Self::default() }
    }

    /// Whoever knows the token in a file; blanks around it do not count.
    ///
    /// # Errors
    /// `Invalid` when the file cannot be read or holds less than sixteen bytes.
    pub fn of_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::invalid(format!("read token file {}", path.display())).with_source(e)
        })?;
        let token = text.trim();
        if token.len() < TOKEN_BYTES_MIN {
            let expected = format!("expected at least {TOKEN_BYTES_MIN} bytes");
            let found = format!("found {}", token.len());
            let message = format!("token file {}: {expected}, {found}", path.display());
            return Err(Error::invalid(message));
        }
        Ok(Self::with_token(token))
    }

    /// Refuses a socket that is open to others while there is no token.
    ///
    /// # Errors
    /// `Invalid` then.
    pub fn check_address(&self, listener: &TcpListener) -> Result<()> {
        let bound = listener
            .local_addr()
            .map_err(|e| Error::unavailable("read the bound address").with_source(e))?;
        if bound.ip().is_loopback() || self.token_sha256.is_some() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "dashboard on {bound}: expected a loopback address or a token file, found neither"
        )))
    }

    fn is_token(&self, token: &str) -> bool {
        let Some(expected) = &self.token_sha256 else { return true };
        // Digests are compared, so the time this takes tells nothing about the token.
        sha256_hex(token.as_bytes()) == **expected
    }

    fn has_session(&self, session: &str) -> bool {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = sha256_hex(session.as_bytes());
        sessions.iter().any(|known| *known == digest)
    }

    fn new_session(&self) -> String {
        let session = random_token();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() == SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(sha256_hex(session.as_bytes()));
        session
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        if self.token_sha256.is_none() {
            return is_local_name(headers);
        }
        let bearer = text(headers, header::AUTHORIZATION)
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|token| self.is_token(token.trim()));
        bearer || session(headers).is_some_and(|session| self.has_session(session))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = text(headers, header::COOKIE)?.split(';');
    cookies
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// Whether the browser asked for an address or for localhost: another name that leads here is a page
/// from elsewhere that wants to read what loopback shows.
fn is_local_name(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST) else { return true };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

/// Lets those in who may look; browsers are sent to the login form.
pub(super) async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    if access.admits(request.headers()) {
        return next.run(request).await;
    }
    if access.token_sha256.is_some() && request.uri().path() == "/" {
        return Redirect::to("/login").into_response();
    }
    refused()
}

/// Lets those in who know the token, if there is one.
pub(super) async fn guard_token(
    State(access): State<Access>,
    request: Request,
    next: Next,
) -> Response {
    if access.token_sha256.is_none() || access.admits(request.headers()) {
        return next.run(request).await;
    }
    refused()
}

fn refused() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, challenge, "the token is missing or wrong\n").into_response()
}

pub(super) async fn login_page() -> Html<String> {
    Html(LOGIN.replace("<!-- refusal -->", ""))
}

/// Takes the token of the form and answers with a session.
pub(super) async fn login(State(access): State<Access>, body: Bytes) -> Response {
    let form = if body.len() <= FORM_BYTES_MAX { &body[..] } else { &[] };
    if access.token_sha256.is_none() || !access.is_token(&form_field(form, "token")) {
        let page = Html(LOGIN.replace("<!-- refusal -->", REFUSAL));
        return (StatusCode::UNAUTHORIZED, page).into_response();
    }
    let session = access.new_session();
    let secure = if access.tls.is_some() { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/{secure}");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

/// Forgets the session.
pub(super) async fn logout(State(access): State<Access>, headers: HeaderMap) -> Response {
    if let Some(session) = session(&headers) {
        let mut sessions = access.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = sha256_hex(session.as_bytes());
        sessions.retain(|known| *known != digest);
    }
    Redirect::to("/login").into_response()
}

/// A field of a URL-encoded form, blanks around it dropped; empty without one.
fn form_field(form: &[u8], name: &str) -> String {
    let field = form.split(|&b| b == b'&').find_map(|pair| {
        let mut parts = pair.splitn(2, |&b| b == b'=');
        (parts.next()? == name.as_bytes()).then(|| parts.next().unwrap_or_default())
    });
    let mut bytes = field.unwrap_or_default().iter().copied();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let digit = |b: u8| char::from(b).to_digit(16);
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair = bytes.next().and_then(digit).zip(bytes.next().and_then(digit));
                pair.map_or(b'%', |(high, low)| (high * 16 + low) as u8)
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&decoded).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_token_or_a_session_of_this_process_lets_in() {
        let access = Access::with_token("0123456789abcdef");
        let admits = |name, value: &str| access.admits(&headers(&[(name, value)]));
        assert!(admits(header::AUTHORIZATION, "Bearer 0123456789abcdef"));
        assert!(!admits(header::AUTHORIZATION, "Bearer 0123456789abcdeF"));
        assert!(!admits(header::COOKIE, "glmeval-session=0123456789abcdef"));
        let session = access.new_session();
        assert!(admits(header::COOKIE, &format!("a=b; glmeval-session={session}")));
        assert!(!access.admits(&HeaderMap::new()));
    }

    #[test]
    fn a_foreign_name_that_leads_to_loopback_is_refused() {
        let access = Access::default();
        for (host, admitted) in [
            ("127.0.0.1:8080", true),
            ("localhost:8080", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(access.admits(&headers(&[(header::HOST, host)])), admitted, "{host}");
        }
    }

    #[test]
    fn a_form_field_is_decoded_and_never_panics() {
        assert_eq!(form_field(b"a=1&token=+x%2By%20&b", "token"), "x+y");
        assert_eq!(form_field(b"token=%", "token"), "%");
        assert_eq!(form_field(b"token=%f", "token"), "%");
        assert_eq!(form_field(b"", "token"), "");
    }
}
