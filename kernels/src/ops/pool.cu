// pool_rows: out[b,:] = mean of the rows x[first..past,:] of the runs starts[b]..starts[b+1], of any number type; a single row is copied.
// pool_pairs: out[b,:] = 0.5 (x[first[b],:] + x[second[b],:]), rows that are no neighbours.
//
// Grid: a block of 256 threads for each 256 columns of a sequence (y: sequences); a thread owns a column and adds its rows one
// after another. Bytes moved: each row read once, 4 per value; device memory limits it. Assumes a row at least of each sequence. Numerics: f64 sums
// in the order of rows, rounded to f32 once and then to OUT: the bits of the CPU form. Pairs are added in f32.
//
// Defines: OUT (code of NumberOf).

typedef NumberOf<OUT>::Type Out;

KERNEL(256, pool_rows)
(const float* RESTRICT x, const u64* RESTRICT runs, const u64* RESTRICT starts, Out* RESTRICT out, u32 width) {
    const u32 column = blockIdx.x * 256 + threadIdx.x;
    if (column >= width) return;
    const u64 past_run = starts[blockIdx.y + 1];
    double sum = 0.0;
    u64 rows = 0;
    for (u64 run = starts[blockIdx.y]; run < past_run; run++) {
        u64 row = runs[2 * run];
        const u64 past = runs[2 * run + 1];
        rows += past - row;
        // Loads of eight rows are under way at a time; additions keep their order.
        for (; row + 8 <= past; row += 8) {
            float values[8];
            UNROLL
            for (u32 i = 0; i < 8; i++) values[i] = x[(row + i) * width + column];
            UNROLL
            for (u32 i = 0; i < 8; i++) sum += (double)values[i];
        }
        for (; row < past; row++) sum += (double)x[row * width + column];
    }
    out[(u64)blockIdx.y * width + column] = from_float<Out>((float)(sum / (double)rows));
}

KERNEL(256, pool_pairs)
(const float* RESTRICT x, const u64* RESTRICT pairs, Out* RESTRICT out, u32 width) {
    const u32 column = blockIdx.x * 256 + threadIdx.x;
    if (column >= width) return;
    const u64 first = pairs[2 * blockIdx.y], second = pairs[2 * blockIdx.y + 1];
    const float sum = x[first * width + column] + x[second * width + column];
    out[(u64)blockIdx.y * width + column] = from_float<Out>(0.5f * sum);
}
