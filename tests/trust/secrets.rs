//! Secrets reach no log and no error, at the chattiest level of every library.

use crate::world::World;
use glmeval_tests::glmeval::{Running, command, ended, succeeds};
use glmeval_tests::jobs::write_long_job;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

const TOKEN: &str = "token-marker-5b1c0f7e9a3d42c6b8e1d0f7a9c3b5e2";
const SECRETS: [(&str, &str); 3] = [
    ("AWS_SECRET_ACCESS_KEY", "aws-marker-0c7d5e91b2f84a63"),
    ("AWS_SESSION_TOKEN", "session-marker-77aa10de45bc"),
    ("HF_TOKEN", "hf-marker-19c0de5af00d"),
];

fn with_secrets(mut command: Command) -> Command {
    command.env("RUST_LOG", "trace").env("AWS_ACCESS_KEY_ID", "access").envs(SECRETS);
    command
}

/// The longest line of each key: what a log would show of it.
fn key_lines(folder: &Path) -> Vec<String> {
    let keys =
        ["coordinator", "operator", "worker"].map(|role| folder.join(role).with_extension("key"));
    let texts = keys.map(|key| std::fs::read_to_string(key).unwrap());
    let longest = |text: &String| text.lines().max_by_key(|line| line.len()).unwrap().to_owned();
    texts.iter().map(longest).collect()
}

fn check_silent(lines: &[String], keys: &[String]) {
    let mut secrets: Vec<&str> = SECRETS.iter().map(|(_, secret)| *secret).collect();
    secrets.push(TOKEN);
    secrets.extend(keys.iter().map(String::as_str));
    for line in lines {
        for secret in &secrets {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[tokio::test]
async fn a_whole_job_at_trace_level_says_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    succeeds(&path, &["certs", "new", "certificates"]).await;
    std::fs::write(path.join("token"), format!("{TOKEN}\n")).unwrap();
    write_long_job(&path, 16, 8);
    let trust = ["--tls", "certificates", "--token-file", "token"];
    let start = ["coordinator", "--store", "store", "--listen", "127.0.0.1:0"];
    let mut coordinator =
        Running::start(with_secrets(command(&path, &[&start[..], &trust].concat())));
    let line = coordinator.line_with("listens on ").await;
    let address = line.rsplit(' ').next().unwrap().to_owned();
    let at = ["--coordinator", &address];
    let run = |words: &[&str]| ended(with_secrets(command(&path, &[words, &at, &trust].concat())));
    let submitted = run(&["submit", "job.toml"]).await;
    let worker = run(&["worker", "--store", "store", "--until-idle"]).await;
    assert_eq!((submitted.code, worker.code), (Some(0), Some(0)), "{}", worker.stderr);
    let refused = run(&["status", "unknown"]).await;
    let mut lines = coordinator.kill().await;
    assert!(lines.len() > 100, "the coordinator talks: {}", lines.len());
    for ended in [submitted, worker, refused] {
        assert!(ended.stderr.lines().count() > 20, "the command talks: {}", ended.stderr);
        lines.extend(ended.stderr.lines().chain(ended.stdout.lines()).map(str::to_owned));
    }
    check_silent(&lines, &key_lines(&path.join("certificates")));
}

/// An S3 server that forbids everything; its address.
async fn forbidding_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0_u8; 8_192];
                while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                    let body = "<Error><Code>AccessDenied</Code></Error>";
                    let head =
                        format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\n\r\n", body.len());
                    let answer = head + body;
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_store_that_refuses_its_credentials_is_reported_without_them() {
    let folder = tempfile::tempdir().unwrap();
    let address = forbidding_server().await;
    let words = ["worker", "--discover", "--store", "s3://bucket/prefix"];
    let mut worker = with_secrets(command(folder.path(), &words));
    worker.env("AWS_ENDPOINT_URL", format!("http://{address}")).env("AWS_ALLOW_HTTP", "true");
    worker.env("AWS_REGION", "us-east-1");
    let ended = ended(worker).await;
    assert!(ended.code != Some(0) && ended.stderr.contains("s3://bucket/prefix"), "{ended:?}");
    let lines: Vec<String> = ended.stderr.lines().map(str::to_owned).collect();
    check_silent(&lines, &[]);
}

#[tokio::test]
async fn a_refused_token_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["certs", "token", "right"]).await;
    std::fs::write(folder.path().join("wrong"), TOKEN).unwrap();
    let world = World::start(folder, &["--token-file", "right"]).await;
    let refused = world.ask(&["jobs"], &["--token-file", "wrong"]).await;
    let mut lines = world.coordinator.process.kill().await;
    assert!(lines.iter().any(|line| line.contains("call refused")), "{lines:?}");
    lines.extend(refused.stderr.lines().map(str::to_owned));
    check_silent(&lines, &[]);
}
