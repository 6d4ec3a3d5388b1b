// out[n,f] = g(x[n,f] + bias[f]), or with gates out[n,f] = g(x[n,f] + bias[f]) * (x[n,F+f] + bias[F+f]).
//
// Grid: one thread for ITEMS vectors of WIDTH columns, 256 vectors apart, so that its loads are under way together.
// Bytes moved per element: reads one value (two with gates), writes one; bias stays in L1. What limits it: bytes, in the f32
// form nearly the arithmetic. Assumes fewer than 2^32 vectors. `out` may be `x` where there are no gates.
// Numerics: f32 results have the bits of the CPU form (own polynomials, each rounding spelt out); results of 16 bits come from
// a short form within 2e-6 of max(|x|, 1), far below their own rounding.
//
// Defines: IN, OUT (codes of NumberOf), WIDTH, ITEMS, FUNCTION (0 GELU by erf, 1 GELU by tanh, 2 SiLU), GATED.

typedef NumberOf<IN>::Type In;
typedef NumberOf<OUT>::Type Out;

#define BOUNDED(X, MOST) ((X) > (MOST) ? (MOST) : (X))
#define AT_LEAST(X, LEAST) ((X) < (LEAST) ? (LEAST) : (X))

#if OUT == 0
// As exp_of on CPUs: x = n ln 2 + r, a polynomial of r, n added to the exponent.
DEVICE float exponential(float x) {
    const float round = 12582912.0f;
    const float shifted = fmaf(x, 1.44269504f, round);
    const float n = shifted - round;
    const float r = fmaf(n, -1.4286068e-6f, fmaf(n, -0.69314575f, x));
    float q = fmaf(r, 1.3814543e-3f, 8.368745e-3f);
    q = fmaf(r, q, 4.166839e-2f);
    q = fmaf(r, q, 0.1666652f);
    q = fmaf(r, q, 0.49999994f);
    const float near_one = __fadd_rn(fmaf(__fmul_rn(r, r), q, r), 1.0f);
    float y = __uint_as_float(__float_as_uint(near_one) + (__float_as_uint(shifted) << 23));
    y = x > 88.72283f ? __uint_as_float(0x7f800000u) : y;
    y = x < -87.33654f ? 0.0f : y;
    return x != x ? x : y;
}

// As normal_tail on CPUs: the probability that a standard normal exceeds t, for t in 0..14.
DEVICE float normal_tail(float t) {
    const float square = __fmul_rn(t, t);
    const float lost = fmaf(t, t, -square);
    const float half = exponential(__fmul_rn(-0.5f, square));
    const float bell = fmaf(half, __fmul_rn(-0.5f, lost), half);
    const float w = __fdiv_rn(1.0f, fmaf(t, 0.3125f, 1.0f));
    const float v = fmaf(w, 2.0f, -1.0f);
    float g = fmaf(v, -3.6752608e-5f, 2.1945062e-5f);
    g = fmaf(v, g, 3.393322e-4f);
    g = fmaf(v, g, -2.2212902e-4f);
    g = fmaf(v, g, -2.5837326e-3f);
    g = fmaf(v, g, -5.077393e-4f);
    g = fmaf(v, g, 2.3134994e-2f);
    g = fmaf(v, g, 8.307528e-2f);
    g = fmaf(v, g, 0.16681384f);
    g = fmaf(v, g, 0.22996496f);
    return __fmul_rn(__fmul_rn(bell, w), g);
}

DEVICE float gelu(float x) {
    const float bounded = AT_LEAST(BOUNDED(x, 14.0f), -14.0f);
    const float tail = normal_tail(fabsf(bounded));
    return x < 0.0f ? __fmul_rn(bounded, tail) : fmaf(-bounded, tail, x);
}

// Each product carries what its rounding loses, as gelu_tanh_of on CPUs does.
DEVICE float gelu_tanh(float x) {
    const float linear = 1.5957692f, linear_lost = -4.534068e-8f, cube = 7.1354814e-2f, cube_lost = 2.3988324e-9f;
    const float floor = AT_LEAST(x, -12.0f);
    const float bounded = BOUNDED(floor, 12.0f);
    const float square = __fmul_rn(bounded, bounded);
    const float square_lost = fmaf(bounded, bounded, -square);
    const float cubic = __fmul_rn(cube, square);
    const float cubic_lost = fmaf(cube, square, -cubic);
    const float factor = __fadd_rn(linear, cubic);
    const float shared = __fsub_rn(factor, linear);
    const float factor_lost = __fadd_rn(__fsub_rn(linear, __fsub_rn(factor, shared)), __fsub_rn(cubic, shared));
    const float far = fmaf(cube, square_lost, fmaf(cube_lost, square, linear_lost));
    const float lost = __fadd_rn(factor_lost, __fadd_rn(cubic_lost, far));
    const float twice = __fmul_rn(bounded, factor);
    const float twice_lost = fmaf(bounded, lost, fmaf(bounded, factor, -twice));
    const float tail = __fmul_rn(exponential(-twice), __fsub_rn(1.0f, twice_lost));
    return __fdiv_rn(floor, __fadd_rn(1.0f, tail));
}

