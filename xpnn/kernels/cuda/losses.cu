/* Cross-entropy of labels that all count alike, forward and backward in one, with a thread per row: for few classes. */

/* losses[r] = (log Σ_c exp z_rc − z_r,label) / rows; d = (softmax − one-hot) / rows. Both are 0 for a label out of range. */
KERNEL cross_entropy(const REAL *z, const int *target, REAL *losses, REAL *d, size rows, int classes) {
    EACH(r, rows) {
        const REAL *row = z + r * classes;
        REAL largest = row[0], total = 0;
        int label = target[r], is_class = label >= 0 && label < classes;
        for (int c = 1; c < classes; ++c) largest = row[c] > largest || row[c] != row[c] ? row[c] : largest;
        for (int c = 0; c < classes; ++c) total += exp(row[c] - largest);
        losses[r] = is_class ? (log(total) - (row[label] - largest)) / rows : 0;
        for (int c = 0; c < classes; ++c) {
            REAL share = exp(row[c] - largest) / total;
            d[r * classes + c] = is_class ? (share - (c == label)) / rows : 0;
        }
    }
}
