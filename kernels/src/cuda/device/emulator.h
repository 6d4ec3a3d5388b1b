// The words of `prelude.cuh` on the host: threads of a block are fibers, what a warp does together is a rendezvous.
//
// Kernels are compiled with -fsanitize=thread, whose calls on each load and store come to `emulator.cpp`: there, bounds,
// alignment and unsynchronised accesses to shared memory are checked. Leaves out: speed, clusters, atomics.

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef int32_t i32;
typedef long long i64;

struct bf16 {
    u16 bits;
};
struct f16 {
    u16 bits;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    u32 x, y;
};
struct alignas(16) uint4 {
    u32 x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }

// What the runtime answers; by value, as nothing of it is the kernel's memory.
struct Dim3 {
    u32 x, y, z;
};
extern "C" {
Dim3 emulator_thread();
Dim3 emulator_block();
Dim3 emulator_block_extent();
Dim3 emulator_grid_extent();
u8* emulator_shared();
void emulator_barrier();
void emulator_warp_barrier();
u64 emulator_shuffle(u64 value, u32 source);
u32 emulator_ballot(u32 predicate);
void emulator_multiply_bf16(float* d, const u32* a, u32 b0, u32 b1);
void emulator_multiply_tf32(float* d, const u32* a, u32 b0, u32 b1);
void emulator_load_matrices(u32* r, const void* row, u32 transposed);
void emulator_copy_async(void* shared, const void* global, u32 bytes, u32 valid);
void emulator_copy_async_commit();
void emulator_copy_async_wait(u32 groups);
float emulator_from_f16(u16 bits);
u16 emulator_to_f16(float x);
}
#define threadIdx emulator_thread()
#define blockIdx emulator_block()
#define blockDim emulator_block_extent()
#define gridDim emulator_grid_extent()

#define __device__
#define __constant__ static const
#define DEVICE static inline
#define KERNEL(THREADS, NAME) extern "C" void NAME
#define KERNEL_RESIDENT(THREADS, BLOCKS, NAME) extern "C" void NAME
#define SHARED(NAME) u8* NAME = emulator_shared()
#define RESTRICT __restrict__
#define UNROLL
#define ROLLED
#define ALIGNED(BYTES) alignas(BYTES)

#define WARP_LANES 32
#define ALL_LANES 0xffffffffu

DEVICE u32 lane_index() { return threadIdx.x & 31; }
DEVICE u32 warp_index() { return threadIdx.x >> 5; }
DEVICE void __syncthreads() { emulator_barrier(); }
DEVICE void __syncwarp() { emulator_warp_barrier(); }

template <class To, class From> DEVICE To bits_as(From from) {
    To to = To();
    memcpy(&to, &from, sizeof(From) < sizeof(To) ? sizeof(From) : sizeof(To));
    return to;
}
template <class T> DEVICE T shuffle(T x, u32 lane) { return bits_as<T>(emulator_shuffle(bits_as<u64>(x), lane & 31)); }
template <class T> DEVICE T shuffle_xor(T x, u32 mask) { return shuffle(x, lane_index() ^ mask); }
template <class T> DEVICE T shuffle_down(T x, u32 by) { return shuffle(x, lane_index() + by < 32 ? lane_index() + by : lane_index()); }
template <class T> DEVICE T shuffle_up(T x, u32 by) { return shuffle(x, lane_index() >= by ? lane_index() - by : lane_index()); }
DEVICE u32 ballot(bool predicate) { return emulator_ballot(predicate); }

