//! Prints times of kernels on a CUDA device, one JSON object a line, with the keys of `bench/peers/gpu.py`.
//!
//! Leaves out: peers, whole models. Invariant: operands are random, never zeros; where they would stay in the device's cache
//! several sets take turns; what was computed is looked at; a case that fails is a row that says so, and does not end the others.
//!
//! ```text
//! gpu_bench [--device N | --smoke] [--suite NAME] [--only WORD] [--repetitions N]
//! gpu_bench --suites                   names of all suites
//! gpu_bench [--device N] --open        what the device is, or why it cannot be opened
//! gpu_bench [--device N] --check       whether the device runs a kernel and a product at all
//! ```
#![expect(clippy::print_stdout, reason = "rows are what this program is for")]

mod attention;
mod convolution;
mod hyena;

use glmeval_kernels::cuda::{Bf16, DeviceArray, Element, Gpu, GpuOptions, Operand, Output};
use glmeval_kernels::cuda::{Product, ProductClass, Value};
use glmeval_kernels::error::{KernelError, Result};
use glmeval_kernels::ops::layer_norm::cuda::{Norm, layer_norm};
use std::cell::Cell;
use std::process::ExitCode;

/// Measures one table of shapes.
type Suite = fn(&Bench) -> Result<()>;

/// All suites, named as the peers' program names them, in the order of their rows.
const SUITES: [(&str, Suite); 6] = [
    ("layer_norm", layer_norms),
    ("linear", linears),
    ("attention", attention::even_lengths),
    ("varlen", attention::mixed_lengths),
    ("hyena", hyena::mixers),
    ("convolution", convolution::training),
];

/// Rows and width.
const LAYER_NORMS: [(usize, usize); 5] =
    [(65_536, 256), (65_536, 512), (65_536, 768), (65_536, 1280), (65_536, 2560)];

/// Name, output width, input width: the feed-forward products of gLMs.
const LINEARS: [(&str, usize, usize); 8] = [
    ("nt500m_fc1", 5120, 1280),
    ("nt500m_fc2", 1280, 5120),
    ("nt2b5_fc1", 10_240, 2560),
    ("nt2b5_fc2", 2560, 10_240),
    ("hyena_fc1", 1024, 256),
    ("hyena_fc2", 256, 1024),
    ("gpn_fc1", 2048, 512),
    ("gpn_fc2", 512, 2048),
];
const LINEAR_ROWS: [usize; 3] = [2048, 8192, 36_864];

/// Bytes of operands below which several sets take turns: three times the cache of an H200.
const TURN_BYTES: usize = 180 << 20;
const WARM_UPS: usize = 3;

/// A device, and what of it is measured.
struct Bench {
    gpu: Gpu,
    is_smoke: bool,
    only: String,
    repetitions: usize,
    failed_count: Cell<usize>,
}

/// What is measured: its name, number format, and the bytes and operations it cannot do without.
struct Case {
    suite: &'static str,
    name: String,
    dtype: &'static str,
    bytes: f64,
    flop: f64,
}

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("gpu_bench: {failed} cases failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("gpu_bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the arguments say; the number of cases that failed.
fn run() -> Result<usize> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| words.iter().any(|word| word == name);
    let after = |name: &str| {
        words.iter().position(|word| word == name).and_then(|at| words.get(at + 1)).cloned()
    };
    if has("--suites") {
        SUITES.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(0);
    }
    let is_smoke = has("--smoke");
    let ordinal = after("--device").and_then(|text| text.parse().ok()).unwrap_or(0);
    let cache = std::env::var_os("GLMEVAL_KERNEL_CACHE").map(Into::into);
    let gpu = match is_smoke {
        true => Gpu::emulated()?,
        false => Gpu::open(ordinal, &GpuOptions { cache, memory_max: None })?,
    };
    if has("--open") {
        println!("{}", described(&gpu));
        return Ok(0);
    }
    if has("--check") {
        gpu.check_itself()?;
        println!("{} runs kernels and products", gpu.properties().name);
        return Ok(0);
    }
    let repetitions = after("--repetitions").and_then(|text| text.parse().ok()).unwrap_or(100);
    let only = after("--only").unwrap_or_default();
    let bench = Bench { gpu, is_smoke, only, repetitions, failed_count: Cell::new(0) };
    let suite = after("--suite");
    let is_wanted = |name: &str| suite.as_deref().is_none_or(|wanted| wanted == name);
    let wanted = SUITES.iter().filter(|(name, _)| is_wanted(name));
    wanted.map(|(_, measure)| measure).try_for_each(|measure| measure(&bench))?;
    Ok(bench.failed_count.get())
}

