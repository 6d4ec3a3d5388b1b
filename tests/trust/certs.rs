//! `glmeval certs`: what it writes, who can read it, what it never overwrites.

use glmeval_common::digest::sha256_hex;
use glmeval_tests::glmeval::{glmeval, succeeds};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const FILES: [&str; 7] = [
    "ca.pem",
    "coordinator.key",
    "coordinator.pem",
    "operator.key",
    "operator.pem",
    "worker.key",
    "worker.pem",
];

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn certificates_are_their_owners_alone_and_the_fingerprint_is_that_of_the_ca() {
    let folder = tempfile::tempdir().unwrap();
    let said = succeeds(folder.path(), &["certs", "new", "c", "--host", "head.lan"]).await;
    let certificates = folder.path().join("c");
    assert_eq!(
        (names(folder.path()), names(&certificates)),
        (vec!["c".into()], FILES.map(String::from).to_vec())
    );
    assert_eq!(mode(&certificates), 0o700);
    for name in FILES {
        assert_eq!(mode(&certificates.join(name)), 0o600, "{name}");
    }
    let ca = CertificateDer::from_pem_file(certificates.join("ca.pem")).unwrap();
    assert_eq!(said.trim(), format!("CA sha256 {}", sha256_hex(&ca)));
}

#[tokio::test]
async fn nothing_is_overwritten_and_nothing_half_done_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("empty")).unwrap();
    succeeds(folder, &["certs", "new", "empty"]).await;
    assert_eq!(mode(&folder.join("empty")), 0o700);
    let before = std::fs::read(folder.join("empty/worker.key")).unwrap();
    std::fs::write(folder.join("file"), "mine").unwrap();
    for taken in ["empty", "file"] {
        let ended = glmeval(folder, &["certs", "new", taken]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains("nothing is overwritten"), "{ended:?}");
    }
    assert_eq!(std::fs::read(folder.join("empty/worker.key")).unwrap(), before);
    assert_eq!(std::fs::read(folder.join("file")).unwrap(), b"mine");
    assert_eq!(names(folder), ["empty", "file"]);
}

#[tokio::test]
async fn bad_names_hosts_and_days_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (flag, value) in [("--name", "Up"), ("--name", "a/b"), ("--name", "a-"), ("--host", "é")] {
        let ended = glmeval(folder.path(), &["certs", "new", "c", flag, value]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("expected"), "{ended:?}");
    }
    let ended = glmeval(folder.path(), &["certs", "new", "c", "--days", "0"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(names(folder.path()).is_empty());
}

#[tokio::test]
async fn a_secret_of_kubernetes_holds_the_files_of_one_role() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["certs", "new", "c", "--name", "lab", "--kubernetes-secret"];
    let manifests = succeeds(folder.path(), &words).await;
    let documents: Vec<&str> = manifests.split("\n---\n").collect();
    assert_eq!(documents.len(), 3);
    for (document, role) in documents.iter().zip(["coordinator", "operator", "worker"]) {
        let document = format!("{document}\n");
        assert!(document.contains(&format!("kind: Secret\nmetadata:\n  name: lab-{role}\n")));
        assert_eq!(document.matches("PRIVATE KEY").count(), 2, "one key, its first and last line");
        for name in ["ca.pem".to_owned(), format!("{role}.pem"), format!("{role}.key")] {
            let text = std::fs::read_to_string(folder.path().join("c").join(&name)).unwrap();
            let inset: String = text.lines().map(|line| format!("    {line}\n")).collect();
            assert!(document.contains(&format!("  {name}: |\n{inset}")), "{role} {name}");
        }
    }
}

#[tokio::test]
async fn a_token_is_made_once_and_said_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = glmeval(folder, &["certs", "token", "token"]).await;
    let token = std::fs::read_to_string(folder.join("token")).unwrap();
    assert_eq!((made.code, token.trim().len(), mode(&folder.join("token"))), (Some(0), 64, 0o600));
    assert!(!made.stdout.contains(token.trim()) && !made.stderr.contains(token.trim()));
    let again = glmeval(folder, &["certs", "token", "token"]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert_eq!(std::fs::read_to_string(folder.join("token")).unwrap(), token);
}
