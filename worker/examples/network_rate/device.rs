//! Training steps on a device, each one replayed graph.
//!
//! Leaves out: peers. Invariant: examples lie on the device, as in a fit; the loss after all steps is finite; a case that
//! fails is a row that says so, and does not end the others.

use super::network;
use glmeval_common::error::{Error, Result};
use glmeval_common::network::{Adam, Draws};
use glmeval_common::rng::Rng;
use glmeval_kernels::cuda::{DeviceArray, Gpu, GpuOptions};
use glmeval_kernels::ops::conv1d::cuda::ConvClass;
use glmeval_worker::device::device_error;
use glmeval_worker::network::{
    DeviceExamples, DeviceFit, DeviceInput, DeviceSettings, NetworkState,
};
use std::sync::Arc;

/// Length, channels and examples of a batch: NT-2.5B, GPN, one-hot.
const SHAPES: [(usize, usize, usize); 3] = [(41, 2560, 256), (230, 512, 64), (230, 4, 128)];
/// Batches of an epoch, all of one size.
const BATCHES: usize = 8;
const STEPS: usize = 104;

/// Prints a row for each shape and class.
#[expect(clippy::print_stdout, reason = "rows are what this is for")]
pub(super) fn main(is_smoke: bool) -> Result<()> {
    let cache = std::env::var_os("GLMEVAL_KERNEL_CACHE").map(Into::into);
    let gpu = match is_smoke {
        true => Gpu::emulated(),
        false => Gpu::open(0, &GpuOptions { cache, memory_max: None }),
    };
    let gpu = gpu.map_err(device_error)?;
    let mut failed_count = 0;
    let (shapes, steps) = if is_smoke { (&[(24, 4, 2)][..], 3) } else { (&SHAPES[..], STEPS) };
    for &shape in shapes {
        for (class, dtype) in
            [(ConvClass::F32, "f32"), (ConvClass::Tf32x3, "tf32x3"), (ConvClass::Tf32, "tf32")]
        {
            let Err(error) = one(&gpu, shape, (class, dtype), steps) else { continue };
            failed_count += 1;
            let graphic = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
            let message: String = error.chain().chars().map(graphic).collect();
            println!("{{{}, \"failure\": {message:?}}}", head(&gpu, shape, dtype));
            gpu.synchronise().map_err(device_error)?;
        }
    }
    match failed_count {
        0 => Ok(()),
        count => Err(Error::invalid(format!("network_rate: {count} cases failed"))),
    }
}

/// The keys that every row begins with.
fn head(gpu: &Gpu, (length, channels, rows): (usize, usize, usize), dtype: &str) -> String {
    let device = &gpu.properties().name;
    format!(
        "\"suite\": \"gpu\", \"case\": \"probe_step_B{rows}_L{length}_C{channels}\", \"impl\": \"glmeval\", \
         \"device\": \"{device}\", \"dtype\": \"{dtype}\""
    )
}

#[expect(clippy::print_stdout, reason = "rows are what this is for")]
fn one(
    gpu: &Gpu,
    (length, channels, rows): (usize, usize, usize),
    (class, dtype): (ConvClass, &str),
    steps: usize,
) -> Result<()> {
    let network = network(length, channels)?;
    let state = NetworkState::draw(&network, Draws::Independent, 1);
    let count = rows * BATCHES;
    let mut rng = Rng::derive(1, "example");
    let mut draw = |count: usize| (0..count).map(|_| rng.normal() as f32).collect::<Vec<f32>>();
    let inputs = DeviceArray::from_slice(gpu, &draw(count * length * channels));
    let inputs = vec![DeviceInput::F32(inputs.map_err(device_error)?)];
    let examples = Arc::new(DeviceExamples { count, inputs });
    let settings = DeviceSettings {
        optimizer: Adam::KERAS,
        dropout_seed: 1,
        batch_size: rows,
        epoch_rows: count,
        class,
        keeps_predictions: false,
    };
    let targets = draw(count);
    let mut fit = DeviceFit::new(gpu, (&network, &state), (examples, &targets), settings)?;
    let order: Vec<u32> = (0..count as u32).collect();
    let mut times = Vec::new();
    for step in 0..steps {
        if step % BATCHES == 0 {
            fit.begin_epoch(&order, 1e-4)?;
        }
        let mut failed = None;
        let time = gpu.measure(|| {
            failed = fit.step().err();
            Ok(())
        });
        failed.map_or(Ok(()), Err)?;
        // Kernels are loaded by the first step, and the second is recorded.
        times.extend(time.map_err(device_error)?.filter(|_| step >= 3));
    }
    if !fit.losses()?.iter().all(|loss| loss.is_finite()) {
        return Err(Error::invalid("network_rate: expected a finite loss"));
    }
    times.sort_by(f64::total_cmp);
    let number = |x: Option<&f64>| x.map_or("null".to_owned(), |x| format!("{x:.6}"));
    let median = times.get(times.len() / 2);
    let flop = 3.0 * 2.0 * network.resolved().products() as f64 * rows as f64;
    println!(
        "{{{}, \"median_ms\": {}, \"min_ms\": {}, \"n\": {}, \"tflops\": {}}}",
        head(gpu, (length, channels, rows), dtype),
        number(median),
        number(times.first()),
        times.len(),
        number(median.map(|ms| flop / ms / 1e9).as_ref())
    );
    Ok(())
}
