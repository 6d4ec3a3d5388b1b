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

// Number types by the code that launches pass on: 0 is float, 1 bf16, 2 f16.
template <int CODE> struct NumberOf {
    typedef float Type;
};
template <> struct NumberOf<1> {
    typedef bf16 Type;
};
template <> struct NumberOf<2> {
    typedef f16 Type;
};

// Neighbouring values as f32, 16 bytes an access (8 for four of 16 bits); the address is aligned to the access.
template <class T> DEVICE void load_values(const T* from, float (&to)[1]) { to[0] = to_float(*from); }
DEVICE void load_values(const float* from, float (&to)[4]) {
    const float4 four = *(const float4*)from;
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}
DEVICE void load_values(const float* from, float (&to)[8]) {
    const float4 low = *(const float4*)from, high = *(const float4*)(from + 4);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}
DEVICE void unpack_pair(const bf16*, u32 pair, float& low, float& high) { low = unpack_low(pair), high = unpack_high(pair); }
DEVICE void unpack_pair(const f16*, u32 pair, float& low, float& high) {
    const f16 first = {(u16)pair}, second = {(u16)(pair >> 16)};
    low = to_float(first), high = to_float(second);
}
template <class T> DEVICE void load_values(const T* from, float (&to)[4]) {
    const uint2 pairs = *(const uint2*)from;
    unpack_pair(from, pairs.x, to[0], to[1]);
    unpack_pair(from, pairs.y, to[2], to[3]);
}
template <class T> DEVICE void load_values(const T* from, float (&to)[8]) {
    const uint4 pairs = *(const uint4*)from;
    unpack_pair(from, pairs.x, to[0], to[1]);
    unpack_pair(from, pairs.y, to[2], to[3]);
    unpack_pair(from, pairs.z, to[4], to[5]);
    unpack_pair(from, pairs.w, to[6], to[7]);
}
// As load_values, the other way.
template <class T> DEVICE void store_values(T* to, const float (&from)[1]) { *to = from_float<T>(from[0]); }
DEVICE void store_values(float* to, const float (&from)[4]) { *(float4*)to = make_float4(from[0], from[1], from[2], from[3]); }
DEVICE void store_values(float* to, const float (&from)[8]) {
    *(float4*)to = make_float4(from[0], from[1], from[2], from[3]);
    *(float4*)(to + 4) = make_float4(from[4], from[5], from[6], from[7]);
}
DEVICE u32 pack_pair(const bf16*, float low, float high) { return pack_bf16(low, high); }
DEVICE u32 pack_pair(const f16*, float low, float high) {
    return (u32)from_float<f16>(low).bits | ((u32)from_float<f16>(high).bits << 16);
}
template <class T> DEVICE void store_values(T* to, const float (&from)[4]) {
    *(uint2*)to = make_uint2(pack_pair(to, from[0], from[1]), pack_pair(to, from[2], from[3]));
}
template <class T> DEVICE void store_values(T* to, const float (&from)[8]) {
    *(uint4*)to = make_uint4(pack_pair(to, from[0], from[1]), pack_pair(to, from[2], from[3]), pack_pair(to, from[4], from[5]),
                             pack_pair(to, from[6], from[7]));
}
