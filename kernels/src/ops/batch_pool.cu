// Pools of `size` positions along sequences [B, length, width], and their gradients.
//
// Grid: a block of 256 threads for each 1024 successive elements of what is written; thread t owns those at t, t + 256, t + 512,
// t + 768. Bytes moved: all of x once and out (and 2 for the picked index) once; gradients read dy through L1, write dx.
// Assumes fewer than 2^32 elements. Numerics: picked indices and maxima are the CPU's; means add positions in order.

#define PICKED_NONE 0xffffu

DEVICE bool is_larger(float x, float largest) { return x > largest || (x != x && largest == largest); }

// Where window `window` of channel c begins in x.
DEVICE u32 window_start(u32 element, u32 width, u32 length, u32 size) {
    const u32 outputs = length / size, window = element / width;
    return ((window / outputs) * length + (window % outputs) * size) * width + element % width;
}

KERNEL(256, max_pool)
(const float* RESTRICT x, float* RESTRICT out, u16* RESTRICT picked, u32 count, u32 width, u32 length, u32 size) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i >= count) break;
        const u32 start = window_start(i, width, length, size);
        float largest = x[start];
        u32 name = 0;
        for (u32 j = 1; j < size; j++) {
            const float value = x[start + j * width];
            if (is_larger(value, largest)) {
                largest = value;
                name = j;
            }
        }
        out[i] = largest;
        picked[i] = (u16)name;
    }
}

KERNEL(256, average_pool)(const float* RESTRICT x, float* RESTRICT out, u32 count, u32 width, u32 length, u32 size) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i >= count) break;
        const u32 start = window_start(i, width, length, size);
        float sum = 0.0f;
        for (u32 j = 0; j < size; j++) sum += x[start + j * width];
        out[i] = sum / (float)size;
    }
}

// picked is null for means.
KERNEL(256, pool_gradient)
(const float* RESTRICT dy, const u16* RESTRICT picked, float* RESTRICT dx, u32 count, u32 width, u32 length, u32 size) {
    const u32 first = blockIdx.x * 1024 + threadIdx.x;
    const u32 outputs = length / size;
    UNROLL
    for (u32 part = 0; part < 4; part++) {
        const u32 i = first + 256 * part;
        if (i >= count) break;
        const u32 row = i / width, sequence = row / length, position = row - sequence * length, window = position / size;
        const u32 from = (sequence * outputs + window) * width + (i - row * width);
        float value = 0.0f;
        if (window < outputs) {
            if (!picked) value = dy[from] / (float)size;
            else if (picked[from] == position - window * size) value = dy[from];
        }
        dx[i] = value;
    }
}
