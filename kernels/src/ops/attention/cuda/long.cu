// out[i,:] = sum_j p[i,j] v[j,:], p[i,:] = softmax_j(scale q[i,:] . k[j,:] - slope |i - j|), for sequences of any length.
//
// Grid: one block a tile of 128 queries of one head of one sequence, tiles of long sequences first; heads change fastest.
// Block: 4 warps; a warp owns 32 queries, so that each fragment of keys and values it reads serves two products. Keys and
// values pass by in tiles of 64 through two places: a tile is on its way while the one before is attended to, one barrier a
// tile. Scores, weights and sums stay in registers; queries too where a head has 64 values at most. Warps past the end only
// copy.
// Bytes moved per value: q and out once, k and v once per tile of queries, mostly from L2. Bound by matrix products of
// mma.sync: 4 (128) (64) WIDTH multiply-adds a tile, against 5 operations for each of its 128 x 64 weights. 55 KB and 168
// registers let three blocks of 64 values stay, 104 KB and 255 registers two of 128: another block's products run while one
// finds its maxima.
// Rows of 16 n + 8 values put eight rows' 16 bytes in different banks, for load_matrices and for the results.
// Assumes qkv and out aligned to 16 bytes, WIDTH a multiple of 8, scale not negative.
// Numerics: bf16 products, f32 sums in order of the tiles; running maximum (Dao 2023, FlashAttention-2), one division at the
// end; weights rounded to bf16, their sum is of f32 ones. The tiles depend on the sequence's own length only.
//
// Defines: WIDTH (values of a head, 128 at most), HAS_SLOPES.

#define STEPS ((WIDTH + 15) / 16)
#define PADDED (16 * STEPS)
#define THREADS 128
#define ROWS 128
#if WIDTH <= 96
#define KEYS 64
#else
#define KEYS 32
#endif
#define STRIDE (PADDED + 8)
// Pieces of 16 bytes of a head's row.
#define PIECES (PADDED / 8)
// Tiles of eight keys, and of eight columns.
#define KEY_TILES (KEYS / 8)
#define COLUMN_TILES (PADDED / 8)
// Threads side by side that copy a row, so that a thread's next row is a fixed number of rows below.
#if PIECES <= 4
#define ROW_THREADS 4
#elif PIECES <= 8
#define ROW_THREADS 8
#else
#define ROW_THREADS 16
#endif
#define ROW_STEP (THREADS / ROW_THREADS)
#if WIDTH <= 32
#define RESIDENT 3
#else
#define RESIDENT 2
#endif

// Starts the copy of `rows` rows, `count` of which there are; zeros past them and past the width.
DEVICE void copy_rows(bf16* to, const bf16* from, u64 stride, u32 rows, u32 count) {
    const u32 column = threadIdx.x % ROW_THREADS * 8;
    u32 row = threadIdx.x / ROW_THREADS;
    if (column >= PADDED) return;
    to += row * STRIDE + column;
    const bf16* at = from + row * stride + column;
    UNROLL
    for (u32 i = 0; i < rows / ROW_STEP; i++) {
        const bool valid = row < count && column < WIDTH;
        copy_async_16(to, at, valid);
        row += ROW_STEP, to += ROW_STEP * STRIDE, at += ROW_STEP * stride;
    }
}

// Adds the products of 32 queries and a tile's keys.
DEVICE void add_scores(float (&scores)[2][KEY_TILES][4], const bf16* own, const bf16* key) {
    const u32 lane = lane_index();
    own += (lane & 15) * STRIDE + (lane >> 4) * 8;
    key += ((lane & 7) + (lane >> 4) * 8) * STRIDE + (lane >> 3 & 1) * 8;
    UNROLL
    for (u32 k = 0; k < STEPS; k++) {
        u32 left[2][4];
        load_matrices(left[0], own + 16 * k);
        load_matrices(left[1], own + 16 * STRIDE + 16 * k);
        UNROLL
        for (u32 n = 0; n < KEY_TILES; n += 2) {
            u32 right[4];
            load_matrices(right, key + 8 * n * STRIDE + 16 * k);
            UNROLL
            for (u32 m = 0; m < 2; m++) {
                multiply_bf16(scores[m][n], left[m], right[0], right[1]);
                multiply_bf16(scores[m][n + 1], left[m], right[2], right[3]);
            }
        }
    }
}

