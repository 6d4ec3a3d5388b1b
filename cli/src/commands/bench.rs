//! `glmeval bench`: how fast does this machine embed?
//!
//! Leaves out: other programs to compare with (`bench/` at the root). Invariant: the share of the
//! machine's peak is of a peak measured in the same run, precision and threads.

mod inputs;
mod steps;
mod timing;

use crate::model_arguments::PrecisionName;
use crate::output::{Format, Table, say};
use clap::Args;
use glmeval_common::error::{Error, Result};
use glmeval_common::model::{ModelOptions, Precision};
use glmeval_worker::device::{Device, DeviceChoice};
use glmeval_worker::model::{LayerRequest, Model};
use glmeval_worker::models;
use glmeval_worker::rate::{PEAK, PRODUCTS, Product, device_product, product_kind, thread_count};
use inputs::{Case, Input};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use steps::{ProbeName, StepShape};
use timing::{Timing, fastest, measure, peak_rss_bytes, timed};

/// Seconds that the machine's peak is measured for, at most.
const PEAK_SECONDS_MAX: f64 = 1.0;
/// Rows, columns and depth of the product that a device's peak is measured with.
const DEVICE_PEAK_SIZE: usize = 8192;
/// What is measured if nothing is asked for.
const DEFAULT_INPUT: Input = Input::Nucleotides(200);

/// Arguments of `bench`.
#[derive(Args)]
#[command(after_help = "Examples:
  glmeval bench
      Matrix products on the shapes of gLMs.
  glmeval bench --model examples/models/nt-v1-random --length 200 --length 1000
  glmeval bench --model my-nt --precision bf16 --tokens 36 --batch 32 --threads 2 --seconds 10
  glmeval bench --model config-folder --random 1 --lengths 64-1000 --batch 64 --format json
  glmeval bench --probe rep-cnn --shape 256x41x2560 --reduce 196
      Training steps of a probe: forward, backward, Adam.

The gLM runs all sequences of a case in one call, as often as the seconds allow. A repetition during
which other programs used over 6 % of a core is dirty; times are of the clean ones if there are any.
The peak is the best of a few products of 2048 x 2048 x 2048 in the same precision.")]
pub(crate) struct Arguments {
    /// Folder in Hugging Face layout, a published file, or hf://org/name; none = matrix products.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Random weights of this seed for the gLM's config; weight files are not read.
    #[arg(long, value_name = "SEED", requires = "model")]
    random: Option<u64>,
    /// Number format of matrix products [default: f32; both without --model].
    #[arg(long, value_enum)]
    precision: Option<PrecisionName>,
    /// Sequences of so many nucleotides; repeat for more [default: 200].
    #[arg(long = "length", value_name = "NT", requires = "model", value_parser = amount())]
    lengths: Vec<u64>,
    /// Sequences of mixed lengths, uniform between two numbers of nucleotides; repeat for more.
    #[arg(long = "lengths", value_name = "MIN-MAX", requires = "model",
        value_parser = Input::parse_mixed)]
    mixed: Vec<Input>,
    /// Sequences of so many tokens; repeat for more.
    #[arg(long, value_name = "TOKENS", requires = "model", value_parser = amount())]
    tokens: Vec<u64>,
    /// Sequences of one call [default: as many as a worker would take].
    #[arg(long, requires = "model", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch: Option<u32>,
    /// Training steps of this probe on random examples.
    #[arg(long, value_enum, conflicts_with = "model", requires = "shapes")]
    probe: Option<ProbeName>,
    /// Examples of a step, positions and channels of each; repeat for more.
    #[arg(long = "shape", value_name = "BATCHxPOSITIONSxCHANNELS", requires = "probe",
        conflicts_with = "model", value_parser = StepShape::parse)]
    shapes: Vec<StepShape>,
    /// Channels that a rep-cnn reduces its input to.
    #[arg(long, default_value_t = 128, requires = "probe", conflicts_with = "model",
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    reduce: u32,
    /// Layers that are handed out, the deepest ends the pass; repeat for more [default: last].
    #[arg(long = "layer", value_name = "LAYER", requires = "model")]
    layers: Vec<u32>,
    /// Where the gLM runs: cpu, cuda, cuda:N or emulated.
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// CPU threads [default: all].
    #[arg(long)]
    threads: Option<usize>,
    /// Seconds of measuring for each case; at least three repetitions are run.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// How to print; json = one object a line.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn amount() -> impl clap::builder::TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(1..=1 << 31)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| s.is_finite() && *s > 0.0);
    seconds.ok_or_else(|| "expected a number of seconds above 0".to_owned())
}

