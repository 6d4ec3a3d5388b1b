//! Callers that are refused, and coordinators that are: each with its reason and its exit code.

use crate::world::{Authority, Claims, World, refused, with_authority};
use glmeval_common::control::{Ask, Control};
use glmeval_common::error::{Error, ErrorKind};
use glmeval_common::ids::WorkerId;
use glmeval_common::trust::{Role, TlsFiles};
use glmeval_tests::glmeval::{Running, command, glmeval, succeeds};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const WORKER: &str = "worker.glmeval.internal";

#[tokio::test]
async fn without_certificates_a_worker_leaves_for_good_and_a_command_says_what_to_give() {
    let world = World::secured().await;
    let words = ["certificates only", "--tls DIR"];
    refused(&world.worker(&[]).await, 42, &words);
    for command in
        [&["jobs"][..], &["status", "x"], &["watch", "x"], &["cancel", "x"], &["drain", "w"]]
    {
        refused(&world.ask(command, &[]).await, 1, &words);
    }
    let https = format!("https://{}", world.address());
    let ended = glmeval(&world.folder, &["jobs", "--coordinator", &https]).await;
    refused(&ended, 1, &["expected certificates (--tls DIR)"]);
}

#[tokio::test]
async fn certificates_of_another_ca_are_refused_by_either_side() {
    let world = World::secured().await;
    succeeds(&world.folder, &["certs", "new", "other"]).await;
    let words = ["shows no certificate that the CA given vouches for", "UnknownIssuer"];
    refused(&world.worker(&["--tls", "other"]).await, 42, &words);
    refused(&world.ask(&["jobs"], &["--tls", "other"]).await, 1, &words);
    // Whoever has the right CA but a stranger's certificate learns it before a connection is made.
    let mixed = ["--tls", "other", "--tls-ca", "certificates/ca.pem"];
    let words = ["other/worker.pem", "expected a certificate of the role worker", "UnknownIssuer"];
    refused(&world.worker(&mixed).await, 42, &words);
    let own = TlsFiles::in_folder(&world.folder.join("other"), Role::Worker);
    let ca = world.folder.join("certificates/ca.pem");
    refused_certificate(&world, TlsFiles { ca, ..own }).await;
}

/// The coordinator itself refuses a certificate, and says so.
async fn refused_certificate(world: &World, files: TlsFiles) {
    let error = world.client(files).jobs().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error.chain());
    assert!(
        error.chain().contains("the coordinator refuses this certificate"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn expired_certificates_are_refused_by_either_side() {
    let (authority, world) = with_authority().await;
    let expired = world.folder.join("expired");
    authority.issue(
        &expired,
        Role::Worker,
        &Claims { names: &[WORKER], usage: ClientAuth, days: -1 },
    );
    let words = ["expired/worker.pem", "expected a certificate of the role worker", "expired"];
    refused(&world.worker(&["--tls", "expired"]).await, 42, &words);
    refused_certificate(&world, TlsFiles::in_folder(&expired, Role::Worker)).await;
    let names = [Role::Coordinator.certificate_name()];
    authority.issue(
        &expired,
        Role::Coordinator,
        &Claims { names: &names, usage: ServerAuth, days: -1 },
    );
    let start = ["coordinator", "--store", "store", "--listen", "127.0.0.1:0", "--tls", "expired"];
    let ended = glmeval(&world.folder, &start).await;
    refused(&ended, 1, &["expired/coordinator.pem", "expired"]);
}

#[tokio::test]
async fn a_role_is_what_the_certificate_names() {
    let (authority, world) = with_authority().await;
    let files = |role| TlsFiles::in_folder(&world.folder.join("certificates"), role);
    let error = world.client(files(Role::Worker)).jobs().await.unwrap_err();
    denied(&error, "Jobs: expected a certificate of the role operator, found one of worker");
    let ask = Ask { worker: WorkerId::new("w"), units_max: 1, wait_ms: 0, or_finished: false };
    let error = world.client(files(Role::Operator)).ask(ask.clone()).await.unwrap_err();
    denied(&error, "Ask: expected a certificate of the role worker, found one of operator");
    // A certificate for serving opens no connection; one that names no role opens no method.
    refused_certificate(&world, files(Role::Coordinator)).await;
    let nobody = world.folder.join("nobody");
    authority.issue(
        &nobody,
        Role::Worker,
        &Claims { names: &["w.lab"], usage: ClientAuth, days: 1 },
    );
    let nobody = TlsFiles::in_folder(&nobody, Role::Worker);
    let error = world.client(nobody).ask(ask).await.unwrap_err();
    denied(&error, "Ask: expected a certificate of the role worker, found one of no role");
    let operators =
        ["--tls-cert", "certificates/operator.pem", "--tls-key", "certificates/operator.key"];
    let flags = [&["--tls-ca", "certificates/ca.pem"], &operators[..]].concat();
    refused(&world.worker(&flags).await, 42, &["one without the name worker.glmeval.internal"]);
}

fn denied(error: &Error, words: &str) {
    assert_eq!((error.kind(), error.chain().as_str()), (ErrorKind::Invalid, words));
}

#[tokio::test]
async fn a_worker_cannot_pass_for_a_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue_all(&folder.path().join("certificates"));
    let imposter = folder.path().join("imposter");
    // Signed by the right CA for serving, but not as a coordinator.
    authority.issue(
        &imposter,
        Role::Coordinator,
        &Claims { names: &[WORKER, "localhost"], usage: ServerAuth, days: 1 },
    );
    let start = ["coordinator", "--store", "store", "--listen", "127.0.0.1:0", "--tls", "imposter"];
    let ended = glmeval(folder.path(), &start).await;
    refused(&ended, 1, &["imposter/coordinator.pem", "a certificate of the role coordinator"]);
}

#[tokio::test]
async fn wrong_and_missing_tokens_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for token in ["token", "other"] {
        succeeds(folder.path(), &["certs", "token", token]).await;
    }
    std::fs::write(folder.path().join("short"), "abc\n").unwrap();
    let world = World::start(folder, &["--token-file", "token"]).await;
    let jobs = world.ask(&["jobs"], &["--token-file", "token"]).await;
    assert_eq!(jobs.code, Some(0), "{jobs:?}");
    for (flags, word) in [
        (&["--token-file", "other"][..], "not the coordinator's token"),
        (&[], "wants a token: give --token-file"),
        (&["--token-file", "short"], "expected one line of 32 to 512"),
    ] {
        refused(&world.ask(&["jobs"], flags).await, 1, &[word]);
        refused(&world.worker(flags).await, 42, &[word]);
    }
}

