/* One update of all leaves in one launch, in place. LEAVES is set by launch.py. */

/* Leaf j has the elements end[j − 1] … end[j] − 1 of all elements. */
typedef struct {
    REAL *p[LEAVES], *u[LEAVES], *v[LEAVES]; /* parameters, and the optimizer's state */
    const REAL *g[LEAVES];
    size end[LEAVES];
} leaves;

FUNCTION int leaf_of(const leaves *all, size i) {
    int j = 0;
    while (i >= all->end[j]) ++j;
    return j;
}

KERNEL sgd(GIVEN const leaves all, size n, const REAL *lr, REAL momentum, REAL weight_decay, int nesterov,
           int lr_in_velocity) {
    REAL inner = lr_in_velocity ? *lr : 1, outer = lr_in_velocity ? 1 : *lr;
    EACH(i, n) {
        int j = leaf_of(&all, i);
        size k = j ? i - all.end[j - 1] : i;
        REAL *p = all.p[j] + k, d = inner * (all.g[j][k] + weight_decay * *p);
        if (momentum) {
            REAL v = momentum * all.u[j][k] + d;
            all.u[j][k] = v;
            d = nesterov ? d + momentum * v : v;
        }
        *p -= outer * d;
    }
}

/* rest = 1 − beta: computed in float32 it would lose digits, as would 1 − beta^count without the logarithm. */
KERNEL adam(GIVEN const leaves all, size n, const REAL *lr, const REAL *count, REAL beta1, REAL rest1, REAL log_beta1,
            REAL beta2, REAL rest2, REAL log_beta2, REAL eps, REAL weight_decay, int decoupled,
            int eps_hat) {
    REAL correction1 = -expm1(*count * log_beta1), correction2 = -expm1(*count * log_beta2), rate = *lr;
    if (eps_hat) {
        rate *= sqrt(correction2);
        correction2 = 1;
    }
    EACH(i, n) {
        int j = leaf_of(&all, i);
        size k = j ? i - all.end[j - 1] : i;
        REAL p = all.p[j][k], d = all.g[j][k];
        if (decoupled) p *= 1 - *lr * weight_decay;
        else d += weight_decay * p;
        REAL m = beta1 * all.u[j][k] + rest1 * d, v = beta2 * all.v[j][k] + rest2 * (d * d);
        all.u[j][k] = m;
        all.v[j][k] = v;
        all.p[j][k] = p - rate * (m / correction1) / (sqrt(v / correction2) + eps);
    }
}

/* p += max(rest, 9 / (10 + step)) · (g − p): moving averages p of the parameters g. */
KERNEL ema_update(GIVEN const leaves all, size n, const word *step, REAL rest) {
    REAL early = 9 / (10 + (REAL)*step), share = early > rest ? early : rest;
    EACH(i, n) {
        int j = leaf_of(&all, i);
        size k = j ? i - all.end[j - 1] : i;
        all.p[j][k] += share * (all.g[j][k] - all.p[j][k]);
    }
}

/* The norm over all leaves, in `count` parts, so that neighbouring threads read neighbouring elements: part k has the
   elements k, k + count, … They are divided by the largest magnitude first, as in `l2_norm` of xpnn/optim/clipping.py. */

FUNCTION REAL larger(REAL a, REAL b) { return b > a ? b : a; } /* NaN appears in the sum of squares */

FUNCTION REAL unit_of(const REAL *largest, size many) {
    REAL unit = 0;
    for (size k = 0; k < many; ++k) unit = larger(unit, largest[k]);
    return unit == 0 ? 1 : unit;
}

KERNEL largest(GIVEN const leaves all, size n, REAL *parts, size count) {
    EACH(k, count) {
        parts[k] = 0;
        for (size i = k; i < n; i += count) {
            int j = leaf_of(&all, i);
            parts[k] = larger(parts[k], fabs(all.g[j][j ? i - all.end[j - 1] : i]));
        }
    }
}

/* y[k] = the largest of the k-th `chunk` of n elements. */
KERNEL largest_of(const REAL *x, REAL *y, size n, size chunk) {
    EACH(k, (n + chunk - 1) / chunk) {
        y[k] = 0;
        for (size i = k * chunk; i < n && i < (k + 1) * chunk; ++i) y[k] = larger(y[k], x[i]);
    }
}

KERNEL squares(GIVEN const leaves all, size n, const REAL *largest, size many, REAL *parts, size count) {
    EACH(k, count) {
        REAL unit = unit_of(largest, many), total = 0;
        for (size i = k; i < n; i += count) {
            int j = leaf_of(&all, i);
            REAL x = all.g[j][j ? i - all.end[j - 1] : i] / unit;
            total += x * x;
        }
        parts[k] = total;
    }
}

KERNEL clip(GIVEN const leaves all, size n, const REAL *largest, size many, const REAL *total, REAL max_norm) {
    REAL wanted = max_norm / (unit_of(largest, many) * sqrt(*total) + (REAL)1e-6), factor = wanted > 1 ? 1 : wanted;
    EACH(i, n) {
        int j = leaf_of(&all, i);
        all.p[j][j ? i - all.end[j - 1] : i] *= factor;
    }
}

/* u += factor · p and parts[k] = ½ factor · the k-th part of Σ p², with factor = alpha / count: gradients u of the penalty
   of the weights p. The count is in memory, or, if that is null, `rows`. */
KERNEL squares_penalty(GIVEN const leaves all, size n, const REAL *count, REAL rows, REAL alpha, REAL *parts,
                       size many) {
    EACH(k, many) {
        REAL factor = alpha / (count ? *count : rows), total = 0;
        for (size i = k; i < n; i += many) {
            int j = leaf_of(&all, i);
            size at = j ? i - all.end[j - 1] : i;
            REAL x = all.p[j][at];
            total += x * x;
            all.u[j][at] += factor * x;
        }
        parts[k] = (REAL)0.5 * factor * total;
    }
}

/* found = 1 if a value of g is NaN or infinite; it must be 0 before. */
KERNEL not_finite(GIVEN const leaves all, size n, word *found) {
    EACH(i, n) {
        int j = leaf_of(&all, i);
        REAL x = all.g[j][j ? i - all.end[j - 1] : i];
        if (!(x - x == 0)) *found = 1;
    }
}

/* Copies g to p, for leaves of any dtype: `end` counts words of 4 bytes. */
KERNEL overwrite(GIVEN const leaves all, size n) {
    EACH(i, n) {
        int j = leaf_of(&all, i);
        size k = j ? i - all.end[j - 1] : i;
        ((word *)all.p[j])[k] = ((const word *)all.g[j])[k];
    }
}
