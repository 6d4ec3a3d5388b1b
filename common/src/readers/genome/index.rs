//! The index of a FASTA file, made in one pass over it.
//!
//! Leaves out: letters (checked when they are fetched). Invariant: in every contig all lines but the
//! last have one length, so that a base's offset follows from its number.

use super::bytes::Bytes;
use super::{Contig, Entry, Layout};
use crate::error::{InputError, Result};
use crate::readers::text::{excerpt, utf8};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of a header within which its id must end.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Finds every contig in `bytes`, which errors call `path`.
///
/// # Errors
/// `Invalid` where the bytes are no FASTA or lines of a contig differ in length.
pub(super) fn build(path: &Path, bytes: &Bytes) -> Result<Vec<Entry>> {
    let mut indexer = Indexer::new(path);
    let chunk_bytes = usize::try_from(bytes.size()).unwrap_or(usize::MAX).min(CHUNK_BYTES);
    let mut buffer = vec![0; chunk_bytes];
    let mut offset = 0;
    while offset < bytes.size() {
        let left = usize::try_from(bytes.size() - offset).unwrap_or(usize::MAX);
        let count = left.min(chunk_bytes);
        let chunk = &mut buffer[..count];
        bytes.read_at(offset, chunk)?;
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            indexer.piece(piece)?;
        }
        offset += count as u64;
    }
    indexer.finish()
}

struct Indexer<'a> {
    path: &'a Path,
    entries: Vec<Entry>,
    names: BTreeSet<String>,
    /// Bytes seen so far.
    offset: u64,
    line: Line,
    line_number: u64,
    contig: Option<OpenContig>,
}

/// The line being read.
#[derive(Default)]
struct Line {
    bytes: u64,
    last: u8,
    /// Its first bytes, kept where they may be a header.
    start: Vec<u8>,
}

/// The contig being read.
struct OpenContig {
    entry: Entry,
    header_line: u64,
    has_short_line: bool,
}

impl<'a> Indexer<'a> {
    fn new(path: &'a Path) -> Self {
        let (entries, names, line) = (Vec::new(), BTreeSet::new(), Line::default());
        Self { path, entries, names, offset: 0, line, line_number: 1, contig: None }
    }

    /// Takes a piece of a line; one that ends the line ends with a newline.
    fn piece(&mut self, piece: &[u8]) -> Result<()> {
        let content = piece.strip_suffix(b"\n").unwrap_or(piece);
        self.offset += piece.len() as u64;
        if let Some(&last) = content.last() {
            let is_header = self.line.bytes == 0 && content.first() == Some(&b'>');
            if is_header || !self.line.start.is_empty() || self.contig.is_none() {
                let room = HEADER_BYTES_MAX.saturating_sub(self.line.start.len());
                self.line.start.extend(content.iter().take(room));
            }
            self.line.bytes += content.len() as u64;
            self.line.last = last;
        }
        if content.len() < piece.len() { self.end_line(1) } else { Ok(()) }
    }

    fn end_line(&mut self, newline_bytes: u64) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        let mut start = line.start.as_slice();
        if self.line_number == 1 {
            start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        }
        if start.first() == Some(&b'>') {
            self.close_contig()?;
            self.open_contig(start.get(1..).unwrap_or_default())?;
        } else {
            let bases = line.bytes - u64::from(line.bytes > 0 && line.last == b'\r');
            self.sequence_line(bases, line.bytes + newline_bytes, start)?;
        }
        self.line_number += 1;
        Ok(())
    }

    fn open_contig(&mut self, header: &[u8]) -> Result<()> {
        let id = header.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        if id.is_empty() {
            return Err(self.defect("", "an id right after '>'", "an empty id"));
        }
        let name = utf8(id).map_err(|found| self.defect("", "an id in UTF-8", found))?.to_owned();
        if !self.names.insert(name.clone()) {
            let found = format!("id {name} again (a duplicate)");
            return Err(self.defect("", "unique ids", found));
        }
        let contig = Contig { name, length: 0 };
        let layout = Layout { offset: self.offset, line_bases: 0, line_width: 0 };
        self.contig = Some(OpenContig {
            entry: Entry { contig, layout },
            header_line: self.line_number,
            has_short_line: false,
        });
        Ok(())
    }

    fn sequence_line(&mut self, bases: u64, width: u64, start: &[u8]) -> Result<()> {
        let Some(open) = &mut self.contig else {
            return if bases == 0 {
                Ok(())
            } else {
                Err(self.defect("", "a header that starts with '>'", excerpt(start)))
            };
        };
        let Entry { contig, layout } = &mut open.entry;
        if contig.length == 0 && bases == 0 {
            layout.offset = self.offset;
        } else if contig.length == 0 {
            (layout.line_bases, layout.line_width) = (bases, width);
        } else if bases > 0 && (open.has_short_line || bases > layout.line_bases) {
            let place = format!("contig {}", contig.name);
            let expected = format!(
                "lines of {} bases in all of a contig but its last line (re-wrap the file)",
                layout.line_bases
            );
            let found = format!("{bases} bases, or more after a shorter line");
            return Err(self.defect(&place, &expected, found));
        } else if bases < layout.line_bases {
            open.has_short_line = true;
        } else if width > layout.line_width {
            let place = format!("contig {}", contig.name);
            return Err(self.defect(&place, "one kind of line end in a contig", "two"));
        } else {
            // The last line of a file may lack its line end.
            open.has_short_line = width < layout.line_width;
        }
        contig.length += bases;
        Ok(())
    }

    fn close_contig(&mut self) -> Result<()> {
        let Some(open) = self.contig.take() else { return Ok(()) };
        if open.entry.contig.length == 0 {
            let place = format!("line {}, contig {}", open.header_line, open.entry.contig.name);
            let expected = "a sequence of at least one base";
            let defect = InputError::new(self.path.display(), place, expected, "an empty one");
            return Err(defect.into());
        }
        self.entries.push(open.entry);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Entry>> {
        if self.line.bytes > 0 {
            self.end_line(0)?;
        }
        self.close_contig()?;
        if self.entries.is_empty() {
            let expected = "at least one record that starts with '>'";
            let found = "0 records: the file is empty";
            return Err(InputError::new(self.path.display(), "", expected, found).into());
        }
        Ok(self.entries)
    }

    fn defect(&self, place: &str, expected: &str, found: impl fmt::Display) -> crate::error::Error {
        let separator = if place.is_empty() { "" } else { ", " };
        let place = format!("line {}{separator}{place}", self.line_number);
        InputError::new(self.path.display(), place, expected, found).into()
    }
}
