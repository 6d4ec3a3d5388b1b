// The words every kernel is written in, for NVRTC; `emulator.h` gives the same words a meaning on the host.
//
// No include, no library: NVRTC needs no header path then. bf16 is its bits, converted with rounding to nearest even.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

struct bf16 {
    u16 bits;
};
struct f16 {
    u16 bits;
};

#define DEVICE __device__ __forceinline__
// `KERNEL(threads at most, name)(arguments) { ... }`
#define KERNEL(THREADS, NAME) extern "C" __global__ void __launch_bounds__(THREADS) NAME
// As KERNEL, with as many blocks resident on a multiprocessor at least.
#define KERNEL_RESIDENT(THREADS, BLOCKS, NAME) extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME
// The block's dynamic shared memory, aligned to 16 bytes; there is no other shared memory.
#define SHARED(NAME) extern __shared__ __align__(16) u8 NAME[]
#define RESTRICT __restrict__
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define ALIGNED(BYTES) __align__(BYTES)

#define WARP_LANES 32
#define ALL_LANES 0xffffffffu

DEVICE u32 lane_index() { return threadIdx.x & 31; }
DEVICE u32 warp_index() { return threadIdx.x >> 5; }

// Values of other lanes; all lanes of the warp take part.
template <class T> DEVICE T shuffle(T x, u32 lane) { return __shfl_sync(ALL_LANES, x, lane); }
template <class T> DEVICE T shuffle_xor(T x, u32 mask) { return __shfl_xor_sync(ALL_LANES, x, mask); }
template <class T> DEVICE T shuffle_down(T x, u32 by) { return __shfl_down_sync(ALL_LANES, x, by); }
template <class T> DEVICE T shuffle_up(T x, u32 by) { return __shfl_up_sync(ALL_LANES, x, by); }
DEVICE u32 ballot(bool predicate) { return __ballot_sync(ALL_LANES, predicate); }

// Conversions; to nearest, ties to even.
DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
DEVICE float to_float(f16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE bf16 from_float<bf16>(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
template <> DEVICE f16 from_float<f16>(float x) {
    f16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
// Two bf16 in a register: `low` in the low half.
DEVICE u32 pack_bf16(float low, float high) {
    u32 y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}
DEVICE float unpack_low(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float unpack_high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
// f32 rounded to the 10 bits of fraction that tf32 products read.
DEVICE u32 to_tf32(float x) {
    u32 y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}

// 2^x, 2 ulp; subnormal results are zero.
DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// d += a b on a warp: a [16, 16], b [16, 8], d [16, 8]. Lane l holds, with r = l / 4 and c = 2 (l % 4):
// a0 = a[r, c..c+2], a1 = a[r+8, c..], a2 = a[r, c+8..], a3 = a[r+8, c+8..]; b0 = b[c..c+2, r], b1 = b[c+8.., r];
// d0, d1 = d[r, c..c+2], d2, d3 = d[r+8, c..c+2].
DEVICE void multiply_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// d += a b on a warp: a [16, 8], b [8, 8], d [16, 8], tf32 bits. With r = l / 4, c = l % 4: a0 = a[r, c], a1 = a[r+8, c],
// a2 = a[r, c+4], a3 = a[r+8, c+4]; b0 = b[c, r], b1 = b[c+4, r]; d as in multiply_bf16.
DEVICE void multiply_tf32(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE u32 shared_address(const void* shared) { return (u32)__cvta_generic_to_shared(shared); }

// Four 8 x 8 matrices of 16-bit values from shared memory: lane l names the 16 bytes of row l % 8 of matrix l / 8; r[i]
// is then the pair [l / 4, 2 (l % 4)..] of matrix i.
DEVICE void load_matrices(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// As load_matrices, each matrix transposed.
DEVICE void load_matrices_transposed(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// Starts a copy of 16 bytes to shared memory, both sides aligned to 16; zeros where not `valid`, and `global` is not read then.
DEVICE void copy_async_16(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
}
// As copy_async_16, of 4 bytes.
DEVICE void copy_async_4(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid ? 4 : 0)
                 : "memory");
}
// Ends a group of copies.
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most GROUPS groups of this thread are under way; other threads see the copies after a barrier.
template <int GROUPS> DEVICE void copy_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory"); }
