// out[n] = entropy of softmax(x[n, columns]) in nats; of all columns where none are named.
//
// Grid: a block of 128 threads a row. Thread t owns the values t, t + 128, ...; threads are added in a fixed order. Bytes moved:
// each value read twice. What limits it: f64 exponentials. Numerics: f64 throughout, largest value subtracted:
// H = ln s - sum (x - m) e^(x - m) / s, s = sum e^(x - m).

KERNEL(128, entropy)
(const float* RESTRICT x, const u32* RESTRICT columns, double* RESTRICT out, u32 width, u32 count) {
    SHARED(memory);
    double* scratch = (double*)memory;
    const float* row = x + (u64)blockIdx.x * width;
    // The least number there is: minus infinity.
    float largest = __uint_as_float(0xff800000u);
    for (u32 i = threadIdx.x; i < count; i += 128) largest = fmaxf(largest, row[columns ? columns[i] : i]);
    largest = warp_max(largest);
    float* maxima = (float*)memory;
    if (lane_index() == 0) maxima[warp_index()] = largest;
    __syncthreads();
    for (u32 warp = 0; warp < 4; warp++) largest = fmaxf(largest, maxima[warp]);
    __syncthreads();
    double sum = 0.0, weighted = 0.0;
    for (u32 i = threadIdx.x; i < count; i += 128) {
        const double difference = (double)row[columns ? columns[i] : i] - (double)largest;
        const double share = exp(difference);
        sum += share;
        // A share that is zero adds nothing, however far away its value is.
        if (share > 0.0) weighted += difference * share;
    }
    sum = warp_sum(sum), weighted = warp_sum(weighted);
    if (lane_index() == 0) scratch[2 * warp_index()] = sum, scratch[2 * warp_index() + 1] = weighted;
    __syncthreads();
    if (threadIdx.x == 0) {
        sum = 0.0, weighted = 0.0;
        for (u32 warp = 0; warp < 4; warp++) sum += scratch[2 * warp], weighted += scratch[2 * warp + 1];
        out[blockIdx.x] = log(sum) - weighted / sum;
    }
}
