//! What a server says: who may have a model, what it lists, where it sends the client on.
//!
//! Leaves out: broken connections and wrong bytes (broken).

use super::*;
use glmeval_common::error::ErrorKind;

#[test]
fn the_token_never_reaches_another_host() {
    let mut world = World::new();
    world.server.state().faults.token = Some("secret".to_owned());
    world.hub.token = Some("secret".to_owned());
    world.fetch("hf://ada/tiny").unwrap();
    let (storage, home): (Vec<_>, Vec<_>) =
        world.server.requests().into_iter().partition(|request| request.storage);
    assert_eq!(storage.len(), 1);
    assert!(storage.iter().all(|request| request.authorization.is_none()));
    assert!(home.iter().all(|request| request.authorization.as_deref() == Some("Bearer secret")));
}

#[test]
fn a_renamed_model_is_found_and_its_host_keeps_the_token() {
    let mut world = World::new();
    world.server.state().faults.token = Some("secret".to_owned());
    world.hub.token = Some("secret".to_owned());
    let snapshot = world.fetch("hf://ada/old").unwrap();
    assert!(snapshot.starts_with(world.cache.path().join("models--ada--old")));
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
    let home = world.server.requests().into_iter().filter(|request| !request.storage);
    assert!(home.into_iter().all(|request| request.authorization.is_some()));
}

#[test]
fn redirects_that_never_end_are_refused() {
    let world = World::new();
    let error = world.fetch("hf://ada/loop").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.chain().contains("redirects: expected a few"), "{}", error.chain());
    assert!(world.server.requests().len() < 20);
}

#[test]
fn a_gated_model_asks_for_a_token() {
    let mut world = World::new();
    world.server.state().faults.token = Some("secret".to_owned());
    for token in [None, Some("guessed".to_owned())] {
        world.hub.token = token;
        let error = world.fetch("hf://ada/tiny").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let line = error.chain();
        assert!(line.contains("set HF_TOKEN") && !line.contains("guessed"), "{line}");
    }
    assert_eq!(world.server.requests().len(), 2, "a refusal is not repeated");
}

#[test]
fn an_unknown_model_is_named_with_its_url() {
    let world = World::new();
    let error = world.fetch("hf://ada/huge").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let url = format!("{}/api/models/ada/huge/revision/main", world.server.url);
    assert!(error.chain().contains(&url), "{}", error.chain());
    assert_eq!(world.server.requests().len(), 1);
}

#[test]
fn a_cache_without_the_model_says_offline_how_to_get_it() {
    let mut world = World::new();
    world.hub.offline = true;
    let error = world.fetch("hf://ada/tiny").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let line = error.chain();
    assert!(line.contains("hf://ada/tiny") && line.contains("expected refs/main"), "{line}");
    assert!(line.contains("without HF_HUB_OFFLINE"), "{line}");
    assert_eq!(world.server.requests(), []);
}

#[test]
fn descriptions_that_make_no_sense_are_refused() {
    let name =
        |name: &str| format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": {name}}}]}}"#);
    let texts = [
        ("{".to_owned(), "line 1"),
        ("[]".to_owned(), "sha: expected 40"),
        (r#"{"sha": "../../x", "siblings": []}"#.to_owned(), "sha: expected 40"),
        (format!(r#"{{"sha": "{COMMIT}"}}"#), "siblings: expected a list"),
        (name("7"), "siblings[0].rfilename"),
        (name(r#""../../model.safetensors""#), "siblings[0].rfilename"),
        (name(r#""/model.safetensors""#), "siblings[0].rfilename"),
        (name(r#""a\\..\\model.safetensors""#), "siblings[0].rfilename"),
        (name(r#""README.md""#), "weights: expected model.safetensors"),
    ];
    for (text, place) in texts {
        let world = World::new();
        world.server.state().faults.description = Some(text.clone());
        let error = world.fetch("hf://ada/tiny").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        assert!(error.chain().contains(place), "{text}: {}", error.chain());
        assert_eq!(names(world.cache.path()), [""; 0], "{text}");
    }
}

#[test]
fn an_etag_that_is_no_file_name_is_refused() {
    for etag in ["../../etag-outside", "", ".hidden-etag", "etag with spaces"] {
        let world = World::new();
        world.server.state().files.get_mut("model.safetensors").unwrap().etag = etag.to_owned();
        let error = world.fetch("hf://ada/tiny").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.chain().contains("ETag: expected"), "{etag}: {}", error.chain());
    }
}

#[test]
fn a_commit_other_than_the_pinned_one_is_refused() {
    let world = World::new();
    let other = "f".repeat(40);
    let text = format!(r#"{{"sha": "{other}", "siblings": [{{"rfilename": "config.json"}}]}}"#);
    world.server.state().faults.description = Some(text);
    let error = world.fetch(&format!("hf://ada/tiny@{COMMIT}")).unwrap_err();
    assert!(error.chain().contains(&format!("sha: expected {COMMIT}")), "{}", error.chain());
}

#[test]
fn settings_that_make_no_request_are_named() {
    let mut world = World::new();
    world.hub.token = Some("line\nbreak".to_owned());
    let error = world.fetch("hf://ada/tiny").unwrap_err().chain();
    assert!(error.contains("HF_TOKEN") && !error.contains("break"), "{error}");
    world.hub.token = None;
    world.hub.endpoint = "ftp://hub".to_owned();
    let error = world.fetch("hf://ada/tiny").unwrap_err().chain();
    assert!(error.contains("HF_ENDPOINT: expected an http:// or https:// URL"), "{error}");
}
