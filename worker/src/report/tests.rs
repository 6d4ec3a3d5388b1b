use super::*;
use crate::statistics::{ScoreContext, Scored, scores};
use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::example::{ExampleSchema, Split};
use glmeval_common::ids::{DatasetId, FitId, JobId, ModelId};
use glmeval_common::job::Protocol;
use glmeval_common::plan::{DatasetFacts, PlannedDataset};
use glmeval_common::rng::Rng;
use glmeval_common::score::FitIdentity;

fn dataset(name: &str, task: TaskName, rows: u64) -> PlannedDataset {
    PlannedDataset {
        name: name.to_owned(),
        task,
        source: DatasetSource::Fasta { path: "data.fa".into() },
        facts: DatasetFacts {
            id: DatasetId::new("d0"),
            schema: ExampleSchema::sequences_only(),
            rows: rows * 5,
            nucleotides: rows * 1000,
            length_min: 200,
            length_max: 200,
            split_rows: [("train", rows * 7 / 2), ("valid", rows / 2), ("test", rows)]
                .map(|(split, rows)| (split.to_owned(), rows))
                .into(),
        },
    }
}

fn plan() -> Plan {
    Plan {
        version: 1,
        job: JobId::new("0123456789abcdef"),
        name: "A <small> job".to_owned(),
        seed: 7,
        protocol: Protocol::Published,
        datasets: vec![
            dataset("REST", TaskName::ChipSeq, 600),
            dataset("HepG2", TaskName::LentiMpra, 2_500),
        ],
        models: Vec::new(),
        sets: Vec::new(),
        units: Vec::new(),
    }
}

/// A fit whose predictions follow the targets more closely the larger `skill` is.
fn fit(
    dataset: (&str, TaskName, usize),
    input: (Option<&str>, &str),
    probe: &str,
    skill: f64,
) -> FitResult {
    let (name, task, rows) = dataset;
    let (model, representation) = input;
    let id = format!("{name}-{model:?}-{representation}-{probe}");
    let mut rng = Rng::derive(1, &id);
    let draw = |rng: &mut Rng| {
        let truth = rng.normal();
        let guess = skill * truth + rng.normal();
        if task.is_binary() {
            (f64::from(u8::from(truth > 0.0)), 1.0 / (1.0 + (-guess).exp()))
        } else {
            (truth, 0.5 * guess)
        }
    };
    let (targets, predictions): (Vec<f64>, Vec<f64>) = (0..rows).map(|_| draw(&mut rng)).unzip();
    let names = vec![if task.is_binary() { "bound" } else { "activity (log2)" }.to_owned()];
    let context =
        ScoreContext { task, protocol: Protocol::Published, probe, split: Split::Test, seed: 7 };
    let (targets, predictions) = (vec![targets], vec![predictions]);
    let scored = Scored { names: &names, targets: &targets, predictions: &predictions };
    let statistics = scores(&context, &scored);
    FitResult {
        scores: FitScores {
            version: 1,
            identity: FitIdentity {
                fit: FitId::new(id),
                task: task.name().to_owned(),
                dataset: name.to_owned(),
                dataset_id: DatasetId::new("d0"),
                model: model.map(str::to_owned),
                model_id: model.map(ModelId::new),
                layer: model.map(|_| 32),
                representation: representation.to_owned(),
                probe: probe.to_owned(),
                factor: 1.0,
                fraction: 1.0,
                repeat: 0,
                seed: 7,
                protocol: "published".to_owned(),
            },
            statistics,
            objects: Vec::new(),
            seconds: 1.5,
            worker: "w0".to_owned(),
            notes: vec!["a note, with \"quotes\"".to_owned()],
        },
        predictions: Predictions {
            ids: (0..rows).map(|i| format!("row{i}")).collect(),
            target_names: names,
            targets,
            predictions,
        },
    }
}

