// fastinterp links the CUDA runtime statically, so what torch sets in its own copy need not hold here.
#include "block.h"
#include "device.h"

namespace fastinterp::cuda {

#ifdef __CUDACC__
void use_device(int device) { check(cudaSetDevice(device)); }
#else
void use_device(int) {}
#endif

}  // namespace fastinterp::cuda
