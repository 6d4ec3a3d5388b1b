// out[i,:] = sum_j p[i,j] v[j,:], p[i,:] = softmax_j(scale q[i,:] . k[j,:] - slope |i - j|), for sequences of KEYS tokens at most.
//
// Grid: one block HEADS heads of one sequence; heads change fastest. Block: 2 KEYS threads a head; a warp owns 16 queries of
// one head, a thread two rows of its products' fragments. Queries, keys and values stay in shared memory; scores, weights and
// sums in registers. Values are still on their way while scores are computed. Results leave through the queries' place, so
// that 16 bytes are written at a time.
// Bytes moved per value of a head: 6 read, 2 written, once. Bound by that: at 41 tokens and 64 values a block moves 21 KB, of
// which a multiprocessor has 20 in some 20 us / 32; its products fill a tenth of that. Blocks that are resident hide each
// other's latency: 20.7 KB and 9 KiB of registers a warp let 9 of 64 values and 48 keys stay, 5 of 128 values.
// Rows of 16 n + 8 values put eight rows' 16 bytes in different banks, for load_matrices and for the results.
// Assumes qkv and out aligned to 16 bytes, WIDTH a multiple of 8.
// Numerics: bf16 products, f32 sums; the exact maximum, no rescaling; weights rounded to bf16, their sum is of f32 ones. What
// is past the sequence is zero and weighs zero; nothing of a neighbour is read.
//
// Defines: WIDTH (values of a head, 128 at most), KEYS (a multiple of 16), HEADS (heads of a block).

#define STEPS ((WIDTH + 15) / 16)
#define PADDED (16 * STEPS)
#define THREADS (2 * KEYS * HEADS)
#define STRIDE (HEADS * PADDED + 8)
// Pieces of 16 bytes of a head's row.
#define PIECES (PADDED / 8)
// Tiles of eight keys, and of eight columns.
#define KEY_TILES (KEYS / 8)
#define COLUMN_TILES (PADDED / 8)

// Starts the copy of one of a token's thirds for all of the block's heads; zeros past the sequence, the heads and the width.
DEVICE void copy_third(bf16* to, const bf16* from, u64 stride, u32 length, u32 heads) {
    UNROLL
    for (u32 i = 0; i < STEPS; i++) {
        const u32 piece = threadIdx.x + i * THREADS, row = piece / (HEADS * PIECES), column = piece % (HEADS * PIECES);
        const u32 head = column / PIECES, inner = column % PIECES * 8;
        const bool valid = row < length && head < heads && inner < WIDTH;
        copy_async_16(to + row * STRIDE + column * 8, from + (valid ? row * stride + head * WIDTH + inner : 0), valid);
    }
}