fn fits() -> Vec<FitResult> {
    let rest = ("REST", TaskName::ChipSeq, 600);
    let hepg2 = ("HepG2", TaskName::LentiMpra, 2_500);
    vec![
        fit(rest, (None, "one-hot"), "logistic", 0.4),
        fit(rest, (None, "kmer-5"), "logistic", 0.7),
        fit(rest, (Some("NT-2B5-1000G"), "mean"), "logistic", 0.9),
        fit(rest, (Some("NT-2B5-1000G"), "cls"), "logistic", 0.8),
        fit(hepg2, (None, "one-hot"), "ridge", 0.4),
        fit(hepg2, (Some("NT-2B5-1000G"), "mean"), "ridge", 0.5),
        fit(hepg2, (Some("NT-2B5-1000G"), "cls"), "least-squares", 0.45),
    ]
}

fn text(files: &[ReportFile], name: &str) -> String {
    let file = files.iter().find(|file| file.name == name).unwrap();
    String::from_utf8(file.bytes.clone()).unwrap()
}

#[test]
fn report_does_not_depend_on_the_order_of_fits() {
    let (plan, mut fits) = (plan(), fits());
    let failed = ["fit 3: out of <memory>".to_owned()];
    let forward = render(&ReportInput { plan: &plan, fits: &fits, failed: &failed }).unwrap();
    fits.reverse();
    let backward = render(&ReportInput { plan: &plan, fits: &fits, failed: &failed }).unwrap();
    assert_eq!(forward, backward);
}

#[test]
fn page_is_self_contained_and_escaped() {
    let (plan, fits) = (plan(), fits());
    let failed = ["fit 3: out of <memory>".to_owned()];
    let files = render(&ReportInput { plan: &plan, fits: &fits, failed: &failed }).unwrap();
    let page = text(&files, "report.html");
    assert!(page.contains("A &lt;small&gt; job") && page.contains("out of &lt;memory&gt;"));
    let fetched = ["src=", "url(", "@import", "<script", "<link"];
    assert!(fetched.iter().all(|mark| !page.contains(mark)));
    assert!(page.contains("0.696") && page.contains("mean of 5"), "published REST rows");
    assert!(!page.contains("NaN"));
}

#[test]
fn csv_and_parquet_hold_one_row_per_statistic() {
    let (plan, fits) = (plan(), fits());
    let files = render(&ReportInput { plan: &plan, fits: &fits, failed: &[] }).unwrap();
    let rows: usize = fits.iter().map(|fit| fit.scores.statistics.len()).sum();
    assert_eq!(text(&files, "scores.csv").lines().count(), rows + 1);
    let file = files.iter().find(|file| file.name == "scores.parquet").unwrap();
    let bytes = bytes::Bytes::from(file.bytes.clone());
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 4096);
    let read: usize = reader.unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(read, rows);
}

#[test]
fn figures_come_as_files_with_their_own_style() {
    let (plan, fits) = (plan(), fits());
    let files = render(&ReportInput { plan: &plan, fits: &fits, failed: &[] }).unwrap();
    for name in ["00-REST-roc", "00-REST-auroc-exact-bars", "01-HepG2-scatter"] {
        let svg = text(&files, &format!("figures/{name}.svg"));
        assert!(svg.starts_with("<?xml") && svg.contains("<style>"), "{name}");
    }
}

#[test]
fn a_job_without_fits_still_has_a_page() {
    let plan = plan();
    let files = render(&ReportInput { plan: &plan, fits: &[], failed: &[] }).unwrap();
    assert!(text(&files, "report.html").contains("Notes"));
}

#[test]
fn text_table_has_one_line_per_fit() {
    let (plan, fits) = (plan(), fits());
    let table = text_table(&ReportInput { plan: &plan, fits: &fits, failed: &[] });
    assert_eq!(table.lines().filter(|line| line.contains(" · ") && line.contains('[')).count(), 7);
}
