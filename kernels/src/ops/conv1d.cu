// out[m,n] = residual[m,n] + activation(bias[n] + sum_k x[place(m, tap(k)), channel(k)] weight[k,n]), k = tap * width + channel:
// a convolution along sequences as one product whose left operand is gathered; zeros beyond the ends of a sequence.
//
// Grid: a block a tile of TILE_M rows and TILE_N columns, column tiles next to each other so that they share rows in L2. Block:
// 256 threads (`tiles.cuh`). Tiles of 128 bytes a row come through a ring of 3 stages by cp.async. TILE_M 128: 110 KB and at most
// 128 registers, two blocks a multiprocessor (of three tf32 products one); 256: 163 KB and 255 registers, one. Limit:
// multiply-adds, from 64 steps on; 256 x 128 tiles of bf16 read 1 byte of L2 for 85 operations, and 64 x 64 warps 1 byte of
// shared memory for 32.
// Bytes moved per output: steps / TILE_N values of x, steps / TILE_M of the weights, both out of L2; writes one value.
// Assumes 16-byte aligned arrays, widths that are multiples of 16 bytes where LEFT_VECTOR, RIGHT_VECTOR, any widths else; results
// and what is added to them lie anywhere unless out_vector.
// Numerics: `tiles.cuh`; a sum starts from the bias. Zeros beyond an end are multiplied, which changes no finite sum.
//
// Defines: CLASS, TILE_M, TILE_N, LEFT_VECTOR, RIGHT_VECTOR, OUT_BF16, FLIPPED (the right operand is kernel[taps-1-tap, n, channel]).

#if OUT_BF16
typedef bf16 Out;
#else
typedef float Out;
#endif
#define LEFT_VALUES (TILE_M * ROW_STRIDE)
#define RIGHT_VALUES (FLIPPED ? TILE_N * ROW_STRIDE : TILE_K * STEP_STRIDE(TILE_N))
#define RIGHT_BY_STEP (!FLIPPED)
// Three products a value spill within 128 registers.
#define BLOCKS (TILE_M == 256 || CLASS == 1 ? 1 : 2)
// Between rows of finished sums: the 4 rows that half a warp writes at once lie in 4 groups of 8 banks.
#define FINISHED_STRIDE (TILE_N + 8)

// Where the taps of an output lie, counted in rows of x; a row past the last has no places.
struct Places {
    i32 first, begin, end;
};

// Extents that do not change.
struct Extents {
    u32 rows, width, columns, taps, dilation;
    i32 padding_left;
    u32 length, output_length;
};

DEVICE Places places_of(u32 row, const u32* ranges, const Extents& e) {
    Places places = {0, 0, 0};
    if (row >= e.rows) return places;
    if (ranges) {
        places.begin = (i32)ranges[2 * row];
        places.end = (i32)ranges[2 * row + 1];
        places.first = (i32)row - e.padding_left;
    } else {
        const u32 sequence = row / e.output_length;
        places.begin = (i32)(sequence * e.length);
        places.end = places.begin + (i32)e.length;
        places.first = places.begin + (i32)(row % e.output_length) - e.padding_left;
    }
    return places;
}

// Starts the copies of one stage: the steps from `step` on.
DEVICE void load_stage(Value* left, Value* right, const uint4* places, const Value* x, const Value* weight, u32 step, u32 column,
                       const Extents& e) {
    const u32 steps = e.taps * e.width;
    const u32 values = LEFT_VECTOR ? VALUES : 1, pieces = TILE_K / values;
    const u32 piece = threadIdx.x % pieces * values;
    const u32 tap = (step + piece) / e.width, channel = (step + piece) % e.width;
    const bool inside = step + piece < steps;
    const auto copy = [=](u32 row) {
        const uint4 place = places[row];
        const i32 source = (i32)place.x + (i32)(tap * e.dilation);
        const bool valid = inside && source >= (i32)place.y && source < (i32)place.z;
        const Value* from = valid ? x + (u64)source * e.width + channel : x;
        if (LEFT_VECTOR) copy_async_16(left + row * ROW_STRIDE + piece, from, valid);
        else copy_value(left + row * ROW_STRIDE + piece, from, valid);
    };
    if (LEFT_VECTOR) {
        UNROLL
        for (u32 row = threadIdx.x / pieces; row < TILE_M; row += THREADS / pieces) copy(row);
    } else {
        ROLLED
        for (u32 row = threadIdx.x / pieces; row < TILE_M; row += THREADS / pieces) copy(row);
    }
#if FLIPPED
    const auto copy_right = [=](u32 n) {
        const bool valid = inside && column + n < e.columns;
        const Value* from = valid ? weight + ((u64)(e.taps - 1 - tap) * e.columns + column + n) * e.width + channel : weight;
        if (LEFT_VECTOR) copy_async_16(right + n * ROW_STRIDE + piece, from, valid);
        else copy_value(right + n * ROW_STRIDE + piece, from, valid);
    };
    if (LEFT_VECTOR) {
        UNROLL
        for (u32 n = threadIdx.x / pieces; n < TILE_N; n += THREADS / pieces) copy_right(n);
    } else {
        ROLLED
        for (u32 n = threadIdx.x / pieces; n < TILE_N; n += THREADS / pieces) copy_right(n);
    }
#else
    load_by_step<RIGHT_VECTOR, TILE_N>(right, weight, step, steps, column, e.columns);
#endif
}

