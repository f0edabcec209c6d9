/* Bytes, scaled as they are converted. */

/* y = factor · x. */
KERNEL scaled_bytes(const byte *x, const REAL *factor, REAL *y, size n) {
    EACH(i, n) { y[i] = x[i] * *factor; }
}

/* The same for the given rows of x, with so many columns each; n elements in all. */
KERNEL gathered_bytes(const byte *x, const int *rows, const REAL *factor, REAL *y, size n, size columns) {
    EACH(i, n) { y[i] = x[rows[i / columns] * columns + i % columns] * *factor; }
}
