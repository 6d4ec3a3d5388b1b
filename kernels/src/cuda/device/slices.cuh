// Sums of columns over many rows: a block owns 32 columns and a slice of 128 rows, then one block merges the slices.
//
// Blocks have 256 threads: lane l owns column 32 blockIdx.x + l, warp w the rows 16 w..16 w + 16 of its slice, one after
// another. Sums are f32 inside a slice and f64 between slices; which thread adds what depends on the number of rows alone.

#define SLICE_ROWS 128
#define WARP_ROWS 16
#define WARPS 8

// The sum of what the warps hold for a column, in their order, in every thread; `scratch` holds 256 values.
DEVICE float add_warps(float x, float* scratch) {
    scratch[threadIdx.x] = x;
    __syncthreads();
    float sum = 0.0f;
    UNROLL
    for (u32 warp = 0; warp < WARPS; warp++) sum += scratch[32 * warp + lane_index()];
    __syncthreads();
    return sum;
}
DEVICE double add_warps(double x, double* scratch) {
    scratch[threadIdx.x] = x;
    __syncthreads();
    double sum = 0.0;
    UNROLL
    for (u32 warp = 0; warp < WARPS; warp++) sum += scratch[32 * warp + lane_index()];
    __syncthreads();
    return sum;
}
// The sum over slices of a column of partial sums, `stride` values apart; `column` points into the first slice. All threads
// of the block take part; those whose column is not there pass false.
DEVICE double merge_slices(const float* column, u32 slices, u64 stride, bool there, double* scratch) {
    double sum = 0.0;
    if (there) {
        for (u32 slice = warp_index(); slice < slices; slice += WARPS) sum += (double)column[slice * stride];
    }
    return add_warps(sum, scratch);
}
