//! `glmeval plan JOB.toml`.

use crate::output::{Format, Table, bytes, complain, flops, say, say_json, seconds};
use crate::planning::{KindArguments, plan_file_assuming};
use clap::Args;
use glmeval_common::error::Result;
use glmeval_common::job::Prices;
use glmeval_common::plan::Plan;
use glmeval_common::unit::{Fit, UnitKind};
use glmeval_coordinator::plan;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

/// FLOP/s a device kind sustains on these models, and its price an hour; floors, not promises.
/// The first comes from the CPU time of one run (`bench/runs/`), the second is eight times the first.
const DEVICE_RATES: [(&str, f64, f64); 2] =
    [("2 CPU cores (f32, AVX-512)", 2.6e11, 0.10), ("16 CPU cores (f32, AVX-512)", 2.1e12, 0.80)];

/// FLOP/s that a device of a kind sustains on these models, by the names prices use. The processor's was
/// measured; graphics cards stand at two fifths of their bf16 peak (NVIDIA's data sheets), unmeasured.
const KIND_RATES: [(&str, f64); 5] = [
    ("cpu", 2.6e11),
    ("nvidia-a100", 1.2e14),
    ("nvidia-h100", 4.0e14),
    ("nvidia-h200", 4.0e14),
    ("nvidia-l4", 4.8e13),
];

/// Arguments of `plan`.
#[derive(Args)]
#[command(after_help = "Examples:
  glmeval plan examples/quickstart.toml
  glmeval plan job.toml --format json | jq .units_total")]
pub(crate) struct Arguments {
    /// The job file.
    job: PathBuf,
    #[command(flatten)]
    device: KindArguments,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Stage {
    stage: &'static str,
    units: u64,
    bytes: u64,
    flops: f64,
}

#[derive(Serialize)]
struct Floor {
    device: &'static str,
    seconds: f64,
    cost_usd: f64,
}

/// What the arithmetic of a job costs on one kind of device, by the job file's prices.
#[derive(Serialize)]
struct Price {
    device_kind: String,
    /// An hour of one device, the spot discount taken off.
    device_hour: f64,
    currency: String,
    /// Device time at least; none where the rate of the kind is not known.
    device_seconds: Option<f64>,
    /// Its price.
    cost: Option<f64>,
}

/// The fits of one probe.
#[derive(Serialize)]
struct Probe {
    probe: String,
    representations: Vec<String>,
    fits: u64,
    units: u64,
    /// `cpu`, or the numeric classes of devices that they are trained in.
    trained_on: Vec<String>,
}

/// About how many bytes one worker holds while it embeds or fits.
#[derive(Serialize)]
struct Memory {
    weights_bytes: u64,
    activations_bytes: u64,
    shard_bytes: u64,
    examples_bytes: u64,
    program_bytes: u64,
    training_bytes: u64,
    total_bytes: u64,
}

/// What `--format json` prints; keys are only ever added.
#[derive(Serialize)]
struct Summary<'a> {
    /// Id of the job: digest of the plan.
    job: &'a str,
    /// Name in the job file.
    name: &'a str,
    /// Units of all stages.
    units_total: u32,
    /// Pairs of a gLM and a data set that it embeds.
    embedding_jobs: usize,
    /// Fits of all probes.
    fits_total: u64,
    /// FLOPs of all stages.
    flops_total: f64,
    /// Bytes written by all stages.
    bytes_total: u64,
    /// Tokens embedded, special tokens included.
    tokens_total: u64,
    /// Units, bytes written and FLOPs by stage.
    stages: Vec<Stage>,
    /// Fits by probe.
    probes: Vec<Probe>,
    /// Comparisons of variants' scores with measured effects, for which nothing is fitted.
    evaluations_total: u64,
    /// Attribution maps of a network and a gLM on a data set, for which nothing is fitted either.
    attributions_total: u64,
    /// FLOPs of these, part of the stage of fits.
    attributions_flops: f64,
    /// Time and cost on some devices if they did nothing but arithmetic.
    floors: Vec<Floor>,
    /// What that costs by the prices of the job file; empty without any.
    prices: Vec<Price>,
    /// Peak memory of one worker, estimated.
    worker_memory: Memory,
    /// The plan itself, as it is stored.
    plan: &'a Plan,
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let planned = plan_file_assuming(&arguments.job, &arguments.device.kind()?)?;
    planned.assumed.iter().for_each(|line| complain(line));
    let plan = &planned.plan;
    let stages = UnitKind::ALL.map(|kind| stage(plan, kind)).into_iter().collect::<Vec<_>>();
    let flops_total: f64 = stages.iter().map(|stage| stage.flops).sum();
    let floors = DEVICE_RATES
        .iter()
        .map(|&(device, rate, usd_per_hour)| {
            let seconds = flops_total / rate;
            Floor { device, seconds, cost_usd: seconds / 3600.0 * usd_per_hour }
        })
        .collect();
    let summary = Summary {
        job: plan.job.as_str(),
        name: &plan.name,
        units_total: plan.unit_count(),
        embedding_jobs: embedding_jobs(plan),
        fits_total: fitted(plan).count() as u64,
        flops_total,
        bytes_total: stages.iter().map(|stage| stage.bytes).sum(),
        tokens_total: plan::tokens(plan),
        stages,
        probes: probes(plan),
        evaluations_total: evaluations(plan),
        attributions_total: attributions(plan).0,
        attributions_flops: attributions(plan).1,
        floors,
        prices: planned.job.prices.as_ref().map_or_else(Vec::new, |of| prices(of, flops_total)),
        worker_memory: memory(plan),
        plan,
    };
    if arguments.format == Format::Json {
        say_json(&summary)?;
    } else {
        print(&summary, arguments.format);
    }
    Ok(ExitCode::SUCCESS)
}

