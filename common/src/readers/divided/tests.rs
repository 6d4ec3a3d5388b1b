use super::*;
use crate::dataset::TableColumns;
use crate::readers::open;
use crate::survey::survey;
use std::path::PathBuf;

/// A table of `rows`, each `sequence, column, target`, in a folder that must be kept.
fn table(rows: &[(String, String, String)]) -> (tempfile::TempDir, DatasetSource) {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "seq,part,y\n".to_owned();
    for (sequence, part, target) in rows {
        text.push_str(&format!("{sequence},{part},{target}\n"));
    }
    let path = folder.path().join("t.csv");
    std::fs::write(&path, text).unwrap();
    (folder, DatasetSource::Table { path, columns: columns() })
}

fn columns() -> TableColumns {
    let sequence = "seq".to_owned();
    TableColumns { sequence, targets: vec!["y".to_owned()], ..TableColumns::default() }
}

/// Sequences that all differ, however many.
fn letters(row: usize) -> String {
    (0..12).map(|place| char::from(b"ACGT"[row >> (2 * place) & 3])).collect::<String>() + "AACC"
}

fn rows(parts: &[&str]) -> Vec<(String, String, String)> {
    let row = |(i, part): (usize, &&str)| (letters(i), (*part).to_owned(), (i % 2).to_string());
    parts.iter().enumerate().map(row).collect()
}