/// One measured case; keys are those of the peers' programs.
#[derive(Serialize)]
struct Row {
    suite: &'static str,
    case: String,
    #[serde(rename = "impl")]
    implementation: &'static str,
    version: &'static str,
    device: String,
    /// What computed the products.
    unit: &'static str,
    dtype: &'static str,
    threads: usize,
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    first_ms: f64,
    n: usize,
    clean: usize,
    dirty: usize,
    gflops: f64,
    seqs_per_s: Option<f64>,
    tokens_per_s: Option<f64>,
    /// Of `peak_gflops`.
    share_of_peak: f64,
    peak_gflops: f64,
    /// Time to open the gLM.
    load_ms: Option<f64>,
    /// Of the process so far.
    peak_rss_bytes: Option<u64>,
}

impl Row {
    fn new(peak: &Peak, suite: &'static str, case: String, flops: f64, timing: &Timing) -> Self {
        let gflops = flops / timing.median_ms.max(1e-9) / 1e6;
        Self {
            suite,
            case,
            implementation: "glmeval",
            version: env!("CARGO_PKG_VERSION"),
            device: peak.device.clone(),
            unit: if peak.device == "cpu" { product_kind(peak.precision) } else { "CUDA" },
            dtype: peak.precision.name(),
            threads: thread_count(),
            median_ms: timing.median_ms,
            min_ms: timing.min_ms,
            max_ms: timing.max_ms,
            first_ms: timing.first_ms,
            n: timing.n,
            clean: timing.clean,
            dirty: timing.dirty,
            gflops,
            seqs_per_s: None,
            tokens_per_s: None,
            share_of_peak: gflops / peak.gflops,
            peak_gflops: peak.gflops,
            load_ms: None,
            peak_rss_bytes: peak_rss_bytes(),
        }
    }
}

/// What this machine's products reach.
struct Peak {
    device: String,
    precision: Precision,
    gflops: f64,
}

impl Peak {
    fn measure(precision: Precision, seconds: f64) -> Result<Self> {
        let mut product = Product::prepare(&PEAK, precision)?;
        let best = fastest(seconds.min(PEAK_SECONDS_MAX), || product.run())?;
        let device = "cpu".to_owned();
        Ok(Self { device, precision, gflops: PEAK.flops() / best.max(1e-9) / 1e9 })
    }

    /// On the device that a gLM runs on.
    fn measure_on(device: &Device, precision: Precision, seconds: f64) -> Result<Self> {
        let Device::Cuda(gpu) = device else { return Self::measure(precision, seconds) };
        device.check_precision(precision)?;
        // The emulator is there to be right.
        let size = if gpu.properties().arch == 0 { 32 } else { DEVICE_PEAK_SIZE };
        let product = device_product(gpu, precision, size)?;
        let best = fastest(seconds.min(PEAK_SECONDS_MAX), product)?;
        let flops = 2.0 * (size as f64).powi(3);
        let device = device.kind();
        Ok(Self { device, precision, gflops: flops / best.max(1e-9) / 1e9 })
    }
}

/// Rows as they come: printed at once as JSON, gathered for a table.
struct Printed {
    format: Format,
    rows: Vec<Row>,
}

impl Printed {
    fn add(&mut self, row: Row) -> Result<()> {
        if self.format == Format::Json {
            let text = serde_json::to_string(&row);
            say(&text.map_err(|e| Error::bug("encode as JSON").with_source(e))?);
        }
        self.rows.push(row);
        Ok(())
    }