/// What a device is, for people.
fn described(gpu: &Gpu) -> String {
    let about = gpu.properties();
    let (free, total) = gpu.memory().unwrap_or_default();
    format!(
        "{}, kernels for sm_{}, {} multiprocessors, {} bytes of shared memory a block, {:.1} of {:.1} GiB free, driver for \
         CUDA {}, {}",
        about.name,
        about.arch,
        about.multiprocessors,
        about.shared_bytes_max,
        free as f64 / (1_u64 << 30) as f64,
        total as f64 / (1_u64 << 30) as f64,
        about.driver_version,
        about.compiler
    )
}

impl Bench {
    /// Few rows in the emulator.
    fn extent(&self, full: usize) -> usize {
        if self.is_smoke { full.min(8) } else { full }
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    /// Does `work` of a case if it is wanted; where it fails, that is its row.
    ///
    /// # Errors
    /// `Device` if the device answers nothing any more.
    fn attempt(&self, case: &Case, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if !self.wants(&case.name) {
            return Ok(());
        }
        let Err(error) = work() else { return Ok(()) };
        self.failed_count.set(self.failed_count.get() + 1);
        let message: String =
            error.to_string().chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect();
        println!("{{{}, \"failure\": {message:?}}}", self.head(case));
        self.gpu.synchronise()
    }

    /// The keys that every row begins with.
    fn head(&self, case: &Case) -> String {
        let Case { suite, name, dtype, .. } = case;
        let device = &self.gpu.properties().name;
        format!(
            "\"suite\": \"{suite}\", \"case\": \"{name}\", \"impl\": \"glmeval\", \"device\": \"{device}\", \
             \"dtype\": \"{dtype}\""
        )
    }

    /// Sets of operands that take turns.
    fn turns(&self, bytes: usize) -> usize {
        if self.is_smoke { 1 } else { (TURN_BYTES / bytes.max(1)).clamp(1, 4) }
    }

    /// Times `work`, which is told which set of operands is next, and prints its row.
    fn row(
        &self,
        case: &Case,
        turns: usize,
        mut work: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let first = self.gpu.measure(|| work(0))?;
        for turn in 0..WARM_UPS {
            work(turn % turns)?;
        }
        let mut times = Vec::with_capacity(self.repetitions);
        for repetition in 0..if self.is_smoke { 1 } else { self.repetitions } {
            times.extend(self.gpu.measure(|| work(repetition % turns))?);
        }
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied();
        let number = |x: Option<f64>| x.map_or("null".to_owned(), |x| format!("{x:.6}"));
        let rate = |amount: f64, unit: f64| number(median.map(|ms| amount / ms / unit));
        println!(
            "{{{}, \"median_ms\": {}, \"min_ms\": {}, \"first_ms\": {}, \"n\": {}, \"tflops\": {}, \"gb_per_s\": {}}}",
            self.head(case),
            number(median),
            number(times.first().copied()),
            number(first),
            times.len(),
            rate(case.flop, 1e9),
            rate(case.bytes, 1e6)
        );
        Ok(())
    }
}

/// Refuses what is not close to what is expected; `place` tells where.
fn look(case: &Case, found: f32, expected: f32, tolerance: f32) -> Result<()> {
    // A NaN is not close to anything.
    if (found - expected).abs() <= tolerance {
        return Ok(());
    }
    Err(KernelError::Device {
        device: "the benchmark".to_owned(),
        operation: case.name.clone(),
        message: format!("expected about {expected}, found {found}"),
    })
}

fn layer_norms(bench: &Bench) -> Result<()> {
    for (rows, width) in LAYER_NORMS {
        let rows = bench.extent(rows);
        for dtype in ["f32", "bf16"] {
            let written = if dtype == "f32" { 4 } else { 2 };
            let bytes = rows * width * (4 + 4 + 4 + written);
            let name = format!("add_layer_norm_{rows}x{width}");
            let case = Case { suite: "gpu", name, dtype, bytes: bytes as f64, flop: 0.0 };
            bench.attempt(&case, || match dtype {
                "f32" => one_layer_norm::<f32>(bench, &case, (rows, width)),
                _ => one_layer_norm::<Bf16>(bench, &case, (rows, width)),
            })?;
        }
    }
    Ok(())
}

fn one_layer_norm<T: Number + glmeval_kernels::cuda::Number>(
    bench: &Bench,
    case: &Case,
    (rows, width): (usize, usize),
) -> Result<()> {
    let gpu = &bench.gpu;
    let turns = bench.turns(case.bytes as usize);
    let drawn = draw(1, rows * width);
    // The branch is small, so that x stays as it is over many repetitions.
    let branch: Vec<f32> = draw(2, rows * width).iter().map(|x| x * 1e-6).collect();
    let mut xs = Vec::new();
    let mut outs = Vec::new();
    for _ in 0..turns {
        xs.push(DeviceArray::from_slice(gpu, &drawn)?);
        outs.push(DeviceArray::<T>::new(gpu, rows * width)?);
    }
    let branch = DeviceArray::from_slice(gpu, &branch)?;
    let (weight, bias) = (
        DeviceArray::from_slice(gpu, &draw(3, width))?,
        DeviceArray::from_slice(gpu, &draw(4, width))?,
    );
    let norm = Norm { weight: weight.view(), bias: Some(bias.view()), eps: 1e-5 };
    outs[0].view_mut().fill_bytes(0xff)?;
    layer_norm(&mut xs[0].view_mut(), Some(branch.view()), norm, &mut outs[0].view_mut())?;
    let mut expected = vec![0.0; width];
    let (weight_values, bias_values) = (draw(3, width), draw(4, width));
    let last = (rows - 1) * width;
    glmeval_kernels::ops::layer_norm::layer_norm(
        &drawn[last..],
        &weight_values,
        Some(&bias_values),
        1e-5,
        &mut expected,
    )?;
    let found = outs[0].view().part(last..last + width).to_vec()?;
    for (found, expected) in found.iter().zip(&expected) {
        look(case, found.value(), *expected, 0.05)?;
    }
    bench.row(case, turns, |turn| {
        layer_norm(&mut xs[turn].view_mut(), Some(branch.view()), norm, &mut outs[turn].view_mut())
    })
}

fn linears(bench: &Bench) -> Result<()> {
    for (name, columns, depth) in LINEARS {
        for rows in LINEAR_ROWS {
            let shape @ (rows, columns, depth) =
                (bench.extent(rows), bench.extent(columns), bench.extent(depth));
            for dtype in ["bf16", "tf32", "f32"] {
                let each = if dtype == "bf16" { 2 } else { 4 };
                let bytes = each * (rows * depth + columns * depth + rows * columns);
                let flop = 2.0 * rows as f64 * columns as f64 * depth as f64;
                let name = format!("linear_{name}_M{rows}");
                let case = Case { suite: "gpu", name, dtype, bytes: bytes as f64, flop };
                bench.attempt(&case, || match dtype {
                    "bf16" => one_linear::<Bf16>(bench, &case, shape, ProductClass::F32),
                    "tf32" => one_linear::<f32>(bench, &case, shape, ProductClass::Tf32),
                    _ => one_linear::<f32>(bench, &case, shape, ProductClass::F32),
                })?;
            }
        }
    }
    Ok(())
}

fn one_linear<T: Number + Value>(
    bench: &Bench,
    case: &Case,
    (rows, columns, depth): (usize, usize, usize),
    class: ProductClass,
) -> Result<()> {
    let gpu = &bench.gpu;
    let turns = bench.turns(case.bytes as usize);
    let (x, w, b) = (draw(1, rows * depth), draw(2, columns * depth), draw(3, columns));
    let place = |values: &[f32]| {
        DeviceArray::<T>::from_slice(gpu, &values.iter().map(|x| T::of(*x)).collect::<Vec<_>>())
    };
    let (mut lefts, mut rights, mut outs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns {
        lefts.push(place(&x)?);
        rights.push(place(&w)?);
        outs.push(DeviceArray::<T>::new(gpu, rows * columns)?);
    }
    let bias = DeviceArray::from_slice(gpu, &b)?;
    let mut multiply = |turn: usize| {
        gpu.multiply(&Product {
            rows,
            columns,
            depth,
            left: Operand::rows(lefts[turn].view(), depth),
            right: Operand::rows(rights[turn].view(), depth),
            bias: Some(bias.view()),
            adds: false,
            out: Output::rows(outs[turn].view_mut(), columns),
            class,
        })
    };
    multiply(0)?;
    bench.row(case, turns, &mut multiply)?;
    let last = (rows - 1) * columns;
    let found = outs[0].view().part(last..last + columns).to_vec()?;
    for column in [0, columns / 2, columns - 1] {
        let pairs = x[(rows - 1) * depth..].iter().zip(&w[column * depth..][..depth]);
        let sum: f64 = pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        let expected = sum as f32 + b[column];
        // Operands of 8 bits: sums of `depth` random terms.
        look(case, found[column].value(), expected, 0.02 * (depth as f32).sqrt() + 0.02)?;
    }
    Ok(())
}

/// A number format of operands.
trait Number: Element {
    fn of(x: f32) -> Self;
    fn value(self) -> f32;
}

impl Number for f32 {
    fn of(x: f32) -> Self {
        x
    }
    fn value(self) -> f32 {
        self
    }
}

impl Number for Bf16 {
    fn of(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn value(self) -> f32 {
        self.to_f32()
    }
}

/// Values in -1..1 from a fixed linear congruence.
fn draw(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}
