// What is built on the words of the prelude, the same text on the device and in the emulator.

// Sums and maxima over a warp, the same bits in every lane: a butterfly, so the order is fixed.
DEVICE float warp_sum(float x) {
    for (u32 mask = 16; mask > 0; mask >>= 1) x += shuffle_xor(x, mask);
    return x;
}
DEVICE float warp_max(float x) {
    for (u32 mask = 16; mask > 0; mask >>= 1) x = fmaxf(x, shuffle_xor(x, mask));
    return x;
}
DEVICE double warp_sum(double x) {
    for (u32 mask = 16; mask > 0; mask >>= 1) x += shuffle_xor(x, mask);
    return x;
}

// Sum over the block, the same bits in every thread; `scratch` holds a value of each warp and is free afterwards.
// All threads of the block take part; the block is whole warps.
DEVICE float block_sum(float x, float* scratch) {
    const u32 warps = blockDim.x >> 5;
    x = warp_sum(x);
    if (lane_index() == 0) scratch[warp_index()] = x;
    __syncthreads();
    float sum = 0.0f;
    for (u32 warp = 0; warp < warps; warp++) sum += scratch[warp];
    __syncthreads();
    return sum;
}
