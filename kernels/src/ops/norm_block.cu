// Normalisation, a function, dropout, max pool, dropout in one pass, and the gradient of all of them.
//
// Forward, `norm_block_back`: a block of 256 threads for each 1024 successive elements of what is written; thread t owns those at
// t, t + 256, t + 512, t + 768, the four words of one counter of dropout. `norm_block_sums`: blocks of 32 channels and 128 rows.
// Bytes moved: forward reads x once, writes out and 2 bytes of picked index per output; the gradient reads x twice, dy and picked
// twice (1 / size of x each), writes dx. Limited by device memory; a dropout before a pool adds 100 integer operations an element.
// Assumes fewer than 2^32 elements. What was dropped is kept as "nothing picked", so the gradient draws no mask.
// Numerics: picked indices and masks are the CPU's, and so are values with the same statistics; sums as in slices.cuh.

#define PICKED_NONE 0xffffu
#define DROP_BEFORE 1
#define DROP_AFTER 2

DEVICE bool is_larger(float x, float largest) { return x > largest || (x != x && largest == largest); }

KERNEL(256, norm_block)
(const float* RESTRICT x, const float* RESTRICT mean, const float* RESTRICT scale, const float* RESTRICT beta,
 const u64* RESTRICT draws, float* RESTRICT out, u16* RESTRICT picked, u32 count, u32 width, u32 length, u32 size, u32 function,
 u32 drops, u32 layer_before, u32 threshold_before, float scale_before, u32 layer_after, u32 threshold_after, float scale_after) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    const u32 outputs = length / size;
    u32 word[4];
    if (drops & DROP_AFTER) drop_words(word, first, layer_after, draws);
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i >= count) break;
        const u32 window = i / width, column = i - window * width, sequence = window / outputs;
        const u32 start = (sequence * length + (window - sequence * outputs) * size) * width + column;
        const float own_mean = mean[column], own_scale = scale[column], own_beta = beta[column];
        float largest = 0.0f;
        u32 name = 0;
        for (u32 j = 0; j < size; j++) {
            const u32 at = start + j * width;
            float value = function_value(function, fmaf(x[at] - own_mean, own_scale, own_beta));
            bool kept = true;
            if (drops & DROP_BEFORE) {
                kept = drop_word(at, layer_before, draws) >= threshold_before;
                value = kept ? value * scale_before : 0.0f;
            }
            if (j == 0 || is_larger(value, largest)) {
                largest = value;
                name = kept ? j : PICKED_NONE;
            }
        }
        if (drops & DROP_AFTER) {
            const bool kept = word[part] >= threshold_after;
            largest = kept ? largest * scale_after : 0.0f;
            name = kept ? name : PICKED_NONE;
        }
        out[i] = largest;
        if (picked) picked[i] = (u16)name;
    }
}

// Gradient at the normalised value of one element of x.
struct Given {
    const float* x;
    const float* dy;
    const u16* picked;
    u32 width, length, size, function;
    float scale_before, scale_after;
};
DEVICE float gradient_at(const Given& given, u32 row, u32 column, float apart, float scale, float beta) {
    const u32 sequence = row / given.length, position = row - sequence * given.length, window = position / given.size;
    const u32 outputs = given.length / given.size;
    if (window >= outputs) return 0.0f;
    const u32 at = (sequence * outputs + window) * given.width + column;
    if (given.picked && given.picked[at] != position - window * given.size) return 0.0f;
    const float dy = given.dy[at] * given.scale_after * given.scale_before;
    const float z = fmaf(apart, scale, beta);
    return function_back(given.function, z, function_value(given.function, z), dy);
}

// partial[slice]: sums of dz and of dz (x - mean); [2, width] each.
KERNEL(256, norm_block_sums)
(const float* RESTRICT x, const float* RESTRICT dy, const u16* RESTRICT picked, const float* RESTRICT mean,
 const float* RESTRICT scale, const float* RESTRICT beta, float* RESTRICT partial, u32 rows, u32 width, u32 length, u32 size,
 u32 function, float scale_before, float scale_after) {
    SHARED(memory);
    float* scratch = (float*)memory;
    const Given given = {x, dy, picked, width, length, size, function, scale_before, scale_after};
    const u32 column = blockIdx.x * 32 + lane_index();
    const u32 own = blockIdx.y * SLICE_ROWS + warp_index() * WARP_ROWS;
    const bool there = column < width;
    float plain = 0.0f, weighted = 0.0f;
    if (there) {
        const float own_mean = mean[column], own_scale = scale[column], own_beta = beta[column];
        for (u32 row = own; row < own + WARP_ROWS && row < rows; row++) {
            const float apart = x[row * width + column] - own_mean;
            const float dz = gradient_at(given, row, column, apart, own_scale, own_beta);
            plain += dz;
            weighted = fmaf(dz, apart, weighted);
        }
    }
    plain = add_warps(plain, scratch);
    weighted = add_warps(weighted, scratch);
    if (there && warp_index() == 0) {
        float* out = partial + (u64)blockIdx.y * 2 * width + column;
        out[0] = plain;
        out[width] = weighted;
    }
}

// dgamma, dbeta, and by[0] = mean of dz, by[width] = its slope with the distance from the mean; `share` is 1 / rows in training,
// else 0.
KERNEL(256, norm_block_merge)
(const float* RESTRICT partial, const float* RESTRICT inverse, float* RESTRICT dgamma, float* RESTRICT dbeta, float* RESTRICT by,
 u32 slices, u32 width, u32 shared_rows) {
    SHARED(memory);
    double* scratch = (double*)memory;
    const u32 column = blockIdx.x * 32 + lane_index();
    const bool there = column < width;
    const u64 stride = 2 * (u64)width;
    const double plain = merge_slices(partial + column, slices, stride, there, scratch);
    const double weighted = merge_slices(partial + width + column, slices, stride, there, scratch);
    if (!there || warp_index() != 0) return;
    const double share = shared_rows == 0 ? 0.0 : 1.0 / (double)shared_rows, own = (double)inverse[column];
    dgamma[column] = (float)(weighted * own);
    dbeta[column] = (float)plain;
    by[column] = (float)(plain * share);
    by[width + column] = (float)(weighted * share * own * own);
}

KERNEL(256, norm_block_back)
(const float* RESTRICT x, const float* RESTRICT dy, const u16* RESTRICT picked, const float* RESTRICT mean,
 const float* RESTRICT scale, const float* RESTRICT beta, const float* RESTRICT by, float* RESTRICT dx, u32 count, u32 width,
 u32 length, u32 size, u32 function, float scale_before, float scale_after) {
    const Given given = {x, dy, picked, width, length, size, function, scale_before, scale_after};
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i >= count) break;
        const u32 row = i / width, column = i - row * width;
        const float apart = x[i] - mean[column], own_scale = scale[column];
        const float dz = gradient_at(given, row, column, apart, own_scale, beta[column]);
        dx[i] = fmaf(apart, -by[width + column], dz - by[column]) * own_scale;
    }
}