/// Pairs of a gLM, by its name, and a data set; habits that differ by data set make no other gLM.
fn embedding_jobs(plan: &Plan) -> usize {
    let pairs = plan.sets.iter().map(|set| (&set.model.name, &set.dataset));
    pairs.collect::<BTreeSet<_>>().len()
}

/// Fits that are trained; what only compares is no fit.
fn fitted(plan: &Plan) -> impl Iterator<Item = &Fit> {
    plan.fit_units().flat_map(|(_, unit)| &unit.fits).filter(|fit| fit.probe.is_fitted())
}

fn prices(prices: &Prices, flops_total: f64) -> Vec<Price> {
    let kinds = prices.device_hour.keys().map(|kind| {
        let rate = KIND_RATES.iter().find(|(known, _)| known == kind).map(|(_, rate)| *rate);
        let device_seconds = rate.map(|rate| flops_total / rate);
        Price {
            device_kind: kind.clone(),
            device_hour: prices.hour(kind).unwrap_or(0.0),
            currency: prices.currency.clone(),
            device_seconds,
            cost: device_seconds.and_then(|seconds| prices.seconds(kind, seconds)),
        }
    });
    kinds.collect()
}

/// A table of prices, one line per kind of device.
fn price_table(prices: &[Price]) -> Table {
    let mut table = Table::new(&["priced device", "an hour", "at least", "costs at least"]);
    for price in prices {
        let currency = &price.currency;
        table.row(vec![
            price.device_kind.clone(),
            format!("{} {currency}", price.device_hour),
            price.device_seconds.map_or("rate unknown".to_owned(), seconds),
            price.cost.map_or("-".to_owned(), |cost| format!("{cost:.4} {currency}")),
        ]);
    }
    table
}

fn memory(plan: &Plan) -> Memory {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = plan::worker_memory(plan, threads as u64);
    Memory {
        weights_bytes: memory.weights,
        activations_bytes: memory.activations,
        shard_bytes: memory.shard,
        examples_bytes: memory.examples,
        program_bytes: memory.program,
        training_bytes: memory.training,
        total_bytes: memory.total(),
    }
}

/// Fits that are none: zero-shot scores and applied probes.
fn evaluations(plan: &Plan) -> u64 {
    let of_unit = |fits: &[Fit]| fits.iter().filter(|fit| !fit.probe.is_fitted()).count() as u64;
    let units = plan.fit_units().filter(|(_, unit)| !unit.is_attribution());
    units.map(|(_, unit)| of_unit(&unit.fits)).sum()
}

/// Attribution maps and their FLOPs.
fn attributions(plan: &Plan) -> (u64, f64) {
    let units = plan.fit_units().filter(|(_, unit)| unit.is_attribution());
    units.fold((0, 0.0), |(count, flops), (number, unit)| {
        let of_unit = plan.totals(number, number.saturating_add(1)).flops;
        (count + unit.fits.len() as u64, flops + of_unit)
    })
}

/// Fits by probe, in the order of their names.
fn probes(plan: &Plan) -> Vec<Probe> {
    let mut probes: BTreeMap<&str, Probe> = BTreeMap::new();
    for (_, unit) in plan.fit_units() {
        let mut last = None;
        for fit in unit.fits.iter().filter(|fit| fit.probe.is_fitted()) {
            let name = fit.identity.probe.as_str();
            let probe = probes.entry(name).or_insert_with(|| Probe {
                probe: name.to_owned(),
                representations: Vec::new(),
                fits: 0,
                units: 0,
                trained_on: Vec::new(),
            });
            probe.fits += 1;
            // Fits of one probe stand side by side in a unit.
            probe.units += u64::from(last != Some(name));
            last = Some(name);
            let place = unit.training_class.as_deref().unwrap_or("cpu");
            if !probe.trained_on.iter().any(|known| known == place) {
                probe.trained_on.push(place.to_owned());
            }
            if !probe.representations.contains(&fit.identity.representation) {
                probe.representations.push(fit.identity.representation.clone());
            }
        }
    }
    probes.into_values().collect()
}