#[tokio::test]
async fn certificates_are_of_no_use_with_a_coordinator_in_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["certs", "new", "certificates"]).await;
    let world = World::start(folder, &[]).await;
    let flags = ["--tls", "certificates"];
    let words = ["the coordinator speaks no TLS"];
    refused(&world.worker(&flags).await, 42, &words);
    refused(&world.ask(&["jobs"], &flags).await, 1, &words);
    let http = format!("http://{}", world.address());
    let ended =
        glmeval(&world.folder, &[&["jobs", "--coordinator", &http], &flags[..]].concat()).await;
    refused(&ended, 1, &["expected https://"]);
    let discover = ["worker", "--store", "store", "--discover", "--tls", "certificates"];
    let ended = glmeval(&world.folder, &discover).await;
    refused(&ended, 42, &["ca_sha256: expected the CA given", "found a coordinator without TLS"]);
}

#[tokio::test]
async fn a_record_that_leads_elsewhere_is_refused_with_both_fingerprints() {
    let world = World::secured().await;
    let other = succeeds(&world.folder, &["certs", "new", "other"]).await;
    let record = world.folder.join("store/coordinators/default/000000000001.json");
    let record = std::fs::read_to_string(record).unwrap();
    let discover = ["worker", "--store", "store", "--discover"];
    let ended = glmeval(&world.folder, &[&discover[..], &["--tls", "other"]].concat()).await;
    let given = other.trim().rsplit(' ').next().unwrap();
    refused(&ended, 42, &["record of coordinator default epoch 1", given]);
    let named = ended.stderr.trim().rsplit(' ').next().unwrap();
    assert!(record.contains(&format!("\"{named}\"")) && named != given, "{ended:?}");
    let ended = glmeval(&world.folder, &discover).await;
    refused(&ended, 42, &["as no --tls is given", named]);
}

#[tokio::test]
async fn plain_text_beyond_loopback_is_for_those_who_insist() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(folder, &["certs", "token", "token"]).await;
    succeeds(folder, &["certs", "new", "certificates"]).await;
    let listen = ["coordinator", "--store", "store", "--listen", "0.0.0.0:0"];
    for flags in [&[][..], &["--token-file", "token"]] {
        let ended = glmeval(folder, &[&listen[..], flags].concat()).await;
        refused(&ended, 2, &["certificates beyond loopback", "glmeval certs new", "--insecure"]);
    }
    for flags in [&["--insecure"][..], &["--tls", "certificates"]] {
        let mut running = Running::start(command(folder, &[&listen[..], flags].concat()));
        running.line_with("listens on 0.0.0.0").await;
        running.kill().await;
    }
}

#[tokio::test]
async fn who_says_nothing_or_nonsense_keeps_nobody_waiting() {
    let world = World::secured().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(world.address()).await.unwrap());
    }
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\xff\xffgarbage", b"\0\0\0"] {
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, nonsense).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        // The end of the connection, in whatever way it comes.
        drop(stream.read_to_end(&mut Vec::new()).await);
    }
    let jobs = world.ask(&["jobs"], &["--tls", "certificates"]).await;
    assert_eq!(jobs.code, Some(0), "{jobs:?}");
}