fn list(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

fn read(source: DatasetSource, rule: SplitRule, task: TaskName) -> Result<Vec<Example>> {
    let source = DatasetSource::Divided { source: Box::new(source), rule };
    let mut reader = open(&source, task)?;
    assert!(reader.schema().has_splits);
    let mut all = Vec::new();
    loop {
        let examples = reader.read(2)?;
        if examples.is_empty() {
            return Ok(all);
        }
        all.extend(examples);
    }
}

fn by_column(values: SplitValues) -> SplitRule {
    SplitRule::Column { column: "part".to_owned(), values }
}

fn folds() -> SplitValues {
    SplitValues { valid: list(&["9"]), test: list(&["10"]), ..SplitValues::default() }
}

fn fractions(shares: [f64; 3], group: Option<&str>) -> SplitRule {
    SplitRule::Fractions { shares, seed: 1, stratify: false, group: group.map(str::to_owned) }
}

fn splits(examples: &[Example]) -> String {
    examples.iter().map(|example| &example.split.unwrap().name()[..2]).collect::<Vec<_>>().join(" ")
}

#[test]
fn folds_chromosomes_and_names_give_each_row_its_split() {
    let (_kept, source) = table(&rows(&["1", "9.0", "10", "2", "x"]));
    let examples = read(source.clone(), by_column(folds()), TaskName::Regression).unwrap();
    assert_eq!(splits(&examples), "tr va te tr tr");
    let left_out = SplitValues { leave_out: list(&["1", "x"]), ..folds() };
    let kept = read(source, by_column(left_out), TaskName::Regression).unwrap();
    assert_eq!(splits(&kept), "va te tr");
    assert_eq!(kept[0].id, "row1");
    let (_kept, source) = table(&rows(&["train", "dev", "TEST"]));
    let named = by_column(SplitValues::default());
    assert_eq!(splits(&read(source, named, TaskName::Regression).unwrap()), "tr va te");
    let (_kept, source) = table(&rows(&["chr1", "chr8", "chr9"]));
    let column = Some("part".to_owned());
    let values = SplitValues { test: list(&["chr9"]), ..SplitValues::default() };
    let rule = SplitRule::Chromosome { column, values };
    assert_eq!(splits(&read(source, rule, TaskName::Regression).unwrap()), "tr tr te");
}

#[test]
fn values_and_splits_that_are_not_there_are_named_with_what_is() {
    let cases = [
        (&["1", "2"][..], folds(), "column part: expected the value \"10\"", "found 1, 2"),
        (
            &["9", "10"],
            folds(),
            "expected examples of split train",
            "valid 1, test 1; values 10, 9",
        ),
        (&["1", "", "9"], folds(), "line 3, column part: expected a value", "empty field"),
        (
            &["a", "b"],
            SplitValues::default(),
            "line 2, column part: expected train, valid",
            "found \"a\"",
        ),
        (
            &["1", "10", "3"],
            SplitValues { train: Some(list(&["1"])), valid: Vec::new(), ..folds() },
            "line 4, column part: expected one of 1, 10, or the value in leave_out",
            "found \"3\"",
        ),
    ];
    for (parts, values, expected, found) in cases {
        let (_kept, source) = table(&rows(parts));
        let error = read(source, by_column(values), TaskName::Regression).unwrap_err().chain();
        assert!(error.contains(expected) && error.contains(found), "{error}");
    }
    let (_kept, source) = table(&rows(&["1"]));
    let rule = SplitRule::Column { column: "fold".to_owned(), values: folds() };
    let error = read(source.clone(), rule, TaskName::Regression).unwrap_err().chain();
    assert!(
        error.contains("a column called fold, found columns \"seq\", \"part\", \"y\""),
        "{error}"
    );
    let rule = SplitRule::Chromosome { column: None, values: folds() };
    let error = read(source, rule, TaskName::Regression).unwrap_err().chain();
    assert!(error.contains("found a source without intervals"), "{error}");
}

#[test]
fn fractions_are_exact_and_the_order_of_rows_does_not_matter() {
    let mut all = rows(&vec!["g"; 30]);
    all.push(all[3].clone());
    let divided = |rows: &[(String, String, String)]| -> Vec<(String, Split)> {
        let (_kept, source) = table(rows);
        let rule = fractions([0.7, 0.1, 0.2], None);
        let examples = read(source, rule, TaskName::Regression).unwrap();
        let mut splits: Vec<_> = examples
            .iter()
            .map(|e| (e.sequences[0].as_str().to_owned(), e.split.unwrap()))
            .collect();
        splits.sort();
        splits
    };
    let forward = divided(&all);
    let count = |split| forward.iter().filter(|(_, found)| *found == split).count();
    // 31 * (0.7, 0.1, 0.2) = 21.7, 3.1, 6.2
    assert_eq!(Split::ALL.map(count), [22, 3, 6]);
    all.reverse();
    all.swap(2, 17);
    assert_eq!(forward, divided(&all));
}

#[test]
fn stratified_fractions_are_exact_in_each_class() {
    let (_kept, source) = table(&rows(&["g"; 40]));
    let shares = [0.5, 0.1, 0.4];
    let rule = SplitRule::Fractions { shares, seed: 7, stratify: true, group: None };
    let examples = read(source.clone(), rule.clone(), TaskName::Classification).unwrap();
    for class in [0.0, 1.0] {
        let of = |split| {
            examples.iter().filter(|e| e.targets[0] == class && e.split == Some(split)).count()
        };
        assert_eq!(Split::ALL.map(of), [10, 2, 8]);
    }
    let error = read(source, rule, TaskName::Regression).unwrap_err().chain();
    assert!(error.contains("split.stratify") && error.contains("task regression"), "{error}");
}

#[test]
fn a_group_lands_in_one_split_near_its_share_and_no_split_stays_empty() {
    let names: Vec<String> = (0..300).map(|row| format!("gene{}", row % 37)).collect();
    let (_kept, source) = table(&rows(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    let rule = fractions([0.7, 0.1, 0.2], Some("part"));
    let examples = read(source, rule, TaskName::Regression).unwrap();
    let mut of_gene = BTreeMap::new();
    for (name, example) in names.iter().zip(&examples) {
        assert_eq!(*of_gene.entry(name).or_insert(example.split), example.split, "{name}");
    }
    let count = |split| examples.iter().filter(|e| e.split == Some(split)).count();
    for (found, wanted) in Split::ALL.map(count).into_iter().zip([210, 30, 60]) {
        assert!(found.abs_diff(wanted) <= 9, "{found} {wanted}");
    }
    let (_kept, source) = table(&rows(&["a", "a", "b", "c", "c", "c"]));
    let few = read(source, fractions([0.8, 0.1, 0.1], Some("part")), TaskName::Regression).unwrap();
    let kinds: BTreeSet<_> = few.iter().map(|example| example.split).collect();
    assert_eq!(kinds.len(), 3);
    let (_kept, source) = table(&rows(&["a", "a", "a"]));
    let error = read(source, fractions([0.8, 0.0, 0.2], Some("part")), TaskName::Regression);
    let error = error.unwrap_err().chain();
    assert!(error.contains("expected examples of split test, found train 3"), "{error}");
}

#[test]
fn grouped_by_sequence_no_reverse_complement_leaks() {
    let mut all = rows(&vec!["g"; 60]);
    for i in 0..60 {
        let turned = crate::dna::DnaSequence::new(letters(i)).unwrap().reverse_complement();
        all.push((turned.as_str().to_owned(), "g".to_owned(), "0".to_owned()));
    }
    let (_kept, source) = table(&all);
    let facts = |group| {
        let rule = fractions([0.5, 0.2, 0.3], group);
        let source = DatasetSource::Divided { source: Box::new(source.clone()), rule };
        survey(&source, TaskName::Regression).unwrap()
    };
    assert_eq!(facts(Some("seq")).leakage, []);
    let leaking = facts(None);
    assert!(!leaking.leakage.is_empty());
    let line = leaking.leakage_lines().remove(0);
    assert!(line.contains("examples have a sequence that train has too") && line.contains("row"));
}

#[test]
fn a_rule_is_part_of_what_a_data_set_is() {
    let (_kept, source) = table(&rows(&["1", "9", "10"]));
    let id = |rule: Option<SplitRule>| {
        let plain = source.clone();
        let source = match rule {
            Some(rule) => DatasetSource::Divided { source: Box::new(plain), rule },
            None => plain,
        };
        crate::survey::dataset_id(&source, TaskName::Regression).unwrap()
    };
    let ids: BTreeSet<_> = [
        id(None),
        id(Some(by_column(folds()))),
        id(Some(fractions([0.5, 0.1, 0.4], None))),
        id(Some(fractions([0.5, 0.1, 0.4], Some("part")))),
    ]
    .into();
    assert_eq!(ids.len(), 4);
}

#[test]
fn chromosomes_of_intervals_need_no_column() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let genome = write("g.fa", ">chr1\nACGTACGTAA\n>chr8\nTTGGAACCTT\n>chr9\nCCCCAACCTT\n");
    let path = write("a.bed", "chr1\t0\t4\nchr8\t0\t4\tp\nchr9\t1\t5\nchr1\t4\t8\n");
    let source = DatasetSource::Bed { path, genome, window: None };
    let values =
        SplitValues { valid: list(&["chr8"]), test: list(&["chr9"]), ..SplitValues::default() };
    let rule = SplitRule::Chromosome { column: None, values };
    let examples = read(source.clone(), rule, TaskName::None).unwrap();
    assert_eq!(splits(&examples), "tr va te tr");
    let values =
        SplitValues { valid: list(&["8"]), test: list(&["Chr9"]), ..SplitValues::default() };
    let rule = SplitRule::Chromosome { column: None, values };
    let examples = read(source.clone(), rule, TaskName::None).unwrap();
    assert_eq!(splits(&examples), "tr va te tr", "chr8 is 8");
    let values = SplitValues { test: list(&["10"]), ..SplitValues::default() };
    let rule = SplitRule::Chromosome { column: None, values };
    let error = read(source, rule, TaskName::None).unwrap_err().chain();
    assert!(error.contains("\"10\"") && error.contains("found chr1, chr8, chr9"), "{error}");
}
