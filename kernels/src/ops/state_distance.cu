// How far the states R and S of two sequences are apart: sums over all their values, in f64.
//
// out[p,:] = |R|^2, |S|^2, R.S, sum |R - S|, sum (R - S)^2, 1/2 sum (R/|R| - S/|S|)^2
//
// Grid: a block of 256 threads for each pair. Thread t adds values t, t + 256, ...; then threads are added in a fixed order that
// depends on nothing. Bytes moved: each value read twice, the second time mostly from L2. What limits it: bytes. Numerics: f64;
// the last sum is one less the cosine, without cancellation.

#define SUMS 5

// The sum over the block of each of `COUNT` values, in every thread; `scratch` holds COUNT values of each warp.
template <int COUNT> DEVICE void add_block(double (&sums)[COUNT], double* scratch) {
    UNROLL
    for (u32 i = 0; i < COUNT; i++) sums[i] = warp_sum(sums[i]);
    if (lane_index() == 0) {
        UNROLL
        for (u32 i = 0; i < COUNT; i++) scratch[warp_index() * COUNT + i] = sums[i];
    }
    __syncthreads();
    UNROLL
    for (u32 i = 0; i < COUNT; i++) {
        sums[i] = 0.0;
        for (u32 warp = 0; warp < 8; warp++) sums[i] += scratch[warp * COUNT + i];
    }
    __syncthreads();
}

KERNEL(256, state_distance)
(const float* RESTRICT x, const u64* RESTRICT pairs, double* RESTRICT out, u32 width) {
    SHARED(memory);
    double* scratch = (double*)memory;
    const u64* pair = pairs + 3 * (u64)blockIdx.x;
    const float* r = x + pair[0] * width;
    const float* s = x + pair[1] * width;
    const u64 count = pair[2] * width;
    double sums[SUMS] = {0.0, 0.0, 0.0, 0.0, 0.0};
    for (u64 i = threadIdx.x; i < count; i += 256) {
        const double a = (double)r[i], b = (double)s[i], difference = a - b;
        sums[0] += a * a;
        sums[1] += b * b;
        sums[2] += a * b;
        sums[3] += fabs(difference);
        sums[4] += difference * difference;
    }
    add_block(sums, scratch);
    const double r_norm = sqrt(sums[0]), s_norm = sqrt(sums[1]);
    double squares[1] = {0.0};
    for (u64 i = threadIdx.x; i < count; i += 256) {
        const double difference = (double)r[i] / r_norm - (double)s[i] / s_norm;
        squares[0] += difference * difference;
    }
    add_block(squares, scratch);
    if (threadIdx.x == 0) {
        double* to = out + 6 * (u64)blockIdx.x;
        UNROLL
        for (u32 i = 0; i < SUMS; i++) to[i] = sums[i];
        to[5] = 0.5 * squares[0];
    }
}
