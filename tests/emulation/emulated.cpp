// The whole CUDA half as one C++ file: its kernels, unchanged, against the Block of emulated_block.h.
#include "../../csrc/cuda/ccp.cu"
#include "../../csrc/cuda/device.cu"
#include "../../csrc/cuda/dispatch.cpp"
#include "../../csrc/cuda/optimize.cu"
#include "../../csrc/cuda/saliency.cu"
#include "../../csrc/cuda/topk.cu"
