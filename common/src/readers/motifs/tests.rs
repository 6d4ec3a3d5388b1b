use super::*;
use crate::error::ErrorKind;
use proptest::prelude::*;
use std::io::{Cursor, Write};

fn read_bytes(bytes: &[u8]) -> Result<MotifSet> {
    let source = Box::new(Cursor::new(bytes.to_vec()));
    parse(TextReader::from_read(Path::new("m.txt"), source, LINE_BYTES_MAX)?)
}

fn error(text: &str) -> String {
    let error = read_bytes(text.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error.chain()
}

const MEME: &str = "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\n\
    Background letter frequencies (from uniform background):\nA 0.3 C 0.2\nG 0.2 T 0.3\n\n\
    MOTIF M1 first\nletter-probability matrix: alength= 4 w= 2 nsites= 20 E= 0\n\
     0.5 0.25 0.25 0\n 0 0 1 0\nURL BLANK\n\nMOTIF M2\n\
    letter-probability matrix:\n1 0 0 0\n";

const JASPAR: &str = ">MA1 first\nA [ 10 0 ]\nC [5 0]\nG [5 20]\nT [ 0 0]\n\n>MA2\n1\n0\n0\n0\n";

#[test]
fn meme_has_names_probabilities_sites_and_background() {
    let set = read_bytes(MEME.as_bytes()).unwrap();
    assert_eq!(set.background, Some([0.3, 0.2, 0.2, 0.3]));
    let first = &set.motifs[0];
    assert_eq!((first.id.as_str(), first.name.as_deref()), ("M1", Some("first")));
    assert_eq!(first.probabilities, [[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 1.0, 0.0]]);
    assert_eq!(first.sites, Some(20.0));
    assert_eq!((set.motifs[1].name.as_deref(), set.motifs[1].sites), (None, None));
    let turned = first.reverse_complement();
    assert_eq!(turned.probabilities, [[0.0, 1.0, 0.0, 0.0], [0.0, 0.25, 0.25, 0.5]]);
    assert_eq!(first.label(), "M1 first");
}

#[test]
fn jaspar_counts_are_those_of_meme() {
    let (meme, jaspar) = (read_bytes(MEME.as_bytes()), read_bytes(JASPAR.as_bytes()));
    let (meme, jaspar) = (meme.unwrap().motifs, jaspar.unwrap().motifs);
    assert_eq!(meme[0].probabilities, jaspar[0].probabilities);
    assert_eq!((jaspar[0].sites, jaspar[1].sites), (Some(20.0), None));
    assert_eq!((jaspar[0].id.as_str(), jaspar[0].name.as_deref()), ("MA1", Some("first")));
    // Without letters, with other letters of case, in another order.
    let other = read_bytes(b">x\nt 0 0\ng 5 20\na 10 0\nc 5 0\n").unwrap();
    assert_eq!(other.motifs[0].probabilities, meme[0].probabilities);
}

#[test]
fn a_gzipped_file_is_read_as_its_text() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(MEME.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    assert_eq!(read_bytes(&packed).unwrap(), read_bytes(MEME.as_bytes()).unwrap());
    assert!(read_bytes(&packed[..packed.len() - 6]).is_err());
}

#[test]
fn log_odds_are_turned_back_at_either_scale() {
    let row = [0.5_f64, 0.25, 0.125, 0.125];
    for scale in [1.0, 100.0] {
        let scores = row.map(|p| format!("{:.3}", scale * (p / 0.25).log2())).join(" ");
        let text =
            format!("MEME version 5.5.2\nMOTIF a\nlog-odds matrix: alength= 4 w= 1\n{scores}\n");
        let found = read_bytes(text.as_bytes()).unwrap().motifs[0].probabilities[0];
        for (found, expected) in found.iter().zip(row) {
            assert!((found - expected).abs() < 1e-3, "{scale}: {found} {expected}");
        }
    }
    let wrong = "MEME version 4\nMOTIF a\nlog-odds matrix: alength= 4 w= 1\n3 3 3 3\n";
    assert!(error(wrong).contains("line 3, motif a: expected log2"), "{}", error(wrong));
}

#[test]
fn reports_and_alphabets_of_version_five_are_understood() {
    let report = "****\nMEME - Motif discovery tool\n****\nMEME version 5.4.1 (Release date: x)\n\
        ALPHABET \"RNA\" RNA-LIKE\nA \"Adenine\" CC0000 ~ U \"Uracil\" 008000\nC \"C\" ~ G \"G\"\n\
        N = ACGU\nEND ALPHABET\nMOTIF AC MEME-1\twidth =  1  sites =  7\n\
        Motif AC MEME-1 position-specific probability matrix\n----\n\
        letter-probability matrix: alength= 4 w=1 nsites=7 E= 1e-3\n 0 1 0 0\n----\n";
    let motif = &read_bytes(report.as_bytes()).unwrap().motifs[0];
    assert_eq!((motif.label().as_str(), motif.sites), ("AC MEME-1", Some(7.0)));
    assert!(error("MEME version 4\nALPHABET= ACDEFGHIKLMNPQRSTVWY\n").contains("ACGT or ACGU"));
    assert!(error("MEME version 9\n").contains("line 1: expected a MEME version of 3 to 5"));
}

#[test]
fn defects_name_line_expected_and_found() {
    let meme = |rest: &str| error(&format!("MEME version 4\n{rest}"));
    assert!(error("").contains("no line with text"));
    assert!(error("chr1\t0\t10\n").contains("m.txt: line 1: expected `MEME version 4`"));
    assert!(error("MEME version 4\n").contains("at least one motif, found 0 motifs"));
    assert!(meme("MOTIF a\n").contains("line 2, motif a: expected a letter-probability"));
    assert!(meme("letter-probability matrix: w= 1\n").contains("`MOTIF` before"));
    let matrix = "MOTIF a\nletter-probability matrix: alength= 4 w= 2\n";
    assert!(meme(&format!("{matrix}1 0 0 0\n")).contains("expected 2 rows, found 1 rows"));
    assert!(meme(&format!("{matrix}1 0 0\n")).contains("line 4: expected 4 numbers"));
    assert!(meme(&format!("{matrix}1 1 0 0\n")).contains("line 4: expected probabilities"));
    assert!(meme(&format!("{matrix}1 x 0 0\n")).contains("expected finite numbers, found \"x\""));
    assert!(meme("MOTIF a\nletter-probability matrix: alength= 20\n").contains("alength"));
    assert!(meme("Background letter frequencies\nA 0.5 C\n").contains("expected frequencies"));
    assert!(error(">a\n1\n1\n1\n").contains("expected 4 rows: A, C, G, T, found 3 rows"));
    assert!(error(">a\n1 2\n1\n1\n1\n").contains("line 3, motif a: expected 2 numbers"));
    assert!(error(">a\nA 1\nA 1\nG 1\nT 1\n").contains("each of A, C, G and T once"));
    assert!(error(">a\n0\n0\n0\n0\n").contains("none at position 1"));
    let over = error(">a\n1 1e308\n1 1e308\n1 0\n1 0\n");
    assert!(over.contains("motif a: expected totals of at most 1.79"), "{over}");
    assert!(over.contains("found a larger one at position 2"), "{over}");
    assert!(error(">a\n1\n-1\n0\n0\n").contains("line 3: expected counts of at least 0"));
    assert!(error(">a\n1\n0\n0\n0\n>a x\n").contains("line 6: expected unique identifiers"));
    assert!(error(">\n1\n").contains("line 1: expected an identifier"));
}

proptest! {
    #[test]
    fn any_bytes_give_motifs_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_bytes(&bytes);
        let _ = read_bytes(&[b"MEME version 4\nMOTIF a\n".to_vec(), bytes.clone()].concat());
        let _ = read_bytes(&[b">a\n".to_vec(), bytes].concat());
    }

    #[test]
    fn any_cut_of_a_file_gives_motifs_or_an_error(end in 0..MEME.len(), other in 0..JASPAR.len()) {
        for set in [read_bytes(&MEME.as_bytes()[..end]), read_bytes(&JASPAR.as_bytes()[..other])]
            .into_iter()
            .flatten()
        {
            for row in set.motifs.iter().flat_map(|motif| &motif.probabilities) {
                prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }
}
