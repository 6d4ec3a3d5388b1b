use super::*;
use crate::statistics::{ScoreContext, scores};
use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::example::{ExampleSchema, Split};
use glmeval_common::ids::{DatasetId, FitId, JobId, ModelId};
use glmeval_common::job::Protocol;
use glmeval_common::plan::{DatasetFacts, PlannedDataset};
use glmeval_common::rng::Rng;
use glmeval_common::score::FitIdentity;

pub(super) fn dataset(name: &str, task: TaskName, rows: u64) -> PlannedDataset {
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
            notes: Vec::new(),
            leakage: Vec::new(),
            target_titles: Vec::new(),
        },
    }
}

/// A plan without data sets.
pub(super) fn bare_plan() -> Plan {
    Plan { datasets: Vec::new(), ..plan() }
}

/// What tells a fit of the published protocol, at width 1 on the whole training split.
pub(super) fn identity(
    task: &str,
    dataset: &str,
    (model, layer, representation): (Option<&str>, Option<u32>, &str),
    probe: &str,
) -> FitIdentity {
    FitIdentity {
        fit: FitId::new("f"),
        task: task.to_owned(),
        dataset: dataset.to_owned(),
        dataset_id: DatasetId::new("d0"),
        model: model.map(str::to_owned),
        model_id: model.map(ModelId::new),
        layer,
        representation: representation.to_owned(),
        probe: probe.to_owned(),
        factor: 1.0,
        fraction: 1.0,
        repeat: 0,
        seed: 7,
        protocol: "published".to_owned(),
        trained_on: None,
    }
}

/// A fit without statistics or predictions.
pub(super) fn fit_of(
    task: &str,
    dataset: &str,
    input: (Option<&str>, Option<u32>, &str),
    probe: &str,
) -> FitResult {
    let scores = FitScores {
        version: 1,
        identity: identity(task, dataset, input, probe),
        statistics: Vec::new(),
        objects: Vec::new(),
        seconds: 1.5,
        worker: "w0".to_owned(),
        notes: Vec::new(),
    };
    FitResult { scores, predictions: Predictions::default(), history: Vec::new() }
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
        entries: Default::default(),
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
    let statistics = scores(&context, &names, &targets, &predictions);
    let notes = vec!["a note, with \"quotes\"".to_owned()];
    let layer = model.map(|_| 32);
    let mut identity = identity(task.name(), name, (model, layer, representation), probe);
    identity.fit = FitId::new(id);
    let bare = fit_of(task.name(), name, (model, layer, representation), probe).scores;
    FitResult {
        scores: FitScores { identity, statistics, notes, ..bare },
        predictions: Predictions {
            ids: (0..rows).map(|i| format!("row{i}")).collect(),
            target_names: names,
            targets,
            predictions,
        },
        history: Vec::new(),
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

/// One probe at several fractions, factors and layers, five times each, with learning curves.
fn grid() -> Vec<FitResult> {
    let rest = ("REST", TaskName::ChipSeq, 150);
    let mut fits = Vec::new();
    for (layer, factor, fraction) in
        [(10, 1.0, 1.0), (32, 1.0, 1.0), (32, 0.5, 1.0), (32, 2.0, 1.0), (32, 1.0, 0.25)]
    {
        for repeat in 0..5 {
            let skill = 0.6 + 0.3 * fraction + 0.005 * f64::from(layer);
            // The examples are those of the name; only the guesses differ between repeats.
            let mut fit = fit(rest, (Some("NT"), "full"), "cnn", skill + 0.05 * f64::from(repeat));
            let identity = &mut fit.scores.identity;
            identity.fit = FitId::new(format!("{layer}-{factor}-{fraction}-{repeat}"));
            (identity.layer, identity.factor) = (Some(layer), factor);
            (identity.fraction, identity.repeat) = (fraction, repeat);
            let epoch = |epoch: u32| EpochRecord {
                epoch,
                loss: 1.0 / f64::from(epoch),
                val_loss: Some(1.2 / f64::from(epoch)),
                learning_rate: if epoch < 6 { 1e-3 } else { 2e-4 },
                ..EpochRecord::default()
            };
            fit.history = (1..=100).map(epoch).collect();
            fits.push(fit);
        }
    }
    fits
}

/// One field of a CSV line, by its name in the first line.
fn field<'a>(csv: &'a str, line: usize, name: &str) -> &'a str {
    fn fields(line: &str) -> Vec<&str> {
        let mut is_quoted = false;
        let part = |c: char| {
            is_quoted ^= c == '"';
            c == ',' && !is_quoted
        };
        line.split(part).collect()
    }
    let place = fields(csv.lines().next().unwrap()).iter().position(|field| *field == name);
    fields(csv.lines().nth(line).unwrap())[place.unwrap()]
}

