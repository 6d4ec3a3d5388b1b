// out[i] = x[i] / (1 - rate) where kept, else 0; its own gradient too.
//
// Grid: a block of 256 threads for each 1024 successive elements; thread t owns those at t, t + 256, t + 512, t + 768: the four
// words of one counter. Bytes moved per element: reads 4, writes 4; 25 integer operations an element hide behind them.
// Assumes fewer than 2^32 elements; seed and step lie in memory, so that a recorded launch serves every step.
// Numerics: the mask has the bits of the CPU form, the values too.

KERNEL(256, dropout)
(const float* RESTRICT x, const u64* RESTRICT draws, float* RESTRICT out, u32 count, u32 layer, u32 threshold, float scale) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    u32 word[4];
    drop_words(word, first, layer, draws);
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i < count) out[i] = word[part] >= threshold ? x[i] * scale : 0.0f;
    }
}
