// Weighting of positions by splines, and its gradients.
//
// `factors`: a thread for each position and channel. `weigh`: a block of 256 threads for each 1024 successive elements.
// `products`: a thread for each position and channel adds over sequences; `combine`: a thread for each weight adds over positions.
// Bytes moved: x and out once, x and dy once; a spline has some ten bases, so the rest is small. Assumes fewer than 2^32 elements.
// Numerics: factors are one chain over the bases; products and weights are f64 sums in order, as the CPU's.

KERNEL(256, factors)
(const float* RESTRICT basis, const float* RESTRICT weights, float* RESTRICT factors, u32 count, u32 bases, u32 width) {
    const u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    const u32 position = i / width, column = i - position * width;
    float factor = 1.0f;
    for (u32 n = 0; n < bases; n++) factor = fmaf(basis[position * bases + n], weights[n * width + column], factor);
    factors[i] = factor;
}

KERNEL(256, weigh)(const float* RESTRICT x, const float* RESTRICT factors, float* RESTRICT out, u32 count, u32 factor_count) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i < count) out[i] = x[i] * factors[i % factor_count];
    }
}

KERNEL(256, products)
(const float* RESTRICT x, const float* RESTRICT dy, double* RESTRICT products, u32 sequences, u32 factor_count) {
    const u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= factor_count) return;
    double sum = 0.0;
    for (u32 sequence = 0; sequence < sequences; sequence++) {
        const u32 at = sequence * factor_count + i;
        sum += (double)x[at] * (double)dy[at];
    }
    products[i] = sum;
}

KERNEL(256, combine)
(const float* RESTRICT basis, const double* RESTRICT products, float* RESTRICT dweights, u32 positions, u32 bases, u32 width) {
    const u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= bases * width) return;
    const u32 n = i / width, column = i - n * width;
    double sum = 0.0;
    for (u32 position = 0; position < positions; position++) {
        sum += (double)basis[position * bases + n] * products[position * width + column];
    }
    dweights[i] = (float)sum;
}
