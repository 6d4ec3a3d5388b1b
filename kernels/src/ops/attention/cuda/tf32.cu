// out[i,:] = sum_j p[i,j] v[j,:], p[i,:] = softmax_j(scale q[i,:] . k[j,:] - slope |i - j|), f32 values and tf32 products.
//
// Grid: one block a tile of 16 WARPS queries of one head of one sequence; heads change fastest. Block: WARPS warps; a warp owns
// 16 queries, a thread two rows of its products' fragments. Keys and values pass by in tiles of KEYS; values of a tile are
// copied while its scores are computed, the next keys while its values are mixed.
// Bytes moved per value: q and out once, k and v once per tile of queries. Bound by shared memory: a fragment of keys or values
// serves one product.
// A fragment's four words of a row are the 16 bytes of a row of load_matrices. Values need no transposing: the weights' even
// columns stand for keys 2 c, their odd ones for keys 2 c + 1, in both operands. Rows of 8 n + 4 floats keep both kinds of
// reads in different banks.
// Assumes qkv and out aligned to 16 bytes, WIDTH a multiple of 4.
// Numerics: operands of both products rounded to 10 bits of fraction, f32 sums; running maximum, one division at the end. The
// tiles depend on the sequence's own length only.
//
// Defines: WIDTH (values of a head, 128 at most), KEYS (a multiple of 16), WARPS.

#define THREADS (32 * WARPS)
#define ROWS (16 * WARPS)
#define PADDED ((WIDTH + 7) / 8 * 8)
#define STRIDE (PADDED + 4)
// Pieces of 16 bytes of a head's row.
#define PIECES (PADDED / 4)
// Tiles of eight keys, and of eight columns.
#define KEY_TILES (KEYS / 8)
#define COLUMN_TILES (PADDED / 8)

// Starts the copy of `rows` rows, `count` of which there are; zeros past them and past the width.
DEVICE void copy_rows(float* to, const float* from, u64 stride, u32 rows, u32 count) {
    for (u32 piece = threadIdx.x; piece < rows * PIECES; piece += THREADS) {
        const u32 row = piece / PIECES, column = piece % PIECES * 4;
        copy_async_16(to + row * STRIDE + column, from + row * stride + column, row < count && column < WIDTH);
    }
}

// As load_matrices, each word rounded to tf32.
DEVICE void load_rounded(u32 (&words)[4], const float* row) {
    load_matrices(words, row);
    UNROLL
    for (u32 i = 0; i < 4; i++) words[i] = to_tf32(__uint_as_float(words[i]));
}

