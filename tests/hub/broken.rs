//! Connections that break, bytes that are wrong: what is kept, what is repeated, what stays hidden.
//!
//! Leaves out: what a server says (answers).

use super::*;
use glmeval_common::error::ErrorKind;

#[test]
fn a_cut_connection_leaves_nothing_that_looks_whole() {
    let world = World::new();
    world.server.state().faults.cut_at = Some(150_000);
    let error = world.fetch("hf://ada/tiny").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(!world.shows_weights());
    assert!(!world.folder().join("refs").exists());
    assert_eq!(std::fs::read(world.partial()).unwrap(), weights()[..150_000]);
    let offline = Hub { offline: true, ..world.hub.clone() };
    let pinned = HubModel::parse(&format!("hf://ada/tiny@{COMMIT}")).unwrap();
    assert_eq!(offline.fetch(&pinned, &mut |_| ()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_later_run_continues_at_the_byte() {
    let world = World::new();
    world.server.state().faults.cut_at = Some(150_000);
    world.fetch("hf://ada/tiny").unwrap_err();
    world.server.state().faults.cut_at = None;
    world.server.requests();
    let snapshot = world.fetch("hf://ada/tiny").unwrap();
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
    let requests = world.server.requests();
    let ranges: Vec<_> =
        gets(&requests, "storage/model.safetensors").iter().map(|r| r.range.as_deref()).collect();
    assert_eq!(ranges, [Some("bytes=150000-")]);
    assert!(gets(&requests, "vocab.txt").is_empty(), "small files were there");
    assert!(!world.partial().exists());
}

#[test]
fn a_server_without_ranges_sends_the_file_again() {
    let world = World::new();
    world.server.state().faults.cut_at = Some(150_000);
    world.fetch("hf://ada/tiny").unwrap_err();
    world.server.state().faults.cut_at = None;
    world.server.state().faults.ignore_range = true;
    let snapshot = world.fetch("hf://ada/tiny").unwrap();
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn a_damaged_beginning_is_downloaded_again() {
    let world = World::new();
    for left in [vec![7_u8; 150_000], vec![7; weights().len()], vec![7; weights().len() + 1]] {
        drop(std::fs::remove_dir_all(world.folder()));
        std::fs::create_dir_all(world.folder().join("blobs")).unwrap();
        std::fs::write(world.partial(), left).unwrap();
        let snapshot = world.fetch("hf://ada/tiny").unwrap();
        assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
    }
}

#[test]
fn bytes_with_another_digest_are_refused_and_removed() {
    let world = World::new();
    let mut wrong = weights();
    wrong[200_000] ^= 1;
    world.server.state().faults.replaced = Some(wrong);
    let error = world.fetch("hf://ada/tiny").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.chain().contains(&sha256(&weights())), "{}", error.chain());
    assert!(!world.shows_weights() && !world.partial().exists());
    assert_eq!(gets(&world.server.requests(), "storage/model.safetensors").len(), 1);
}

#[test]
fn a_small_file_is_checked_by_its_git_digest() {
    let world = World::new();
    world.server.state().files.get_mut("vocab.txt").unwrap().bytes = b"<cls>\n<PAD>\n".to_vec();
    let error = world.fetch("hf://ada/tiny").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.chain().contains("vocab.txt: expected digest"), "{}", error.chain());
    assert_eq!(names(&world.snapshot()), ["config.json"]);
}

#[test]
fn more_bytes_than_announced_are_refused() {
    let world = World::new();
    world.server.state().faults.size = Some(300_000);
    let error = world.fetch("hf://ada/tiny").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.chain().contains("expected 300000 bytes, found more"), "{}", error.chain());
    assert!(!world.shows_weights() && !world.partial().exists());
}

#[test]
fn fewer_bytes_than_announced_are_refused() {
    let world = World::new();
    world.server.state().faults.size = Some(500_000);
    let error = world.fetch("hf://ada/tiny").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(!world.shows_weights());
}

#[test]
fn a_blob_of_the_wrong_length_is_replaced() {
    let world = World::new();
    std::fs::create_dir_all(world.folder().join("blobs")).unwrap();
    std::fs::write(world.folder().join("blobs").join(sha256(&weights())), "half").unwrap();
    let snapshot = world.fetch("hf://ada/tiny").unwrap();
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn a_busy_server_is_asked_again_but_not_for_ever() {
    let world = World::new();
    world.server.state().faults.statuses = vec![429, 500, 503];
    let mut repeated = 0;
    let mut count = |event| repeated += u32::from(matches!(event, HubProgress::Repeating { .. }));
    world.fetch_with("hf://ada/tiny", &mut count).unwrap();
    assert_eq!(repeated, 3);

    let world = World::new();
    world.server.state().faults.statuses = vec![503; 100];
    let error = world.fetch("hf://ada/tiny").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("status 503"), "{}", error.chain());
    assert_eq!(world.server.requests().len(), 4);
}

#[test]
fn a_server_out_of_reach_does_not_stop_what_the_cache_holds() {
    let world = World::new();
    let snapshot = world.fetch("hf://ada/tiny").unwrap();
    world.server.state().faults.statuses = vec![503; 100];
    let mut last = None;
    let found = world.fetch_with("hf://ada/tiny", &mut |event| last = Some(event)).unwrap();
    assert_eq!(found, snapshot);
    assert!(matches!(last, Some(HubProgress::Cached { .. })), "{last:?}");
}
