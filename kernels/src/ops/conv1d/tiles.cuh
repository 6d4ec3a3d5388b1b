// Tiles of products: sums[m,n] += left[m,k] right[k,n] over a block's tiles in shared memory.
//
// Block: 256 threads. f32: 16 x 16 threads, each 8 rows and TILE_N / 16 columns. Others: 8 warps of mma.sync products, each
// TILE_N / 2 rows and 32 columns of 128 rows, or 64 rows and 64 columns of 256. A tile is stored by row (a row's steps together, rows 144 bytes apart: the 8 rows that are read
// at once lie in 8 groups of 4 banks) or by step (a step's rows together, steps 8 values more than a tile apart: the 4 steps of
// a tf32 fragment lie in 4 groups of 8 banks, the 8 of ldmatrix in 8 groups of 4). No read has a bank conflict.
// Numerics: f32 is one chain of fused multiply-adds over steps in order. Others: the steps of one mma are summed by the unit, which
// cuts off instead of rounding, f32 between them, in order; no split of the steps. Of three tf32 products the 8 steps of an mma are
// summed by the unit, and these sums added with rounding. A row's bits depend on that row and the right operand alone.
//
// Defines: CLASS (0 f32, 1 f32 from three tf32 products, 2 tf32, 3 bf16), TILE_M (128; 256 for bf16
// with TILE_N 128), TILE_N (32, 64, 128).

#define THREADS 256
#define STAGES 3
#if CLASS == 3
typedef bf16 Value;
#define TILE_K 64
#define VALUES 8
#else
typedef float Value;
#define TILE_K 32
#define VALUES 4
#endif
// Values between rows of a tile stored by row, and between steps of one of so many columns stored by step.
#define ROW_STRIDE (TILE_K + VALUES)
#define STEP_STRIDE(COLUMNS) (COLUMNS + 8)

template <bool BY_STEP, u32 COLUMNS> DEVICE Value tile_value(const Value* tile, u32 row, u32 step) {
    return BY_STEP ? tile[step * STEP_STRIDE(COLUMNS) + row] : tile[row * ROW_STRIDE + step];
}

#if CLASS == 0

#define COLUMNS (TILE_N / 16)
// Adjacent columns of a thread where they are read from a tile by step.
#define TOGETHER (COLUMNS < 4 ? COLUMNS : 4)

struct Sums {
    float of[8][COLUMNS];
};

// Place of value i of a thread's COUNT values along a side, of thread `t` of 16.
template <bool BY_STEP, u32 COUNT> DEVICE u32 side_place(u32 t, u32 i) {
    const u32 together = COUNT < 4 ? COUNT : 4;
    return BY_STEP ? i / together * 16 * together + t * together + i % together : t + 16 * i;
}

// A thread's COUNT values of two steps.
template <bool BY_STEP, u32 COUNT> DEVICE void load_side(float (&x)[2][COUNT], const float* tile, u32 t, u32 step) {
    if (BY_STEP) {
        const u32 stride = STEP_STRIDE(COUNT * 16);
        UNROLL
        for (u32 s = 0; s < 2; s++) {
            UNROLL
            for (u32 i = 0; i < COUNT; i += COUNT < 4 ? 2 : 4) {
                const float* at = tile + (step + s) * stride + side_place<BY_STEP, COUNT>(t, i);
                if (COUNT < 4) {
                    const float2 values = *(const float2*)at;
                    x[s][i] = values.x, x[s][i + 1] = values.y;
                } else {
                    const float4 values = *(const float4*)at;
                    x[s][i] = values.x, x[s][i + 1] = values.y, x[s][i + 2] = values.z, x[s][i + 3] = values.w;
                }
            }
        }
    } else {
        UNROLL
        for (u32 i = 0; i < COUNT; i++) {
            const float2 values = *(const float2*)(tile + (t + 16 * i) * ROW_STRIDE + step);
            x[0][i] = values.x, x[1][i] = values.y;
        }
    }
}

// Threads of a warp: 4 along rows, 8 along columns, so that a warp reads 4 and 8 places at once.
DEVICE u32 row_thread() { return warp_index() / 2 * 4 + lane_index() / 8; }
DEVICE u32 column_thread() { return warp_index() % 2 * 8 + lane_index() % 8; }

