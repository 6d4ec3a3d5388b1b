// out[b,p,c] = max over j of x[b, p window + j, c] + y[b, p window + j, c], or the maximum with zero where RELU; NaN if any is.
// y may be missing; a window of one is a plain sum.
//
// Grid: a thread an output, channels next to each other, so that a warp reads whole lines. Block: 256 threads.
// Bytes moved per output: reads `window` values of x (and y), writes one. Limit: bytes. Assumes nothing of alignment.
// Numerics: exact but for the sum, which is rounded once.
//
// Defines: RELU, OUT_BF16.

#if OUT_BF16
typedef bf16 Out;
#else
typedef float Out;
#endif

KERNEL(256, max_pool)
(const float* x, const float* y, Out* out, u64 count, u32 length, u32 width, u32 window) {
    const u64 index = (u64)blockIdx.x * 256 + threadIdx.x;
    if (index >= count) return;
    const u32 windows = length / window;
    const u64 row = index / width;
    const u64 sequence = row / windows, position = row % windows;
    const u64 start = (sequence * length + position * window) * width + index % width;
    float largest = x[start];
    if (y) largest += y[start];
    for (u32 j = 1; j < window; j++) {
        float value = x[start + (u64)j * width];
        if (y) value += y[start + (u64)j * width];
        if (value > largest || value != value) largest = value;
    }
    if (RELU && largest < 0.0f) largest = 0.0f;
    out[index] = from_float<Out>(largest);
}
