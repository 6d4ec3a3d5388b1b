// Every word of the prelude once, so that compilers and devices agree on what it means. One warp; lane l writes row l.

KERNEL(32, converse)(const float* RESTRICT x, u32* RESTRICT out) {
    const u32 lane = lane_index();
    const float value = x[lane];
    u32* row = out + 16 * lane;
    row[0] = __float_as_uint(shuffle(value, 5));
    row[1] = __float_as_uint(shuffle_xor(value, 3));
    row[2] = __float_as_uint(shuffle_down(value, 4));
    row[3] = __float_as_uint(shuffle_up(value, 4));
    row[4] = ballot(value > 0.0f);
    row[5] = from_float<bf16>(value).bits;
    row[6] = from_float<f16>(value).bits;
    row[7] = to_tf32(value) & 0xffffe000u;
    row[8] = pack_bf16(value, 2.0f * value);
    row[9] = __float_as_uint(to_float(from_float<f16>(value)));
    row[10] = __float_as_uint(unpack_low(row[8]));
    row[11] = __float_as_uint(unpack_high(row[8]));
    row[12] = __float_as_uint(exp2_fast(8.0f * value));
    row[13] = __float_as_uint(warp_sum(value));
    row[14] = __float_as_uint(warp_max(value));
    row[15] = __umulhi(lane * 0x10000001u, 0xdeadbeefu) + __popc(lane) + __clz(lane) + __brev(lane);
}

// pairs: 32 rows of 4 pairs of 16-bit values.
KERNEL(32, load)(const u32* RESTRICT pairs, u32* RESTRICT straight, u32* RESTRICT turned) {
    SHARED(memory);
    u32* rows = (u32*)memory;
    const u32 lane = lane_index();
    copy_async_16(rows + 4 * lane, pairs + 4 * lane, true);
    copy_async_commit();
    copy_async_wait<0>();
    __syncwarp();
    u32 r[4];
    load_matrices(r, rows + 4 * lane);
    for (u32 i = 0; i < 4; i++) straight[4 * lane + i] = r[i];
    load_matrices_transposed(r, rows + 4 * lane);
    for (u32 i = 0; i < 4; i++) turned[4 * lane + i] = r[i];
}

// a [16, 8], b [8, 8], out [16, 8], row by row.
KERNEL(32, multiply_small)(const float* RESTRICT a, const float* RESTRICT b, float* RESTRICT out) {
    const u32 r = lane_index() / 4, c = lane_index() % 4;
    const u32 left[4] = {to_tf32(a[8 * r + c]), to_tf32(a[8 * (r + 8) + c]), to_tf32(a[8 * r + c + 4]), to_tf32(a[8 * (r + 8) + c + 4])};
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    multiply_tf32(sums, left, to_tf32(b[8 * c + r]), to_tf32(b[8 * (c + 4) + r]));
    for (u32 i = 0; i < 4; i++) out[8 * (r + 8 * (i / 2)) + 2 * c + i % 2] = sums[i];
}

// Copies of 4 bytes in two groups, the second of which is waited for later; the odd ones are not valid.
KERNEL(64, copy_small)(const float* RESTRICT x, float* RESTRICT out) {
    SHARED(memory);
    float* shared = (float*)memory;
    copy_async_4(shared + threadIdx.x, x + threadIdx.x, threadIdx.x % 2 == 0);
    copy_async_commit();
    copy_async_4(shared + 64 + threadIdx.x, x + 64 + threadIdx.x, true);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    out[threadIdx.x] = shared[63 - threadIdx.x];
    copy_async_wait<0>();
    __syncthreads();
    out[64 + threadIdx.x] = shared[127 - threadIdx.x];
    const float sum = block_sum(x[threadIdx.x], shared + 128);
    if (threadIdx.x == 0) out[128] = sum;
}
