//! FASTA as examples, plain, gzip or bgzip: one record is one example.
//!
//! Leaves out: random access (`genome`) and the description behind the id. Invariant: no two
//! examples of a file share an id, and every sequence has at least one letter.

use crate::dna::{DnaSequence, normalise_in_place};
use crate::error::{InputError, Result};
use crate::example::{Example, ExampleSchema};
use crate::limits::SEQUENCE_NT_MAX;
use crate::readers::ExampleReader;
use crate::readers::text::unique::{self, UniqueIds};
use crate::readers::text::{TextReader, batch, excerpt, utf8};
use std::path::Path;

/// What a letter of a sequence may be, as an error says it.
pub(super) const EXPECTED_LETTER: &str = "an IUPAC nucleotide letter (ACGTN or RYSWKMBDHV)";

/// Reads the records of a FASTA file in file order; the id is the header up to the first blank.
pub struct FastaReader {
    text: TextReader,
    schema: ExampleSchema,
    length: Option<u64>,
    ids: UniqueIds,
    header: Option<(String, u64)>,
}

impl FastaReader {
    /// Opens `path`. `length` in nucleotides is what every sequence must have, if given.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path, length: Option<u64>) -> Result<Self> {
        Ok(Self::new(TextReader::open(path, SEQUENCE_NT_MAX)?, length))
    }

    fn new(text: TextReader, length: Option<u64>) -> Self {
        let schema = ExampleSchema::sequences_only();
        Self { text, schema, length, ids: UniqueIds::default(), header: None }
    }

    fn next_example(&mut self) -> Result<Option<Example>> {
        let (id, header_line) = match self.header.take() {
            Some(header) => header,
            None if self.ids.is_empty() => self.first_header()?,
            None => return Ok(None),
        };
        let mut letters = Vec::new();
        while let Some(line) = self.text.next_line()? {
            if line.first() == Some(&b'>') {
                self.header = Some(self.parse_header()?);
                break;
            }
            self.append_line(&id, &mut letters)?;
        }
        self.check_length(&id, header_line, letters.len())?;
        let sequence = DnaSequence::new(letters).expect("every line was checked");
        let (interval, split, targets) = (None, None, Vec::new());
        Ok(Some(Example { id, sequences: vec![sequence], interval, split, targets }))
    }

    fn check_length(&self, id: &str, header_line: u64, found: usize) -> Result<()> {
        let place = format!("record {id}");
        if found == 0 {
            let expected = "a sequence of at least one base";
            return Err(self
                .text
                .defect_at(header_line, place, expected, "an empty sequence")
                .into());
        }
        match self.length {
            Some(length) if length != found as u64 => {
                let expected = format!("a sequence of {length} nucleotides");
                let found = format!("{found} nucleotides");
                Err(self.text.defect_at(header_line + 1, place, expected, found).into())
            }
            _ => Ok(()),
        }
    }

    fn first_header(&mut self) -> Result<(String, u64)> {
        while let Some(line) = self.text.next_line()? {
            if line.first() == Some(&b'>') {
                return self.parse_header();
            }
            if !line.trim_ascii().is_empty() {
                let found = excerpt(line);
                return Err(self.text.defect("", "a header that starts with '>'", found).into());
            }
        }
        let expected = "at least one record that starts with '>'";
        let file = self.text.path().display();
        Err(InputError::new(file, "", expected, "0 records: the file is empty").into())
    }

    fn parse_header(&mut self) -> Result<(String, u64)> {
        let header = self.text.line().get(1..).unwrap_or_default();
        let id = header.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        if id.is_empty() {
            return Err(self.text.defect("", "an id right after '>'", "an empty id").into());
        }
        let id = match utf8(id) {
            Ok(id) => id.to_owned(),
            Err(found) => return Err(self.text.defect("", "an id in UTF-8", found).into()),
        };
        if let Some(first) = self.ids.insert(&id, self.text.line_number()) {
            let found = format_args!("id {id} again (a duplicate of line {first})");
            return Err(self.text.defect("", unique::EXPECTED, found).into());
        }
        Ok((id, self.text.line_number()))
    }

    fn append_line(&self, id: &str, letters: &mut Vec<u8>) -> Result<()> {
        let line = self.text.line().trim_ascii_end();
        let start = letters.len();
        if line.len() > SEQUENCE_NT_MAX.saturating_sub(start) {
            return Err(self
                .text
                .defect(
                    format_args!("record {id}"),
                    format_args!("a sequence of at most {SEQUENCE_NT_MAX} nucleotides (the limit)"),
                    "a longer one",
                )
                .into());
        }
        letters.extend_from_slice(line);
        let appended = letters.get_mut(start..).unwrap_or_default();
        normalise_in_place(appended).map_err(|bad| {
            self.text.defect(format_args!("record {id}"), EXPECTED_LETTER, bad).into()
        })
    }
}

