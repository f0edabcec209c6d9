/* One body for two compilers: NVRTC makes a kernel of it, a C compiler a loop over all of the kernel's threads.

   So a kernel is a loop EACH(i, n) whose turns do not depend on each other, and has no shared memory. REAL is float or
   double, by -DREAL=…; numbers that change from step to step are pointers, because a captured graph keeps values. */

#ifdef __CUDACC_RTC__
#define KERNEL extern "C" __global__ void
#define FUNCTION static __device__ __forceinline__
#define GIVEN __grid_constant__ /* a struct by value: read where it came, not copied by every thread */
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
