/* Threefry-2x32-20, bit for bit as xpnn/arrays/random.py. */

typedef struct {
    word a, b;
} block_words;

FUNCTION word rotated(word x, int r) { return (x << r) | (x >> (32 - r)); }

/* The two words of block `i` under the key (k0, k1), at this step. */
FUNCTION block_words threefry(word k0, word k1, word i, word step) {
    const word ks[3] = {k0, k1, k0 ^ k1 ^ 0x1BD11BDAu};
    const int rotations[8] = {13, 15, 26, 6, 17, 29, 16, 24};
    block_words x = {i + ks[0], step + ks[1]};
    for (int group = 0; group < 5; ++group) {
        for (int j = 0; j < 4; ++j) {
            x.a += x.b;
            x.b = rotated(x.b, rotations[group % 2 * 4 + j]) ^ x.a;
        }
        x.a += ks[(group + 1) % 3];
        x.b += ks[(group + 2) % 3] + (word)(group + 1);
    }
    return x;
}

/* The two words of each block from number `start` on, n of them in all. */
KERNEL words(const word *k0, const word *k1, const word *step, word start, size n, word *y) {
    EACH(i, (n + 1) / 2) {
        block_words x = threefry(*k0, *k1, start + (word)i, *step);
        y[2 * i] = x.a;
        if (2 * i + 1 < n) y[2 * i + 1] = x.b;
    }
}

/* Whether the upper 24 bits of each word reach the threshold. */
KERNEL dropout_mask(const word *k0, const word *k1, const word *step, word start, size n, word threshold, byte *y) {
    EACH(i, (n + 1) / 2) {
        block_words x = threefry(*k0, *k1, start + (word)i, *step);
        y[2 * i] = x.a >> 8 >= threshold;
        if (2 * i + 1 < n) y[2 * i + 1] = x.b >> 8 >= threshold;
    }
}