template <bool LEFT_BY_STEP, bool RIGHT_BY_STEP> DEVICE void multiply_tiles(Sums& sums, const Value* left, const Value* right) {
    const u32 ty = row_thread(), tx = column_thread();
    // Unrolled, its loads run ahead and spill.
    ROLLED
    for (u32 step = 0; step < TILE_K; step += 2) {
        float a[2][8], b[2][COLUMNS];
        load_side<LEFT_BY_STEP, 8>(a, left, ty, step);
        load_side<RIGHT_BY_STEP, COLUMNS>(b, right, tx, step);
        UNROLL
        for (u32 s = 0; s < 2; s++) {
            UNROLL
            for (u32 i = 0; i < 8; i++) {
                UNROLL
                for (u32 j = 0; j < COLUMNS; j++) sums.of[i][j] = __fmaf_rn(a[s][i], b[s][j], sums.of[i][j]);
            }
        }
    }
}

// Runs f(row, column, sum, another column, its sum) for a thread's sums.
template <bool LEFT_BY_STEP, bool RIGHT_BY_STEP, class F> DEVICE void for_each_pair(Sums& sums, F f) {
    UNROLL
    for (u32 i = 0; i < 8; i++) {
        UNROLL
        for (u32 j = 0; j < COLUMNS; j += 2) {
            const u32 row = side_place<LEFT_BY_STEP, 8>(row_thread(), i);
            f(row, side_place<RIGHT_BY_STEP, COLUMNS>(column_thread(), j), sums.of[i][j],
              side_place<RIGHT_BY_STEP, COLUMNS>(column_thread(), j + 1), sums.of[i][j + 1]);
        }
    }
}

#else

// A warp's part of the tile, and the 16 x 8 products that it is made of.
#define WARP_COLUMNS (TILE_M == 256 ? 64 : 32)
#define WARP_ROWS (TILE_M * TILE_N / 8 / WARP_COLUMNS)
#define ROW_PRODUCTS (WARP_ROWS / 16)
#define COLUMN_PRODUCTS (WARP_COLUMNS / 8)

struct Sums {
    float of[ROW_PRODUCTS][COLUMN_PRODUCTS][4];
};

DEVICE u32 warp_row() { return warp_index() / (TILE_N / WARP_COLUMNS) * WARP_ROWS; }
DEVICE u32 warp_column() { return warp_index() % (TILE_N / WARP_COLUMNS) * WARP_COLUMNS; }

#if CLASS == 3

