/* Bias, activation and dropout in one pass, and back. No mask is kept: its bits are drawn again. */

enum { IDENTITY, RELU, LEAKY_RELU, ELU, GELU, GELU_TANH, SILU, SOFTPLUS, SIGMOID, TANH };

#define ROOT_2_OVER_PI ((REAL)0.79788456080286535588)
#define ROOT_HALF ((REAL)0.70710678118654752440)

FUNCTION REAL sigmoid(REAL z) {
    REAL e = exp(-fabs(z));
    return (z >= 0 ? 1 : e) / (1 + e);
}

/* Φ(z), or its approximation by tanh, and the derivative of that. */
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

/* y = dropout(f(x + bias)), n numbers in rows of `columns`; y may be x. held, unless null: what `derivative` takes.
   Dropped where the 24 bits are below the threshold, 0 for never; else times scale. path: what of the key is known
   beforehand. start: the block of words from which the first two numbers are drawn. */
KERNEL dense_forward(const REAL *x, const REAL *bias, REAL *y, REAL *held, size n, size columns, int kind, REAL a,
                     const word *k0, const word *k1, word path0, word path1, const word *step, word start,
                     word threshold, REAL scale) {
    EACH(pair, (n + 1) / 2) {
        block_words drawn = {0, 0};
        if (threshold) drawn = threefry(*k0 ^ path0, *k1 ^ path1, start + (word)pair, *step);
        for (size i = 2 * pair; i < n && i < 2 * pair + 2; ++i) {
            REAL z = bias ? x[i] + bias[i % columns] : x[i];
            REAL v = activate(z, kind, a);
            if (held) held[i] = kind == SIGMOID || kind == TANH ? v : z;
            y[i] = !threshold ? v : (i % 2 ? drawn.b : drawn.a) >> 8 >= threshold ? v * scale : 0;
        }
    }
}

/* dz from dy. For ReLU held is y itself, above 0 where something came through; its bits are not drawn again. */
KERNEL dense_backward(const REAL *dy, const REAL *held, REAL *dz, size n, int kind, REAL a, const word *k0,
                      const word *k1, word path0, word path1, const word *step, word start, word threshold,
                      REAL scale) {
    EACH(pair, (n + 1) / 2) {
        block_words drawn = {0, 0};
        if (threshold && kind != RELU) drawn = threefry(*k0 ^ path0, *k1 ^ path1, start + (word)pair, *step);
        for (size i = 2 * pair; i < n && i < 2 * pair + 2; ++i) {
            REAL d = dy[i] * (threshold ? scale : 1);
            if (threshold && kind != RELU && (i % 2 ? drawn.b : drawn.a) >> 8 < threshold) d = 0;
            dz[i] = d * derivative(held[i], kind, a);
        }
    }
}

/* y[k, c] = the sum of x[r, c] over the k-th `chunk` of rows: twice makes a sum over all rows, in one order always. */
KERNEL column_sums(const REAL *x, REAL *y, size rows, size columns, size chunk) {
    EACH(i, (rows + chunk - 1) / chunk * columns) {
        size first = i / columns * chunk;
        REAL total = 0;
        for (size r = first; r < rows && r < first + chunk; ++r) total += x[r * columns + i % columns];
        y[i] = total;
    }
}

/* Bytes become numbers, scaled. */
KERNEL scaled_bytes(const byte *x, const REAL *factor, REAL *y, size n) {
    EACH(i, n) { y[i] = x[i] * *factor; }
}

/* The same of these rows, which have so many columns; n bytes in all. */
KERNEL gathered_bytes(const byte *x, const int *rows, const REAL *factor, REAL *y, size n, size columns) {
    EACH(i, n) { y[i] = x[rows[i / columns] * columns + i % columns] * *factor; }
}

/* The upper halves of float32's words, rounded to the nearest, ties to even: bfloat16. NaN stays NaN. */
KERNEL rounded(const word *x, half_word *y, size n) {
    EACH(i, n) {
        int is_nan = (x[i] & 0x7FFFFFFFu) > 0x7F800000u;
        y[i] = (half_word)(is_nan ? x[i] >> 16 | 0x40 : (x[i] + 0x7FFF + (x[i] >> 16 & 1)) >> 16);
    }
}
