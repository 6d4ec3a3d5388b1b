// Statistics of channels over all rows of a batch, and what normalisations make of them.
//
// Grid: blocks of 256 threads that own 32 channels; `slice_statistics` also a slice of 128 rows, of which a thread keeps its 16
// in registers: x is read once, 4 bytes an element, and that limits it. The other kernels read partial sums (1/43 of x) or
// channels only; their time is a launch. Numerics: as the CPU form: sums around the mean of each slice in f32, slices merged in
// f64 in a fixed order, so a mean far from zero costs no digits and the bits depend on the rows alone.

// partial[slice]: rough mean, sum of what lies around it, sum of its squares; [3, width] each.
KERNEL(256, slice_statistics)(const float* RESTRICT x, float* RESTRICT partial, u32 rows, u32 width) {
    SHARED(memory);
    float* scratch = (float*)memory;
    const u32 column = blockIdx.x * 32 + lane_index();
    const u32 first = blockIdx.y * SLICE_ROWS, own = first + warp_index() * WARP_ROWS;
    const bool there = column < width;
    float value[WARP_ROWS];
    float sum = 0.0f;
    UNROLL
    for (u32 i = 0; i < WARP_ROWS; i++) {
        value[i] = there && own + i < rows ? x[(u64)(own + i) * width + column] : 0.0f;
        sum += value[i];
    }
    const float mean = add_warps(sum, scratch) / (float)min(rows - first, (u32)SLICE_ROWS);
    float rest = 0.0f, squares = 0.0f;
    UNROLL
    for (u32 i = 0; i < WARP_ROWS; i++) {
        const float apart = own + i < rows ? value[i] - mean : 0.0f;
        rest += apart;
        squares = fmaf(apart, apart, squares);
    }
    rest = add_warps(rest, scratch);
    squares = add_warps(squares, scratch);
    if (there && warp_index() == 0) {
        float* out = partial + (u64)blockIdx.y * 3 * width + column;
        out[0] = mean;
        out[width] = rest;
        out[2 * width] = squares;
    }
}

// What one channel's statistics become; `moving` holds nothing where they are not kept.
struct Channel {
    float* mean;
    float* inverse;
    float* scale;
    const float* gamma;
    float* moving_mean;
    float* moving_variance;
    float epsilon, momentum;
};
DEVICE void finish(const Channel& into, u32 column, double mean, double variance) {
    const float mean_rounded = (float)mean, variance_rounded = (float)(variance > 0.0 ? variance : 0.0);
    const float inverse = (float)(1.0 / sqrt((double)variance_rounded + (double)into.epsilon));
    into.mean[column] = mean_rounded;
    into.inverse[column] = inverse;
    into.scale[column] = inverse * (into.gamma ? into.gamma[column] : 1.0f);
    if (into.moving_mean) {
        const float rest = 1.0f - into.momentum;
        into.moving_mean[column] = fmaf(into.momentum, into.moving_mean[column], rest * mean_rounded);
        into.moving_variance[column] = fmaf(into.momentum, into.moving_variance[column], rest * variance_rounded);
    }
}

KERNEL(256, merge_statistics)
(const float* RESTRICT partial, float* mean, float* inverse, float* scale, const float* gamma, float* moving_mean,
 float* moving_variance, u32 rows, u32 width, u32 slices, float epsilon, float momentum) {
    SHARED(memory);
    double* scratch = (double*)memory;
    const u32 column = blockIdx.x * 32 + lane_index();
    const bool there = column < width;
    const float* own = partial + column;
    const u64 stride = 3 * (u64)width;
    double sum = 0.0;
    for (u32 slice = warp_index(); there && slice < slices; slice += WARPS) {
        const u32 count = min(rows - slice * SLICE_ROWS, (u32)SLICE_ROWS);
        sum += (double)count * (double)own[slice * stride] + (double)own[slice * stride + width];
    }
    const double middle = add_warps(sum, scratch) / (double)rows;
    double squares = 0.0;
    for (u32 slice = warp_index(); there && slice < slices; slice += WARPS) {
        const u32 count = min(rows - slice * SLICE_ROWS, (u32)SLICE_ROWS);
        // Around the rough mean; moved to the middle of all.
        const double apart = (double)own[slice * stride] - middle, rest = (double)own[slice * stride + width];
        squares += (double)own[slice * stride + 2 * width] + apart * ((double)count * apart + 2.0 * rest);
    }
    squares = add_warps(squares, scratch);
    if (!there || warp_index() != 0) return;
    const Channel into = {mean, inverse, scale, gamma, moving_mean, moving_variance, epsilon, momentum};
    finish(into, column, middle, squares / (double)rows);
}

