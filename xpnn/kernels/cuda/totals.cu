/* What a step keeps account of, in few launches. */

/* What `booked` of xpnn/training/step.py gives: words = (step, bad_step), numbers = (clock, loss, weight, bad_lr). */
KERNEL totals(const word *step, const REAL *clock, const REAL *loss, const REAL *weight, const word *bad_step,
             const REAL *bad_lr, const REAL *value, const REAL *lr, REAL rows, int is_sum, word *words, REAL *numbers) {
    EACH(i, 1) {
        int is_first = *bad_step == 0 && !(*value - *value == 0); /* infinity and NaN have no difference */
        words[0] = *step + 1;
        words[1] = is_first ? *step + 1 : *bad_step;
        numbers[0] = *clock + 1;
        numbers[1] = *loss + (is_sum ? *value : *value * rows);
        numbers[2] = *weight + rows;
        numbers[3] = is_first ? *lr : *bad_lr;
    }
}

/* parts[k] = how many of the k-th `chunk` rows of z have their largest number, or the first NaN, at their label. */
KERNEL hits(const REAL *z, const int *target, REAL *parts, size rows, int classes, size chunk) {
    EACH(k, (rows + chunk - 1) / chunk) {
        int found = 0;
        for (size r = k * chunk; r < rows && r < (k + 1) * chunk; ++r) {
            const REAL *row = z + r * classes;
            REAL top = row[0];
            int best = 0;
            for (int c = 1; c < classes; ++c) {
                REAL v = row[c];
                if (v > top || (v != v && top == top)) top = v, best = c;
            }
            found += best == target[r];
        }
        parts[k] = found;
    }
}

/* sums = (correct + all parts, seen + rows). */
KERNEL add_hits(const REAL *parts, const REAL *correct, const REAL *seen, REAL *sums, size count, size rows) {
    EACH(i, 1) {
        REAL total = *correct;
        for (size k = 0; k < count; ++k) total += parts[k];
        sums[0] = total;
        sums[1] = *seen + rows;
    }
}
