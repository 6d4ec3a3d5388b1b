// The loss of a batch and its gradient.
//
// One block of 256 threads; thread t owns entries t, t + 256, ... Bytes moved per entry: 8 to 12 read, 4 written. A batch has at
// most some ten thousand entries, so a launch is its time. Numerics: f64, as the CPU form; sums in a fixed order.
//
// The loss of the batch is written at its place in `losses`, which the number of the batch in `clock` says.

#define SQUARED 0
#define LOGITS 1
#define PROBABILITIES 2
#define PROBABILITIES_KERAS_3 3
#define SPLICING 4

struct Entry {
    double term, slope;
};

DEVICE double clamped(double x, double margin) { return x < margin ? margin : x > 1.0 - margin ? 1.0 - margin : x; }
DEVICE double sigmoid_f64(double x) { return 1.0 / (1.0 + exp(-x)); }

DEVICE Entry of_probability(float prediction, double y, double inner) {
    const float margin = 1e-7f, largest = 1.0f - margin;
    // Written so that NaN stays.
    const float clipped = prediction < margin ? margin : prediction > largest ? largest : prediction;
    const double c = (double)clipped + inner, rest = (double)(1.0f - clipped) + inner;
    const double slope = clipped == prediction ? (1.0 - y) / rest - y / c : 0.0;
    return {-(y * log(c) + (1.0 - y) * log(rest)), slope};
}
DEVICE Entry splicing(float prediction, double difference, double mean) {
    const double observed = sigmoid_f64(difference + mean);
    if (observed != observed) return {0.0, 0.0};
    const double unbounded = sigmoid_f64((double)prediction + mean);
    const double p = clamped(observed, 1e-5), q = clamped(unbounded, 1e-5);
    const double term = p * log(p / q) + (1.0 - p) * log((1.0 - p) / (1.0 - q));
    return {term, unbounded == q ? q - p : 0.0};
}
DEVICE Entry entry_of(u32 kind, float prediction, const float* target) {
    const double p = (double)prediction, y = (double)target[0];
    switch (kind) {
    case LOGITS: return {(p > 0.0 ? p : 0.0) - p * y + log1p(exp(-fabs(p))), sigmoid_f64(p) - y};
    case PROBABILITIES: return of_probability(prediction, y, (double)1e-7f);
    case PROBABILITIES_KERAS_3: return of_probability(prediction, y, 0.0);
    case SPLICING: return splicing(prediction, y, (double)target[1]);
    default: return {(p - y) * (p - y), 2.0 * (p - y)};
    }
}

// Sum over the block, in the order of its threads' warps.
DEVICE double block_sum_f64(double x, double* scratch) {
    x = warp_sum(x);
    if (lane_index() == 0) scratch[warp_index()] = x;
    __syncthreads();
    double sum = 0.0;
    for (u32 warp = 0; warp < blockDim.x >> 5; warp++) sum += scratch[warp];
    __syncthreads();
    return sum;
}

KERNEL(256, loss)
(const float* RESTRICT predictions, const float* RESTRICT targets, float* RESTRICT gradient, double* RESTRICT losses,
 const u64* RESTRICT clock, u32 count, u32 kind) {
    SHARED(memory);
    // A target that is NaN was not observed: it is in no sum, and the mean is over the others.
    double seen = (double)count;
    if (kind != SPLICING) {
        double mine = 0.0;
        for (u32 i = threadIdx.x; i < count; i += 256) mine += targets[i] == targets[i] ? 1.0 : 0.0;
        seen = block_sum_f64(mine, (double*)memory);
        if (seen < 1.0) seen = 1.0;
    }
    const double share = 1.0 / seen;
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < count; i += 256) {
        if (kind != SPLICING && targets[i] != targets[i]) {
            gradient[i] = 0.0f;
            continue;
        }
        const Entry entry = entry_of(kind, predictions[i], targets + (kind == SPLICING ? 2 * i : i));
        sum += entry.term;
        gradient[i] = (float)(entry.slope * share);
    }
    sum = block_sum_f64(sum, (double*)memory);
    if (threadIdx.x == 0) losses[clock[2]] = sum / seen;
}

// Adds coefficient sum w^2 to the loss of the batch and 2 coefficient w to the gradient.
KERNEL(256, penalty)
(const float* RESTRICT weights, float* RESTRICT gradient, double* RESTRICT losses, const u64* RESTRICT clock, u32 count,
 float coefficient) {
    SHARED(memory);
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < count; i += 256) {
        const float weight = weights[i];
        sum += (double)weight * (double)weight;
        gradient[i] = fmaf(2.0f * coefficient, weight, gradient[i]);
    }
    sum = block_sum_f64(sum, (double*)memory);
    if (threadIdx.x == 0) losses[clock[2]] += (double)coefficient * sum;
}
