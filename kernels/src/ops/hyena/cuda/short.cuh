// Causal convolution of width three over projected rows [length, 3 channels], and taps of the long filter.
//
// Rows are read where they are needed, three of each channel: lanes hold neighbouring positions, so all but the first
// come from the nearest cache. Numerics: one chain, oldest first, from the bias, as on the CPU.

struct Taps {
    float oldest, older, present, bias;
};

DEVICE Taps load_taps(const float* taps, const float* bias, u32 channel, bool valid) {
    Taps own = {0.0f, 0.0f, 0.0f, 0.0f};
    if (valid) own = {taps[3 * channel], taps[3 * channel + 1], taps[3 * channel + 2], bias[channel]};
    return own;
}

template <class Value> struct Rows {
    const Value* first;
    u32 channels, length;

    // Of position `t` below `length`, column `column` of 3 `channels`.
    __device__ float convolved(u32 t, u32 column, const Taps& taps) const {
        const u64 width = 3 * (u64)channels;
        const Value* at = first + t * width + column;
        const float oldest = t >= 2 ? to_float(at[-2 * (i64)width]) : 0.0f;
        const float older = t >= 1 ? to_float(at[-(i64)width]) : 0.0f;
        return fmaf(taps.present, to_float(at[0]), fmaf(taps.older, older, fmaf(taps.oldest, oldest, taps.bias)));
    }
};

// Tap `t` of a filter [length, channels] with the skip in its first, times `scale`; zero outside.
DEVICE float filter_tap(const float* taps, const float* skip, u32 t, u32 channel, u32 channels, u32 length, float scale) {
    if (t >= length || channel >= channels) return 0.0f;
    const float tap = taps[(u64)t * channels + channel];
    return (t == 0 ? tap + skip[channel] : tap) * scale;
}
