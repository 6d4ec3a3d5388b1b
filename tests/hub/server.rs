//! A Hub on loopback: one repository, a second host for large files, and faults on demand.
//!
//! Leaves out: TLS. Invariant: every request is noted before it is answered.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// One request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
    /// Whether the second host got it.
    pub(crate) storage: bool,
}

/// A file of the repository.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) bytes: Vec<u8>,
    pub(crate) etag: String,
    /// Whether the second host sends its bytes.
    pub(crate) large: bool,
}

/// What the server does wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// Statuses that the next requests get instead of an answer.
    pub(crate) statuses: Vec<u16>,
    /// Every body of a large file ends before this byte of the file.
    pub(crate) cut_at: Option<usize>,
    /// Sends whole files, whatever range was asked for.
    pub(crate) ignore_range: bool,
    /// Bytes sent in place of a large file's, with a length that fits them.
    pub(crate) replaced: Option<Vec<u8>>,
    /// Announced size of large files, where it is not the true one.
    pub(crate) size: Option<usize>,
    /// Body of the description of the repository.
    pub(crate) description: Option<String>,
    /// The token that a client must have.
    pub(crate) token: Option<String>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<String, Stored>,
    pub(crate) faults: Faults,
    pub(crate) requests: Vec<Request>,
    storage: String,
}

/// The server; its threads end with the process.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// A repository with these files; names of weights count as large.
    pub(crate) fn start(files: &[(&str, &[u8])]) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let url = listen(&state, false);
        let storage = listen(&state, true);
        let server = Self { url, state };
        server.state().storage = storage;
        for (name, bytes) in files {
            let large = !name.ends_with("json") && !name.ends_with("txt");
            let etag = if large { sha256(bytes) } else { git_sha1(name) };
            let stored = Stored { bytes: bytes.to_vec(), etag, large };
            server.state().files.insert((*name).to_owned(), stored);
        }
        server
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `git hash-object` of the small files that the tests use.
fn git_sha1(name: &str) -> String {
    match name {
        // printf '{}' | git hash-object --stdin
        "config.json" => "9e26dfeeb6e641a33dae4961196235bdb965b21b",
        // printf '<cls>\n<pad>\n' | git hash-object --stdin
        "vocab.txt" => "bbc0a2702b3089ceebd4b3c73c5212be671c8be6",
        // Not a digest: only the length of such a file is checked.
        _ => "not-a-digest",
    }
    .to_owned()
}

fn listen(state: &Arc<Mutex<State>>, storage: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&state);
            // A client that hangs up is what some tests are about.
            std::thread::spawn(move || drop(serve(&stream, &state, storage)));
        }
    });
    url
}

/// Answers one request; every connection carries one.
fn serve(stream: &TcpStream, state: &Mutex<State>, storage: bool) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let (range, authorization) = (headers.remove("range"), headers.remove("authorization"));
    let request = Request { method, path, range, authorization, storage };
    let answer = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        state.answer(&request)
    };
    let mut stream = stream;
    stream.write_all(&answer)?;
    stream.flush()
}

fn plain(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

impl State {
    fn answer(&mut self, request: &Request) -> Vec<u8> {
        if let Some(status) = self.faults.statuses.pop() {
            return plain(status, "", b"busy");
        }
        let allowed = self.faults.token.as_ref().map(|token| format!("Bearer {token}"));
        if !request.storage && allowed.is_some() && request.authorization != allowed {
            return plain(401, "X-Error-Code: GatedRepo\r\n", b"");
        }
        let path = request.path.as_str();
        // A model that was renamed, and one whose new name leads back.
        if path.contains("/ada/old/") || path.contains("/ada/loop/") {
            let to = path.replace("/ada/old/", "/ada/tiny/");
            return plain(307, &format!("Location: {to}\r\nETag: \"redirect\"\r\n"), b"");
        }
        for revision in ["main", "refs%2Fpr%2F1", COMMIT] {
            if path == format!("/api/models/ada/tiny/revision/{revision}") {
                return plain(200, "", self.description().as_bytes());
            }
        }
        let prefix = format!("/ada/tiny/resolve/{COMMIT}/");
        let name = path.strip_prefix("/storage/").or_else(|| path.strip_prefix(&prefix));
        let Some(stored) = name.and_then(|name| self.files.get(name)) else {
            return plain(404, "X-Error-Code: EntryNotFound\r\n", b"");
        };
        let size = self.faults.size.filter(|_| stored.large).unwrap_or(stored.bytes.len());
        if stored.large && !request.storage {
            let to = format!("{}/storage/{}", self.storage, name.unwrap_or_default());
            let linked = format!("X-Linked-Etag: \"{}\"\r\nX-Linked-Size: {size}\r\n", stored.etag);
            // The etag of a redirect is not the file's.
            let head =
                format!("Location: {to}\r\nX-Repo-Commit: {COMMIT}\r\nETag: \"redirect\"\r\n");
            return plain(302, &format!("{head}{linked}"), b"");
        }
        let etag = format!("ETag: W/\"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n", stored.etag);
        if request.method == "HEAD" {
            let mut answer = plain(200, &etag, &stored.bytes);
            answer.truncate(answer.len() - stored.bytes.len());
            return answer;
        }
        self.bytes(stored, request, if stored.large { "ETag: \"elsewhere\"\r\n" } else { &etag })
    }

    fn bytes(&self, stored: &Stored, request: &Request, headers: &str) -> Vec<u8> {
        let bytes = self.faults.replaced.as_ref().filter(|_| stored.large).unwrap_or(&stored.bytes);
        let range = request.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
        let start = range.and_then(|range| range.trim_end_matches('-').parse().ok());
        let start = start.filter(|_| !self.faults.ignore_range);
        let body = bytes.get(start.unwrap_or(0)..).unwrap_or_default();
        let mut answer = match start {
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                plain(206, &format!("{headers}Content-Range: {range}\r\n"), body)
            }
            None => plain(200, headers, body),
        };
        if let Some(cut) = self.faults.cut_at.filter(|_| stored.large) {
            let sent = cut.saturating_sub(start.unwrap_or(0)).min(body.len());
            answer.truncate(answer.len() - body.len() + sent);
        }
        answer
    }

    fn description(&self) -> String {
        if let Some(text) = &self.faults.description {
            return text.clone();
        }
        let siblings: Vec<_> =
            self.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        serde_json::json!({ "id": "ada/tiny", "sha": COMMIT, "siblings": siblings }).to_string()
    }
}
