//! Who may call which method of a coordinator.
//!
//! Leaves out: how a caller's role is known. Invariant: what stands in no line of the table is refused.

use super::SERVICE_NAME;
use crate::trust::Role;

/// The control service's methods and who may call each.
pub const METHODS: [(&str, Role); 11] = [
    ("Register", Role::Worker),
    ("Ask", Role::Worker),
    ("Heartbeat", Role::Worker),
    ("Report", Role::Worker),
    ("Submit", Role::Operator),
    ("Status", Role::Operator),
    ("Jobs", Role::Operator),
    ("Workers", Role::Operator),
    ("Cancel", Role::Operator),
    ("Drain", Role::Operator),
    ("Watch", Role::Operator),
];

/// Methods that need no identity: the standard health service. An engine's probe has none, and all it
/// learns is that the coordinator serves.
const OPEN: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone.
    Open,
    /// Those of a role.
    For(Role),
}

/// Who may call the method at `path` (`/package.Service/Method`); `None` = nobody.
pub fn access(path: &str) -> Option<Access> {
    if OPEN.contains(&path) {
        return Some(Access::Open);
    }
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    if service != SERVICE_NAME {
        return None;
    }
    METHODS.iter().find(|(name, _)| *name == method).map(|(_, role)| Access::For(*role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_service_says_who_may_call_it() {
        let text = include_str!("../../proto/control.proto");
        let methods = text.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        let methods: Vec<&str> = methods.filter_map(|line| line.split('(').next()).collect();
        assert!(methods.len() >= 10, "{methods:?}");
        for method in methods {
            let path = format!("/{}/{method}", SERVICE_NAME);
            assert!(matches!(access(&path), Some(Access::For(_))), "{method} is in no line");
        }
    }

    #[test]
    fn what_is_in_no_line_is_for_nobody() {
        for path in [
            "",
            "/",
            "/glmeval.control.v1.Control/",
            "/glmeval.control.v1.Control/register",
            "/glmeval.control.v1.Control/Register/",
            "//glmeval.control.v1.Control/Register",
            "/glmeval.control.v1.Controller/Register",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.health.v1.Health/Other",
        ] {
            assert_eq!(access(path), None, "{path}");
        }
    }
}
