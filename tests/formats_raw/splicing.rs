//! Exons cut from a genome with the PSI of their tissues, against the archive's own preparation.

use crate::{drain, folders_with};
use glmeval_common::dataset::{PsiSet, PsiSplit, PsiTable};
use glmeval_common::dna::Strand;
use glmeval_common::error::Result;
use glmeval_common::example::{Example, Split};
use glmeval_common::readers::splicing::{STUDY_TISSUES, SplicingReader};
use glmeval_tests::golden::{assert_close, numbers, texts};
use glmeval_tests::{golden, hostile};
use glmeval_worker::statistics::{splicing_exons, splicing_tissues};
use serde_json::Value;
use std::path::{Path, PathBuf};

const HOSTILE_PEAK_BYTES_MAX: u64 = 256 << 20;

/// A folder of PSI tables: its description, its genome, its tables by split.
struct Fixture {
    folder: PathBuf,
    description: Value,
    set: PsiSet,
}

fn fixtures() -> Vec<Fixture> {
    folders_with("layouts", |name| name.ends_with("_psi.csv")).into_iter().map(fixture).collect()
}

fn fixture(folder: PathBuf) -> Fixture {
    let description = golden::json(&folder.join("expected.json"));
    let genome = description["genome"].as_str().expect("a genome");
    let genome = folder.parent().expect("a folder").join(genome);
    let splits = description["splits"].as_object().expect("splits");
    let files = std::fs::read_dir(&folder).expect("a folder").flatten();
    let names: Vec<String> = files.filter_map(|e| e.file_name().into_string().ok()).collect();
    let table = |split: &String| {
        let ending = format!("_{split}_psi.csv");
        let name = names.iter().find(|name| name.ends_with(&ending)).expect("a table");
        let split = PsiSplit::All(Split::parse(split).expect("a split"));
        PsiTable { path: folder.join(name), split }
    };
    let tissues = texts(&description["tissues"]).into_iter().map(str::to_owned).collect();
    let set = PsiSet { tables: splits.keys().map(table).collect(), genome, tissues };
    Fixture { folder, description, set }
}

fn read(set: &PsiSet) -> Result<Vec<Example>> {
    drain(&mut SplicingReader::open(set)?)
}

#[test]
fn windows_of_both_strands_and_logits_are_those_of_the_description() {
    for Fixture { folder, description, set } in fixtures() {
        let examples = read(&set).unwrap_or_else(|e| panic!("{e}"));
        let mut rest = examples.as_slice();
        for (split, part) in description["splits"].as_object().expect("splits") {
            let what = format!("{} {split}", folder.display());
            let (rows, after) = rest.split_at(texts(&part["left"]).len());
            rest = after;
            let side = |side: usize| rows.iter().map(move |row| row.sequences[side].as_str());
            assert!(side(0).eq(texts(&part["left"])), "{what}: left");
            assert!(side(1).eq(texts(&part["right"])), "{what}: right");
            assert!(rows.iter().all(|row| row.split == Split::parse(split)), "{what}");
            let strands = rows.iter().map(|row| row.interval.as_ref().expect("one").strand);
            assert!(strands.map(Strand::symbol).eq(texts(&part["strand"])), "{what}: strand");
            let means = numbers(&part["logit_mean"]);
            for (row, (example, mean)) in rows.iter().zip(means).enumerate() {
                let (deltas, logits) = example.targets.split_at(example.targets.len() / 2);
                let what = format!("{what} row {row}");
                assert_close(deltas, &numbers(&part["delta_logit"][row]), 1e-6, &what);
                assert_close(logits, &vec![mean; logits.len()], 1e-6, &what);
            }
            check_filter(rows, part, &what);
        }
        assert!(rest.is_empty(), "{}: {} rows too many", folder.display(), rest.len());
    }
}

/// The scored exons are those that the description flags.
fn check_filter(rows: &[Example], part: &Value, what: &str) {
    let tissues = rows.first().map_or(0, |row| row.targets.len() / 2);
    let column = |index: usize| rows.iter().map(|row| f64::from(row.targets[index])).collect();
    let differences: Vec<Vec<f64>> = (0..tissues).map(column).collect();
    let means: Vec<Vec<f64>> = (tissues..2 * tissues).map(column).collect();
    let kept = splicing_exons(&differences, &means);
    let flags = part["kept_by_test_filter"].as_array().expect("flags");
    let flags: Vec<usize> =
        (0..flags.len()).filter(|&row| flags[row].as_bool() == Some(true)).collect();
    assert_eq!(kept, flags, "{what}: scored exons");
}

