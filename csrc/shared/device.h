// Which GPU the kernels run on.
#pragma once

namespace fastinterp::cuda {

// Makes a device current for this library's own copy of the CUDA runtime.
void use_device(int device);

}  // namespace fastinterp::cuda
