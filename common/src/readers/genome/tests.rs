//! Facts about genomes: any packing and any wrap give the same letters; damage is named.

use super::*;
use flate2::{Compress, Compression, Crc, FlushCompress};
use proptest::prelude::*;
use std::fs;

/// Packs `bytes` as bgzip in blocks of `block_bytes`.
fn bgzip(bytes: &[u8], block_bytes: usize) -> Vec<u8> {
    let mut packed = Vec::new();
    for block in bytes.chunks(block_bytes).chain([&b""[..]]) {
        let mut data = Vec::with_capacity(block.len() + 1000);
        let mut deflate = Compress::new(Compression::default(), false);
        deflate.compress_vec(block, &mut data, FlushCompress::Finish).unwrap();
        let mut crc = Crc::new();
        crc.update(block);
        packed.extend([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, b'B', b'C', 2, 0]);
        packed.extend(((18 + data.len() + 8 - 1) as u16).to_le_bytes());
        packed.extend(data);
        packed.extend(crc.sum().to_le_bytes());
        packed.extend((block.len() as u32).to_le_bytes());
    }
    packed
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn fasta(sequences: &[(&str, &str)], width: usize, line_end: &str) -> String {
    let mut text = String::new();
    for (name, sequence) in sequences {
        text.push_str(&format!(">{name} some words{line_end}"));
        for line in sequence.as_bytes().chunks(width) {
            text.push_str(std::str::from_utf8(line).unwrap());
            text.push_str(line_end);
        }
    }
    text
}

/// Opens `bytes` as a genome, with `fai` beside it if given, and reads every contig whole.
fn read_all(bytes: &[u8], fai: Option<&[u8]>) -> Result<Vec<(String, String)>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.fa");
    fs::write(&path, bytes).unwrap();
    if let Some(fai) = fai {
        fs::write(beside(&path, ".fai"), fai).unwrap();
    }
    let genome = Genome::open(&path)?;
    let whole = |contig: &Contig| {
        let bases = genome.fetch(&contig.name, 0, contig.length)?;
        Ok((contig.name.clone(), String::from_utf8(bases).unwrap()))
    };
    genome.contigs().iter().map(whole).collect()
}

fn error(bytes: &[u8], fai: Option<&str>) -> String {
    let message = read_all(bytes, fai.map(str::as_bytes)).unwrap_err().chain();
    message.split_once("g.fa").unwrap().1.to_owned()
}

#[test]
fn every_packing_and_line_end_gives_the_same_letters() {
    let sequences = [("a", "ACGTnnacgtACG"), ("b", "T"), ("c", "GGGGCCCC")];
    let expected: Vec<_> =
        sequences.iter().map(|(n, s)| ((*n).to_owned(), s.to_ascii_uppercase())).collect();
    for line_end in ["\n", "\r\n"] {
        for width in [1, 4, 13, 100] {
            let text = fasta(&sequences, width, line_end).into_bytes();
            assert_eq!(read_all(&text, None).unwrap(), expected);
            assert_eq!(read_all(text.trim_ascii_end(), None).unwrap(), expected);
            assert_eq!(read_all(&gzip(&text), None).unwrap(), expected);
            assert_eq!(read_all(&bgzip(&text, 7), None).unwrap(), expected);
        }
    }
}

#[test]
fn an_end_beyond_the_contig_is_refused_with_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.fa");
    fs::write(&path, ">a\nACGT\n>b\nA\n").unwrap();
    let genome = Genome::open(&path).unwrap();
    assert_eq!(genome.fetch("a", 4, 4).unwrap(), b"");
    let message = genome.fetch("a", 2, 5).unwrap_err().chain();
    assert!(message.ends_with("expected start <= end <= 4, the length of a, found 2 to 5"));
    assert!(genome.fetch("a", 3, 2).is_err());
    assert!(
        genome
            .fetch("z", 0, 1)
            .unwrap_err()
            .chain()
            .contains("(a, b), with or without \"chr\", found z")
    );
}

#[test]
fn lines_of_unequal_length_are_refused_with_the_line() {
    assert!(error(b">a\nACGT\nAC\nACGT\n", None).contains("line 4, contig a: expected lines of 4"));
    assert!(error(b">a\nACGT\nACGTA\n", None).contains("line 3"));
    assert!(error(b">a\nACGT\n\nACGT\n", None).contains("line 4"));
    assert!(error(b">a\n>b\nA\n", None).contains("line 1, contig a"));
    assert!(error(b">a\nA\n>a\nA\n", None).contains("line 3: expected unique ids"));
    assert!(error(b"ACGT\n", None).contains("line 1: expected a header"));
    assert!(error(b"", None).contains("0 records"));
    assert!(error(b">a\nAC!T\n", None).contains("contig a, base 3"));
}

