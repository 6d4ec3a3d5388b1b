// y[n,:] = (x[n,:] - mean[n]) * rstd[n] * weight[:] + bias[:], with x[n,:] += branch[n,:] before it where there is a branch.
// The sum goes to `sum`, y to `normed` (f32) and to `out` (of its own type); each where it is not null.
//
// Grid: with 32 threads a row, one warp a row, 8 rows a block; else one block a row. A thread keeps VECTORS runs of 4 columns in
// registers, so a row is read once. Bytes moved per element: reads 4 (and 4 of a branch), writes what is asked for. What limits
// it: bytes. Assumes D <= 4 * VECTORS * LINE. `sum` and `normed` may be `x`: a thread writes only columns that it has read.
// Numerics: mean, then squares of the differences from it, both f32 sums in a fixed order that depends on D alone; access width
// changes no bit.
//
// Defines: LINE (threads of a row), VECTORS, WIDE (rows and operands aligned to 16 bytes, 4 divides D), OUT (code of NumberOf).

typedef NumberOf<OUT>::Type Out;

#define THREADS (LINE == 32 ? 256 : LINE)
// Enough loads under way to fill the memory's pipe; without it the assembler spills for more.
#define RESIDENT (VECTORS <= 4 ? 1024 / THREADS : 768 / THREADS)

// Four columns from `column`; those past the row are zero and not touched.
template <class T> DEVICE void load_columns(const T* row, u32 column, u32 width, float (&to)[4]) {
#if WIDE
    if (column < width) {
        load_values(row + column, to);
        return;
    }
#endif
    UNROLL
    for (u32 i = 0; i < 4; i++) to[i] = !WIDE && column + i < width ? to_float(row[column + i]) : 0.0f;
}

template <class T> DEVICE void store_columns(T* row, u32 column, u32 width, const float (&from)[4]) {
#if WIDE
    if (column < width) store_values(row + column, from);
#else
    UNROLL
    for (u32 i = 0; i < 4; i++) {
        if (column + i < width) row[column + i] = from_float<T>(from[i]);
    }
#endif
}

DEVICE float row_sum(float x, float* scratch) {
#if LINE == 32
    return warp_sum(x);
#else
    return block_sum(x, scratch);
#endif
}

KERNEL_RESIDENT(THREADS, RESIDENT, layer_norm)
(const float* x, const float* branch, const float* RESTRICT weight, const float* RESTRICT bias, float* sum, float* normed, Out* out,
 u32 rows, u32 width, float eps) {
    SHARED(memory);
    float* scratch = (float*)memory;
    const u32 row = blockIdx.x * (THREADS / LINE) + threadIdx.x / LINE;
    // A whole warp, or the block: nobody waits for it.
    if (row >= rows) return;
    const u64 start = (u64)row * width;
    const u32 first = threadIdx.x % LINE * 4;
    float values[VECTORS][4];
    float total = 0.0f;
    UNROLL
    for (u32 i = 0; i < VECTORS; i++) load_columns(x + start, first + i * (4 * LINE), width, values[i]);
    if (branch) {
        UNROLL
        for (u32 i = 0; i < VECTORS; i++) {
            const u32 column = first + i * (4 * LINE);
            float added[4];
            load_columns(branch + start, column, width, added);
            UNROLL
            for (u32 j = 0; j < 4; j++) values[i][j] += added[j];
            if (sum) store_columns(sum + start, column, width, values[i]);
        }
    }
    UNROLL
    for (u32 i = 0; i < VECTORS; i++) total += (values[i][0] + values[i][1]) + (values[i][2] + values[i][3]);
    const float mean = row_sum(total, scratch) / (float)width;
    float squares = 0.0f;
    UNROLL
    for (u32 i = 0; i < VECTORS; i++) {
        UNROLL
        for (u32 j = 0; j < 4; j++) {
            const float difference = values[i][j] - mean;
            if (first + i * (4 * LINE) + j < width) squares = fmaf(difference, difference, squares);
        }
    }
    const float rstd = 1.0f / sqrtf(row_sum(squares, scratch) / (float)width + eps);
    UNROLL
    for (u32 i = 0; i < VECTORS; i++) {
        const u32 column = first + i * (4 * LINE);
        float scale[4], shift[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        load_columns(weight, column, width, scale);
        if (bias) load_columns(bias, column, width, shift);
        UNROLL
        for (u32 j = 0; j < 4; j++) values[i][j] = fmaf((values[i][j] - mean) * rstd, scale[j], shift[j]);
        if (normed) store_columns(normed + start, column, width, values[i]);
        if (out) store_columns(out + start, column, width, values[i]);
    }
}