DEVICE float __uint_as_float(u32 x) { return bits_as<float>(x); }
DEVICE u32 __float_as_uint(float x) { return bits_as<u32>(x); }
DEVICE int __float_as_int(float x) { return bits_as<int>(x); }
DEVICE float __int_as_float(int x) { return bits_as<float>(x); }
DEVICE u32 __umulhi(u32 x, u32 y) { return (u32)(((u64)x * y) >> 32); }
DEVICE int __popc(u32 x) { return __builtin_popcount(x); }
DEVICE int __clz(int x) { return x == 0 ? 32 : __builtin_clz((u32)x); }
DEVICE u32 __brev(u32 x) {
    u32 y = 0;
    for (int bit = 0; bit < 32; bit++) y |= ((x >> bit) & 1u) << (31 - bit);
    return y;
}
DEVICE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
DEVICE float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
DEVICE float __fadd_rn(float x, float y) { return x + y; }
DEVICE float __fsub_rn(float x, float y) { return x - y; }
DEVICE float __fmul_rn(float x, float y) { return x * y; }
DEVICE float __fdiv_rn(float x, float y) { return x / y; }
DEVICE float __fsqrt_rn(float x) { return sqrtf(x); }
DEVICE float __fdividef(float x, float y) { return x / y; }
// The C library declares functions of these names itself.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
template <class T> DEVICE T min(T x, T y) { return y < x ? y : x; }
template <class T> DEVICE T max(T x, T y) { return x < y ? y : x; }

DEVICE u16 round_to_bf16(float x) {
    const u32 bits = bits_as<u32>(x);
    if (x != x) return (u16)((bits >> 16) | 0x40);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return bits_as<float>((u32)x.bits << 16); }
DEVICE float to_float(f16 x) { return emulator_from_f16(x.bits); }
template <class T> DEVICE T from_float(float x);
template <> inline float from_float<float>(float x) { return x; }
template <> inline bf16 from_float<bf16>(float x) { return bf16{round_to_bf16(x)}; }
template <> inline f16 from_float<f16>(float x) { return f16{emulator_to_f16(x)}; }
DEVICE u32 pack_bf16(float low, float high) { return (u32)round_to_bf16(low) | ((u32)round_to_bf16(high) << 16); }
DEVICE float unpack_low(u32 pair) { return bits_as<float>(pair << 16); }
DEVICE float unpack_high(u32 pair) { return bits_as<float>(pair & 0xffff0000u); }
DEVICE u32 to_tf32(float x) {
    const u32 bits = bits_as<u32>(x);
    return (bits + 0x1000u) & 0xffffe000u;
}
DEVICE float exp2_fast(float x) {
    const float y = exp2f(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}

DEVICE void multiply_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) { emulator_multiply_bf16(d, a, b0, b1); }
DEVICE void multiply_tf32(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) { emulator_multiply_tf32(d, a, b0, b1); }
DEVICE void load_matrices(u32 (&r)[4], const void* row) { emulator_load_matrices(r, row, 0); }
DEVICE void load_matrices_transposed(u32 (&r)[4], const void* row) { emulator_load_matrices(r, row, 1); }
DEVICE void copy_async_16(void* shared, const void* global, bool valid) { emulator_copy_async(shared, global, 16, valid); }
DEVICE void copy_async_4(void* shared, const void* global, bool valid) { emulator_copy_async(shared, global, 4, valid); }
DEVICE void copy_async_commit() { emulator_copy_async_commit(); }
template <int GROUPS> DEVICE void copy_async_wait() { emulator_copy_async_wait(GROUPS); }

// Calls a kernel with arguments given as pointers to their values, as a launch does.
template <class... A> struct Call {
    template <int... I> struct Indices {};
    template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
    template <int... I> struct Count<0, I...> {
        typedef Indices<I...> type;
    };
    template <int... I> __attribute__((no_sanitize("thread"))) static void with(void (*kernel)(A...), void** arguments, Indices<I...>) {
        kernel(*(typename Plain<A>::type*)arguments[I]...);
    }
    template <class T> struct Plain {
        typedef T type;
    };
};
template <class... A> __attribute__((no_sanitize("thread"))) void call(void (*kernel)(A...), void** arguments) {
    Call<A...>::with(kernel, arguments, typename Call<A...>::template Count<sizeof...(A)>::type());
}
// Makes a kernel callable by name from outside.
#define EMULATED(NAME) \
    extern "C" __attribute__((visibility("default"), no_sanitize("thread"))) void emulated_##NAME(void** arguments) { call(NAME, arguments); }