fn text(files: &[ReportFile], name: &str) -> String {
    let file = files.iter().find(|file| file.name == name).unwrap();
    String::from_utf8(file.bytes.clone()).unwrap()
}

/// A report of fits alone.
fn input<'a>(plan: &'a Plan, fits: &'a [FitResult]) -> ReportInput<'a> {
    ReportInput { plan, fits, attributions: &[], precisions: &[], failed: &[], cost: &[] }
}

#[test]
fn report_does_not_depend_on_the_order_of_fits() {
    let (plan, mut fits) = (plan(), fits());
    let failed = ["fit 3: out of <memory>".to_owned()];
    let forward = render(&ReportInput { failed: &failed, ..input(&plan, &fits) }).unwrap();
    fits.reverse();
    let backward = render(&ReportInput { failed: &failed, ..input(&plan, &fits) }).unwrap();
    assert_eq!(forward, backward);
}

#[test]
fn page_is_self_contained_and_escaped() {
    let (plan, fits) = (plan(), fits());
    let failed = ["fit 3: out of <memory>".to_owned()];
    let files = render(&ReportInput { failed: &failed, ..input(&plan, &fits) }).unwrap();
    let page = text(&files, "report.html");
    assert!(page.contains("A &lt;small&gt; job") && page.contains("out of &lt;memory&gt;"));
    let fetched = ["src=", "url(", "@import", "<iframe", "http://", "https://"];
    let without_names = page.replace("http://www.w3.org/2000/svg", "");
    assert!(fetched.iter().all(|mark| !without_names.contains(mark)));
    assert!(page.contains("0.696") && page.contains("mean of 5 runs"), "published REST rows");
    let (read, _) = page.split_once("<script>").unwrap();
    assert!(!read.contains("NaN"));
}

#[test]
fn csv_and_parquet_hold_one_row_per_statistic() {
    let (plan, fits) = (plan(), fits());
    let files = render(&input(&plan, &fits)).unwrap();
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
    let files = render(&input(&plan, &fits)).unwrap();
    for name in ["00-REST-roc", "00-REST-auroc-exact-bars", "01-HepG2-scatter"] {
        let svg = text(&files, &format!("figures/{name}.svg"));
        assert!(svg.starts_with("<?xml") && svg.contains("<style>"), "{name}");
    }
}

#[test]
fn a_job_without_fits_still_has_a_page() {
    let plan = plan();
    let files = render(&input(&plan, &[])).unwrap();
    assert!(text(&files, "report.html").contains("Notes"));
}

#[test]
fn text_table_has_one_line_per_fit() {
    let (plan, fits) = (plan(), fits());
    let table = text_table(&input(&plan, &fits));
    assert_eq!(table.lines().filter(|line| line.contains(" · ") && line.contains('[')).count(), 7);
}

#[test]
fn summary_has_the_mean_and_deviation_of_the_repeats() {
    let (plan, fits) = (plan(), grid());
    let files = render(&input(&plan, &fits)).unwrap();
    let summary = text(&files, "summary.csv");
    let per_fit = fits[0].scores.statistics.len();
    assert_eq!(summary.lines().count(), 1 + 5 * per_fit);
    let line = (1..6 * per_fit).find(|&line| {
        field(&summary, line, "layer") == "10"
            && field(&summary, line, "statistic") == "auroc_exact"
    });
    let value = |name: &str| field(&summary, line.unwrap(), name).parse::<f64>().unwrap();
    let values: Vec<f64> =
        fits[..5].iter().map(|fit| fit.scores.statistics[0].value.unwrap()).collect();
    assert_eq!(fits[0].scores.statistics[0].name, "auroc_exact");
    let mean = values.iter().sum::<f64>() / 5.0;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    assert!((value("mean") - mean).abs() < 1e-12);
    assert!((value("sd") - (squares / 4.0).sqrt()).abs() < 1e-12);
    assert_eq!((value("n"), value("undefined")), (5.0, 0.0));
    assert!(value("low") < mean && mean < value("high"));
    assert!(text(&files, "report.html").contains("means over n repeats"));
}

