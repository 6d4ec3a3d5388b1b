use super::archive::{Located, locate};
use super::*;
use crate::tasks;
use glmeval_common::survey::survey;
use std::collections::BTreeMap;

/// A task that exists for these tests alone: its file is this module, its two lines are
/// `mod example;` and `&example::TASK` in the list that [`tasks::sets`] is asked over.
mod example {
    use super::*;

    pub(super) static TASK: Task = Task {
        title: "Counting letters",
        headline: "pearson",
        sets: &[Set {
            name: "Letters",
            task: TaskName::Regression,
            forms: &[
                Form {
                    files: &[&["Counts/{name}_{length}.tsv", "counted/{name}.tsv"]],
                    read: |_, files, _| table(files),
                },
                Form { files: &[&["parts/*_{name}.tsv"]], read: |_, files, _| table(files) },
            ],
            length: 4,
            sequences: &["sequence"],
            targets: Targets::Named(&["count"]),
            splits: &[(Split::Train, Rows::within(2, 3)), (Split::Test, Rows::exactly(1))],
        }],
        assert: None,
    };

    fn table(files: Vec<PathBuf>) -> Option<DatasetSource> {
        let columns = glmeval_common::dataset::TableColumns {
            sequence: "sequence".into(),
            split: Some("split".into()),
            targets: vec!["count".into()],
            id: None,
            missing: false,
        };
        Some(DatasetSource::Table { path: files.into_iter().next()?, columns })
    }
}

const TABLE: &str = "sequence\tsplit\tcount\nACGT\ttrain\t1\nAAAA\ttrain\t4\nCCCC\ttest\t0\n";

fn letters() -> &'static Set {
    const ALL: &[&crate::task::Task] = &[&example::TASK];
    let (task, set) = tasks::sets(ALL, TaskName::Regression).next().unwrap();
    assert_eq!(task.title, "Counting letters");
    set
}

fn archive(root: &Path, file: Option<&str>) -> DatasetSource {
    let (set, file) = ("Letters".to_owned(), file.map(PathBuf::from));
    DatasetSource::Archive { root: root.to_owned(), set, file, genome: None }
}

fn write(root: &Path, path: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, TABLE).unwrap();
}

fn found(root: &Path, file: Option<&str>) -> PathBuf {
    match locate(letters(), &archive(root, file)).unwrap() {
        Located::At(source) => source.paths()[0].strip_prefix(root).unwrap().to_owned(),
        Located::Absent(paths) => panic!("{paths:?}"),
    }
}

#[test]
fn a_set_is_found_under_any_of_its_names_in_any_case() {
    for path in [
        "Counts/Letters_4.tsv",
        "counts/LETTERS_4.tsv",
        "data/Counted/letters.TSV",
        "Parts/a_letters.tsv",
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), path);
        assert_eq!(found(folder.path(), None), Path::new(path), "{path}");
    }
}

#[test]
fn the_preferred_form_wins_and_a_path_of_the_job_over_all() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["parts/a_Letters.tsv", "counted/Letters.tsv", "mine.tsv", "Counts/Letters_4.tsv"] {
        write(folder.path(), path);
        if path == "counted/Letters.tsv" {
            assert_eq!(found(folder.path(), None), Path::new(path));
        }
    }
    assert_eq!(found(folder.path(), None), Path::new("Counts/Letters_4.tsv"));
    assert_eq!(found(folder.path(), Some("mine.tsv")), Path::new("mine.tsv"));
}

#[test]
fn what_is_absent_is_told_with_every_path_that_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let Located::Absent(paths) = locate(letters(), &archive(folder.path(), None)).unwrap() else {
        panic!("nothing is there");
    };
    let expected = ["Counts/Letters_4.tsv", "counted/Letters.tsv"];
    assert_eq!(paths, [expected.map(|path| folder.path().join(path)).to_vec()]);
}

