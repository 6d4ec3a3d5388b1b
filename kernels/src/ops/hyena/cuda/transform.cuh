// Transforms of POINTS complex points of SERIES series that lie side by side in shared memory: `points[place][series]`.
//
// What it computes: S[k] = sum_j s[j] exp(-2 pi i j (k + q) / POINTS) and back without division, q = 1/4 (QUARTER) or 0.
// With q = 1/4 two real series of at most POINTS values multiply without wrapping: their product modulo X^POINTS + i has its
// lower half in the real parts, so POINTS complex points do, and no spectrum is split. Forward is decimation in frequency,
// back decimation in time over the same places: frequencies stay in the order of their digits, nothing is reversed.
// A thread owns one butterfly of RADIX points of one series at a time, in registers; first and last stages read and write
// what the caller says. Shared memory: (POINTS + POINTS / last radix) SERIES 8 bytes. Lanes are series first, then
// neighbouring points: 64-bit accesses of half a warp cover all banks once; in the last stage, where lanes are a radix
// apart, the spare place after each radix of points does that.
// Factors come from a table made in f64 (`roots`): for each stage, [radix][stride].
// Numerics: every value is a fixed chain of its series alone; SERIES and THREADS are not part of it.
//
// Defines: POINTS (a power of two, or 3 or 5 times one, of two stages at least), SERIES (a power of two), THREADS (a multiple
// of SERIES and of 32), QUARTER.

DEVICE constexpr int odd_part(int n) { return n % 2 ? n : odd_part(n / 2); }
DEVICE constexpr int twos(int n) { return n % 2 ? 0 : 1 + twos(n / 2); }
#define ODD odd_part(POINTS)
#define TWOS twos(POINTS)
// Stages of two to sixteen; an odd factor is a stage before them.
DEVICE constexpr int even_stages() { return (TWOS + 3) / 4 + (ODD == 1 && TWOS <= 4 ? 1 : 0); }
DEVICE constexpr int stages() { return even_stages() + (ODD > 1 ? 1 : 0); }
DEVICE constexpr int radix(int stage) {
    return ODD > 1 ? (stage == 0 ? ODD : 1 << ((TWOS + stage - 1) / even_stages())) : 1 << ((TWOS + stage) / even_stages());
}
// Points that a stage joins, and where its factors begin.
DEVICE constexpr int joined(int stage) { return stage == 0 ? POINTS : joined(stage - 1) / radix(stage - 1); }
DEVICE constexpr int first_root(int stage) { return stage == 0 ? 0 : first_root(stage - 1) + joined(stage - 1); }

#define STAGES stages()
#define LAST_RADIX radix(STAGES - 1)
#define LAST_TASKS (POINTS / LAST_RADIX)

DEVICE u32 place(u32 point) { return point + point / LAST_RADIX; }

