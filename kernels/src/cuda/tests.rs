//! The emulator catches what it is there to catch, and does what a device does.

mod words;

use super::testing::for_each_device;
use super::*;
use crate::error::KernelError;

static PLANTED: Source = Source {
    name: "planted",
    text: r#"
KERNEL(64, reverse)(const float* x, float* out, u32 count) {
    SHARED(memory);
    float* shared = (float*)memory;
    shared[threadIdx.x] = threadIdx.x < count ? x[threadIdx.x] : 0.0f;
#if HAS_BARRIER
    __syncthreads();
#endif
    out[threadIdx.x + OFFSET] = shared[count - 1 - threadIdx.x];
}
KERNEL(64, copy_through)(const float* x, float* out) {
    SHARED(memory);
    float* shared = (float*)memory;
    copy_async_16(shared + 4 * threadIdx.x, x + 4 * threadIdx.x, threadIdx.x != 1);
    copy_async_commit();
#if HAS_BARRIER
    copy_async_wait<0>();
#endif
    __syncthreads();
    for (u32 i = threadIdx.x; i < 4 * blockDim.x; i += blockDim.x) out[i] = shared[i];
#if !HAS_BARRIER
    copy_async_wait<0>();
#endif
}
KERNEL(64, leave_early)(float* out) {
    if (threadIdx.x == 3) return;
    __syncthreads();
    out[threadIdx.x] = 1.0f;
}
KERNEL(64, all_to_one)(float* out) { out[0] = (float)blockIdx.x; }
KERNEL(64, from_the_next)(float* out) { out[blockIdx.x] = out[blockIdx.x + 1]; }
KERNEL(32, multiply)(const u32* a, const u32* b, float* out) {
    const u32 lane = lane_index();
    u32 left[4];
    for (u32 i = 0; i < 4; i++) left[i] = a[4 * lane + i];
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    multiply_bf16(sums, left, b[2 * lane], b[2 * lane + 1]);
    for (u32 i = 0; i < 4; i++) out[4 * lane + i] = sums[i];
}
"#,
    kernels: &["reverse", "copy_through", "leave_early", "all_to_one", "from_the_next", "multiply"],
    instances: &[],
};

fn reverse(gpu: &Gpu, has_barrier: i64, offset: i64) -> Result<Vec<f32>> {
    let x: Vec<f32> = (0..64_u8).map(f32::from).collect();
    let x = DeviceArray::from_slice(gpu, &x)?;
    let mut out = DeviceArray::<f32>::zeros(gpu, 64)?;
    let kernel =
        gpu.kernel(&PLANTED, "reverse", &[("HAS_BARRIER", has_barrier), ("OFFSET", offset)])?;
    let arguments = Arguments::new().array(&x.view()).output(&out.view_mut()).u32(64);
    // SAFETY: 64 threads, arrays of 64; an offset is only given to the emulator, which refuses it.
    unsafe { kernel.launch(LaunchShape::line(1, 64).shared(256), arguments)? };
    out.to_vec()
}