#[test]
fn names_of_the_targets_are_those_that_loss_and_statistics_know() {
    for Fixture { set, .. } in fixtures() {
        let reader = SplicingReader::open(&set).unwrap();
        let schema = glmeval_common::readers::ExampleReader::schema(&reader);
        assert_eq!(splicing_tissues(&schema.targets), Some(set.tissues.len()));
        assert_eq!(reader.tissues(), set.tissues);
    }
}

#[test]
fn the_study_s_tissues_are_found_without_naming_them() {
    for Fixture { set, .. } in fixtures() {
        if !STUDY_TISSUES.iter().all(|tissue| set.tissues.iter().any(|name| name == tissue)) {
            continue;
        }
        let unnamed = PsiSet { tissues: Vec::new(), ..set.clone() };
        let reader = SplicingReader::open(&unnamed).unwrap();
        assert_eq!(reader.tissues(), set.tissues, "the order of the first table");
        let (named, unnamed) = (read(&set).unwrap(), read(&unnamed).unwrap());
        assert_eq!(format!("{named:?}"), format!("{unnamed:?}"));
    }
}

/// One table with a column of splits, from the tables of the fixture; later ones in another order
/// of columns.
fn joined(set: &PsiSet, reorder: bool) -> String {
    let mut joined = String::new();
    for table in &set.tables {
        let text = std::fs::read_to_string(&table.path).unwrap();
        let PsiSplit::All(split) = &table.split else { panic!("a split") };
        for (line, row) in text.lines().enumerate() {
            let mut fields: Vec<&str> = row.split(',').collect();
            let split = if line == 0 { "part" } else { split.name() };
            fields.push(split);
            if reorder {
                fields.reverse();
            }
            if line > 0 || joined.is_empty() {
                joined.push_str(&fields.join(","));
                joined.push('\n');
            }
        }
    }
    joined
}

#[test]
fn one_table_with_a_column_of_splits_gives_the_same_exons_in_any_order_of_columns() {
    let folder = tempfile::tempdir().unwrap();
    for Fixture { set, .. } in fixtures() {
        let path = folder.path().join("all.csv");
        let expected = read(&set).unwrap();
        for reorder in [false, true] {
            std::fs::write(&path, joined(&set, reorder)).unwrap();
            let split = PsiSplit::Column("part".to_owned());
            let tables = vec![PsiTable { path: path.clone(), split }];
            let found = read(&PsiSet { tables, ..set.clone() }).unwrap();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.sequences, expected.sequences, "{}", found.id);
                assert_eq!((&found.id, found.split), (&expected.id, expected.split));
                let bits =
                    |row: &Example| row.targets.iter().map(|t| t.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(found), bits(expected), "{}", found.id);
            }
        }
    }
}

/// The table of a fixture with every PSI divided by 100.
fn as_shares(path: &Path, tissues: &[String]) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
    let field = |(column, field): (usize, &str)| match field.parse::<f64>() {
        Ok(share) if share >= 0.0 && tissues.iter().any(|t| t == header[column]) => {
            (share / 100.0).to_string()
        }
        Ok(_) if field == "-1.0" => String::new(),
        _ => field.to_owned(),
    };
    let line = |line: &str| line.split(',').enumerate().map(field).collect::<Vec<_>>().join(",");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn shares_and_percent_and_empty_fields_for_missing_give_the_same_targets() {
    let folder = tempfile::tempdir().unwrap();
    for Fixture { set, description, .. } in fixtures() {
        if golden::number(&description["psi_scale"]) != Some(100.0) {
            continue;
        }
        let mut shares = set.clone();
        for (index, table) in shares.tables.iter_mut().enumerate() {
            let text = as_shares(&table.path, &set.tissues);
            table.path = folder.path().join(format!("{index}.csv"));
            std::fs::write(&table.path, text).unwrap();
        }
        for (found, expected) in read(&shares).unwrap().iter().zip(&read(&set).unwrap()) {
            let expected: Vec<f64> = expected.targets.iter().map(|&t| f64::from(t)).collect();
            assert_close(&found.targets, &expected, 1e-5, &found.id);
        }
    }
}

#[test]
fn every_hostile_table_is_refused_with_line_and_column_in_little_memory() {
    let idle = peak_bytes();
    hostile::check(&["gtex_psi"], |case| {
        let genome = golden::fixture(case.text("genome").expect("a genome"));
        let split = PsiSplit::All(Split::Valid);
        let tables = vec![PsiTable { path: case.path.clone(), split }];
        read(&PsiSet { tables, genome, tissues: Vec::new() })
            .map(drop)
            .map_err(|error| error.chain())
    });
    assert!(peak_bytes().saturating_sub(idle) < HOSTILE_PEAK_BYTES_MAX);
}

/// Peak memory of this process in bytes, where the system tells.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let kib = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