DEVICE float2 plus(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
DEVICE float2 minus(float2 a, float2 b) { return make_float2(a.x - b.x, a.y - b.y); }
DEVICE float2 times(float2 a, float2 b) { return make_float2(fmaf(a.x, b.x, -(a.y * b.y)), fmaf(a.x, b.y, a.y * b.x)); }
DEVICE float2 times_conjugate(float2 a, float2 b) { return make_float2(fmaf(a.x, b.x, a.y * b.y), fmaf(a.y, b.x, -(a.x * b.y))); }
// -i a
DEVICE float2 turned(float2 a) { return make_float2(a.y, -a.x); }

// x[b] = sum_r x[r] exp(-2 pi i r b / R)
DEVICE void transform(float2 (&x)[2]) {
    const float2 sum = plus(x[0], x[1]);
    x[1] = minus(x[0], x[1]);
    x[0] = sum;
}
DEVICE void transform(float2 (&x)[3]) {
    const float2 sum = plus(x[1], x[2]), difference = turned(minus(x[1], x[2]));
    const float2 middle = make_float2(fmaf(-0.5f, sum.x, x[0].x), fmaf(-0.5f, sum.y, x[0].y));
    const float sine = 0.86602540378f;
    x[0] = plus(x[0], sum);
    x[1] = make_float2(fmaf(sine, difference.x, middle.x), fmaf(sine, difference.y, middle.y));
    x[2] = make_float2(fmaf(-sine, difference.x, middle.x), fmaf(-sine, difference.y, middle.y));
}
DEVICE void transform(float2& a, float2& b, float2& c, float2& d) {
    const float2 even = plus(a, c), even_apart = minus(a, c), odd = plus(b, d), odd_apart = turned(minus(b, d));
    a = plus(even, odd);
    b = plus(even_apart, odd_apart);
    c = minus(even, odd);
    d = minus(even_apart, odd_apart);
}
DEVICE void transform(float2 (&x)[4]) { transform(x[0], x[1], x[2], x[3]); }
DEVICE void transform(float2 (&x)[5]) {
    const float cosine_1 = 0.30901699437f, cosine_2 = -0.80901699437f, sine_1 = 0.95105651630f, sine_2 = 0.58778525229f;
    const float2 sum_1 = plus(x[1], x[4]), sum_2 = plus(x[2], x[3]);
    const float2 apart_1 = turned(minus(x[1], x[4])), apart_2 = turned(minus(x[2], x[3]));
    const float2 middle_1 = make_float2(fmaf(cosine_2, sum_2.x, fmaf(cosine_1, sum_1.x, x[0].x)),
                                        fmaf(cosine_2, sum_2.y, fmaf(cosine_1, sum_1.y, x[0].y)));
    const float2 middle_2 = make_float2(fmaf(cosine_1, sum_2.x, fmaf(cosine_2, sum_1.x, x[0].x)),
                                        fmaf(cosine_1, sum_2.y, fmaf(cosine_2, sum_1.y, x[0].y)));
    const float2 side_1 = make_float2(fmaf(sine_2, apart_2.x, sine_1 * apart_1.x), fmaf(sine_2, apart_2.y, sine_1 * apart_1.y));
    const float2 side_2 = make_float2(fmaf(-sine_1, apart_2.x, sine_2 * apart_1.x), fmaf(-sine_1, apart_2.y, sine_2 * apart_1.y));
    x[0] = plus(x[0], plus(sum_1, sum_2));
    x[1] = plus(middle_1, side_1);
    x[2] = plus(middle_2, side_2);
    x[3] = minus(middle_2, side_2);
    x[4] = minus(middle_1, side_1);
}
#define EIGHTH 0.70710678119f
DEVICE void transform(float2 (&x)[8]) {
    transform(x[0], x[2], x[4], x[6]);
    transform(x[1], x[3], x[5], x[7]);
    const float2 odd[4] = {x[1], times(x[3], make_float2(EIGHTH, -EIGHTH)), turned(x[5]), times(x[7], make_float2(-EIGHTH, -EIGHTH))};
    const float2 even[4] = {x[0], x[2], x[4], x[6]};
    UNROLL
    for (int b = 0; b < 4; b++) {
        x[b] = plus(even[b], odd[b]);
        x[b + 4] = minus(even[b], odd[b]);
    }
}
DEVICE void transform(float2 (&x)[16]) {
    const float cosine = 0.92387953251f, sine = 0.38268343236f;
    UNROLL
    for (int a = 0; a < 4; a++) transform(x[a], x[a + 4], x[a + 8], x[a + 12]);
    x[5] = times(x[5], make_float2(cosine, -sine));
    x[6] = times(x[6], make_float2(EIGHTH, -EIGHTH));
    x[7] = times(x[7], make_float2(sine, -cosine));
    x[9] = times(x[9], make_float2(EIGHTH, -EIGHTH));
    x[10] = turned(x[10]);
    x[11] = times(x[11], make_float2(-EIGHTH, -EIGHTH));
    x[13] = times(x[13], make_float2(sine, -cosine));
    x[14] = times(x[14], make_float2(-EIGHTH, -EIGHTH));
    x[15] = times(x[15], make_float2(-cosine, sine));
    UNROLL
    for (int k = 0; k < 4; k++) transform(x[4 * k], x[4 * k + 1], x[4 * k + 2], x[4 * k + 3]);
    // x[4 k + l] holds frequency k + 4 l.
    UNROLL
    for (int k = 0; k < 4; k++) {
        UNROLL
        for (int l = 0; l < k; l++) {
            const float2 other = x[4 * k + l];
            x[4 * k + l] = x[4 * l + k];
            x[4 * l + k] = other;
        }
    }
}
// As transform, with the exponent's sign turned: real and imaginary parts change places before and after.
template <int R> DEVICE void transform_back(float2 (&x)[R]) {
    UNROLL
    for (int r = 0; r < R; r++) x[r] = make_float2(x[r].y, x[r].x);
    transform(x);
    UNROLL
    for (int r = 0; r < R; r++) x[r] = make_float2(x[r].y, x[r].x);
}

// cos and sin of 2 pi r / (4 R), computed by the compiler.
template <int R> struct Quarters {
    float cosine[R], sine[R];
    __device__ constexpr Quarters() : cosine(), sine() {
        for (int r = 0; r < R; r++) {
            const double angle = 1.57079632679489661923 * r / R;
            double even = 1.0, odd = 1.0;
            for (int n = 24; n > 0; n -= 2) {
                even = 1.0 - even * angle * angle / (n * (n - 1.0));
                odd = 1.0 - odd * angle * angle / (n * (n + 1.0));
            }
            cosine[r] = (float)even;
            sine[r] = (float)(odd * angle);
        }
    }
};

// The first stage: `load(point, series)` is the real value there (QUARTER), or the complex one.
template <class Load> DEVICE void forward_first(float2* points, const float2* roots, Load load) {
    constexpr int R = radix(0), STRIDE = POINTS / R;
#if QUARTER
    constexpr Quarters<R> quarters;
#endif
    for (u32 task = threadIdx.x; task < STRIDE * SERIES; task += THREADS) {
        const u32 series = task % SERIES, j = task / SERIES;
        float2 x[R];
        UNROLL
        for (int r = 0; r < R; r++) {
#if QUARTER
            const float value = load(j + r * STRIDE, series);
            x[r] = make_float2(value * quarters.cosine[r], -value * quarters.sine[r]);
#else
            x[r] = load(j + r * STRIDE, series);
#endif
        }
        transform(x);
        UNROLL
        for (int b = 0; b < R; b++) {
            if (b > 0 || QUARTER) x[b] = times(x[b], roots[b * STRIDE + j]);
            points[place(j + b * STRIDE) * SERIES + series] = x[b];
        }
    }
    __syncthreads();
}
// The stages between the first and the last, in place.
template <int STAGE> DEVICE void forward_stages(float2* points, const float2* roots) {
    if constexpr (STAGE < STAGES - 1) {
        constexpr int R = radix(STAGE), STRIDE = joined(STAGE) / R, FIRST = first_root(STAGE);
        for (u32 task = threadIdx.x; task < POINTS / R * SERIES; task += THREADS) {
            const u32 series = task % SERIES, q = task / SERIES, j = q % STRIDE, first = q / STRIDE * (STRIDE * R) + j;
            float2 x[R];
            UNROLL
            for (int r = 0; r < R; r++) x[r] = points[place(first + r * STRIDE) * SERIES + series];
            transform(x);
            UNROLL
            for (int b = 0; b < R; b++) {
                if (b > 0) x[b] = times(x[b], roots[FIRST + b * STRIDE + j]);
                points[place(first + b * STRIDE) * SERIES + series] = x[b];
            }
        }
        __syncthreads();
        forward_stages<STAGE + 1>(points, roots);
    }
}
// The last stage: `use(x, task, series)` takes frequencies, x[b] the one at place task * LAST_RADIX + b.
template <class Use> DEVICE void forward_last(const float2* points, Use use) {
    for (u32 task = threadIdx.x; task < LAST_TASKS * SERIES; task += THREADS) {
        const u32 series = task % SERIES, q = task / SERIES;
        float2 x[LAST_RADIX];
        UNROLL
        for (int r = 0; r < LAST_RADIX; r++) x[r] = points[(q * (LAST_RADIX + 1) + r) * SERIES + series];
        transform(x);
        use(x, q, series);
    }
}
// The last stage forward, `change(x, task, series)`, and the first stage back, in registers.
template <class Change> DEVICE void turn(float2* points, Change change) {
    forward_last(points, [&](float2(&x)[LAST_RADIX], u32 q, u32 series) {
        change(x, q, series);
        transform_back(x);
        UNROLL
        for (int r = 0; r < LAST_RADIX; r++) points[(q * (LAST_RADIX + 1) + r) * SERIES + series] = x[r];
    });
    __syncthreads();
}
// The first stage back: `load(x, task, series)` gives frequencies as forward_last hands them out.
template <class Load> DEVICE void back_first(float2* points, Load load) {
    for (u32 task = threadIdx.x; task < LAST_TASKS * SERIES; task += THREADS) {
        const u32 series = task % SERIES, q = task / SERIES;
        float2 x[LAST_RADIX];
        load(x, q, series);
        transform_back(x);
        UNROLL
        for (int r = 0; r < LAST_RADIX; r++) points[(q * (LAST_RADIX + 1) + r) * SERIES + series] = x[r];
    }
    __syncthreads();
}
// The stages between, back, from STAGE down to the second.
template <int STAGE> DEVICE void back_stages(float2* points, const float2* roots) {
    if constexpr (STAGE > 0) {
        constexpr int R = radix(STAGE), STRIDE = joined(STAGE) / R, FIRST = first_root(STAGE);
        for (u32 task = threadIdx.x; task < POINTS / R * SERIES; task += THREADS) {
            const u32 series = task % SERIES, q = task / SERIES, j = q % STRIDE, first = q / STRIDE * (STRIDE * R) + j;
            float2 x[R];
            UNROLL
            for (int b = 0; b < R; b++) {
                x[b] = points[place(first + b * STRIDE) * SERIES + series];
                if (b > 0) x[b] = times_conjugate(x[b], roots[FIRST + b * STRIDE + j]);
            }
            transform_back(x);
            UNROLL
            for (int r = 0; r < R; r++) points[place(first + r * STRIDE) * SERIES + series] = x[r];
        }
        __syncthreads();
        back_stages<STAGE - 1>(points, roots);
    }
}
// The last stage back: `store(point, series, value)` takes real parts (QUARTER), or complex values.
template <class Store> DEVICE void back_last(const float2* points, const float2* roots, Store store) {
    constexpr int R = radix(0), STRIDE = POINTS / R;
#if QUARTER
    constexpr Quarters<R> quarters;
#endif
    for (u32 task = threadIdx.x; task < STRIDE * SERIES; task += THREADS) {
        const u32 series = task % SERIES, j = task / SERIES;
        float2 x[R];
        UNROLL
        for (int b = 0; b < R; b++) {
            x[b] = points[place(j + b * STRIDE) * SERIES + series];
            if (b > 0 || QUARTER) x[b] = times_conjugate(x[b], roots[b * STRIDE + j]);
        }
        transform_back(x);
        UNROLL
        for (int r = 0; r < R; r++) {
#if QUARTER
            store(j + r * STRIDE, series, fmaf(x[r].x, quarters.cosine[r], -(x[r].y * quarters.sine[r])));
#else
            store(j + r * STRIDE, series, x[r]);
#endif
        }
    }
}
