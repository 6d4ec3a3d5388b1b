//! Files of variants: every fixture gives the variants and windows that its description says, and
//! every damaged file is refused with file, place, expected and found.

use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::error::{Error, ErrorKind};
use glmeval_common::readers;
use glmeval_common::readers::genome::Genome;
use glmeval_common::readers::variants::{self, VariantFormat, VariantOptions, archive_table};
use glmeval_common::survey::survey;
use glmeval_common::variant::{Indels, Variant};
use glmeval_tests::{golden, hostile};
use glmeval_worker::variants::{Evaluation, ScoreForm, Window, WindowCutter};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn layouts() -> PathBuf {
    golden::root().join("layouts")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is no count in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is no list in {value}"))
}

fn hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All variants of a file, read a few at a time.
fn read(path: &Path, options: &VariantOptions) -> Result<Vec<Variant>, Error> {
    let mut reader = variants::open(path, options)?;
    let mut found = Vec::new();
    loop {
        let some = reader.read(3)?;
        if some.is_empty() {
            return Ok(found);
        }
        found.extend(some);
    }
}

/// Compares both windows with texts or digests of texts.
fn check_windows(window: &Window, described: &Value) {
    for (side, sequence) in
        [("ref", window.reference.clone()), ("alt", window.alternative_sequence())]
    {
        match described.get(format!("{side}_sequence")) {
            Some(letters) => assert_eq!(Some(sequence.as_str()), letters.as_str()),
            None => assert_eq!(hex(sequence.as_str()), text(described, &format!("{side}_sha256"))),
        }
    }
}

/// A folder of the layouts, unless the fixtures lie elsewhere and lack it.
fn there(path: &Path) -> bool {
    assert!(path.exists() || golden::is_elsewhere(), "{}", path.display());
    path.exists()
}

#[test]
fn the_tables_of_cagi_give_the_described_windows() {
    let folder = layouts().join("CAGI");
    if !there(&folder.join("raw.expected.json")) {
        return;
    }
    let expected = golden::json(&folder.join("raw.expected.json"));
    let genome = Arc::new(Genome::open(&layouts().join(text(&expected, "genome"))).unwrap());
    let mut rows = Vec::new();
    for element in list(&expected, "elements") {
        for part in ["challenge", "release"] {
            let path = folder.join(format!("raw/{part}_{}.tsv", element.as_str().unwrap()));
            let variants = read(&path, &VariantOptions::default()).unwrap();
            rows.extend(variants.into_iter().map(|variant| (path.clone(), variant)));
        }
    }
    assert_eq!(rows.len() as u64, count(&expected, "rows_read"));
    for (length, windows) in expected["windows"].as_object().unwrap() {
        let length: u64 = length.parse().unwrap();
        let cutter = WindowCutter::new(Some(Arc::clone(&genome)), length).unwrap();
        let mut kept = windows.as_array().unwrap().iter();
        let mut dropped = list(&expected, "dropped").iter();
        for (path, variant) in &rows {
            let of_row = |row: &Value| {
                assert_eq!(variant.element.as_deref(), row["element"].as_str());
                assert_eq!(variant.part.as_deref(), row["part"].as_str());
                assert_eq!(variant.line, count(row, "row_in_file") + 8);
            };
            match cutter.cut(path, variant).unwrap() {
                Ok(window) => {
                    let row = kept.next().unwrap();
                    of_row(row);
                    check_windows(&window, row);
                    assert_eq!(window.start, count(row, "start0"));
                    assert_eq!(variant.effect, golden::number(&row["effect"]));
                    assert_eq!(variant.confidence, golden::number(&row["confidence"]));
                }
                Err(reason) => {
                    let row = dropped.next().unwrap();
                    of_row(row);
                    let base = text(row, "genome_base");
                    assert!(reason.starts_with(&format!("the genome has {base} for")), "{reason}");
                }
            }
        }
        assert_eq!((kept.next(), dropped.next()), (None, None), "windows of {length}");
    }
}