#[test]
fn comparisons_pair_arms_of_one_fraction_and_are_corrected_per_task() {
    let (plan, mut fits) = (plan(), grid());
    // Other examples, and another task whose two fits share theirs.
    fits.push(fit(("REST", TaskName::ChipSeq, 80), (None, "one-hot"), "cnn", 1.0));
    let hepg2 = ("HepG2", TaskName::LentiMpra, 200);
    for (repeat, skill) in [(0, 0.5), (1, 0.9)] {
        let mut one = fit(hepg2, (Some("NT"), "mean"), "mlp", skill);
        one.scores.identity.factor = f64::from(repeat + 1);
        fits.push(one);
    }
    let files = render(&input(&plan, &fits)).unwrap();
    let table = text(&files, "comparisons.csv");
    let of = |name: &str| {
        (1..table.lines().count()).filter(|&line| field(&table, line, "dataset") == name).count()
    };
    // Four repeated arms of REST at fraction 1, each with each.
    assert_eq!((of("REST"), of("HepG2")), (6, 1));
    for line in 1..table.lines().count() {
        let value = |name: &str| field(&table, line, name).parse::<f64>().unwrap();
        assert!(value("low") <= value("high"));
        assert!(value("p") <= value("p_bh") && value("p_bh") <= value("p_holm"), "line {line}");
        assert!(value("p_holm") <= 1.0 && value("p") >= 2e-4);
        let is_alone = field(&table, line, "dataset") == "HepG2";
        assert!(!is_alone || value("p") == value("p_holm"));
        assert_eq!(field(&table, line, "u_repeats").is_empty(), is_alone);
    }
    let page = text(&files, "report.html");
    assert!(page.contains("lack predictions on the same examples"), "the 80 examples");
}

#[test]
fn an_undefined_value_is_not_a_zero() {
    let (plan, mut fits) = (plan(), grid());
    for statistic in &mut fits[0].scores.statistics {
        (statistic.value, statistic.low, statistic.high) = (None, None, None);
    }
    let expected: f64 =
        fits[1..5].iter().map(|fit| fit.scores.statistics[0].value.unwrap()).sum::<f64>() / 4.0;
    let files = render(&input(&plan, &fits)).unwrap();
    let page = text(&files, "report.html");
    assert!(page.contains("1 n/a") && !page.contains("undefined for"));
    assert!(
        page.contains("a note, with &quot;quotes&quot; (25 fits)") || page.contains("(5 fits)")
    );
    let summary = text(&files, "summary.csv");
    let row = (1..summary.lines().count())
        .find(|&l| {
            field(&summary, l, "undefined") == "1"
                && field(&summary, l, "statistic") == "auroc_exact"
        })
        .unwrap();
    assert_eq!(field(&summary, row, "n"), "4");
    assert!((field(&summary, row, "mean").parse::<f64>().unwrap() - expected).abs() < 1e-12);
}

#[test]
fn the_page_names_every_table_beside_it() {
    let (plan, fits) = (plan(), grid());
    let files = render(&input(&plan, &fits)).unwrap();
    let page = text(&files, "report.html");
    for table in files.iter().filter_map(|file| file.name.strip_suffix(".csv")) {
        assert!(TABLES.iter().any(|(name, _)| *name == table), "{table}");
        assert!(page.contains(&format!("<dt>{table}</dt>")), "{table}");
    }
    for (name, _) in &TABLES[..5] {
        text(&files, &format!("{name}.csv"));
    }
}

#[test]
fn axes_with_several_values_have_figures() {
    let (plan, fits) = (plan(), grid());
    let files = render(&input(&plan, &fits)).unwrap();
    for name in ["fractions", "layers", "factors", "learning-curves"] {
        let svg = text(&files, &format!("figures/00-REST-{name}.svg"));
        assert!(svg.contains("NT, layer 32, full") || name == "layers", "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
    }
    assert_eq!(text(&files, "histories.csv").lines().count(), 1 + 25 * 100);
    let layers = text(&files, "figures/00-REST-layers.svg");
    assert_eq!(layers.matches("<polygon").count(), 1);
    let without = render(&ReportInput {
        plan: &plan,
        fits: &self::fits(),
        attributions: &[],
        precisions: &[],
        failed: &[],
        cost: &[],
    })
    .unwrap();
    assert!(
        !without.iter().any(|file| file.name.contains("layers") || file.name.contains("histories"))
    );
}

#[test]
fn hundreds_of_fits_do_not_swell_the_figures() {
    let plan = plan();
    let template = fit(("REST", TaskName::ChipSeq, 40), (Some("NT"), "full"), "cnn", 0.8);
    let fits: Vec<FitResult> = (0..300)
        .map(|i| {
            let mut fit = template.clone();
            fit.scores.identity.fit = FitId::new(format!("{i}"));
            fit.scores.identity.layer = Some(i);
            let epoch = |epoch: u32| EpochRecord { epoch, loss: 0.5, ..EpochRecord::default() };
            fit.history = (1..=200).map(epoch).collect();
            fit
        })
        .collect();
    let files = render(&input(&plan, &fits)).unwrap();
    for file in files.iter().filter(|file| file.name.ends_with(".svg")) {
        assert!(file.bytes.len() < 150_000, "{}: {} bytes", file.name, file.bytes.len());
    }
    assert!(text(&files, "report.html").len() < 1_000_000);
    // The best forty arms, each with each.
    assert_eq!(text(&files, "comparisons.csv").lines().count(), 1 + 40 * 39 / 2);
}