#[test]
fn sizes_that_are_not_the_protocols_are_refused_by_file_and_split() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "Counts/Letters_4.tsv");
    let Located::At(source) = locate(letters(), &archive(folder.path(), None)).unwrap() else {
        panic!("it was just written");
    };
    let facts = survey(&source, TaskName::Regression).unwrap();
    let file = Path::new("Letters_4.tsv");
    letters().check(file, &facts).unwrap();
    let refused = |change: &dyn Fn(&mut DatasetFacts)| {
        let mut facts = facts.clone();
        change(&mut facts);
        letters().check(file, &facts).unwrap_err().chain()
    };
    let rows = |split: &'static str, rows: u64| {
        move |facts: &mut DatasetFacts| {
            facts.split_rows.insert(split.to_owned(), rows);
        }
    };
    let few = refused(&rows("train", 1));
    let place = "Letters_4.tsv: split train of regression Letters";
    assert_eq!(few, format!("{place}: expected 2 to 3 examples, found 1"));
    assert!(refused(&rows("test", 2)).ends_with("expected 1 examples, found 2"));
    assert!(refused(&rows("valid", 2)).ends_with("found valid too"));
    assert!(
        refused(&|facts| facts.length_min = 3).ends_with("expected 4 nucleotides, found 3 to 4")
    );
    assert!(refused(&|facts| facts.schema.targets.clear()).ends_with("expected 1, found 0"));
    let sides = refused(&|facts| facts.schema.sequences.push("right".into()));
    assert!(sides.contains("sequences of"), "{sides}");
}

/// Batches of 128 in train and valid, and sizes of test, as the study's logs and results have them.
#[test]
fn sizes_of_binding_sets_give_the_batches_of_the_study() {
    for (task, name, batches) in [
        (TaskName::ChipSeq, "Arid3", [247, 36, 71]),
        (TaskName::ChipSeq, "ATF2", [212, 31, 61]),
        (TaskName::ChipSeq, "BACH1", [266, 38, 76]),
        (TaskName::ChipSeq, "CTCF", [478, 69, 137]),
        (TaskName::ChipSeq, "ELK1", [80, 12, 23]),
        (TaskName::ChipSeq, "GABPA", [87, 13, 25]),
        (TaskName::ChipSeq, "MAX", [200, 29, 58]),
        (TaskName::ChipSeq, "REST", [71, 11, 21]),
        (TaskName::ChipSeq, "SRF", [215, 31, 62]),
        (TaskName::ChipSeq, "ZNF24", [198, 29, 57]),
        (TaskName::LentiMpra, "hepg2", [1_537, 193, 193]),
        (TaskName::LentiMpra, "K562", [2_459, 308, 308]),
    ] {
        let (_, set) = tasks::find(task, name).unwrap();
        let planned = set.splits.iter().map(|(_, rows)| rows.planned.div_ceil(128));
        assert_eq!(planned.collect::<Vec<_>>(), batches, "{name}");
    }
}

#[test]
fn sizes_are_those_of_the_protocol() {
    let totals = |task| {
        let sets = tasks::sets(tasks::ALL, task);
        sets.map(|(_, set)| (set.name, set.facts().rows)).collect::<BTreeMap<_, _>>()
    };
    let chip = totals(TaskName::ChipSeq);
    assert_eq!(chip.len(), 10);
    assert!(chip.values().sum::<u64>().abs_diff(374_645) <= 40, "{chip:?}");
    let eclip = totals(TaskName::Eclip);
    assert_eq!((eclip.len(), eclip["PTBP1"]), (10, 16_183));
    assert!(eclip.values().sum::<u64>().abs_diff(124_475) <= 40, "{eclip:?}");
    assert_eq!(totals(TaskName::Splicing), BTreeMap::from([("ASCOT GTEx", 50_956)]));
    assert_eq!(totals(TaskName::InsertSeq), BTreeMap::from([("INSERT-seq", 11_417)]));
    let lenti = totals(TaskName::LentiMpra);
    assert!(lenti["HepG2"].abs_diff(245_852) <= 150 && lenti["K562"].abs_diff(393_328) <= 150);
    for (name, rows) in totals(TaskName::VariantEffect) {
        let expected = if name.ends_with("15 elements") { 18_442..=18_442 } else { 5_056..=5_087 };
        assert!(expected.contains(&rows), "{name}: {rows}");
    }
}

