/* One source for two compilers: NVRTC makes kernels of it, a C compiler loops over all threads of a kernel.

   REAL is float or double, set by -DREAL=…; BLOCK is the number of threads of a block, set by launch.py. Values that
   change from step to step are pointers, because a captured graph keeps scalar arguments. There are four kinds of
   kernels:

   EACH(i, n)                   a loop with independent iterations
   EACH_BLOCK(k, n)             a loop whose iterations are each done by a block: its threads share the iterations of
                                SHARED(i, n), and add up what they have found by block_sum, always in the same order
   EACH_BLOCK, EACH_ROW(r, n)   the same, but LANES neighbouring threads share each iteration, and add up by lanes_sum;
                                LANE is the number of a thread among them. All threads make the same number of
                                iterations, so r may be n or more
   EACH_BLOCK, ALL_THREADS(t)   all threads of the block do a part of the work before any goes on, at a BARRIER, with
                                memory for all of them: a SHARED_ARRAY */

#ifdef __CUDACC_RTC__
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
#define ALL_THREADS(t) for (int t = threadIdx.x, once = 1; once; once = 0)
#define SHARED_ARRAY static __shared__ __align__(64)
#define BARRIER __syncthreads()
#define PRAGMA(text) _Pragma(#text)
#define UNROLL PRAGMA(unroll)
#define UNROLL_BY(n) PRAGMA(unroll n)
#else
#include <tgmath.h>
#define KERNEL void
#define FUNCTION static inline
#define GIVEN
#define EACH(i, n) for (size i = 0; i < (n); ++i)
#define EACH_BLOCK(k, n) EACH(k, n)
#define SHARED(i, n) EACH(i, n)
#define IS_FIRST 1
#define LANES 1
#define LANE 0
#define EACH_ROW(r, n) EACH(r, n)
#define ALL_THREADS(t) for (int t = 0; t < BLOCK; ++t)
#define SHARED_ARRAY static __attribute__((aligned(64)))
#define BARRIER
#define UNROLL
#define UNROLL_BY(n)
#endif

typedef long long size;
typedef unsigned int word;
typedef unsigned short half_word;
typedef unsigned char byte;

/* The sum of x over the threads of a block, of full warps; all of them must call it. */
FUNCTION REAL block_sum(REAL x) {
#ifdef __CUDACC_RTC__
    __shared__ REAL parts[32];
    for (int distance = 16; distance; distance /= 2) x += __shfl_down_sync(0xFFFFFFFFu, x, distance);
    __syncthreads(); /* the parts of an earlier sum have been read */
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int warp = 0; warp < (int)blockDim.x / 32; ++warp) x += parts[warp];
#endif
    return x;
}

/* The sum, and the largest, of x over the LANES threads of a row; NaN if one is NaN. All threads of the block must call it. */
FUNCTION REAL lanes_sum(REAL x) {
#ifdef __CUDACC_RTC__
    UNROLL for (int distance = LANES / 2; distance; distance /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, distance);
#endif
    return x;
}

FUNCTION REAL lanes_largest(REAL x) {
#ifdef __CUDACC_RTC__
    UNROLL for (int distance = LANES / 2; distance; distance /= 2) {
        REAL other = __shfl_xor_sync(0xFFFFFFFFu, x, distance);
        x = other > x || other != other ? other : x;
    }
#endif
    return x;
}
