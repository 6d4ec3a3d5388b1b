// out[i,:] = sum_j p[i,j] v[j,:], p[i,:] = softmax_j(scale q[i,:] . k[j,:] - slope |i - j|), in f32 for any head width and length.
//
// Grid: one block a tile of ROWS queries of one head of one sequence; heads change fastest. Block: 128 threads; thread t owns
// rows t / 8, t / 8 + 16, ..., of each tile's keys t % 8, t % 8 + 8, ... and of the output columns 4 (t % 8).. + 32, .... Keys
// and values pass by in tiles of KEYS; values of a tile are copied while its scores are computed, the next keys while its
// values are mixed. A warp reads what it wrote of the weights, no other does.
// Bytes moved per value: q and out once, k and v once per tile of ROWS queries. Bound by shared memory: 12 reads of 16 bytes a
// warp for 128 multiply-adds. Rows of 32 n + 4 floats keep eight rows' 16 bytes in different banks, weights' rows of
// KEYS + 8 their four.
// Assumes f32 qkv and out aligned to 16 bytes where WIDTH is a multiple of 4.
// Numerics: f32 chains of multiply-adds in order of column and of key; running maximum, one division at the end. The tiles
// depend on the sequence's own length only.
//
// Defines: WIDTH (values of a head), ROWS_EACH, KEYS_EACH (rows and keys a thread owns), IS_BF16 (qkv and out, else f32).

#if IS_BF16
typedef bf16 Value;
#else
typedef float Value;
#endif
#define THREADS 128
#define ROWS (16 * ROWS_EACH)
#define KEYS (8 * KEYS_EACH)
// Groups of four columns that a thread owns.
#define GROUPS ((WIDTH + 31) / 32)
#define STRIDE (32 * GROUPS + 4)
#define WEIGHT_STRIDE (KEYS + 8)

// Starts the copy of four columns; zeros past the head's end, and where not `valid`.
DEVICE void copy_four(float* to, const float* from, u32 column, bool valid) {
#if WIDTH % 4 == 0
    copy_async_16(to, from + (column < WIDTH ? column : 0), valid && column < WIDTH);
#else
    UNROLL
    for (u32 i = 0; i < 4; i++) {
        const u32 at = column + i;
        copy_async_4(to + i, from + (at < WIDTH ? at : 0), valid && at < WIDTH);
    }
#endif
}
DEVICE void copy_four(float* to, const bf16* from, u32 column, bool valid) {
    UNROLL
    for (u32 i = 0; i < 4; i++) to[i] = valid && column + i < WIDTH ? to_float(from[column + i]) : 0.0f;
}

// Starts the copy of `rows` rows, `count` of which there are.
DEVICE void copy_rows(float* to, const Value* from, u64 stride, u32 rows, u32 count) {
    for (u32 i = threadIdx.x; i < rows * 8 * GROUPS; i += THREADS) {
        const u32 row = i / (8 * GROUPS), column = i % (8 * GROUPS) * 4;
        copy_four(to + row * STRIDE + column, from + (row < count ? row : 0) * stride, column, row < count);
    }
}

DEVICE float multiply_four(float4 x, float4 y, float sum) {
    return fmaf(x.w, y.w, fmaf(x.z, y.z, fmaf(x.y, y.y, fmaf(x.x, y.x, sum))));
}

DEVICE void add_scaled(float4& sum, float weight, float4 x) {
    sum.x = fmaf(weight, x.x, sum.x), sum.y = fmaf(weight, x.y, sum.y);
    sum.z = fmaf(weight, x.z, sum.z), sum.w = fmaf(weight, x.w, sum.w);
}

DEVICE void write_four(float* out, float4 x, u32 column) {
#if WIDTH % 4 == 0
    if (column < WIDTH) *(float4*)(out + column) = x;
#else
    const float values[4] = {x.x, x.y, x.z, x.w};
    UNROLL
    for (u32 i = 0; i < 4; i++) {
        if (column + i < WIDTH) out[column + i] = values[i];
    }
#endif
}
DEVICE void write_four(bf16* out, float4 x, u32 column) {
    const float values[4] = {x.x, x.y, x.z, x.w};
    UNROLL
    for (u32 i = 0; i < 4; i++) {
        if (column + i < WIDTH) out[column + i] = from_float<bf16>(values[i]);
    }
}

