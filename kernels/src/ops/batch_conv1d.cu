// The gradients of a convolution's weights and bias over a batch of sequences of one length:
// dkernel[k,n] = sum_m x[place(m, tap(k)), channel(k)] dy[m,n], dbias[n] = sum_m dy[m,n], m over outputs of all sequences.
//
// Grid: `weight_gradient` a block a tile of 128 rows of dkernel and TILE_N columns, times slices of m; `column_sums` a block 32
// columns, times slices; `sum_slices` a thread a value. Block: 256 threads (`tiles.cuh`). A ring of 3 stages of 32 (f32) or 64
// (bf16) rows of x and dy: 104 KB and at most 128 registers, so two blocks share a multiprocessor. Limit: multiply-adds.
// Bytes moved per value of dkernel: rows / TILE_N values of x, rows / 128 of dy, out of L2; writes 4 bytes a slice, which
// `sum_slices` reads. Assumes 16-byte aligned arrays, widths of whole 16 bytes where LEFT_VECTOR, RIGHT_VECTOR; any widths else.
// Numerics: `tiles.cuh` within a slice; slices, whose number follows from the shape alone, are added in order. No atomics.
//
// Defines: CLASS, TILE_M (128), TILE_N, LEFT_VECTOR, RIGHT_VECTOR.

#define LEFT_VALUES (TILE_K * STEP_STRIDE(TILE_M))
#define RIGHT_VALUES (TILE_K * STEP_STRIDE(TILE_N))

// Where the gathered input lies.
struct Extents {
    u32 width, steps, dilation;
    i32 padding_left;
    u32 length, output_length;
};

// Starts the copies of the rows from `row` on, below `end`: values of x for the steps from `step` on, by row.
DEVICE void load_gathered(Value* tile, const Value* x, u32 row, u32 end, u32 step, const Extents& e) {
    const u32 values = LEFT_VECTOR ? VALUES : 1, pieces = TILE_M / values;
    const u32 piece = threadIdx.x % pieces * values;
    const bool inside = step + piece < e.steps;
    const u32 tap = (step + piece) / e.width, channel = (step + piece) % e.width;
    const i32 shift = (i32)(tap * e.dilation) - e.padding_left;
    const auto copy = [=](u32 k) {
        const u32 sequence = (row + k) / e.output_length;
        const i32 place = (i32)(row + k - sequence * e.output_length) + shift;
        const bool valid = inside && row + k < end && place >= 0 && place < (i32)e.length;
        const Value* from = valid ? x + ((u64)sequence * e.length + (u32)place) * e.width + channel : x;
        if (LEFT_VECTOR) copy_async_16(tile + k * STEP_STRIDE(TILE_M) + piece, from, valid);
        else copy_value(tile + k * STEP_STRIDE(TILE_M) + piece, from, valid);
    };
    if (LEFT_VECTOR) {
        UNROLL
        for (u32 k = threadIdx.x / pieces; k < TILE_K; k += THREADS / pieces) copy(k);
    } else {
        ROLLED
        for (u32 k = threadIdx.x / pieces; k < TILE_K; k += THREADS / pieces) copy(k);
    }
}

// Three products a value spill within 128 registers.
KERNEL_RESIDENT(THREADS, CLASS == 1 ? 1 : 2, weight_gradient)
(const Value* RESTRICT x, const Value* RESTRICT dy, float* RESTRICT parts, u32 rows, u32 slice_rows, u32 width, u32 columns,
 u32 taps, u32 dilation, i32 padding_left, u32 length, u32 output_length) {
    SHARED(memory);
    Value* stages = (Value*)memory;
    const Extents e = {width, taps * width, dilation, padding_left, length, output_length};
    const u32 column_tiles = (columns + TILE_N - 1) / TILE_N;
    const u32 first_step = blockIdx.x / column_tiles * TILE_M, first_column = blockIdx.x % column_tiles * TILE_N;
    const u32 begin = min(blockIdx.y * slice_rows, rows), end = min(begin + slice_rows, rows);
    Sums sums;
    for_each_pair<true, true>(sums, [](u32, u32, float& sum, u32, float& other_sum) { sum = other_sum = 0.0f; });

    const u32 turns = (end - begin + TILE_K - 1) / TILE_K;
    UNROLL
    for (u32 stage = 0; stage < STAGES - 1; stage++) {
        Value* left = stages + stage * (LEFT_VALUES + RIGHT_VALUES);
        if (stage < turns) {
            load_gathered(left, x, begin + stage * TILE_K, end, first_step, e);
            load_by_step<RIGHT_VECTOR, TILE_N>(left + LEFT_VALUES, dy, begin + stage * TILE_K, end, first_column, columns);
        }
        copy_async_commit();
    }
    u32 reading = 0, writing = STAGES - 1;
    for (u32 turn = 0; turn < turns; turn++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        Value* next = stages + writing * (LEFT_VALUES + RIGHT_VALUES);
        if (turn + STAGES - 1 < turns) {
            const u32 row = begin + (turn + STAGES - 1) * TILE_K;
            load_gathered(next, x, row, end, first_step, e);
            load_by_step<RIGHT_VECTOR, TILE_N>(next + LEFT_VALUES, dy, row, end, first_column, columns);
        }
        copy_async_commit();
        const Value* left = stages + reading * (LEFT_VALUES + RIGHT_VALUES);
        multiply_tiles<true, true>(sums, left, left + LEFT_VALUES);
        reading = reading + 1 == STAGES ? 0 : reading + 1;
        writing = writing + 1 == STAGES ? 0 : writing + 1;
    }

    float* part = parts + (u64)blockIdx.y * e.steps * columns;
    for_each_pair<true, true>(sums, [=](u32 row, u32 column, float sum, u32 other, float other_sum) {
        if (first_step + row >= e.steps) return;
        float* start = part + (u64)(first_step + row) * columns + first_column;
        if (first_column + column < columns) start[column] = sum;
        if (first_column + other < columns) start[other] = other_sum;
    });
}

// Sums of columns over the rows of a slice: 8 rows of threads, each every eighth row, added in order.
KERNEL(THREADS, column_sums)
(const Value* RESTRICT dy, float* RESTRICT parts, u32 rows, u32 slice_rows, u32 columns) {
    SHARED(memory);
    float* shared = (float*)memory;
    const u32 column = blockIdx.x * 32 + lane_index();
    const u32 begin = min(blockIdx.y * slice_rows, rows), end = min(begin + slice_rows, rows);
    float sum = 0.0f;
    if (column < columns) {
        for (u32 row = begin + warp_index(); row < end; row += 8) sum += to_float(dy[(u64)row * columns + column]);
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (warp_index() != 0 || column >= columns) return;
    UNROLL
    for (u32 row = 1; row < 8; row++) sum += shared[row * 32 + lane_index()];
    parts[(u64)blockIdx.y * columns + column] = sum;
}

KERNEL(THREADS, sum_slices)
(const float* RESTRICT parts, float* RESTRICT out, u32 count, u32 slices) {
    const u32 index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= count) return;
    float sum = parts[index];
    for (u32 slice = 1; slice < slices; slice++) sum += parts[(u64)slice * count + index];
    out[index] = sum;
}
