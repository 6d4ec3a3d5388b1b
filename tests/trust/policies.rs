//! The store policies in `deploy/aws`: every object of a job may be written by exactly one of the roles.
//!
//! Leaves out: conditions; AWS itself. Invariant: `*` matches slashes too, as it does in IAM.

use glmeval_tests::results::listing;
use serde_json::Value;
use std::path::Path;

/// Whether `pattern` matches all of `text`.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len())
                .filter(|at| text.is_char_boundary(*at))
                .any(|at| matches(rest, &text[at..]))
        }),
    }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

/// Whether `policy` lets its holder do `action` to the object at `path`.
fn allows(policy: &str, action: &str, path: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("deploy/aws").join(policy)).unwrap();
    let policy: Value = serde_json::from_str(&text).unwrap();
    let resource = format!("arn:aws:s3:::BUCKET/PREFIX/{path}");
    let hit = |effect: &str| {
        policy["Statement"].as_array().unwrap().iter().any(|statement| {
            statement["Effect"] == effect
                && texts(&statement["Action"]).iter().any(|known| matches(known, action))
                && texts(&statement["Resource"]).iter().any(|known| matches(known, &resource))
        })
    };
    hit("Allow") && !hit("Deny")
}

/// Checks the policies against every object below `store`.
pub(crate) fn check(store: &Path) {
    let files = listing(store);
    assert!(files.len() > 15, "{files:?}");
    for path in files.keys() {
        let path = path.strip_prefix(store).unwrap().to_str().unwrap();
        let top = path.split('/').next().unwrap();
        let is_report = path.starts_with("jobs/") && path.contains("/report/");
        let is_coordinators = matches!(top, "jobs" | "coordinators" | "doctor") && !is_report;
        let may = |policy, action| allows(policy, action, path);
        assert_eq!(may("worker-policy.json", "s3:PutObject"), !is_coordinators, "{path}");
        assert_eq!(may("coordinator-policy.json", "s3:PutObject"), is_coordinators, "{path}");
        assert!(may("worker-policy.json", "s3:GetObject"), "{path}");
        assert!(may("coordinator-policy.json", "s3:GetObject"), "{path}");
        assert_eq!(may("coordinator-policy.json", "s3:DeleteObject"), top == "doctor", "{path}");
        let is_private = path.contains("/data/");
        assert_eq!(may("worker-policy.json", "s3:DeleteObject"), is_private, "{path}");
    }
}
