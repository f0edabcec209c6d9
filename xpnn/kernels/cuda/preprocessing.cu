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

/* The given rows of x and of y, which have so many words of 4 bytes a row; n rows in all. */
KERNEL gathered_rows(const word *x, const word *y, const int *rows, word *x_rows, word *y_rows, int n, int x_words,
                     int y_words) {
    EACH(i, (size)n * (x_words + y_words)) {
        int k = (int)i, first = n * x_words;
        if (k < first) x_rows[k] = x[(size)rows[k / x_words] * x_words + k % x_words];
        else k -= first, y_rows[k] = y[(size)rows[k / y_words] * y_words + k % y_words];
    }
}