// From sums of single examples, the examples of the batch named by `index`.
KERNEL(256, statistics_of_sums)
(const float* RESTRICT sums, const float* RESTRICT square_sums, const float* RESTRICT shift, const u32* RESTRICT index,
 const u64* RESTRICT batch, float* mean, float* inverse, float* scale, const float* gamma, float* moving_mean,
 float* moving_variance, u32 examples, u32 batch_size, u32 rows, u32 width, float epsilon, float momentum) {
    SHARED(memory);
    double* scratch = (double*)memory;
    const u32 column = blockIdx.x * 32 + lane_index();
    const bool there = column < width;
    const u32* own = index + (batch ? batch[0] * batch_size : 0);
    double sum = 0.0, squares = 0.0;
    for (u32 example = warp_index(); there && example < examples; example += WARPS) {
        const u64 at = (u64)own[example] * width + column;
        sum += (double)sums[at];
        squares += (double)square_sums[at];
    }
    sum = add_warps(sum, scratch) / (double)rows;
    squares = add_warps(squares, scratch) / (double)rows;
    if (!there || warp_index() != 0) return;
    const Channel into = {mean, inverse, scale, gamma, moving_mean, moving_variance, epsilon, momentum};
    finish(into, column, (double)shift[column] + sum, squares - sum * sum);
}

KERNEL(256, moving_scales)
(const float* RESTRICT variance, const float* gamma, float* RESTRICT inverse, float* RESTRICT scale, u32 width, float epsilon) {
    const u32 column = blockIdx.x * 256 + threadIdx.x;
    if (column >= width) return;
    const float own = (float)(1.0 / sqrt((double)variance[column] + (double)epsilon));
    inverse[column] = own;
    scale[column] = own * (gamma ? gamma[column] : 1.0f);
}

// out = (x - mean) inverse
KERNEL(256, standardise)
(const float* RESTRICT x, const float* RESTRICT mean, const float* RESTRICT inverse, float* RESTRICT out, u32 count, u32 width) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i >= count) break;
        const u32 column = i % width;
        out[i] = (x[i] - mean[column]) * inverse[column];
    }
}

// W'[c,k] = gamma[c] W[c,k], b'[k] = b[k] + sum_c beta[c] W[c,k]: a block owns 32 columns k, its warps take rows c in turn.
KERNEL(256, fold)
(const float* RESTRICT weights, const float* RESTRICT bias, const float* RESTRICT gamma, const float* RESTRICT beta,
 float* RESTRICT folded, float* RESTRICT folded_bias, u32 rows, u32 width) {
    SHARED(memory);
    double* scratch = (double*)memory;
    const u32 column = blockIdx.x * 32 + lane_index();
    const bool there = column < width;
    double shift = 0.0;
    for (u32 row = warp_index(); there && row < rows; row += WARPS) {
        const float weight = weights[(u64)row * width + column];
        folded[(u64)row * width + column] = gamma[row] * weight;
        shift += (double)beta[row] * (double)weight;
    }
    shift = add_warps(shift, scratch);
    if (there && warp_index() == 0) folded_bias[column] = (float)((bias ? (double)bias[column] : 0.0) + shift);
}

// dgamma[c] = sum_k W[c,k] dW'[c,k], dbeta[c] = sum_k W[c,k] db[k], dW = gamma dW' + beta db in place: a warp owns a row c.
KERNEL(256, unfold)
(const float* RESTRICT weights, const float* RESTRICT dbias, const float* RESTRICT gamma, const float* RESTRICT beta,
 float* RESTRICT dweights, float* RESTRICT dgamma, float* RESTRICT dbeta, u32 rows, u32 width) {
    const u32 row = blockIdx.x * 8 + warp_index();
    if (row >= rows) return;
    const float own_gamma = gamma[row], own_beta = beta[row];
    double scale = 0.0, shift = 0.0;
    for (u32 column = lane_index(); column < width; column += 32) {
        const u64 at = (u64)row * width + column;
        const float weight = weights[at], dweight = dweights[at];
        scale += (double)weight * (double)dweight;
        shift += (double)weight * (double)dbias[column];
        dweights[at] = fmaf(own_gamma, dweight, own_beta * dbias[column]);
    }
    scale = warp_sum(scale);
    shift = warp_sum(shift);
    if (lane_index() == 0) {
        dgamma[row] = (float)scale;
        dbeta[row] = (float)shift;
    }
}
