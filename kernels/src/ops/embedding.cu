// out[n,:] = scales[n] * words[ids[n],:] + positions[places[n],:], either factor or term where there is one.
//
// Grid: one thread for every WIDTH of D columns of a row, 256 threads a block. Bytes moved per element: writes 4, reads 8 that
// L2 mostly holds (tables are far smaller than it). What limits it: bytes. Assumes ids and places below the tables' rows.
// Numerics: f32, product and sum each rounded: the bits of the CPU form.
//
// Defines: WIDTH (columns of a thread: 4, or 1 where rows are not aligned to 16 bytes).

KERNEL(256, embedding)
(const u32* RESTRICT ids, const float* RESTRICT scales, const u32* RESTRICT places, const float* RESTRICT words,
 const float* RESTRICT positions, float* RESTRICT out, u32 tokens, u32 width) {
    const u32 vectors = width / WIDTH;
    const u32 index = blockIdx.x * 256 + threadIdx.x;
    const u32 token = index / vectors;
    if (token >= tokens) return;
    const u32 column = (index - token * vectors) * WIDTH;
    float x[WIDTH];
    load_values(words + (u64)ids[token] * width + column, x);
    if (scales) {
        const float scale = scales[token];
        UNROLL
        for (u32 i = 0; i < WIDTH; i++) x[i] = __fmul_rn(scale, x[i]);
    }
    if (positions) {
        float place[WIDTH];
        load_values(positions + (u64)places[token] * width + column, place);
        UNROLL
        for (u32 i = 0; i < WIDTH; i++) x[i] = __fadd_rn(x[i], place[i]);
    }
    store_values(out + (u64)token * width + column, x);
}
