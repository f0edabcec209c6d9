/* One source for two compilers: NVRTC makes kernels of it, a C compiler loops over all threads of a kernel.

   A kernel is a loop EACH(i, n) with independent iterations, without shared memory. REAL is float or double, set by
   -DREAL=…. Values that change from step to step are pointers, because a captured graph keeps scalar arguments. */

#ifdef __CUDACC_RTC__
#define KERNEL extern "C" __global__ void
#define FUNCTION static __device__ __forceinline__
#define GIVEN __grid_constant__ /* a struct by value that threads read in place instead of copying it */
#define EACH(i, n)                                                                                                     \
    for (size i = blockIdx.x * (size)blockDim.x + threadIdx.x; i < (n); i += (size)gridDim.x * blockDim.x)
#else
#include <tgmath.h>
#define KERNEL void
#define FUNCTION static inline
#define GIVEN
#define EACH(i, n) for (size i = 0; i < (n); ++i)
#endif

typedef long long size;
typedef unsigned int word;
typedef unsigned short half_word;
typedef unsigned char byte;
