// Short convolution, gate, long convolution, gate: out[t,d] = x0[t,d] sum_r h[r,d] s[t-r,d] with s = v x1, skip inside h.
//
// Grid: a block for each (sequence, SERIES channels), channels fastest, so that neighbours share sectors of the rows and all
// sequences of a rung find the spectrum (8 POINTS bytes a channel) in the second cache. Block: as transform.cuh.
// Bytes moved per element: reads three projected values, writes one; 8 of spectrum from the cache.
// Between, 4 (stages - 1) passes over shared memory and about 10 log2(POINTS) + 30 FLOP: all three limits lie within a
// factor of two of each other, so at least three blocks share a multiprocessor up to 1,280 points.
// Assumes length <= POINTS of each sequence, QUARTER 1.
// Numerics: f32 whatever the rows are stored as; a sequence's bits are its own, as POINTS is a function of its length.
//
// Defines: those of transform.cuh; BLOCKS (resident at least), BF16 (rows are bf16, else f32).

#if BF16
typedef bf16 Value;
#else
typedef float Value;
#endif

KERNEL_RESIDENT(THREADS, BLOCKS, hyena_mix)
(const Value* RESTRICT u, const u32* RESTRICT sequences, const float* RESTRICT taps, const float* RESTRICT bias,
 const float2* RESTRICT spectrum, const float2* RESTRICT roots, Value* RESTRICT out, u32 channels, u32 groups) {
    SHARED(memory);
    float2* points = (float2*)memory;
    const u32 group = blockIdx.x % groups, sequence = blockIdx.x / groups;
    const u32 first = sequences[2 * sequence], length = sequences[2 * sequence + 1];
    const u32 channel = group * SERIES + threadIdx.x % SERIES;
    const bool valid = channel < channels;
    const Rows<Value> rows = {u + (u64)first * 3 * channels, channels, length};
    {
        const Taps before = load_taps(taps, bias, channels + channel, valid), value = load_taps(taps, bias, 2 * channels + channel, valid);
        forward_first(points, roots, [&](u32 t, u32) {
            if (!valid || t >= length) return 0.0f;
            return rows.convolved(t, channels + channel, before) * rows.convolved(t, 2 * channels + channel, value);
        });
    }
    forward_stages<1>(points, roots);
    const float2* own = spectrum + (u64)group * POINTS * SERIES;
    turn(points, [&](float2(&x)[LAST_RADIX], u32 q, u32 series) {
        UNROLL
        for (int b = 0; b < LAST_RADIX; b++) x[b] = times(x[b], own[(b * LAST_TASKS + q) * SERIES + series]);
    });
    back_stages<STAGES - 2>(points, roots);
    const Taps after = load_taps(taps, bias, channel, valid);
    back_last(points, roots, [&](u32 t, u32, float sum) {
        if (!valid || t >= length) return;
        out[((u64)first + t) * channels + channel] = from_float<Value>(rows.convolved(t, channel, after) * sum);
    });
}

// The spectrum of the filter's taps [length, channels] and the skip, divided by POINTS, in the order `hyena_mix` reads it.
// Grid: a block for each SERIES channels.
KERNEL_RESIDENT(THREADS, BLOCKS, hyena_spectrum)
(const float* RESTRICT taps, const float* RESTRICT skip, const float2* RESTRICT roots, float2* RESTRICT spectrum, u32 channels,
 u32 length) {
    SHARED(memory);
    float2* points = (float2*)memory;
    const u32 channel = blockIdx.x * SERIES + threadIdx.x % SERIES;
    forward_first(points, roots, [&](u32 t, u32) { return filter_tap(taps, skip, t, channel, channels, length, 1.0f / POINTS); });
    forward_stages<1>(points, roots);
    float2* own = spectrum + (u64)blockIdx.x * POINTS * SERIES;
    forward_last(points, [&](float2(&x)[LAST_RADIX], u32 q, u32 series) {
        UNROLL
        for (int b = 0; b < LAST_RADIX; b++) own[(b * LAST_TASKS + q) * SERIES + series] = x[b];
    });
}