// 0 none, 1 relu, 2 gelu with erf, 3 exp.
DEVICE float activate(float x, u32 activation) {
    if (activation == 1) return x > 0.0f || x != x ? x : 0.0f;
    if (activation == 2) return 0.5f * x * erfcf(-0.707106781f * x);
    if (activation == 3) return expf(x);
    return x;
}

DEVICE float4 activate_all(float4 x, u32 activation) {
    return make_float4(activate(x.x, activation), activate(x.y, activation), activate(x.z, activation), activate(x.w, activation));
}

DEVICE void store(Out* out, float4 x) {
#if OUT_BF16
    *(uint2*)out = make_uint2(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w));
#else
    *(float4*)out = x;
#endif
}

// As the whole path, for the first `count` of four values that need not be aligned.
DEVICE void store_some(Out* out, const float* residual, float4 x, u32 activation, u32 count) {
ROLLED
    for (u32 i = 0; i < 4 && i < count; i++) {
        float value = activate(i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w, activation);
        if (residual) value += residual[i];
        out[i] = from_float<Out>(value);
    }
}

KERNEL_RESIDENT(THREADS, BLOCKS, conv1d)
(const Value* RESTRICT x, const u32* RESTRICT ranges, const Value* RESTRICT weight, const float* RESTRICT bias,
 const float* residual, Out* out, u32 rows, u32 width, u32 columns, u32 output_width, u32 taps, u32 dilation, i32 padding_left,
 u32 length, u32 output_length, u32 activation, u32 out_vector) {
    SHARED(memory);
    uint4* places = (uint4*)memory;
    Value* stages = (Value*)(memory + TILE_M * 16);
    const Extents e = {rows, width, columns, taps, dilation, padding_left, length, output_length};
    const u32 column_tiles = (output_width + TILE_N - 1) / TILE_N;
    const u32 first_row = blockIdx.x / column_tiles * TILE_M, first_column = blockIdx.x % column_tiles * TILE_N;
    for (u32 row = threadIdx.x; row < TILE_M; row += THREADS) {
        const Places found = places_of(first_row + row, ranges, e);
        places[row] = make_uint4((u32)found.first, (u32)found.begin, (u32)found.end, 0);
    }
    Sums sums;
    for_each_pair<false, RIGHT_BY_STEP>(sums, [=](u32, u32 column, float& sum, u32 other, float& other_sum) {
        const bool has = bias != nullptr;
        sum = has && first_column + column < output_width ? bias[first_column + column] : 0.0f;
        other_sum = has && first_column + other < output_width ? bias[first_column + other] : 0.0f;
    });
    __syncthreads();

    const u32 turns = (taps * width + TILE_K - 1) / TILE_K;
    UNROLL
    for (u32 stage = 0; stage < STAGES - 1; stage++) {
        Value* left = stages + stage * (LEFT_VALUES + RIGHT_VALUES);
        if (stage < turns) load_stage(left, left + LEFT_VALUES, places, x, weight, stage * TILE_K, first_column, e);
        copy_async_commit();
    }
    u32 reading = 0, writing = STAGES - 1;
    for (u32 turn = 0; turn < turns; turn++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        Value* next = stages + writing * (LEFT_VALUES + RIGHT_VALUES);
        if (turn + STAGES - 1 < turns) {
            load_stage(next, next + LEFT_VALUES, places, x, weight, (turn + STAGES - 1) * TILE_K, first_column, e);
        }
        copy_async_commit();
        const Value* left = stages + reading * (LEFT_VALUES + RIGHT_VALUES);
        multiply_tiles<false, RIGHT_BY_STEP>(sums, left, left + LEFT_VALUES);
        reading = reading + 1 == STAGES ? 0 : reading + 1;
        writing = writing + 1 == STAGES ? 0 : writing + 1;
    }

    // Through shared memory, so that stores are whole rows and the activation's code is there once.
    __syncthreads();
    float* finished = (float*)stages;
    for_each_pair<false, RIGHT_BY_STEP>(sums, [=](u32 row, u32 column, float sum, u32 other, float other_sum) {
        float* at = finished + row * FINISHED_STRIDE;
        if (RIGHT_BY_STEP || CLASS != 0) {
            *(float2*)(at + column) = make_float2(sum, other_sum);
        } else {
            at[column] = sum, at[other] = other_sum;
        }
    });
    __syncthreads();
ROLLED
    for (u32 piece = threadIdx.x; piece < TILE_M * TILE_N / 4; piece += THREADS) {
        const u32 row = piece / (TILE_N / 4), column = piece % (TILE_N / 4) * 4;
        if (first_row + row >= rows || first_column + column >= output_width) continue;
        float4 values = *(const float4*)(finished + row * FINISHED_STRIDE + column);
        const u64 start = (u64)(first_row + row) * output_width + first_column + column;
        if (out_vector) {
            values = activate_all(values, activation);
            if (residual) {
                const float4 more = *(const float4*)(residual + start);
                values = make_float4(values.x + more.x, values.y + more.y, values.z + more.z, values.w + more.w);
            }
            store(out + start, values);
        } else {
            store_some(out + start, residual ? residual + start : residual, values, activation, output_width - first_column - column);
        }
    }
}
