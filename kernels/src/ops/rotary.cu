// Rotates queries and keys in place: x[j] = x[j] cos[t,j] - x[j+P] sin[t,j], x[j+P] = x[j+P] cos[t,j] + x[j] sin[t,j], j < P of
// each head.
//
// Grid: one thread for WIDTH pairs of a head, 256 threads a block; a row's queries and keys are 2 H P / WIDTH threads.
// Bytes moved per element: reads and writes one value; the table (8 bytes a pair and position) stays in L2. What limits it: bytes.
// Assumes places below the table's rows. Numerics: f32 with the second product rounded before a fused multiply-add, the bits of
// the CPU form.
//
// Defines: TYPE (code of NumberOf), WIDTH (8 of 16 bits, 4 of 32, or 1 where halves of heads are not aligned).

typedef NumberOf<TYPE>::Type Value;

KERNEL(256, rotary)
(Value* RESTRICT qkv, const u32* RESTRICT places, const float* RESTRICT cosines, const float* RESTRICT sines, u32 tokens, u32 heads,
 u32 pairs) {
    const u32 vectors = pairs / WIDTH;
    const u32 index = blockIdx.x * 256 + threadIdx.x;
    const u32 head = index / vectors;
    const u32 token = head / (2 * heads);
    if (token >= tokens) return;
    const u32 pair = (index - head * vectors) * WIDTH;
    // Heads of queries and keys follow each other; values are a third of the row.
    Value* left = qkv + (u64)token * (6 * heads * pairs) + (u64)(head - token * 2 * heads) * (2 * pairs) + pair;
    const u64 angle = (u64)places[token] * pairs + pair;
    float x[WIDTH], y[WIDTH], cosine[WIDTH], sine[WIDTH];
    load_values(left, x);
    load_values(left + pairs, y);
    load_values(cosines + angle, cosine);
    load_values(sines + angle, sine);
    UNROLL
    for (u32 i = 0; i < WIDTH; i++) {
        const float before = x[i];
        x[i] = fmaf(before, cosine[i], -__fmul_rn(y[i], sine[i]));
        y[i] = fmaf(y[i], cosine[i], __fmul_rn(before, sine[i]));
    }
    store_values(left, x);
    store_values(left + pairs, y);
}
