// What the forms of attention share.

#define LOG2_E 1.44269504f
#define NEGATIVE_INFINITY __uint_as_float(0xff800000u)

// Maximum and sum over the four lanes that hold a row of a product's fragments, the same bits in each.
DEVICE float quad_max(float x) {
    x = fmaxf(x, shuffle_xor(x, 1));
    return fmaxf(x, shuffle_xor(x, 2));
}
DEVICE float quad_sum(float x) {
    x += shuffle_xor(x, 1);
    return x + shuffle_xor(x, 2);
}
