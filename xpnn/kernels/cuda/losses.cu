/* Cross-entropy of labels that all count alike, forward and backward in one, with a thread per row: for few classes. */

/* parts[k] = Σ (log Σ_c exp z_rc − z_r,label) / rows over the k-th `chunk` of rows r; d = (softmax − one-hot) / rows.
   Both are 0 for a label out of range. */
KERNEL cross_entropy(const REAL *z, const int *target, REAL *parts, REAL *d, size rows, int classes, size chunk) {
    EACH_BLOCK(k, (rows + chunk - 1) / chunk) {
        REAL loss = 0;
        SHARED(i, chunk) {
            size r = k * chunk + i;
            if (r >= rows) break;
            const REAL *row = z + r * classes;
            REAL largest = row[0], total = 0;
            int label = target[r], is_class = label >= 0 && label < classes;
            for (int c = 1; c < classes; ++c) largest = row[c] > largest || row[c] != row[c] ? row[c] : largest;
            for (int c = 0; c < classes; ++c) total += exp(row[c] - largest);
            if (is_class) loss += (log(total) - (row[label] - largest)) / rows;
            for (int c = 0; c < classes; ++c) {
                REAL share = exp(row[c] - largest) / total;
                d[r * classes + c] = is_class ? (share - (c == label)) / rows : 0;
            }
        }
        loss = block_sum(loss);
        if (IS_FIRST) parts[k] = loss;
    }
}