template <bool LEFT_BY_STEP, bool RIGHT_BY_STEP> DEVICE void multiply_tiles(Sums& sums, const Value* left, const Value* right) {
    const u32 matrix = lane_index() / 8, line = lane_index() % 8;
    UNROLL
    for (u32 step = 0; step < TILE_K; step += 16) {
        u32 a[ROW_PRODUCTS][4], b[COLUMN_PRODUCTS / 2][4];
        UNROLL
        for (u32 i = 0; i < ROW_PRODUCTS; i++) {
            const u32 row = warp_row() + 16 * i + matrix % 2 * 8, k = step + matrix / 2 * 8;
            if (LEFT_BY_STEP) load_matrices_transposed(a[i], left + (k + line) * STEP_STRIDE(TILE_M) + row);
            else load_matrices(a[i], left + (row + line) * ROW_STRIDE + k);
        }
        UNROLL
        for (u32 j = 0; j < COLUMN_PRODUCTS / 2; j++) {
            const u32 column = warp_column() + 16 * j + matrix / 2 * 8, k = step + matrix % 2 * 8;
            if (RIGHT_BY_STEP) load_matrices_transposed(b[j], right + (k + line) * STEP_STRIDE(TILE_N) + column);
            else load_matrices(b[j], right + (column + line) * ROW_STRIDE + k);
        }
        UNROLL
        for (u32 i = 0; i < ROW_PRODUCTS; i++) {
            UNROLL
            for (u32 j = 0; j < COLUMN_PRODUCTS; j++) multiply_bf16(sums.of[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
    }
}

#else

// What of x its tf32 rounding leaves, rounded so itself.
DEVICE u32 tf32_rest(float x, u32 rounded) { return to_tf32(x - __uint_as_float(rounded)); }

template <bool LEFT_BY_STEP, bool RIGHT_BY_STEP> DEVICE void multiply_tiles(Sums& sums, const Value* left, const Value* right) {
    const u32 r = lane_index() / 4, c = lane_index() % 4;
    // Unrolled, its loads run ahead and spill.
    ROLLED
    for (u32 step = 0; step < TILE_K; step += 8) {
        u32 a[ROW_PRODUCTS][4], a_rest[ROW_PRODUCTS][4];
        UNROLL
        for (u32 i = 0; i < ROW_PRODUCTS; i++) {
            UNROLL
            for (u32 part = 0; part < 4; part++) {
                const u32 row = warp_row() + 16 * i + r + part % 2 * 8;
                const float x = tile_value<LEFT_BY_STEP, TILE_M>(left, row, step + c + part / 2 * 4);
                a[i][part] = to_tf32(x);
                if (CLASS == 1) a_rest[i][part] = tf32_rest(x, a[i][part]);
            }
        }
        UNROLL
        for (u32 j = 0; j < COLUMN_PRODUCTS; j++) {
            u32 b[2], b_rest[2];
            UNROLL
            for (u32 part = 0; part < 2; part++) {
                const float x = tile_value<RIGHT_BY_STEP, TILE_N>(right, warp_column() + 8 * j + r, step + c + part * 4);
                b[part] = to_tf32(x);
                if (CLASS == 1) b_rest[part] = tf32_rest(x, b[part]);
            }
            UNROLL
            for (u32 i = 0; i < ROW_PRODUCTS; i++) {
                if (CLASS == 1) {
                    // The unit cuts off what it adds, which short sums of their own keep small.
                    float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
                    multiply_tf32(part, a_rest[i], b[0], b[1]);
                    multiply_tf32(part, a[i], b_rest[0], b_rest[1]);
                    multiply_tf32(part, a[i], b[0], b[1]);
                    UNROLL
                    for (u32 n = 0; n < 4; n++) sums.of[i][j][n] += part[n];
                } else {
                    multiply_tf32(sums.of[i][j], a[i], b[0], b[1]);
                }
            }
        }
    }
}

#endif

// Runs f(row, column, sum, another column, its sum) for a thread's sums.
template <bool LEFT_BY_STEP, bool RIGHT_BY_STEP, class F> DEVICE void for_each_pair(Sums& sums, F f) {
    UNROLL
    for (u32 i = 0; i < ROW_PRODUCTS; i++) {
        UNROLL
        for (u32 j = 0; j < COLUMN_PRODUCTS; j++) {
            UNROLL
            for (u32 half = 0; half < 2; half++) {
                const u32 row = warp_row() + 16 * i + lane_index() / 4 + 8 * half;
                const u32 column = warp_column() + 8 * j + lane_index() % 4 * 2;
                f(row, column, sums.of[i][j][2 * half], column + 1, sums.of[i][j][2 * half + 1]);
            }
        }
    }
}

#endif

// Starts the copy of one value to a tile; zero where not valid, and `from` is not read then.
DEVICE void copy_value(Value* to, const Value* from, bool valid) {
#if CLASS == 3
    Value value;
    value.bits = 0;
    if (valid) value = *from;
    *to = value;
#else
    copy_async_4(to, from, valid);
#endif
}

// Starts the copy of TILE_K rows of `width` values from `step` on, below `steps`, columns from `column` on, to a tile by step.
template <bool VECTOR, u32 WIDE> DEVICE void load_by_step(Value* tile, const Value* from, u32 step, u32 steps, u32 column, u32 width) {
    const u32 values = VECTOR ? VALUES : 1, pieces = WIDE / values;
    const auto copy = [=](u32 piece) {
        const u32 k = piece / pieces, n = piece % pieces * values;
        const bool valid = step + k < steps && column + n < width;
        const Value* source = valid ? from + (u64)(step + k) * width + column + n : from;
        Value* to = tile + k * STEP_STRIDE(WIDE) + n;
        if (VECTOR) copy_async_16(to, source, valid);
        else copy_value(to, source, valid);
    };
    if (VECTOR) {
        UNROLL
        for (u32 piece = threadIdx.x; piece < TILE_K * pieces; piece += THREADS) copy(piece);
    } else {
        ROLLED
        for (u32 piece = threadIdx.x; piece < TILE_K * pieces; piece += THREADS) copy(piece);
    }
}
