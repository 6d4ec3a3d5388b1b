//! Checks that no compiler makes: module heads, sizes, crate edges, import rings, names.
//!
//! Leaves out: what rustfmt and clippy check (function length, lints).

use crate::say;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod edges;
mod rings;

const LINES_MAX: usize = 600;
const FILES_PER_FOLDER_MAX: usize = 12;
/// Folders whose files all have one form: adding a member is the point of them.
const REGISTRY_FOLDERS: [&str; 6] = [
    "common/src/readers",
    "worker/src/models",
    "worker/src/probes",
    "worker/src/tasks",
    "kernels/src/ops",
    "cli/src/commands",
];
/// File names that say nothing.
const NAMES_REFUSED: [&str; 8] =
    ["utils", "helpers", "misc", "types", "manager", "handler", "core", "common"];
const CRATES: [&str; 8] =
    ["common", "kernels", "worker", "coordinator", "cli", "tests", "xtask", "fuzz"];

/// A Rust file: its path below the root, its text.
pub(crate) struct Source {
    path: PathBuf,
    text: String,
}

pub(crate) fn run(root: &Path) -> Result<()> {
    let complaints = check(root)?;
    if complaints.is_empty() {
        say("tidy: clean");
        return Ok(());
    }
    bail!("{} complaints:\n  {}", complaints.len(), complaints.join("\n  "))
}

fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for krate in CRATES {
        let sources = sources(root, krate)?;
        for source in &sources {
            file(source, &mut complaints);
        }
        folders(&sources, &mut complaints);
        rings::check(krate, &sources, &mut complaints);
        orphans(krate, &sources, &mut complaints);
        kernels(root, krate, &mut complaints)?;
    }
    edges::check(root, &mut complaints)?;
    Ok(complaints)
}

fn sources(root: &Path, krate: &str) -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    files_below(&root.join(krate), &mut paths)?;
    let mut sources = Vec::new();
    for path in paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        let text = std::fs::read_to_string(&path)?;
        sources.push(Source { path: path.strip_prefix(root)?.to_path_buf(), text });
    }
    Ok(sources)
}

fn files_below(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let mut entries: Vec<_> = entries.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            let skipped = path.file_name().is_some_and(|name| name == "target" || name == "golden");
            if !skipped {
                files_below(&path, paths)?;
            }
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

fn file(source: &Source, complaints: &mut Vec<String>) {
    let path = source.path.display();
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!("{path}: {lines} lines, at most {LINES_MAX}"));
    }
    let is_test_part = source.path.file_stem().is_some_and(|stem| stem == "tests");
    let head = source.text.lines().next().unwrap_or_default();
    if !is_test_part && (!head.starts_with("//! ") || head.contains("placeholder")) {
        complaints.push(format!("{path}: first line must be `//! ` and what the module is for"));
    }
    let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if NAMES_REFUSED.contains(&stem) {
        complaints.push(format!("{path}: the name `{stem}` says nothing"));
    }
    if source.text.contains("#[ignore") || source.text.contains("todo!(") {
        let own = source.path.starts_with("xtask/src/tidy.rs");
        if !own {
            complaints.push(format!("{path}: an ignored test or a stub"));
        }
    }
}

fn folders(sources: &[Source], complaints: &mut Vec<String>) {
    let mut counts: BTreeMap<&Path, usize> = BTreeMap::new();
    for source in sources {
        if let Some(folder) = source.path.parent() {
            *counts.entry(folder).or_default() += 1;
        }
    }
    for (folder, count) in counts {
        let registry = REGISTRY_FOLDERS.iter().any(|name| folder == Path::new(name));
        let top = folder.file_name().is_some_and(|name| name == "src");
        if count > FILES_PER_FOLDER_MAX && !registry && !top {
            let folder = folder.display();
            complaints.push(format!("{folder}: {count} files, at most {FILES_PER_FOLDER_MAX}"));
        }
    }
}

/// Files that no `mod` line names are never compiled.
fn orphans(krate: &str, sources: &[Source], complaints: &mut Vec<String>) {
    for source in sources {
        let below = source.path.strip_prefix(krate).unwrap_or(&source.path);
        let Ok(below) = below.strip_prefix("src") else { continue };
        let stem = below.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if matches!(below.to_str(), Some("lib.rs" | "main.rs")) {
            continue;
        }
        let declared = sources.iter().any(|other| {
            other.path != source.path
                && (other.text.contains(&format!("mod {stem};"))
                    || other.text.contains(&format!("mod {stem} {{")))
        });
        if !declared {
            complaints.push(format!("{}: no `mod {stem};` names it", source.path.display()));
        }
    }
}

/// A CUDA kernel lies beside the Rust file that launches it.
fn kernels(root: &Path, krate: &str, complaints: &mut Vec<String>) -> Result<()> {
    let mut paths = Vec::new();
    files_below(&root.join(krate), &mut paths)?;
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "cu")) {
        if !path.with_extension("rs").exists() {
            complaints.push(format!("{}: no .rs beside it", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints_of(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        check(folder.path()).unwrap()
    }

    #[test]
    fn a_file_without_a_head_is_named() {
        let complaints = complaints_of(&[("common/src/lib.rs", "pub fn a() {}\n")]);
        assert!(complaints[0].contains("common/src/lib.rs: first line"), "{complaints:?}");
    }

    #[test]
    fn a_long_file_is_named_with_its_length() {
        let text = format!("//! Long.\n{}", "// x\n".repeat(600));
        let complaints = complaints_of(&[("common/src/lib.rs", &text)]);
        assert!(complaints[0].contains("601 lines"), "{complaints:?}");
    }

    #[test]
    fn two_modules_that_import_each_other_are_a_ring() {
        let complaints = complaints_of(&[
            ("worker/src/lib.rs", "//! Crate.\nmod a;\nmod b;\n"),
            ("worker/src/a.rs", "//! A.\nuse crate::b::B;\n"),
            ("worker/src/b.rs", "//! B.\nuse crate::a::A;\n"),
        ]);
        assert!(complaints[0].contains("ring: a, b"), "{complaints:?}");
    }

    #[test]
    fn a_forbidden_crate_edge_is_named() {
        let complaints = complaints_of(&[(
            "coordinator/Cargo.toml",
            "[package]\nname = \"glmeval-coordinator\"\n[dependencies]\nglmeval-kernels.workspace = true\n",
        )]);
        assert!(complaints[0].contains("coordinator must not depend on kernels"), "{complaints:?}");
    }

    #[test]
    fn a_file_that_no_module_names_is_found() {
        let complaints = complaints_of(&[
            ("worker/src/lib.rs", "//! Crate.\n"),
            ("worker/src/lost.rs", "//! Lost.\n"),
        ]);
        assert!(complaints[0].contains("no `mod lost;`"), "{complaints:?}");
    }
}
