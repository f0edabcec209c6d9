/* Factors of products in bfloat16. */

/* The bits of float32 as bfloat16: the upper half, rounded to nearest, ties to even. NaN stays NaN. */
KERNEL round_to_bf16(const word *x, half_word *y, size n) {
    EACH(i, n) {
        int is_nan = (x[i] & 0x7FFFFFFFu) > 0x7F800000u;
        y[i] = (half_word)(is_nan ? x[i] >> 16 | 0x40 : (x[i] + 0x7FFF + (x[i] >> 16 & 1)) >> 16);
    }
}
