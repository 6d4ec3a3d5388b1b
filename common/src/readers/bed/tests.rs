//! Facts about intervals: columns, strands, windows, and what is refused.

use super::*;
use crate::readers::narrow_peak::NarrowPeakReader;
use proptest::prelude::*;

const GENOME: &str = ">chr1\nAACCGGTTAC\n>chr2\nGATTACA\n";

/// Reads `text` as BED or narrowPeak over [`GENOME`]; one line of text per example.
fn read(text: &[u8], is_narrow_peak: bool, window: Option<u64>) -> Result<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let (path, genome) = (folder.path().join("t.bed"), folder.path().join("g.fa"));
    std::fs::write(&path, text).unwrap();
    std::fs::write(&genome, GENOME).unwrap();
    let mut reader: Box<dyn ExampleReader> = if is_narrow_peak {
        Box::new(NarrowPeakReader::open(&path, &genome, window)?)
    } else {
        Box::new(BedReader::open(&path, &genome, window)?)
    };
    let mut found = Vec::new();
    loop {
        let examples = reader.read(2)?;
        if examples.is_empty() {
            return Ok(found);
        }
        found.extend(examples.iter().map(|example| {
            let interval = example.interval.as_ref().unwrap();
            format!("{} {interval} {}", example.id, example.sequences[0].as_str())
        }));
    }
}

fn bed(text: &str) -> Vec<String> {
    read(text.as_bytes(), false, None).unwrap()
}

fn error(text: &str, is_narrow_peak: bool, window: Option<u64>) -> String {
    let message = read(text.as_bytes(), is_narrow_peak, window).unwrap_err().chain();
    message.split_once("t.bed: ").unwrap().1.to_owned()
}

#[test]
fn columns_give_name_and_strand() {
    let text = "#c\ntrack name=x\nbrowser\n\nchr1\t0\t4\nchr1\t1\t4\tn\nchr2 0 3 . 7 -\r\n";
    assert_eq!(
        bed(text),
        ["chr1:0-4 chr1:0-4(+) AACC", "n chr1:1-4(+) ACC", "chr2:0-3(-) chr2:0-3(-) ATC"]
    );
}

#[test]
fn both_strands_of_an_interval_have_ids_of_their_own() {
    let both = bed("chr1\t0\t4\t.\t0\t+\nchr1\t0\t4\t.\t0\t-\nchr1\t0\t4\t.\t0\t.\n");
    let ids: Vec<&str> = both.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(ids, ["chr1:0-4(+)", "chr1:0-4(-)", "chr1:0-4"]);
}

#[test]
fn a_repeated_id_of_narrow_peak_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let (path, genome) = (folder.path().join("t.narrowPeak"), folder.path().join("g.fa"));
    std::fs::write(&genome, GENOME).unwrap();
    let line = |summit| format!("chr1\t2\t7\tRBFOX2_K562\t0\t+\t1\t1\t1\t{summit}\n");
    std::fs::write(&path, [line(1), line(2), line(3)].concat()).unwrap();
    let mut reader = NarrowPeakReader::open(&path, &genome, Some(4)).unwrap();
    assert_eq!(reader.read(9).unwrap().len(), 3);
    let notes = reader.notes();
    let expected = "2 rows have the id of an earlier row, such as RBFOX2_K562 of lines 1 and 2";
    assert!(notes.len() == 1 && notes[0].contains(expected), "{notes:?}");
}

#[test]
fn a_window_is_centred_on_the_middle() {
    let cut = |window| read(b"chr1\t2\t7\n", false, Some(window)).unwrap().remove(0);
    assert_eq!(cut(4), "chr1:2-6 chr1:2-6(+) CCGG");
    assert_eq!(cut(3), "chr1:3-6 chr1:3-6(+) CGG");
    let message = error("chr1\t2\t7\n", false, Some(10));
    assert!(message.contains("line 1: expected a window inside chromosome chr1"), "{message}");
    assert!(error("chr1\t8\t10\n", false, Some(4)).contains("centred on 9"));
    assert!(read(b"chr1\t8\t10\n", false, Some(0)).is_err());
}

#[test]
fn a_window_is_centred_on_the_summit() {
    let peak = |strand: &str, summit: &str| {
        let line = format!("chr1\t2\t7\tp\t0\t{strand}\t1\t1\t1\t{summit}\n");
        read(line.as_bytes(), true, Some(4)).unwrap().remove(0)
    };
    assert_eq!(peak("+", "4"), "p chr1:4-8(+) GGTT");
    assert_eq!(peak("-", "4"), "p chr1:4-8(-) AACC");
    assert_eq!(peak(".", "-1"), "p chr1:2-6(+) CCGG");
    let line = "chr1\t2\t7\tp\t0\t.\t1\t1\t1\t5\n";
    assert!(error(line, true, None).contains("line 1: expected a summit offset below 5"));
    assert!(error("chr1\t2\t7\n", true, None).contains("10 columns"));
}

#[test]
fn an_interval_outside_its_chromosome_is_refused_with_the_line() {
    assert_eq!(
        error("chr2\t0\t7\nchr2\t0\t8\n", false, None),
        "line 2: expected end <= 7, the length of chromosome chr2, found 8"
    );
    assert!(
        error("chr3\t0\t8\n", false, None)
            .contains("(chr1, chr2), with or without \"chr\", found \"chr3\"")
    );
    assert_eq!(bed("1\t0\t4\n"), ["1:0-4 1:0-4(+) AACC"], "as the file calls it");
    assert!(error("chr2\t3\t3\n", false, None).contains("start < end"));
    assert!(error("chr2\t-1\t3\n", false, None).contains("integer"));
    assert!(error("chr2\t1\t3\tn\t0\t*\n", false, None).contains("strand"));
    assert!(error("# nothing\n", false, None).contains("0 intervals"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_lines_give_examples_or_an_error(
        text in "(chr[12]|[a\u{e9}])?([\t ]([0-9]{1,2}|[0-9]{20}|-1|x|\\.)){0,11}[\r\n]{0,2}",
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        window in prop::option::of(0_u64..12),
    ) {
        for is_narrow_peak in [false, true] {
            let _ = read(text.as_bytes(), is_narrow_peak, window);
            let _ = read(&bytes, is_narrow_peak, window);
        }
    }
}
