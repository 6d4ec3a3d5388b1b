// out[i] = x[i] rounded to bf16: a bias in the type that the library adds to bf16 results.
//
// Grid: one block for every THREADS values. Block: THREADS threads, one value each.
// Bytes moved per element: reads 4, writes 2. Assumes nothing of count.
// Numerics: nearest, ties to even.
//
// Defines: THREADS.

KERNEL(THREADS, narrow)(const float* RESTRICT x, bf16* RESTRICT out, u32 count) {
    const u32 i = blockIdx.x * THREADS + threadIdx.x;
    if (i < count) out[i] = from_float<bf16>(x[i]);
}
