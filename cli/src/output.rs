//! What a person or a program reads on stdout, and complaints on stderr.

use clap::ValueEnum;
use glmeval_common::error::{Error, Result};
use serde::Serialize;

/// How tables are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// Tab-separated with a header line.
    Tsv,
}

/// Exit code once nobody reads stdout any more: 128 + SIGPIPE, as shells tell it of other programs.
const CLOSED_PIPE: u8 = 141;
/// Exit code once stdout takes no more.
const FAILED: u8 = 1;

/// Prints `text` and a line end on stdout, as [`say_bytes`].
pub(crate) fn say(text: &str) {
    say_bytes(format!("{text}\n").as_bytes());
}

/// Prints `bytes` on stdout.
///
/// Where they cannot be written the program ends, never as if it had been done: quietly with 141 once
/// the reader has closed the pipe, else with the reason on stderr and 1.
pub(crate) fn say_bytes(bytes: &[u8]) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        let (code, reason) = unwritten(&error);
        reason.iter().for_each(|reason| complain(reason));
        std::process::exit(code.into());
    }
}

/// The exit code for output that could not be written, and what is said of it.
fn unwritten(error: &std::io::Error) -> (u8, Option<String>) {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => (CLOSED_PIPE, None),
        _ => (FAILED, Some(format!("error: stdout: {error}"))),
    }
}

/// Prints a line on stderr.
#[expect(clippy::print_stderr, reason = "the one place where people are told of errors")]
pub(crate) fn complain(text: &str) {
    eprintln!("{text}");
}

/// Prints one JSON document.
pub(crate) fn say_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::bug("encode as JSON").with_source(e))?;
    say(&text);
    Ok(())
}

/// A table of texts; numbers are right-aligned.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table under `header`.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Its rows, without the header.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[String]> {
        self.rows.iter().map(Vec::as_slice)
    }

    /// Whether every cell of `column` starts as a number does.
    fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
    }

    /// The table as text, aligned or tab-separated.
    pub(crate) fn text(&self, format: Format) -> String {
        let header: Vec<String> = self.header.iter().map(|&cell| cell.to_owned()).collect();
        let lines = std::iter::once(&header).chain(&self.rows);
        if format == Format::Tsv {
            return lines.map(|row| row.join("\t")).collect::<Vec<_>>().join("\n");
        }
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).chain([self.header[column].len()]).max()
        };
        let widths: Vec<usize> = (0..header.len()).filter_map(width).collect();
        let numeric: Vec<bool> = (0..header.len()).map(|column| self.is_numeric(column)).collect();
        lines.map(|row| aligned(row, &widths, &numeric)).collect::<Vec<_>>().join("\n")
    }
}

fn aligned(row: &[String], widths: &[usize], numeric: &[bool]) -> String {
    let cells = row.iter().zip(widths.iter().zip(numeric)).map(|(cell, (&width, &numeric))| {
        if numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// Bytes in a unit that people read.
pub(crate) fn bytes(count: u64) -> String {
    scaled(count as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Floating-point operations in a unit that people read.
pub(crate) fn flops(count: f64) -> String {
    scaled(count, 1000.0, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"])
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut index = 0;
    while value >= step && index + 1 < units.len() {
        value /= step;
        index += 1;
    }
    let digits = usize::from(index > 0 && value < 100.0);
    format!("{value:.digits$} {}", units[index])
}

/// Seconds as `45 s`, `3 min 20 s`, `5 h 10 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 90.0 {
        return format!("{seconds:.0} s");
    }
    let whole = seconds.round() as u64;
    if whole < 5400 {
        return format!("{} min {} s", whole / 60, whole % 60);
    }
    format!("{} h {} min", whole / 3600, whole % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_scaled_to_a_readable_unit() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(2_777_946), "2.8 MB");
        assert_eq!(flops(1.5e12), "1.5 TFLOP");
        assert_eq!(seconds(200.0), "3 min 20 s");
    }

    #[test]
    fn a_closed_pipe_ends_quietly_and_a_full_disk_with_its_reason() {
        let ended = |kind: std::io::ErrorKind| unwritten(&kind.into());
        assert_eq!(ended(std::io::ErrorKind::BrokenPipe), (141, None));
        let (code, reason) = ended(std::io::ErrorKind::StorageFull);
        assert_eq!((code, reason.as_deref()), (1, Some("error: stdout: no storage space")));
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let mut table = Table::new(&["name", "rows"]);
        table.row(vec!["a".to_owned(), "5".to_owned()]);
        table.row(vec!["bc".to_owned(), "1234".to_owned()]);
        assert_eq!(table.text(Format::Table), "name  rows\na        5\nbc    1234");
    }
}
