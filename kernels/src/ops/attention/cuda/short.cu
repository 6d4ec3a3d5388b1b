// out[i,:] = sum_j p[i,j] v[j,:], p[i,:] = softmax_j(scale q[i,:] . k[j,:] - slope |i - j|), for sequences of KEYS tokens at most.
//
// Grid: one block HEADS heads of one sequence; heads change fastest. Block: WARPS warps a head; a warp owns 16 queries of one
// head at a time, a thread two rows of its products' fragments. Queries, keys and values stay in shared memory; scores, weights
// and sums in registers. Values are still on their way while the first scores are computed. Results leave through the queries'
// place, so that 16 bytes are written at a time.
// Bytes moved per value of a head: 6 read, 2 written, once. Bound by that: 41 tokens of 64 values are 21 KB, which a
// multiprocessor moves in some 1,100 cycles, while its products take 160 and everything else that it issues some 400. What
// counts is how many blocks stay, to hide each other's latency. Of 228 KiB and 65,536 registers they take: 48 keys of 64
// values 20.7 KB and 72 x 96, so 9 stay; 48 of 128 values 39 KB and 128 x 96, 5; 128 of 64 values 55 KB and 128 x 128, 4;
// 128 of 128 values 104 KB, 2.
// Rows of 16 n + 8 values put eight rows' 16 bytes in different banks, for load_matrices and for the results.
// Assumes qkv and out aligned to 16 bytes, WIDTH a multiple of 8.
// Numerics: bf16 products, f32 sums; the exact maximum, no rescaling; weights rounded to bf16, their sum is of f32 ones. What
// is past the sequence is zero and weighs zero; nothing of a neighbour is read.
//
// Defines: WIDTH (values of a head, 128 at most), KEYS (a multiple of 16 WARPS), HEADS (heads of a block), WARPS (of a head).

#define STEPS ((WIDTH + 15) / 16)
#define PADDED (16 * STEPS)
#define THREADS (32 * WARPS * HEADS)
// How often a warp takes 16 queries.
#define ROUNDS (KEYS / (16 * WARPS))
#define STRIDE (HEADS * PADDED + 8)
// Pieces of 16 bytes of a head's row.
#define PIECES (PADDED / 8)
// Tiles of eight keys, and of eight columns.
#define KEY_TILES (KEYS / 8)
#define COLUMN_TILES (PADDED / 8)
// Blocks that stay: as many as 227 KiB of shared memory or the registers have room for; sums of products take most of these,
// and some more are taken where a warp has several rounds. A quarter of a multiprocessor has 512 registers for each lane.
#define BY_SHARED (232448 / (3 * KEYS * STRIDE * 2 + 1024))
#define REGISTERS ((KEYS / 2 + PADDED / 2 + 16 * ROUNDS + 7) / 8 * 8)
#define BY_REGISTERS (4 * (512 / REGISTERS) / (WARPS * HEADS))
#define RESIDENT (BY_SHARED < BY_REGISTERS ? BY_SHARED : BY_REGISTERS)

// Starts the copy of one of a token's thirds for all of the block's heads; zeros past the sequence, the heads and the width.
DEVICE void copy_third(bf16* to, const bf16* from, u64 stride, u32 length, u32 heads) {
    UNROLL
    for (u32 i = 0; i < STEPS * ROUNDS; i++) {
        const u32 piece = threadIdx.x + i * THREADS, row = piece / (HEADS * PIECES), column = piece % (HEADS * PIECES);
        const u32 head = column / PIECES, inner = column % PIECES * 8;
        const bool valid = row < length && head < heads && inner < WIDTH;
        copy_async_16(to + row * STRIDE + column * 8, from + (valid ? row * stride + head * WIDTH + inner : 0), valid);
    }
}

// Scores of 16 queries, from the first one's row, against all keys.
DEVICE void add_scores(float (&scores)[KEY_TILES][4], const bf16* own, const bf16* key) {
    const u32 lane = lane_index();
    own += (lane & 15) * STRIDE + (lane >> 4) * 8;
    key += ((lane & 7) + (lane >> 4) * 8) * STRIDE + (lane >> 3 & 1) * 8;
    UNROLL
    for (u32 n = 0; n < KEY_TILES; n++) scores[n][0] = scores[n][1] = scores[n][2] = scores[n][3] = 0.0f;
    UNROLL
    for (u32 k = 0; k < STEPS; k++) {
        u32 left[4];
        load_matrices(left, own + 16 * k);
        UNROLL
        for (u32 n = 0; n < KEY_TILES; n += 2) {
            u32 right[4];
            load_matrices(right, key + 8 * n * STRIDE + 16 * k);
            multiply_bf16(scores[n], left, right[0], right[1]);
            multiply_bf16(scores[n + 1], left, right[2], right[3]);
        }
    }
}

