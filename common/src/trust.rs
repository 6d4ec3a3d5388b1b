//! Who may ask what of a coordinator, and by what each side proves who it is.
//!
//! Leaves out: sockets (coordinator), messages (`wire`). Invariant: what holds a secret here shows it
//! neither in `Debug` nor in an error.

mod certificates;
pub mod rate;
mod token;

pub use certificates::{TlsFiles, TlsIdentity, roles_of, sha256_of_certificate};
pub use token::{Token, write_secret};

/// What a process may do to a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Is one: answers, never asks.
    Coordinator,
    /// Submits, follows and ends jobs.
    Operator,
    /// Takes units.
    Worker,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Coordinator, Self::Operator, Self::Worker];

    /// Its name: of files, and for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Operator => "operator",
            Self::Worker => "worker",
        }
    }

    /// The DNS name that a certificate of this role carries as an alternative name of its subject.
    ///
    /// Clients check this name rather than the coordinator's host: the CA is the job's own, so whoever
    /// has the certificate is the coordinator, wherever an engine started it.
    pub fn certificate_name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator.glmeval.internal",
            Self::Operator => "operator.glmeval.internal",
            Self::Worker => "worker.glmeval.internal",
        }
    }
}

/// By what a worker or an operator proves who it is, and whom it believes.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Certificates; plain text without them.
    pub tls: Option<TlsIdentity>,
    /// Bearer token.
    pub token: Option<Token>,
    /// Whether the token may travel in plain text beyond this machine.
    pub insecure: bool,
}
