// out[i] = x[i] as a number of another type, to nearest even.
//
// Grid: one thread for 4 vectors of WIDTH values, 256 vectors apart, 256 threads a block. Bytes moved per element: reads one
// value, writes one. What limits it: bytes. Assumes fewer than 2^32 vectors. Numerics: exact, or rounded once.
//
// Defines: IN, OUT (codes of NumberOf), WIDTH (8, or 1 where arrays are not aligned to 16 bytes).

typedef NumberOf<IN>::Type In;
typedef NumberOf<OUT>::Type Out;

#define ITEMS 4

KERNEL(256, convert)(const In* RESTRICT x, Out* RESTRICT out, u64 count) {
    const u64 first = (u64)blockIdx.x * (256 * ITEMS) + threadIdx.x;
    const u64 whole = count / WIDTH;
    float values[ITEMS][WIDTH];
    UNROLL
    for (u32 item = 0; item < ITEMS; item++) {
        const u64 index = first + item * 256;
        if (index < whole) load_values(x + index * WIDTH, values[item]);
    }
    UNROLL
    for (u32 item = 0; item < ITEMS; item++) {
        const u64 index = first + item * 256;
        if (index < whole) store_values(out + index * WIDTH, values[item]);
    }
    // What is left is less than a vector.
    const u64 last = whole * WIDTH + first;
    if (last < count) out[last] = from_float<Out>(to_float(x[last]));
}
