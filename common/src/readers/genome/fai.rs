//! `.fai` indexes, believed only as far as the FASTA file bears them out.
//!
//! ```text
//! name <tab> bases <tab> byte offset of the first base <tab> bases per line <tab> bytes per line
//! ```
//!
//! Leaves out: making one (`index`). Invariant: every base of every contig lies inside the file, and
//! header, first line end and end of each contig are where the index says.

use super::bytes::Bytes;
use super::{Contig, Entry, Layout};
use crate::error::Result;
use crate::limits::TABLE_LINE_BYTES_MAX;
use crate::readers::text::{TextReader, excerpt, utf8};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// Bytes before a contig in which its header is looked for, and after it in which a line end is.
const LOOK_BYTES_MAX: u64 = 4096;

/// Reads the index at `path` and compares it with `bytes`.
///
/// # Errors
/// `Invalid` where the index is malformed or does not fit `bytes`.
pub(super) fn read(path: &Path, bytes: &Bytes) -> Result<Vec<Entry>> {
    let mut text = TextReader::open(path, TABLE_LINE_BYTES_MAX)?;
    let mut entries = Vec::new();
    let mut names = BTreeSet::new();
    while let Some(line) = text.next_line()? {
        if line.is_empty() {
            continue;
        }
        let row = Row::parse(&text)?;
        row.check_numbers(bytes.size())?;
        row.check_header(bytes)?;
        row.check_first_line(bytes)?;
        row.check_end(bytes)?;
        if !names.insert(row.entry.contig.name.clone()) {
            return Err(row.defect("", "unique names", "this name again (a duplicate)"));
        }
        entries.push(row.entry);
    }
    if entries.is_empty() {
        return Err(text.defect("", "at least one contig", "an empty index").into());
    }
    Ok(entries)
}

/// One line of the index.
struct Row<'a> {
    text: &'a TextReader,
    entry: Entry,
}

impl<'a> Row<'a> {
    fn parse(text: &'a TextReader) -> Result<Self> {
        let line = utf8(text.line()).map_err(|found| text.defect("", "UTF-8", found))?;
        let columns: Vec<&str> = line.split('\t').take(7).collect();
        let &[name, length, offset, line_bases, line_width] = columns.as_slice() else {
            let found = format!("{} columns", columns.len());
            return Err(text.defect("", "5 columns", found).into());
        };
        let number = |what: &str, column: &str| {
            column.parse::<u64>().map_err(|_| {
                let place = format!("contig {name}, {what}");
                text.defect(place, "a non-negative integer", excerpt(column.as_bytes()))
            })
        };
        let contig = Contig { name: name.to_owned(), length: number("length", length)? };
        let layout = Layout {
            offset: number("offset", offset)?,
            line_bases: number("bases per line", line_bases)?,
            line_width: number("bytes per line", line_width)?,
        };
        Ok(Self { text, entry: Entry { contig, layout } })
    }

    /// Numbers among themselves, and the offset against the size of the file.
    fn check_numbers(&self, size: u64) -> Result<()> {
        let Entry { contig, layout } = &self.entry;
        if contig.length == 0 || layout.line_bases == 0 {
            let (what, expected) = ("length and bases per line", "positive numbers");
            let found = format!("{} and {}", contig.length, layout.line_bases);
            return Err(self.defect(what, expected, found));
        }
        let is_wrapped = contig.length > layout.line_bases;
        let line_end_bytes = layout.line_width.checked_sub(layout.line_bases);
        if !matches!((line_end_bytes, is_wrapped), (Some(1 | 2), _) | (Some(0), false)) {
            let expected = format!("{} bases and a line end of 1 or 2", layout.line_bases);
            return Err(self.defect("bytes per line", expected, layout.line_width));
        }
        if layout.offset >= size {
            let expected = format!("an offset below the file size of {size} bytes");
            return Err(self.defect("offset", expected, layout.offset));
        }
        Ok(())
    }