#[test]
fn an_index_of_another_file_is_refused() {
    let file = b">a\nACGT\nACGT\n>bb\nAC\n";
    assert!(read_all(file, Some(b"a\t8\t3\t4\t5\nbb\t2\t17\t2\t3\n")).is_ok());
    assert!(error(file, Some("a\t8\t4\t4\t5")).contains("the header >a"));
    assert!(error(file, Some("b\t8\t3\t4\t5")).contains("the header >b"));
    assert!(error(file, Some("a\t7\t3\t4\t5")).contains("line end or the end of the file after 7"));
    assert!(error(file, Some("a\t8\t3\t2\t3")).contains("found one after 4 bases"));
    assert!(error(file, Some("a\t8\t3\t8\t9")).contains("line end or the end"));
    assert!(error(file, Some("a\t8\t3\t4\t5\na\t8\t3\t4\t5")).contains("unique"));
    assert!(error(file, Some("")).contains("an empty index"));
}

#[test]
fn a_shifted_gzi_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.fa");
    let packed = bgzip(b">a\nACGTACGTACGT\n", 8);
    fs::write(&path, &packed).unwrap();
    let first_block = u64::from(u16::from_le_bytes([packed[16], packed[17]])) + 1;
    let gzi = |entries: &[u64]| {
        let bytes: Vec<u8> = entries.iter().flat_map(|word| word.to_le_bytes()).collect();
        fs::write(beside(&path, ".gzi"), bytes).unwrap();
        Genome::open(&path).map(|_| ())
    };
    gzi(&[1, first_block, 8]).unwrap();
    for bad in [&[1, first_block + 1, 8][..], &[1, first_block, 9], &[0], &[2, 1, 1], &[]] {
        let message = gzi(bad).unwrap_err().chain();
        assert!(message.contains("gzi"), "{message}");
    }
}

#[test]
fn damage_of_a_block_is_named_with_its_offset() {
    let packed = bgzip(b">a\nACGTACGTACGT\n", 1000);
    let end = packed.len() - 28;
    for (at, word) in [(end - 8, "checksum"), (end - 4, "length"), (18, "bgzf block 0")] {
        let mut damaged = packed.clone();
        damaged[at] ^= 6;
        let message = error(&damaged, None);
        assert!(message.contains(word), "{message}");
    }
    assert!(error(&packed[..end], None).contains("marker is missing"));
    assert!(error(&packed[..end + 20], None).contains("truncated"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_piece_of_any_packing_is_the_piece_of_the_sequence(
        sequence in "[ACGTNacgt]{1,200}",
        width in 1_usize..70,
        block_bytes in 1_usize..90,
        range in (0_u64..200, 0_u64..200),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fa");
        let text = fasta(&[("x", "AC"), ("y", &sequence)], width, "\n");
        let length = sequence.len() as u64;
        let (start, end) = (range.0.min(range.1).min(length), range.0.max(range.1).min(length));
        let expected = &sequence.to_ascii_uppercase()[start as usize..end as usize];
        for packed in [text.clone().into_bytes(), bgzip(text.as_bytes(), block_bytes)] {
            fs::write(&path, packed).unwrap();
            let genome = Genome::open(&path).unwrap();
            prop_assert_eq!(genome.fetch("y", start, end).unwrap(), expected.as_bytes());
        }
    }

    #[test]
    fn damaged_files_and_indexes_never_panic(
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
        cut in any::<prop::sample::Index>(),
        fai in "[a-c0-9\t\n-]{0,40}",
    ) {
        let text = fasta(&[("a", "ACGTACGTAC"), ("b", "GGT")], 4, "\n").into_bytes();
        for packed in [text.clone(), bgzip(&text, 20), gzip(&text)] {
            let mut flipped = packed.clone();
            let position = at.index(packed.len());
            flipped[position] ^= flip;
            let _ = read_all(&flipped, None);
            let _ = read_all(&packed[..cut.index(packed.len())], None);
            let _ = read_all(&packed, Some(fai.as_bytes()));
            let _ = read_all(&flipped, Some(b"a\t10\t14\t4\t5\nb\t3\t41\t4\t5\n"));
        }
    }
}
