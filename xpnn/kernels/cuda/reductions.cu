/* Sums over rows. */

/* y[k, c] = the sum of x[r, c] over the k-th `chunk` of rows. Repeated, it gives the sum over all rows, always in the same order. */
KERNEL column_sums(const REAL *x, REAL *y, size rows, size columns, size chunk) {
    EACH(i, (rows + chunk - 1) / chunk * columns) {
        size first = i / columns * chunk;
        REAL total = 0;
        for (size r = first; r < rows && r < first + chunk; ++r) total += x[r * columns + i % columns];
        y[i] = total;
    }
}
