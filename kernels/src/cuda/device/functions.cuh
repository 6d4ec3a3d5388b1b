// Activation functions and their gradients, by number: the chains of `ops/function.rs` and what it is built on, so the same bits.
//
// The number is the same in every thread, so that the switch costs a jump and no divergence.

#define LINEAR 0
#define RELU 1
#define SILU 2
#define EXPONENTIAL 3
#define SIGMOID 4
#define TANH 5
#define GELU 6

// x = n ln 2 + r: writes r, returns n in the low bits of a float near 1.5 * 2^23.
DEVICE float reduce_exponent(float x, float& r) {
    const float shifted = fmaf(x, 1.44269504f, 12582912.0f);
    const float n = shifted - 12582912.0f;
    r = fmaf(n, -1.4286068e-6f, fmaf(n, -0.69314575f, x));
    return shifted;
}
// (exp(r) - 1 - r) / r^2
DEVICE float exponential_tail(float r) {
    float q = fmaf(r, 1.3814543e-3f, 8.368745e-3f);
    q = fmaf(r, q, 4.166839e-2f);
    q = fmaf(r, q, 0.1666652f);
    return fmaf(r, q, 0.49999994f);
}
// Within 1 ulp; zero where it would be subnormal.
DEVICE float exponential(float x) {
    float r;
    const float shifted = reduce_exponent(x, r);
    const float near_one = fmaf(r * r, exponential_tail(r), r) + 1.0f;
    float y = __uint_as_float(__float_as_uint(near_one) + (__float_as_uint(shifted) << 23));
    y = x > 88.72283f ? __uint_as_float(0x7f800000u) : y;
    y = x < -87.33654f ? 0.0f : y;
    return x != x ? x : y;
}
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
DEVICE float silu(float x) {
    const float bounded = x < -100.0f ? -100.0f : x;
    return bounded / (1.0f + exponential(-bounded));
}
DEVICE float hyperbolic_tangent(float x) {
    const float size = fabsf(x);
    float r;
    const float shifted = reduce_exponent(2.0f * (size > 10.0f ? 10.0f : size), r);
    const float near_zero = fmaf(r * r, exponential_tail(r), r);
    const float scale = __uint_as_float(0x3f800000u + (__float_as_uint(shifted) << 23));
    const float e = fmaf(scale, near_zero, scale - 1.0f);
    return copysignf(e / (e + 2.0f), x);
}
// Probability that a standard normal exceeds t, for t in 0..=14.
DEVICE float normal_tail(float t) {
    const float square = t * t;
    const float lost = fmaf(t, t, -square);
    float bell = exponential(-0.5f * square);
    bell = fmaf(bell, -0.5f * lost, bell);
    const float w = 1.0f / fmaf(t, 0.3125f, 1.0f);
    const float at = fmaf(w, 2.0f, -1.0f);
    float g = fmaf(at, -3.6752608e-5f, 2.1945062e-5f);
    g = fmaf(at, g, 3.393322e-4f);
    g = fmaf(at, g, -2.2212902e-4f);
    g = fmaf(at, g, -2.5837326e-3f);
    g = fmaf(at, g, -5.077393e-4f);
    g = fmaf(at, g, 2.3134994e-2f);
    g = fmaf(at, g, 8.307528e-2f);
    g = fmaf(at, g, 0.16681384f);
    g = fmaf(at, g, 0.22996496f);
    return bell * w * g;
}
DEVICE float bounded_for_tail(float x) {
    x = x > 14.0f ? 14.0f : x;
    return x < -14.0f ? -14.0f : x;
}
DEVICE float gelu_exact(float x) {
    const float bounded = bounded_for_tail(x);
    const float tail = normal_tail(fabsf(bounded));
    return x < 0.0f ? bounded * tail : fmaf(-bounded, tail, x);
}
DEVICE float gelu_slope(float x) {
    const float bounded = bounded_for_tail(x);
    const float tail = normal_tail(fabsf(bounded));
    const float density = 0.3989423f * exponential(-0.5f * bounded * bounded);
    return fmaf(bounded, density, x < 0.0f ? tail : 1.0f - tail);
}

DEVICE float function_value(u32 function, float x) {
    switch (function) {
    case RELU: return x <= 0.0f ? 0.0f : x;
    case SILU: return silu(x);
    case EXPONENTIAL: return exponential(x);
    case SIGMOID: return sigmoid(x);
    case TANH: return hyperbolic_tangent(x);
    case GELU: return gelu_exact(x);
    default: return x;
    }
}
// Gradient of the input x from that of the output y.
DEVICE float function_back(u32 function, float x, float y, float dy) {
    switch (function) {
    case RELU: return x > 0.0f ? dy : 0.0f;
    case SILU: {
        const float s = sigmoid(x);
        return dy * fmaf(y, 1.0f - s, s);
    }
    case EXPONENTIAL: return dy * y;
    case SIGMOID: return dy * (y * (1.0f - y));
    case TANH: return dy * fmaf(y, -y, 1.0f);
    case GELU: return dy * gelu_slope(x);
    default: return dy;
    }
}
