/* Sums and counters of a training step, in few launches. */

/* `update_totals` of xpnn/training/step.py: words = (step, bad_step), values = (clock, loss, weight, bad_lr). */
KERNEL totals(const word *step, const REAL *clock, const REAL *loss, const REAL *weight, const word *bad_step,
             const REAL *bad_lr, const REAL *value, const REAL *lr, REAL rows, int is_sum, word *words, REAL *values) {
    EACH(i, 1) {
        int is_first = *bad_step == 0 && !(*value - *value == 0); /* ∞ − ∞ and NaN − NaN are NaN */
        words[0] = *step + 1;
        words[1] = is_first ? *step + 1 : *bad_step;
        values[0] = *clock + 1;
        values[1] = *loss + (is_sum ? *value : *value * rows);
        values[2] = *weight + rows;
        values[3] = is_first ? *lr : *bad_lr;
    }
}

/* How many of each `chunk` of rows of z have their largest element, or the first NaN, at their label. If one chunk is
   all: sums = (*correct + hits, *seen + rows). Otherwise both are null, and sums[k] is the number of the k-th chunk. */
KERNEL hits(const REAL *z, const int *target, const REAL *correct, const REAL *seen, REAL *sums, size rows,
            int classes, size chunk) {
    EACH_BLOCK(k, (rows + chunk - 1) / chunk) {
        REAL found = 0;
        SHARED(i, chunk) {
            size r = k * chunk + i;
            if (r >= rows) break;
            const REAL *row = z + r * classes;
            REAL top = row[0];
            int best = 0;
            for (int c = 1; c < classes; ++c) {
                REAL v = row[c];
                if (v > top || (v != v && top == top)) top = v, best = c;
            }
            found += best == target[r];
        }
        found = block_sum(found);
        if (IS_FIRST) {
            sums[k] = correct ? *correct + found : found;
            if (seen) sums[1] = *seen + rows;
        }
    }
}

/* sums = (correct + all parts, seen + rows). */
KERNEL add_hits(const REAL *parts, const REAL *correct, const REAL *seen, REAL *sums, size count, size rows) {
    EACH_BLOCK(one, 1) {
        REAL total = 0;
        SHARED(k, count) total += parts[k];
        total = block_sum(total);
        if (IS_FIRST) {
            sums[0] = *correct + total;
            sums[1] = *seen + rows;
        }
    }
}
