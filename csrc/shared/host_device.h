// A function that both a C++ compiler and nvcc compile, the latter for host and device.
#pragma once

#if defined(__CUDACC__)
#define FASTINTERP_HOST_DEVICE __host__ __device__ inline
#else
#define FASTINTERP_HOST_DEVICE inline
#endif
