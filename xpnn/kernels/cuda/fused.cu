/* Bias, activation and dropout in one pass, and the backward pass. The mask is not kept: its bits are drawn again.

   IDENTITY, RELU, … are numbers from the table of launch.py. */

#define ROOT_2_OVER_PI ((REAL)0.79788456080286535588)
#define ROOT_HALF ((REAL)0.70710678118654752440)

FUNCTION REAL sigmoid(REAL z) {
    REAL e = exp(-fabs(z));
    return (z >= 0 ? 1 : e) / (1 + e);
}

/* Φ(z) or its approximation by tanh, and its derivative. */
FUNCTION REAL gate(REAL z, int by_tanh, REAL *slope) {
    if (by_tanh) {
        REAL x = z > 10 ? (REAL)10 : z < -10 ? (REAL)-10 : z; /* beyond, tanh is ±1 and u' could overflow */
        REAL t = tanh(ROOT_2_OVER_PI * (x + (REAL)0.044715 * x * x * x));
        *slope = (REAL)0.5 * (1 - t * t) * (ROOT_2_OVER_PI * (1 + 3 * (REAL)0.044715 * x * x));
        return (REAL)0.5 * (1 + t);
    }
    *slope = exp((REAL)-0.5 * z * z) * (ROOT_2_OVER_PI * (REAL)0.5);
    return (REAL)0.5 * erfc(-z * ROOT_HALF);
}

FUNCTION REAL activate(REAL z, int kind, REAL a) {
    REAL slope;
    switch (kind) {
    case RELU: return z < 0 ? 0 : z; /* NaN stays NaN */
    case LEAKY_RELU: return z < 0 ? a * z : z;
    case ELU: return z > 0 ? z : a * expm1(z);
    case GELU: return z * gate(z, 0, &slope);
    case GELU_TANH: return z * gate(z, 1, &slope);
    case SILU: return z * sigmoid(z);
    case SOFTPLUS: return ((a * z < 0 ? 0 : a * z) + log1p(exp(-fabs(a * z)))) / a;
    case SIGMOID: return sigmoid(z);
    case TANH: return tanh(z);
    default: return z;
    }
}

/* The derivative, from what the activation keeps: y = f(z) for ReLU, sigmoid and tanh, z for the others. */
FUNCTION REAL derivative(REAL x, int kind, REAL a) {
    REAL slope, s;
    switch (kind) {
    case RELU: return x > 0;
    case LEAKY_RELU: return x > 0 ? 1 : a;
    case ELU: return x > 0 ? 1 : a * exp(x);
    case GELU: s = gate(x, 0, &slope); return s + x * slope;
    case GELU_TANH: s = gate(x, 1, &slope); return s + x * slope;
    case SILU: s = sigmoid(x); return s + x * s * (1 - s);
    case SOFTPLUS: return sigmoid(a * x);
    case SIGMOID: return x * (1 - x);
    case TANH: return 1 - x * x;
    default: return 1;
    }
}

/* What a mask is drawn from; path: the part of the key that is known in advance. start: the block of words for the first
   two elements. An element is dropped if its 24 bits are below the threshold (0: never), else multiplied by scale. */
typedef struct {
    const word *k0, *k1, *step;
    word path0, path1, start, threshold;
    REAL scale;
} dropout;

FUNCTION block_words draw(const dropout *mask, size pair) {
    return threefry(*mask->k0 ^ mask->path0, *mask->k1 ^ mask->path1, mask->start + (word)pair, *mask->step);
}

/* dropout(f(z)) of element i, where kept, unless null, gets what `derivative` takes. */
FUNCTION REAL finished(REAL z, size i, int kind, REAL a, REAL *kept, const dropout *mask, const block_words *drawn) {
    REAL v = activate(z, kind, a);
    if (kept) kept[i] = kind == SIGMOID || kind == TANH ? v : z;
    return !mask->threshold ? v : (i % 2 ? drawn->b : drawn->a) >> 8 >= mask->threshold ? v * mask->scale : 0;
}

/* y = dropout(f(x + bias)), n elements in rows of `columns`; y may be x. */
KERNEL fused_forward(const REAL *x, const REAL *bias, REAL *y, REAL *kept, size n, size columns, int kind, REAL a,
                     const word *k0, const word *k1, word path0, word path1, const word *step, word start,
                     word threshold, REAL scale) {
    const dropout mask = {k0, k1, step, path0, path1, start, threshold, scale};
    EACH(pair, (n + 1) / 2) {
        block_words drawn = {0, 0};
        if (threshold) drawn = draw(&mask, pair);
        for (size i = 2 * pair; i < n && i < 2 * pair + 2; ++i)
            y[i] = finished(bias ? x[i] + bias[i % columns] : x[i], i, kind, a, kept, &mask, &drawn);
    }
}

/* dz from dy. For ReLU kept is y, which is above 0 where the derivative is not 0; its bits are not drawn again. */
KERNEL fused_backward(const REAL *dy, const REAL *kept, REAL *dz, size n, int kind, REAL a, const word *k0,
                      const word *k1, word path0, word path1, const word *step, word start, word threshold,
                      REAL scale) {
    const dropout mask = {k0, k1, step, path0, path1, start, threshold, scale};
    EACH(pair, (n + 1) / 2) {
        block_words drawn = {0, 0};
        if (threshold && kind != RELU) drawn = draw(&mask, pair);
        for (size i = 2 * pair; i < n && i < 2 * pair + 2; ++i) {
            REAL d = dy[i] * (threshold ? scale : 1);
            if (threshold && kind != RELU && (i % 2 ? drawn.b : drawn.a) >> 8 < threshold) d = 0;
            dz[i] = d * derivative(kept[i], kind, a);
        }
    }
}