// Entries: tokens before the sequence, its length, the tile's first row.
KERNEL_RESIDENT(THREADS, 2, attention_simt)
(const Value* RESTRICT qkv, const uint4* RESTRICT entries, const float* RESTRICT slopes, Value* RESTRICT out, u32 heads,
 float scale_log2) {
    SHARED(memory);
    float* query = (float*)memory;
    float* key = query + ROWS * STRIDE;
    float* value = key + KEYS * STRIDE;
    float* weights = value + KEYS * STRIDE;
    const uint4 entry = entries[blockIdx.x / heads];
    const u32 head = blockIdx.x % heads, length = entry.y, first = entry.z;
    const u32 width = heads * WIDTH, group = threadIdx.x >> 3, eighth = threadIdx.x & 7;
    const u64 stride = 3 * (u64)width;
    const Value* start = qkv + entry.x * stride + head * WIDTH;
    const float slope = slopes ? slopes[head] * LOG2_E : 0.0f;

    copy_rows(query, start + first * stride, stride, ROWS, length - first);
    copy_rows(key, start + width, stride, KEYS, length);
    copy_async_commit();

    float most[ROWS_EACH], sums[ROWS_EACH];
    float4 mixed[ROWS_EACH][GROUPS];
    UNROLL
    for (u32 i = 0; i < ROWS_EACH; i++) {
        most[i] = NEGATIVE_INFINITY, sums[i] = 0.0f;
        UNROLL
        for (u32 c = 0; c < GROUPS; c++) mixed[i][c] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    for (u32 past = 0; past < length; past += KEYS) {
        copy_async_wait<0>();
        __syncthreads();
        copy_rows(value, start + 2 * width + past * stride, stride, KEYS, length - past);
        copy_async_commit();

        float scores[ROWS_EACH][KEYS_EACH];
        UNROLL
        for (u32 i = 0; i < ROWS_EACH; i++) {
            UNROLL
            for (u32 j = 0; j < KEYS_EACH; j++) scores[i][j] = 0.0f;
        }
        for (u32 k = 0; k < WIDTH; k += 4) {
            float4 left[ROWS_EACH];
            UNROLL
            for (u32 i = 0; i < ROWS_EACH; i++) left[i] = *(const float4*)(query + (group + 16 * i) * STRIDE + k);
            UNROLL
            for (u32 j = 0; j < KEYS_EACH; j++) {
                const float4 right = *(const float4*)(key + (eighth + 8 * j) * STRIDE + k);
                UNROLL
                for (u32 i = 0; i < ROWS_EACH; i++) scores[i][j] = multiply_four(left[i], right, scores[i][j]);
            }
        }
        UNROLL
        for (u32 i = 0; i < ROWS_EACH; i++) {
            const float row = (float)(first + group + 16 * i);
            float highest = NEGATIVE_INFINITY;
            UNROLL
            for (u32 j = 0; j < KEYS_EACH; j++) {
                const u32 column = past + eighth + 8 * j;
                const float score = fmaf(-slope, fabsf(row - (float)column), scores[i][j] * scale_log2);
                scores[i][j] = column < length ? score : NEGATIVE_INFINITY;
                highest = fmaxf(highest, scores[i][j]);
            }
            // The eight threads of a row are lanes side by side.
            for (u32 mask = 4; mask > 0; mask >>= 1) highest = fmaxf(highest, shuffle_xor(highest, mask));
            highest = fmaxf(highest, most[i]);
            const float shrinks = exp2_fast(most[i] - highest);
            most[i] = highest;
            sums[i] *= shrinks;
            UNROLL
            for (u32 j = 0; j < KEYS_EACH; j++) {
                const float weight = exp2_fast(scores[i][j] - highest);
                sums[i] += weight;
                weights[(group + 16 * i) * WEIGHT_STRIDE + eighth + 8 * j] = weight;
            }
            UNROLL
            for (u32 c = 0; c < GROUPS; c++) {
                float4& sum = mixed[i][c];
                sum.x *= shrinks, sum.y *= shrinks, sum.z *= shrinks, sum.w *= shrinks;
            }
        }

        copy_async_wait<0>();
        __syncthreads();
        if (past + KEYS < length) {
            copy_rows(key, start + width + (past + KEYS) * stride, stride, KEYS, length - past - KEYS);
            copy_async_commit();
        }
        for (u32 j = 0; j < KEYS; j += 4) {
            float4 left[ROWS_EACH];
            UNROLL
            for (u32 i = 0; i < ROWS_EACH; i++) left[i] = *(const float4*)(weights + (group + 16 * i) * WEIGHT_STRIDE + j);
            UNROLL
            for (u32 c = 0; c < GROUPS; c++) {
                const float* right = value + j * STRIDE + 4 * eighth + 32 * c;
                const float4 v0 = *(const float4*)right, v1 = *(const float4*)(right + STRIDE);
                const float4 v2 = *(const float4*)(right + 2 * STRIDE), v3 = *(const float4*)(right + 3 * STRIDE);
                UNROLL
                for (u32 i = 0; i < ROWS_EACH; i++) {
                    add_scaled(mixed[i][c], left[i].x, v0), add_scaled(mixed[i][c], left[i].y, v1);
                    add_scaled(mixed[i][c], left[i].z, v2), add_scaled(mixed[i][c], left[i].w, v3);
                }
            }
        }
    }
    UNROLL
    for (u32 i = 0; i < ROWS_EACH; i++) {
        float sum = sums[i];
        for (u32 mask = 4; mask > 0; mask >>= 1) sum += shuffle_xor(sum, mask);
        const float inverse = 1.0f / sum;
        const u32 row = first + group + 16 * i;
        if (row >= length) continue;
        Value* to = out + (u64)(entry.x + row) * width + head * WIDTH;
        UNROLL
        for (u32 c = 0; c < GROUPS; c++) {
            const float4 x = mixed[i][c];
            write_four(to, make_float4(x.x * inverse, x.y * inverse, x.z * inverse, x.w * inverse), 4 * eighth + 32 * c);
        }
    }
}
