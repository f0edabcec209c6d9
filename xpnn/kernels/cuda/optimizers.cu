/* One step for all leaves in one launch, in place. */

enum { LEAVES = 32 };

/* Leaf j has the numbers from end[j − 1] to end[j]; those of the step are found by their number among all. */
typedef struct {
    REAL *p[LEAVES], *u[LEAVES], *v[LEAVES]; /* parameters and what the optimizer keeps of each */
    const REAL *g[LEAVES];
    size end[LEAVES];
} leaves;

FUNCTION int leaf_of(const leaves *all, size i) {
    int j = 0;
    while (i >= all->end[j]) ++j;
    return j;
}

KERNEL sgd(GIVEN const leaves all, size n, const REAL *lr, REAL momentum, REAL weight_decay, int nesterov) {
    EACH(i, n) {
        int j = leaf_of(&all, i);
        size k = j ? i - all.end[j - 1] : i;
        REAL *p = all.p[j] + k, d = all.g[j][k] + weight_decay * *p;
        if (momentum) {
            REAL v = momentum * all.u[j][k] + d;
            all.u[j][k] = v;
            d = nesterov ? d + momentum * v : v;
        }
        *p -= *lr * d;
    }
}

/* rest = 1 − beta, in which float32 would lose digits, as it would in 1 − beta^count without the logarithm. */
KERNEL adam(GIVEN const leaves all, size n, const REAL *lr, const REAL *count, REAL beta1, REAL rest1, REAL log_beta1,
            REAL beta2, REAL rest2, REAL log_beta2, REAL eps, REAL weight_decay, int decoupled) {
    REAL correction1 = -expm1(*count * log_beta1), correction2 = -expm1(*count * log_beta2);
    EACH(i, n) {
        int j = leaf_of(&all, i);
        size k = j ? i - all.end[j - 1] : i;
        REAL p = all.p[j][k], d = all.g[j][k];
        if (decoupled) p *= 1 - *lr * weight_decay;
        else d += weight_decay * p;
        REAL m = beta1 * all.u[j][k] + rest1 * d, v = beta2 * all.v[j][k] + rest2 * (d * d);
        all.u[j][k] = m;
        all.v[j][k] = v;
        all.p[j][k] = p - *lr * (m / correction1) / (sqrt(v / correction2) + eps);
    }
}

/* p += max(rest, 9 / (10 + step)) · (g − p): moving averages p of the parameters g. */
KERNEL follow(GIVEN const leaves all, size n, const word *step, REAL rest) {
    REAL early = 9 / (10 + (REAL)*step), share = early > rest ? early : rest;
    EACH(i, n) {
        int j = leaf_of(&all, i);
        size k = j ? i - all.end[j - 1] : i;
        all.p[j][k] += share * (all.g[j][k] - all.p[j][k]);
    }
}

/* Words from g to p, for leaves of any kind: the ends count words of 4 bytes. */
KERNEL overwrite(GIVEN const leaves all, size n) {
    EACH(i, n) {
        int j = leaf_of(&all, i);
        size k = j ? i - all.end[j - 1] : i;
        ((word *)all.p[j])[k] = ((const word *)all.g[j])[k];
    }
}