    /// Prints the table, where one was asked for.
    fn end(&self) {
        if self.format == Format::Json {
            return;
        }
        let mut table = Table::new(&[
            "case",
            "dtype",
            "threads",
            "sequences/s",
            "tokens/s",
            "GFLOP/s",
            "of peak",
            "median ms",
            "min ms",
            "max ms",
            "first ms",
            "clean",
            "dirty",
        ]);
        for row in &self.rows {
            let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |r| format!("{r:.1}"));
            table.row(vec![
                row.case.clone(),
                row.dtype.to_owned(),
                row.threads.to_string(),
                rate(row.seqs_per_s),
                rate(row.tokens_per_s),
                format!("{:.1}", row.gflops),
                format!("{:.2}", row.share_of_peak),
                format!("{:.3}", row.median_ms),
                format!("{:.3}", row.min_ms),
                format!("{:.3}", row.max_ms),
                format!("{:.3}", row.first_ms),
                row.clean.to_string(),
                row.dirty.to_string(),
            ]);
        }
        say(&table.text(self.format));
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    glmeval_worker::start_threads(arguments.threads)?;
    let mut printed = Printed { format: arguments.format, rows: Vec::new() };
    match (&arguments.model, arguments.probe) {
        (Some(path), _) => forward_passes(path, arguments, &mut printed)?,
        (None, Some(probe)) => steps::steps(probe, arguments, &mut printed)?,
        (None, None) => products(arguments, &mut printed)?,
    }
    printed.end();
    Ok(ExitCode::SUCCESS)
}

/// Measures matrix products on the shapes of gLMs.
fn products(arguments: &Arguments, printed: &mut Printed) -> Result<()> {
    let precisions = match arguments.precision {
        Some(precision) => vec![Precision::from(precision)],
        None => vec![Precision::F32, Precision::Bf16],
    };
    for precision in precisions {
        Device::Cpu.check_precision(precision)?;
        let peak = Peak::measure(precision, arguments.seconds)?;
        for shape in &PRODUCTS {
            let mut product = Product::prepare(shape, precision)?;
            let timing = measure(arguments.seconds, || product.run())?;
            let extents = (shape.rows, shape.output_width, shape.input_width);
            let case = format!("{}: {}x{}x{}", shape.name, extents.0, extents.1, extents.2);
            printed.add(Row::new(&peak, "product", case, shape.flops(), &timing))?;
        }
    }
    Ok(())
}

/// Measures the gLM at `path` on every kind of input that is asked for.
fn forward_passes(path: &Path, arguments: &Arguments, printed: &mut Printed) -> Result<()> {
    let precision = arguments.precision.map_or(Precision::F32, Precision::from);
    let devices = arguments.device.open()?;
    let [device] = devices.as_slice() else {
        let message = "--device: expected one device, found several: measure each by itself";
        return Err(Error::invalid(message));
    };
    let options = ModelOptions { precision, ..ModelOptions::default() };
    let (load_seconds, model) = timed(|| match arguments.random {
        Some(seed) => models::open_random_on(path, &options, seed, device),
        None => models::open_on(path, &options, device),
    })?;
    let peak = Peak::measure_on(device, precision, arguments.seconds)?;
    let facts = model.facts();
    let last = [facts.layer_count];
    let layers = if arguments.layers.is_empty() { &last[..] } else { &arguments.layers };
    let request = LayerRequest::new(layers, facts.layer_count)?;
    let mut name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    if request.deepest() < facts.layer_count {
        name = format!("{name}_layer{}", request.deepest());
    }
    let lengths = arguments.lengths.iter().map(|&length| Input::Nucleotides(length));
    let tokens = arguments.tokens.iter().map(|&count| Input::Tokens(count));
    let mut inputs: Vec<Input> = lengths.chain(arguments.mixed.clone()).chain(tokens).collect();
    if inputs.is_empty() {
        inputs.push(DEFAULT_INPUT);
    }
    for input in inputs {
        let case = inputs::case(&model, input, arguments.batch, arguments.random.unwrap_or(0))?;
        let mut row = forward(&model, &case, &request, &peak, arguments.seconds)?;
        row.case = format!("{name}_{}", row.case);
        row.load_ms = Some(load_seconds * 1e3);
        printed.add(row)?;
    }
    Ok(())
}

/// Measures one batch.
fn forward(
    model: &Model,
    case: &Case,
    request: &LayerRequest,
    peak: &Peak,
    seconds: f64,
) -> Result<Row> {
    let timing = measure(seconds, || model.forward(&case.batch, request, &mut |_, _| {}))?;
    let counts = case.batch.sequences().map(|ids| ids.len() as u64);
    let flops = counts.map(|count| model.facts().flops(count, request.deepest())).sum();
    let mut row = Row::new(peak, "forward", case.name.clone(), flops, &timing);
    let per_second = 1e3 / timing.median_ms.max(1e-9);
    row.seqs_per_s = Some(case.batch.sequence_count() as f64 * per_second);
    row.tokens_per_s = Some(case.batch.token_count() as f64 * per_second);
    Ok(row)
}