impl ExampleReader for FastaReader {
    fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        batch::collect(rows, || self.next_example()).map_err(|error| self.text.explain(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn read(bytes: &[u8], length: Option<u64>) -> Result<Vec<(String, String)>> {
        let source = Box::new(Cursor::new(bytes.to_vec()));
        let text = TextReader::from_read(Path::new("t.fa"), source, SEQUENCE_NT_MAX)?;
        let mut reader = FastaReader::new(text, length);
        let mut records = Vec::new();
        loop {
            let examples = reader.read(2)?;
            if examples.is_empty() {
                assert!(reader.read(2)?.is_empty(), "the end stays the end");
                return Ok(records);
            }
            for example in examples {
                records.push((example.id, example.sequences[0].as_str().to_owned()));
            }
        }
    }

    fn error(text: &str) -> String {
        read(text.as_bytes(), None).unwrap_err().chain()
    }

    #[test]
    fn records_are_joined_over_lines_and_upper_cased() {
        let records = read(b"\n>a one\r\nac\r\n\r\nGT\r\n>b\tx\nN", None).unwrap();
        assert_eq!(records, [("a".into(), "ACGT".into()), ("b".into(), "N".into())]);
    }

    #[test]
    fn a_bad_letter_is_named_with_line_record_and_column() {
        assert_eq!(
            error(">a\nAC\nA>\n"),
            format!("t.fa: line 3, record a: expected {EXPECTED_LETTER}, found '>' at column 2")
        );
    }

    #[test]
    fn records_without_id_or_sequence_or_with_a_known_id_are_refused() {
        assert!(error(">\nA\n").contains("line 1: expected an id"));
        assert!(error("> a\nA\n").contains("line 1: expected an id"));
        assert!(error(">a\n>b\nA").contains("line 1, record a: expected a sequence"));
        assert!(error(">a\nA\n>b\n\n").contains("line 3, record b: expected a sequence"));
        assert!(
            error(">a\nA\n>a x\nC").contains("line 3: expected unique ids, found id a again (a")
        );
        assert!(error("A\n>a\nA").contains("line 1: expected a header"));
        assert!(error("\n\n").contains("0 records"));
    }

    #[test]
    fn another_length_than_the_task_has_is_refused() {
        let message = read(b">a\nACG\n>b\nAC\n", Some(3)).unwrap_err().chain();
        assert_eq!(
            message,
            "t.fa: line 4, record b: expected a sequence of 3 nucleotides, found 2 nucleotides"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_give_records_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, None);
            let _ = read(&[b">a\n".to_vec(), bytes].concat(), Some(4));
        }

        #[test]
        fn wrapping_does_not_change_records(
            sequences in prop::collection::vec("[ACGTNacgtn]{1,40}", 1..5),
            width in 1_usize..50,
        ) {
            let mut file = String::new();
            for (i, sequence) in sequences.iter().enumerate() {
                file.push_str(&format!(">s{i}\n"));
                for line in sequence.as_bytes().chunks(width) {
                    file.push_str(std::str::from_utf8(line).unwrap());
                    file.push('\n');
                }
            }
            let expected: Vec<_> = sequences.iter().map(|s| s.to_ascii_uppercase()).collect();
            let found: Vec<_> =
                read(file.as_bytes(), None).unwrap().into_iter().map(|(_, s)| s).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
