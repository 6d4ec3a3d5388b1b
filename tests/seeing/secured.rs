//! Dashboard and metrics over TLS, with the certificates of the coordinator.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::webdriver::Browser;
use crate::world::{World, address};
use glmeval_tests::glmeval::{command, ended, succeeds};
use glmeval_tests::http;
use reqwest::{Certificate, Client, StatusCode};
use tempfile::TempDir;

const TOKEN: &str = "correct horse battery staple";

/// A coordinator whose dashboard and metrics are secured, and the CA that vouches for it.
async fn secured() -> (World, String, Vec<u8>) {
    let folder = TempDir::new().unwrap();
    succeeds(folder.path(), &["certs", "new", "certificates"]).await;
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let ca = std::fs::read(folder.path().join("certificates/ca.pem")).unwrap();
    let flags = ["--tls", "certificates", "--dashboard-tls", "--dashboard-token-file", "token"];
    let metrics = ["--metrics-addr", "127.0.0.1:0", "--metrics-token-file", "token"];
    let flags = [&flags[..], &metrics].concat();
    let mut world = World::start_in(folder, "127.0.0.1:0", "127.0.0.1:0", &flags).await;
    let line = world.coordinator.process.line_with("metrics on https://").await;
    (world, address(&line), ca)
}

/// A client that believes `ca` alone, or, without one, what this machine believes.
fn client(ca: Option<&[u8]>) -> Client {
    // Whoever was first has installed the same one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let roots: Vec<Certificate> =
        ca.map(|pem| Certificate::from_pem(pem).unwrap()).into_iter().collect();
    Client::builder().tls_certs_only(roots).build().unwrap()
}

#[tokio::test]
async fn with_certificates_plain_text_is_told_nothing_and_the_token_is_wanted_all_the_same() {
    let (world, metrics, ca) = secured().await;
    for (at, path) in [(&world.dashboard, "/overview.json"), (&metrics, "/metrics")] {
        for path in [path, "/healthz"] {
            let plain = http::get(at, path).await;
            assert_eq!(plain.status, 400, "{path}");
            assert!(plain.body.contains("ask for https://"), "{plain:?}");
        }
        let url = format!("https://{at}{path}");
        let known = client(Some(&ca));
        let status = async |token: &str| {
            let asked = known.get(&url).bearer_auth(token).send().await;
            asked.unwrap().status()
        };
        assert_eq!(status("wrong horse battery staple").await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(TOKEN).await, StatusCode::OK, "{path}");
        let healthy = known.get(format!("https://{at}/healthz")).send().await.unwrap();
        assert_eq!(healthy.status(), StatusCode::OK, "health needs no token");
        let stranger = client(None).get(&url).bearer_auth(TOKEN).send().await;
        assert!(stranger.unwrap_err().is_connect(), "a stranger's certificate");
    }
    let login = format!("https://{}/login", world.dashboard);
    let form = format!("token={}", TOKEN.replace(' ', "+"));
    let no_redirect = reqwest::redirect::Policy::none();
    let roots = [Certificate::from_pem(&ca).unwrap()];
    let once = Client::builder().tls_certs_only(roots).redirect(no_redirect).build().unwrap();
    let right = once.post(&login).body(form).send().await.unwrap();
    let cookie = right.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("; Secure"), "{cookie}");
}

#[tokio::test]
async fn a_browser_sees_the_secured_dashboard() {
    let what = "the dashboard over TLS in a browser";
    let Some(browser) = Browser::start(what).await else { return };
    let (world, ..) = secured().await;
    browser.open(&format!("https://{}/", world.dashboard)).await;
    browser.wait("document.querySelector('input[name=token]')").await;
    let enter = format!(
        "document.querySelector('input[name=token]').value = '{TOKEN}';
         document.querySelector('form').submit()"
    );
    browser.run(&enter).await;
    browser.wait("!document.getElementById('jobs-none')?.hidden").await;
    assert_eq!(browser.run("return location.protocol").await, "https:");
    browser.quit().await;
}

#[tokio::test]
async fn a_secured_dashboard_without_certificates_is_refused() {
    let folder = TempDir::new().unwrap();
    let arguments = ["coordinator", "--listen", "127.0.0.1:0", "--store", "s"];
    let flags = ["--dashboard", "127.0.0.1:0", "--dashboard-tls"];
    let ended = ended(command(folder.path(), &[&arguments[..], &flags].concat())).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("expected certificates: --tls DIR"), "{ended:?}");
}
