// What the forms of attention share.

#define LOG2_E 1.44269504f
#define NEGATIVE_INFINITY __uint_as_float(0xff800000u)
