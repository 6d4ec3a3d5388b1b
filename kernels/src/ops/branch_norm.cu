// y[n,:] = (x[n,:] - mean[n]) * rstd[n] * weight[:] + bias[:], its gelu with erf where GELU; where there is a sum, y is added to it
// and the total counts as y; out[n,:] = y where there is an out.
// `token_rows`: out[n,:] = table[ids[n],:].
//
// Grid: `branch_norm` 8 rows a block, a warp a row; lane l owns columns l, l + 32, ..., in registers up to 32 of them.
// `token_rows` a block a row.
// Bytes moved per element: reads x (and the sum), writes the sum and out; x comes once from memory. Limit: bytes.
// Assumes width <= 32 * PER_LANE, or any where it is 0: x is read thrice then, out of L1; ids below the table's rows.
// Numerics: mean, then squares of the differences from it, f32 sums over a lane's columns and then a butterfly: the row's own bits.
//
// Defines: PER_LANE (0, 4, 16, 32), GELU, OUT_BF16.

#if OUT_BF16
typedef bf16 Out;
#else
typedef float Out;
#endif

KERNEL_RESIDENT(256, 2, branch_norm)
(const float* x, const float* RESTRICT weight, const float* RESTRICT bias, float* sum, Out* out, u32 rows, u32 width, float eps) {
    const u64 row = (u64)blockIdx.x * 8 + warp_index();
    if (row >= rows) return;
    const u64 start = row * width;
    const u32 count = PER_LANE ? PER_LANE : (width + 31) / 32;
    float values[PER_LANE ? PER_LANE : 1];
    const auto read = [=](u32 i) {
        const u32 column = lane_index() + 32 * i;
        return column < width ? x[start + column] : 0.0f;
    };
    const auto value = [&](u32 i) { return PER_LANE ? values[PER_LANE ? i : 0] : read(i); };
    float total = 0.0f;
    UNROLL
    for (u32 i = 0; i < count; i++) {
        const float now = read(i);
        if (PER_LANE) values[i] = now;
        total += now;
    }
    const float mean = warp_sum(total) / (float)width;
    float squares = 0.0f;
    UNROLL
    for (u32 i = 0; i < count; i++) {
        const float difference = lane_index() + 32 * i < width ? value(i) - mean : 0.0f;
        squares += difference * difference;
    }
    const float rstd = 1.0f / sqrtf(warp_sum(squares) / (float)width + eps);
    UNROLL
    for (u32 i = 0; i < count; i++) {
        const u32 column = lane_index() + 32 * i;
        if (column < width) {
            float y = (value(i) - mean) * rstd * weight[column] + (bias ? bias[column] : 0.0f);
            if (GELU) y = 0.5f * y * erfcf(-0.707106781f * y);
            if (sum) {
                y += sum[start + column];
                sum[start + column] = y;
            }
            if (out) out[start + column] = from_float<Out>(y);
        }
    }
}

KERNEL(128, token_rows)
(const u32* RESTRICT ids, const float* RESTRICT table, float* RESTRICT out, u32 width) {
    const u64 from = (u64)ids[blockIdx.x] * width, to = (u64)blockIdx.x * width;
    for (u32 column = threadIdx.x; column < width; column += 128) out[to + column] = table[from + column];
}