// Entries: tokens before the sequence, its length, the tile's first row.
KERNEL_RESIDENT(THREADS, RESIDENT, attention_long)
(const bf16* RESTRICT qkv, const uint4* RESTRICT entries, const float* RESTRICT slopes, bf16* RESTRICT out, u32 heads,
 float scale_log2) {
    SHARED(memory);
    bf16* query = (bf16*)memory;
    bf16* places = query + ROWS * STRIDE;
    const uint4 entry = entries[blockIdx.x / heads];
    const u32 head = blockIdx.x % heads, length = entry.y, width = heads * WIDTH;
    const u64 stride = 3 * (u64)width;
    const bf16* start = qkv + entry.x * stride + head * WIDTH;
    copy_rows(query, start + entry.z * stride, stride, ROWS, length - entry.z);
    copy_rows(places, start + width, stride, KEYS, length);
    copy_rows(places + KEYS * STRIDE, start + 2 * width, stride, KEYS, length);
    copy_async_commit();

    const u32 lane = lane_index(), first = entry.z + warp_index() * 32;
    const bool is_active = first < length;
    bf16* own = query + warp_index() * 32 * STRIDE;
#if HAS_SLOPES
    const float slope = slopes[head] * LOG2_E;
#endif
    // Of rows lane / 4 + 8 i of the warp's.
    float most[4], sums[4];
    UNROLL
    for (u32 i = 0; i < 4; i++) most[i] = NEGATIVE_INFINITY, sums[i] = 0.0f;
    float mixed[2][COLUMN_TILES][4];
    UNROLL
    for (u32 m = 0; m < 2; m++) {
        UNROLL
        for (u32 n = 0; n < COLUMN_TILES; n++) mixed[m][n][0] = mixed[m][n][1] = mixed[m][n][2] = mixed[m][n][3] = 0.0f;
    }
    for (u32 past = 0, place = 0; past < length; past += KEYS, place ^= 1) {
        copy_async_wait<0>();
        __syncthreads();
        const u32 next = past + KEYS;
        if (next < length) {
            bf16* to = places + (place ^ 1) * 2 * KEYS * STRIDE;
            copy_rows(to, start + width + next * stride, stride, KEYS, length - next);
            copy_rows(to + KEYS * STRIDE, start + 2 * width + next * stride, stride, KEYS, length - next);
            copy_async_commit();
        }
        if (!is_active) continue;
        const bf16* key = places + place * 2 * KEYS * STRIDE;
        const bf16* value = key + KEYS * STRIDE;
        float scores[2][KEY_TILES][4];
        UNROLL
        for (u32 m = 0; m < 2; m++) {
            UNROLL
            for (u32 n = 0; n < KEY_TILES; n++) scores[m][n][0] = scores[m][n][1] = scores[m][n][2] = scores[m][n][3] = 0.0f;
        }
        add_scores(scores, own, key);
#if HAS_SLOPES
        // Scores become powers' exponents before their maximum, else after it.
        UNROLL
        for (u32 m = 0; m < 2; m++) {
            UNROLL
            for (u32 n = 0; n < KEY_TILES; n++) {
                const int ahead = (int)(first + 16 * m + lane / 4) - (int)(past + 8 * n + 2 * (lane & 3));
                UNROLL
                for (u32 i = 0; i < 4; i++) {
                    const float distance = fabsf((float)(ahead + (int)(i & 2) * 4 - (int)(i & 1)));
                    scores[m][n][i] = fmaf(-slope, distance, scores[m][n][i] * scale_log2);
                }
            }
        }
        const float factor = 1.0f;
#else
        const float factor = scale_log2;
#endif
        if (next > length) {
            UNROLL
            for (u32 n = 0; n < KEY_TILES; n++) {
                UNROLL
                for (u32 i = 0; i < 2; i++) {
                    if (past + 8 * n + 2 * (lane & 3) + i < length) continue;
                    scores[0][n][i] = scores[0][n][i + 2] = scores[1][n][i] = scores[1][n][i + 2] = NEGATIVE_INFINITY;
                }
            }
        }
        u32 weights[2][KEY_TILES][2];
        UNROLL
        for (u32 m = 0; m < 2; m++) {
            UNROLL
            for (u32 half = 0; half < 2; half++) {
                const u32 i = 2 * m + half;
                float highest = NEGATIVE_INFINITY;
                UNROLL
                for (u32 n = 0; n < KEY_TILES; n++) {
                    highest = fmaxf(highest, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
                }
                highest = fmaxf(most[i], quad_max(highest) * factor);
                const float shrinks = exp2_fast(most[i] - highest);
                most[i] = highest;
                float sum = 0.0f;
                UNROLL
                for (u32 n = 0; n < KEY_TILES; n++) {
                    const float low = exp2_fast(fmaf(scores[m][n][2 * half], factor, -highest));
                    const float high = exp2_fast(fmaf(scores[m][n][2 * half + 1], factor, -highest));
                    sum += low + high;
                    weights[m][n][half] = pack_bf16(low, high);
                }
                sums[i] = fmaf(sums[i], shrinks, sum);
                UNROLL
                for (u32 n = 0; n < COLUMN_TILES; n++) mixed[m][n][2 * half] *= shrinks, mixed[m][n][2 * half + 1] *= shrinks;
            }
        }
        UNROLL
        for (u32 k = 0; k < KEYS / 16; k++) {
            u32 left[2][4];
            UNROLL
            for (u32 m = 0; m < 2; m++) {
                left[m][0] = weights[m][2 * k][0], left[m][1] = weights[m][2 * k][1];
                left[m][2] = weights[m][2 * k + 1][0], left[m][3] = weights[m][2 * k + 1][1];
            }
            UNROLL
            for (u32 n = 0; n < COLUMN_TILES; n += 2) {
                u32 right[4];
                load_matrices_transposed(right, value + (16 * k + (lane & 15)) * STRIDE + 8 * n + (lane >> 4) * 8);
                UNROLL
                for (u32 m = 0; m < 2; m++) {
                    multiply_bf16(mixed[m][n], left[m], right[0], right[1]);
                    multiply_bf16(mixed[m][n + 1], left[m], right[2], right[3]);
                }
            }
        }
    }
    if (!is_active) return;
    // Its queries are the warp's own, and read.
    __syncwarp();
    UNROLL
    for (u32 m = 0; m < 2; m++) {
        const float low = 1.0f / quad_sum(sums[2 * m]), high = 1.0f / quad_sum(sums[2 * m + 1]);
        UNROLL
        for (u32 n = 0; n < COLUMN_TILES; n++) {
            bf16* to = own + (16 * m + lane / 4) * STRIDE + 8 * n + 2 * (lane & 3);
            *(u32*)to = pack_bf16(mixed[m][n][0] * low, mixed[m][n][1] * low);
            *(u32*)(to + 8 * STRIDE) = pack_bf16(mixed[m][n][2] * high, mixed[m][n][3] * high);
        }
    }
    __syncwarp();
    UNROLL
    for (u32 i = 0; i < 2 * STEPS; i++) {
        const u32 piece = lane + 32 * i, row = piece / PIECES, column = piece % PIECES * 8;
        if (first + row < length && column < WIDTH) {
            bf16* to = out + (u64)(entry.x + first + row) * width + head * WIDTH + column;
            *(uint4*)to = *(const uint4*)(own + row * STRIDE + column);
        }
    }
}
