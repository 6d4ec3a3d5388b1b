//! Certificates good and bad, and a coordinator that asks for them.

use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::trust::{Credentials, Role, TlsFiles, TlsIdentity};
use glmeval_common::wire::GrpcControl;
use glmeval_tests::glmeval::{Coordinator, Ended, glmeval, succeeds};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A folder, certificates `certificates` in it, and a coordinator over `store` that wants them.
pub(crate) struct World {
    _folder: TempDir,
    pub(crate) folder: PathBuf,
    pub(crate) coordinator: Coordinator,
}

impl World {
    /// With certificates that `glmeval certs new` made.
    pub(crate) async fn secured() -> Self {
        let folder = tempfile::tempdir().unwrap();
        succeeds(folder.path(), &["certs", "new", "certificates"]).await;
        Self::start(folder, &["--tls", "certificates"]).await
    }

    pub(crate) async fn start(folder: TempDir, flags: &[&str]) -> Self {
        let path = folder.path().to_path_buf();
        let coordinator = Coordinator::start(&path, "127.0.0.1:0", flags).await;
        Self { _folder: folder, folder: path, coordinator }
    }

    pub(crate) fn address(&self) -> &str {
        &self.coordinator.address
    }

    /// Runs a command against the coordinator to its end.
    pub(crate) async fn ask(&self, words: &[&str], flags: &[&str]) -> Ended {
        let at = ["--coordinator", self.address()];
        glmeval(&self.folder, &[words, &at, flags].concat()).await
    }

    /// Runs a worker, which is expected to be refused.
    pub(crate) async fn worker(&self, flags: &[&str]) -> Ended {
        self.ask(&["worker", "--store", "store"], flags).await
    }

    /// A client in this process, which looks at no certificate before it uses it.
    pub(crate) fn client(&self, files: TlsFiles) -> GrpcControl {
        let tls = Some(TlsIdentity::read(files).unwrap());
        let credentials = Credentials { tls, ..Credentials::default() };
        GrpcControl::connect_as(self.address(), &credentials).unwrap()
    }
}

/// The command was refused: exit code, and words of the message.
pub(crate) fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word}: {ended:?}");
    }
}

/// A CA that signs anything.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a certificate says.
pub(crate) struct Claims<'a> {
    pub(crate) names: &'a [&'a str],
    pub(crate) usage: ExtendedKeyUsagePurpose,
    /// Days from now, negative for days past.
    pub(crate) days: i64,
}

const DAY_S: i64 = 86_400;

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    /// Writes a certificate into `folder` under the file names of `role`.
    pub(crate) fn issue(&self, folder: &Path, role: Role, claims: &Claims<'_>) {
        std::fs::create_dir_all(folder).unwrap();
        let names: Vec<String> = claims.names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.extended_key_usages = vec![claims.usage.clone()];
        let now_s = i64::try_from(SystemClock::default().unix_ms() / 1_000).unwrap();
        let at = |s: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(s.unsigned_abs());
        parameters.not_before = at(now_s - 30 * DAY_S);
        parameters.not_after = at(now_s + claims.days * DAY_S);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        let files = TlsFiles::in_folder(folder, role);
        std::fs::write(files.ca, self.0.pem()).unwrap();
        std::fs::write(files.certificate, certificate.pem()).unwrap();
        std::fs::write(files.key, key.serialize_pem()).unwrap();
    }

    /// A folder of good certificates.
    pub(crate) fn issue_all(&self, folder: &Path) {
        for role in Role::ALL {
            let usage = match role {
                Role::Coordinator => ExtendedKeyUsagePurpose::ServerAuth,
                Role::Operator | Role::Worker => ExtendedKeyUsagePurpose::ClientAuth,
            };
            self.issue(folder, role, &Claims { names: &[role.certificate_name()], usage, days: 7 });
        }
    }
}

/// Certificates of an [`Authority`] in `certificates`, and a coordinator that wants them.
pub(crate) async fn with_authority() -> (Authority, World) {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.issue_all(&folder.path().join("certificates"));
    (authority, World::start(folder, &["--tls", "certificates"]).await)
}
