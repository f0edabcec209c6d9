/* How threads share loops, and add up what they have found.

   REAL is float or double, set by -DREAL=…; BLOCK is the number of threads of a block, set by launch.py. Values that
   change from step to step are pointers, because a captured graph keeps scalar arguments. The loops of kernels:

   EACH(i, n)         the threads of all blocks share its iterations, which are independent
   EACH_BLOCK(k, n)   the blocks share its iterations, and the threads of a block do each of them together: they share
                      those of SHARED(i, n) or EACH_ROW(r, n), and add up by block_sum, always in the same order
   SHARED(i, n)       the threads of a block share its iterations
   EACH_ROW(r, n)     the same, but LANES neighbouring threads do each iteration together, and add up by lanes_sum; LANE
                      is the number of a thread among them. All threads make the same number of iterations, so r may be
                      n or more */

#define KERNEL extern "C" __global__ void __launch_bounds__(BLOCK)
#define FUNCTION static __device__ __forceinline__
#define GIVEN __grid_constant__ /* a struct by value that threads read in place instead of copying it */
#define EACH(i, n)                                                                                                     \
    for (size i = blockIdx.x * (size)blockDim.x + threadIdx.x; i < (n); i += (size)gridDim.x * blockDim.x)
#define EACH_BLOCK(k, n) for (size k = blockIdx.x; k < (n); k += gridDim.x)
#define SHARED(i, n) for (size i = threadIdx.x; i < (n); i += blockDim.x)
#define IS_FIRST (threadIdx.x == 0)
#define LANES 8
#define LANE ((int)threadIdx.x % LANES)
#define EACH_ROW(r, n)                                                                                                 \
    for (size r = threadIdx.x / LANES, r##_end = ((n) + BLOCK / LANES - 1) / (BLOCK / LANES) * (BLOCK / LANES);        \
         r < r##_end; r += BLOCK / LANES)

typedef long long size;
typedef unsigned int word;
typedef unsigned short half_word;
typedef unsigned char byte;

/* The sum of x over the threads of a block, of full warps; all of them must call it. */
FUNCTION REAL block_sum(REAL x) {
    __shared__ REAL parts[32];
    for (int distance = 16; distance; distance /= 2) x += __shfl_down_sync(0xFFFFFFFFu, x, distance);
    __syncthreads(); /* the parts of an earlier sum have been read */
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int warp = 0; warp < (int)blockDim.x / 32; ++warp) x += parts[warp];
    return x;
}

/* The sum, and the largest, of x over the LANES threads of a row; NaN if one is NaN. All threads of a block must call it. */
FUNCTION REAL lanes_sum(REAL x) {
#pragma unroll
    for (int distance = LANES / 2; distance; distance /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, distance);
    return x;
}

FUNCTION REAL lanes_largest(REAL x) {
#pragma unroll
    for (int distance = LANES / 2; distance; distance /= 2) {
        REAL other = __shfl_xor_sync(0xFFFFFFFFu, x, distance);
        x = other > x || other != other ? other : x;
    }
    return x;
}
