//! A headless Chromium, driven over the WebDriver protocol.
//!
//! Leaves out: what is looked at. Invariant: browser and driver end with the test.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::world::until;
use glmeval_tests::http::request;
use glmeval_tests::real::program;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};

const ARGUMENTS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];
/// How long a condition in the page may take.
const SCRIPT_MS_MAX: u64 = 150_000;

/// One browser window.
pub(crate) struct Browser {
    _driver: Child,
    _profile: TempDir,
    address: String,
    session: String,
}

impl Browser {
    /// Starts one; without Chromium it says aloud that `what` is skipped.
    pub(crate) async fn start(what: &str) -> Option<Self> {
        program("chromium", what)?;
        let program = program("chromedriver", what)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.arg(format!("--port={port}")).kill_on_drop(true).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = command.spawn().unwrap();
        until(async || request(&address, "GET", "/status", &[], "").await.ok()).await;
        let profile = TempDir::new().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let arguments: Vec<&str> = ARGUMENTS.into_iter().chain([&folder[..]]).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            // Certificates of the tests' own CA.
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": SCRIPT_MS_MAX},
        }}});
        let mut browser =
            Self { _driver: driver, _profile: profile, address, session: String::new() };
        let session = browser.call("POST", "/session", &wanted).await;
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let json = ["Content-Type: application/json"];
        let answer = request(&self.address, method, path, &json, &body).await.unwrap();
        assert_eq!(answer.status, 200, "{method} {path} {body}: {}", answer.body);
        let mut answer: Value = serde_json::from_str(&answer.body).unwrap();
        answer["value"].take()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.call("POST", &format!("{}{path}", self.session), &body).await
    }

    /// Opens a page.
    pub(crate) async fn open(&self, url: &str) {
        self.post("/url", json!({"url": url})).await;
    }

    /// What `script` returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until `condition` holds in the page.
    pub(crate) async fn wait(&self, condition: &str) {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const look = () => {{ if ({condition}) {{ clearInterval(timer); done(true); }} }};
             const timer = setInterval(look, 50);"
        );
        self.post("/execute/async", json!({"script": script, "args": []})).await;
    }

    /// Presses keys one after another; `\u{e004}` is Tab, `\u{e007}` Enter.
    pub(crate) async fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        let actions = json!([{"type": "key", "id": "keyboard", "actions": strokes}]);
        self.post("/actions", json!({"actions": actions})).await;
    }

    async fn command(&self, name: &str, parameters: Value) {
        self.post("/goog/cdp/execute", json!({"cmd": name, "params": parameters})).await;
    }

    /// Sizes the window, in CSS pixels.
    pub(crate) async fn size(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// What the system prefers: `light` or `dark`.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.command("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// What the page complained of since this was last asked.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({"type": "browser"})).await;
        let lines = log.as_array().into_iter().flatten();
        lines.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Writes a picture of the window.
    pub(crate) async fn picture(&self, path: &Path) {
        let picture = self.call("GET", &format!("{}/screenshot", self.session), &Value::Null).await;
        std::fs::write(path, base64(picture.as_str().unwrap())).unwrap();
    }

    /// Ends the browser.
    pub(crate) async fn quit(self) {
        self.call("DELETE", &self.session, &Value::Null).await;
    }
}

/// Decodes base64 (RFC 4648).
fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().filter_map(|b| LETTERS.iter().position(|&known| known == b)) {
        bits = (bits << 6) | letter as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}
