// out[n,:] = (x[n,:] - mean[n]) * rstd[n] * weight[:] + bias[:], with x[n,:] += branch[n,:] before it where there is a branch.
//
// Grid: one block a row. Block: THREADS threads; thread t owns columns t, t + THREADS, ... and keeps them in registers.
// Bytes moved per element: reads x (and branch), writes out (and x). Assumes D <= THREADS * PER_THREAD.
// Numerics: mean, then squares of the differences from it, both f32 sums in a fixed order: the row's bits are its own.
//
// Defines: THREADS, PER_THREAD, OUT_BF16 (out is bf16, else f32).

#if OUT_BF16
typedef bf16 Out;
#else
typedef float Out;
#endif

KERNEL(THREADS, layer_norm)
(float* RESTRICT x, const float* RESTRICT branch, const float* RESTRICT weight, const float* RESTRICT bias, Out* RESTRICT out,
 u32 width, float eps) {
    SHARED(memory);
    float* scratch = (float*)memory;
    const u64 row = (u64)blockIdx.x * width;
    float values[PER_THREAD];
    float sum = 0.0f;
    UNROLL
    for (u32 i = 0; i < PER_THREAD; i++) {
        const u32 column = threadIdx.x + i * THREADS;
        values[i] = 0.0f;
        if (column < width) {
            values[i] = x[row + column];
            if (branch) {
                values[i] += branch[row + column];
                x[row + column] = values[i];
            }
            sum += values[i];
        }
    }
    const float mean = block_sum(sum, scratch) / (float)width;
    float squares = 0.0f;
    UNROLL
    for (u32 i = 0; i < PER_THREAD; i++) {
        const float difference = values[i] - mean;
        if (threadIdx.x + i * THREADS < width) squares += difference * difference;
    }
    const float rstd = 1.0f / sqrtf(block_sum(squares, scratch) / (float)width + eps);
    UNROLL
    for (u32 i = 0; i < PER_THREAD; i++) {
        const u32 column = threadIdx.x + i * THREADS;
        if (column < width) {
            const float shift = bias ? bias[column] : 0.0f;
            out[row + column] = from_float<Out>((values[i] - mean) * rstd * weight[column] + shift);
        }
    }
}