fn message(result: Result<Vec<f32>>) -> String {
    match result {
        Err(KernelError::Device { message, .. }) => message,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[test]
fn a_kernel_runs_on_every_device() {
    for_each_device(|gpu| {
        let expected: Vec<f32> = (0..64_u8).rev().map(f32::from).collect();
        assert_eq!(reverse(gpu, 1, 0)?, expected);
        Ok(())
    });
}

#[test]
fn a_missing_barrier_is_found() {
    let said = message(reverse(&Gpu::emulated().unwrap(), 0, 0));
    assert!(said.contains("since the last barrier") || said.contains("before anything"), "{said}");
}

#[test]
fn a_write_past_an_array_is_found() {
    let said = message(reverse(&Gpu::emulated().unwrap(), 1, 1));
    assert!(said.contains("thread (63, 0, 0)") && said.contains("out of bounds"), "{said}");
}

fn copy_through(has_wait: i64) -> Result<Vec<f32>> {
    let gpu = Gpu::emulated()?;
    let x: Vec<f32> = (0..32_u8).map(f32::from).collect();
    let x = DeviceArray::from_slice(&gpu, &x)?;
    let mut out = DeviceArray::<f32>::zeros(&gpu, 32)?;
    let kernel =
        gpu.kernel(&PLANTED, "copy_through", &[("HAS_BARRIER", has_wait), ("OFFSET", 0)])?;
    let arguments = Arguments::new().array(&x.view()).output(&out.view_mut());
    // SAFETY: 8 threads of 4 values each.
    unsafe { kernel.launch(LaunchShape::line(1, 8).shared(128), arguments)? };
    out.to_vec()
}

#[test]
fn copies_land_when_they_are_waited_for() {
    let mut expected: Vec<f32> = (0..32_u8).map(f32::from).collect();
    expected[4..8].fill(0.0);
    assert_eq!(copy_through(1).unwrap(), expected);
    let said = message(copy_through(0));
    assert!(said.contains("copy to it is under way"), "{said}");
}

fn launch(kernel: &'static str, grid: usize, threads: u32) -> Result<Vec<f32>> {
    let gpu = Gpu::emulated()?;
    let mut out = DeviceArray::<f32>::zeros(&gpu, 64)?;
    let kernel = gpu.kernel(&PLANTED, kernel, &[("HAS_BARRIER", 1), ("OFFSET", 0)])?;
    // SAFETY: 64 threads at most, each with its own value or all with the first.
    unsafe {
        kernel.launch(LaunchShape::line(grid, threads), Arguments::new().output(&out.view_mut()))?
    };
    out.to_vec()
}

#[test]
fn a_thread_that_never_comes_to_a_barrier_is_found() {
    let said = message(launch("leave_early", 1, 64));
    assert!(said.contains("63 threads wait at a barrier and 1 have ended"), "{said}");
}

#[test]
fn blocks_that_write_one_value_are_found() {
    let said = message(launch("all_to_one", 2, 1));
    assert!(said.contains("block 0 of this launch wrote it"), "{said}");
}

#[test]
fn a_block_that_writes_what_another_reads_is_found() {
    let said = message(launch("from_the_next", 2, 1));
    assert!(said.contains("block 0 of this launch read it"), "{said}");
}

#[test]
fn a_warps_product_is_a_product() {
    for_each_device(|gpu| {
        let left: Vec<f32> =
            super::testing::draw(1, 256).iter().map(|x| Bf16::from_f32(*x).to_f32()).collect();
        let right: Vec<f32> =
            super::testing::draw(2, 128).iter().map(|x| Bf16::from_f32(*x).to_f32()).collect();
        let pair = |low: f32, high: f32| {
            u32::from(Bf16::from_f32(low).0) | u32::from(Bf16::from_f32(high).0) << 16
        };
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for lane in 0..32 {
            let (r, c) = (lane / 4, 2 * (lane % 4));
            for (row, column) in [(r, c), (r + 8, c), (r, c + 8), (r + 8, c + 8)] {
                a.push(pair(left[row * 16 + column], left[row * 16 + column + 1]));
            }
            for k in [c, c + 8] {
                b.push(pair(right[k * 8 + r], right[(k + 1) * 8 + r]));
            }
        }
        let (a, b) = (DeviceArray::from_slice(gpu, &a)?, DeviceArray::from_slice(gpu, &b)?);
        let mut out = DeviceArray::<f32>::new(gpu, 128)?;
        let kernel = gpu.kernel(&PLANTED, "multiply", &[("HAS_BARRIER", 1), ("OFFSET", 0)])?;
        let arguments = Arguments::new().array(&a.view()).array(&b.view()).output(&out.view_mut());
        // SAFETY: one warp; four values of a, two of b and four of out for each lane.
        unsafe { kernel.launch(LaunchShape::line(1, 32), arguments)? };
        let found = out.to_vec()?;
        for lane in 0..32 {
            for i in 0..4 {
                let (r, c) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
                let sum: f32 = (0..16).map(|k| left[r * 16 + k] * right[k * 8 + c]).sum();
                assert!((found[4 * lane + i] - sum).abs() < 1e-5);
            }
        }
        Ok(())
    });
}

#[test]
fn recorded_work_is_done_when_it_is_run() {
    for_each_device(|gpu| {
        let x = DeviceArray::from_slice(gpu, &[1.0_f32, 2.0])?;
        let mut y = DeviceArray::<f32>::zeros(gpu, 2)?;
        let graph = gpu.record(|| y.view_mut().copy_from(x.view()))?;
        assert_eq!(y.to_vec()?, [0.0, 0.0]);
        // SAFETY: both arrays are there.
        unsafe { graph.run()? };
        assert_eq!(y.to_vec()?, [1.0, 2.0]);
        Ok(())
    });
}

#[test]
fn a_product_adds_bias_and_what_was_there() {
    let gpu = Gpu::emulated().unwrap();
    let array = |values: &[f32]| DeviceArray::from_slice(&gpu, values).unwrap();
    let (x, w, bias) =
        (array(&[1.0, 2.0, 3.0, 4.0]), array(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]), array(&[0.5; 3]));
    let (mut out, mut other) = (array(&[10.0; 6]), array(&[10.0; 6]));
    let product = |rows, out| Product {
        rows,
        columns: 3,
        depth: 2,
        left: Operand::rows(x.view(), 2),
        right: Operand::rows(w.view(), 2),
        bias: Some(bias.view()),
        adds: true,
        out: Output::rows(out, 3),
        class: ProductClass::F32,
    };
    let refused = gpu.multiply(&product(3, other.view_mut()));
    gpu.multiply(&product(2, out.view_mut())).unwrap();
    assert_eq!(out.to_vec().unwrap(), [11.5, 12.5, 13.5, 13.5, 14.5, 17.5]);
    assert!(matches!(refused, Err(KernelError::Shape { operand: "left", .. })));
}

#[test]
fn without_a_driver_there_is_an_error_that_says_so() {
    if let Err(error) = Gpu::open(0, &GpuOptions::default()) {
        assert!(matches!(error, KernelError::NoDevice { .. }), "{error}");
    }
}

#[test]
fn memory_is_bounded_and_serves_again() {
    let gpu = Gpu::emulated_within(4096).unwrap();
    let first = DeviceArray::<f32>::new(&gpu, 512).unwrap();
    assert_eq!(gpu.statistics().used, 2048);
    let Err(KernelError::OutOfMemory { bytes, free, .. }) = DeviceArray::<f32>::new(&gpu, 1024)
    else {
        panic!("there is no room");
    };
    assert_eq!((bytes, free), (4096, 2048));
    drop(first);
    drop(DeviceArray::<f32>::new(&gpu, 1024).unwrap());
    assert_eq!(gpu.statistics().used, 0);
}

#[test]
fn values_come_to_the_host_while_the_device_goes_on() {
    for_each_device(|gpu| {
        // More than one piece of staging, and not a whole number of them.
        let values: Vec<u32> = (0..9_000_001).collect();
        let x = DeviceArray::from_slice(gpu, &values)?;
        let mut other = DeviceArray::<u32>::zeros(gpu, 5)?;
        let view = x.view();
        let downloads = [view.download()?, view.part(7..11).download()?];
        other.view_mut().write(&[1, 2, 3, 4, 5])?;
        let [all, part] = downloads;
        assert_eq!(part.finish()?, values[7..11]);
        assert!(all.finish()? == values);
        assert!(x.to_vec()? == values);
        assert_eq!(other.to_vec()?, [1, 2, 3, 4, 5]);
        Ok(())
    });
}

#[test]
fn copies_from_and_to_the_host_and_new_memory_are_not_recorded() {
    for_each_device(|gpu| {
        let mut x = DeviceArray::<u32>::zeros(gpu, 2)?;
        let refused = gpu.record(|| x.view_mut().write(&[1, 2]));
        assert!(matches!(refused, Err(KernelError::Device { .. })));
        let refused = gpu.record(|| x.to_vec().map(drop));
        assert!(matches!(refused, Err(KernelError::Device { .. })));
        let refused = gpu.record(|| x.view().download().map(drop));
        assert!(matches!(refused, Err(KernelError::Device { .. })));
        let refused = gpu.record(|| DeviceArray::<u32>::new(gpu, 2).map(drop));
        assert!(matches!(refused, Err(KernelError::Device { .. })));
        assert_eq!(x.to_vec()?, [0, 0]);
        Ok(())
    });
}

#[test]
fn arrays_without_values_are_written_copied_and_read() {
    for_each_device(|gpu| {
        let mut x = DeviceArray::<f32>::zeros(gpu, 0)?;
        x.view_mut().write(&[])?;
        let y = DeviceArray::<f32>::from_slice(gpu, &[])?;
        x.view_mut().copy_from(y.view())?;
        assert_eq!(x.to_vec()?, [0.0_f32; 0]);
        assert_eq!(x.view().download()?.finish()?, [0.0_f32; 0]);
        Ok(())
    });
}

#[test]
fn a_device_checks_itself() {
    for_each_device(Gpu::check_itself);
}
