/* Small matrix products, and factors of products in bfloat16.

   A thread computes up to DOWN × ACROSS neighbouring elements of y, a tile, over a share of the inner dimension. The
   threads of a block add up their shares in shared memory, in order. So even a y of few elements keeps many threads
   busy, and each of them waits for few loads. */

#define DOWN 4
#define ACROSS 2

/* sums += x @ w for the tile of `down` rows from (row, column) on, over k = first, first + step, … Rows and columns that y
   does not have repeat the last one, and are not written. turned: the transpose is in C order. */
FUNCTION void add_products(REAL (*sums)[ACROSS], const REAL *x, const REAL *w, int row, int column, const int down,
                           int rows, int inner, int columns, int x_turned, int w_turned, int first, int step) {
    const int x_step = x_turned ? rows : 1, w_step = w_turned ? 1 : columns;
    const REAL *x_rows[DOWN], *w_columns[ACROSS];
#pragma unroll
    for (int i = 0; i < down; ++i) {
        const int k = row + i < rows ? row + i : rows - 1;
        x_rows[i] = x + (x_turned ? k : k * inner);
    }
#pragma unroll
    for (int j = 0; j < ACROSS; ++j) {
        const int k = column + j < columns ? column + j : columns - 1;
        w_columns[j] = w + (w_turned ? k * inner : k);
    }
    #pragma unroll 8
    for (int k = first; k < inner; k += step) {
        REAL xs[DOWN], ws[ACROSS];
#pragma unroll
        for (int i = 0; i < down; ++i) xs[i] = x_rows[i][k * x_step];
#pragma unroll
        for (int j = 0; j < ACROSS; ++j) ws[j] = w_columns[j][k * w_step];
#pragma unroll
        for (int i = 0; i < down; ++i)
#pragma unroll
            for (int j = 0; j < ACROSS; ++j) sums[i][j] += xs[i] * ws[j];
    }
}

/* y = dropout(f(x @ w + bias)), with x (rows, inner) and w (inner, columns), in tiles of `down` rows, which is 1 or DOWN,
   and in so many shares, a power of two. The arguments from kind on are those of fused_forward. */
KERNEL small_product(const REAL *x, const REAL *w, const REAL *bias, REAL *y, REAL *kept, int rows, int inner,
                     int columns, int x_turned, int w_turned, int down, int shares, int kind, REAL a, const word *k0,
                     const word *k1, word path0, word path1, const word *step, word start, word threshold,
                     REAL scale) {
    __shared__ REAL room[DOWN * ACROSS][BLOCK];
    const dropout mask = {k0, k1, step, path0, path1, start, threshold, scale};
    const int tiles = BLOCK / shares, beside = (columns + ACROSS - 1) / ACROSS;
    const int count = beside * ((rows + down - 1) / down);
    EACH_BLOCK(block, (count + tiles - 1) / tiles) {
        { /* the sums of this thread */
            const int t = threadIdx.x, tile = (int)block * tiles + t % tiles, share = t / tiles;
            const int row = tile / beside * down, column = tile % beside * ACROSS;
            REAL sums[DOWN][ACROSS] = {{0}};
            if (tile < count && down == 1)
                add_products(sums, x, w, row, column, 1, rows, inner, columns, x_turned, w_turned, share, shares);
            else if (tile < count)
                add_products(sums, x, w, row, column, DOWN, rows, inner, columns, x_turned, w_turned, share, shares);
#pragma unroll
            for (int i = 0; i < DOWN; ++i)
#pragma unroll
                for (int j = 0; j < ACROSS; ++j)
                    if (i < down) room[i * ACROSS + j][t] = sums[i][j];
        }
        __syncthreads();
        for (int e = threadIdx.x; e < tiles * down * ACROSS; e += BLOCK) { /* an element of y */
            const int place = e / tiles, tile = (int)block * tiles + e % tiles;
            const int row = tile / beside * down + place / ACROSS, column = tile % beside * ACROSS + place % ACROSS;
            if (tile < count && row < rows && column < columns) {
                const size i = (size)row * columns + column;
                REAL z = 0;
#pragma unroll 8
                for (int share = 0; share < shares; ++share) z += room[place][share * tiles + e % tiles];
                block_words drawn = {0, 0};
                if (threshold) drawn = draw(&mask, i / 2);
                y[i] = finished(bias ? z + bias[column] : z, i, kind, a, kept, &mask, &drawn);
            }
        }
        __syncthreads();
    }
}

/* The bits of float32 as bfloat16: the upper half, rounded to nearest, ties to even. NaN stays NaN. */
KERNEL round_to_bf16(const word *x, half_word *y, size n) {
    EACH(i, n) {
        int is_nan = (x[i] & 0x7FFFFFFFu) > 0x7F800000u;
        y[i] = (half_word)(is_nan ? x[i] >> 16 | 0x40 : (x[i] + 0x7FFF + (x[i] >> 16 & 1)) >> 16);
    }
}
