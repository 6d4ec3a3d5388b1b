//! Import rings: modules of one crate that can all reach each other through `use`.
//!
//! Read as text. A module and its own parts (`foo.rs` and `foo/`) count as one house, so an edge
//! between them is none.

use super::Source;
use std::collections::{BTreeMap, BTreeSet};

type Graph = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(krate: &str, sources: &[Source], complaints: &mut Vec<String>) {
    let graph = graph(krate, sources);
    let mut seen = BTreeSet::new();
    for module in graph.keys() {
        if seen.contains(module) {
            continue;
        }
        let forward = reachable(&graph, module);
        let ring: BTreeSet<_> = forward
            .iter()
            .filter(|other| reachable(&graph, other).contains(module))
            .cloned()
            .collect();
        if ring.len() > 1 {
            let names: Vec<_> = ring.iter().map(String::as_str).collect();
            complaints.push(format!("{krate}: ring: {}", names.join(", ")));
        }
        seen.extend(ring);
    }
}

fn graph(krate: &str, sources: &[Source]) -> Graph {
    let named: Vec<(String, &str)> = sources
        .iter()
        .filter_map(|source| {
            let below = source.path.strip_prefix(krate).ok()?.strip_prefix("src").ok()?;
            let name = below.with_extension("").to_str()?.replace('/', "::");
            let is_part = name == "lib" || name == "main" || name.ends_with("tests");
            (!is_part).then_some((name, product(&source.text)))
        })
        .collect();
    let names: BTreeSet<String> = named.iter().map(|(name, _)| name.clone()).collect();
    let mut graph = Graph::new();
    for (name, text) in &named {
        let edges = graph.entry(name.clone()).or_default();
        for target in imports(name, text) {
            if let Some(module) = longest_module(&names, &target)
                && !same_house(name, &module)
            {
                edges.insert(module);
            }
        }
    }
    graph
}

/// The text without its inline tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// Module paths named in code by `crate::` or `super::`, one level of `{…}` opened.
fn imports(name: &str, text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in statements(text) {
        for start in ["crate::", "super::"] {
            for (at, _) in line.match_indices(start) {
                let rest = &line[at + start.len()..];
                let base = if start == "crate::" {
                    String::new()
                } else {
                    name.rsplit_once("::")
                        .map_or(String::new(), |(parent, _)| format!("{parent}::"))
                };
                let path: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
                targets.push(format!("{base}{}", path.trim_end_matches(':')));
                if let Some(group) = rest[path.len()..].strip_prefix('{') {
                    let group = group.split('}').next().unwrap_or_default();
                    for member in group.split(',') {
                        targets.push(format!("{base}{path}{}", member.trim()));
                    }
                }
            }
        }
    }
    targets
}

/// Code up to each `;`, without comments, on one line.
fn statements(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    code.join(" ").split(';').map(str::to_owned).collect()
}

fn longest_module(names: &BTreeSet<String>, target: &str) -> Option<String> {
    let mut path = target;
    loop {
        if names.contains(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}

fn same_house(a: &str, b: &str) -> bool {
    a == b || a.starts_with(&format!("{b}::")) || b.starts_with(&format!("{a}::"))
}

fn reachable(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(module) = open.pop() {
        if found.insert(module.clone()) {
            open.extend(graph.get(&module).into_iter().flatten().cloned());
        }
    }
    found
}
