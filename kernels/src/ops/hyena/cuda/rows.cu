// The inner part of a transform that columns.cu began: each row forward, times the filter's, and back, in place.
//
// Grid: a block for each row of `points` [rows][POINTS][SERIES]. Block: transform.cuh.
// Bytes moved per element: 8 read, 8 written, 8 of spectrum: its limit. Assumes QUARTER 0.
// Numerics: f32.
//
// Defines: those of transform.cuh; BLOCKS.

DEVICE void forward_row(const float2* own, float2* shared, const float2* roots) {
    forward_first(shared, roots, [&](u32 point, u32 series) { return own[point * SERIES + series]; });
    forward_stages<1>(shared, roots);
}

KERNEL_RESIDENT(THREADS, BLOCKS, hyena_rows)(float2* points, const float2* RESTRICT spectrum, const float2* RESTRICT roots) {
    SHARED(memory);
    float2* shared = (float2*)memory;
    float2* own = points + (u64)blockIdx.x * POINTS * SERIES;
    const float2* filter = spectrum + (u64)blockIdx.x * POINTS * SERIES;
    forward_row(own, shared, roots);
    turn(shared, [&](float2(&x)[LAST_RADIX], u32 q, u32 series) {
        UNROLL
        for (int b = 0; b < LAST_RADIX; b++) x[b] = times(x[b], filter[(b * LAST_TASKS + q) * SERIES + series]);
    });
    back_stages<STAGES - 2>(shared, roots);
    back_last(shared, roots, [&](u32 point, u32 series, float2 value) { own[point * SERIES + series] = value; });
}

// A filter's rows become its spectrum, in the order `hyena_rows` reads it.
KERNEL_RESIDENT(THREADS, BLOCKS, hyena_rows_filter)(float2* points, const float2* RESTRICT roots) {
    SHARED(memory);
    float2* shared = (float2*)memory;
    float2* own = points + (u64)blockIdx.x * POINTS * SERIES;
    forward_row(own, shared, roots);
    forward_last(shared, [&](float2(&x)[LAST_RADIX], u32 q, u32 series) {
        UNROLL
        for (int b = 0; b < LAST_RADIX; b++) own[(b * LAST_TASKS + q) * SERIES + series] = x[b];
    });
}
