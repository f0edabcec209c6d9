/* Cross-entropy of labels that all count alike, forward and backward in one, with LANES threads per row: for few classes. */

/* parts[k] = Σ (log Σ_c exp z_rc − z_r,label) / rows over the k-th `chunk` of rows r; d = (softmax − one-hot) / rows.
   Both are 0 for a label out of range. */
KERNEL cross_entropy(const REAL *z, const int *target, REAL *parts, REAL *d, int rows, int classes, int chunk) {
    EACH_BLOCK(k, (rows + chunk - 1) / chunk) {
        REAL loss = 0;
        EACH_ROW(i, chunk) {
            const size r = k * chunk + i;
            const int is_row = i < chunk && r < rows, label = is_row ? target[r] : 0;
            const int is_class = label >= 0 && label < classes;
            const REAL *row = z + (is_row ? r * classes : 0);
            REAL largest = row[LANE < classes ? LANE : 0], total = 0;
            for (int c = LANE + LANES; c < classes; c += LANES)
                largest = row[c] > largest || row[c] != row[c] ? row[c] : largest;
            largest = lanes_largest(largest);
            for (int c = LANE; c < classes; c += LANES) total += exp(row[c] - largest);
            total = lanes_sum(total);
            if (!is_row) continue;
            if (is_class && LANE == 0) loss += (log(total) - (row[label] - largest)) / rows;
            for (int c = LANE; c < classes; c += LANES) {
                const REAL share = exp(row[c] - largest) / total;
                d[r * classes + c] = is_class ? (share - (c == label)) / rows : 0;
            }
        }
        loss = block_sum(loss);
        if (IS_FIRST) parts[k] = loss;
    }
}