// Entries: tokens before the sequence, its length, the tile's first row.
KERNEL_RESIDENT(THREADS, 2, attention_tf32)
(const float* RESTRICT qkv, const uint4* RESTRICT entries, const float* RESTRICT slopes, float* RESTRICT out, u32 heads,
 float scale_log2) {
    SHARED(memory);
    float* query = (float*)memory;
    float* key = query + ROWS * STRIDE;
    float* value = key + KEYS * STRIDE;
    const uint4 entry = entries[blockIdx.x / heads];
    const u32 head = blockIdx.x % heads, length = entry.y, width = heads * WIDTH;
    const u64 stride = 3 * (u64)width;
    const float* start = qkv + entry.x * stride + head * WIDTH;
    copy_rows(query, start + entry.z * stride, stride, ROWS, length - entry.z);
    copy_rows(key, start + width, stride, KEYS, length);
    copy_async_commit();

    const u32 lane = lane_index(), first = entry.z + warp_index() * 16;
    const bool is_active = first < length;
    const float* left_row = query + (warp_index() * 16 + (lane & 15)) * STRIDE + (lane >> 4) * 4;
    const float* right_row = key + ((lane & 7) + (lane >> 4) * 8) * STRIDE + (lane >> 3 & 1) * 4;
    const float* value_column = value + 2 * (lane & 3) * STRIDE + lane / 4;
    const float slope = slopes ? slopes[head] * LOG2_E : 0.0f;
    // Of rows lane / 4 and lane / 4 + 8 of the warp's.
    float most[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY}, sums[2] = {0.0f, 0.0f};
    float mixed[COLUMN_TILES][4];
    UNROLL
    for (u32 n = 0; n < COLUMN_TILES; n++) mixed[n][0] = mixed[n][1] = mixed[n][2] = mixed[n][3] = 0.0f;
    for (u32 past = 0; past < length; past += KEYS) {
        copy_async_wait<0>();
        __syncthreads();
        copy_rows(value, start + 2 * width + past * stride, stride, KEYS, length - past);
        copy_async_commit();
        float scores[KEY_TILES][4];
        if (is_active) {
            UNROLL
            for (u32 n = 0; n < KEY_TILES; n++) scores[n][0] = scores[n][1] = scores[n][2] = scores[n][3] = 0.0f;
            UNROLL
            for (u32 k = 0; k < PADDED; k += 8) {
                u32 left[4];
                load_rounded(left, left_row + k);
                UNROLL
                for (u32 n = 0; n < KEY_TILES; n += 2) {
                    u32 right[4];
                    load_rounded(right, right_row + 8 * n * STRIDE + k);
                    multiply_tf32(scores[n], left, right[0], right[1]);
                    multiply_tf32(scores[n + 1], left, right[2], right[3]);
                }
            }
            UNROLL
            for (u32 half = 0; half < 2; half++) {
                float highest = NEGATIVE_INFINITY;
                UNROLL
                for (u32 n = 0; n < KEY_TILES; n++) {
                    UNROLL
                    for (u32 i = 2 * half; i < 2 * half + 2; i++) {
                        const u32 column = past + 8 * n + 2 * (lane & 3) + (i & 1);
                        const float distance = fabsf((float)(int)(first + lane / 4 + 8 * half - column));
                        const float score = fmaf(-slope, distance, scores[n][i] * scale_log2);
                        scores[n][i] = column < length ? score : NEGATIVE_INFINITY;
                        highest = fmaxf(highest, scores[n][i]);
                    }
                }
                highest = fmaxf(most[half], quad_max(highest));
                const float shrinks = exp2_fast(most[half] - highest);
                most[half] = highest;
                sums[half] *= shrinks;
                UNROLL
                for (u32 n = 0; n < KEY_TILES; n++) {
                    UNROLL
                    for (u32 i = 2 * half; i < 2 * half + 2; i++) {
                        scores[n][i] = exp2_fast(scores[n][i] - highest);
                        sums[half] += scores[n][i];
                    }
                }
                UNROLL
                for (u32 n = 0; n < COLUMN_TILES; n++) mixed[n][2 * half] *= shrinks, mixed[n][2 * half + 1] *= shrinks;
            }
        }

        copy_async_wait<0>();
        __syncthreads();
        const u32 next = past + KEYS;
        if (next < length) {
            copy_rows(key, start + width + next * stride, stride, KEYS, length - next);
            copy_async_commit();
        }
        if (!is_active) continue;
        UNROLL
        for (u32 n = 0; n < KEY_TILES; n++) {
            const u32 left[4] = {to_tf32(scores[n][0]), to_tf32(scores[n][2]), to_tf32(scores[n][1]), to_tf32(scores[n][3])};
            UNROLL
            for (u32 c = 0; c < COLUMN_TILES; c++) {
                const float* right = value_column + 8 * n * STRIDE + 8 * c;
                multiply_tf32(mixed[c], left, to_tf32(right[0]), to_tf32(right[STRIDE]));
            }
        }
    }
    if (!is_active) return;
    UNROLL
    for (u32 half = 0; half < 2; half++) {
        const float inverse = 1.0f / quad_sum(sums[half]);
        const u32 row = first + lane / 4 + 8 * half;
        if (row >= length) continue;
        float* to = out + (u64)(entry.x + row) * width + head * WIDTH + 2 * (lane & 3);
        UNROLL
        for (u32 n = 0; n < COLUMN_TILES; n++) {
            const float2 pair = make_float2(mixed[n][2 * half] * inverse, mixed[n][2 * half + 1] * inverse);
            if (8 * n + 2 * (lane & 3) < WIDTH) *(float2*)(to + 8 * n) = pair;
        }
    }
}