#[test]
fn the_rows_of_a_vcf_give_the_described_windows() {
    let folder = layouts().join("intervals");
    if !there(&folder.join("variants.expected.json")) {
        return;
    }
    let expected = golden::json(&folder.join("variants.expected.json"));
    let genome = Arc::new(Genome::open(&layouts().join(text(&expected, "genome"))).unwrap());
    let path = folder.join("variants.vcf");
    let variants = read(&path, &VariantOptions::default()).unwrap();
    let rows = list(&expected, "variants");
    assert_eq!(variants.len(), rows.len());
    for (variant, row) in variants.iter().zip(rows) {
        let place = (variant.chromosome.as_str(), variant.position);
        assert_eq!(place, (text(row, "chrom"), count(row, "pos1")));
        assert_eq!(variant.alternative, text(row, "alt"));
        let cutter = WindowCutter::new(Some(Arc::clone(&genome)), count(row, "L")).unwrap();
        check_windows(&cutter.cut(&path, variant).unwrap().unwrap(), row);
    }
}

#[test]
fn the_windows_of_the_archive_are_read_with_their_table() {
    let folder = layouts().join("CAGI");
    let mut compared = 0;
    for (file, name) in [("230", "CAGI_onehot.h5"), ("512", "CAGI_onehot.h5")]
        .into_iter()
        .chain([("HepG2", "onehot.h5"), ("K562", "onehot.h5")])
    {
        let path = folder.join(file).join(name);
        if !there(&path) {
            continue;
        }
        let expected = golden::json(&folder.join(file).join("expected.json"));
        let variants = read(&path, &VariantOptions::default()).unwrap();
        let effects: Vec<_> = list(&expected, "effect").iter().map(golden::number).collect();
        assert_eq!(variants.iter().map(|v| v.effect).collect::<Vec<_>>(), effects, "{file}");
        let elements: Vec<_> = list(&expected, "element").iter().map(Value::as_str).collect();
        assert_eq!(variants.iter().map(|v| v.element.as_deref()).collect::<Vec<_>>(), elements);
        for (row, variant) in variants.iter().enumerate() {
            let length = variant.stored.as_ref().unwrap()[0].len() as u64;
            let cutter = WindowCutter::new(None, length).unwrap();
            let window = cutter.cut(&path, variant).unwrap().unwrap();
            let mut described = serde_json::Map::new();
            for (key, list) in [
                ("ref_sequence", "ref_sequences"),
                ("alt_sequence", "alt_sequences"),
                ("ref_sha256", "ref_sha256"),
                ("alt_sha256", "alt_sha256"),
            ] {
                if let Some(values) = expected[list].as_array() {
                    described.insert(key.to_owned(), values[row].clone());
                }
            }
            check_windows(&window, &Value::Object(described));
        }
        compare_correlations(&expected, &variants);
        compared += 1;
    }
    assert!(compared > 0 || golden::is_elsewhere(), "nothing was compared");
}

/// Correlations with made-up scores, where a description has them.
fn compare_correlations(expected: &Value, variants: &[Variant]) {
    let Some(scores) = expected["made_up_scores"].as_array() else { return };
    let forms = [
        (ScoreForm::Distance, "pearson_score_vs_abs_effect"),
        (ScoreForm::Signed, "pearson_score_vs_signed_effect"),
    ];
    for (form, key) in forms {
        let mut evaluation = Evaluation::new(vec![("score".to_owned(), form)]);
        for (variant, score) in variants.iter().zip(scores) {
            evaluation.add(variant, &[golden::number(score).unwrap()]);
        }
        let found = evaluation.correlations();
        for element in &found.elements {
            let r = golden::number(&expected[key][&element.element]).unwrap();
            assert!((element.r_signed.unwrap() - r).abs() < 1e-12, "{}", element.element);
        }
        if form == ScoreForm::Distance {
            let r = golden::number(&expected["r_reported_abs_of_mean_signed"]).unwrap();
            assert_eq!(found.cells.len(), 1);
            assert!((found.cells[0].r_reported.unwrap() - r).abs() < 1e-12);
        }
    }
}

