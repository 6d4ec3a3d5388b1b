// What products of matrices leave of the implicit filter: x = sin(frequency x), and taps *= exp(-time |delta|) + 0.05.
//
// Grid: as many blocks of 256 threads as there are values; a thread owns one. Bytes moved per element: 4 read, 4 written.
// Assumes less than 2^32 rows. Numerics: the sine is that of the CPU (ops/sin.rs), 1.2e-7 up to 1e5.

// Range reduction of Cody and Waite, then the minimax polynomial of ops/sin.rs.
DEVICE float sine(float x) {
    const float shifted = fmaf(x, 0.318309886f, 12582912.0f);
    const float n = shifted - 12582912.0f;
    const float r = fmaf(n, 8.742278e-8f, fmaf(n, -3.14159274f, x));
    const float square = r * r;
    float series = -2.3888445e-8f;
    series = fmaf(series, square, 2.752536e-6f);
    series = fmaf(series, square, -1.9840867e-4f);
    series = fmaf(series, square, 8.333331e-3f);
    series = fmaf(series, square, -0.16666667f);
    const float value = fmaf(r * square, series, r);
    const float signed_value = __uint_as_float(__float_as_uint(value) ^ (__float_as_uint(shifted) << 31));
    return fabsf(x) <= 1.0e7f ? signed_value : __uint_as_float(0x7fc00000u);
}

KERNEL(256, hyena_sines)(float* RESTRICT x, const float* RESTRICT frequency, u32 width, u64 count) {
    const u64 index = (u64)blockIdx.x * 256 + threadIdx.x;
    if (index < count) x[index] = sine(x[index] * frequency[index % width]);
}

KERNEL(256, hyena_window)(float* RESTRICT taps, const float* RESTRICT times, const float* RESTRICT deltas, u32 width, u64 count) {
    const u64 index = (u64)blockIdx.x * 256 + threadIdx.x;
    if (index < count) taps[index] *= expf(-times[index / width] * fabsf(deltas[index % width])) + 0.05f;
}
