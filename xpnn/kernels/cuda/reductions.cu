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

/* The same over all rows in one launch, with a block per column: its threads read far apart, so only for small x. */
KERNEL small_column_sums(const REAL *x, REAL *y, size rows, size columns) {
    EACH_BLOCK(c, columns) {
        REAL total = 0;
        SHARED(r, rows) total += x[r * columns + c];
        total = block_sum(total);
        if (IS_FIRST) y[c] = total;
    }
}