// Replaces scores of rows `row` and `row + 8` by weights; returns what to multiply their sums of values by.
DEVICE float2 weigh(float (&scores)[KEY_TILES][4], u32 row, u32 length, float slope, float scale_log2) {
    float low_most = NEGATIVE_INFINITY, high_most = NEGATIVE_INFINITY, low_sum = 0.0f, high_sum = 0.0f;
    UNROLL
    for (u32 n = 0; n < KEY_TILES; n++) {
        UNROLL
        for (u32 i = 0; i < 4; i++) {
            const u32 column = 8 * n + 2 * (lane_index() & 3) + (i & 1);
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
    return make_float2(1.0f / quad_sum(low_sum), 1.0f / quad_sum(high_sum));
}

// Writes the weighted sums of values to 16 rows at `own`.
DEVICE void mix(const float (&weights)[KEY_TILES][4], const bf16* value, float2 factors, bf16* own) {
    const u32 lane = lane_index();
    value += (lane & 15) * STRIDE + (lane >> 4) * 8;
    float mixed[COLUMN_TILES][4];
    UNROLL
    for (u32 n = 0; n < COLUMN_TILES; n++) mixed[n][0] = mixed[n][1] = mixed[n][2] = mixed[n][3] = 0.0f;
    UNROLL
    for (u32 k = 0; k < KEYS / 16; k++) {
        const float(&even)[4] = weights[2 * k], (&odd)[4] = weights[2 * k + 1];
        const u32 left[4] = {pack_bf16(even[0], even[1]), pack_bf16(even[2], even[3]), pack_bf16(odd[0], odd[1]),
                             pack_bf16(odd[2], odd[3])};
        UNROLL
        for (u32 n = 0; n < COLUMN_TILES; n += 2) {
            u32 right[4];
            load_matrices_transposed(right, value + 16 * k * STRIDE + 8 * n);
            multiply_bf16(mixed[n], left, right[0], right[1]);
            multiply_bf16(mixed[n + 1], left, right[2], right[3]);
        }
    }
    own += lane / 4 * STRIDE + 2 * (lane & 3);
    UNROLL
    for (u32 n = 0; n < COLUMN_TILES; n++) {
        *(u32*)(own + 8 * n) = pack_bf16(mixed[n][0] * factors.x, mixed[n][1] * factors.x);
        *(u32*)(own + 8 * STRIDE + 8 * n) = pack_bf16(mixed[n][2] * factors.y, mixed[n][3] * factors.y);
    }
}

// Entries: tokens before the sequence, its length.
KERNEL_RESIDENT(THREADS, RESIDENT, attention_short)
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

    const u32 inner_head = warp_index() / WARPS, head = first_head + inner_head;
    query += inner_head * PADDED, key += inner_head * PADDED, value += inner_head * PADDED;
    const float slope = slopes && head < heads ? slopes[head] * LOG2_E : 0.0f;
    out += entry.x * (u64)width + head * WIDTH;
    copy_async_wait<1>();
    __syncthreads();
    for (u32 round = 0; round < ROUNDS; round++) {
        const u32 first = (warp_index() % WARPS + round * WARPS) * 16;
        const bool is_active = first < length && head < heads;
        bf16* own = query + first * STRIDE;
        float scores[KEY_TILES][4];
        float2 factors;
        if (is_active) {
            add_scores(scores, own, key);
            factors = weigh(scores, first + lane_index() / 4, length, slope, scale_log2);
        }
        if (round == 0) {
            copy_async_wait<0>();
            __syncthreads();
        }
        if (!is_active) return;
        // The queries are this warp's own, and every lane has read them.
        __syncwarp();
        mix(scores, value, factors, own);
        __syncwarp();
        UNROLL
        for (u32 i = 0; i < STEPS; i++) {
            const u32 piece = lane_index() + 32 * i, row = piece / PIECES, column = piece % PIECES * 8;
            if (first + row >= length || column >= WIDTH) continue;
            *(uint4*)(out + (u64)(first + row) * width + column) = *(const uint4*)(own + row * STRIDE + column);
        }
    }
}
