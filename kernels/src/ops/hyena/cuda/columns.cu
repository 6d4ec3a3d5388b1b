// The outer part of a transform of N = POINTS x `columns` points, too many for one block: columns, one factor, and back.
//
// With t = n1 columns + n2 and k = k1 + POINTS k2: exp(-2 pi i t (k + 1/4) / N) is a transform with q = 1/4 over n1, the factor
// exp(-2 pi i n2 (k1 + 1/4) / N), and a plain transform over n2, which rows.cu does. Between lies `points`, f32 complex,
// [group][place of k1][n2][CHANNELS].
// Grid: a block for each (SERIES / CHANNELS neighbouring columns, CHANNELS channels), channels fastest. Block: transform.cuh.
// Bytes moved per element: forward reads two projected values and writes 8 bytes; back reads 8 bytes and one value and writes
// one; rows.cu reads and writes 8 and reads 8 of spectrum: 52 in all with f32 rows, which is the limit.
// Assumes length <= N, QUARTER 1, SERIES a multiple of CHANNELS. Numerics: the factor is a product of two table entries.
//
// Defines: those of transform.cuh; BLOCKS, BF16, CHANNELS.

#if BF16
typedef bf16 Value;
#else
typedef float Value;
#endif

// What a block works on: a thread's channel and column are the same for all its tasks.
struct Tile {
    u32 group, channel, column;
    u64 first;
};

DEVICE Tile find_tile(u32 groups, u32 columns) {
    const u32 group = blockIdx.x % groups, tile = blockIdx.x / groups, series = threadIdx.x % SERIES;
    const u32 column = tile * (SERIES / CHANNELS) + series / CHANNELS;
    const u64 first = ((u64)group * POINTS * columns + column) * CHANNELS + series % CHANNELS;
    return {group, group * CHANNELS + series % CHANNELS, column, first};
}

// The frequency whose leading digits are those of `task`, without the last digit.
template <int STAGE> DEVICE u32 frequency(u32 task) {
    if constexpr (STAGE == STAGES - 1) {
        return 0;
    } else {
        constexpr u32 REST = joined(STAGE) / radix(STAGE) / LAST_RADIX;
        return task / REST + radix(STAGE) * frequency<STAGE + 1>(task % REST);
    }
}

// exp(-2 pi i n2 (k1 + 1/4) / N) out of a table of coarse and one of fine steps.
struct Factors {
    const float2* coarse;
    const float2* fine;
    u32 fine_bits, column;

    __device__ float2 of(u32 k1) const {
        const u32 turn = column * (4 * k1 + 1);
        return times(coarse[turn >> fine_bits], fine[turn & ((1u << fine_bits) - 1)]);
    }
};

DEVICE void write_columns(const float2* shared, float2* points, const Tile& tile, const Factors& factors, u32 columns) {
    forward_last(shared, [&](float2(&x)[LAST_RADIX], u32 q, u32) {
        const u32 k1 = frequency<0>(q);
        UNROLL
        for (int b = 0; b < LAST_RADIX; b++) {
            points[tile.first + (u64)(q * LAST_RADIX + b) * columns * CHANNELS] = times(x[b], factors.of(k1 + b * LAST_TASKS));
        }
    });
}

// Forward, of the gated value of one sequence; `first_channel` is that of group 0.
KERNEL_RESIDENT(THREADS, BLOCKS, hyena_columns)
(const Value* RESTRICT u, const float* RESTRICT taps, const float* RESTRICT bias, const float2* RESTRICT roots,
 const float2* RESTRICT coarse, const float2* RESTRICT fine, float2* RESTRICT points, u32 channels, u32 length, u32 first_channel,
 u32 groups, u32 columns, u32 fine_bits) {
    SHARED(memory);
    float2* shared = (float2*)memory;
    const Tile tile = find_tile(groups, columns);
    const u32 channel = first_channel + tile.channel;
    const bool valid = channel < channels;
    const Rows<Value> rows = {u, channels, length};
    const Taps before = load_taps(taps, bias, channels + channel, valid), value = load_taps(taps, bias, 2 * channels + channel, valid);
    forward_first(shared, roots, [&](u32 n1, u32) {
        const u32 t = n1 * columns + tile.column;
        if (!valid || t >= length) return 0.0f;
        return rows.convolved(t, channels + channel, before) * rows.convolved(t, 2 * channels + channel, value);
    });
    forward_stages<1>(shared, roots);
    write_columns(shared, points, tile, {coarse, fine, fine_bits, tile.column}, columns);
}

// Forward, of the filter's taps [length, channels] and the skip, divided by N.
KERNEL_RESIDENT(THREADS, BLOCKS, hyena_columns_filter)
(const float* RESTRICT taps, const float* RESTRICT skip, const float2* RESTRICT roots, const float2* RESTRICT coarse,
 const float2* RESTRICT fine, float2* RESTRICT points, u32 channels, u32 length, u32 groups, u32 columns, u32 fine_bits) {
    SHARED(memory);
    float2* shared = (float2*)memory;
    const Tile tile = find_tile(groups, columns);
    const float scale = 1.0f / (float)(POINTS * columns);
    forward_first(shared, roots, [&](u32 n1, u32) {
        return filter_tap(taps, skip, n1 * columns + tile.column, tile.channel, channels, length, scale);
    });
    forward_stages<1>(shared, roots);
    write_columns(shared, points, tile, {coarse, fine, fine_bits, tile.column}, columns);
}

// Back, and the gate after.
KERNEL_RESIDENT(THREADS, BLOCKS, hyena_columns_back)
(const float2* RESTRICT points, const Value* RESTRICT u, const float* RESTRICT taps, const float* RESTRICT bias,
 const float2* RESTRICT roots, const float2* RESTRICT coarse, const float2* RESTRICT fine, Value* RESTRICT out, u32 channels,
 u32 length, u32 first_channel, u32 groups, u32 columns, u32 fine_bits) {
    SHARED(memory);
    float2* shared = (float2*)memory;
    const Tile tile = find_tile(groups, columns);
    const u32 channel = first_channel + tile.channel;
    const bool valid = channel < channels;
    const Factors factors = {coarse, fine, fine_bits, tile.column};
    back_first(shared, [&](float2(&x)[LAST_RADIX], u32 q, u32) {
        const u32 k1 = frequency<0>(q);
        UNROLL
        for (int b = 0; b < LAST_RADIX; b++) {
            const float2 point = points[tile.first + (u64)(q * LAST_RADIX + b) * columns * CHANNELS];
            x[b] = times_conjugate(point, factors.of(k1 + b * LAST_TASKS));
        }
    });
    back_stages<STAGES - 2>(shared, roots);
    const Rows<Value> rows = {u, channels, length};
    const Taps after = load_taps(taps, bias, channel, valid);
    back_last(shared, roots, [&](u32 n1, u32, float sum) {
        const u32 t = n1 * columns + tile.column;
        if (!valid || t >= length) return;
        out[(u64)t * channels + channel] = from_float<Value>(rows.convolved(t, channel, after) * sum);
    });
}
