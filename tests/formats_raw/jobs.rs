//! Job files with such data sets: their checks, and one run of all three from raw files to scores.

use crate::{folders_with, quoted};
use glmeval_common::dataset::{DatasetSource, Negatives, PsiSplit, TaskName};
use glmeval_common::job::Job;
use glmeval_common::rng::Rng;
use glmeval_common::survey::{dataset_id, survey};
use glmeval_tests::glmeval::succeeds;
use glmeval_tests::golden;
use std::path::Path;

const HEAD: &str = "name = \"raw\"\nseed = 11\n[[representation]]\none_hot = true\n\
                    [[dataset]]\nname = \"d\"\n";

fn parse(folder: &Path, dataset: &str) -> Result<DatasetSource, String> {
    let job = Job::parse(&format!("{HEAD}{dataset}"), "job.toml", folder);
    job.map(|job| job.datasets[0].source.clone()).map_err(|error| error.chain())
}

fn touch(folder: &Path, names: &[&str]) {
    for name in names {
        std::fs::write(folder.join(name), "x\n").unwrap();
    }
}

#[test]
fn keys_of_a_table_become_a_source_with_absolute_paths() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    touch(folder, &["g.fa", "a.csv", "b.csv", "p.bed", "q.bed", "open.bed"]);
    let psi =
        "task = \"splicing\"\ngenome = \"g.fa\"\npsi = { train = \"a.csv\", test = \"b.csv\" }\n";
    let DatasetSource::Splicing(set) = parse(folder, psi).unwrap() else { panic!("exons") };
    assert_eq!(
        set.tables.iter().map(|t| t.path.clone()).collect::<Vec<_>>(),
        [folder.join("a.csv"), folder.join("b.csv")]
    );
    assert_eq!((set.genome, set.tissues.len()), (folder.join("g.fa"), 0));
    let psi = "task = \"splicing\"\ngenome = \"g.fa\"\ntissues = [\"Liver\"]\n\
               psi = { file = \"a.csv\", split = \"part\" }\n";
    let DatasetSource::Splicing(set) = parse(folder, psi).unwrap() else { panic!("exons") };
    assert_eq!(set.tables[0].split, PsiSplit::Column("part".to_owned()));
    assert_eq!(set.tissues, ["Liver"]);
    let peaks = "task = \"eclip\"\ngenome = \"g.fa\"\npeaks = [\"p.bed\", \"q.bed\"]\n";
    let DatasetSource::Peaks(set) = parse(folder, peaks).unwrap() else { panic!("peaks") };
    assert_eq!(set.peaks, [folder.join("p.bed"), folder.join("q.bed")]);
    assert_eq!((set.window, set.seed, set.negatives), (200, 11, Negatives::GcMatched));
    let peaks = "task = \"chip-seq\"\ngenome = \"g.fa\"\npeaks = \"p.bed\"\nwindow = 101\nseed = 4\n\
                 negatives = \"accessible\"\naccessible = \"open.bed\"\nsame_chromosomes = true\n";
    let DatasetSource::Peaks(set) = parse(folder, peaks).unwrap() else { panic!("peaks") };
    assert_eq!((set.window, set.seed, set.negatives), (101, 4, Negatives::Accessible));
    assert_eq!((set.accessible, set.same_chromosomes), (Some(folder.join("open.bed")), true));
}