#[test]
fn planned_sizes_lie_within_what_is_believed() {
    for set in tasks::ALL.iter().flat_map(|task| task.sets) {
        let facts = set.facts();
        set.check(Path::new("planned"), &facts).unwrap();
        assert!(tasks::find(set.task, set.name).is_some(), "{}", set.name);
    }
}

#[test]
fn a_set_of_unrecorded_size_may_have_any_but_its_columns_and_lengths_are_known() {
    let set = tasks::ALL.iter().flat_map(|task| task.sets).find(|set| set.name.contains("120"));
    let set = set.unwrap();
    let of = |rows: u64| DatasetFacts {
        split_rows: Split::ALL.map(|split| (split.name().to_owned(), rows)).into(),
        rows: 3 * rows,
        ..set.facts()
    };
    for rows in [1, 77, 5_000_000] {
        set.check(Path::new("K562.h5"), &of(rows)).unwrap();
    }
    let refused =
        |facts: DatasetFacts| set.check(Path::new("K562.h5"), &facts).unwrap_err().chain();
    let place = "of classification K562 120 RBPs: expected";
    assert_eq!(
        refused(of(0)),
        format!("K562.h5: split train {place} at least 1 examples, found 0")
    );
    let mut facts = of(7);
    facts.schema.targets.pop();
    assert_eq!(refused(facts), format!("K562.h5: targets {place} 120, found 119"));
    let short = DatasetFacts { length_min: 999, ..of(7) };
    assert_eq!(
        refused(short),
        format!("K562.h5: length {place} 1000 nucleotides, found 999 to 1000")
    );
}

/// An element of 200 letters between the adaptors.
fn construct(element: &str) -> String {
    format!("{0}{element}{0}", "A".repeat(15))
}

#[test]
fn orientations_of_an_element_in_two_folds_are_refused_with_the_row() {
    let (task, _) = tasks::find(TaskName::LentiMpra, "HepG2").unwrap();
    let assert = task.assert.unwrap();
    let forward = "ACCGT".repeat(40);
    let reverse = "ACGGT".repeat(40);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("elements.tsv");
    let columns = glmeval_common::dataset::TableColumns {
        sequence: "sequence".into(),
        split: Some("split".into()),
        targets: vec!["activity".into()],
        id: Some("id".into()),
        missing: false,
    };
    let source = DatasetSource::Table { path: path.clone(), columns };
    for (second, is_good) in [("fold1-1", true), ("fold2-1", false)] {
        let rows = [("fold1-0", &forward), (second, &reverse)]
            .map(|(id, element)| format!("{id}\t{}\ttrain\t0.5\n", construct(element)));
        std::fs::write(&path, format!("id\tsequence\tsplit\tactivity\n{}", rows.concat())).unwrap();
        let result = assert(&source, TaskName::LentiMpra);
        assert_eq!(result.is_ok(), is_good);
        if let Err(error) = result {
            let error = error.chain();
            assert!(error.contains("fold2-1") && error.contains("orientation, fold1"), "{error}");
        }
    }
}

#[test]
fn raw_tables_stand_in_for_stored_sets_where_the_job_gives_a_genome() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["train", "valid", "test"] {
        write(root, &format!("Alternative_Splicing/gtex_{name}_psi.csv"));
    }
    for name in ["release_LDLR", "challenge_LDLR"] {
        write(root, &format!("cagi/raw/{name}.tsv"));
    }
    write(root, "genome.fa");
    let located = |task, name: &str, genome: Option<&str>| {
        let (_, set) = tasks::find(task, name).unwrap();
        let genome = genome.map(|genome| root.join(genome));
        let (root, set_name) = (root.to_owned(), name.to_owned());
        let source = DatasetSource::Archive { root, set: set_name, file: None, genome };
        locate(set, &source).unwrap()
    };
    for (task, name, files) in
        [(TaskName::Splicing, "ASCOT GTEx", 3), (TaskName::VariantEffect, "CAGI5 230 nt", 2)]
    {
        assert!(matches!(located(task, name, None), Located::Absent(_)), "{name}");
        let Located::At(source) = located(task, name, Some("genome.fa")) else {
            panic!("{name} is there");
        };
        assert_eq!(source.paths().len(), files + 1, "{name}: its tables and the genome");
    }
}
