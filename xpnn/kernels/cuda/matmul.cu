/* Small matrix products, and factors of products in bfloat16.

   A block computes a TILE × TILE part of y. Each of its warps does so for a share of the inner dimension: it brings
   DEPTH columns of x and rows of w into shared memory, from where a thread takes what its 8 × 4 elements need, while the
   next ones are on their way from global memory. At the end the warps' sums are added, in order. */

#define TILE 32
#define DEPTH 8
#define WARPS (BLOCK / 32)
#define WIDTH (TILE + 4) /* of a row in shared memory: padded against bank conflicts, aligned for loads of four */
#define STAGE (DEPTH * WIDTH)

typedef struct __attribute__((aligned(4 * sizeof(REAL)))) {
    REAL a, b, c, d;
} four;

/* Where the e-th element that a lane brings belongs: which of the DEPTH, and which of the TILE rows or columns. Lanes that
   follow each other read neighbours in memory. */
FUNCTION int depth_of(int lane, int e, int is_along) { return is_along ? lane % DEPTH : e; }
FUNCTION int place_of(int lane, int e, int is_along) { return is_along ? lane / DEPTH + 32 / DEPTH * e : lane; }

/* Bring DEPTH × TILE elements of a factor. is_along: the inner dimension is the contiguous one. Elements from `end` of it
   on are 0; rows or columns from `count` on are never written to y, and repeat the last one. */
FUNCTION void fetch(REAL *values, const REAL *from, int is_along, int count, int inner, int first, int from_k, int end,
                    int lane) {
    UNROLL for (int e = 0; e < DEPTH; ++e) {
        int k = from_k + depth_of(lane, e, is_along), i = first + place_of(lane, e, is_along);
        if (i >= count) i = count - 1;
        values[e] = k < end ? from[is_along ? (size)i * inner + k : (size)k * count + i] : 0;
    }
}

FUNCTION void store(REAL *stage, const REAL *values, int is_along, int lane) {
    UNROLL for (int e = 0; e < DEPTH; ++e)
        stage[depth_of(lane, e, is_along) * WIDTH + place_of(lane, e, is_along)] = values[e];
}

/* sums += x @ w for the 8 × 4 elements from (row, column) of the tile on, from one stage of both factors. */
FUNCTION void add_products(REAL (*sums)[4], const REAL *x, const REAL *w, int row, int column) {
    UNROLL for (int k = 0; k < DEPTH; ++k) {
        const four x0 = *(const four *)(x + k * WIDTH + row), x1 = *(const four *)(x + k * WIDTH + row + 4);
        const four w0 = *(const four *)(w + k * WIDTH + column);
        const REAL xs[8] = {x0.a, x0.b, x0.c, x0.d, x1.a, x1.b, x1.c, x1.d}, ws[4] = {w0.a, w0.b, w0.c, w0.d};
        UNROLL for (int i = 0; i < 8; ++i)
            UNROLL for (int j = 0; j < 4; ++j) sums[i][j] += xs[i] * ws[j];
    }
}

/* y = dropout(f(x @ w + bias)), with x (rows, inner) and w (inner, columns); turned: the transpose is in C order. The
   arguments from kind on are those of fused_forward. */
KERNEL small_product(const REAL *x, const REAL *w, const REAL *bias, REAL *y, REAL *kept, int rows, int inner,
                     int columns, int x_turned, int w_turned, int kind, REAL a, const word *k0, const word *k1,
                     word path0, word path1, const word *step, word start, word threshold, REAL scale) {
    SHARED_ARRAY REAL room[WARPS * 2 * STAGE];
    const dropout mask = {k0, k1, step, path0, path1, start, threshold, scale};
    const int across = (columns + TILE - 1) / TILE, span = (inner + WARPS * DEPTH - 1) / (WARPS * DEPTH) * DEPTH;
    EACH_BLOCK(tile, (size)across * ((rows + TILE - 1) / TILE)) {
        const int first_row = (int)(tile / across) * TILE, first_column = (int)(tile % across) * TILE;
        REAL sums[PRIVATE][8][4], next_x[PRIVATE][DEPTH], next_w[PRIVATE][DEPTH];
        ALL_THREADS(t) {
            UNROLL for (int i = 0; i < 8; ++i)
                UNROLL for (int j = 0; j < 4; ++j) sums[OWN(t)][i][j] = 0;
        }
        for (int k = -DEPTH; k < span; k += DEPTH) {
            if (k >= 0) {
                ALL_THREADS(t) {
                    REAL *stage = room + t / 32 * 2 * STAGE;
                    store(stage, next_x[OWN(t)], !x_turned, t % 32);
                    store(stage + STAGE, next_w[OWN(t)], w_turned, t % 32);
                }
                WARP_BARRIER;
            }
            ALL_THREADS(t) {
                const int warp = t / 32, lane = t % 32, next = warp * span + k + DEPTH;
                const int end = (warp + 1) * span < inner ? (warp + 1) * span : inner;
                if (k + DEPTH < span) {
                    fetch(next_x[OWN(t)], x, !x_turned, rows, inner, first_row, next, end, lane);
                    fetch(next_w[OWN(t)], w, w_turned, columns, inner, first_column, next, end, lane);
                }
                const REAL *stage = room + warp * 2 * STAGE;
                if (k >= 0) add_products(sums[OWN(t)], stage, stage + STAGE, lane / 8 * 8, lane % 8 * 4);
            }
            WARP_BARRIER;
        }
        for (int half = 0; half < 2; ++half) { /* of the tile: the room is too small for all sums */
            BARRIER;
            ALL_THREADS(t) {
                REAL *part = room + t / 32 * (TILE / 2 * TILE) + t % 16 / 8 * 8 * TILE + t % 8 * 4;
                if (t % 32 / 16 == half) {
                    UNROLL for (int i = 0; i < 8; ++i) {
                        const REAL *sum = sums[OWN(t)][i];
                        const four quad = {sum[0], sum[1], sum[2], sum[3]};
                        *(four *)(part + i * TILE) = quad;
                    }
                }
            }
            BARRIER;
            ALL_THREADS(t) {
                for (int e = t; e < TILE / 2 * TILE; e += BLOCK) {
                    const int row = first_row + half * (TILE / 2) + e / TILE, column = first_column + e % TILE;
                    if (row < rows && column < columns) {
                        const size i = (size)row * columns + column;
                        REAL z = 0;
                        for (int warp = 0; warp < WARPS; ++warp) z += room[warp * (TILE / 2 * TILE) + e];
                        block_words drawn = {0, 0};
                        if (threshold) drawn = draw(&mask, i / 2);
                        y[i] = finished(bias ? z + bias[column] : z, i, kind, a, kept, &mask, &drawn);
                    }
                }
            }
        }
        BARRIER;
    }
}

/* The bits of float32 as bfloat16: the upper half, rounded to nearest, ties to even. NaN stays NaN. */
KERNEL round_to_bf16(const word *x, half_word *y, size n) {
    EACH(i, n) {
        int is_nan = (x[i] & 0x7FFFFFFFu) > 0x7F800000u;
        y[i] = (half_word)(is_nan ? x[i] >> 16 | 0x40 : (x[i] + 0x7FFF + (x[i] >> 16 & 1)) >> 16);
    }
}
