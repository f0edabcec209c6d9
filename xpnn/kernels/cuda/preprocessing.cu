/* Rows of a batch, and bytes, scaled as they are converted. */

/* y = factor · x. */
KERNEL scaled_bytes(const byte *x, const REAL *factor, REAL *y, size n) {
    EACH(i, n) { y[i] = x[i] * *factor; }
}

/* The same for the given rows of x, with so many columns each; n elements in all. */
KERNEL gathered_bytes(const byte *x, const int *rows, const REAL *factor, REAL *y, int n, int columns) {
    EACH(k, n) {
        int i = (int)k; /* of 32 bits, which divide faster */
        y[i] = x[(size)rows[i / columns] * columns + i % columns] * *factor;
    }
}

typedef struct __attribute__((aligned(16))) {
    word a, b, c, d;
} four_words;

/* The given rows of x and of y, which have so many words of 4 bytes a row; n rows in all. by_four: the rows of x are whole
   and aligned `four_words`. */
KERNEL gathered_rows(const word *x, const word *y, const int *rows, word *x_rows, word *y_rows, int n, int x_words,
                     int y_words, int by_four) {
    const int across = by_four ? x_words / 4 : x_words;
    EACH(i, (size)n * (across + y_words)) {
        int k = (int)i, first = n * across;
        if (k >= first) k -= first, y_rows[k] = y[(size)rows[k / y_words] * y_words + k % y_words];
        else if (by_four) ((four_words *)x_rows)[k] = ((const four_words *)x)[(size)rows[k / across] * across + k % across];
        else x_rows[k] = x[(size)rows[k / across] * across + k % across];
    }
}