DEVICE float silu(float x) {
    const float bounded = AT_LEAST(x, -100.0f);
    return __fdiv_rn(bounded, __fadd_rn(1.0f, exponential(-bounded)));
}
#else
// Abramowitz and Stegun 7.1.26: erfc to 1.5e-7 by five powers of 1 / (1 + p t); log2(e)/2 = 0.7213...
DEVICE float gelu(float x) {
    const float bounded = AT_LEAST(BOUNDED(x, 14.0f), -14.0f);
    const float t = __fdividef(1.0f, fmaf(fabsf(bounded), 0.23164190f, 1.0f));
    float tail = fmaf(t, 0.53070271f, -0.72657601f);
    tail = fmaf(t, tail, 0.71070687f);
    tail = fmaf(t, tail, -0.14224837f);
    tail = fmaf(t, tail, 0.12741480f);
    tail *= t * exp2_fast(bounded * bounded * -0.72134752f);
    return x < 0.0f ? bounded * tail : fmaf(-bounded, tail, x);
}

// x / (1 + exp(-2u)) with u = sqrt(2/pi) (x + 0.044715 x^3), the factors times log2(e).
DEVICE float gelu_tanh(float x) {
    const float floor = AT_LEAST(x, -12.0f);
    const float bounded = BOUNDED(floor, 12.0f);
    const float twice = bounded * fmaf(bounded * bounded, 0.10294324f, 2.3022082f);
    return __fdividef(floor, 1.0f + exp2_fast(-twice));
}

DEVICE float silu(float x) {
    const float bounded = AT_LEAST(x, -80.0f);
    return __fdividef(bounded, 1.0f + exp2_fast(bounded * -1.44269504f));
}
#endif

DEVICE float activated(float x) {
#if FUNCTION == 0
    return gelu(x);
#elif FUNCTION == 1
    return gelu_tanh(x);
#else
    return silu(x);
#endif
}

DEVICE void add_bias(float (&x)[WIDTH], const float* bias, u32 column) {
    if (!bias) return;
    float shift[WIDTH];
    load_values(bias + column, shift);
    UNROLL
    for (u32 i = 0; i < WIDTH; i++) x[i] = __fadd_rn(x[i], shift[i]);
}

KERNEL(256, activation)
(const In* x, const float* RESTRICT bias, Out* out, u32 count, u32 width) {
    const u32 vectors = width / WIDTH;
    const u32 stored = GATED ? 2 * width : width;
    const u32 first = blockIdx.x * (256 * ITEMS) + threadIdx.x;
    float values[ITEMS][WIDTH];
    float others[GATED ? ITEMS : 1][WIDTH];
    u32 rows[ITEMS], columns[ITEMS];
    UNROLL
    for (u32 item = 0; item < ITEMS; item++) {
        const u32 index = first + item * 256;
        rows[item] = index / vectors;
        columns[item] = (index - rows[item] * vectors) * WIDTH;
        if (index < count) {
            const In* from = x + (u64)rows[item] * stored + columns[item];
            load_values(from, values[item]);
            if (GATED) load_values(from + width, others[item % (GATED ? ITEMS : 1)]);
        }
    }
    UNROLL
    for (u32 item = 0; item < ITEMS; item++) {
        if (first + item * 256 >= count) continue;
        float(&value)[WIDTH] = values[item];
        add_bias(value, bias, columns[item]);
        UNROLL
        for (u32 i = 0; i < WIDTH; i++) value[i] = activated(value[i]);
        if (GATED) {
            float(&other)[WIDTH] = others[item % (GATED ? ITEMS : 1)];
            add_bias(other, bias, width + columns[item]);
            UNROLL
            for (u32 i = 0; i < WIDTH; i++) value[i] = __fmul_rn(value[i], other[i]);
        }
        store_values(out + (u64)rows[item] * width + columns[item], value);
    }
}