fn stage(plan: &Plan, kind: UnitKind) -> Stage {
    let mut stage = Stage { stage: kind.name(), units: 0, bytes: 0, flops: 0.0 };
    for (first, entry) in plan.entries.iter().filter(|(_, entry)| entry.kind() == kind) {
        let units = u32::try_from(entry.unit_count()).unwrap_or(u32::MAX);
        let totals = plan.totals(first, first.saturating_add(units));
        stage.units += u64::from(units);
        stage.bytes += totals.bytes;
        stage.flops += totals.flops;
    }
    stage
}

/// Lines on what is no table.
fn say_notes(summary: &Summary<'_>) {
    if summary.evaluations_total > 0 {
        let count = summary.evaluations_total;
        say(&format!("{count} evaluations of variants, for which nothing is fitted"));
    }
    if summary.attributions_total > 0 {
        let (count, computed) = (summary.attributions_total, flops(summary.attributions_flops));
        say(&format!("{count} attributions, for which nothing is fitted: {computed}"));
    }
    for dataset in &summary.plan.datasets {
        dataset.facts.notes.iter().for_each(|note| say(&format!("{}: {note}", dataset.name)));
    }
}

/// What the whole job is, in two lines.
fn say_totals(summary: &Summary<'_>) {
    let Summary { name, job, tokens_total, embedding_jobs, fits_total, .. } = summary;
    say(&format!("job {name} ({job}): {tokens_total} tokens"));
    let (computed, written) = (flops(summary.flops_total), bytes(summary.bytes_total));
    let jobs = format!("{embedding_jobs} embedding jobs, {fits_total} fits");
    say(&format!("{jobs}; {computed}, {written} written"));
}

fn print(summary: &Summary<'_>, format: Format) {
    let plan = summary.plan;
    let mut datasets = Table::new(&["data set", "task", "examples", "nt min", "nt max", "splits"]);
    for dataset in &plan.datasets {
        let facts = &dataset.facts;
        let splits: Vec<_> = facts.split_rows.iter().map(|(k, v)| format!("{k} {v}")).collect();
        datasets.row(vec![
            dataset.name.clone(),
            dataset.task.name().to_owned(),
            facts.rows.to_string(),
            facts.length_min.to_string(),
            facts.length_max.to_string(),
            splits.join(", "),
        ]);
    }
    let mut models = Table::new(&["gLM", "architecture", "layers", "width", "parameters"]);
    for model in &plan.models {
        let facts = &model.facts;
        models.row(vec![
            model.model.name.clone(),
            facts.architecture.clone(),
            facts.layer_count.to_string(),
            facts.width.to_string(),
            facts.parameters.to_string(),
        ]);
    }
    let mut stages = Table::new(&["stage", "units", "writes", "computes"]);
    for stage in &summary.stages {
        stages.row(vec![
            stage.stage.to_owned(),
            stage.units.to_string(),
            bytes(stage.bytes),
            flops(stage.flops),
        ]);
    }
    let mut probes = Table::new(&["probe", "reads", "fits", "in units", "trained on"]);
    for probe in &summary.probes {
        let reads = probe.representations.join(", ");
        let counts = [probe.fits.to_string(), probe.units.to_string()];
        let places = vec![probe.trained_on.join(", ")];
        probes.row([vec![probe.probe.clone(), reads], counts.to_vec(), places].concat());
    }
    let mut floors = Table::new(&["device", "at least", "about"]);
    for floor in &summary.floors {
        let cost = format!("{:.2} USD", floor.cost_usd);
        floors.row(vec![floor.device.to_owned(), seconds(floor.seconds), cost]);
    }
    say_totals(summary);
    say_notes(summary);
    let held = &summary.worker_memory;
    let mut memory = Table::new(&["worker holds", "about"]);
    for (what, count) in [
        ("weights", held.weights_bytes),
        ("activations", held.activations_bytes),
        ("shard", held.shard_bytes),
        ("examples", held.examples_bytes),
        ("program", held.program_bytes),
        ("training", held.training_bytes),
        ("at most", held.total_bytes),
    ] {
        memory.row(vec![what.to_owned(), bytes(count)]);
    }
    let prices = (!summary.prices.is_empty()).then(|| price_table(&summary.prices));
    let tables = [datasets, models, stages, probes, floors].into_iter().chain(prices);
    for table in tables.chain([memory]) {
        say("");
        say(&table.text(format));
    }
}
