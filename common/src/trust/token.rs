//! Bearer tokens: read, made, compared.
//!
//! Invariant: a comparison takes as long for a wrong token as for the right one, of any length.

use crate::error::{Error, InputError, Result, io_error};
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_BYTES_MIN};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;
use subtle::ConstantTimeEq;

/// A secret that proves a role to a coordinator without certificates.
#[derive(Clone)]
pub struct Token {
    text: String,
    digest: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

/// Characters that a token may hold: those of an HTTP bearer token (RFC 6750, 2.1).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

impl Token {
    /// Takes `text`, which came from `place`.
    ///
    /// # Errors
    /// `Invalid` for text that is too short, too long or holds other characters; it is not quoted.
    pub fn new(text: &str, place: &str) -> Result<Self> {
        let lengths = TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX;
        if !lengths.contains(&text.len()) || !text.bytes().all(is_plain) {
            let expected = format!(
                "one line of {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} letters, digits and `-._~+/=`"
            );
            let found = format!("{} bytes that are not", text.len());
            return Err(InputError::new(place, "token", expected, found).into());
        }
        Ok(Self { text: text.to_owned(), digest: Sha256::digest(text.as_bytes()).into() })
    }

    /// Reads the one line of `file`.
    ///
    /// # Errors
    /// As [`Token::new`]; `NotFound`, `Invalid` or `Unavailable` when it cannot be read.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes = super::certificates::read_small(file)?;
        let text = String::from_utf8_lossy(&bytes);
        Self::new(text.trim(), &file.display().to_string())
    }

    /// Draws 32 bytes from the system's randomness and writes them in hexadecimal.
    ///
    /// # Errors
    /// `Unavailable` when the system has none to give.
    pub fn random() -> Result<Self> {
        let mut bytes = [0_u8; 32];
        let provider = rustls::crypto::ring::default_provider();
        provider
            .secure_random
            .fill(&mut bytes)
            .map_err(|_| Error::unavailable("draw random bytes from the system"))?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::new(&text, "random token")
    }

    /// Whether `offered` is this token. Digests are compared, in constant time.
    pub fn matches(&self, offered: &[u8]) -> bool {
        let offered: [u8; 32] = Sha256::digest(offered).into();
        self.digest.ct_eq(&offered).into()
    }

    /// The secret itself: for the file it is written to, and for the header it travels in.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Writes the token to a file that nobody else can read and that did not exist.
    ///
    /// # Errors
    /// `Invalid` when `file` exists, as [`io_error`] otherwise.
    pub fn write(&self, file: &Path) -> Result<()> {
        write_secret(file, format!("{}\n", self.text).as_bytes())
    }
}

/// Creates `file` with mode 0600 and writes `bytes`.
///
/// # Errors
/// `Invalid` when `file` exists, as [`io_error`] otherwise.
pub fn write_secret(file: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut opened = options.write(true).create_new(true).mode(0o600).open(file).map_err(|e| {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            return InputError::new(file.display(), "", "a name that is free", "a file").into();
        }
        io_error(file, e)
    })?;
    let written = opened.write_all(bytes).and_then(|()| opened.sync_all());
    written.map_err(|e| io_error(file, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_itself_only() {
        let token = Token::random().unwrap();
        let other = Token::random().unwrap();
        assert!(token.matches(token.reveal().as_bytes()) && token.reveal().len() == 64);
        for offered in [other.reveal(), "", &token.reveal()[..63], &format!("{}0", token.reveal())]
        {
            assert!(!token.matches(offered.as_bytes()));
        }
    }

    #[test]
    fn a_token_shows_itself_nowhere() {
        let secret = "0123456789abcdef0123456789abcdef";
        let token = Token::new(secret, "t").unwrap();
        assert!(!format!("{token:?} {token:#?}").contains("0123"));
        let long = secret.repeat(100);
        for text in [&format!("{secret} x"), &secret[..20], long.as_str(), ""] {
            let error = Token::new(text, "t").unwrap_err();
            assert!(error.chain().starts_with("t: token: expected one line"), "{}", error.chain());
            assert!(!format!("{error:?}").contains("0123"));
        }
    }

    #[test]
    fn a_written_token_is_its_owners_alone_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let token = Token::random().unwrap();
        token.write(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Token::read(&file).unwrap().matches(token.reveal().as_bytes()));
        let error = Token::random().unwrap().write(&file).unwrap_err();
        assert!(error.chain().contains("expected a name that is free"), "{}", error.chain());
        assert!(Token::read(&file).unwrap().matches(token.reveal().as_bytes()));
    }
}
