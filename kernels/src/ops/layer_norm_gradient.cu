// Gradients of layer normalisation: dx row by row, then dgamma and dbeta as sums of columns.
//
// `layer_norm_back`: a warp a row, 8 rows a block; lane l owns columns l, l + 32, ...; a row is read from L1 after the first time.
// It leaves mean and inverse deviation of each row for `layer_norm_slices`: blocks of 32 columns and 128 rows. Bytes moved per
// element: 8 read and 4 written, then 8 read; device memory limits it. Assumes fewer than 2^32 elements.
// Numerics: f32 sums in the order of a butterfly, the same for a row wherever it lies; columns as in slices.cuh.

KERNEL(256, layer_norm_back)
(const float* RESTRICT x, const float* RESTRICT dy, const float* RESTRICT gamma, float* RESTRICT dx, float* RESTRICT of_rows,
 u32 rows, u32 width, float epsilon) {
    const u32 row = blockIdx.x * 8 + warp_index();
    if (row >= rows) return;
    const u64 start = (u64)row * width;
    const float count = (float)width;
    float sum = 0.0f;
    for (u32 i = lane_index(); i < width; i += 32) sum += x[start + i];
    const float mean = warp_sum(sum) / count;
    float squares = 0.0f;
    for (u32 i = lane_index(); i < width; i += 32) {
        const float apart = x[start + i] - mean;
        squares = fmaf(apart, apart, squares);
    }
    const float inverse = 1.0f / sqrtf(warp_sum(squares) / count + epsilon);
    if (lane_index() == 0) {
        of_rows[2 * row] = mean;
        of_rows[2 * row + 1] = inverse;
    }
    if (!dx) return;
    float plain = 0.0f, weighted = 0.0f;
    for (u32 i = lane_index(); i < width; i += 32) {
        const float g = dy[start + i] * gamma[i];
        plain += g;
        weighted = fmaf(g, (x[start + i] - mean) * inverse, weighted);
    }
    plain = warp_sum(plain) / count;
    weighted = warp_sum(weighted) / count;
    for (u32 i = lane_index(); i < width; i += 32) {
        const float z = (x[start + i] - mean) * inverse;
        dx[start + i] = fmaf(z, -weighted, dy[start + i] * gamma[i] - plain) * inverse;
    }
}

// partial[slice]: sums of dy and of dy z; [2, width] each.
KERNEL(256, layer_norm_slices)
(const float* RESTRICT x, const float* RESTRICT dy, const float* RESTRICT of_rows, float* RESTRICT partial, u32 rows, u32 width) {
    SHARED(memory);
    float* scratch = (float*)memory;
    const u32 column = blockIdx.x * 32 + lane_index();
    const u32 own = blockIdx.y * SLICE_ROWS + warp_index() * WARP_ROWS;
    const bool there = column < width;
    float plain = 0.0f, weighted = 0.0f;
    for (u32 row = own; there && row < own + WARP_ROWS && row < rows; row++) {
        const u64 at = (u64)row * width + column;
        plain += dy[at];
        weighted = fmaf(dy[at], (x[at] - of_rows[2 * row]) * of_rows[2 * row + 1], weighted);
    }
    plain = add_warps(plain, scratch);
    weighted = add_warps(weighted, scratch);
    if (there && warp_index() == 0) {
        float* out = partial + (u64)blockIdx.y * 2 * width + column;
        out[0] = plain;
        out[width] = weighted;
    }
}

KERNEL(256, layer_norm_merge)
(const float* RESTRICT partial, float* RESTRICT dgamma, float* RESTRICT dbeta, u32 slices, u32 width) {
    SHARED(memory);
    double* scratch = (double*)memory;
    const u32 column = blockIdx.x * 32 + lane_index();
    const bool there = column < width;
    const double plain = merge_slices(partial + column, slices, 2 * (u64)width, there, scratch);
    const double weighted = merge_slices(partial + width + column, slices, 2 * (u64)width, there, scratch);
    if (!there || warp_index() != 0) return;
    dgamma[column] = (float)weighted;
    dbeta[column] = (float)plain;
}
