// The bits that dropout compares, as `ops/dropout.rs` has them: element e is word e / 256 % 4 of Philox4x32-10 of the counter
// (256 (e / 1024) + e % 256, layer, step), keyed by the seed. A thread that owns e, e + 256, e + 512, e + 768 needs one counter.
//
// Source: Salmon et al. 2011, section 3.3 and table 2.

// Writes the words of the elements e, e + 256, e + 512, e + 768, where e / 256 % 4 is zero. `draws` holds seed and step.
DEVICE void drop_words(u32 (&word)[4], u32 element, u32 layer, const u64* draws) {
    const u64 seed = draws[0], step = draws[1];
    u32 key[2] = {(u32)seed, (u32)(seed >> 32)};
    word[0] = (element >> 10 << 8) + (element & 255);
    word[1] = layer;
    word[2] = (u32)step;
    word[3] = (u32)(step >> 32);
    UNROLL
    for (u32 round = 0; round < 10; round++) {
        const u32 first_high = __umulhi(0xD2511F53u, word[0]), first_low = 0xD2511F53u * word[0];
        const u32 second_high = __umulhi(0xCD9E8D57u, word[2]), second_low = 0xCD9E8D57u * word[2];
        word[0] = second_high ^ word[1] ^ key[0];
        word[1] = second_low;
        word[2] = first_high ^ word[3] ^ key[1];
        word[3] = first_low;
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
}
// The word of one element.
DEVICE u32 drop_word(u32 element, u32 layer, const u64* draws) {
    u32 word[4];
    drop_words(word, element, layer, draws);
    const u32 which = element >> 8 & 3;
    const u32 low = which & 1 ? word[1] : word[0], high = which & 1 ? word[3] : word[2];
    return which & 2 ? high : low;
}