// Entries: tokens before the sequence, its length.
KERNEL(THREADS, attention_short)
(const bf16* RESTRICT qkv, const uint4* RESTRICT entries, const float* RESTRICT slopes, bf16* RESTRICT out, u32 heads,
 float scale_log2) {
    SHARED(memory);
    bf16* query = (bf16*)memory;
    bf16* key = query + KEYS * STRIDE;
    bf16* value = key + KEYS * STRIDE;
    const u32 groups = (heads + HEADS - 1) / HEADS;
    const uint4 entry = entries[blockIdx.x / groups];
    const u32 first_head = blockIdx.x % groups * HEADS, length = entry.y, width = heads * WIDTH;
    const u64 stride = 3 * (u64)width;
    const bf16* start = qkv + entry.x * stride + first_head * WIDTH;
    copy_third(query, start, stride, length, heads - first_head);
    copy_third(key, start + width, stride, length, heads - first_head);
    copy_async_commit();
    copy_third(value, start + 2 * width, stride, length, heads - first_head);
    copy_async_commit();

    const u32 lane = lane_index(), inner_head = warp_index() / (KEYS / 16), head = first_head + inner_head;
    const u32 first = warp_index() % (KEYS / 16) * 16, row = first + lane / 4;
    const bool is_active = first < length && head < heads;
    bf16* own = query + first * STRIDE + inner_head * PADDED;
    key += inner_head * PADDED, value += inner_head * PADDED;
    float scores[KEY_TILES][4], low_sum = 0.0f, high_sum = 0.0f;

    copy_async_wait<1>();
    __syncthreads();
    if (is_active) {
        UNROLL
        for (u32 n = 0; n < KEY_TILES; n++) scores[n][0] = scores[n][1] = scores[n][2] = scores[n][3] = 0.0f;
        UNROLL
        for (u32 k = 0; k < STEPS; k++) {
            u32 left[4];
            load_matrices(left, own + (lane & 15) * STRIDE + 16 * k + (lane >> 4) * 8);
            UNROLL
            for (u32 n = 0; n < KEY_TILES; n += 2) {
                u32 right[4];
                load_matrices(right, key + (8 * n + (lane & 7) + (lane >> 4) * 8) * STRIDE + 16 * k + (lane >> 3 & 1) * 8);
                multiply_bf16(scores[n], left, right[0], right[1]);
                multiply_bf16(scores[n + 1], left, right[2], right[3]);
            }
        }
        const float slope = slopes ? slopes[head] * LOG2_E : 0.0f;
        float low_most = NEGATIVE_INFINITY, high_most = NEGATIVE_INFINITY;
        UNROLL
        for (u32 n = 0; n < KEY_TILES; n++) {
            UNROLL
            for (u32 i = 0; i < 4; i++) {
                const u32 column = 8 * n + 2 * (lane & 3) + (i & 1);
                const float distance = fabsf((float)(int)(row + (i & 2) * 4 - column));
                const float score = fmaf(-slope, distance, scores[n][i] * scale_log2);
                scores[n][i] = column < length ? score : NEGATIVE_INFINITY;
            }
            low_most = fmaxf(low_most, fmaxf(scores[n][0], scores[n][1]));
            high_most = fmaxf(high_most, fmaxf(scores[n][2], scores[n][3]));
        }
        low_most = quad_max(low_most), high_most = quad_max(high_most);
        UNROLL
        for (u32 n = 0; n < KEY_TILES; n++) {
            scores[n][0] = exp2_fast(scores[n][0] - low_most), scores[n][1] = exp2_fast(scores[n][1] - low_most);
            scores[n][2] = exp2_fast(scores[n][2] - high_most), scores[n][3] = exp2_fast(scores[n][3] - high_most);
            low_sum += scores[n][0] + scores[n][1];
            high_sum += scores[n][2] + scores[n][3];
        }
        low_sum = 1.0f / quad_sum(low_sum), high_sum = 1.0f / quad_sum(high_sum);
    }

    copy_async_wait<0>();
    __syncthreads();
    if (!is_active) return;
    float mixed[COLUMN_TILES][4];
    UNROLL
    for (u32 n = 0; n < COLUMN_TILES; n++) mixed[n][0] = mixed[n][1] = mixed[n][2] = mixed[n][3] = 0.0f;
    UNROLL
    for (u32 k = 0; k < KEYS / 16; k++) {
        const float(&even)[4] = scores[2 * k], (&odd)[4] = scores[2 * k + 1];
        const u32 left[4] = {pack_bf16(even[0], even[1]), pack_bf16(even[2], even[3]), pack_bf16(odd[0], odd[1]),
                             pack_bf16(odd[2], odd[3])};
        UNROLL
        for (u32 n = 0; n < COLUMN_TILES; n += 2) {
            u32 right[4];
            load_matrices_transposed(right, value + (16 * k + (lane & 15)) * STRIDE + 8 * n + (lane >> 4) * 8);
            multiply_bf16(mixed[n], left, right[0], right[1]);
            multiply_bf16(mixed[n + 1], left, right[2], right[3]);
        }
    }
    UNROLL
    for (u32 n = 0; n < COLUMN_TILES; n++) {
        bf16* to = own + lane / 4 * STRIDE + 8 * n + 2 * (lane & 3);
        *(u32*)to = pack_bf16(mixed[n][0] * low_sum, mixed[n][1] * low_sum);
        *(u32*)(to + 8 * STRIDE) = pack_bf16(mixed[n][2] * high_sum, mixed[n][3] * high_sum);
    }
    __syncwarp();
    UNROLL
    for (u32 i = 0; i < STEPS; i++) {
        const u32 piece = lane + 32 * i, inner_row = piece / PIECES, column = piece % PIECES * 8;
        if (first + inner_row < length && column < WIDTH) {
            bf16* to = out + (u64)(entry.x + first + inner_row) * width + head * WIDTH + column;
            *(uint4*)to = *(const uint4*)(own + inner_row * STRIDE + column);
        }
    }
}