    /// The line before the first base is this contig's header.
    fn check_header(&self, bytes: &Bytes) -> Result<()> {
        let Entry { contig, layout } = &self.entry;
        let before =
            self.piece(bytes, layout.offset.saturating_sub(LOOK_BYTES_MAX), layout.offset)?;
        let expected = format!("the header >{} right before offset {}", contig.name, layout.offset);
        let Some(before) = before.strip_suffix(b"\n") else {
            return Err(self.defect("offset", expected, "no line end there"));
        };
        let start = before.iter().rposition(|&byte| byte == b'\n').map(|newline| newline + 1);
        if start.is_none() && layout.offset > LOOK_BYTES_MAX {
            return Ok(()); // A header longer than what was read; letters are checked when fetched.
        }
        let header = before.get(start.unwrap_or(0)..).unwrap_or_default();
        let header = header.strip_prefix(b"\xef\xbb\xbf").unwrap_or(header);
        let id = header.strip_prefix(b">").unwrap_or_default();
        let id = id.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        if header.first() != Some(&b'>') || id != contig.name.as_bytes() {
            return Err(self.defect("offset", expected, excerpt(header)));
        }
        Ok(())
    }

    /// A line end follows the first line and none is inside it, as far as one looks.
    fn check_first_line(&self, bytes: &Bytes) -> Result<()> {
        let Entry { contig, layout } = &self.entry;
        let bases = layout.line_bases;
        let width_end = layout.offset.checked_add(layout.line_width);
        let Some(next_line) = width_end.filter(|&end| contig.length > bases && end <= bytes.size())
        else {
            return Ok(()); // One line: its end is the contig's.
        };
        let look_end = layout.offset + bases.min(LOOK_BYTES_MAX);
        let has_early_end = self.piece(bytes, layout.offset, look_end)?.contains(&b'\n');
        let line_end = self.piece(bytes, layout.offset + bases, next_line)?;
        if has_early_end || !matches!(line_end.as_slice(), b"\n" | b"\r\n") {
            let expected = format!("a line end after {bases} bases (is the index stale?)");
            return Err(self.defect("", expected, self.first_line_end(bytes)?));
        }
        Ok(())
    }

    /// The contig ends inside the file, where a line or the file does.
    fn check_end(&self, bytes: &Bytes) -> Result<()> {
        let Entry { contig, layout } = &self.entry;
        let size = bytes.size();
        let Some(end) = layout.end_offset(contig.length).filter(|&end| end <= size) else {
            let expected = format!("a contig that ends within the file size of {size} bytes");
            return Err(self.defect("length", expected, contig.length));
        };
        let after = self.piece(bytes, end, end.saturating_add(1).min(size))?;
        if !matches!(after.as_slice(), [] | b"\n" | b"\r") {
            let expected =
                format!("the line end or the end of the file after {} bases", contig.length);
            return Err(self.defect("length", expected, excerpt(&after)));
        }
        Ok(())
    }

    /// Where the first line really ends, in words.
    fn first_line_end(&self, bytes: &Bytes) -> Result<String> {
        let start = self.entry.layout.offset;
        let look_end = start.saturating_add(LOOK_BYTES_MAX).min(bytes.size());
        let line = self.piece(bytes, start, look_end)?;
        let line_end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        Ok(line_end.map_or("none there".to_owned(), |bases| format!("one after {bases} bases")))
    }

    /// Bytes `start..end` of the file, of which there are few.
    fn piece(&self, bytes: &Bytes, start: u64, end: u64) -> Result<Vec<u8>> {
        let mut piece = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
        bytes.read_at(start, &mut piece)?;
        Ok(piece)
    }

    fn defect(
        &self,
        what: &str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> crate::error::Error {
        let separator = if what.is_empty() { "" } else { ", " };
        let place = format!("contig {}{separator}{what}", self.entry.contig.name);
        self.text.defect(place, expected, found).into()
    }
}