#[test]
fn damaged_files_of_variants_are_refused_with_the_place() {
    hostile::check(&["vcf", "cagi_raw"], |case| {
        let genome = golden::fixture(case.text("genome").unwrap_or("layouts/genome/genome.fa"));
        let genome = Arc::new(Genome::open(&genome).unwrap());
        let format = match case.reader.as_str() {
            "vcf" => VariantFormat::Vcf,
            _ => VariantFormat::Cagi,
        };
        let options = VariantOptions { format: Some(format), ..VariantOptions::default() };
        let cutter = WindowCutter::new(Some(genome), 230).unwrap();
        let variants = read(&case.path, &options).map_err(|error| error.chain())?;
        let cut = |variant: &Variant| cutter.cut(&case.path, variant).map(drop);
        variants.iter().try_for_each(cut).map_err(|e| e.chain())
    });
}

/// A data set of a job over one file.
fn source(path: &Path, genome: Option<PathBuf>, window: Option<u64>) -> DatasetSource {
    DatasetSource::Variants {
        paths: vec![path.to_owned()],
        companions: archive_table(path).into_iter().collect(),
        genome,
        window,
        elements: Vec::new(),
        columns: BTreeMap::new(),
        indels: Indels::Refuse,
    }
}

#[test]
fn damaged_files_of_variants_are_refused_as_data_sets_of_a_job() {
    let folder = tempfile::tempdir().unwrap();
    hostile::check(&["vcf", "cagi_raw"], |case| {
        let genome = golden::fixture(case.text("genome").unwrap_or("layouts/genome/genome.fa"));
        let name = case.path.file_name().unwrap().to_str().unwrap();
        // The name tells the format.
        let name = if case.reader == "vcf" { name.to_owned() } else { format!("challenge_{name}") };
        let path = folder.path().join(name);
        std::fs::copy(&case.path, &path).unwrap();
        let source = source(&path, Some(genome), Some(230));
        match survey(&source, TaskName::VariantEffect).map_err(|error| error.chain()) {
            // What is left out is counted; a file of which nothing is left is no data set.
            Err(message) if message.contains("variants left out: ") => Ok(()),
            outcome => outcome.map(drop),
        }
    });
}

#[test]
fn stored_windows_and_windows_cut_from_the_genome_are_examples_with_equal_letters() {
    let folder = layouts().join("CAGI");
    for file in ["230/CAGI_onehot.h5", "512/CAGI_onehot.h5"] {
        let path = folder.join(file);
        if !there(&path) {
            continue;
        }
        let source = source(&path, None, None);
        let facts = survey(&source, TaskName::VariantEffect).unwrap();
        let mut reader = readers::open(&source, TaskName::VariantEffect).unwrap();
        let examples = reader.read(usize::MAX).unwrap();
        let expected = golden::json(&path.with_file_name("expected.json"));
        let effects = list(&expected, "effect");
        assert_eq!((examples.len(), facts.rows), (effects.len(), effects.len() as u64));
        let elements = list(&expected, "element").iter().map(|name| name.as_str().unwrap());
        for ((example, effect), element) in examples.iter().zip(effects).zip(elements) {
            let own = facts.schema.targets.iter().position(|name| name == element).unwrap();
            assert_eq!(example.targets[own], golden::number(effect).unwrap() as f32);
            let known = example.targets.iter().filter(|target| target.is_finite()).count();
            assert!(known == 1 && example.id.starts_with(&format!("{element}:")), "{}", example.id);
        }
    }
}

#[test]
fn an_archive_without_its_table_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let source = golden::fixture("layouts/CAGI/230/CAGI_onehot.h5");
    let path = folder.path().join("CAGI_onehot.h5");
    std::fs::copy(&source, &path).unwrap();
    let error = read(&path, &VariantOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("final_cagi_metadata.csv or metadata.csv"), "{error}");
    let table = std::fs::read_to_string(source.with_file_name("final_cagi_metadata.csv")).unwrap();
    let shorter: Vec<&str> = table.lines().take(5).collect();
    std::fs::write(folder.path().join("metadata.csv"), shorter.join("\n")).unwrap();
    let error = read(&path, &VariantOptions::default()).unwrap_err();
    assert!(error.to_string().contains("metadata.csv: expected as many rows as"), "{error}");
}
