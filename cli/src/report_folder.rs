//! Puts a report's files into a folder of the user's.
//!
//! Leaves out: what they hold. Invariant: the page comes last, so that it names nothing that is not there; of what the folder held
//! before, only files that its last page named and this one does not have are removed.

use crate::writing::whole;
use glmeval_common::error::{InputError, Result, io_error};
use glmeval_worker::report::{ReportFile, TABLES};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

const PAGE: &str = "report.html";

/// Writes `files` below `folder` and returns where the page lies.
///
/// # Errors
/// `Invalid` for names that lead out of the folder; I/O errors with the path.
pub(crate) fn write(folder: &Path, files: Vec<ReportFile>) -> Result<PathBuf> {
    if let Some(file) = files.iter().find(|file| !is_below(&file.name)) {
        let expected = "file names without `..` that do not start at the root";
        return Err(InputError::new("report", "", expected, format!("{:?}", file.name)).into());
    }
    std::fs::create_dir_all(folder).map_err(|e| io_error(folder, e))?;
    let page = folder.join(PAGE);
    // Where there is no page, or none that can be read, there is nothing to remove.
    let before = std::fs::read_to_string(&page).map(|text| named_by(&text)).unwrap_or_default();
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let (last, others): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.name == PAGE);
    for file in others.into_iter().chain(last) {
        let path = folder.join(&file.name);
        let failed = |e| io_error(&path, e);
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        whole(&path, |partial| std::fs::write(partial, &file.bytes).map_err(failed))?;
    }
    for name in before.iter().filter(|name| !names.contains(name.as_str())) {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_error(&path, e)),
            _ => {}
        }
    }
    Ok(page)
}

fn is_below(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Figures that a page of ours links to, and tables that it names.
fn named_by(page: &str) -> BTreeSet<String> {
    let links = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let is_figure =
        |link: &&str| is_below(link) && link.starts_with("figures/") && link.ends_with(".svg");
    let is_named = |table: &&(&str, &str)| page.contains(&format!("<dt>{}</dt>", table.0));
    let tables = TABLES.iter().filter(is_named);
    let tables =
        tables.flat_map(|(name, _)| ["csv", "parquet"].map(|form| format!("{name}.{form}")));
    links.filter(is_figure).map(str::to_owned).chain(tables).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> ReportFile {
        ReportFile { name: name.to_owned(), bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn what_an_earlier_page_named_goes_and_all_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let page =
            "<a href=\"figures/00-R.svg\"><dt>histories</dt><a href=\"https://x/figures/y.svg\">";
        let old = ["figures/00-R.svg", "histories.csv", "histories.parquet", "scores.csv"];
        let mut files: Vec<_> = old.iter().map(|name| file(name, "old")).collect();
        files.push(file(PAGE, page));
        write(folder.path(), files).unwrap();
        std::fs::write(folder.path().join("figures/mine.svg"), "mine").unwrap();
        std::fs::write(folder.path().join("precisions.csv"), "mine").unwrap();
        let new = vec![file(PAGE, "new"), file("scores.csv", "new")];
        assert_eq!(write(folder.path(), new).unwrap(), folder.path().join(PAGE));
        let is_there = |name: &str| folder.path().join(name).exists();
        assert_eq!(old.map(is_there), [false, false, false, true]);
        assert!(is_there("figures/mine.svg") && is_there("precisions.csv"));
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../x.csv", "/x.csv", "a/../../x.csv", ""] {
            let error = write(folder.path(), vec![file("scores.csv", ""), file(name, "")]);
            assert!(error.unwrap_err().to_string().contains("without `..`"), "{name}");
            assert!(!folder.path().join("scores.csv").exists());
        }
        assert!(named_by("href=\"figures/../a.svg\" href=\"/figures/b.svg\"").is_empty());
    }
}
