//! Where a data set lies in an unpacked archive.
//!
//! Leaves out: reading it. Invariant: names are matched without regard to case, the exact one first;
//! where several forms are there, the preferred one is taken, whatever order a folder lists them in.

use super::{Form, Set};
use glmeval_common::dataset::DatasetSource;
use glmeval_common::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Folder below the archive's that some copies have and some have not.
const INNER: &str = "data";

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub enum Located {
    /// What the set is read from.
    At(DatasetSource),
    /// Nothing; every path that would have done, alternatives of one file together.
    Absent(Vec<Vec<PathBuf>>),
}

/// Finds `set` in what a job calls an archive.
///
/// # Errors
/// `Bug` if `source` is no archive.
pub fn locate(set: &Set, source: &DatasetSource) -> Result<Located> {
    let DatasetSource::Archive { root, file, genome, .. } = source else {
        return Err(Error::bug("only data sets of an archive are looked up"));
    };
    let genome = genome.as_deref().filter(|genome| genome.exists());
    let mut absent = Vec::new();
    for form in set.forms {
        let wanted = wanted(set, form, file.as_deref());
        let found: Option<Vec<Vec<PathBuf>>> =
            wanted.iter().map(|paths| find_one(root, paths)).collect();
        if let Some(found) = found
            && let Some(source) = (form.read)(set, found.concat(), genome)
        {
            return Ok(Located::At(source));
        }
        if absent.is_empty() {
            let full = |paths: &Vec<String>| paths.iter().map(|path| root.join(path)).collect();
            absent = wanted.iter().map(full).collect();
        }
        // A path that the job gives stands for the preferred form only.
        if file.is_some() {
            break;
        }
    }
    Ok(Located::Absent(absent))
}

/// The paths of each file of a form, with names and lengths put in.
fn wanted(set: &Set, form: &Form, file: Option<&Path>) -> Vec<Vec<String>> {
    if let Some(file) = file {
        return vec![vec![file.display().to_string()]];
    }
    let filled =
        |path: &&str| path.replace("{name}", set.name).replace("{length}", &set.length.to_string());
    form.files.iter().map(|paths| paths.iter().map(filled).collect()).collect()
}

/// Files of the first of `paths` that is there.
fn find_one(root: &Path, paths: &[String]) -> Option<Vec<PathBuf>> {
    let inner = entry(root, INNER);
    let roots = [Some(root.to_owned()), inner];
    let mut tried = paths.iter().flat_map(|path| roots.iter().flatten().map(move |r| (r, path)));
    tried.find_map(|(root, path)| {
        let found = find(root, path);
        (!found.is_empty()).then_some(found)
    })
}

/// Files below `root` at `path`, whose last name may have one `*`; sorted.
fn find(root: &Path, path: &str) -> Vec<PathBuf> {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut folder = root.to_owned();
    for name in folders.split('/').filter(|name| !name.is_empty()) {
        match entry(&folder, name) {
            Some(found) => folder = found,
            None => return Vec::new(),
        }
    }
    let Some((before, after)) = name.split_once('*') else {
        return entry(&folder, name).into_iter().collect();
    };
    let (before, after) = (before.to_ascii_lowercase(), after.to_ascii_lowercase());
    let matches = |name: &String| {
        let lower = name.to_ascii_lowercase();
        let rest = lower.strip_prefix(&before);
        rest.is_some_and(|rest| rest.ends_with(&after))
    };
    let found = names(&folder).into_iter().filter(matches);
    found.map(|name| folder.join(name)).collect()
}

/// What `folder` has under `name`, the exact name first.
fn entry(folder: &Path, name: &str) -> Option<PathBuf> {
    let exact = folder.join(name);
    if exact.exists() {
        return Some(exact);
    }
    let found = names(folder).into_iter().find(|known| known.eq_ignore_ascii_case(name));
    found.map(|name| folder.join(name))
}

/// Names in a folder, sorted; none if it cannot be read, which is then as good as absent.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}
