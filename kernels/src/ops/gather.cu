// gather: out[b,:] = (x[index[b],:] - mean) inverse: the examples of a batch, normalised on the way where they are to be.
// scatter: out[batch_size batch + b,:] = x[b,:]: what was found of a batch, to its place among all. next_batch: batch + 1.
//
// Grid, of next_batch one thread: a block of 256 threads for each 1024 successive values of an example; thread t owns those at t, t + 256, t + 512, t + 768.
// Bytes moved per value: reads 4 or 2, writes 4; device memory limits it. The number of the batch lies in memory, so that a
// recorded launch serves all batches of an epoch. Assumes indices of examples that are there: the host checked them.
// Numerics: two roundings, as the CPU's `Affine`.
//
// Defines: VALUE (0: f32, 1: f16, 2: bf16 are stored).

#if VALUE == 1
typedef f16 Value;
#elif VALUE == 2
typedef bf16 Value;
#else
typedef float Value;
#endif

KERNEL(256, gather)
(const Value* RESTRICT x, const u32* RESTRICT index, const u64* RESTRICT batch, const float* RESTRICT mean,
 const float* RESTRICT inverse, float* RESTRICT out, u32 batch_size, u32 values, u32 width) {
    const u64 place = (batch ? batch[0] * batch_size : 0) + blockIdx.y;
    const u64 from = (u64)index[place] * values, to = (u64)blockIdx.y * values;
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i >= values) break;
        float value = to_float(x[from + i]);
        if (mean) {
            const u32 column = i % width;
            value = (value - mean[column]) * inverse[column];
        }
        out[to + i] = value;
    }
}

KERNEL(256, scatter)
(const float* RESTRICT x, const u64* RESTRICT batch, float* RESTRICT out, u32 batch_values, u32 values) {
    const u64 to = batch[0] * batch_values;
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i >= values) break;
        out[to + i] = x[i];
    }
}

KERNEL(32, next_batch)
(u64* RESTRICT batch) {
    if (threadIdx.x == 0) batch[0] += 1;
}
