// One step of Adam over all weights of a fit, in one flat array; and what all of them share.
//
// `factors`: one thread; it counts the step, so that a recorded launch serves every step. `adam`: a block of 256 threads for each
// 1024 successive weights; thread t owns those at t, t + 256, t + 512, t + 768. Bytes moved per weight: reads 16, writes 12;
// device memory limits it. Assumes fewer than 2^32 weights. Numerics: as the CPU form, each weight a chain of its own; factors
// in f64, rounded once.

// base to a whole power, by squaring.
DEVICE double power(double base, u64 exponent) {
    double result = 1.0, square = base;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1) result *= square;
        square *= square;
    }
    return result;
}

// clock: seed, steps taken, batches of the epoch; the last two are counted here. factors: rate and root of the step.
KERNEL(32, factors)
(u64* RESTRICT clock, const float* RESTRICT learning_rate, float* RESTRICT factors, double beta_1, double beta_2, u32 torch_form) {
    if (threadIdx.x != 0) return;
    const u64 step = clock[1] + 1;
    const double rate = (double)learning_rate[0];
    const double correction = sqrt(1.0 - power(beta_2, step)), first = 1.0 - power(beta_1, step);
    factors[0] = (float)(torch_form ? rate / first : rate * correction / first);
    factors[1] = torch_form ? (float)(1.0 / correction) : 1.0f;
    clock[1] = step;
    clock[2] += 1;
}

KERNEL(256, adam)
(const float* RESTRICT gradient, const float* RESTRICT factors, float* RESTRICT m, float* RESTRICT v, float* RESTRICT weights,
 u32 count, float first, float second, float guard) {
    const float rate = factors[0], root = factors[1];
    const u32 start = blockIdx.x * 1024 + threadIdx.x;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = start + 256 * part;
        if (i >= count) break;
        const float g = gradient[i];
        const float own_m = fmaf(g - m[i], first, m[i]);
        const float own_v = fmaf(fmaf(g, g, -v[i]), second, v[i]);
        m[i] = own_m;
        v[i] = own_v;
        weights[i] -= own_m * rate / fmaf(sqrtf(own_v), root, guard);
    }
}