#[test]
fn wrong_tables_are_refused_with_their_key() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    touch(folder, &["g.fa", "a.csv", "p.bed"]);
    std::fs::create_dir(folder.join("empty")).unwrap();
    let chip = "task = \"chip-seq\"\ngenome = \"g.fa\"\npeaks = \"p.bed\"\n";
    let exons = "task = \"splicing\"\ngenome = \"g.fa\"\n";
    let cases: [(String, &[&str]); 14] = [
        (format!("{chip}fasta = \"g.fa\"\n"), &["dataset[0]", "fasta and peaks"]),
        (format!("{chip}tfrecord = \"empty\"\n"), &["peaks and tfrecord"]),
        (chip.replace("chip-seq", "splicing"), &["dataset[0].task", "chip-seq or eclip"]),
        (chip.replace("genome = \"g.fa\"\n", ""), &["dataset[0].genome", "nothing"]),
        (chip.replace("p.bed", "q.bed"), &["dataset[0].peaks", "q.bed"]),
        (chip.replace("\"p.bed\"", "[]"), &["dataset[0].peaks", "at least one"]),
        (chip.replace("\"p.bed\"", "7"), &["a file name or a list of file names"]),
        (format!("{chip}window = 0\n"), &["dataset[0].window"]),
        (format!("{chip}negatives = \"accessible\"\n"), &["dataset[0].accessible", "nothing"]),
        (format!("{chip}negatives = \"any\"\n"), &["gc-matched", "any"]),
        (
            "task = \"none\"\nfasta = \"g.fa\"\nexclude = \"p.bed\"\n".to_owned(),
            &["dataset[0].exclude", "belongs to peaks"],
        ),
        (format!("{exons}psi = {{ split = \"part\" }}\n"), &["dataset[0].psi", "no table"]),
        (
            format!("{exons}psi = {{ file = \"a.csv\", train = \"a.csv\" }}\n"),
            &["dataset[0].psi", "file beside"],
        ),
        (
            "task = \"lenti-mpra\"\ntfrecord = \"empty\"\n".to_owned(),
            &["dataset[0].tfrecord", "train-0.tfr", "none"],
        ),
    ];
    for (dataset, wanted) in cases {
        let error = parse(folder, &dataset).expect_err(&dataset);
        for wanted in wanted {
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}

#[test]
fn the_id_follows_contents_and_options_and_not_places() {
    let write = |peaks: &str, more: &str| {
        let home = tempfile::tempdir().unwrap();
        let genome: String = ["ACGGT", "TTCAA", "GATTA"].repeat(400).concat();
        std::fs::write(home.path().join("g.fa"), format!(">c\n{genome}\n")).unwrap();
        std::fs::write(home.path().join("p.bed"), peaks).unwrap();
        let chip = "task = \"chip-seq\"\ngenome = \"g.fa\"\npeaks = \"p.bed\"\nwindow = 50\n";
        let source = parse(home.path(), &format!("{chip}{more}")).unwrap();
        let facts = survey(&source, TaskName::ChipSeq).unwrap();
        assert_eq!((facts.rows, facts.length_min, facts.length_max), (4, 50, 50));
        dataset_id(&source, TaskName::ChipSeq).unwrap()
    };
    let peaks = "c\t100\t140\nc\t800\t850\n";
    let first = write(peaks, "");
    assert_eq!(first, write(peaks, ""));
    assert_ne!(first, write(peaks, "seed = 12\n"));
    assert_ne!(first, write(peaks, "same_chromosomes = true\n"));
    assert_ne!(first, write("c\t100\t140\nc\t800\t852\n", ""));
}

/// A genome with a motif below each peak.
fn write_peaks(folder: &Path) {
    let mut rng = Rng::derive(2, "peaks");
    let mut bases: Vec<u8> = (0..40_000).map(|_| b"ACGT"[rng.below(4) as usize]).collect();
    let mut bed = String::new();
    for start in (100..20_000).step_by(400) {
        bases[start + 10..start + 22].copy_from_slice(b"CCGCGCGGCGCG");
        bed.push_str(&format!("c\t{start}\t{}\n", start + 32));
    }
    let genome = format!(">c\n{}\n", String::from_utf8(bases).unwrap());
    std::fs::write(folder.join("peaks.fa"), genome).unwrap();
    std::fs::write(folder.join("peaks.bed"), bed).unwrap();
}

/// The first folder of PSI tables as a table of a job.
fn exons() -> Option<String> {
    let folder = folders_with("layouts", |name| name.ends_with("_psi.csv")).into_iter().next()?;
    let description = golden::json(&folder.join("expected.json"));
    let genome = folder.parent()?.join(description["genome"].as_str()?);
    let name = |split: &str| {
        let files = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
        let ending = format!("_{split}_psi.csv");
        let path = files.into_iter().find(|path| path.to_str().unwrap().ends_with(&ending));
        quoted(&path.expect("a table"))
    };
    let [train, valid, test] = ["train", "valid", "test"].map(name);
    Some(format!(
        "[[dataset]]\nname = \"exons\"\ntask = \"splicing\"\ngenome = {}\ntissues = {}\n\
         psi = {{ train = {train}, valid = {valid}, test = {test} }}\n",
        quoted(&genome),
        description["tissues"],
    ))
}

#[tokio::test]
async fn exons_peaks_and_records_run_from_raw_files_to_scores() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    write_peaks(folder);
    let records = golden::fixture("layouts/lenti_MPRA/v1/tfrecord");
    let mut job = format!(
        "name = \"raw\"\n[[representation]]\none_hot = true\n[[representation]]\nkmer = 3\n\
         [[dataset]]\nname = \"sites\"\ntask = \"chip-seq\"\nwindow = 32\ngenome = \"peaks.fa\"\n\
         peaks = \"peaks.bed\"\n\
         [[dataset]]\nname = \"preprint\"\ntask = \"lenti-mpra\"\ntfrecord = {}\n\
         [[probe]]\nkind = \"logistic\"\ndatasets = [\"sites\"]\n\
         [[probe]]\nkind = \"ridge\"\ndatasets = [\"preprint\"]\n",
        quoted(&records)
    );
    let exons = exons();
    if let Some(exons) = &exons {
        job.push_str(exons);
        job.push_str(
            "[[probe]]\nkind = \"splicing-cnn\"\ndatasets = [\"exons\"]\nrepeats = 1\nepochs = 1\n",
        );
    }
    std::fs::write(folder.join("job.toml"), job).unwrap();
    succeeds(folder, &["run", "job.toml", "--store", "store"]).await;
    let found = glmeval_tests::results::results(&folder.join("store")).await;
    let score = |probe: &str, statistic: &str| {
        let text = found.values().find(|text| text.contains(&format!("\"probe\":\"{probe}")));
        let text = text.unwrap_or_else(|| panic!("{probe}: {found:?}"));
        assert!(text.contains(statistic), "{probe}: {text}");
    };
    score("logistic", "auroc");
    score("ridge", "pearson");
    if exons.is_some() {
        score("splicing-cnn", "spearman");
    }
}
