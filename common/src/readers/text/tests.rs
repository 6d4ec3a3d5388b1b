//! Facts about lines: ends, marks, limits, compression and its defects.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::Write;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn lines(bytes: &[u8], line_bytes_max: usize) -> Result<Vec<String>> {
    let source = Box::new(Cursor::new(bytes.to_vec()));
    let mut reader = TextReader::from_read(Path::new("t.txt"), source, line_bytes_max)?;
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line()? {
        lines.push(String::from_utf8_lossy(line).into_owned());
    }
    Ok(lines)
}

fn error(bytes: &[u8]) -> String {
    lines(bytes, 100).unwrap_err().chain()
}

#[test]
fn line_ends_and_byte_order_mark_are_dropped() {
    assert_eq!(lines(b"\xef\xbb\xbfa\r\n\nb", 9).unwrap(), ["a", "", "b"]);
    assert_eq!(lines(b"", 9).unwrap(), [""; 0]);
    assert_eq!(lines(b"a\rb\n", 9).unwrap(), ["a\rb"]);
}

#[test]
fn members_of_gzip_are_joined_even_inside_a_line() {
    let bytes = [gzip(b"ab"), gzip(b""), gzip(b"c\nd")].concat();
    assert_eq!(lines(&bytes, 9).unwrap(), ["abc", "d"]);
}

#[test]
fn a_line_of_the_limit_passes_and_one_byte_more_is_refused() {
    assert_eq!(lines(b"123\r\n123\n", 3).unwrap(), ["123", "123"]);
    let message = lines(b"1\n1234\n", 3).unwrap_err().chain();
    assert!(message.starts_with("t.txt: line 2: expected a line of at most 3 bytes"), "{message}");
}

#[test]
fn defects_of_gzip_are_told_apart() {
    let good = gzip(b"line one\nline two\n");
    let body = error(&good[..good.len() - 12]);
    assert!(body.contains("gzip member 0 at compressed byte offset 0"), "{body}");
    assert!(body.contains("truncated"), "{body}");
    assert!(error(&good[..good.len() - 3]).contains("truncated"));
    let mut bad_sum = good.clone();
    bad_sum[good.len() - 8] ^= 1;
    assert!(error(&bad_sum).contains("corrupt"));
    let garbage = error(&[good.clone(), b"garbage".to_vec()].concat());
    assert!(garbage.contains(&format!("compressed byte offset {}", good.len())), "{garbage}");
    assert!(garbage.contains("trailing garbage"), "{garbage}");
}

#[test]
fn bgzip_without_its_end_marker_is_refused() {
    // An extra field turns a gzip member into a bgzip block; this reader ignores the block size.
    let block = |text: &[u8]| {
        let mut member = gzip(text);
        member[3] = 4;
        member.splice(10..10, [6, 0, b'B', b'C', 2, 0, 0, 0]);
        member
    };
    let whole = [block(b"a\n"), block(b"")].concat();
    assert_eq!(lines(&whole, 9).unwrap(), ["a"]);
    assert!(error(&block(b"a\n")).contains("marker is missing"));
}

#[test]
fn damage_of_the_stream_explains_a_defect_of_its_content() {
    let mut packed = gzip(b"one\ntwo\n");
    let explained = |packed: &[u8]| {
        let source = Box::new(Cursor::new(packed.to_vec()));
        let mut reader = TextReader::from_read(Path::new("t"), source, 100).unwrap();
        reader.next_line().unwrap();
        let defect = reader.defect("", "one", "two").into();
        reader.explain(defect).chain()
    };
    assert_eq!(explained(&packed), "t: line 1: expected one, found two");
    let checksum = packed.len() - 8;
    packed[checksum] ^= 1;
    assert!(explained(&packed).contains("checksum"));
}

#[test]
fn an_error_stays_an_error_when_read_again() {
    let good = gzip(b"line one\nline two\n");
    let source = Box::new(Cursor::new(good[..good.len() - 3].to_vec()));
    let mut reader = TextReader::from_read(Path::new("t"), source, 100).unwrap();
    while let Ok(line) = reader.next_line() {
        assert!(line.is_some(), "a truncated stream must not end");
    }
    assert!(reader.next_line().is_err());
}

#[test]
fn an_excerpt_is_escaped_and_short() {
    assert_eq!(excerpt(b"a\tb"), "\"a\\tb\"");
    assert!(excerpt(&[b'x'; 1000]).len() < 80);
    assert!(excerpt(b"").contains("empty"));
}

proptest! {
    #[test]
    fn any_bytes_give_lines_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = lines(&bytes, 50);
        let _ = lines(&[vec![0x1f, 0x8b, 8, 0], bytes].concat(), 50);
    }

    #[test]
    fn a_cut_gzip_stream_never_ends_well(
        text in prop::collection::vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let good = gzip(&text);
        let length = cut.index(good.len());
        prop_assume!(length >= 2);
        prop_assert!(lines(&good[..length], 1000).is_err());
    }

    #[test]
    fn compression_does_not_change_lines(text in "[a-c\r\n]{0,60}", cut in 0_usize..60) {
        let bytes = text.as_bytes();
        let (head, tail) = bytes.split_at(cut.min(bytes.len()));
        let packed = [gzip(head), gzip(tail)].concat();
        prop_assert_eq!(lines(&packed, 100).unwrap(), lines(bytes, 100).unwrap());
    }
}

#[test]
fn a_pipe_is_refused_since_files_are_read_twice() {
    let (reader, _writer) = io::pipe().unwrap();
    let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let expected = format!("{path}: expected a regular file, as it is read twice, found a pipe");
    let opened = TextReader::open(Path::new(&path), 100);
    assert_eq!(opened.err().unwrap().chain(), expected);
    let digest = crate::digest::sha256_file(Path::new(&path));
    assert_eq!(digest.unwrap_err().chain(), expected);
}
