// out = f(x), and dx = dy f'(x), element by element; softmax over rows.
//
// Elements: a block of 256 threads owns 1024 successive elements, thread t those at t, t + 256, t + 512, t + 768, so that four
// loads are under way at once. Rows: a warp a row, lane l owns columns l, l + 32, ...; it reads them three times, from L1 after
// the first. Bytes moved per element: value reads 4, writes 4; gradient reads 12, writes 4. Limited by device memory.
// Assumes fewer than 2^32 elements. Numerics: element functions have the bits of the CPU form where products are not fused by
// the compiler; softmax sums in the order of a butterfly, the same for a row wherever it lies.

KERNEL(256, apply)(const float* RESTRICT x, float* RESTRICT out, u32 count, u32 function) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i < count) out[i] = function_value(function, x[i]);
    }
}

KERNEL(256, gradient)
(const float* RESTRICT x, const float* RESTRICT y, const float* RESTRICT dy, float* RESTRICT dx, u32 count, u32 function) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i < count) dx[i] = function_back(function, x[i], y[i], dy[i]);
    }
}

KERNEL(256, softmax)(const float* RESTRICT x, float* RESTRICT out, u32 rows, u32 width) {
    const u32 row = blockIdx.x * 8 + warp_index();
    if (row >= rows) return;
    const u64 start = (u64)row * width;
    float largest = __uint_as_float(0xff800000u);
    for (u32 i = lane_index(); i < width; i += 32) largest = fmaxf(largest, x[start + i]);
    largest = warp_max(largest);
    float sum = 0.0f;
    for (u32 i = lane_index(); i < width; i += 32) sum += exponential(x[start + i] - largest);
    sum = warp_sum(sum);
    for (u32 i = lane_index(); i < width; i += 32) out[start + i] = exponential(x[start + i] - largest) / sum;
}

KERNEL(256, softmax_gradient)
(const float* RESTRICT y, const float* RESTRICT dy, float* RESTRICT dx, u32 rows, u32 width) {
    const u32 row = blockIdx.x * 8 + warp_index();
    if (row >= rows) return;
    const u64 start = (u64)row * width;
    float sum = 0.0f;
    for (u32 i = lane_index(); i < width; i += 32) sum = fmaf(y[start + i], dy[start + i], sum);
    sum = warp_sum(sum);
    for (u32 i = lane_index(); i < width; i += 32) dx[start + i] = y[start + i] * (dy[start + i] - sum);
}
