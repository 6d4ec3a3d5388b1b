// Sums of arrays, sums of columns, parts of rows moved.
//
// Elements: a block of 256 threads for each 1024 successive elements; thread t owns those at t, t + 256, t + 512, t + 768.
// `column_slices`: blocks of 32 columns and 128 rows; `merge_columns`: blocks of 32 columns. Bytes moved: each operand once;
// device memory limits all but `merge_columns`. Assumes fewer than 2^32 elements. Numerics: sums of columns as in slices.cuh,
// rounded to f32 once.

// out = a + b; out may be a.
KERNEL(256, add)(const float* a, const float* b, float* out, u32 count) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i < count) out[i] = a[i] + b[i];
    }
}

KERNEL(256, column_slices)(const float* RESTRICT x, float* RESTRICT partial, u32 rows, u32 width) {
    SHARED(memory);
    const u32 column = blockIdx.x * 32 + lane_index();
    const u32 own = blockIdx.y * SLICE_ROWS + warp_index() * WARP_ROWS;
    const bool there = column < width;
    float sum = 0.0f;
    UNROLL
    for (u32 i = 0; i < WARP_ROWS; i++) sum += there && own + i < rows ? x[(u64)(own + i) * width + column] : 0.0f;
    sum = add_warps(sum, (float*)memory);
    if (there && warp_index() == 0) partial[(u64)blockIdx.y * width + column] = sum;
}

KERNEL(256, merge_columns)(const float* RESTRICT partial, float* RESTRICT sums, u32 slices, u32 width) {
    SHARED(memory);
    const u32 column = blockIdx.x * 32 + lane_index();
    const bool there = column < width;
    const double sum = merge_slices(partial + column, slices, width, there, (double*)memory);
    if (there && warp_index() == 0) sums[column] = (float)sum;
}

// to[row, to_start..][..width] = from[row, from_start..][..width]; zeros where there is no `from`.
KERNEL(256, copy_columns)
(const float* RESTRICT from, float* RESTRICT to, u32 count, u32 width, u32 from_stride, u32 from_start, u32 to_stride, u32 to_start) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i >= count) break;
        const u32 row = i / width, column = i - row * width;
        to[(u64)row * to_stride + to_start + column] = from ? from[(u64)row * from_stride + from_start + column] : 0.0f;
    }
}
